//! Questions to an Envoy's admin interface.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// An answer of a local process is there at once or not at all.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The longest answer that is asked for is the list of clusters: 200 clusters of 5 endpoints are 2 MB.
const MAX_BODY: usize = 16 << 20;

/// Requests and connections under way at a proxy's listeners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Active {
    pub(crate) requests: u64,
    pub(crate) connections: u64,
}

/// Whether `path` answers 200.
pub(crate) async fn answers(address: SocketAddr, path: &str) -> bool {
    matches!(get(address, path).await, Ok((StatusCode::OK, _)))
}

/// What is under way at a sidecar; none where it does not answer.
pub(crate) async fn active(address: SocketAddr) -> Option<Active> {
    let path = "/stats?filter=%5Ehttp%5C.(inbound|outbound)_.*downstream_(rq|cx)_active$";
    let (_, body) = get(address, path).await.ok()?;
    Some(sum_active(&body))
}

/// A cluster of calls that has no endpoint yet, if there is one, or why that is not known.
pub(crate) async fn without_endpoint(address: SocketAddr) -> Option<String> {
    match get(address, "/clusters").await {
        Ok((_, body)) => first_without_endpoint(&body).map(str::to_owned),
        Err(error) => Some(format!("(no answer from {address}: {error})")),
    }
}

fn first_without_endpoint(clusters: &str) -> Option<&str> {
    let (mut named, mut filled) = (BTreeSet::new(), BTreeSet::new());
    for line in clusters.lines().filter(|line| line.starts_with("outbound|")) {
        let mut parts = line.split("::");
        if let (Some(cluster), Some(endpoint)) = (parts.next(), parts.next()) {
            named.insert(cluster);
            if endpoint.parse::<SocketAddr>().is_ok() {
                filled.insert(cluster);
            }
        }
    }
    named.difference(&filled).next().copied()
}

fn sum_active(stats: &str) -> Active {
    let mut active = Active::default();
    for (name, value) in stats.lines().filter_map(|line| line.split_once(": ")) {
        let value = value.trim().parse().unwrap_or(0);
        if name.ends_with("downstream_rq_active") {
            active.requests += value;
        } else if name.ends_with("downstream_cx_active") && name.contains("inbound") {
            active.connections += value;
        }
    }
    active
}

async fn get(address: SocketAddr, path: &str) -> std::io::Result<(StatusCode, String)> {
    let exchange = async {
        let stream = TcpStream::connect(address).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(std::io::Error::other)?;
        let request = hyper::Request::get(path)
            .header("host", "localhost")
            .body(Empty::<Bytes>::new())
            .map_err(std::io::Error::other)?;
        let answer = async {
            let response = sender
                .send_request(request)
                .await
                .map_err(std::io::Error::other)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
            let body = body.map_err(std::io::Error::other)?.to_bytes();
            drop(sender);
            Ok((status, String::from_utf8_lossy(&body).into_owned()))
        };
        let (answer, _) = tokio::join!(answer, connection);
        answer
    };
    tokio::time::timeout(TIMEOUT, exchange)
        .await
        .map_err(std::io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_without_an_endpoint_is_named() {
        let full = "outbound|8080||s0.shop::observability_name::outbound|8080||s0.shop\n\
                    outbound|8080||s0.shop::127.9.8.7:4000::cx_active::0\ngma-controller::added_via_api::false\n";
        assert_eq!(first_without_endpoint(full), None);
        let lacking = format!("{full}outbound|8080||s1.shop::added_via_api::false\n");
        assert_eq!(first_without_endpoint(&lacking), Some("outbound|8080||s1.shop"));
    }

    #[test]
    fn requests_count_in_both_directions_and_connections_inbound_only() {
        let stats = "http.inbound_8080.downstream_cx_active: 2\nhttp.inbound_8080.downstream_rq_active: 1\n\
                     http.outbound_8080.downstream_cx_active: 5\nhttp.outbound_8080.downstream_rq_active: 3\n";
        assert_eq!(
            sum_active(stats),
            Active {
                requests: 4,
                connections: 2
            }
        );
    }
}
