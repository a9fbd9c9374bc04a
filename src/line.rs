//! Bytes become whole lines, in bounded memory.
//!
//! A [`LineBuffer`] belongs to one endless run of bytes (one [`crate::tail::FileId`]). Chunks are pushed in as they are
//! read, of any size; lines come out as soon as their line feed is there. A line that lies inside one chunk is handed
//! on where it is; only the unfinished tail of a chunk is copied. What comes out does not depend on where the chunks
//! were cut.
//!
//! Nothing is interpreted: NUL and invalid UTF-8 pass through. One carriage return before the line feed goes away with
//! it. Empty lines are lines.

use memchr::{memchr, memchr_iter};

/// Capacity above which a buffer is given back to the allocator after a long line, in bytes; a smaller one is kept for the next.
const KEPT_CAPACITY_BYTES: usize = 4096;

/// One whole line, without its line ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// The line, or its first `max_line_bytes` bytes.
    pub bytes: &'a [u8],
    /// Bytes that were cut off behind [`Line::bytes`] because the line is too long; 0 for nearly every line.
    pub skipped_bytes: u64,
}

impl<'a> Line<'a> {
    /// `line` is what is left of a line once its line feed is gone.
    fn whole(line: &'a [u8], max_line_bytes: usize) -> Line<'a> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match line.split_at_checked(max_line_bytes) {
            Some((bytes, skipped)) => Line {
                bytes,
                skipped_bytes: skipped.len() as u64,
            },
            None => Line {
                bytes: line,
                skipped_bytes: 0,
            },
        }
    }
}

/// Cuts a run of bytes into lines and carries the unfinished one.
#[derive(Clone, Debug)]
pub struct LineBuffer {
    /// The longest line that is handed on whole, in bytes, its ending not counted.
    max_line_bytes: usize,
    /// The beginning of the unfinished line; never holds a line feed. At most one byte longer than `max_line_bytes`,
    /// because that byte may be the carriage return of a line that just fits.
    held: Vec<u8>,
    /// Bytes of the unfinished line that came after `held`. Not 0 only if `held` is at its longest.
    dropped_bytes: u64,
    /// The last of those dropped bytes is a carriage return, which does not count if a line feed follows.
    dropped_ends_in_cr: bool,
}

impl LineBuffer {
    /// An empty buffer. Lines of more than `max_line_bytes` bytes are cut to that length when they are handed on, and
    /// the rest of them is counted in [`Line::skipped_bytes`]. Uses at most `max_line_bytes + 1` bytes.
    pub fn new(max_line_bytes: usize) -> Self {
        LineBuffer {
            max_line_bytes,
            held: Vec::new(),
            dropped_bytes: 0,
            dropped_ends_in_cr: false,
        }
    }

    /// The longest line that is handed on whole, in bytes.
    pub fn max_line_bytes(&self) -> usize {
        self.max_line_bytes
    }

    /// Takes the next bytes of the run and hands every line that they complete to `each`, in order.
    #[inline]
    pub fn push(&mut self, chunk: &[u8], mut each: impl FnMut(Line<'_>)) {
        let mut rest = chunk;
        if self.held_bytes() > 0 {
            let Some((end, after)) = memchr(b'\n', rest).and_then(|at| split_around(rest, at))
            else {
                self.hold(rest);
                return;
            };
            self.hold(end);
            each(self.held_line());
            self.clear();
            rest = after;
        }
        let mut start = 0;
        for end in memchr_iter(b'\n', rest) {
            if let Some(line) = rest.get(start..end) {
                each(Line::whole(line, self.max_line_bytes));
            }
            start = end + 1;
        }
        self.hold(rest.get(start..).unwrap_or_default());
    }

    /// The run has ended for good: an unfinished line counts as a line, and the buffer is empty again.
    pub fn finish(&mut self, each: impl FnOnce(Line<'_>)) {
        if self.held_bytes() > 0 {
            each(self.held_line());
            self.clear();
        }
    }

    /// Length of the unfinished line so far, in bytes of the run, cut-off bytes and carriage return included. The end of
    /// the last whole line is this much before the end of what was pushed.
    pub fn held_bytes(&self) -> u64 {
        self.held.len() as u64 + self.dropped_bytes
    }

    fn hold(&mut self, bytes: &[u8]) {
        let space = self
            .max_line_bytes
            .saturating_add(1)
            .saturating_sub(self.held.len());
        let (kept, dropped) = bytes.split_at_checked(space).unwrap_or((bytes, &[]));
        self.held.extend_from_slice(kept);
        if let Some(last) = dropped.last() {
            self.dropped_bytes += dropped.len() as u64;
            self.dropped_ends_in_cr = *last == b'\r';
        }
    }

    fn held_line(&self) -> Line<'_> {
        if self.dropped_bytes == 0 {
            return Line::whole(&self.held, self.max_line_bytes);
        }
        let bytes = self.held.get(..self.max_line_bytes).unwrap_or(&self.held);
        let cut = (self.held.len() - bytes.len()) as u64 + self.dropped_bytes;
        Line {
            bytes,
            skipped_bytes: cut - u64::from(self.dropped_ends_in_cr),
        }
    }

    fn clear(&mut self) {
        if self.held.capacity() > KEPT_CAPACITY_BYTES {
            self.held = Vec::new();
        }
        self.held.clear();
        self.dropped_bytes = 0;
        self.dropped_ends_in_cr = false;
    }
}

/// What is before and after the byte at `at`.
fn split_around(bytes: &[u8], at: usize) -> Option<(&[u8], &[u8])> {
    Some((bytes.get(..at)?, bytes.get(at + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The lines of `text` as `(line, skipped)`, and the length of what is held at the end.
    fn lines(chunks: &[&[u8]], max: usize) -> (Vec<(Vec<u8>, u64)>, u64) {
        let mut buffer = LineBuffer::new(max);
        let mut out = Vec::new();
        for chunk in chunks {
            buffer.push(chunk, |line| {
                out.push((line.bytes.to_vec(), line.skipped_bytes))
            });
            assert!(
                buffer.held.len() <= max + 1,
                "held {} bytes of at most {}",
                buffer.held.len(),
                max + 1
            );
        }
        let held = buffer.held_bytes();
        buffer.finish(|line| out.push((line.bytes.to_vec(), line.skipped_bytes)));
        assert_eq!(buffer.held_bytes(), 0);
        (out, held)
    }

    /// The obvious way to do it, given the whole text at once.
    fn oracle(text: &[u8], max: usize) -> (Vec<(Vec<u8>, u64)>, u64) {
        let mut parts: Vec<&[u8]> = text.split(|b| *b == b'\n').collect();
        let held = parts.last().map_or(0, |last| last.len() as u64);
        if held == 0 {
            parts.pop();
        }
        let cut = |line: &[u8]| {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            (
                line[..line.len().min(max)].to_vec(),
                line.len().saturating_sub(max) as u64,
            )
        };
        (parts.into_iter().map(cut).collect(), held)
    }

    #[test]
    fn lines_of_a_chunk() {
        for (text, want, held) in [
            (&b""[..], &[][..], 0),
            (b"one\n", &[&b"one"[..]][..], 0),
            (b"one\r\ntwo\n", &[b"one", b"two"], 0),
            (b"\n\r\n\n", &[b"", b"", b""], 0),
            (b"one\r\r\n", &[b"one\r"], 0),
            (
                b"nul\0and \xff\xfe\nrest",
                &[b"nul\0and \xff\xfe", b"rest"],
                4,
            ),
        ] {
            let (got, got_held) = lines(&[text], 100);
            assert_eq!(
                got,
                want.iter()
                    .map(|line| (line.to_vec(), 0))
                    .collect::<Vec<_>>(),
                "{text:?}"
            );
            assert_eq!(got_held, held, "{text:?}");
        }
    }

    #[test]
    fn a_line_of_ten_megabytes_costs_its_limit() {
        let chunk = vec![b'x'; 100_000];
        let mut buffer = LineBuffer::new(1000);
        let mut seen = Vec::new();
        for _ in 0..100 {
            buffer.push(&chunk, |line| {
                seen.push((line.bytes.len(), line.skipped_bytes))
            });
            assert!(buffer.held.capacity() < 4096);
        }
        assert_eq!(buffer.held_bytes(), 10_000_000);
        buffer.push(b"\nnext\n", |line| {
            seen.push((line.bytes.len(), line.skipped_bytes))
        });
        assert_eq!(seen, [(1000, 9_999_000), (4, 0)]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn chunk_borders_do_not_matter(
            text in proptest::collection::vec(prop_oneof![3 => Just(b'a'), 1 => Just(b'\n'), 1 => Just(b'\r'), 1 => any::<u8>()], 0..200),
            cuts in proptest::collection::vec(0usize..200, 0..8),
            max in 0usize..12,
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            let mut chunks = Vec::new();
            let mut start = 0;
            for cut in cuts {
                chunks.push(&text[start..cut]);
                start = cut;
            }
            chunks.push(&text[start..]);
            prop_assert_eq!(lines(&chunks, max), oracle(&text, max));
        }
    }
}
