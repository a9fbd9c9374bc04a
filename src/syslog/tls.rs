//! Certificates of a source, for RFC 5425.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
};
use tokio_rustls::rustls::server::{ServerConfig, VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tracing::warn;

use crate::config::Tls;
use crate::validity::Validity;

/// What a handshake needs.
#[derive(Clone, Debug)]
pub(super) struct Loaded {
    pub(super) config: Arc<ServerConfig>,
    /// When the first certificate of our chain expires, Unix time in seconds.
    pub(super) expiry: Option<i64>,
}

/// What is wrong with one of the files, and the key that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) key: &'static str,
    pub(super) message: String,
}

fn read(path: &Path, key: &'static str) -> Result<Vec<u8>, Fault> {
    std::fs::read(path).map_err(|error| Fault {
        key,
        message: format!("{}: {error}", path.display()),
    })
}

/// At least one.
fn items<T: PemObject>(path: &Path, key: &'static str, noun: &str) -> Result<Vec<T>, Fault> {
    let bytes = read(path, key)?;
    match T::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>() {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(Fault {
            key,
            message: format!("{}: holds no {noun} in PEM form", path.display()),
        }),
    }
}

/// TLS 1.2 and 1.3 with these files.
pub(super) fn load(tls: &Tls) -> Result<Loaded, Fault> {
    let provider = Arc::new(ring::default_provider());
    let unusable = |key, path: &Path| {
        let path = path.display().to_string();
        move |error: &dyn std::fmt::Display| Fault {
            key,
            message: format!("{path}: cannot be used: {error}"),
        }
    };
    let verifier = match &tls.client_ca_file {
        None => None,
        Some(path) => {
            let mut roots = RootCertStore::empty();
            let authorities: Vec<CertificateDer<'_>> =
                items(path, "client_ca_file", "certificate")?;
            roots.add_parsable_certificates(authorities);
            let mut builder =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
            if let Some(path) = &tls.client_crl_file {
                let lists: Vec<CertificateRevocationListDer<'_>> =
                    items(path, "client_crl_file", "revocation list")?;
                builder = builder
                    .with_crls(lists)
                    .only_check_end_entity_revocation()
                    .allow_unknown_revocation_status();
            }
            let verifier = builder
                .build()
                .map_err(|error| match (&error, &tls.client_crl_file) {
                    (VerifierBuilderError::InvalidCrl(_), Some(path)) => Fault {
                        key: "client_crl_file",
                        message: format!(
                            "{}: cannot be used: {error} (it must be of version 2, with a number)",
                            path.display()
                        ),
                    },
                    _ => unusable("client_ca_file", path)(&error),
                });
            Some(verifier?)
        }
    };
    let chain: Vec<CertificateDer<'_>> = items(&tls.cert_file, "cert_file", "certificate")?;
    let valid: Vec<_> = chain.iter().filter_map(|one| Validity::of(one)).collect();
    let now = Timestamp::now();
    for fault in valid.iter().filter_map(|one| one.fault(now)) {
        warn!(path = %tls.cert_file.display(), "{fault}");
    }
    let expiry = valid.iter().map(|one| one.not_after.as_second()).min();
    let key = read(&tls.key_file, "key_file")?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| Fault {
        key: "key_file",
        message: format!(
            "{}: holds no private key in PEM form",
            tls.key_file.display()
        ),
    })?;
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS12, &TLS13])
        .map(|builder| match verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        });
    let fault = unusable("cert_file", &tls.cert_file);
    builder
        .and_then(|builder| builder.with_single_cert(chain, key))
        .map(|mut config| {
            // Many senders never read. A ticket that lies unread when they close makes their system reset the connection,
            // and what they sent last is lost.
            config.send_tls13_tickets = 0;
            let config = Arc::new(config);
            Loaded { config, expiry }
        })
        .map_err(|error| fault(&error))
}
