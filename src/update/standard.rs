//! The metrics that every line feeds, whatever the rules say.

use std::sync::Arc;

use crate::metric::{Family, Kind, LabelValues, MetricDesc, MetricId};

pub(crate) const MESSAGES: MetricId = MetricId(0);
pub(crate) const EVENTS: MetricId = MetricId(1);
pub(crate) const UNMATCHED: MetricId = MetricId(2);
pub(crate) const LAST_MESSAGE: MetricId = MetricId(3);
pub(crate) const LAST_EVENT: MetricId = MetricId(4);
/// The metrics of the rule set follow those that every line has.
pub(crate) const RULE_METRICS: u32 = 5;

/// Values of the label `severity`, in the order of [`Severity`](crate::record::Severity); the last is for lines that
/// have none.
pub(crate) const SEVERITIES: [&str; 9] = [
    "emerg", "alert", "crit", "err", "warning", "notice", "info", "debug", "unknown",
];

/// Their declarations, in the order of their numbers.
pub(crate) fn standard_metrics() -> Vec<MetricDesc> {
    let spec = |name: &str, kind: Kind, help: &str, labels: &[&str]| MetricDesc {
        family: Arc::new(Family {
            name: name.into(),
            help: help.into(),
            kind,
            labels: std::iter::once("appliance")
                .chain(labels.iter().copied())
                .map(Arc::from)
                .collect(),
        }),
        domains: vec![LabelValues::Any(Vec::new()); labels.len()],
        expire_seconds: None,
    };
    vec![
        spec(
            "log_messages_total",
            Kind::Counter,
            "Log messages read, by program (`other` if no rule pack knows it) and syslog severity.",
            &["program", "severity"],
        ),
        spec(
            "log_events_total",
            Kind::Counter,
            "Log messages that a rule recognised, by event.",
            &["program", "event"],
        ),
        spec(
            "log_unmatched_messages_total",
            Kind::Counter,
            "Log messages of a known program that no rule recognised.",
            &["program"],
        ),
        spec(
            "log_last_message_timestamp_seconds",
            Kind::Gauge,
            "When the exporter last read a message, by its own clock, in seconds since 1970. After an exporter outage this is later than the timestamps in the messages.",
            &["program"],
        ),
        spec(
            "log_event_last_timestamp_seconds",
            Kind::Gauge,
            "When a notable event last became known, by the exporter's clock, in seconds since 1970; there is no series before the first. Of a file that is read for the first time without state, the time in the message.",
            &["program", "event"],
        ),
    ]
}
