//! What time a stamp means. Reading a header only marks the stamp ([`super::stamp`]); the calendar is asked when
//! somebody wants the time, so a date that never was cannot reject a line.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Span, Timestamp};

use super::Record;
use super::bytes::{number, skip_blanks, split_digits, split_token, trim};
use super::stamp::{all_digits, clock_len, compact_clock_len, stamp_len};
use super::time_words::{foreign_month, month, zone_offset};

/// How far in the future a stamp without a year may lie before it is taken for last year's: the sender's clock may run
/// ahead, and its zone may not be the one that was configured.
const AHEAD_MAX: SignedDuration = SignedDuration::from_hours(24);

/// The same for a stamp without any date.
const AHEAD_TODAY_MAX: SignedDuration = SignedDuration::from_hours(1);

/// What a stamp that leaves something out is read by.
#[derive(Clone, Debug)]
pub struct Clock {
    /// The zone of stamps without an offset.
    pub zone: TimeZone,
    /// About the time of receipt; chooses the year of stamps without one.
    pub now: Timestamp,
}

impl Record<'_> {
    /// The time that the header states, or `None` if it states none, or one that never was (29 February 2026).
    ///
    /// An offset in the stamp is honoured; Clavister's bracketed date is UTC; everything else is in the clock's zone.
    /// A stamp without a year gets the latest year that leaves it at most a day ahead of `clock.now`, a stamp without a
    /// date the latest day that leaves it at most an hour ahead.
    pub fn timestamp(&self, clock: &Clock) -> Option<Timestamp> {
        let stamp = trim(self.stamp);
        if let [b'[', inner @ .., b']'] = stamp {
            return civil_stamp(
                inner,
                &Clock {
                    zone: TimeZone::UTC,
                    now: clock.now,
                },
            );
        }
        civil_stamp(stamp, clock)
    }
}

/// The time at the beginning of a line, behind its priority if it has one: what whoever collected it wrote there, whatever
/// the message says.
pub fn outer_timestamp(line: &[u8], clock: &Clock) -> Option<Timestamp> {
    let text = match line.strip_prefix(b"<") {
        Some(rest) => {
            let rest = rest.get(rest.iter().take(4).position(|byte| *byte == b'>')? + 1..)?;
            // The version of RFC 5424.
            rest.strip_prefix(b"1 ").unwrap_or(rest)
        }
        None => line,
    };
    match stamp_len(text) {
        0 => None,
        len => civil_stamp(trim(text.get(..len)?), clock),
    }
}

/// Reads a stamp of any of the forms that [`stamp_len`] knows.
fn civil_stamp(stamp: &[u8], clock: &Clock) -> Option<Timestamp> {
    let half = match stamp {
        [stamp @ .., b' ', half @ (b'A' | b'P'), b'M'] => Some((stamp, *half)),
        _ => None,
    };
    let Some((stamp, half)) = half else {
        return stamp_of_day(stamp, clock);
    };
    // Noon and midnight are both 12.
    let time = stamp_of_day(stamp, clock)?;
    let hours = match (half, clock.zone.to_datetime(time).hour()) {
        (b'A', 12) => -12,
        (b'P', 0..=11) => 12,
        _ => 0,
    };
    time.checked_add(SignedDuration::from_hours(hours)).ok()
}

/// The same with the hours of a whole day.
fn stamp_of_day(stamp: &[u8], clock: &Clock) -> Option<Timestamp> {
    if let Some((year, month, day, time)) = common_stamp(stamp) {
        return in_year(year, month, day, time, clock);
    }
    if let Some((date, [b'T' | b't', time @ ..])) = stamp.split_at_checked(8)
        && all_digits(date)
    {
        return at_offset(compact_date(date)?, time, clock);
    }
    if let [
        y0,
        y1,
        y2,
        y3,
        _,
        d0,
        d1,
        d2,
        b'T' | b't' | b' ' | b':',
        rest @ ..,
    ] = stamp
        && all_digits(&[*y0, *y1, *y2, *y3, *d0, *d1, *d2])
    {
        let year = small(&[*y0, *y1, *y2, *y3])?;
        let day = Date::new(year, 1, 1)
            .ok()?
            .checked_add(Span::new().days(i64::from(small(&[*d0, *d1, *d2])?) - 1))
            .ok()
            .filter(|day| day.year() == year)?;
        return at_offset(day, rest, clock);
    }
    let (day, rest) = split_digits(stamp);
    if let [
        b'/' | b'-',
        a,
        b,
        c,
        b'/' | b'-',
        y0,
        y1,
        y2,
        y3,
        b':' | b' ',
        rest @ ..,
    ] = rest
        && let Some(month) = month(&[*a, *b, *c])
    {
        let day = Date::new(small(&[*y0, *y1, *y2, *y3])?, month, month_or_day(day)?);
        return at_offset(day.ok()?, rest, clock);
    }
    let (first, rest) = split_token(stamp);
    if let Some(len) = first
        .iter()
        .position(|byte| matches!(byte, b'-' | b'/'))
        .filter(|&len| len == 4)
    {
        return iso_stamp(stamp, len, clock);
    }
    if let [_, _, _, _, b'.' | b':', _, _, b'.' | b':', ..] = first {
        return iso_stamp(stamp, 4, clock);
    }
    if rest.is_empty() {
        return match clock_len(first) {
            0 => epoch(first),
            _ => time_today(first, clock),
        };
    }
    words_stamp(stamp, clock)
}

/// `Feb 29 12:05:01`, perhaps behind `2024 `, as most logs have it: year, month, day and time.
fn common_stamp(stamp: &[u8]) -> Option<(Option<i16>, i8, i8, Time)> {
    let (year, date) = match stamp {
        [b'0'..=b'9', _, _, _, b' ', date @ ..] => (Some(small(&stamp[..4])?), date),
        _ => (None, stamp),
    };
    let [
        m0,
        m1,
        m2,
        b' ',
        tens @ (b' ' | b'0'..=b'3'),
        ones,
        b' ',
        clock @ ..,
    ] = date
    else {
        return None;
    };
    let [_, _, b':', _, _, b':', _, _] = clock else {
        return None;
    };
    let day = match tens {
        b' ' => month_or_day(&[*ones])?,
        tens => month_or_day(&[*tens, *ones])?,
    };
    Some((year, month(&[*m0, *m1, *m2])?, day, time_of(clock)?))
}

/// `20241210`.
fn compact_date(date: &[u8]) -> Option<Date> {
    let (year, rest) = date.split_at_checked(4)?;
    let (month, day) = rest.split_at_checked(2)?;
    Date::new(small(year)?, month_or_day(month)?, month_or_day(day)?).ok()
}

fn iso_stamp(stamp: &[u8], year_len: usize, clock: &Clock) -> Option<Timestamp> {
    let (date, rest) = stamp.split_at_checked(10)?;
    let year = small(date.get(..year_len)?)?;
    let day = Date::new(
        year,
        month_or_day(date.get(5..7)?)?,
        month_or_day(date.get(8..10)?)?,
    )
    .ok()?;
    at_offset(day, rest.get(1..)?, clock)
}

/// A time of that day, with its offset or in the clock's zone.
fn at_offset(day: Date, rest: &[u8], clock: &Clock) -> Option<Timestamp> {
    let len = clock_len(rest).max(compact_clock_len(rest));
    let (time, offset) = rest.split_at_checked(len)?;
    let civil = DateTime::from_parts(day, time_of(time)?);
    match skip_blanks(offset) {
        [] => zoned(civil, &clock.zone),
        [b'Z' | b'z', ..] => Offset::UTC.to_timestamp(civil).ok(),
        name @ [b'A'..=b'Z', ..] => match zone_offset(name)? {
            Some(minutes) => Offset::from_seconds(minutes * 60)
                .ok()?
                .to_timestamp(civil)
                .ok(),
            None => zoned(civil, &clock.zone),
        },
        offset => Offset::from_seconds(offset_minutes(offset)? * 60)
            .ok()?
            .to_timestamp(civil)
            .ok(),
    }
}

/// `+02:00`, `+0200` or `+02` as minutes.
fn offset_minutes(offset: &[u8]) -> Option<i32> {
    let [sign @ (b'+' | b'-'), digits @ ..] = offset else {
        return None;
    };
    let hours = i32::from(month_or_day(digits.get(..2)?)?);
    let minutes = match digits.get(2..)? {
        [] => 0,
        [b':', minutes @ ..] | minutes => i32::from(month_or_day(minutes)?),
    };
    let minutes = hours * 60 + minutes;
    Some(if *sign == b'-' { -minutes } else { minutes })
}

/// Month, day, time and perhaps a year and a zone, in any of the orders that [`stamp_len`] lets through.
fn words_stamp(stamp: &[u8], clock: &Clock) -> Option<Timestamp> {
    let (mut year, mut month_number, mut day, mut time, mut offset) =
        (None, None, None, None, None);
    let mut rest = skip_blanks(stamp);
    while !rest.is_empty() {
        let (word, tail) = split_token(rest);
        rest = skip_blanks(tail);
        match word {
            // A weekday of another language may look like a month, and stands before it.
            [a, b, c] if month(&[*a, *b, *c]).is_some() => month_number = month(&[*a, *b, *c]),
            [_, _, _, _] if all_digits(word) => year = Some(small(word)?),
            [digits @ .., b'.' | b','] | digits if digits.len() <= 2 && all_digits(digits) => {
                day = Some(month_or_day(digits)?);
            }
            [d0, d1, b'.', m0, m1, b'.', y @ ..] if y.len() == 4 => {
                day = Some(month_or_day(&[*d0, *d1])?);
                month_number = Some(month_or_day(&[*m0, *m1])?);
                year = Some(small(y)?);
            }
            [b'+' | b'-', ..] => offset = offset_minutes(word),
            _ if time.is_none() && clock_len(word) > 0 => {
                let (clock, rest) = word.split_at_checked(clock_len(word))?;
                time = Some(time_of(clock)?);
                offset = offset_minutes(rest);
            }
            _ if time.is_some() => offset = zone_offset(word).flatten(),
            _ => {
                let padded = stamp.get(stamp.len() - tail.len() - word.len()..)?;
                let foreign = foreign_month(padded).map(|(number, _)| number);
                month_number = foreign.or(month_number);
            }
        }
    }
    let other_clock;
    let clock = match offset {
        Some(minutes) => {
            other_clock = Clock {
                zone: TimeZone::fixed(Offset::from_seconds(minutes * 60).ok()?),
                now: clock.now,
            };
            &other_clock
        }
        None => clock,
    };
    in_year(year, month_number?, day?, time?, clock)
}

/// That day of a year, or of the latest one that leaves it at most [`AHEAD_MAX`] ahead.
fn in_year(year: Option<i16>, month: i8, day: i8, time: Time, clock: &Clock) -> Option<Timestamp> {
    let in_year = |year| {
        let day = Date::new(year, month, day).ok()?;
        zoned(DateTime::from_parts(day, time), &clock.zone)
    };
    if let Some(year) = year {
        return in_year(year);
    }
    let this_year = clock.now.to_zoned(clock.zone.clone()).year();
    let latest = clock.now.checked_add(AHEAD_MAX).ok()?;
    [this_year + 1, this_year, this_year - 1]
        .into_iter()
        .filter_map(in_year)
        .find(|&time| time <= latest)
}

/// A time without a date is today's, or yesterday's when today it is still to come.
fn time_today(word: &[u8], clock: &Clock) -> Option<Timestamp> {
    let time = time_of(word)?;
    let today = clock.now.to_zoned(clock.zone.clone()).date();
    let latest = clock.now.checked_add(AHEAD_TODAY_MAX).ok()?;
    [1, 0, -1]
        .into_iter()
        .filter_map(|days| {
            let day = today.checked_add(Span::new().days(days)).ok()?;
            zoned(DateTime::from_parts(day, time), &clock.zone)
        })
        .find(|&time| time <= latest)
}

/// Seconds (ten digits) or milliseconds (thirteen) since 1970, seconds with an optional fraction.
fn epoch(word: &[u8]) -> Option<Timestamp> {
    let (digits, fraction) = split_digits(word);
    let count = i64::try_from(number(digits)?).ok()?;
    match digits.len() {
        10 => Timestamp::new(count, nanoseconds(fraction)?).ok(),
        13 => Timestamp::from_millisecond(count).ok(),
        _ => None,
    }
}

/// `12:05:01.25`, `3:05:01` or `120501.25`; a leap second is read as the second before it.
fn time_of(word: &[u8]) -> Option<Time> {
    let hours = if word.get(1) == Some(&b':') { 1 } else { 2 };
    let colon = usize::from(word.get(hours) == Some(&b':'));
    let (minutes, seconds) = (hours + colon, hours + 2 + 2 * colon);
    let hour = month_or_day(word.get(..hours)?)?;
    let minute = month_or_day(word.get(minutes..minutes + 2)?)?;
    let second = month_or_day(word.get(seconds..seconds + 2)?)?;
    let second = if second == 60 { 59 } else { second };
    let fraction = nanoseconds(word.get(seconds + 2..)?)?;
    Time::new(hour, minute, second, fraction).ok()
}

/// `.25` or `,25` as nanoseconds; digits after the ninth are cut off.
fn nanoseconds(fraction: &[u8]) -> Option<i32> {
    let digits = match fraction {
        [] => return Some(0),
        [b'.' | b',', digits @ ..] => digits,
        _ => return None,
    };
    let padded = digits
        .iter()
        .copied()
        .chain(std::iter::repeat(b'0'))
        .take(9);
    padded
        .map(|byte| i32::from(byte.wrapping_sub(b'0')))
        .try_fold(0, |sum, digit| (digit < 10).then(|| sum * 10 + digit))
}

fn month_or_day(digits: &[u8]) -> Option<i8> {
    i8::try_from(number(digits)?).ok()
}

fn small(digits: &[u8]) -> Option<i16> {
    i16::try_from(number(digits)?).ok()
}

fn zoned(civil: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    zone.to_timestamp(civil).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // Zones by their rules, since a bare machine has no zone files.
    const UTC: &str = "UTC0";
    const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";
    const NEW_YORK: &str = "EST5EDT,M3.2.0,M11.1.0";

    fn read(stamp: &str, zone: &str, now: &str) -> String {
        let clock = Clock {
            zone: TimeZone::posix(zone).unwrap(),
            now: now.parse().unwrap(),
        };
        let record = Record {
            stamp: stamp.as_bytes(),
            ..Record::default()
        };
        record
            .timestamp(&clock)
            .map_or("never".to_owned(), |time| time.to_string())
    }

    #[test]
    fn what_a_stamp_leaves_out_comes_from_the_clock() {
        let cases = [
            // The turn of the year, from both sides.
            (
                "Dec 31 23:59:59",
                UTC,
                "2026-01-01T00:00:10Z",
                "2025-12-31T23:59:59Z",
            ),
            (
                "Jan  1 00:00:01",
                UTC,
                "2025-12-31T23:59:50Z",
                "2026-01-01T00:00:01Z",
            ),
            (
                "Jan  1 00:30:00",
                BERLIN,
                "2025-12-31T23:40:00Z",
                "2025-12-31T23:30:00Z",
            ),
            (
                "Jan  3 00:00:00",
                UTC,
                "2025-12-31T00:00:00Z",
                "2025-01-03T00:00:00Z",
            ),
            (
                "Nov 20 12:00:00",
                UTC,
                "2026-11-20T11:00:00Z",
                "2026-11-20T12:00:00Z",
            ),
            (
                "Nov 22 12:00:00",
                UTC,
                "2026-11-20T11:00:00Z",
                "2025-11-22T12:00:00Z",
            ),
            // A leap day belongs to a leap year or to none.
            (
                "Feb 29 12:05:01",
                UTC,
                "2024-03-01T00:00:00Z",
                "2024-02-29T12:05:01Z",
            ),
            (
                "Feb 29 12:05:01",
                UTC,
                "2025-01-15T00:00:00Z",
                "2024-02-29T12:05:01Z",
            ),
            ("Feb 29 12:05:01", UTC, "2026-11-20T00:00:00Z", "never"),
            ("2026 Feb 29 12:05:01", UTC, "2026-11-20T00:00:00Z", "never"),
            (
                "2026-02-29T12:05:01+00:00",
                UTC,
                "2026-11-20T00:00:00Z",
                "never",
            ),
            // The zone holds where no offset is written.
            (
                "2024 Feb 29 12:05:01",
                BERLIN,
                "2026-11-20T00:00:00Z",
                "2024-02-29T11:05:01Z",
            ),
            (
                "Jul  1 12:00:00",
                NEW_YORK,
                "2026-11-20T00:00:00Z",
                "2026-07-01T16:00:00Z",
            ),
            (
                "Jul  1 12:00:00 UTC",
                NEW_YORK,
                "2026-11-20T00:00:00Z",
                "2026-07-01T12:00:00Z",
            ),
            (
                "2024-02-29 12:05:01,5",
                BERLIN,
                "2026-11-20T00:00:00Z",
                "2024-02-29T11:05:01.5Z",
            ),
            (
                "2024-02-29T12:05:01.123456789123-0530",
                BERLIN,
                "2026-11-20T00:00:00Z",
                "2024-02-29T17:35:01.123456789Z",
            ),
            (
                "[2014-09-01 13:04:11]",
                BERLIN,
                "2026-11-20T00:00:00Z",
                "2014-09-01T13:04:11Z",
            ),
            (
                "1131567306",
                BERLIN,
                "2026-11-20T00:00:00Z",
                "2005-11-09T20:15:06Z",
            ),
            // A bare time is today's unless that is still to come.
            (
                "19:13:59",
                UTC,
                "2026-11-20T20:00:00Z",
                "2026-11-20T19:13:59Z",
            ),
            (
                "19:13:59",
                UTC,
                "2026-11-20T08:00:00Z",
                "2026-11-19T19:13:59Z",
            ),
            (
                "00:00:05",
                UTC,
                "2026-11-20T23:59:50Z",
                "2026-11-21T00:00:05Z",
            ),
            // An hour that the clocks leave out is read as the one after it.
            (
                "2026 Mar 29 02:30:00",
                BERLIN,
                "2026-11-20T00:00:00Z",
                "2026-03-29T01:30:00Z",
            ),
            ("", UTC, "2026-11-20T00:00:00Z", "never"),
            ("0000-00-00T00:00:00Z", UTC, "2026-11-20T00:00:00Z", "never"),
            (
                "9999-12-31T23:59:59-23:59",
                UTC,
                "2026-11-20T00:00:00Z",
                "never",
            ),
        ];
        for (stamp, zone, now, expected) in cases {
            assert_eq!(
                read(stamp, zone, now),
                expected,
                "{stamp} in {zone} at {now}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_common_stamp_is_read_as_one_of_words(
            year in "|[0-9]{4} ",
            month in "Jan|Feb|Jun|dec|Abc",
            day in "[ 0-3][0-9]",
            time in "[0-6][0-9]:[0-6][0-9]:[0-6][0-9]",
            zone in prop::sample::select(&[UTC, BERLIN, NEW_YORK][..]),
            now in 0_i64..4_000_000_000,
        ) {
            let stamp = format!("{year}{month} {day} {time}");
            let clock = Clock {
                zone: TimeZone::posix(zone).unwrap(),
                now: Timestamp::from_second(now).unwrap(),
            };
            let stamp = stamp.as_bytes();
            prop_assert_eq!(civil_stamp(stamp, &clock), words_stamp(stamp, &clock));
        }
    }
}
