//! `gma convert`: a muPlacer configuration and the Kubernetes YAMLs that it lists, into a placement problem.
//!
//! ```text
//! GMAConfig.yaml --keys-----> what is there, what is unknown --+
//!                --config---> what is used ---+                +--> describe, missing, traps --> Report
//!   its YAMLs ---instances--> requests, HPAs -+--> build --> PlacementProblem
//!  --metrics FILE ----------> rates, calls ---+
//! ```
//!
//! muPlacer measures the load at run time, so its configuration has no call graph, rates or sizes. They come from a metrics
//! file; without one the problem holds zeros, is still accepted by `gma plan`, and the report names each quantity with the
//! query that yields it. Errors are collected: a user mends a configuration in one go. A key is never lost in silence: it is
//! mapped, dropped with the reason, or unknown and named with its nearest neighbour.

mod args;
mod build;
mod config;
mod describe;
mod error;
mod files;
mod instances;
mod keys;
mod link;
mod manifest;
mod metrics;
mod missing;
mod node;
mod object;
mod quantity;
mod queries;
mod report;
mod run;
mod traps;

use std::path::{Path, PathBuf};

pub use args::{ConvertArgs, OutputFormat};
pub use error::{ConvertError, Invalid};
pub use keys::Unknown;
pub use node::Finding;
pub use report::{Dropped, Explained, Mapped, Missing, Report};
pub use run::run;

use gma_k8s::api::EdgePlacement;

use crate::problem::{Loaded, PlacementProblem};
use files::Files;
use node::{Findings, Node};

/// What to convert.
#[derive(Clone, Debug, Default)]
pub struct Input {
    /// muPlacer's configuration.
    pub config: PathBuf,
    /// What was measured.
    pub metrics: Option<PathBuf>,
    /// Where relative paths of the configuration start. None: its folder, or the nearest one above that has the file.
    pub base: Option<PathBuf>,
}

/// A converted configuration.
#[derive(Clone, Debug)]
pub struct Conversion {
    /// The problem; the reader of problem files accepts it.
    pub problem: PlacementProblem,
    /// The same configuration as an object for Kubernetes; not yet checked.
    pub object: EdgePlacement,
    /// What became of each key.
    pub report: Report,
}

/// Converts a configuration.
///
/// # Errors
/// A file that can't be read, or all that is wrong inside the files: the file, the path of the key and what to do.
pub fn convert(input: &Input) -> Result<Conversion, ConvertError> {
    let mut files = Files::new(&input.config, input.base.as_deref());
    let documents = files.documents(&input.config)?;
    let label = input.config.display().to_string();
    let empty = serde_norway::Value::Null;
    let document = Node::document(&label, String::new(), documents.first().unwrap_or(&empty));
    let mut findings = Findings::default();
    if documents.len() > 1 {
        findings.warn(
            &document,
            format!("has {} documents: the first one is read", documents.len()),
        );
    }
    let present = keys::Present::of(&document, &mut findings);
    let spec = document.key("spec");
    if spec.value().is_none() {
        return Err(invalid(&label, findings, &present));
    }
    // Each step goes on where another found faults, so that all of them are found together.
    let app = config::application(&spec, &mut findings);
    let mut reader = instances::Reader::new(&mut files, &app);
    let services = app.services.iter();
    let instances: Vec<_> = services
        .filter_map(|service| reader.read(service, &mut findings))
        .collect();
    let others = reader.others;
    let metrics = match &input.metrics {
        Some(path) => metrics::read(path, &app.services, &mut files, &mut findings)?,
        None => metrics::Metrics::default(),
    };
    let Some(config) = config::read(&spec, app, &mut findings) else {
        return Err(invalid(&label, findings, &present));
    };
    let netinfo_key = spec.keys(&["network", "netinfo-file"]).to_string();
    let net_info = config
        .link
        .netinfo
        .as_deref()
        .and_then(|path| link::net_info(path, &netinfo_key, &mut files, &mut findings));
    if !findings.errors.is_empty() {
        return Err(invalid(&label, findings, &present));
    }
    let link = link::LinkUsed::of(&config.link, net_info.as_ref(), &metrics.link);
    let parts = build::Parts {
        name: document.keys(&["metadata", "name"]).scalar(),
        config: &config,
        instances: &instances,
        metrics: &metrics,
        link: &link,
    };
    let problem = build::problem(&parts);
    let object = object::object(&parts, &problem);
    accept(&input.config, &problem)?;
    let ledger = describe::Ledger::of(&present, &config, &link, &instances);
    let report = Report {
        summary: summary(&config),
        missing: missing::missing(&config, &instances, &metrics, &queries::Queries::of(&config)),
        explained: traps::explain(&traps::Facts {
            config: &config,
            link: &link,
            instances: &instances,
            metrics: &metrics,
        }),
        mapped: ledger.mapped,
        dropped: ledger.dropped,
        instances: describe::instance_lines(&config, &instances, &others),
        warnings: findings.warnings,
        unknown: present.unknown,
        more_unknown: present.more_unknown,
        source: label,
    };
    Ok(Conversion {
        problem,
        object,
        report,
    })
}

/// The errors, and after them the unknown keys: one of them may be the missing one, misspelt.
fn invalid(label: &str, findings: Findings, present: &keys::Present) -> ConvertError {
    let unknown = present.unknown.iter().map(|unknown| Finding {
        at: format!("{label}: {}", unknown.key),
        what: format!("is no key of muPlacer; the nearest is {}", unknown.nearest),
    });
    ConvertError::Invalid(Invalid(findings.errors.into_iter().chain(unknown).collect()))
}

/// The problem is read back as `gma plan` will read it: what it refuses is known now, not then.
fn accept(config: &Path, problem: &PlacementProblem) -> Result<(), ConvertError> {
    let refused = |text: String| ConvertError::Problem {
        path: config.to_path_buf(),
        text,
    };
    let yaml = problem.to_yaml().map_err(|error| refused(error.to_string()))?;
    let loaded = Loaded::parse("the problem", &yaml).map_err(|error| refused(error.to_string()))?;
    if loaded.file == *problem {
        Ok(())
    } else {
        Err(refused("it reads back as another one".to_owned()))
    }
}

fn summary(config: &config::Config) -> String {
    format!(
        "{} services, cloud `{}`, edge `{}`, mean user delay from {} to {}: target {}",
        config.app.services.len(),
        config.cloud.name,
        config.edge.name,
        quantity::show_micros(config.band.unoffload_below.micros),
        quantity::show_micros(config.band.offload_above.micros),
        quantity::show_micros(build::target(config)),
    )
}
