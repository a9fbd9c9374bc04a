//! A restart of Prometheus, old and new, with the flags that it has by default: an alert that fires goes on firing, so that
//! Alertmanager sends no all-clear and no second page. A minute of the rules is six seconds here.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::alerts::alerts;
use crate::exporter::{Exporter, append, binary};
use crate::paging::rules_with;
use crate::support::{Child, free_port, http_get, program, root, succeeds, wait_for};

/// A minute of the rules, in seconds.
const MINUTE: u64 = 6;

/// How long the alerts may take to fire: ten minutes of the rules, on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(300);

/// What each alert waits for before it fires: states that last, of one appliance, and how they are logged.
const LASTING: &[(&str, &str)] = &[
    (
        "ApplianceFanDegraded",
        "local4 notice ipmievd: Fan sensor Fan1B . Lower Non-critical going low (Reading 2500 < Threshold 3000 RPM)",
    ),
    (
        "ApplianceTemperatureHigh",
        "local4 notice ipmievd: Temperature sensor CPU . Upper Non-critical going high (Reading 65 > Threshold 60 degrees C)",
    ),
    (
        "ApplianceVoltageAbnormal",
        "local4 notice ipmievd: Voltage sensor VCORE . Lower Non-critical going low (Reading 0.9 < Threshold 1.0 Volts)",
    ),
    (
        "AppliancePowerSupplyAbsent",
        "local4 notice ipmievd: Power Supply sensor PSU2_Status . - Presence detected Deasserted",
    ),
    (
        "ApplianceNtlsDown",
        "local5 info NTLS[1]: info : 0 : NTLS terminated",
    ),
    (
        "ApplianceNtlsCertificateMissing",
        "local5 warn certmonitord[1]: warning : 0 : NTLS certificate is missing",
    ),
    (
        "ApplianceOutOfService",
        "user info sysstatd: Luna System State Server - OOS Errors: 15,100,60!",
    ),
    ("ApplianceServiceError", ""),
    (
        "ApplianceVpnDown",
        "daemon info kmd[1]: KMD_VPN_DOWN_ALARM_USER: VPN hq from 198.51.100.2 is down.",
    ),
    ("ApplianceAllVpnsDown", ""),
];

/// Prometheus forgets when a condition began whose `for` is below its grace period, which is ten minutes unless a flag says
/// otherwise. What is to wait for less waits in its expression.
#[test]
fn no_alert_waits_for_less_than_prometheus_remembers() {
    for (name, rule) in alerts() {
        let waits = rule.hold.as_deref().map(|text| {
            promql_parser::util::parse_duration(text).unwrap_or_else(|error| panic!("{error}"))
        });
        assert!(
            waits.is_none_or(|waits| waits >= Duration::from_secs(600)),
            "{name}: {waits:?}"
        );
    }
}

#[test]
fn a_restart_of_prometheus_ends_no_alert() {
    restart(&program("prometheus"));
}

#[test]
#[ignore = "needs a Prometheus that is built first: make long-incidents"]
fn a_restart_of_prometheus_3_ends_no_alert() {
    let built = succeeds(&mut Command::new(
        root().join("tests/install-prometheus3.sh"),
    ));
    restart(&PathBuf::from(built.out.trim()).join("prometheus"));
}

fn restart(prometheus: &Path) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let now = jiff::Timestamp::now().strftime("%Y %b %e %H:%M:%S");
    for (_, line) in LASTING.iter().filter(|(_, line)| !line.is_empty()) {
        append(&path("messages"), format!("{now} a1  {line}\n").as_bytes());
    }
    let port = free_port();
    let flags = [
        format!("--log.file={}", path("messages").display()),
        format!("--state.dir={}", path("state").display()),
    ];
    let _exporter = Exporter::start_on(binary().args(&flags), port);

    let rules = rules_with(&format!("timeFactor: {MINUTE}/60"));
    std::fs::write(path("rules.yml"), rules).expect("it can be written");
    let config = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [rules.yml]\nscrape_configs:\n\
         - {{job_name: appliance_logs, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}\n"
    );
    std::fs::write(path("prometheus.yml"), config).expect("it can be written");
    let server = free_port();
    let start = || {
        Child::start(
            Command::new(prometheus)
                .arg(format!(
                    "--config.file={}",
                    path("prometheus.yml").display()
                ))
                .arg(format!("--storage.tsdb.path={}", path("data").display()))
                .arg(format!("--web.listen-address=127.0.0.1:{server}"))
                // Its ten minutes are ten minutes of the rules.
                .arg(format!("--rules.alert.for-grace-period={}s", 10 * MINUTE)),
        )
    };
    let mut running = start();
    let before = wait_for("every alert", PATIENCE, || all_fire(server));
    // In order, so that it keeps what it wrote.
    running.signal("TERM");
    running.wait_for_end(PATIENCE);
    drop(running);
    let _running = start();
    wait_for("the first evaluation", PATIENCE, || {
        alerts_of(server).filter(|alerts| !alerts.is_empty())
    });
    let evaluated = Instant::now();
    let after = wait_for("every alert again", PATIENCE, || all_fire(server));
    // As soon as that, or since when it fired before, where Prometheus remembers it.
    for (alert, since) in &after {
        let waits_in_for = alerts()
            .iter()
            .any(|(name, rule)| name == alert && rule.hold.is_some());
        if waits_in_for {
            assert!(
                before.contains(&(alert.clone(), since.clone())),
                "{alert} began anew at {since}"
            );
        }
    }
    assert!(
        evaluated.elapsed() < Duration::from_secs(5 * MINUTE),
        "they fire after {:?}, as if they were new",
        evaluated.elapsed()
    );
}

/// Since when each alert of [`LASTING`] is active, if all of them fire.
fn all_fire(server: u16) -> Option<Vec<(String, String)>> {
    let active = alerts_of(server)?;
    LASTING
        .iter()
        .map(|(name, _)| {
            let it = active
                .iter()
                .find(|it| it["labels"]["alertname"] == *name && it["state"] == "firing")?;
            // To the second, as Prometheus keeps it.
            let since = it["activeAt"].as_str()?.get(..19)?;
            Some(((*name).to_owned(), since.to_owned()))
        })
        .collect()
}

fn alerts_of(server: u16) -> Option<Vec<serde_json::Value>> {
    let answer = http_get(server, "/api/v1/alerts")?;
    answer.json()["data"]["alerts"].as_array().cloned()
}
