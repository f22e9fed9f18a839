//! The file that says which areas there are, what runs in them and how they are joined.

mod check;
mod units;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gma_core::ids::AreaName;
use serde::{Deserialize, Serialize};

pub(crate) use units::duration_text;
pub use units::{Bandwidth, Locality};

/// Areas, links, application and tools of a world. YAML or JSON; keys in camel case, unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Topology {
    /// Namespace of the application: part of its hosts and node ids.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// The cloud and the edges.
    pub areas: Areas,
    /// WAN of each edge to the cloud; an edge without one has no delay and no limit.
    #[serde(default)]
    pub links: Vec<LinkSpec>,
    /// What the world runs; absent: nothing, it only knows `proxies`.
    #[serde(default)]
    pub app: Option<App>,
    /// Envoys that someone else runs and that report here.
    #[serde(default)]
    pub proxies: Vec<ProxySpec>,
    /// Where the filters report to.
    pub controller: Controller,
    /// The filter's module; absent: `$GMA_FILTER`, else the proxies run without it.
    #[serde(default)]
    pub filter: Option<PathBuf>,
    /// Envoy's binary; absent: `$GMA_ENVOY`, else what `make tools` installed, else the one on the path.
    #[serde(default)]
    pub envoy: Option<PathBuf>,
    /// Worker threads of each Envoy.
    #[serde(default = "default_concurrency")]
    pub concurrency: u32,
    /// Time between the end of a process and its endpoint's removal. The kubelet looks once a second.
    #[serde(default = "default_failure_notice", with = "duration_text")]
    pub failure_notice: Duration,
}

/// The cloud and the edges.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Areas {
    /// Where every service runs.
    pub cloud: Area,
    /// Where users enter.
    pub edges: Vec<Edge>,
}

/// The cloud.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Area {
    /// Its name.
    #[serde(default = "default_cloud")]
    pub name: AreaName,
    /// Its localities; each instance has one replica in each of them.
    pub localities: Vec<Locality>,
}

/// An edge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Edge {
    /// Its name.
    pub name: AreaName,
    /// Its localities; each instance has one replica in each of them.
    pub localities: Vec<Locality>,
}

/// WAN between an edge and the cloud.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LinkSpec {
    /// The edge.
    pub edge: AreaName,
    /// Round trip time that the link adds, e.g. `20ms`.
    #[serde(with = "duration_text")]
    pub rtt: Duration,
    /// Of each direction, shared by all connections, e.g. `1Gbps`; absent: no limit.
    #[serde(default)]
    pub bandwidth: Option<Bandwidth>,
}

/// The application.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct App {
    /// muBench `workmodel.json`; absent: the embedded one with ten services.
    #[serde(default)]
    pub workmodel: Option<PathBuf>,
    /// Service that users enter at.
    #[serde(default = "default_ingress")]
    pub ingress: String,
    /// Binary of the workload; absent: `gma-cell` beside the running program.
    #[serde(default)]
    pub cell: Option<PathBuf>,
}

/// An Envoy that someone else runs: exactly one of `gateway: true` and `ports`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProxySpec {
    /// Envoy's node id.
    pub node: String,
    /// Where it runs.
    pub area: AreaName,
    /// Whether users enter there.
    #[serde(default)]
    pub gateway: bool,
    /// A sidecar's inbound ports and the host that each serves.
    #[serde(default)]
    pub ports: BTreeMap<u16, String>,
}

/// The controller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Controller {
    /// Where it listens; proxies at an edge reach it through their link.
    pub address: SocketAddr,
}

/// A topology that cannot be used. The user can act on each: the text names the key and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// The file is not there.
    #[error("topology {path}: cannot read it: {error}; give the path of a YAML or JSON file")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A key is missing, unknown, or of another type.
    #[error("topology {name}: {error}; controller/local/README.md lists the keys")]
    Syntax {
        /// Which file.
        name: String,
        /// Key, line and what is expected there.
        error: String,
    },
    /// The keys contradict each other or the world.
    #[error("topology {name}: {}", problems.join("; "))]
    Contradiction {
        /// Which file.
        name: String,
        /// Every problem, each with its key and remedy.
        problems: Vec<String>,
    },
}

// === impl Topology ===

impl Topology {
    /// A cloud, one edge and ten services, with the controller at `controller`.
    ///
    /// # Errors
    /// Never with the shipped file; a test reads it.
    pub fn embedded(controller: SocketAddr) -> Result<Self, TopologyError> {
        let mut topology = Self::parse("embedded", include_str!("../../default/topology.yaml"))?;
        topology.controller.address = controller;
        Ok(topology)
    }

    /// Reads and checks a file; relative paths in it count from its folder.
    ///
    /// # Errors
    /// Names the key and the remedy.
    pub fn read(path: &Path) -> Result<Self, TopologyError> {
        let text = std::fs::read_to_string(path).map_err(|error| TopologyError::Unreadable {
            path: path.to_owned(),
            error,
        })?;
        let mut topology = Self::parse(&path.display().to_string(), &text)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let app = topology
            .app
            .iter_mut()
            .flat_map(|app| [&mut app.workmodel, &mut app.cell]);
        for path in app.chain([&mut topology.filter, &mut topology.envoy]).flatten() {
            *path = folder.join(&*path);
        }
        Ok(topology)
    }

    /// Parses and checks a text; `name` is what errors call it.
    ///
    /// # Errors
    /// Names the key and the remedy.
    pub fn parse(name: &str, text: &str) -> Result<Self, TopologyError> {
        // JSON is YAML; its own parser gives the better message.
        let topology: Self = if text.trim_start().starts_with('{') {
            serde_json::from_str(text).map_err(|error| error.to_string())
        } else {
            serde_norway::from_str(text).map_err(|error| error.to_string())
        }
        .map_err(|error| TopologyError::Syntax {
            name: name.to_owned(),
            error,
        })?;
        topology.check(name)?;
        Ok(topology)
    }

    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// Lists every problem.
    pub fn check(&self, name: &str) -> Result<(), TopologyError> {
        let problems = check::problems(self);
        if problems.is_empty() {
            return Ok(());
        }
        Err(TopologyError::Contradiction {
            name: name.to_owned(),
            problems,
        })
    }

    /// Every area with its localities, the cloud first.
    pub fn all_areas(&self) -> impl Iterator<Item = (&AreaName, &[Locality])> {
        let cloud = (&self.areas.cloud.name, self.areas.cloud.localities.as_slice());
        std::iter::once(cloud).chain(
            self.areas
                .edges
                .iter()
                .map(|edge| (&edge.name, edge.localities.as_slice())),
        )
    }

    /// Host of a service of the application.
    pub fn host(&self, service: &str) -> String {
        format!("{service}.{}.svc.cluster.local", self.namespace)
    }
}

fn default_namespace() -> String {
    "shop".to_owned()
}

fn default_cloud() -> AreaName {
    AreaName::new("cloud")
}

fn default_ingress() -> String {
    "s0".to_owned()
}

const fn default_concurrency() -> u32 {
    1
}

const fn default_failure_notice() -> Duration {
    Duration::from_secs(1)
}
