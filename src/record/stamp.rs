//! Where a time stamp ends in a header, in the many forms that senders and collectors write. Digits are checked, ranges
//! are not: what time it means is asked later, of [`super::time`].

use super::bytes::{is_blank, skip_blanks, split_digits, split_token};
use super::time_words::{behind_day_first, foreign_month, foreign_weekday, month, zone_offset};

/// The length of the stamp that `text` begins with, 0 if it begins with none. Digits are checked, ranges are not.
#[inline]
pub(super) fn stamp_len(text: &[u8]) -> usize {
    match text.first() {
        Some(b'0'..=b'9') => match text {
            [_, 0xE6 | 0xEC, ..] | [_, _, 0xE6 | 0xEC, ..] => month_first_len(text),
            _ => numeric_stamp_len(text),
        },
        Some(b'A'..=b'Z' | b'a'..=b'z' | 0x80..) => month_stamp_len(text),
        Some(b'[') => bracket_stamp_len(text),
        _ => 0,
    }
}

fn numeric_stamp_len(text: &[u8]) -> usize {
    match text {
        // The appliance's own files: `2024 Feb 29 12:05:01`.
        [y0, y1, y2, y3, b' ', rest @ ..]
            if all_digits(&[*y0, *y1, *y2, *y3]) && !matches!(rest, [b'0'..=b'9', ..]) =>
        {
            match month_stamp_len(rest) {
                0 => 0,
                len => 5 + len,
            }
        }
        // `2024-02-29T12:05:01+00:00` and its relatives, as runit's `2024-02-29_12:05:01.12345`.
        [
            y0,
            y1,
            y2,
            y3,
            separator @ (b'-' | b'/' | b'.'),
            m0,
            m1,
            separator2,
            d0,
            d1,
            b'T' | b't' | b' ' | b'\t' | b'_' | b'-',
            rest @ ..,
        ] if separator == separator2 && all_digits(&[*y0, *y1, *y2, *y3, *m0, *m1, *d0, *d1]) => {
            match clock_len(rest) {
                0 => 0,
                len => {
                    let len = 11 + len;
                    len + offset_len(text.get(len..).unwrap_or_default())
                }
            }
        }
        // Sophos UTM: `2016:01:29-06:09:59`.
        [y0, y1, y2, y3, b':', m0, m1, b':', d0, d1, b'-', rest @ ..]
            if all_digits(&[*y0, *y1, *y2, *y3, *m0, *m1, *d0, *d1]) =>
        {
            match clock_len(rest) {
                0 => 0,
                len => 11 + len,
            }
        }
        // ISO 8601 with the day of the year: `2024-060T12:05:01Z`, and the same with other signs.
        [
            y0,
            y1,
            y2,
            y3,
            b'-' | b' ' | b':',
            d0,
            d1,
            d2,
            b'T' | b't' | b' ' | b':',
            rest @ ..,
        ] if all_digits(&[*y0, *y1, *y2, *y3, *d0, *d1, *d2]) => match clock_len(rest) {
            0 => 0,
            len => {
                let len = 9 + len;
                len + offset_len(text.get(len..).unwrap_or_default())
            }
        },
        _ => match clock_len(text) {
            // Seconds since 1970, with or without a fraction.
            0 => {
                let (digits, rest) = split_digits(text);
                let len = digits.len() + fraction_len(rest);
                let ends = text.get(len).is_some_and(|&byte| is_blank(byte));
                match digits.len() {
                    10 | 13 if ends => len,
                    8 => compact_len(text),
                    _ => day_first_len(text),
                }
            }
            // The bare time of an iked trace file. `3:04:05` may be anything.
            len if text.get(2) == Some(&b':')
                && text.get(len).is_some_and(|&byte| is_blank(byte)) =>
            {
                len
            }
            _ => 0,
        },
    }
}

/// ISO 8601's basic format, `20241210T065548Z`, and the same with a time in its extended format.
#[cold]
fn compact_len(text: &[u8]) -> usize {
    let Some((_, [b'T' | b't', time @ ..])) = text.split_at_checked(8) else {
        return 0;
    };
    match clock_len(time).max(compact_clock_len(time)) {
        0 => 0,
        clock => 9 + clock + offset_len(time.get(clock..).unwrap_or_default()),
    }
}

/// `065548`, with a fraction or not.
pub(super) fn compact_clock_len(text: &[u8]) -> usize {
    let (digits, rest) = split_digits(text);
    match digits.len() {
        6 => 6 + fraction_len(rest),
        _ => 0,
    }
}

/// `10 Dec 06:55:48`, `10. Dez. 2024 06:55:48`, `10.12.2024 06:55:48`, `10/Dec/2024:06:55:48 +0000`: the day first.
#[cold]
fn day_first_len(text: &[u8]) -> usize {
    let rest = behind_day_first(text).unwrap_or_default();
    match clock_len(rest) {
        0 => 0,
        clock => {
            let after = rest.get(clock..).unwrap_or_default();
            text.len() - after.len() + zone_and_year_len(after)
        }
    }
}

/// `Feb 29 12:05:01` with its varieties: a weekday before it, one digit for the day, a year before or after the time, a
/// zone's name after it. The weekday may be of another language.
fn month_stamp_len(text: &[u8]) -> usize {
    match month_first_len(text) {
        0 => {
            let skipped = match text {
                // `Tue, 10 Dec 2024 06:55:48 +0000`, as in a mail.
                [a, b, c, b',', b' ', ..] if weekday(&[*a, *b, *c]) => Some(5),
                [a, b, c, b' ', ..] if weekday(&[*a, *b, *c]) => Some(4),
                _ => foreign_weekday(text),
            };
            let Some(skipped) = skipped else { return 0 };
            let date = text.get(skipped..).unwrap_or_default();
            let len = match date {
                [b'0'..=b'9', ..] => day_first_len(date),
                _ => month_first_len(date),
            };
            if len == 0 { 0 } else { skipped + len }
        }
        len => len,
    }
}

#[inline]
fn month_first_len(text: &[u8]) -> usize {
    let skipped = match text {
        [a, b, c, b' ', ..] if weekday(&[*a, *b, *c]) => 4,
        [a, b, c, b',', b' ', ..] if weekday(&[*a, *b, *c]) => 5,
        _ => 0,
    };
    let text = text.get(skipped..).unwrap_or_default();
    let (mut len, day) = match text {
        [a, b, c, b' ', rest @ ..] if month(&[*a, *b, *c]).is_some() => (skipped + 4, rest),
        _ => match foreign_month(text) {
            Some((_, month)) => match text.get(month..) {
                Some([b' ', rest @ ..]) => (skipped + month + 1, rest),
                _ => return 0,
            },
            None => return 0,
        },
    };
    let rest = match day {
        [b'0'..=b'3' | b' ', b'0'..=b'9', b' ', rest @ ..] => {
            len += 3;
            rest
        }
        [b'0'..=b'9', b' ', rest @ ..] => {
            len += 2;
            rest
        }
        // `Dec 10, 2024 13:55:36`.
        [b'0'..=b'3' | b' ', b'0'..=b'9', b',', b' ', rest @ ..] => {
            len += 4;
            rest
        }
        [b'0'..=b'9', b',', b' ', rest @ ..] => {
            len += 3;
            rest
        }
        _ => return 0,
    };
    let (year, rest) = match rest {
        [y0, y1, y2, y3, b' ', rest @ ..] if all_digits(&[*y0, *y1, *y2, *y3]) => (5, rest),
        _ => (0, rest),
    };
    // The blank in place of an hour's first digit.
    let (year, rest) = match rest {
        [b' ', rest @ ..] => (year + 1, rest),
        _ => (year, rest),
    };
    match clock_len(rest) {
        0 => 0,
        clock => {
            let rest = rest.get(clock..).unwrap_or_default();
            len + year + clock + zone_and_year_len(rest)
        }
    }
}

/// What may follow the time: ` CET`, ` +0100`, ` 2024`, ` CET 2024`. Rare enough to be kept out of the way.
#[inline]
fn zone_and_year_len(text: &[u8]) -> usize {
    match text {
        [b' ', b'A'..=b'Z' | b'0'..=b'9' | b'+' | b'-', ..] | [b'+' | b'-', b'0'..=b'9', ..] => {
            let (word, rest) = split_token(skip_blanks(text));
            let before = text.len() - word.len() - rest.len();
            // The colon behind the date is no part of it.
            let word = word.strip_suffix(b":").unwrap_or(word);
            let is_offset = matches!(word, [b'+' | b'-', ..]) && offset_len(word) == word.len();
            if is_offset || zone_offset(word).is_some() {
                before + word.len() + year_len(rest)
            } else {
                year_len(text)
            }
        }
        _ => 0,
    }
}

fn year_len(text: &[u8]) -> usize {
    match text {
        [
            b' ',
            b'1' | b'2',
            b'9' | b'0',
            b'0'..=b'9',
            b'0'..=b'9',
            b' ',
            ..,
        ] => 5,
        _ => 0,
    }
}

/// `[2014-09-01 13:04:11]`, `[1733813748]`.
fn bracket_stamp_len(text: &[u8]) -> usize {
    let [b'[', inner @ ..] = text else { return 0 };
    let (digits, rest) = split_digits(inner);
    // No machine has been up for as many seconds.
    let len = match digits.len() {
        10 | 13 => digits.len() + fraction_len(rest),
        // What a web server writes behind the client, who types what follows.
        2 if matches!(inner, [_, _, _, b'A'..=b'Z' | b'a'..=b'z', ..]) => 0,
        _ => Some(numeric_stamp_len(inner))
            .filter(|&len| len >= 19)
            .unwrap_or(0),
    };
    match inner.get(len) {
        Some(b']') if len > 0 => len + 2,
        _ => 0,
    }
}

/// `12:05:01` or `3:05:01`, with a fraction or not.
#[inline]
pub(super) fn clock_len(text: &[u8]) -> usize {
    match text {
        [h0, h1, b':', m0, m1, b':', s0, s1, rest @ ..]
            if all_digits(&[*h0, *h1, *m0, *m1, *s0, *s1]) =>
        {
            8 + fraction_len(rest)
        }
        [h, b':', m0, m1, b':', s0, s1, rest @ ..] if all_digits(&[*h, *m0, *m1, *s0, *s1]) => {
            7 + fraction_len(rest)
        }
        _ => 0,
    }
}

fn fraction_len(text: &[u8]) -> usize {
    match text {
        [b'.' | b',', rest @ ..] => match split_digits(rest).0.len() {
            0 => 0,
            len => 1 + len,
        },
        _ => 0,
    }
}

/// `Z`, `+02:00`, `+0200`, `+02`; a blank before a sign is allowed.
fn offset_len(text: &[u8]) -> usize {
    match text {
        [b'Z' | b'z', ..] => 1,
        [b' ', rest @ ..] if matches!(rest, [b'+' | b'-', b'0'..=b'9', ..]) => 1 + offset_len(rest),
        [b' ', b'A'..=b'Z', b'A'..=b'Z', ..] => {
            let (word, _) = split_token(text.get(1..).unwrap_or_default());
            match zone_offset(word) {
                Some(_) => 1 + word.len(),
                None => 0,
            }
        }
        [b'+' | b'-', h0, h1, b':', m0, m1, ..] if all_digits(&[*h0, *h1, *m0, *m1]) => 6,
        [b'+' | b'-', h0, h1, m0, m1, ..] if all_digits(&[*h0, *h1, *m0, *m1]) => 5,
        [b'+' | b'-', h0, h1, ..] if all_digits(&[*h0, *h1]) => 3,
        _ => 0,
    }
}

#[inline]
pub(super) fn all_digits(bytes: &[u8]) -> bool {
    bytes.iter().all(u8::is_ascii_digit)
}

fn weekday(name: &[u8; 3]) -> bool {
    matches!(
        name,
        b"Mon" | b"Tue" | b"Wed" | b"Thu" | b"Fri" | b"Sat" | b"Sun"
    )
}
