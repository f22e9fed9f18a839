//! `gma uninstall`: objects go, and what was changed for them is given back first, by the controller or, where none runs,
//! by this command.
//!
//! Whoever holds the controllers' lease gives back. This command takes part in it: while a controller leads it only waits,
//! and where none does it leads itself, so that two never write at a time.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use gma_k8s::{ActError, Hand, Id, Kube, Settings, Target, has_namespace};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::args::parse_duration;
use crate::check::NameArgs;
use crate::memory::wall_unix_ms;
use crate::output::print;
use crate::status::runtime;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);
/// Until it is known which objects there are.
const LIST_WITHIN: Duration = Duration::from_secs(15);

/// Arguments of `gma uninstall`.
#[derive(Debug, Args)]
#[command(
    after_help = "The cluster is that of KUBECONFIG, or the pod's own. Where no controller runs, the caller needs its rights.\n\n\
    Exit codes: 0 nothing is left, 1 something is: it is named with the reason, 2 wrong arguments."
)]
pub struct UninstallArgs {
    /// One EdgePlacement [default: all of the namespace].
    #[arg(value_name = "EDGEPLACEMENT", conflicts_with = "all")]
    pub object: Option<String>,

    /// Namespace of the EdgePlacements [default: the kubeconfig's].
    #[arg(short, long, value_name = "NAMESPACE", conflicts_with = "all")]
    pub namespace: Option<String>,

    /// All EdgePlacements of the cluster.
    #[arg(long)]
    pub all: bool,

    /// Longest wait until all is given back.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_duration)]
    pub within: Duration,

    #[command(flatten)]
    pub names: NameArgs,
}

/// One run.
struct Uninstall<'a> {
    args: &'a UninstallArgs,
    kube: Kube,
    begin: Instant,
    /// Why the last try of this command did not work.
    complaint: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// No cluster is configured, or it does not say which objects there are.
pub fn run(args: &UninstallArgs) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(uninstall(args))
}

async fn uninstall(args: &UninstallArgs) -> anyhow::Result<ExitCode> {
    let begin = Instant::now();
    let own = &args.names.controller_namespace;
    let is_bereft = has_namespace(own).await? == Some(false);
    let mut settings = Settings {
        namespace: own.clone(),
        pod: None,
        identity: format!("gma-uninstall_{}_{}", std::process::id(), wall_unix_ms()),
        domain: args.names.mesh.cluster_domain.clone(),
        root_namespace: args.names.mesh.root_namespace.clone(),
    };
    if is_bereft {
        // No controller can lead without its namespace. A lease is needed all the same.
        settings.namespace = "default".to_owned();
    }
    let (mut watches, mut candidacy) = (JoinSet::new(), JoinSet::new());
    let kube = Kube::connect(settings, &mut watches, &mut candidacy).await?;
    let mut run = Uninstall {
        args,
        kube,
        begin,
        complaint: None,
    };
    let result = run.all().await;
    // Or it would be taken again at once.
    drop(candidacy);
    run.kube.resign().await;
    if is_bereft && let Err(error) = run.kube.remove_lease().await {
        print(&format!("Lease default/gma: not removed: {error}\n"))?;
    }
    result
}

impl Uninstall<'_> {
    async fn all(&mut self) -> anyhow::Result<ExitCode> {
        let objects = self.listed().await?;
        let Some(objects) = objects else {
            print("nothing to do: EdgePlacement is not installed\n")?;
            return Ok(ExitCode::SUCCESS);
        };
        let mut left: Vec<Id> = objects.into_iter().filter(|id| self.is_meant(id)).collect();
        if left.is_empty() {
            print(&format!(
                "nothing to do: there is no EdgePlacement {}\n",
                self.where_()
            ))?;
        }
        for id in &left {
            if let Err(error) = self.kube.delete(id).await {
                bail!("EdgePlacement {} can't be deleted: {error}", id.path());
            }
            print(&format!("EdgePlacement {}: being deleted\n", id.path()))?;
        }
        let end = self.begin + self.args.within;
        while !left.is_empty() && Instant::now() < end {
            tokio::time::sleep(LOOK).await;
            self.look().await;
            let there = self.kube.objects().unwrap_or_else(|_| left.clone());
            let is_there = |id: &Id| there.iter().any(|other| other.uid == id.uid);
            for gone in left.iter().filter(|id| !is_there(id)) {
                let seconds = self.begin.elapsed().as_secs_f64();
                print(&format!(
                    "EdgePlacement {}: gone after {seconds:.1} s\n",
                    gone.path()
                ))?;
            }
            left.retain(is_there);
        }
        self.account(&left)
    }

    /// What remains, and why.
    fn account(&self, left: &[Id]) -> anyhow::Result<ExitCode> {
        for id in left {
            let why = match &self.complaint {
                Some(why) => why.clone(),
                None if self.kube.leadership().is_held() => "it takes longer than expected".to_owned(),
                None => {
                    "a controller has the lease and has not given all back yet: its log says why".to_owned()
                }
            };
            print(&format!(
                "EdgePlacement {}: still there after {:.0} s: {why}; run this again, or take its finalizer {} off and restore \
                 what is named below by hand\n",
                id.path(),
                self.begin.elapsed().as_secs_f64(),
                gma_k8s::FINALIZER,
            ))?;
        }
        let others = self
            .kube
            .objects()
            .is_ok_and(|objects| objects.len() > left.len());
        // What other objects have changed is theirs.
        let marks = if others { Vec::new() } else { self.kube.marks() };
        for mark in &marks {
            print(&format!("{mark}: still has fields of gma\n"))?;
        }
        if !left.is_empty() || !marks.is_empty() {
            return Ok(ExitCode::FAILURE);
        }
        print(
            "nothing is left of them; deploy/README.md says how to remove the controller, the filter and the definition\n",
        )?;
        Ok(ExitCode::SUCCESS)
    }

    /// All objects; none: there can be none.
    async fn listed(&self) -> anyhow::Result<Option<Vec<Id>>> {
        let end = self.begin + LIST_WITHIN;
        loop {
            let why = match self.kube.objects() {
                Ok(objects) => return Ok(Some(objects)),
                Err(_) if self.kube.has_no_definition() => return Ok(None),
                Err(why) => why,
            };
            if Instant::now() >= end {
                bail!("it is not known which EdgePlacements there are: {why}");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn is_meant(&self, id: &Id) -> bool {
        let (namespace, name) = &id.key;
        self.args.all
            || (namespace == self.namespace()
                && self.args.object.as_ref().is_none_or(|object| object == name))
    }

    fn namespace(&self) -> &str {
        let given = self.args.namespace.as_deref();
        given.unwrap_or_else(|| self.kube.default_namespace())
    }

    fn where_(&self) -> String {
        match &self.args.object {
            _ if self.args.all => "in the cluster".to_owned(),
            Some(object) => format!("{}/{object}", self.namespace()),
            None => format!("in {}", self.namespace()),
        }
    }

    /// Gives back what was changed, where no controller does.
    async fn look(&mut self) {
        if !self.kube.leadership().is_held() {
            return;
        }
        if !self.kube.knows_changes() {
            self.complaint = Some(self.kube.missing().join("; "));
            return;
        }
        self.complaint = None;
        for target in self.kube.targets() {
            if let Target::Ending(id) = target
                && let Err(error) = self.end(&id).await
            {
                self.complaint = Some(error.to_string());
            }
        }
    }

    async fn end(&self, id: &Id) -> Result<(), ActError> {
        Hand::new(&self.kube, id).give_back().await?;
        self.kube.let_go(id).await
    }
}
