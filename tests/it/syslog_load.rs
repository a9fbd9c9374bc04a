//! Much from real senders, and peers that are gone.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child as Process, ChildStdin, Command, Stdio};
use std::time::Duration;

use crate::exporter::{Exporter, Samples, scrape};
use crate::support::{free_port, make_certificate, program, root, succeeds, tool};

/// syslog-ng's generator of load.
fn loggen() -> Command {
    let unpacked = tool("syslog-ng");
    let mut command = Command::new(unpacked.join("usr/bin/loggen"));
    command
        .env("LD_LIBRARY_PATH", unpacked.join("usr/lib/syslog-ng"))
        .env("SYSLOGNG_PREFIX", unpacked.join("usr"))
        .args(["--rate=1000000", "--interval=60"]);
    command
}

fn own(samples: &Samples, metric: &str, labels: &[&str]) -> f64 {
    samples.sum(&format!("appliance_log_exporter_{metric}"), labels)
}

#[test]
fn what_loggen_sends_is_counted_to_the_last_message() {
    let directory = tempfile::tempdir().expect("a directory");
    make_certificate(directory.path(), "localhost", None);
    let file = |name: &str| format!("{}/{name}", directory.path().display());
    let ports = ["udp", "tcp", "tls"].map(|transport| (transport, free_port()));
    let mut flags: Vec<String> = ports
        .iter()
        .map(|(transport, port)| format!("--syslog.listen={transport}://127.0.0.1:{port}"))
        .collect();
    flags.push(format!("--syslog.tls-cert-file={}", file("localhost.pem")));
    flags.push(format!("--syslog.tls-key-file={}", file("localhost.key")));
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let mut exporter = Exporter::start(&flags);
    let [udp, tcp, tls] = ports.map(|(_, port)| port.to_string());
    const SENT: f64 = 20_000.0;
    let mut expected = 0.0;
    for (arguments, port) in [
        (&["--inet", "--stream"][..], &tcp),
        (&["--inet", "--stream", "--syslog-proto"], &tcp),
        (
            &[
                "--inet",
                "--stream",
                "--syslog-proto",
                "--no-framing",
                "--size=8000",
            ],
            &tcp,
        ),
        (&["--inet", "--stream", "--idle-connections=20"], &tcp),
        (&["--use-ssl", "--syslog-proto"], &tls),
        (&["--inet", "--dgram"], &udp),
    ] {
        let mut loggen = loggen();
        loggen.arg(format!("--number={SENT}")).args(arguments);
        succeeds(loggen.args(["127.0.0.1", port]));
        expected += SENT;
        let web = exporter.port;
        exporter.wait_for(&format!("all of {arguments:?}"), || {
            let samples = scrape(web)?;
            let read = own(&samples, "lines_read_total", &[]);
            let dropped = own(&samples, "syslog_datagrams_dropped_total", &[]);
            (read + dropped == expected).then_some(())
        });
    }
    let samples = exporter.scrape();
    assert_eq!(own(&samples, "syslog_lines_dropped_total", &[]), 0.0);
}

/// Many senders never read. Whatever a server sends them lies unread when they close, and then their system resets the
/// connection, so that what they sent last is lost.
#[test]
fn a_sender_over_tls_that_never_reads_loses_nothing_when_it_closes() {
    const SENDER: &str = r#"
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[1])
for _ in range(20):
    sender = context.wrap_socket(
        socket.create_connection(("127.0.0.1", int(sys.argv[2]))), server_hostname="localhost")
    for _ in range(20):
        sender.sendall(b"<13>Feb 29 12:05:01 h sshd[1]: hello\n" * 100)
    sender.close()
"#;
    let directory = tempfile::tempdir().expect("a directory");
    make_certificate(directory.path(), "localhost", None);
    let (port, here) = (free_port(), directory.path().display().to_string());
    let mut exporter = Exporter::start(&[
        &format!("--syslog.listen=tls://127.0.0.1:{port}"),
        &format!("--syslog.tls-cert-file={here}/localhost.pem"),
        &format!("--syslog.tls-key-file={here}/localhost.key"),
    ]);
    let certificate = format!("{here}/localhost.pem");
    succeeds(Command::new(program("python3")).args([
        "-c",
        SENDER,
        &certificate,
        &port.to_string(),
    ]));
    let series = "appliance_log_exporter_lines_read_total{source=\"syslog.listen\"}";
    exporter.wait_for_value(series, 40_000.0);
}

#[test]
fn a_peer_that_is_gone_without_a_word_is_found() {
    let said = succeeds(
        Command::new(program("unshare"))
            .args(["--user", "--map-root-user", "--net", "bash"])
            .arg(root().join("tests/it/half_open.sh"))
            .arg(env!("CARGO_BIN_EXE_appliance_log_exporter")),
    );
    let seconds: u64 = said.out.trim().parse().expect("a number");
    let found = Duration::from_secs(seconds);
    // Keepalive begins after 60 seconds, and 90 without an answer are enough.
    let limits = Duration::from_secs(55)..Duration::from_secs(130);
    assert!(limits.contains(&found), "{found:?}");
}

/// `openssl s_client` with this certificate, and what it sends.
fn s_client(directory: &Path, port: u16, certificate: Option<&str>) -> (Process, ChildStdin) {
    let mut command = Command::new(program("openssl"));
    command
        .current_dir(directory)
        .args(["s_client", "-quiet", "-no_ign_eof", "-CAfile", "ca.pem"])
        .args(["-connect", &format!("127.0.0.1:{port}")]);
    if let Some(name) = certificate {
        let (certificate, key) = (format!("{name}.pem"), format!("{name}.key"));
        command.args(["-cert", &certificate, "-key", &key]);
    }
    let mut client = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl");
    let input = client.stdin.take().expect("its input");
    (client, input)
}

#[test]
fn openssl_as_a_slow_sender_and_as_a_hostile_one() {
    const LINE: &[u8] = b"<13>Feb 29 12:05:01 h sshd[1]: hello\n";
    // The time of a message, and much more.
    const SLOW_MAX: Duration = Duration::from_secs(120);
    let directory = tempfile::tempdir().expect("a directory");
    let at = directory.path();
    for (name, issuer) in [
        ("ca", None),
        ("localhost", Some("ca")),
        ("hsm-7", Some("ca")),
        ("hsm-8", Some("ca")),
        ("others", None),
        ("stranger", Some("others")),
    ] {
        make_certificate(at, name, issuer);
    }
    let (port, here) = (free_port(), at.display());
    let mut exporter = Exporter::start(&[
        &format!("--syslog.listen=tls://127.0.0.1:{port}"),
        &format!("--syslog.tls-cert-file={here}/localhost.pem"),
        &format!("--syslog.tls-key-file={here}/localhost.key"),
        &format!("--syslog.tls-client-ca-file={here}/ca.pem"),
    ]);
    let web = exporter.port;
    let wait = |exporter: &mut Exporter, metric: &str, labels: &[&str], value: f64| {
        exporter.child.wait_for(metric, SLOW_MAX, || {
            scrape(web).filter(|samples| own(samples, metric, labels) == value)
        })
    };
    let (dropped, failed) = ("syslog_lines_dropped_total", ["result=\"tls_failed\""]);

    // One stops in the middle of a message, and goes on with it when its time is over.
    let (mut stopped, mut its_input) = s_client(at, port, Some("hsm-7"));
    its_input.write_all(&LINE[..20]).expect("sent");
    // Another sends byte by byte.
    let (mut slow, mut slow_input) = s_client(at, port, Some("hsm-8"));
    for byte in LINE {
        slow_input.write_all(&[*byte]).expect("sent");
        slow_input.flush().expect("sent");
        std::thread::sleep(Duration::from_millis(2));
    }
    wait(&mut exporter, "lines_read_total", &[], 1.0);

    // Who has no certificate, one of somebody else's authority, or no TLS at all.
    for (number, certificate) in [(1.0, None), (2.0, Some("stranger"))] {
        let (mut client, mut input) = s_client(at, port, certificate);
        // It may be gone already.
        let _ = input.write_all(LINE);
        drop(input);
        client.wait().expect("its end");
        wait(&mut exporter, "syslog_connections_total", &failed, number);
    }
    let mut plain = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a connection");
    plain.write_all(LINE).expect("sent");
    wait(&mut exporter, "syslog_connections_total", &failed, 3.0);

    // Nonsense within TLS: a line that is too long, and a frame whose length is a lie.
    let (mut hostile, mut hostile_input) = s_client(at, port, Some("hsm-8"));
    let nonsense = [vec![0xff; 100_000], b"\n99999999 <13>x".to_vec()].concat();
    hostile_input.write_all(&nonsense).expect("sent");
    drop(hostile_input);
    hostile.wait().expect("its end");
    wait(&mut exporter, dropped, &["reason=\"torn\""], 1.0);
    wait(&mut exporter, dropped, &["reason=\"too_long\""], 1.0);
    wait(&mut exporter, "lines_read_total", &[], 2.0);

    // All the while the other two are connected, and no worse for it.
    wait(&mut exporter, dropped, &["reason=\"slow\""], 1.0);
    its_input.write_all(&LINE[20..]).expect("sent");
    its_input.write_all(LINE).expect("sent");
    slow_input.write_all(LINE).expect("sent");
    let samples = wait(&mut exporter, "lines_read_total", &[], 4.0);
    assert_eq!(own(&samples, "syslog_open_connections", &[]), 2.0);
    assert_eq!(samples.sum("log_messages_total", &["hsm-7"]), 1.0);
    drop((its_input, slow_input));
    stopped.wait().expect("its end");
    slow.wait().expect("its end");
    wait(&mut exporter, "syslog_open_connections", &[], 0.0);
}

#[test]
fn an_address_for_all_interfaces_is_one_of_both_families() {
    let said = succeeds(
        Command::new(program("unshare"))
            .args(["--user", "--map-root-user", "--net", "bash"])
            .arg(root().join("tests/it/both_families.sh"))
            .arg(env!("CARGO_BIN_EXE_appliance_log_exporter")),
    );
    assert_eq!(said.out, "127.0.0.1 2\n::1 2\n");
}
