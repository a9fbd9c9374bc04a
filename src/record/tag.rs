//! The tag of a syslog message (RFC 3164, section 4.1.3): the program, with its pid or module, before the message.

use super::Programs;
use super::bytes::{ends_token, is_blank, skip_blanks, split_digits};

/// Longest pid or module in a tag, bytes.
const TAG_PART_BYTES_MAX: usize = 32;

/// Longest name, bytes, that is read as the program of a tag that no pack knows (RFC 5424 allows 48).
const UNKNOWN_PROGRAM_BYTES_MAX: usize = 64;

/// A program's name as it stands in a header, and what follows it.
pub(super) struct Tag<'a> {
    pub(super) name: &'a [u8],
    /// `pam_unix` in `sshd(pam_unix)[1]:`.
    pub(super) module: &'a [u8],
    pub(super) shape: Shape,
    /// Behind the colon, or behind the name where there is none.
    pub(super) rest: &'a [u8],
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A token without colon, bracket or parenthesis.
    Bare,
    /// `name[1]:`, `name [1]:`, `name(module):`.
    Pid,
    /// `name[1] text`: what is left of RFC 5424 in a traditional file.
    PidWithoutColon,
    /// `name:` and a blank.
    Colon,
    /// `name:text`.
    Glued,
    /// Something with a bracket, colon or parenthesis that is no tag.
    Other,
}

impl<'a> Tag<'a> {
    /// Reads the token at the start of `text`.
    #[inline]
    pub(super) fn read(text: &'a [u8]) -> Tag<'a> {
        let end = text
            .iter()
            .position(|&byte| ENDS_NAME[usize::from(byte)])
            .unwrap_or(text.len());
        let (name, after) = text.split_at(end);
        match after {
            [b'[', ..] => Tag::with_pid(name, b"", after),
            [b':', rest @ ..] => {
                let shape = match rest {
                    _ if ends_token(rest) => Shape::Colon,
                    _ => Shape::Glued,
                };
                Tag {
                    name,
                    module: b"",
                    shape,
                    rest,
                }
            }
            [b'(', rest @ ..] => match part(rest, b')') {
                Some((module, after)) if !name.is_empty() => Tag::with_pid(name, module, after),
                // `(systemd)[1]:`, a unit's process before it has its own name.
                Some((name, after)) => Tag::with_pid(name, b"", after),
                None => Tag {
                    name,
                    module: b"",
                    shape: Shape::Other,
                    rest: after,
                },
            },
            _ => match skip_blanks(after) {
                // `NTLS [1234]:`.
                pid @ [b'[', b'0'..=b'9', ..] => match Tag::with_pid(name, b"", pid) {
                    tag @ Tag {
                        shape: Shape::Pid, ..
                    } => tag,
                    _ => Tag {
                        name,
                        module: b"",
                        shape: Shape::Bare,
                        rest: after,
                    },
                },
                _ => Tag {
                    name,
                    module: b"",
                    shape: Shape::Bare,
                    rest: after,
                },
            },
        }
    }

    /// `after` begins with the bracket, or with what follows the module.
    #[inline]
    fn with_pid(name: &'a [u8], module: &'a [u8], after: &'a [u8]) -> Tag<'a> {
        let (after, has_pid) = match after {
            [b'[', rest @ ..] => match part(rest, b']') {
                Some((_, after)) => (after, true),
                None => {
                    return Tag {
                        name,
                        module,
                        shape: Shape::Other,
                        rest: after,
                    };
                }
            },
            _ => (after, false),
        };
        let (shape, rest) = match after {
            [b':', rest @ ..] => (Shape::Pid, rest),
            [b' ', b':', rest @ ..] if has_pid => (Shape::Pid, rest),
            _ if has_pid && ends_token(after) => (Shape::PidWithoutColon, after),
            _ => (Shape::Other, after),
        };
        Tag {
            name,
            module,
            shape,
            rest,
        }
    }
}

/// The text up to `close`, which must be near and without a blank before it.
#[inline]
fn part(text: &[u8], close: u8) -> Option<(&[u8], &[u8])> {
    let end = text
        .iter()
        .take(TAG_PART_BYTES_MAX)
        .position(|&byte| byte == close || is_blank(byte))?;
    match text.split_at_checked(end)? {
        (inner, [found, rest @ ..]) if *found == close => Some((inner, rest)),
        _ => None,
    }
}

/// Whether a byte ends the name in a tag.
pub(super) const ENDS_NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte <= b' ' as usize {
        table[byte] = true;
        byte += 1;
    }
    table[b'[' as usize] = true;
    table[b':' as usize] = true;
    table[b'(' as usize] = true;
    // The first byte of a no-break space; no name has it otherwise.
    table[0xc2] = true;
    table
};

/// The known program that a tag names: as it stands, or without a path before it, or without a second category behind
/// it (`IPSEC,FRAG`), or without the suffix of its systemd unit or a pid in angle brackets.
pub(super) fn known<'a>(
    name: &'a [u8],
    programs: &Programs,
) -> Option<(super::ProgramId, &'a [u8])> {
    if let Some(id) = programs.lookup(name) {
        return Some((id, name));
    }
    let mut short = name;
    if let Some(at) = name.iter().rposition(|&byte| byte == b'/') {
        short = name.get(at + 1..)?;
    }
    if let Some(at) = short.iter().position(|&byte| byte == b',') {
        short = short.get(..at)?;
    }
    short = short.strip_suffix(b".service").unwrap_or(short);
    short = without_angled_pid(short).unwrap_or(short);
    if short.len() == name.len() {
        return None;
    }
    programs.lookup(short).map(|id| (id, short))
}

/// The name of `sshd<1>`.
fn without_angled_pid(name: &[u8]) -> Option<&[u8]> {
    let inner = name.strip_suffix(b">")?;
    let at = inner.iter().rposition(|byte| !byte.is_ascii_digit())?;
    let name = inner.get(..=at)?.strip_suffix(b"<")?;
    (at + 1 < inner.len()).then_some(name)
}

/// Whether a name that no pack knows may be a program's.
pub(super) fn is_program_name(name: &[u8]) -> bool {
    name.len() <= UNKNOWN_PROGRAM_BYTES_MAX
        && name.iter().any(u8::is_ascii_alphabetic)
        && name
            .iter()
            .all(|&byte| byte.is_ascii_alphanumeric() || b"_-./+@#$,".contains(&byte))
}

/// The message behind `[1234]:`, a pid that was parted from its program by a blank.
#[inline]
pub(super) fn moved_pid(text: &[u8]) -> Option<&[u8]> {
    let (digits, rest) = split_digits(text.strip_prefix(b"[")?);
    let rest = rest.strip_prefix(b"]:")?;
    (!digits.is_empty()).then(|| skip_blanks(rest))
}
