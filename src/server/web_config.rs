//! `--web.config.file`: TLS, passwords, headers and a rate limit, in the format of Prometheus' exporter-toolkit.
//!
//! A file that works for another exporter works here, but for what would be insecure or what rustls does not have;
//! that is refused by name, never ignored. The files, certificates included, are read again for each connection and
//! request, and parsed when their bytes have changed. If they are wrong then, the error is logged and what was in
//! force stays in force. Whether there is TLS at all is settled at the start.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path as FilePath, PathBuf};
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::header::{HeaderName, HeaderValue};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde::{Deserialize, Deserializer, de};
use tokio_rustls::rustls::ServerConfig;
use xxhash_rust::xxh3::xxh3_128;

use super::{auth, tls};
use crate::diagnostic::{Diagnostic, Document, Path, Problems, nearest};
use crate::validity::{Validity, validities};

/// The file as last read without fault.
pub struct WebConfig {
    path: PathBuf,
    // Held while files are compared and parsed; whoever waits for it would do the same work.
    state: Mutex<State>,
}

struct State {
    current: Arc<Loaded>,
    /// What `current` was made of: every file and a hash of its bytes.
    seen: Seen,
    /// The last failure since and when it happened.
    failed: Option<(String, Instant)>,
}

type Seen = Vec<(PathBuf, u128)>;

/// What the file says.
pub(super) struct Loaded {
    pub(super) tls: Option<Arc<ServerConfig>>,
    /// When the first certificate of the chain expires.
    expiry: Option<Timestamp>,
    /// What an operator should know of certificate and key.
    warnings: Vec<String>,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// Bcrypt hashes by user; nobody is asked for a password if there are none.
    pub(super) users: BTreeMap<String, String>,
    bucket: Option<Mutex<Bucket>>,
}

/// The highest cost of a bcrypt hash. An attempt takes twice as long with each more; with this one, about two seconds.
const COST_MAX: u32 = 15;

/// A wrong file is not parsed again before.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

impl WebConfig {
    /// Reads and checks the file and all that it refers to.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(path: impl Into<PathBuf>) -> Result<Self, Vec<Diagnostic>> {
        let path = path.into();
        let (loaded, seen) = load(&path)?;
        loaded.warn(&path);
        Ok(Self {
            path,
            state: Mutex::new(State {
                current: Arc::new(loaded),
                seen,
                failed: None,
            }),
        })
    }

    /// What holds now. Reads files.
    pub(super) fn current(&self) -> Arc<Loaded> {
        let mut state = self.state.lock();
        let unchanged = state
            .seen
            .iter()
            .all(|(path, hash)| fs::read(path).is_ok_and(|bytes| xxh3_128(&bytes) == *hash));
        if unchanged {
            state.failed = None;
            return state.current.clone();
        }
        if state
            .failed
            .as_ref()
            .is_some_and(|(_, at)| at.elapsed() < RETRY_PAUSE)
        {
            return state.current.clone();
        }
        let loaded = load(&self.path)
            .map_err(|faults| join(&faults))
            .and_then(|(loaded, seen)| {
                if loaded.tls.is_some() == state.current.tls.is_some() {
                    Ok((loaded, seen))
                } else {
                    Err("TLS is switched on or off by a restart only".to_owned())
                }
            });
        match loaded {
            Ok((loaded, seen)) => {
                tracing::info!(file = %self.path.display(), "web configuration read anew");
                loaded.warn(&self.path);
                *state = State {
                    current: Arc::new(loaded),
                    seen,
                    failed: None,
                };
            }
            Err(error) => {
                if state.failed.as_ref().is_none_or(|(last, _)| *last != error) {
                    tracing::error!(file = %self.path.display(), err = error, "web configuration is wrong, the former one holds");
                }
                state.failed = Some((error, Instant::now()));
            }
        }
        state.current.clone()
    }

    /// When the certificate expires, or the first one of its chain, Unix time in seconds; nothing without TLS.
    pub fn certificate_expiry(&self) -> Option<f64> {
        let expiry = self.state.lock().current.expiry?;
        Some(expiry.as_second() as f64)
    }

    /// There is TLS; that does not change.
    pub(crate) fn has_tls(&self) -> bool {
        self.state.lock().current.tls.is_some()
    }

    /// Users must give a password now.
    pub(crate) fn has_passwords(&self) -> bool {
        !self.state.lock().current.users.is_empty()
    }
}

impl fmt::Debug for WebConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Passwords' hashes and keys stay out of logs.
        f.debug_struct("WebConfig")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Loaded {
    fn warn(&self, file: &FilePath) {
        for warning in &self.warnings {
            tracing::warn!(file = %file.display(), "{warning}");
        }
    }

    /// Takes a request's token, if there is a rate limit.
    pub(super) fn admits(&self, now: Instant) -> bool {
        self.bucket
            .as_ref()
            .is_none_or(|bucket| bucket.lock().take(now))
    }
}

/// One token each `interval`, at most `burst` of them saved.
struct Bucket {
    interval: Duration,
    burst: f64,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    fn take(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.filled);
        self.filled = now;
        self.tokens =
            (self.tokens + since.as_secs_f64() / self.interval.as_secs_f64()).min(self.burst);
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

fn join(faults: &[Diagnostic]) -> String {
    faults
        .iter()
        .map(Diagnostic::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

/// The file as written. A key without a value is a key not given.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    tls_server_config: Option<TlsServerConfig>,
    http_server_config: Option<HttpServerConfig>,
    basic_auth_users: Option<BTreeMap<String, String>>,
    rate_limit: Option<RateLimit>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TlsServerConfig {
    cert: Option<String>,
    key: Option<String>,
    client_ca: Option<String>,
    cert_file: Option<String>,
    key_file: Option<String>,
    client_ca_file: Option<String>,
    client_auth_type: Option<String>,
    client_allowed_sans: Option<Vec<String>>,
    min_version: Option<String>,
    max_version: Option<String>,
    cipher_suites: Option<Vec<String>>,
    prefer_server_cipher_suites: Option<bool>,
    curve_preferences: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HttpServerConfig {
    /// Both values are met by HTTP/1.1, which is what we speak.
    #[serde(rename = "http2")]
    _http2: Option<bool>,
    headers: Option<BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RateLimit {
    interval: Interval,
    burst: u32,
}

/// A duration as Go writes it, `0` for none.
#[derive(Default)]
struct Interval(Duration);

impl<'de> Deserialize<'de> for Interval {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_yaml::Value::deserialize(deserializer)?;
        if value.as_u64() == Some(0) || value.as_str() == Some("0") {
            return Ok(Self::default());
        }
        value
            .as_str()
            .and_then(|text| SignedDuration::from_str(text).ok())
            .and_then(|duration| Duration::try_from(duration).ok())
            .map(Self)
            .ok_or_else(|| de::Error::custom("not a duration such as 500ms, 1s or 1m30s"))
    }
}

/// Headers that may be set, and the values that may be; any if there are none.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Content-Security-Policy", &[]),
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
];

fn load(path: &FilePath) -> Result<(Loaded, Seen), Vec<Diagnostic>> {
    let name = path.display().to_string();
    let bytes = fs::read(path).map_err(|error| vec![unreadable(&name, &error.to_string())])?;
    let mut seen = vec![(path.to_owned(), xxh3_128(&bytes))];
    let text = String::from_utf8(bytes).map_err(|_| vec![unreadable(&name, "not UTF-8")])?;
    let document = Document::parse(&name, &text).map_err(|fault| vec![fault])?;
    let mut problems = Problems::new(&document);
    let loaded = problems
        .decode::<File>(&document.value, &Path::root())
        .map(|file| {
            let directory = path.parent().unwrap_or(FilePath::new(""));
            let users = file.basic_auth_users.unwrap_or_default();
            check_users(&users, &mut problems);
            let mut warnings = Vec::new();
            let tls = file.tls_server_config.and_then(|settings| {
                load_tls(settings, directory, &mut seen, &mut warnings, &mut problems)
            });
            let (tls, expiry) = tls.unzip();
            Loaded {
                tls,
                expiry: expiry.flatten(),
                warnings,
                headers: headers(file.http_server_config.unwrap_or_default(), &mut problems),
                users,
                bucket: bucket(file.rate_limit.unwrap_or_default(), &mut problems),
            }
        });
    match loaded {
        Some(loaded) if problems.is_empty() => Ok((loaded, seen)),
        _ => Err(problems.into_diagnostics()),
    }
}

fn unreadable(file: &str, error: &str) -> Diagnostic {
    Diagnostic {
        file: file.into(),
        line: 1,
        column: 1,
        text: String::new(),
        message: format!("cannot be read: {error}"),
        hint: None,
    }
}

fn check_users(users: &BTreeMap<String, String>, problems: &mut Problems<'_>) {
    for (user, hash) in users {
        let wrong = match auth::cost(hash) {
            None => "the password of this user is not a bcrypt hash".to_owned(),
            Some(cost) if cost > COST_MAX => {
                format!(
                    "the password of this user has a bcrypt cost of {cost}, at most {COST_MAX} is possible"
                )
            }
            Some(_) => continue,
        };
        // The key is quoted, not the value: it may be the password itself.
        problems.key(
            &Path::root().then("basic_auth_users").then(user.as_str()),
            wrong,
            Some("make one with `htpasswd -nBC 10 \"\"`".into()),
        );
    }
}

fn headers(
    settings: HttpServerConfig,
    problems: &mut Problems<'_>,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::new();
    for (name, value) in settings.headers.unwrap_or_default() {
        let at = Path::root()
            .then("http_server_config")
            .then("headers")
            .then(name.as_str());
        let Some((_, allowed)) = HEADERS.iter().find(|(known, _)| *known == name) else {
            let known = HEADERS.map(|(known, _)| known);
            let hint = nearest(&name, known).map_or_else(
                || format!("headers that can be: {}", known.join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            problems.key(&at, "this header cannot be set", Some(hint));
            continue;
        };
        if value.is_empty() {
            continue;
        }
        if !allowed.is_empty() && !allowed.contains(&value.as_str()) {
            problems.value(&at, format!("must be {}", allowed.join(" or ")), None);
        }
        match (HeaderName::try_from(&name), HeaderValue::try_from(&value)) {
            (Ok(name), Ok(value)) => headers.push((name, value)),
            _ => problems.value(&at, "not a header value", None),
        }
    }
    headers
}

fn bucket(settings: RateLimit, problems: &mut Problems<'_>) -> Option<Mutex<Bucket>> {
    let Interval(interval) = settings.interval;
    if interval.is_zero() {
        return None;
    }
    if settings.burst == 0 {
        let at = Path::root().then("rate_limit").then("burst");
        problems.value(
            &at,
            "with an interval, `burst` must be at least 1: with 0 no request would pass",
            None,
        );
    }
    Some(Mutex::new(Bucket {
        interval,
        burst: settings.burst.into(),
        tokens: settings.burst.into(),
        filled: Instant::now(),
    }))
}

/// Reads the files that the settings name and hands everything to [`tls`], which judges it.
fn load_tls(
    settings: TlsServerConfig,
    directory: &FilePath,
    seen: &mut Seen,
    warnings: &mut Vec<String>,
    problems: &mut Problems<'_>,
) -> Option<(Arc<ServerConfig>, Option<Timestamp>)> {
    let mut pem = |inline: Option<String>, file: Option<String>, key: &'static str| {
        // As the toolkit does it: a file goes before text in place.
        let Some(file) = file.filter(|file| !file.is_empty()) else {
            return inline.filter(|text| !text.is_empty()).map(|text| tls::Pem {
                key,
                bytes: text.into_bytes(),
            });
        };
        let key = match key {
            "cert" => "cert_file",
            "key" => "key_file",
            _ => "client_ca_file",
        };
        let path = directory.join(file);
        match fs::read(&path) {
            Ok(bytes) => {
                if key == "key_file" && is_readable_by_all(&path) {
                    warnings.push(format!(
                        "every user can read the private key {}",
                        path.display()
                    ));
                }
                seen.push((path, xxh3_128(&bytes)));
                Some(tls::Pem { key, bytes })
            }
            Err(error) => {
                problems.value(
                    &Path::root().then("tls_server_config").then(key),
                    format!("cannot be read: {error}"),
                    None,
                );
                Some(tls::Pem {
                    key,
                    bytes: Vec::new(),
                })
            }
        }
    };
    let certificate = pem(settings.cert, settings.cert_file, "cert");
    let key = pem(settings.key, settings.key_file, "key");
    let client_ca = pem(settings.client_ca, settings.client_ca_file, "client_ca");
    let now = Timestamp::now();
    let chain = certificate.as_ref().map_or(&[][..], |pem| &pem.bytes);
    let valid: Vec<Validity> = validities(chain).collect();
    warnings.extend(valid.iter().filter_map(|one| one.fault(now)));
    let expiry = valid.iter().map(|one| one.not_after).min();
    let config = tls::server_config(
        tls::Settings {
            certificate,
            key,
            client_ca,
            client_auth_type: settings.client_auth_type.unwrap_or_default(),
            client_allowed_sans: settings.client_allowed_sans.unwrap_or_default(),
            min_version: settings.min_version,
            max_version: settings.max_version,
            cipher_suites: settings.cipher_suites.unwrap_or_default(),
            prefer_server_order: settings.prefer_server_cipher_suites.unwrap_or(true),
            curves: settings.curve_preferences.unwrap_or_default(),
        },
        problems,
    )?;
    Some((config, expiry))
}

fn is_readable_by_all(path: &FilePath) -> bool {
    fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o004 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Loaded, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.yml");
        fs::write(&path, text).unwrap();
        let prefix = format!("{}:", path.display());
        load(&path)
            .map(|(loaded, _)| loaded)
            .map_err(|faults| join(&faults).replace(&prefix, ""))
    }

    #[test]
    fn what_is_wrong_is_told_where_it_stands() {
        for (text, expected) in [
            (
                "tls_config: {}",
                "1:1: unknown key: `tls_config`\n  hint: known keys: tls_server_config, http_server_config, basic_auth_users, rate_limit",
            ),
            (
                "tls_server_config:\n  cert_filse: x",
                "2:3: unknown key: `cert_filse`\n  hint: did you mean `cert_file`?",
            ),
            (
                "tls_server_config:\n  key_file: gone.key\n",
                "1:1: one of cert or cert_file is missing: `tls_server_config`\n\
                 2:13: cannot be read: No such file or directory (os error 2): `gone.key`",
            ),
            (
                "tls_server_config: {client_auth_type: NoClientCert}",
                "1:1: one of cert or cert_file is missing: `tls_server_config`\n\
                 1:1: one of key or key_file is missing: `tls_server_config`",
            ),
            (
                "tls_server_config: {cert: x, key: hush}",
                "1:21: holds no certificate in PEM form: `cert`\n1:30: holds no private key in PEM form: `key`",
            ),
            (
                "basic_auth_users:\n  ann: secret\n",
                "2:3: the password of this user is not a bcrypt hash: `ann`\n  hint: make one with `htpasswd -nBC 10 \"\"`",
            ),
            (
                "basic_auth_users:\n  ann: $2y$16$Nq7dJ/zs7urm7bNgFLGXbuCARKc2CPpLBLFE5tXd2tIl38Ruse1kq\n",
                "2:3: the password of this user has a bcrypt cost of 16, at most 15 is possible: `ann`\n  hint: make one with `htpasswd -nBC 10 \"\"`",
            ),
            (
                "basic_auth_users: [a]",
                "1:19: must be keys with values, as in `key: value`: `basic_auth_users: [a]`",
            ),
            (
                "http_server_config:\n  headers:\n    X-Frame-Option: deny\n    X-Content-Type-Options: sniff\n",
                "3:5: this header cannot be set: `X-Frame-Option`\n  hint: did you mean `X-Frame-Options`?\n\
                 4:29: must be nosniff: `sniff`",
            ),
            (
                "rate_limit: {interval: soon, burst: 1}",
                "1:24: not a duration such as 500ms, 1s or 1m30s: `soon`",
            ),
            (
                "rate_limit: {interval: 1s}",
                "1:13: with an interval, `burst` must be at least 1: with 0 no request would pass: `rate_limit: {interval: 1s}`",
            ),
        ] {
            match check(text) {
                Ok(_) => panic!("accepted: {text}"),
                Err(found) => assert_eq!(found, expected, "{text}"),
            }
        }
    }

    #[test]
    fn tls_settings_that_cannot_be_met_are_refused() {
        for (settings, expected) in [
            ("min_version: TLS10", "TLS 1.0 and 1.1 are not offered"),
            ("max_version: TLS11", "TLS 1.0 and 1.1 are not offered"),
            ("min_version: SSL3", "not a TLS version"),
            (
                "min_version: TLS13, max_version: TLS12",
                "min_version is above max_version",
            ),
            (
                "cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA]",
                "not offered",
            ),
            ("cipher_suites: [TLS_INVENTED]", "not offered"),
            ("curve_preferences: [CurveP521]", "not offered"),
            ("client_auth_type: RequireAnyClientCert", "does not check"),
            ("client_auth_type: RequestClientCert", "does not check"),
            ("client_auth_type: Maybe", "not a client_auth_type"),
            (
                "client_auth_type: RequireAndVerifyClientCert",
                "no client_ca",
            ),
            ("client_ca: x", "without client_auth_type"),
            ("client_allowed_sans: [a]", "cannot be checked"),
        ] {
            let text = format!("tls_server_config: {{cert: x, key: y, {settings}}}");
            match check(&text) {
                Ok(_) => panic!("accepted: {text}"),
                Err(found) => assert!(found.contains(expected), "{text}: {found}"),
            }
        }
    }

    #[test]
    fn what_the_toolkit_takes_is_taken() {
        for text in [
            "",
            "tls_server_config:\nbasic_auth_users:\n",
            "tls_server_config: {}\nhttp_server_config: {http2: false}\n",
            "rate_limit: {interval: 0, burst: 0}",
            "rate_limit: {interval: 1m30s, burst: 4}",
            "http_server_config: {headers: {X-Frame-Options: '', X-XSS-Protection: anything}}",
            "basic_auth_users: {ann: $2y$10$Nq7dJ/zs7urm7bNgFLGXbuCARKc2CPpLBLFE5tXd2tIl38Ruse1kq}",
        ] {
            let loaded = check(text).unwrap_or_else(|found| panic!("{text}: {found}"));
            assert!(loaded.tls.is_none());
        }
    }

    #[test]
    fn the_example_of_the_document_lacks_only_its_files() {
        let document = include_str!("../../docs/configuration.md");
        let (_, example) = document.split_once("```yaml web\n").unwrap();
        let (example, _) = example.split_once("```").unwrap();
        let found = check(example).err().unwrap();
        assert_eq!(found.lines().count(), 3, "{found}");
        assert_eq!(
            found.matches("cannot be read: No such file").count(),
            3,
            "{found}"
        );
    }

    #[test]
    fn a_bucket_refills_and_does_not_overflow() {
        let start = Instant::now();
        let mut bucket = Bucket {
            interval: Duration::from_secs(2),
            burst: 2.0,
            tokens: 2.0,
            filled: start,
        };
        let mut take_at = |seconds| bucket.take(start + Duration::from_secs(seconds));
        let taken = [0, 0, 0, 1, 2, 2, 3, 100, 100, 100].map(&mut take_at);
        assert_eq!(
            taken,
            [
                true, true, false, false, true, false, false, true, true, false
            ]
        );
    }
}
