//! The words of a timestamp: months and weekdays in English and other languages, and zones.

use super::bytes::split_digits;

/// The month's number, 1 to 12.
#[inline]
pub(super) fn month(name: &[u8; 3]) -> Option<i8> {
    match &[name[0] | 0x20, name[1] | 0x20, name[2] | 0x20] {
        b"jan" => Some(1),
        b"feb" => Some(2),
        b"mar" => Some(3),
        b"apr" => Some(4),
        b"may" => Some(5),
        b"jun" => Some(6),
        b"jul" => Some(7),
        b"aug" => Some(8),
        b"sep" => Some(9),
        b"oct" => Some(10),
        b"nov" => Some(11),
        b"dec" => Some(12),
        _ => None,
    }
}

/// The months that other languages call otherwise than English, as the C library abbreviates them: German, French,
/// Spanish, Italian, Dutch, Portuguese, Russian, Polish, Czech, and the Scandinavian languages. A dot behind is ignored, and
/// a name in full begins with one of these.
const FOREIGN_MONTHS: &[(&str, i8)] = &[
    ("janv", 1),
    ("ene", 1),
    ("gen", 1),
    ("янв", 1),
    ("sty", 1),
    ("led", 1),
    ("jän", 1),
    ("févr", 2),
    ("fév", 2),
    ("fev", 2),
    ("фев", 2),
    ("lut", 2),
    ("úno", 2),
    ("mär", 3),
    ("märz", 3),
    ("mrz", 3),
    ("mars", 3),
    ("mrt", 3),
    ("maart", 3),
    ("мар", 3),
    ("bře", 3),
    ("avr", 4),
    ("avril", 4),
    ("abr", 4),
    ("апр", 4),
    ("kwi", 4),
    ("dub", 4),
    ("mai", 5),
    ("mei", 5),
    ("mag", 5),
    ("maj", 5),
    ("мая", 5),
    ("май", 5),
    ("kvě", 5),
    ("juin", 6),
    ("juni", 6),
    ("giu", 6),
    ("июн", 6),
    ("июня", 6),
    ("cze", 6),
    ("čen", 6),
    ("čer", 6),
    ("juil", 7),
    ("juli", 7),
    ("lug", 7),
    ("июл", 7),
    ("июля", 7),
    ("lip", 7),
    ("čec", 7),
    ("červenec", 7),
    ("července", 7),
    ("août", 8),
    ("ago", 8),
    ("авг", 8),
    ("sie", 8),
    ("srp", 8),
    ("sept", 9),
    ("set", 9),
    ("сен", 9),
    ("сент", 9),
    ("wrz", 9),
    ("zář", 9),
    ("okt", 10),
    ("ott", 10),
    ("out", 10),
    ("окт", 10),
    ("paź", 10),
    ("říj", 10),
    ("ноя", 11),
    ("нояб", 11),
    ("lis", 11),
    ("dez", 12),
    ("déc", 12),
    ("dic", 12),
    ("дек", 12),
    ("gru", 12),
    ("pro", 12),
    ("des", 12),
];

/// Longest name of a month, bytes, with its dot.
const FOREIGN_MONTH_BYTES_MAX: usize = 24;

/// The month that a word of another language names, and the length of the word.
#[cold]
pub(super) fn foreign_month(text: &[u8]) -> Option<(i8, usize)> {
    let len = text
        .iter()
        .take(FOREIGN_MONTH_BYTES_MAX)
        .position(|&byte| byte == b' ')?;
    // A day follows it, which most words lack.
    if !matches!(text.get(len + 1), Some(b'0'..=b'9' | b' ')) {
        return None;
    }
    let word = std::str::from_utf8(text.get(..len)?).ok()?;
    let word = word.strip_suffix('.').unwrap_or(word);
    // Chinese, Japanese and Korean count the months: `12月`, `12월`.
    if let Some(number) = word.strip_suffix(['月', '월']) {
        let number = number.parse().ok()?;
        return (1..=12).contains(&number).then_some((number, len));
    }
    if word.len() < 3 || !word.chars().all(char::is_alphabetic) {
        return None;
    }
    let lower: String = word.chars().flat_map(char::to_lowercase).collect();
    let foreign = FOREIGN_MONTHS
        .iter()
        .filter(|(name, _)| lower.starts_with(name))
        .max_by_key(|(name, _)| name.len());
    // English names in full or with a dot, as French `sept.`, begin with the three letters.
    let number = match (foreign, lower.as_bytes()) {
        (Some((_, number)), _) => Some(*number),
        (None, [a, b, c, ..]) => month(&[*a, *b, *c]),
        _ => None,
    };
    number.map(|number| (number, len))
}

/// Weekdays of other languages, in German, French, Spanish, Italian, Dutch, Portuguese and Russian.
const FOREIGN_WEEKDAYS: &[&str] = &[
    "mo", "di", "mi", "do", "fr", "sa", "so", "lun", "mar", "mer", "jeu", "ven", "sam", "dim",
    "mié", "jue", "vie", "sáb", "dom", "gio", "sab", "ma", "wo", "vr", "za", "zo", "seg", "ter",
    "qua", "qui", "sex", "пн", "вт", "ср", "чт", "пт", "сб", "вс",
];

/// The length of a weekday of another language, with what follows it up to the next word.
#[cold]
pub(super) fn foreign_weekday(text: &[u8]) -> Option<usize> {
    const BYTES_MAX: usize = 8;
    let mut bytes = text.iter().take(BYTES_MAX);
    let len = bytes.position(|&byte| byte == b' ')?;
    let word = std::str::from_utf8(text.get(..len)?).ok()?;
    let lower: String = word.chars().flat_map(char::to_lowercase).collect();
    let name = lower.trim_end_matches(['.', ',']);
    FOREIGN_WEEKDAYS.contains(&name).then_some(len + 1)
}

/// What follows a date with the day first: `10 Dec `, `10. Dez. 2024 `, `10.12.2024 `, `10/Dec/2024:`.
pub(super) fn behind_day_first(text: &[u8]) -> Option<&[u8]> {
    let (day, rest) = split_digits(text);
    if !matches!(day.len(), 1 | 2) {
        return None;
    }
    if let Some(rest) = behind_month_and_year(rest) {
        return Some(rest);
    }
    // A web server's `10/Dec/2024:`, and `10-Dec-2024 ` of others.
    if let Some(([s0 @ (b'/' | b'-'), a, b, c, s1, year @ .., b':' | b' '], rest)) =
        rest.split_at_checked(10)
        && s0 == s1
        && month(&[*a, *b, *c]).is_some()
        && year.iter().all(u8::is_ascii_digit)
    {
        return Some(rest);
    }
    let rest = rest.strip_prefix(b".").unwrap_or(rest).strip_prefix(b" ")?;
    let month_len = match rest {
        [a, b, c, b' ', ..] if month(&[*a, *b, *c]).is_some() => 3,
        _ => foreign_month(rest)?.1,
    };
    let rest = rest.get(month_len..)?.strip_prefix(b" ")?;
    match rest.split_at_checked(5) {
        Some(([year @ .., b' '], rest)) if year.iter().all(u8::is_ascii_digit) => Some(rest),
        _ => Some(rest),
    }
}

/// What follows `.12.2024 `, `/9/2024\t` or `-12-2024 `.
fn behind_month_and_year(text: &[u8]) -> Option<&[u8]> {
    let (sign, rest) = text.split_first()?;
    let (month, rest) = split_digits(rest);
    let (other, rest) = rest.split_first()?;
    let (year, rest) = split_digits(rest);
    let is_date = b"./-".contains(sign)
        && b"./-".contains(other)
        && matches!(month.len(), 1 | 2)
        && year.len() == 4;
    match rest {
        [b' ' | b'\t', rest @ ..] if is_date => Some(rest),
        _ => None,
    }
}

/// What a zone's name that stands after a time says: minutes east of UTC, or nothing where a name means several zones
/// (`IST`, `CST`), so that the configured one is used. `None` for any other word.
pub(super) fn zone_offset(word: &[u8]) -> Option<Option<i32>> {
    Some(Some(match word {
        b"UTC" | b"GMT" | b"Z" | b"WET" => 0,
        b"CET" | b"MET" | b"WEST" | b"BST" => 60,
        b"CEST" | b"MEST" | b"EET" | b"SAST" => 120,
        b"EEST" | b"MSK" => 180,
        b"SGT" | b"HKT" | b"AWST" => 480,
        b"JST" | b"KST" => 540,
        b"ACST" => 570,
        b"AEST" => 600,
        b"AEDT" => 660,
        b"NZST" => 720,
        b"NZDT" => 780,
        b"BRT" => -180,
        b"EDT" => -240,
        b"EST" | b"CDT" => -300,
        b"MDT" => -360,
        b"MST" | b"PDT" => -420,
        b"PST" | b"AKDT" => -480,
        b"AKST" => -540,
        b"HST" => -600,
        // The half of the day says nothing of the zone.
        b"IST" | b"CST" | b"AM" | b"PM" => return Some(None),
        [b'U', b'T', b'C', offset @ ..] | [b'G', b'M', b'T', offset @ ..] => {
            minutes_of_offset(offset)?
        }
        _ => return None,
    }))
}

/// `+1`, `-03`, `+0530` or `+05:30` as minutes.
fn minutes_of_offset(text: &[u8]) -> Option<i32> {
    let (sign, digits) = match text {
        [b'+', digits @ ..] => (1, digits),
        [b'-', digits @ ..] => (-1, digits),
        _ => return None,
    };
    let digit = |byte: u8| byte.is_ascii_digit().then(|| i32::from(byte - b'0'));
    let (hours, minutes) = match *digits {
        [hour] => (digit(hour)?, 0),
        [tens, hour] => (digit(tens)? * 10 + digit(hour)?, 0),
        [tens, hour, b':', ten, minute] | [tens, hour, ten, minute] => (
            digit(tens)? * 10 + digit(hour)?,
            digit(ten)? * 10 + digit(minute)?,
        ),
        _ => return None,
    };
    Some(sign * (hours * 60 + minutes))
}
