//! The controller's memory in a file of this machine.
//!
//! A new text is written beside the old one, brought to the disk and renamed over it, so there is a whole one at any
//! moment. A lock beside the file keeps a second controller away: two would undo each other's moves.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::memory::{MAX_BYTES, Memory, Unreadable};
use crate::platform::Loaded;

/// Files that were set aside under one name at most; then the user must look at them.
const MAX_ASIDE: u32 = 100;

/// A state file that this process alone uses.
#[derive(Clone, Debug)]
pub struct StateFile {
    path: PathBuf,
    /// Held for as long as any clone lives.
    _lock: Arc<File>,
}

/// Why the state file cannot be used. The user can act on each.
#[derive(Debug, thiserror::Error)]
pub enum StateFileError {
    /// Another controller holds it.
    #[error("another controller runs with the state {path}: stop it, or give another --state")]
    InUse {
        /// Which file.
        path: PathBuf,
    },
    /// It cannot be opened, read or written.
    #[error("the state {path} cannot be {what}: {error}; make room or give another --state")]
    Io {
        /// Which file.
        path: PathBuf,
        /// `read`, `written`, …
        what: &'static str,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// Longer than [`MAX_BYTES`]: a fault of the controller.
    #[error("the state for {path} has {length} bytes, more than {MAX_BYTES}; please report this")]
    TooLong {
        /// Which file.
        path: PathBuf,
        /// Its length.
        length: usize,
    },
    /// There are too many that were set aside.
    #[error("there are {MAX_ASIDE} unreadable states beside {path} already: look at them, and remove them")]
    ManyAside {
        /// Which file.
        path: PathBuf,
    },
}

// === impl StateFile ===

impl StateFile {
    /// Takes the file for this process; it need not be there yet.
    ///
    /// # Errors
    /// Where another controller has it, or its folder is no place to write.
    pub fn open(path: &Path) -> Result<Self, StateFileError> {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let lock = File::create(beside(&path, ".lock"))
            .map_err(|error| StateFileError::io(&path, "locked", error))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path,
                _lock: Arc::new(lock),
            }),
            Err(TryLockError::WouldBlock) => Err(StateFileError::InUse { path }),
            Err(TryLockError::Error(error)) => Err(StateFileError::io(&path, "locked", error)),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it; what is unreadable is moved aside.
    ///
    /// # Errors
    /// Where it is there and cannot be read or moved.
    pub fn load(&self) -> Result<Loaded, StateFileError> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Loaded::Nothing),
            Err(error) => return Err(self.io("read", error)),
        };
        let mut bytes = Vec::new();
        file.take(MAX_BYTES as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| self.io("read", error))?;
        match Memory::decode(&bytes) {
            Ok(memory) => Ok(Loaded::Memory(Box::new(memory))),
            Err(why) => self.set_aside(why),
        }
    }

    /// Replaces its text.
    ///
    /// # Errors
    /// Where it cannot be written; then the former text is still there.
    pub fn save(&self, bytes: &[u8]) -> Result<(), StateFileError> {
        if bytes.len() > MAX_BYTES {
            return Err(StateFileError::TooLong {
                path: self.path.clone(),
                length: bytes.len(),
            });
        }
        self.write(bytes).map_err(|error| self.io("written", error))
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let new = beside(&self.path, ".new");
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        self.sync_folder()
    }

    /// A name is on the disk once its folder is.
    fn sync_folder(&self) -> io::Result<()> {
        match self.path.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }

    fn set_aside(&self, why: Unreadable) -> Result<Loaded, StateFileError> {
        let places = (1..=MAX_ASIDE).map(|number| beside(&self.path, &format!(".unreadable-{number}")));
        let Some(place) = places.into_iter().find(|place| !place.exists()) else {
            return Err(StateFileError::ManyAside {
                path: self.path.clone(),
            });
        };
        fs::rename(&self.path, &place)
            .and_then(|()| self.sync_folder())
            .map_err(|error| self.io("moved aside", error))?;
        Ok(Loaded::SetAside { why, place })
    }

    fn io(&self, what: &'static str, error: io::Error) -> StateFileError {
        StateFileError::io(&self.path, what, error)
    }
}

// === impl StateFileError ===

impl StateFileError {
    fn io(path: &Path, what: &'static str, error: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            what,
            error,
        }
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

#[cfg(test)]
mod tests {
    use gma_core::decide::State;
    use gma_core::measured::Learned;

    use super::*;

    fn text() -> Vec<u8> {
        Memory::encode(&State::default(), &Learned::default(), 0).unwrap()
    }

    #[test]
    fn what_was_saved_is_loaded_and_nothing_else_is_left_in_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("controller.json");
        let file = StateFile::open(&path).unwrap();
        assert!(matches!(file.load().unwrap(), Loaded::Nothing));
        file.save(b"former").unwrap();
        file.save(&text()).unwrap();
        assert!(
            matches!(file.load().unwrap(), Loaded::Memory(memory) if memory.machine.state == State::default())
        );
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["controller.json", "controller.json.lock"]);
    }

    #[test]
    fn what_is_unreadable_is_kept_under_a_name_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("controller.json");
        let file = StateFile::open(&path).unwrap();
        for (number, text) in [(1, "{"), (2, r#"{"machine": {"version": 99}, "learned": {}}"#)] {
            fs::write(&path, text).unwrap();
            let loaded = file.load().unwrap();
            let Loaded::SetAside { place, why } = loaded else {
                panic!("{loaded:?}");
            };
            assert_eq!(place, beside(&path, &format!(".unreadable-{number}")), "{why}");
            assert_eq!(fs::read_to_string(place).unwrap(), text);
            assert!(matches!(file.load().unwrap(), Loaded::Nothing));
        }
    }

    #[test]
    fn a_second_controller_is_kept_away_until_the_first_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("controller.json");
        let first = StateFile::open(&path).unwrap();
        let clone = first.clone();
        let error = StateFile::open(&path).unwrap_err();
        assert!(matches!(error, StateFileError::InUse { .. }), "{error}");
        drop(first);
        StateFile::open(&path).unwrap_err();
        drop(clone);
        StateFile::open(&path).unwrap();
    }

    #[test]
    fn a_save_that_fails_leaves_the_former_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("controller.json");
        let file = StateFile::open(&path).unwrap();
        file.save(&text()).unwrap();
        // A folder in the way stops root, too.
        fs::create_dir(beside(&path, ".new")).unwrap();
        let error = file.save(b"later").unwrap_err().to_string();
        assert!(
            error.contains("controller.json") && error.contains("--state"),
            "{error}"
        );
        assert_eq!(fs::read(&path).unwrap(), text());
        assert!(matches!(
            file.save(&vec![b' '; MAX_BYTES + 1]),
            Err(StateFileError::TooLong { .. })
        ));
    }
}
