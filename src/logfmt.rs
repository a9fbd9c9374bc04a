//! The exporter's own log: one line an event, as logfmt or as JSON, the way Prometheus' programs write theirs.
//!
//! A line says `ts`, `level`, `msg`, then the event's fields in their order. Whatever a value holds, it stays on its
//! line: control characters are escaped, so that text from a watched log cannot forge a line of ours.
//!
//! Logging never waits and never fails: lines go through a bounded queue to a thread that writes them ([`Stderr`]). Whether
//! nobody reads a pipe, its reader is gone or a disk is full, the exporter goes on, and counts the lines that are lost.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `ts=… level=info msg="…" key=value`
    Logfmt,
    /// One JSON object.
    Json,
}

/// A subscriber that writes events of `level` and above to `writer`, for `tracing::subscriber::set_global_default`.
pub fn subscriber<W>(level: LevelFilter, format: Format, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(false)
        .event_format(format)
        .with_writer(writer)
        .finish()
}

/// Lines that wait to be written.
const QUEUE_MAX: usize = 1024;
/// Bytes of a line; what is more is cut.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Lines that could not be written, since the start.
static LOST: AtomicU64 = AtomicU64::new(0);
/// Lines that are queued or being written.
static QUEUED: AtomicUsize = AtomicUsize::new(0);

/// Lines that could not be written, since the start.
pub fn lost_lines() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// Waits until all lines are written, but not longer than `limit`.
pub fn flush(limit: Duration) {
    let deadline = Instant::now() + limit;
    while QUEUED.load(Ordering::SeqCst) > 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Standard error, for [`subscriber`]. Each write is one line, queued for a thread of its own.
#[derive(Clone)]
pub struct Stderr(SyncSender<Vec<u8>>);

impl Stderr {
    /// Starts the thread. If there can be none, all lines are lost.
    pub fn start() -> Self {
        let (sender, lines) = sync_channel(QUEUE_MAX);
        let writing = std::thread::Builder::new().name("log".into());
        let _ = writing.spawn(move || write_lines(&lines, io::stderr()));
        Self(sender)
    }
}

fn write_lines(lines: &Receiver<Vec<u8>>, mut out: impl io::Write) {
    while let Ok(line) = lines.recv() {
        if out.write_all(&line).and_then(|()| out.flush()).is_err() {
            LOST.fetch_add(1, Ordering::Relaxed);
        }
        QUEUED.fetch_sub(1, Ordering::SeqCst);
    }
}

impl io::Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let cut = line.get(..LINE_BYTES_MAX);
        let kept = cut.map_or_else(|| line.to_vec(), |cut| [cut, b"\n"].concat());
        QUEUED.fetch_add(1, Ordering::SeqCst);
        if self.0.try_send(kept).is_err() {
            QUEUED.fetch_sub(1, Ordering::SeqCst);
            LOST.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<S, N> FormatEvent<S, N> for Format
where
    S: Subscriber + for<'l> LookupSpan<'l>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let now = Timestamp::now()
            .strftime("%Y-%m-%dT%H:%M:%S%.3fZ")
            .to_string();
        self.write(writer, &now, event)
    }
}

impl Format {
    fn write(self, mut writer: Writer<'_>, ts: &str, event: &Event<'_>) -> fmt::Result {
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            _ => "debug",
        };
        let mut fields = Fields::default();
        event.record(&mut fields);
        let pairs = [
            ("ts", Value::Text(ts.to_owned())),
            ("level", Value::Text(level.to_owned())),
        ]
        .into_iter()
        .chain(fields.message.map(|message| ("msg", Value::Text(message))))
        .chain(fields.others);
        match self {
            Format::Logfmt => {
                for (index, (key, value)) in pairs.enumerate() {
                    if index > 0 {
                        writer.write_char(' ')?;
                    }
                    let value = match value {
                        Value::Text(text) | Value::Bare(text) => text,
                    };
                    write!(writer, "{key}=")?;
                    write_logfmt(&mut writer, &value)?;
                }
            }
            Format::Json => {
                writer.write_char('{')?;
                for (index, (key, value)) in pairs.enumerate() {
                    if index > 0 {
                        writer.write_char(',')?;
                    }
                    write_json(&mut writer, key)?;
                    writer.write_char(':')?;
                    match value {
                        Value::Text(text) => write_json(&mut writer, &text)?,
                        Value::Bare(text) => writer.write_str(&text)?,
                    }
                }
                writer.write_char('}')?;
            }
        }
        writer.write_char('\n')
    }
}

enum Value {
    Text(String),
    /// A number or a boolean, which JSON writes without quotes.
    Bare(String),
}

#[derive(Default)]
struct Fields {
    message: Option<String>,
    others: Vec<(&'static str, Value)>,
}

impl Fields {
    fn text(&mut self, field: &Field, text: String) {
        match field.name() {
            "message" => self.message = Some(text),
            name => self.others.push((name, Value::Text(text))),
        }
    }

    fn bare(&mut self, field: &Field, text: String) {
        self.others.push((field.name(), Value::Bare(text)));
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value.to_owned());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.bare(field, value.to_string());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.bare(field, value.to_string());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.bare(field, value.to_string());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.bare(field, value.to_string());
        } else {
            self.text(field, value.to_string());
        }
    }
}

fn write_logfmt(out: &mut dyn fmt::Write, value: &str) -> fmt::Result {
    let plain = !value.is_empty()
        && value
            .chars()
            .all(|c| c > ' ' && !c.is_control() && !matches!(c, '"' | '=' | '\\'));
    if plain {
        out.write_str(value)
    } else {
        write_json(out, value)
    }
}

/// A JSON string; Go's logfmt reads the same escapes.
fn write_json(out: &mut dyn fmt::Write, value: &str) -> fmt::Result {
    out.write_char('"')?;
    for character in value.chars() {
        match character {
            '"' => out.write_str("\\\"")?,
            '\\' => out.write_str("\\\\")?,
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            // Line and paragraph separators end a line for some readers.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                write!(out, "\\u{:04x}", c as u32)?;
            }
            c => out.write_char(c)?,
        }
    }
    out.write_char('"')
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines that `log` gives rise to, without their time.
    fn check(level: LevelFilter, format: Format, log: fn()) -> Vec<String> {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber = subscriber(level, format, move || writer.clone());
        tracing::subscriber::with_default(subscriber, log);
        let bytes = sink.0.lock().unwrap().clone();
        let mark = match format {
            Format::Logfmt => " level=",
            Format::Json => ",\"level\":",
        };
        String::from_utf8(bytes)
            .unwrap()
            .lines()
            .map(|line| {
                let (ts, rest) = line.split_once(mark).unwrap();
                let digits: String = ts.chars().filter(char::is_ascii_digit).collect();
                assert_eq!(digits.len(), 17, "{ts}");
                rest.to_owned()
            })
            .collect()
    }

    fn log() {
        tracing::debug!("unheard");
        tracing::info!(source = "luna", files = 3, ok = true, "following");
        tracing::warn!(
            path = %"/var/log/a b\nlevel=error",
            error = ?io::ErrorKind::NotFound,
            "cannot \"read\" \u{1b}[31m"
        );
        tracing::error!(empty = "", ratio = f64::NAN, pattern = "a=b", "x");
    }

    #[test]
    fn logfmt() {
        assert_eq!(
            check(LevelFilter::INFO, Format::Logfmt, log),
            [
                r#"info msg=following source=luna files=3 ok=true"#,
                r#"warn msg="cannot \"read\" \u001b[31m" path="/var/log/a b\nlevel=error" error=NotFound"#,
                r#"error msg=x empty="" ratio=NaN pattern="a=b""#,
            ]
        );
    }

    #[test]
    fn json() {
        assert_eq!(
            check(LevelFilter::WARN, Format::Json, log),
            [
                r#""warn","msg":"cannot \"read\" \u001b[31m","path":"/var/log/a b\nlevel=error","error":"NotFound"}"#,
                r#""error","msg":"x","empty":"","ratio":"NaN","pattern":"a=b"}"#,
            ]
        );
    }
}
