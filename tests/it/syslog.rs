//! Messages straight from the wire: real senders, hostile ones, and what is lost when the process is killed.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use crate::exporter::{DOORS, Exporter, LONG, Samples, binary};
use crate::support::{Child, free_port, make_certificate, program, succeeds};

/// A source that listens by these transports on ports that are free now.
struct Wire {
    directory: tempfile::TempDir,
    ports: BTreeMap<&'static str, u16>,
}

impl Wire {
    fn new(transports: &[&'static str], settings: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let wire = Wire {
            ports: transports.iter().map(|name| (*name, free_port())).collect(),
            directory,
        };
        wire.configure(settings);
        std::fs::create_dir(wire.path("rules")).expect("a directory");
        std::fs::write(wire.path("rules/site.yaml"), DOORS).expect("a file");
        wire
    }

    /// `settings` are those of the source beside `name` and `listen`, as `syslog: {…}` and below it.
    fn configure(&self, settings: &str) {
        let listen: Vec<String> = (self.ports.iter())
            .map(|(transport, port)| format!("'{transport}://127.0.0.1:{port}'"))
            .collect();
        let settings = settings.replace("LISTEN", &format!("listen: [{}]", listen.join(", ")));
        let text =
            format!("sources:\n  - name: wire\n    {settings}\nrules: {{directories: [rules]}}\n");
        std::fs::write(self.path("config.yaml"), text).expect("a file");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn start(&self, arguments: &[&str]) -> Exporter {
        let config = format!("--config.file={}", self.path("config.yaml").display());
        Exporter::start_command(binary().arg(config).args(arguments))
    }

    fn address(&self, transport: &str) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports[transport]).into()
    }

    /// A connection from 127.0.0.`last`.
    fn connect(&self, transport: &str, last: u8) -> TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let from = SocketAddr::from(([127, 0, 0, last], 0));
        socket.bind(&from.into()).expect("an address of our own");
        socket
            .connect(&self.address(transport).into())
            .expect("a connection");
        socket.into()
    }

    fn send_datagram(&self, last: u8, bytes: &[u8]) {
        let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, last), 0)).expect("a socket");
        socket.send_to(bytes, self.address("udp")).expect("sent");
    }
}

fn lines(samples: &Samples) -> f64 {
    samples.sum(
        "appliance_log_exporter_lines_read_total",
        &["source=\"wire\""],
    )
}

fn own(samples: &Samples, metric: &str, labels: &[&str]) -> f64 {
    samples.sum(&format!("appliance_log_exporter_syslog_{metric}"), labels)
}

/// Waits until so many lines are counted, and no fewer than none more.
fn wait_for_lines(exporter: &mut Exporter, count: f64) -> Samples {
    exporter.wait_for_value(
        "appliance_log_exporter_lines_read_total{source=\"wire\"}",
        count,
    )
}

fn wait_for(exporter: &mut Exporter, metric: &str, labels: &[&str], value: f64) -> Samples {
    let port = exporter.port;
    exporter.wait_for(metric, || {
        crate::exporter::scrape(port).filter(|samples| own(samples, metric, labels) == value)
    })
}

#[test]
fn real_senders_over_every_transport() {
    let certificates = tempfile::tempdir().expect("a directory");
    let at = certificates.path();
    make_certificate(at, "ca", None);
    make_certificate(at, "localhost", Some("ca"));
    make_certificate(at, "hsm-7", Some("ca"));
    let here = at.display();
    let wire = Wire::new(
        &["udp", "tcp", "tls"],
        &format!(
            "syslog: {{LISTEN, addresses: {{127.0.0.1: box-1}}, tls: {{cert_file: {here}/localhost.pem, key_file: \
             {here}/localhost.key, client_ca_file: {here}/ca.pem}}}}"
        ),
    );
    let mut exporter = wire.start(&[]);

    // rsyslogd passes on what it gets: four times, each time in another way.
    let input = free_port();
    let config = at.join("rsyslog.conf");
    let text = format!(
        "global(workDirectory=\"{here}\" defaultNetstreamDriverCAFile=\"{here}/ca.pem\" \
         defaultNetstreamDriverCertFile=\"{here}/hsm-7.pem\" defaultNetstreamDriverKeyFile=\"{here}/hsm-7.key\")\n\
         module(load=\"imtcp\")\ninput(type=\"imtcp\" port=\"{input}\" address=\"127.0.0.1\")\n\
         action(type=\"omfwd\" target=\"127.0.0.1\" port=\"{udp}\" protocol=\"udp\")\n\
         action(type=\"omfwd\" target=\"127.0.0.1\" port=\"{tcp}\" protocol=\"tcp\" tcp_framing=\"traditional\")\n\
         action(type=\"omfwd\" target=\"127.0.0.1\" port=\"{tcp}\" protocol=\"tcp\" tcp_framing=\"octet-counted\")\n\
         action(type=\"omfwd\" target=\"127.0.0.1\" port=\"{tls}\" protocol=\"tcp\" tcp_framing=\"octet-counted\" \
         streamDriver=\"gtls\" streamDriverMode=\"1\" streamDriverAuthMode=\"x509/name\" \
         streamDriverPermittedPeers=\"localhost\" template=\"RSYSLOG_SyslogProtocol23Format\")\n",
        udp = wire.ports["udp"],
        tcp = wire.ports["tcp"],
        tls = wire.ports["tls"],
    );
    std::fs::write(&config, text).expect("a file");
    let mut rsyslogd = Child::start(
        Command::new(program("rsyslogd"))
            .args(["-n", "-f"])
            .arg(&config)
            .arg("-i")
            .arg(at.join("rsyslogd.pid")),
    );
    let mut sender = rsyslogd.wait_for("open port", LONG, || {
        TcpStream::connect((Ipv4Addr::LOCALHOST, input)).ok()
    });
    const SENT: usize = 500;
    for number in 0..SENT {
        writeln!(sender, "<13>Feb 29 12:05:01 anybody sited: door d{number}").expect("sent");
    }
    let total = SENT as f64;
    let samples = wait_for_lines(&mut exporter, 4.0 * total);
    for (framing, count) in [
        ("datagram", total),
        ("newline", total),
        ("octets", 2.0 * total),
    ] {
        let label = format!("framing=\"{framing}\"");
        assert_eq!(own(&samples, "frames_total", &[&label]), count, "{framing}");
    }
    // By address, or by certificate where there is one, whatever the header says.
    for (appliance, count) in [("box-1", 3.0 * total), ("hsm-7", total)] {
        let label = format!("appliance=\"{appliance}\"");
        assert_eq!(
            samples.sum("log_messages_total", &[&label]),
            count,
            "{samples:?}"
        );
        assert_eq!(samples.sum("site_doors_total", &[&label]), count);
    }
    assert_eq!(samples.sum("log_messages_total", &["anybody"]), 0.0);
    assert_eq!(own(&samples, "lines_dropped_total", &[]), 0.0);

    // logger, in its four ways.
    let port = |transport| wire.ports[transport].to_string();
    for (flags, transport) in [
        (&["--udp"][..], "udp"),
        (&["--udp", "--rfc3164"], "udp"),
        (&["--tcp"], "tcp"),
        (&["--tcp", "--octet-count"], "tcp"),
    ] {
        let mut logger = Command::new(program("logger"));
        logger.args([
            "--server",
            "127.0.0.1",
            "--port",
            &port(transport),
            "--tag",
            "sited",
        ]);
        succeeds(logger.args(flags).arg("door a"));
    }
    let samples = wait_for_lines(&mut exporter, 4.0 * total + 4.0);
    let doors = samples.value("site_doors_total{appliance=\"box-1\",door=\"a\"}");
    assert_eq!(doors, Some(4.0));

    // openssl as a sender without a certificate: refused, and counted.
    let mut client = Command::new(program("openssl"))
        .args([
            "s_client",
            "-quiet",
            "-connect",
            &wire.address("tls").to_string(),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl");
    drop(client.stdin.take());
    wait_for(
        &mut exporter,
        "connections_total",
        &["result=\"tls_failed\""],
        1.0,
    );
    let _ = client.kill();
    client.wait().expect("its end");
}

#[test]
fn nothing_that_is_written_ends_a_connection() {
    let wire = Wire::new(&["tcp", "udp"], "syslog: {LISTEN}\n    appliance: header");
    let mut exporter = wire.start(&[]);
    let mut stream = wire.connect("tcp", 1);
    let long = "x".repeat(100_000);
    for bytes in [
        b"<13>Feb 29 12:05:01 h1 sited: door a\n".as_slice(),
        b"\0\0\xff\xfe\n",
        format!("<13>Feb 29 12:05:01 h1 sited: {long}\n").as_bytes(),
        b"99999 nonsense\n0 <13>x\n",
        b"38 <13>Feb 29 12:05:01 h1 sited: door\na\0b",
        b"<13>Feb 29 12:05:01 h1 sited: door b",
    ] {
        stream.write_all(bytes).expect("the connection is open");
    }
    // An unfinished line is a line if its sender ends in order.
    stream.shutdown(Shutdown::Write).expect("still open");
    let samples = wait_for_lines(&mut exporter, 7.0);
    assert_eq!(own(&samples, "lines_dropped_total", &["too_long"]), 1.0);
    assert_eq!(samples.sum("site_doors_total", &["h1"]), 2.0, "{samples:?}");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("closed in order");

    // One that stops in the middle, and one that is reset.
    let mut torn = wire.connect("tcp", 1);
    torn.write_all(b"100 <13>Feb 29 12:05:01 h1 si")
        .expect("sent");
    drop(torn);
    wait_for(&mut exporter, "lines_dropped_total", &["torn"], 1.0);
    let mut reset = wire.connect("tcp", 1);
    reset.write_all(b"<13>Feb 29 12:05:01 h1 si").expect("sent");
    wait_for(&mut exporter, "open_connections", &["tcp"], 1.0);
    let port = exporter.port;
    // It must have been read before, or the reset would destroy it.
    exporter.wait_for("the first bytes", || {
        let queue = std::fs::read_to_string("/proc/self/net/tcp").ok()?;
        let local = format!(":{:04X} ", wire.ports["tcp"]);
        let unread = queue
            .lines()
            .any(|line| line.contains(&local) && !line.contains(":00000000 "));
        (!unread).then_some(crate::exporter::scrape(port)?)
    });
    socket2::SockRef::from(&reset)
        .set_linger(Some(Duration::ZERO))
        .expect("a reset");
    drop(reset);
    let samples = wait_for(&mut exporter, "lines_dropped_total", &["torn"], 2.0);
    assert_eq!(lines(&samples), 7.0);

    // A datagram is a message; its lines are several.
    wire.send_datagram(1, b"<13>Feb 29 12:05:01 h2 sited: door a\n\0");
    wire.send_datagram(
        1,
        b"<13>Feb 29 12:05:01 h2 sited: door a\n<13>Feb 29 12:05:01 h2 sited: door b",
    );
    wire.send_datagram(1, b"");
    let samples = wait_for_lines(&mut exporter, 10.0);
    assert_eq!(samples.sum("site_doors_total", &["h2"]), 3.0);
}

#[test]
fn a_sender_cannot_speak_for_another() {
    let wire = Wire::new(
        &["udp", "tcp"],
        "syslog: {LISTEN, addresses: {127.0.0.2: hsm-a, 127.0.0.3: hsm-b, 127.1.0.0/16: }}",
    );
    let mut exporter = wire.start(&[]);
    wire.send_datagram(2, b"<13>Feb 29 12:05:01 hsm-a sited: door a");
    wait_for_lines(&mut exporter, 1.0);
    let mut sender = wire.connect("tcp", 3);
    sender
        .write_all(b"<13>Feb 29 12:05:01 hsm-a sited: door x\n")
        .expect("sent");
    sender
        .write_all(b"<13>Feb 29 12:05:01 nobody sited: door y\n")
        .expect("sent");
    let samples = wait_for_lines(&mut exporter, 3.0);
    let forged = samples.value(
        "appliance_log_exporter_syslog_forged_lines_total{source=\"wire\",appliance=\"hsm-b\"}",
    );
    assert_eq!(
        (forged, own(&samples, "forged_lines_total", &[])),
        (Some(1.0), 1.0)
    );
    assert_eq!(samples.sum("site_doors_total", &["hsm-a"]), 1.0);
    assert_eq!(samples.sum("site_doors_total", &["hsm-b"]), 2.0);
    // The table says who may send.
    wire.send_datagram(4, b"<13>Feb 29 12:05:01 hsm-a sited: door z");
    let stranger = wire.connect("tcp", 4);
    let samples = wait_for(&mut exporter, "lines_dropped_total", &["refused"], 1.0);
    assert_eq!(lines(&samples), 3.0);
    wait_for(&mut exporter, "connections_total", &["refused"], 1.0);
    let mut rest = Vec::new();
    assert!(
        (&stranger)
            .read_to_end(&mut rest)
            .is_ok_and(|count| count == 0)
    );

    // A reload changes the table and the limits, and not what is listened on.
    wire.configure("syslog: {LISTEN, addresses: {127.0.0.4: hsm-c}}");
    assert_eq!(exporter.reload().0, 200);
    wire.send_datagram(4, b"<13>Feb 29 12:05:01 hsm-a sited: door z");
    let samples = wait_for_lines(&mut exporter, 4.0);
    assert_eq!(samples.sum("site_doors_total", &["hsm-c"]), 1.0);
    let long = [&[b'x'; 2_000][..], b"\n"].concat();
    wire.connect("tcp", 4).write_all(&long).expect("sent");
    wait_for_lines(&mut exporter, 5.0);
    let config = std::fs::read_to_string(wire.path("config.yaml")).expect("the file");
    let config = format!("{config}limits: {{line_bytes: 1024}}\n");
    std::fs::write(wire.path("config.yaml"), config).expect("a file");
    assert_eq!(exporter.reload().0, 200);
    let too_long = |samples: &Samples| own(samples, "lines_dropped_total", &["too_long"]);
    for count in [1.0, 2.0] {
        match count {
            1.0 => wire.connect("tcp", 4).write_all(&long).expect("sent"),
            _ => wire.send_datagram(4, &long),
        }
        let samples = wait_for_lines(&mut exporter, 5.0 + count);
        assert_eq!(too_long(&samples), count);
    }
    wire.configure("syslog: {listen: ['udp://127.0.0.1:1']}");
    let (status, text) = exporter.reload();
    assert!(
        status == 500 && text.contains("restart it"),
        "{status} {text}"
    );
}

#[test]
fn a_revoked_certificate_and_a_balancer() {
    let certificates = tempfile::tempdir().expect("a directory");
    let at = certificates.path();
    for (name, issuer) in [
        ("ca", None),
        ("localhost", Some("ca")),
        ("hsm-7", Some("ca")),
        ("hsm-8", Some("ca")),
    ] {
        make_certificate(at, name, issuer);
    }
    let revoke = |names: &[&str]| {
        std::fs::write(at.join("index.txt"), "").expect("a file");
        // With a number it is a list of version 2.
        std::fs::write(at.join("crlnumber"), "01\n").expect("a file");
        std::fs::write(at.join("ca.conf"), "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ndefault_md=sha256\ndefault_crl_days=2\ncrlnumber=crlnumber\n").expect("a file");
        let ca = |arguments: &[&str]| {
            let mut command = Command::new(program("openssl"));
            command.current_dir(at).args([
                "ca", "-config", "ca.conf", "-cert", "ca.pem", "-keyfile", "ca.key",
            ]);
            succeeds(command.args(arguments));
        };
        for name in names {
            ca(&["-revoke", &format!("{name}.pem")]);
        }
        ca(&["-gencrl", "-out", "crl.pem"]);
    };
    revoke(&["hsm-8"]);
    let here = at.display();
    let settings = format!(
        "syslog: {{LISTEN, proxy_protocol_from: [127.0.0.9], tls: {{cert_file: {here}/localhost.pem, key_file: \
         {here}/localhost.key, client_ca_file: {here}/ca.pem, client_crl_file: {here}/crl.pem}}}}"
    );
    let wire = Wire::new(&["tls", "tcp"], &settings);
    let mut exporter = wire.start(&[]);
    let address = wire.address("tls").to_string();
    let send = |name: &str| {
        let mut client = Command::new(program("openssl"))
            .current_dir(at)
            .args([
                "s_client",
                "-quiet",
                "-no_ign_eof",
                "-connect",
                &address,
                "-CAfile",
                "ca.pem",
            ])
            .args([
                "-cert",
                &format!("{name}.pem"),
                "-key",
                &format!("{name}.key"),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl");
        let mut input = client.stdin.take().expect("its input");
        // A client that is refused may be gone already.
        let _ = input.write_all(b"<13>Feb 29 12:05:01 h sited: door a\n");
        drop(input);
        client.wait().expect("its end");
    };
    send("hsm-7");
    let samples = wait_for_lines(&mut exporter, 1.0);
    let ends = Command::new(program("openssl"))
        .args(["x509", "-enddate", "-noout", "-dateopt", "iso_8601", "-in"])
        .arg(at.join("localhost.pem"))
        .output()
        .expect("openssl");
    let ends = String::from_utf8(ends.stdout).expect("text");
    let ends = ends
        .trim()
        .trim_start_matches("notAfter=")
        .replace(' ', "T");
    let ends: jiff::Timestamp = ends.parse().expect("a time");
    let expiry = own(&samples, "certificate_expiry_timestamp_seconds", &["wire"]);
    assert_eq!(expiry, ends.as_second() as f64);
    send("hsm-8");
    wait_for(&mut exporter, "connections_total", &["tls_failed"], 1.0);
    revoke(&["hsm-7"]);
    assert_eq!(exporter.reload().0, 200);
    send("hsm-8");
    let samples = wait_for_lines(&mut exporter, 2.0);
    assert_eq!(samples.sum("site_doors_total", &["hsm-7"]), 1.0);
    assert_eq!(samples.sum("site_doors_total", &["hsm-8"]), 1.0);
    send("hsm-7");
    wait_for(&mut exporter, "connections_total", &["tls_failed"], 2.0);

    // A balancer speaks for others, and nobody else does.
    let line = b"<13>Feb 29 12:05:01 h sited: door p\n";
    let mut balancer = wire.connect("tcp", 9);
    balancer
        .write_all(b"PROXY TCP4 192.0.2.77 192.0.2.1 5000 514\r\n")
        .expect("sent");
    balancer.write_all(line).expect("sent");
    let samples = wait_for_lines(&mut exporter, 3.0);
    assert_eq!(samples.sum("site_doors_total", &["192.0.2.77"]), 1.0);
    let mut silent = wire.connect("tcp", 9);
    silent.write_all(line).expect("sent");
    wait_for(&mut exporter, "connections_total", &["tcp", "refused"], 1.0);
    let mut other = wire.connect("tcp", 8);
    other
        .write_all(b"PROXY TCP4 192.0.2.78 192.0.2.1 5000 514\r\n")
        .expect("sent");
    other.write_all(line).expect("sent");
    let samples = wait_for_lines(&mut exporter, 5.0);
    assert_eq!(samples.sum("site_doors_total", &["192.0.2.78"]), 0.0);
}

/// As many descriptors as the system allows this process.
fn raise_descriptor_limit(wanted: u64) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).expect("the hard limit is allowed");
    let maximum = limit.maximum.unwrap_or(u64::MAX);
    assert!(
        maximum >= wanted,
        "raise the hard limit: ulimit -Hn {wanted}"
    );
}

#[test]
fn a_thousand_senders_and_ten_thousand_that_only_connect() {
    raise_descriptor_limit(13_000);
    let wire = Wire::new(
        &["tcp"],
        "syslog: {LISTEN, max_connections: 1100, addresses: {127.0.0.0/8: }}",
    );
    // Shells give programs 1024 descriptors, and allow them more.
    let mut limited = Command::new(program("prlimit"));
    limited
        .arg("--nofile=1024:4096")
        .arg(env!("CARGO_BIN_EXE_appliance_log_exporter"))
        .arg(format!(
            "--config.file={}",
            wire.path("config.yaml").display()
        ));
    let mut exporter = Exporter::start_command(&mut limited);
    let mut senders: Vec<TcpStream> = (0..1_000)
        .map(|number| wire.connect("tcp", 2 + (number / 32) as u8))
        .collect();
    for sender in &mut senders {
        sender
            .write_all(b"<13>Feb 29 12:05:01 h sited: door a\n")
            .expect("sent");
    }
    wait_for_lines(&mut exporter, 1_000.0);
    // The 33rd of an address is refused, as each of the others has sent something in the last minute.
    let refused: Vec<TcpStream> = (0..8).map(|_| wire.connect("tcp", 2)).collect();
    wait_for(&mut exporter, "connections_total", &["limit"], 8.0);
    drop(refused);
    // Meanwhile a scrape is answered as soon as Prometheus wants it, and whoever sends is counted.
    const SCRAPE_MAX: Duration = Duration::from_secs(10);
    let idle: Vec<TcpStream> = std::thread::scope(|threads| {
        let connecting = threads.spawn(|| {
            let connect = |number: usize| wire.connect("tcp", 40 + (number / 50) as u8);
            (0..10_000).map(connect).collect()
        });
        let mut sent = 0;
        while !connecting.is_finished() || sent == 0 {
            let line = b"<13>Feb 29 12:05:01 h sited: door a\n";
            senders[sent].write_all(line).expect("sent");
            sent += 1;
            wait_for_lines(&mut exporter, 1_000.0 + sent as f64);
            let begun = Instant::now();
            exporter.scrape();
            let took = begun.elapsed();
            assert!(took < SCRAPE_MAX, "{took:?}");
            if sent == senders.len() {
                break;
            }
        }
        let idle = connecting.join().expect("connections");
        for sender in &mut senders[sent..] {
            let line = b"<13>Feb 29 12:05:01 h sited: door a\n";
            sender.write_all(line).expect("sent");
        }
        idle
    });
    assert_eq!(idle.len(), 10_000);
    // Those that have sent something keep their connections, and a new one finds a place.
    let mut late = wire.connect("tcp", 255);
    late.write_all(b"<13>Feb 29 12:05:01 h sited: door a\n")
        .expect("sent");
    for sender in &mut senders {
        sender
            .write_all(b"<13>Feb 29 12:05:01 h sited: door b\n")
            .expect("sent");
    }
    let samples = wait_for_lines(&mut exporter, 3_001.0);
    assert_eq!(own(&samples, "lines_dropped_total", &[]), 0.0);
    // Those that gave way are over a moment later.
    wait_for(&mut exporter, "open_connections", &[], 1_100.0);
    drop(idle);
    let mut after = wire.connect("tcp", 250);
    after
        .write_all(b"<13>Feb 29 12:05:01 h sited: door c\n")
        .expect("sent");
    wait_for_lines(&mut exporter, 3_002.0);
}

/// However many sources there are: scrapes, files and checkpoints need descriptors, too.
#[test]
fn who_only_connects_to_several_sources_does_not_take_all_descriptors() {
    raise_descriptor_limit(5_000);
    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().join("config.yaml");
    let ports = [free_port(), free_port(), free_port()];
    let mut text = "sources:\n".to_owned();
    for port in ports {
        text += &format!(
            "  - {{name: s{port}, syslog: {{listen: ['tcp://127.0.0.1:{port}'], max_connections_per_address: 9999}}}}\n"
        );
    }
    std::fs::write(&config, text).expect("a file");
    let mut limited = Command::new(program("prlimit"));
    limited
        .arg("--nofile=1024:1024")
        .arg(env!("CARGO_BIN_EXE_appliance_log_exporter"))
        .arg(format!("--config.file={}", config.display()));
    let mut exporter = Exporter::start_command(&mut limited);
    let connect = |port: u16| {
        let streams = (0..1_000).map(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, port)));
        streams.collect::<Result<Vec<_>, _>>().expect("connections")
    };
    let idle: Vec<_> = std::thread::scope(|threads| {
        let connecting = ports.map(|port| threads.spawn(move || connect(port)));
        let connected = connecting.map(|thread| thread.join().expect("connections"));
        connected.into_iter().flatten().collect()
    });
    assert_eq!(idle.len(), 3_000);
    let web = exporter.port;
    exporter.wait_for("all connections", || {
        let samples = crate::exporter::scrape(web)?;
        let accepted = own(&samples, "connections_total", &["result=\"accepted\""]);
        (accepted == 3_000.0).then_some(())
    });
    let said = exporter.child.output();
    assert!(!said.contains("Too many open files"), "{said}");
}

#[test]
fn slow_connections_of_an_address_do_not_keep_another_sender_of_it_out() {
    let wire = Wire::new(&["tcp"], "syslog: {LISTEN}");
    let mut exporter = wire.start(&[]);
    let slow: Vec<TcpStream> = (0..32)
        .map(|_| {
            let mut stream = wire.connect("tcp", 2);
            stream.write_all(b"<13>Feb 29 12:").expect("sent");
            stream
        })
        .collect();
    wait_for(&mut exporter, "open_connections", &[], 32.0);
    // As often as there are slow ones: each new sender displaces the slow one that is oldest.
    let mut senders = Vec::new();
    for number in 1..=32 {
        let mut sender = wire.connect("tcp", 2);
        sender
            .write_all(b"<13>Feb 29 12:05:01 h sited: door a\n")
            .expect("sent");
        senders.push(sender);
        wait_for_lines(&mut exporter, f64::from(number));
    }
    let samples = wait_for(&mut exporter, "lines_dropped_total", &["torn"], 32.0);
    let evicted = own(&samples, "connections_total", &["result=\"limit\""]);
    assert_eq!(evicted, 32.0);
    for mut stream in slow {
        let mut answer = [0; 1];
        stream.set_read_timeout(Some(LONG)).expect("a limit");
        assert!(!matches!(stream.read(&mut answer), Ok(1..)));
    }
}

#[test]
fn datagrams_are_counted_or_dropped_and_counted() {
    let wire = Wire::new(&["udp"], "syslog: {LISTEN, receive_buffer: 64KiB}");
    let mut exporter = wire.start(&[]);
    let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).expect("a socket");
    socket.connect(wire.address("udp")).expect("connected");
    const SENT: usize = 100_000;
    for number in 0..SENT {
        let line = format!("<13>Feb 29 12:05:01 h sited: door d{}", number % 7);
        socket.send(line.as_bytes()).expect("sent");
    }
    let port = exporter.port;
    let samples = exporter.wait_for("all of them", || {
        let samples = crate::exporter::scrape(port)?;
        let dropped = own(&samples, "datagrams_dropped_total", &[]);
        (lines(&samples) + dropped == SENT as f64).then_some(samples)
    });
    let doors = samples.sum("site_doors_total", &[]);
    assert_eq!(doors, lines(&samples));
}

/// Smaller than `spool.bytes`, and than one segment: a sender waits, and all it sends is counted, since what is counted
/// makes way.
#[test]
fn a_disk_that_is_full_holds_up_senders_and_loses_nothing() {
    let wire = Wire::new(&["tcp"], "syslog: {LISTEN}");
    let config = wire.path("config.yaml");
    let text = std::fs::read_to_string(&config).expect("the file");
    let text = format!("{text}state: {{directory: state, interval: 20ms}}\n");
    std::fs::write(&config, text).expect("a file");
    let spool = wire.path("state/spool");
    std::fs::create_dir_all(&spool).expect("a directory");
    let inner = binary();
    let mut command = Command::new(program("unshare"));
    command
        .args(["--user", "--map-root-user", "--mount", "bash", "-c"])
        .arg("mount -t tmpfs -o size=1m tmpfs \"$1\" && exec \"${@:2}\"")
        .arg("bash")
        .arg(&spool)
        .arg(inner.get_program())
        .args(inner.get_args())
        .arg(format!("--config.file={}", config.display()));
    let mut exporter = Exporter::start_command(&mut command);
    let mut sender = wire.connect("tcp", 2);
    const SENT: usize = 200_000;
    let sending = std::thread::spawn(move || {
        let lines = b"<13>Feb 29 12:05:01 h sited: door a\n".repeat(1_000);
        for _ in 0..SENT / 1_000 {
            sender.write_all(&lines).expect("sent, some day");
        }
    });
    let samples = wait_for_lines(&mut exporter, SENT as f64);
    sending.join().expect("the sender");
    assert_eq!(samples.sum("site_doors_total", &[]), SENT as f64);
    assert_eq!(own(&samples, "lines_dropped_total", &[]), 0.0);
    assert!(own(&samples, "spool_full_seconds_total", &[]) > 0.0);
    // Again and again there is space for a moment, which is not worth a line each.
    let said = exporter
        .child
        .wait_for_output("the spool cannot be written");
    let count = |text: &str| said.matches(text).count();
    let warned = count("the spool cannot be written");
    assert!(warned == 1 && count("written again") <= 1, "{said}");
}

/// Lines that one spool directory has, over all segments that ever were.
fn spooled(links: &Path) -> f64 {
    let mut count = 0;
    for entry in std::fs::read_dir(links).expect("a directory") {
        let text = std::fs::read(entry.expect("an entry").path()).expect("a segment");
        count += text.iter().filter(|byte| **byte == b'\n').count();
    }
    count as f64
}

/// Kills of one run; `make kills` does it more often.
const KILLS: u32 = 12;

#[test]
fn what_is_in_the_spool_is_counted_once_whenever_the_process_is_killed() {
    let wire = Wire::new(&["tcp"], "syslog: {LISTEN}");
    let config = wire.path("config.yaml");
    let text = std::fs::read_to_string(&config).expect("the file");
    std::fs::write(
        &config,
        format!("{text}state: {{directory: state, interval: 20ms}}\n"),
    )
    .expect("a file");
    let (spool, links) = (wire.path("state/spool/wire"), wire.path("links"));
    std::fs::create_dir(&links).expect("a directory");
    // What a dead process wrote stays, though the next one removes what is counted.
    let keep = || {
        for entry in std::fs::read_dir(&spool).expect("the spool") {
            let entry = entry.expect("an entry");
            // It may be there from the time before.
            let _ = std::fs::hard_link(entry.path(), links.join(entry.file_name()));
        }
    };
    let address = wire.address("tcp");
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let sender = std::thread::spawn({
        let stop = stop.clone();
        move || {
            let mut number = 0;
            while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                let Ok(mut stream) = TcpStream::connect(address) else {
                    std::thread::sleep(Duration::from_millis(5));
                    continue;
                };
                loop {
                    let line = format!("<13>Feb 29 12:05:01 h sited: door d{}\n", number % 5);
                    number += 1;
                    if number % 20 == 0 {
                        // The disk shall not be full before the exporter has counted.
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    let is_over = stop.load(std::sync::atomic::Ordering::SeqCst);
                    if is_over || stream.write_all(line.as_bytes()).is_err() {
                        break;
                    }
                }
            }
        }
    });
    let kills = std::env::var("KILLS").ok();
    let kills = kills.and_then(|text| text.parse().ok()).unwrap_or(KILLS);
    for round in 0..kills {
        let mut exporter = wire.start(&[]);
        // A kill finds this one in the middle of a message.
        let mut torn = wire.connect("tcp", 2);
        torn.write_all(b"<13>Feb 29 12:05:01 h sited: door torn")
            .expect("sent");
        let before = lines(&exporter.scrape());
        let port = exporter.port;
        exporter.wait_for("more lines", || {
            let samples = crate::exporter::scrape(port)?;
            (lines(&samples) > before + 500.0 * f64::from(round)).then_some(())
        });
        exporter.child.signal("KILL");
        exporter.child.wait_for_end(LONG);
        keep();
    }
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    sender.join().expect("the sender");
    let mut exporter = wire.start(&[]);
    let expected = spooled(&links);
    println!("{kills} kills, {expected} messages in the spool");
    assert!(expected > 1_000.0);
    let port = exporter.port;
    let samples = exporter.wait_for("all lines", || {
        let samples = crate::exporter::scrape(port)?;
        (samples.sum("log_messages_total", &[]) >= expected).then_some(samples)
    });
    assert_eq!(samples.sum("log_messages_total", &[]), expected);
    assert_eq!(samples.sum("site_doors_total", &[]), expected);
    assert_eq!(samples.sum("site_doors_total", &["torn"]), 0.0);
    // What is counted and on disk as such is removed.
    exporter.wait_for("an empty spool", || {
        let files = std::fs::read_dir(&spool).ok()?.count();
        (files <= 1).then_some(())
    });
}

/// As docs/receiving.md has it for an exporter without a state directory.
#[test]
fn without_a_state_directory_a_kill_takes_the_counters_and_no_more() {
    let wire = Wire::new(&["tcp"], "syslog: {LISTEN}");
    let mut after = 0.0;
    for round in 1..=5 {
        let mut exporter = wire.start(&[]);
        let mut stream = wire.connect("tcp", 2);
        for _ in 0..round {
            stream
                .write_all(b"<13>Feb 29 12:05:01 h sited: door a\n")
                .expect("sent");
        }
        stream.write_all(b"<13>Feb 29 12:05:01 h").expect("sent");
        // What this process received, and nothing of the one before.
        after = f64::from(round);
        wait_for_lines(&mut exporter, after);
        exporter.child.signal("KILL");
        exporter.child.wait_for_end(LONG);
    }
    let exporter = wire.start(&[]);
    let samples = exporter.scrape();
    assert!(after > 0.0 && lines(&samples) == 0.0, "{samples:?}");
}

#[test]
fn flags_are_enough() {
    let port = free_port();
    let listen = format!("--syslog.listen=tcp://127.0.0.1:{port}");
    let mut exporter = Exporter::start(&[&listen]);
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a connection");
    writeln!(stream, "<13>Feb 29 12:05:01 anybody sshd[1]: hello").expect("sent");
    let series = "appliance_log_exporter_lines_read_total{source=\"syslog.listen\"}";
    let samples = exporter.wait_for_value(series, 1.0);
    assert_eq!(samples.sum("log_messages_total", &["127.0.0.1"]), 1.0);
    assert_eq!(
        samples.sum("appliance_log_exporter_followed_files", &[]),
        0.0
    );
    // It is told at once that somebody else has the port.
    let other = binary()
        .args([&listen, "--web.listen-address=127.0.0.1:0"])
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(
        !other.status.success() && text.contains("already in use"),
        "{text}"
    );
    // The page says where it listens.
    let page = |exporter: &Exporter| {
        let answer = crate::support::http_get(exporter.port, "/");
        answer.expect("a page").text()
    };
    let said = page(&exporter);
    let listeners = &said[said.find("<h2>Listeners").expect("a table")..];
    for part in [
        &format!("tcp://127.0.0.1:{port}"),
        "1 tcp",
        "<td>127.0.0.1</td>",
        "<td>none</td>",
    ] {
        assert!(listeners.contains(part), "{part}: {listeners}");
    }
    assert!(!said.contains("<h2>Files"), "no file is followed: {said}");
    let mut torn = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a connection");
    torn.write_all(b"100 <13>Feb 29").expect("sent");
    drop(torn);
    wait_for(&mut exporter, "lines_dropped_total", &["torn"], 1.0);
    let said = page(&exporter);
    assert!(said.contains(" ago: torn</td>"), "{said}");
    let started = Instant::now();
    exporter.child.signal("TERM");
    assert!(exporter.child.wait_for_end(LONG).success());
    assert!(started.elapsed() < Duration::from_secs(20));
    let mut rest = String::new();
    BufReader::new(stream).read_line(&mut rest).expect("closed");
    assert_eq!(rest, "");
}
