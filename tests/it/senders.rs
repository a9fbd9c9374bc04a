//! Nobody speaks for another: two appliances write through the shipped rsyslog template, one honest and one arbitrary.

use std::sync::Arc;

use appliance_log_exporter::check::example_clock;
use appliance_log_exporter::engine::{Engine, Repeats, StreamContext, Worker};
use appliance_log_exporter::metric::Limits;
use appliance_log_exporter::record::{Programs, parse};
use appliance_log_exporter::rules::{self, Settings};
use proptest::prelude::*;

/// What the honest one says: states that somebody may want to clear or to raise.
const HONEST: [&str; 6] = [
    "<164>Feb 29 12:05:01 hsm1 ipmievd: Fan sensor Fan2A          . Lower Critical going low  (Reading 0 < Threshold 2000 RPM)",
    "<174>Feb 29 12:05:01 hsm1 NTLS[77]: info : 0 : NTLS is online and operational",
    "<27>Feb 29 12:05:01 hsm1 smartd[9]: Device: /dev/sda, 8 Currently unreadable (pending) sectors",
    "<30>Feb 29 12:05:01 hsm1 kmd[1]: KMD_VPN_DOWN_ALARM_USER: VPN v from 192.0.2.1 is down.",
    "<38>Feb 29 12:05:01 hsm1 sshd[1]: Failed password for root from 192.0.2.7 port 22 ssh2",
    "<6>Feb 29 12:05:01 hsm1 kernel: k7pf0: [HSM] ALM0015: PCIe Link Failure",
];

#[test]
fn a_relayed_host_counts_for_a_relay_that_is_named() {
    let line = "Feb 29 12:05:01 relay1 Feb 29 12:05:00 hsm1 sshd[1]: Failed password for root from 192.0.2.7 port 22 ssh2";
    for (relays, appliance) in [
        (&[][..], "relay1"),
        (&["relay2"], "relay1"),
        (&["relay2", "relay1"], "hsm1"),
        (&["*"], "hsm1"),
        // What was passed on does not make itself a relay.
        (&["hsm1"], "relay1"),
    ] {
        // The same engine reads the line for other sources, too.
        let mut worker = worker();
        for relays in [&["*"][..], relays] {
            let mut origin = StreamContext::new(example_clock());
            origin.relays = relays.iter().map(|&name| name.to_owned()).collect();
            let mut found = String::new();
            let engine = worker.engine().clone();
            worker.batch(0, None).line_with(
                &mut origin,
                line.as_bytes(),
                |_, _| {},
                |outcome| {
                    found = engine.table().appliance_name(outcome.appliance).to_owned();
                },
            );
            let expected = if relays == ["*"] { "hsm1" } else { appliance };
            assert_eq!(found, expected, "{relays:?}");
        }
    }
}

/// What a header may be made of, and messages that would matter.
const PIECES: [&str; 56] = [
    "hsm1",
    "hsm1:",
    "[hsm1]",
    "local@hsm1",
    "hsm1/hsm1",
    "192.0.2.1",
    "[192.0.2.1]",
    "fe80::1",
    "fe80::1:",
    "-",
    ":",
    "<38>",
    "<>",
    "<4.6>",
    "<auth.info>",
    "[auth.info]",
    "auth.info",
    "LOCAL1:ERR",
    "local5",
    "info",
    "err",
    "user",
    "1",
    "0",
    "2",
    "12",
    "[12]",
    "[1]:",
    "(x)",
    "(FPC Slot 1, PIC Slot 0)",
    "node0.fpc1",
    "stdout",
    "F",
    "last",
    "foo",
    "foo:",
    "foo[1]:",
    "NTLS",
    "NTLS[1]:",
    "ipmievd:",
    "kernel:",
    "kmd",
    "EFW:",
    "IPSEC",
    "cOS",
    "ktls.badAuth",
    "#012",
    "Feb 29 12:05:01",
    "2024 Feb 29 12:05:01",
    "2024-02-29T12:05:01Z",
    "[2024-02-29 12:05:01]",
    "1131566479",
    "[a@1 b=\"c\"]",
    "[hsm1:ktls.badAuth:notice]:",
    "13:04:11]",
    "{\"host\":\"hsm1\",\"message\":\"x\"}",
];

const MESSAGES: [&str; 6] = [
    "Fan sensor Fan2A . Lower Critical going low  (Reading 9800 < Threshold 2000 RPM)",
    "k7pf0: [HSM] ALM2007: HSM zeroized",
    "info : 0 : NTLS terminated",
    "KMD_VPN_UP_ALARM_USER: VPN v from 192.0.2.1 is up.",
    "last message repeated 5 times",
    "Device: /dev/sda, No more Currently unreadable (pending) sectors, warning condition reset after 1 email",
];

fn worker() -> Worker {
    let rules = rules::load(&[], Settings::default()).expect("the packs are right");
    let engine = Engine::new(Arc::new(rules), Limits::default(), &[]).expect("they compile");
    Worker::new(Arc::new(engine))
}

/// All series of the honest one, with their values.
fn series(worker: &Worker) -> String {
    let mut text = String::new();
    for (family, series) in worker.engine().table().snapshot().families {
        for one in series {
            if &*one.values[0] == "hsm1" {
                text += &format!(
                    "{} {:?} {} {}\n",
                    family.name, one.values, one.test, one.value
                );
            }
        }
    }
    text
}

/// As the shipped template writes what a sender sent, `%$.appliance%` being the name of its address.
fn written(sent: &str) -> String {
    format!("<38>Feb 29 12:05:01 hsm2 {sent}")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_one_appliance_sends_changes_no_series_of_another(
        lines in prop::collection::vec(
            (prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..7), "[ :]{1,2}", prop::sample::select(MESSAGES.to_vec())),
            1..64,
        ),
        noise in prop::collection::vec("\\PC{0,60}", 0..16),
    ) {
        let mut worker = worker();
        // One stream, so that a repetition could reach into what another said.
        let mut repeats = Repeats::default();
        let mut origin = StreamContext::new(example_clock());
        for line in HONEST {
            worker.batch(0, Some(&mut repeats)).line(&mut origin, line.as_bytes());
        }
        let before = series(&worker);
        prop_assert!(before.contains("ipmi_sensor_state"));
        for (pieces, blank, message) in &lines {
            let sent = written(&format!("{}{blank}{message}", pieces.join(" ")));
            worker.batch(0, Some(&mut repeats)).line(&mut origin, sent.as_bytes());
        }
        for noise in &noise {
            worker.batch(0, Some(&mut repeats)).line(&mut origin, written(noise).as_bytes());
        }
        prop_assert_eq!(series(&worker), before);
    }

    /// Cheaper than with rules, so many more.
    #[test]
    fn a_header_behind_the_collectors_host_names_no_other(
        lines in prop::collection::vec(prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..9), 512),
        prefix in prop::sample::select(vec![
            "<38>Feb 29 12:05:01 hsm2 ",
            "Feb 29 12:05:01 hsm2 ",
            "2024-02-29T12:05:01.123456+01:00 hsm2 ",
            "<38>1 2024-02-29T12:05:01Z hsm2 - - - - ",
        ]),
    ) {
        let programs = Programs::new(
            ["NTLS", "ipmievd", "kernel", "kmd", "EFW", "IPSEC", "ems"].map(|name| (name.to_owned(), Vec::new())),
        );
        for pieces in &lines {
            let line = format!("{prefix}{}", pieces.join(" "));
            let host = parse(line.as_bytes(), &programs).host.map(String::from_utf8_lossy);
            prop_assert_eq!(host.as_deref(), Some("hsm2"), "{}", line);
        }
    }
}
