//! What a Luna appliance puts before its messages: the mark of a trap test, and a severity and an error code of the
//! application.

use super::Record;
use super::bytes::{
    ends_token, is_blank, key, short_key, skip_blanks, split_digits, strip_prefix_ignore_case,
};
use super::ordinary::word;
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

/// Reads `info : 0 : ` into the second severity and the code and returns the rest. A hexadecimal code does not need the
/// second colon (`error : 0xc0000002 Fail to …`), since the appliance leaves it out.
#[inline]
pub(super) fn severity_and_code<'a>(text: &'a [u8], record: &mut Record<'a>) -> &'a [u8] {
    const AUDIT: u64 = key("audit");
    let letters = |text: &[u8]| text.iter().all(u8::is_ascii_alphabetic);
    let severity = match word(text) {
        Some((_, len)) => {
            let word = text.get(..len).unwrap_or_default();
            let folded = short_key(word);
            match folded.and_then(Severity::from_key) {
                Some(severity) => Some((severity, len)),
                // A whole word that is no severity; else a colon or a tab may have ended one.
                None if !word.is_empty() && folded != Some(AUDIT) && letters(word) => return text,
                None => None,
            }
        }
        // Longer than eight letters are `emergency`, `informational` and `notification`.
        None => match text.get(..9) {
            Some(nine) if letters(nine) && !matches!(nine[0] | 0x20, b'e' | b'i' | b'n') => {
                return text;
            }
            _ => None,
        },
    };
    severity
        .and_then(|(severity, len)| usual_severity_and_code(text, severity, len, record))
        .or_else(|| read_severity_and_code(text, record))
        .unwrap_or(text)
}

/// A short cut for the form that nearly every message has: `info : 0 : ` or `error : 0xc0000711 : `, with one blank each.
/// The severity and the length of its word are known.
#[inline]
fn usual_severity_and_code<'a>(
    text: &'a [u8],
    severity: Severity,
    word_len: usize,
    record: &mut Record<'a>,
) -> Option<&'a [u8]> {
    let (word, rest) = text.split_at_checked(word_len)?;
    let code = rest.strip_prefix(b" : ")?;
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

#[inline]
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
