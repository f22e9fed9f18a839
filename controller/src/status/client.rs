//! GET of the controller's state, with limits in time and size.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::uri::{Parts, PathAndQuery};
use axum::http::{StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::error::StatusError;
use super::read::StateView;

/// For the connection: a machine in the same network answers in milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// For the whole answer: as long as the controller gives itself.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The state of 10,000 proxies with their totals has some 20 MB; what is far above is none.
const MAX_BYTES: usize = 128 * 1024 * 1024;

/// A controller somewhere.
#[derive(Debug)]
pub struct Client {
    http: Http<HttpConnector, Empty<Bytes>>,
    state: Uri,
}

impl Client {
    /// A client of the controller at `address`: `http://HOST:PORT`, with a path where a proxy puts it under one; of the
    /// object `namespace/name`, or of the oldest.
    ///
    /// # Errors
    /// The address is none, or no object has such a name.
    pub fn new(address: &str, object: Option<&str>) -> Result<Self, StatusError> {
        if let Some(object) = object.filter(|object| !is_name(object)) {
            return Err(StatusError::Object {
                object: object.to_owned(),
            });
        }
        let state = state_of(address, object).map_err(|why| StatusError::Address {
            address: address.to_owned(),
            why,
        })?;
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        Ok(Self {
            http: Http::builder(TokioExecutor::new()).build(connector),
            state,
        })
    }

    /// The state now.
    ///
    /// # Errors
    /// There is no answer, or none that can be read.
    pub async fn state(&self) -> Result<StateView, StatusError> {
        let url = || self.state.to_string();
        let body = self.answer().await?;
        let mut json = serde_json::Deserializer::from_slice(&body);
        serde_path_to_error::deserialize(&mut json).map_err(|source| {
            if source.inner().is_data() {
                StatusError::Unknown { url: url(), source }
            } else {
                StatusError::Stranger {
                    url: url(),
                    what: "something that is no JSON".to_owned(),
                }
            }
        })
    }

    /// The state now, as it came.
    ///
    /// # Errors
    /// There is no answer, or it is no success.
    pub async fn answer(&self) -> Result<Bytes, StatusError> {
        let asked = tokio::time::timeout(TIMEOUT, self.body()).await;
        asked.map_err(|_| StatusError::TimedOut {
            url: self.state.to_string(),
            within: TIMEOUT,
        })?
    }

    async fn body(&self) -> Result<Bytes, StatusError> {
        let url = || self.state.to_string();
        let answer = self
            .http
            .get(self.state.clone())
            .await
            .map_err(|source| refused(url(), source))?;
        if answer.status() == StatusCode::NOT_FOUND && self.state.query().is_some() {
            return Err(StatusError::NoObject { url: url() });
        }
        if !answer.status().is_success() {
            return Err(StatusError::Stranger {
                url: url(),
                what: answer.status().to_string(),
            });
        }
        let body = Limited::new(answer.into_body(), MAX_BYTES).collect().await;
        let body = body.map_err(|error| StatusError::Broken {
            url: url(),
            why: if error.is::<LengthLimitError>() {
                format!("it is larger than {} MiB", MAX_BYTES >> 20)
            } else {
                error.to_string()
            },
        })?;
        Ok(body.to_bytes())
    }
}

/// Nobody there, or somebody who speaks no HTTP.
fn refused(url: String, source: hyper_util::client::legacy::Error) -> StatusError {
    if source.is_connect() {
        StatusError::Unreachable { url, source }
    } else {
        StatusError::Stranger {
            url,
            what: "something that is no HTTP".to_owned(),
        }
    }
}

/// Whether it is `namespace/name`, of letters that need no escape in a URL.
fn is_name(object: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
    let is_part = |part: &str| !part.is_empty() && part.chars().all(is_plain);
    object
        .split_once('/')
        .is_some_and(|(namespace, name)| is_part(namespace) && is_part(name))
}

fn state_of(address: &str, object: Option<&str>) -> Result<Uri, String> {
    let full = if address.contains("://") {
        address.to_owned()
    } else {
        format!("http://{address}")
    };
    let mut parts: Parts = full
        .parse::<Uri>()
        .map_err(|error| error.to_string())?
        .into_parts();
    if parts.scheme.as_ref().is_none_or(|scheme| scheme != "http") {
        return Err("only http is spoken; forward the port where TLS is in between".to_owned());
    }
    let prefix = parts.path_and_query.as_ref().map_or("", PathAndQuery::path);
    let mut path = format!("{}/api/v1/state", prefix.trim_end_matches('/'));
    if let Some(object) = object {
        path.push_str(&format!("?object={object}"));
    }
    parts.path_and_query = Some(path.parse().map_err(|_| format!("`{path}` is no path"))?);
    Uri::from_parts(parts).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_leave_out_the_scheme_and_have_a_path() {
        for (address, url) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080/api/v1/state"),
            ("http://gma:80/", "http://gma:80/api/v1/state"),
            ("http://host/proxy/gma", "http://host/proxy/gma/api/v1/state"),
            ("[::1]:1", "http://[::1]:1/api/v1/state"),
        ] {
            assert_eq!(
                state_of(address, None).map(|uri| uri.to_string()),
                Ok(url.to_owned())
            );
        }
        let url = state_of("gma", Some("shop/shop")).map(|uri| uri.to_string());
        assert_eq!(url, Ok("http://gma/api/v1/state?object=shop/shop".to_owned()));
        for name in ["shop", "/shop", "a/b/c", "a/b&c"] {
            let error = Client::new("gma", Some(name)).unwrap_err().to_string();
            assert!(error.contains("NAMESPACE/NAME"), "{name}: {error}");
        }
    }

    #[test]
    fn what_is_no_address_is_said_with_its_remedy() {
        for (address, part) in [
            ("https://gma", "only http"),
            ("", "give one like"),
            ("a b", "invalid"),
        ] {
            let error = Client::new(address, None).unwrap_err().to_string();
            assert!(error.contains(part), "{address}: {error}");
        }
    }
}
