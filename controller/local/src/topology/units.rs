//! Values of the topology that are written as text: durations, bandwidths, localities.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Bits a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bandwidth(u64);

/// Istio's `region/zone/subzone`; the last parts may be missing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Locality {
    /// Never empty: weights cannot address a zone without a region.
    pub region: String,
    /// Empty where it is not known.
    pub zone: String,
    /// Empty where it is not known.
    pub sub_zone: String,
}

// === impl Bandwidth ===

impl Bandwidth {
    const UNITS: [(&str, u64); 4] = [
        ("Gbps", 1_000_000_000),
        ("Mbps", 1_000_000),
        ("kbps", 1_000),
        ("bps", 1),
    ];

    /// `bits` a second; none for 0, which would be a cut.
    pub const fn from_bits_per_second(bits: u64) -> Option<Self> {
        if bits == 0 { None } else { Some(Self(bits)) }
    }

    /// Bits a second.
    pub const fn bits_per_second(self) -> u64 {
        self.0
    }

    /// Time that `bytes` occupy the link.
    pub fn time_of(self, bytes: usize) -> Duration {
        let nanos = (bytes as u128).saturating_mul(8 * 1_000_000_000) / u128::from(self.0);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

impl FromStr for Bandwidth {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, scale) = Self::UNITS
            .iter()
            .find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, *scale)))
            .ok_or_else(|| {
                format!("bandwidth `{text}` needs a unit: bps, kbps, Mbps or Gbps, e.g. 100Mbps")
            })?;
        let number: u64 = number
            .trim()
            .parse()
            .map_err(|_| format!("bandwidth `{text}` needs a whole number before its unit, e.g. 100Mbps"))?;
        number
            .checked_mul(scale)
            .and_then(Self::from_bits_per_second)
            .ok_or_else(|| format!("bandwidth `{text}` must be above 0; to cut a link, cut it"))
    }
}

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = Self::UNITS
            .iter()
            .find(|(_, scale)| self.0.is_multiple_of(*scale));
        let (unit, scale) = fits.unwrap_or(&("bps", 1));
        write!(f, "{}{unit}", self.0 / scale)
    }
}

impl TryFrom<String> for Bandwidth {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Bandwidth> for String {
    fn from(bandwidth: Bandwidth) -> Self {
        bandwidth.to_string()
    }
}

// === impl Locality ===

impl Locality {
    /// Whether both name a common place: equal, or one a prefix of the other.
    pub fn overlaps(&self, other: &Self) -> bool {
        let parts = |locality: &Self| {
            [
                locality.region.clone(),
                locality.zone.clone(),
                locality.sub_zone.clone(),
            ]
            .into_iter()
            .take_while(|part| !part.is_empty())
            .collect::<Vec<_>>()
        };
        parts(self).iter().zip(parts(other).iter()).all(|(a, b)| a == b)
    }
}

impl FromStr for Locality {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('/').collect();
        if parts.len() > 3 || parts.iter().any(|part| part.is_empty() || *part == "*") {
            return Err(format!(
                "locality `{text}` must be region, region/zone or region/zone/subzone"
            ));
        }
        let part = |i: usize| parts.get(i).copied().unwrap_or_default().to_owned();
        Ok(Self {
            region: part(0),
            zone: part(1),
            sub_zone: part(2),
        })
    }
}

impl fmt::Display for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.region)?;
        for part in [&self.zone, &self.sub_zone]
            .into_iter()
            .take_while(|part| !part.is_empty())
        {
            write!(f, "/{part}")?;
        }
        Ok(())
    }
}

impl TryFrom<String> for Locality {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Locality> for String {
    fn from(locality: Locality) -> Self {
        locality.to_string()
    }
}

/// Durations as `250us`, `20ms`, `1.5s`.
pub(crate) mod duration_text {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    const UNITS: [(&str, f64); 3] = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0)];

    /// Parses the text.
    pub(crate) fn parse(text: &str) -> Result<Duration, String> {
        let (number, scale) = UNITS
            .iter()
            .find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, *scale)))
            .ok_or_else(|| format!("duration `{text}` needs a unit: us, ms or s, e.g. 20ms"))?;
        let number: f64 = number
            .trim()
            .parse()
            .map_err(|_| format!("duration `{text}` needs a number before its unit, e.g. 20ms"))?;
        Duration::try_from_secs_f64(number * scale)
            .map_err(|_| format!("duration `{text}` must not be negative"))
    }

    /// Whole microseconds.
    pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}us", duration.as_micros()))
    }

    /// See [`parse`].
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bandwidths_are_read_with_their_unit_and_written_back() {
        for (text, bits) in [("1Gbps", 1_000_000_000), ("100Mbps", 100_000_000), ("7bps", 7)] {
            let bandwidth: Bandwidth = text.parse().unwrap();
            assert_eq!(bandwidth.bits_per_second(), bits);
            assert_eq!(bandwidth.to_string(), text);
        }
        for wrong in ["1", "1GB", "0bps", "-1Mbps", "99999999999Gbps"] {
            assert!(wrong.parse::<Bandwidth>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_megabyte_takes_eight_milliseconds_at_a_gigabit() {
        let gigabit: Bandwidth = "1Gbps".parse().unwrap();
        assert_eq!(gigabit.time_of(1_000_000), Duration::from_millis(8));
    }

    #[test]
    fn durations_are_read_with_their_unit() {
        assert_eq!(duration_text::parse("20ms"), Ok(Duration::from_millis(20)));
        assert_eq!(duration_text::parse("1.5s"), Ok(Duration::from_millis(1500)));
        for wrong in ["20", "ms", "-1ms", "NaNs", "20 days"] {
            assert!(duration_text::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn localities_need_a_region_and_no_empty_part() {
        assert_eq!("eu/a".parse::<Locality>().unwrap().to_string(), "eu/a");
        for wrong in ["", "/a", "eu/", "eu//x", "eu/*", "a/b/c/d"] {
            assert!(wrong.parse::<Locality>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_region_overlaps_its_zones_only() {
        let locality = |text: &str| text.parse::<Locality>().unwrap();
        assert!(locality("eu").overlaps(&locality("eu/a")));
        assert!(locality("eu/a").overlaps(&locality("eu/a")));
        assert!(!locality("eu/a").overlaps(&locality("eu/b")));
        assert!(!locality("eu").overlaps(&locality("us")));
    }
}
