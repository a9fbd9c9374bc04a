//! What the exporter tells about itself: the last section of the metric contract.
//!
//! Two kinds. What happens is counted as it happens, through handles of prometheus-client that the caller keeps
//! ([`OwnMetrics`]). Other gauges are read from their owners at scrape time ([`ScrapeGauges`], [`Process`]). Both become
//! families like those of the series table, so that every format shows them alike.

mod process;
mod shard;
mod syslog;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use crate::metric::{Family, Kind, Series};

pub use process::{Process, threads};
pub use shard::{ShardGauges, ShardMetrics};
pub use syslog::{DropReason, SyslogMetrics};

/// Prefix of every metric here but `process_…` and `promhttp_…`, whose names are common to all exporters.
const PREFIX: &str = "appliance_log_exporter";

/// Handles for what is counted as it happens. Label values come from the configuration and from enumerations, so the
/// caller bounds them.
#[derive(Debug)]
pub struct OwnMetrics {
    registry: Registry,
    /// Lines taken from a source, by `source`.
    pub lines_read: Counters<1>,
    /// Bytes taken from a source, by `source`.
    pub bytes_read: Counters<1>,
    /// Files that a successor replaced, by `source`.
    pub rotations: Counters<1>,
    /// Files that became shorter, by `source`.
    pub truncations: Counters<1>,
    /// Rotated files that are older than all that was read of their path, by `source`.
    pub old_archives: Counters<1>,
    /// Bytes known to be lost, by `source` and `reason`.
    pub lost_bytes: Counters<2>,
    /// Lines cut or lost, by `source` and `reason`.
    pub lines_dropped: Counters<2>,
    /// What comes over the network.
    pub syslog: SyslogMetrics,
    /// What is read of Kafka.
    pub shards: ShardMetrics,
    /// Scrapes answered, by HTTP status `code`.
    pub scrapes: Counters<1>,
    /// Scrapes that are being answered.
    pub scrapes_in_flight: Gauge,
    /// Seconds that answering scrapes took.
    pub scrape_seconds: Counter<f64, AtomicU64>,
    /// 1 if the last reload took effect, 0 if it failed and the previous configuration stays.
    pub config_last_reload_successful: Gauge,
    /// Unix time of the last reload that took effect, in seconds.
    pub config_last_reload_success_timestamp_seconds: Gauge<f64, AtomicU64>,
}

impl OwnMetrics {
    /// All at zero. `started` is when the process did.
    pub fn new(version: &str, revision: &str, started: SystemTime) -> Self {
        let mut own = Registry::default();
        // The kernel's own figure counts from its boot, which a service confined by ProcSubset=pid cannot read.
        let start_time = Gauge::<f64, AtomicU64>::default();
        start_time.set(
            started
                .duration_since(UNIX_EPOCH)
                .map_or(0.0, |since| since.as_secs_f64()),
        );
        own.register_bare(
            "process_start_time_seconds",
            "Start time of the process.",
            start_time,
        );
        let scrapes = Counters::new(["code"]);
        own.register_bare(
            "promhttp_metric_handler_requests_total",
            "Scrapes by HTTP status code.",
            scrapes.clone(),
        );
        // As the Go client does it, so that a first failure is an increase.
        for code in ["200", "500", "503"] {
            scrapes.get([code]);
        }
        let scrapes_in_flight = Gauge::default();
        own.register_bare(
            "promhttp_metric_handler_requests_in_flight",
            "Scrapes that are being answered.",
            scrapes_in_flight.clone(),
        );
        let scrape_seconds = Counter::<f64, AtomicU64>::default();
        own.register(
            "scrape_seconds",
            "Time that answering scrapes took, in seconds",
            scrape_seconds.clone(),
        );
        own.register(
            "build_info",
            "Version and revision that the binary was built from, for which target and by which compiler",
            Info(process::build(version, revision)),
        );
        let mut by_source = |name, help| {
            let counters = Counters::new(["source"]);
            own.register(name, help, counters.clone());
            counters
        };
        let lines_read = by_source("lines_read", "Lines read");
        let bytes_read = by_source("bytes_read", "Bytes read");
        let rotations = by_source(
            "rotations",
            "Files that were renamed or removed and had a successor",
        );
        let truncations = by_source(
            "truncations",
            "Files that became shorter than what was read of them",
        );
        let old_archives = by_source(
            "old_archives",
            "Rotated files that were not read, because all their lines are older than what was read of the path",
        );
        let mut by_reason = |name, help| {
            let counters = Counters::new(["source", "reason"]);
            own.register(name, help, counters.clone());
            counters
        };
        let lost_bytes = by_reason(
            "lost_bytes",
            "Bytes of files that were lost before they could be read, or cut from lines longer than `limits.line_bytes` (`too_long`)",
        );
        let lines_dropped = by_reason(
            "lines_dropped",
            "Lines cut at `limits.line_bytes` (`too_long`: the beginning is still matched) or lost unfinished (`torn`)",
        );
        let syslog = SyslogMetrics::new(&mut own);
        let shards = ShardMetrics::new(&mut own);
        let config_last_reload_successful = Gauge::default();
        own.register(
            "config_last_reload_successful",
            "Whether the last reload of configuration and rules took effect",
            config_last_reload_successful.clone(),
        );
        let config_last_reload_success_timestamp_seconds = Gauge::default();
        own.register(
            "config_last_reload_success_timestamp_seconds",
            "When configuration and rules last took effect",
            config_last_reload_success_timestamp_seconds.clone(),
        );
        Self {
            registry: own,
            lines_read,
            bytes_read,
            rotations,
            truncations,
            old_archives,
            lost_bytes,
            lines_dropped,
            syslog,
            shards,
            scrapes,
            scrapes_in_flight,
            scrape_seconds,
            config_last_reload_successful,
            config_last_reload_success_timestamp_seconds,
        }
    }

    /// As families of a snapshot.
    pub fn families(&self) -> Vec<(Arc<Family>, Vec<Series>)> {
        let metrics = self.registry.0.iter();
        let all = metrics.map(|(family, metric)| (family.clone(), metric.series()));
        all.filter(|(_, series)| !series.is_empty()).collect()
    }

    /// Exposes what is counted of any source, at 0.
    pub fn touch_received(&self, source: &str) {
        for counters in [&self.lines_read, &self.bytes_read] {
            counters.get([source]);
        }
    }

    /// Exposes everything that is counted by source, at 0.
    pub fn touch_source(&self, source: &str) {
        for counters in [
            &self.lines_read,
            &self.bytes_read,
            &self.rotations,
            &self.truncations,
            &self.old_archives,
        ] {
            counters.get([source]);
        }
        for reason in crate::tail::LostReason::ALL {
            self.lost_bytes.get([source, reason.as_str()]);
        }
        self.lost_bytes.get([source, "too_long"]);
        for reason in ["too_long", "torn"] {
            self.lines_dropped.get([source, reason]);
        }
    }
}

/// Counters that differ in the values of `N` labels.
pub type Counters<const N: usize> = Labelled<N, Counter>;

/// Handles that differ in the values of `N` labels, exposed in the order of these values.
///
/// prometheus-client's own family is a hash map, whose order differs from one process to the next.
#[derive(Clone, Debug)]
pub struct Labelled<const N: usize, M> {
    names: [&'static str; N],
    // Locked at scrape and when a handle is fetched; whoever counts keeps its handle.
    series: Arc<Mutex<BTreeMap<[String; N], M>>>,
}

impl<const N: usize, M: Clone + Default> Labelled<N, M> {
    fn new(names: [&'static str; N]) -> Self {
        Self {
            names,
            series: Arc::default(),
        }
    }

    /// The handle for these label values; from now on it is exposed. Fetch it before there is anything to count, so
    /// that it is exposed at 0 first, and keep it.
    pub fn get(&self, values: [&str; N]) -> M {
        self.series
            .lock()
            .entry(values.map(str::to_owned))
            .or_default()
            .clone()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.series.lock().len()
    }

    /// Whether there is none yet.
    pub fn is_empty(&self) -> bool {
        self.series.lock().is_empty()
    }
}

/// What was declared, with the handles that it is counted through.
#[derive(Debug, Default)]
struct Registry(Vec<(Arc<Family>, Box<dyn Metric>)>);

impl Registry {
    /// A metric of the exporter: its name gets the prefix, and `_total` if it is a counter; its help gets a full stop.
    fn register(&mut self, name: &str, help: &str, metric: impl Metric + 'static) {
        let suffix = match metric.kind() {
            Kind::Counter => "_total",
            Kind::Gauge => "",
        };
        self.register_bare(
            &format!("{PREFIX}_{name}{suffix}"),
            &format!("{help}."),
            metric,
        );
    }

    fn register_bare(&mut self, name: &str, help: &str, metric: impl Metric + 'static) {
        let family = Family {
            name: name.into(),
            help: help.into(),
            kind: metric.kind(),
            labels: metric.labels(),
        };
        self.0.push((Arc::new(family), Box::new(metric)));
    }
}

/// A handle of prometheus-client, or several, as series.
trait Metric: Debug + Send + Sync {
    fn kind(&self) -> Kind {
        Kind::Gauge
    }

    fn labels(&self) -> Arc<[Arc<str>]> {
        Arc::from([])
    }

    fn series(&self) -> Vec<Series>;
}

fn series(values: Arc<[Arc<str>]>, value: f64) -> Series {
    Series {
        values,
        test: false,
        created: 0,
        value,
    }
}

impl<const N: usize, M: Metric + Clone + Default> Metric for Labelled<N, M> {
    fn kind(&self) -> Kind {
        M::default().kind()
    }

    fn labels(&self) -> Arc<[Arc<str>]> {
        self.names.iter().map(|&name| name.into()).collect()
    }

    fn series(&self) -> Vec<Series> {
        let handles = self.series.lock();
        let mut all = Vec::new();
        for (values, handle) in handles.iter() {
            let values: Arc<[Arc<str>]> =
                values.iter().map(|value| value.as_str().into()).collect();
            let one = handle.series().into_iter();
            all.extend(one.map(|of| series(values.clone(), of.value)));
        }
        all
    }
}

impl Metric for Counter {
    fn kind(&self) -> Kind {
        Kind::Counter
    }

    fn series(&self) -> Vec<Series> {
        vec![series(Arc::from([]), self.get() as f64)]
    }
}

impl Metric for Counter<f64, AtomicU64> {
    fn kind(&self) -> Kind {
        Kind::Counter
    }

    fn series(&self) -> Vec<Series> {
        vec![series(Arc::from([]), self.get())]
    }
}

impl Metric for Gauge {
    fn series(&self) -> Vec<Series> {
        vec![series(Arc::from([]), self.get() as f64)]
    }
}

impl Metric for Gauge<f64, AtomicU64> {
    fn series(&self) -> Vec<Series> {
        vec![series(Arc::from([]), self.get())]
    }
}

/// Labels that say something, and a 1.
#[derive(Debug)]
struct Info<const N: usize>([(&'static str, Arc<str>); N]);

impl<const N: usize> Metric for Info<N> {
    fn labels(&self) -> Arc<[Arc<str>]> {
        self.0.iter().map(|(name, _)| (*name).into()).collect()
    }

    fn series(&self) -> Vec<Series> {
        let values = self.0.iter().map(|(_, value)| value.clone());
        vec![series(values.collect(), 1.0)]
    }
}

/// What other modules know at the time of a scrape.
#[derive(Clone, Debug, Default)]
pub struct ScrapeGauges {
    /// The backlog found at start has been read: scrapes show what appliances logged.
    pub ready: bool,
    /// Bytes that wait to be read, by source.
    pub source_lag_bytes: Vec<(Arc<str>, u64)>,
    /// Files that are there and are not read, by source.
    pub unreadable_files: Vec<(Arc<str>, u64)>,
    /// Files that are read, by source.
    pub followed_files: Vec<(Arc<str>, u64)>,
    /// Series held, by metric.
    pub series: Vec<(Arc<str>, u64)>,
    /// Updates that found no series of their own, by metric.
    pub series_dropped: Vec<(Arc<str>, u64)>,
    /// Lines that a rule matched, by `pack/event`.
    pub rule_hits: Vec<(Arc<str>, u64)>,
    /// Amounts that were not added to a counter since they were negative, by `pack/event` of the rules that add some.
    pub negative_amounts: Vec<(Arc<str>, u64)>,
    /// Rules in force.
    pub rules_loaded: u64,
    /// Series that all metrics may have together.
    pub series_budget: u64,
    /// Series that were removed to make space for others, by metric.
    pub series_evicted: Vec<(Arc<str>, u64)>,
    /// Repetitions that were not counted, by reason.
    pub repeats_dropped: Vec<(Arc<str>, u64)>,
    /// Values that were refused, since the metric's unit does not allow them, by metric.
    pub implausible_values: Vec<(Arc<str>, u64)>,
    /// Appliances that the configuration names.
    pub expected_appliances: Vec<Arc<str>>,
    /// Seconds since the last checkpoint was on disk, or since the start if none was; nothing without a state directory.
    pub checkpoint_age_seconds: Option<f64>,
    /// Lines of the exporter's own log that could not be written.
    pub stderr_lines_dropped: u64,
    /// When the server's certificate expires, Unix time in seconds; nothing without TLS.
    pub certificate_expiry: Option<f64>,
}

impl ScrapeGauges {
    /// As families of a snapshot, those without a series left out.
    pub fn families(&self) -> Vec<(Arc<Family>, Vec<Series>)> {
        use Kind::{Counter, Gauge};
        let expected: Vec<_> = self
            .expected_appliances
            .iter()
            .map(|name| (name.clone(), 1))
            .collect();
        [
            FamilyBuilder {
                name: "appliance_expected".into(),
                help: "1 for each appliance that the configuration names, whether it was heard of or not.",
                kind: Gauge,
            }
            .by("appliance", &expected),
            family(
                "certificate_expiry_timestamp_seconds",
                "When the certificate of the web server expires, or the first one of its chain.",
                Gauge,
            )
            .alone(self.certificate_expiry),
            family(
                "checkpoint_age_seconds",
                "Time since the last checkpoint was on disk, or since the start if none was.",
                Gauge,
            )
            .alone(self.checkpoint_age_seconds),
            family(
                "implausible_values_total",
                "Values that a line gave and that the unit of the metric does not allow; they are not in the metric.",
                Counter,
            )
            .by("metric", &self.implausible_values),
            family(
                "negative_amounts_total",
                "Amounts that a rule would have added to a counter, had they not been negative.",
                Counter,
            )
            .by("rule", &self.negative_amounts),
            family(
                "repeats_dropped_total",
                "Repetitions that lines reported and that were not counted: more for one line than is plausible, or of a line that is not known.",
                Counter,
            )
            .by("reason", &self.repeats_dropped),
            family(
                "ready",
                "1 once the backlog that was found at the start has been read; before, scrapes show nothing of appliances.",
                Gauge,
            )
            .alone(Some(f64::from(u8::from(self.ready)))),
            family("rule_hits_total", "Lines that a rule matched.", Counter)
                .by("rule", &self.rule_hits),
            family("rules_loaded", "Rules in force.", Gauge).alone(Some(self.rules_loaded as f64)),
            family("series", "Series held for a metric.", Gauge).by("metric", &self.series),
            family(
                "series_budget",
                "Series that all metrics may have together.",
                Gauge,
            )
            .alone(Some(self.series_budget as f64)),
            family(
                "series_dropped_total",
                "How often a limit left no space for a new series: a counter then counts in the series with the label values `other`, a gauge is not exposed.",
                Counter,
            )
            .by("metric", &self.series_dropped),
            family(
                "series_evicted_total",
                "Series that were removed to make space for others: of appliances that only headers name, or of a gauge of which one appliance has too many.",
                Counter,
            )
            .by("metric", &self.series_evicted),
            family(
                "stderr_lines_dropped_total",
                "Lines of the exporter's own log that could not be written to standard error.",
                Counter,
            )
            .alone(Some(self.stderr_lines_dropped as f64)),
            family("source_lag_bytes", "Bytes that wait to be read.", Gauge)
                .by("source", &self.source_lag_bytes),
            family(
                "unreadable_files",
                "Files that are there and are not read: a missing permission, a directory, no descriptor left, more files than are followed at most. A directory that cannot be listed counts as one.",
                Gauge,
            )
            .by("source", &self.unreadable_files),
            family(
                "followed_files",
                "Files that are followed. 0 means that no pattern of the source matches a file.",
                Gauge,
            )
            .by("source", &self.followed_files),
        ]
        .into_iter()
        .filter(|(_, series)| !series.is_empty())
        .collect()
    }
}

/// A family in the making.
struct FamilyBuilder {
    name: Arc<str>,
    help: &'static str,
    kind: Kind,
}

fn family(name: &str, help: &'static str, kind: Kind) -> FamilyBuilder {
    FamilyBuilder {
        name: format!("{PREFIX}_{name}").into(),
        help,
        kind,
    }
}

impl FamilyBuilder {
    fn alone(self, value: Option<f64>) -> (Arc<Family>, Vec<Series>) {
        let series = value.map(|value| (Arc::from([]), value));
        self.with(Arc::from([]), series)
    }

    fn by(self, label: &str, values: &[(Arc<str>, u64)]) -> (Arc<Family>, Vec<Series>) {
        let series = values
            .iter()
            .map(|(of, value)| (Arc::from([of.clone()]), *value as f64));
        self.with(Arc::from([Arc::from(label)]), series)
    }

    fn with(
        self,
        labels: Arc<[Arc<str>]>,
        series: impl IntoIterator<Item = (Arc<[Arc<str>]>, f64)>,
    ) -> (Arc<Family>, Vec<Series>) {
        let family = Family {
            name: self.name,
            help: self.help.into(),
            kind: self.kind,
            labels,
        };
        let series = series
            .into_iter()
            .map(|(values, value)| self::series(values, value))
            .collect();
        (Arc::new(family), series)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::exposition::{Format, encode};
    use crate::metric::Snapshot;

    #[test]
    fn the_contract() {
        let own = OwnMetrics::new("1.2.3", "abc", UNIX_EPOCH + Duration::from_millis(1500));
        own.lines_read.get(["luna"]).inc_by(3);
        own.lines_read.get(["gateway"]);
        own.lost_bytes.get(["luna", "truncated"]).inc();
        own.config_last_reload_successful.set(1);
        own.config_last_reload_success_timestamp_seconds.set(1.5);
        let gauges = ScrapeGauges {
            ready: true,
            source_lag_bytes: vec![("luna".into(), 10)],
            unreadable_files: vec![("luna".into(), 0)],
            followed_files: vec![("luna".into(), 2)],
            series: vec![("ipsec_drops_total".into(), 2)],
            series_dropped: vec![("ipsec_drops_total".into(), 0)],
            rule_hits: vec![("ntls/started".into(), 1)],
            negative_amounts: vec![("site/sent".into(), 3)],
            rules_loaded: 5,
            series_budget: 9,
            series_evicted: vec![("ipsec_drops_total".into(), 1)],
            repeats_dropped: vec![("implausible".into(), 2)],
            implausible_values: vec![("ipsec_drops_total".into(), 4)],
            expected_appliances: vec!["hsm1".into()],
            checkpoint_age_seconds: None,
            stderr_lines_dropped: 0,
            certificate_expiry: Some(2e9),
        };
        let families = [own.families(), gauges.families()].concat();
        let text = String::from_utf8(encode(Snapshot { families }, Format::Classic)).unwrap();
        let samples: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            samples,
            [
                "process_start_time_seconds 1.5",
                r#"promhttp_metric_handler_requests_total{code="200"} 0"#,
                r#"promhttp_metric_handler_requests_total{code="500"} 0"#,
                r#"promhttp_metric_handler_requests_total{code="503"} 0"#,
                r#"promhttp_metric_handler_requests_in_flight 0"#,
                r#"appliance_log_exporter_scrape_seconds_total 0"#,
                concat!(
                    r#"appliance_log_exporter_build_info{version="1.2.3",revision="abc",target=""#,
                    env!("BUILD_TARGET"),
                    r#"",rustc=""#,
                    env!("BUILD_RUSTC"),
                    r#""} 1"#
                ),
                r#"appliance_log_exporter_lines_read_total{source="gateway"} 0"#,
                r#"appliance_log_exporter_lines_read_total{source="luna"} 3"#,
                r#"appliance_log_exporter_lost_bytes_total{source="luna",reason="truncated"} 1"#,
                r#"appliance_log_exporter_config_last_reload_successful 1"#,
                r#"appliance_log_exporter_config_last_reload_success_timestamp_seconds 1.5"#,
                r#"appliance_expected{appliance="hsm1"} 1"#,
                r#"appliance_log_exporter_certificate_expiry_timestamp_seconds 2000000000"#,
                r#"appliance_log_exporter_implausible_values_total{metric="ipsec_drops_total"} 4"#,
                r#"appliance_log_exporter_negative_amounts_total{rule="site/sent"} 3"#,
                r#"appliance_log_exporter_repeats_dropped_total{reason="implausible"} 2"#,
                r#"appliance_log_exporter_ready 1"#,
                r#"appliance_log_exporter_rule_hits_total{rule="ntls/started"} 1"#,
                r#"appliance_log_exporter_rules_loaded 5"#,
                r#"appliance_log_exporter_series{metric="ipsec_drops_total"} 2"#,
                r#"appliance_log_exporter_series_budget 9"#,
                r#"appliance_log_exporter_series_dropped_total{metric="ipsec_drops_total"} 0"#,
                r#"appliance_log_exporter_series_evicted_total{metric="ipsec_drops_total"} 1"#,
                r#"appliance_log_exporter_stderr_lines_dropped_total 0"#,
                r#"appliance_log_exporter_source_lag_bytes{source="luna"} 10"#,
                r#"appliance_log_exporter_unreadable_files{source="luna"} 0"#,
                r#"appliance_log_exporter_followed_files{source="luna"} 2"#,
            ]
        );
    }
}
