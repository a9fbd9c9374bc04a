//! Lines that are JSON objects, as journald (`journalctl -o json`), Docker, Fluent Bit and Vector write them: an object
//! becomes the syslog line that it stands for, which is then read as any other.
//!
//! An object that names its program becomes an RFC 5424 line of its fields. One that only holds a text becomes that
//! text; if the object also says which host sent it, the host and the time are put before the text, as a collector
//! would, so that what the text says about its sender counts as relayed.

use std::io::Write;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::severity::{Severity, facility_number};
use super::stamp::stamp_len;

/// The names of each field, those of journald first.
const MESSAGE: &[&str] = &["MESSAGE", "message", "msg", "log"];
const PROGRAM: &[&str] = &[
    "SYSLOG_IDENTIFIER",
    "_COMM",
    "appname",
    "app-name",
    "app_name",
    "programname",
    "program",
    "ident",
    "process",
];
const HOST: &[&str] = &["_HOSTNAME", "hostname", "host", "fromhost"];
const PROCESS: &[&str] = &["SYSLOG_PID", "_PID", "procid", "pid"];
const MESSAGE_ID: &[&str] = &["msgid"];
const SEVERITY: &[&str] = &["PRIORITY", "severity", "level"];
const FACILITY: &[&str] = &["SYSLOG_FACILITY", "facility"];
const TIME: &[&str] = &["timestamp", "@timestamp", "time", "timereported"];

/// Longest field of a header that is taken over, bytes.
const FIELD_BYTES_MAX: usize = 255;

/// The syslog line that a JSON object stands for, written into `buffer`. Every other line, and an object without a
/// message, is returned as it is.
///
/// ```
/// use appliance_log_exporter::record::unwrap_json;
/// let line = br#"{"log":"Feb 28 12:05:01 h1 sshd[1]: up\n","stream":"stdout"}"#;
/// assert_eq!(unwrap_json(line, &mut Vec::new()), b"Feb 28 12:05:01 h1 sshd[1]: up ");
/// ```
#[inline]
pub fn unwrap_json<'a>(line: &'a [u8], buffer: &'a mut Vec<u8>) -> &'a [u8] {
    match line {
        [b'{', ..] | [b' ', b'{', ..] if unwrap(line, buffer) => buffer,
        _ => line,
    }
}

/// Writes the syslog line that a JSON object stands for into `line` and returns whether it stands for one.
#[cold]
fn unwrap(text: &[u8], line: &mut Vec<u8>) -> bool {
    line.clear();
    let text = String::from_utf8_lossy(text);
    let Ok(Value::Object(object)) = serde_json::from_str(&text) else {
        return false;
    };
    let Some(message) = field(&object, MESSAGE).and_then(message) else {
        return false;
    };
    // No field is longer than the line, so what is written to memory cannot fail.
    let _ = match field(&object, PROGRAM).map(token) {
        Some(program) if !program.is_empty() => write(line, &object, &program, &message),
        _ => wrap(line, &object, &message),
    };
    true
}

/// `<38>1 TIME HOST PROGRAM PID ID - MESSAGE`.
fn write(
    line: &mut Vec<u8>,
    object: &Map<String, Value>,
    program: &str,
    message: &[u8],
) -> std::io::Result<()> {
    let part = |names| {
        let part = field(object, names).map(token).unwrap_or_default();
        if part.is_empty() { "-".into() } else { part }
    };
    let severity = field(object, SEVERITY).and_then(severity);
    let facility = field(object, FACILITY).and_then(|value| match value {
        Value::String(word) => facility_number(word.as_bytes()).or_else(|| word.parse().ok()),
        value => value.as_u64(),
    });
    const USER: u64 = 1;
    if let Some(severity) = severity {
        let facility = facility.filter(|number| *number < 24).unwrap_or(USER);
        write!(line, "<{}>", facility * 8 + severity as u64)?;
    } else {
        write!(line, "<>")?;
    }
    write!(
        line,
        "1 {} {} {program} {} {} - ",
        time(object).unwrap_or_else(|| "-".into()),
        part(HOST),
        part(PROCESS),
        part(MESSAGE_ID),
    )?;
    line.write_all(message)
}

/// The text, behind the host if the object has one and is not about a file or a container of the collector.
fn wrap(line: &mut Vec<u8>, object: &Map<String, Value>, message: &[u8]) -> std::io::Result<()> {
    let is_local = ["file", "stream", "container_name", "kubernetes"]
        .iter()
        .any(|name| object.contains_key(*name))
        || matches!(object.get("log"), Some(Value::Object(_)));
    let host = field(object, HOST).map(token);
    if !is_local && let Some(host) = host.filter(|host| !host.is_empty()) {
        match (time(object), own_stamp(message)) {
            (Some(time), _) => write!(line, "{time} {host} ")?,
            (None, []) => write!(line, "<>1 - {host} - - - - ")?,
            (None, stamp) => {
                line.write_all(stamp)?;
                write!(line, " {host} ")?;
            }
        }
    }
    line.write_all(message)
}

/// The time stamp that a text begins with, behind a priority; empty if there is none.
fn own_stamp(text: &[u8]) -> &[u8] {
    let priority = match text {
        [b'<', rest @ ..] => rest.iter().take(4).position(|byte| *byte == b'>'),
        _ => None,
    };
    let text = &text[priority.map_or(0, |at| at + 2)..];
    let text = text.strip_prefix(b"1 ").unwrap_or(text);
    &text[..stamp_len(text)]
}

/// The first of these fields that the object has.
fn field<'o>(object: &'o Map<String, Value>, names: &[&str]) -> Option<&'o Value> {
    names.iter().find_map(|name| object.get(*name))
}

/// A message in one line. journald writes one that is no text as a list of bytes.
fn message(value: &Value) -> Option<Vec<u8>> {
    let mut bytes = match value {
        Value::String(text) => text.clone().into_bytes(),
        Value::Array(bytes) => bytes
            .iter()
            .map(|byte| byte.as_u64().and_then(|byte| u8::try_from(byte).ok()))
            .collect::<Option<_>>()?,
        _ => return None,
    };
    for byte in &mut bytes {
        if matches!(byte, b'\n' | b'\r' | 0) {
            *byte = b' ';
        }
    }
    Some(bytes)
}

/// A field as one token of a header.
fn token(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        // As the Elastic Common Schema nests them.
        Value::Object(fields) => match fields.get("name") {
            Some(Value::String(name)) => name.clone(),
            _ => String::new(),
        },
        _ => String::new(),
    };
    text.chars()
        .take(FIELD_BYTES_MAX)
        .filter(|letter| letter.is_ascii_graphic())
        .collect()
}

fn severity(value: &Value) -> Option<Severity> {
    match value {
        Value::String(word) => Severity::parse(word.as_bytes())
            .or_else(|| word.parse().ok().and_then(Severity::from_number)),
        value => value.as_u64().and_then(Severity::from_number),
    }
}

/// The time in a form that a header may have.
fn time(object: &Map<String, Value>) -> Option<String> {
    if let Some(micros) = field(object, &["__REALTIME_TIMESTAMP"]).map(token)
        && let Ok(micros) = micros.parse()
    {
        return Timestamp::from_microsecond(micros)
            .ok()
            .map(|time| time.to_string());
    }
    let text = token(field(object, TIME)?);
    (stamp_len(text.as_bytes()) == text.len() && text.as_bytes().get(4) == Some(&b'-'))
        .then_some(text)
}
