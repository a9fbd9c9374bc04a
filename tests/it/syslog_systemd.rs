//! Sockets that systemd opens and hands over: by name, and through a restart.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;

use rustix::io::{FdFlags, fcntl_setfd};

use crate::exporter::{DOORS, Exporter, LONG, binary, scrape};
use crate::support::{Child, free_port, http_get, program};

const LINES: &str = "appliance_log_exporter_lines_read_total";
const LINE: &[u8] = b"<13>Feb 29 12:05:01 h sited: door a\n";

/// A program that gets these sockets under these names, as systemd would hand them over.
fn with_sockets(sockets: &[(&str, &dyn AsFd)]) -> Command {
    let mut script = String::new();
    for (number, (_, socket)) in (3..).zip(sockets) {
        let fd = socket.as_fd();
        fcntl_setfd(fd, FdFlags::empty()).expect("it is inherited");
        script += &format!("exec {number}<&{};", fd.as_raw_fd());
    }
    let names: Vec<&str> = sockets.iter().map(|(name, _)| *name).collect();
    script += "export LISTEN_PID=$$; exec \"$@\"";
    let mut command = Command::new(program("bash"));
    command
        .args(["-c", &script, "bash"])
        .arg(binary().get_program())
        .env("LISTEN_FDS", sockets.len().to_string())
        .env("LISTEN_FDNAMES", names.join(":"));
    command
}

#[test]
fn sockets_are_taken_by_name_and_wait_through_a_restart() {
    let any = (Ipv4Addr::LOCALHOST, 0);
    let web = TcpListener::bind(any).expect("a port");
    let datagrams = UdpSocket::bind(any).expect("a port");
    let streams = TcpListener::bind(any).expect("a port");
    let port = web.local_addr().expect("its address").port();
    let (udp, tcp) = (
        datagrams.local_addr().unwrap(),
        streams.local_addr().unwrap(),
    );
    // As in the shipped units: the name of the web server's is that of its unit.
    let sockets: [(&str, &dyn AsFd); 3] = [
        ("appliance_log_exporter.socket", &web),
        ("syslog", &datagrams),
        ("syslog", &streams),
    ];
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(directory.path().join("rules")).expect("a directory");
    std::fs::write(directory.path().join("rules/site.yaml"), DOORS).expect("a file");
    let start = || {
        let mut command = with_sockets(&sockets);
        command
            .args([
                "--web.systemd-socket",
                "--syslog.listen=udp://systemd/syslog",
            ])
            .arg("--syslog.listen=tcp://systemd/syslog")
            .arg(format!("--rules.dir={}/rules", directory.path().display()))
            .arg(format!("--state.dir={}/state", directory.path().display()));
        Exporter::start_on(&mut command, port)
    };
    let sender = UdpSocket::bind(any).expect("a socket");
    let send = || {
        sender.send_to(LINE, udp).expect("sent");
        let mut stream = TcpStream::connect(tcp).expect("a connection");
        stream.write_all(LINE).expect("sent");
        stream
    };
    let mut exporter = start();
    let connection = send();
    exporter.wait_for_value(&format!("{LINES}{{source=\"syslog.listen\"}}"), 2.0);
    exporter.child.signal("TERM");
    assert!(exporter.child.wait_for_end(LONG).success());
    drop((connection, exporter));

    // Nobody is there, and nothing is lost.
    let waiting: Vec<TcpStream> = (0..20).map(|_| send()).collect();
    let mut exporter = start();
    let samples =
        exporter.wait_for_value("site_doors_total{appliance=\"127.0.0.1\",door=\"a\"}", 42.0);
    assert_eq!(samples.sum(LINES, &[]), 40.0);
    drop(waiting);
}

#[test]
fn a_name_that_was_not_passed_is_an_error_at_the_start() {
    let datagrams = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    for (flags, address) in [
        (
            &["--syslog.listen=udp://systemd/other"][..],
            "udp://systemd/other",
        ),
        (
            &["--syslog.listen=tcp://systemd/syslog"],
            "tcp://systemd/syslog",
        ),
        // Everything that was passed is the source's.
        (
            &[
                "--syslog.listen=udp://systemd/syslog",
                "--web.systemd-socket",
            ],
            "systemd",
        ),
    ] {
        let output = with_sockets(&[("syslog", &datagrams)])
            .args(flags)
            .arg("--web.listen-address=127.0.0.1:0")
            .output()
            .expect("it runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let message = format!("cannot listen on `{address}`: no such socket was passed");
        assert!(
            !output.status.success() && text.contains(&message),
            "{text}"
        );
    }
}

/// systemd's own program opens the port, and starts the exporter when the first datagram comes, which is not lost.
#[test]
fn the_first_datagram_starts_the_exporter_and_counts() {
    let (port, web) = (free_port(), free_port());
    let mut child = Child::start(
        Command::new(program("systemd-socket-activate"))
            .args(["--datagram", "--fdname=syslog"])
            .arg(format!("--listen=127.0.0.1:{port}"))
            .arg(binary().get_program())
            .arg("--syslog.listen=udp://systemd/syslog")
            .arg(format!("--web.listen-address=127.0.0.1:{web}")),
    );
    let output = child.output_path();
    child.wait_for("open port", LONG, || {
        let text = std::fs::read_to_string(&output).ok()?;
        text.contains("Listening on").then_some(())
    });
    assert!(http_get(web, "/-/ready").is_none());
    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    sender
        .send_to(LINE, (Ipv4Addr::LOCALHOST, port))
        .expect("sent");
    child.wait_for("its line", LONG, || {
        scrape(web).filter(|samples| samples.sum(LINES, &[]) == 1.0)
    });
}

/// As in the shipped unit, which has a network of its own (`PrivateNetwork=yes`).
#[test]
fn drops_that_cannot_be_counted_are_no_zero() {
    let any = (Ipv4Addr::LOCALHOST, 0);
    let web = TcpListener::bind(any).expect("a port");
    let datagrams = UdpSocket::bind(any).expect("a port");
    let address = datagrams.local_addr().expect("its address");
    let port = web.local_addr().expect("its address").port();
    let sockets: [(&str, &dyn AsFd); 2] = [
        ("appliance_log_exporter.socket", &web),
        ("syslog", &datagrams),
    ];
    let sender = UdpSocket::bind(any).expect("a socket");
    for (network, is_counted) in [(&["env"][..], true), (&["unshare", "--net"], false)] {
        let inner = with_sockets(&sockets);
        let mut command = Command::new(program(network[0]));
        command
            .args(&network[1..])
            .arg(inner.get_program())
            .args(inner.get_args())
            .envs(
                inner
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            )
            .args([
                "--web.systemd-socket",
                "--syslog.listen=udp://systemd/syslog",
            ]);
        let mut exporter = Exporter::start_on(&mut command, port);
        sender.send_to(LINE, address).expect("sent");
        let samples = exporter.wait_for_value(&format!("{LINES}{{source=\"syslog.listen\"}}"), 1.0);
        let drops =
            "appliance_log_exporter_syslog_datagrams_dropped_total{source=\"syslog.listen\"}";
        assert_eq!(samples.value(drops), is_counted.then_some(0.0));
        let said = exporter.child.output().contains("cannot be counted");
        assert_eq!(said, !is_counted);
    }
}
