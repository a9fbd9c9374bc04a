//! `metrics` of a pack: names, labels and units that Prometheus can work with.

use std::sync::Arc;

use serde_yaml::Mapping;

use super::Builder;
use crate::diagnostic::{Path, Problems};
use crate::metric::{Family, Kind, LabelValues, MetricDesc};
use crate::rules::Metric;
use crate::rules::file::{KindWord, LabelFile, MetricFile, OpenFile};

/// More combinations of enumerated labels than this are not worth a zero series each.
const ZERO_SERIES_MAX: usize = 400;

/// Labels of a metric, besides `appliance`; the series table holds no more.
const LABELS_MAX: usize = 16;

/// Prefixes of the exporter's own metrics.
const RESERVED: [&str; 4] = [
    "process_",
    "promhttp_",
    "appliance_log_exporter_",
    "log_messages_",
];

/// Endings that are no base units, and the base unit.
const BASE_UNITS: [(&str, &str); 6] = [
    ("_ms", "_seconds"),
    ("_milliseconds", "_seconds"),
    ("_percent", "_ratio"),
    ("_kb", "_bytes"),
    ("_mb", "_bytes"),
    ("_fahrenheit", "_celsius"),
];

impl Builder<'_> {
    /// A metric that a pack declares, or declares again as another one did.
    pub(super) fn metric(
        &mut self,
        name: &str,
        file: MetricFile,
        pack: usize,
        path: &Path,
        problems: &mut Problems<'_>,
    ) {
        let kind = match file.kind {
            KindWord::Counter => Kind::Counter,
            KindWord::Gauge => Kind::Gauge,
        };
        self.check_name(name, kind, path, problems);
        if file.help.trim().is_empty() {
            problems.value(&path.then("help"), "a metric needs a help text", None);
        }
        let expire_seconds = file.expire.as_deref().and_then(|text| {
            let seconds = duration(text);
            if seconds.is_none() {
                problems.value(
                    &path.then("expire"),
                    "invalid duration",
                    Some("a number and s, m, h or d: `30d`".into()),
                );
            }
            seconds
        });
        let (labels, domains) = self.domains(name, file.labels, path, problems);
        let combinations = domains.iter().fold(1usize, |product, domain| {
            product.saturating_mul(domain.known().len())
        });
        if kind == Kind::Counter && combinations > ZERO_SERIES_MAX {
            problems.value(
                &path.then("labels"),
                format!("{combinations} zero series for every appliance are too many"),
                Some(format!(
                    "at most {ZERO_SERIES_MAX}; declare one of the labels `any`"
                )),
            );
        }
        let spec = MetricDesc {
            family: Arc::new(Family {
                name: name.into(),
                help: file.help.as_str().into(),
                kind,
                labels: labels.into(),
            }),
            domains,
            expire_seconds,
        };
        match self.metrics.get(name) {
            Some(&known) => merge(&mut self.set.metrics[known], spec, pack, path, problems),
            None => {
                self.metrics.insert(name.to_owned(), self.set.metrics.len());
                self.set.metrics.push(Metric {
                    spec,
                    packs: vec![pack],
                });
            }
        }
    }

    /// Whether Prometheus can have a metric of this name, and with the unit that it says.
    fn check_name(&self, name: &str, kind: Kind, path: &Path, problems: &mut Problems<'_>) {
        if !is_plain(name) {
            problems.key(
                path,
                "invalid metric name",
                Some("letters, digits and `_`".into()),
            );
        }
        if RESERVED.iter().any(|prefix| name.starts_with(prefix)) {
            let message = "reserved prefix: the exporter's own metrics use it";
            problems.key(path, message, None);
        }
        if matches!(name, "up" | "ALERTS" | "ALERTS_FOR_STATE") || name.starts_with("scrape_") {
            problems.key(path, "reserved name: Prometheus uses it", None);
        }
        let twin = match name.strip_suffix("_total") {
            Some(stem) => stem.to_owned(),
            None => format!("{name}_total"),
        };
        if self.metrics.contains_key(&twin) {
            // OpenMetrics names a counter's family without the suffix.
            let message = format!("`{twin}` is the same family in OpenMetrics");
            problems.key(path, message, None);
        }
        match (kind, name.ends_with("_total")) {
            (Kind::Counter, false) => {
                problems.key(
                    path,
                    "a counter's name ends in `_total`",
                    Some(format!("`{name}_total`")),
                );
            }
            (Kind::Gauge, true) => {
                problems.key(path, "only a counter's name ends in `_total`", None);
            }
            _ => {}
        }
        let stem = name.trim_end_matches("_total");
        if let Some((suffix, unit)) = (BASE_UNITS.iter()).find(|(suffix, _)| stem.ends_with(suffix))
        {
            problems.key(
                path,
                format!("`{suffix}` is not a base unit"),
                Some(format!("use `{unit}`")),
            );
        }
    }

    /// The labels of a metric, `appliance` first, and the values of the others.
    fn domains(
        &mut self,
        metric: &str,
        written: Mapping,
        path: &Path,
        problems: &mut Problems<'_>,
    ) -> (Vec<Arc<str>>, Vec<LabelValues>) {
        if written.len() > LABELS_MAX {
            problems.value(
                &path.then("labels"),
                format!("has {} labels, more than {LABELS_MAX}", written.len()),
                None,
            );
        }
        let mut labels: Vec<Arc<str>> = vec!["appliance".into()];
        let mut domains = Vec::new();
        for (label, domain) in &written {
            let Some(label) = label.as_str() else {
                continue;
            };
            let at = path.then("labels").then(label);
            if !is_plain(label) || label.starts_with("__") {
                problems.key(
                    &at,
                    "invalid label name",
                    Some("letters, digits and `_`".into()),
                );
            }
            match label {
                "appliance" | "test" => {
                    problems.key(&at, "the exporter sets this label itself", None);
                    continue;
                }
                "env" | "cluster" | "dc" | "job" | "instance" | "le" | "quantile" => {
                    let message = "this label belongs to Prometheus or to the target";
                    problems.key(&at, message, None);
                }
                _ => {}
            }
            let domain = match problems.decode::<LabelFile>(domain, &at) {
                Some(LabelFile::Word(word)) if word == "any" => LabelValues::Any(Vec::new()),
                Some(LabelFile::Values(values)) if !values.is_empty() => {
                    LabelValues::OneOf(values.into_iter().map(|value| value.0.into()).collect())
                }
                Some(LabelFile::Open(OpenFile {
                    any: true,
                    when,
                    known,
                })) if when.as_deref().is_none_or(|when| when == "remote_address") => {
                    if when.is_some() && !self.settings.remote_address {
                        self.left_out.insert((metric.to_owned(), label.to_owned()));
                        continue;
                    }
                    LabelValues::Any(known.into_iter().map(|value| value.0.into()).collect())
                }
                Some(_) => {
                    problems.value(
                        &at,
                        "this says nothing about the label's values",
                        Some("`any`, a list of values, or {any: true, known: […]}".into()),
                    );
                    continue;
                }
                None => continue,
            };
            labels.push(label.into());
            domains.push(domain);
        }
        (labels, domains)
    }
}

/// Adds the label values that another pack lists for the same metric.
fn merge(
    metric: &mut Metric,
    spec: MetricDesc,
    pack: usize,
    path: &Path,
    problems: &mut Problems<'_>,
) {
    let family = &metric.spec.family;
    if family.kind != spec.family.kind || family.labels != spec.family.labels {
        problems.key(
            path,
            "another pack declares this metric with another type or other labels",
            None,
        );
        return;
    }
    if family.help != spec.family.help {
        problems.value(
            &path.then("help"),
            "another pack declares this metric with another help text",
            Some(format!("the other says: {}", family.help)),
        );
    }
    for (mine, theirs) in metric.spec.domains.iter_mut().zip(spec.domains) {
        let mut known = mine.known().to_vec();
        let new = theirs
            .known()
            .iter()
            .filter(|value| !mine.known().contains(value));
        known.extend(new.cloned());
        *mine = match (&*mine, &theirs) {
            (LabelValues::OneOf(_), LabelValues::OneOf(_)) => LabelValues::OneOf(known),
            _ => LabelValues::Any(known),
        };
    }
    if !metric.packs.contains(&pack) {
        metric.packs.push(pack);
    }
}

/// A name that every version of Prometheus takes without quotes.
fn is_plain(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn duration(text: &str) -> Option<u32> {
    let unit = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    text[..text.len() - 1]
        .parse::<u32>()
        .ok()?
        .checked_mul(unit)
}
