//! Line and column of a field whose value is well-formed but does not fit the rest.
//!
//! Neither parser keeps places. So the text is parsed once more, by a visitor that walks down the path and fails there:
//! the parsers say where an error happened.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::error::{Path, Segment};
use super::read::{ParserError as _, is_index};

/// Line and column, from 1, of the field, or of the nearest one around it that is written in the text.
pub(super) fn locate(text: &str, json: bool, path: &Path) -> Option<(usize, usize)> {
    (0..=path.0.len()).rev().find_map(|depth| {
        let walk = Walk(path.0.get(..depth)?);
        if depth == 0 {
            return None;
        }
        if json {
            let mut json = serde_json::Deserializer::from_str(text);
            walk.deserialize(&mut json).err()?.place()
        } else {
            walk.deserialize(serde_norway::Deserializer::from_str(text))
                .err()?
                .place()
        }
    })
}

/// Walks down and fails at the end; succeeds where the path ends before.
#[derive(Clone, Copy)]
struct Walk<'p>(&'p [Segment]);

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.0.first() {
            Some(segment) if is_index(segment) => deserializer.deserialize_seq(self),
            Some(_) => deserializer.deserialize_map(self),
            None => deserializer.deserialize_any(self),
        }
    }
}

fn here<E: Error>() -> E {
    E::custom("here")
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the field")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((Segment::Key(wanted), rest)) = self.0.split_first() else {
            return Err(here());
        };
        while let Some(key) = map.next_key::<String>()? {
            if key == *wanted {
                map.next_value_seed(Walk(rest))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Some((Segment::Index(wanted), rest)) = self.0.split_first() else {
            return Err(here());
        };
        for _ in 0..*wanted {
            if list.next_element::<IgnoredAny>()?.is_none() {
                return Ok(());
            }
        }
        list.next_element_seed(Walk(rest))?;
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Err(here())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Err(here())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Err(here())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Err(here())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Err(here())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Err(here())
    }
}
