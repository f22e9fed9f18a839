//! The socket that clients ask at.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use super::{Ask, WorldError};
use crate::protocol::{Answer, MAX_LINE};

/// Clients at once: a controller, a playground, and a few people who look. Further ones wait.
const MAX_CLIENTS: usize = 32;

/// Listens; a socket that a dead world left is replaced.
pub(super) async fn bind(path: &Path) -> Result<UnixListener, WorldError> {
    let problem = |problem: String| WorldError::Socket {
        path: path.to_owned(),
        problem,
    };
    if path.exists() {
        if UnixStream::connect(path).await.is_ok() {
            return Err(problem(
                "another world runs there; give another run folder, or stop that one".to_owned(),
            ));
        }
        std::fs::remove_file(path).map_err(|error| problem(format!("{error}; remove it")))?;
    }
    UnixListener::bind(path).map_err(|error| problem(format!("{error}; give another run folder")))
}

/// Serves clients until the task is dropped.
pub(super) async fn serve(listener: UnixListener, requests: mpsc::Sender<Ask>) {
    let room = Arc::new(Semaphore::new(MAX_CLIENTS));
    let mut clients = JoinSet::new();
    loop {
        while clients.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let requests = requests.clone();
                clients.spawn(async move {
                    if let Err(error) = converse(stream, &requests).await {
                        tracing::debug!(%error, "a client left");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot take a client");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(stream: UnixStream, requests: &mpsc::Sender<Ask>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read);
    loop {
        let mut line = String::new();
        if (&mut lines).take(MAX_LINE as u64).read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let is_whole = line.ends_with('\n');
        let answer = if is_whole {
            ask(&line, requests).await
        } else {
            Answer::Error(format!("a request is one line of at most {MAX_LINE} bytes"))
        };
        let mut text = serde_json::to_string(&answer)?;
        text.push('\n');
        write.write_all(text.as_bytes()).await?;
        if !is_whole {
            return Ok(());
        }
    }
}

async fn ask(line: &str, requests: &mpsc::Sender<Ask>) -> Answer {
    let request = match serde_json::from_str(line) {
        Ok(request) => request,
        Err(error) => return Answer::Error(format!("no request: {error}; e.g. \"state\"")),
    };
    let (answer, answered) = oneshot::channel();
    let ending = || Answer::Unable("the world is ending".to_owned());
    if requests.send((request, answer)).await.is_err() {
        return ending();
    }
    answered.await.unwrap_or_else(|_| ending())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Client, ClientError};
    use crate::protocol::Request;

    async fn exchange(path: &Path, text: &[u8]) -> String {
        let mut stream = UnixStream::connect(path).await.unwrap();
        stream.write_all(text).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn rubbish_is_answered_and_breaks_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let (requests, mut asked) = mpsc::channel::<Ask>(1);
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(bind(&path).await.unwrap(), requests));
        tasks.spawn(async move {
            while let Some((request, answer)) = asked.recv().await {
                assert_eq!(request, Request::Shutdown);
                answer.send(Answer::Error("not now".to_owned())).unwrap();
            }
        });
        assert!(exchange(&path, b"{\"ensure\": 7}\n").await.contains("no request"));
        assert!(exchange(&path, b"\"state").await.contains("one line"));
        assert!(
            exchange(&path, b"\xff\xfe\n").await.is_empty(),
            "no text at all: the client is dropped"
        );
        let error = Client::new(&path).shutdown().await.unwrap_err();
        assert!(
            matches!(&error, ClientError::Refused(text) if text == "not now"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_socket_in_use_is_refused_and_a_dead_one_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = bind(&path).await.unwrap();
        assert!(
            bind(&path)
                .await
                .unwrap_err()
                .to_string()
                .contains("another world")
        );
        drop(listener);
        bind(&path).await.unwrap();
    }

    #[tokio::test]
    async fn a_missing_world_is_transient_and_named() {
        let error = Client::new(Path::new("/no/world.sock"))
            .state()
            .await
            .unwrap_err();
        assert!(
            error.is_transient() && error.to_string().contains("/no/world.sock"),
            "{error}"
        );
    }
}
