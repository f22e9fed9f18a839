//! GET of the controller's state, with limits in time and size.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::Uri;
use axum::http::uri::{Parts, PathAndQuery};
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
    /// A client of the controller at `address`: `http://HOST:PORT`, with a path where a proxy puts it under one.
    ///
    /// # Errors
    /// The address is none.
    pub fn new(address: &str) -> Result<Self, StatusError> {
        let state = state_of(address).map_err(|why| StatusError::Address {
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

fn state_of(address: &str) -> Result<Uri, String> {
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
    let path = format!("{}/api/v1/state", prefix.trim_end_matches('/'));
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
            assert_eq!(state_of(address).map(|uri| uri.to_string()), Ok(url.to_owned()));
        }
    }

    #[test]
    fn what_is_no_address_is_said_with_its_remedy() {
        for (address, part) in [
            ("https://gma", "only http"),
            ("", "give one like"),
            ("a b", "invalid"),
        ] {
            let error = Client::new(address).unwrap_err().to_string();
            assert!(error.contains(part), "{address}: {error}");
        }
    }
}
