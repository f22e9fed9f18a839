//! A cell that does what the path says, with the arguments of `gma-cell serve`. Its answers name the address that it
//! listens on, and with it the pod.
//!
//! | path | answer |
//! |---|---|
//! | `/delay/MS` | 200 after so many milliseconds |
//! | `/status/CODE` | that code |
//! | `/call/HOST/REST` | what `HOST` answers to `/REST`, asked through the sidecar |
//! | others | 200 |

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

#[derive(Clone)]
struct Cell {
    address: SocketAddr,
    egress: SocketAddr,
    client: Client<HttpConnector, Empty<Bytes>>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)?.parse::<SocketAddr>().ok()
    };
    let address = value("--listen").context("--listen IP:PORT is missing")?;
    let egress = value("--egress").context("--egress IP:PORT is missing")?;
    let cell = Cell {
        address,
        egress,
        client: Client::builder(TokioExecutor::new()).build_http(),
    };
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("listen on {address}"))?;
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        while connections.try_join_next().is_some() {}
        let cell = cell.clone();
        connections.spawn(async move {
            let service = service_fn(|request| cell.answer(request));
            let served =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // The caller went away: nothing to do.
            let _ended = served.await;
        });
    }
}

impl Cell {
    async fn answer(&self, request: Request<Incoming>) -> anyhow::Result<Response<Full<Bytes>>> {
        let path = request.uri().path().to_owned();
        let mut parts = path.trim_start_matches('/').splitn(3, '/');
        let (word, argument) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let (status, body) = match word {
            "delay" => {
                tokio::time::sleep(Duration::from_millis(argument.parse()?)).await;
                (StatusCode::OK, self.address.ip().to_string())
            }
            "status" => (argument.parse()?, self.address.ip().to_string()),
            "call" => self.call(argument, parts.next().unwrap_or_default()).await?,
            _ => (StatusCode::OK, self.address.ip().to_string()),
        };
        Ok(Response::builder().status(status).body(Full::from(body))?)
    }

    async fn call(&self, host: &str, path: &str) -> anyhow::Result<(StatusCode, String)> {
        let request = Request::get(format!("http://{}/{path}", self.egress))
            .header("host", host)
            .body(Empty::<Bytes>::new())?;
        let response = self.client.request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }
}
