//! RFC 5424: `1 TIME HOST APP PROCID MSGID [structured data] MESSAGE`, behind the priority. Junos' structured logs,
//! rsyslog's newer forwarding, ONTAP's newer format and Clavister's two products have it.
//!
//! Files often have it without its beginning: rsyslog's templates leave out priority and version, other programs write
//! another version. Without a version, the line must have all fields up to the structured data, so that ordinary text
//! is not taken for it.

use super::bytes::{ends_token, is_blank, skip_blanks, split_digits, split_token};
use super::priority::words_of_priority;
use super::stamp::stamp_len;
use super::tag::{Tag, known};
use super::{Programs, Record, Severity, clavister, host, junos, ontap};

/// UTF-8's byte order mark, which may open the message.
pub(super) const BOM: &[u8] = b"\xef\xbb\xbf";

/// Most elements of one line whose quotes do not pair. Each costs a search through the rest of the line.
const ODD_ELEMENTS_MAX: usize = 4;

/// The fields as written.
pub(super) struct Header<'a> {
    /// Empty if it is `-` or no time.
    stamp: &'a [u8],
    host: &'a [u8],
    /// From here on the line is the application's: `IPSEC : id=…`.
    from_app: &'a [u8],
    app: &'a [u8],
    process: &'a [u8],
    id: &'a [u8],
    structured: &'a [u8],
    message: &'a [u8],
    /// A colon stands in place of PROCID, MSGID and structured data, as Clavister's InControl writes it.
    colon: bool,
}

/// What the fields mean.
pub(super) enum Entered<'a> {
    /// The program and its message.
    Message(&'a [u8]),
    /// No program is named: a relay may have left the sender's own header at the start of the message.
    Nested(&'a [u8]),
}

impl<'a> Header<'a> {
    /// Reads the fields, or `None` if the text is not RFC 5424. Fields that are missing at the end count as `-`, if the
    /// version is there.
    pub(super) fn read(text: &'a [u8], prioritised: bool) -> Option<Self> {
        let (digits, after) = split_digits(text);
        let versioned = (1..=3).contains(&digits.len()) && matches!(after, [b' ', ..]);
        let text = if versioned { skip_blanks(after) } else { text };
        let len = stamp_len(text);
        let (stamp, rest) = match len {
            0 => split_token(text),
            len => text.split_at_checked(len)?,
        };
        let is_iso =
            len > 0 && (matches!(stamp, [_, _, _, _, b'-', ..]) || stamp.get(8) == Some(&b'T'));
        let lenient = versioned && (is_iso || (stamp == b"-" && prioritised));
        let broken = versioned && prioritised && is_broken_date(stamp);
        // Behind priority and version, a word that is no time stands in its place.
        if !(len > 0 || versioned && prioritised) || !ends_token(rest) {
            return None;
        }
        let (host, rest) = split_token(skip_blanks(rest));
        let from_app = skip_blanks(rest);
        let (app, rest) = split_token(from_app);
        let mut header = Header {
            stamp: if len > 0 { stamp } else { b"" },
            host,
            from_app,
            app,
            process: b"",
            id: b"",
            structured: b"",
            message: b"",
            colon: false,
        };
        let rest = skip_blanks(rest);
        let after_colon = match (app, rest) {
            (_, [b':', after @ ..]) if ends_token(after) => Some(after),
            ([name @ .., b':'], _) if !name.is_empty() => {
                header.app = name;
                Some(rest)
            }
            _ => None,
        };
        if let Some(after) = after_colon.filter(|_| lenient || broken) {
            header.colon = true;
            header.message = skip_blanks(after);
            return Some(header);
        }
        let (process, rest) = split_token(rest);
        let (id, rest) = split_token(skip_blanks(rest));
        let rest = skip_blanks(rest);
        let structured = structured_len(rest);
        if !(lenient || structured.is_some() && are_fields(host, app, process, id)) {
            return None;
        }
        let (structured, message) = rest.split_at_checked(structured.unwrap_or(0))?;
        let message = skip_blanks(message);
        header.process = process;
        header.id = id;
        header.structured = structured;
        header.message = skip_blanks(message.strip_prefix(BOM).unwrap_or(message));
        Some(header)
    }

    /// Enters the fields into the record.
    pub(super) fn enter(self, record: &mut Record<'a>, programs: &Programs) -> Entered<'a> {
        let Header { message, .. } = self;
        record.stamp = self.stamp;
        if !value(self.host).is_empty() {
            record.add_host(host::name(self.host));
        }
        record.tag = value(self.id);
        record.structured = value(self.structured);
        if self.colon && clavister::is_export(message) {
            // InControl gives all lines the same priority.
            if record.severity == Some(Severity::Alert) && record.facility == b"kern" {
                (record.facility, record.severity) = (b"", None);
            }
            clavister::set_program(record, programs);
            return Entered::Message(self.from_app);
        }
        let app = value(self.app);
        let name = match Tag::read(app) {
            tag if tag.name.is_empty() => app,
            tag => tag.name,
        };
        // The kernel of an ONTAP node is a program of its event system.
        let is_event = ontap::is_event_name(record.tag);
        if let Some((id, name)) = known(name, programs)
            && !(is_event && name.eq_ignore_ascii_case(b"kernel"))
        {
            record.program = name;
            record.program_id = Some(id);
            return Entered::Message(message);
        }
        record.program = name;
        // ONTAP's newer format has the event's name as message id and a program of no interest.
        if is_event {
            ontap::set_program(record, programs);
            return Entered::Message(message);
        }
        // cOS Stream names itself and has its category as message id or in the message.
        if name.eq_ignore_ascii_case(b"cOS") {
            let tag = Tag::read(message);
            let category = known(record.tag, programs).map(|found| (found, message));
            let found = category.or_else(|| Some((known(tag.name, programs)?, tag.rest)));
            if let Some(((id, name), message)) = found {
                record.program = name;
                record.program_id = Some(id);
                return Entered::Message(message);
            }
        }
        // ONTAP calls every program so. Without an event's name, the text says which event it is.
        if name == b"program" && value(self.process).is_empty() && record.tag.is_empty() {
            record.program = b"";
            return Entered::Message(message);
        }
        // A process with a pid writes text of its own, which may look like a bracket.
        if value(self.process).is_empty()
            && let Some(event) = ontap::bracket(message).or_else(|| ontap::torn_bracket(message))
        {
            return Entered::Message(ontap::set(record, event, programs));
        }
        if !app.is_empty() {
            return Entered::Message(message);
        }
        if junos::is_kmd_id(record.tag) {
            junos::set_without_process(record, record.tag, programs);
            return Entered::Message(message);
        }
        Entered::Nested(message)
    }
}

/// A field's value; `-` stands for none.
fn value(field: &[u8]) -> &[u8] {
    if field == b"-" { b"" } else { field }
}

/// Whether four tokens may be host, program, pid and message id. Text has colons and brackets there.
fn are_fields(host: &[u8], app: &[u8], process: &[u8], id: &[u8]) -> bool {
    let is_name = |token: &[u8]| {
        !token.is_empty()
            && token
                .iter()
                .all(|&byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte))
    };
    let is_host = host::is_plausible(host) && (!host.ends_with(b":") || host::is_address(host));
    is_host
        && words_of_priority(host).is_none()
        && is_name(without_pid(app))
        && app.iter().any(u8::is_ascii_alphabetic)
        && (process == b"-" || process.iter().all(u8::is_ascii_digit))
        && is_name(id)
}

/// The name of `sshd[12]`, which some templates write in place of name and pid.
fn without_pid(app: &[u8]) -> &[u8] {
    let inner = app.strip_suffix(b"]").unwrap_or_default();
    match inner.iter().rposition(|byte| !byte.is_ascii_digit()) {
        Some(at) if inner.get(at) == Some(&b'[') => app.get(..at).unwrap_or(app),
        _ => app,
    }
}

/// Whether a token was meant as a date: `2017-01-14-14T13:49:17Z`.
fn is_broken_date(token: &[u8]) -> bool {
    matches!(
        token,
        [
            b'0'..=b'9',
            b'0'..=b'9',
            b'0'..=b'9',
            b'0'..=b'9',
            b'-' | b'/' | b'.',
            ..
        ]
    ) && token
        .iter()
        .all(|byte| byte.is_ascii_digit() || b"-/.:+TZtz".contains(byte))
}

/// The length of the structured data, `-` included; `None` if there is none and the message begins here.
fn structured_len(text: &[u8]) -> Option<usize> {
    let ends = |len: usize| text.get(len).is_none_or(|&byte| is_blank(byte));
    match text {
        [b'-', ..] if ends(1) => Some(1),
        [b'[', ..] => {
            let (mut len, mut odd) = (0, 0);
            while let Some(rest @ [b'[', ..]) = text.get(len..) {
                len += match element_len(rest) {
                    Some(element) => element,
                    None if odd < ODD_ELEMENTS_MAX && is_element(rest) => {
                        odd += 1;
                        odd_element_len(rest)?
                    }
                    None => return None,
                };
            }
            // With parameters it can be nothing else, even if the text follows without a blank.
            let has_parameters = text.get(..len)?.contains(&b'=');
            (ends(len) || has_parameters).then_some(len)
        }
        _ => None,
    }
}

/// The length of one `[id name="value" …]`. A bracket within quotes or behind a backslash belongs to the value.
fn element_len(text: &[u8]) -> Option<usize> {
    let id_len = text
        .iter()
        .position(|&byte| is_blank(byte) || byte == b']')?;
    let mut len = id_len;
    loop {
        let rest = text.get(len..)?;
        len += rest.len() - skip_blanks(rest).len();
        if text.get(len)? == &b']' {
            return Some(len + 1);
        }
        let rest = text.get(len..)?;
        // A date or a triple in brackets is no structured data: it has no `name=`.
        let name_len = rest
            .iter()
            .position(|&byte| byte == b'=' || byte == b']' || is_blank(byte))?;
        let [b'=', value @ ..] = rest.get(name_len..)? else {
            return None;
        };
        len += name_len + 1;
        len += match value {
            [b'"', quoted @ ..] => 2 + quoted_len(quoted)?,
            _ => value
                .iter()
                .position(|&byte| byte == b']' || is_blank(byte))?,
        };
    }
}

/// Whether the text opens as an element does, with an id and the name of a parameter.
fn is_element(text: &[u8]) -> bool {
    let (id, rest) = split_token(text.get(1..).unwrap_or_default());
    let rest = skip_blanks(rest);
    let name = rest
        .iter()
        .position(|byte| !byte.is_ascii_alphanumeric() && !b"-_.".contains(byte))
        .and_then(|len| rest.split_at_checked(len));
    let is_id = |byte: &u8| byte.is_ascii_alphanumeric() || b"@._-".contains(byte);
    !id.is_empty()
        && id.iter().all(is_id)
        && name.is_some_and(|(name, after)| !name.is_empty() && after.starts_with(b"=\""))
}

/// The length of an element whose quotes do not pair: it ends at the first bracket with a quote before it and a blank,
/// another element or nothing behind it, or where there is none, at the first one without that quote.
fn odd_element_len(text: &[u8]) -> Option<usize> {
    let mut unquoted = None;
    for at in memchr::memchr_iter(b']', text) {
        let (element, after) = text.split_at_checked(at + 1)?;
        if !(ends_token(after) || after.starts_with(b"[")) {
            continue;
        }
        if element.ends_with(b"\"]") {
            return Some(element.len());
        }
        unquoted = unquoted.or(Some(element.len()));
    }
    unquoted
}

/// The length up to the closing quote.
fn quoted_len(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        if text.get(at) == Some(&b'"') {
            return Some(at);
        }
        at += 2;
    }
}
