//! The configuration file: settings as typed become settings as meant.
//!
//! Every key has a default, so no file at all is a configuration too. Whatever is wrong is found here, all of it, with
//! file, line and column: unknown keys, values of the wrong kind or out of range, and settings that contradict each
//! other. Flags are merged in by whoever reads them. `docs/configuration.md` shows every key.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use globset::GlobBuilder;
use jiff::SignedDuration;
use jiff::tz::{self, TimeZone};
use serde::{Deserialize, Deserializer, de};
use serde_yaml::Value;

use crate::diagnostic::{Diagnostic, Document, Path, Problems, nearest};
use crate::metric;

/// Settings as meant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// What is followed, in the order of the file.
    pub sources: Vec<Source>,
    /// Directories whose rule packs go before the built-in ones.
    pub rule_directories: Vec<PathBuf>,
    /// What is held at most.
    pub limits: Limits,
    /// If there are any, only these appliances get series of their own; the others count under `other`.
    pub appliances: Vec<String>,
    /// What survives a restart, and where.
    pub state: State,
    /// Labels that are off by default.
    pub labels: Labels,
    /// How files are followed.
    pub tail: Tail,
}

/// Files that are followed under one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Its name, the label `source` of the exporter's own metrics. No two have the same.
    pub name: String,
    /// Paths and globs; `{appliance}` stands for a part that names the appliance, `-` for standard input.
    pub paths: Vec<String>,
    /// Paths and globs of files that are left out.
    pub exclude: Vec<String>,
    /// Where the appliance's name comes from.
    pub appliance: ApplianceFrom,
    /// Hosts that pass on lines of others under their own name; `*` means all.
    pub relays: Vec<String>,
    /// The device profile; found by the programs that are seen if there is none.
    pub profile: Option<String>,
    /// The zone of time stamps that name none.
    pub time_zone: TimeZone,
    /// Where a file that is seen for the first time is read from.
    pub read_from: ReadFrom,
}

impl Source {
    /// What `--log.file` asks for, with every setting at its default.
    ///
    /// Paths that name the appliance decide whom the lines are about, since the header may be anybody's. (A path without
    /// `{appliance}` among them leaves it to the header.)
    pub fn of_flag(paths: Vec<String>) -> Self {
        let named_by_path = paths.iter().all(|path| path.contains(APPLIANCE));
        Self {
            name: "log.file".to_owned(),
            appliance: match named_by_path {
                true => ApplianceFrom::Path,
                false => ApplianceFrom::Header,
            },
            paths,
            exclude: Vec::new(),
            relays: Vec::new(),
            profile: None,
            time_zone: TimeZone::system(),
            read_from: ReadFrom::Beginning,
        }
    }
}

/// Where an appliance's name comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplianceFrom {
    /// The host in the line's header, else the path.
    Header,
    /// What stands for `{appliance}` in the path.
    Path,
    /// All lines are about this one.
    Fixed(String),
}

/// Where a file that is seen for the first time is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFrom {
    /// Its first byte: the state of sensors and tunnels is in the old lines.
    Beginning,
    /// Its end.
    End,
}

/// What is held at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Those of the series table.
    pub table: metric::Limits,
    /// Bytes of a line; what is beyond is not looked at.
    pub line_bytes: usize,
    /// Files followed at the same time.
    pub files: usize,
    /// Threads that count lines; no more than there are cores.
    pub threads: usize,
}

impl Limits {
    /// Those of what reads lines.
    pub fn pipeline(&self) -> crate::pipeline::Limits {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        crate::pipeline::Limits {
            line_bytes: self.line_bytes,
            threads: self.threads.min(cores),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            table: metric::Limits::default(),
            line_bytes: 65_536,
            files: 10_000,
            threads: 4,
        }
    }
}

/// What survives a restart, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Where positions and values are kept; without one, a restart begins anew.
    pub directory: Option<PathBuf>,
    /// Time between two checkpoints.
    pub interval: Duration,
}

impl Default for State {
    fn default() -> Self {
        Self {
            directory: None,
            interval: Duration::from_secs(5),
        }
    }
}

/// Labels that are off by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// Addresses of remote parties, where the metrics provide for them.
    pub remote_address: bool,
}

/// How files are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// What tells that a file has changed.
    pub watcher: Watcher,
    /// Time between two looks at every file, where the watcher is not to be relied upon.
    pub poll: Duration,
    /// Time between two searches for files, whatever the watcher says.
    pub rescan: Duration,
    /// How long a rotated file must be quiet until it counts as finished.
    pub drain_grace: Duration,
}

impl Default for Tail {
    fn default() -> Self {
        Self {
            watcher: Watcher::Inotify,
            poll: Duration::from_millis(250),
            rescan: Duration::from_secs(5),
            drain_grace: Duration::from_secs(30),
        }
    }
}

/// What tells that a file has changed; the truth is looked up in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watcher {
    /// Linux' inotify; where there is none, linemux.
    Inotify,
    /// The event layer of linemux.
    Linemux,
    /// A look at every file now and then.
    Poll,
}

impl Config {
    /// Reads and checks a file. Directories that are not absolute are meant from where the file is.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(path: &FilePath) -> Result<Self, Vec<Diagnostic>> {
        let name = path.display().to_string();
        let unreadable = |error: String| {
            vec![Diagnostic {
                file: name.as_str().into(),
                line: 1,
                column: 1,
                text: String::new(),
                message: format!("cannot be read: {error}"),
                hint: None,
            }]
        };
        let bytes = fs::read(path).map_err(|error| unreadable(error.to_string()))?;
        let text = String::from_utf8(bytes).map_err(|_| unreadable("not UTF-8".into()))?;
        Self::parse(&name, &text, path.parent().unwrap_or(FilePath::new("")))
    }

    /// The appliances that are named in it, whether they are heard of or not, in order.
    pub fn expected_appliances(&self) -> Vec<Arc<str>> {
        let fixed = self
            .sources
            .iter()
            .filter_map(|source| match &source.appliance {
                ApplianceFrom::Fixed(name) => Some(name),
                ApplianceFrom::Header | ApplianceFrom::Path => None,
            });
        let names: BTreeSet<&String> = self.appliances.iter().chain(fixed).collect();
        names.into_iter().map(|name| name.as_str().into()).collect()
    }

    /// Checks a text that stands in `file` and is meant from `directory`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(file: &str, text: &str, directory: &FilePath) -> Result<Self, Vec<Diagnostic>> {
        let document = Document::parse(file, text).map_err(|fault| vec![fault])?;
        let mut problems = Problems::new(&document);
        let config = read(&document.value, directory, &mut problems);
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(problems.into_diagnostics()),
        }
    }
}

/// The top level as typed. Each part is read on its own, so that a fault in one does not hide one in another.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TypedFile {
    sources: Option<Vec<Value>>,
    rules: Option<Value>,
    limits: Option<Value>,
    appliances: Option<Vec<String>>,
    state: Option<Value>,
    labels: Option<Value>,
    tail: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TypedSource {
    name: String,
    paths: Vec<String>,
    exclude: Option<Vec<String>>,
    appliance: Option<String>,
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

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TypedRules {
    directories: Option<Vec<PathBuf>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TypedLimits {
    series_per_metric: Option<u64>,
    series_per_metric_and_appliance: Option<u64>,
    appliances: Option<u64>,
    label_bytes: Option<u64>,
    line_bytes: Option<u64>,
    files: Option<u64>,
    threads: Option<u64>,
    series: Option<u64>,
    bytes: Option<u64>,
    appliance_expiry: Option<Days>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TypedState {
    directory: Option<PathBuf>,
    interval: Option<Span>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TypedLabels {
    remote_address: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TypedTail {
    watcher: Option<String>,
    poll: Option<Span>,
    rescan: Option<Span>,
    drain_grace: Option<Span>,
}

/// A duration that may be given in days.
struct Days(u64);

impl<'de> Deserialize<'de> for Days {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let text = value.as_str().unwrap_or_default();
        let days = text
            .strip_suffix('d')
            .and_then(|days| days.parse::<u64>().ok());
        let seconds = days.map(|days| days.saturating_mul(86_400)).or_else(|| {
            let duration = text.parse::<SignedDuration>().ok()?;
            Some(Duration::try_from(duration).ok()?.as_secs())
        });
        seconds
            .map(Self)
            .ok_or_else(|| de::Error::custom("not a duration such as 30d or 12h"))
    }
}

/// A duration with its unit.
struct Span(Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        value
            .as_str()
            .and_then(|text| text.parse::<SignedDuration>().ok())
            .and_then(|duration| Duration::try_from(duration).ok())
            .map(Self)
            .ok_or_else(|| de::Error::custom("not a duration such as 250ms, 5s or 1m30s"))
    }
}

fn read(value: &Value, directory: &FilePath, problems: &mut Problems<'_>) -> Option<Config> {
    let root = Path::root();
    let typed = problems.decode::<TypedFile>(value, &root)?;
    let appliances = typed.appliances.unwrap_or_default();
    for (index, name) in appliances.iter().enumerate() {
        let at = root.then("appliances").then(index);
        unless_empty(name, &at, problems);
        if appliances[..index].contains(name) {
            problems.value(&at, "this appliance is listed twice", None);
        }
    }
    let sources = read_sources(typed.sources.unwrap_or_default(), &appliances, problems);

    let mut section = Sections { root, problems };
    let rules: TypedRules = section.read("rules", typed.rules);
    let limits: TypedLimits = section.read("limits", typed.limits);
    let state: TypedState = section.read("state", typed.state);
    let labels: TypedLabels = section.read("labels", typed.labels);
    let tail: TypedTail = section.read("tail", typed.tail);
    Some(Config {
        sources,
        rule_directories: rules
            .directories
            .unwrap_or_default()
            .into_iter()
            .map(|path| directory.join(path))
            .collect(),
        limits: section.limits(&limits),
        appliances,
        state: State {
            directory: state.directory.map(|path| directory.join(path)),
            interval: section.span(
                "state",
                "interval",
                state.interval,
                State::default().interval,
            ),
        },
        labels: Labels {
            remote_address: labels.remote_address.unwrap_or_default(),
        },
        tail: section.tail(tail),
    })
}

/// Reads the parts that are not a list.
struct Sections<'p, 'd> {
    root: Path,
    problems: &'p mut Problems<'d>,
}

impl Sections<'_, '_> {
    fn read<T: Default + de::DeserializeOwned>(&mut self, key: &str, value: Option<Value>) -> T {
        value
            .filter(|value| !value.is_null())
            .and_then(|value| self.problems.decode(&value, &self.root.then(key)))
            .unwrap_or_default()
    }

    fn within<T: PartialOrd + Display>(
        &mut self,
        section: &str,
        key: &str,
        value: T,
        min: T,
        max: T,
    ) -> T {
        if value < min || value > max {
            self.problems.value(
                &self.root.then(section).then(key),
                format!("must be from {min} to {max}"),
                None,
            );
        }
        value
    }

    fn limits(&mut self, typed: &TypedLimits) -> Limits {
        let default = Limits::default();
        let mut limit = |key, value: Option<u64>, default: usize, min: u64, max: u64| {
            let value = value.unwrap_or(default as u64);
            self.within("limits", key, value, min, max) as usize
        };
        let table = metric::Limits {
            series_per_metric: limit(
                "series_per_metric",
                typed.series_per_metric,
                default.table.series_per_metric,
                1,
                10_000_000,
            ),
            series_per_metric_and_appliance: limit(
                "series_per_metric_and_appliance",
                typed.series_per_metric_and_appliance,
                default.table.series_per_metric_and_appliance,
                1,
                10_000_000,
            ),
            appliances: limit(
                "appliances",
                typed.appliances,
                default.table.appliances,
                1,
                1_000_000,
            ),
            label_bytes: limit(
                "label_bytes",
                typed.label_bytes,
                default.table.label_bytes,
                16,
                65_536,
            ),
            series: limit(
                "series",
                typed.series,
                default.table.series,
                1_000,
                100_000_000,
            ),
            bytes: limit("bytes", typed.bytes, default.table.bytes, 1 << 20, 1 << 40),
            appliance_expiry_seconds: None,
        };
        let expiry = typed.appliance_expiry.as_ref().map(|expiry| {
            self.within(
                "limits",
                "appliance_expiry",
                expiry.0,
                3_600,
                u64::from(u32::MAX),
            )
        });
        let mut limit = |key, value: Option<u64>, default: usize, min: u64, max: u64| {
            let value = value.unwrap_or(default as u64);
            self.within("limits", key, value, min, max) as usize
        };
        let table = metric::Limits {
            appliance_expiry_seconds: expiry.map(|seconds| seconds as u32),
            ..table
        };
        Limits {
            table,
            line_bytes: limit(
                "line_bytes",
                typed.line_bytes,
                default.line_bytes,
                1024,
                16 << 20,
            ),
            files: limit("files", typed.files, default.files, 1, 1_000_000),
            threads: limit("threads", typed.threads, default.threads, 1, 64),
        }
    }

    fn tail(&mut self, typed: TypedTail) -> Tail {
        let default = Tail::default();
        let watcher = typed.watcher.map_or(Some(default.watcher), |text| {
            let at = self.root.then("tail").then("watcher");
            choice(
                &text,
                &[
                    ("inotify", Watcher::Inotify),
                    ("linemux", Watcher::Linemux),
                    ("poll", Watcher::Poll),
                ],
                &at,
                self.problems,
            )
        });
        Tail {
            watcher: watcher.unwrap_or(default.watcher),
            poll: self.span("tail", "poll", typed.poll, default.poll),
            rescan: self.span("tail", "rescan", typed.rescan, default.rescan),
            drain_grace: self.span(
                "tail",
                "drain_grace",
                typed.drain_grace,
                default.drain_grace,
            ),
        }
    }

    fn span(
        &mut self,
        section: &str,
        key: &str,
        typed: Option<Span>,
        default: Duration,
    ) -> Duration {
        let Some(Span(span)) = typed else {
            return default;
        };
        if span < Duration::from_millis(1) || span > Duration::from_secs(24 * 3600) {
            self.problems.value(
                &self.root.then(section).then(key),
                "must be from 1ms to 24h",
                None,
            );
        }
        span
    }
}

fn read_sources(
    values: Vec<Value>,
    appliances: &[String],
    problems: &mut Problems<'_>,
) -> Vec<Source> {
    let mut sources: Vec<Source> = Vec::new();
    for (index, value) in values.iter().enumerate() {
        let at = Path::root().then("sources").then(index);
        let Some(typed) = problems.decode::<TypedSource>(value, &at) else {
            continue;
        };
        unless_empty(&typed.name, &at.then("name"), problems);
        for other in &sources {
            if other.name == typed.name {
                problems.value(&at.then("name"), "another source has this name", None);
            }
            for (number, path) in typed.paths.iter().enumerate() {
                if other.paths.contains(path) {
                    problems.value(
                        &at.then("paths").then(number),
                        format!(
                            "the source `{}` follows this path, its lines would count twice",
                            other.name
                        ),
                        None,
                    );
                }
            }
        }
        sources.push(read_source(typed, &at, appliances, problems));
    }
    sources
}

fn read_source(
    typed: TypedSource,
    at: &Path,
    appliances: &[String],
    problems: &mut Problems<'_>,
) -> Source {
    if typed.paths.is_empty() {
        problems.key(&at.then("paths"), "there is no path to follow", None);
    }
    let exclude = typed.exclude.unwrap_or_default();
    for (key, paths) in [("paths", &typed.paths), ("exclude", &exclude)] {
        for (number, path) in paths.iter().enumerate() {
            check_path(path, &at.then(key).then(number), problems);
        }
    }
    let appliance = match typed.appliance.as_deref() {
        None | Some("header") => ApplianceFrom::Header,
        Some("path") => {
            for (number, path) in typed.paths.iter().enumerate() {
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
        Some(name) => {
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
    let relays = match typed.relays {
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
    };
    if !relays.is_empty() && appliance != ApplianceFrom::Header {
        problems.key(
            &at.then("relays"),
            "has no effect, since `appliance` says whom the lines are about",
            None,
        );
    }
    let time_zone = match &typed.time_zone {
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
    };
    let read_from = typed.read_from.and_then(|text| {
        let choices = [("beginning", ReadFrom::Beginning), ("end", ReadFrom::End)];
        choice(&text, &choices, &at.then("read_from"), problems)
    });
    Source {
        name: typed.name,
        paths: typed.paths,
        exclude,
        appliance,
        relays,
        profile: typed.profile,
        time_zone,
        read_from: read_from.unwrap_or(ReadFrom::Beginning),
    }
}

/// The part of a path that names the appliance.
const APPLIANCE: &str = "{appliance}";

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

fn choice<T: Copy>(
    text: &str,
    choices: &[(&str, T)],
    at: &Path,
    problems: &mut Problems<'_>,
) -> Option<T> {
    let found = choices.iter().find(|(name, _)| *name == text);
    if found.is_none() {
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        let hint =
            nearest(text, names.iter().copied()).map(|near| format!("did you mean `{near}`?"));
        problems.value(at, format!("must be {}", names.join(" or ")), hint);
    }
    found.map(|(_, value)| *value)
}

fn unless_empty(text: &str, at: &Path, problems: &mut Problems<'_>) {
    if text.trim().is_empty() {
        problems.value(at, "must not be empty", None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Config, String> {
        Config::parse("c", text, FilePath::new("/etc/exporter")).map_err(|faults| {
            faults
                .iter()
                .map(Diagnostic::to_string)
                .collect::<Vec<_>>()
                .join("\n")
        })
    }

    #[test]
    fn no_settings_are_the_defaults() {
        for text in ["", "# nothing\n", "sources:\nlimits:\ntail: {}\n"] {
            assert_eq!(check(text), Ok(Config::default()), "{text}");
        }
    }

    #[test]
    fn a_flag_whose_paths_name_the_appliance_asks_nothing_of_the_header() {
        let of = |paths: &[&str]| {
            Source::of_flag(paths.iter().map(|path| (*path).to_owned()).collect()).appliance
        };
        assert_eq!(of(&["/l/{appliance}.log"]), ApplianceFrom::Path);
        assert_eq!(of(&["/l/*.log"]), ApplianceFrom::Header);
        assert_eq!(of(&["/l/{appliance}.log", "/l/x"]), ApplianceFrom::Header);
    }

    #[test]
    fn relays_that_have_no_effect_are_refused() {
        for (relays, fault) in [
            ("relays: r1", "neither `'*'` nor a list"),
            ("relays: ['']", "must not be empty"),
            ("relays: [r1], appliance: hsm1", "has no effect"),
        ] {
            let text = format!("sources: [{{name: a, paths: [/a], {relays}}}]\n");
            let said = check(&text).unwrap_err();
            assert!(said.contains(fault), "{said}");
        }
    }

    #[test]
    fn settings_as_meant() {
        let config = check(
            "sources:\n\
             - {name: luna, paths: ['/var/log/{appliance}/*.log', '/x/{appliance}/**/{a,b}'], exclude: [/x/y], appliance: path,\n\
             \x20  profile: luna, time_zone: Europe/Berlin, read_from: end}\n\
             - {name: gw, paths: ['-'], appliance: gw1}\n\
             - {name: site, paths: [/s], relays: [r1, 192.0.2.7]}\n\
             - {name: lab, paths: [/l], relays: '*'}\n\
             rules: {directories: [mine, /opt/rules]}\n\
             limits: {series_per_metric: 5, line_bytes: 4096}\n\
             appliances: [gw1]\n\
             state: {directory: state, interval: 1m30s}\n\
             labels: {remote_address: true}\n\
             tail: {watcher: poll, poll: 100ms}\n",
        )
        .unwrap();
        assert_eq!(
            config,
            Config {
                sources: vec![
                    Source {
                        name: "luna".into(),
                        paths: vec![
                            "/var/log/{appliance}/*.log".into(),
                            "/x/{appliance}/**/{a,b}".into()
                        ],
                        exclude: vec!["/x/y".into()],
                        appliance: ApplianceFrom::Path,
                        relays: vec![],
                        profile: Some("luna".into()),
                        time_zone: TimeZone::get("Europe/Berlin").unwrap(),
                        read_from: ReadFrom::End,
                    },
                    Source {
                        name: "gw".into(),
                        paths: vec!["-".into()],
                        exclude: vec![],
                        appliance: ApplianceFrom::Fixed("gw1".into()),
                        relays: vec![],
                        profile: None,
                        time_zone: TimeZone::system(),
                        read_from: ReadFrom::Beginning,
                    },
                    Source {
                        name: "site".into(),
                        relays: vec!["r1".into(), "192.0.2.7".into()],
                        ..Source::of_flag(vec!["/s".into()])
                    },
                    Source {
                        name: "lab".into(),
                        relays: vec!["*".into()],
                        ..Source::of_flag(vec!["/l".into()])
                    },
                ],
                rule_directories: vec!["/etc/exporter/mine".into(), "/opt/rules".into()],
                limits: Limits {
                    table: metric::Limits {
                        series_per_metric: 5,
                        ..metric::Limits::default()
                    },
                    line_bytes: 4096,
                    ..Limits::default()
                },
                appliances: vec!["gw1".into()],
                state: State {
                    directory: Some("/etc/exporter/state".into()),
                    interval: Duration::from_secs(90),
                },
                labels: Labels {
                    remote_address: true
                },
                tail: Tail {
                    watcher: Watcher::Poll,
                    poll: Duration::from_millis(100),
                    ..Tail::default()
                },
            }
        );
    }

    #[test]
    fn what_is_wrong_is_told_where_it_stands() {
        for (text, expected) in [
            (
                "source: []",
                "c:1:1: unknown key: `source`\n  hint: did you mean `sources`?",
            ),
            (
                "sources: luna",
                "c:1:10: invalid type: string \"luna\", expected a sequence: `luna`",
            ),
            (
                "sources: [{paths: [/x]}]",
                "c:1:11: missing field `name`: `sources: [{paths: [/x]}]`",
            ),
            (
                "sources:\n- name: a\n  paths: [x/y]\n  read_frm: end\n- name: a\n  paths: []\n  read_from: ende\n",
                "c:4:3: unknown key: `read_frm`\n  hint: did you mean `read_from`?\n\
                 c:6:3: there is no path to follow: `paths`\n\
                 c:7:14: must be beginning or end: `ende`\n  hint: did you mean `end`?",
            ),
            (
                "sources:\n- {name: a, paths: [x/y]}\n- {name: a, paths: ['/x/{hsm}', '/x/[']}\n",
                "c:2:21: not an absolute path: `x/y`\n  hint: write it from the root, as /var/log/…\n\
                 c:3:10: another source has this name: `a`\n\
                 c:3:21: `{hsm}` has no meaning: `/x/{hsm}`\n  \
                 hint: the part that names the appliance is written `{appliance}`, alternatives `{a,b}`\n\
                 c:3:33: unclosed character class; missing ']': `/x/[`",
            ),
            (
                "sources: [{name: a, paths: [/x]}, {name: b, paths: [/y, /x]}]",
                "c:1:57: the source `a` follows this path, its lines would count twice: `/x`",
            ),
            (
                "sources: [{name: a, paths: [/x], appliance: path}]",
                "c:1:29: `appliance: path` needs a part of the path that names the appliance: `/x`\n  \
                 hint: for instance /var/log/appliances/{appliance}/messages",
            ),
            (
                "appliances: [hsm1, '', hsm1]\nsources: [{name: a, paths: [/x], appliance: hms1}]",
                "c:1:20: must not be empty\nc:1:24: this appliance is listed twice: `hsm1`\n\
                 c:2:45: not in the list of appliances, so its lines would count under `other`: `hms1`\n  \
                 hint: did you mean `hsm1`?",
            ),
            (
                "sources: [{name: a, paths: [/x], time_zone: Europe/Berln}]",
                "c:1:45: not a time zone that this machine knows: `Europe/Berln`\n  hint: did you mean `Europe/Berlin`?",
            ),
            (
                "limits: {appliances: 0, line_bytes: 1e9, files: 3}\nstate: {directry: x}",
                "c:1:37: invalid type: floating point `1000000000.0`, expected u64: `1e9`\n\
                 c:2:9: unknown key: `directry`\n  hint: did you mean `directory`?",
            ),
            (
                "limits: {appliances: 0, files: 1000001}",
                "c:1:22: must be from 1 to 1000000: `0`\nc:1:32: must be from 1 to 1000000: `1000001`",
            ),
            (
                "state: {interval: 5}\ntail: {watcher: inotfy, poll: 0s, rescan: 25h, drain_grace: -1s}",
                "c:1:19: not a duration such as 250ms, 5s or 1m30s: `5`\n\
                 c:2:61: not a duration such as 250ms, 5s or 1m30s: `-1s`",
            ),
            (
                "tail: {watcher: inotfy, poll: 0s, rescan: 25h}",
                "c:1:17: must be inotify or linemux or poll: `inotfy`\n  hint: did you mean `inotify`?\n\
                 c:1:31: must be from 1ms to 24h: `0s`\nc:1:43: must be from 1ms to 24h: `25h`",
            ),
            (
                "labels: {remote_address: yes}",
                "c:1:26: invalid type: string \"yes\", expected a boolean: `yes`",
            ),
            (
                "limits: {files: 1, files: 2}",
                "c:1:9: limits: duplicate entry with key \"files\": `limits: {files: 1, files: 2}`",
            ),
        ] {
            match check(text) {
                Ok(_) => panic!("accepted: {text}"),
                Err(found) => assert_eq!(found, expected, "{text}"),
            }
        }
    }

    /// The blocks of the document that are fenced as `fence`.
    fn blocks(fence: &str) -> Vec<&'static str> {
        include_str!("../docs/configuration.md")
            .split("\n```")
            .filter_map(|part| part.strip_prefix(fence)?.strip_prefix('\n'))
            .collect()
    }

    #[test]
    fn the_examples_of_the_document_are_good() {
        let examples = blocks("yaml");
        assert!(examples.len() > 5);
        for example in &examples {
            if let Err(found) = check(example) {
                panic!("{found}\n{example}");
            }
        }
        // The last one shows every default.
        let all = examples.last().unwrap();
        assert_eq!(check(all), Ok(Config::default()));
        for default in ["line_bytes", "drain_grace", "interval", "remote_address"] {
            assert!(all.contains(default));
        }
    }

    #[test]
    fn every_key_is_in_the_document() {
        let document = include_str!("../docs/configuration.md");
        let mut keys = 0;
        for section in [
            "x_y_z: 1",
            "sources: [{x_y_z: 1}]",
            "rules: {x_y_z: 1}",
            "limits: {x_y_z: 1}",
            "state: {x_y_z: 1}",
            "labels: {x_y_z: 1}",
            "tail: {x_y_z: 1}",
        ] {
            let found = check(section).unwrap_err();
            let (_, known) = found.split_once("known keys: ").unwrap_or_default();
            for key in known.lines().next().unwrap_or_default().split(", ") {
                assert!(
                    document.contains(&format!("`{key}`")),
                    "{section}: `{key}` is missing"
                );
                keys += 1;
            }
        }
        assert!(keys > 20, "{keys}");
    }
}
