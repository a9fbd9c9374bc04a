//! Headers seen before. The lines of a file differ in their stamps, pids and messages, but between a stamp and a pid the
//! same host, priority and program come again and again; so what was read there once is cached under its bytes.
//!
//! ```text
//! 2024 Feb 29 12:05:01 hsm1  local5 info  NTLS [77]: info : 0 : …
//! ╰── any such stamp ─╯╰─────── key ──────╯╰tail╯╰── message ──
//! ```
//!
//! Only headers of this form are cached, and only if [`parse`](super::parse) finds in them what does not depend on
//! the bytes of stamp, pid and message; the tests compare what comes out with `parse`. The cache is bounded: when it is
//! full, it is cleared.

use std::ops::Range;

use arrayvec::ArrayVec;
use memchr::memchr2;

use super::bytes::{digits, fits, skip_blanks, starts_with};
use super::severity::facility_name;
use super::{
    Preamble, ProgramId, Programs, Record, Severity, read, read_body, read_header, read_message,
    trim_line,
};

/// Longest key, bytes.
const KEY_BYTES_MAX: usize = 200;

/// Longest pid, digits.
const PID_DIGITS_MAX: usize = 20;

/// A header that was seen before: a number below the most that are cached, good until [`Headers::generation`] changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderId(pub u32);

/// What was read from headers, by their bytes.
#[derive(Debug)]
pub struct Headers {
    /// By hash a few entries, the latest first. A new one drives out the last, so that a look-up is bounded even if
    /// somebody sends headers whose hashes are the same.
    index: Box<[[u32; WAYS]]>,
    entries: Vec<Entry>,
    keys: Vec<u8>,
    generation: u32,
    entries_max: usize,
    last_stamp: LastStamp,
}

/// The last line's stamp with what follows it, which the next line has, too, unless the second is over.
#[derive(Debug, Default)]
struct LastStamp {
    bytes: ArrayVec<u8, STAMP_BYTES_MAX>,
    /// Its form, and its length without the blank behind it.
    kind: Option<(Stamp, usize)>,
}

/// Longest timestamp that is cached, with the blank behind it: `2024-02-29T12:05:01+01:00 `. Longer ones tell parts of
/// the second, so that they hardly come again.
const STAMP_BYTES_MAX: usize = 26;

/// Hashes, a power of two, and entries for each.
const HASHES: usize = 1 << 13;
const WAYS: usize = 4;

/// No entry.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Entry {
    /// Where the key is among the keys.
    key: Range<u32>,
    form: Form,
    /// By the place in the key.
    host: Option<Place>,
    relayed_host: Option<Place>,
    facility: Facility,
    program: Place,
    tag: Place,
    severity: Option<Severity>,
    program_id: Option<ProgramId>,
    preamble: Preamble,
}

/// Start and end in the key.
type Place = (u8, u8);

#[derive(Clone, Copy, Debug)]
enum Facility {
    /// A word in the key, or none at all.
    Word(Place),
    /// By its number.
    Number(u8),
}

/// What a key stands between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Form {
    /// The number in `<38>` before the stamp.
    priority: Option<u8>,
    stamp: Stamp,
    /// `[1234]:` follows; otherwise a colon and a blank.
    pid: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
enum Stamp {
    /// `Feb 29 12:05:01`.
    Short,
    /// `2024 Feb 29 12:05:01`.
    Year,
    /// `2024-02-29T12:05:01.003+01:00`.
    Iso,
}

/// A line that has the form, taken apart.
struct Cut<'a> {
    form: Form,
    stamp: &'a [u8],
    key: &'a [u8],
    message: &'a [u8],
}

impl Headers {
    /// A cache of at most so many headers.
    pub fn new(entries_max: usize) -> Self {
        Self {
            index: vec![[NONE; WAYS]; HASHES].into(),
            entries: Vec::new(),
            keys: Vec::new(),
            generation: 0,
            entries_max,
            last_stamp: LastStamp::default(),
        }
    }

    /// Changes when ids that were handed out mean other headers.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Reads one line as [`parse`](super::parse) does, into a record of which nothing is known yet, and says which header
    /// it has, if it is one that is cached.
    pub fn parse<'a>(
        &mut self,
        line: &'a [u8],
        programs: &Programs,
        record: &mut Record<'a>,
    ) -> Option<HeaderId> {
        record.repeat = 1;
        let line = trim_line(line);
        let Some(cut) = Cut::new(line, &mut self.last_stamp) else {
            read(line, programs, record);
            return None;
        };
        let hash = cut.hash();
        let found = self.index[hash].iter().find_map(|id| {
            let entry = self.entries.get(*id as usize)?;
            let key = self.key(entry);
            (entry.form == cut.form && key.len() == cut.key.len() && starts_with(cut.key, key))
                .then_some((*id, entry))
        });
        let Some((id, entry)) = found else {
            return self.insert(line, &cut, hash, programs, record);
        };
        let place = |place: Place| {
            cut.key
                .get(usize::from(place.0)..usize::from(place.1))
                .unwrap_or_default()
        };
        record.stamp = cut.stamp;
        record.host = entry.host.map(place);
        record.relayed_host = entry.relayed_host.map(place);
        record.facility = match entry.facility {
            Facility::Word(word) => place(word),
            Facility::Number(number) => facility_name(u64::from(number)),
        };
        record.severity = entry.severity;
        record.program = place(entry.program);
        record.program_id = entry.program_id;
        record.tag = place(entry.tag);
        read_message(cut.message, record, entry.preamble, programs);
        Some(HeaderId(id))
    }

    #[inline]
    fn key(&self, entry: &Entry) -> &[u8] {
        self.keys
            .get(entry.key.start as usize..entry.key.end as usize)
            .unwrap_or_default()
    }

    #[cold]
    fn insert<'a>(
        &mut self,
        line: &'a [u8],
        cut: &Cut<'a>,
        hash: usize,
        programs: &Programs,
        record: &mut Record<'a>,
    ) -> Option<HeaderId> {
        let message = read_header(line, record, programs);
        let message = read_body(message, record, programs);
        let preamble = programs.preamble(record.program_id);
        let id = cut.entry(record, message, preamble).map(|entry| {
            if self.entries.len() >= self.entries_max {
                self.index.fill([NONE; WAYS]);
                self.entries.clear();
                self.keys.clear();
                self.generation += 1;
            }
            let id = self.entries.len() as u32;
            let start = self.keys.len() as u32;
            self.keys.extend_from_slice(cut.key);
            self.entries.push(Entry {
                key: start..self.keys.len() as u32,
                ..entry
            });
            let ways = &mut self.index[hash];
            ways.rotate_right(1);
            ways[0] = id;
            HeaderId(id)
        });
        read_message(message, record, preamble, programs);
        id
    }
}

impl LastStamp {
    /// Reads and caches the timestamp that a line begins with, if a blank follows it.
    fn read(&mut self, line: &[u8]) -> Option<(Stamp, usize)> {
        let found = stamp(line)?;
        if let Some(bytes) = line.get(..=found.1)
            && let Ok(bytes) = ArrayVec::try_from(bytes)
        {
            self.bytes = bytes;
            self.kind = Some(found);
        }
        Some(found)
    }
}

impl<'a> Cut<'a> {
    #[inline]
    fn new(line: &'a [u8], last: &mut LastStamp) -> Option<Self> {
        let (priority, line) = priority(line)?;
        let (kind, len) = match last.kind {
            Some(known) if starts_with(line, &last.bytes) => known,
            _ => last.read(line)?,
        };
        let (stamp, rest) = line.split_at_checked(len)?;
        let window = rest.get(..KEY_BYTES_MAX).unwrap_or(rest);
        let end = memchr2(b'[', b':', window)?;
        let (key, tail) = rest.split_at_checked(end)?;
        let (pid, message) = match tail {
            [b':', message @ ..] if message.first() == Some(&b' ') => (false, message),
            [b'[', pid @ ..] => {
                let digits = match pid.first_chunk::<8>() {
                    Some(eight) if let count @ ..8 = digits(u64::from_le_bytes(*eight)) => count,
                    _ => pid
                        .iter()
                        .take(PID_DIGITS_MAX + 1)
                        .take_while(|byte| byte.is_ascii_digit())
                        .count(),
                };
                match pid.get(digits..)? {
                    [b']', b':', message @ ..] if (1..=PID_DIGITS_MAX).contains(&digits) => {
                        (true, message)
                    }
                    _ => return None,
                }
            }
            _ => return None,
        };
        Some(Self {
            form: Form {
                priority,
                stamp: kind,
                pid,
            },
            stamp,
            key,
            message,
        })
    }

    /// Of the key's beginning, middle and end: what tells most hosts, priorities and programs apart.
    #[inline]
    fn hash(&self) -> usize {
        const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
        let mix = |sum: u64, bytes: &[u8; 8]| {
            (sum.rotate_left(23) ^ u64::from_le_bytes(*bytes)).wrapping_mul(MULTIPLIER)
        };
        let key = self.key;
        let middle = key.get(key.len() / 2..).and_then(<[u8]>::first_chunk);
        let sum = match (key.first_chunk::<8>(), middle, key.last_chunk::<8>()) {
            (Some(head), Some(middle), Some(tail)) => mix(mix(mix(0, head), middle), tail),
            _ => key.iter().fold(0, |sum, byte| mix(sum, &[*byte; 8])),
        };
        // The upper bits are the best mixed.
        (sum >> 40) as usize % HASHES
    }

    /// What is to be cached of a line that was read, if it is all in the key.
    fn entry(&self, record: &Record<'a>, message: &'a [u8], preamble: Preamble) -> Option<Entry> {
        let same = |a: &[u8], b: &[u8]| a.as_ptr() == b.as_ptr() && a.len() == b.len();
        // A parenthesis may open what closes behind the key, and what follows an unknown name's colon may be the real
        // tag.
        let open = self.key.first() == Some(&b'(') || self.key.windows(2).any(|two| two == b" (");
        let sure = self.form.pid || record.program_id.is_some();
        if open
            || !sure
            || !same(record.stamp, self.stamp)
            || !same(skip_blanks(message), skip_blanks(self.message))
            || !record.structured.is_empty()
            || record.program.is_empty()
        {
            return None;
        }
        Some(Entry {
            key: 0..0,
            form: self.form,
            host: match record.host {
                Some(host) => Some(self.place(host)?),
                None => None,
            },
            relayed_host: match record.relayed_host {
                Some(host) => Some(self.place(host)?),
                None => None,
            },
            facility: match (self.place(record.facility), self.form.priority) {
                (Some(word), _) => Facility::Word(word),
                (None, Some(priority))
                    if facility_name(u64::from(priority / 8)) == record.facility =>
                {
                    Facility::Number(priority / 8)
                }
                _ => return None,
            },
            program: self.place(record.program)?,
            tag: self.place(record.tag)?,
            severity: record.severity,
            program_id: record.program_id,
            preamble,
        })
    }

    /// Where a part of the line is in the key.
    fn place(&self, part: &[u8]) -> Option<Place> {
        if part.is_empty() {
            return Some((0, 0));
        }
        let (key, part) = (self.key.as_ptr_range(), part.as_ptr_range());
        if part.start < key.start || part.end > key.end {
            return None;
        }
        let at = |end: *const u8| u8::try_from(end as usize - key.start as usize).ok();
        Some((at(part.start)?, at(part.end)?))
    }
}

/// The number in `<38>`, and the line behind it; no number for a line without one, and nothing for what is no priority.
#[inline]
fn priority(line: &[u8]) -> Option<(Option<u8>, &[u8])> {
    let digit = |byte: u8| byte.wrapping_sub(b'0');
    let (number, rest) = match line {
        [b'<', a @ b'0'..=b'9', b'>', rest @ ..] => (digit(*a), rest),
        [b'<', a @ b'1'..=b'9', b @ b'0'..=b'9', b'>', rest @ ..] => {
            (10 * digit(*a) + digit(*b), rest)
        }
        [
            b'<',
            b'1',
            a @ b'0'..=b'9',
            b @ b'0'..=b'9',
            b'>',
            rest @ ..,
        ] => (100 + 10 * digit(*a) + digit(*b), rest),
        [b'<', ..] => return None,
        _ => return Some((None, line)),
    };
    (number <= 191).then_some((Some(number), rest))
}

/// The stamp that a line begins with, if a blank follows it.
#[inline]
fn stamp(line: &[u8]) -> Option<(Stamp, usize)> {
    match line {
        [b'A'..=b'S', ..] => Some((Stamp::Short, short_stamp_len(line)?)),
        [b'1' | b'2', _, _, _, b'-', ..] => Some((Stamp::Iso, iso_stamp_len(line)?)),
        _ => {
            let year = year_len(line)?;
            Some((Stamp::Year, year + short_stamp_len(line.get(year..)?)?))
        }
    }
}

/// The length of `2024 `.
#[inline]
fn year_len(text: &[u8]) -> Option<usize> {
    match text {
        [b'1' | b'2', y1, y2, y3, b' ', ..]
            if [y1, y2, y3].iter().all(|byte| byte.is_ascii_digit()) =>
        {
            Some(5)
        }
        _ => None,
    }
}

/// The length of `Feb 29 12:05:01`, with a blank behind it.
#[inline]
fn short_stamp_len(text: &[u8]) -> Option<usize> {
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

/// The length of `2024-02-29T12:05:01+01:00`, with or without a fraction of the second, and a blank behind it.
#[inline]
fn iso_stamp_len(line: &[u8]) -> Option<usize> {
    let (date, rest) = line.split_first_chunk::<16>()?;
    let ([month, hour], []) = date.as_chunks::<8>() else {
        return None;
    };
    let (seconds, rest) = rest.split_first_chunk::<3>()?;
    let plain = fits(month, b"0000-00-")
        && fits(hour, b"00T00:00")
        && matches!(seconds, [b':', b'0'..=b'9', b'0'..=b'9']);
    if !plain {
        return None;
    }
    let fraction = match rest {
        [b'.', digits @ ..] => match digits.iter().take(10).position(|b| !b.is_ascii_digit())? {
            0 => return None,
            len => 1 + len,
        },
        _ => 0,
    };
    let zone = match rest.get(fraction..)? {
        [b'Z', b' ', ..] => 1,
        [b'+' | b'-', h0, h1, b':', m0, m1, b' ', ..]
            if [h0, h1, m0, m1].iter().all(|byte| byte.is_ascii_digit()) =>
        {
            6
        }
        _ => return None,
    };
    Some(19 + fraction + zone)
}
