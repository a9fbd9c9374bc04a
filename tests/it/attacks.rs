//! Attacks on a running exporter, each with a bound: by who may write where it keeps its state, and by a machine that
//! fails. What a sender, a client or an operator can do is in the other modules, too.

use std::process::{Command, Stdio};

use crate::exporter::{Exporter, LONG, append, binary, scrape};
use crate::support::{http_get, program};

const CHECKPOINT_AGE: &str = "appliance_log_exporter_checkpoint_age_seconds";

/// A failed handshake of an appliance.
fn handshake_failure(appliance: &str) -> String {
    format!(
        "2024 Feb 29 12:05:01 {appliance}  local5 info  NTLS[6036]: info : 0 : TLS handshake failed for client 192.0.2.1/45678\n"
    )
}

#[test]
fn a_link_in_the_state_directory_overwrites_nothing() {
    for name in ["lock", "snapshot", "snapshot.new", "snapshot.unusable"] {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        std::fs::create_dir(path("state")).expect("a directory");
        std::fs::write(path("shadow"), "precious").expect("it can be written");
        std::os::unix::fs::symlink(path("shadow"), path("state").join(name)).expect("a link");
        append(&path("messages"), handshake_failure("hsm1").as_bytes());
        let output = binary()
            .arg(format!("--log.file={}", path("messages").display()))
            .arg(format!("--state.dir={}", path("state").display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .stdin(Stdio::null())
            .output()
            .expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{name}: {said}");
        assert!(
            said.contains(&format!("`{name}` is a symbolic link")) && said.contains("hint:"),
            "{said}"
        );
        let kept = std::fs::read(path("shadow")).expect("it is there");
        assert_eq!(kept, b"precious", "{name}");
    }
}

#[test]
fn a_limit_of_file_sizes_ends_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    append(&path("messages"), handshake_failure("hsm1").as_bytes());
    // Enough for a small snapshot, and for what the exporter says.
    let mut exporter = Exporter::start_command(
        Command::new(program("prlimit"))
            .arg("--fsize=16384")
            .arg(env!("CARGO_BIN_EXE_appliance_log_exporter"))
            .arg(format!("--log.file={}", path("messages").display()))
            .arg(format!("--state.dir={}", path("state").display())),
    );
    let port = exporter.port;
    exporter.wait_for("a checkpoint", || {
        scrape(port)?.value(CHECKPOINT_AGE).map(|_| ())
    });
    let many: String = (0..500)
        .map(|number| handshake_failure(&format!("hsm{number}")))
        .collect();
    append(&path("messages"), many.as_bytes());
    // They are taken every five seconds.
    exporter.wait_for("checkpoints that fail", || {
        scrape(port)?.value(CHECKPOINT_AGE).filter(|age| *age > 6.0)
    });
    let said = exporter.child.output();
    assert!(said.contains("File too large"), "{said}");
    let healthy = http_get(port, "/-/healthy").expect("an answer");
    assert_eq!(healthy.status, 200);
    exporter.child.signal("TERM");
    assert_eq!(exporter.child.wait_for_end(LONG).code(), Some(0));
}
