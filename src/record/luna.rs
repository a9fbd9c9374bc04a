//! What a Luna appliance puts before its messages: the mark of a trap test, and a severity and an error code of the
//! application.

use super::Record;
use super::bytes::{
    ends_token, is_blank, short_key, skip_blanks, split_digits, strip_prefix_ignore_case,
};
use super::severity::Severity;

/// Removes `***TEST :`, with or without `SEQNO_10000 :` before or after it, and tells whether it was there.
pub(super) fn test_mark(text: &[u8]) -> Option<&[u8]> {
    let unnumbered = sequence(text);
    let rest = strip_prefix_ignore_case(unnumbered.unwrap_or(text), b"***TEST")?;
    if rest
        .first()
        .is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    {
        return None;
    }
    let rest = after_colon(rest);
    Some(sequence(rest).unwrap_or(rest))
}

/// The text behind `SEQNO_10000 :`.
fn sequence(text: &[u8]) -> Option<&[u8]> {
    let (digits, rest) = split_digits(strip_prefix_ignore_case(text, b"SEQNO_")?);
    (!digits.is_empty()).then(|| after_colon(rest))
}

/// The text behind blanks, a colon and blanks, each of which may be missing.
fn after_colon(text: &[u8]) -> &[u8] {
    let rest = skip_blanks(text);
    skip_blanks(rest.strip_prefix(b":").unwrap_or(rest))
}

/// Reads `info : 0 : ` into the second severity and the code and returns the rest, if a message begins so. A hexadecimal
/// code does not need the second colon (`error : 0xc0000002 Fail to …`), since the appliance leaves it out.
#[inline]
pub(super) fn severity_and_code<'a>(text: &'a [u8], record: &mut Record<'a>) -> Option<&'a [u8]> {
    // Those of all words for severities, and of `audit`.
    let initial = text.first()? | 0x20;
    if !matches!(
        initial,
        b'a' | b'c' | b'd' | b'e' | b'i' | b'n' | b'p' | b'w'
    ) {
        return None;
    }
    match word(text) {
        Some((_, len)) => {
            let (word, rest) = text.split_at_checked(len)?;
            match rest {
                [b' ', b':', b' ', code @ ..] => {
                    let usual = usual_code(word, code, record);
                    if usual.is_some() {
                        return usual;
                    }
                }
                // Behind the word, or within it, a colon would have to be.
                [_, next, ..]
                    if !is_blank(*next)
                        && !matches!(next, b':' | 0xc2)
                        && word.iter().all(|byte| *byte != b':') =>
                {
                    return None;
                }
                _ => {}
            }
        }
        // Longer than eight letters are `emergency`, `informational` and `notification`.
        None => match text.iter().take(9).find(|byte| !byte.is_ascii_alphabetic()) {
            Some(end) if !is_blank(*end) && !matches!(end, b':' | 0xc2) => return None,
            None if text.len() >= 9 && !matches!(initial, b'e' | b'i' | b'n') => return None,
            _ => {}
        },
    }
    read_severity_and_code(text, record)
}

/// The first word, if it has at most eight bytes and a blank behind it, as its [`key`](super::bytes::key) and length.
#[inline]
fn word(text: &[u8]) -> Option<(u64, usize)> {
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

/// A short cut for the form that nearly every message has: `info : 0 : ` or `error : 0xc0000711 : `, with one blank each.
/// `code` is what stands behind the first colon.
#[inline]
fn usual_code<'a>(word: &'a [u8], code: &'a [u8], record: &mut Record<'a>) -> Option<&'a [u8]> {
    let severity = Severity::from_key(short_key(word)?)?;
    let code_len = match code {
        [b'0', b' ', ..] => 1,
        [b'0', b'x', digits @ ..] => {
            let len = digits.iter().position(|byte| !byte.is_ascii_hexdigit())?;
            if len == 0 {
                return None;
            }
            2 + len
        }
        _ => return None,
    };
    let (code, rest) = code.split_at_checked(code_len)?;
    let message = rest.strip_prefix(b" : ")?;
    if message
        .first()
        .is_none_or(|byte| is_blank(*byte) || *byte == 0xc2)
    {
        return None;
    }
    record.app_severity = word;
    record.code = code;
    record.severity = record.severity.or(Some(severity));
    Some(message)
}

#[cold]
fn read_severity_and_code<'a>(text: &'a [u8], record: &mut Record<'a>) -> Option<&'a [u8]> {
    const WORD_BYTES_MAX: usize = 13;
    let end = text
        .iter()
        .take(WORD_BYTES_MAX + 1)
        .position(|byte| !byte.is_ascii_alphabetic())?;
    let (word, after) = text.split_at_checked(end)?;
    let code = skip_blanks(skip_blanks(after).strip_prefix(b":")?);
    let (code_len, hexadecimal) = match code {
        [b'0', b'x' | b'X', digits @ ..] => {
            let len = digits
                .iter()
                .position(|byte| !byte.is_ascii_hexdigit())
                .unwrap_or(digits.len());
            if len == 0 {
                return None;
            }
            (2 + len, true)
        }
        _ => match split_digits(code).0.len() {
            0 => return None,
            len => (len, false),
        },
    };
    let (code, after) = code.split_at_checked(code_len)?;
    let rest = match skip_blanks(after) {
        [b':', rest @ ..] => skip_blanks(rest),
        rest if hexadecimal && ends_token(after) => rest,
        [] => after,
        _ => return None,
    };
    let severity = Severity::parse(word);
    if severity.is_none() && !word.eq_ignore_ascii_case(b"audit") {
        return None;
    }
    record.app_severity = word;
    record.code = code;
    record.severity = record.severity.or(severity);
    Some(rest)
}
