//! What the shipped Alertmanager configuration does with the alerts: where each goes, what silences what, and the one
//! line that a reader sees. Alertmanager itself is asked.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::alerts::alerts;
use crate::generated::compare;
use crate::support::{
    Child, Post, Webhook, free_port, http_get, http_post, program, root, succeeds,
};

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
fn a_reader_sees_in_one_line_what_happened_and_its_links_belong_to_that() {
    let alert = |status: &str, name: &str, summary: &str| {
        json!({
            "status": status,
            "labels": {"alertname": name, "appliance": "hsm1", "severity": "critical"},
            "annotations": {
                "summary": summary,
                "description": "Fan Fan3B of hsm1 is slow.",
                "runbook_url": format!("https://r/{name}.md"),
                "dashboard_url": "/d/appliance-hardware?var-appliance=hsm1",
            },
            "startsAt": "2026-02-03T04:05:06Z", "endsAt": "0001-01-01T00:00:00Z",
        })
    };
    let stopped = || alert("firing", "ApplianceFanFailed", "A fan of hsm1 has stopped.");
    let hot = || alert("firing", "B", "hsm1 is hot.");
    let over = || alert("resolved", "C", "hsm1 was cold.");
    let mut elsewhere = stopped();
    elsewhere["labels"]["site"] = json!("north");
    let table = [
        (
            "firing",
            vec![stopped()],
            "CRITICAL: A fan of hsm1 has stopped.",
            "https://r/ApplianceFanFailed.md",
        ),
        (
            "firing",
            vec![over(), stopped(), hot()],
            "CRITICAL: A fan of hsm1 has stopped. (1 of 2 alerts)",
            "https://r/ApplianceFanFailed.md",
        ),
        (
            "resolved",
            vec![over()],
            "RESOLVED: hsm1 was cold.",
            "https://r/C.md",
        ),
        (
            "firing",
            vec![elsewhere],
            "CRITICAL: A fan of hsm1 has stopped. (north)",
            "https://r/ApplianceFanFailed.md",
        ),
        (
            "firing",
            vec![alert("firing", "SomebodysOwn", "")],
            "CRITICAL: SomebodysOwn of hsm1",
            "https://r/SomebodysOwn.md",
        ),
    ];
    let data = |status: &str, alerts: Vec<serde_json::Value>| {
        json!({
            "status": status, "receiver": "any", "alerts": alerts,
            "groupLabels": {"alertname": "ApplianceFanFailed", "appliance": "hsm1"},
            "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://am:9093",
        })
    };
    for (status, alerts, line, runbook) in table {
        let data = data(status, alerts);
        assert_eq!(render("appliance.line", &data), line);
        assert_eq!(render("appliance.runbook", &data), runbook);
    }
    let data = data("firing", vec![stopped()]);
    let silence = "http://am:9093/#/silences/new?filter=%7Balertname%3D%22ApplianceFanFailed%22%2C%20appliance%3D%22hsm1%22%7D";
    let dashboard = "http://localhost:3000/d/appliance-hardware?var-appliance=hsm1";
    assert_eq!(render("appliance.dashboard", &data), dashboard);
    assert_eq!(render("appliance.silence", &data), silence);
    assert_eq!(
        render("appliance.text", &data),
        format!(
            "FIRING ApplianceFanFailed: Fan Fan3B of hsm1 is slow.\nsince 2026-02-03 04:05:06 UTC\nrunbook: https://r/ApplianceFanFailed.md\ndashboard: {dashboard}\nsilence: {silence}\n"
        )
    );
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
fn an_alert_silences_what_it_explains_and_nothing_else() {
    // Alert, what it is about, and whether it is heard while all the others of the scene fire too.
    type Scene<'a> = &'a [(&'a str, &'a str, bool)];
    let scenes: &[Scene] = &[
        // The worse limit over the lesser one, of the same sensor.
        &[
            ("ApplianceFanFailed", "appliance=hsm1 name=Fan3B", true),
            ("ApplianceFanDegraded", "appliance=hsm1 name=Fan3B", false),
            ("ApplianceFanDegraded", "appliance=hsm1 name=Fan3A", true),
            ("ApplianceFanDegraded", "appliance=hsm2 name=Fan3B", true),
            (
                "ApplianceFanDegraded",
                "appliance=hsm1 name=Fan3B site=south",
                true,
            ),
            (
                "ApplianceDiskPendingSectors",
                "appliance=hsm1 device=sda",
                true,
            ),
        ],
        // Of one component, and yet nothing to do with each other.
        &[
            ("ApplianceSshLoginAfterFailures", "appliance=hsm1", true),
            ("ApplianceSshBruteForce", "appliance=hsm1", false),
            ("ApplianceSshGuessedAccountUsed", "appliance=hsm1", false),
            ("ApplianceAccountChanged", "appliance=hsm1", true),
            ("ApplianceHsmNearZeroization", "appliance=hsm1", true),
            ("ApplianceHsmLoginFailed", "appliance=hsm1", false),
            ("ApplianceHsmBatteryLow", "appliance=hsm1", true),
            ("ApplianceLogDiskFull", "appliance=hsm1", true),
            ("ApplianceLogDiskFilling", "appliance=hsm1", false),
            ("ApplianceHardwareWatchdogOff", "appliance=hsm1", true),
        ],
        &[
            ("ApplianceVpnDown", "appliance=srx1 vpn=hq", true),
            ("ApplianceVpnFlapping", "appliance=srx1 vpn=branch", true),
            ("ApplianceVpnPeerDown", "appliance=srx1 vpn=branch", true),
            ("ApplianceIkeNegotiationFailures", "appliance=srx1", true),
            ("ApplianceAllVpnsDown", "appliance=srx2", true),
            ("ApplianceVpnDown", "appliance=srx2 vpn=hq", false),
        ],
        // One zeroization is one alert.
        &[
            ("ApplianceHsmZeroized", "appliance=hsm1", true),
            ("ApplianceHsmLoginFailed", "appliance=hsm1", false),
            ("ApplianceHsmTampered", "appliance=hsm1", true),
        ],
        // A silent appliance over its old states, but not over its HSM or another appliance.
        &[
            ("ApplianceSilent", "appliance=hsm1", true),
            ("ApplianceFanFailed", "appliance=hsm1 name=Fan3B", false),
            ("ApplianceNtlsDown", "appliance=hsm1", false),
            ("ApplianceOutOfService", "appliance=hsm1", false),
            ("ApplianceProgramSilent", "appliance=hsm1", false),
            ("ApplianceHsmZeroized", "appliance=hsm1", true),
            ("ApplianceFanFailed", "appliance=hsm2 name=Fan3B", true),
        ],
        // An exporter that is down over what it said about itself, not over another exporter.
        &[
            ("ApplianceExporterDown", "job=a instance=c1", true),
            ("ApplianceExporterLags", "job=a instance=c1", false),
            ("ApplianceExporterLags", "job=a instance=c2", true),
            ("ApplianceFanFailed", "appliance=hsm1 name=Fan3B", true),
        ],
        // What is known about appliances is heard, whatever becomes of the monitoring: somebody may have silenced that.
        &[
            ("ApplianceMonitoringDown", "", true),
            ("ApplianceNoExporter", "", true),
            ("ApplianceFanFailed", "appliance=hsm1 name=Fan3B", true),
            ("ApplianceSilent", "appliance=hsm2", true),
            ("ApplianceWatchdog", "", true),
        ],
    ];
    // The inhibitor takes alerts one after the other, and later than the API lists them: once it knows these two, which come last, it knows the scene.
    let last = [
        ("ApplianceFanFailed", "appliance=last name=Fan1"),
        ("ApplianceFanDegraded", "appliance=last name=Fan1"),
    ];
    let rules = alerts();
    let labelled = |name: &str, of: &str| {
        let (_, rule) = rules.iter().find(|(known, _)| known == name).expect(name);
        let mut labels = json!(rule.labels);
        labels["alertname"] = json!(name);
        for (label, value) in of.split_whitespace().filter_map(|it| it.split_once('=')) {
            labels[label] = json!(value);
        }
        json!({ "labels": labels })
    };
    for scene in scenes {
        let port = free_port();
        let storage = tempfile::tempdir().expect("a temporary directory");
        let mut alertmanager = start_alertmanager(&root().join(CONFIG), storage.path(), port);
        let posted: Vec<_> = (scene.iter().map(|(name, of, _)| labelled(name, of))).collect();
        let last: Vec<_> = (last.iter().map(|(name, of)| labelled(name, of))).collect();
        for alerts in [&posted, &last] {
            let body = serde_json::to_vec(alerts).expect("JSON");
            let answer =
                http_post(port, "/api/v2/alerts", "application/json", &body).expect("an answer");
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        let list = || Some(http_get(port, "/api/v2/alerts")?.json().as_array()?.clone());
        alertmanager.wait_for("the last inhibition", Duration::from_secs(20), || {
            let lesser = list()?
                .into_iter()
                .find(|it| it["labels"] == last[1]["labels"])?;
            (lesser["status"]["state"] == "suppressed").then_some(())
        });
        // Asked anew: the states of one answer were found out one after the other, too.
        let heard = list().expect("an answer");
        assert_eq!(heard.len(), posted.len() + last.len());
        for ((name, of, expected), posted) in scene.iter().zip(&posted) {
            let alert = heard
                .iter()
                .find(|alert| alert["labels"] == posted["labels"])
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
fn every_alert_that_an_inhibition_names_exists() {
    let text = std::fs::read_to_string(root().join(CONFIG)).expect("it can be read");
    let config: serde_yaml::Value = serde_yaml::from_str(&text).expect("YAML");
    let known: Vec<String> = alerts().into_iter().map(|(name, _)| name).collect();
    let mut names = 0;
    for rule in config["inhibit_rules"].as_sequence().expect("a list") {
        for side in ["source_matchers", "target_matchers"] {
            for matcher in rule[side].as_sequence().expect("a list") {
                let matcher = matcher.as_str().expect("a string");
                let Some((_, value)) = matcher.split_once('"') else {
                    continue;
                };
                for name in value.trim_end_matches('"').split('|') {
                    if !matcher.starts_with("alertname") || name.contains('+') {
                        continue;
                    }
                    names += 1;
                    assert!(known.iter().any(|known| known == name), "{name}");
                }
            }
        }
    }
    assert!(names > 20, "{names}");
}

/// Alertmanager looks at a group every `group_interval` and sends it again at the first look after `repeat_interval`.
#[test]
fn the_dead_mans_switch_beats_once_a_minute() {
    let text = std::fs::read_to_string(root().join(CONFIG)).expect("it can be read");
    let config: serde_yaml::Value = serde_yaml::from_str(&text).expect("YAML");
    let route = &config["route"]["routes"][0]["routes"][0];
    assert_eq!(route["receiver"], "appliance-deadman");
    let seconds = |key: &str| -> u64 {
        let text = route[key].as_str().expect(key).trim_end_matches('s');
        text.parse().expect("seconds")
    };
    let (look, repeat) = (seconds("group_interval"), seconds("repeat_interval"));
    assert_ne!(
        repeat % look,
        0,
        "the look at that very second may come too early or too late"
    );
    assert_eq!(repeat.div_ceil(look) * look, 60);
}

/// The servers themselves, Debian's and a new one, for five minutes.
#[test]
#[ignore = "takes minutes, and an Alertmanager that is built first: make long-incidents"]
fn the_dead_mans_switch_of_old_and_new_servers_beats_once_a_minute() {
    let built = succeeds(&mut Command::new(
        root().join("tests/install-alertmanager035.sh"),
    ));
    let new = PathBuf::from(built.out.trim());
    let webhooks = [Webhook::start(), Webhook::start()];
    let directory = tempfile::tempdir().expect("a directory");
    let servers: Vec<(Child, u16)> = [program("prometheus-alertmanager"), new]
        .iter()
        .zip(&webhooks)
        .map(|(binary, webhook)| {
            let port = free_port();
            let own = directory.path().join(port.to_string());
            std::fs::create_dir(&own).expect("a directory");
            let text = std::fs::read_to_string(root().join(CONFIG)).expect("it can be read");
            let to = format!("http://127.0.0.1:{}", webhook.port);
            let config = own.join("alertmanager.yml");
            std::fs::write(&config, text.replace("http://localhost:9095", &to)).expect("written");
            std::fs::copy(
                root().join("deploy/alertmanager/appliance.tmpl"),
                own.join("appliance.tmpl"),
            )
            .expect("a copy");
            (
                start_alertmanager_of(binary, &config, &own.join("data"), port),
                port,
            )
        })
        .collect();
    let alert = json!([{"labels": {"alertname": "ApplianceWatchdog", "severity": "none"}}]);
    for _ in 0..21 {
        for (_, port) in &servers {
            let body = alert.to_string();
            http_post(*port, "/api/v2/alerts", "application/json", body.as_bytes());
        }
        std::thread::sleep(Duration::from_secs(15));
    }
    for webhook in &webhooks {
        let posts = webhook.posts();
        let gaps: Vec<f64> = posts
            .windows(2)
            .map(|two| (two[1].at - two[0].at).as_secs_f64())
            .collect();
        println!("{gaps:.1?}");
        assert!(gaps.len() >= 4, "{gaps:?}");
        assert!(
            gaps.iter().all(|gap| (55.0..65.0).contains(gap)),
            "{gaps:?}"
        );
    }
}

#[test]
fn a_second_condition_of_an_appliance_is_a_second_page_and_the_hsm_waits_for_nothing() {
    let webhook = Webhook::start();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let config = std::fs::read_to_string(root().join(CONFIG)).expect("it can be read");
    let config = config.replace(
        "http://localhost:9095",
        &format!("http://127.0.0.1:{}", webhook.port),
    );
    std::fs::write(directory.path().join("alertmanager.yml"), config).expect("it can be written");
    std::fs::copy(
        root().join("deploy/alertmanager/appliance.tmpl"),
        directory.path().join("appliance.tmpl"),
    )
    .expect("a copy");
    let port = free_port();
    let mut alertmanager = start_alertmanager(
        &directory.path().join("alertmanager.yml"),
        &directory.path().join("data"),
        port,
    );
    for name in [
        "ApplianceHsmNearZeroization",
        "ApplianceHsmZeroized",
        "ApplianceHsmTampered",
    ] {
        let labels = json!({"alertname": name, "appliance": "hsm1", "severity": "critical", "component": "crypto"});
        let body = json!([{ "labels": labels }]).to_string();
        http_post(port, "/api/v2/alerts", "application/json", body.as_bytes()).expect("an answer");
        // Each is told by itself, in less than the 15 seconds that others wait for company.
        let page = alertmanager.wait_for(name, Duration::from_secs(12), || {
            let told = |post: &Post| post.body["groupLabels"]["alertname"] == name;
            webhook.posts().into_iter().find(told)
        });
        assert_eq!(page.path, "/page");
        assert_eq!(page.body["alerts"].as_array().map(Vec::len), Some(1));
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

/// `AlertmanagerConfig` of the Prometheus operator, made from the shipped configuration: the same routes and inhibitions in
/// the operator's spelling.
#[test]
fn the_operators_configuration_is_up_to_date() {
    let text = std::fs::read_to_string(root().join(CONFIG)).expect("it can be read");
    let config: serde_json::Value = serde_yaml::from_str(&text).expect("YAML");
    let rules: Vec<_> = config["inhibit_rules"]
        .as_array()
        .expect("rules")
        .iter()
        .map(|rule| {
            json!({
                "sourceMatch": matchers(&rule["source_matchers"]),
                "targetMatch": matchers(&rule["target_matchers"]),
                "equal": rule["equal"],
            })
        })
        .collect();
    let receivers: Vec<_> = config["receivers"]
        .as_array()
        .expect("receivers")
        .iter()
        .map(|receiver| {
            let mut made = json!({"name": receiver["name"]});
            let webhooks = receiver["webhook_configs"].as_array().into_iter().flatten();
            let webhooks: Vec<_> = webhooks
                .map(|hook| json!({"url": hook["url"], "sendResolved": hook["send_resolved"] != false}))
                .collect();
            if !webhooks.is_empty() {
                made["webhookConfigs"] = json!(webhooks);
            }
            if let Some(mail) = receiver["email_configs"].get(0) {
                made["emailConfigs"] = json!([{"to": mail["to"], "sendResolved": true}]);
            }
            made
        })
        .collect();
    let made = json!({
        "apiVersion": "monitoring.coreos.com/v1alpha1",
        "kind": "AlertmanagerConfig",
        "metadata": {"name": "appliance-log-exporter", "labels": {"app.kubernetes.io/name": "appliance-log-exporter"}},
        "spec": {"route": route(&config["route"]["routes"][0]), "receivers": receivers, "inhibitRules": rules},
    });
    let made = serde_yaml::to_string(&made).expect("YAML");
    compare(
        "deploy/kubernetes/alertmanagerconfig.yaml",
        &format!(
            "# Made from deploy/alertmanager/alertmanager.yml by tests/it/alertmanager.rs. Set the receivers.\n{made}"
        ),
    );
}

/// A route in the operator's spelling.
fn route(shipped: &serde_json::Value) -> serde_json::Value {
    let mut made = json!({"receiver": shipped["receiver"]});
    for (from, to) in [
        ("group_by", "groupBy"),
        ("group_wait", "groupWait"),
        ("group_interval", "groupInterval"),
        ("repeat_interval", "repeatInterval"),
    ] {
        if !shipped[from].is_null() {
            made[to] = shipped[from].clone();
        }
    }
    if !shipped["matchers"].is_null() {
        made["matchers"] = matchers(&shipped["matchers"]);
    }
    if let Some(routes) = shipped["routes"].as_array() {
        made["routes"] = routes.iter().map(route).collect();
    }
    made
}

/// `name=~"value"` in the operator's spelling.
fn matchers(shipped: &serde_json::Value) -> serde_json::Value {
    let parts = |text: &str| {
        let (head, value) = text.split_once('"').expect("a value in quotes");
        let name = head.trim_end_matches(['=', '~', '!']);
        json!({"name": name, "matchType": &head[name.len()..], "value": value.trim_end_matches('"')})
    };
    let texts = shipped.as_array().expect("matchers");
    texts
        .iter()
        .map(|text| parts(text.as_str().expect("a text")))
        .collect()
}

/// A running Alertmanager, alone and with nothing remembered.
pub(crate) fn start_alertmanager(config: &Path, storage: &Path, port: u16) -> Child {
    start_alertmanager_of(&program("prometheus-alertmanager"), config, storage, port)
}

fn start_alertmanager_of(binary: &Path, config: &Path, storage: &Path, port: u16) -> Child {
    let mut alertmanager = Child::start(
        Command::new(binary)
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
