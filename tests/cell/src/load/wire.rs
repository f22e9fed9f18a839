//! As much of HTTP/1.1 as a load generator needs: one request, one answer, over a kept connection.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Longest status or header line. Proxies cut headers off at 60 KiB in all.
const MAX_LINE: usize = 64 * 1024;
/// Lines of a head.
const MAX_LINES: usize = 256;
/// Space for what was read and not yet looked at.
const BUFFER: usize = 2 * MAX_LINE;
/// A peer that does not accept in this time is taken as down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a request has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Failure {
    /// No connection.
    Connect,
    /// The connection broke before the answer was whole.
    Reset,
    /// The answer took too long.
    Timeout,
    /// What came is no HTTP/1.1.
    Malformed,
}

/// A connection and what was read ahead.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

/// How an answer's body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    Length(usize),
    Chunked,
    UntilClose,
}

/// An answer whose body was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Whether another request may follow.
    pub(super) keep: bool,
}

// === impl Failure ===

impl Failure {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Malformed => "malformed",
        }
    }
}

impl From<io::Error> for Failure {
    fn from(_: io::Error) -> Self {
        Self::Reset
    }
}

// === impl Connection ===

impl Connection {
    pub(super) async fn open(addr: SocketAddr) -> Result<Self, Failure> {
        let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect(addr)).await;
        let stream = connected
            .map_err(|_| Failure::Connect)?
            .map_err(|_| Failure::Connect)?;
        stream.set_nodelay(true).map_err(|_| Failure::Connect)?;
        Ok(Self {
            stream,
            buffer: vec![0; BUFFER],
            start: 0,
            end: 0,
        })
    }

    /// Whether the peer has closed, or sent what nobody asked for: no request may follow then.
    pub(super) fn is_spent(&self) -> bool {
        let mut byte = [0];
        self.start != self.end
            || !matches!(self.stream.try_read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Sends a request and reads its answer to the end.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> Result<Answer, Failure> {
        self.stream.write_all(request).await?;
        loop {
            let (status, body, keep) = self.head().await?;
            // An interim answer has no body, and another head follows.
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            match body {
                Body::Length(bytes) => self.skip(bytes).await?,
                Body::Chunked => self.skip_chunks().await?,
                Body::UntilClose => self.skip_all().await?,
            }
            return Ok(Answer {
                status,
                keep: keep && body != Body::UntilClose,
            });
        }
    }

    async fn head(&mut self) -> Result<(u16, Body, bool), Failure> {
        let status = parse_status(self.line().await?).ok_or(Failure::Malformed)?;
        let (mut body, mut keep) = (Body::UntilClose, true);
        for _ in 0..MAX_LINES {
            let line = self.line().await?;
            if line.is_empty() {
                let none = (100..200).contains(&status) || status == 204 || status == 304;
                return Ok((status, if none { Body::Length(0) } else { body }, keep));
            }
            let colon = line
                .iter()
                .position(|byte| *byte == b':')
                .ok_or(Failure::Malformed)?;
            let (name, value) = line.split_at(colon);
            let value = value.get(1..).unwrap_or_default().trim_ascii();
            if name.eq_ignore_ascii_case(b"content-length") {
                let text = std::str::from_utf8(value).map_err(|_| Failure::Malformed)?;
                body = Body::Length(text.parse().map_err(|_| Failure::Malformed)?);
            } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
                body = Body::Chunked;
            } else if name.eq_ignore_ascii_case(b"connection") {
                keep = !value.eq_ignore_ascii_case(b"close");
            }
        }
        Err(Failure::Malformed)
    }

    /// The next line without its end.
    async fn line(&mut self) -> Result<&[u8], Failure> {
        let mut searched = 0;
        let length = loop {
            let held = self.buffer.get(self.start..self.end).unwrap_or_default();
            let new = held.get(searched..).unwrap_or_default();
            if let Some(at) = new.iter().position(|byte| *byte == b'\n') {
                break searched + at;
            }
            searched = held.len();
            if searched > MAX_LINE {
                return Err(Failure::Malformed);
            }
            self.fill().await?;
        };
        let start = self.start;
        self.start += length + 1;
        let line = self.buffer.get(start..start + length).unwrap_or_default();
        Ok(line.strip_suffix(b"\r").unwrap_or(line))
    }

    async fn skip(&mut self, mut bytes: usize) -> Result<(), Failure> {
        loop {
            let held = bytes.min(self.end - self.start);
            self.start += held;
            bytes -= held;
            if bytes == 0 {
                return Ok(());
            }
            self.fill().await?;
        }
    }

    async fn skip_chunks(&mut self) -> Result<(), Failure> {
        loop {
            let line = self.line().await?;
            let digits = line
                .split(|byte| *byte == b';')
                .next()
                .unwrap_or_default()
                .trim_ascii();
            let text = std::str::from_utf8(digits).map_err(|_| Failure::Malformed)?;
            let bytes = usize::from_str_radix(text, 16).map_err(|_| Failure::Malformed)?;
            if bytes == 0 {
                break;
            }
            self.skip(bytes).await?;
            if !self.line().await?.is_empty() {
                return Err(Failure::Malformed);
            }
        }
        for _ in 0..MAX_LINES {
            if self.line().await?.is_empty() {
                return Ok(());
            }
        }
        Err(Failure::Malformed)
    }

    async fn skip_all(&mut self) -> Result<(), Failure> {
        loop {
            self.start = self.end;
            match self.fill().await {
                Ok(()) => {}
                Err(Failure::Reset) if self.start == self.end => return Ok(()),
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Reads more; the end of the stream is a failure, for somebody waits for these bytes.
    async fn fill(&mut self) -> Result<(), Failure> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let space = self.buffer.get_mut(self.end..).unwrap_or_default();
        match self.stream.read(space).await? {
            0 => Err(Failure::Reset),
            read => {
                self.end += read;
                Ok(())
            }
        }
    }
}

fn parse_status(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.1 ")?;
    let digits = std::str::from_utf8(rest.get(..3)?).ok()?;
    digits.parse().ok().filter(|status| (100..600).contains(status))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// Plays `answer` in pieces of `piece` bytes to each of two requests on one connection.
    async fn play(answer: &'static [u8], piece: usize) -> (Result<Answer, Failure>, bool) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4];
            stream.read_exact(&mut request).await.unwrap();
            for piece in answer.chunks(piece) {
                stream.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let client = async {
            let mut connection = Connection::open(addr).await.unwrap();
            let result = connection.exchange(b"ask\n").await;
            (result, connection.start == connection.end)
        };
        tokio::join!(client, server).0
    }

    #[tokio::test]
    async fn answers_are_read_to_their_end_however_they_are_cut() {
        let cases: [(&[u8], u16, bool); 6] = [
            (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", 200, true),
            (b"HTTP/1.1 503 X\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno", 503, false),
            (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;x=1\r\nhello\r\nA\r\n0123456789\r\n0\r\nt: 1\r\n\r\n", 200, true),
            (b"HTTP/1.1 204 No Content\r\n\r\n", 204, true),
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200, true),
            (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", 200, false),
        ];
        for (answer, status, keep) in cases {
            for piece in [1, 7, 1_000] {
                assert_eq!(play(answer, piece).await, (Ok(Answer { status, keep }), true));
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_answer_is_a_failure() {
        let cases: [(&[u8], Failure); 6] = [
            (b"", Failure::Reset),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel", Failure::Reset),
            (b"HTTP/1.0 200 OK\r\n\r\n", Failure::Malformed),
            (b"HTTP/1.1 999 \r\n\r\n", Failure::Malformed),
            (
                b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
                Failure::Malformed,
            ),
            (
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
                Failure::Malformed,
            ),
        ];
        for (answer, failure) in cases {
            assert_eq!(play(answer, 1_000).await.0, Err(failure));
        }
    }
}
