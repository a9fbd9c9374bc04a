//! Lines that stand for several: `message repeated 5 times: [ … ]` and `last message repeated 3 times`.

use super::bytes::{number, skip_blanks, split_digits, trim, trim_end};

/// Most repetitions that one line may stand for. A daemon that writes more of one message than that has long been
/// counted as what it is; the bound keeps a forged line from moving a counter at will. What is beyond it is counted as
/// implausible.
pub const REPEAT_MAX: u32 = 10_000;

/// How often, and how many more it says that are not believed.
#[derive(Clone, Copy)]
pub(super) struct Times {
    pub(super) count: u32,
    pub(super) implausible: u64,
}

/// What such a line says.
pub(super) enum Repeat<'a> {
    /// This message, so many times.
    Message(Times, &'a [u8]),
    /// The message before this line, so many times more.
    Last(Times),
}

/// Whether the text opens like either form.
pub(super) fn is_repeat(text: &[u8]) -> bool {
    read(text).is_some()
}

/// Reads either form.
#[inline]
pub(super) fn read(text: &[u8]) -> Option<Repeat<'_>> {
    let [b'm' | b'l' | b'-', ..] = text else {
        return None;
    };
    if let Some(rest) = text.strip_prefix(b"message repeated ") {
        let (count, rest) = times(rest)?;
        let inner = skip_blanks(rest.strip_prefix(b":")?).strip_prefix(b"[")?;
        // A line that was cut has no closing bracket.
        let inner = trim_end(inner);
        return Some(Repeat::Message(
            count,
            trim(inner.strip_suffix(b"]").unwrap_or(inner)),
        ));
    }
    let rest = skip_blanks(text.strip_prefix(b"---").unwrap_or(text))
        .strip_prefix(b"last message repeated ")?;
    let (count, rest) = times(rest)?;
    matches!(trim(rest), b"" | b"---" | b".").then_some(Repeat::Last(count))
}

/// `5 times` or `1 time`, and what follows.
fn times(text: &[u8]) -> Option<(Times, &[u8])> {
    let (digits, rest) = split_digits(text);
    let said = number(digits)?;
    let rest = rest.strip_prefix(b" time")?;
    let times = Times {
        count: u32::try_from(said.clamp(1, u64::from(REPEAT_MAX))).ok()?,
        implausible: said.saturating_sub(u64::from(REPEAT_MAX)),
    };
    Some((times, rest.strip_prefix(b"s").unwrap_or(rest)))
}
