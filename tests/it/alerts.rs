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
    pub(crate) record: Option<String>,
    pub(crate) expr: String,
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub(crate) hold: Option<String>,
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
pub(crate) fn files(directory: &str, suffix: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(root().join(directory))
        .unwrap_or_else(|error| panic!("{directory}: {error}"))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.to_string_lossy().ends_with(suffix))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no *{suffix} in {directory}");
    found
}

pub(crate) fn read<T: serde::de::DeserializeOwned>(path: &PathBuf) -> T {
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

pub(crate) fn rules() -> Vec<Rule> {
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
#[ignore = "needs a Prometheus that is built first: make long-incidents"]
fn promtool_of_prometheus_3_sees_the_same() {
    let built = succeeds(&mut Command::new(
        root().join("tests/install-prometheus3.sh"),
    ));
    succeeds(
        Command::new(PathBuf::from(built.out.trim()).join("promtool"))
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
                name == "ALERTS" || present.contains(&name) || recorded.contains(&name),
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
            annotation("description").ends_with('.'),
            "{name}: the description is not a sentence"
        );
        let about_all = [
            "ApplianceWatchdog",
            "ApplianceAllSilent",
            "ApplianceMonitoringDown",
            "ApplianceNoExporter",
            "ApplianceAlertingMisconfigured",
        ];
        for text in [summary, annotation("description")] {
            let names = ["appliance", "instance", "source"]
                .iter()
                .any(|label| text.contains(&format!("{{{{ $labels.{label} }}}}")));
            assert!(
                names || about_all.contains(&name.as_str()),
                "{name}: `{text}` does not name the appliance, the exporter or its source"
            );
        }
        let (uid, _) = annotation("dashboard_url")
            .strip_prefix("/d/")
            .map(|rest| rest.split_once('?').unwrap_or((rest, "")))
            .unwrap_or_else(|| panic!("{name}: no link to a dashboard"));
        assert!(
            dashboards().contains(uid),
            "{name}: no dashboard has the uid {uid}"
        );
    }
}

/// A runbook names the dashboard that the alert links to, by a part of its title, and no variable that it lacks.
fn leads_to_its_dashboard(name: &str, runbook: &str, rule: &Rule) {
    let line = runbook
        .lines()
        .find_map(|line| line.strip_prefix("Dashboard: "))
        .unwrap_or_else(|| panic!("{name}: the runbook names no dashboard"));
    let (title, url) = line
        .strip_suffix("` of your Grafana.")
        .and_then(|line| line.split_once(", `/d/"))
        .unwrap_or_else(|| panic!("{name}: {line}"));
    let (uid, query) = url.split_once('?').unwrap_or((url, ""));
    let alerts_url = &rule.annotations["dashboard_url"];
    let alerts_uid = alerts_url.trim_start_matches("/d/").split('?').next();
    assert_eq!(Some(uid), alerts_uid, "{name}");
    let dashboard = files("grafana/dashboards", ".json")
        .iter()
        .map(read::<serde_json::Value>)
        .find(|dashboard| dashboard["uid"] == uid)
        .unwrap_or_else(|| panic!("{name}: no dashboard has the uid {uid}"));
    let full = dashboard["title"].as_str().unwrap_or_default();
    assert!(
        full.split([' ', '/']).any(|word| word == title),
        "{name}: {uid} is called {full}, not {title}"
    );
    let variables = dashboard["templating"]["list"].as_array();
    for variable in query.split('&').filter_map(|part| part.split_once('=')) {
        let variable = variable.0.trim_start_matches("var-");
        assert!(
            variables.is_some_and(|list| list.iter().any(|known| known["name"] == variable)),
            "{name}: {uid} has no variable {variable}"
        );
    }
}

/// The uids of the dashboards.
fn dashboards() -> BTreeSet<String> {
    files("grafana/dashboards", ".json")
        .iter()
        .map(|path| {
            let dashboard: serde_json::Value = read(path);
            dashboard["uid"].as_str().expect("a uid").to_owned()
        })
        .collect()
}

/// While an exporter is away, none of its series is there. What looks at a state or a rate is held beyond its end, and what
/// looks at a time knows the last one for a while, so that a restart or a hand-over sends no false all-clear; but for what is
/// told about the monitoring itself, whose end is what one waits for.
#[test]
fn no_alert_ends_because_its_exporter_is_away_for_a_while() {
    const NOT_HELD: &[&str] = &[
        "ApplianceWatchdog",
        "ApplianceMonitoringDown",
        "ApplianceNoExporter",
        "ApplianceExporterDown",
        "ApplianceExporterNotReady",
        "ApplianceExporterCertificateExpiring",
        "ApplianceExporterSyslogCertificateExpiring",
        "ApplianceAlertingMisconfigured",
        // Nobody is told of these.
        "ApplianceHsmNonCriticalEvents",
        "ApplianceTestEvent",
    ];
    for (name, rule) in alerts() {
        let last = ["last_over_time(", "last_message_timestamp_seconds:max"];
        let is_by_time =
            rule.expr.contains("time() -") && last.iter().any(|last| rule.expr.contains(last));
        let is_held = rule.keep_firing_for.is_some() || is_by_time;
        assert_ne!(is_held, NOT_HELD.contains(&&*name), "{name}");
    }
}

/// An aggregation by named labels drops the others: `site`, `region` and what else a site's Prometheus gives its targets.
/// So alerts aggregate `without` what differs between two collectors, and the rest reaches the pager.
#[test]
fn labels_of_the_site_reach_the_pager() {
    for (name, rule) in alerts() {
        let by: Vec<String> = grouping(&rule.expr)
            .into_iter()
            .filter(|label| {
                !matches!(
                    label.as_str(),
                    "name" | "device" | "program" | "job" | "instance"
                )
            })
            .collect();
        assert!(
            by.iter()
                .all(|label| label == "site" || label == "appliance"),
            "{name} aggregates by {by:?}"
        );
        assert!(
            !rule.expr.contains("scalar("),
            "{name}: two sets of thresholds make scalar() NaN"
        );
    }
}

/// docs/alerting.md says why each alert has the severity that it has: a change of one is a change of both.
#[test]
fn every_severity_has_its_reason() {
    let text = std::fs::read_to_string(root().join("docs/alerting.md")).expect("it can be read");
    let (_, table) = text
        .split_once("| severity | because | alerts |\n|---|---|---|\n")
        .expect("a table");
    let mut reasons: Vec<(String, String)> = Vec::new();
    for row in table.lines().take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.trim_matches(['|', ' ']).split(" | ").collect();
        let [severity, _because, alerts] = cells[..] else {
            panic!("{row}");
        };
        let alerts = alerts.split(", ");
        reasons.extend(alerts.map(|name| (format!("Appliance{name}"), severity.to_owned())));
    }
    let mut found: Vec<(String, String)> = alerts()
        .into_iter()
        .map(|(name, rule)| (name, rule.labels["severity"].clone()))
        .collect();
    reasons.sort();
    found.sort();
    assert_eq!(reasons, found);
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
        leads_to_its_dashboard(&name, &text, &rule);
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
fn runbooks_begin_as_their_alerts_do() {
    let index = std::fs::read_to_string(root().join("docs/runbooks/README.md")).expect("an index");
    for path in files("rules/alerts", ".yaml") {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let groups = read::<RuleFile>(&path).groups;
        let rules = groups.into_iter().flat_map(|group| group.rules);
        for (name, rule) in rules.filter_map(|rule| Some((rule.alert.clone()?, rule))) {
            let mut summary = rule.annotations["summary"].clone();
            for (label, shown) in [
                ("appliance", "NAME"),
                ("instance", "NAME"),
                ("source", "SOURCE"),
                ("vpn", "VPN"),
                ("program", "A program"),
            ] {
                summary = summary.replace(&format!("{{{{ $labels.{label} }}}}"), shown);
            }
            let severity = &rule.labels["severity"];
            let wanted = format!("Severity {severity}. {summary} Rule: `rules/alerts/{file}`.");
            let text = runbook(&name);
            let begin = text.split("\n\n").nth(1).unwrap_or_default();
            assert_eq!(begin.replace('\n', " "), wanted, "{name}");
            let row = format!("\n| [{name}]({name}.md) | {severity} | {summary} |\n");
            assert!(index.contains(&row), "README.md lacks the row {row}");
        }
    }
}

/// What `forget` does, where a runbook tells to run it.
const FORGET: &str = "This removes all series of NAME and ends all its open alerts, also those of its HSM: look at \
    `ALERTS{appliance=\"NAME\"}` first. It needs `--web.enable-lifecycle` (in `/etc/default/appliance_log_exporter`) \
    or a password.";

#[test]
fn runbooks_that_tell_to_forget_an_appliance_say_what_that_ends() {
    for (name, _) in alerts() {
        let text = runbook(&name);
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(
            text.contains("appliance_log_exporter forget"),
            text.contains(FORGET),
            "{name}: beside `appliance_log_exporter forget` stands: {FORGET}"
        );
    }
}

/// Runbooks that say in their own words when the alert ends.
const ENDS_IN_OWN_WORDS: &[&str] = &[
    "ApplianceAllSilent",
    "ApplianceHardwareWatchdogOff",
    "ApplianceHsmNearZeroization",
    "ApplianceKtlsBadAuthenticationFromOne",
    "ApplianceRebooted",
    "ApplianceWatchdog",
];

/// `UPDATE=1` writes the section from `expr` and `keep_firing_for`.
#[test]
fn runbooks_say_when_the_alert_ends() {
    for (name, rule) in alerts() {
        let text = runbook(&name);
        let (before, rest) = text.split_once("\n## Ends\n\n").expect("a section");
        // What follows the first paragraph is said by hand.
        let (found, after) = rest.split_once("\n\n").expect("a section behind it");
        let wanted = match ENDS_IN_OWN_WORDS.contains(&name.as_str()) {
            true => found.to_owned(),
            false => wrapped(&(ends(&rule) + &expires(&rule))),
        };
        if std::env::var_os("UPDATE").is_some() {
            let text = format!("{before}\n## Ends\n\n{wanted}\n\n{after}");
            let path = root().join(format!("docs/runbooks/{name}.md"));
            std::fs::write(path, text).expect("it can be written");
            continue;
        }
        assert_eq!(
            found, wanted,
            "{name}: run `UPDATE=1 cargo test --test it alerts`"
        );
    }
}

fn runbook(name: &str) -> String {
    let path = root().join(format!("docs/runbooks/{name}.md"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// When an alert ends, in a sentence.
fn ends(rule: &Rule) -> String {
    let keep = rule.keep_firing_for.as_deref().map(|text| {
        let keep = promql_parser::util::parse_duration(text).expect("a duration");
        keep.as_secs() / 60
    });
    match (lasts(&parse(&rule.expr)), keep) {
        (Lasts::SinceEvent(window), keep) => {
            let (window, keep) = (minutes(window), keep.map(minutes));
            let keep = keep.map_or(String::new(), |keep| {
                format!(", then {keep} `keep_firing_for`")
            });
            format!(
                "{window} after the last such message became known{keep}. Nothing on the appliance ends it sooner; silence it when it is dealt with."
            )
        }
        (Lasts::Window(window), None) => {
            format!(
                "{0} after the last event: the window of {0}.",
                minutes(window)
            )
        }
        (Lasts::Window(window), Some(keep)) => format!(
            "{} after the last event: the window of {}, then {} `keep_firing_for`.",
            minutes(window + keep),
            minutes(window),
            minutes(keep)
        ),
        (Lasts::AtMost(window), keep) => {
            let keep = keep.unwrap_or_default();
            format!(
                "When fewer events than the threshold are left in the window of {}, then {} `keep_firing_for`: at most {} after the last event.",
                minutes(window),
                minutes(keep),
                minutes(window + keep)
            )
        }
        (Lasts::WhileTrue, None) => "When the condition is over.".to_owned(),
        (Lasts::WhileTrue, Some(keep)) => format!(
            "{} after the condition is over (`keep_firing_for`), so that one that comes and goes is one page.",
            minutes(keep)
        ),
    }
}

/// That the state an alert looks at is removed some time after its last line, if the packs say so, in a sentence.
fn expires(rule: &Rule) -> String {
    let names_in = |expression: &str| -> BTreeSet<String> {
        let selectors = selectors(expression);
        selectors.into_iter().filter_map(|it| it.name).collect()
    };
    let mut names = names_in(&rule.expr);
    for recording in rules() {
        if recording.record.is_some_and(|name| names.contains(&name)) {
            names.extend(names_in(&recording.expr));
        }
    }
    let mut terms = BTreeSet::new();
    for path in files("rules/packs", ".yaml") {
        let pack: serde_yaml::Value = read(&path);
        for (name, metric) in pack["metrics"].as_mapping().into_iter().flatten() {
            if let (Some(name), Some(term)) = (name.as_str(), metric["expire"].as_str())
                && names.contains(name)
            {
                terms.insert(term.replace('d', " days"));
            }
        }
    }
    assert!(terms.len() <= 1, "{terms:?}");
    let sentence = |term: &String| {
        format!(
            " If no line says that it is over, the exporter removes the state {term} after the last line about it."
        )
    };
    terms.first().map(sentence).unwrap_or_default()
}

fn minutes(minutes: u64) -> String {
    match minutes {
        60 => "1 hour".to_owned(),
        1440 => "1 day".to_owned(),
        _ if minutes.is_multiple_of(60) => format!("{} hours", minutes / 60),
        _ => format!("{minutes} minutes"),
    }
}

/// Lines of at most 120 bytes.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("a line");
        if !last.is_empty() && last.len() + 1 + word.len() > 120 {
            lines.push(word.to_owned());
        } else {
            let space = if last.is_empty() { "" } else { " " };
            *last = format!("{last}{space}{word}");
        }
    }
    lines.join("\n")
}

/// How long an expression stays true, in minutes.
#[derive(Clone, Copy, PartialEq)]
enum Lasts {
    /// As long as a state does.
    WhileTrue,
    /// After a counter's last increase.
    Window(u64),
    /// After a counter's last increase, or shorter: it is compared with a threshold.
    AtMost(u64),
    /// After the exporter came to know of an event.
    SinceEvent(u64),
}

fn lasts(expression: &Expr) -> Lasts {
    let as_minutes = |duration: std::time::Duration| duration.as_secs() / 60;
    // Up to now, if it ends before.
    let window = |matrix: &parser::MatrixSelector| match &matrix.vs.offset {
        Some(parser::Offset::Pos(offset)) => as_minutes(matrix.range + *offset),
        _ => as_minutes(matrix.range),
    };
    match expression {
        Expr::Paren(inner) => lasts(&inner.expr),
        Expr::Aggregate(aggregate) => lasts(&aggregate.expr),
        Expr::Call(call) if call.func.name == "time" => Lasts::WhileTrue,
        Expr::Call(call) => call
            .args
            .args
            .iter()
            .map(|argument| match &**argument {
                // A lowest or largest value is that of a state, not a count of events.
                Expr::MatrixSelector(_) if call.func.name.ends_with("_over_time") => {
                    Lasts::WhileTrue
                }
                Expr::MatrixSelector(matrix) => Lasts::Window(window(matrix)),
                other => lasts(other),
            })
            .find(|lasts| *lasts != Lasts::WhileTrue)
            .unwrap_or(Lasts::WhileTrue),
        Expr::Binary(binary) => {
            let (left, right) = (lasts(&binary.lhs), lasts(&binary.rhs));
            match binary.op.to_string().as_str() {
                "and" => shorter(left, right),
                "or" => longer(left, right),
                "unless" => match &*binary.rhs {
                    // A counter that was not there then is a new one.
                    Expr::VectorSelector(before) => match &before.offset {
                        Some(parser::Offset::Pos(offset)) => Lasts::Window(as_minutes(*offset)),
                        _ => left,
                    },
                    _ => left,
                },
                "<" if binary.lhs.to_string().starts_with("time() - max")
                    && number(&binary.rhs).is_some() =>
                {
                    Lasts::SinceEvent(number(&binary.rhs).unwrap_or_default() as u64 / 60)
                }
                // What was counted in a window.
                "-" if binary.rhs.to_string().starts_with("min_over_time(") => match &*binary.rhs {
                    Expr::Call(call) => match call.args.args.first().map(|it| &**it) {
                        Some(Expr::MatrixSelector(matrix)) => Lasts::Window(window(matrix)),
                        _ => left,
                    },
                    _ => left,
                },
                ">" if number(&binary.rhs) == Some(0.0) => left,
                ">" | ">=" => match left {
                    Lasts::Window(window) => Lasts::AtMost(window),
                    other => other,
                },
                _ => left,
            }
        }
        _ => Lasts::WhileTrue,
    }
}

/// When both are true.
fn shorter(left: Lasts, right: Lasts) -> Lasts {
    match (left, right) {
        (Lasts::Window(a) | Lasts::AtMost(a), Lasts::Window(b) | Lasts::AtMost(b)) => {
            Lasts::AtMost(a.min(b))
        }
        (Lasts::WhileTrue, Lasts::Window(a) | Lasts::AtMost(a)) => Lasts::AtMost(a),
        _ => left,
    }
}

/// While one of them is true.
fn longer(left: Lasts, right: Lasts) -> Lasts {
    match (left, right) {
        (Lasts::Window(a), Lasts::Window(b)) => Lasts::Window(a.max(b)),
        (Lasts::SinceEvent(a), Lasts::Window(b)) => Lasts::SinceEvent(a.max(b)),
        _ => Lasts::WhileTrue,
    }
}

/// The value of a constant expression.
fn number(expression: &Expr) -> Option<f64> {
    match expression {
        Expr::NumberLiteral(number) => Some(number.val),
        Expr::Paren(inner) => number(&inner.expr),
        Expr::Binary(binary) if binary.op.to_string() == "*" => {
            Some(number(&binary.lhs)? * number(&binary.rhs)?)
        }
        _ => None,
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
                let target_label = matches!(
                    matcher.name.as_str(),
                    "job" | "instance" | "collector" | "site" | "profile"
                );
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
fn every_threshold_is_used_and_counted() {
    let defined: BTreeSet<String> = rules()
        .into_iter()
        .filter(|rule| rule.record.as_deref() == Some("appliance:threshold"))
        .filter_map(|rule| rule.labels.get("name").cloned())
        .collect();
    let used: BTreeSet<String> = rules()
        .iter()
        .flat_map(|rule| selectors(&rule.expr))
        .filter(|selector| {
            selector
                .name
                .as_deref()
                .is_some_and(|name| name.starts_with("appliance:threshold"))
        })
        .flat_map(|selector| selector.matchers.matchers)
        .filter(|matcher| matcher.name == "name")
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
    let told = &check.annotations["description"];
    assert!(
        !told.contains(|letter: char| letter.is_ascii_digit()),
        "the number stands in `expr` alone: {told}"
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
    let groups = serde_json::to_string_pretty(&groups()).expect("JSON");
    compare("deploy/mixin/rules.json", &format!("{groups}\n"));
}

/// What jsonnet makes of an expression that stands beside the mixin.
fn jsonnet(expression: &str) -> serde_json::Value {
    let said = succeeds(
        Command::new(program("jsonnet"))
            .args(["-e", expression])
            .current_dir(root().join("deploy/mixin")),
    );
    serde_json::from_str(&said.out).expect("JSON")
}

#[test]
fn the_mixin_leaves_other_mixins_their_groups_and_is_formatted() {
    let all = jsonnet(
        "{ prometheusAlerts+:: { groups+: [{ name: 'node-exporter', rules: [] }] } } + (import 'mixin.libsonnet') + { all: { alerts: $.prometheusAlerts, rules: $.prometheusRules, dashboards: $.grafanaDashboards } }",
    );
    let all = &all["all"];
    let names: Vec<&str> = all["alerts"]["groups"]
        .as_array()
        .expect("groups")
        .iter()
        .filter_map(|group| group["name"].as_str())
        .collect();
    assert!(
        names.contains(&"node-exporter") && names.contains(&"appliance-hsm"),
        "{names:?}"
    );
    let count = |part: &str, key: &str| -> usize {
        let groups = all[part]["groups"].as_array().expect("groups");
        let rules = groups
            .iter()
            .flat_map(|group| group["rules"].as_array().expect("rules"));
        rules.filter(|rule| !rule[key].is_null()).count()
    };
    assert_eq!(count("alerts", "alert"), alerts().len());
    assert_eq!(count("rules", "record"), rules().len() - alerts().len());
    assert_eq!(
        all["dashboards"].as_object().map(serde_json::Map::len),
        Some(dashboards().len())
    );
    for file in ["mixin.libsonnet", "config.libsonnet"] {
        succeeds(
            Command::new(program("jsonnetfmt"))
                .arg("--test")
                .arg(root().join("deploy/mixin").join(file)),
        );
    }
}

#[test]
fn what_is_set_in_the_mixin_reaches_its_rules() {
    let all = jsonnet(
        "local mixin = (import 'mixin.libsonnet') { _config+:: { selector: 'tenant=\"a\"', runbookURLPattern: 'https://intra/%s', dashboardURLPrefix: 'https://grafana', timeFactor: 0.1, thresholds+: { ssh_login_failures: 7 }, severities+: { ApplianceFanFailed: 'critical' } } }; mixin.prometheusAlerts.groups + mixin.prometheusRules.groups",
    );
    let find = |key: &str, wanted: &dyn Fn(&serde_json::Value) -> bool| -> serde_json::Value {
        all.as_array()
            .expect("groups")
            .iter()
            .flat_map(|group| group["rules"].as_array().expect("rules"))
            .find(|rule| !rule[key].is_null() && wanted(rule))
            .cloned()
            .expect("the rule")
    };
    let force = find("alert", &|rule| rule["alert"] == "ApplianceSshBruteForce");
    assert_eq!(
        force["annotations"]["runbook_url"],
        "https://intra/ApplianceSshBruteForce"
    );
    let link = force["annotations"]["dashboard_url"]
        .as_str()
        .expect("a link");
    assert!(link.starts_with("https://grafana/d/"), "{link}");
    assert_eq!(force["keep_firing_for"], "90000ms");
    let expression = force["expr"].as_str().expect("an expression");
    assert!(
        expression.contains("{test=\"\",tenant=\"a\"}[60000ms]"),
        "{expression}"
    );
    let zeroized = find("alert", &|rule| rule["alert"] == "ApplianceHsmZeroized");
    let expression = zeroized["expr"].as_str().expect("an expression").trim_end();
    assert!(expression.ends_with("< 24 * 360"), "{expression}");
    let fan = find("alert", &|rule| rule["alert"] == "ApplianceFanFailed");
    assert_eq!(fan["labels"]["severity"], "critical");
    let threshold = find("record", &|rule| {
        rule["labels"]["name"] == "ssh_login_failures"
    });
    assert_eq!(threshold["expr"], "vector(7)");
    let fleet = jsonnet(
        "((import 'mixin.libsonnet') { _config+:: { runbookURLPattern: 'https://intra/%s' } }).grafanaDashboards['fleet.json']",
    );
    let links = fleet.to_string();
    assert!(
        links.contains("\"https://intra/${__value.raw}\"") && !links.contains("docs/runbooks"),
        "a dashboard leads to other runbooks"
    );
}

/// The mixin scales `* 60` and `* 3600`. Seconds that are written otherwise stay as they are, and are wrong when a minute is
/// not a minute.
#[test]
fn every_number_of_seconds_is_scaled() {
    struct Seconds(Vec<String>);
    impl ExprVisitor for Seconds {
        type Error = std::convert::Infallible;
        fn pre_visit(&mut self, expr: &Expr) -> Result<bool, Self::Error> {
            if let Expr::Binary(binary) = expr {
                let is_time = |side: &Expr| {
                    let text = side.to_string();
                    text.contains("time()") || text.contains("_timestamp_seconds")
                };
                let is_plain = |side: &Expr| matches!(side, Expr::NumberLiteral(_));
                let (left, right) = (&*binary.lhs, &*binary.rhs);
                let scaled = ["*", "/"].contains(&binary.op.to_string().as_str());
                if !scaled && (is_time(left) && is_plain(right) || is_plain(left) && is_time(right))
                {
                    self.0.push(expr.to_string());
                }
            }
            Ok(true)
        }
    }
    for rule in rules().into_iter().filter(|rule| rule.alert.is_some()) {
        let mut plain = Seconds(Vec::new());
        let Ok(_) = walk_expr(&mut plain, &parse(&rule.expr));
        assert!(plain.0.is_empty(), "{:?}: {:?}", rule.alert, plain.0);
    }
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
    let alert_labels = [
        "alertname",
        "alertstate",
        "appliance",
        "component",
        "severity",
    ];
    let mut known = BTreeMap::from([
        ("up".to_owned(), BTreeSet::new()),
        ("ALERTS".to_owned(), alert_labels.map(str::to_owned).into()),
    ]);
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
        // What is aggregated `without` some labels keeps those of its metric.
        let of_metric: BTreeSet<String> = selectors(&rule.expr)
            .into_iter()
            .filter_map(|selector| known.get(&selector.name?).cloned())
            .flatten()
            .collect();
        let labels: &mut BTreeSet<String> = known.entry(name).or_default();
        labels.extend(of_metric.into_iter().filter(|label| label != "test"));
        labels.extend(rule.labels.into_keys());
        labels.extend(grouping(&rule.expr));
    }
    known
}

fn parse(expression: &str) -> Expr {
    parser::parse(expression).unwrap_or_else(|error| panic!("{expression}\n{error}"))
}

/// Every vector selector in an expression.
pub(crate) fn selectors(expression: &str) -> Vec<VectorSelector> {
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
