//! ONTAP's event management system (EMS), whose own header is a bracket: `[node:event.name:severity]: text`. Records of
//! it have the program `ems`, the node as host and the event as tag.

use super::bytes::{is_blank, split_token, trim};
use super::severity::Severity;
use super::{Programs, Record};

/// Longest bracket, bytes: two names and a process.
const BRACKET_BYTES_MAX: usize = 192;

/// What the bracket says.
pub(super) struct Event<'a> {
    /// Empty where it was lost.
    node: &'a [u8],
    pub(super) name: &'a [u8],
    severity: Severity,
    message: &'a [u8],
}

/// Reads `[node:event:severity]: text`, also with a process or blanks between (`[node: nblade: event:severity]`), and
/// the older `[event.name:severity]`. An audit line's `[kern_audit:info:3167]` has no severity at its end and is none.
pub(super) fn bracket(text: &[u8]) -> Option<Event<'_>> {
    let inner = text.strip_prefix(b"[")?;
    let end = inner
        .iter()
        .take(BRACKET_BYTES_MAX)
        .position(|&byte| byte == b']')?;
    let (inner, after) = inner.split_at_checked(end)?;
    let last = inner.iter().rposition(|&byte| byte == b':')?;
    let severity = Severity::parse(trim(inner.get(last + 1..)?))?;
    let names = inner.get(..last)?;
    let (node, name) = match names.iter().rposition(|&byte| byte == b':') {
        Some(at) => (
            names.split(|&byte| byte == b':').next().unwrap_or_default(),
            names.get(at + 1..)?,
        ),
        None => (&b""[..], names),
    };
    let (node, name) = (trim(node), trim(name));
    if !is_name(name)
        || (node.is_empty() && !name.contains(&b'.'))
        || node.iter().any(|&byte| is_blank(byte))
    {
        return None;
    }
    Some(Event {
        node,
        name,
        severity,
        message: after_bracket(after),
    })
}

/// Reads `event:severity]: text`: a relay took the first half of the bracket for a tag and dropped it.
pub(super) fn torn_bracket(text: &[u8]) -> Option<Event<'_>> {
    let (token, _) = split_token(text);
    let end = token.iter().position(|&byte| byte == b']')?;
    let (inner, after) = text.split_at_checked(end)?;
    let at = inner.iter().position(|&byte| byte == b':')?;
    let severity = Severity::parse(inner.get(at + 1..)?)?;
    let name = inner.get(..at)?;
    is_event_name(name).then(|| Event {
        node: b"",
        name,
        severity,
        message: after_bracket(after),
    })
}

/// `after` begins with the closing bracket.
fn after_bracket(after: &[u8]) -> &[u8] {
    match after {
        [b']', b':', rest @ ..] | [b']', rest @ ..] => rest,
        _ => after,
    }
}

/// Enters the event and returns its message.
pub(super) fn set<'a>(record: &mut Record<'a>, event: Event<'a>, programs: &Programs) -> &'a [u8] {
    if !event.node.is_empty() {
        record.add_host(event.node);
    }
    record.tag = event.name;
    record.severity = Some(event.severity);
    set_program(record, programs);
    event.message
}

/// Enters the program, `ems`.
pub(super) fn set_program(record: &mut Record<'_>, programs: &Programs) {
    record.program = b"ems";
    record.program_id = programs.lookup(b"ems");
}

/// Whether the text is the name of an event as ONTAP writes them: words joined by dots, `wafl.scan.done`.
pub(super) fn is_event_name(text: &[u8]) -> bool {
    is_name(text)
        && text.contains(&b'.')
        && text.first().is_some_and(u8::is_ascii_alphabetic)
        && text
            .split(|&byte| byte == b'.')
            .all(|part| !part.is_empty())
}

fn is_name(text: &[u8]) -> bool {
    !text.is_empty()
        && text
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}
