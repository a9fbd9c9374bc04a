//! `docs/metrics.md`, the reference of all metrics, says what the packs and the code say.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use appliance_log_exporter::engine::Engine;
use appliance_log_exporter::exposition::{self, Format};
use appliance_log_exporter::metric::{Family, Kind, LabelValues, Limits, MetricId, Snapshot};
use appliance_log_exporter::own_metrics::{OwnMetrics, Process, ScrapeGauges, ShardGauges};
use appliance_log_exporter::rules::{self, Example, Metric, RuleSet, Settings};

use crate::generated::{cell, code, compare};

#[test]
fn the_metric_reference_is_up_to_date() {
    let rules = load(true);
    let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, metric) in rules.metrics.iter().enumerate() {
        let group = match metric.packs.as_slice() {
            [pack] => format!("Pack {}", rules.packs[*pack].name),
            _ => "Declared by several packs".to_owned(),
        };
        groups.entry(group).or_default().push(index);
    }
    let always: BTreeSet<(String, String)> = load(false).metrics.iter().flat_map(labels).collect();

    let mut overview = String::new();
    let mut details = String::new();
    heading(&mut overview, "Every line");
    for family in every_line(&rules) {
        row(&mut overview, &Row::of(&family), false);
    }
    for (group, mut metrics) in groups {
        metrics.sort_by(|a, b| name(&rules.metrics[*a]).cmp(name(&rules.metrics[*b])));
        heading(&mut overview, &group);
        for index in metrics {
            row(
                &mut overview,
                &Row::of(&rules.metrics[index].spec.family),
                true,
            );
            section(&mut details, &rules, index, &always);
        }
    }
    heading(&mut overview, "The exporter itself");
    for own in exporter_itself() {
        row(&mut overview, &own, false);
    }
    let text = format!("{INTRODUCTION}{overview}\n## In detail\n{details}");
    compare("docs/metrics.md", &text);
}

fn load(remote_address: bool) -> RuleSet {
    let settings = Settings { remote_address };
    rules::load(&[], settings).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

fn name(metric: &Metric) -> &str {
    &metric.spec.family.name
}

/// Every label of a metric, with the metric's name.
fn labels(metric: &Metric) -> Vec<(String, String)> {
    let family = &metric.spec.family;
    family
        .labels
        .iter()
        .map(|label| (family.name.to_string(), label.to_string()))
        .collect()
}

/// The metrics that the engine feeds whatever the rules say.
fn every_line(rules: &RuleSet) -> Vec<Arc<Family>> {
    let engine =
        Engine::new(Arc::new(rules.clone()), Limits::default(), &[]).expect("the rules compile");
    let table = engine.table();
    let all = table.counts().count();
    (0..all - rules.metrics.len())
        .map(|id| table.spec(MetricId(id as u32)).family.clone())
        .collect()
}

/// The metrics about the exporter, read from an exposition of them with one series each.
fn exporter_itself() -> Vec<Row> {
    let own = OwnMetrics::new("1.0.0", "0123abc", SystemTime::now());
    for by_source in [
        &own.lines_read,
        &own.bytes_read,
        &own.rotations,
        &own.truncations,
        &own.old_archives,
    ] {
        by_source.get(["messages"]);
    }
    for by_reason in [&own.lost_bytes, &own.lines_dropped] {
        by_reason.get(["messages", "too_long"]);
    }
    own.syslog.touch("messages", &["udp", "tcp"]);
    own.syslog.datagrams_dropped.get(["messages"]);
    own.syslog.forged_lines.get(["messages", "hsm1"]);
    own.syslog.certificate_expiry.get(["messages"]);
    own.shards.touch("messages", "0", &["empty"]);
    own.shards.touch_state("messages", "0", &["restored"]);
    own.shards.kafka_errors.get(["messages", "AllBrokersDown"]);
    let shard = ShardGauges {
        source: "messages".into(),
        partition: 0,
        states: vec![("active", true)],
        next_offset: Some(0),
        lag: Some((0, 0.0)),
        lease_seconds: Some(0.0),
        state_bytes: Some(0),
        restore_seconds: Some(0.0),
        contact_age_seconds: Some(0.0),
        checkpoint_age_seconds: Some(0.0),
        appliances: vec!["hsm1".into()],
    };
    let one = || vec![("one".into(), 1)];
    let gauges = ScrapeGauges {
        ready: true,
        source_lag_bytes: one(),
        unreadable_files: one(),
        followed_files: one(),
        series: one(),
        series_dropped: one(),
        rule_hits: one(),
        negative_amounts: one(),
        rules_loaded: 1,
        series_budget: 1,
        series_evicted: one(),
        repeats_dropped: one(),
        implausible_values: one(),
        expected_appliances: vec!["one".into()],
        checkpoint_age_seconds: Some(1.0),
        stderr_lines_dropped: 0,
        certificate_expiry: Some(1.0),
    };
    let families = [
        own.families(),
        gauges.families(),
        ShardGauges::families(&[shard], &[("messages".into(), 1)]),
        Process::read().families(),
    ]
    .concat();
    let text = exposition::encode(Snapshot { families }, Format::Classic);
    let text = String::from_utf8(text).expect("text");
    let mut rows: Vec<Row> = Vec::new();
    for line in text.lines() {
        if let Some((name, help)) = line
            .strip_prefix("# HELP ")
            .and_then(|rest| rest.split_once(' '))
        {
            rows.push(Row {
                name: name.to_owned(),
                help: help.to_owned(),
                ..Row::default()
            });
        } else if let (Some(rest), Some(row)) = (line.strip_prefix("# TYPE "), rows.last_mut()) {
            row.kind = rest.rsplit(' ').next().unwrap_or_default().to_owned();
        } else if let (Some((_, labels)), Some(row)) = (line.split_once('{'), rows.last_mut())
            && row.labels.is_empty()
        {
            let names = labels
                .split("\",")
                .filter_map(|label| label.split_once('='));
            row.labels = names
                .map(|(name, _)| name.trim_start_matches(',').to_owned())
                .collect();
        }
    }
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    rows
}

/// What the tables say of a metric.
#[derive(Default)]
struct Row {
    name: String,
    kind: String,
    labels: Vec<String>,
    help: String,
}

impl Row {
    fn of(family: &Family) -> Self {
        Self {
            name: family.name.to_string(),
            kind: match family.kind {
                Kind::Counter => "counter".to_owned(),
                Kind::Gauge => "gauge".to_owned(),
            },
            labels: family.labels.iter().map(ToString::to_string).collect(),
            help: family.help.trim().to_owned(),
        }
    }

    /// By Prometheus' convention the unit stands at the end of the name.
    fn unit(&self) -> &'static str {
        let base = self.name.trim_end_matches("_total");
        let known = [
            ("_timestamp_seconds", "Unix time in seconds"),
            ("_start_time_seconds", "Unix time in seconds"),
            ("_bytes_read", "bytes"),
            ("_seconds", "seconds"),
            ("_bytes", "bytes"),
            ("_celsius", "degrees Celsius"),
            ("_ratio", "ratio, 0 to 1"),
        ];
        match known.iter().find(|(suffix, _)| base.ends_with(suffix)) {
            Some((_, unit)) => unit,
            None if self.labels.iter().any(|label| label == "unit") => "as the label `unit` says",
            None if self.kind == "counter" => "count",
            None => "none",
        }
    }
}

fn heading(out: &mut String, title: &str) {
    _ = writeln!(
        out,
        "\n## {title}\n\n| metric | type | unit | labels | meaning |\n|---|---|---|---|---|"
    );
}

fn row(out: &mut String, row: &Row, has_section: bool) {
    let name = match has_section {
        true => format!("[`{0}`](#{0})", row.name),
        false => code(&row.name),
    };
    let labels: Vec<String> = row.labels.iter().map(|label| code(label)).collect();
    _ = writeln!(
        out,
        "| {name} | {} | {} | {} | {} |",
        row.kind,
        row.unit(),
        labels.join(" "),
        cell(&row.help),
    );
}

fn section(out: &mut String, rules: &RuleSet, index: usize, always: &BTreeSet<(String, String)>) {
    let metric = &rules.metrics[index];
    let family = &metric.spec.family;
    _ = writeln!(out, "\n### {}\n\n{}\n", family.name, family.help.trim());
    for (label, domain) in family.labels.iter().skip(1).zip(&metric.spec.domains) {
        let values = match domain {
            LabelValues::OneOf(values) => format!(
                "one of {}; another value becomes `other`",
                list(values.iter())
            ),
            LabelValues::Any(known) if known.is_empty() => "any".to_owned(),
            LabelValues::Any(known) => format!("any; known beforehand: {}", list(known.iter())),
        };
        let only = match always.contains(&(family.name.to_string(), label.to_string())) {
            true => "",
            false => " (only with `labels.remote_address: true`)",
        };
        item(out, &format!("Label `{label}`{only}: {values}."));
    }
    if let Some(seconds) = metric.spec.expire_seconds {
        let days = seconds / 86_400;
        item(
            out,
            &format!("A series goes after {days} days without a line about it."),
        );
    }
    let feeding: Vec<_> = rules
        .rules
        .iter()
        .filter(|rule| rule.updates.iter().any(|update| update.metric == index))
        .collect();
    let mut by_pack: Vec<(&str, Vec<&str>)> = Vec::new();
    for (pack, event) in feeding.iter().filter_map(|rule| rule.id.split_once('/')) {
        match by_pack.last_mut() {
            Some((last, events)) if *last == pack => events.push(event),
            _ => by_pack.push((pack, vec![event])),
        }
    }
    let packs = by_pack.iter();
    let packs = packs.map(|(pack, events)| format!("`{pack}` ({})", list(events.iter())));
    let packs = packs.collect::<Vec<_>>().join(", ");
    item(out, &format!("Fed by the rules of the packs {packs}."));
    let start = format!("{}{{", family.name);
    let bare = format!("{} ", family.name);
    let example =
        feeding
            .iter()
            .flat_map(|rule| &rule.examples)
            .find_map(|example| match example {
                Example::Lines { lines, samples, .. } => {
                    let sample = samples
                        .iter()
                        .find(|sample| sample.starts_with(&start) || sample.starts_with(&bare))?;
                    Some((lines, sample))
                }
                Example::Not { .. } => None,
            });
    if let Some((lines, sample)) = example {
        _ = writeln!(out, "\n```\n{}\n{sample}\n```", lines.join("\n"));
    }
}

/// An item of a list, folded at 120 characters.
fn item(out: &mut String, text: &str) {
    let mut line = "-".to_owned();
    for word in text.split(' ') {
        if line.chars().count() + 1 + word.chars().count() > 120 {
            _ = writeln!(out, "{line}");
            line = " ".to_owned();
        }
        line.push(' ');
        line.push_str(word);
    }
    _ = writeln!(out, "{line}");
}

fn list<T: AsRef<str>>(items: impl Iterator<Item = T>) -> String {
    items
        .map(|item| code(item.as_ref()))
        .collect::<Vec<_>>()
        .join(", ")
}

const INTRODUCTION: &str = "\
# Metrics

Made from the rule packs and the code by a test; change those, then run `UPDATE=1 cargo test --test it reference`.

Every series about a device has the label `appliance`: the device that the line is about. Series that are fed by lines
with the appliance's test marker have `test=\"true\"` besides, and no other series is touched by such lines. Where a
label's values are listed, a counter exists at 0 for every appliance of the profile before its first event; any other
counter is shown to each scraper at 0 once, and then as it is, so that `increase()` sees its first event.

## Zero before one

`increase()` does not see what a series begins with. So a counter that comes into being after the start (its birth) is
at 0 in the first scrape of each scraper that shows it, and has its value from the next one on: the first event is seen
after one interval of that scraper, and a bit.

- **A scraper** is a connection that is kept alive and whose requests carry `X-Prometheus-Scrape-Timeout-Seconds`.
  Prometheus, its agent mode and the OpenTelemetry collector do both. Everybody else, such as curl, sees values as they
  are, and takes nothing away from scrapers. Any number of scrapers is served, each with its own zeros.
- **A new connection** goes on where a closed one of the same address and `User-Agent` stopped. If several of them are
  closed, the one that was shown most counts. A connection that matches none goes on where the scraper stopped that was
  shown most: it may be one of them with a new address. In both cases nothing that was shown falls, but a scraper may miss the
  first event of what was born between its last scrape and the new connection.
- **An answer that is lost** on its way (the client is gone, or resets the connection) is given again: births that it
  showed are at 0 once more. The next request on the same connection, or its orderly end, says that it arrived.
- **A restart** with a state directory (`state.directory`) loses nothing of this if each scraper has an address of its own:
  what is counted while the exporter was
  down, or was counted and not yet scraped, is a birth. Only a first start without state has no births: what it finds in old logs
  is no burst of events. For the same reason a birth is shown with its value only once a checkpoint with it is on disk,
  at most `state.interval` (5 seconds) later: after `kill -9` nothing falls. If checkpoints cannot be written, values are
  shown without them, and may fall if the process dies then. A lost answer and a death before the next checkpoint
  together can cost a first event. A scraper that no checkpoint knew of when the exporter was killed is a new one to the
  next process.
- **Until the backlog is read** that is found at the start, `/metrics` has the exporter's own metrics only, with
  `appliance_log_exporter_ready` at 0 and what is left to read in `appliance_log_exporter_source_lag_bytes`. Births are
  shown from then on.
- **Proxies.** HTTP/2 is not spoken; a proxy may speak it with its clients. A proxy that adds `Via`, `Forwarded` or `X-Forwarded-For` is
  recognised: all scrapers behind it with the same `User-Agent` are one, so nothing falls, and the slower of two may
  miss a first event. A proxy that shares connections between scrapers must add one of these headers, or keep a connection for
  each client (nginx: leave out `keepalive` in `upstream`, or `proxy_set_header X-Forwarded-For $remote_addr;`).
  Scraping directly is better.
- **Intervals.** An idle scraper's connection is kept for 5 minutes and a half. With longer intervals each scrape is a
  new connection, which is recognised as above.

Series also have a start timestamp, which is the time of their birth, for Prometheus 3 with
`--enable-feature=created-timestamp-zero-ingestion`. It is in the protobuf format alone
(`scrape_protocols: [PrometheusProto]`), and kept over restarts. There are no `_created` series in the text formats:
Prometheus without that flag would store them as series of their own.

**Over a restart**, counters of appliances go on with a state directory. What a scrape has shown is in a checkpoint within
a second, so they fall only if the exporter is killed within that second and the lines are in no file at the next start.
The exporter's own counters (`appliance_log_exporter_…_total`) begin at 0 with each process.
";
