//! RFC 5424: `1 TIME HOST APP PROCID MSGID [structured data] MESSAGE`, behind the priority. Junos' structured logs, rsyslog's
//! newer forwarding and ONTAP's newer format have it.

use super::bytes::{is_blank, skip_blanks, split_token};
use super::syslog::{Tag, known, nested_header};
use super::time::stamp_len;
use super::{Programs, Record, junos, ontap};

/// UTF-8's byte order mark, which may open the message.
pub(super) const BOM: &[u8] = b"\xef\xbb\xbf";

/// Reads the header and returns the message, or `None` if the text is not RFC 5424. Fields that are missing at the end
/// count as `-`.
pub(super) fn header<'a>(
    text: &'a [u8],
    prioritised: bool,
    record: &mut Record<'a>,
    programs: &Programs,
) -> Option<&'a [u8]> {
    let [b'1', b' ', rest @ ..] = text else {
        return None;
    };
    let rest = skip_blanks(rest);
    let (stamp, rest) = split_token(rest);
    let is_date = stamp_len(stamp) == stamp.len() && matches!(stamp, [_, _, _, _, b'-', ..]);
    let is_missing = stamp == b"-" && prioritised;
    if !(is_date || is_missing) {
        return None;
    }
    let (host, rest) = split_token(skip_blanks(rest));
    let (app, rest) = split_token(skip_blanks(rest));
    let (process, rest) = split_token(skip_blanks(rest));
    let (id, rest) = split_token(skip_blanks(rest));
    let rest = skip_blanks(rest);
    record.stamp = value(stamp);
    record.host = Some(value(host)).filter(|host| !host.is_empty());
    record.tag = value(id);
    let rest = match structured_len(rest).and_then(|len| rest.split_at_checked(len)) {
        Some((structured, after)) => {
            record.structured = value(structured);
            after
        }
        None => rest,
    };
    let message = skip_blanks(rest);
    let message = skip_blanks(message.strip_prefix(BOM).unwrap_or(message));

    let app = value(app);
    let name = match Tag::read(app) {
        tag if tag.name.is_empty() => app,
        tag => tag.name,
    };
    if let Some((id, name)) = known(name, programs) {
        record.program = name;
        record.program_id = Some(id);
        return Some(message);
    }
    record.program = name;
    // ONTAP's newer format has the event's name as message id and a program of no interest.
    if ontap::is_event_name(record.tag) {
        ontap::set_program(record, programs);
        return Some(message);
    }
    // A process with a pid writes text of its own, which may look like a bracket.
    if value(process).is_empty()
        && let Some(event) = ontap::bracket(message).or_else(|| ontap::torn_bracket(message))
    {
        return Some(ontap::set(record, event, programs));
    }
    if !app.is_empty() {
        return Some(message);
    }
    if junos::is_kmd_id(record.tag) {
        junos::set_without_process(record, record.tag, programs);
        return Some(message);
    }
    Some(nested_header(message, record, programs))
}

/// A field's value; `-` stands for none.
fn value(field: &[u8]) -> &[u8] {
    if field == b"-" { b"" } else { field }
}

/// The length of the structured data, `-` included; `None` if there is none and the message begins here.
fn structured_len(text: &[u8]) -> Option<usize> {
    let ends = |len: usize| text.get(len).is_none_or(|&byte| is_blank(byte));
    match text {
        [b'-', ..] if ends(1) => Some(1),
        [b'[', ..] => {
            let mut len = 0;
            while let Some(rest @ [b'[', ..]) = text.get(len..) {
                len += element_len(rest)?;
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
