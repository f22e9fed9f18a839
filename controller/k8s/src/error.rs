//! Why the cluster does not do what it is asked.

use std::error::Error;
use std::time::Duration;

use kube::core::Status;

/// An effect that was not performed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ActError {
    /// Asking again is in vain: the cluster, or a rule of this controller, will never allow it.
    #[error("{0}")]
    Refused(String),
    /// It may be done when asked again.
    #[error("{0}")]
    Failed(String),
}

/// Longest wait for one answer of the API server; a round has 5 s.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Asks the API server, for a bounded time.
pub(crate) async fn ask<T>(
    what: &str,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, ActError> {
    match tokio::time::timeout(ANSWER_WITHIN, request).await {
        Ok(answer) => answer.map_err(|error| classify(what, &error)),
        Err(_) => Err(ActError::Failed(format!(
            "{what}: the API server did not answer within {} s",
            ANSWER_WITHIN.as_secs()
        ))),
    }
}

/// Whether an error is the API server's answer with this code.
pub(crate) fn has_code(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

fn classify(what: &str, error: &kube::Error) -> ActError {
    let kube::Error::Api(status) = error else {
        return ActError::Failed(format!("{what}: {}", explain(error)));
    };
    let text = format!("{what}: {}", said(status));
    match status.code {
        // A webhook's refusal or a schema's.
        400 | 422 => ActError::Refused(text),
        403 if is_of_a_webhook(status) => ActError::Refused(text),
        403 => ActError::Failed(format!(
            "{text}; apply the roles of deploy/base/rbac.yaml, or correct the quota"
        )),
        409 => ActError::Failed(format!("{text}; it is read again and tried again")),
        500 if lacks_a_webhook(status) => {
            ActError::Failed(format!("{text}; it is tried again: does istiod run?"))
        }
        _ => ActError::Failed(text),
    }
}

fn is_of_a_webhook(status: &Status) -> bool {
    status.message.contains("admission webhook")
}

/// The API server could not ask the one whose consent it needs.
fn lacks_a_webhook(status: &Status) -> bool {
    status.message.contains("failed calling webhook")
}

fn said(status: &Status) -> String {
    let text = if status.message.is_empty() {
        format!("{} ({})", status.reason, status.code)
    } else {
        status.message.clone()
    };
    if status.code == 429 {
        return format!(
            "the API server takes no more requests now (429, {text}); if that lasts, see which FlowSchema limits this account"
        );
    }
    text
}

/// An error with its causes.
pub(crate) fn explain(error: &(dyn Error + 'static)) -> String {
    let mut text = match error.downcast_ref::<kube::Error>() {
        Some(kube::Error::Api(status)) => return said(status),
        _ => error.to_string(),
    };
    let mut at = error.source();
    while let Some(cause) = at {
        let cause_text = match cause.downcast_ref::<Status>() {
            Some(status) => said(status),
            None => cause.to_string(),
        };
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        at = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_tried_again_and_says_what_to_look_at() {
        let busy = "Too many requests, please try again later.";
        let away =
            "Internal error occurred: failed calling webhook \"rev.validation.istio.io\": connection refused";
        for (code, message, says) in [(429, busy, "FlowSchema"), (500, away, "does istiod run?")] {
            let status = Status::failure(message, "").with_code(code);
            let error = kube::Error::Api(status.boxed());
            let act = classify("DestinationRule shop/gma-web", &error);
            assert!(
                matches!(&act, ActError::Failed(text) if text.contains(message) && text.contains(says)),
                "{act}"
            );
            assert!(explain(&error).contains(message));
        }
    }
}
