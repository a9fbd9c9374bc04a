//! The header that nearly every line has, read without asking what else it might be:
//!
//! ```text
//! 2024 Feb 29 12:05:01 hsm1  local5 info  NTLS [77]: …
//! Feb 29 12:05:01 host sshd[1]: …
//! ```
//!
//! This is a short cut for [`syslog::header`](super::syslog::header), which reads these lines to the same record (the
//! tests compare the two) but asks more of each token. Whatever is not exactly of this form is left to it.

use super::bytes::fits;
use super::severity::{Severity, is_facility_key};
use super::tag::ENDS_NAME;
use super::{Programs, Record};

/// Reads such a header and returns the message; `None`, with the record as it was, if the line has another one.
#[inline]
pub(super) fn header<'a>(
    text: &'a [u8],
    record: &mut Record<'a>,
    programs: &Programs,
) -> Option<&'a [u8]> {
    let (stamp, rest) = text.split_at_checked(stamp_len(text)?)?;
    let rest = skip_two(rest);
    let host_len = rest
        .iter()
        .position(|&byte| !IN_PLAIN_HOST[usize::from(byte)])?;
    let (host, rest) = rest.split_at_checked(host_len)?;
    // A short word in capitals may be a zone's name; a word that is a facility or a severity may be no host.
    let is_host = match host {
        [b'A'..=b'Z', ..] => host.len() > 4,
        [b'a'..=b'z', ..] => true,
        _ => false,
    };
    if !is_host || may_be_priority(host) {
        return None;
    }
    let mut rest = strip_one_or_two(rest)?;
    let mut words = None;
    if let Some((facility_key, facility_len)) = word(rest)
        && is_facility_key(facility_key)
    {
        let (facility, after) = rest.split_at_checked(facility_len)?;
        let after = strip_one_or_two(after)?;
        let (severity_key, severity_len) = word(after)?;
        let severity = Severity::from_key(severity_key)?;
        words = Some((facility, severity));
        rest = strip_one_or_two(after.get(severity_len..)?)?;
    }
    let (name, message) = tag(rest)?;
    let id = programs.lookup(name)?;
    record.stamp = stamp;
    record.host = Some(host);
    if let Some((facility, severity)) = words {
        record.facility = facility;
        record.severity = Some(severity);
    }
    record.program = name;
    record.program_id = Some(id);
    Some(message)
}

/// The length of `Feb 29 12:05:01`, with or without a year before it, and a blank behind it.
#[inline]
fn stamp_len(text: &[u8]) -> Option<usize> {
    let year = year_len(text).unwrap_or(0);
    Some(year + short_stamp_len(text.get(year..)?)?)
}

/// The length of `2024 `.
#[inline]
pub(super) fn year_len(text: &[u8]) -> Option<usize> {
    match text {
        [b'1' | b'2', y1, y2, y3, b' ', ..] if digits([y1, y2, y3]) => Some(5),
        _ => None,
    }
}

/// The length of `Feb 29 12:05:01`, with a blank behind it.
#[inline]
pub(super) fn short_stamp_len(text: &[u8]) -> Option<usize> {
    let (head, rest) = text.split_first_chunk::<8>()?;
    let [
        m0,
        m1,
        m2,
        b' ',
        b' ' | b'0'..=b'3',
        b'0'..=b'9',
        b' ',
        b'0'..=b'9',
    ] = *head
    else {
        return None;
    };
    if !fits(rest.first_chunk()?, b"0:00:00 ") {
        return None;
    }
    let month = matches!(
        &[m0, m1, m2],
        b"Jan"
            | b"Feb"
            | b"Mar"
            | b"Apr"
            | b"May"
            | b"Jun"
            | b"Jul"
            | b"Aug"
            | b"Sep"
            | b"Oct"
            | b"Nov"
            | b"Dec"
    );
    month.then_some(15)
}

#[inline]
fn digits<const N: usize>(bytes: [&u8; N]) -> bool {
    bytes
        .iter()
        .fold(true, |all, byte| all & byte.is_ascii_digit())
}

/// The text behind one blank or two.
#[inline]
fn strip_one_or_two(text: &[u8]) -> Option<&[u8]> {
    match text {
        [b' ', b' ', rest @ ..] | [b' ', rest @ ..] => Some(rest),
        _ => None,
    }
}

#[inline]
fn skip_two(text: &[u8]) -> &[u8] {
    strip_one_or_two(text).unwrap_or(text)
}

/// The first word, if it has at most eight bytes and a blank behind it, as its [`key`](super::bytes::key) and length.
#[inline]
pub(super) fn word(text: &[u8]) -> Option<(u64, usize)> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let (chunk, rest) = text.split_first_chunk::<8>()?;
    let bytes = u64::from_le_bytes(*chunk);
    // The lowest byte that is a blank sets its highest bit here.
    let without_blanks = bytes ^ (ONES * u64::from(b' '));
    let blanks = without_blanks.wrapping_sub(ONES) & !without_blanks & (ONES << 7);
    if blanks == 0 {
        return (rest.first() == Some(&b' ')).then_some((bytes, 8));
    }
    let len = blanks.trailing_zeros() / 8;
    Some((bytes & !(u64::MAX << (len * 8)), len as usize))
}

/// Whether a host may be a word of the priority, in any case, alone or as `local5.info`.
#[inline]
fn may_be_priority(host: &[u8]) -> bool {
    // None of the words ends in a digit, but for `local5`.
    if matches!(host, [.., b'0'..=b'9']) && !matches!(host, [b'L' | b'l', _, _, _, _, _]) {
        return false;
    }
    let last = match host.iter().rposition(|&byte| byte == b'.') {
        Some(at) => host.get(at + 1..).unwrap_or_default(),
        None => host,
    };
    Severity::parse(last).is_some()
        || super::severity::facility_kind(last) != super::severity::FacilityKind::None
}

/// The name and the message of `NTLS[77]: …`, `NTLS [77]: …` and `ipmievd: …`.
#[inline]
fn tag(text: &[u8]) -> Option<(&[u8], &[u8])> {
    const PID_DIGITS_MAX: usize = 20;
    let end = text.iter().position(|&byte| ENDS_NAME[usize::from(byte)])?;
    let (name, after) = text.split_at_checked(end)?;
    let pid = match after {
        [b':', message @ ..] if message.first() == Some(&b' ') => return Some((name, message)),
        [b'[', pid @ ..] | [b' ', b'[', pid @ ..] => pid,
        _ => return None,
    };
    let digits = pid
        .iter()
        .take(PID_DIGITS_MAX)
        .position(|byte| !byte.is_ascii_digit())?;
    match pid.get(digits..)? {
        [b']', b':', message @ ..] if digits > 0 => Some((name, message)),
        _ => None,
    }
}

/// Letters, digits and what else names hosts; no colon, no slash, which make a host that must be looked at.
const IN_PLAIN_HOST: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    table[b'.' as usize] = true;
    table[b'-' as usize] = true;
    table[b'_' as usize] = true;
    table
};
