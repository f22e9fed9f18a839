//! The way of one client to the API server, which can be closed, or too narrow for a long request.

use std::future::pending;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use gma_tests::kube::NAMESPACE;
use gma_tests::rig::Cluster;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

const API_SERVER: &str = "127.0.0.1:6443";

/// An open or closed gate.
pub(crate) struct Gate {
    is_open: watch::Sender<bool>,
    /// Of the controller's account; its server is this gate.
    pub(crate) kubeconfig: PathBuf,
    _task: AbortOnDropHandle<()>,
}

// === impl Gate ===

impl Gate {
    pub(crate) async fn open(cluster: &Cluster, port: u16) -> anyhow::Result<Self> {
        Self::with_room(cluster, port, u64::MAX).await
    }

    /// A connection gets stuck after so many bytes of its client.
    pub(crate) async fn with_room(cluster: &Cluster, port: u16, bytes: u64) -> anyhow::Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let listener = TcpListener::bind(address).await?;
        let text = std::fs::read_to_string(cluster.kubeconfig_of(NAMESPACE, "gma").await?)?;
        let kubeconfig = cluster.folder().join(format!("gate-{port}.kubeconfig"));
        std::fs::write(&kubeconfig, text.replace(API_SERVER, &address.to_string()))
            .context("the kubeconfig")?;
        let (is_open, watched) = watch::channel(true);
        Ok(Self {
            is_open,
            kubeconfig,
            _task: AbortOnDropHandle::new(tokio::spawn(serve(listener, watched, bytes))),
        })
    }

    /// Opens it, or closes it and ends what goes through it.
    pub(crate) fn set_open(&self, is_open: bool) {
        self.is_open.send_replace(is_open);
    }
}

async fn serve(listener: TcpListener, is_open: watch::Receiver<bool>, bytes: u64) {
    let mut connections = JoinSet::new();
    while let Ok((mut near, _)) = listener.accept().await {
        let mut is_open = is_open.clone();
        if !*is_open.borrow_and_update() {
            continue;
        }
        connections.spawn(async move {
            let Ok(mut far) = TcpStream::connect(API_SERVER).await else {
                return;
            };
            tokio::select! {
                _ended = relay(&mut near, &mut far, bytes) => {}
                _closed = is_open.wait_for(|is_open| !is_open) => {}
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn relay(near: &mut TcpStream, far: &mut TcpStream, bytes: u64) -> std::io::Result<()> {
    let ((near_in, mut near_out), (mut far_in, mut far_out)) = (near.split(), far.split());
    let up = async {
        if copy(&mut near_in.take(bytes), &mut far_out).await? == bytes {
            pending::<()>().await;
        }
        far_out.shutdown().await
    };
    let down = async {
        copy(&mut far_in, &mut near_out).await?;
        near_out.shutdown().await
    };
    tokio::try_join!(up, down).map(drop)
}
