//! What tests with real programs share: find a program, start it on free loopback ports, wait for a condition with a
//! deadline, speak plain HTTP with it, and have it gone when the test ends, however it ends.
//!
//! ```ignore
//! let port = free_port();
//! let mut prometheus = Child::start(
//!     Command::new(program("prometheus")).arg(format!("--web.listen-address=127.0.0.1:{port}")),
//! );
//! prometheus.wait_for("readiness", Duration::from_secs(20), || {
//!     http_get(port, "/-/ready").filter(|answer| answer.status == 200)
//! });
//! ```

#![allow(dead_code, reason = "each test uses some of it")]

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How often [`wait_for`] looks again.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long one HTTP exchange may take.
const HTTP_TIMEOUT: Duration = Duration::from_secs(10);

/// The top directory of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The path of a program that the tests need.
///
/// # Panics
/// If it is not installed. A test that needs a program fails without it: skipping would hide that nothing was tested.
pub fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| panic!("`{name}` is not installed; tests/install-deps.sh installs it"))
}

/// Where something lies that tests/install-deps.sh unpacks or compiles beside the tests.
///
/// # Panics
/// If it is not there.
pub fn tool(name: &str) -> PathBuf {
    let path = root().join("tests/.tools").join(name);
    assert!(
        path.exists(),
        "there is no {path:?}; tests/install-deps.sh makes it"
    );
    path
}

/// What a program said until its end.
pub struct Said {
    /// On its standard output.
    pub out: String,
    /// On its standard error.
    pub err: String,
}

impl Said {
    /// Both, the output first.
    pub fn all(self) -> String {
        self.out + &self.err
    }
}

/// Runs a program to its end, without standard input.
///
/// # Panics
/// If it cannot be started or fails; the message shows what it said.
pub fn succeeds(command: &mut Command) -> Said {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let said = Said {
        out: text(output.stdout),
        err: text(output.stderr),
    };
    let status = output.status;
    assert!(status.success(), "{command:?}: {status}\n{}", said.all());
    said
}

/// A port on loopback that nobody listened on a moment ago. Another process can take it before it is used; then the
/// program that was to have it fails to start, which [`Child::wait_for`] reports.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
    listener.local_addr().expect("its address").port()
}

/// A certificate for localhost in `directory`, and its key; signed by itself, or by one that was made before.
pub fn make_certificate(directory: &Path, name: &str, issuer: Option<&str>) {
    let mut command = Command::new(program("openssl"));
    command
        .current_dir(directory)
        .args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"])
        .args(["-pkeyopt", "ec_paramgen_curve:P-256"])
        .args(["-subj", &format!("/CN={name}")]);
    let names = format!("subjectAltName=DNS:{name},DNS:localhost,IP:127.0.0.1");
    command.args(["-addext", &names]);
    if issuer.is_some() {
        command.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    }
    for (flag, file) in [
        ("-out", format!("{name}.pem")),
        ("-keyout", format!("{name}.key")),
    ] {
        command.args([flag, &file]);
    }
    if let Some(issuer) = issuer {
        command.args(["-CA", &format!("{issuer}.pem")]);
        command.args(["-CAkey", &format!("{issuer}.key")]);
    }
    succeeds(&mut command);
}

/// Polls until `condition` gives something.
///
/// # Panics
/// If it has not done so by the deadline; `what` is named in the message.
pub fn wait_for<T>(what: &str, limit: Duration, condition: impl FnMut() -> Option<T>) -> T {
    poll(limit, condition).unwrap_or_else(|| panic!("no {what} within {limit:?}"))
}

fn poll<T>(limit: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = condition() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// A program that runs beside the test. Dropping it kills the process by its pid and reaps it.
pub struct Child {
    name: String,
    process: std::process::Child,
    output: tempfile::NamedTempFile,
}

impl Child {
    /// Starts `command` without standard input; both its outputs go to a temporary file, see [`Child::output`].
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(command: &mut Command) -> Self {
        let name = Path::new(command.get_program())
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let output = tempfile::NamedTempFile::new().expect("a temporary file");
        let handle = |file: &File| Stdio::from(file.try_clone().expect("a second handle"));
        let process = command
            .stdin(Stdio::null())
            .stdout(handle(output.as_file()))
            .stderr(handle(output.as_file()))
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start `{name}`: {error}"));
        Child {
            name,
            process,
            output,
        }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// User and system time so far.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()));
        let stat = stat.expect("its state");
        let (_, fields) = stat.rsplit_once(')').expect("a name");
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks: u64 = ticks
            .map(|field| field.parse::<u64>().expect("ticks"))
            .sum();
        // USER_HZ is 100 wherever Linux runs.
        ticks as f64 / 100.0
    }

    /// What it has written so far, standard output and error together.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.output.path()).unwrap_or_default()).into_owned()
    }

    /// Where [`Child::output`] is, for a condition that looks at it.
    pub fn output_path(&self) -> PathBuf {
        self.output.path().to_owned()
    }

    /// Polls until `condition` gives something.
    ///
    /// # Panics
    /// If it has not done so by the deadline or if the program ends before; both show what the program said.
    pub fn wait_for<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut condition: impl FnMut() -> Option<T>,
    ) -> T {
        let mut ended = None;
        let found = poll(limit, || {
            let found = condition();
            if found.is_none() {
                ended = self.process.try_wait().expect("its state");
            }
            (found.is_some() || ended.is_some()).then_some(found)
        });
        match (found.flatten(), ended) {
            (Some(found), _) => found,
            (None, Some(status)) => panic!(
                "`{}` ended ({status}) before {what}:\n{}",
                self.name,
                self.output()
            ),
            (None, None) => panic!(
                "`{}`: no {what} within {limit:?}:\n{}",
                self.name,
                self.output()
            ),
        }
    }

    /// What it has written, once `text` is in it: a program's log may come later than what its metrics say.
    ///
    /// # Panics
    /// If it has not come by the deadline.
    pub fn wait_for_output(&mut self, text: &str) -> String {
        let path = self.output_path();
        let said =
            || String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_default()).into_owned();
        self.wait_for(text, Duration::from_secs(60), || {
            Some(said()).filter(|said| said.contains(text))
        })
    }

    /// Waits for the program to end by itself.
    ///
    /// # Panics
    /// If it still runs at the deadline.
    pub fn wait_for_end(&mut self, limit: Duration) -> std::process::ExitStatus {
        match poll(limit, || self.process.try_wait().expect("its state")) {
            Some(status) => status,
            None => panic!(
                "`{}` still runs after {limit:?}:\n{}",
                self.name,
                self.output()
            ),
        }
    }

    /// Sends a signal by name (`HUP`, `TERM`, `KILL`, …) to this process alone.
    pub fn signal(&self, name: &str) {
        let status = Command::new(program("kill"))
            .args(["-s", name, &self.pid().to_string()])
            .status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "cannot send {name} to `{}`",
            self.name
        );
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Both fail when it is gone already, which is what is wanted.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A web server on loopback that takes every POST, answers 200 and remembers path, JSON body and time.
pub struct Webhook {
    /// Where it listens.
    pub port: u16,
    received: Arc<Mutex<Vec<Post>>>,
}

/// A POST that a [`Webhook`] took.
#[derive(Debug, Clone)]
pub struct Post {
    /// The path that was posted to.
    pub path: String,
    /// The body; null when it was no JSON.
    pub body: serde_json::Value,
    /// When it had arrived whole.
    pub at: Instant,
}

impl Webhook {
    /// Starts one. It listens until the test binary ends; a connection that says nothing is dropped.
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
        let port = listener.local_addr().expect("its address").port();
        let received = Arc::new(Mutex::new(Vec::new()));
        let posts = Arc::clone(&received);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A connection that breaks is the sender's to repeat.
                if let Ok(post) = take_post(stream) {
                    posts.lock().expect("no one panicked").push(post);
                }
            }
        });
        Webhook { port, received }
    }

    /// What has arrived so far, in order.
    pub fn posts(&self) -> Vec<Post> {
        self.received.lock().expect("no one panicked").clone()
    }
}

fn take_post(stream: TcpStream) -> io::Result<Post> {
    stream.set_read_timeout(Some(HTTP_TIMEOUT))?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
    reader.get_mut().write_all(answer.as_bytes())?;
    Ok(Post {
        path,
        body: serde_json::from_slice(&body).unwrap_or_default(),
        at: Instant::now(),
    })
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The header lines, as sent.
    pub headers: String,
    /// The body. HTTP/1.0 is spoken, so it never comes in chunks.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; null when it is something else.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// `GET path` from a server on loopback; nothing when no whole answer came.
pub fn http_get(port: u16, path: &str) -> Option<Answer> {
    http(
        port,
        &format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n"),
        b"",
    )
}

/// `POST path` with a body.
pub fn http_post(port: u16, path: &str, content_type: &str, body: &[u8]) -> Option<Answer> {
    let length = body.len();
    http(
        port,
        &format!(
            "POST {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
        ),
        body,
    )
}

/// Starts rsyslogd with this configuration, and waits until it listens on the port, a minute at most.
pub fn start_rsyslogd(config: &Path, port: u16) -> Child {
    let mut rsyslogd = Child::start(
        Command::new(program("rsyslogd"))
            .args(["-n", "-iNONE", "-f"])
            .arg(config),
    );
    rsyslogd.wait_for("open port", Duration::from_secs(60), || {
        TcpStream::connect(("127.0.0.1", port)).ok()
    });
    rsyslogd
}

/// Debian's Prometheus on loopback, with this configuration and its data in this directory.
pub fn prometheus_command(config: &Path, data: &Path, port: u16) -> Command {
    let mut command = Command::new(program("prometheus"));
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", data.display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"));
    command
}

/// The answer of Prometheus' query API: its `data.result`.
pub fn prometheus_query(port: u16, expression: &str) -> Option<Vec<serde_json::Value>> {
    let answer = http_get(
        port,
        &format!("/api/v1/query?query={}", percent_encoded(expression)),
    )?;
    answer.json()["data"]["result"].as_array().cloned()
}

pub fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                (byte as char).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

fn http(port: u16, head: &str, body: &[u8]) -> Option<Answer> {
    let exchange = || -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(HTTP_TIMEOUT))?;
        stream.set_write_timeout(Some(HTTP_TIMEOUT))?;
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = exchange().ok()?;
    let split = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let headers = String::from_utf8_lossy(&bytes[..split]).into_owned();
    let status = headers.split(' ').nth(1)?.parse().ok()?;
    Some(Answer {
        status,
        headers,
        body: bytes[split + 4..].to_vec(),
    })
}
