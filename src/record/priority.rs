//! The priority of a message in all its spellings: `<38>`, `<auth.info>`, `[auth.info]`, `Local0.Info`, `LOCAL1:ERR`,
//! `auth|security:info`.

use super::Record;
use super::bytes::{number, skip_blanks, split_digits};
use super::severity::{FacilityKind, Severity, facility_kind, facility_name};

/// Reads `<38>` and the blanks after it into facility and severity. Anything else is left where it is.
#[inline]
pub(super) fn priority<'a>(text: &'a [u8], record: &mut Record<'a>) -> &'a [u8] {
    let [b'<', inner @ ..] = text else {
        return text;
    };
    let (digits, after) = split_digits(inner);
    let [b'>', rest @ ..] = after else {
        return named_priority(text, record).unwrap_or(text);
    };
    if digits.len() > 3 {
        return text;
    }
    if let Some(value) = number(digits).filter(|&value| value <= 191) {
        record.facility = facility_name(value / 8);
        record.severity = Severity::from_number(value % 8);
    }
    skip_blanks(rest)
}

/// `<auth.info>` and `<4.6>` of FreeBSD's `syslogd -v`, `[auth.info]` or `(auth.info)` of a syslog-ng template.
#[cold]
pub(super) fn named_priority<'a>(text: &'a [u8], record: &mut Record<'a>) -> Option<&'a [u8]> {
    const WORDS_BYTES_MAX: usize = 24;
    let (close, words) = match text {
        [b'<', words @ ..] => (b'>', words),
        [b'[', words @ ..] => (b']', words),
        [b'(', words @ ..] => (b')', words),
        _ => return None,
    };
    let end = words
        .iter()
        .take(WORDS_BYTES_MAX)
        .position(|&byte| byte == close)?;
    let (words, rest) = words.split_at_checked(end)?;
    let rest = rest.get(1..)?;
    let (facility, severity) = words_of_priority(words).or_else(|| numbers_of_priority(words))?;
    record.facility = facility;
    record.severity = Some(severity);
    Some(skip_blanks(rest))
}

/// `4.6`: facility and severity by their numbers.
fn numbers_of_priority(words: &[u8]) -> Option<(&'static [u8], Severity)> {
    let (facility, rest) = split_digits(words);
    let (severity, rest) = split_digits(rest.strip_prefix(b".")?);
    let name = facility_name(number(facility)?);
    (rest.is_empty() && !name.is_empty())
        .then(|| Some((name, Severity::from_number(number(severity)?)?)))?
}

/// `Local0.Info`, as Kiwi and busybox write it, `LOCAL1:ERR`, and AIX' `auth|security:info`.
pub(super) fn words_of_priority(token: &[u8]) -> Option<(&[u8], Severity)> {
    let token = token.strip_suffix(b":").unwrap_or(token);
    let separator = |wanted: &[u8]| token.iter().position(|byte| wanted.contains(byte));
    let at = separator(b".:").or_else(|| separator(b"|"))?;
    let (facility, severity) = (token.get(..at)?, token.get(at + 1..)?);
    let severity = Severity::parse(severity)?;
    let facility = facility.split(|&byte| byte == b'|').next()?;
    (facility_kind(facility) != FacilityKind::None).then_some((facility, severity))
}
