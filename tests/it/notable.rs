//! Notable events and alerts: what an alert looks at is notable, and what is notable is in an alert, or stands here with its
//! reason.

use std::collections::BTreeSet;

use promql_parser::parser::VectorSelector;
use serde_yaml::Value;

use crate::alerts::{alerts, files, read, rules, selectors};

/// Notable events that no alert is about. The dashboards and the status page show them.
const WITHOUT_ALERT: &[(&str, &[&str], &str)] = &[
    (
        "accounts",
        &["job_failed", "login_root"],
        "a job runs again, and administrators log in",
    ),
    (
        "adminapi",
        &["access_denied", "server_busy"],
        "one request was refused, and its client knows",
    ),
    (
        "appliance",
        &["anacron_already_running"],
        "the one that runs does the work",
    ),
    (
        "certmonitord",
        &["snmp_not_configured", "trap_failed"],
        "no alert here depends on the appliance's traps",
    ),
    (
        "kernel",
        &[
            "bus_error",
            "connection_table_full",
            "disk_reset",
            "memory_corrected",
        ],
        "it repairs itself, or says that the kernel is busy",
    ),
    (
        "kernel",
        &["kernel_started"],
        "ApplianceRebooted knows the uptime",
    ),
    (
        "lsta",
        &["file_open_failed", "snmptrap_failed"],
        "no alert here depends on the appliance's traps",
    ),
    (
        "lunash",
        &["log_archive_failed"],
        "ApplianceLogDiskFull is about the disk that it would free",
    ),
    (
        "sshd",
        &[
            "attempts_exceeded",
            "connection_penalised",
            "connections_throttled",
            "user_denied",
            "user_invalid",
        ],
        "it follows failed logins, which are counted",
    ),
    (
        "sysstatd",
        &["state_unknown", "status_script_missing"],
        "the next report says more",
    ),
];

struct Event {
    pack: String,
    programs: Vec<String>,
    event: String,
    /// What its rule changes.
    metrics: BTreeSet<String>,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The notable events of all packs.
fn notable() -> Vec<Event> {
    let mut found = Vec::new();
    for path in files("rules/packs", ".yaml") {
        let pack: Value = read(&path);
        let programs: Vec<String> = (pack["programs"].as_mapping().into_iter().flatten())
            .map(|(name, _)| text(name))
            .collect();
        for rule in pack["rules"].as_sequence().into_iter().flatten() {
            let members = rule["events"].as_mapping().into_iter().flatten();
            let members = members.map(|(event, member)| (text(event), member));
            let own = (text(&rule["event"]), rule);
            for (event, member) in members.chain([own]) {
                let metrics = [rule, member]
                    .into_iter()
                    .flat_map(|it| it["metrics"].as_sequence().into_iter().flatten())
                    .flat_map(|change| change.as_mapping().into_iter().flatten())
                    .map(|(_, name)| text(name))
                    .collect();
                let is_notable = (member["notable"].as_bool())
                    .or(rule["notable"].as_bool())
                    .unwrap_or_default();
                // Many failures, or a success after them, are an event, too.
                let attempts = member["attempts"].as_sequence().into_iter().flatten();
                let attempts = attempts.map(|attempt| text(&attempt["event"]));
                let events = is_notable.then_some(event).into_iter().chain(attempts);
                for event in events.filter(|event| !event.is_empty()) {
                    found.push(Event {
                        pack: text(&pack["pack"]),
                        programs: programs.clone(),
                        event,
                        metrics: BTreeSet::clone(&metrics),
                    });
                }
            }
        }
    }
    found
}

/// What alerts select, in their own expressions and in those of what they look at.
fn looked_at() -> Vec<VectorSelector> {
    let recordings: Vec<(String, String)> = rules()
        .into_iter()
        .filter_map(|rule| Some((rule.record?, rule.expr)))
        .collect();
    let mut todo: Vec<String> = alerts().into_iter().map(|(_, rule)| rule.expr).collect();
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    while let Some(expression) = todo.pop() {
        if !seen.insert(expression.clone()) {
            continue;
        }
        for selector in selectors(&expression) {
            let of_this = (recordings.iter())
                .filter(|(name, _)| Some(name) == selector.name.as_ref())
                .map(|(_, expression)| expression.clone());
            todo.extend(of_this);
            found.push(selector);
        }
    }
    found
}

const OF_EVENTS: [&str; 2] = ["log_events_total", "log_event_last_timestamp_seconds"];

fn is_of_events(selector: &VectorSelector) -> bool {
    selector
        .name
        .as_deref()
        .is_some_and(|name| OF_EVENTS.contains(&name))
}

/// Whether a selector finds the series of an event.
fn finds(selector: &VectorSelector, event: &Event) -> bool {
    event.programs.iter().any(|program| {
        let matchers = selector.matchers.matchers.iter();
        matchers.into_iter().all(|matcher| match &*matcher.name {
            "event" => matcher.is_match(&event.event),
            "program" => matcher.is_match(program),
            _ => true,
        })
    })
}

#[test]
fn what_is_notable_is_in_an_alert_or_has_its_reason() {
    let selectors = looked_at();
    let metrics: BTreeSet<&str> = selectors
        .iter()
        .filter_map(|it| it.name.as_deref())
        .collect();
    let mut without: BTreeSet<(String, String)> = BTreeSet::new();
    for event in notable() {
        let by_name = selectors
            .iter()
            .any(|selector| is_of_events(selector) && finds(selector, &event));
        let by_metric = event.metrics.iter().any(|name| metrics.contains(&**name));
        if !by_name && !by_metric {
            without.insert((event.pack, event.event));
        }
    }
    let listed: BTreeSet<(String, String)> = WITHOUT_ALERT
        .iter()
        .flat_map(|(pack, events, _)| events.iter().map(|event| ((*pack).into(), (*event).into())))
        .collect();
    assert_eq!(without, listed);
}

#[test]
fn what_an_alert_looks_at_is_notable() {
    let notable = notable();
    for (name, rule) in alerts() {
        for selector in selectors(&rule.expr).into_iter().filter(is_of_events) {
            let matchers = selector.matchers.matchers.iter();
            for matcher in matchers.filter(|matcher| matcher.name == "event") {
                for event in matcher.value.split('|') {
                    // `dpd_failover_.+` means every event that begins so.
                    let begins = event.strip_suffix(".+");
                    assert!(
                        notable.iter().any(|it| it.event == event
                            || begins.is_some_and(|begins| it.event.starts_with(begins))),
                        "{name}: no pack has {event} with `notable: true`"
                    );
                }
            }
        }
    }
}
