//! Small steps over a line. Every byte up to the blank counts as a blank, so control characters never stick to a token.

/// Whether the byte separates tokens: the blank and all ASCII control characters.
#[inline]
pub(super) fn is_blank(byte: u8) -> bool {
    byte <= b' '
}

/// The no-break space in UTF-8. Lines that went through a vendor's document or a web page have it where the appliance
/// wrote a blank, and it separates tokens like one.
const NO_BREAK_SPACE: [u8; 2] = [0xc2, 0xa0];

/// Whether the text is empty or begins with a blank.
#[inline]
pub(super) fn ends_token(text: &[u8]) -> bool {
    match text {
        [] => true,
        [first, ..] => is_blank(*first) || text.starts_with(&NO_BREAK_SPACE),
    }
}

/// The text without the blanks before it.
#[inline]
pub(super) fn skip_blanks(text: &[u8]) -> &[u8] {
    let mut rest = text;
    loop {
        rest = match rest {
            [first, tail @ ..] if is_blank(*first) => tail,
            [0xc2, 0xa0, tail @ ..] => tail,
            _ => return rest,
        };
    }
}

/// The text without the blanks after it.
#[inline]
pub(super) fn trim_end(text: &[u8]) -> &[u8] {
    let mut rest = text;
    loop {
        rest = match rest {
            [head @ .., last] if is_blank(*last) => head,
            [head @ .., 0xc2, 0xa0] => head,
            _ => return rest,
        };
    }
}

/// The text without blanks at either end.
pub(super) fn trim(text: &[u8]) -> &[u8] {
    trim_end(skip_blanks(text))
}

/// `text.starts_with(literal)` in place: the literals are short, and a call of `memcmp` costs more than to compare.
#[inline]
pub(crate) fn starts_with(text: &[u8], literal: &[u8]) -> bool {
    let Some(text) = text.get(..literal.len()) else {
        return false;
    };
    if let (Some(text_tail), Some(literal_tail)) =
        (text.last_chunk::<8>(), literal.last_chunk::<8>())
    {
        // Eight at a time; the last eight may overlap those before.
        let (chunks, _) = text.as_chunks::<8>();
        let (others, _) = literal.as_chunks::<8>();
        return chunks.iter().zip(others).all(|(a, b)| a == b) && text_tail == literal_tail;
    }
    if let (Some(head), Some(tail), Some(other_head), Some(other_tail)) = (
        text.first_chunk::<4>(),
        text.last_chunk::<4>(),
        literal.first_chunk::<4>(),
        literal.last_chunk::<4>(),
    ) {
        return head == other_head && tail == other_tail;
    }
    text.iter().zip(literal).all(|(a, b)| a == b)
}

/// Splits at the first blank; the blank stays with the rest.
#[inline]
pub(super) fn split_token(text: &[u8]) -> (&[u8], &[u8]) {
    let blank = |&(at, &byte): &(usize, &u8)| {
        is_blank(byte) || (byte == 0xc2 && text.get(at + 1) == Some(&0xa0))
    };
    let end = text
        .iter()
        .enumerate()
        .find(blank)
        .map_or(text.len(), |(at, _)| at);
    text.split_at(end)
}

/// Splits after the leading digits.
#[inline]
pub(super) fn split_digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

/// How many of eight bytes, the lowest first, are digits before the first that is none.
#[inline]
pub(crate) fn digits(bytes: u64) -> usize {
    const EACH: u64 = 0x0101_0101_0101_0101;
    // The low half of a digit is at most 9, and the high half is 3. A carry only gets to bytes behind one that is none.
    let folded = bytes ^ (EACH * 0x30);
    let others = (folded | folded.wrapping_add(EACH * 6)) & (EACH * 0xf0);
    others.trailing_zeros() as usize / 8
}

/// Where the first digit of a text is.
#[inline]
pub(crate) fn first_digit(text: &[u8]) -> Option<usize> {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let (chunks, tail) = text.as_chunks::<8>();
    for (chunk, at) in chunks.iter().zip((0..).step_by(8)) {
        // A digit becomes at most 9, and only what is more sets its highest bit.
        let folded = u64::from_le_bytes(*chunk) ^ (EACH * 0x30);
        let others = ((folded & (EACH * 0x7f)) + EACH * 0x76) | folded;
        let digits = !others & (EACH * 0x80);
        if digits != 0 {
            return Some(at + digits.trailing_zeros() as usize / 8);
        }
    }
    let at = tail.iter().position(u8::is_ascii_digit)?;
    Some(text.len() - tail.len() + at)
}

/// Whether eight bytes have a form, in which `0` stands for any digit and everything else for itself.
#[inline]
pub(super) fn fits(bytes: &[u8; 8], form: &[u8; 8]) -> bool {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let signs = u64::from_le_bytes(form.map(|byte| if byte == b'0' { 0 } else { 0xff }));
    // At a digit's place the difference is at most 9, elsewhere there is none.
    let difference = u64::from_le_bytes(*bytes) ^ u64::from_le_bytes(*form);
    let over = difference | (difference & !signs).wrapping_add(EACH * 6);
    difference & signs == 0 && over & (EACH * 0xf0) == 0
}

/// A decimal number of digits alone; a number too large for `u64` becomes its maximum.
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, &byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then(|| sum.saturating_mul(10).saturating_add(u64::from(digit)))
    })
}

/// `text` without `prefix`, ASCII case ignored.
pub(super) fn strip_prefix_ignore_case<'a>(text: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (head, tail) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(tail)
}

/// Up to eight bytes as one number with ASCII letters folded to lower case, for comparing short words in one step.
/// Words that are longer give `None`. Folding maps some punctuation too, so a caller compares with words of letters
/// and digits alone.
#[inline]
pub(super) fn short_key(word: &[u8]) -> Option<u64> {
    const FOLD: u64 = 0x2020_2020_2020_2020;
    let len = word.len();
    let bytes = match (word.first_chunk::<4>(), word.last_chunk::<4>()) {
        (Some(head), Some(tail)) if len <= 8 => {
            // The two halves may overlap; they agree where they do.
            let (head, tail) = (u32::from_le_bytes(*head), u32::from_le_bytes(*tail));
            u64::from(head) | u64::from(tail) << ((len - 4) * 8)
        }
        _ => match *word {
            [a] => u64::from(a),
            [a, b] => u64::from(a) | u64::from(b) << 8,
            [a, b, c] => u64::from(a) | u64::from(b) << 8 | u64::from(c) << 16,
            _ => return None,
        },
    };
    Some(bytes | FOLD >> ((8 - len) * 8))
}

/// The key of a word known at compile time, see [`short_key`]. The word is in lower case and at most eight bytes long.
pub(super) const fn key(word: &str) -> u64 {
    let bytes = word.as_bytes();
    let mut key = [0; 8];
    let mut at = 0;
    while at < bytes.len() {
        key[at] = bytes[at] | 0x20;
        at += 1;
    }
    u64::from_le_bytes(key)
}
