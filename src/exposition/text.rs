//! OpenMetrics 1.0 and the classic text format 0.0.4.
//!
//! prometheus-client writes OpenMetrics: each family is exposed to it as a [`Collector`]. The classic format is derived
//! from what it wrote. What that encoder leaves to its caller is done here: help texts are escaped, and the `_total` that
//! it appends is taken off first.

use std::fmt;
use std::sync::Arc;

use memchr::memmem;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabel, EncodeLabelSet, LabelSetEncoder, MetricEncoder, NoLabelSet,
    text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::metric::{Family, Kind, Series, Snapshot};

pub(super) fn open_metrics(snapshot: Snapshot, sink: &mut impl FnMut(&[u8])) {
    families(snapshot, |text| sink(text.as_bytes()));
    let mut end = String::new();
    // A String takes every write.
    let _ = text::encode_eof(&mut end);
    sink(end.as_bytes());
}

pub(super) fn classic(snapshot: Snapshot, sink: &mut impl FnMut(&[u8])) {
    let mut help = None;
    families(snapshot, |text| from_open_metrics(text, &mut help, sink));
}

/// OpenMetrics text of all families, some lines at a time.
#[expect(
    clippy::unreachable,
    reason = "a String takes every write, and our collector fails with nothing else"
)]
fn families(snapshot: Snapshot, each: impl FnMut(&str)) {
    let mut lines = Lines {
        text: String::new(),
        each,
    };
    for (family, series) in snapshot.families {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Exposed(family, series)));
        if text::encode_registry(&mut lines, &registry).is_err() {
            unreachable!("writing to memory failed");
        }
    }
    (lines.each)(&lines.text);
}

/// Passes whole lines on. A family with long labels may be most of a body, and is not to be in memory twice.
struct Lines<F> {
    text: String,
    each: F,
}

/// Bytes after which lines are passed on.
const LINES_BYTES: usize = 64 << 10;

impl<F: FnMut(&str)> fmt::Write for Lines<F> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.text.push_str(text);
        if self.text.len() >= LINES_BYTES && text.ends_with('\n') {
            (self.each)(&self.text);
            self.text.clear();
        }
        Ok(())
    }
}

/// A family and its series as prometheus-client wants to see them.
#[derive(Debug)]
struct Exposed(Arc<Family>, Vec<Series>);

impl Collector for Exposed {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let Exposed(family, series) = self;
        let help = escape_help(&family.help);
        let (name, kind) = match family.kind {
            Kind::Counter => (
                family.name.strip_suffix("_total").unwrap_or(&family.name),
                MetricType::Counter,
            ),
            Kind::Gauge => (&*family.name, MetricType::Gauge),
        };
        let (name, unit) = split_unit(name);
        let mut metric = encoder.encode_descriptor(name, &help, unit.as_ref(), kind)?;
        for one in series {
            let labels = Labels {
                names: &family.labels,
                series: one,
            };
            if labels.is_empty() {
                encode_value(&mut metric, family, one.value)?;
            } else {
                encode_value(&mut metric.encode_family(&labels)?, family, one.value)?;
            }
        }
        Ok(())
    }
}

/// A name without the unit that it ends with, and the unit: the encoder puts them together again.
fn split_unit(name: &str) -> (&str, Option<Unit>) {
    let units = [
        ("_seconds", Unit::Seconds),
        ("_bytes", Unit::Bytes),
        ("_celsius", Unit::Celsius),
        ("_ratio", Unit::Other("ratio".to_owned())),
        ("_volts", Unit::Volts),
        ("_amperes", Unit::Amperes),
    ];
    let with_unit = units.into_iter().find_map(|(suffix, unit)| {
        let stem = name.strip_suffix(suffix).filter(|stem| !stem.is_empty())?;
        Some((stem, Some(unit)))
    });
    with_unit.unwrap_or((name, None))
}

/// The greatest integer up to which every integer has its own `f64`.
const INTEGER_MAX: f64 = 9_007_199_254_740_992.0;

/// Whole numbers are written without a point: shorter, and faster to write and to read.
fn encode_value(metric: &mut MetricEncoder, family: &Family, value: f64) -> fmt::Result {
    let whole = value.abs() <= INTEGER_MAX && value.fract() == 0.0;
    match family.kind {
        Kind::Counter if whole && value >= 0.0 => {
            metric.encode_counter::<NoLabelSet, _, f64>(&(value as u64), None)
        }
        Kind::Counter => metric.encode_counter::<NoLabelSet, _, f64>(&value, None),
        Kind::Gauge if whole => metric.encode_gauge(&(value as i64)),
        Kind::Gauge => metric.encode_gauge(&value),
    }
}

struct Labels<'s> {
    names: &'s [Arc<str>],
    series: &'s Series,
}

impl Labels<'_> {
    fn is_empty(&self) -> bool {
        !self.series.test && (self.names.is_empty() || self.series.values.is_empty())
    }
}

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder) -> fmt::Result {
        for (name, value) in self.names.iter().zip(self.series.values.iter()) {
            (&**name, &**value).encode(encoder.encode_label())?;
        }
        if self.series.test {
            ("test", "true").encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

/// One raw newline in a help text would cost the whole scrape.
fn escape_help(help: &str) -> String {
    let mut escaped = String::with_capacity(help.len());
    for character in help.chars() {
        match character {
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '"' => escaped.push_str("\\\""),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Passes on OpenMetrics text of counters and gauges as the classic format has it: a counter's family is called as its
/// samples are, and quotes in help texts stand for themselves.
///
/// Samples are the same in both formats, so only the lines that begin with `# ` are looked at. No other line can look
/// like one: newlines in label values and help texts are escaped.
///
/// `help` is the last help text whose family has not been named yet.
fn from_open_metrics(open_metrics: &str, help: &mut Option<String>, sink: &mut impl FnMut(&[u8])) {
    let comment = memmem::Finder::new("\n# ");
    let mut rest = open_metrics;
    while !rest.is_empty() {
        if let Some(line) = rest.strip_prefix("# ") {
            let (line, after) = line.split_once('\n').unwrap_or((line, ""));
            rest = after;
            match line.split_once(' ') {
                Some(("HELP", text)) => {
                    *help = text.split_once(' ').map(|(_, help)| help.to_owned());
                }
                Some(("TYPE", text)) => {
                    let (name, kind) = text.split_once(' ').unwrap_or((text, "untyped"));
                    let suffix = if kind == "counter" { "_total" } else { "" };
                    if let Some(help) = help.take() {
                        let help = help.replace("\\\"", "\"");
                        sink(format!("# HELP {name}{suffix} {help}\n").as_bytes());
                    }
                    sink(format!("# TYPE {name}{suffix} {kind}\n").as_bytes());
                }
                _ => {}
            }
        } else {
            let end = comment
                .find(rest.as_bytes())
                .map_or(rest.len(), |newline| newline + 1);
            let (samples, after) = rest.split_at(end);
            sink(samples.as_bytes());
            rest = after;
        }
    }
}
