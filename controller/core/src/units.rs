//! Quantities of the model: finite and not negative by construction.
//!
//! Arithmetic inside the model is on `f64`; these types stand at its border, so that a value with the wrong unit, a
//! NaN or an infinity can neither enter nor leave.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Largest value of any quantity. Products of a few such values are still far from the end of `f64`, so that
/// nothing inside the model can overflow.
pub const MAX: f64 = 1e24;

/// A number that is no quantity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UnitError {
    /// What it was meant to be.
    pub quantity: &'static str,
    /// The number.
    pub value: f64,
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is no {}: give a finite number from 0 to {MAX:e}",
            self.value, self.quantity
        )
    }
}

impl std::error::Error for UnitError {}

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident, $what:literal, $suffix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(try_from = "f64", into = "f64")]
        pub struct $name(f64);

        impl $name {
            /// None of it.
            pub const ZERO: Self = Self(0.0);

            /// Wraps a number.
            ///
            /// # Errors
            /// The number is negative, not finite or above [`MAX`].
            pub fn try_new(value: f64) -> Result<Self, UnitError> {
                if (0.0..=MAX).contains(&value) {
                    Ok(Self(value))
                } else {
                    Err(UnitError { quantity: $what, value })
                }
            }

            /// The nearest quantity to a computed number; 0 for NaN.
            pub fn nearest(value: f64) -> Self {
                debug_assert!(!value.is_nan(), concat!($what, " is NaN"));
                // `max` takes the other operand where one is NaN.
                Self(value.max(0.0).min(MAX))
            }

            /// The number.
            pub const fn as_f64(self) -> f64 {
                self.0
            }
        }

        impl TryFrom<f64> for $name {
            type Error = UnitError;

            fn try_from(value: f64) -> Result<Self, UnitError> {
                Self::try_new(value)
            }
        }

        impl From<$name> for f64 {
            fn from(quantity: $name) -> Self {
                quantity.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)?;
                f.write_str($suffix)
            }
        }
    };
}

quantity! {
    /// A time, microseconds.
    Micros, "time in microseconds", " µs"
}
quantity! {
    /// CPU in use or requested, cores.
    CpuCores, "number of CPU cores", " cores"
}
quantity! {
    /// CPU time that a request costs, seconds.
    CpuSeconds, "CPU time in seconds", " s"
}
quantity! {
    /// Memory, gigabytes (1e9 bytes).
    Gigabytes, "memory in gigabytes", " GB"
}
quantity! {
    /// A size, bytes.
    Bytes, "size in bytes", " B"
}
quantity! {
    /// A rate of requests, 1/s.
    Rps, "rate of requests a second", "/s"
}
quantity! {
    /// A bandwidth or a rate of traffic, bit/s.
    BitsPerSecond, "bandwidth in bit/s", " bit/s"
}
quantity! {
    /// An amount in the user's one currency; what it is for (an hour, a GB) is in the field's name.
    Money, "amount of money", ""
}
quantity! {
    /// A share or a factor, without unit.
    Ratio, "ratio", ""
}
quantity! {
    /// Mean calls per request received; may exceed 1.
    CallsPerRequest, "number of calls per request", ""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_finite_and_not_negative_numbers_enter() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1e-300, 1.1e24] {
            assert!(Micros::try_new(bad).is_err(), "{bad}");
        }
        for good in [0.0, 1e-300, 1.0, MAX] {
            assert_eq!(Micros::try_new(good).unwrap().as_f64(), good);
        }
    }

    #[test]
    fn what_is_computed_is_brought_into_range() {
        assert_eq!(Micros::nearest(-1e-9), Micros::ZERO);
        assert_eq!(Micros::nearest(f64::INFINITY).as_f64(), MAX);
    }

    #[test]
    fn serde_checks_too() {
        assert_eq!(serde_json::to_string(&Rps::try_new(2.5).unwrap()).unwrap(), "2.5");
        let error = serde_json::from_str::<Rps>("-1").unwrap_err().to_string();
        assert!(error.contains("rate of requests a second"), "{error}");
    }
}
