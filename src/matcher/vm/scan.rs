//! Reads the small things that templates are made of: blanks, digits, classes of bytes.

use memchr::{memchr, memchr2, memchr3, memmem};

use crate::record::{digits, starts_with};
use crate::rules::Class;

/// What is left of a text behind a literal that it begins with.
#[inline]
pub(super) fn strip<'t>(text: &'t [u8], literal: &[u8]) -> Option<&'t [u8]> {
    match starts_with(text, literal) {
        true => text.get(literal.len()..),
        false => None,
    }
}

/// The same, ASCII case ignored.
#[inline]
pub(super) fn strip_any_case<'t>(text: &'t [u8], literal: &[u8]) -> Option<&'t [u8]> {
    let (found, left) = text.split_at_checked(literal.len())?;
    found.eq_ignore_ascii_case(literal).then_some(left)
}

/// The length of the run of blanks that a text starts with. A no-break space is one: web pages, from which lines are
/// copied, are full of them.
#[inline]
pub(in crate::matcher) fn blanks(text: &[u8]) -> usize {
    // One or none, nearly always.
    match text {
        [b'!'..=b'~', ..] => return 0,
        [b' ', b'!'..=b'~', ..] => return 1,
        _ => {}
    }
    let mut at = 0;
    loop {
        match &text[at..] {
            [b' ' | b'\t', ..] => at += 1,
            [0xC2, 0xA0, ..] => at += 2,
            _ => return at,
        }
    }
}

/// The text without the blanks that it ends with.
fn trim_blanks(mut text: &[u8]) -> &[u8] {
    while let [rest @ .., b' ' | b'\t'] | [rest @ .., 0xC2, 0xA0] = text {
        text = rest;
    }
    text
}

/// The length of the run of bytes of a class that a text starts with.
#[inline]
pub(super) fn run(class: Class, text: &[u8]) -> usize {
    if class == Class::Digit {
        return digits_of(text);
    }
    let table = table(class);
    text.iter()
        .position(|&byte| !table[usize::from(byte)])
        .unwrap_or(text.len())
}

/// How many digits a text starts with.
#[inline]
pub(super) fn digits_of(text: &[u8]) -> usize {
    if let Some(eight) = text.first_chunk::<8>()
        && let count @ ..8 = digits(u64::from_le_bytes(*eight))
    {
        return count;
    }
    let digit = |byte: &&u8| byte.is_ascii_digit();
    text.iter().take_while(digit).count()
}

/// The least and the greatest length of a dotted quad at the start of a text. Only the last number may end earlier: a
/// dot must follow the others.
#[inline]
pub(super) fn quad(text: &[u8]) -> Option<(usize, usize)> {
    let (mut at, mut dots) = (0, 0);
    loop {
        let rest = text.get(at..)?;
        let count = digits_of(rest).min(3);
        if count == 0 {
            return None;
        }
        if dots == 3 {
            return Some((at + 1, at + count));
        }
        if rest.get(count) != Some(&b'.') {
            return None;
        }
        at += count + 1;
        dots += 1;
    }
}

/// Finds where what follows a text of any length may start.
#[derive(Clone, Debug)]
pub(super) enum Prefilter {
    One(u8),
    Two(u8, u8),
    Three(u8, u8, u8),
    /// These bytes.
    Text(memmem::Finder<'static>),
    /// Blanks, at least one if it is `true`, and then these bytes.
    BlanksText(bool, memmem::Finder<'static>),
    /// Blanks, and behind all of them a byte of this set.
    Blanks(Box<FirstSet>),
    /// A byte of this set.
    Any(Box<FirstSet>),
    /// The end of the message.
    End,
}

impl Prefilter {
    /// The first place from `from` on, and where the search for the next one begins: what follows matches at no place
    /// between them if it does not match at the first. None if there is none: the message was then read to its end.
    #[inline]
    pub(super) fn find(&self, text: &[u8], from: usize) -> Option<(usize, usize)> {
        let rest = text.get(from..)?;
        let at = match self {
            Prefilter::One(a) => memchr(*a, rest)?,
            Prefilter::Two(a, b) => memchr2(*a, *b, rest)?,
            Prefilter::Three(a, b, c) => memchr3(*a, *b, *c, rest)?,
            Prefilter::Text(finder) => finder.find(rest)?,
            Prefilter::BlanksText(required, finder) => {
                let mut behind = 0;
                loop {
                    let text = behind + finder.find(&rest[behind..])?;
                    let blanks = trim_blanks(&rest[..text]).len();
                    if !required || blanks < text {
                        return Some((from + blanks, from + text + 1));
                    }
                    behind = text + 1;
                }
            }
            Prefilter::Blanks(first) => {
                let mut at = 0;
                loop {
                    let start = at + memchr3(b' ', b'\t', 0xC2, &rest[at..])?;
                    let end = start + blanks(&rest[start..]);
                    if start < end && first.may_start(&rest[end..]) {
                        return Some((from + start, from + end));
                    }
                    at = end.max(start + 1);
                }
            }
            Prefilter::Any(first) => match rest.iter().position(|byte| first.holds(*byte)) {
                Some(at) => at,
                None if first.end => rest.len(),
                None => return None,
            },
            Prefilter::End => rest.len(),
        };
        Some((from + at, from + at + 1))
    }
}

/// The bytes with which a match may begin, or that it may be empty. Too many rather than too few.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::matcher) struct FirstSet {
    bytes: [u64; 4],
    /// At the end of the message, too.
    pub(in crate::matcher) end: bool,
}

impl FirstSet {
    pub(in crate::matcher) const END: FirstSet = FirstSet {
        bytes: [0; 4],
        end: true,
    };

    pub(super) fn of(holds: impl Fn(u8) -> bool) -> FirstSet {
        let mut first = FirstSet::default();
        for byte in (0..=u8::MAX).filter(|byte| holds(*byte)) {
            first.bytes[usize::from(byte >> 6)] |= 1 << (byte & 63);
        }
        first
    }

    /// All bytes, and the end.
    pub(in crate::matcher) fn full() -> FirstSet {
        FirstSet {
            bytes: [u64::MAX; 4],
            end: true,
        }
    }

    pub(super) fn or(self, other: FirstSet) -> FirstSet {
        FirstSet {
            bytes: std::array::from_fn(|at| self.bytes[at] | other.bytes[at]),
            end: self.end || other.end,
        }
    }

    pub(super) fn meets(self, other: FirstSet) -> bool {
        let bytes = (0..4).any(|at| self.bytes[at] & other.bytes[at] != 0);
        bytes || (self.end && other.end)
    }

    /// Whether a text may begin so.
    #[inline]
    pub(super) fn may_start(&self, text: &[u8]) -> bool {
        text.first().map_or(self.end, |byte| self.holds(*byte))
    }

    #[inline]
    pub(in crate::matcher) fn holds(&self, byte: u8) -> bool {
        self.bytes[usize::from(byte >> 6)] >> (byte & 63) & 1 != 0
    }
}

/// The class as a table, made at compile time.
pub(super) fn table(class: Class) -> &'static [bool; 256] {
    macro_rules! tables {
        ($($class:ident),*) => {
            match class {
                $(Class::$class => {
                    static TABLE: [bool; 256] = {
                        let mut table = [false; 256];
                        let mut byte = 0;
                        while byte < 256 {
                            table[byte] = Class::$class.holds(byte as u8);
                            byte += 1;
                        }
                        table
                    };
                    &TABLE
                })*
            }
        };
    }
    tables!(Digit, Hex, Ip6, Name, Word, Unquoted, Sign, PortMark, X)
}
