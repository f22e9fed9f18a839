//! The directory, prepared for lookups: names as numbers.
//!
//! A number stays valid when the directory changes, so slots that were filled before keep their
//! meaning. Numbers are only made for names that the platform gave, not for those in reports.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use gma_core::ids::{AreaName, ServiceName};
use gma_core::snapshot::Caller;
use gma_report::{Direction, Key, Locality, Outcome};

use crate::directory::{Directory, ProxyRole};

/// Number of an area.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AreaIx(u32);

/// Number of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ServiceIx(u32);

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum CallerIx {
    User(AreaIx),
    Instance(ServiceIx, AreaIx),
}

/// An edge of the call graph, or a node of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Side {
    Call {
        caller: CallerIx,
        callee: ServiceIx,
        area: Option<AreaIx>,
    },
    Received {
        service: ServiceIx,
        area: AreaIx,
    },
}

/// What requests are kept by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SeriesKey {
    pub(crate) side: Side,
    pub(crate) outcome: Outcome,
}

/// Why a series has no place in the call graph. It is in the totals all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unplaced {
    /// The filter's overflow key names no service.
    Overflow,
    /// The host is not a service of the directory.
    Foreign,
    /// No service of the proxy has this port.
    UnknownPort,
    /// The proxy has no service that could be the caller.
    NoCaller,
}

/// What the directory knows of one proxy.
#[derive(Debug)]
pub(crate) struct Place {
    /// Its name in the directory.
    pub(crate) name: String,
    pub(crate) area: AreaIx,
    pub(crate) is_gateway: bool,
    ports: Vec<(u16, ServiceIx)>,
}

#[derive(Debug, Default)]
pub(crate) struct Index {
    areas: Vec<AreaName>,
    area_numbers: HashMap<String, AreaIx>,
    services: Vec<ServiceName>,
    service_numbers: HashMap<String, ServiceIx>,
    managed: HashSet<ServiceIx>,
    patterns: HashMap<String, AreaIx>,
    proxies: HashMap<String, Arc<Place>>,
}

// === impl Index ===

impl Index {
    pub(crate) fn set(&mut self, directory: &Directory) {
        self.managed = directory.services.iter().map(|name| self.service(name)).collect();
        self.patterns = directory
            .areas
            .iter()
            .map(|(pattern, name)| (pattern.clone(), self.area(name)))
            .collect();
        let mut proxies = HashMap::with_capacity(directory.proxies.len());
        for (node, proxy) in &directory.proxies {
            let ports = match &proxy.role {
                ProxyRole::Gateway => Vec::new(),
                ProxyRole::Sidecar { ports } => ports
                    .iter()
                    .map(|(port, name)| (*port, self.service(name)))
                    .collect(),
            };
            let is_gateway = proxy.role == ProxyRole::Gateway;
            let place = Place {
                name: node.clone(),
                area: self.area(&proxy.area),
                is_gateway,
                ports,
            };
            proxies.insert(node.clone(), Arc::new(place));
        }
        self.proxies = proxies;
    }

    /// Proxies of the directory.
    pub(crate) fn proxies(&self) -> usize {
        self.proxies.len()
    }

    /// A node is listed by its id, or by the `POD.NAMESPACE` of an id that Istio made, `TYPE~IP~POD.NAMESPACE~DOMAIN`:
    /// the address that a pod sees and the one that a platform knows may differ.
    pub(crate) fn place(&self, node: &str) -> Option<Arc<Place>> {
        let named = || self.proxies.get(node.split('~').nth(2)?);
        self.proxies.get(node).or_else(named).cloned()
    }

    /// A service whose calls are measured.
    pub(crate) fn managed_service(&self, host: &str) -> Option<ServiceIx> {
        let service = self.service_numbers.get(host).copied();
        service.filter(|service| self.managed.contains(service))
    }

    /// Areas that have a gateway, in no order.
    pub(crate) fn edges(&self) -> impl Iterator<Item = AreaIx> {
        self.proxies
            .values()
            .filter(|place| place.is_gateway)
            .map(|place| place.area)
    }

    /// Area of the most specific pattern that a locality matches.
    pub(crate) fn area_of(&self, locality: &Locality) -> Option<AreaIx> {
        let whole = locality.to_string();
        let region = locality.region.len();
        [whole.len(), region + 1 + locality.zone.len(), region]
            .into_iter()
            .find_map(|end| self.patterns.get(whole.get(..end)?).copied())
    }

    /// Where a proxy's series belongs in the call graph.
    pub(crate) fn key(&self, place: &Place, key: &Key) -> Result<SeriesKey, Unplaced> {
        if key.overflow {
            return Err(Unplaced::Overflow);
        }
        let side = match key.direction {
            Direction::Inbound => {
                let port = place.ports.iter().find(|(port, _)| *port == key.port);
                let (_, service) = port.ok_or(Unplaced::UnknownPort)?;
                Side::Received {
                    service: *service,
                    area: place.area,
                }
            }
            Direction::Outbound => {
                let callee = self.managed_service(&key.service).ok_or(Unplaced::Foreign)?;
                let caller = match (place.is_gateway, place.ports.first()) {
                    (true, _) => CallerIx::User(place.area),
                    (false, Some((_, service))) => CallerIx::Instance(*service, place.area),
                    (false, None) => return Err(Unplaced::NoCaller),
                };
                let area = key
                    .destination
                    .as_ref()
                    .and_then(|locality| self.area_of(locality));
                Side::Call { caller, callee, area }
            }
        };
        Ok(SeriesKey {
            side,
            outcome: key.outcome,
        })
    }

    pub(crate) fn area_number(&self, name: &AreaName) -> Option<AreaIx> {
        self.area_numbers.get(name.as_str()).copied()
    }

    pub(crate) fn service_number(&self, name: &ServiceName) -> Option<ServiceIx> {
        self.service_numbers.get(name.as_str()).copied()
    }

    pub(crate) fn area_name(&self, ix: AreaIx) -> Option<&AreaName> {
        self.areas.get(ix.0 as usize)
    }

    pub(crate) fn service_name(&self, ix: ServiceIx) -> Option<&ServiceName> {
        self.services.get(ix.0 as usize)
    }

    pub(crate) fn caller(&self, ix: CallerIx) -> Option<Caller> {
        Some(match ix {
            CallerIx::User(edge) => Caller::User {
                edge: self.area_name(edge)?.clone(),
            },
            CallerIx::Instance(service, area) => Caller::Instance {
                service: self.service_name(service)?.clone(),
                area: self.area_name(area)?.clone(),
            },
        })
    }

    fn area(&mut self, name: &AreaName) -> AreaIx {
        if let Some(ix) = self.area_numbers.get(name.as_str()) {
            return *ix;
        }
        let ix = AreaIx(self.areas.len() as u32);
        self.areas.push(name.clone());
        self.area_numbers.insert(name.as_str().to_owned(), ix);
        ix
    }

    fn service(&mut self, name: &ServiceName) -> ServiceIx {
        if let Some(ix) = self.service_numbers.get(name.as_str()) {
            return *ix;
        }
        let ix = ServiceIx(self.services.len() as u32);
        self.services.push(name.clone());
        self.service_numbers.insert(name.as_str().to_owned(), ix);
        ix
    }
}

// === impl Side ===

impl Side {
    /// Whether a gateway reported it.
    pub(crate) const fn is_of_user(self) -> bool {
        matches!(
            self,
            Self::Call {
                caller: CallerIx::User(_),
                ..
            }
        )
    }
}
