//! A stream of bytes becomes messages: octet counting and newlines (RFC 6587), distinguished for each frame.
//!
//! A frame is octet-counted if it begins with a length, a blank and a priority (`83 <38>`), else it ends with a line feed
//! or NUL. Nothing is an error: what a sender writes is a message, or part of one that is cut and counted. What comes out
//! does not depend on where the stream was cut into segments. A datagram (RFC 5426) is a message, or several, one a line.

use arrayvec::ArrayVec;
use memchr::memchr2;

/// Most digits of a length; a message of a hundred megabytes is no message.
const LENGTH_DIGITS_MAX: usize = 8;
/// The digits, a blank, `<` and a digit: what is needed at most to tell how a frame is counted.
const PREFIX_BYTES_MAX: usize = LENGTH_DIGITS_MAX + 3;
/// The space that a long frame took is given back to the allocator, in bytes; below it, it is kept for the next.
const KEPT_CAPACITY_BYTES: usize = 4096;

/// How the end of a message was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// By a line feed or NUL.
    Newline,
    /// By a length before it.
    Octets,
    /// It was the end of a datagram, or a line feed in one.
    Datagram,
}

/// One message without what ends it, never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The message, or its first bytes if it is too long.
    pub bytes: &'a [u8],
    /// How its end was found.
    pub framing: Framing,
    /// Bytes that were cut off behind it.
    pub cut_bytes: u64,
}

/// What a stream left behind at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Nothing.
    None,
    /// A frame that was not finished.
    Torn,
}

/// Cuts a stream into frames and carries the unfinished one.
#[derive(Debug)]
pub struct Framer {
    frame_bytes_max: usize,
    state: State,
    /// Set behind an octet-counted frame: some senders put a blank there.
    after_octets: bool,
    /// The beginning of a frame that does not tell yet how it is counted.
    prefix: ArrayVec<u8, PREFIX_BYTES_MAX>,
    /// The beginning of the unfinished frame, at most `frame_bytes_max` long.
    held: Vec<u8>,
    /// Bytes of the unfinished frame that came after `held`.
    cut_bytes: u64,
    /// Line feeds, carriage returns and NULs at the end of what was held or cut so far.
    ending_bytes: u64,
    /// Frames that have begun.
    begun: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Between two frames, or in a [`Framer::prefix`].
    Between,
    /// In a frame of which so many bytes are to come.
    Octets(u64),
    /// In a frame that ends with a line feed.
    Line,
    /// In the rest of a frame that was given up.
    SkipOctets(u64),
    SkipLine,
}

/// How a frame begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    /// With its length, which has so many digits.
    Octets { length: u64, digits: usize },
    /// With anything else.
    Line,
    /// More bytes are needed to tell.
    Unknown,
}

impl Begin {
    fn of(bytes: &[u8]) -> Begin {
        let is_digit = |byte: &&u8| byte.is_ascii_digit();
        let digits = bytes.iter().take(LENGTH_DIGITS_MAX).take_while(is_digit);
        let digits = digits.count();
        if matches!(bytes.first(), Some(b'0')) || (digits == 0 && !bytes.is_empty()) {
            return Begin::Line;
        }
        let (number, rest) = bytes.split_at(digits);
        match rest {
            [] | [b' '] | [b' ', b'<'] => Begin::Unknown,
            [b' ', b'<', digit, ..] if digit.is_ascii_digit() => {
                let add = |sum: u64, digit: &u8| sum * 10 + u64::from(digit - b'0');
                let length = number.iter().fold(0, add);
                Begin::Octets { length, digits }
            }
            _ => Begin::Line,
        }
    }
}

/// Without line feeds, carriage returns and NULs at its end.
fn trim_end(mut bytes: &[u8]) -> &[u8] {
    while let [head @ .., b'\n' | b'\r' | 0] = bytes {
        bytes = head;
    }
    bytes
}

/// The messages of a datagram: its lines. Longer ones than `frame_bytes_max` are cut.
pub fn datagram(bytes: &[u8], frame_bytes_max: usize, mut each: impl FnMut(Frame<'_>)) {
    for line in bytes.split(|byte| *byte == b'\n') {
        whole(line, frame_bytes_max, Framing::Datagram, &mut each);
    }
}

/// A frame that lies in one piece.
fn whole(bytes: &[u8], frame_bytes_max: usize, framing: Framing, each: &mut impl FnMut(Frame<'_>)) {
    let bytes = trim_end(bytes);
    let (bytes, cut) = bytes
        .split_at_checked(frame_bytes_max)
        .unwrap_or((bytes, &[]));
    if !bytes.is_empty() {
        each(Frame {
            bytes,
            framing,
            cut_bytes: cut.len() as u64,
        });
    }
}

impl Framer {
    /// A stream that begins. Frames of more than `frame_bytes_max` bytes are cut to that length.
    pub fn new(frame_bytes_max: usize) -> Self {
        Framer {
            frame_bytes_max,
            state: State::Between,
            after_octets: false,
            prefix: ArrayVec::new(),
            held: Vec::new(),
            cut_bytes: 0,
            ending_bytes: 0,
            begun: 0,
        }
    }

    /// The number of the frame that is unfinished, if one is and has not been given up. A later one has a higher number.
    pub fn unfinished(&self) -> Option<u64> {
        match self.state {
            State::Between if self.prefix.is_empty() => None,
            State::SkipOctets(_) | State::SkipLine => None,
            State::Between | State::Octets(_) | State::Line => Some(self.begun),
        }
    }

    /// Takes the next bytes and hands over the frames that they complete, in order.
    pub fn push(&mut self, mut bytes: &[u8], each: &mut impl FnMut(Frame<'_>)) {
        while !self.prefix.is_empty()
            && let Some((first, rest)) = bytes.split_first()
        {
            self.prefix.push(*first);
            bytes = rest;
            if Begin::of(&self.prefix) != Begin::Unknown {
                let prefix = std::mem::take(&mut self.prefix);
                self.begun -= 1;
                self.advance(&prefix, each);
            }
        }
        self.advance(bytes, each);
    }

    fn advance(&mut self, mut bytes: &[u8], each: &mut impl FnMut(Frame<'_>)) {
        while !bytes.is_empty() {
            bytes = match self.state {
                State::Between => self.begin(bytes),
                State::Octets(left) => self.octets(left, bytes, each),
                State::Line => self.line(bytes, each),
                State::SkipOctets(left) => {
                    let taken = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    self.state = match left - taken as u64 {
                        0 => State::Between,
                        left => State::SkipOctets(left),
                    };
                    &bytes[taken..]
                }
                State::SkipLine => match memchr2(b'\n', 0, bytes) {
                    Some(end) => {
                        self.state = State::Between;
                        &bytes[end + 1..]
                    }
                    None => return,
                },
            };
        }
    }

    fn begin<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let is_between =
            |byte: &u8| matches!(byte, b'\n' | b'\r' | 0) || (self.after_octets && *byte == b' ');
        let Some(start) = bytes.iter().position(|byte| !is_between(byte)) else {
            return &[];
        };
        let bytes = &bytes[start..];
        self.begun += 1;
        match Begin::of(bytes) {
            Begin::Octets { length, digits } => {
                self.after_octets = true;
                self.state = State::Octets(length);
                &bytes[digits + 1..]
            }
            Begin::Line => {
                self.after_octets = false;
                self.state = State::Line;
                bytes
            }
            Begin::Unknown => {
                // It is shorter than a prefix, or it would tell.
                self.prefix.extend(bytes.iter().copied());
                &[]
            }
        }
    }

    fn octets<'b>(
        &mut self,
        left: u64,
        bytes: &'b [u8],
        each: &mut impl FnMut(Frame<'_>),
    ) -> &'b [u8] {
        let taken = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let (bytes, rest) = bytes.split_at(taken);
        match left - taken as u64 {
            0 => {
                self.state = State::Between;
                self.complete(bytes, Framing::Octets, each);
            }
            left => {
                self.state = State::Octets(left);
                self.hold(bytes);
            }
        }
        rest
    }

    fn line<'b>(&mut self, bytes: &'b [u8], each: &mut impl FnMut(Frame<'_>)) -> &'b [u8] {
        let Some(end) = memchr2(b'\n', 0, bytes) else {
            self.hold(bytes);
            return &[];
        };
        self.state = State::Between;
        self.complete(&bytes[..end], Framing::Newline, each);
        &bytes[end + 1..]
    }

    /// These are the last bytes of the frame.
    fn complete(&mut self, bytes: &[u8], framing: Framing, each: &mut impl FnMut(Frame<'_>)) {
        if self.held.is_empty() {
            return whole(bytes, self.frame_bytes_max, framing, each);
        }
        self.hold(bytes);
        // What ends a frame may lie across two pieces and is left out as if it did not.
        self.cut_bytes = self.cut_bytes.saturating_sub(self.ending_bytes);
        if self.cut_bytes == 0 {
            let kept = trim_end(&self.held).len();
            self.held.truncate(kept);
        }
        if !self.held.is_empty() {
            each(Frame {
                bytes: &self.held,
                framing,
                cut_bytes: self.cut_bytes,
            });
        }
        self.clear();
    }

    fn hold(&mut self, bytes: &[u8]) {
        let space = self.frame_bytes_max - self.held.len();
        let (kept, cut) = bytes.split_at_checked(space).unwrap_or((bytes, &[]));
        let needed = self.held.len() + kept.len();
        if needed > self.held.capacity() {
            // Twice as much each time, but never more than a frame may have.
            let capacity = (2 * needed).min(self.frame_bytes_max);
            self.held.reserve_exact(capacity - self.held.len());
        }
        self.held.extend_from_slice(kept);
        self.cut_bytes += cut.len() as u64;
        let ending = (bytes.len() - trim_end(bytes).len()) as u64;
        self.ending_bytes = match ending == bytes.len() as u64 {
            true => self.ending_bytes + ending,
            false => ending,
        };
    }

    fn clear(&mut self) {
        (self.cut_bytes, self.ending_bytes) = (0, 0);
        match self.held.capacity() > KEPT_CAPACITY_BYTES {
            true => self.held = Vec::new(),
            false => self.held.clear(),
        }
    }

    /// The unfinished frame takes too long: it is dropped, and so is what still comes of it.
    pub fn give_up(&mut self) {
        self.state = match self.state {
            State::Octets(left) => State::SkipOctets(left),
            State::Between if self.prefix.is_empty() => State::Between,
            State::Between | State::Line => State::SkipLine,
            skipping @ (State::SkipOctets(_) | State::SkipLine) => skipping,
        };
        self.prefix.clear();
        self.clear();
    }

    /// The stream is over. An unfinished line is a message if the sender has closed it in order.
    pub fn finish(&mut self, in_order: bool, each: &mut impl FnMut(Frame<'_>)) -> Rest {
        if self.unfinished().is_none() {
            return Rest::None;
        }
        if !in_order || matches!(self.state, State::Octets(_)) {
            return Rest::Torn;
        }
        self.state = State::Line;
        let prefix = std::mem::take(&mut self.prefix);
        self.hold(&prefix);
        self.complete(&[], Framing::Newline, each);
        self.state = State::Between;
        Rest::None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 24;

    /// The frames of a stream that comes in these segments and is closed in order or not.
    fn frames(segments: &[&[u8]], in_order: bool) -> (Vec<(String, Framing, u64)>, Rest) {
        let mut framer = Framer::new(MAX);
        let mut all = Vec::new();
        let mut each = |frame: Frame<'_>| {
            let text = String::from_utf8_lossy(frame.bytes).into_owned();
            all.push((text, frame.framing, frame.cut_bytes));
        };
        for segment in segments {
            framer.push(segment, &mut each);
        }
        let rest = framer.finish(in_order, &mut each);
        (all, rest)
    }

    #[test]
    fn kinds_of_frames() {
        use Framing::{Newline, Octets};
        for (stream, expected) in [
            (
                "<1>a\n<2>b\r\n",
                &[("<1>a", Newline), ("<2>b", Newline)][..],
            ),
            ("4 <1>a5 <2>bc", &[("<1>a", Octets), ("<2>bc", Octets)]),
            (
                "4 <1>a\n5 <2>b\n <3>c\n",
                &[("<1>a", Octets), ("<2>b", Octets), ("<3>c", Newline)],
            ),
            (
                "2019-02-19T10:00:00Z fw1\n",
                &[("2019-02-19T10:00:00Z fw1", Newline)],
            ),
            ("2019 <1>a\n", &[]),
            ("0 <1>a\n", &[("0 <1>a", Newline)]),
            ("123456789 <1>a\n", &[("123456789 <1>a", Newline)]),
            ("12 <a>\n", &[("12 <a>", Newline)]),
            (
                "<1>a\0<2>b\0\n\n\r\n",
                &[("<1>a", Newline), ("<2>b", Newline)],
            ),
            (
                "8 <1>a\nb\nc4 <1>d",
                &[("<1>a\nb\nc", Octets), ("<1>d", Octets)],
            ),
            ("1 <1>a\n", &[("<", Octets), ("1>a", Newline)]),
            (" indented\n", &[(" indented", Newline)]),
            ("no end", &[("no end", Newline)]),
            ("12 ", &[("12 ", Newline)]),
        ] {
            let (found, _) = frames(&[stream.as_bytes()], true);
            let found: Vec<_> = found
                .iter()
                .map(|(text, framing, _)| (text.as_str(), *framing))
                .collect();
            let cut: Vec<_> = expected
                .iter()
                .map(|(text, framing)| (&text[..text.len().min(MAX)], *framing))
                .collect();
            assert_eq!(found, cut, "{stream:?}");
        }
    }

    #[test]
    fn ends_of_streams() {
        for (stream, in_order, count, rest) in [
            ("<1>a", true, 1, Rest::None),
            ("<1>a", false, 0, Rest::Torn),
            ("8 <1>a", true, 0, Rest::Torn),
            ("8 <1>a", false, 0, Rest::Torn),
            ("83", true, 1, Rest::None),
            ("83", false, 0, Rest::Torn),
            ("<1>a\n", false, 1, Rest::None),
            ("4 <1>a\n", false, 1, Rest::None),
            ("", false, 0, Rest::None),
        ] {
            let (found, left) = frames(&[stream.as_bytes()], in_order);
            assert_eq!((found.len(), left), (count, rest), "{stream:?}");
        }
    }

    #[test]
    fn a_frame_that_takes_too_long_is_dropped_and_the_next_one_is_not() {
        for (begin, end) in [
            ("<1>slow", " at last\n<1>next\n"),
            ("12 <1>slow", "wwwww<1>next\n"),
            ("12", " <1>a\n7 <1>next\n"),
        ] {
            let mut framer = Framer::new(MAX);
            framer.push(b"<1>first\n", &mut |_| {});
            let first = framer.unfinished();
            framer.push(begin.as_bytes(), &mut |_| panic!("{begin}"));
            assert_eq!((first, framer.unfinished()), (None, Some(2)), "{begin}");
            framer.give_up();
            assert_eq!(framer.unfinished(), None);
            let mut found = Vec::new();
            framer.push(end.as_bytes(), &mut |frame| {
                found.push(frame.bytes.to_vec())
            });
            assert_eq!(found, [b"<1>next".to_vec()], "{begin}");
        }
    }

    #[test]
    fn datagrams() {
        for (bytes, expected) in [
            (&b"<1>a"[..], &["<1>a"][..]),
            (b"<1>a\n", &["<1>a"]),
            (b"<1>a\0", &["<1>a"]),
            (b"<1>a\r\n\0", &["<1>a"]),
            (b"<1>a\n<2>b\n\n", &["<1>a", "<2>b"]),
            (b"\n", &[]),
            (b"", &[]),
        ] {
            let mut found = Vec::new();
            datagram(bytes, MAX, |frame| {
                found.push(String::from_utf8_lossy(frame.bytes).into_owned());
            });
            assert_eq!(found, expected, "{bytes:?}");
        }
    }

    /// A frame of either kind, or bytes that are none.
    fn piece() -> impl Strategy<Value = Vec<u8>> {
        let text = prop::collection::vec(
            prop_oneof![
                4 => prop::sample::select(b"<1> a9\r".to_vec()),
                1 => prop::sample::select(vec![b'\n', 0, 0xff]),
            ],
            0..40,
        );
        let counted = text.clone().prop_map(|text| {
            let text = [b"<13>", &text[..]].concat();
            [format!("{} ", text.len()).as_bytes(), &text].concat()
        });
        let line = text.clone().prop_map(|text| [&text[..], b"\n"].concat());
        prop_oneof![counted, line, text]
    }

    proptest! {
        #[test]
        fn any_split_of_any_mixture_gives_the_same_messages(
            pieces in prop::collection::vec(piece(), 0..8),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
            in_order: bool,
        ) {
            let stream = pieces.concat();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let split: Vec<&[u8]> = cuts.windows(2).map(|at| &stream[at[0]..at[1]]).collect();
            let bytewise: Vec<&[u8]> = stream.chunks(1).collect();
            let whole = frames(&[&stream], in_order);
            prop_assert_eq!(&frames(&split, in_order), &whole);
            prop_assert_eq!(&frames(&bytewise, in_order), &whole);
            // No byte counts twice.
            let bytes: u64 = whole.0.iter().map(|(_, _, cut)| cut).sum();
            prop_assert!(bytes <= stream.len() as u64);
        }

        #[test]
        fn frames_that_are_whole_come_out_as_they_are(
            messages in prop::collection::vec(("<1>[a-z]{1,12}", any::<bool>()), 0..8),
        ) {
            let stream: String = messages
                .iter()
                .map(|(text, counted)| match counted {
                    true => format!("{} {text}", text.len()),
                    false => format!("{text}\n"),
                })
                .collect();
            let (found, rest) = frames(&[stream.as_bytes()], false);
            let found: Vec<&str> = found.iter().map(|(text, _, _)| text.as_str()).collect();
            let expected: Vec<&str> = messages.iter().map(|(text, _)| text.as_str()).collect();
            prop_assert_eq!(found, expected);
            prop_assert_eq!(rest, Rest::None);
        }
    }
}
