//! Values with a unit, as muPlacer's configuration and Kubernetes objects write them.

use gma_k8s::settings::QUANTITY_SUFFIXES;
use serde_norway::Value;

use super::node::{kind_of, one_line, scalar_text};

/// Longest time that a configuration may hold: beyond any delay, and far from the end of what a problem can hold.
const MAX_MICROS: f64 = 1e15;

/// A time of muPlacer's configuration.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Time {
    /// Microseconds, by the reference's rule: a number without a suffix is in seconds.
    pub(super) micros: f64,
    /// As written.
    pub(super) text: String,
    /// Whether it has a suffix.
    pub(super) suffix: bool,
    /// Whether the reference's reader, which takes whole numbers only, reads it.
    pub(super) whole: bool,
}

/// A bit rate of muPlacer's configuration.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct BitRate {
    /// Bits a second, above 0.
    pub(super) bits: f64,
    /// As written.
    pub(super) text: String,
    /// Whether the reference's reader, which takes whole numbers only, reads it.
    pub(super) whole: bool,
}

const TIMES: [(&str, f64); 4] = [("ms", 1e3), ("s", 1e6), ("m", 60e6), ("h", 3600e6)];
const RATES: [(&str, f64); 4] = [("kbps", 1e3), ("Mbps", 1e6), ("Gbps", 1e9), ("bps", 1.0)];

// === impl Time ===

impl Time {
    /// Reads `80ms`, `30s`, `2m`, `1h` or a bare number of seconds.
    pub(super) fn read(value: &Value) -> Result<Self, String> {
        let text = scalar(value, "a time")?;
        let (number, scale) = split(&text, &TIMES);
        let amount = amount(number)
            .ok_or_else(|| format!("is `{text}`, which is no time: write e.g. 80ms, 30s, 2m or 1h"))?;
        let micros = amount * scale.unwrap_or(1e6);
        if micros > MAX_MICROS {
            return Err(format!("is `{text}`, longer than 30 years: check its unit"));
        }
        Ok(Self {
            micros,
            whole: is_whole(number),
            suffix: scale.is_some(),
            text,
        })
    }

    /// The same number read in milliseconds where it has no suffix.
    pub(super) fn bare_as_millis(&self) -> f64 {
        if self.suffix {
            self.micros
        } else {
            self.micros / 1e3
        }
    }
}

// === impl BitRate ===

impl BitRate {
    /// Reads `800kbps`, `100Mbps`, `1Gbps`, `5bps` or a bare number of bit/s.
    pub(super) fn read(value: &Value) -> Result<Self, String> {
        let text = scalar(value, "a bit rate")?;
        let (number, scale) = split(&text, &RATES);
        let amount = amount(number).ok_or_else(|| {
            format!("is `{text}`, which is no bit rate: write e.g. 800kbps, 100Mbps, 1Gbps or bit/s without a unit")
        })?;
        let bits = amount * scale.unwrap_or(1.0);
        if !(bits > 0.0 && bits <= 1e18) {
            return Err(format!(
                "is `{text}`; a bit rate above 0 and up to 1e18 bit/s belongs here"
            ));
        }
        Ok(Self {
            bits,
            whole: is_whole(number),
            text,
        })
    }
}

// === free functions ===

/// A price: a finite number from 0.
pub(super) fn price(value: &Value) -> Result<f64, String> {
    number(value, 1e12)
}

/// A finite number from 0 to `max`.
pub(super) fn number(value: &Value, max: f64) -> Result<f64, String> {
    let text = scalar(value, "a number")?;
    amount(&text)
        .filter(|amount| *amount <= max)
        .ok_or_else(|| format!("is `{text}`; a number from 0 to {max:e} belongs here"))
}

/// A Kubernetes quantity of at least 0 (`500m`, `0.5`, `128Mi`, `1e9`) in its base unit: cores or bytes.
pub(super) fn quantity(value: &Value) -> Result<f64, String> {
    let text = scalar(value, "a quantity")?;
    // `1E` is an exa, `1E3` an exponent: a number that is complete wins.
    let plain = amount(&text);
    let scaled = || {
        let (number, scale) = split(&text, &QUANTITY_SUFFIXES);
        Some(amount(number)? * scale?)
    };
    plain
        .or_else(scaled)
        .filter(|amount| *amount <= 1e21)
        .ok_or_else(|| {
            format!("is `{text}`, which is no Kubernetes quantity from 0: write e.g. 500m, 0.5, 128Mi or 1G")
        })
}

/// Microseconds for reading: `80 ms`, `1.5 s`, `250 µs`.
pub(super) fn show_micros(micros: f64) -> String {
    if micros >= 1e6 {
        format!("{} s", short(micros / 1e6))
    } else if micros >= 1e3 || micros == 0.0 {
        format!("{} ms", short(micros / 1e3))
    } else {
        format!("{} µs", short(micros))
    }
}

/// Bits a second for reading: `1 Gbps`, `199 Mbps`.
pub(super) fn show_bits(bits: f64) -> String {
    if bits >= 1e9 {
        format!("{} Gbps", short(bits / 1e9))
    } else if bits >= 1e6 {
        format!("{} Mbps", short(bits / 1e6))
    } else {
        format!("{} kbps", short(bits / 1e3))
    }
}

/// A number with at most four decimals and no trailing zeros.
pub(super) fn short(number: f64) -> String {
    let text = format!("{number:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn scalar(value: &Value, wanted: &str) -> Result<String, String> {
    let text = scalar_text(value).ok_or_else(|| format!("is {}; {wanted} belongs here", kind_of(value)))?;
    Ok(one_line(text.trim()))
}

/// Number and scale; no scale where no unit ends the text.
fn split<'t>(text: &'t str, units: &[(&str, f64)]) -> (&'t str, Option<f64>) {
    let found = units
        .iter()
        .find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, *scale)));
    found.map_or((text, None), |(number, scale)| (number.trim_end(), Some(scale)))
}

/// A finite number of at least 0 in decimal digits; not what else Rust reads as a number (`inf`, `nan`).
fn amount(text: &str) -> Option<f64> {
    let looks_decimal = text
        .chars()
        .all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'));
    let amount: f64 = text.parse().ok().filter(|_| looks_decimal)?;
    // `-0` is 0.
    (amount.is_finite() && amount >= 0.0).then(|| amount.abs())
}

fn is_whole(number: &str) -> bool {
    !number.is_empty() && number.chars().all(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn yaml(text: &str) -> Value {
        serde_norway::from_str(text).unwrap()
    }

    #[test]
    fn times_follow_the_reference_and_also_take_fractions() {
        for (text, micros, suffix, whole) in [
            ("80ms", 80e3, true, true),
            ("30s", 30e6, true, true),
            ("2m", 120e6, true, true),
            ("1h", 3600e6, true, true),
            ("80", 80e6, false, true),
            ("1.5s", 1.5e6, true, false),
            ("0.5ms", 500.0, true, false),
            ("250 ms", 250e3, true, true),
        ] {
            let time = Time::read(&yaml(text)).unwrap();
            assert_eq!(
                (time.micros, time.suffix, time.whole),
                (micros, suffix, whole),
                "{text}"
            );
        }
        assert_eq!(Time::read(&yaml("80")).unwrap().bare_as_millis(), 80e3);
        for wrong in [
            "80us", "-5ms", "ms", "soon", "[1]", "{a: 1}", ".inf", ".nan", "inf", "1e300", "9e18h",
        ] {
            assert!(Time::read(&yaml(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn bit_rates_follow_the_reference_and_also_take_fractions() {
        for (text, bits) in [
            ("1000Mbps", 1e9),
            ("2.5Gbps", 2.5e9),
            ("800kbps", 8e5),
            ("7bps", 7.0),
            ("1e6", 1e6),
        ] {
            assert_eq!(BitRate::read(&yaml(text)).unwrap().bits, bits, "{text}");
        }
        for wrong in ["0", "0Mbps", "-1Mbps", "1GB", "fast", "1e30Gbps"] {
            assert!(BitRate::read(&yaml(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn quantities_are_those_of_kubernetes() {
        for (text, amount) in [
            ("500m", 0.5),
            ("2", 2.0),
            ("0.25", 0.25),
            ("128Mi", 134_217_728.0),
            ("1G", 1e9),
            ("1E", 1e18),
            ("1e3", 1e3),
            ("100n", 1e-7),
        ] {
            let read = quantity(&yaml(text)).unwrap();
            assert!((read - amount).abs() <= 1e-12 * amount, "{text}: {read}");
        }
        for wrong in ["-1", "1 core", "1MB", "", "Mi", "1e99", "[]"] {
            assert!(quantity(&yaml(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn shown_numbers_are_short() {
        assert_eq!(show_micros(80e3), "80 ms");
        assert_eq!(show_micros(1.5e6), "1.5 s");
        assert_eq!(show_micros(250.0), "250 µs");
        assert_eq!(show_bits(199e6), "199 Mbps");
    }
}
