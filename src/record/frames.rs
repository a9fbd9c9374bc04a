//! Octet-counted syslog (RFC 6587): a TCP stream that a collector wrote to a file as it came holds several messages in
//! one line, each after its length. Every other line is one frame.

use super::bytes::{number, split_digits};

/// Most digits of a length; RFC 6587 has none, and a message of a hundred megabytes is no message.
const LENGTH_DIGITS_MAX: usize = 8;

/// The messages of one line: the line itself, or, when it opens with a length and a priority (`83 <38>1 …`), each
/// counted frame without its length. A length that reaches beyond the line takes what is there, so no byte is lost; a
/// length that lands in the middle of something gives the rest as one frame.
///
/// ```
/// use appliance_log_exporter::record::frames;
/// let line = b"12 <38>sshd: up 11 <38>x: down";
/// let messages: Vec<_> = frames(line).collect();
/// assert_eq!(messages, [&b"<38>sshd: up"[..], b"<38>x: down"]);
/// ```
pub fn frames(line: &[u8]) -> Frames<'_> {
    Frames { rest: Some(line) }
}

/// The iterator behind [`frames`].
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for Frames<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest?;
        match rest {
            // A year, nearly always: behind a length of four digits a priority would begin.
            [b'1'..=b'9', _, _, _, b'-', ..] => {}
            [b'1'..=b'9', _, _, _, b' ', after, ..] if *after != b'<' => {}
            [b'1'..=b'9', ..] => {
                if let Some((frame, after)) = counted(rest) {
                    self.rest = (!after.is_empty()).then_some(after);
                    return Some(frame);
                }
            }
            _ => {}
        }
        self.rest = None;
        Some(rest)
    }
}

#[cold]
fn counted(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (digits, after) = split_digits(text);
    let [b' ', body @ ..] = after else {
        return None;
    };
    let [b'<', b'0'..=b'9', ..] = body else {
        return None;
    };
    if digits.len() > LENGTH_DIGITS_MAX {
        return None;
    }
    let length = usize::try_from(number(digits)?).ok()?.min(body.len());
    let (frame, after) = body.split_at(length);
    // Some senders count the line feed that the line no longer has, others put a blank between frames.
    Some((frame, super::bytes::skip_blanks(after)))
}
