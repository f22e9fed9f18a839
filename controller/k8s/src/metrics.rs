//! What pods use, by `metrics.k8s.io`. It has no watch: it is asked, for the namespaces that have an object.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gma_core::cluster::Cluster;
use gma_core::ids::{AreaName, ServiceName};
use kube::api::{DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client, ResourceExt as _};
use serde_json::Value;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::error::explain;
use crate::index::{InUse, Index, MAX_OBJECTS, SharedIndex};
use crate::settings::quantity;

/// metrics-server has something new as often.
const EVERY: Duration = Duration::from_secs(15);
/// Where no namespace has an object: the first one is not waited for that long.
const IDLE: Duration = Duration::from_secs(1);
/// What was told last holds for this long.
const KEPT: Duration = Duration::from_secs(60);

type Pods = BTreeMap<String, BTreeMap<String, InUse>>;

/// Keeps the index up to date, for ever.
pub(crate) async fn follow(client: Client, index: SharedIndex) {
    let mut read_at = Instant::now();
    loop {
        let namespaces: BTreeSet<String> = {
            let index = index.lock();
            let objects = index.objects.all();
            objects.map(|((namespace, _), _)| namespace.clone()).collect()
        };
        let pause = if namespaces.is_empty() { IDLE } else { EVERY };
        let told = ask(&client, namespaces).await;
        if told.is_ok() {
            read_at = Instant::now();
        }
        keep(&mut index.lock(), told, read_at.elapsed());
        sleep(pause).await;
    }
}

/// Takes an answer, `age` after the last good one.
fn keep(index: &mut Index, told: Result<Pods, String>, age: Duration) {
    match told {
        Ok(in_use) => {
            if index.no_metrics.take().is_some() {
                info!("the metrics API answers");
            }
            index.in_use = in_use;
        }
        Err(why) if index.in_use.is_empty() || age > KEPT => {
            index.in_use.clear();
            if index.no_metrics.as_ref() != Some(&why) {
                warn!(%why, "CPU and memory in use are not known");
            }
            index.no_metrics = Some(why);
        }
        Err(_) => {}
    }
}

async fn ask(client: &Client, namespaces: BTreeSet<String>) -> Result<Pods, String> {
    let resource = ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk("metrics.k8s.io", "v1beta1", "PodMetrics"),
        "pods",
    );
    let mut all = Pods::new();
    let mut room = MAX_OBJECTS;
    for namespace in namespaces {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &resource);
        let list = api.list(&ListParams::default()).await;
        let list =
            list.map_err(|error| format!("pods.metrics.k8s.io of {namespace}: {}", explain(&error)))?;
        let read = |pod: DynamicObject| Some((pod.name_any(), in_use(&pod.data)?));
        let pods: BTreeMap<_, _> = list.items.into_iter().filter_map(read).take(room).collect();
        room -= pods.len();
        all.insert(namespace, pods);
    }
    Ok(all)
}

/// The sum of a pod's containers, as an autoscaler counts. None where one of them can't be read: a part of it would be
/// taken for all.
fn in_use(pod: &Value) -> Option<InUse> {
    let containers = pod.get("containers")?.as_array()?;
    let sum = |resource: &str| -> Option<f64> {
        let amount = |container: &Value| quantity(container.pointer("/usage")?.get(resource)?.as_str()?);
        containers.iter().map(amount).sum()
    };
    (!containers.is_empty()).then_some(())?;
    Some(InUse {
        cpu_cores: sum("cpu")?,
        memory_bytes: sum("memory")?,
    })
}

/// CPU time of instances, from the cores that they use: the core counts in seconds, whose growth over any time says what was used in it.
#[derive(Debug, Default)]
pub(crate) struct CpuTime {
    /// Seconds up to the last look, and cores since.
    of: BTreeMap<(ServiceName, AreaName), (f64, f64)>,
    looked: Option<Instant>,
}

// === impl CpuTime ===

impl CpuTime {
    /// Writes the time up to `now` into instances whose cores are known.
    pub(crate) fn advance(
        &mut self,
        cores: &BTreeMap<(ServiceName, AreaName), f64>,
        cluster: &mut Cluster,
        now: Instant,
    ) {
        let since = self.looked.replace(now);
        let elapsed = since.map_or(0.0, |since| now.saturating_duration_since(since).as_secs_f64());
        let before = std::mem::take(&mut self.of);
        for instance in &mut cluster.instances {
            let key = (instance.service.clone(), instance.area.clone());
            let Some(cores) = cores.get(&key) else { continue };
            let (seconds, former) = before.get(&key).copied().unwrap_or_default();
            let seconds = seconds + former * elapsed;
            instance.cpu_seconds = Some(seconds);
            self.of.insert(key, (seconds, *cores));
        }
    }
}

#[cfg(test)]
mod tests {
    use gma_core::cluster::{Instance, Phase};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_uses_what_its_containers_do_and_one_that_cannot_be_read_is_not_known() {
        let pod = |cpu: &str| {
            json!({"containers": [
                {"name": "a", "usage": {"cpu": "250m", "memory": "1Mi"}},
                {"name": "istio-proxy", "usage": {"cpu": cpu, "memory": "24Ki"}},
            ]})
        };
        let read = in_use(&pod("12500000n")).unwrap();
        assert!((read.cpu_cores - 0.2625).abs() < 1e-9, "{read:?}");
        assert!((read.memory_bytes - 1_073_152.0).abs() < 1e-3, "{read:?}");
        assert_eq!(in_use(&pod("much")), None);
        assert_eq!(in_use(&json!({"containers": []})), None);
        assert_eq!(in_use(&json!({})), None);
    }

    #[test]
    fn an_answer_that_fails_does_not_take_away_what_is_young() {
        let (mut index, pods) = (
            Index::default(),
            Pods::from([("shop".to_owned(), BTreeMap::new())]),
        );
        let failed = || Err("503".to_owned());
        keep(&mut index, failed(), Duration::ZERO);
        assert_eq!(index.no_metrics.as_deref(), Some("503"));
        keep(&mut index, Ok(pods.clone()), Duration::ZERO);
        keep(&mut index, failed(), KEPT);
        assert_eq!((&index.in_use, &index.no_metrics), (&pods, &None));
        keep(&mut index, failed(), KEPT + EVERY);
        assert_eq!(
            (index.in_use.len(), index.no_metrics.as_deref()),
            (0, Some("503"))
        );
    }

    #[test]
    fn cpu_time_grows_by_the_cores_in_use_and_starts_anew_where_they_were_not_known() {
        let (start, mut time) = (Instant::now(), CpuTime::default());
        let mut seconds = |after: u64, cores: Option<f64>| {
            let mut cluster = Cluster::default();
            cluster.instances.push(Instance {
                service: "cart".into(),
                area: "cloud".into(),
                phase: Phase::Ready,
                reason: None,
                replicas: 2,
                cpu_seconds: None,
                memory_bytes: None,
                autoscaler_wants: None,
            });
            let key = ("cart".into(), "cloud".into());
            let cores = cores.map(|cores| (key, cores)).into_iter().collect();
            time.advance(&cores, &mut cluster, start + Duration::from_secs(after));
            cluster
                .instances
                .first()
                .and_then(|instance| instance.cpu_seconds)
        };
        assert_eq!(seconds(0, Some(2.0)), Some(0.0));
        assert_eq!(seconds(10, Some(0.5)), Some(20.0));
        assert_eq!(seconds(14, Some(0.5)), Some(22.0));
        assert_eq!(seconds(20, None), None);
        assert_eq!(seconds(30, Some(1.0)), Some(0.0));
    }
}
