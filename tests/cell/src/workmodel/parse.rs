//! JSON to [`WorkModel`], with errors that name the service, the key and the remedy.
//!
//! Keys that only concern muBench's deployment (image, replicas, resources …) are passed over.

use serde_json::{Map, Value};
use std::{collections::BTreeMap, path::Path, str::FromStr, time::Duration};

use super::{
    Behaviour, Call, Cpu, DEFAULT_PATH, Delay, Disk, Function, Group, Loader, Memory, Service, Sizes,
    WorkModel, WorkModelError,
};

/// Digits of pi take quadratic time: 20,000 are about two seconds.
const MAX_DIGITS: f64 = 20_000.0;
/// Bound of counts (blocks, accesses, repetitions): a model is not to stop the machine by a typing error.
const MAX_COUNT: f64 = 1_000_000.0;
/// Threads of one `cpu_stress`.
const MAX_THREADS: f64 = 64.0;
/// Longest sleep, ten minutes; no proxy waits longer.
const MAX_SLEEP_SECONDS: f64 = 600.0;
/// Largest mean answer, 1 MB.
const MAX_RESPONSE_KB: f64 = 1_000.0;

/// A value and where it stands.
struct At<'a> {
    value: &'a Value,
    path: String,
}

// === impl WorkModel ===

impl WorkModel {
    /// Reads a file.
    ///
    /// # Errors
    /// The file cannot be read, or what it says cannot be served.
    pub fn read(path: &Path) -> Result<Self, WorkModelError> {
        let text = std::fs::read_to_string(path).map_err(|source| WorkModelError::Read {
            path: path.to_owned(),
            source,
        })?;
        text.parse()
    }
}

impl FromStr for WorkModel {
    type Err = WorkModelError;

    fn from_str(text: &str) -> Result<Self, WorkModelError> {
        Self::try_from(&serde_json::from_str::<Value>(text)?)
    }
}

impl TryFrom<&Value> for WorkModel {
    type Error = WorkModelError;

    fn try_from(value: &Value) -> Result<Self, WorkModelError> {
        let top = At {
            value,
            path: "top level".to_owned(),
        };
        let entries = top.object("map each service to its description")?;
        if entries.is_empty() {
            return Err(top.invalid("no service", "describe at least one"));
        }
        let mut services = BTreeMap::new();
        for (name, value) in entries {
            let service = service(
                name,
                &At {
                    value,
                    path: name.clone(),
                },
                entries,
            )?;
            services.insert(name.clone(), service);
        }
        Ok(Self { services })
    }
}

// === impl At ===

impl<'a> At<'a> {
    fn get(&self, key: &str) -> Option<At<'a>> {
        let value = self.value.get(key).filter(|value| !value.is_null())?;
        Some(At {
            value,
            path: format!("{}.{key}", self.path),
        })
    }

    fn invalid(&self, what: impl Into<String>, remedy: impl Into<String>) -> WorkModelError {
        WorkModelError::Invalid {
            at: self.path.clone(),
            what: what.into(),
            remedy: remedy.into(),
        }
    }

    fn wrong_type(&self, wanted: &str, remedy: &str) -> WorkModelError {
        let found = match self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        };
        self.invalid(format!("{found} where {wanted} belongs"), remedy)
    }

    fn object(&self, remedy: &str) -> Result<&'a Map<String, Value>, WorkModelError> {
        self.value
            .as_object()
            .ok_or_else(|| self.wrong_type("an object", remedy))
    }

    fn list(&self, remedy: &str) -> Result<Vec<At<'a>>, WorkModelError> {
        let list = self
            .value
            .as_array()
            .ok_or_else(|| self.wrong_type("a list", remedy))?;
        let at = |(ix, value)| At {
            value,
            path: format!("{}[{ix}]", self.path),
        };
        Ok(list.iter().enumerate().map(at).collect())
    }

    fn text(&self, remedy: &str) -> Result<&'a str, WorkModelError> {
        self.value
            .as_str()
            .ok_or_else(|| self.wrong_type("a string", remedy))
    }

    fn number(&self, low: f64, high: f64) -> Result<f64, WorkModelError> {
        let remedy = format!("write a number from {low} to {high}");
        let number = self
            .value
            .as_f64()
            .ok_or_else(|| self.wrong_type("a number", &remedy))?;
        if (low..=high).contains(&number) {
            Ok(number)
        } else {
            Err(self.invalid(format!("{number} is out of range"), remedy))
        }
    }

    /// A whole number. muBench writes some as `10.0`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole and in range by the check"
    )]
    fn count(&self, low: f64, high: f64) -> Result<u32, WorkModelError> {
        let number = self.number(low, high)?;
        if number.fract() == 0.0 {
            Ok(number as u32)
        } else {
            Err(self.invalid(format!("{number} is no whole number"), "round it"))
        }
    }

    fn count_or(&self, key: &str, default: u32, high: f64) -> Result<u32, WorkModelError> {
        self.get(key).map_or(Ok(default), |at| at.count(1.0, high))
    }

    /// `key`'s `{"run": …}` part of a loader, where it runs.
    fn stress(&self, key: &str, runs_by_default: bool) -> Result<Option<At<'a>>, WorkModelError> {
        let Some(part) = self.get(key) else {
            return Ok(None);
        };
        part.object("write {\"run\": true, …}")?;
        let runs = match part.get("run") {
            None => runs_by_default,
            Some(run) => run
                .value
                .as_bool()
                .ok_or_else(|| run.wrong_type("a boolean", "write true or false"))?,
        };
        Ok(runs.then_some(part))
    }

    fn digits(&self, default: (u32, u32)) -> Result<(u32, u32), WorkModelError> {
        let Some(range) = self.get("range_complexity") else {
            return Ok(default);
        };
        let remedy = "write [FEWEST, MOST] digits of pi";
        let list = range.list(remedy)?;
        let [low, high] = list.as_slice() else {
            return Err(range.invalid(format!("{} numbers where two belong", list.len()), remedy));
        };
        let (low, high) = (low.count(1.0, MAX_DIGITS)?, high.count(1.0, MAX_DIGITS)?);
        if low > high {
            return Err(range.invalid(format!("{low} is above {high}"), "write the smaller number first"));
        }
        Ok((low, high))
    }
}

// === the parts of a service ===

fn service(name: &str, at: &At<'_>, all: &Map<String, Value>) -> Result<Service, WorkModelError> {
    at.object("describe the service by an object")?;
    if let Some(method) = at.get("request_method") {
        let remedy = "write \"rest\" or leave the key out";
        let text = method.text(remedy)?;
        if !matches!(text.to_ascii_lowercase().as_str(), "rest" | "get" | "http") {
            return Err(method.invalid(
                format!("\"{text}\" is not served: cells are called by GET"),
                remedy,
            ));
        }
    }
    let text_or = |key: &str, default: &str, remedy: &str| {
        at.get(key)
            .map_or(Ok(default.to_owned()), |at| at.text(remedy).map(str::to_owned))
    };
    let url = text_or("url", name, "write a host, e.g. \"s0.shop.svc.cluster.local\"")?;
    let url_ok =
        http::uri::Authority::from_str(&url).is_ok_and(|authority| !authority.as_str().contains('@'));
    if !url_ok {
        let url_at = at.get("url").unwrap_or(At {
            value: at.value,
            path: format!("{}.url", at.path),
        });
        return Err(url_at.invalid(
            format!("\"{url}\" is no host"),
            "write host or host:port, without http:// and path",
        ));
    }
    let path = text_or("path", DEFAULT_PATH, "write the route, e.g. \"/api/v1\"")?;
    if !path.starts_with('/') || http::uri::PathAndQuery::from_str(&path).is_err() || path.contains('?') {
        let remedy = "start it with a slash and write no query";
        let what = format!("\"{path}\" is no path");
        return Err(At {
            value: at.value,
            path: format!("{}.path", at.path),
        }
        .invalid(what, remedy));
    }
    let behaviour = behaviour(at, all, None)?;
    let mut alternatives = BTreeMap::new();
    if let Some(list) = at.get("alternative_behaviors") {
        for (bid, value) in list.object("map each behaviour's id to its description")? {
            let alternative = At {
                value,
                path: format!("{}.{bid}", list.path),
            };
            alternatives.insert(bid.clone(), self::behaviour(&alternative, all, Some(&behaviour))?);
        }
    }
    let delay = at.get("gma_delay").map(|at| delay(&at)).transpose()?;
    Ok(Service {
        url,
        path,
        behaviour,
        alternatives,
        delay,
    })
}

/// Reads a behaviour; what an alternative does not say it takes from `base`.
fn behaviour(
    at: &At<'_>,
    all: &Map<String, Value>,
    base: Option<&Behaviour>,
) -> Result<Behaviour, WorkModelError> {
    let groups = match (at.get("external_services"), base) {
        (Some(list), _) => {
            let groups = list.list("write a list of groups, [] for none")?;
            groups
                .iter()
                .map(|group_at| group(group_at, all))
                .collect::<Result<_, _>>()?
        }
        (None, Some(base)) => base.groups.clone(),
        (None, None) => Vec::new(),
    };
    let (internal, response) = match (at.get("internal_service"), base) {
        (Some(function_at), _) => function(&function_at)?,
        (None, Some(base)) => (base.internal.clone(), base.response),
        (None, None) => (Function::Colosseum, Sizes::Fixed(1_000)),
    };
    let response = at
        .get("request_parameters")
        .map_or(Ok(response), |at| response_parameters(&at, response))?;
    Ok(Behaviour {
        internal,
        response,
        groups,
    })
}

fn group(at: &At<'_>, all: &Map<String, Value>) -> Result<Group, WorkModelError> {
    at.object("write {\"seq_len\": 1, \"services\": [\"s1\"]}")?;
    let Some(names) = at.get("services") else {
        return Err(at.invalid("no \"services\"", "list the services that the group calls"));
    };
    let names = names.list("list the names of services")?;
    let seq_len = match at.get("seq_len") {
        None => names.len(),
        Some(at) => usize::try_from(at.count(0.0, MAX_COUNT)?).unwrap_or(usize::MAX),
    };
    let mut calls = Vec::with_capacity(names.len());
    for name in names {
        let service = name.text("write the name of a service")?;
        if !all.contains_key(service) {
            let remedy = "describe it at the top level or take it out of the group";
            return Err(name.invalid(format!("the model has no service \"{service}\""), remedy));
        }
        calls.push(Call {
            service: service.to_owned(),
            probability: 1.0,
        });
    }
    let Some(probabilities) = at.get("probabilities") else {
        return Ok(Group { seq_len, calls });
    };
    for (service, value) in probabilities.object("map services of the group to 0 … 1")? {
        let at = At {
            value,
            path: format!("{}.{service}", probabilities.path),
        };
        let probability = at.number(0.0, 1.0)?;
        let mut found = false;
        for call in calls.iter_mut().filter(|call| call.service == *service) {
            call.probability = probability;
            found = true;
        }
        if !found {
            return Err(at.invalid(
                "not among the group's services",
                "add it to \"services\" or take it out here",
            ));
        }
    }
    Ok(Group { seq_len, calls })
}

fn function(at: &At<'_>) -> Result<(Function, Sizes), WorkModelError> {
    let remedy = "write one of {\"compute_pi\": {…}}, {\"loader\": {…}}, {\"colosseum\": {}}";
    let object = at.object(remedy)?;
    let mut entries = object.iter();
    let (Some((name, value)), None) = (entries.next(), entries.next()) else {
        return Err(at.invalid(format!("{} functions where one belongs", object.len()), remedy));
    };
    let params = At {
        value,
        path: format!("{}.{name}", at.path),
    };
    params.object("write an object, {} for the defaults")?;
    match name.as_str() {
        "compute_pi" => Ok((
            Function::ComputePi {
                digits: params.digits((50, 100))?,
            },
            response_size(&params, 1_000.0)?,
        )),
        // Without parameters muBench's loader sleeps 10 ms and answers 11 kB.
        "loader" => Ok((
            Function::Loader(loader(&params)?),
            response_size(&params, 11_000.0)?,
        )),
        "colosseum" => Ok((Function::Colosseum, response_size(&params, 3_500.0)?)),
        _ => Err(params.invalid(format!("the cell has no function \"{name}\""), remedy)),
    }
}

fn loader(at: &At<'_>) -> Result<Loader, WorkModelError> {
    let sleep = match at.get("sleep_stress") {
        None => Some(0.01),
        Some(_) => match at.stress("sleep_stress", true)? {
            None => None,
            Some(at) => Some(
                at.get("sleep_time")
                    .map_or(Ok(0.01), |at| at.number(0.0, MAX_SLEEP_SECONDS))?,
            ),
        },
    };
    Ok(Loader {
        cpu: at.stress("cpu_stress", false)?.map(|at| cpu(&at)).transpose()?,
        memory: at
            .stress("memory_stress", false)?
            .map(|at| memory(&at))
            .transpose()?,
        disk: at.stress("disk_stress", false)?.map(|at| disk(&at)).transpose()?,
        sleep: sleep.map(Duration::from_secs_f64),
    })
}

fn cpu(at: &At<'_>) -> Result<Cpu, WorkModelError> {
    Ok(Cpu {
        digits: at.digits((100, 100))?,
        threads: at.count_or("thread_pool_size", 1, MAX_THREADS)?,
        trials: at.count_or("trials", 1, MAX_COUNT)?,
    })
}

fn memory(at: &At<'_>) -> Result<Memory, WorkModelError> {
    Ok(Memory {
        kilobytes: at.count_or("memory_size", 10_000, MAX_COUNT)?,
        accesses: at.count_or("memory_io", 1_000, MAX_COUNT)?,
    })
}

fn disk(at: &At<'_>) -> Result<Disk, WorkModelError> {
    Ok(Disk {
        blocks: at.count_or("disk_write_block_count", 1_000, MAX_COUNT)?,
        block_bytes: at.count_or("disk_write_block_size", 1_024, MAX_COUNT)?,
    })
}

/// `mean_response_size` in kB of 1,000 bytes; `mean_bandwidth` is its older name.
fn response_size(at: &At<'_>, default_bytes: f64) -> Result<Sizes, WorkModelError> {
    let mean = at.get("mean_response_size").or_else(|| at.get("mean_bandwidth"));
    let bytes = mean.map_or(Ok(default_bytes), |at| {
        at.number(0.0, MAX_RESPONSE_KB).map(|kb| kb * 1_000.0)
    })?;
    Ok(Sizes::Exponential(bytes))
}

/// Newer muBench models give the size here: `{"response_dist": "exp" | "const", "response_size": KB}`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "0 … 1,000,000 by the check"
)]
fn response_parameters(at: &At<'_>, default: Sizes) -> Result<Sizes, WorkModelError> {
    at.object("write {\"response_dist\": \"exp\", \"response_size\": 10}")?;
    let Some(size) = at.get("response_size") else {
        return Ok(default);
    };
    let bytes = size.number(0.0, MAX_RESPONSE_KB)? * 1_000.0;
    let remedy = "write \"exp\" or \"const\"";
    let Some(dist) = at.get("response_dist") else {
        return Ok(Sizes::Exponential(bytes));
    };
    match dist.text(remedy)? {
        "exp" => Ok(Sizes::Exponential(bytes)),
        "const" => Ok(Sizes::Fixed(bytes as usize)),
        other => Err(dist.invalid(format!("no distribution \"{other}\""), remedy)),
    }
}

fn delay(at: &At<'_>) -> Result<Delay, WorkModelError> {
    at.object("write {\"mean_ms\": 5, \"sigma\": 0.5}")?;
    let Some(mean) = at.get("mean_ms") else {
        return Err(at.invalid("no \"mean_ms\"", "write the mean delay in milliseconds"));
    };
    let mean_ms = mean.number(0.0, MAX_SLEEP_SECONDS * 1_000.0)?;
    let sigma = at.get("sigma").map_or(Ok(0.0), |at| at.number(0.0, 3.0))?;
    Ok(Delay {
        mean: Duration::from_secs_f64(mean_ms / 1_000.0),
        sigma,
    })
}
