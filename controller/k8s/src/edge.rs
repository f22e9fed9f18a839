//! Instances at edges: a Deployment of the user's that is scaled, or one that is derived from the cloud's.
//!
//! As long as a derived one is there it follows what it is derived from.

use std::collections::BTreeMap;
use std::time::Duration;

use gma_core::decide::Mode;
use gma_core::ids::{AreaName, ServiceName};
use k8s_openapi::api::core::v1::Taint;
use serde_json::Value;
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

use crate::derive::{Derived, Edge, Source, Wish, derive, name_at, shared_taints};
use crate::error::ActError;
use crate::index;
use crate::object::Object;
use crate::rule::MANAGER;
use crate::settings::service_name;
use crate::view::selects;

/// How long a pod that ends goes on serving what is open.
const DRAIN: Duration = Duration::from_secs(60);
/// Longest that a look may take to bring one instance up to date.
const FOLLOW_WITHIN: Duration = Duration::from_secs(2);
/// After an instance could not be brought up to date.
const REST: Duration = Duration::from_secs(30);

/// What an instance at an edge is derived from, as far as a change of it is to be followed.
#[derive(Clone, Debug, PartialEq)]
struct Basis {
    /// The cloud's Deployment.
    cloud: String,
    template: u64,
    selector: BTreeMap<String, String>,
    /// The autoscaler of the cloud's Deployment.
    autoscaler: Option<(String, u64)>,
    /// The derived name.
    name: String,
    /// Whether there is an autoscaler of that name.
    has_autoscaler: bool,
}

/// What was made, as it was brought up to date last.
#[derive(Debug, Default)]
pub(crate) struct Followed {
    bases: BTreeMap<(ServiceName, AreaName), Basis>,
    not_before: Option<Instant>,
    complaint: Option<String>,
}

// === impl Object ===

impl Object {
    /// An instance at an edge. The Deployment that the spec names is scaled up; where it names none, one is derived from
    /// the cloud's. One that runs keeps its count where an autoscaler owns it, and has at least `replicas` where none does.
    pub(crate) async fn ensure(
        &mut self,
        host: &ServiceName,
        area: &AreaName,
        replicas: u32,
    ) -> Result<(), ActError> {
        let wanted = replicas.max(1);
        let named = self.named(host, area);
        let is_named = named.is_some();
        let name = match named {
            Some(name) => name,
            None => self.ensure_derived(host, area, wanted).await?,
        };
        let (now, is_autoscaled) = self.replicas(&name)?;
        if now > 0 && (is_autoscaled || now >= wanted) {
            return Ok(());
        }
        // What was made is deleted in the end: there is no former count.
        self.scale_deployment(&name, wanted, now, is_named).await
    }

    /// No instance at an edge: the Deployment that the spec names has no replicas, what was made is deleted.
    pub(crate) async fn remove(&mut self, host: &ServiceName, area: &AreaName) -> Result<(), ActError> {
        let made = self.made(host, area);
        if let Some(name) = self.named(host, area) {
            let (now, _) = self.replicas(&name)?;
            if now > 0 {
                self.scale_deployment(&name, 0, now, true).await?;
            }
        } else if made.is_empty() {
            self.refuse_strangers(host, area)?;
        }
        for name in made {
            self.refuse_shared(host, area, &name)?;
            self.hand.delete_made(&name).await?;
        }
        self.followed.bases.remove(&(host.clone(), area.clone()));
        Ok(())
    }

    /// Brings what was made up to date, one instance at a look, and deletes what nothing can stand for any more. What fails
    /// is said and tried again later; no look fails for it.
    pub async fn follow(&mut self) {
        let is_resting = self.followed.not_before.is_some_and(|at| Instant::now() < at);
        if is_resting || self.wanted.config.mode != Mode::Enforce {
            return;
        }
        let done = timeout(FOLLOW_WITHIN, self.try_follow()).await;
        let failed = match done {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("the API server did not answer in time".to_owned()),
        };
        self.followed.not_before = failed.as_ref().map(|_| Instant::now() + REST);
        if let Some(why) = failed.as_ref().filter(|_| failed != self.followed.complaint) {
            warn!(why, "an instance at an edge is not brought up to date");
            self.teller.warn("InstanceNotUpdated", why);
        }
        if failed.is_some() || self.followed.complaint.is_none() {
            self.followed.complaint = failed;
        }
    }

    async fn try_follow(&mut self) -> Result<(), ActError> {
        for name in self.hand.all_made() {
            let (of, is_there) = self.seen(|seen| {
                let found = seen.index.deployments.get(&seen.hosts.namespace, &name);
                let area = found.and_then(|found| seen.made_for(found));
                let mut services = seen.index.services.of(&seen.hosts.namespace);
                let service = services
                    .find(|(_, one)| found.is_some_and(|found| selects(&one.selector, &found.pod_labels)));
                let host = service.map(|(service, _)| seen.hosts.of(service));
                (host.zip(area.cloned()), area.is_some())
            });
            if !is_there {
                // Its edge is no longer in the spec, or an autoscaler has lost its Deployment.
                info!(name, "deleted: it stands for no edge of the spec");
                return self.hand.delete_made(&name).await;
            }
            let Some((host, area)) = of else { continue };
            let basis = match self.basis(&host, &area) {
                Ok(basis) if basis.name == name => basis,
                // Nothing to follow for now: it stays as it is.
                Ok(_) | Err(_) => continue,
            };
            if self.followed.bases.get(&(host.clone(), area.clone())) != Some(&basis) {
                debug!(name, "what it is derived from may have changed");
                self.make(&host, &area, basis, None).await?;
                self.followed.complaint = None;
                return Ok(());
            }
        }
        Ok(())
    }

    fn named(&self, host: &ServiceName, area: &AreaName) -> Option<String> {
        let service = self.wanted.services.get(host)?;
        service.edge_deployments.get(area).cloned()
    }

    fn made(&self, host: &ServiceName, area: &AreaName) -> Vec<String> {
        self.seen(|seen| seen.made(host, area).into_iter().map(str::to_owned).collect())
    }

    /// The derived Deployment, up to date; its name.
    async fn ensure_derived(
        &mut self,
        host: &ServiceName,
        area: &AreaName,
        replicas: u32,
    ) -> Result<String, ActError> {
        let basis = self.basis(host, area)?;
        let name = basis.name.clone();
        let is_known = self.followed.bases.get(&(host.clone(), area.clone())) == Some(&basis);
        if !is_known || !self.made(host, area).contains(&name) {
            self.make(host, area, basis, Some(replicas)).await?;
        }
        Ok(name)
    }

    fn basis(&self, host: &ServiceName, area: &AreaName) -> Result<Basis, ActError> {
        let basis: Result<Basis, String> = self.seen(|seen| {
            let cloud = seen.cloud_deployment(host)?;
            let namespace = &seen.hosts.namespace;
            let deployment = seen.index.deployments.get(namespace, &cloud).ok_or_else(|| {
                format!("Deployment {namespace}/{cloud} is not there; name the right one in spec.services[].cloud.deployment")
            })?;
            let service = seen.service_of(host).ok_or_else(|| format!("{host} has no Service with a selector"))?;
            let autoscaler = seen.index.autoscalers.of(namespace).find(|(_, one)| one.deployment == cloud);
            let autoscaler = autoscaler.map(|(name, one)| (name.to_owned(), one.spec));
            let name = name_at(&cloud, &seen.wanted.config.cloud, area);
            Ok(Basis {
                template: deployment.template,
                selector: service.selector.clone(),
                autoscaler,
                has_autoscaler: seen.index.autoscalers.get(namespace, &name).is_some(),
                name,
                cloud,
            })
        });
        basis.map_err(ActError::Refused)
    }

    /// Derives and applies; a dry run first, never forced. Without a count, only what is there already.
    async fn make(
        &mut self,
        host: &ServiceName,
        area: &AreaName,
        basis: Basis,
        replicas: Option<u32>,
    ) -> Result<(), ActError> {
        let (derived, is_new) = self.derive(host, area, &basis, replicas.unwrap_or(1)).await?;
        if is_new && replicas.is_none() {
            return Ok(());
        }
        let namespace = self.hand.hosts.namespace.clone();
        // An autoscaler that somebody else has made for it is left alone, and is enough.
        let foreign = {
            let index = self.hand.kube.index.lock();
            let found = index.autoscalers.get(&namespace, &derived.name);
            found.is_some_and(|one| one.object.as_deref() != Some(self.hand.path().as_str()))
        };
        let autoscaler = derived.autoscaler.as_ref().filter(|_| !foreign);
        self.hand.apply_made(&derived.deployment, true).await?;
        if let Some(body) = autoscaler {
            self.hand.apply_made(body, true).await?;
        }
        self.hand.apply_made(&derived.deployment, false).await?;
        match autoscaler {
            Some(body) => self.hand.apply_made(body, false).await?,
            None if !foreign => self.hand.delete_autoscaler(&derived.name).await?,
            None => {}
        }
        if is_new {
            let mut note = format!(
                "Deployment {} is made for {area}, after {}",
                derived.name, basis.cloud
            );
            for one in &derived.notes {
                note.push_str(&format!("; {one}"));
            }
            info!(host = host.as_str(), note, "instance at an edge");
            self.teller.inform("InstanceMade", &note);
        }
        // As the index has it now: with the autoscaler that was just made or deleted.
        let has_autoscaler = {
            let index = self.hand.kube.index.lock();
            index.autoscalers.get(&namespace, &derived.name).is_some()
        };
        let basis = Basis {
            has_autoscaler,
            ..basis
        };
        self.followed.bases.insert((host.clone(), area.clone()), basis);
        Ok(())
    }

    /// The bodies, and whether there is no such Deployment yet.
    async fn derive(
        &self,
        host: &ServiceName,
        area: &AreaName,
        basis: &Basis,
        replicas: u32,
    ) -> Result<(Derived, bool), ActError> {
        let hand = &self.hand;
        let autoscaler = async {
            match &basis.autoscaler {
                Some((name, _)) => {
                    hand.read("autoscaling", "v2", "HorizontalPodAutoscaler", name)
                        .await
                }
                None => Ok(None),
            }
        };
        let (workload, service, autoscaler, found) = tokio::try_join!(
            hand.read("apps", "v1", "Deployment", &basis.cloud),
            hand.read("", "v1", "Service", service_name(host)),
            autoscaler,
            hand.read("apps", "v1", "Deployment", &basis.name),
        )?;
        let gone = |what: &str| ActError::Failed(format!("{what} of {host} is gone; it is looked for again"));
        let taints = self.taints(area);
        let listed = self.wanted.services.get(host);
        let derived = derive(
            &Source {
                workload: &workload.ok_or_else(|| gone("the cloud's Deployment"))?,
                service: &service.ok_or_else(|| gone("the Service"))?,
                autoscaler: autoscaler.as_ref(),
                found: found.as_ref(),
            },
            Edge {
                name: area,
                cloud: &self.wanted.config.cloud,
                map: &self.wanted.areas,
                taints: &taints,
            },
            &Wish {
                object: &hand.path(),
                replicas,
                min_replicas: listed.and_then(|listed| listed.min_replicas),
                drain: DRAIN,
            },
        );
        let mut derived = derived.map_err(|refused| ActError::Refused(refused.to_string()))?;
        // What was there a moment ago is changed, and not made anew should it be gone by now.
        let uid = found.as_ref().and_then(|found| found.pointer("/metadata/uid"));
        let metadata = derived
            .deployment
            .get_mut("metadata")
            .and_then(Value::as_object_mut);
        if let (Some(uid), Some(metadata)) = (uid, metadata) {
            metadata.insert("uid".to_owned(), uid.clone());
        }
        Ok((derived, found.is_none()))
    }

    fn taints(&self, area: &AreaName) -> Vec<Taint> {
        let index = self.hand.kube.index.lock();
        let nodes = index.nodes.all().map(|(_, node)| node);
        let there = nodes.filter(|node| self.wanted.areas.area_of(&node.locality) == Some(area));
        shared_taints(there.map(|node| node.taints.as_slice()))
    }

    /// Pods of the service that nobody made for the object are not taken away.
    fn refuse_strangers(&self, host: &ServiceName, area: &AreaName) -> Result<(), ActError> {
        let stranger = self.seen(|seen| {
            let service = seen.service_of(host)?;
            let pods = seen.pods();
            let mut own = pods.iter().filter(|pod| {
                let area_of = seen.place(pod).and_then(|(_, area)| area);
                selects(&service.selector, &pod.labels) && area_of == Some(area)
            });
            own.find_map(|pod| match &pod.owner {
                // Its Deployment was just deleted: the pod follows.
                Some(index::Owner::Deployment(name)) => {
                    let is_there = seen.index.deployments.get(&seen.hosts.namespace, name).is_some();
                    is_there.then(|| format!("Deployment {name}"))
                }
                Some(index::Owner::Other(kind)) => Some(format!("a {kind}")),
                None => Some("nobody".to_owned()),
            })
        });
        stranger.map_or(Ok(()), |of| {
            Err(ActError::Refused(format!(
                "pods of {host} at {area} are of {of}, which {MANAGER} did not make: keep them away from the nodes of {area}, or name the Deployment in spec.services[].edge.deployments"
            )))
        })
    }

    /// Pods that another service is called at are not taken away with this one.
    fn refuse_shared(&self, host: &ServiceName, area: &AreaName, name: &str) -> Result<(), ActError> {
        let other = self.seen(|seen| {
            let deployment = seen.index.deployments.get(&seen.hosts.namespace, name)?;
            let mut services = seen.index.services.of(&seen.hosts.namespace);
            services.find_map(|(service, one)| {
                let other = seen.hosts.of(service);
                let weights = self.routed.0.get(&other).and_then(|routes| routes.get(area));
                let is_called = weights.is_some_and(|weights| weights.contains_key(area));
                (other != *host && is_called && selects(&one.selector, &deployment.pod_labels))
                    .then_some(other)
            })
        });
        other.map_or(Ok(()), |other| {
            Err(ActError::Refused(format!(
                "Deployment {name} serves {other} too, which is called at {area}: give {host} and {other} pods of their own"
            )))
        })
    }
}
