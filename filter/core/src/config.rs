//! The plugin configuration: JSON, as `WasmPlugin.spec.pluginConfig` holds it.
//!
//! Read by hand from a JSON value, so that each error names the whole path of the key and says what to write
//! there. Unknown keys are errors: a misspelt one must not silently mean its default.

use std::time::Duration;

use gma_report::PATH;
use serde_json::{Map, Value};

/// Longest wait for an answer, by default.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A report of an idle VM each 30 s tells that it still measures.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// Bounds of `interval`: below the shortest, reports cost more than they tell; the longest is the heartbeat.
const INTERVALS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// Bounds of `heartbeat`: the controller takes a VM that is silent for minutes for dead.
const HEARTBEATS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Bounds of `controller.timeout`: a WAN's round trip, and less than a minute of growing windows.
const TIMEOUTS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// Longest cluster name, authority and path, bytes; what Envoy accepts in names and more than a DNS name has.
const MAX_TEXT: usize = 512;

/// What the filter is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where reports go.
    pub controller: Controller,
    /// Greatest age of counts that were not sent; none: 2 s at a gateway, 4 s elsewhere. The controller's
    /// acks may ask for another pace.
    pub interval: Option<Duration>,
    /// Time between reports of a VM that has nothing to say.
    pub heartbeat: Duration,
}

/// How the controller is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controller {
    /// Name of its cluster in Envoy, e.g. `outbound|8080||gma.gma-system.svc.cluster.local`.
    pub cluster: String,
    /// `:authority` of the request; by default the host in the cluster's name.
    pub authority: String,
    /// `:path` of the request.
    pub path: String,
    /// Longest wait for an answer.
    pub timeout: Duration,
}

/// Why a configuration cannot be used. The person who wrote the `WasmPlugin` can act.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// There is none.
    #[error("it is empty: give at least {{\"controller\": {{\"cluster\": \"outbound|PORT||HOST\"}}}}")]
    Empty,
    /// Not JSON.
    #[error("it is not JSON: {0}")]
    Json(String),
    /// A key that must be there is not.
    #[error("`{key}` is missing: {help}")]
    Missing {
        /// The key's path.
        key: String,
        /// What to write there.
        help: &'static str,
    },
    /// A key that does not exist.
    #[error("`{key}` is unknown: the keys here are {known}")]
    Unknown {
        /// The key's path.
        key: String,
        /// Those that exist.
        known: String,
    },
    /// A value of the wrong kind.
    #[error("`{key}` must be {expected}")]
    Kind {
        /// The key's path.
        key: String,
        /// What it must be.
        expected: &'static str,
    },
    /// A text that cannot be used.
    #[error("`{key}` is {found:?}: it must be {expected}")]
    Text {
        /// The key's path.
        key: String,
        /// What was found.
        found: String,
        /// What it must be.
        expected: &'static str,
    },
    /// A duration outside its bounds.
    #[error("`{key}` is {found:?}: it must be between {least:?} and {most:?}")]
    Range {
        /// The key's path.
        key: String,
        /// What was found.
        found: Duration,
        /// The shortest.
        least: Duration,
        /// The longest.
        most: Duration,
    },
}

// === impl Config ===

impl Config {
    /// Reads the plugin configuration.
    ///
    /// # Errors
    /// The first thing in it that cannot be used.
    pub fn parse(json: &[u8]) -> Result<Self, ConfigError> {
        if json.trim_ascii().is_empty() {
            return Err(ConfigError::Empty);
        }
        let value = serde_json::from_slice(json).map_err(|error| ConfigError::Json(error.to_string()))?;
        let root = Section::new("", &value, &["controller", "heartbeat", "interval"])?;
        let controller = Controller::read(root.need("controller", "an object with the key `cluster`")?)?;
        Ok(Self {
            controller,
            interval: root.duration("interval", INTERVALS)?,
            heartbeat: root.duration("heartbeat", HEARTBEATS)?.unwrap_or(HEARTBEAT),
        })
    }
}

/// A hash that tells configurations apart (FNV-1a).
pub fn config_hash(json: &[u8]) -> u64 {
    json.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

impl Controller {
    fn read(value: &Value) -> Result<Self, ConfigError> {
        let here = Section::new("controller", value, &["authority", "cluster", "path", "timeout"])?;
        let help = "the name of the controller's cluster in Envoy, e.g. \
                    outbound|8080||gma.gma-system.svc.cluster.local";
        here.need("cluster", help)?;
        let cluster = here
            .text("cluster", is_visible, "visible ASCII without spaces")?
            .unwrap_or_default();
        let authority = here.text("authority", is_visible, "visible ASCII without spaces")?;
        let path = here.text(
            "path",
            |text| text.starts_with('/') && is_visible(text),
            "a path, from its /",
        )?;
        Ok(Self {
            authority: authority.unwrap_or_else(|| host_of(&cluster).to_owned()),
            path: path.unwrap_or_else(|| PATH.to_owned()),
            timeout: here.duration("timeout", TIMEOUTS)?.unwrap_or(TIMEOUT),
            cluster,
        })
    }
}

/// The host in `outbound|80||host`; a name of another form as it is.
fn host_of(cluster: &str) -> &str {
    cluster
        .rsplit('|')
        .next()
        .filter(|host| !host.is_empty())
        .unwrap_or(cluster)
}

fn is_visible(text: &str) -> bool {
    (1..=MAX_TEXT).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// One JSON object and its place.
struct Section<'a> {
    path: &'static str,
    keys: &'a Map<String, Value>,
}

impl<'a> Section<'a> {
    fn new(path: &'static str, value: &'a Value, known: &[&str]) -> Result<Self, ConfigError> {
        let Value::Object(keys) = value else {
            let key = if path.is_empty() { "(the whole)" } else { path };
            return Err(ConfigError::Kind {
                key: key.to_owned(),
                expected: "an object",
            });
        };
        let here = Self { path, keys };
        match keys.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(ConfigError::Unknown {
                key: here.full(key),
                known: known.join(", "),
            }),
            None => Ok(here),
        }
    }

    fn full(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    fn need(&self, key: &str, help: &'static str) -> Result<&'a Value, ConfigError> {
        self.keys.get(key).ok_or_else(|| ConfigError::Missing {
            key: self.full(key),
            help,
        })
    }

    fn text(
        &self,
        key: &str,
        is_good: impl Fn(&str) -> bool,
        expected: &'static str,
    ) -> Result<Option<String>, ConfigError> {
        match self.keys.get(key) {
            None => Ok(None),
            Some(Value::String(text)) if is_good(text) => Ok(Some(text.clone())),
            Some(Value::String(text)) => {
                let found = text.chars().take(64).collect();
                Err(ConfigError::Text {
                    key: self.full(key),
                    found,
                    expected,
                })
            }
            Some(_) => Err(ConfigError::Kind {
                key: self.full(key),
                expected: "a string",
            }),
        }
    }

    fn duration(&self, key: &str, bounds: (Duration, Duration)) -> Result<Option<Duration>, ConfigError> {
        let expected = "a duration, e.g. 500ms, 2s or 1m";
        let Some(text) = self.text(key, |text| duration(text).is_some(), expected)? else {
            return Ok(None);
        };
        let (least, most) = bounds;
        match duration(&text) {
            Some(found) if (least..=most).contains(&found) => Ok(Some(found)),
            found => {
                let found = found.unwrap_or_default();
                Err(ConfigError::Range {
                    key: self.full(key),
                    found,
                    least,
                    most,
                })
            }
        }
    }
}

/// Reads `500ms`, `2s`, `1m`: a whole number and a unit.
fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.find(|c: char| !c.is_ascii_digit())?)?;
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number.checked_mul(60)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(json: &str) -> String {
        Config::parse(json.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn defaults_need_the_cluster_only() {
        let config =
            Config::parse(br#"{"controller": {"cluster": "outbound|80||gma.ns.svc.cluster.local"}}"#)
                .unwrap();
        assert_eq!(config.controller.authority, "gma.ns.svc.cluster.local");
        assert_eq!(config.controller.path, "/v1/reports");
        assert_eq!(config.controller.timeout, Duration::from_secs(5));
        assert_eq!(
            (config.interval, config.heartbeat),
            (None, Duration::from_secs(30))
        );
    }

    #[test]
    fn every_key_is_read() {
        let json =
            br#"{"controller": {"cluster": "gma", "authority": "a:1", "path": "/p", "timeout": "200ms"},
                        "interval": "1s", "heartbeat": "1m"}"#;
        let config = Config::parse(json).unwrap();
        assert_eq!(config.controller.authority, "a:1");
        assert_eq!(config.controller.path, "/p");
        assert_eq!(config.controller.timeout, Duration::from_millis(200));
        assert_eq!(config.interval, Some(Duration::from_secs(1)));
        assert_eq!(config.heartbeat, Duration::from_secs(60));
    }

    #[test]
    fn errors_name_the_key_and_the_remedy() {
        let table = [
            ("", "it is empty"),
            (" \n", "it is empty"),
            ("{", "it is not JSON"),
            ("[]", "`(the whole)` must be an object"),
            ("{}", "`controller` is missing"),
            (r#"{"controller": 1}"#, "`controller` must be an object"),
            (
                r#"{"controller": {}}"#,
                "`controller.cluster` is missing: the name",
            ),
            (
                r#"{"controller": {"cluster": 1}}"#,
                "`controller.cluster` must be a string",
            ),
            (
                r#"{"controller": {"cluster": "a b"}}"#,
                "`controller.cluster` is \"a b\"",
            ),
            (
                r#"{"controller": {"cluster": "a", "pth": "/"}}"#,
                "`controller.pth` is unknown: the keys here are authority",
            ),
            (
                r#"{"controller": {"cluster": "a", "path": "x"}}"#,
                "`controller.path` is \"x\"",
            ),
            (
                r#"{"controller": {"cluster": "a", "timeout": "2h"}}"#,
                "`controller.timeout` is \"2h\"",
            ),
            (
                r#"{"controller": {"cluster": "a"}, "interval": "2"}"#,
                "`interval` is \"2\": it must be a duration",
            ),
            (
                r#"{"controller": {"cluster": "a"}, "interval": "1ms"}"#,
                "`interval` is 1ms: it must be between 250ms and 30s",
            ),
            (
                r#"{"controller": {"cluster": "a"}, "Interval": "1s"}"#,
                "`Interval` is unknown",
            ),
            (
                r#"{"controller": {"cluster": "a"}, "heartbeat": "99999999999999999999s"}"#,
                "`heartbeat` is",
            ),
        ];
        for (json, expected) in table {
            let found = error(json);
            assert!(found.contains(expected), "{json}: {found}");
        }
    }
}
