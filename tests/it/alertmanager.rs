//! What the shipped Alertmanager configuration does with the alerts: where each goes, what silences what, and the one
//! line that a reader sees. Alertmanager itself is asked.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::alerts::alerts;
use crate::support::{Child, free_port, http_get, http_post, program, root, succeeds};

const CONFIG: &str = "deploy/alertmanager/alertmanager.yml";

#[test]
fn amtool_accepts_the_configuration() {
    succeeds(
        Command::new(program("amtool"))
            .arg("check-config")
            .arg(root().join(CONFIG)),
    );
}

/// Fails unless an alert with these labels goes to this receiver.
fn routes(labels: &[String], receiver: &str) {
    succeeds(
        Command::new(program("amtool"))
            .args(["config", "routes", "test", "--config.file"])
            .arg(root().join(CONFIG))
            .arg(format!("--verify.receivers={receiver}"))
            .args(labels),
    );
}

#[test]
fn every_alert_goes_where_its_severity_says() {
    for (name, rule) in alerts() {
        let severity = rule.labels["severity"].as_str();
        let receiver = match (name.as_str(), severity) {
            ("ApplianceWatchdog", _) => "appliance-deadman",
            ("ApplianceTestEvent", _) => "appliance-test",
            (_, "critical") => "appliance-pager",
            (_, "warning") => "appliance-tickets",
            (_, "info") => "appliance-nobody",
            _ => panic!("{name}: nobody has said where severity {severity} goes"),
        };
        let labels = [
            format!("alertname={name}"),
            format!("severity={severity}"),
            "appliance=hsm1".to_owned(),
        ];
        routes(&labels, receiver);
    }
}

#[test]
fn other_alerts_go_where_they_went() {
    routes(
        &[
            "alertname=NodeDown".to_owned(),
            "severity=critical".to_owned(),
        ],
        "appliance-tickets",
    );
}

#[test]
fn a_reader_sees_in_one_line_what_happened() {
    let alert = |status: &str, name: &str, summary: &str| {
        json!({
            "status": status,
            "labels": {"alertname": name},
            "annotations": {"summary": summary, "description": "Fan Fan3B of hsm1 is slow.", "runbook_url": "https://r/x.md"},
            "startsAt": "2026-02-03T04:05:06Z", "endsAt": "0001-01-01T00:00:00Z",
        })
    };
    let stopped = || alert("firing", "ApplianceFanFailed", "A fan has stopped.");
    let (hot, over) = (
        alert("firing", "B", "It is hot."),
        alert("resolved", "C", "It was cold."),
    );
    let table = [
        (
            "firing",
            json!({"appliance": "hsm1", "severity": "critical"}),
            vec![stopped()],
            "CRITICAL hsm1: A fan has stopped.",
        ),
        (
            "firing",
            json!({"appliance": "hsm1", "severity": "warning"}),
            vec![over, stopped(), hot],
            "WARNING hsm1: A fan has stopped. (2 alerts)",
        ),
        (
            "resolved",
            json!({"appliance": "hsm1", "severity": "critical"}),
            vec![alert(
                "resolved",
                "ApplianceFanFailed",
                "A fan has stopped.",
            )],
            "RESOLVED hsm1: A fan has stopped.",
        ),
        (
            "firing",
            json!({"instance": "collector1:10067", "severity": "critical"}),
            vec![stopped()],
            "CRITICAL collector1:10067: A fan has stopped.",
        ),
    ];
    for (status, common, alerts, line) in table {
        let data = json!({
            "status": status, "receiver": "any", "alerts": alerts, "groupLabels": {}, "commonLabels": common,
            "commonAnnotations": {}, "externalURL": "",
        });
        assert_eq!(render("appliance.line", &data), line);
    }
    let data = json!({
        "status": "firing", "receiver": "any", "alerts": [stopped()], "groupLabels": {}, "commonLabels": {},
        "commonAnnotations": {}, "externalURL": "",
    });
    assert_eq!(
        render("appliance.text", &data),
        "FIRING ApplianceFanFailed: Fan Fan3B of hsm1 is slow.\nsince 2026-02-03 04:05:06 UTC, runbook: https://r/x.md\n"
    );
    assert_eq!(render("appliance.runbook", &data), "https://r/x.md");
}

/// What a template of the shipped file makes of a notification.
fn render(template: &str, data: &serde_json::Value) -> String {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), data.to_string()).expect("it can be written");
    succeeds(
        Command::new(program("amtool"))
            .args(["template", "render", "--template.glob"])
            .arg(root().join("deploy/alertmanager/appliance.tmpl"))
            .arg(format!(
                "--template.text={{{{ template \"{template}\" . }}}}"
            ))
            .arg("--template.data")
            .arg(file.path()),
    )
    .out
}

#[test]
fn what_is_worse_or_nearer_the_cause_silences_the_rest() {
    // Alert, its appliance or exporter, and whether it is heard while all the others fire too.
    const SILENT: (&str, &str) = ("ApplianceSilent", "hsm1");
    const BLIND: (&str, &str) = ("ApplianceMonitoringDown", "");
    type Scene<'a> = &'a [((&'a str, &'a str), bool)];
    let scenes: &[Scene] = &[
        // Critical over warning: the same part of the same appliance only.
        &[
            (("ApplianceFanFailed", "hsm1"), true),
            (("ApplianceFanDegraded", "hsm1"), false),
            (("ApplianceFanDegraded", "hsm2"), true),
            (("ApplianceDiskPendingSectors", "hsm1"), true),
        ],
        // A silent appliance over its sensors, but not over its HSM or another appliance.
        &[
            (SILENT, true),
            (("ApplianceFanFailed", "hsm1"), false),
            (("ApplianceProgramSilent", "hsm1"), false),
            (("ApplianceHsmZeroized", "hsm1"), true),
            (("ApplianceFanFailed", "hsm2"), true),
        ],
        // An exporter that is down over what it said about itself, not over another exporter.
        &[
            (("ApplianceExporterDown", "collector1:10067"), true),
            (("ApplianceExporterLags", "collector1:10067"), false),
            (("ApplianceExporterLags", "collector2:10067"), true),
            (("ApplianceFanFailed", "hsm1"), true),
        ],
        // No exporter at all over everything but the dead man's switch.
        &[
            (BLIND, true),
            (("ApplianceExporterDown", "collector1:10067"), false),
            (("ApplianceFanFailed", "hsm1"), false),
            (SILENT, false),
            (("ApplianceWatchdog", ""), true),
        ],
    ];
    let rules = alerts();
    for scene in scenes {
        let port = free_port();
        let storage = tempfile::tempdir().expect("a temporary directory");
        let mut alertmanager = start_alertmanager(&root().join(CONFIG), storage.path(), port);
        let posted: Vec<_> = scene
            .iter()
            .map(|((name, of), _)| {
                let (_, rule) = rules.iter().find(|(known, _)| known == name).expect(name);
                let mut labels = json!(rule.labels);
                labels["alertname"] = json!(name);
                match labels["component"].as_str() {
                    _ if of.is_empty() => {}
                    Some("exporter") => {
                        (labels["job"], labels["instance"]) = (json!("appliance_logs"), json!(of))
                    }
                    _ => labels["appliance"] = json!(of),
                }
                json!({ "labels": labels })
            })
            .collect();
        let body = serde_json::to_vec(&posted).expect("JSON");
        let answer =
            http_post(port, "/api/v2/alerts", "application/json", &body).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());

        let heard = alertmanager.wait_for("every alert", Duration::from_secs(20), || {
            let list = http_get(port, "/api/v2/alerts")?.json();
            let alerts = list
                .as_array()
                .filter(|alerts| alerts.len() == scene.len())?
                .clone();
            // Unprocessed ones have not met the inhibition rules yet.
            alerts
                .iter()
                .all(|alert| alert["status"]["state"] != "unprocessed")
                .then_some(alerts)
        });
        for ((name, of), expected) in *scene {
            let alert = heard
                .iter()
                .find(|alert| {
                    let labels = &alert["labels"];
                    labels["alertname"] == *name
                        && (of.is_empty()
                            || labels["appliance"] == *of
                            || labels["instance"] == *of)
                })
                .expect("it is listed");
            assert_eq!(
                alert["status"]["state"] == "active",
                *expected,
                "{name} of `{of}`: {alert}"
            );
        }
    }
}

#[test]
fn the_silence_for_maintenance_leaves_the_hsm_and_other_appliances_heard() {
    let port = free_port();
    let storage = tempfile::tempdir().expect("a temporary directory");
    let mut alertmanager = start_alertmanager(&root().join(CONFIG), storage.path(), port);
    let alert = |appliance: &str, component: &str| json!({"labels": {"alertname": "ApplianceX", "appliance": appliance, "component": component}});
    let body = json!([
        alert("hsm1", "fan"),
        alert("hsm1", "crypto"),
        alert("hsm2", "fan")
    ])
    .to_string();
    http_post(port, "/api/v2/alerts", "application/json", body.as_bytes()).expect("an answer");

    // The command is the one that docs/alerting.md shows.
    let document =
        std::fs::read_to_string(root().join("docs/alerting.md")).expect("it can be read");
    let from = document.find("amtool silence add").expect("the recipe");
    let length = document[from..]
        .find("amtool silence query")
        .expect("its end");
    let recipe =
        document[from..from + length].replace("localhost:9093", &format!("127.0.0.1:{port}"));
    succeeds(
        Command::new("sh")
            .args(["-euc", &recipe])
            .env("USER", "tester"),
    );

    let silenced = alertmanager.wait_for("a silenced alert", Duration::from_secs(20), || {
        let list = http_get(port, "/api/v2/alerts?active=false")?.json();
        list.as_array().filter(|alerts| !alerts.is_empty()).cloned()
    });
    assert_eq!(silenced.len(), 1, "{silenced:?}");
    assert_eq!(
        (
            &silenced[0]["labels"]["appliance"],
            &silenced[0]["labels"]["component"]
        ),
        (&json!("hsm1"), &json!("fan"))
    );
}

/// A running Alertmanager, alone and with nothing remembered.
pub(crate) fn start_alertmanager(config: &Path, storage: &Path, port: u16) -> Child {
    let mut alertmanager = Child::start(
        Command::new(program("prometheus-alertmanager"))
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg(format!("--storage.path={}", storage.display()))
            .arg("--cluster.listen-address="),
    );
    alertmanager.wait_for("readiness", Duration::from_secs(30), || {
        http_get(port, "/-/ready").filter(|answer| answer.status == 200)
    });
    alertmanager
}
