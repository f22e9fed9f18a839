//! What a test does to a world: it kills, starts again, delays reports and makes cells misbehave.

use std::time::Duration;

use gma_core::ids::{AreaName, ServiceName};

use super::core::Core;
use super::pod::{Order, write_fault};
use super::requests::Failure;
use crate::protocol::{CellFault, Part};
use crate::wan::LinkSettings;

/// Longest delay of reports: a filter tries again after half a minute, so that more is as good as a cut.
const MAX_REPORT_DELAY: Duration = Duration::from_secs(60);
/// Busier, and a cell would not read that it should stop being so.
const MOST_BUSY: f64 = 0.99;

// === impl Core ===

impl Core {
    pub(super) fn kill(&mut self, service: &ServiceName, area: &AreaName, part: Part) -> Result<(), Failure> {
        self.known(service, area)?;
        let pods = self.pods.of(service, area);
        let running: Vec<_> = pods
            .iter()
            .filter_map(|number| self.pods.0.get(number))
            .filter(|pod| pod.running().is_some())
            .collect();
        if running.is_empty() {
            return Err(format!("{service} does not run in `{area}`; ensure it first").into());
        }
        for pod in running {
            pod.orders.send_replace(Order::Kill(part));
        }
        Ok(())
    }

    pub(super) fn kill_area(&mut self, area: AreaName) -> Result<(), Failure> {
        self.edge(&area)?;
        for pod in self.pods.0.values().filter(|pod| pod.area == area) {
            pod.orders.send_replace(Order::Kill(Part::Pod));
        }
        tracing::info!(%area, "killed");
        self.waking.remove(&area);
        self.dark.insert(area);
        Ok(())
    }

    /// Pods come back under new names, as new processes on the same machine would.
    pub(super) fn start_area(&mut self, area: &AreaName) -> Result<(), Failure> {
        self.edge(area)?;
        if !self.dark.contains(area) || self.waking.contains(area) {
            return Ok(());
        }
        let of_area = || self.pods.0.iter().filter(|(_, pod)| pod.area == *area);
        if of_area().any(|(_, pod)| pod.failure().is_none()) {
            return Err(Failure::Unable(format!(
                "processes of `{area}` still end; start it once its gateway has failed"
            )));
        }
        let ended: Vec<u32> = of_area().map(|(number, _)| *number).collect();
        self.waking.insert(area.clone());
        for number in ended {
            if let Some(pod) = self.pods.0.remove(&number) {
                self.start_pod(pod.service.as_ref(), area, Some(&pod.locality), pod.users);
            }
        }
        Ok(())
    }

    /// Edges whose pods have all started are there again.
    pub(super) fn wake(&mut self) {
        let pods = &self.pods;
        let starts = |area: &AreaName| {
            let mut of_area = pods.0.values().filter(|pod| pod.area == *area);
            of_area.any(|pod| pod.running().is_none() && pod.failure().is_none())
        };
        let awake: Vec<AreaName> = self.waking.iter().filter(|area| !starts(area)).cloned().collect();
        for area in awake {
            self.waking.remove(&area);
            self.dark.remove(&area);
        }
    }

    pub(super) fn set_fault(
        &mut self,
        service: ServiceName,
        area: AreaName,
        fault: CellFault,
    ) -> Result<(), Failure> {
        self.known(&service, &area)?;
        if !(0.0..=MOST_BUSY).contains(&fault.busy) {
            return Err(format!("busy is {}; give 0 to {MOST_BUSY}", fault.busy).into());
        }
        let folders = self.pods.0.values().filter(|pod| pod.is_of(&service, &area));
        for folder in folders.map(|pod| &pod.folder) {
            write_fault(folder, &fault)
                .map_err(|error| Failure::Unable(format!("{} not written: {error}", folder.display())))?;
        }
        tracing::info!(%service, %area, ?fault, "fault");
        self.faults.insert((service, area), fault);
        Ok(())
    }

    pub(super) fn set_reports(&self, delay: Duration) -> Result<(), Failure> {
        if delay > MAX_REPORT_DELAY {
            return Err(format!(
                "a delay of {delay:?} is longer than {MAX_REPORT_DELAY:?}; cut the link instead"
            )
            .into());
        }
        self.reports.set(LinkSettings {
            delay_up: delay,
            ..LinkSettings::default()
        });
        Ok(())
    }
}
