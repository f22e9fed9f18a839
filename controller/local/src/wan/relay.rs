//! One listening socket whose connections go to one target over a path of links.
//!
//! Bytes wait in a queue with the time at which they come out of the path, so a delay does not limit the rate. Setting
//! up a connection costs one round trip, as a SYN and its answer would: the caller's own `connect` returns at once (the
//! kernel answers it), so its first bytes wait that round trip instead. The times are tokio's, so bytes come out up
//! to 2 ms late in each direction, never early.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::link::{Hop, out_at, rtt};

/// Bytes under way in one direction of a connection: 1 Gbps times 100 ms is 12.5 MB. Past it the sender is not read,
/// so that TCP holds it back.
const MAX_UNDER_WAY: usize = 16 << 20;
/// Bytes read at once, and so the grain in which connections share a bandwidth.
const CHUNK: usize = 16 << 10;
/// Connections of one relay at once; further ones wait in the kernel's queue. An Envoy worker opens one per request
/// under way.
const MAX_CONNECTIONS: usize = 1024;

/// A listening socket; closed, with its connections, when dropped.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    accepting: AbortHandle,
}

/// Which way a connection goes, by its caller's address.
type Paths = Arc<dyn Fn(IpAddr) -> Arc<[Hop]> + Send + Sync>;

/// Bytes, or the end of the stream, on their way.
struct UnderWay {
    out_at: Instant,
    bytes: Bytes,
    /// Given back once the bytes are written.
    _room: Option<OwnedSemaphorePermit>,
}

// === impl Relay ===

impl Relay {
    /// Listens on a free port; `path` leads from the caller to `target`.
    pub(crate) async fn open(
        target: SocketAddr,
        path: Vec<Hop>,
        tasks: &mut JoinSet<()>,
    ) -> io::Result<Self> {
        let (path, any_port): (Arc<[Hop]>, _) = (path.into(), (Ipv4Addr::LOCALHOST, 0).into());
        Self::listen(any_port, target, move |_| Arc::clone(&path), tasks).await
    }

    /// Listens on `address`; `path` says which links lie between a caller and `target`.
    ///
    /// # Errors
    /// The address is taken, or not this machine's.
    pub async fn listen(
        address: SocketAddr,
        target: SocketAddr,
        path: impl Fn(IpAddr) -> Arc<[Hop]> + Send + Sync + 'static,
        tasks: &mut JoinSet<()>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let accepting = tasks.spawn(accept(listener, target, Arc::new(path)));
        Ok(Self { address, accepting })
    }

    /// Where callers connect.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens no more and resets its connections; the address stays what it was.
    pub(crate) fn close(&self) {
        self.accepting.abort();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.close();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, paths: Paths) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((caller, from)) => {
                let path = paths(from.ip());
                connections.spawn(async move {
                    if let Err(error) = connect(caller, target, &path).await {
                        tracing::debug!(%error, %target, "connection over the WAN ended");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, %target, "cannot take a connection for the WAN");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

/// Joins the caller to the target. An error on either side resets both.
async fn connect(caller: TcpStream, target: SocketAddr, path: &[Hop]) -> io::Result<()> {
    let rtt = rtt(path);
    let set_up_at = Instant::now() + rtt;
    caller.set_nodelay(true)?;
    if !rtt.is_zero() {
        sleep_until(set_up_at - rtt / 2).await;
    }
    joined(path).await;
    let target = TcpStream::connect(target).await?;
    target.set_nodelay(true)?;
    let (from_caller, to_caller) = caller.into_split();
    let (from_target, to_target) = target.into_split();
    let back: Vec<Hop> = path.iter().rev().map(Hop::reversed).collect();
    tokio::try_join!(
        carry(from_caller, to_target, path, set_up_at),
        carry(from_target, to_caller, &back, set_up_at)
    )?;
    Ok(())
}

/// Carries one direction to its end.
async fn carry(from: OwnedReadHalf, to: OwnedWriteHalf, path: &[Hop], set_up_at: Instant) -> io::Result<()> {
    let (queue, arrivals) = mpsc::unbounded_channel();
    tokio::try_join!(send(from, queue, path, set_up_at), deliver(to, arrivals, path))?;
    Ok(())
}

/// Reads and gives each chunk its time. The queue is bounded by `MAX_UNDER_WAY`.
async fn send(
    mut from: OwnedReadHalf,
    queue: mpsc::UnboundedSender<UnderWay>,
    path: &[Hop],
    set_up_at: Instant,
) -> io::Result<()> {
    let room = Arc::new(Semaphore::new(MAX_UNDER_WAY));
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHUNK);
        let read = from.read_buf(&mut buffer).await?;
        let bytes = buffer.split().freeze();
        let out_at = out_at(path, Instant::now().max(set_up_at), read);
        let permits = u32::try_from(read).unwrap_or(u32::MAX);
        let room = Arc::clone(&room)
            .acquire_many_owned(permits)
            .await
            .map_err(io::Error::other)?;
        let under_way = UnderWay {
            out_at,
            bytes,
            _room: Some(room),
        };
        if queue.send(under_way).is_err() || read == 0 {
            return Ok(());
        }
    }
}

async fn deliver(
    mut to: OwnedWriteHalf,
    mut arrivals: mpsc::UnboundedReceiver<UnderWay>,
    path: &[Hop],
) -> io::Result<()> {
    while let Some(under_way) = arrivals.recv().await {
        if under_way.out_at > Instant::now() {
            sleep_until(under_way.out_at).await;
        }
        joined(path).await;
        if under_way.bytes.is_empty() {
            return to.shutdown().await;
        }
        to.write_all(&under_way.bytes).await?;
    }
    Ok(())
}

async fn joined(path: &[Hop]) {
    for hop in path {
        hop.link.joined().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::super::link::{Direction, Link, LinkSettings};
    use super::*;

    struct Rig {
        link: Arc<Link>,
        relay: Relay,
        _tasks: JoinSet<()>,
    }

    /// A server that echoes, behind a relay over one link.
    async fn rig(settings: LinkSettings) -> Rig {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let target = server.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = server.accept().await {
                connections.spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _copied = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        let link = Arc::new(Link::new(settings));
        let hop = Hop {
            link: Arc::clone(&link),
            direction: Direction::Up,
        };
        let relay = Relay::open(target, vec![hop], &mut tasks).await.unwrap();
        Rig {
            link,
            relay,
            _tasks: tasks,
        }
    }

    async fn echo(stream: &mut TcpStream) -> Duration {
        let start = Instant::now();
        stream.write_all(b"x").await.unwrap();
        stream.read_u8().await.unwrap();
        start.elapsed()
    }

    fn delayed(rtt_ms: u64) -> LinkSettings {
        LinkSettings {
            rtt: Duration::from_millis(rtt_ms),
            ..LinkSettings::default()
        }
    }

    #[tokio::test]
    async fn a_round_trip_takes_the_rtt_and_the_first_one_twice() {
        let rig = rig(delayed(40)).await;
        let mut stream = TcpStream::connect(rig.relay.address()).await.unwrap();
        assert!(
            echo(&mut stream).await >= Duration::from_millis(80),
            "connection set-up costs a round trip"
        );
        let mut delays = Vec::new();
        for _ in 0..11 {
            delays.push(echo(&mut stream).await);
        }
        delays.sort();
        assert!(
            delays[0] >= Duration::from_millis(40),
            "never early: {:?}",
            delays[0]
        );
        assert!(
            delays[5] <= Duration::from_millis(45),
            "2 ms late at most in each direction: {:?}",
            delays[5]
        );
    }

    #[tokio::test]
    async fn delay_does_not_limit_the_rate() {
        let rig = rig(delayed(40)).await;
        let stream = TcpStream::connect(rig.relay.address()).await.unwrap();
        let (mut read, mut write) = stream.into_split();
        let start = Instant::now();
        let writing = tokio::spawn(async move {
            write.write_all(&vec![7; 4 << 20]).await.unwrap();
            write.shutdown().await.unwrap();
        });
        let mut bytes = Vec::new();
        read.read_to_end(&mut bytes).await.unwrap();
        writing.await.unwrap();
        assert_eq!(bytes.len(), 4 << 20);
        // One chunk a round trip would take 10 s.
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn connections_share_a_bandwidth() {
        let settings = LinkSettings {
            bandwidth: Some("8Mbps".parse().unwrap()),
            ..LinkSettings::default()
        };
        let rig = rig(settings).await;
        let start = Instant::now();
        let mut transfers = JoinSet::new();
        for _ in 0..2 {
            let mut stream = TcpStream::connect(rig.relay.address()).await.unwrap();
            transfers.spawn(async move {
                stream.write_all(&[0; 100_000]).await.unwrap();
                stream.read_exact(&mut [0; 100_000]).await.unwrap();
            });
        }
        transfers.join_all().await;
        // 200 kB at 1 MB/s in each direction, the directions beside each other.
        let took = start.elapsed();
        assert!(
            (Duration::from_millis(200)..Duration::from_millis(400)).contains(&took),
            "{took:?}"
        );
    }

    #[tokio::test]
    async fn a_new_delay_holds_for_open_connections() {
        let rig = rig(delayed(0)).await;
        let mut stream = TcpStream::connect(rig.relay.address()).await.unwrap();
        assert!(echo(&mut stream).await < Duration::from_millis(30));
        rig.link.set(delayed(60));
        assert!(echo(&mut stream).await >= Duration::from_millis(60));
    }

    #[tokio::test]
    async fn nothing_passes_a_cut_and_everything_comes_after_it() {
        let rig = rig(delayed(0)).await;
        let mut stream = TcpStream::connect(rig.relay.address()).await.unwrap();
        echo(&mut stream).await;
        rig.link.set(LinkSettings {
            cut: true,
            ..delayed(0)
        });
        stream.write_all(b"x").await.unwrap();
        timeout(Duration::from_millis(100), stream.read_u8())
            .await
            .expect_err("passed a cut link");
        rig.link.set(delayed(0));
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
    }

    #[tokio::test]
    async fn a_dropped_relay_refuses_and_resets() {
        let rig = rig(delayed(0)).await;
        let mut stream = TcpStream::connect(rig.relay.address()).await.unwrap();
        echo(&mut stream).await;
        let address = rig.relay.address();
        drop(rig.relay);
        assert!(matches!(
            timeout(Duration::from_secs(5), stream.read_u8()).await,
            Ok(Err(_))
        ));
        TcpStream::connect(address).await.expect_err("still listening");
    }
}
