//! The binary as a test runs it: started with flags on a free loopback port, scraped, stopped.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::{Child, free_port, http_get, http_post, program, succeeds};

/// A pack of one counter with a label that takes any value.
pub const DOORS: &str = "pack: site
programs: {sited: []}
metrics:
  site_doors_total: {type: counter, help: Doors., labels: {door: any}}
rules:
  - event: door
    match: 'door {door:word}'
    metrics:
      - {inc: site_doors_total, labels: [door]}
    help: A door.
    examples:
      - line: 'Feb 29 12:05:01 hsm1 sited: door a'
        samples: ['site_doors_total{appliance=\"hsm1\",door=\"a\"} 1']
";

/// Far more than a start takes, on a machine that builds something else meanwhile.
pub const LONG: Duration = Duration::from_secs(60);

/// The binary that this build made.
pub fn binary() -> Command {
    Command::new(env!("CARGO_BIN_EXE_appliance_log_exporter"))
}

/// A running exporter; dropping it kills it.
pub struct Exporter {
    /// The process.
    pub child: Child,
    /// Where it serves.
    pub port: u16,
}

impl Exporter {
    /// Starts the exporter with these flags, and waits until it has read what was there.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_command(binary().args(arguments))
    }

    /// The same with a command that the test has made.
    pub fn start_command(command: &mut Command) -> Self {
        Self::start_on(command, free_port())
    }

    /// The same on a port that others know.
    pub fn start_on(command: &mut Command, port: u16) -> Self {
        let child = Child::start(
            command
                .arg(format!("--web.listen-address=127.0.0.1:{port}"))
                .arg("--web.enable-lifecycle"),
        );
        let mut exporter = Self { child, port };
        exporter.wait_for("readiness", || {
            http_get(port, "/-/ready").filter(|answer| answer.status == 200)
        });
        exporter
    }

    /// Polls until `condition` gives something.
    pub fn wait_for<T>(&mut self, what: &str, condition: impl FnMut() -> Option<T>) -> T {
        self.child.wait_for(what, LONG, condition)
    }

    /// One scrape in the classic format.
    pub fn scrape(&self) -> Samples {
        Samples::parse(&self.exposition())
    }

    /// What a scrape gives, in the classic format.
    pub fn exposition(&self) -> String {
        let answer = http_get(self.port, "/metrics").filter(|answer| answer.status == 200);
        answer.map_or_else(
            || panic!("no answer:\n{}", self.child.output()),
            |answer| answer.text(),
        )
    }

    /// `POST /-/reload`, once one is possible again: status and text.
    pub fn reload(&mut self) -> (u16, String) {
        let port = self.port;
        let answer = self.wait_for("an answer", || {
            http_post(port, "/-/reload", "text/plain", b"").filter(|answer| answer.status != 429)
        });
        (answer.status, answer.text())
    }

    /// Scrapes until a sample has this value.
    pub fn wait_for_value(&mut self, series: &str, value: f64) -> Samples {
        let port = self.port;
        self.wait_for(&format!("{series} {value}"), || {
            scrape(port).filter(|samples| samples.value(series) == Some(value))
        })
    }
}

/// What a scrape gave, or nothing if there is no answer.
pub fn scrape(port: u16) -> Option<Samples> {
    http_get(port, "/metrics")
        .filter(|answer| answer.status == 200)
        .map(|answer| Samples::parse(&answer.text()))
}

/// Samples by series, written as in the exposition: `name{label="value",…}`.
#[derive(Debug)]
pub struct Samples(BTreeMap<String, f64>);

impl Samples {
    /// Reads the classic text format.
    ///
    /// # Panics
    /// If a line is no sample, or if a series is there twice.
    pub fn parse(text: &str) -> Self {
        let mut samples = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
            let twice = samples.insert(series.to_owned(), value);
            assert!(twice.is_none(), "{series} is there twice");
        }
        Self(samples)
    }

    /// The value of one series.
    pub fn value(&self, series: &str) -> Option<f64> {
        self.0.get(series).copied()
    }

    /// The sum over the series of a metric that have all these labels.
    pub fn sum(&self, metric: &str, labels: &[&str]) -> f64 {
        self.0
            .iter()
            .filter(|(series, _)| series.split('{').next() == Some(metric))
            .filter(|(series, _)| labels.iter().all(|label| series.contains(label)))
            .map(|(_, value)| value)
            .sum()
    }

    /// Every series with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0
            .iter()
            .map(|(series, value)| (series.as_str(), *value))
    }
}

/// A client that keeps its connection and says that it is a scraper, as Prometheus does.
pub struct Scraper {
    port: u16,
    stream: TcpStream,
}

impl Scraper {
    /// Connects.
    pub fn connect(port: u16) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a connection");
        stream.set_read_timeout(Some(LONG)).expect("a limit");
        Self { port, stream }
    }

    /// Asks for a scrape, and leaves it to be read.
    pub fn ask(&mut self) {
        let request = format!(
            "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nUser-Agent: Prometheus/3.16.0\r\n\
             X-Prometheus-Scrape-Timeout-Seconds: 10\r\n\r\n",
            self.port
        );
        self.stream.write_all(request.as_bytes()).expect("sent");
    }

    /// One scrape.
    pub fn scrape(&mut self) -> Samples {
        self.ask();
        Samples::parse(&self.read())
    }

    /// The body of one answer.
    pub fn read(&mut self) -> String {
        let mut reader = BufReader::new(&self.stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).expect("a header");
            assert!(!line.is_empty(), "closed");
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse().expect("a number");
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("the body");
        String::from_utf8(body).expect("text")
    }
}

/// promtool reads these metrics and has nothing to say about them.
pub fn accepted_by_promtool(metrics: &str) {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), metrics).expect("room for them");
    let said = succeeds(
        Command::new(program("promtool"))
            .args(["check", "metrics"])
            .stdin(file.reopen().expect("the file")),
    );
    assert_eq!(said.all(), "", "{metrics}");
}

/// Appends to a log, in one write.
pub fn append(path: &Path, bytes: &[u8]) {
    std::fs::File::options()
        .create(true)
        .append(true)
        .open(path)
        .and_then(|mut file| file.write_all(bytes))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
