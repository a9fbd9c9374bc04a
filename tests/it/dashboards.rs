//! The dashboards in `grafana/dashboards/`: they are what the generator writes, fit Grafana's own types, obey the
//! seventeen rules of Grafana's dashboard linter, and ask only what Prometheus can parse and the exporter can answer.
//!
//! The linter itself is a Go program and not at hand here; its rules are written down again below, each under its name.
//! Where a rule does not fit, [`EXCEPTIONS`] says why. An exception that nothing needs any more fails too.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::{Call, Expr, MatrixSelector, VectorSelector, parse};
use promql_parser::util::{ExprVisitor, walk_expr};
use serde_json::Value;

use crate::support::{program, root, succeeds};

/// Stand for `$__rate_interval` and `$__range` when an expression is parsed: durations that nobody would write.
const RATE_INTERVAL: Duration = Duration::from_secs(77 * 60);
const RANGE: Duration = Duration::from_secs(78 * 60);

/// Units that the panels use, all of them in Grafana's own list.
const UNITS: &[&str] = &[
    "Bps",
    "bytes",
    "celsius",
    "dtdurations",
    "percentunit",
    "rotrpm",
    "s",
    "short",
    "volt",
];

/// A linter rule that does not hold, where (dashboard uid, and metric or `*`), and why.
struct Exception {
    rule: &'static str,
    dashboards: fn(&str) -> bool,
    metric: &'static str,
    reason: &'static str,
}

const EXCEPTIONS: &[Exception] = &[
    Exception {
        rule: "template-instance-rule",
        dashboards: |uid| !is_about_exporters(uid),
        metric: "*",
        reason: "the thing watched is the appliance; the instance may be the exporter that read its lines",
    },
    Exception {
        rule: "target-instance-rule",
        dashboards: |uid| !is_about_exporters(uid),
        metric: "*",
        reason: "the thing watched is the appliance; every selector has `appliance=~\"$appliance\"` instead",
    },
    Exception {
        rule: "target-instance-rule",
        dashboards: |uid| uid == "appliance-log-exporter",
        metric: "log_unmatched_messages_total",
        reason: "relabelling may have made the appliance the instance of this series",
    },
    Exception {
        rule: "target-instance-rule",
        dashboards: |uid| uid == "appliance-log-exporter",
        metric: "log_messages_total",
        reason: "relabelling may have made the appliance the instance of this series",
    },
    Exception {
        rule: "target-instance-rule",
        dashboards: |uid| uid == "appliance-shards",
        metric: "appliance_shard",
        reason: "relabelling may have made the appliance the instance of this series",
    },
    Exception {
        rule: "target-job-rule",
        dashboards: |_| true,
        metric: "ALERTS",
        reason: "an alert keeps only the labels that its rule keeps, and the job need not be one",
    },
];

/// Those of which the thing watched is the exporter.
fn is_about_exporters(uid: &str) -> bool {
    ["appliance-log-exporter", "appliance-shards"].contains(&uid)
}

struct Dashboard {
    file: String,
    json: Value,
}

impl Dashboard {
    fn uid(&self) -> &str {
        self.json["uid"].as_str().expect("a uid")
    }

    /// Rows and panels, those in closed rows as well.
    fn rows_and_panels(&self) -> impl Iterator<Item = &Value> {
        list(&self.json["panels"])
            .iter()
            .flat_map(|panel| std::iter::once(panel).chain(list(&panel["panels"])))
    }

    fn panels(&self) -> impl Iterator<Item = &Value> {
        self.rows_and_panels()
            .filter(|panel| panel["type"] != "row")
    }

    fn variables(&self, kind: &str) -> Vec<&Value> {
        list(&self.json["templating"]["list"])
            .iter()
            .filter(|variable| variable["type"] == kind)
            .collect()
    }

    /// Every expression of every panel, with the panel.
    fn targets(&self) -> impl Iterator<Item = (&Value, &str)> {
        self.panels().flat_map(|panel| {
            list(&panel["targets"])
                .iter()
                .map(move |target| (panel, target["expr"].as_str().unwrap_or_default()))
        })
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn dashboards() -> Vec<Dashboard> {
    let mut found: Vec<Dashboard> = std::fs::read_dir(root().join("grafana/dashboards"))
        .expect("grafana/dashboards")
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let text = std::fs::read_to_string(&path).expect("a file");
            Dashboard {
                file: path.file_name().expect("a name").to_string_lossy().into(),
                json: serde_json::from_str(&text)
                    .unwrap_or_else(|error| panic!("{}: {error}", path.display())),
            }
        })
        .collect();
    found.sort_by(|a, b| a.file.cmp(&b.file));
    assert_eq!(found.len(), 8, "dashboards");
    found
}

/// The expression with Grafana's duration variables replaced; its other variables are inside strings.
fn with_durations(expression: &str) -> String {
    expression
        .replace("$__rate_interval", "77m")
        .replace("$__interval_ms", "60000")
        .replace("$__range_s", "4680")
        .replace("$__range", "78m")
}

fn parsed(expression: &str) -> Result<Expr, String> {
    parse(&with_durations(expression))
}

/// What an expression reads: selectors, and range selectors with the function that they are given to.
#[derive(Default)]
struct Reads {
    vectors: Vec<VectorSelector>,
    ranges: Vec<(String, MatrixSelector)>,
}

impl Reads {
    fn of(expression: &Expr) -> Self {
        let mut reads = Reads::default();
        walk_expr(&mut reads, expression).expect("a walk that cannot fail");
        reads
    }

    fn selectors(&self) -> impl Iterator<Item = &VectorSelector> {
        self.vectors
            .iter()
            .chain(self.ranges.iter().map(|(_, range)| &range.vs))
    }
}

impl ExprVisitor for Reads {
    type Error = std::convert::Infallible;

    fn pre_visit(&mut self, expression: &Expr) -> Result<bool, Self::Error> {
        match expression {
            Expr::VectorSelector(selector) => self.vectors.push(selector.clone()),
            Expr::Call(Call { func, args }) => {
                for argument in &args.args {
                    if let Expr::MatrixSelector(range) = argument.as_ref() {
                        self.ranges.push((func.name.to_string(), range.clone()));
                    }
                }
            }
            _ => {}
        }
        Ok(true)
    }
}

fn metric(selector: &VectorSelector) -> &str {
    selector.name.as_deref().unwrap_or_default()
}

/// Whether the rules record this series.
fn recorded(selector: &VectorSelector) -> bool {
    metric(selector).contains(':')
}

fn matcher<'a>(selector: &'a VectorSelector, label: &str) -> Option<&'a Matcher> {
    selector
        .matchers
        .matchers
        .iter()
        .find(|matcher| matcher.name == label)
}

fn has_variable_matcher(selector: &VectorSelector, label: &str) -> bool {
    matcher(selector, label).is_some_and(|matcher| {
        matches!(matcher.op, MatchOp::Re(_)) && matcher.value == format!("${label}")
    })
}

#[test]
fn the_generator_writes_what_is_committed() {
    let directory = tempfile::tempdir().expect("a directory");
    // Where it finds no packages, `npm ci` in grafana/ has not been run.
    succeeds(
        Command::new(program("node"))
            .arg(root().join("grafana/generate.mjs"))
            .arg(directory.path()),
    );
    for dashboard in dashboards() {
        let read = |path: std::path::PathBuf| std::fs::read_to_string(path).unwrap_or_default();
        let committed = read(root().join("grafana/dashboards").join(&dashboard.file));
        let generated = read(directory.path().join(&dashboard.file));
        assert!(
            committed == generated,
            "grafana/dashboards/{} is not what the generator writes: run `npm run generate` in grafana/",
            dashboard.file
        );
    }
}

#[test]
fn they_fit_grafanas_own_types() {
    succeeds(Command::new(program("node")).arg(root().join("grafana/validate.mjs")));
}

#[test]
fn links_and_bookmarks_keep_working() {
    let found: BTreeMap<String, String> = dashboards()
        .iter()
        .map(|dashboard| {
            (
                dashboard.uid().to_string(),
                dashboard.json["title"].as_str().unwrap_or_default().into(),
            )
        })
        .collect();
    let expected = [
        ("appliance-access", "Appliances / Access"),
        ("appliance-fleet", "Appliances / Fleet"),
        ("appliance-hardware", "Appliances / Hardware"),
        ("appliance-hsm", "Appliances / HSM and NTLS"),
        ("appliance-ipsec", "Appliances / IPsec"),
        ("appliance-ktls", "Appliances / kTLS"),
        ("appliance-log-exporter", "Appliances / Exporter"),
        ("appliance-shards", "Appliances / Shards"),
    ];
    assert_eq!(
        found,
        expected
            .map(|(uid, title)| (uid.into(), title.into()))
            .into()
    );

    for dashboard in dashboards() {
        let file = &dashboard.file;
        assert_eq!(dashboard.json["schemaVersion"], 39, "{file}");
        assert!(dashboard.json["id"].is_null(), "{file}");
        let link = &dashboard.json["links"][0];
        assert_eq!(link["includeVars"], true, "{file}");
        assert_eq!(link["keepTime"], true, "{file}");
        assert_eq!(link["tags"], dashboard.json["tags"], "{file}");
        let annotation = &dashboard.json["annotations"]["list"][0];
        let expression = annotation["expr"].as_str().unwrap_or_default();
        assert!(expression.starts_with("ALERTS{"), "{file}: {expression}");
        parsed(expression).unwrap_or_else(|error| panic!("{file}: {expression}: {error}"));

        // Links in cells go to a dashboard that is there.
        let text = dashboard.json.to_string();
        for target in text.split("\"/d/").skip(1) {
            let uid = target.split(['?', '"']).next().unwrap_or_default();
            assert!(found.contains_key(uid), "{file}: link to {uid}");
        }
    }
}

#[test]
fn panels_stand_beside_each_other_and_say_why_they_are_empty() {
    for dashboard in dashboards() {
        let file = &dashboard.file;
        let mut ids = BTreeSet::new();
        let mut titles = BTreeSet::new();
        let mut cells = BTreeSet::new();
        for panel in dashboard.rows_and_panels() {
            let title = panel["title"].as_str().unwrap_or_default();
            assert!(ids.insert(panel["id"].as_u64()), "{file}: id of {title}");
            assert!(titles.insert(title), "{file}: two panels `{title}`");
            let at = |key: &str| panel["gridPos"][key].as_u64().expect("a position");
            assert!(at("x") + at("w") <= 24, "{file}: {title} is too far right");
            for x in at("x")..at("x") + at("w") {
                for y in at("y")..at("y") + at("h") {
                    assert!(cells.insert((x, y)), "{file}: {title} lies on another");
                }
            }
        }
        for panel in dashboard.panels() {
            let title = panel["title"].as_str().unwrap_or_default();
            let defaults = &panel["fieldConfig"]["defaults"];
            let empty = defaults["noValue"].as_str().unwrap_or_default();
            assert!(
                !empty.is_empty(),
                "{file}: {title}: an empty panel says nothing"
            );
            // A state in colour has its word too, in the panel or in the column.
            let states = panel["type"] == "state-timeline";
            assert!(
                !states
                    || !list(&defaults["mappings"]).is_empty()
                        && panel["options"]["showValue"] == "auto",
                "{file}: {title}: states without words"
            );
        }
    }
}

/// docs/dashboards.md and README show them; take.mjs draws them. The fleets that it plays are files, which have no shards.
#[test]
fn pictures_are_there_and_small() {
    for dashboard in dashboards() {
        if dashboard.uid() == "appliance-shards" {
            continue;
        }
        let name = dashboard.file.trim_end_matches(".json");
        for fleet in ["healthy", "broken"] {
            let path = root().join(format!("docs/images/{fleet}-{name}.png"));
            let bytes = path.metadata().map_or(0, |file| file.len());
            assert!(
                (1_000..300_000).contains(&bytes),
                "{}: {bytes} bytes",
                path.display()
            );
        }
    }
}

/// A colour has a meaning: bars are in shades of warm or cold ones, and only lines, whose colours just tell one from
/// another, take theirs from a palette.
#[test]
fn bars_have_the_colour_of_what_they_mean() {
    let mut bars = 0;
    for dashboard in dashboards() {
        for panel in dashboard.panels() {
            let defaults = &panel["fieldConfig"]["defaults"];
            if defaults["custom"]["drawStyle"] != "bars" {
                continue;
            }
            bars += 1;
            let place = format!("{}: {}", dashboard.file, panel["title"]);
            let overrides = list(&panel["fieldConfig"]["overrides"]);
            let by_name = overrides
                .iter()
                .flat_map(|rule| list(&rule["properties"]))
                .filter(|property| property["id"] == "color")
                .map(|property| &property["value"]);
            for color in by_name.chain([&defaults["color"]]) {
                assert!(
                    color["mode"] == "shades" || color["mode"] == "fixed",
                    "{place}: {color}"
                );
            }
        }
    }
    assert!(bars > 15);
}

/// The first page that everybody looks at costs the same for three appliances and for hundreds: over time it reads one
/// recorded series for each, and whatever has more of them is asked about the present alone, or stands in a closed row.
#[test]
fn the_landing_page_reads_only_recorded_series_over_time() {
    let dashboards = dashboards();
    let fleet = dashboards
        .iter()
        .find(|dashboard| dashboard.uid() == "appliance-fleet")
        .expect("the landing page");
    let mut over_time = 0;
    for panel in list(&fleet.json["panels"]) {
        for target in list(&panel["targets"]) {
            let text = target["expr"].as_str().expect("an expression");
            let reads = Reads::of(&parsed(text).expect("PromQL"));
            let ranges = reads.ranges.iter().map(|(_, range)| &range.vs);
            let vectors = reads.vectors.iter().filter(|_| target["range"] == true);
            for selector in ranges.chain(vectors) {
                over_time += 1;
                assert!(metric(selector).starts_with("appliance:"), "{text}");
            }
        }
    }
    assert!(over_time > 0);
}

/// Test lines of an appliance must not look like faults: every series of an appliance is asked for without them.
#[test]
fn series_of_appliances_leave_test_lines_out() {
    for dashboard in dashboards() {
        if is_about_exporters(dashboard.uid()) {
            continue;
        }
        for (panel, expression) in dashboard.targets() {
            for selector in Reads::of(&parsed(expression).expect("PromQL")).selectors() {
                let place = format!("{}: {}: {selector}", dashboard.file, panel["title"]);
                if matches!(metric(selector), "ALERTS" | "appliance:exporter:up") {
                    continue;
                }
                // `|` at the end: alerts about exporters have no appliance.
                assert!(
                    matcher(selector, "appliance")
                        .is_some_and(|it| it.value.trim_end_matches('|') == "$appliance"),
                    "{place}"
                );
                if recorded(selector) {
                    continue; // from series without them
                }
                assert!(
                    matcher(selector, "test").is_some_and(|test| test.value.is_empty()),
                    "{place}"
                );
            }
        }
    }
}

/// Labels that every series may have, and those that an expression or an alert makes.
const OTHER_LABELS: &[&str] = &[
    "alertname",
    "appliance",
    "collector",
    "component",
    "instance",
    "job",
    "meaning",
    "severity",
    "site",
    "test",
    "version",
    "what",
];

/// Metrics of log lines that the exporter has without any pack, and their labels.
const LOG_METRICS: &[(&str, &[&str])] = &[
    ("appliance_expected", &[]),
    ("appliance_shard", &["source", "partition"]),
    ("log_event_last_timestamp_seconds", &["program", "event"]),
    ("log_events_total", &["program", "event"]),
    ("log_last_message_timestamp_seconds", &["program"]),
    ("log_messages_total", &["program", "severity"]),
    ("log_unmatched_messages_total", &["program"]),
];

/// The metrics that the packs declare: for each its labels, and for each label its values if they are enumerated.
fn declared() -> BTreeMap<String, BTreeMap<String, Vec<String>>> {
    let mut metrics: BTreeMap<String, BTreeMap<String, Vec<String>>> = LOG_METRICS
        .iter()
        .map(|(metric, labels)| {
            let labels = labels.iter().map(|label| (label.to_string(), vec![]));
            (metric.to_string(), labels.collect())
        })
        .collect();
    for entry in std::fs::read_dir(root().join("rules/packs")).expect("rules/packs") {
        let text = std::fs::read_to_string(entry.expect("an entry").path()).expect("a file");
        let pack: Value = serde_yaml::from_str(&text).expect("YAML");
        for (metric, declaration) in pack["metrics"].as_object().into_iter().flatten() {
            let labels = metrics.entry(metric.clone()).or_default();
            for (label, values) in declaration["labels"].as_object().into_iter().flatten() {
                let values = list(values).iter().map(|value| match value {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                });
                labels.entry(label.clone()).or_default().extend(values);
            }
        }
    }
    metrics
}

/// Names in the expressions are those of the packs: metrics, labels to select, group or title by, enumerated values.
#[test]
fn they_ask_for_what_the_packs_declare() {
    let declared = declared();
    for dashboard in dashboards() {
        for panel in dashboard.panels() {
            for target in list(&panel["targets"]) {
                let text = target["expr"].as_str().expect("an expression");
                let place = format!("{}: {}: {text}", dashboard.file, panel["title"]);
                let mut labels: BTreeSet<&str> = OTHER_LABELS.iter().copied().collect();
                let mut own = false;
                for selector in Reads::of(&parsed(text).expect("PromQL")).selectors() {
                    let name = metric(selector);
                    if name.starts_with("appliance_log_exporter_")
                        || name.starts_with("process_")
                        || name == "ALERTS"
                    {
                        own = true; // asked of a running exporter in another test
                        continue;
                    }
                    if recorded(selector) {
                        for source in sources(name) {
                            labels.extend(
                                declared
                                    .get_key_value(&source)
                                    .into_iter()
                                    .flat_map(|(_, known)| known.keys().map(String::as_str)),
                            );
                        }
                        continue;
                    }
                    let (_, known) = declared
                        .get_key_value(name)
                        .unwrap_or_else(|| panic!("{place}: no pack declares {name}"));
                    labels.extend(known.keys().map(String::as_str));
                    for matcher in &selector.matchers.matchers {
                        let label = &matcher.name;
                        if OTHER_LABELS.contains(&label.as_str()) {
                            continue;
                        }
                        let values = known
                            .get(label)
                            .unwrap_or_else(|| panic!("{place}: {name} has no label {label}"));
                        for value in matcher.value.split('|') {
                            assert!(
                                values.is_empty() || values.iter().any(|it| it == value),
                                "{place}: {label} of {name} is never {value}"
                            );
                        }
                    }
                }
                if own {
                    continue;
                }
                let legend = target["legendFormat"].as_str().unwrap_or_default();
                let grouped = text
                    .split("by (")
                    .skip(1)
                    .filter_map(|rest| rest.split(')').next())
                    .flat_map(|by| by.split(", "));
                let titled = legend
                    .split("{{")
                    .skip(1)
                    .filter_map(|rest| rest.split("}}").next());
                for label in grouped.chain(titled) {
                    assert!(
                        labels.contains(label),
                        "{place}: nothing has a label {label}"
                    );
                }
            }
        }
    }
}

#[test]
fn every_metric_of_the_packs_is_on_a_dashboard() {
    let shown = shown();
    let declared: BTreeSet<String> = declared().into_keys().collect();
    let missing: Vec<_> = declared.difference(&shown).collect();
    assert!(missing.is_empty(), "on no dashboard: {missing:?}");
}

/// The metrics that any panel asks for, and what those are recorded from.
fn shown() -> BTreeSet<String> {
    let mut shown = BTreeSet::new();
    for dashboard in dashboards() {
        for metric in dashboard
            .targets()
            .flat_map(|(_, expression)| metrics(expression))
        {
            shown.extend(sources(&metric));
            shown.insert(metric);
        }
    }
    shown
}

/// What a series is recorded from, over all steps; nothing for one that is not recorded.
fn sources(name: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut waiting = vec![name.to_owned()];
    while let Some(name) = waiting.pop() {
        for rule in recording_rules()
            .iter()
            .filter(|rule| rule["record"] == *name)
        {
            for metric in metrics(rule["expr"].as_str().expect("an expression")) {
                if found.insert(metric.clone()) {
                    waiting.push(metric);
                }
            }
        }
    }
    found
}

fn recording_rules() -> &'static [Value] {
    static RULES: std::sync::LazyLock<Vec<Value>> = std::sync::LazyLock::new(|| {
        let mut rules = alerting_rules();
        rules.retain(|rule| !rule["record"].is_null());
        rules
    });
    &RULES
}

/// Every rule of `rules/alerts`.
fn alerting_rules() -> Vec<Value> {
    let mut rules = Vec::new();
    for entry in std::fs::read_dir(root().join("rules/alerts")).expect("rules/alerts") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a file");
        let file: Value = serde_yaml::from_str(&text).expect("YAML");
        for group in list(&file["groups"]) {
            rules.extend(list(&group["rules"]).iter().cloned());
        }
    }
    rules
}

/// Whoever doubts a panel must know which lines to look for: its description names a program, or the pack, that feeds
/// each of its metrics.
#[test]
fn panels_say_which_log_messages_feed_them() {
    let mut feeders: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for entry in std::fs::read_dir(root().join("rules/packs")).expect("rules/packs") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("a file");
        let pack: Value = serde_yaml::from_str(&text).expect("YAML");
        let programs = pack["programs"].as_object().into_iter().flatten();
        let names = programs
            .map(|(program, _)| program.clone())
            .chain(pack["pack"].as_str().map(String::from));
        let names: BTreeSet<String> = names.map(|name| name.to_lowercase()).collect();
        for (metric, _) in pack["metrics"].as_object().into_iter().flatten() {
            feeders
                .entry(metric.clone())
                .or_default()
                .extend(names.clone());
        }
    }
    for (metric, _) in LOG_METRICS {
        feeders.insert(metric.to_string(), ["log".into(), "message".into()].into());
    }
    let mut silent = BTreeSet::new();
    for dashboard in dashboards() {
        for (panel, expression) in dashboard.targets() {
            let about = panel["description"].as_str().unwrap_or_default();
            let about = about.to_lowercase();
            let metrics = metrics(expression).into_iter();
            let with_sources = metrics.flat_map(|metric| match metric.ends_with(":latest") {
                true => sources(&metric),
                false => [metric].into(),
            });
            for metric in with_sources.filter(|it| it != "log_last_message_timestamp_seconds") {
                let Some(names) = feeders.get(&metric) else {
                    continue;
                };
                if !names.iter().any(|name| about.contains(name)) {
                    silent.insert(format!(
                        "{}: {} does not say that {names:?} feed {metric}",
                        dashboard.file, panel["title"]
                    ));
                }
            }
        }
    }
    assert!(silent.is_empty(), "{silent:#?}");
}

/// Whoever is paged must find what the alert saw: every metric that a rule looks at is on a dashboard.
#[test]
fn they_show_every_metric_that_an_alert_looks_at() {
    let shown = shown();
    let mut looked_at: BTreeSet<String> = alerting_rules()
        .iter()
        .flat_map(|rule| metrics(rule["expr"].as_str().expect("an expression")))
        .collect();
    // Recording rules have a colon in their names; what they are made of is looked at by itself.
    looked_at.retain(|metric| !metric.contains(':'));
    assert!(looked_at.len() > 20, "{looked_at:?}");
    let missing: Vec<_> = looked_at.difference(&shown).collect();
    assert!(missing.is_empty(), "on no dashboard: {missing:?}");
}

fn metrics(expression: &str) -> Vec<String> {
    let expression = parsed(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
    Reads::of(&expression)
        .selectors()
        .map(|selector| metric(selector).to_string())
        .collect()
}

#[test]
fn the_seventeen_linter_rules_hold() {
    let mut faults = Vec::new();
    let mut used = BTreeSet::new();
    for dashboard in dashboards() {
        for fault in lint(&dashboard) {
            let exception = EXCEPTIONS.iter().position(|exception| {
                exception.rule == fault.rule
                    && (exception.dashboards)(dashboard.uid())
                    && (exception.metric == "*" || exception.metric == fault.metric)
            });
            match exception {
                Some(index) => _ = used.insert(index),
                None => faults.push(format!(
                    "{}: {}: {} {}",
                    dashboard.file, fault.rule, fault.metric, fault.text
                )),
            }
        }
    }
    for (index, exception) in EXCEPTIONS.iter().enumerate() {
        if !used.contains(&index) {
            faults.push(format!(
                "exception to {} for {} is not needed any more ({})",
                exception.rule, exception.metric, exception.reason
            ));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

struct Fault {
    rule: &'static str,
    metric: String,
    text: String,
}

fn lint(dashboard: &Dashboard) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut fault = |rule, metric: &str, text: String| {
        faults.push(Fault {
            rule,
            metric: metric.into(),
            text,
        });
    };

    if dashboard.json["editable"] != false {
        fault("uneditable-dashboard", "", "it is editable".into());
    }

    let sources = dashboard.variables("datasource");
    if !matches!(sources[..], [source] if source["name"] == "datasource" && source["label"] == "Data source" && source["query"] == "prometheus")
    {
        fault(
            "template-datasource-rule",
            "",
            "want one variable `datasource` labelled `Data source` for Prometheus".into(),
        );
    }
    for (rule, name, label) in [
        ("template-job-rule", "job", "Job"),
        ("template-instance-rule", "instance", "Instance"),
    ] {
        let good = dashboard.variables("query").iter().any(|variable| {
            variable["name"] == name
                && variable["label"] == label
                && variable["datasource"]["uid"] == "${datasource}"
                && variable["multi"] == true
                && variable["includeAll"] == true
                && variable["allValue"] == ".+"
        });
        if !good {
            fault(rule, "", format!("no good variable `{name}`"));
        }
    }
    for variable in dashboard.variables("query") {
        let query = variable["query"].as_str().unwrap_or_default();
        let selector = query
            .strip_prefix("label_values(")
            .and_then(|rest| rest.strip_suffix(')'))
            .and_then(|rest| rest.rsplit_once(", "))
            .map(|(selector, _)| parsed(selector));
        if !matches!(selector, Some(Ok(_))) {
            fault("template-label-promql-rule", "", query.into());
        }
        if variable["refresh"] != 2 {
            fault("template-on-time-change-reload-rule", "", query.into());
        }
    }

    for panel in dashboard.panels() {
        let title = panel["title"].as_str().unwrap_or_default();
        if panel["datasource"]["uid"] != "${datasource}" {
            fault("panel-datasource-rule", "", title.into());
        }
        if title.is_empty() || panel["description"].as_str().is_none_or(str::is_empty) {
            fault("panel-title-description-rule", "", title.into());
        }
        if list(&panel["targets"]).is_empty() {
            fault("panel-no-targets-rule", "", title.into());
        }
        let properties = || {
            list(&panel["fieldConfig"]["overrides"])
                .iter()
                .flat_map(|rule| list(&rule["properties"]))
        };
        let mapped = !list(&panel["fieldConfig"]["defaults"]["mappings"]).is_empty()
            || properties().any(|property| property["id"] == "mappings");
        let units: Vec<&str> = properties()
            .filter(|property| property["id"] == "unit")
            .map(|property| &property["value"])
            .chain([&panel["fieldConfig"]["defaults"]["unit"]])
            .filter_map(Value::as_str)
            .collect();
        if (!mapped && units.is_empty()) || units.iter().any(|unit| !UNITS.contains(unit)) {
            fault("panel-units-rule", "", format!("{title}: {units:?}"));
        }
        for target in list(&panel["targets"]) {
            // All queries are PromQL, so the two rules about LogQL have nothing to look at.
            if !target["datasource"].is_null() && target["datasource"]["type"] != "prometheus" {
                fault("target-logql-rule", "", title.into());
                fault("target-logql-auto-rule", "", title.into());
            }
        }
    }

    for (panel, expression) in dashboard.targets() {
        let place = format!("{}: {expression}", panel["title"]);
        let expression = match parsed(expression) {
            Ok(expression) => expression,
            Err(error) => {
                fault("target-promql-rule", "", format!("{place}: {error}"));
                continue;
            }
        };
        let reads = Reads::of(&expression);
        for (function, range) in &reads.ranges {
            // Of the time range as a whole one can only ask for an increase.
            let good = range.range == RATE_INTERVAL
                || range.range == RANGE && !matches!(function.as_str(), "rate" | "irate");
            if !good {
                fault(
                    "target-rate-interval-rule",
                    metric(&range.vs),
                    place.clone(),
                );
            }
            if metric(&range.vs).ends_with("_total")
                && !matches!(function.as_str(), "rate" | "irate" | "increase")
            {
                fault("target-counter-agg-rule", metric(&range.vs), place.clone());
            }
        }
        for selector in &reads.vectors {
            if metric(selector).ends_with("_total") {
                fault("target-counter-agg-rule", metric(selector), place.clone());
            }
        }
        // What is recorded keeps the labels that its rule keeps, and the job is none of them.
        for selector in reads.selectors().filter(|selector| !recorded(selector)) {
            for (rule, label) in [
                ("target-job-rule", "job"),
                ("target-instance-rule", "instance"),
            ] {
                if !has_variable_matcher(selector, label) {
                    fault(rule, metric(selector), place.clone());
                }
            }
        }
    }
    faults
}
