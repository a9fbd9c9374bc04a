//! Lines that come through a pipe: a FIFO, as the appliance's trap agent and rsyslog's `ompipe` use it, and standard input.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use crate::exporter::{Exporter, binary};

const LINE: &str = "2012 Feb 29 12:05:01 hsm1  local5 info  NTLS [1]: info : 0 : NTLS is online and operational.\n";
const EVENTS: &str = r#"log_events_total{appliance="hsm1",program="NTLS",event="online"}"#;

fn make_fifo(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status();
    assert!(made.is_ok_and(|status| status.success()));
}

/// Opened for both, so that opening does not wait for a reader.
fn write(path: &Path, text: &str) {
    let mut pipe = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    pipe.write_all(text.as_bytes()).unwrap();
}

#[test]
fn a_fifo_is_followed_over_writers_that_come_and_go() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("syslog.pipe");
    make_fifo(&fifo);
    let mut exporter = Exporter::start(&[&format!("--log.file={}", fifo.display())]);
    for count in 1..=3 {
        write(&fifo, LINE);
        exporter.wait_for_value(EVENTS, f64::from(count));
    }
}

#[test]
fn standard_input_is_read_line_by_line() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("stdin");
    make_fifo(&fifo);
    // Held open, so that standard input does not end.
    let mut pipe = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&fifo)
        .unwrap();
    pipe.write_all(LINE.as_bytes()).unwrap();
    let exporter = binary();
    let mut shell = Command::new("sh");
    shell
        .args(["-c", r#"exec "$0" "$@" < "$PIPE""#])
        .arg(exporter.get_program())
        .args(["--log.file", "-"])
        .env("PIPE", &fifo);
    let mut exporter = Exporter::start_command(&mut shell);
    exporter.wait_for_value(EVENTS, 1.0);
    let (first, rest) = LINE.split_at(40);
    pipe.write_all(first.as_bytes()).unwrap();
    pipe.write_all(rest.as_bytes()).unwrap();
    exporter.wait_for_value(EVENTS, 2.0);
}
