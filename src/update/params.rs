//! Reads `name=value` parameters, which structured data and many messages have.

use std::borrow::Cow;

use memchr::memchr2;

/// The first of these names that a text gives a value to, by its place, and that value: `name=value` or `name="value"`; a
/// quote or bracket in a quoted value is escaped by a backslash. Names are compared without case, and text inside of
/// quotes is never taken for a name.
pub(super) fn param<'t>(text: &'t [u8], mut names: &[String]) -> Option<(usize, Cow<'t, [u8]>)> {
    let mut best = None;
    let mut at = 0;
    // A word begins here or behind, and whether it may begin right here.
    let (mut floor, mut here) = (0, true);
    while !names.is_empty()
        && let Some(found) = memchr2(b'"', b'=', text.get(at..).unwrap_or_default())
    {
        at += found;
        if text[at] == b'"' {
            at = quote_end(text, at + 1) + 1;
            (floor, here) = (at, false);
            continue;
        }
        let parts = |byte: &u8| matches!(byte, b' ' | b'\t' | b',' | b'[' | b']' | b'(' | b';');
        let before = &text[floor..at];
        let word = match before.iter().rposition(parts) {
            Some(part) => Some(&before[part + 1..]),
            None => here.then_some(before),
        };
        let is_quoted = text.get(at + 1) == Some(&b'"');
        let (start, end) = if is_quoted {
            (at + 2, quote_end(text, at + 2))
        } else {
            let rest = &text[at + 1..];
            let parts = |byte: &u8| matches!(byte, b' ' | b'\t' | b',' | b']');
            let len = rest.iter().position(parts).unwrap_or(rest.len());
            (at + 1, at + 1 + len)
        };
        let named = |word: &[u8]| {
            names
                .iter()
                .position(|name| word.eq_ignore_ascii_case(name.as_bytes()))
        };
        if let Some(place) = word.and_then(named) {
            let value = &text[start..end];
            let value = match is_quoted {
                true => without_escapes(value),
                false => Cow::Borrowed(value),
            };
            best = Some((place, value));
            names = &names[..place];
        }
        at = end + usize::from(is_quoted);
        (floor, here) = (at, true);
    }
    best
}

/// Whether a backslash and what follows it stand for the latter.
fn is_escape(text: &[u8]) -> bool {
    matches!(text, [b'\\', b'"' | b'\\' | b']', ..])
}

/// Where the quote that was opened before `start` is closed, or the end of the text.
fn quote_end(text: &[u8], start: usize) -> usize {
    let mut at = start;
    while let Some(rest) = text.get(at..)
        && let Some(found) = memchr2(b'"', b'\\', rest)
    {
        at += found;
        if text[at] == b'"' {
            return at;
        }
        at += 1 + usize::from(is_escape(&text[at..]));
    }
    text.len()
}

fn without_escapes(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'\\') {
        return Cow::Borrowed(text);
    }
    let mut value = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(rest @ [byte, ..]) = text.get(at..) {
        let escaped = usize::from(is_escape(rest));
        value.push(*rest.get(escaped).unwrap_or(byte));
        at += 1 + escaped;
    }
    Cow::Owned(value)
}

#[cfg(test)]
mod tests {
    use super::param;

    #[test]
    fn parameters_are_found_outside_of_quotes_alone() {
        let text =
            br#"[junos@2636 vpn-name="a b" msg="id=7, say \"x\"" n=1] id=278, action=Drop last=z"#;
        for (name, expected) in [
            ("vpn-name", Some("a b")),
            ("id", Some("278")),
            ("ACTION", Some("Drop")),
            ("msg", Some("id=7, say \"x\"")),
            ("n", Some("1")),
            ("last", Some("z")),
            ("say", None),
            ("x", None),
        ] {
            let found = param(text, &[name.to_owned()]).map(|(_, value)| value);
            assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{name}");
        }
    }
}
