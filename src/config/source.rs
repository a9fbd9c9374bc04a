//! `sources:`, as written and as meant.

use std::path::Path as FilePath;

use globset::GlobBuilder;
use jiff::tz::{self, TimeZone};
use serde::Deserialize;
use serde_yaml::Value;

use super::kafka::read_kafka;
use super::syslog::{Identify, ListenAddress, TypedAppliance, read_identify, read_syslog};
use super::value::{choice, unless_empty};
use super::{ApplianceFrom, FLAG_SOURCE, Input, ReadFrom, SYSLOG_FLAG_SOURCE, Source};
use crate::diagnostic::{Diagnostic, Path, Problems, nearest};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TypedSource {
    name: String,
    paths: Option<Vec<String>>,
    syslog: Option<Value>,
    kafka: Option<Value>,
    exclude: Option<Vec<String>>,
    appliance: Option<TypedAppliance>,
    relays: Option<Relays>,
    profile: Option<String>,
    time_zone: Option<String>,
    read_from: Option<String>,
}

/// `'*'`, or a list of hosts.
#[derive(Deserialize)]
#[serde(untagged)]
enum Relays {
    All(String),
    Hosts(Vec<String>),
}

pub(super) fn read_sources(
    values: Vec<Value>,
    appliances: &[String],
    directory: &FilePath,
    problems: &mut Problems<'_>,
) -> Vec<Source> {
    let mut sources: Vec<Source> = Vec::new();
    for (index, value) in values.iter().enumerate() {
        let at = Path::root().then("sources").then(index);
        let Some(typed) = problems.decode_rest::<TypedSource>(value, &at) else {
            continue;
        };
        unless_empty(&typed.name, &at.then("name"), problems);
        for (name, flag) in [
            (FLAG_SOURCE, "--log.file"),
            (SYSLOG_FLAG_SOURCE, "--syslog.listen"),
        ] {
            if typed.name == name {
                let message = format!("this is the name of the source that the flag {flag} makes");
                problems.value(&at.then("name"), message, None);
            }
        }
        for other in &sources {
            if other.name == typed.name {
                problems.value(&at.then("name"), "another source has this name", None);
            }
            for (number, path) in typed.paths.iter().flatten().enumerate() {
                if other.paths().contains(path) {
                    problems.value(
                        &at.then("paths").then(number),
                        format!(
                            "the source `{}` comes first and follows this path already",
                            other.name
                        ),
                        None,
                    );
                }
            }
        }
        let source = read_source(value, typed, &at, appliances, directory, problems);
        let topic = |source: &Source| source.kafka().map(|kafka| kafka.topic.clone());
        let mut others = sources.iter().filter(|other| topic(other).is_some());
        if let Some(other) = others.find(|other| topic(other) == topic(&source)) {
            let message = format!("the source `{}` reads this topic already", other.name);
            problems.value(&at.then("kafka").then("topic"), message, None);
        }
        let state = |source: &Source| Some(source.kafka()?.state.as_ref()?.topic.clone());
        let mut others = sources.iter().filter(|other| state(other).is_some());
        if let Some(other) = others.find(|other| state(other) == state(&source)) {
            let message = format!("the source `{}` keeps its state there already", other.name);
            problems.value(&at.then("kafka").then("state_topic"), message, None);
        }
        sources.push(source);
    }
    if problems.is_empty() {
        check_listen(&sources, problems);
    }
    sources
}

/// Every address is listened on once. All of them are right, and stand in the order in which they are written.
fn check_listen(sources: &[Source], problems: &mut Problems<'_>) {
    let mut taken: Vec<&ListenAddress> = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        let listen = source.syslog().map_or(&[][..], |syslog| &syslog.listen);
        for (number, address) in listen.iter().enumerate() {
            if let Some(other) = taken.iter().find(|other| other.is_same_socket(address)) {
                let at = Path::root().then("sources").then(index);
                let at = at.then("syslog").then("listen").then(number);
                problems.value(&at, format!("`{other}` has this port already"), None);
            }
            taken.push(address);
        }
    }
}

fn read_source(
    value: &Value,
    typed: TypedSource,
    at: &Path,
    appliances: &[String],
    directory: &FilePath,
    problems: &mut Problems<'_>,
) -> Source {
    let is_file = typed.syslog.is_none() && typed.kafka.is_none();
    check_kind(value, &typed, at, problems);
    let identify = match typed.syslog {
        None => None,
        Some(_) => read_identify(typed.appliance.as_ref(), &at.then("appliance"), problems),
    };
    let by_header = identify
        .as_ref()
        .map(|ways| ways.contains(&Identify::Header));
    let is_named = identify.is_some();
    let syslog = typed
        .syslog
        .as_ref()
        .and_then(|value| read_syslog(value, identify, directory, &at.then("syslog"), problems));
    let has_syslog = typed.syslog.is_some();
    let is_kafka = typed.kafka.is_some();
    let (kafka, kafka_from) = typed
        .kafka
        .as_ref()
        .and_then(|value| read_kafka(value, directory, &at.then("kafka"), problems))
        .unzip();
    let paths = typed.paths.unwrap_or_default();
    let exclude = typed.exclude.unwrap_or_default();
    for (key, paths) in [("paths", &paths), ("exclude", &exclude)] {
        for (number, path) in paths.iter().enumerate() {
            check_path(path, &at.then(key).then(number), problems);
        }
    }
    let appliance = match &typed.appliance {
        None => ApplianceFrom::Header,
        Some(_) if is_named => ApplianceFrom::Header,
        Some(TypedAppliance::Several(_)) => {
            problems.value(
                &at.then("appliance"),
                "a list is for sources with `syslog`",
                None,
            );
            ApplianceFrom::Header
        }
        Some(TypedAppliance::One(word)) if word == "header" => ApplianceFrom::Header,
        Some(TypedAppliance::One(word)) if word == "key" && is_kafka => ApplianceFrom::Key,
        Some(TypedAppliance::One(word)) if word == "path" => {
            if !is_file {
                problems.value(
                    &at.then("appliance"),
                    "messages from the network have no path",
                    Some(match is_kafka {
                        true => "key, header, or the name of the appliance".into(),
                        false => {
                            "certificate, address, header, or the name of the appliance".into()
                        }
                    }),
                );
            }
            for (number, path) in paths.iter().enumerate() {
                if !path.contains(APPLIANCE) {
                    problems.value(
                        &at.then("paths").then(number),
                        "`appliance: path` needs a part of the path that names the appliance",
                        Some("for instance /var/log/appliances/{appliance}/messages".into()),
                    );
                }
            }
            ApplianceFrom::Path
        }
        Some(TypedAppliance::One(name)) => {
            unless_empty(name, &at.then("appliance"), problems);
            if !appliances.is_empty() && !appliances.iter().any(|listed| listed == name) {
                problems.value(
                    &at.then("appliance"),
                    "not in the list of appliances, so its lines would count under `other`",
                    nearest(name, appliances.iter().map(String::as_str))
                        .map(|near| format!("did you mean `{near}`?")),
                );
            }
            ApplianceFrom::Fixed(name.to_owned())
        }
    };
    if let Some(profile) = &typed.profile {
        unless_empty(profile, &at.then("profile"), problems);
    }
    let relays = read_relays(typed.relays, at, problems);
    let by_header = by_header.unwrap_or(!has_syslog && appliance == ApplianceFrom::Header);
    if !relays.is_empty() && !by_header {
        problems.key(
            &at.then("relays"),
            "has no effect, since `appliance` says whom the lines are about",
            None,
        );
    }
    let time_zone = read_time_zone(typed.time_zone.as_deref(), at, problems);
    let read_from = typed.read_from.and_then(|text| {
        let choices = [("beginning", ReadFrom::Beginning), ("end", ReadFrom::End)];
        choice(&text, &choices, &at.then("read_from"), problems)
    });
    Source {
        name: typed.name,
        // Of several, which are a fault, one.
        input: (syslog.map(Input::Syslog))
            .or(kafka.map(Input::Kafka))
            .unwrap_or(Input::Files { paths, exclude }),
        appliance,
        relays,
        profile: typed.profile,
        time_zone,
        read_from: read_from
            .or(kafka_from.flatten())
            .unwrap_or(ReadFrom::Beginning),
    }
}

/// A source follows files, listens or reads a topic, and has no key of another kind.
fn check_kind(value: &Value, typed: &TypedSource, at: &Path, problems: &mut Problems<'_>) {
    let kinds = [
        ("paths", typed.paths.is_some()),
        ("syslog", typed.syslog.is_some()),
        ("kafka", typed.kafka.is_some()),
    ];
    let mut there = kinds.iter().filter(|(_, is_there)| *is_there);
    match (there.next(), there.next()) {
        // What is there and wrong has been reported.
        (None, _) if kinds.iter().any(|(key, _)| value.get(key).is_some()) => {}
        (None, _) => problems.key(at, "one of `paths`, `syslog` and `kafka` is missing", None),
        (Some(_), Some((second, _))) => problems.key(
            &at.then(*second),
            "a source has one of `paths`, `syslog` and `kafka`",
            Some("make two sources of it".into()),
        ),
        (Some(_), None) => {}
    }
    if let (Some(paths), None, None) = (&typed.paths, &typed.syslog, &typed.kafka)
        && paths.is_empty()
    {
        problems.key(&at.then("paths"), "there is no path to follow", None);
    }
    if typed.syslog.is_some() || typed.kafka.is_some() {
        for (key, is_there) in [
            ("exclude", typed.exclude.is_some()),
            ("read_from", typed.read_from.is_some()),
        ] {
            if is_there {
                let hint = (typed.kafka.is_some() && key == "read_from")
                    .then(|| "it belongs below `kafka`".into());
                problems.key(&at.then(key), "has no effect without `paths`", hint);
            }
        }
    }
}

fn read_relays(relays: Option<Relays>, at: &Path, problems: &mut Problems<'_>) -> Vec<String> {
    match relays {
        None => Vec::new(),
        Some(Relays::All(all)) => {
            if all != "*" {
                problems.value(
                    &at.then("relays"),
                    "neither `'*'` nor a list",
                    Some(format!("write [{all}]")),
                );
            }
            vec![all]
        }
        Some(Relays::Hosts(hosts)) => {
            for (number, host) in hosts.iter().enumerate() {
                unless_empty(host, &at.then("relays").then(number), problems);
            }
            hosts
        }
    }
}

fn read_time_zone(name: Option<&str>, at: &Path, problems: &mut Problems<'_>) -> TimeZone {
    match name {
        None => TimeZone::system(),
        Some(name) => TimeZone::get(name).unwrap_or_else(|_| {
            let known: Vec<_> = tz::db()
                .available()
                .map(|known| known.to_string())
                .collect();
            let hint = match nearest(name, known.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None if known.is_empty() => {
                    "this machine has no time zone database; install tzdata".into()
                }
                None => "a name of the IANA database, such as Europe/Berlin or UTC".into(),
            };
            problems.value(
                &at.then("time_zone"),
                "not a time zone that this machine knows",
                Some(hint),
            );
            TimeZone::UTC
        }),
    }
}

/// `TZ` is no zone that this machine knows: what names no zone is then read as UTC.
pub(crate) fn unknown_system_zone() -> Option<Diagnostic> {
    let zone = std::env::var_os("TZ").filter(|zone| !zone.is_empty())?;
    TimeZone::try_system().err()?;
    let message = "not a time zone that this machine knows: UTC is used";
    let hint = "a name of the IANA database, such as Europe/Berlin; or `time_zone` of a source";
    let mut warning = Diagnostic::of_file("TZ", message, Some(hint.to_owned()));
    warning.text = zone.to_string_lossy().into_owned();
    Some(warning)
}

/// The part of a path that names the appliance.
pub(super) const APPLIANCE: &str = "{appliance}";

fn check_path(path: &str, at: &Path, problems: &mut Problems<'_>) {
    if path == "-" {
        return;
    }
    if !path.starts_with('/') {
        problems.value(
            at,
            "not an absolute path",
            Some("write it from the root, as /var/log/…".into()),
        );
        return;
    }
    if path.matches(APPLIANCE).count() > 1 {
        problems.value(at, "`{appliance}` stands in it more than once", None);
    }
    let glob = path.replace(APPLIANCE, "*");
    // Braces hold alternatives; a single word in them was meant as a name.
    let word = glob.split('{').skip(1).find_map(|rest| {
        let (inside, _) = rest.split_once('}')?;
        (!inside.contains(',')).then_some(inside)
    });
    if let Some(word) = word {
        problems.value(
            at,
            format!("`{{{word}}}` has no meaning"),
            Some(format!(
                "the part that names the appliance is written `{APPLIANCE}`, alternatives `{{a,b}}`"
            )),
        );
    }
    if let Err(error) = GlobBuilder::new(&glob).literal_separator(true).build() {
        problems.value(at, error.kind().to_string(), None);
    }
}
