//! Cells in this process.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests, outside of #[test] functions"
)]

use std::{net::SocketAddr, time::Duration};

use gma_cell::{
    load::{Arrivals, Config, Target},
    serve::{self, Bound},
    workmodel::WorkModel,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
};

/// A cell that serves until it is told to stop.
pub(crate) struct Running {
    pub(crate) addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<usize>,
}

impl Running {
    /// Stops it; answers the number of requests that were cut off.
    pub(crate) async fn stop(mut self) -> usize {
        self.stop.take().unwrap().send(()).unwrap();
        self.task.await.unwrap()
    }
}

pub(crate) fn config(model: &WorkModel, service: &str, egress: Option<SocketAddr>) -> serve::Config {
    serve::Config {
        model: model.clone(),
        service: service.to_owned(),
        listen: "127.0.0.1:0".parse().unwrap(),
        egress,
        host_suffix: ".shop.svc".to_owned(),
        zone: "cloud".to_owned(),
        app: service.to_owned(),
        seed: 1,
        faults: None,
    }
}

pub(crate) async fn cell(model: &WorkModel, service: &str, egress: Option<SocketAddr>) -> Running {
    let bound = Bound::bind(config(model, service, egress)).await.unwrap();
    let addr = bound.local_addr();
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(bound.run(async { stopped.await.unwrap_or(()) }, Duration::from_secs(20)));
    Running {
        addr,
        stop: Some(stop),
        task,
    }
}

/// Sends raw bytes, which must ask for `connection: close`, and reads all that comes.
pub(crate) async fn raw(addr: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

pub(crate) async fn get(addr: SocketAddr, path: &str) -> String {
    raw(
        addr,
        &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
    )
    .await
}

pub(crate) fn load(addr: SocketAddr, rate_per_sec: f64, duration: Duration) -> Config {
    Config {
        target: Target::new(&format!("http://{addr}/api/v1"), None, &[]).unwrap(),
        rate_per_sec,
        arrivals: Arrivals::Constant,
        duration: Some(duration),
        connections: 8,
        timeout: Duration::from_secs(10),
        seed: 1,
    }
}
