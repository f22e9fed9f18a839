//! Quantities as text with a unit: `80ms`, `1.5MB`, `1Gbit/s`, `500m`, `256Mi`.
//!
//! A number without a unit is refused where a unit is needed: nobody can see whether 80 meant seconds or milliseconds.
//! What is written reads back to the same bits.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use gma_core::units::{BitsPerSecond, Bytes, CpuCores, CpuSeconds, Gigabytes, Micros, UnitError};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A quantity that a file holds as text with its unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Text<T>(pub T);

/// A unit: its name and its size in the quantity's base unit, as a fraction so that decimal fractions stay exact.
#[derive(Clone, Copy, Debug)]
pub struct Unit {
    name: &'static str,
    times: f64,
    over: f64,
    /// Read, but never written.
    alias: bool,
}

/// A quantity with units.
pub trait Quantity: Copy + Sized {
    /// What errors and the schema call it.
    const WHAT: &'static str;
    /// How it looks, for errors.
    const EXAMPLE: &'static str;
    /// Its units, the usual ones first. One of them is the base unit, so that every value can be written exactly.
    const UNITS: &'static [Unit];
    /// Whether a number without a unit is read, in base units: only where Kubernetes users write it so.
    const BARE: bool = false;

    /// A number of base units.
    ///
    /// # Errors
    /// It is negative, not finite or too large.
    fn from_base(value: f64) -> Result<Self, UnitError>;

    /// In base units.
    fn base(self) -> f64;
}

const fn unit(name: &'static str, times: f64, over: f64) -> Unit {
    Unit {
        name,
        times,
        over,
        alias: false,
    }
}

const fn alias(name: &'static str, times: f64, over: f64) -> Unit {
    Unit {
        name,
        times,
        over,
        alias: true,
    }
}

macro_rules! quantity {
    ($type:ident, $what:literal, $example:literal, bare: $bare:literal, [$($unit:expr),+ $(,)?]) => {
        impl Quantity for $type {
            const WHAT: &'static str = $what;
            const EXAMPLE: &'static str = $example;
            const UNITS: &'static [Unit] = &[$($unit),+];
            const BARE: bool = $bare;

            fn from_base(value: f64) -> Result<Self, UnitError> {
                Self::try_new(value)
            }

            fn base(self) -> f64 {
                self.as_f64()
            }
        }
    };
}

quantity!(Micros, "duration", "80ms", bare: false, [
    unit("s", 1e6, 1.0), unit("ms", 1e3, 1.0), unit("us", 1.0, 1.0), alias("µs", 1.0, 1.0),
    unit("m", 60e6, 1.0), unit("h", 3600e6, 1.0),
]);
quantity!(CpuSeconds, "CPU time", "2ms", bare: false, [
    unit("s", 1.0, 1.0), unit("ms", 1.0, 1e3), unit("us", 1.0, 1e6), alias("µs", 1.0, 1e6),
]);
quantity!(Bytes, "size", "10kB", bare: false, [
    unit("GB", 1e9, 1.0), unit("MB", 1e6, 1.0), unit("kB", 1e3, 1.0), unit("B", 1.0, 1.0),
    unit("GiB", 1_073_741_824.0, 1.0), unit("MiB", 1_048_576.0, 1.0), unit("KiB", 1024.0, 1.0),
]);
quantity!(BitsPerSecond, "bandwidth", "1Gbit/s", bare: false, [
    unit("Gbit/s", 1e9, 1.0), unit("Mbit/s", 1e6, 1.0), unit("kbit/s", 1e3, 1.0), unit("bit/s", 1.0, 1.0),
    alias("Gbps", 1e9, 1.0), alias("Mbps", 1e6, 1.0), alias("kbps", 1e3, 1.0), alias("bps", 1.0, 1.0),
]);
// As Kubernetes counts them.
quantity!(CpuCores, "number of CPU cores", "500m", bare: true, [
    unit("", 1.0, 1.0), unit("m", 1.0, 1e3), alias("u", 1.0, 1e6), alias("n", 1.0, 1e9),
]);
quantity!(Gigabytes, "memory size", "256Mi", bare: false, [
    unit("Gi", 1_073_741_824.0, 1e9), unit("Mi", 1_048_576.0, 1e9), unit("Ki", 1024.0, 1e9),
    unit("T", 1e3, 1.0), unit("G", 1.0, 1.0), unit("M", 1.0, 1e3), unit("k", 1.0, 1e6),
    unit("Ti", 1_099_511_627_776.0, 1e9),
]);

// === impl Text ===

impl<T> From<T> for Text<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T: Quantity> Text<T> {
    /// Reads a number and its unit.
    ///
    /// # Errors
    /// Says what is wrong, which units there are and how it looks.
    pub fn parse(text: &str) -> Result<Self, String> {
        let trimmed = text.trim();
        let digits = |c: char| c.is_ascii_digit() || c == '.';
        let end = trimmed.rfind(digits).map_or(0, |last| last + 1);
        let (number, name) = trimmed.split_at(end);
        let name = name.trim();
        let Ok(number) = number.trim().parse::<f64>() else {
            return Err(format!(
                "`{text}` is no {}: write a number and a unit, e.g. {}",
                T::WHAT,
                T::EXAMPLE
            ));
        };
        let Some(unit) = T::UNITS.iter().find(|unit| unit.name == name) else {
            return Err(unit_missing::<T>(text, name));
        };
        Self::of(text, number * unit.times / unit.over)
    }

    fn of(text: &str, base: f64) -> Result<Self, String> {
        T::from_base(base).map(Self).map_err(|_| {
            let must = if base < 0.0 {
                "must not be negative"
            } else {
                "must be a finite number of a sensible size"
            };
            format!("`{text}`: a {} {must}, e.g. {}", T::WHAT, T::EXAMPLE)
        })
    }

    fn bare(number: f64) -> Result<Self, String> {
        if T::BARE {
            Self::of(&number.to_string(), number)
        } else {
            Err(unit_missing::<T>(&number.to_string(), ""))
        }
    }
}

fn unit_missing<T: Quantity>(text: &str, name: &str) -> String {
    let units: Vec<&str> = T::UNITS
        .iter()
        .map(|unit| unit.name)
        .filter(|name| !name.is_empty())
        .collect();
    let wrong = if name.is_empty() {
        "has no unit".to_owned()
    } else {
        format!("has the unit `{name}`, which is unknown here")
    };
    format!(
        "`{text}` {wrong}: a {} needs one of {}, e.g. {}",
        T::WHAT,
        units.join(", "),
        T::EXAMPLE
    )
}

impl<T: Quantity> fmt::Display for Text<T> {
    /// The shortest text that reads back to the same bits; one with a number below 1 only where it is much shorter.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const BELOW_ONE: usize = 3;
        let base = self.0.base();
        let units = T::UNITS.iter().filter(|unit| !unit.alias);
        let written = units.filter_map(|unit| {
            let number = base * unit.over / unit.times;
            let text = format!("{number}{}", unit.name);
            let exact = Self::parse(&text).is_ok_and(|read| read.0.base().to_bits() == base.to_bits());
            exact.then(|| (text.len() + if number < 1.0 { BELOW_ONE } else { 0 }, text))
        });
        let shortest = written.min_by_key(|(length, _)| *length);
        f.write_str(&shortest.map_or_else(String::new, |(_, text)| text))
    }
}

impl<T: Quantity> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, T: Quantity> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor(PhantomData))
    }
}

struct TextVisitor<T>(PhantomData<T>);

impl<T: Quantity> Visitor<'_> for TextVisitor<T> {
    type Value = Text<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a {} such as {}", T::WHAT, T::EXAMPLE)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Text<T>, E> {
        Text::parse(text).map_err(E::custom)
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Text<T>, E> {
        Text::bare(number).map_err(E::custom)
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Text<T>, E> {
        self.visit_f64(nearest_f64(i128::from(number)))
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Text<T>, E> {
        self.visit_f64(nearest_f64(i128::from(number)))
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a number that is written with more than 15 digits is rounded, as any other"
)]
fn nearest_f64(number: i128) -> f64 {
    number as f64
}

impl<T: Quantity> JsonSchema for Text<T> {
    fn schema_name() -> Cow<'static, str> {
        let words = T::WHAT.split(' ').map(|word| {
            let (first, rest) = word.split_at(word.chars().next().map_or(0, char::len_utf8));
            first.to_uppercase() + rest
        });
        words.collect::<String>().into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let units: Vec<&str> = T::UNITS.iter().map(|unit| unit.name).collect();
        let pattern = format!(
            r"^\s*[0-9]*\.?[0-9]+([eE][+-]?[0-9]+)?\s*({})\s*$",
            units.join("|")
        );
        let description = format!("A {} with its unit, e.g. `{}`.", T::WHAT, T::EXAMPLE);
        if T::BARE {
            json_schema!({
                "description": description,
                "oneOf": [{"type": "string", "pattern": pattern}, {"type": "number", "minimum": 0}],
            })
        } else {
            json_schema!({"description": description, "type": "string", "pattern": pattern})
        }
    }
}

/// A price: a decimal number, as text or not, with or without the file's currency.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Price {
    /// The amount.
    pub amount: gma_core::units::Money,
    /// The currency, where it is written with the amount.
    pub currency: Option<String>,
}

// === impl Price ===

impl Price {
    /// Reads `0.0208` or `0.0208 EUR`.
    ///
    /// # Errors
    /// Says how a price looks.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let (number, currency) = (words.next().unwrap_or_default(), words.next());
        // Letters would let `inf` and `nan` pass as numbers.
        let decimal = number.parse::<f64>().ok().filter(|_| {
            words.next().is_none()
                && number
                    .chars()
                    .all(|c| c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | 'e' | 'E'))
        });
        let Some(decimal) = decimal else {
            return Err(format!(
                "`{text}` is no price: write a decimal number, e.g. \"0.0208\""
            ));
        };
        Self::of(decimal, currency.map(str::to_owned))
    }

    fn of(amount: f64, currency: Option<String>) -> Result<Self, String> {
        let amount = gma_core::units::Money::try_new(amount)
            .map_err(|_| format!("`{amount}` is no price: it must be finite and not negative"))?;
        Ok(Self { amount, currency })
    }
}

impl From<gma_core::units::Money> for Price {
    fn from(amount: gma_core::units::Money) -> Self {
        Self {
            amount,
            currency: None,
        }
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.amount.as_f64())?;
        self.currency
            .iter()
            .try_for_each(|currency| write!(f, " {currency}"))
    }
}

impl Serialize for Price {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Price {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PriceVisitor;

        impl Visitor<'_> for PriceVisitor {
            type Value = Price;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a price such as \"0.0208\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Price, E> {
                Price::parse(text).map_err(E::custom)
            }

            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Price, E> {
                Price::of(number, None).map_err(E::custom)
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Price, E> {
                self.visit_f64(nearest_f64(i128::from(number)))
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Price, E> {
                self.visit_f64(nearest_f64(i128::from(number)))
            }
        }

        deserializer.deserialize_any(PriceVisitor)
    }
}

impl JsonSchema for Price {
    fn schema_name() -> Cow<'static, str> {
        "Price".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A decimal number, best as text, e.g. \"0.0208\"; with a currency it must be the file's.",
            "oneOf": [
                {"type": "string", "pattern": r"^\s*\+?[0-9]*\.?[0-9]+([eE][+-]?[0-9]+)?(\s+\S+)?\s*$"},
                {"type": "number", "minimum": 0},
            ],
        })
    }
}

/// An object whose keys the user chooses; a key that is there twice is refused instead of the last one winning.
pub(super) fn unique_keys<'de, D, T>(
    deserializer: D,
) -> Result<std::collections::BTreeMap<String, T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct MapVisitor<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for MapVisitor<T> {
        type Value = std::collections::BTreeMap<String, T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
            let mut map = std::collections::BTreeMap::new();
            while let Some((key, value)) = access.next_entry::<String, T>()? {
                if map.contains_key(&key) {
                    return Err(A::Error::custom(format!("`{key}` is there twice: keep one")));
                }
                map.insert(key, value);
            }
            Ok(map)
        }
    }

    deserializer.deserialize_map(MapVisitor(PhantomData))
}
