//! `kafka:` of a source, as written and as meant: which topic is read, and how its records are.

use std::path::{Path as FilePath, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;
use serde::Deserialize;
use serde_yaml::Value;

use super::ReadFrom;
use super::value::{choice, unless_empty};
use crate::diagnostic::{Path, Problems};

/// A killed broker costs up to 14 seconds with the default settings of Kafka, which a lease must outlast.
const LEASE: Duration = Duration::from_secs(45);
const LEASE_MIN: Duration = Duration::from_secs(15);
const LEASE_MAX: Duration = Duration::from_secs(600);

/// The settings of a source that reads a topic of Apache Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kafka {
    /// Brokers to begin with, `HOST:PORT`; at least one. They name the others.
    pub brokers: Vec<String>,
    /// The topic. Each of its partitions is a shard.
    pub topic: String,
    /// Where the state of shards is kept; in the state directory if nothing is named.
    pub state: Option<StateTopic>,
    /// Where the message is in a record.
    pub format: RecordFormat,
    /// Certificates, if the connections are encrypted.
    pub tls: Option<KafkaTls>,
    /// Who we are, if the brokers ask.
    pub sasl: Option<Sasl>,
}

/// A topic that keeps the state of shards, each in the partition of the same number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateTopic {
    /// Its name.
    pub topic: String,
    /// For how long a commit allows to show a shard.
    pub lease: Duration,
}

/// Where the message is in a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordFormat {
    /// The value is the message.
    Text,
    /// The value is a JSON object, and the message a text in it: the names that lead there.
    Json(Vec<String>),
}

/// The files of TLS, all of them PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KafkaTls {
    /// Who signs the certificates of brokers; the system's authorities if nothing is named.
    pub ca_file: Option<PathBuf>,
    /// Our certificate and its key, if the brokers ask for one.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// A user and where the password is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sasl {
    /// How the password is proved.
    pub mechanism: Mechanism,
    /// The user.
    pub username: String,
    /// A file with the password; a line feed at its end does not belong to it.
    pub password_file: PathBuf,
}

/// How a password is proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// It is sent.
    Plain,
    /// RFC 7677.
    ScramSha256,
    /// The same with SHA-512.
    ScramSha512,
}

impl Mechanism {
    const ALL: [(&'static str, Mechanism); 3] = [
        ("SCRAM-SHA-512", Mechanism::ScramSha512),
        ("SCRAM-SHA-256", Mechanism::ScramSha256),
        ("PLAIN", Mechanism::Plain),
    ];

    /// As Kafka calls it.
    pub fn as_str(self) -> &'static str {
        let of_self = Self::ALL.iter().find(|(_, one)| *one == self);
        of_self.map_or("", |(name, _)| name)
    }
}

impl Kafka {
    /// The files that it names, each with the keys below `kafka` that do.
    pub fn files(&self) -> Vec<([&'static str; 2], &FilePath)> {
        let tls = self.tls.iter().flat_map(|tls| {
            let ca = tls.ca_file.iter().map(|file| (["tls", "ca_file"], file));
            let client = tls
                .client
                .iter()
                .flat_map(|(cert, key)| [(["tls", "cert_file"], cert), (["tls", "key_file"], key)]);
            ca.chain(client)
        });
        let sasl = self.sasl.iter();
        let sasl = sasl.map(|sasl| (["sasl", "password_file"], &sasl.password_file));
        tls.chain(sasl)
            .map(|(keys, file)| (keys, file.as_path()))
            .collect()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TypedKafka {
    brokers: Vec<String>,
    topic: String,
    state_topic: Option<String>,
    lease: Option<String>,
    format: Option<Value>,
    read_from: Option<String>,
    tls: Option<TypedTls>,
    sasl: Option<TypedSasl>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TypedFormat {
    json: TypedJson,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TypedJson {
    message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TypedTls {
    ca_file: Option<PathBuf>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TypedSasl {
    mechanism: String,
    username: String,
    password_file: PathBuf,
}

/// The settings, and where a shard without state begins.
pub(super) fn read_kafka(
    value: &Value,
    directory: &FilePath,
    at: &Path,
    problems: &mut Problems<'_>,
) -> Option<(Kafka, Option<ReadFrom>)> {
    let typed = problems.decode_rest::<TypedKafka>(value, at)?;
    if typed.brokers.is_empty() {
        problems.key(&at.then("brokers"), "there is no broker to ask", None);
    }
    for (index, broker) in typed.brokers.iter().enumerate() {
        let port = broker.rsplit_once(':').map(|(_, port)| port);
        let is_good = port.is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
            && !broker.starts_with(':')
            && !broker.contains([',', '/', ' ']);
        if !is_good {
            problems.value(
                &at.then("brokers").then(index),
                "must be HOST:PORT",
                Some("for instance kafka-1.example.org:9093".into()),
            );
        }
    }
    check_topic(&typed.topic, &at.then("topic"), problems);
    let state = read_state(&typed, at, problems);
    let format = match &typed.format {
        None => RecordFormat::Text,
        Some(format) => read_format(format, &at.then("format"), problems)?,
    };
    let read_from = typed.read_from.and_then(|text| {
        let choices = [("beginning", ReadFrom::Beginning), ("end", ReadFrom::End)];
        choice(&text, &choices, &at.then("read_from"), problems)
    });
    let tls = typed.tls.map(|tls| {
        let client = match (tls.cert_file, tls.key_file) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some((directory.join(cert), directory.join(key))),
            (cert, _) => {
                let (there, missing) = match cert {
                    Some(_) => ("cert_file", "key_file"),
                    None => ("key_file", "cert_file"),
                };
                let message = format!("has no effect without {missing}");
                problems.key(&at.then("tls").then(there), message, None);
                None
            }
        };
        KafkaTls {
            ca_file: tls.ca_file.map(|file| directory.join(file)),
            client,
        }
    });
    let sasl = match typed.sasl {
        None => None,
        Some(sasl) => {
            let at = at.then("sasl");
            unless_empty(&sasl.username, &at.then("username"), problems);
            Some(Sasl {
                mechanism: choice(
                    &sasl.mechanism,
                    &Mechanism::ALL,
                    &at.then("mechanism"),
                    problems,
                )?,
                username: sasl.username,
                password_file: directory.join(sasl.password_file),
            })
        }
    };
    let kafka = Kafka {
        brokers: typed.brokers,
        topic: typed.topic,
        state,
        format,
        tls,
        sasl,
    };
    Some((kafka, read_from))
}

fn check_topic(topic: &str, at: &Path, problems: &mut Problems<'_>) {
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_topic = (1..=249).contains(&topic.len())
        && topic.bytes().all(is_fit)
        && !topic.starts_with("..")
        && topic != ".";
    if !is_topic {
        problems.value(
            at,
            "no name of a topic: letters, digits, `.`, `_` and `-`, at most 249",
            None,
        );
    }
}

fn read_state(typed: &TypedKafka, at: &Path, problems: &mut Problems<'_>) -> Option<StateTopic> {
    let lease = typed.lease.as_ref().and_then(|text| {
        let lease = text.parse::<SignedDuration>().ok();
        let lease = lease.and_then(|lease| Duration::try_from(lease).ok());
        let lease = lease.filter(|lease| (LEASE_MIN..=LEASE_MAX).contains(lease));
        if lease.is_none() {
            let message = "must be a duration from 15s to 10m, such as 45s";
            problems.value(&at.then("lease"), message, None);
        }
        lease
    });
    let Some(topic) = &typed.state_topic else {
        if typed.lease.is_some() {
            let message = "has no effect without `state_topic`";
            problems.key(&at.then("lease"), message, None);
        }
        return None;
    };
    let at = at.then("state_topic");
    check_topic(topic, &at, problems);
    if *topic == typed.topic {
        problems.value(&at, "must be another topic than that of the lines", None);
    }
    Some(StateTopic {
        topic: topic.clone(),
        lease: lease.unwrap_or(LEASE),
    })
}

fn read_format(value: &Value, at: &Path, problems: &mut Problems<'_>) -> Option<RecordFormat> {
    match value.as_str() {
        Some("text") => return Some(RecordFormat::Text),
        Some(_) => {
            problems.value(
                at,
                "must be `text`, or `{json: {message: NAME}}` with the name of the field that holds the message",
                None,
            );
            return None;
        }
        None => {}
    }
    let typed = problems.decode_rest::<TypedFormat>(value, at)?;
    let names: Vec<String> = typed.json.message.split('.').map(str::to_owned).collect();
    if names.iter().any(String::is_empty) {
        problems.value(
            &at.then("json").then("message"),
            "must be the name of a field, or several with a dot between",
            Some("for instance message, or log.original".into()),
        );
    }
    Some(RecordFormat::Json(names))
}
