//! The whole way with the real programs: `logger` sends, rsyslogd writes an appliance's own files, logrotate rotates
//! them, the exporter follows, Prometheus scrapes and is asked.

use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use crate::exporter::{Exporter, LONG, scrape};
use crate::support::{Child, free_port, program, prometheus_query, start_rsyslogd, succeeds};

/// rsyslogd with the file layout of a Luna appliance, writing into `directory`.
fn rsyslogd(directory: &Path, port: u16) -> Child {
    let here = directory.display();
    let config = directory.join("rsyslog.conf");
    std::fs::write(
        &config,
        format!(
            r#"global(workDirectory="{here}")
module(load="imtcp")
input(type="imtcp" port="{port}" address="127.0.0.1")
template(name="appliance" type="string" string="%$year% %timereported:::date-rfc3164% %HOSTNAME%  %syslogfacility-text% %syslogseverity-text%  %syslogtag%%msg%\n")
if $syslogfacility-text == "local5" then action(type="omfile" file="{here}/lunalog" template="appliance")
else if $syslogfacility-text == "authpriv" then action(type="omfile" file="{here}/secure" template="appliance")
else action(type="omfile" file="{here}/messages" template="appliance")
"#
        ),
    )
    .expect("it can be written");
    start_rsyslogd(&config, port)
}

/// Sends one message with `logger`.
fn log(port: u16, priority: &str, tag: &str, message: &str) {
    succeeds(
        Command::new(program("logger"))
            .args(["--server", "127.0.0.1", "--port", &port.to_string()])
            .args(["--tcp", "--rfc3164", "-p", priority, "-t", tag])
            .args(["--", message]),
    );
}

#[test]
fn what_logger_sends_prometheus_tells() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let syslog = free_port();
    let _rsyslogd = rsyslogd(directory.path(), syslog);
    // One appliance, whatever it calls itself.
    let files = ["messages", "lunalog", "secure"].map(|name| path(name).display().to_string());
    let config = format!("sources: [{{name: hsm1, appliance: hsm1, paths: {files:?}}}]");
    std::fs::write(path("config.yaml"), config).expect("it can be written");
    let exporter = Exporter::start(&[&format!("--config.file={}", path("config.yaml").display())]);

    let prometheus = free_port();
    std::fs::write(
        path("prometheus.yml"),
        format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs:\n  - job_name: appliance_logs\n    static_configs:\n      \
             - targets: ['127.0.0.1:{}']\n",
            exporter.port
        ),
    )
    .expect("it can be written");
    let mut server = Child::start(
        Command::new(program("prometheus"))
            .arg(format!(
                "--config.file={}",
                path("prometheus.yml").display()
            ))
            .arg(format!("--storage.tsdb.path={}", path("tsdb").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{prometheus}")),
    );

    let fan = |reading: u32| {
        format!(
            "Fan sensor Fan3B           . Lower Critical going low  (Reading {reading} < Threshold 2000 RPM)"
        )
    };
    log(syslog, "local4.notice", "ipmievd", &fan(0));
    log(syslog, "local4.notice", "ipmievd", &fan(1600));
    log(
        syslog,
        "daemon.info",
        "smartd[2345]",
        "Device: /dev/sda [SAT], SMART Usage Attribute: 194 Temperature_Celsius changed from 181 to 176",
    );
    for port in [40847, 40848] {
        log(
            syslog,
            "local5.info",
            "NTLS[1234]",
            &format!(
                "info : 0xc0000711 : Fail to establish a secure channel with client : 192.0.2.7/{port} : RC_SSL_FAILED_HANDSHAKE"
            ),
        );
    }
    for sequence in 1..=3 {
        log(
            syslog,
            "local0.notice",
            "IPSEC",
            &format!(
                "id=278 severity=Notice action=Drop msg=\"Anti-replay check failed.\" seqno={sequence} windowbase=99200 windowsize=64 matchkey=7"
            ),
        );
    }
    log(
        syslog,
        "authpriv.info",
        "sshd[77]",
        "Failed password for invalid user oracle from 203.0.113.9 port 4711 ssh2",
    );

    for (query, value) in [
        (
            r#"ipmi_sensor_reading{name="Fan3B",type="Fan",unit="RPM"}"#,
            "1600",
        ),
        (r#"ipmi_sensor_state{name="Fan3B",type="Fan"}"#, "2"),
        (
            r#"smart_attribute_value{device="sda",attribute_id="194",attribute_name="Temperature_Celsius",attribute_kind="usage"}"#,
            "176",
        ),
        (
            r#"ntls_handshake_failures_total{reason="ssl_failed_handshake"}"#,
            "2",
        ),
        (r#"ipsec_drops_total{id="278"}"#, "3"),
        (r#"hsm_zeroizations_total{cause="firmware"}"#, "0"),
        (
            r#"sshd_login_failures_total{method="password",invalid_user="true"}"#,
            "1",
        ),
        (r#"sum(log_unmatched_messages_total)"#, "0"),
        (r#"sum(log_messages_total)"#, "9"),
        ("up", "1"),
    ] {
        let found = server.wait_for(&format!("{query} {value}"), LONG, || {
            let found = prometheus_query(prometheus, query)?;
            found
                .iter()
                .any(|sample| sample["value"][1] == value)
                .then_some(found)
        });
        assert_eq!(found.len(), 1, "{query}: {found:?}");
    }
}

/// Messages that are sent while logrotate rotates the file that rsyslogd writes.
const MESSAGES: u32 = 40_000;
const ROTATIONS: u32 = 8;

#[test]
fn logrotate_under_load_loses_no_message() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let port = free_port();
    let rsyslogd = rsyslogd(directory.path(), port);
    let lunalog = path("lunalog");
    let mut exporter = Exporter::start(&[
        &format!("--log.file={}", lunalog.display()),
        &format!("--state.dir={}", path("state").display()),
    ]);
    let rotation = path("logrotate.conf");
    std::fs::write(
        &rotation,
        format!(
            "{} {{\n  rotate 20\n  nocreate\n  compress\n  delaycompress\n  missingok\n  postrotate\n    kill -s HUP {}\n  endscript\n}}\n",
            lunalog.display(),
            rsyslogd.pid()
        ),
    )
    .expect("it can be written");

    // Until rsyslogd has taken note of a rotation it writes to the old file, and it makes a new one only for a message.
    let file_there = || {
        let ready = "info : 0 : NTLS is online and operational.";
        lunalog.exists().then_some(()).or_else(|| {
            log(port, "local5.info", "NTLS[1234]", ready);
            None
        })
    };
    // One sender, since `logger` for each message would be no load.
    let mut sender = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    for round in 0..ROTATIONS {
        let each = MESSAGES / ROTATIONS;
        let mut text = String::new();
        for message in round * each..(round + 1) * each {
            text.push_str(&format!(
                "<174>Feb 29 12:05:01 hsm1 NTLS[1234]: info : 0xc0000711 : Fail to establish a secure channel with \
                 client : 192.0.2.7/{message} : RC_SSL_FAILED_HANDSHAKE\n"
            ));
        }
        sender.write_all(text.as_bytes()).expect("sent");
        // rsyslogd is still writing these.
        exporter.wait_for("a file to rotate", file_there);
        succeeds(
            Command::new(program("logrotate"))
                .args(["--force", "--state"])
                .arg(path("logrotate.state"))
                .arg(&rotation),
        );
    }
    drop(sender);
    // A file that came and went between two looks is found when its successor comes, so there must be one.
    exporter.wait_for("a file after the last rotation", file_there);

    let failures =
        r#"ntls_handshake_failures_total{appliance="hsm1",reason="ssl_failed_handshake"}"#;
    // What is on disk, whoever may have lost the rest: first all of it must be there.
    exporter.wait_for("all messages on disk", || {
        (messages_on_disk(directory.path()) == MESSAGES as usize).then_some(())
    });
    let at = exporter.port;
    exporter.wait_for("all messages", || {
        scrape(at)?
            .value(failures)
            .filter(|count| *count >= f64::from(MESSAGES))
    });
    // Settled: a message that is counted twice would come with what is still read.
    exporter.wait_for_value(
        r#"appliance_log_exporter_source_lag_bytes{source="log.file"}"#,
        0.0,
    );
    let samples = exporter.scrape();
    assert_eq!(samples.value(failures), Some(f64::from(MESSAGES)));
    assert_eq!(
        samples.sum("log_messages_total", &[r#"appliance="hsm1""#]),
        f64::from(MESSAGES)
    );
    assert_eq!(
        samples.sum("appliance_log_exporter_lost_bytes_total", &[]),
        0.0
    );
    let rotations = samples.sum("appliance_log_exporter_rotations_total", &[]);
    assert!(rotations >= f64::from(ROTATIONS - 1), "{rotations}");
}

/// Lines in the log and in all that was rotated.
fn messages_on_disk(directory: &Path) -> usize {
    let output = Command::new("sh")
        .args(["-c", "zcat --force lunalog* | grep -c ' hsm1 '"])
        .current_dir(directory)
        .output()
        .expect("sh starts");
    String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .unwrap_or(0)
}
