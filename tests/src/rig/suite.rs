//! The tests of one file on one rig.
//!
//! The built-in harness can neither share a control plane and end it in order, nor skip at run time so that it is seen;
//! `libtest-mimic` can, and takes and prints what the built-in one does.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};

use super::{Cluster, Requirements, Rig, must_run};

/// A test that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(180);

type Test = Box<dyn Fn(&Rig) -> anyhow::Result<()> + Send>;

/// Tests that share one control plane, which starts with the first of them. Each should use a Kubernetes namespace of
/// its own.
#[derive(Default)]
pub struct Suite {
    cells: Vec<(&'static str, &'static str)>,
    tests: Vec<(&'static str, Test)>,
}

/// The rig of a suite, once it is there.
type Slot = Arc<Mutex<Option<Rig>>>;

// === impl Suite ===

impl std::fmt::Debug for Suite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.tests.iter().map(|(name, _)| name).collect();
        f.debug_tuple("Suite").field(&names).finish()
    }
}

impl Suite {
    /// Makes a program of the tests known as the image `name` of a container.
    #[must_use]
    pub fn cell(mut self, name: &'static str, binary: &'static str) -> Self {
        self.cells.push((name, binary));
        self
    }

    /// Adds a test. It runs inside the rig's network, for three minutes at most.
    #[must_use]
    pub fn test<T>(mut self, name: &'static str, test: T) -> Self
    where
        T: AsyncFn(&Cluster) -> anyhow::Result<()> + Send + Sync + 'static,
    {
        let bounded = move |rig: &Rig| {
            rig.run(async |cluster| {
                tokio::time::timeout(LIMIT, test(cluster))
                    .await
                    .unwrap_or_else(|_| Err(anyhow::anyhow!("it still runs after {LIMIT:?}")))
            })?
        };
        self.tests.push((name, Box::new(bounded)));
        self
    }

    /// Runs what the command line selects. Where the machine cannot, all are skipped and the reason is printed; with
    /// `GMA_REQUIRE_ALL_TIERS=1` they fail with it.
    pub fn run(self) -> ExitCode {
        let arguments = Arguments::from_args();
        let requirements = Requirements::find(&self.cells);
        let is_skipped = requirements.is_err() && !must_run();
        if let Err(why) = &requirements
            && !arguments.list
        {
            eprintln!("the kube_ tier cannot run here: {why}");
        }
        let slot = Slot::default();
        let trials = self.tests.into_iter().map(|(name, test)| {
            let (slot, requirements) = (Arc::clone(&slot), requirements.clone());
            let run = move || on_rig(&slot, requirements, &test);
            Trial::test(name, run).with_ignored_flag(is_skipped)
        });
        let conclusion = libtest_mimic::run(&arguments, trials.collect());
        drop(slot.lock().unwrap_or_else(PoisonError::into_inner).take());
        conclusion.exit_code()
    }
}

/// Runs one test on the suite's rig; a failure shows the ends of all logs.
fn on_rig(slot: &Slot, requirements: Result<Requirements, String>, test: &Test) -> Result<(), Failed> {
    let requirements = requirements?;
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    if slot.is_none() {
        let rig = Rig::start(&requirements).map_err(|error| format!("{error:#}"))?;
        print_steps(&rig);
        *slot = Some(rig);
    }
    let Some(rig) = slot.as_ref() else {
        return Err("no rig".into());
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| test(rig)));
    let why = match outcome {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => format!("{error:#}"),
        Err(panic) => text_of(panic.as_ref()),
    };
    Err(format!("{why}\n{}", rig.logs()).into())
}

fn print_steps(rig: &Rig) {
    let steps = rig
        .steps()
        .iter()
        .map(|(step, time)| format!("{step} {:.1} s", time.as_secs_f64()));
    println!("control plane ready: {}", steps.collect::<Vec<_>>().join(", "));
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    text.unwrap_or_else(|| "it panicked".to_owned())
}
