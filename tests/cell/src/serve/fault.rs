//! How a cell misbehaves, as a file says that it looks at while it runs.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::Deserialize;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// The thread is taken once in this time, so that a request meets it at several of its steps.
const PERIOD: Duration = Duration::from_millis(50);
/// Busier, and the file would not be looked at again.
const MOST_BUSY: f64 = 0.99;
/// A file of more is none of ours.
const MAX_BYTES: u64 = 4_096;

/// What the file holds. An absent file, and `{}`: nothing is wrong.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wrong {
    #[serde(default)]
    fail: Option<Fail>,
    #[serde(default)]
    busy: f64,
}

/// Requests that get 500.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Fail {
    All,
    Bid(String),
}

/// What is wrong with a cell now.
#[derive(Debug, Default)]
pub(super) struct Fault(Mutex<Wrong>);

// === impl Fault ===

impl Fault {
    /// Whether a request with this query is to fail.
    pub(super) fn fails(&self, query: Option<&str>) -> bool {
        let wrong = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &wrong.fail {
            None => false,
            Some(Fail::All) => true,
            Some(Fail::Bid(bid)) => query
                .unwrap_or_default()
                .split('&')
                .any(|pair| pair.strip_prefix("bid=") == Some(bid)),
        }
    }

    /// Does as the file says, for ever.
    pub(super) async fn follow(&self, file: &Path) {
        let mut looked = None;
        loop {
            if looked.is_none_or(|at: Instant| at.elapsed() >= LOOK) {
                self.look(file);
                looked = Some(Instant::now());
            }
            let busy = PERIOD.mul_f64(self.busy());
            let until = Instant::now() + busy;
            // The cell's one thread: everything else of it waits.
            while Instant::now() < until {
                std::hint::spin_loop();
            }
            tokio::time::sleep(PERIOD - busy).await;
        }
    }

    fn busy(&self) -> f64 {
        let wrong = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        wrong.busy.clamp(0.0, MOST_BUSY)
    }

    fn look(&self, file: &Path) {
        let wrong = match read(file) {
            Ok(wrong) => wrong,
            Err(error) => {
                tracing::warn!(%error, file = %file.display(), "the file of faults is left alone");
                return;
            }
        };
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *now != wrong {
            tracing::info!(?wrong, "fault");
            *now = wrong;
        }
    }
}

fn read(file: &Path) -> std::io::Result<Wrong> {
    let length = match file.metadata() {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Wrong::default()),
        Err(error) => return Err(error),
    };
    if length > MAX_BYTES {
        return Err(std::io::Error::other(format!(
            "it has more than {MAX_BYTES} bytes"
        )));
    }
    Ok(serde_json::from_slice(&std::fs::read(file)?)?)
}

/// Follows a file, where there is one to follow.
pub(super) async fn follow(fault: &Fault, file: Option<PathBuf>) {
    match file {
        Some(file) => fault.follow(&file).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_says_which_requests_fail() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("faults.json");
        let fault = Fault::default();
        let with = |text: &str| {
            std::fs::write(&file, text).unwrap();
            fault.look(&file);
            [None, Some("bid=x"), Some("a=b&bid=y")].map(|query| fault.fails(query))
        };
        assert_eq!(with(r#"{"fail": "all"}"#), [true, true, true]);
        assert_eq!(
            with(r#"{"fail": {"bid": "y"}, "busy": 0.5}"#),
            [false, false, true]
        );
        assert_eq!(fault.busy(), 0.5);
        assert_eq!(
            with("rubbish"),
            [false, false, true],
            "what can't be read changes nothing"
        );
        assert_eq!(with("{}"), [false, false, false]);
        with(r#"{"fail": "all"}"#);
        std::fs::remove_file(&file).unwrap();
        fault.look(&file);
        assert!(!fault.fails(None), "no file, no fault");
    }
}
