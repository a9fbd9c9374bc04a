//! The alert rules keep their promises: each is tested by promtool, has a runbook, and looks only at metrics and labels
//! that exist. What is made from them (`PrometheusRule`, mixin) is up to date; `UPDATE=1 cargo test alerts` renews it.
//!
//! What Alertmanager does with the alerts is tested in `alertmanager`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use promql_parser::label::MatchOp;
use promql_parser::parser::{self, Expr, LabelModifier, VectorSelector};
use promql_parser::util::{ExprVisitor, walk_expr};
use serde::{Deserialize, Serialize};

use crate::support::{program, root, succeeds};

/// A Prometheus rule file. Unknown keys are refused, as Prometheus refuses them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleFile {
    groups: Vec<Group>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    name: String,
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) alert: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<String>,
    expr: String,
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    hold: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_firing_for: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

/// The parts of a promtool test file that are looked at here.
#[derive(Deserialize)]
struct UnitTestFile {
    tests: Vec<UnitTest>,
}

#[derive(Deserialize)]
struct UnitTest {
    #[serde(default)]
    input_series: Vec<InputSeries>,
    #[serde(default)]
    alert_rule_test: Vec<AlertTest>,
}

#[derive(Deserialize)]
struct InputSeries {
    series: String,
}

#[derive(Deserialize)]
struct AlertTest {
    alertname: String,
    #[serde(default)]
    exp_alerts: Vec<serde_yaml::Value>,
}

/// Those files of `directory` that end in `suffix`, in the order of their names.
fn files(directory: &str, suffix: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(root().join(directory))
        .unwrap_or_else(|error| panic!("{directory}: {error}"))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.to_string_lossy().ends_with(suffix))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no *{suffix} in {directory}");
    found
}

fn read<T: serde::de::DeserializeOwned>(path: &PathBuf) -> T {
    let text =
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn groups() -> Vec<Group> {
    files("rules/alerts", ".yaml")
        .iter()
        .flat_map(|path| read::<RuleFile>(path).groups)
        .collect()
}

fn rules() -> Vec<Rule> {
    groups().into_iter().flat_map(|group| group.rules).collect()
}

/// Every alert with its name.
pub(crate) fn alerts() -> Vec<(String, Rule)> {
    rules()
        .into_iter()
        .filter_map(|rule| Some((rule.alert.clone()?, rule)))
        .collect()
}

fn unit_tests() -> Vec<UnitTest> {
    files("rules/alerts/tests", ".yaml")
        .iter()
        .flat_map(|path| read::<UnitTestFile>(path).tests)
        .collect()
}

#[test]
fn promtool_accepts_every_rule() {
    succeeds(
        Command::new(program("promtool"))
            .args(["check", "rules", "--lint=all", "--lint-fatal"])
            .args(files("rules/alerts", ".yaml")),
    );
}

#[test]
fn promtool_sees_every_alert_fire_and_resolve_and_a_healthy_day_pass() {
    succeeds(
        Command::new(program("promtool"))
            .args(["test", "rules"])
            .args(files("rules/alerts/tests", ".yaml")),
    );
}

#[test]
fn every_alert_has_a_unit_test_in_which_it_fires_and_is_silent() {
    let mut seen: BTreeMap<String, (bool, bool)> = BTreeMap::new();
    for test in unit_tests()
        .into_iter()
        .flat_map(|test| test.alert_rule_test)
    {
        let (fires, silent) = seen.entry(test.alertname).or_default();
        *fires |= !test.exp_alerts.is_empty();
        *silent |= test.exp_alerts.is_empty();
    }
    for (name, _) in alerts() {
        let (fires, silent) = seen.get(&name).copied().unwrap_or_default();
        assert!(fires, "{name}: no unit test in which it fires");
        assert!(
            silent || name == "ApplianceWatchdog",
            "{name}: no unit test in which it is silent"
        );
    }
}

#[test]
fn the_healthy_day_has_every_metric_that_an_alert_looks_at() {
    let healthy = read::<UnitTestFile>(&root().join("rules/alerts/tests/healthy_test.yaml"));
    let present: BTreeSet<String> = healthy
        .tests
        .into_iter()
        .flat_map(|test| test.input_series)
        .map(|input| {
            input
                .series
                .split('{')
                .next()
                .unwrap_or_default()
                .to_owned()
        })
        .collect();
    let recorded: BTreeSet<String> = rules().into_iter().filter_map(|rule| rule.record).collect();
    for rule in rules() {
        for selector in selectors(&rule.expr) {
            let name = selector.name.unwrap_or_default();
            assert!(
                present.contains(&name) || recorded.contains(&name),
                "{name} is not in healthy_test.yaml"
            );
        }
    }
}

#[test]
fn every_alert_says_what_happened_and_what_to_do() {
    let mut names = BTreeSet::new();
    for (name, rule) in alerts() {
        assert!(names.insert(name.clone()), "{name} is there twice");
        assert!(
            name.starts_with("Appliance")
                && name.chars().all(|letter| letter.is_ascii_alphanumeric()),
            "{name}: alerts are CamelCase and begin with `Appliance`"
        );
        let severity = rule.labels.get("severity").map(String::as_str);
        assert!(
            matches!(severity, Some("critical" | "warning" | "info" | "none")),
            "{name}: severity {severity:?}"
        );
        assert!(
            rule.labels.contains_key("component"),
            "{name}: no component"
        );

        let annotation = |key: &str| {
            rule.annotations
                .get(key)
                .map(|text| text.trim())
                .unwrap_or_default()
        };
        let summary = annotation("summary");
        assert!(
            summary.ends_with('.'),
            "{name}: the summary is not a sentence"
        );
        assert!(
            !summary.contains("{{"),
            "{name}: a summary stands for the group; values go into the description"
        );
        assert!(
            annotation("description").ends_with('.'),
            "{name}: the description is not a sentence"
        );
        let group_label = rule.expr.contains("by (appliance");
        assert_eq!(
            group_label,
            annotation("description").contains("{{ $labels.appliance }}"),
            "{name}: the description names the appliance if the alert has one"
        );
    }
}

#[test]
fn every_alert_has_its_runbook_and_every_runbook_its_alert() {
    let base = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/runbooks");
    let mut names = BTreeSet::from(["README".to_owned()]);
    for (name, rule) in alerts() {
        let url = rule
            .annotations
            .get("runbook_url")
            .cloned()
            .unwrap_or_default();
        assert_eq!(
            url,
            format!("{base}/{name}.md"),
            "the base is `repository` in Cargo.toml"
        );
        let path = root().join(format!("docs/runbooks/{name}.md"));
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(
            text.starts_with(&format!("# {name}\n")),
            "{name}: the runbook has another title"
        );
        for section in [
            "What it means",
            "Check",
            "Usual causes",
            "What to do",
            "Escalate",
            "Raised by",
        ] {
            assert!(
                text.contains(&format!("\n## {section}\n")),
                "{name}: the runbook lacks `{section}`"
            );
        }
        names.insert(name);
    }
    for path in files("docs/runbooks", ".md") {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        assert!(
            names.contains(name.as_ref()),
            "{name}.md is no alert's runbook"
        );
    }
}

#[test]
fn alerts_look_only_at_metrics_and_labels_that_exist() {
    let known = known_metrics();
    for rule in rules() {
        let what = rule
            .alert
            .clone()
            .or(rule.record.clone())
            .unwrap_or_default();
        for selector in selectors(&rule.expr) {
            let name = selector.name.clone().unwrap_or_default();
            let Some(labels) = known.get(&name) else {
                panic!("{what}: docs/metrics.md has no {name}")
            };
            for matcher in &selector.matchers.matchers {
                let target_label = matches!(matcher.name.as_str(), "job" | "instance");
                assert!(
                    target_label || labels.contains(&matcher.name),
                    "{what}: {name} has no label {}",
                    matcher.name
                );
            }
        }
    }
}

#[test]
fn queries_in_runbooks_look_only_at_metrics_that_exist() {
    let known = known_metrics();
    for path in files("docs/runbooks", ".md") {
        let text = std::fs::read_to_string(&path).expect("it can be read");
        let block = text
            .split_once("```promql\n")
            .and_then(|(_, rest)| rest.split_once("```"));
        for query in block.into_iter().flat_map(|(queries, _)| queries.lines()) {
            for name in selectors(query)
                .into_iter()
                .filter_map(|selector| selector.name)
            {
                assert!(
                    name == "ALERTS" || known.contains_key(&name),
                    "{}: no {name}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn test_lines_raise_the_test_alert_and_no_other() {
    let known = known_metrics();
    for rule in rules() {
        let what = rule
            .alert
            .clone()
            .or(rule.record.clone())
            .unwrap_or_default();
        let wanted = if what == "ApplianceTestEvent" {
            "true"
        } else {
            ""
        };
        for selector in selectors(&rule.expr) {
            let name = selector.name.clone().unwrap_or_default();
            if !known
                .get(&name)
                .is_some_and(|labels| labels.contains("test"))
            {
                continue;
            }
            let test = selector
                .matchers
                .matchers
                .iter()
                .find(|matcher| matcher.name == "test");
            assert!(
                test.is_some_and(|test| test.op == MatchOp::Equal && test.value == wanted),
                "{what}: {name} is selected without test=\"{wanted}\""
            );
        }
    }
}

#[test]
fn events_that_alerts_look_at_are_notable() {
    let mut notable: BTreeMap<String, bool> = BTreeMap::new();
    for path in files("rules/packs", ".yaml") {
        let pack: serde_yaml::Value = read(&path);
        for rule in pack["rules"].as_sequence().into_iter().flatten() {
            let is_notable =
                |entry: &serde_yaml::Value| entry["notable"].as_bool().unwrap_or_default();
            if let Some(event) = rule["event"].as_str() {
                *notable.entry(event.to_owned()).or_default() |= is_notable(rule);
            }
            for (event, entry) in rule["events"].as_mapping().into_iter().flatten() {
                let event = event.as_str().unwrap_or_default().to_owned();
                *notable.entry(event).or_default() |= is_notable(entry) || is_notable(rule);
            }
        }
    }
    for (name, rule) in alerts() {
        for selector in selectors(&rule.expr)
            .into_iter()
            .filter(|it| it.name.as_deref() == Some("log_events_total"))
        {
            for matcher in selector
                .matchers
                .matchers
                .iter()
                .filter(|matcher| matcher.name == "event")
            {
                for event in matcher.value.split('|') {
                    assert_eq!(
                        notable.get(event),
                        Some(&true),
                        "{name}: no pack has {event} with `notable: true`"
                    );
                }
            }
        }
    }
}

#[test]
fn every_threshold_is_used_and_counted() {
    let defined: BTreeSet<String> = rules()
        .into_iter()
        .filter(|rule| rule.record.as_deref() == Some("appliance:threshold"))
        .filter_map(|rule| rule.labels.get("name").cloned())
        .collect();
    let used: BTreeSet<String> = rules()
        .iter()
        .flat_map(|rule| selectors(&rule.expr))
        .filter(|selector| selector.name.as_deref() == Some("appliance:threshold"))
        .flat_map(|selector| selector.matchers.matchers)
        .map(|matcher| matcher.value)
        .collect();
    assert_eq!(defined, used);

    let documented =
        std::fs::read_to_string(root().join("docs/alerting.md")).expect("it can be read");
    for rule in rules()
        .iter()
        .filter(|rule| rule.record.as_deref() == Some("appliance:threshold"))
    {
        let value = rule
            .expr
            .trim_start_matches("vector(")
            .trim_end_matches(')');
        let row = format!("\n| `{}` | `{value}` |", rule.labels["name"]);
        assert!(
            documented.contains(&row),
            "docs/alerting.md lacks the row {row}"
        );
    }

    let (_, check) = alerts()
        .into_iter()
        .find(|(name, _)| name == "ApplianceAlertingMisconfigured")
        .expect("it");
    assert!(
        check
            .expr
            .trim_end()
            .ends_with(&format!("!= {}", defined.len())),
        "{}",
        check.expr
    );
}

#[test]
fn what_is_made_from_the_rules_is_up_to_date() {
    let manifest = serde_json::json!({
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "appliance-log-exporter", "labels": {"app.kubernetes.io/name": "appliance-log-exporter"}},
        "spec": {"groups": groups()},
    });
    let manifest = serde_yaml::to_string(&manifest).expect("YAML");
    compare(
        "deploy/kubernetes/prometheusrule.yaml",
        &format!("# Made from rules/alerts by tests/it/alerts.rs.\n{manifest}"),
    );

    let part = |keep: fn(&Rule) -> bool| {
        let mut kept = groups();
        for group in &mut kept {
            group.rules.retain(keep);
        }
        kept.retain(|group| !group.rules.is_empty());
        serde_json::to_string_pretty(&serde_json::json!({ "groups": kept })).expect("JSON")
    };
    let (alerts, records) = (
        part(|rule| rule.alert.is_some()),
        part(|rule| rule.record.is_some()),
    );
    compare(
        "deploy/mixin/mixin.libsonnet",
        &format!(
            "// Made from rules/alerts by tests/it/alerts.rs.\n{{\n  prometheusAlerts+:: {alerts},\n  prometheusRules+:: {records},\n}}\n"
        ),
    );
    succeeds(
        Command::new(program("jsonnet"))
            .args(["-e", "(import 'deploy/mixin/mixin.libsonnet') { all: self.prometheusAlerts + self.prometheusRules }"])
            .current_dir(root()),
    );
}

/// Compares a generated file with what it should be, or writes it when `UPDATE` is set.
fn compare(path: &str, wanted: &str) {
    let target = root().join(path);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(target.parent().expect("a directory")).expect("it can be made");
        std::fs::write(&target, wanted).expect("it can be written");
    }
    let found = std::fs::read_to_string(&target).unwrap_or_default();
    assert!(
        found == wanted,
        "{path} is out of date: run `UPDATE=1 cargo test alerts`"
    );
}

/// Every metric that a rule may look at, with its labels: what docs/metrics.md lists, which is made from packs and code,
/// what the rules record, and what Prometheus says about its targets.
fn known_metrics() -> BTreeMap<String, BTreeSet<String>> {
    let reference =
        std::fs::read_to_string(root().join("docs/metrics.md")).expect("it can be read");
    let mut known = BTreeMap::from([("up".to_owned(), BTreeSet::new())]);
    for row in reference.lines() {
        // | [`name`](#name) | type | unit | `label` `label` | meaning |
        let cells: Vec<&str> = row.split(" | ").collect();
        let quoted = |cell: &str| -> Vec<String> {
            cell.split('`')
                .skip(1)
                .step_by(2)
                .map(str::to_owned)
                .collect()
        };
        if let [name, _type, _unit, labels, _meaning, ..] = cells[..]
            && let [name] = &quoted(name)[..]
        {
            let mut labels: BTreeSet<String> = quoted(labels).into_iter().collect();
            if labels.contains("appliance") {
                labels.insert("test".to_owned());
            }
            known.insert(name.clone(), labels);
        }
    }
    for rule in rules() {
        let Some(name) = rule.record else { continue };
        let labels: &mut BTreeSet<String> = known.entry(name).or_default();
        labels.extend(rule.labels.into_keys());
        labels.extend(grouping(&rule.expr));
    }
    known
}

fn parse(expression: &str) -> Expr {
    parser::parse(expression).unwrap_or_else(|error| panic!("{expression}\n{error}"))
}

/// Every vector selector in an expression.
fn selectors(expression: &str) -> Vec<VectorSelector> {
    struct Selectors(Vec<VectorSelector>);
    impl ExprVisitor for Selectors {
        type Error = std::convert::Infallible;
        fn pre_visit(&mut self, expr: &Expr) -> Result<bool, Self::Error> {
            match expr {
                Expr::VectorSelector(selector) => self.0.push(selector.clone()),
                Expr::MatrixSelector(matrix) => self.0.push(matrix.vs.clone()),
                _ => {}
            }
            Ok(true)
        }
    }
    let mut found = Selectors(Vec::new());
    let Ok(_) = walk_expr(&mut found, &parse(expression));
    found.0
}

/// The labels that the aggregations of an expression keep.
fn grouping(expression: &str) -> Vec<String> {
    struct Grouping(Vec<String>);
    impl ExprVisitor for Grouping {
        type Error = std::convert::Infallible;
        fn pre_visit(&mut self, expr: &Expr) -> Result<bool, Self::Error> {
            if let Expr::Aggregate(aggregate) = expr
                && let Some(LabelModifier::Include(labels)) = &aggregate.modifier
            {
                self.0.extend(labels.labels.iter().cloned());
            }
            Ok(true)
        }
    }
    let mut found = Grouping(Vec::new());
    let Ok(_) = walk_expr(&mut found, &parse(expression));
    found.0
}
