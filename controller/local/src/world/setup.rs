//! What a world needs before it starts: tools, work model, run folder. Each missing thing is named with its remedy.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::WorldError;
use super::workmodel::{self, Service};
use crate::topology::{App, Topology};
use gma_core::ids::ServiceName;

/// Longest path of a Unix socket that Linux takes, bytes.
const MAX_SOCKET_PATH: usize = 107;

/// Everything that is known before the start.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) topology: Topology,
    pub(super) services: BTreeMap<ServiceName, Service>,
    /// Host that users enter at; none without an application.
    pub(super) ingress: Option<ServiceName>,
    pub(super) workmodel: PathBuf,
    pub(super) envoy: PathBuf,
    pub(super) cell: PathBuf,
    pub(super) filter: Option<PathBuf>,
    pub(super) folder: PathBuf,
    /// Addresses of pods count up from here.
    pub(super) first_ip: u32,
}

// === impl Setup ===

impl Setup {
    /// Finds everything; `folder` is the run folder, which must exist.
    pub(super) fn resolve(topology: Topology, folder: PathBuf) -> Result<Self, WorldError> {
        let mut setup = Self {
            services: BTreeMap::new(),
            ingress: None,
            workmodel: folder.join("workmodel.json"),
            envoy: PathBuf::new(),
            cell: PathBuf::new(),
            filter: filter(&topology)?,
            first_ip: first_ip(),
            folder,
            topology,
        };
        std::fs::set_permissions(&setup.folder, std::fs::Permissions::from_mode(0o700))
            .map_err(|error| WorldError::folder(&setup.folder, error))?;
        let socket = setup.socket();
        if socket.as_os_str().len() > MAX_SOCKET_PATH {
            return Err(WorldError::SocketPath { path: socket });
        }
        if let Some(app) = setup.topology.app.clone() {
            setup.resolve_app(&app)?;
        }
        Ok(setup)
    }

    /// Where the world listens for clients.
    pub(super) fn socket(&self) -> PathBuf {
        self.folder.join("world.sock")
    }

    /// Address of the `number`th pod: one of its own for each, so that addresses in reports are unique as in a cluster.
    pub(super) const fn ip(&self, number: u32) -> IpAddr {
        // Loopback is 127.0.0.0/8, all of it usable on Linux.
        let host = self.first_ip.wrapping_add(number) % (1 << 24);
        loopback(host)
    }

    fn resolve_app(&mut self, app: &App) -> Result<(), WorldError> {
        let (name, text) = match &app.workmodel {
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|error| WorldError::Workmodel {
                    path: path.clone(),
                    problem: format!(
                        "cannot be read: {error}; set app.workmodel to a muBench workmodel.json"
                    ),
                })?;
                (path.clone(), text)
            }
            None => (
                PathBuf::from("embedded"),
                include_str!("../../default/workmodel.json").to_owned(),
            ),
        };
        let problem = |problem| WorldError::Workmodel {
            path: name.clone(),
            problem,
        };
        self.services = workmodel::parse(&self.topology, &text).map_err(problem)?;
        let ingress = ServiceName::new(self.topology.host(&app.ingress));
        if !self.services.contains_key(&ingress) {
            return Err(problem(format!(
                "has no service `{}`; set app.ingress to one of {}",
                app.ingress,
                self.services
                    .values()
                    .map(|service| service.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", ")
            )));
        }
        self.ingress = Some(ingress);
        std::fs::write(&self.workmodel, text).map_err(|error| WorldError::folder(&self.folder, error))?;
        self.envoy = envoy(&self.topology)?;
        self.cell = cell(app)?;
        Ok(())
    }
}

fn filter(topology: &Topology) -> Result<Option<PathBuf>, WorldError> {
    let from_env = || std::env::var_os("GMA_FILTER").map(PathBuf::from);
    let Some(path) = topology.filter.clone().or_else(from_env) else {
        tracing::warn!("the proxies run without the filter; set `filter` in the topology, or GMA_FILTER");
        return Ok(None);
    };
    let path = absolute(&path);
    let magic = std::fs::read(&path).map_err(|error| error.to_string());
    let problem = match magic {
        Ok(bytes) if bytes.starts_with(b"\0asm") => return Ok(Some(path)),
        Ok(_) => "is no WebAssembly module".to_owned(),
        Err(error) => format!("cannot be read: {error}"),
    };
    Err(WorldError::missing(
        "the filter",
        &path,
        &problem,
        "run `make build`, or set `filter` or GMA_FILTER to it",
    ))
}

fn envoy(topology: &Topology) -> Result<PathBuf, WorldError> {
    let from_env = || std::env::var_os("GMA_ENVOY").map(PathBuf::from);
    let remedy = "run `make tools`, or set `envoy` or GMA_ENVOY to the binary";
    if let Some(path) = topology.envoy.clone().or_else(from_env) {
        return program("Envoy", &path, remedy);
    }
    let on_path = std::env::var_os("PATH").into_iter().flat_map(|path| {
        std::env::split_paths(&path)
            .map(|folder| folder.join("envoy"))
            .collect::<Vec<_>>()
    });
    let found = installed_envoy()
        .into_iter()
        .chain(on_path)
        .find(|path| is_program(path));
    found.ok_or_else(|| WorldError::missing("Envoy", Path::new("envoy"), "is not installed", remedy))
}

/// What `make tools` installed, where the running program lies in the checkout that it was built in.
fn installed_envoy() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    program.ancestors().find_map(|folder| {
        let tools = std::fs::read_dir(folder.join(".tools")).ok()?;
        let mut found: Vec<PathBuf> = tools
            .filter_map(|entry| Some(entry.ok()?.path().join("envoy/_bin/envoy")))
            .filter(|path| is_program(path))
            .collect();
        found.sort();
        found.pop()
    })
}

fn cell(app: &App) -> Result<PathBuf, WorldError> {
    let remedy = "run `make build`, or set app.cell to the binary";
    if let Some(path) = &app.cell {
        return program("the cell", path, remedy);
    }
    let this =
        std::env::current_exe().map_err(|error| WorldError::folder(Path::new("/proc/self/exe"), error))?;
    program("the cell", &this.with_file_name("gma-cell"), remedy)
}

fn program(what: &'static str, path: &Path, remedy: &'static str) -> Result<PathBuf, WorldError> {
    let path = absolute(path);
    if is_program(&path) {
        return Ok(path);
    }
    let problem = if path.exists() {
        "is no program"
    } else {
        "does not exist"
    };
    Err(WorldError::missing(what, &path, problem, remedy))
}

fn is_program(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Somewhere in 127.1.0.0 to 127.255.255.255, by chance: worlds side by side differ, and where they do not, each port
/// is still one that was free.
fn first_ip() -> u32 {
    use std::hash::{BuildHasher, Hasher};
    let chance = std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish();
    let free = (1 << 24) - (1 << 16);
    (1 << 16) + u32::try_from(chance % free).unwrap_or(0)
}

const fn loopback(host: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits((127 << 24) | host))
}

/// A loopback address with a port that is free. Nobody's connections take it: theirs begin at 127.0.0.1.
///
/// # Errors
/// Loopback has no free port.
pub fn free_address() -> io::Result<std::net::SocketAddr> {
    let [address] = free_ports(loopback(first_ip()))?;
    Ok(address)
}

/// Two ports that are free on an address now, or more.
pub(super) fn free_ports<const N: usize>(ip: IpAddr) -> io::Result<[std::net::SocketAddr; N]> {
    let mut held = Vec::with_capacity(N);
    let mut addresses = [std::net::SocketAddr::new(ip, 0); N];
    for address in &mut addresses {
        let listener = std::net::TcpListener::bind((ip, 0))?;
        *address = listener.local_addr()?;
        held.push(listener);
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology() -> Topology {
        Topology::embedded("127.0.0.1:1".parse().unwrap()).unwrap()
    }

    #[test]
    fn a_missing_tool_is_named_with_its_path_and_remedy() {
        let mut topology = topology();
        topology.envoy = Some("/no/envoy".into());
        let error = envoy(&topology).unwrap_err().to_string();
        assert!(
            error.contains("/no/envoy") && error.contains("make tools"),
            "{error}"
        );
        let app = App {
            cell: Some("/no/gma-cell".into()),
            ..topology.app.clone().unwrap()
        };
        let error = cell(&app).unwrap_err().to_string();
        assert!(
            error.contains("/no/gma-cell") && error.contains("make build"),
            "{error}"
        );
        topology.filter = Some("/no/filter.wasm".into());
        let error = filter(&topology).unwrap_err().to_string();
        assert!(
            error.contains("/no/filter.wasm") && error.contains("make build"),
            "{error}"
        );
    }

    #[test]
    fn a_filter_that_is_no_module_is_refused() {
        let mut topology = topology();
        topology.filter = Some(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml").into());
        assert!(
            filter(&topology)
                .unwrap_err()
                .to_string()
                .contains("no WebAssembly module")
        );
    }

    #[test]
    fn an_ingress_that_is_no_service_is_named_with_those_there_are() {
        let mut topology = topology();
        topology.app.as_mut().unwrap().ingress = "s77".to_owned();
        let folder = tempfile::tempdir().unwrap();
        let error = Setup::resolve(topology, folder.path().to_owned())
            .unwrap_err()
            .to_string();
        assert!(error.contains("s77") && error.contains("s0, s1"), "{error}");
    }

    #[test]
    fn free_ports_differ() {
        let [a, b] = free_ports([127, 3, 2, 1].into()).unwrap();
        assert_ne!(a, b);
    }
}
