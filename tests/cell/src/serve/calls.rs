//! Calls to other services.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header, uri::Authority};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{self, Client, connect::HttpConnector},
    rt::TokioExecutor,
};

use super::ServeError;
use crate::workmodel::Service;

/// The tracing headers that muBench forwards; others end at a service, as in most applications.
pub(super) const FORWARDED: [&str; 13] = [
    "x-request-id",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "x-datadog-trace-id",
    "x-datadog-parent-id",
    "x-datadog-sampling-priority",
    "x-ot-span-context",
    "grpc-trace-bin",
    "traceparent",
    "x-cloud-trace-context",
];

/// Idle connections that are kept to one address.
const MAX_IDLE: usize = 256;
/// A peer that does not accept in this time does not answer either. The answer itself has no limit: a proxy sets it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A callee.
#[derive(Debug, Clone)]
pub(super) struct Target {
    uri: Uri,
    host: HeaderValue,
}

/// One call of one request.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) service: String,
    pub(super) target: Target,
    /// What is left of a trace for the callee.
    pub(super) trace: Option<Bytes>,
}

/// What all calls of one request share.
#[derive(Debug, Clone)]
pub(super) struct Context {
    pub(super) headers: Arc<HeaderMap>,
    pub(super) query: Option<Arc<str>>,
}

/// Why a call counts as failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error("no answer: {0}")]
    NoAnswer(#[from] legacy::Error),
    #[error("the answer broke off: {0}")]
    Body(#[from] hyper::Error),
    #[error("status {0}")]
    Status(StatusCode),
    #[error("the query does not fit into a URL: {0}")]
    Request(#[from] http::Error),
}

/// Makes calls over kept connections.
#[derive(Debug, Clone)]
pub(super) struct Caller(Client<HttpConnector, Full<Bytes>>);

// === impl Target ===

impl Target {
    pub(super) fn new(
        name: &str,
        service: &Service,
        egress: Option<SocketAddr>,
        suffix: &str,
    ) -> Result<Self, ServeError> {
        let (host, port) = match service.url.split_once(':') {
            Some((host, port)) => (host, format!(":{port}")),
            None => (service.url.as_str(), String::new()),
        };
        let host = if host.contains('.') || host == "localhost" {
            service.url.clone()
        } else {
            format!("{host}{suffix}{port}")
        };
        let wrong = || ServeError::Host {
            service: name.to_owned(),
            host: host.clone(),
        };
        let named: Authority = host.parse().map_err(|_| wrong())?;
        let authority = egress
            .map_or(Ok(named), |addr| addr.to_string().parse())
            .map_err(|_| wrong())?;
        let uri = Uri::builder()
            .scheme("http")
            .authority(authority)
            .path_and_query(service.path.as_str());
        Ok(Self {
            uri: uri.build().map_err(|_| wrong())?,
            host: HeaderValue::from_str(&host).map_err(|_| wrong())?,
        })
    }

    fn with_query(&self, query: Option<&str>) -> Result<Uri, http::Error> {
        match query {
            None => Ok(self.uri.clone()),
            Some(query) => format!("{}?{query}", self.uri).parse().map_err(Into::into),
        }
    }
}

// === impl Caller ===

impl Caller {
    pub(super) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        Self(
            Client::builder(TokioExecutor::new())
                .pool_max_idle_per_host(MAX_IDLE)
                .build(connector),
        )
    }

    /// Performs one call; anything but a whole 200 is a failure.
    pub(super) async fn call(&self, outgoing: Outgoing, context: &Context) -> Result<(), CallError> {
        let method = if outgoing.trace.is_some() {
            Method::POST
        } else {
            Method::GET
        };
        let mut request = Request::new(Full::new(outgoing.trace.unwrap_or_default()));
        *request.uri_mut() = outgoing.target.with_query(context.query.as_deref())?;
        let headers = request.headers_mut();
        headers.clone_from(&context.headers);
        headers.insert(header::HOST, outgoing.target.host);
        if method == Method::POST {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.insert("request-type", HeaderValue::from_static("tracedriven"));
        }
        *request.method_mut() = method;
        let response = self.0.request(request).await?;
        let status = response.status();
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            frame?;
        }
        if status == StatusCode::OK {
            Ok(())
        } else {
            Err(CallError::Status(status))
        }
    }
}

/// The headers of a request that go on to its callees and back to its caller.
pub(super) fn forwarded(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for name in FORWARDED {
        if let Some(value) = headers.get(name) {
            kept.insert(name, value.clone());
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workmodel::WorkModel;

    #[test]
    fn a_host_without_a_dot_gets_the_suffix() {
        let model: WorkModel =
            r#"{"s1": {}, "s2": {"url": "s2:8080"}, "s3": {"url": "s3.other.svc", "path": "/p"}}"#
                .parse()
                .unwrap();
        let egress = Some("127.0.0.1:15001".parse().unwrap());
        let target = |name| Target::new(name, model.get(name).unwrap(), egress, ".shop.svc").unwrap();
        assert_eq!(target("s1").host, "s1.shop.svc");
        assert_eq!(target("s1").uri, "http://127.0.0.1:15001/api/v1");
        assert_eq!(target("s2").host, "s2.shop.svc:8080");
        assert_eq!(target("s3").host, "s3.other.svc");
        assert_eq!(
            target("s3").with_query(Some("bid=a")).unwrap(),
            "http://127.0.0.1:15001/p?bid=a"
        );
        let direct = Target::new("s1", model.get("s1").unwrap(), None, ".shop.svc").unwrap();
        assert_eq!(direct.uri, "http://s1.shop.svc/api/v1");
        let error = Target::new("s1", model.get("s1").unwrap(), egress, " x").unwrap_err();
        assert_eq!(
            error.to_string(),
            "service s1: \"s1 x\" is no host; correct its url or --host-suffix"
        );
    }
}
