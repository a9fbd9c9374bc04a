//! The server over real sockets: what it answers, and what clients cannot do to it.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use appliance_log_exporter::exposition::{Body, Format, encode};
use appliance_log_exporter::metric::{Family, Kind, Series, Snapshot};
use appliance_log_exporter::server::{
    App, Appliance, Options, Scope, Status, WebConfig, bind, serve,
};
use appliance_log_exporter::unrecognised::Folded;
use tokio::sync::oneshot;

use crate::exporter::binary;
use crate::support::{
    Child, free_port, http_get, http_post, make_certificate, program, prometheus_query, succeeds,
    wait_for,
};

/// Far more than anything here takes; only a failure waits so long.
const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(100);

/// An application whose answers the test sets.
struct TestApp {
    body: String,
    ready: AtomicBool,
    reload: Mutex<Result<(), String>>,
    appliances: Mutex<Vec<String>>,
    scraped: Mutex<Vec<u16>>,
    /// Up to which birth each scrape was to show values.
    shown: Mutex<Vec<u64>>,
    /// The last birth that a scrape shows.
    birth: AtomicU64,
    gate: Gate,
    in_flight: AtomicI64,
}

/// Holds up scrapes while it is shut.
#[derive(Default)]
struct Gate {
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |state| state.0).unwrap());
    }

    fn set_shut(&self, shut: bool) {
        self.state.lock().unwrap().0 = shut;
        self.changed.notify_all();
    }

    fn wait_until_someone_came(&self) {
        let state = self.state.lock().unwrap();
        let (_state, waited) = self
            .changed
            .wait_timeout_while(state, LONG, |state| state.1 == 0)
            .unwrap();
        assert!(!waited.timed_out());
    }
}

impl App for TestApp {
    fn exposition(&self, scope: &Scope, format: Format, shown: u64, body: &mut Body) -> u64 {
        self.gate.pass();
        self.shown.lock().unwrap().push(shown);
        match scope {
            Scope::All => body.push(self.body.as_bytes()),
            Scope::Rest => body.push(b"rest 1\n"),
            Scope::Shard(name) => body.push(format!("{} 1\n", name.replace('/', "_")).as_bytes()),
        }
        if format == Format::OpenMetrics {
            body.push(b"# EOF\n");
        }
        self.birth.load(Ordering::SeqCst)
    }

    fn shards(&self) -> Vec<String> {
        vec!["fleet/3".into(), "fleet/4".into()]
    }

    fn status(&self) -> Status {
        assert!(
            !self
                .appliances
                .lock()
                .unwrap()
                .contains(&"panic".to_owned()),
            "asked for"
        );
        Status {
            unrecognised: vec![Folded {
                message: "<b>new words</b>".into(),
                ..Folded::default()
            }],
            ..Status::default()
        }
    }

    fn ready(&self) -> bool {
        self.ready.load(Ordering::SeqCst)
    }

    fn reload(&self) -> Result<(), String> {
        self.reload.lock().unwrap().clone()
    }

    fn healthy(&self) -> bool {
        true
    }

    fn forget(&self, appliance: &str) -> Result<bool, String> {
        Ok(self
            .appliances()
            .iter()
            .any(|known| known.name == appliance))
    }

    fn appliances(&self) -> Vec<Appliance> {
        let names = self.appliances.lock().unwrap().clone();
        let of = |name: String| Appliance {
            profile: (name == "hsm1").then(|| "luna".to_owned()),
            last_message: (name == "hsm1").then_some(1_771_500_000.5),
            name,
        };
        names.into_iter().map(of).collect()
    }

    fn debug(&self) -> String {
        String::new()
    }

    fn configuration(&self) -> String {
        "sources: []\n".to_owned()
    }

    fn scrapes_in_flight(&self, change: i64) {
        self.in_flight.fetch_add(change, Ordering::SeqCst);
    }

    fn scraped(&self, code: u16, _: Duration) {
        self.scraped.lock().unwrap().push(code);
    }
}

/// A server in this process, until it is dropped.
struct TestServer {
    port: u16,
    app: Arc<TestApp>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl TestServer {
    fn start(options: Options) -> Self {
        Self::with_body(options, "up 1\n".into())
    }

    fn with_body(options: Options, body: String) -> Self {
        let app = Arc::new(TestApp {
            body,
            ready: AtomicBool::new(true),
            reload: Mutex::new(Ok(())),
            appliances: Mutex::default(),
            scraped: Mutex::default(),
            shown: Mutex::default(),
            birth: AtomicU64::new(0),
            gate: Gate::default(),
            in_flight: AtomicI64::new(0),
        });
        let listeners = bind(&["127.0.0.1:0"]).unwrap();
        let port = listeners[0].local_addr().unwrap().port();
        let (stop, stopped) = oneshot::channel();
        let served = app.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime
                .block_on(serve(listeners, served, options, async {
                    let _ = stopped.await;
                }))
                .unwrap();
            runtime.shutdown_background();
        });
        Self {
            port,
            app,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream
    }

    /// Sends `request` and reads until the server closes.
    fn exchange(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn begin_shutdown(&mut self) {
        drop(self.stop.take());
    }

    fn wait_for_end(&mut self) {
        let thread = self.thread.take().unwrap();
        wait_for("end of the server", LONG, || {
            thread.is_finished().then_some(())
        });
        thread.join().unwrap();
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.app.gate.set_shut(false);
        self.begin_shutdown();
        if self.thread.is_some() && !std::thread::panicking() {
            self.wait_for_end();
        }
    }
}

fn close(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
}

/// The server has closed, in order or not.
fn is_cut(read: std::io::Result<usize>) -> bool {
    match read {
        Ok(bytes) => bytes == 0,
        Err(error) => matches!(
            error.kind(),
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted
        ),
    }
}

#[test]
fn every_endpoint_and_method() {
    let server = TestServer::start(Options {
        enable_lifecycle: true,
        ..Options::default()
    });
    *server.app.appliances.lock().unwrap() = vec!["hsm1".into(), "hs\"m2".into()];
    for (method, path, status, part) in [
        ("GET", "/metrics", "200", "\r\n\r\nup 1\n"),
        ("HEAD", "/metrics", "200", "content-length: 5\r\n"),
        ("POST", "/metrics", "405", "allow: GET, HEAD\r\n"),
        ("GET", "/", "200", "&lt;b&gt;new words"),
        ("GET", "/?x=1", "200", "<title>"),
        ("DELETE", "/", "405", "allow: GET, HEAD\r\n"),
        ("GET", "/-/healthy", "200", "healthy\n"),
        ("GET", "/-/ready", "200", "ready\n"),
        ("GET", "/-/reload", "405", "allow: POST\r\n"),
        ("HEAD", "/-/reload", "405", "allow: POST\r\n"),
        ("POST", "/-/reload", "200", "reloaded\n"),
        ("GET", "/", "200", "frame-ancestors 'none'"),
        (
            "GET",
            "/sd",
            "200",
            r#"[{"labels":{"__meta_appliance_last_message_timestamp_seconds":"1771500000","__meta_appliance_profile":"luna"},"targets":["hsm1"]},{"labels":{},"targets":["hs\"m2"]}]"#,
        ),
        (
            "GET",
            "/sd/shards",
            "200",
            r#"[{"labels":{"__param_shard":"rest"},"targets":["x"]},{"labels":{"__param_shard":"fleet/3","shard":"fleet/3"},"targets":["x"]},{"labels":{"__param_shard":"fleet/4","shard":"fleet/4"},"targets":["x"]}]"#,
        ),
        ("GET", "/metrics?shard=rest", "200", "\r\n\r\nrest 1\n"),
        (
            "GET",
            "/metrics?shard=fleet%2F3",
            "200",
            "\r\n\r\nfleet_3 1\n",
        ),
        ("GET", "/metrics?shard=fleet/5", "404", "no such shard"),
        ("GET", "/metrics?shard=", "404", "no such shard"),
        ("GET", "/runbooks/", "200", "href=\"ApplianceHsmZeroized\""),
        (
            "GET",
            "/runbooks/ApplianceHsmZeroized.md",
            "200",
            "amtool silence add",
        ),
        ("POST", "/runbooks/", "405", "allow: GET, HEAD\r\n"),
        ("GET", "/runbooks/ApplianceNone", "404", "Not found"),
        ("GET", "/metrics/", "404", "Not found"),
        ("GET", "/<script>", "400", ""),
        ("GET", "/../etc/passwd", "404", "Not found"),
    ] {
        let answer = server.exchange(&close(method, path));
        let head = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&head), "{method} {path}: {answer}");
        assert!(answer.contains(part), "{method} {path}: {answer}");
        if method == "HEAD" {
            assert!(answer.ends_with("\r\n\r\n"), "{answer}");
        }
    }
    assert_eq!(*server.app.scraped.lock().unwrap(), [200; 4]);
}

#[test]
fn the_format_and_the_coding_are_negotiated() {
    let server = TestServer::start(Options::default());
    let get = |headers: &str| {
        server.exchange(&format!(
            "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n"
        ))
    };
    let plain = get("");
    assert!(plain.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    // Two lines of one header are one list.
    let open =
        get("Accept: text/plain;q=0.5\r\nAccept: application/openmetrics-text;version=1.0.0\r\n");
    assert!(
        open.contains(
            "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"
        )
    );
    assert!(open.ends_with("# EOF\n"));

    for (wanted, coding) in [("gzip", "gzip"), ("zstd,gzip", "zstd")] {
        let mut stream = server.connect();
        let request = format!(
            "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccept-Encoding: {wanted}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let split = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        let (head, compressed) = bytes.split_at(split);
        let header = format!("content-encoding: {coding}\r\n");
        assert!(String::from_utf8_lossy(head).contains(&header), "{wanted}");
        let mut body = Vec::new();
        match coding {
            "gzip" => flate2::read::GzDecoder::new(compressed).read_to_end(&mut body),
            _ => zstd::stream::read::Decoder::new(compressed)
                .unwrap()
                .read_to_end(&mut body),
        }
        .unwrap();
        assert_eq!(body, b"up 1\n");
    }
}

#[test]
fn the_metrics_can_live_elsewhere() {
    let server = TestServer::start(Options {
        telemetry_path: "/luna/metrics".into(),
        ..Options::default()
    });
    assert_eq!(http_get(server.port, "/metrics").unwrap().status, 404);
    assert_eq!(
        http_get(server.port, "/luna/metrics").unwrap().text(),
        "up 1\n"
    );
    assert!(
        http_get(server.port, "/")
            .unwrap()
            .text()
            .contains("href=\"luna/metrics\"")
    );
}

#[test]
fn a_proxy_can_serve_it_below_a_path() {
    let server = TestServer::start(Options {
        route_prefix: "/luna".into(),
        external_path: "/of/site1".into(),
        ..Options::default()
    });
    for (path, status) in [
        ("/luna/", 200),
        ("/luna/metrics", 200),
        ("/luna/-/healthy", 200),
        ("/luna/-/config", 200),
        ("/luna/debug", 200),
        ("/luna/runbooks/", 200),
        ("/metrics", 404),
        ("/lunametrics", 404),
        ("/luna/nothing", 404),
    ] {
        assert_eq!(
            http_get(server.port, path).unwrap().status,
            status,
            "{path}"
        );
    }
    for path in ["/", "/luna"] {
        let answer = http_get(server.port, path).unwrap();
        assert_eq!(answer.status, 302, "{path}");
        assert!(
            answer
                .headers
                .to_lowercase()
                .contains("location: /of/site1/")
        );
    }
    // No link begins with a slash: the proxy's path is not the exporter's.
    let page = http_get(server.port, "/luna/").unwrap().text();
    assert!(page.contains("href=\"metrics\"") && !page.contains("href=\"/"));
    let lost = http_get(server.port, "/luna/nothing").unwrap().text();
    assert!(lost.contains("href=\"/of/site1/\""));
}

#[test]
fn a_scrape_is_in_flight_until_it_is_answered_or_given_up() {
    let server = TestServer::start(Options::default());
    let in_flight = || server.app.in_flight.load(Ordering::SeqCst);
    server.app.gate.set_shut(true);
    let client = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port)).unwrap();
    (&client)
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    server.app.gate.wait_until_someone_came();
    assert_eq!(in_flight(), 1);
    drop(client);
    server.app.gate.set_shut(false);
    wait_for("the scrape to be over", LONG, || {
        (in_flight() == 0).then_some(())
    });
}

#[test]
fn it_is_ready_once_the_backlog_is_applied() {
    let server = TestServer::start(Options::default());
    server.app.ready.store(false, Ordering::SeqCst);
    for (path, status) in [("/-/ready", 503), ("/-/healthy", 200), ("/metrics", 200)] {
        assert_eq!(
            http_get(server.port, path).unwrap().status,
            status,
            "{path}"
        );
    }
    server.app.ready.store(true, Ordering::SeqCst);
    assert_eq!(http_get(server.port, "/-/ready").unwrap().status, 200);
}

#[test]
fn a_failed_reload_says_why() {
    let server = TestServer::start(Options {
        enable_lifecycle: true,
        ..Options::default()
    });
    *server.app.reload.lock().unwrap() = Err("rules.yaml:3:5: unknown key: `mtach`".into());
    let answer = http_post(server.port, "/-/reload", "text/plain", b"").unwrap();
    assert_eq!(answer.status, 500);
    assert_eq!(answer.text(), "rules.yaml:3:5: unknown key: `mtach`\n");
}

#[test]
fn no_appliance_is_an_empty_list() {
    let server = TestServer::start(Options::default());
    assert_eq!(http_get(server.port, "/sd").unwrap().text(), "[]");
}

#[test]
fn a_panic_costs_one_answer() {
    let server = TestServer::start(Options::default());
    server.app.appliances.lock().unwrap().push("panic".into());
    assert_eq!(http_get(server.port, "/").unwrap().status, 500);
    assert_eq!(http_get(server.port, "/-/healthy").unwrap().status, 200);
}

#[test]
fn a_silent_client_is_cut() {
    let server = TestServer::start(Options {
        header_timeout: SHORT,
        ..Options::default()
    });
    let mut stream = server.connect();
    assert!(is_cut(stream.read(&mut [0; 64])));
}

#[test]
fn a_kept_connection_is_used_again_and_cut_when_it_rests() {
    let server = TestServer::start(Options {
        idle_timeout: Duration::from_secs(1),
        ..Options::default()
    });
    let mut stream = server.connect();
    let mut all = Vec::new();
    for answers in 1..=2 {
        stream
            .write_all(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        while String::from_utf8_lossy(&all).matches("healthy\n").count() < answers {
            let mut some = [0; 1024];
            let bytes = stream.read(&mut some).unwrap();
            assert_ne!(bytes, 0, "closed too early");
            all.extend_from_slice(&some[..bytes]);
        }
    }
    assert!(is_cut(stream.read(&mut [0; 64])));
}

#[test]
fn a_scraper_may_rest_longer_than_others() {
    let server = TestServer::start(Options {
        idle_timeout: SHORT,
        ..Options::default()
    });
    let ask = |stream: &mut TcpStream, headers: &str| {
        let request = format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        while !answer.ends_with("up 1\n") {
            let mut some = [0; 1024];
            let bytes = stream.read(&mut some).unwrap();
            assert_ne!(bytes, 0, "closed: {answer}");
            answer += std::str::from_utf8(&some[..bytes]).unwrap();
        }
    };
    const SCRAPER: &str = "X-Prometheus-Scrape-Timeout-Seconds: 10\r\n";
    let (mut scraper, mut other) = (server.connect(), server.connect());
    ask(&mut scraper, SCRAPER);
    ask(&mut other, "");
    // The other one came later, and has rested too long.
    assert!(is_cut(other.read(&mut [0; 64])));
    ask(&mut scraper, SCRAPER);
}

#[test]
fn a_client_that_dribbles_its_header_is_cut() {
    let server = TestServer::start(Options {
        header_timeout: SHORT,
        ..Options::default()
    });
    let mut stream = server.connect();
    stream.write_all(b"GET / HTTP/1.1\r\nX-Long: ").unwrap();
    // The read's time limit is the pace of the dribble.
    stream
        .set_read_timeout(Some(Duration::from_millis(10)))
        .unwrap();
    let deadline = Instant::now() + LONG;
    loop {
        assert!(Instant::now() < deadline, "not cut");
        match stream.read(&mut [0; 64]) {
            // Some servers say 408 before they close.
            Ok(bytes) if bytes > 0 => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            read => {
                assert!(is_cut(read));
                break;
            }
        }
        if stream.write_all(b"a").is_err() {
            break;
        }
    }
}

#[test]
fn a_header_without_end_is_refused() {
    let server = TestServer::start(Options::default());
    let mut stream = server.connect();
    let head = format!("GET / HTTP/1.1\r\nX-Long: {}", "a".repeat(64 * 1024));
    // The server may close while it is still being sent.
    let _ = stream.write_all(head.as_bytes());
    let mut answer = [0; 12];
    match stream.read_exact(&mut answer) {
        Ok(()) => assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 431"),
        Err(error) => assert!(is_cut(Err(error))),
    }
}

#[test]
fn a_slow_reader_is_cut_and_its_place_is_free() {
    // More than the kernel's buffers take.
    let server = TestServer::with_body(
        Options {
            write_timeout: SHORT,
            connections_max: 1,
            ..Options::default()
        },
        "x".repeat(64 << 20),
    );
    let mut stream = server.connect();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    server.app.gate.wait_until_someone_came();
    // It does not read. Its place is taken, until the server has had enough.
    wait_for("a free place", LONG, || {
        http_get(server.port, "/-/healthy").filter(|answer| answer.status == 200)
    });
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    assert!(bytes.len() < 64 << 20, "all was sent");
}

#[test]
fn who_comes_on_top_is_told() {
    let server = TestServer::start(Options {
        connections_max: 2,
        ..Options::default()
    });
    // Half of the places is the share of one address.
    server.app.gate.set_shut(true);
    let mut waiting = server.connect();
    waiting
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    server.app.gate.wait_until_someone_came();
    let refused = server.exchange(&close("GET", "/-/healthy"));
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(
        refused.ends_with("\r\n\r\ntoo many connections\n"),
        "{refused}"
    );
    server.app.gate.set_shut(false);
    drop(waiting);
    wait_for("a free place", LONG, || {
        http_get(server.port, "/metrics").filter(|answer| answer.status == 200)
    });
}

#[test]
fn the_place_of_who_asks_nothing_is_given_away() {
    let directory = tempfile::tempdir().unwrap();
    make_certificate(directory.path(), "server", None);
    let servers = [
        TestServer::start(Options::default()),
        with_web_config(
            directory.path(),
            "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n",
        ),
    ];
    for (server, is_tls) in servers.iter().zip([false, true]) {
        let _silent: Vec<_> = (0..500).map(|_| server.connect()).collect();
        let begun = Instant::now();
        match is_tls {
            false => assert_eq!(http_get(server.port, "/metrics").unwrap().status, 200),
            true => {
                let answer = curl(directory.path(), server.port, &["--cacert", "server.pem"]);
                assert_eq!(answer, Ok((200, "up 1\n".into())));
            }
        }
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "{:?}",
            begun.elapsed()
        );
    }
}

#[test]
fn who_asks_at_the_same_time_shares_one_answer() {
    let server = TestServer::start(Options::default());
    server.app.gate.set_shut(true);
    let ask = |headers: &str| {
        let mut stream = server.connect();
        let request =
            format!("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        stream
    };
    let first = ask("");
    server.app.gate.wait_until_someone_came();
    let others: Vec<_> = (0..20).map(|_| ask("")).collect();
    let other = ask("Accept: application/openmetrics-text\r\n");
    server.app.gate.set_shut(false);
    for mut stream in others.into_iter().chain([first, other]) {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    // The first began before the others asked; of these, as many as come to read the next one while it is read share it.
    assert!(server.app.shown.lock().unwrap().len() <= 22);
}

#[test]
fn a_scraper_is_a_connection_that_says_so() {
    let server = TestServer::start(Options::default());
    server.app.birth.store(5, Ordering::SeqCst);
    let exchange = |stream: &mut TcpStream, method: &str, headers: &str| {
        let request = format!("{method} /metrics HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let end = if method == "GET" {
            "up 1\n"
        } else {
            "\r\n\r\n"
        };
        while !answer.ends_with(end.as_bytes()) {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
    };
    const SCRAPER: &str = "User-Agent: Prometheus\r\nX-Prometheus-Scrape-Timeout-Seconds: 10\r\n";
    let (mut a, mut curl) = (server.connect(), server.connect());
    exchange(&mut a, "HEAD", SCRAPER);
    exchange(&mut curl, "GET", "");
    exchange(&mut a, "GET", SCRAPER);
    exchange(&mut a, "GET", SCRAPER);
    // Somebody asks for something else on its connection.
    exchange(&mut a, "GET", "");
    server.app.birth.store(7, Ordering::SeqCst);
    exchange(&mut a, "GET", SCRAPER);
    // The next answer is lost: the client is gone before it has read it. Reset: there is something that it has not read.
    let request = format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{SCRAPER}\r\n");
    server.app.birth.store(9, Ordering::SeqCst);
    a.write_all(request.as_bytes()).unwrap();
    a.peek(&mut [0]).unwrap();
    drop(a);
    let mut a = server.connect();
    exchange(&mut a, "GET", SCRAPER);
    let all = u64::MAX;
    assert_eq!(
        *server.app.shown.lock().unwrap(),
        [all, all, 0, 5, all, 5, 7, 7]
    );
}

/// Prometheus has one pool of connections for all targets of a host.
#[test]
fn who_scrapes_in_parts_is_a_scraper_of_each_on_any_connection() {
    let server = TestServer::start(Options::default());
    let mut connections = [server.connect(), server.connect()];
    for (birth, connection, shard, shown) in [
        (5, 0, 3, 0),
        (5, 1, 3, 5),
        // One that nobody has seen before begins where others are.
        (5, 0, 4, 5),
        (7, 0, 4, 5),
        (7, 1, 3, 5),
        (7, 0, 3, 7),
        (9, 1, 4, 7),
        (9, 1, 3, 7),
        (9, 0, 4, 9),
    ] {
        server.app.birth.store(birth, Ordering::SeqCst);
        let stream = &mut connections[connection];
        let request = format!(
            "GET /metrics?shard=fleet/{shard} HTTP/1.1\r\nHost: x\r\nUser-Agent: Prometheus\r\n\
             X-Prometheus-Scrape-Timeout-Seconds: 10\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let end = format!("fleet_{shard} 1\n");
        let mut answer = Vec::new();
        while !answer.ends_with(end.as_bytes()) {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
        let found = server.app.shown.lock().unwrap().last().copied();
        assert_eq!(found, Some(shown), "{birth} {connection} {shard}");
    }
}

#[test]
fn a_reload_is_for_those_who_may() {
    let post = |headers: &str| {
        format!("POST /-/reload HTTP/1.1\r\nHost: h:1\r\nConnection: close\r\n{headers}\r\n")
    };
    let server = TestServer::start(Options::default());
    assert!(server.exchange(&post("")).starts_with("HTTP/1.1 403 "));
    let server = TestServer::start(Options {
        enable_lifecycle: true,
        ..Options::default()
    });
    for (headers, status) in [
        ("Origin: http://evil.example\r\n", 403),
        ("Origin: null\r\n", 403),
        ("Sec-Fetch-Site: cross-site\r\n", 403),
        ("Sec-Fetch-Site: same-site\r\n", 403),
        ("Origin: http://h:1\r\nSec-Fetch-Site: same-origin\r\n", 200),
        ("", 429),
    ] {
        let answer = server.exchange(&post(headers));
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{headers}: {answer}"
        );
    }
}

#[test]
fn http_1_1_has_one_host() {
    let server = TestServer::start(Options::default());
    for hosts in ["", "Host: a\r\nHost: a\r\n"] {
        let answer = server.exchange(&format!(
            "GET /metrics HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n"
        ));
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    assert_eq!(http_get(server.port, "/metrics").unwrap().status, 200);
}

#[test]
fn shutdown_finishes_an_answer_that_has_begun() {
    let mut server = TestServer::start(Options::default());
    server.app.gate.set_shut(true);
    let mut stream = server.connect();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    server.app.gate.wait_until_someone_came();
    // One that never asked, and one whose answer is long out: they must not hold up the end.
    let _silent = server.connect();
    server.begin_shutdown();
    wait_for("a closed listener", LONG, || {
        TcpStream::connect((Ipv4Addr::LOCALHOST, server.port)).err()
    });
    server.app.gate.set_shut(false);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\nup 1\n"), "{answer}");
    server.wait_for_end();
}

#[test]
fn shutdown_has_a_deadline() {
    let mut server = TestServer::start(Options {
        shutdown_timeout: SHORT,
        ..Options::default()
    });
    server.app.gate.set_shut(true);
    let mut stream = server.connect();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    server.app.gate.wait_until_someone_came();
    server.begin_shutdown();
    server.wait_for_end();
    assert!(is_cut(stream.read(&mut [0; 64])));
}

#[test]
fn a_port_in_use_is_one_clear_error() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = bind(&["127.0.0.1:0", &address]).unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "cannot listen on `{address}`: the address is already in use\n  hint: end it, or choose another address \
             with --web.listen-address"
        )
    );
    for wrong in ["nonsense", "127.0.0.1", "127.0.0.1:99999", ":x", ""] {
        let error = bind(&[wrong]).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("cannot listen on `{wrong}`: ")),
            "{error}"
        );
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

/// What curl says: the status code and the body, or why there is none.
fn curl(directory: &Path, port: u16, arguments: &[&str]) -> Result<(u16, String), String> {
    let output = Command::new(program("curl"))
        .current_dir(directory)
        .args([
            "-sS",
            "--noproxy",
            "*",
            "--max-time",
            "10",
            "-w",
            "\n%{http_code}",
        ])
        .args(arguments)
        .arg(format!("https://localhost:{port}/metrics"))
        .output()
        .unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, code) = text.rsplit_once('\n').unwrap();
    Ok((code.parse().unwrap(), body.to_owned()))
}

fn with_web_config(directory: &Path, text: &str) -> TestServer {
    let path = directory.join("web.yml");
    std::fs::write(&path, text).unwrap();
    let web_config = WebConfig::load(path).unwrap_or_else(|faults| panic!("{faults:?}"));
    TestServer::start(Options {
        header_timeout: Duration::from_secs(1),
        web_config: Some(Arc::new(web_config)),
        ..Options::default()
    })
}

#[test]
fn tls_whose_certificate_is_exchanged_while_it_runs() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    make_certificate(directory, "first", None);
    make_certificate(directory, "second", None);
    let use_certificate = |name: &str| {
        for kind in ["pem", "key"] {
            std::fs::copy(
                directory.join(format!("{name}.{kind}")),
                directory.join(format!("server.{kind}")),
            )
            .unwrap();
        }
    };
    use_certificate("first");
    let server = with_web_config(
        directory,
        "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n",
    );
    let scrape = |name: &str| {
        curl(
            directory,
            server.port,
            &["--cacert", &format!("{name}.pem")],
        )
    };
    assert_eq!(scrape("first"), Ok((200, "up 1\n".into())));
    assert!(scrape("second").is_err());

    use_certificate("second");
    assert_eq!(scrape("second"), Ok((200, "up 1\n".into())));

    // Half of a change, or nonsense: what was good stays.
    std::fs::write(directory.join("server.pem"), "nonsense").unwrap();
    assert_eq!(scrape("second"), Ok((200, "up 1\n".into())));

    // Neither plain text nor silence gets through, or stays.
    assert_eq!(
        http_get(server.port, "/metrics").map(|answer| answer.status),
        None
    );
    assert!(is_cut(server.connect().read(&mut [0; 64])));
}

#[test]
fn what_is_wrong_with_a_certificate_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    make_certificate(directory, "server", None);
    let key = directory.join("server.key");
    std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let web = directory.join("web.yml");
    let settings = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n";
    std::fs::write(&web, settings).unwrap();
    let port = free_port();
    let mut exporter = Child::start(
        binary()
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg(format!("--web.config.file={}", web.display()))
            .arg(format!(
                "--log.file={}",
                directory.join("messages").display()
            )),
    );
    let metrics = exporter.wait_for("metrics", LONG, || {
        let (_, metrics) = curl(directory, port, &["--cacert", "server.pem"]).ok()?;
        metrics.contains("exporter_ready 1").then_some(metrics)
    });
    exporter.wait_for_output("every user can read the private key");
    let expiry = metrics
        .lines()
        .find_map(|line| {
            line.strip_prefix("appliance_log_exporter_certificate_expiry_timestamp_seconds ")
        })
        .expect("the metric");
    let text = succeeds(
        Command::new(program("openssl"))
            .args(["x509", "-noout", "-enddate", "-dateopt", "iso_8601", "-in"])
            .arg(directory.join("server.pem")),
    );
    let expected: jiff::Timestamp = text.out.trim()["notAfter=".len()..].parse().unwrap();
    assert_eq!(expiry, expected.as_second().to_string());
}

#[test]
fn tls_versions_are_as_the_file_says() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    make_certificate(directory, "server", None);
    let server = with_web_config(
        directory,
        "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n  max_version: TLS12\n  \
         cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]\n",
    );
    let scrape = |arguments: &[&str]| {
        let arguments = [&["--cacert", "server.pem"], arguments].concat();
        curl(directory, server.port, &arguments).is_ok()
    };
    assert!(scrape(&[]));
    assert!(!scrape(&["--tlsv1.3"]));
    assert!(scrape(&["--ciphers", "ECDHE-ECDSA-AES256-GCM-SHA384"]));
    assert!(!scrape(&["--ciphers", "ECDHE-ECDSA-AES128-GCM-SHA256"]));
}

#[test]
fn clients_show_a_certificate_of_the_right_authority() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    for (name, issuer) in [
        ("server", None),
        ("ca", None),
        ("friend", Some("ca")),
        ("stranger", None),
    ] {
        make_certificate(directory, name, issuer);
    }
    let server = with_web_config(
        directory,
        "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n  client_ca_file: ca.pem\n  \
         client_auth_type: RequireAndVerifyClientCert\n",
    );
    let scrape = |arguments: &[&str]| {
        let arguments = [&["--cacert", "server.pem"], arguments].concat();
        curl(directory, server.port, &arguments)
    };
    assert_eq!(
        scrape(&["--cert", "friend.pem", "--key", "friend.key"]),
        Ok((200, "up 1\n".into()))
    );
    assert!(scrape(&["--cert", "stranger.pem", "--key", "stranger.key"]).is_err());
    assert!(scrape(&[]).is_err());
}

#[test]
fn passwords_headers_and_their_change_while_it_runs() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let users = |password: &str| {
        format!(
            "basic_auth_users:\n  ann: {}\n",
            bcrypt::hash(password, 4).unwrap()
        )
    };
    let headers =
        "http_server_config:\n  headers:\n    Content-Security-Policy: default-src 'self'\n";
    let server = with_web_config(directory, &(users("old") + headers));
    let get = |authorization: &str| {
        server.exchange(&format!(
            "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{authorization}\r\n"
        ))
    };
    let anonymous = get("");
    assert!(anonymous.starts_with("HTTP/1.1 401 "), "{anonymous}");
    assert!(anonymous.contains("www-authenticate: Basic\r\n"));
    assert!(anonymous.contains("content-security-policy: default-src 'self'\r\n"));
    // ann:old and ann:new
    let (old, new) = (
        "Authorization: Basic YW5uOm9sZA==\r\n",
        "Authorization: Basic YW5uOm5ldw==\r\n",
    );
    assert!(get(old).starts_with("HTTP/1.1 200 "));
    assert!(get(new).starts_with("HTTP/1.1 401 "));
    std::fs::write(directory.join("web.yml"), users("new")).unwrap();
    assert!(get(old).starts_with("HTTP/1.1 401 "));
    assert!(get(new).starts_with("HTTP/1.1 200 "));
    assert!(!get(new).contains("default-src 'self'"));
}

/// Sixty guess from Prometheus' own address, as fast as they can, and Prometheus connects anew for each scrape.
#[test]
fn guessers_keep_nobody_out_whose_password_is_known() {
    let directory = tempfile::tempdir().unwrap();
    // An attempt takes a quarter of a second and more, without optimisation.
    let hash = bcrypt::hash("right", 8).unwrap();
    let server = with_web_config(
        directory.path(),
        &format!("basic_auth_users: {{ann: {hash}}}"),
    );
    let request = |authorization: &str| {
        format!(
            "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Basic {authorization}\r\n\r\n"
        )
    };
    // ann:right and ann:wrong
    let right = request("YW5uOnJpZ2h0");
    let wrong = request("YW5uOndyb25n");
    assert!(server.exchange(&right).starts_with("HTTP/1.1 200 "));
    let (guesses, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..60 {
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    let mut stream = server.connect();
                    let _ = stream.write_all(wrong.as_bytes());
                    guesses.fetch_add(1, Ordering::SeqCst);
                    let _ = stream.read_to_end(&mut Vec::new());
                }
            });
        }
        while guesses.load(Ordering::SeqCst) < 60 {
            std::thread::yield_now();
        }
        let scrape = || {
            let begun = Instant::now();
            let mut stream = server.connect();
            let mut answer = String::new();
            let read = stream
                .write_all(right.as_bytes())
                .and_then(|()| stream.read_to_string(&mut answer));
            (answer, read.err(), begun.elapsed())
        };
        let scrapes: Vec<_> = (0..50).map(|_| scrape()).collect();
        // The guessers end before anything is asserted.
        is_over.store(true, Ordering::SeqCst);
        for (answer, error, took) in scrapes {
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?} {error:?}");
            assert!(took < LONG / 2, "{took:?}");
        }
    });
}

#[test]
fn who_asks_too_often_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let server = with_web_config(directory.path(), "rate_limit: {interval: 1h, burst: 2}");
    let statuses = [(); 3].map(|()| http_get(server.port, "/-/healthy").unwrap().status);
    assert_eq!(statuses, [200, 200, 429]);
}

/// What a log can put into labels and what a pack can put into a help text arrives in Prometheus as it was.
#[test]
fn prometheus_reads_back_what_was_exposed() {
    const NASTY: [&str; 4] = [
        "quote\" backslash\\ \\n newline\n# EOF\n# TYPE x counter",
        "}, {,=\u{0}\r\t\u{7f}",
        "ø λ 💥 \u{2028}",
        "hsm1",
    ];
    const HELP: &str = "Says \"C:\\n\".\n# TYPE nasty gauge\nλ";
    let snapshot = Snapshot {
        families: vec![(
            Arc::new(Family {
                name: "nasty_total".into(),
                help: HELP.into(),
                kind: Kind::Counter,
                labels: Arc::from(["appliance".into()]),
            }),
            NASTY
                .iter()
                .zip(1..)
                .map(|(&value, number)| Series {
                    values: Arc::from([value.into()]),
                    test: false,
                    created: 0,
                    value: f64::from(number),
                })
                .collect(),
        )],
    };
    let body = String::from_utf8(encode(snapshot, Format::OpenMetrics)).unwrap();
    let body = body.strip_suffix("# EOF\n").unwrap().to_owned();
    let server = TestServer::with_body(Options::default(), body);
    *server.app.appliances.lock().unwrap() = vec!["hsm1".into(), "hsm2".into()];

    let directory = tempfile::tempdir().unwrap();
    let configuration = format!(
        "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\n\
         scrape_configs:\n\
         - job_name: exporter\n  static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n\
         - job_name: discovered\n  http_sd_configs: [{{url: 'http://127.0.0.1:{port}/sd'}}]\n  \
         relabel_configs:\n  - {{source_labels: [__address__], target_label: instance}}\n  \
         - {{target_label: __address__, replacement: '127.0.0.1:{port}'}}\n",
        port = server.port
    );
    let file = directory.path().join("prometheus.yml");
    std::fs::write(&file, configuration).unwrap();
    let port = free_port();
    let mut prometheus = Child::start(
        Command::new(program("prometheus"))
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                directory.path().join("data").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}")),
    );
    let limit = Duration::from_secs(30);
    let series = prometheus.wait_for("series", limit, || {
        prometheus_query(port, "sort(nasty_total{job=\"exporter\"})")
            .filter(|found| found.len() == NASTY.len())
    });
    for (number, (one, expected)) in series.iter().zip(NASTY).enumerate() {
        assert_eq!(one["metric"]["appliance"], expected);
        assert_eq!(one["value"][1], (number + 1).to_string());
    }
    let metadata = prometheus.wait_for("metadata", limit, || {
        let answer = http_get(port, "/api/v1/metadata")?.json();
        Some(answer["data"]["nasty"][0].clone()).filter(|found| !found.is_null())
    });
    assert_eq!(metadata["type"], "counter");
    assert_eq!(metadata["help"], HELP);
    prometheus.wait_for("discovered appliances", limit, || {
        prometheus_query(port, "up{job=\"discovered\", instance=~\"hsm[12]\"} == 1")
            .filter(|found| found.len() == 2)
    });
}

#[test]
fn an_appliance_is_forgotten_by_name() {
    let server = TestServer::start(Options {
        enable_lifecycle: true,
        ..Options::default()
    });
    *server.app.appliances.lock().unwrap() = vec!["hsm 1".into()];
    for (query, status) in [
        ("", 400),
        ("?appliance=", 400),
        ("?appliance=%68sm%201", 200),
        ("?appliance=hsm2", 404),
    ] {
        let answer = wait_for("an answer", LONG, || {
            http_post(server.port, &format!("/-/forget{query}"), "text/plain", b"")
                .filter(|answer| answer.status != 429)
        });
        assert_eq!(answer.status, status, "{query}");
    }
}
