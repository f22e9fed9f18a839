//! One request over a connection of its own.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Longest wait for one answer.
const LIMIT: Duration = Duration::from_secs(20);

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its code.
    pub status: StatusCode,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Asks for a path.
///
/// # Errors
/// The text says why there is no answer.
pub async fn get(address: SocketAddr, path: &str) -> Result<Answer, String> {
    send(address, Method::GET, path, Bytes::new()).await
}

/// Posts a body as a report is posted.
///
/// # Errors
/// The text says why there is no answer.
pub async fn post(address: SocketAddr, path: &str, body: Bytes) -> Result<Answer, String> {
    send(address, Method::POST, path, body).await
}

async fn send(address: SocketAddr, method: Method, path: &str, body: Bytes) -> Result<Answer, String> {
    let exchange = async {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|error| error.to_string())?;
        let io = TokioIo::new(stream);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io)
            .await
            .map_err(|error| error.to_string())?;
        let _connection = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", address.to_string())
            .header("content-type", gma_report::CONTENT_TYPE)
            .body(Full::new(body))
            .map_err(|error| error.to_string())?;
        let answer = sender
            .send_request(request)
            .await
            .map_err(|error| error.to_string())?;
        let status = answer.status();
        let body = answer
            .into_body()
            .collect()
            .await
            .map_err(|error| error.to_string())?
            .to_bytes();
        Ok(Answer { status, body })
    };
    match tokio::time::timeout(LIMIT, exchange).await {
        Ok(result) => result.map_err(|error: String| format!("{address}{path}: {error}")),
        Err(_) => Err(format!("{address}{path}: no answer within {LIMIT:?}")),
    }
}
