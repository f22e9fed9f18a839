//! Reading files: where a relative path starts, how much is read, documents of a file.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use serde_norway::Value;

use super::error::ConvertError;

/// Largest file that is read. The reference's largest example has 12 kB; generated ones with all services in one
/// file have a few hundred.
const MAX_FILE: u64 = 8 << 20;
/// Most bytes that one conversion reads, so that a list that names one large file 10,000 times ends.
const MAX_TOTAL: u64 = 256 << 20;
/// Most documents of a file: a workload and an autoscaler for each of 500 services.
const MAX_DOCUMENTS: usize = 1000;
/// Deepest nesting by brackets that the parser is given: it spends some 10 µs on each bracket that is still open, so that a
/// file of nothing else would keep it busy for minutes. Kubernetes objects have ten levels.
const MAX_BRACKETS: usize = 1000;
/// Most folders above the configuration that are looked in.
const MAX_ABOVE: usize = 16;

/// Reads files, relative to some folders, up to a total size.
#[derive(Debug)]
pub(super) struct Files {
    folders: Vec<PathBuf>,
    left: u64,
}

impl Files {
    /// Relative paths start at `base`; without one at the configuration's folder, else at the nearest folder above it
    /// that has the file. (muPlacer resolves them from where it is started: usually such a folder.)
    pub(super) fn new(config: &Path, base: Option<&Path>) -> Self {
        let folders = match base {
            Some(base) => vec![base.to_path_buf()],
            None => {
                let absolute = std::path::absolute(config).unwrap_or_else(|_| config.to_path_buf());
                let above = absolute.ancestors().skip(1).take(MAX_ABOVE);
                above.map(Path::to_path_buf).collect()
            }
        };
        Self {
            folders,
            left: MAX_TOTAL,
        }
    }

    /// Where a path of the configuration leads: the first folder that has it.
    ///
    /// # Errors
    /// A sentence that says where it was looked for.
    pub(super) fn find(&self, path: &str) -> Result<PathBuf, String> {
        let found = self
            .folders
            .iter()
            .map(|folder| folder.join(path))
            .find(|full| full.exists());
        let full = found.ok_or_else(|| {
            let first = self.folders.first().map(|folder| folder.display().to_string());
            let above = if self.folders.len() > 1 { " and the folders above it" } else { "" };
            format!(
                "there is no file `{path}` in {}{above}: mend the path, or give the folder that it starts from with --base",
                first.unwrap_or_default()
            )
        })?;
        if full.is_dir() {
            return Err(format!(
                "`{path}` is a folder: list its files, as muPlacer wants it"
            ));
        }
        Ok(full)
    }

    /// The text of a file.
    ///
    /// # Errors
    /// It can't be read, is too large or is no UTF-8.
    pub(super) fn text(&mut self, path: &Path) -> Result<String, ConvertError> {
        let read_error = |error| ConvertError::Read {
            path: path.to_path_buf(),
            error,
        };
        let limit = MAX_FILE.min(self.left);
        let mut bytes = Vec::new();
        let file = fs::File::open(path).map_err(read_error)?;
        file.take(limit + 1).read_to_end(&mut bytes).map_err(read_error)?;
        let size = bytes.len() as u64;
        if size > limit {
            return Err(ConvertError::TooLarge {
                path: path.to_path_buf(),
                limit,
            });
        }
        let text = String::from_utf8(bytes)
            .map_err(|error| read_error(io::Error::new(io::ErrorKind::InvalidData, error.utf8_error())))?;
        self.left -= size;
        Ok(text)
    }

    /// All YAML documents of a file, anchors and merge keys resolved; empty ones are left out.
    ///
    /// # Errors
    /// As [`Self::text`], or it is no YAML.
    pub(super) fn documents(&mut self, path: &Path) -> Result<Vec<Value>, ConvertError> {
        let text = self.text(path)?;
        let refused = |text: String| ConvertError::Yaml {
            path: path.to_path_buf(),
            text,
        };
        if open_brackets(&text) > MAX_BRACKETS {
            return Err(refused(format!(
                "more than {MAX_BRACKETS} brackets are open at once: close them"
            )));
        }
        let mut documents = Vec::new();
        for (number, document) in serde_norway::Deserializer::from_str(&text).enumerate() {
            if number == MAX_DOCUMENTS {
                return Err(refused(format!(
                    "more than {MAX_DOCUMENTS} documents: split the file"
                )));
            }
            let mut value = Value::deserialize(document).map_err(|error| refused(error.to_string()))?;
            value.apply_merge().map_err(|error| refused(error.to_string()))?;
            if !value.is_null() {
                documents.push(value);
            }
        }
        Ok(documents)
    }
}

/// The most brackets that are open at once, those in texts and comments included.
fn open_brackets(text: &str) -> usize {
    let mut open = 0_usize;
    let mut most = 0;
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_found_in_the_configurations_folder_or_above() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("examples/app");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("near.yaml"), "a: 1").unwrap();
        fs::write(root.path().join("far.yaml"), "a: 1").unwrap();
        let files = Files::new(&folder.join("config.yaml"), None);
        assert_eq!(files.find("near.yaml"), Ok(folder.join("near.yaml")));
        assert_eq!(files.find("far.yaml"), Ok(root.path().join("far.yaml")));
        assert!(files.find("examples").unwrap_err().contains("folder"));
        assert!(files.find("no.yaml").unwrap_err().contains("--base"));
        let files = Files::new(&folder.join("config.yaml"), Some(&folder));
        assert!(files.find("far.yaml").is_err());
    }

    #[test]
    fn a_file_that_is_too_large_or_no_yaml_is_refused_by_name() {
        let root = tempfile::tempdir().unwrap();
        let large = root.path().join("large.yaml");
        fs::write(&large, vec![b' '; (MAX_FILE + 1) as usize]).unwrap();
        let broken = root.path().join("broken.yaml");
        fs::write(&broken, "a: [1").unwrap();
        let mut files = Files::new(&large, None);
        assert!(matches!(
            files.documents(&large),
            Err(ConvertError::TooLarge { .. })
        ));
        let error = files.documents(&broken).unwrap_err().to_string();
        assert!(error.contains("broken.yaml"), "{error}");
    }

    #[test]
    fn documents_and_merge_keys_are_read() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("two.yaml");
        fs::write(&path, "base: &b {x: 1}\nuse: {<<: *b}\n---\n---\nkind: Second\n").unwrap();
        let documents = Files::new(&path, None).documents(&path).unwrap();
        assert_eq!(documents.len(), 2);
        assert_eq!(documents[0]["use"]["x"], 1);
    }
}
