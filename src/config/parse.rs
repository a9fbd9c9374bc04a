//! The settings but for the sources: as written, and as meant.

use std::collections::HashSet;
use std::path::{Path as FilePath, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, de};
use serde_yaml::Value;

use super::source::read_sources;
use super::value::{choice, unless_empty};
use super::{Config, Labels, Limits, Replica, State, Tail, Watcher, Written};
use crate::diagnostic::{Path, Problems};
use crate::metric;

/// The top level as typed. Each part is read on its own, so that a fault in one does not hide one in another.
#[derive(Default, Deserialize)]
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

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TypedRules {
    directories: Option<Vec<PathBuf>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TypedLimits {
    series_per_metric: Option<Value>,
    series_per_metric_and_appliance: Option<Value>,
    appliances: Option<Value>,
    label_bytes: Option<Value>,
    line_bytes: Option<Value>,
    files: Option<Value>,
    threads: Option<Value>,
    series: Option<Value>,
    bytes: Option<Value>,
    appliance_expiry: Option<Value>,
    born: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TypedState {
    directory: Option<PathBuf>,
    interval: Option<Value>,
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
    poll: Option<Value>,
    rescan: Option<Value>,
    drain_grace: Option<Value>,
}

/// What the file means, as far as it can be read; everything that is wrong is in `problems`.
pub(super) fn read(value: &Value, directory: &FilePath, problems: &mut Problems<'_>) -> Config {
    let root = Path::root();
    let typed = problems
        .decode_rest::<TypedFile>(value, &root)
        .unwrap_or_default();
    let appliances = typed.appliances.unwrap_or_default();
    let mut names = HashSet::new();
    for (index, name) in appliances.iter().enumerate() {
        let at = root.then("appliances").then(index);
        unless_empty(name, &at, problems);
        if name.contains(['*', '?', '[', ']', '{', '}']) {
            problems.value(
                &at,
                "the list takes names, not patterns",
                Some("write each appliance's name".into()),
            );
        }
        if !names.insert(name.to_lowercase()) {
            problems.value(&at, "this appliance is listed twice", None);
        }
    }
    let sources = read_sources(
        typed.sources.unwrap_or_default(),
        &appliances,
        directory,
        problems,
    );

    let mut section = Sections { root, problems };
    let rules: TypedRules = section.read("rules", typed.rules);
    let limits: TypedLimits = section.read("limits", typed.limits);
    let state: TypedState = section.read("state", typed.state);
    let labels: TypedLabels = section.read("labels", typed.labels);
    let tail: TypedTail = section.read("tail", typed.tail);
    Config {
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
                state.interval.as_ref(),
                State::default().interval,
            ),
        },
        labels: Labels {
            remote_address: labels.remote_address.unwrap_or_default(),
        },
        tail: section.tail(tail),
        replica: Replica::default(),
        written: Written::default(),
    }
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
            .and_then(|value| self.problems.decode_rest(&value, &self.root.then(key)))
            .unwrap_or_default()
    }

    fn limits(&mut self, typed: &TypedLimits) -> Limits {
        let default = Limits::default();
        let mut limit = |key, value: &Option<Value>, default: usize, min: u64, max: u64| {
            let Some(value) = value.as_ref().filter(|value| !value.is_null()) else {
                return default;
            };
            match value.as_u64() {
                Some(value) if (min..=max).contains(&value) => value as usize,
                _ => {
                    self.problems.value(
                        &self.root.then("limits").then(key),
                        format!("must be a whole number from {min} to {max}"),
                        None,
                    );
                    default
                }
            }
        };
        let table = metric::Limits {
            series_per_metric: limit(
                "series_per_metric",
                &typed.series_per_metric,
                default.table.series_per_metric,
                1,
                10_000_000,
            ),
            series_per_metric_and_appliance: limit(
                "series_per_metric_and_appliance",
                &typed.series_per_metric_and_appliance,
                default.table.series_per_metric_and_appliance,
                1,
                10_000_000,
            ),
            appliances: limit(
                "appliances",
                &typed.appliances,
                default.table.appliances,
                1,
                1_000_000,
            ),
            label_bytes: limit(
                "label_bytes",
                &typed.label_bytes,
                default.table.label_bytes,
                16,
                65_536,
            ),
            series: limit(
                "series",
                &typed.series,
                default.table.series,
                1_000,
                100_000_000,
            ),
            bytes: limit("bytes", &typed.bytes, default.table.bytes, 1 << 20, 1 << 40),
            appliance_expiry_seconds: None,
            are_counters_lazy: false,
        };
        let limits = Limits {
            table,
            line_bytes: limit(
                "line_bytes",
                &typed.line_bytes,
                default.line_bytes,
                1024,
                16 << 20,
            ),
            files: limit("files", &typed.files, default.files, 1, 1_000_000),
            threads: limit("threads", &typed.threads, default.threads, 1, 64),
        };
        let appliance_expiry_seconds = self.expiry(typed.appliance_expiry.as_ref());
        let are_counters_lazy = typed.born.as_ref().and_then(|text| {
            let at = self.root.then("limits").then("born");
            choice(
                text,
                &[("at_once", false), ("lazily", true)],
                &at,
                self.problems,
            )
        });
        Limits {
            table: metric::Limits {
                appliance_expiry_seconds,
                are_counters_lazy: are_counters_lazy.unwrap_or_default(),
                ..limits.table
            },
            ..limits
        }
    }

    /// `limits.appliance_expiry`, in seconds.
    fn expiry(&mut self, typed: Option<&Value>) -> Option<u32> {
        let typed = typed.filter(|value| !value.is_null())?;
        let text = typed.as_str().unwrap_or_default();
        let days = text
            .strip_suffix('d')
            .and_then(|days| days.parse::<u64>().ok());
        let seconds = days.map(|days| days.saturating_mul(86_400)).or_else(|| {
            let duration = text.parse::<SignedDuration>().ok()?;
            Some(Duration::try_from(duration).ok()?.as_secs())
        });
        let seconds = seconds.and_then(|seconds| u32::try_from(seconds).ok());
        let seconds = seconds.filter(|seconds| *seconds >= 3_600);
        if seconds.is_none() {
            self.problems.value(
                &self.root.then("limits").then("appliance_expiry"),
                "must be a duration of 1h or more, such as 30d or 12h",
                None,
            );
        }
        seconds
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
            poll: self.span("tail", "poll", typed.poll.as_ref(), default.poll),
            rescan: self.span("tail", "rescan", typed.rescan.as_ref(), default.rescan),
            drain_grace: self.span(
                "tail",
                "drain_grace",
                typed.drain_grace.as_ref(),
                default.drain_grace,
            ),
        }
    }

    /// A duration with its unit.
    fn span(
        &mut self,
        section: &str,
        key: &str,
        typed: Option<&Value>,
        default: Duration,
    ) -> Duration {
        let Some(typed) = typed.filter(|value| !value.is_null()) else {
            return default;
        };
        let range = Duration::from_millis(1)..=Duration::from_secs(24 * 3600);
        let span = typed
            .as_str()
            .and_then(|text| text.parse::<SignedDuration>().ok())
            .map(|span| Duration::try_from(span).unwrap_or_default());
        match span {
            Some(span) if range.contains(&span) => span,
            _ => {
                self.problems.value(
                    &self.root.then(section).then(key),
                    "must be a duration from 1ms to 24h, such as 250ms, 5s or 1m30s",
                    None,
                );
                default
            }
        }
    }
}
