//! What the page at `/` costs.

use std::fmt::Write as _;

use crate::exporter::Exporter;
use crate::support::http_get;

/// As many as get labels of their own by default (`limits.appliances`).
const APPLIANCES: usize = 10_000;

/// What each of them logs: known and unknown, of several programs.
const LINES: [&str; 4] = [
    "authpriv info sshd[1]: Accepted publickey for monitor from 192.0.2.9 port 4711 ssh2",
    "cron info crond[1]: (root) CMD (run-parts /etc/cron.hourly)",
    "local4 notice ipmievd: Fan sensor Fan3B . Lower Critical going low (Reading 5600 < Threshold 2000 RPM)",
    "local5 info NTLS[1]: nothing that a rule knows",
];

#[test]
fn the_page_of_the_largest_fleet_takes_less_than_a_second_and_ends() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("messages");
    let mut text = String::new();
    for appliance in 0..APPLIANCES {
        for line in LINES {
            writeln!(text, "2026 Feb 28 12:05:01 hsm{appliance}  {line}").expect("a String");
        }
    }
    std::fs::write(&log, text).expect("it can be written");
    let exporter = Exporter::start(&[&format!("--log.file={}", log.display())]);

    // The time of the processor and not that of the wall, which other tests use, too; over some, as it is counted in
    // hundredths of a second.
    const PAGES: u32 = 10;
    let before = exporter.child.cpu_seconds();
    for _ in 0..PAGES {
        let page = http_get(exporter.port, "/").expect("an answer");
        let text = page.text();
        assert_eq!(page.status, 200, "{text}");
        // All of them are counted, and a page for people shows some.
        assert!(
            text.contains("<dd>10\u{202f}000<small>of at most 10\u{202f}000"),
            "{text}"
        );
        assert!(text.len() < 256 * 1024, "{} bytes", text.len());
    }
    let cost = (exporter.child.cpu_seconds() - before) / f64::from(PAGES);
    println!("a page of {APPLIANCES} appliances: {cost:.3} s of the processor");
    // This is without optimisation.
    assert!(cost < 1.0, "{cost} s");
}
