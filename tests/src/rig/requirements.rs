//! What a machine must have for a rig.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where everything is that a rig starts.
#[derive(Clone, Debug)]
pub struct Requirements {
    pub(super) programs: PathBuf,
    pub(super) envoy: PathBuf,
    /// What the name of a container's image stands for; none: nothing runs.
    pub(super) images: BTreeMap<&'static str, Option<PathBuf>>,
}

/// Whether a tier that cannot run is a failure: `GMA_REQUIRE_ALL_TIERS=1`, as CI sets it.
pub fn must_run() -> bool {
    std::env::var_os("GMA_REQUIRE_ALL_TIERS").is_some_and(|value| value == "1")
}

// === impl Requirements ===

impl Requirements {
    /// Looks for all of them. `cells`: programs of the tests that pods may be, by the name of their image.
    ///
    /// # Errors
    /// What is missing, and what to do.
    pub fn find(cells: &[(&'static str, &str)]) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("it makes network namespaces, which only root may: run it as root".to_owned());
        }
        for (tool, package) in [
            ("ip", "iproute2"),
            ("unshare", "util-linux"),
            ("setpriv", "util-linux"),
        ] {
            let found = Command::new(tool)
                .arg("--version")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            if found.is_err() {
                return Err(format!("{tool} is missing: install {package}"));
            }
        }
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        let named = |variable: &str, default: &str| {
            std::env::var_os(variable).map_or_else(|| root.join(default), PathBuf::from)
        };
        let programs = named("GMA_RIG", ".tools/rig");
        for name in ["etcd", "kubernetes", "istiod", "istio-crds.yaml", "kustomize"] {
            existing(&programs.join(name), "run `make rig`, which needs Go")?;
        }
        let envoy = named("GMA_ENVOY", ".tools/envoy/envoy/_bin/envoy");
        existing(&envoy, "run `make tools`")?;
        let cell = named("GMA_BIN", "target/release").join("gma-cell");
        existing(&cell, "run `make build`")?;
        let mut images = BTreeMap::from([("gma-cell", Some(cell)), ("pause", None)]);
        images.extend(
            cells
                .iter()
                .map(|(name, path)| (*name, Some(PathBuf::from(path)))),
        );
        Ok(Self {
            programs,
            envoy,
            images,
        })
    }
}

fn existing(path: &Path, remedy: &str) -> Result<(), String> {
    if path.exists() {
        Ok(())
    } else {
        Err(format!("{} is missing: {remedy}", path.display()))
    }
}
