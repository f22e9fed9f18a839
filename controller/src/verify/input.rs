//! Reading: files, fields and their paths.

use std::fs;
use std::path::{Path, PathBuf};

use gma_core::units::{CpuCores, Micros, UnitError};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::VerifyError;

/// Bytes of a file at most: recorded cases have some 100 kB, and a file is read whole.
const MAX_BYTES: u64 = 64 << 20;
/// Folders within folders: recorded data has two levels, and a link may lead back up.
const MAX_DEPTH: usize = 8;

/// Part of a service's use that may be a residue.
const RESIDUE: f64 = 1e-9;

/// Seconds in a file, microseconds here.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(try_from = "f64")]
pub(super) struct Seconds(pub(super) Micros);

/// A file's text and where it is from.
pub(super) struct Text<'a> {
    pub(super) path: &'a Path,
    bytes: Vec<u8>,
}

#[derive(Deserialize)]
struct Head {
    schema: String,
}

// === impl Seconds ===

impl TryFrom<f64> for Seconds {
    type Error = UnitError;

    fn try_from(seconds: f64) -> Result<Self, UnitError> {
        Micros::try_new(seconds * 1e6).map(Self)
    }
}

// === impl Text ===

impl<'a> Text<'a> {
    pub(super) fn read(path: &'a Path) -> Result<Self, VerifyError> {
        let failed = |source| VerifyError::Read {
            path: path.to_owned(),
            source,
        };
        if fs::metadata(path).map_err(failed)?.len() > MAX_BYTES {
            return Err(VerifyError::TooLarge {
                path: path.to_owned(),
                max: MAX_BYTES,
            });
        }
        let bytes = fs::read(path).map_err(failed)?;
        Ok(Self { path, bytes })
    }

    pub(super) const fn of(path: &'a Path, bytes: Vec<u8>) -> Self {
        Self { path, bytes }
    }

    pub(super) fn schema(&self) -> Result<String, VerifyError> {
        Ok(self.parse::<Head>()?.schema)
    }

    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, VerifyError> {
        let mut json = serde_json::Deserializer::from_slice(&self.bytes);
        serde_path_to_error::deserialize(&mut json).map_err(|error| VerifyError::Json {
            path: self.path.to_owned(),
            field: match error.path().to_string() {
                whole if matches!(whole.as_str(), "." | "?") => "the text".to_owned(),
                field => field,
            },
            reason: error.inner().to_string(),
        })
    }

    pub(super) fn wrong(&self, field: impl Into<String>, must: impl Into<String>) -> VerifyError {
        VerifyError::Field {
            path: self.path.to_owned(),
            field: field.into(),
            must: must.into(),
        }
    }

    /// Checks the length of a vector.
    pub(super) fn of_length<T>(&self, field: &str, vector: &[T], length: usize) -> Result<(), VerifyError> {
        if vector.len() == length {
            return Ok(());
        }
        let found = vector.len();
        Err(self.wrong(
            field,
            format!("a list of {length} for n_services, not of {found}"),
        ))
    }

    /// Use of the cloud's instances, then of the edge's. None is no number: nobody calls. A residue of the reference's
    /// elimination may be negative; then it is none of the service's use.
    pub(super) fn used(
        &self,
        field: &str,
        used: &[Option<f64>],
        services: usize,
    ) -> Result<Vec<CpuCores>, VerifyError> {
        self.of_length(field, used, 2 * services)?;
        let number = |at: usize| used.get(at).copied().flatten().unwrap_or_default();
        let one = |at: usize| {
            let (here, there) = (number(at), number((at + services) % used.len().max(1)));
            let residue = here < 0.0 && -here <= RESIDUE * there;
            CpuCores::try_new(if residue { 0.0 } else { here })
                .map_err(|error| self.wrong(format!("{field}[{at}]"), format!("a use: {error}")))
        };
        (0..used.len()).map(one).collect()
    }

    /// A vector of 0 and 1, one for each service; the gateway's is `gateway` where that is given.
    pub(super) fn bits(
        &self,
        field: &str,
        bits: &[u8],
        services: usize,
        gateway: Option<u8>,
    ) -> Result<(), VerifyError> {
        self.of_length(field, bits, services)?;
        if let Some(at) = bits.iter().position(|bit| *bit > 1) {
            return Err(self.wrong(format!("{field}[{at}]"), "0 or 1"));
        }
        match gateway {
            Some(bit) if bits.last() != Some(&bit) => Err(self.wrong(
                format!("{field}[{}]", services.saturating_sub(1)),
                format!("{bit}: it is the users' gateway"),
            )),
            _ => Ok(()),
        }
    }
}

/// The files that arguments name: a folder stands for its files that end in .json, those of its folders included.
pub(super) fn files(argument: &Path) -> Result<Vec<PathBuf>, VerifyError> {
    if !argument.is_dir() {
        return Ok(vec![argument.to_owned()]);
    }
    let mut files = Vec::new();
    collect(argument, 0, &mut files)?;
    if files.is_empty() {
        return Err(VerifyError::Nothing {
            path: argument.to_owned(),
        });
    }
    files.sort();
    Ok(files)
}

fn collect(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), VerifyError> {
    let failed = |source| VerifyError::Read {
        path: folder.to_owned(),
        source,
    };
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            if depth < MAX_DEPTH {
                collect(&path, depth + 1, files)?;
            }
        } else if path.extension().is_some_and(|end| end == "json") {
            files.push(path);
        }
    }
    Ok(())
}
