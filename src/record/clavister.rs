//! Clavister: cOS Core's `[date] EFW: CATEGORY: prio=…` and cOS Stream's `IPSEC: id=… severity=…`. The bracketed date is
//! read where all dates are; here is what the message says about its severity.

use super::bytes::{skip_blanks, split_token};
use super::severity::Severity;
use super::time::clock_len;
use super::{Programs, Record};

/// How many `key=value` words at the start of a cOS Stream message may hold the severity.
const WORDS_MAX: usize = 6;

/// The severity that a message of cOS Core states, which counts upwards from 0 for debug: `CONN: prio=1 id=…`.
pub(super) fn core_severity(message: &[u8]) -> Option<Severity> {
    let (first, rest) = split_token(message);
    let word = if first.starts_with(b"prio=") {
        first
    } else {
        split_token(skip_blanks(rest)).0
    };
    match word.strip_prefix(b"prio=")? {
        [digit @ b'0'..=b'7'] => Severity::from_number(u64::from(7 - (digit - b'0'))),
        _ => None,
    }
}

/// The same of a message of cOS Stream.
pub(super) fn stream_severity(message: &[u8]) -> Option<Severity> {
    let mut rest = message;
    for _ in 0..WORDS_MAX {
        let (word, after) = split_token(skip_blanks(rest));
        let at = word.iter().position(|&byte| byte == b'=')?;
        let (name, value) = (word.get(..at)?, word.get(at + 1..)?);
        if name.eq_ignore_ascii_case(b"severity") {
            return Severity::parse(
                value
                    .strip_prefix(b"\"")
                    .unwrap_or(value)
                    .split(|&byte| byte == b'"')
                    .next()?,
            );
        }
        rest = after;
    }
    None
}

/// Whether a message is one of cOS Core 15 as InControl exports it: `id=1802022 event=ike_sa_failed …`.
pub(super) fn is_export(message: &[u8]) -> bool {
    let (id, rest) = split_token(message);
    let is_id = id
        .strip_prefix(b"id=")
        .is_some_and(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit));
    is_id && skip_blanks(rest).starts_with(b"event=")
}

/// Enters the program of cOS Core, `EFW`.
pub(super) fn set_program(record: &mut Record<'_>, programs: &Programs) {
    record.program = b"EFW";
    record.program_id = programs.lookup(b"EFW");
}

/// Skips `13:04:11] `: a relay took the first half of the bracketed date for a tag and dropped it.
pub(super) fn torn_stamp(text: &[u8]) -> Option<&[u8]> {
    match clock_len(text) {
        0 => None,
        len => text.get(len..)?.strip_prefix(b"]"),
    }
}
