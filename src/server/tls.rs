//! The toolkit's TLS settings as rustls understands them.
//!
//! rustls has no TLS below 1.2, no CBC suites and no way to take a client certificate unseen. A setting that asks
//! for what is not supported is a fault: a server that is less strict than its file would be worse than none.

use std::sync::Arc;

use tokio_rustls::rustls::crypto::{CryptoProvider, SupportedKxGroup, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ServerConfig, WebPkiClientVerifier};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{RootCertStore, SupportedCipherSuite, SupportedProtocolVersion};

use crate::diagnostic::{Path, Problems};

/// The settings, files read.
pub(super) struct Settings {
    pub(super) certificate: Option<Pem>,
    pub(super) key: Option<Pem>,
    pub(super) client_ca: Option<Pem>,
    pub(super) client_auth_type: String,
    pub(super) client_allowed_sans: Vec<String>,
    pub(super) min_version: Option<String>,
    pub(super) max_version: Option<String>,
    pub(super) cipher_suites: Vec<String>,
    pub(super) prefer_server_order: bool,
    pub(super) curves: Vec<String>,
}

/// A PEM text and the key that it came by.
pub(super) struct Pem {
    pub(super) key: &'static str,
    /// Empty if it could not be read, which has been reported.
    pub(super) bytes: Vec<u8>,
}

/// Nothing if the settings do not ask for TLS, or if there are problems.
pub(super) fn server_config(
    settings: Settings,
    problems: &mut Problems<'_>,
) -> Option<Arc<ServerConfig>> {
    let root = Path::root().then("tls_server_config");
    let wanted = settings.certificate.is_some()
        || settings.key.is_some()
        || settings.client_ca.is_some()
        || !settings.client_auth_type.is_empty();
    if !wanted {
        return None;
    }
    let versions = versions(&settings, &root, problems);
    let provider = Arc::new(provider(&settings, &root, problems));
    let verifier = client_verifier(&settings, &provider, &root, problems);
    let (chain, key) = identity(&settings, &root, problems);
    let (chain, key) = (chain?, key?);
    if !problems.is_empty() {
        return None;
    }
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .map(|builder| match verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        });
    match builder.and_then(|builder| builder.with_single_cert(chain, key)) {
        Ok(mut config) => {
            config.ignore_client_order = settings.prefer_server_order;
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Some(Arc::new(config))
        }
        Err(error) => {
            problems.key(
                &root,
                format!("certificate and key cannot be used: {error}"),
                None,
            );
            None
        }
    }
}

fn versions(
    settings: &Settings,
    root: &Path,
    problems: &mut Problems<'_>,
) -> Vec<&'static SupportedProtocolVersion> {
    let mut version = |name: &Option<String>, key: &str, default: u8| {
        match name.as_deref() {
            None | Some("") => return default,
            Some("TLS12") => return 12,
            Some("TLS13") => return 13,
            Some("TLS10" | "TLS11") => problems.value(
                &root.then(key),
                "TLS 1.0 and 1.1 are not offered: they are not secure",
                Some("TLS12 and TLS13 are".into()),
            ),
            Some(_) => problems.value(
                &root.then(key),
                "not a TLS version",
                Some("TLS12 and TLS13 are".into()),
            ),
        }
        default
    };
    let min = version(&settings.min_version, "min_version", 12);
    let max = version(&settings.max_version, "max_version", 13);
    if min > max {
        problems.value(
            &root.then("min_version"),
            "min_version is above max_version",
            None,
        );
    }
    [(12, &TLS12), (13, &TLS13)]
        .into_iter()
        .filter(|(version, _)| (min..=max).contains(version))
        .map(|(_, version)| version)
        .collect()
}

/// Suites and curves, in the order of the settings where they name any. As in Go, the suites of TLS 1.3 cannot be
/// chosen: they are all sound.
fn provider(settings: &Settings, root: &Path, problems: &mut Problems<'_>) -> CryptoProvider {
    let mut provider = ring::default_provider();
    if !settings.cipher_suites.is_empty() {
        let offered =
            |suite: &SupportedCipherSuite| format!("{:?}", suite.suite()).replace("TLS13_", "TLS_");
        let (mut chosen, older): (Vec<_>, Vec<_>) = provider
            .cipher_suites
            .into_iter()
            .partition(|suite| suite.version() == &TLS13);
        for (index, name) in settings.cipher_suites.iter().enumerate() {
            if chosen.iter().any(|suite| offered(suite) == *name) {
                continue;
            }
            match older.iter().find(|suite| offered(suite) == *name) {
                Some(suite) => chosen.push(*suite),
                None => problems.value(
                    &root.then("cipher_suites").then(index),
                    "this cipher suite is not offered",
                    Some(format!(
                        "offered: {}",
                        older.iter().map(offered).collect::<Vec<_>>().join(", ")
                    )),
                ),
            }
        }
        provider.cipher_suites = chosen;
    }
    if !settings.curves.is_empty() {
        let mut chosen: Vec<&'static dyn SupportedKxGroup> = Vec::new();
        for (index, name) in settings.curves.iter().enumerate() {
            match name.as_str() {
                "X25519" => chosen.push(ring::kx_group::X25519),
                "CurveP256" => chosen.push(ring::kx_group::SECP256R1),
                "CurveP384" => chosen.push(ring::kx_group::SECP384R1),
                _ => problems.value(
                    &root.then("curve_preferences").then(index),
                    "this curve is not offered",
                    Some("offered: X25519, CurveP256, CurveP384".into()),
                ),
            }
        }
        provider.kx_groups = chosen;
    }
    provider
}

type Verifier = Arc<dyn tokio_rustls::rustls::server::danger::ClientCertVerifier>;

fn client_verifier(
    settings: &Settings,
    provider: &Arc<CryptoProvider>,
    root: &Path,
    problems: &mut Problems<'_>,
) -> Option<Verifier> {
    if !settings.client_allowed_sans.is_empty() {
        problems.key(
            &root.then("client_allowed_sans"),
            "the names in client certificates cannot be checked here",
            Some("give the permitted clients a client_ca of their own".into()),
        );
    }
    let at = root.then("client_auth_type");
    let optional = match settings.client_auth_type.as_str() {
        "" | "NoClientCert" => {
            if let Some(ca) = &settings.client_ca {
                problems.key(
                    &root.then(ca.key),
                    "without client_auth_type a client_ca has no effect",
                    Some("client_auth_type: RequireAndVerifyClientCert".into()),
                );
            }
            return None;
        }
        "RequireAndVerifyClientCert" => false,
        "VerifyClientCertIfGiven" => true,
        "RequestClientCert" | "RequireAnyClientCert" | "RequireClientCert" => {
            problems.value(
                &at,
                "this type does not check the certificate that it asks for, and is not offered",
                Some("use RequireAndVerifyClientCert".into()),
            );
            return None;
        }
        _ => {
            problems.value(
                &at,
                "not a client_auth_type",
                Some("NoClientCert, VerifyClientCertIfGiven or RequireAndVerifyClientCert".into()),
            );
            return None;
        }
    };
    let Some(ca) = &settings.client_ca else {
        problems.value(
            &at,
            "there is no client_ca or client_ca_file to verify against",
            None,
        );
        return None;
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(ca, root, problems)?);
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let builder = if optional {
        builder.allow_unauthenticated()
    } else {
        builder
    };
    match builder.build() {
        Ok(verifier) => Some(verifier),
        Err(error) => {
            problems.key(&root.then(ca.key), format!("cannot be used: {error}"), None);
            None
        }
    }
}

type Identity = (
    Option<Vec<CertificateDer<'static>>>,
    Option<PrivateKeyDer<'static>>,
);

fn identity(settings: &Settings, root: &Path, problems: &mut Problems<'_>) -> Identity {
    let chain = match &settings.certificate {
        Some(pem) => certificates(pem, root, problems),
        None => {
            problems.key(root, "one of cert or cert_file is missing", None);
            None
        }
    };
    let key = match &settings.key {
        Some(pem) if pem.bytes.is_empty() => None,
        Some(pem) => match PrivateKeyDer::from_pem_slice(&pem.bytes) {
            Ok(key) => Some(key),
            Err(_) => {
                // The setting's name is quoted, not its value.
                problems.key(
                    &root.then(pem.key),
                    "holds no private key in PEM form",
                    None,
                );
                None
            }
        },
        None => {
            problems.key(root, "one of key or key_file is missing", None);
            None
        }
    };
    (chain, key)
}

/// At least one.
fn certificates(
    pem: &Pem,
    root: &Path,
    problems: &mut Problems<'_>,
) -> Option<Vec<CertificateDer<'static>>> {
    if pem.bytes.is_empty() {
        return None;
    }
    let found = CertificateDer::pem_slice_iter(&pem.bytes).collect::<Result<Vec<_>, _>>();
    match found {
        Ok(found) if !found.is_empty() => Some(found),
        _ => {
            problems.key(
                &root.then(pem.key),
                "holds no certificate in PEM form",
                None,
            );
            None
        }
    }
}
