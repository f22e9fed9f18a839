//! Headless Chromium, driven over its DevTools protocol. The protocol is JSON over a websocket; what the tests need of
//! it is little.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "only tests use this: to fail where they stand is what they are for"
)]

mod devtools;

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use devtools::DevTools;

/// Longest wait for something that a loaded machine does in seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at the page.
const POLL: Duration = Duration::from_millis(50);
/// Where browsers are installed under other names.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// A running browser with one page. Ended, with all its processes, on drop.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    devtools: DevTools,
    /// Gone with the browser; it must outlive it.
    _profile: TempDir,
}

/// Colours that a reader prefers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Dark text on light paper.
    Light,
    /// Light text on dark paper.
    Dark,
}

impl Scheme {
    /// Its name in CSS.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }
}

/// The browser's binary: `GMA_CHROMIUM`, or one on the path.
fn binary() -> Option<PathBuf> {
    if let Some(given) = std::env::var_os("GMA_CHROMIUM") {
        return Some(given.into());
    }
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let all = NAMES
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    all.into_iter().find(|binary| binary.is_file())
}

// === impl Browser ===

impl Browser {
    /// Starts the browser; none, said aloud, on a machine that has none. CI has one.
    ///
    /// # Panics
    /// Where it does not start, or CI has none.
    pub async fn start() -> Option<Self> {
        let Some(binary) = binary() else {
            let remedy = "no Chromium on this machine: install chromium (Debian: apt install chromium), or set GMA_CHROMIUM";
            assert!(std::env::var_os("CI").is_none(), "{remedy}");
            // Not by a macro: what those print is shown of failed tests only.
            let _ = writeln!(std::io::stderr(), "skipped: {remedy}");
            return None;
        };
        let profile = tempfile::tempdir().unwrap();
        let mut child = command(&binary, profile.path()).spawn().unwrap();
        let address = listening(&mut child);
        let mut devtools = DevTools::connect(&address).await;
        devtools.open_page().await;
        Some(Self {
            child,
            devtools,
            _profile: profile,
        })
    }

    /// Goes to an address and waits until its document is there.
    ///
    /// # Panics
    /// Where nothing answers.
    pub async fn go(&mut self, url: &str) {
        let result = self.devtools.call("Page.navigate", json!({ "url": url })).await;
        assert!(result.get("errorText").is_none(), "{url}: {result}");
        self.until("document.readyState === 'complete'").await;
    }

    /// The window's width and height in CSS pixels, and the colours.
    ///
    /// # Panics
    /// Where the browser refuses.
    pub async fn look(&mut self, width: u32, height: u32, scheme: Scheme) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools
            .call("Emulation.setDeviceMetricsOverride", size)
            .await;
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme.name()}]});
        self.devtools.call("Emulation.setEmulatedMedia", features).await;
    }

    /// The value of an expression in the page; promises are waited for.
    ///
    /// # Panics
    /// Where it throws.
    pub async fn value(&mut self, expression: &str) -> Value {
        let ask = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let result = self.devtools.call("Runtime.evaluate", ask).await;
        assert!(
            result.get("exceptionDetails").is_none(),
            "{expression}: {result:#}"
        );
        result["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    ///
    /// # Panics
    /// Where it stays false; shows the page's text.
    pub async fn until(&mut self, expression: &str) {
        let start = Instant::now();
        while self.value(expression).await != Value::Bool(true) {
            if start.elapsed() > PATIENCE {
                let text = self.value("document.body.innerText").await;
                let problems = self.devtools.problems();
                panic!(
                    "not within {PATIENCE:?}: {expression}\n{problems:?}\n{}",
                    text.as_str().unwrap_or_default()
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Presses a key, by its name in the DOM.
    ///
    /// # Panics
    /// Where the browser refuses.
    pub async fn press(&mut self, key: &str, code: u32) {
        for kind in ["keyDown", "keyUp"] {
            let event = json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code,
                "text": if kind == "keyDown" && key == "Enter" { "\r" } else { "" }});
            self.devtools.call("Input.dispatchKeyEvent", event).await;
        }
    }

    /// Roles, names and levels of what a screen reader finds.
    ///
    /// # Panics
    /// Where the browser refuses.
    pub async fn accessible(&mut self) -> Vec<Accessible> {
        let tree = self.devtools.call("Accessibility.getFullAXTree", json!({})).await;
        let text = |node: &Value, key: &str| node[key]["value"].as_str().unwrap_or_default().to_owned();
        tree["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|node| node["ignored"] != Value::Bool(true))
            .map(|node| Accessible {
                role: text(node, "role"),
                name: text(node, "name"),
            })
            .collect()
    }

    /// Writes a picture of the whole page.
    ///
    /// # Panics
    /// Where it can't be taken or written.
    pub async fn picture(&mut self, file: &Path) {
        let ask = json!({"format": "png", "captureBeyondViewport": true});
        let shot = self.devtools.call("Page.captureScreenshot", ask).await;
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, devtools::base64(shot["data"].as_str().unwrap())).unwrap();
    }

    /// Errors and warnings of the console, exceptions, and what the browser logged, since the last call.
    ///
    /// # Panics
    /// Where the browser is gone.
    pub async fn problems(&mut self) -> Vec<String> {
        // Events come in order with answers: those of before are there once this is answered.
        self.value("0").await;
        self.devtools.problems()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its own process group: renderers and helpers end with it.
        if let Some(group) = rustix::process::Pid::from_raw(self.child.id().try_into().unwrap_or(0)) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// What a screen reader finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accessible {
    /// Its role.
    pub role: String,
    /// Its name.
    pub name: String,
}

fn command(binary: &Path, profile: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--"])
        .arg(binary)
        .args([
            "--headless",
            // Tests run as root in containers; the only pages are the tests' own.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            // Nothing is asked of the network.
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--lang=en-GB",
            "--remote-debugging-port=0",
        ])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg("about:blank")
        .env("TZ", "UTC")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0);
    command
}

/// The address that the browser writes to standard error; what it writes later is read and dropped.
fn listening(child: &mut Child) -> String {
    let (found, address) = mpsc::channel();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    std::thread::spawn(move || {
        let mut before = Vec::new();
        for line in lines.map_while(Result::ok) {
            if let Some(address) = line.strip_prefix("DevTools listening on ") {
                let _ = found.send(Ok(address.to_owned()));
            }
            before.push(line);
            before.truncate(50);
        }
        let _ = found.send(Err(before.join("\n")));
    });
    match address.recv_timeout(PATIENCE) {
        Ok(Ok(address)) => address,
        Ok(Err(said)) => panic!("Chromium ended:\n{said}"),
        Err(_) => panic!("Chromium does not listen after {PATIENCE:?}"),
    }
}
