//! What Junos adds to a header: message ids, explicit priorities, and the card that a message came from.

use super::bytes::{skip_blanks, split_digits, split_token};
use super::severity::Severity;
use super::{Programs, Record};

/// A priority that the message itself states: `%DAEMON-4-KMD_X: text`.
pub(super) struct ExplicitPriority<'a> {
    /// `DAEMON`; where the line names no other, it may be the program.
    pub(super) facility: &'a [u8],
    /// `KMD_X`; empty for `%DAEMON-4: text`.
    pub(super) id: &'a [u8],
    pub(super) severity: Severity,
    pub(super) message: &'a [u8],
}

/// Reads such a priority at the start of the text.
pub(super) fn explicit_priority(text: &[u8]) -> Option<ExplicitPriority<'_>> {
    let [b'%', rest @ ..] = text else { return None };
    let (token, _) = split_token(rest);
    let colon = token.iter().position(|&byte| byte == b':')?;
    let (inner, message) = (token.get(..colon)?, rest.get(colon + 1..)?);
    let dash = inner.iter().position(|&byte| byte == b'-')?;
    let facility = inner.get(..dash)?;
    let (number, id) = split_digits(inner.get(dash + 1..)?);
    let [digit @ b'0'..=b'7'] = number else {
        return None;
    };
    let id = match id {
        [] => id,
        [b'-', id @ ..] => id,
        _ => return None,
    };
    if facility.is_empty()
        || !facility
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    {
        return None;
    }
    let severity = Severity::from_number(u64::from(digit - b'0'))?;
    Some(ExplicitPriority {
        facility,
        id,
        severity,
        message: skip_blanks(message),
    })
}

/// `KMD_VPN_DOWN_ALARM_USER: text` gives the id and the text.
#[inline]
pub(super) fn message_id(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let [b'A'..=b'Z', b'A'..=b'Z' | b'0'..=b'9' | b'_', ..] = text else {
        return None;
    };
    let end = text.iter().position(|&byte| !is_id_byte(byte))?;
    let (id, after) = text.split_at(end);
    let [b':', rest @ ..] = after else {
        return None;
    };
    id.contains(&b'_').then_some((id, skip_blanks(rest)))
}

/// Whether the token is an id of the key management daemon, old or new.
pub(super) fn is_kmd_id(token: &[u8]) -> bool {
    (token.starts_with(b"KMD_") || token.starts_with(b"IKE_"))
        && token.iter().all(|&byte| is_id_byte(byte))
}

fn is_id_byte(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_'
}

/// A message that stands without its process: trace files of the key management daemon, which its ids tell, and lines
/// that lost it.
pub(super) fn set_without_process<'a>(record: &mut Record<'a>, id: &'a [u8], programs: &Programs) {
    record.tag = id;
    if is_kmd_id(id) {
        record.program = b"kmd";
        record.program_id = programs.lookup(b"kmd");
    }
}

/// Skips `(FPC Slot 2, PIC Slot 0)`.
pub(super) fn card_slot(text: &[u8]) -> Option<&[u8]> {
    const BYTES_MAX: usize = 48;
    let inner = text.strip_prefix(b"(")?;
    let end = inner
        .iter()
        .take(BYTES_MAX)
        .position(|&byte| byte == b')')?;
    let words = inner.get(..end)?;
    let is_slot = memchr::memmem::find(words, b"Slot").is_some();
    is_slot.then(|| inner.get(end + 1..)).flatten()
}

/// Whether the token names a card or a cluster node and not a host: `SPC5_PIC0`, `node0.fpc1`, `fpc2`.
pub(super) fn is_card(token: &[u8]) -> bool {
    if !matches!(
        token.first(),
        Some(b'S' | b's' | b'n' | b'f' | b'F' | b'P' | b'p')
    ) {
        return false;
    }
    let mut parts = token.split(|byte| matches!(byte, b'.' | b'_'));
    parts.all(|part| {
        let letters = part
            .iter()
            .position(u8::is_ascii_digit)
            .unwrap_or(part.len());
        let (kind, number) = part.split_at(letters);
        let known: [&[u8]; 6] = [b"node", b"fpc", b"pic", b"spc", b"spu", b"cpu"];
        known.iter().any(|name| kind.eq_ignore_ascii_case(name))
            && !number.is_empty()
            && number.iter().all(u8::is_ascii_digit)
    })
}
