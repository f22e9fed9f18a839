//! The life of one pod.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::future::{join_all, select_all};
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::super::process::{Process, Program};
use super::Kubelet;
use super::proxy::{self, Role};
use super::spec::{PROXY, PodSpec, expand};
use super::status::{Stage, status};

/// Between two looks at a process that does not serve yet.
const PROBE_INTERVAL: Duration = Duration::from_millis(20);

/// Before a container starts again; the first time it does at once.
const RESTART_PAUSE: Duration = Duration::from_secs(10);

/// Its containers, and how often one was started again.
struct Run {
    about: About,
    units: Vec<Unit>,
    restarts: u32,
}

/// What does not change.
struct About {
    kubelet: Arc<Kubelet>,
    pod: PodSpec,
    ip: IpAddr,
    started: Timestamp,
}

/// A container.
struct Unit {
    container: String,
    program: Program,
    process: Process,
}

/// Runs a pod until it is deleted, and finishes its deletion.
pub(super) async fn run(kubelet: Arc<Kubelet>, pod: PodSpec, mut ends: watch::Receiver<Option<Duration>>) {
    let mut run = Run {
        about: About {
            ip: kubelet.address(&pod),
            kubelet,
            pod,
            started: Timestamp::now(),
        },
        units: Vec::new(),
        restarts: 0,
    };
    let grace = tokio::select! {
        grace = end_asked(&mut ends) => grace,
        never = run.live() => match never {},
    };
    run.end(grace).await;
}

/// The grace period of its deletion; none where its object is gone already.
async fn end_asked(ends: &mut watch::Receiver<Option<Duration>>) -> Duration {
    let asked = ends.wait_for(Option::is_some).await;
    asked.ok().and_then(|grace| *grace).unwrap_or_default()
}

// === impl Run ===

impl Run {
    /// Starts its containers and keeps them.
    async fn live(&mut self) -> Infallible {
        if let Err(error) = self.start() {
            let why = format!("{error:#}");
            self.about.log(&why);
            self.units.clear();
            self.about.report(&Stage::Waiting(why), 0).await;
            return std::future::pending().await;
        }
        loop {
            self.about
                .report(&Stage::Running { ready: false }, self.restarts)
                .await;
            let (index, how) = self.serve().await;
            self.about.log(&how);
            if self.restarts > 0 {
                self.about
                    .report(&Stage::Running { ready: false }, self.restarts)
                    .await;
                tokio::time::sleep(RESTART_PAUSE).await;
            }
            self.restarts += 1;
            if let Err(error) = self.restart(index) {
                self.about.log(&format!("{error:#}"));
            }
        }
    }

    fn start(&mut self) -> anyhow::Result<()> {
        for (container, program) in self.about.programs()? {
            let process = self.about.start(&container, &program)?;
            self.units.push(Unit {
                container,
                program,
                process,
            });
        }
        Ok(())
    }

    fn restart(&mut self, index: usize) -> anyhow::Result<()> {
        let unit = self.units.get_mut(index).context("no such container")?;
        unit.process = self.about.start(&unit.container, &unit.program)?;
        Ok(())
    }

    /// Says when it is ready; returns when one of its containers has ended: which, and how.
    async fn serve(&mut self) -> (usize, String) {
        let Self {
            about,
            units,
            restarts,
        } = self;
        let ready = async {
            about.until_ready().await;
            about.report(&Stage::Running { ready: true }, *restarts).await;
            std::future::pending::<Infallible>().await
        };
        tokio::select! {
            ended = any_ended(units) => ended,
            never = ready => match never {},
        }
    }

    /// SIGTERM to each container, SIGKILL after `grace`; then its object goes.
    async fn end(mut self, grace: Duration) {
        let Self { about, units, .. } = &mut self;
        let stops = units.iter_mut().map(|unit| async {
            let pause = about.before_term(&unit.container, grace).await;
            let how = unit.process.stop(grace.saturating_sub(pause)).await;
            about.log(&how);
            about.kubelet.note_pid(&about.pod, &unit.container, None);
        });
        join_all(stops).await;
        about.delete().await;
    }
}

async fn any_ended(units: &mut [Unit]) -> (usize, String) {
    if units.is_empty() {
        return std::future::pending().await;
    }
    let ends = units.iter_mut().map(|unit| Box::pin(unit.process.ended()));
    let (how, index, _others) = select_all(ends).await;
    (index, how)
}

// === impl About ===

impl About {
    /// A program for each container that is one, the proxy last.
    fn programs(&self) -> anyhow::Result<Vec<(String, Program)>> {
        let applications = self
            .pod
            .containers
            .iter()
            .filter(|container| self.pod.proxy.is_none() || container.name != PROXY);
        let mut programs = Vec::new();
        for container in applications {
            if let Some(program) = self.application(container)? {
                programs.push((container.name.clone(), program));
            }
        }
        if let Some(role) = self.pod.proxy {
            programs.push((PROXY.to_owned(), self.envoy(role)?));
        }
        Ok(programs)
    }

    fn application(&self, container: &Container) -> anyhow::Result<Option<Program>> {
        let image = container.image.as_deref().unwrap_or_default();
        let binary = match self.kubelet.programs.get(image) {
            Some(Some(binary)) => binary.clone(),
            Some(None) => return Ok(None),
            None => {
                let known: Vec<_> = self.kubelet.programs.keys().collect();
                bail!("image {image:?} is no program of the rig; it knows {known:?}");
            }
        };
        let environment = self.pod.environment(container, self.ip);
        let words = container.command.iter().chain(&container.args).flatten();
        let arguments: Vec<_> = words.map(|word| expand(word, &environment)).collect();
        let mut program = Program::new(&self.log_name(&container.name), binary, &arguments);
        program.environment = environment;
        Ok(Some(program))
    }

    fn envoy(&self, role: Role) -> anyhow::Result<Program> {
        let path = self.kubelet.folder.join(format!("{}.json", self.pod.uid));
        proxy::write_bootstrap(&path, role, &self.pod, self.ip)?;
        let path = path.display().to_string();
        let arguments = [
            "--config-path",
            &path,
            "--disable-hot-restart",
            "--concurrency",
            "1",
            "--log-level",
            "warning",
        ];
        Ok(Program::new(
            &self.log_name(PROXY),
            self.kubelet.envoy.clone(),
            &arguments.map(str::to_owned),
        ))
    }

    /// What comes before SIGTERM: the proxy drains, an application has its `preStop` sleep. How much of the grace
    /// period that took.
    async fn before_term(&self, container: &str, grace: Duration) -> Duration {
        if grace.is_zero() {
            return grace;
        }
        let pause = if container == PROXY {
            if let Err(why) = proxy::drain(self.ip).await {
                self.log(&why);
            }
            self.pod.drain
        } else {
            self.pod.pre_stop(container)
        };
        let pause = pause.min(grace);
        tokio::time::sleep(pause).await;
        pause
    }

    fn log_name(&self, container: &str) -> String {
        let PodSpec { namespace, name, .. } = &self.pod;
        format!("{namespace}.{name}.{container}")
    }

    fn start(&self, container: &str, program: &Program) -> anyhow::Result<Process> {
        let process = program.start(&self.kubelet.logs)?;
        let pid = process.id().map(|pid| pid.as_raw_nonzero().get());
        self.kubelet.note_pid(&self.pod, container, pid);
        Ok(process)
    }

    /// Every port of its applications accepts, and the proxy has its configuration.
    async fn until_ready(&self) {
        let mut last = String::new();
        while let Err(why) = self.probe().await {
            if why != last {
                self.log(&format!("not ready: {why}"));
                last = why;
            }
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
    }

    async fn probe(&self) -> Result<(), String> {
        let ports = self.pod.containers.iter().flat_map(|container| &container.ports);
        for port in ports.flatten() {
            let port = u16::try_from(port.container_port).map_err(|error| error.to_string())?;
            let connected = TcpStream::connect((self.ip, port)).await;
            connected.map_err(|error| format!("port {port}: {error}"))?;
        }
        if self.pod.proxy.is_some() {
            proxy::probe(self.ip).await?;
        }
        Ok(())
    }

    /// Writes the status until it is written; a pod that is gone needs none.
    async fn report(&self, stage: &Stage, restarts: u32) {
        let status = status(&self.pod, self.ip, stage, restarts, self.started);
        let parameters = PatchParams::default();
        loop {
            let patch = Patch::Merge(&status);
            match self.api().patch_status(&self.pod.name, &parameters, &patch).await {
                Ok(_) => break self.log(&format!("{stage:?}")),
                Err(kube::Error::Api(answer)) if answer.is_not_found() => break,
                Err(error) => self.log(&format!("status: {error}")),
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Its containers have ended, so the object may go.
    async fn delete(&self) {
        let parameters = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions {
                uid: Some(self.pod.uid.clone()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        loop {
            match self.api().delete(&self.pod.name, &parameters).await {
                Ok(_) => break self.log("deleted"),
                // Gone, or another pod has its name.
                Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => break,
                Err(error) => self.log(&format!("deletion: {error}")),
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    fn api(&self) -> Api<Pod> {
        Api::namespaced(self.kubelet.client.clone(), &self.pod.namespace)
    }

    fn log(&self, text: &str) {
        let PodSpec { namespace, name, .. } = &self.pod;
        self.kubelet.log.line(&format!("{namespace}/{name} {text}"));
    }
}
