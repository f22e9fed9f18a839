//! GET on this machine.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

const TIMEOUT: Duration = Duration::from_secs(5);

/// The body of the answer to a GET.
pub(crate) async fn get(address: SocketAddr, path: &str) -> anyhow::Result<Bytes> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let uri = format!("http://{address}{path}")
        .parse()
        .with_context(|| format!("{path} is no path"))?;
    let exchange = async {
        let answer = client.get(uri).await?;
        ensure!(
            answer.status().is_success(),
            "{address}{path} answered {}",
            answer.status()
        );
        Ok(answer.into_body().collect().await?.to_bytes())
    };
    tokio::time::timeout(TIMEOUT, exchange)
        .await
        .with_context(|| format!("{address}{path} did not answer"))?
}
