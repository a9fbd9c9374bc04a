//! A remote party's address becomes a label only when the settings say so.

use std::io::Write as _;
use std::process::{Command, Output};

const LINE: &str =
    r#"<13>Feb 29 12:05:01 [node-01:ktls.failed:notice]: peer="192.0.2.9", ipsname="Default""#;

fn with_settings(settings: &str, arguments: &[&str]) -> Output {
    let mut config = tempfile::NamedTempFile::new().expect("a temporary file");
    write!(config, "{settings}").expect("room for it");
    Command::new(env!("CARGO_BIN_EXE_appliance_log_exporter"))
        .arg("--config.file")
        .arg(config.path())
        .args(arguments)
        .output()
        .expect("the binary starts")
}

fn shown(settings: &str) -> String {
    let mut log = tempfile::NamedTempFile::new().expect("a temporary file");
    writeln!(log, "{LINE}").expect("room for it");
    let path = log.path().to_string_lossy().into_owned();
    let text = String::from_utf8(with_settings(settings, &["replay", &path]).stdout)
        .expect("metrics are UTF-8");
    let mut samples = text
        .lines()
        .filter(|line| line.starts_with("ktls_connection_failures_total"));
    samples.next().expect("the line is counted").to_owned()
}

#[test]
fn the_peer_is_a_label_only_when_asked_for() {
    assert_eq!(
        shown("{}"),
        r#"ktls_connection_failures_total{appliance="node-01",ipspace="Default"} 1"#
    );
    assert_eq!(
        shown("labels: {remote_address: true}"),
        r#"ktls_connection_failures_total{appliance="node-01",ipspace="Default",peer="192.0.2.9"} 1"#
    );
}

/// The examples of the packs are written without the label.
#[test]
fn check_passes_with_the_label_too() {
    let output = with_settings("labels: {remote_address: true}", &["check"]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}
