//! What a load generator asks, as bytes that are built once.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    str::FromStr,
};

use http::{HeaderName, HeaderValue, Uri};

/// A server, and the request that it gets.
#[derive(Debug, Clone)]
pub struct Target {
    url: String,
    addr: SocketAddr,
    request: Vec<u8>,
}

/// Why nothing can be sent there. Bad input; only name resolution is worth a retry.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// No URL, or one that is not ours.
    #[error("\"{0}\" is no URL that can be loaded; write http://HOST:PORT/PATH")]
    Url(String),
    /// The host has no address.
    #[error("host {host} of the URL has no address: {source}; write an address, and the name into --host")]
    Resolve {
        /// The host.
        host: String,
        /// What the resolver said.
        #[source]
        source: std::io::Error,
    },
    /// The host for the header is no host.
    #[error("\"{0}\" does not fit into the Host header; write a name such as s0.shop.svc.cluster.local")]
    Host(String),
    /// Not a header.
    #[error("\"{0}\" is no header; write NAME: VALUE")]
    Header(String),
}

// === impl Target ===

impl Target {
    /// Resolves the URL and builds its GET. `host` replaces the URL's own in the header; `headers` are `NAME: VALUE`.
    ///
    /// # Errors
    /// The URL, the host or a header is malformed, or the URL's host has no address.
    pub fn new(url: &str, host: Option<&str>, headers: &[String]) -> Result<Self, TargetError> {
        let wrong = || TargetError::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(wrong());
        };
        let port = authority.port_u16().unwrap_or(80);
        let resolve = |source| TargetError::Resolve {
            host: authority.host().to_owned(),
            source,
        };
        let bare = authority.host().trim_start_matches('[').trim_end_matches(']');
        let addr = (bare, port).to_socket_addrs().map_err(resolve)?.next();
        let addr = addr.ok_or_else(|| resolve(std::io::ErrorKind::NotFound.into()))?;
        let host = host.unwrap_or(authority.as_str());
        if http::uri::Authority::from_str(host).is_err() {
            return Err(TargetError::Host(host.to_owned()));
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n");
        for header in headers {
            let wrong = || TargetError::Header(header.clone());
            let (name, value) = header.split_once(':').ok_or_else(wrong)?;
            let (name, value) = (name.trim(), value.trim());
            if HeaderName::from_str(name).is_err() || HeaderValue::from_str(value).is_err() {
                return Err(wrong());
            }
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        Ok(Self {
            url: url.to_owned(),
            addr,
            request: request.into_bytes(),
        })
    }

    /// The URL as it was given.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(super) fn request(&self) -> &[u8] {
        &self.request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_what_was_asked_for() {
        let target = Target::new(
            "http://127.0.0.1:81/api?x=1",
            Some("s0.shop"),
            &["x-a: b".to_owned()],
        )
        .unwrap();
        assert_eq!(target.addr(), "127.0.0.1:81".parse().unwrap());
        assert_eq!(
            target.request(),
            b"GET /api?x=1 HTTP/1.1\r\nhost: s0.shop\r\nx-a: b\r\n\r\n"
        );
        let target = Target::new("http://[::1]", None, &[]).unwrap();
        assert_eq!(target.addr(), "[::1]:80".parse().unwrap());
        assert_eq!(target.request(), b"GET / HTTP/1.1\r\nhost: [::1]\r\n\r\n");
    }

    #[test]
    fn bad_input_is_named() {
        let error = |url, host, header: &[&str]| {
            let header: Vec<String> = header.iter().map(ToString::to_string).collect();
            Target::new(url, host, &header).unwrap_err().to_string()
        };
        for url in ["", "localhost", "https://127.0.0.1/", "/path"] {
            assert_eq!(
                error(url, None, &[]),
                format!("\"{url}\" is no URL that can be loaded; write http://HOST:PORT/PATH")
            );
        }
        assert!(error("http://127.0.0.1/", Some("a b"), &[]).starts_with("\"a b\" does not fit"));
        assert!(error("http://127.0.0.1/", None, &["x"]).starts_with("\"x\" is no header"));
        assert!(error("http://127.0.0.1/", None, &["x: a\r\nb: c"]).contains("is no header"));
    }
}
