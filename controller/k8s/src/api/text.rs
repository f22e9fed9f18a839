//! Texts with a meaning: each carries its own rule and message in the schema, so that the API server says what to write.
//!
//! They stay text here. An object that was stored before a rule existed must still be readable, so nothing is parsed
//! while it is deserialised; the conversion parses, and its errors name the field.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

macro_rules! text {
    ($(#[$doc:meta])* $name:ident, max $max:literal, $rule:literal, $message:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "maxLength": $max,
                    "x-kubernetes-validations": [{"rule": $rule, "message": $message}],
                })
            }
        }
    };
}

text! {
    /// A duration as Go and Kubernetes write it.
    DurationText, max 16,
    "self.matches('^([0-9]+([.][0-9]+)?(us|ms|s|m|h))+$') && duration(self) > duration('0s')",
    "must be a duration above 0 with its unit, e.g. 150ms, 1.5s or 2m"
}
text! {
    /// A locality pattern of Istio: `region`, `region/zone` or `region/zone/subzone`.
    LocalityText, max 191,
    "self.matches('^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?(/[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?){0,2}$')",
    "must be region, region/zone or region/zone/subzone without an empty part; where nodes have a zone label only, give zones instead of localities"
}
text! {
    /// A value of the label `topology.kubernetes.io/zone`.
    ZoneText, max 63,
    "self.matches('^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$')",
    "must be a value of the node label topology.kubernetes.io/zone, e.g. edge-1"
}
text! {
    /// A DNS label: the name of an area, a Service or a namespace.
    LabelText, max 63,
    "self.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')",
    "must be a name of lower-case letters, digits and '-', e.g. edge-1"
}
text! {
    /// The name of a Kubernetes object.
    ObjectName, max 253,
    "self.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')",
    "must be the name of an object: lower-case letters, digits, '-' and '.', e.g. cart-edge-1"
}
text! {
    /// A price: a decimal number, in the object's one currency.
    PriceText, max 20,
    "self.matches('^[0-9]{1,9}([.][0-9]{1,9})?$')",
    "must be a decimal number of 0 or more as text, e.g. \"0.0208\""
}
text! {
    /// A currency, ISO 4217.
    CurrencyText, max 3,
    "self.matches('^[A-Z]{3}$')",
    "must be the three letters of ISO 4217, e.g. EUR"
}
text! {
    /// A bandwidth.
    BandwidthText, max 24,
    "self.matches('^[0-9]+([.][0-9]+)?[kMG]?bit/s$')",
    "must be bits a second with a unit, e.g. 100Mbit/s"
}
text! {
    /// Where a prober answers.
    UrlText, max 512,
    "isURL(self) && url(self).getScheme() in ['http', 'https']",
    "must be a URL with http or https, e.g. http://netprober.gma-netprober:5001/get"
}

/// An amount of a resource as Kubernetes writes it: `500m`, `16Gi`, `8`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Amount {
    /// A whole number.
    Whole(i64),
    /// A number with a suffix.
    Text(String),
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

impl JsonSchema for Amount {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Amount".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "maxLength": 24,
            "x-kubernetes-validations": [{
                "rule": "isQuantity(string(self)) && quantity(string(self)).compareTo(quantity('0')) >= 0",
                "message": "must be a quantity of 0 or more, e.g. 8, 500m or 16Gi",
            }],
        })
    }
}
