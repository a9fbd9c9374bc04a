//! The collector's clock is set while the exporter runs, and while it does not: a year ahead, and back.

use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::exporter::{Exporter, LONG, Samples, append, scrape};

/// Seconds by which the clock may differ from the machine's, for which it is not "set".
const TOLERANCE: f64 = 60.0;
const YEAR: f64 = 365.0 * 86_400.0;

/// Starts the exporter with a clock that goes as far ahead as `ahead` in this directory says. What measures time that passes
/// is the machine's own.
fn start(directory: &Path) -> Exporter {
    let path = |name: &str| directory.join(name);
    Exporter::start_command(
        Command::new(env!("CARGO_BIN_EXE_appliance_log_exporter"))
            .arg(format!("--log.file={}", path("messages").display()))
            .arg(format!("--state.dir={}", path("state").display()))
            // Where libfaketime is in Debian; the loader knows what $LIB is.
            .env("LD_PRELOAD", "/usr/$LIB/faketime/libfaketimeMT.so.1")
            .env("FAKETIME_TIMESTAMP_FILE", path("ahead"))
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("NO_FAKE_STAT", "1"),
    )
}

fn set_clock(directory: &Path, ahead: f64) {
    let (new, now) = (directory.join("ahead.new"), directory.join("ahead"));
    std::fs::write(&new, format!("+{ahead}s\n")).expect("it can be written");
    std::fs::rename(new, now).expect("its place");
}

/// The machine's clock.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("a time after 1970").as_secs_f64()
}

fn log(directory: &Path, appliance: &str) {
    let line = format!("{appliance} NTLS[6036]: info : 0 : Terminating.\n");
    append(&directory.join("messages"), line.as_bytes());
}

/// When the exporter last heard from an appliance, in seconds after the present of the machine's clock.
fn last(samples: &Samples, appliance: &str) -> Option<f64> {
    let series =
        format!("log_last_message_timestamp_seconds{{appliance=\"{appliance}\",program=\"NTLS\"}}");
    samples.value(&series).map(|at| at - now())
}

/// Writes lines of an appliance until they are dated by a clock that is about so far ahead.
fn log_until(exporter: &mut Exporter, directory: &Path, appliance: &str, ahead: f64) {
    let port = exporter.port;
    exporter.wait_for("the new time", || {
        log(directory, appliance);
        let at = last(&scrape(port)?, appliance)?;
        ((at - ahead).abs() < TOLERANCE).then_some(())
    });
}

/// No time of an appliance lies in the future, and no age is negative.
fn nothing_is_in_the_future(exporter: &Exporter) {
    let samples = exporter.scrape();
    for (series, value) in samples.iter() {
        let name = series.split('{').next().unwrap_or_default();
        if name.starts_with("log_") && name.ends_with("_timestamp_seconds") {
            assert!(value <= now() + TOLERANCE, "{series} {value}");
        }
        assert!(!name.contains("_age_") || value >= 0.0, "{series} {value}");
    }
}

#[test]
fn a_clock_that_is_set_while_it_runs() {
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path();
    set_clock(directory, 0.0);
    let mut exporter = start(directory);
    log_until(&mut exporter, directory, "hsm1", 0.0);
    let first = last(&exporter.scrape(), "hsm1").expect("it was heard") + now();

    set_clock(directory, YEAR);
    log_until(&mut exporter, directory, "hsm2", YEAR);
    exporter.child.wait_for_output("the clock was set");
    // Who was silent was not heard meanwhile, and is not forgotten.
    let silent = last(&exporter.scrape(), "hsm1").expect("it is known") + now();
    assert!((silent - first).abs() < 1.0, "{silent} {first}");

    // hsm2 falls silent.
    set_clock(directory, 0.0);
    log_until(&mut exporter, directory, "hsm3", 0.0);
    nothing_is_in_the_future(&exporter);
    let samples = exporter.scrape();
    assert!(last(&samples, "hsm2").expect("it is known").abs() < TOLERANCE);
    assert!(last(&samples, "hsm1").is_some(), "it is forgotten");
}

#[test]
fn a_clock_that_is_set_back_between_two_starts() {
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path();
    set_clock(directory, YEAR);
    let mut exporter = start(directory);
    log_until(&mut exporter, directory, "hsm1", YEAR);
    exporter.child.signal("TERM");
    assert_eq!(exporter.child.wait_for_end(LONG).code(), Some(0));

    set_clock(directory, 0.0);
    let mut exporter = start(directory);
    let port = exporter.port;
    assert!(
        last(&exporter.scrape(), "hsm1").is_some(),
        "it is forgotten"
    );
    // Looked after once a minute.
    exporter.child.wait_for("the present", 3 * LONG, || {
        last(&scrape(port)?, "hsm1").filter(|ahead| *ahead < TOLERANCE)
    });
    nothing_is_in_the_future(&exporter);
    log_until(&mut exporter, directory, "hsm1", 0.0);
    nothing_is_in_the_future(&exporter);
}
