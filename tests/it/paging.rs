//! From a line in a log to a page: the exporter follows a file, the real Prometheus scrapes it and evaluates the shipped
//! rules, the real Alertmanager notifies a webhook of this test with the shipped configuration. Only addresses and the
//! intervals of waiting are changed; windows and holds of the rules are a sixtieth, by the mixin's `timeFactor`.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::alertmanager::start_alertmanager;
use crate::support::{
    Child, Post, Webhook, free_port, http_get, program, prometheus_command, prometheus_query, root,
    succeeds, wait_for,
};

/// How long a line may take to become a notification here. The intervals below add up to a few seconds; the rest is for
/// a machine that has much else to do.
const NOTIFIED: Duration = Duration::from_secs(300);

/// The exporter, Prometheus and Alertmanager at work.
struct Chain {
    log: File,
    webhook: Webhook,
    prometheus: u16,
    /// Dropped before the directory that they write to.
    _programs: [Child; 3],
    _directory: tempfile::TempDir,
}

impl Chain {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| directory.path().join(name);
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path("messages"))
            .expect("a log file");
        let webhook = Webhook::start();
        let [exporter, prometheus, alertmanager] = [free_port(), free_port(), free_port()];

        let mut follows = Child::start(
            Command::new(env!("CARGO_BIN_EXE_appliance_log_exporter"))
                .arg(format!("--log.file={}", path("messages").display()))
                .arg(format!("--state.dir={}", path("state").display()))
                .arg(format!("--web.listen-address=127.0.0.1:{exporter}")),
        );
        follows.wait_for("readiness", NOTIFIED, || {
            http_get(exporter, "/-/ready").filter(|answer| answer.status == 200)
        });

        let config = changed(
            "deploy/alertmanager/alertmanager.yml",
            &[
                (
                    "http://localhost:9095",
                    &format!("http://127.0.0.1:{}", webhook.port),
                ),
                ("group_wait: 15s", "group_wait: 1s"),
                ("group_interval: 1m", "group_interval: 2s"),
            ],
        );
        std::fs::write(path("alertmanager.yml"), config).expect("it can be written");
        std::fs::copy(
            root().join("deploy/alertmanager/appliance.tmpl"),
            path("appliance.tmpl"),
        )
        .expect("a copy");
        let notifies = start_alertmanager(
            &path("alertmanager.yml"),
            &path("alertmanager"),
            alertmanager,
        );

        std::fs::write(path("rules.yml"), rules_with("timeFactor: 1/60"))
            .expect("it can be written");
        let rules = path("rules.yml").display().to_string();
        let config = changed(
            "deploy/prometheus/prometheus.yml",
            &[
                ("scrape_interval: 15s", "scrape_interval: 1s"),
                ("evaluation_interval: 15s", "evaluation_interval: 1s"),
                ("/etc/prometheus/appliance/*.yaml", &rules),
                ("localhost:9093", &format!("127.0.0.1:{alertmanager}")),
                ("localhost:10067", &format!("127.0.0.1:{exporter}")),
            ],
        );
        std::fs::write(path("prometheus.yml"), config).expect("it can be written");
        let mut evaluates = Child::start(
            prometheus_command(&path("prometheus.yml"), &path("prometheus"), prometheus)
                // What fires before Alertmanager is discovered, after five seconds, would be sent again a minute later.
                .arg("--rules.alert.resend-delay=1s"),
        );
        evaluates.wait_for("the Watchdog", NOTIFIED, || {
            let up = prometheus_query(prometheus, "appliance:exporter:up == 1")?;
            (!up.is_empty() && webhook.posts().iter().any(|post| post.path == "/deadman"))
                .then_some(())
        });
        Chain {
            log,
            webhook,
            prometheus,
            _programs: [follows, notifies, evaluates],
            _directory: directory,
        }
    }

    /// Appends a line as the appliance's own log file has it.
    fn log(&mut self, appliance: &str, line: &str) {
        let now = jiff::Timestamp::now().strftime("%Y %b %e %H:%M:%S");
        writeln!(self.log, "{now} {appliance}  {line}").expect("it can be written");
    }

    /// Waits for what follows from a line that was logged when `failed` scrapes had failed, and logs it again if need be.
    ///
    /// A counter is shown at 0 for 8 seconds from its first scrape on. Prometheus gives a scrape up after a second here,
    /// which a busy machine may take; where it gave up all of those 8 seconds, only a second event is an increase.
    fn wait_for_what_follows<T>(
        &mut self,
        what: &str,
        (appliance, line): (&str, &str),
        mut failed: f64,
        condition: impl Fn(&Self) -> Option<T>,
    ) -> T {
        wait_for(what, NOTIFIED, || {
            let found = condition(self);
            if found.is_none()
                && let Some(now) = self.failed_scrapes()
                && now > failed
            {
                failed = now;
                self.log(appliance, line);
            }
            found
        })
    }

    /// How many scrapes of the exporter have failed; nothing while the last one did.
    fn failed_scrapes(&self) -> Option<f64> {
        let up = r#"up{job="appliance_logs"}"#;
        let query = format!("(count_over_time({up}[1h]) - sum_over_time({up}[1h])) and {up} == 1");
        let found = prometheus_query(self.prometheus, &query)?;
        found.first()?["value"][1].as_str()?.parse().ok()
    }

    /// Names of the alerts that fire for an appliance, sorted.
    fn firing(&self, appliance: &str) -> Vec<String> {
        let query = format!("ALERTS{{alertstate=\"firing\",appliance=\"{appliance}\"}}");
        let mut names: Vec<String> = prometheus_query(self.prometheus, &query)
            .unwrap_or_default()
            .iter()
            .filter_map(|alert| Some(alert["metric"]["alertname"].as_str()?.to_owned()))
            .collect();
        names.sort();
        names
    }

    /// Notifications about an appliance that came to this path, in order.
    fn notifications(&self, path: &str, appliance: &str) -> Vec<Post> {
        let of =
            |post: &Post| post.path == path && post.body["commonLabels"]["appliance"] == appliance;
        self.webhook.posts().into_iter().filter(of).collect()
    }

    /// Waits until Prometheus has evaluated the rules on data that it scraped after this call.
    fn wait_for_evaluation(&self) {
        let newest = || -> Option<f64> {
            let rounds = prometheus_query(self.prometheus, "timestamp(appliance:exporter:up)")?;
            rounds.first()?["value"][1].as_str()?.parse().ok()
        };
        let before = wait_for("an evaluation", NOTIFIED, newest);
        wait_for("three more evaluations", NOTIFIED, || {
            newest().filter(|now| *now >= before + 3.0)
        });
    }
}

/// The shipped rules, with these settings of the mixin.
pub(crate) fn rules_with(settings: &str) -> String {
    let expression = format!(
        "local mixin = (import 'mixin.libsonnet') {{ _config+:: {{ {settings} }} }}; {{ groups: mixin.prometheusRules.groups + mixin.prometheusAlerts.groups }}"
    );
    succeeds(
        Command::new(program("jsonnet"))
            .args(["-e", &expression])
            .current_dir(root().join("deploy/mixin")),
    )
    .out
}

/// A shipped file with parts replaced, each of which must be there.
pub(crate) fn changed(path: &str, replacements: &[(&str, &str)]) -> String {
    let mut text = std::fs::read_to_string(root().join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"));
    for (from, to) in replacements {
        assert!(text.contains(from), "{path} has no {from}");
        text = text.replace(from, to);
    }
    text
}

#[test]
fn a_line_becomes_one_page_and_its_recovery_ends_it() {
    let mut chain = Chain::start();

    // A processor overheats: exactly one page for that appliance, with the runbook.
    chain.log("hsm1", "local4 notice ipmievd: Temperature sensor CPU . Upper Critical going high (Reading 75 > Threshold 72 degrees C)");
    let written = Instant::now();
    let page = wait_for("a page", NOTIFIED, || {
        chain.notifications("/page", "hsm1").into_iter().next()
    });
    eprintln!(
        "from line to notification: {:.1} s",
        page.at.duration_since(written).as_secs_f64()
    );
    assert_eq!(page.body["status"], "firing");
    let alerts = page.body["alerts"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    assert_eq!(
        alerts
            .iter()
            .map(|alert| &alert["labels"]["alertname"])
            .collect::<Vec<_>>(),
        ["ApplianceTemperatureCritical"]
    );
    let runbook = alerts[0]["annotations"]["runbook_url"]
        .as_str()
        .unwrap_or_default();
    assert!(
        runbook.ends_with("/docs/runbooks/ApplianceTemperatureCritical.md"),
        "{runbook}"
    );
    chain.wait_for_evaluation();

    // It recovers: resolved, and nothing in between.
    chain.log("hsm1", "local4 notice ipmievd: Temperature sensor CPU . Upper Critical going high (Reading 55 > Threshold 72 degrees C)");
    let pages = wait_for("the end of the page", NOTIFIED, || {
        let pages = chain.notifications("/page", "hsm1");
        (pages.last()?.body["status"] == "resolved").then_some(pages)
    });
    let statuses: Vec<&Value> = pages.iter().map(|page| &page.body["status"]).collect();
    assert_eq!(statuses, ["firing", "resolved"]);

    // The first line ever of an appliance is an alarm of its HSM: a counter that was not there before must page.
    let alarm = (
        "hsm2",
        "kern info kernel: k7pf0: [HSM] ALM2007: HSM zeroized",
    );
    let failed = chain.failed_scrapes().unwrap_or_default();
    chain.log(alarm.0, alarm.1);
    let page = chain.wait_for_what_follows("page for the alarm", alarm, failed, |chain| {
        chain.notifications("/page", "hsm2").into_iter().next()
    });
    assert_eq!(page.body["alerts"][0]["labels"]["appliance"], "hsm2");
    assert!(
        chain
            .firing("hsm2")
            .contains(&"ApplianceHsmZeroized".to_owned()),
        "{:?}",
        chain.firing("hsm2")
    );

    // A line of the appliance's trap test: the test alert and no other.
    let test = (
        "hsm3",
        "local4 notice ipmievd[1234]: ***TEST : Power Supply sensor PSU2_Status . - Failure detected Asserted",
    );
    let failed = chain.failed_scrapes().unwrap_or_default();
    chain.log(test.0, test.1);
    chain.wait_for_what_follows("test event", test, failed, |chain| {
        chain.notifications("/test", "hsm3").into_iter().next()
    });
    chain.wait_for_evaluation();
    assert_eq!(chain.firing("hsm3"), ["ApplianceTestEvent"]);
    assert!(chain.notifications("/page", "hsm3").is_empty());
}

#[test]
fn each_condition_of_the_trap_agent_raises_its_alert_and_resolves_it_where_it_can() {
    let mut chain = Chain::start();
    // Subsystem, the line that asserts it, the alert, and the line that ends it, if there is one.
    let conditions = [
        (
            "fan",
            "local4 notice ipmievd: Fan sensor Fan3B . Lower Non-recoverable going low (Reading 500 < Threshold 1000 RPM)",
            "ApplianceFanFailed",
            Some(
                "local4 notice ipmievd: Fan sensor Fan3B . Lower Non-recoverable going low (Reading 5100 < Threshold 1000 RPM)",
            ),
        ),
        (
            "power_supply",
            "local4 notice ipmievd: Power Supply sensor PSU2_Status . - Failure detected Asserted",
            "AppliancePowerSupplyFailed",
            Some(
                "local4 notice ipmievd: Power Supply sensor PSU2_Status . - Failure detected Deasserted",
            ),
        ),
        (
            "motherboard",
            "local4 notice ipmievd: Temperature sensor CPU . Upper Critical going high (Reading 75 > Threshold 72 degrees C)",
            "ApplianceTemperatureCritical",
            Some(
                "local4 notice ipmievd: Temperature sensor CPU . Upper Critical going high (Reading 70 > Threshold 72 degrees C)",
            ),
        ),
        (
            "disk_drive",
            "daemon crit smartd[1234]: Device: /dev/sda, Temperature 45 Celsius reached limit of 44 Celsius (Min/Max 31/49)",
            "ApplianceDiskTemperatureHigh",
            None,
        ),
        (
            "ntls",
            "local5 crit  NTLS [1234]: error : 0xc0000002 : Unable to create a new connection.",
            "ApplianceNtlsErrors",
            None,
        ),
        (
            "crypto",
            "kern info kernel: k7pf0: [HSM] ALM2007: HSM zeroized",
            "ApplianceHsmZeroized",
            None,
        ),
    ];
    let failed = chain.failed_scrapes().unwrap_or_default();
    for (subsystem, line, _, _) in conditions {
        chain.log(subsystem, line);
    }
    for (subsystem, line, alert, _) in conditions {
        chain.wait_for_what_follows(alert, (subsystem, line), failed, |chain| {
            chain
                .firing(subsystem)
                .contains(&alert.to_owned())
                .then_some(())
        });
    }
    for (subsystem, _, alert, over) in conditions {
        let Some(over) = over else { continue };
        chain.log(subsystem, over);
        wait_for("the end", NOTIFIED, || {
            (!chain.firing(subsystem).contains(&alert.to_owned())).then_some(())
        });
    }
}

#[test]
fn a_long_healthy_log_raises_nothing_but_the_watchdog() {
    // A day of an appliance that is well: what its documents call expected, said again and again.
    const HEALTHY: &[&str] = &[
        "local5 info  NTLS [1234]: info : 0 : NTLS is online and operational.",
        "local5 info  NTLS [1234]: info : 0 : Incoming connection request... : 192.0.2.100/40847",
        "local5 info  NTLS [1234]: info :  0xc0000002 : Connection accepted from: 192.0.2.100/40847",
        "local5 info  NTLS [1234]: info :  0xc0000002 : Handshake result from: 192.0.2.100/40847, result: Success",
        "local5 info  NTLS [1234]: info :  0xc0000002 : NTLS Client \"192.0.2.100\" connected and authenticated : 192.0.2.100/40847.",
        "local5 info  NTLS [1234]: info :  0xc0000002 : Connection terminating:  192.0.2.100/40847",
        "local4 notice ipmievd: Fan sensor Fan3B          . Lower Critical going low  (Reading 5600 < Threshold 2000 RPM)",
        "local4 notice ipmievd: Power Supply sensor PSU2_Status . - Presence detected Asserted",
        "daemon info smartd[1234]: Device: /dev/sda, SMART Usage Attribute: 194 Temperature_Celsius changed from 112 to 111",
        "daemon info smartd[1234]: Device: /dev/sda, Temperature changed +5 Celsius to 37 Celsius (Min/Max 26/37)",
        "daemon info smartd[1234]: Device: /dev/sda, previous self-test completed without error",
        "authpriv info  sshd[1234]: Accepted publickey for monitor from 192.0.2.100 port 2299 ssh2",
        "authpriv info  sshd[1234]: Received disconnect from 192.0.2.100: 11: disconnected by user",
        "local5 info lunash [1234]: info : 0 : Lush user login : monitor : 192.0.2.100/4084",
        "local5 info lunash [1234]: info : 0 : Command: hsm show : monitor : 192.0.2.100/4084",
        "cron notice anacron[1234]: Updated timestamp for job `cron.monthly' to 2026-02-28",
        "syslog info logger: uptime: 04:02:01 up 6:50, 2 users, load average: 0.38, 0.14, 0.04",
        "local5 info certmonitord[1234]: info : 0 : New NTLS certificate detected and the expiry date of this new certificate is Jul 26 16:32:48 2093 GMT",
        "local5 info AdminAPI[1234]: info : 0 : 192.0.2.120 successfully logged in as admin with session id of 413ef8fe-3667-4083-ae2f-44e66e1ac70e",
    ];
    const ROUNDS: usize = 1_000;
    let mut chain = Chain::start();
    for round in 0..ROUNDS {
        for line in HEALTHY {
            chain.log("hsm1", line);
        }
        // Lines must also arrive between scrapes, so that counters are seen to grow.
        if round % (ROUNDS / 4) == 0 {
            chain.wait_for_evaluation();
        }
    }
    let read = format!(
        "sum(log_messages_total{{appliance=\"hsm1\"}}) == {}",
        ROUNDS * HEALTHY.len()
    );
    wait_for("every line", NOTIFIED, || {
        prometheus_query(chain.prometheus, &read).filter(|found| !found.is_empty())
    });
    chain.wait_for_evaluation();
    let fired = prometheus_query(
        chain.prometheus,
        "count by (alertname) (count_over_time(ALERTS{alertstate=\"firing\"}[1h]))",
    );
    let names: Vec<Value> = fired
        .expect("an answer")
        .iter()
        .map(|alert| alert["metric"]["alertname"].clone())
        .collect();
    assert_eq!(names, ["ApplianceWatchdog"]);
    let unmatched =
        prometheus_query(chain.prometheus, "log_unmatched_messages_total > 0").expect("an answer");
    assert!(unmatched.is_empty(), "{unmatched:?}");
}
