//! Texts of a spec, parsed; what is wrong is collected with the path of its field.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use gma_core::ids::AreaName;
use gma_core::routing::LocalityPattern;
use gma_core::units::Money;

use super::Wanted;
use crate::api::{Amount, BandwidthText, DurationText, LocalityText, PriceText};

/// Longest duration: ten years, so that no sum of them overflows.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// Something that is wrong with a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The field, from the object's root.
    pub path: String,
    /// What is wrong and what to do.
    pub what: String,
}

/// Everything that is wrong with a spec. The object's author can mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Faults(pub Vec<Fault>);

/// Collects faults.
#[derive(Debug, Default)]
pub(super) struct Parser {
    faults: Vec<Fault>,
}

// === impl Fault ===

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.path, self.what)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, fault) in self.0.iter().enumerate() {
            let separator = if position == 0 { "" } else { "; " };
            write!(f, "{separator}{fault}")?;
        }
        Ok(())
    }
}

// === impl Parser ===

impl Parser {
    pub(super) fn fault(&mut self, path: impl fmt::Display, what: impl Into<String>) {
        self.faults.push(Fault {
            path: format!("spec.{path}"),
            what: what.into(),
        });
    }

    pub(super) fn finish(self, wanted: Wanted) -> Result<Wanted, Faults> {
        if self.faults.is_empty() {
            Ok(wanted)
        } else {
            Err(Faults(self.faults))
        }
    }

    fn take<T>(&mut self, path: &str, parsed: Result<T, String>) -> Option<T> {
        parsed.map_err(|what| self.fault(path, what)).ok()
    }

    pub(super) fn parsed_duration(&mut self, path: &str, text: &DurationText) -> Option<Duration> {
        self.take(path, duration(text.as_str()))
    }

    /// Puts a duration that is given in the place of the default.
    pub(super) fn duration(&mut self, path: &str, text: Option<&DurationText>, target: &mut Duration) {
        if let Some(given) = text.and_then(|text| self.parsed_duration(path, text)) {
            *target = given;
        }
    }

    /// A number that is given, in its range.
    pub(super) fn within(
        &mut self,
        path: &str,
        given: Option<u32>,
        range: RangeInclusive<u32>,
    ) -> Option<u32> {
        let given = given?;
        if range.contains(&given) {
            return Some(given);
        }
        let (from, to) = (range.start(), range.end());
        self.fault(
            path,
            format!("is {given}: give a whole number from {from} to {to}"),
        );
        None
    }

    pub(super) fn locality(&mut self, path: &str, text: &LocalityText) -> Option<LocalityPattern> {
        let parsed = LocalityPattern::try_from(text.as_str()).map_err(|error| format!("has {error}"));
        let pattern = self.take(&format!("{path}.localities"), parsed)?;
        if pattern.as_str().contains('*') {
            self.fault(
                format!("{path}.localities"),
                format!("has {text:?}: leave the `*` out, a pattern covers what is below it"),
            );
            return None;
        }
        Some(pattern)
    }

    /// An area's localities must not be another's, nor contain each other.
    pub(super) fn disjoint(
        &mut self,
        localities: &BTreeMap<AreaName, Vec<LocalityPattern>>,
        zones: &BTreeMap<AreaName, BTreeSet<String>>,
    ) {
        let all: Vec<(&AreaName, String)> = localities
            .iter()
            .flat_map(|(area, patterns)| {
                patterns
                    .iter()
                    .map(move |pattern| (area, format!("{}/", pattern.as_str())))
            })
            .chain(
                zones
                    .iter()
                    .flat_map(|(area, zones)| zones.iter().map(move |zone| (area, format!("{zone}/")))),
            )
            .collect();
        for (position, (area, one)) in all.iter().enumerate() {
            for (other, two) in all.iter().skip(position + 1) {
                if one.starts_with(two.as_str()) || two.starts_with(one.as_str()) {
                    let names = [one, two].map(|text| text.trim_end_matches('/'));
                    let [one, two] = names;
                    self.fault(
                        "areas",
                        format!("overlap: {one} of {area} and {two} of {other}; make the areas disjoint"),
                    );
                }
            }
        }
    }

    pub(super) fn price(&mut self, path: &str, text: &PriceText, target: &mut Money) {
        let digits = |c: char| c.is_ascii_digit() || c == '.';
        let number = text.as_str().parse::<f64>().ok();
        let number = number.filter(|_| text.as_str().chars().all(digits));
        let parsed = number.and_then(|number| Money::try_new(number).ok());
        let what = || format!("is {text:?}: give a decimal number of 0 or more as text, e.g. \"0.0208\"");
        if let Some(price) = self.take(path, parsed.ok_or_else(what)) {
            *target = price;
        }
    }

    /// Bits a second.
    pub(super) fn bandwidth(&mut self, path: &str, text: &BandwidthText) -> Option<f64> {
        let parsed = text.as_str().strip_suffix("bit/s").and_then(|number| {
            let (number, times) = match number.char_indices().last()? {
                (at, 'k') => (number.get(..at)?, 1e3),
                (at, 'M') => (number.get(..at)?, 1e6),
                (at, 'G') => (number.get(..at)?, 1e9),
                _ => (number, 1.0),
            };
            positive(number)
                .map(|number| number * times)
                .filter(|bits| *bits >= 1.0)
        });
        let what = || format!("is {text:?}: give at least 1 bit a second with a unit, e.g. 100Mbit/s");
        self.take(path, parsed.ok_or_else(what))
    }

    /// A quantity in its base unit: cores, bytes.
    pub(super) fn amount(&mut self, path: &str, amount: &Amount) -> Option<f64> {
        let text = amount.to_string();
        let what = || format!("is {text}: give a quantity of 0 or more, e.g. 8, 500m or 16Gi");
        self.take(path, quantity(&text).ok_or_else(what))
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let what = || format!("is {text:?}: give a duration above 0 with its unit, e.g. 150ms, 1.5s or 2m");
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(what)?;
        let (number, after) = rest.split_at(digits);
        let letters = after
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let scale = match unit {
            "us" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(what()),
        };
        seconds += positive(number).ok_or_else(what)? * scale;
        rest = after;
    }
    let parsed = Duration::try_from_secs_f64(seconds).map_err(|_| what())?;
    if parsed.is_zero() {
        return Err(what());
    }
    if parsed > LONGEST {
        return Err(format!("is {text:?}: that is more than ten years"));
    }
    Ok(parsed)
}

/// A decimal number without sign or exponent.
fn positive(text: &str) -> Option<f64> {
    let is_plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || c == '.');
    text.parse().ok().filter(|_| is_plain)
}

/// Suffixes of Kubernetes quantities and what they stand for, longest first where one ends in another.
/// Source: `k8s.io/apimachinery/pkg/api/resource`, the grammar of `Quantity`.
pub const QUANTITY_SUFFIXES: [(&str, f64); 15] = [
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("Ei", 1_152_921_504_606_846_976.0),
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("E", 1e18),
];

/// A Kubernetes quantity of 0 or more.
pub(crate) fn quantity(text: &str) -> Option<f64> {
    let text = text.strip_prefix('+').unwrap_or(text);
    for (suffix, times) in QUANTITY_SUFFIXES {
        if let Some(number) = text.strip_suffix(suffix) {
            return positive(number).map(|number| number * times);
        }
    }
    if let Some((number, exponent)) = text.split_once(['e', 'E']) {
        let exponent: i32 = exponent
            .parse()
            .ok()
            .filter(|exponent| (-18..=18).contains(exponent))?;
        return positive(number).map(|number| number * 10_f64.powi(exponent));
    }
    positive(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_does() {
        for (text, millis) in [
            ("150ms", 150),
            ("1.5s", 1500),
            ("1h30m", 5_400_000),
            ("2m0.5s", 120_500),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for wrong in [
            "",
            "150",
            "ms",
            "0s",
            "-1s",
            "1 s",
            "1d",
            "1.2.3s",
            "infs",
            "nans",
            "1e9s",
            "999999999999h",
        ] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn quantities_are_read_as_kubernetes_does() {
        for (text, value) in [
            ("8", 8.0),
            ("7500m", 7.5),
            ("16Gi", 16.0 * 1_073_741_824.0),
            ("1.5G", 1.5e9),
            ("2E", 2e18),
            ("2e3", 2e3),
            ("1E2", 100.0),
            ("0", 0.0),
        ] {
            assert_eq!(quantity(text), Some(value), "{text}");
        }
        for wrong in ["", "-1", "16GiB", "Gi", "1e99", "inf", "NaN", "1 G", "1e"] {
            assert_eq!(quantity(wrong), None, "{wrong}");
        }
    }
}
