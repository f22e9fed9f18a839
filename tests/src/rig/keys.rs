//! Keys and certificates of one control plane.

use std::path::Path;

use anyhow::Context;
use rcgen::{CertificateParams, KeyPair, SanType};

/// The key that signs the tokens of service accounts, as `sa.key` and `sa.pub`.
pub(super) fn write_token_key(folder: &Path) -> anyhow::Result<()> {
    let key = KeyPair::generate()?;
    std::fs::write(folder.join("sa.key"), key.serialize_pem())?;
    std::fs::write(folder.join("sa.pub"), key.public_key_pem())?;
    Ok(())
}

/// A certificate for 127.0.0.1 as `webhook.crt` and `webhook.key`, and again as `webhook-ca.crt`: istiod watches each
/// path once only.
pub(super) fn write_webhook_certificate(folder: &Path) -> anyhow::Result<String> {
    let mut parameters = CertificateParams::new(vec!["localhost".to_owned()])?;
    parameters
        .subject_alt_names
        .push(SanType::IpAddress([127, 0, 0, 1].into()));
    let key = KeyPair::generate()?;
    let certificate = parameters.self_signed(&key)?.pem();
    for name in ["webhook.crt", "webhook-ca.crt"] {
        std::fs::write(folder.join(name), &certificate)
            .with_context(|| format!("cannot write {name} into {}", folder.display()))?;
    }
    std::fs::write(folder.join("webhook.key"), key.serialize_pem())?;
    Ok(certificate)
}
