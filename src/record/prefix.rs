//! What stands before or in place of the first timestamp of some senders, and before the tag of some relays.

use super::bytes::{ends_token, skip_blanks, split_digits, split_token};
use super::host;
use super::stamp::{clock_len, stamp_len};

/// `- 1131567306 2005.11.09 en14 ` before the real header: a label, seconds since 1970, a date, a node.
pub(super) fn epoch_prefix(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let [b'-' | b'A'..=b'Z', ..] = text else {
        return None;
    };
    let (_, rest) = split_token(text);
    let (epoch, rest) = split_token(skip_blanks(rest));
    let (date, rest) = split_token(skip_blanks(rest));
    let [_, _, _, _, b'.', _, _, b'.', _, _] = date else {
        return None;
    };
    if epoch.len() != 10 || !epoch.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // The node comes again in the header that follows.
    let (_, rest) = split_token(skip_blanks(rest));
    Some((epoch, rest))
}

/// `Sty 29 12:05:01`: a word in place of the month, a day and a time, at the start of a line. The time is unknown, but
/// the word is no host.
pub(super) fn foreign_stamp(text: &[u8]) -> Option<(&[u8], &[u8])> {
    const MONTH_BYTES_MAX: usize = 24;
    let (month, rest) = split_token(text);
    let (day, rest) = split_token(skip_blanks(rest));
    let time = skip_blanks(rest);
    let is_word = month.len() <= MONTH_BYTES_MAX
        && month
            .iter()
            .all(|&byte| byte.is_ascii_alphabetic() || byte == b'.' || byte >= 0x80);
    let len = clock_len(time);
    if !is_word || !matches!(day, [b'0'..=b'9'] | [b'0'..=b'3', b'0'..=b'9']) || len == 0 {
        return None;
    }
    let rest = time.get(len..)?;
    let stamp = text.get(..text.len() - rest.len())?;
    ends_token(rest).then_some((stamp, rest))
}

/// What follows a number and a colon, and whether the number is there.
pub(super) fn without_number(text: &[u8]) -> Option<(&[u8], bool)> {
    let (number, rest) = split_digits(text);
    let rest = match rest {
        [b'.', rest @ ..] => split_digits(rest).1,
        _ => rest,
    };
    let rest = rest.strip_prefix(b":")?;
    ends_token(rest).then(|| (skip_blanks(rest), !number.is_empty()))
}

/// The date behind the mark of a clock that is not set.
pub(super) fn behind_clock_mark(text: &[u8]) -> Option<&[u8]> {
    let stamp = text
        .strip_prefix(b"*")
        .or_else(|| text.strip_prefix(b"."))?;
    (stamp_len(stamp) > 0).then_some(stamp)
}

/// `gw1: .Feb 29 12:05:01`: the host, and the date behind it.
pub(super) fn host_before_stamp(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (token, rest) = split_token(text);
    let host = token.strip_suffix(b":")?;
    let rest = skip_blanks(rest);
    let stamp = behind_clock_mark(rest).or_else(|| (stamp_len(rest) > 0).then_some(rest))?;
    host::is_plausible(host).then_some((host, stamp))
}

/// The host of `Message forwarded from hsm1: `, as AIX writes before what another host sent, and what follows.
#[cold]
pub(super) fn forwarded_host(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (host, rest) = split_token(text.strip_prefix(b"Message forwarded from ")?);
    Some((host.strip_suffix(b":")?, rest))
}
