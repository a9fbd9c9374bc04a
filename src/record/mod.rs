//! A line becomes a record: the fields of its header, and the message that is left. It never fails, it allocates
//! nothing, and every slice of a record lies within the line or is a constant.
//!
//! Which program means what is left to the packs: a record knows programs by name alone. The header families have a
//! file each: [`syslog`] for the header that most lines have, [`rfc5424`], [`junos`], [`ontap`], [`clavister`], and
//! [`luna`] for what stands before its messages; [`mod@headers`] caches the common ones. They share
//! [`tag`], [`host`], [`mod@priority`], [`mod@prefix`] and [`severity`]. [`body`] knows messages that name no program in
//! their header. [`mod@frames`] takes apart lines that hold several messages,
//! [`json`] turns an object into the line that it stands for, [`stamp`] knows where a time stamp ends, and [`time`] reads it
//! when somebody asks.

mod body;
mod bytes;
mod clavister;
mod frames;
mod headers;
mod host;
mod json;
mod junos;
mod luna;
mod ontap;
mod prefix;
mod priority;
mod programs;
mod repeat;
mod rfc5424;
mod severity;
mod stamp;
mod syslog;
mod tag;
mod time;
mod time_words;

use body::Preamble;
pub use body::{BodyFormat, BodyShape};
pub(crate) use bytes::{digits, first_digit, starts_with};
pub use frames::{Frames, frames};
pub use headers::{HeaderId, Headers};
pub use json::unwrap_json;
pub use programs::{ProgramId, Programs};
pub use repeat::REPEAT_MAX;
pub use severity::Severity;
pub use time::{Clock, outer_timestamp};

/// What was read from one line. All slices borrow from the line.
#[derive(Clone, Debug, Default)]
pub struct Record<'a> {
    /// The host or, for ONTAP, the node that the header names. Where a line has several headers, it is the first one's,
    /// which the collector wrote; the others may be anybody's.
    pub host: Option<&'a [u8]>,
    /// The host of a second header, which came with the message: the one nearest to the program. Whether it is believed
    /// depends on who the first one is.
    pub relayed_host: Option<&'a [u8]>,
    /// The program as read, without pid; empty if the header has none.
    pub program: &'a [u8],
    /// The program, if a pack knows it.
    pub program_id: Option<ProgramId>,
    /// From the message's own field where it has one (Luna's header word, ONTAP's bracket, Junos' `%FAC-n-TAG`,
    /// Clavister's `prio` or `severity`), else from the PRI, else from Luna's second severity.
    pub severity: Option<Severity>,
    /// Facility word or the PRI's facility as its word (`local5`); empty if there is none.
    pub facility: &'a [u8],
    /// The time as written; parsed only when somebody asks, by [`Record::timestamp`].
    pub stamp: &'a [u8],
    /// Junos message id (`KMD_VPN_UP_ALARM_USER`), ONTAP event name (`ktls.badAuth`), RFC 5424 MSGID, or the module in
    /// `sshd(pam_unix)[1]:`; empty if there is none.
    pub tag: &'a [u8],
    /// RFC 5424 structured data with its brackets, or empty.
    pub structured: &'a [u8],
    /// Luna's second severity, the word as written (`critical`), or empty.
    pub app_severity: &'a [u8],
    /// Luna's error code as written (`0`, `0xc0000711`), or empty.
    pub code: &'a [u8],
    /// How many messages the line stands for: 5 for `message repeated 5 times: [ … ]`, otherwise 1. At most [`REPEAT_MAX`].
    pub repeat: u32,
    /// For `last message repeated N times`: N, at most [`REPEAT_MAX`]; the record has no message of its own. Otherwise 0.
    pub repeat_last: u32,
    /// How many more repetitions than [`REPEAT_MAX`] the line claims.
    pub implausible_repeats: u64,
    /// The line carries the appliance's test marker.
    pub test: bool,
    /// What is left, blanks trimmed at both ends.
    pub message: &'a [u8],
}

/// Reads one line, without its line feed. Whatever is in it, a record comes out: at worst one without program whose
/// message is the line.
///
/// A program counts as found only at its place in the header, since text behind it may have been typed by anybody:
///
/// ```
/// use appliance_log_exporter::record::{BodyFormat, BodyShape, Programs, Severity, parse};
/// let programs = Programs::new([("NTLS".to_owned(), vec![]), ("sshd".to_owned(), vec![])]);
/// let programs = programs.with_formats([BodyFormat {
///     program: "NTLS".to_owned(),
///     shape: BodyShape::SeverityAndCode,
///     ..BodyFormat::default()
/// }]);
///
/// let record = parse(b"2024 Feb 29 12:05:01 hsm1  local5 err  NTLS [77]: info : 0 : Terminating.", &programs);
/// assert_eq!(record.host, Some(&b"hsm1"[..]));
/// assert_eq!(record.program, b"NTLS");
/// assert_eq!(record.severity, Some(Severity::Err));
/// assert_eq!(record.message, b"Terminating.");
///
/// let forged = parse(b"Feb 29 12:05:01 h sshd[1]: Invalid user NTLS[1]: info : 0 : Terminating.", &programs);
/// assert_eq!(forged.program, b"sshd");
/// ```
pub fn parse<'a>(line: &'a [u8], programs: &Programs) -> Record<'a> {
    let mut record = Record {
        repeat: 1,
        ..Record::default()
    };
    read(trim_line(line), programs, &mut record);
    record
}

impl<'a> Record<'a> {
    /// Enters a host that was found behind those that were entered before.
    fn add_host(&mut self, host: &'a [u8]) {
        match self.host {
            None => self.host = Some(host),
            Some(first) if first == host => {}
            Some(_) => self.relayed_host = Some(host),
        }
    }
}

/// Reads a line that is trimmed into a record of which nothing is known yet.
fn read<'a>(line: &'a [u8], programs: &Programs, record: &mut Record<'a>) {
    let message = read_header(line, record, programs);
    let message = read_body(message, record, programs);
    let preamble = programs.preamble(record.program_id);
    read_message(message, record, preamble, programs);
}

/// A message whose header names no program may name it itself.
#[inline]
fn read_body<'a>(message: &'a [u8], record: &mut Record<'a>, programs: &Programs) -> &'a [u8] {
    if record.program.is_empty() && record.repeat_last == 0 {
        return body::read(message, record, programs);
    }
    message
}

/// The line without what collectors leave at its ends.
#[inline]
fn trim_line(line: &[u8]) -> &[u8] {
    // Nearly all begin and end with a letter, a digit or a sign; an escape begins four bytes before the end.
    if let [b'!'..=b'~', .., fourth, _, _, b'!'..=b'~'] = line
        && *fourth != b'#'
    {
        return line;
    }
    let line = trim_escapes(bytes::trim_end(line));
    bytes::skip_blanks(line.strip_prefix(rfc5424::BOM).unwrap_or(line))
}

/// Reads the header of a trimmed line and returns what follows it.
fn read_header<'a>(line: &'a [u8], record: &mut Record<'a>, programs: &Programs) -> &'a [u8] {
    let text = priority::priority(line, record);
    let prioritised = text.len() < line.len();
    match rfc5424::Header::read(text, prioritised).map(|header| header.enter(record, programs)) {
        Some(rfc5424::Entered::Message(message)) => message,
        Some(rfc5424::Entered::Nested(message)) => syslog::nested_header(message, record, programs),
        None => syslog::header(text, prioritised, record, programs),
    }
}

/// Takes off what stands between the header and the message proper. Which of it a message may have shows in its first
/// byte, so that an ordinary one is not asked for all.
#[inline]
fn read_message<'a>(
    text: &'a [u8],
    record: &mut Record<'a>,
    preamble: Preamble,
    programs: &Programs,
) {
    let mut text = match text {
        [b' ', rest @ ..] if rest.first().is_some_and(u8::is_ascii_alphanumeric) => rest,
        _ => skip_escapes(bytes::skip_blanks(text)),
    };
    if let [b'[' | b'm' | b'l' | b'-' | b'%', ..] = text {
        match read_sign(text, record) {
            Some(rest) => text = rest,
            None => return,
        }
    }
    let mut may_be_test = true;
    match (preamble, text) {
        (Preamble::MessageId, [b'A'..=b'Z', ..]) => {
            if let Some((id, rest)) = junos::message_id(text) {
                record.tag = id;
                text = rest;
            }
        }
        (Preamble::Uptime, [b'[', ..]) => {
            if let Some(rest) = without_uptime(text) {
                text = rest;
                may_be_test = false;
            }
        }
        _ => {}
    }
    // The appliance's test of its traps writes the mark right behind the tag. Further in the message it may be typed.
    if may_be_test {
        text = without_test_mark(text, record);
    }
    match preamble {
        Preamble::SeverityAndCode => {
            if let Some(rest) = luna::severity_and_code(text, record) {
                text = rest;
            }
        }
        Preamble::Fields(number) => {
            if let Some(format) = programs.format(number) {
                format.read_fields(text, record);
            }
        }
        Preamble::None | Preamble::MessageId | Preamble::Uptime => {}
    }
    record.message = text;
}

/// Takes off the mark of a test, and notes that it was there.
#[inline]
fn without_test_mark<'a>(text: &'a [u8], record: &mut Record<'a>) -> &'a [u8] {
    if let [b'*' | b'S' | b's', ..] = text
        && let Some(rest) = luna::test_mark(text)
    {
        record.test = true;
        return rest;
    }
    text
}

/// Takes off what only few messages begin with: a pid, a repetition, Junos' own priority. `None` if there is no message.
fn read_sign<'a>(text: &'a [u8], record: &mut Record<'a>) -> Option<&'a [u8]> {
    let mut text = text;
    if let Some(rest) = tag::moved_pid(text).filter(|_| !record.program.is_empty()) {
        text = rest;
    }
    if let Some((severity, rest)) = solaris_id(text) {
        record.severity = record.severity.or(Some(severity));
        text = rest;
    }
    if let Some(rest) = priority_behind_tag(text, record) {
        text = rest;
    }
    match repeat::read(text) {
        Some(repeat::Repeat::Message(times, inner)) => {
            record.repeat = times.count;
            record.implausible_repeats = times.implausible;
            text = inner;
        }
        Some(repeat::Repeat::Last(times)) => {
            record.repeat_last = times.count;
            record.implausible_repeats = times.implausible;
            return None;
        }
        None => {}
    }
    if let Some(explicit) = junos::explicit_priority(text) {
        record.severity = Some(explicit.severity);
        if !explicit.id.is_empty() {
            record.tag = explicit.id;
        }
        text = explicit.message;
    }
    Some(text)
}

/// Removes the control characters that rsyslog wrote as `#015` (or `#012`, `#011`, `#000`) at the end of a line.
#[inline]
fn trim_escapes(line: &[u8]) -> &[u8] {
    let mut rest = line;
    while let [
        head @ ..,
        b'#',
        b'0',
        b'0' | b'1',
        b'0' | b'1' | b'2' | b'5',
    ] = rest
    {
        rest = bytes::trim_end(head);
    }
    rest
}

/// The same for a tab or a line feed before a message.
#[inline]
fn skip_escapes(text: &[u8]) -> &[u8] {
    let mut rest = text;
    while let [b'#', b'0', b'1', b'1' | b'2' | b'5', tail @ ..] = rest {
        rest = bytes::skip_blanks(tail);
    }
    rest
}

/// `[ID 800047 auth.info] text`, as Solaris numbers its messages, gives severity and text.
fn solaris_id(text: &[u8]) -> Option<(Severity, &[u8])> {
    const BYTES_MAX: usize = 48;
    let inner = text.strip_prefix(b"[ID ")?;
    let end = inner
        .iter()
        .take(BYTES_MAX)
        .position(|&byte| byte == b']')?;
    let (inner, rest) = inner.split_at_checked(end)?;
    let (digits, words) = bytes::split_digits(inner);
    let (_, severity) = priority::words_of_priority(bytes::skip_blanks(words))?;
    (!digits.is_empty()).then(|| {
        (
            severity,
            bytes::skip_blanks(rest.get(1..).unwrap_or_default()),
        )
    })
}

/// The text behind `[auth.info] ` or `[auth.info]: `, which a template may write between the tag and the message. It says
/// nothing new if the line has a priority.
fn priority_behind_tag<'a>(text: &'a [u8], record: &mut Record<'a>) -> Option<&'a [u8]> {
    // Numbers may be the time since the start.
    let [b'[', b'a'..=b'z' | b'A'..=b'Z', ..] = text else {
        return None;
    };
    let mut named = Record::default();
    let rest = priority::named_priority(text, &mut named)?;
    if record.severity.is_none() {
        (record.facility, record.severity) = (named.facility, named.severity);
    }
    Some(bytes::skip_blanks(rest.strip_prefix(b":").unwrap_or(rest)))
}

/// A kernel message without `[12345.678901] `, the time since the start.
fn without_uptime(text: &[u8]) -> Option<&[u8]> {
    let inner = bytes::skip_blanks(text.strip_prefix(b"[")?);
    let (seconds, rest) = bytes::split_digits(inner);
    let (fraction, rest) = bytes::split_digits(rest.strip_prefix(b".")?);
    let rest = rest.strip_prefix(b"]")?;
    (!seconds.is_empty() && !fraction.is_empty()).then(|| bytes::skip_blanks(rest))
}

#[cfg(test)]
mod tests;
