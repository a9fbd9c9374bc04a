//! A remote party's address becomes a label only when the settings say so.

use std::io::Write as _;

use crate::exporter::binary;
use crate::support::succeeds;

const LINE: &str =
    r#"<13>Feb 29 12:05:01 [node-01:ktls.failed:notice]: peer="192.0.2.9", ipsname="Default""#;

fn with_settings(settings: &str, arguments: &[&str]) -> String {
    let mut config = tempfile::NamedTempFile::new().expect("a temporary file");
    write!(config, "{settings}").expect("room for it");
    let config = config.path();
    succeeds(binary().args(arguments).arg("--config.file").arg(config)).out
}

fn shown(settings: &str) -> String {
    let mut log = tempfile::NamedTempFile::new().expect("a temporary file");
    writeln!(log, "{LINE}").expect("room for it");
    let path = log.path().to_string_lossy().into_owned();
    let text = with_settings(settings, &["replay", &path]);
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
    with_settings(
        "labels: {remote_address: true}",
        &["check", "--log.file=/nonexistent/x"],
    );
}
