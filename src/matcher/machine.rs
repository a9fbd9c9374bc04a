//! The capture machine: runs one template over one message and says where its holes are.
//!
//! It is a small backtracking machine over the template's [`Piece`]s. Generic capture engines cost several hundred
//! nanoseconds a message; a template is mostly literal text, and this machine compares it with `memcmp` and finds the
//! end of a hole with `memchr`. Backtracking is bounded by a budget of steps; a message that exceeds it is left to
//! regex-automata's linear engine, built from the same pieces, so that no input costs more than linear time.

use memchr::{memchr, memchr2, memchr3, memmem};

use crate::record::{digits, starts_with};
use crate::rules::{Class, Piece, Template};

/// A capture: start and end in the message, or [`NOWHERE`].
pub(super) type Span = (u32, u32);

/// A hole that has no place in this message.
pub(super) const NOWHERE: Span = (u32::MAX, u32::MAX);

/// Fills no span: the number of no variable.
const NOTHING: u32 = u32::MAX;

/// No other way to go on.
pub(super) const NEVER: u32 = u32::MAX;

/// What the machine does at one place. All but [`Op::Run`] and its like with `firm` unset, [`Op::Lazy`], [`Op::Keep`] and
/// [`Op::Split`] leave nothing to come back to, so that most templates run straight through, without touching the stack.
///
/// A step is small, and what is larger lies beside the steps, because what the programs of all rules in use take together
/// does not fit the processor's nearest memory. The tag is a byte of its own: packed into a field's spare values, it takes a
/// dozen instructions to find at every step.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(super) enum Op {
    /// These bytes.
    Text(Text),
    /// These bytes, ASCII case ignored.
    TextAnyCase(Text),
    /// Words as they are usually written, with one blank wherever blanks may be, or so many of the bytes behind them, which
    /// are the same words without the blanks that need not be there. Go on there if it is so, else here, where the words
    /// and blanks follow one by one.
    Phrase {
        /// Blanks end it, of which there may be more.
        blanks: bool,
        tight: u16,
        usual: Text,
        to: u32,
    },
    /// An address as it is usually written. Go on there if it is so, else here, where its pieces follow one by one.
    Address {
        /// A port may follow.
        port: bool,
        fills: u32,
        to: u32,
    },
    /// All blanks there are, at least so many.
    Blanks(u32),
    /// Bytes of a class, greedy.
    Run(Run),
    /// A sign or none, and digits; how many of these is `firm` or not, as in [`Run`].
    Int {
        firm: bool,
        fills: u32,
    },
    /// A dotted quad; its last run of digits is `firm` or not, as in [`Run`]. Go on at `then`; if there is none, there, or
    /// [`NEVER`].
    Quad {
        firm: bool,
        then: u32,
        otherwise: u32,
    },
    /// One of these texts, of which none begins with another: so many from there on.
    OneOf {
        from: u32,
        count: u32,
        fills: u32,
    },
    /// One of these bytes; if the next is another, go on there. That byte could not match.
    Byte(Bytes, u32),
    /// One byte that is no blank, then as few as possible; the hint finds where what follows may start.
    Lazy {
        hint: Hint,
        fills: u32,
    },
    /// Everything that is left.
    Rest {
        fills: u32,
    },
    /// Go on here; if that fails, there.
    Split(u32),
    /// Go on here if the next byte is one of these, else there. The other way could not match.
    Unless(Bytes, u32),
    Jump(u32),
    /// A capture may have been filled before by a way that failed, and be passed by another way: its old place is kept.
    Keep(u32),
    Open(u32),
    Close(u32),
    /// The message must end here.
    End,
}

/// Four of them fit a line of the processor's memory.
const _: () = assert!(size_of::<Op>() == 16);

/// A part of [`Machine::texts`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Text {
    len: u16,
    from: u32,
}

/// A run of bytes of a class.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub class: Class,
    /// Nothing that may follow begins with a byte of the class, so that a shorter run could not match.
    firm: bool,
    pub min: u16,
    max: u32,
    fills: u32,
}

/// Bytes that may come next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bytes {
    /// One of these, of which some may be the same.
    Few([u8; 4]),
    /// One of [`Aside::firsts`].
    Many(u32),
}

/// With which bytes a match may begin, or that it may be empty. Too many rather than too few.
#[derive(Clone, Copy, Debug, Default)]
struct First {
    bytes: [u64; 4],
    /// At the end of the message, too.
    end: bool,
}

impl First {
    const END: First = First {
        bytes: [0; 4],
        end: true,
    };

    fn of(holds: impl Fn(u8) -> bool) -> First {
        let mut first = First::default();
        for byte in (0..=u8::MAX).filter(|byte| holds(*byte)) {
            first.bytes[usize::from(byte >> 6)] |= 1 << (byte & 63);
        }
        first
    }

    fn one(byte: u8) -> First {
        let mut first = First::default();
        first.bytes[usize::from(byte >> 6)] |= 1 << (byte & 63);
        first
    }

    fn or(self, other: First) -> First {
        First {
            bytes: std::array::from_fn(|at| self.bytes[at] | other.bytes[at]),
            end: self.end || other.end,
        }
    }

    fn meets(self, other: First) -> bool {
        let bytes = (0..4).any(|at| self.bytes[at] & other.bytes[at] != 0);
        bytes || (self.end && other.end)
    }

    #[inline]
    fn holds(&self, next: Option<&u8>) -> bool {
        match next {
            Some(byte) => self.bytes[usize::from(byte >> 6)] >> (byte & 63) & 1 != 0,
            None => self.end,
        }
    }

    /// What may stand at the start of `pieces`, if `after` follows them.
    fn before(pieces: &[Piece], ignore_case: bool, after: First) -> First {
        let before = |after, piece| First::before_one(piece, ignore_case, after);
        pieces.iter().rfold(after, before)
    }

    fn before_one(piece: &Piece, ignore_case: bool, after: First) -> First {
        match piece {
            Piece::Text(text) if ignore_case => First::one(text[0].to_ascii_lowercase())
                .or(First::one(text[0].to_ascii_uppercase())),
            Piece::Text(text) => First::one(text[0]),
            Piece::Blanks { required } => {
                let blanks = [b' ', b'\t', 0xC2].map(First::one);
                let blanks = blanks.into_iter().fold(First::default(), First::or);
                if *required { blanks } else { blanks.or(after) }
            }
            Piece::Run { class, min, .. } => {
                let run = First::of(|byte| class.holds(byte));
                if *min > 0 { run } else { run.or(after) }
            }
            Piece::Quad => First::of(|byte| byte.is_ascii_digit()),
            Piece::Lazy => First::of(|byte| !matches!(byte, b' ' | b'\t')),
            Piece::Rest => First::of(|_| true).or(First::END),
            Piece::Choice(options) => options
                .iter()
                .map(|option| First::before(option, ignore_case, after))
                .fold(First::default(), First::or),
            Piece::Capture(_, inner) => First::before(inner, ignore_case, after),
        }
    }
}

/// Where the piece after a lazy hole may start.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hint {
    One(u8),
    Two(u8, u8),
    Three(u8, u8, u8),
    /// What this one of [`Aside::finders`] finds.
    Text(u32),
    /// A blank of any kind at least, or none, and then what that finds.
    BlanksText(bool, u32),
    End,
    /// One of these.
    Any(u32),
}

/// A template, ready to run.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    ops: Box<[Op]>,
    /// All texts that the steps compare with.
    texts: Box<[u8]>,
    /// Apart, so that the rest of it fits a line of the processor's memory.
    aside: Box<Aside>,
}

/// What few steps need.
#[derive(Clone, Debug, Default)]
struct Aside {
    options: Vec<Text>,
    firsts: Vec<First>,
    finders: Vec<memmem::Finder<'static>>,
}

/// Where a run goes on: the step, and the place in the message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Start {
    at: u32,
    pos: u32,
}

impl Start {
    pub(super) fn pos(self) -> usize {
        self.pos as usize
    }
}

/// What a run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Matched,
    NotMatched,
    /// The budget is spent; somebody else must decide.
    Undecided,
}

/// What is left to try. A step that fills a span is named, so that the span's end can follow: its start is still right,
/// because jumps only lead on, so that a step runs again only after a failure before it, and by then what it left here is
/// gone.
#[derive(Clone, Copy, Debug)]
enum Back {
    /// Go on at this step and position.
    Branch(u32, u32),
    /// A greedy run may end earlier: step, least end, end so far.
    Shrink(u32, u32, u32),
    /// A lazy hole may end later: step, end so far.
    Grow(u32, u32),
    /// A capture was something else before.
    Restore(u32, Span),
}

/// Memory that runs share.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    stack: Vec<Back>,
}

impl Machine {
    /// `variables` says for every capture of the template which of the spans it fills.
    pub(super) fn new(template: &Template, ignore_case: bool, variables: &[usize]) -> Self {
        let mut compiler = Compiler {
            ignore_case,
            variables,
            ops: Vec::new(),
            texts: Vec::new(),
            behind_lazy: Vec::new(),
            aside: Aside::default(),
        };
        compiler.sequence(&template.pieces, First::END, false);
        compiler.ops.push(Op::End);
        compiler.hints();
        let mut aside = compiler.aside;
        aside.options.shrink_to_fit();
        aside.firsts.shrink_to_fit();
        aside.finders.shrink_to_fit();
        Self {
            ops: compiler.ops.into(),
            texts: compiler.texts.into(),
            aside: Box::new(aside),
        }
    }

    /// How far a run surely comes over a message that begins with `prefix`, whatever follows.
    pub(super) fn after(&self, prefix: &[u8]) -> Start {
        let mut start = Start::default();
        // Behind a short cut that is only entered if something of it is there.
        let (mut at, mut pos) = (0, 0);
        loop {
            let rest = prefix.get(pos..).unwrap_or_default();
            match self.ops[at as usize] {
                // The pieces follow one by one.
                Op::Phrase { .. } | Op::Address { .. } => {
                    at += 1;
                    continue;
                }
                Op::Text(text) if starts_with(rest, self.text(text)) => {
                    pos += self.text(text).len();
                    at += 1;
                }
                Op::Blanks(min) => {
                    let count = blanks(rest);
                    // There may be more of them.
                    if count < min as usize || matches!(rest[count..], [] | [0xC2]) {
                        return start;
                    }
                    pos += count;
                    at += 1;
                }
                Op::OneOf { from, count, fills } if fills == NOTHING => {
                    match self.one_of(from, count, rest) {
                        Some(len) => pos += len,
                        None => return start,
                    }
                    at += 1;
                }
                Op::Byte(bytes, to) | Op::Unless(bytes, to) if !rest.is_empty() => {
                    match self.may_be(bytes, rest) {
                        true => {
                            pos += usize::from(matches!(self.ops[at as usize], Op::Byte(..)));
                            at += 1;
                        }
                        false => at = to,
                    }
                }
                Op::Jump(to) => at = to,
                _ => return start,
            }
            start = Start {
                at,
                pos: pos as u32,
            };
        }
    }

    /// The steps, for the set that tells which machines to try.
    pub(super) fn ops(&self) -> &[Op] {
        &self.ops
    }

    #[inline]
    pub(super) fn text(&self, text: Text) -> &[u8] {
        let from = text.from as usize;
        let text = self.texts.get(from..from + usize::from(text.len));
        text.unwrap_or_default()
    }

    /// The texts of an [`Op::OneOf`].
    pub(super) fn options(&self, from: u32, count: u32) -> impl Iterator<Item = &[u8]> {
        let options = self.aside.options.get(from as usize..);
        let options = options.unwrap_or_default().iter().take(count as usize);
        options.map(|option| self.text(*option))
    }

    /// The length of the option that a text begins with.
    fn one_of(&self, from: u32, count: u32, text: &[u8]) -> Option<usize> {
        let mut options = self.options(from, count);
        let found = options.find(|option| starts_with(text, option))?;
        Some(found.len())
    }

    /// Whether a text may begin so.
    #[inline]
    pub(super) fn may_be(&self, bytes: Bytes, text: &[u8]) -> bool {
        match bytes {
            Bytes::Few(few) => text.first().is_some_and(|byte| few.contains(byte)),
            Bytes::Many(first) => self.first(first).holds(text.first()),
        }
    }

    fn first(&self, first: u32) -> &First {
        const NONE: &First = &First {
            bytes: [0; 4],
            end: false,
        };
        self.aside.firsts.get(first as usize).unwrap_or(NONE)
    }

    /// The bytes that what a hint finds may start with; none if it may also be the end.
    pub(super) fn hinted(&self, hint: Hint) -> Option<[bool; 256]> {
        let any = |bytes: &[u8]| Some(std::array::from_fn(|byte| bytes.contains(&(byte as u8))));
        let needle = |finder: u32| Some(self.aside.finders.get(finder as usize)?.needle());
        match hint {
            Hint::One(a) => any(&[a]),
            Hint::Two(a, b) => any(&[a, b]),
            Hint::Three(a, b, c) => any(&[a, b, c]),
            Hint::Text(finder) => any(needle(finder)?.get(..1)?),
            Hint::BlanksText(false, finder) => any(&[b' ', b'\t', 0xC2, *needle(finder)?.first()?]),
            Hint::BlanksText(true, _) => any(&[b' ', b'\t', 0xC2]),
            Hint::End => None,
            Hint::Any(first) => {
                let first = self.first(first);
                let holds = |byte| first.holds(Some(&(byte as u8)));
                (!first.end).then(|| std::array::from_fn(holds))
            }
        }
    }

    /// The first position from `from` on where what follows may start.
    fn find(&self, hint: Hint, text: &[u8], from: usize) -> Option<usize> {
        let rest = text.get(from..)?;
        let found = match hint {
            Hint::One(a) => memchr(a, rest)?,
            Hint::Two(a, b) => memchr2(a, b, rest)?,
            Hint::Three(a, b, c) => memchr3(a, b, c, rest)?,
            Hint::Text(finder) => self.aside.finders.get(finder as usize)?.find(rest)?,
            Hint::BlanksText(required, finder) => {
                let finder = self.aside.finders.get(finder as usize)?;
                let mut behind = 0;
                loop {
                    let text = behind + finder.find(&rest[behind..])?;
                    let blanks = trim_blanks(&rest[..text]).len();
                    if !required || blanks < text {
                        break blanks;
                    }
                    behind = text + 1;
                }
            }
            Hint::End => rest.len(),
            Hint::Any(first) => {
                let first = self.first(first);
                match rest.iter().position(|byte| first.holds(Some(byte))) {
                    Some(at) => at,
                    None if first.end => rest.len(),
                    None => return None,
                }
            }
        };
        Some(from + found)
    }

    /// Runs over a whole message, from its beginning or from where [`Machine::after`] says. `spans`, all of them [`NOWHERE`],
    /// are meaningful only after a match.
    #[inline]
    pub(super) fn run(
        &self,
        text: &[u8],
        start: Start,
        spans: &mut [Span],
        scratch: &mut Scratch,
    ) -> Outcome {
        let stack = &mut scratch.stack;
        stack.clear();
        let mut budget = 256 + 16 * text.len();
        let mut at = start.at;
        // What is left of the message.
        let mut rest = text.get(start.pos()..).unwrap_or_default();
        let ops = &*self.ops;
        loop {
            let pos = text.len() - rest.len();
            // A step that succeeds goes on with the loop.
            match ops[at as usize] {
                Op::Text(literal) => {
                    if let Some(left) = behind(rest, self.text(literal)) {
                        rest = left;
                        at += 1;
                        continue;
                    }
                }
                Op::Phrase {
                    blanks: more,
                    tight,
                    usual,
                    to,
                } => {
                    let left = behind(rest, self.text(usual)).or_else(|| {
                        let from = usual.from + u32::from(usual.len);
                        let tight = Text { from, len: tight };
                        (tight.len > 0)
                            .then(|| behind(rest, self.text(tight)))
                            .flatten()
                    });
                    if let Some(left) = left {
                        rest = match more {
                            true => &left[blanks(left)..],
                            false => left,
                        };
                        at = to;
                        continue;
                    }
                    if !are_others(rest, self.text(usual)) {
                        at += 1;
                        continue;
                    }
                }
                Op::Address { port, fills, to } => {
                    match address(rest, port) {
                        Some(left) => {
                            rest = left;
                            fill(spans, fills, pos, text.len() - rest.len());
                            at = to;
                        }
                        None => at += 1,
                    }
                    continue;
                }
                Op::TextAnyCase(literal) => {
                    let literal = self.text(literal);
                    if let Some((found, left)) = rest.split_at_checked(literal.len())
                        && found.eq_ignore_ascii_case(literal)
                    {
                        rest = left;
                        at += 1;
                        continue;
                    }
                }
                Op::Blanks(min) => {
                    let count = blanks(rest);
                    if count >= min as usize {
                        rest = &rest[count..];
                        at += 1;
                        continue;
                    }
                }
                Op::Run(run) => {
                    let count = run.longest(rest);
                    let min = usize::from(run.min);
                    if count >= min {
                        if count > min && !run.firm {
                            let (least, end) = (pos + min, pos + count);
                            stack.push(Back::Shrink(at, least as u32, end as u32));
                        }
                        fill(spans, run.fills, pos, pos + count);
                        rest = &rest[count..];
                        at += 1;
                        continue;
                    }
                }
                Op::Int { firm, fills } => {
                    let sign = usize::from(matches!(rest, [b'+' | b'-', ..]));
                    let count = digits_of(&rest[sign..]);
                    if count > 0 {
                        let least = pos + sign + 1;
                        let end = pos + sign + count;
                        if count > 1 && !firm {
                            stack.push(Back::Shrink(at, least as u32, end as u32));
                        }
                        fill(spans, fills, pos, end);
                        rest = &rest[sign + count..];
                        at += 1;
                        continue;
                    }
                }
                Op::Quad {
                    firm,
                    then,
                    otherwise,
                } => {
                    if let Some((least, longest)) = quad(rest) {
                        if longest > least && !firm {
                            let (least, end) = (pos + least, pos + longest);
                            stack.push(Back::Shrink(at, least as u32, end as u32));
                        }
                        rest = &rest[longest..];
                        at = then;
                        continue;
                    }
                    if otherwise != NEVER {
                        at = otherwise;
                        continue;
                    }
                }
                Op::OneOf { from, count, fills } => {
                    if let Some(len) = self.one_of(from, count, rest) {
                        fill(spans, fills, pos, pos + len);
                        rest = &rest[len..];
                        at += 1;
                        continue;
                    }
                }
                Op::Byte(bytes, to) => {
                    match self.may_be(bytes, rest) {
                        true => {
                            rest = rest.get(1..).unwrap_or_default();
                            at += 1;
                        }
                        false => at = to,
                    }
                    continue;
                }
                Op::Lazy { hint, fills } => {
                    let first = match rest {
                        [] | [b' ' | b'\t', ..] | [0xC2] | [0xC2, 0xA0, ..] => None,
                        [0xC2, ..] => Some(2),
                        _ => Some(1),
                    };
                    if let Some(first) = first
                        && let Some(end) = self.find(hint, text, pos + first)
                    {
                        if !matches!(hint, Hint::End) {
                            stack.push(Back::Grow(at, end as u32));
                        }
                        fill(spans, fills, pos, end);
                        rest = &text[end..];
                        at += 1;
                        continue;
                    }
                }
                Op::Rest { fills } => {
                    fill(spans, fills, pos, text.len());
                    rest = &[];
                    at += 1;
                    continue;
                }
                Op::Split(other) => {
                    stack.push(Back::Branch(other, pos as u32));
                    at += 1;
                    continue;
                }
                Op::Jump(to) => {
                    at = to;
                    continue;
                }
                Op::Unless(bytes, to) => {
                    at = if self.may_be(bytes, rest) { at + 1 } else { to };
                    continue;
                }
                Op::Keep(variable) => {
                    if let Some(span) = spans.get(variable as usize) {
                        stack.push(Back::Restore(variable, *span));
                    }
                    at += 1;
                    continue;
                }
                Op::Open(variable) => {
                    fill(spans, variable, pos, u32::MAX as usize);
                    at += 1;
                    continue;
                }
                Op::Close(variable) => {
                    end(spans, variable, pos);
                    at += 1;
                    continue;
                }
                Op::End => {
                    if rest.is_empty() {
                        return Outcome::Matched;
                    }
                }
            }
            // Back to the latest choice that is still open.
            loop {
                let Some(back) = stack.pop() else {
                    return Outcome::NotMatched;
                };
                if budget == 0 {
                    return Outcome::Undecided;
                }
                budget -= 1;
                let pos = match back {
                    Back::Restore(variable, span) => {
                        if let Some(kept) = spans.get_mut(variable as usize) {
                            *kept = span;
                        }
                        continue;
                    }
                    Back::Branch(to, from) => {
                        at = to;
                        from as usize
                    }
                    Back::Shrink(step, least, longest) => {
                        let pos = longest - 1;
                        if pos > least {
                            stack.push(Back::Shrink(step, least, pos));
                        }
                        at = step + 1;
                        match ops[step as usize] {
                            Op::Run(Run { fills, .. }) | Op::Int { fills, .. } => {
                                end(spans, fills, pos as usize);
                            }
                            Op::Quad { then, .. } => at = then,
                            _ => {}
                        }
                        pos as usize
                    }
                    Back::Grow(lazy, pos) => {
                        let Op::Lazy { hint, fills } = ops[lazy as usize] else {
                            continue;
                        };
                        let Some(pos) = self.find(hint, text, pos as usize + 1) else {
                            continue;
                        };
                        stack.push(Back::Grow(lazy, pos as u32));
                        end(spans, fills, pos);
                        at = lazy + 1;
                        pos
                    }
                };
                rest = &text[pos..];
                break;
            }
        }
    }
}

#[inline]
fn fill(spans: &mut [Span], variable: u32, start: usize, end: usize) {
    if let Some(span) = spans.get_mut(variable as usize) {
        *span = (start as u32, end as u32);
    }
}

#[inline]
fn end(spans: &mut [Span], variable: u32, end: usize) {
    if let Some(span) = spans.get_mut(variable as usize) {
        span.1 = end as u32;
    }
}

/// What is left of a text behind a literal that it begins with.
#[inline]
fn behind<'t>(text: &'t [u8], literal: &[u8]) -> Option<&'t [u8]> {
    match starts_with(text, literal) {
        true => text.get(literal.len()..),
        false => None,
    }
}

/// Whether the first letter shows that the words are others, however they are written. It may not, although they are.
#[inline]
fn are_others(text: &[u8], usual: &[u8]) -> bool {
    match (text, usual) {
        ([b' ', first @ b'!'..=b'~', ..], [b' ', own, ..])
        | ([first @ b'!'..=b'~', ..], [own @ b'!'..=b'~', ..]) => first != own,
        _ => false,
    }
}

/// The length of the run of blanks that a text starts with. A no-break space is one: web pages, from which lines are
/// copied, are full of them.
#[inline]
pub(super) fn blanks(text: &[u8]) -> usize {
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

impl Run {
    /// The most bytes of the class that a text starts with.
    #[inline]
    fn longest(&self, text: &[u8]) -> usize {
        if self.class == Class::Digit && self.max == u32::MAX {
            return digits_of(text);
        }
        let text = text.get(..self.max as usize).unwrap_or(text);
        let class = table(self.class);
        text.iter()
            .position(|&byte| !class[usize::from(byte)])
            .unwrap_or(text.len())
    }
}

/// How many digits a text starts with.
#[inline]
fn digits_of(text: &[u8]) -> usize {
    if let Some(eight) = text.first_chunk::<8>()
        && let count @ ..8 = digits(u64::from_le_bytes(*eight))
    {
        return count;
    }
    let digit = |byte: &&u8| byte.is_ascii_digit();
    text.iter().take_while(digit).count()
}

/// What is left of a text behind the address that it begins with: a dotted quad, and perhaps a port. None if it is
/// written in another way.
#[inline]
fn address(text: &[u8], port: bool) -> Option<&[u8]> {
    let (_, len) = quad(text)?;
    let rest = text.get(len..)?;
    match rest {
        [b'/' | b':', rest @ ..] if port => match digits_of(rest) {
            0 => None,
            count => rest.get(count..),
        },
        _ => Some(rest),
    }
}

/// The least and the greatest length of a dotted quad at the start of a text. Only the last number may end earlier: a
/// dot must follow the others.
#[inline]
fn quad(text: &[u8]) -> Option<(usize, usize)> {
    let mut pos = 0;
    for number in 0..4 {
        let rest = text.get(pos..)?;
        let count = match rest.first_chunk::<8>() {
            Some(eight) => digits(u64::from_le_bytes(*eight)).min(3),
            None => {
                let digit = |byte: &&u8| byte.is_ascii_digit();
                rest.iter().take(3).take_while(digit).count()
            }
        };
        if count == 0 {
            return None;
        }
        if number == 3 {
            return Some((pos + 1, pos + count));
        }
        if rest.get(count) != Some(&b'.') {
            return None;
        }
        pos += count + 1;
    }
    None
}

/// Whether a piece is a text or blanks.
fn is_fixed(piece: &Piece) -> bool {
    matches!(piece, Piece::Text(_) | Piece::Blanks { .. })
}

/// Whether a piece is an address without a port: a dotted quad or another kind.
fn is_ip(piece: &Piece) -> bool {
    matches!(piece, Piece::Choice(options) if options.first().is_some_and(|option| **option == [Piece::Quad]))
}

/// Whether a piece is a port or nothing.
fn is_port(piece: &Piece) -> bool {
    const MARK: Piece = Piece::Run {
        class: Class::PortMark,
        min: 1,
        max: 1,
    };
    matches!(piece, Piece::Choice(options) if **options == [vec![MARK, DIGITS], vec![]])
}

const SIGN: Piece = Piece::Run {
    class: Class::Sign,
    min: 0,
    max: 1,
};

const DIGITS: Piece = Piece::Run {
    class: Class::Digit,
    min: 1,
    max: usize::MAX,
};

struct Compiler<'t> {
    ignore_case: bool,
    variables: &'t [usize],
    ops: Vec<Op>,
    texts: Vec<u8>,
    /// By [`Op::Lazy`] what may stand behind it.
    behind_lazy: Vec<First>,
    aside: Aside,
}

impl Compiler<'_> {
    /// Appends the steps for `pieces`; `after` is what may follow them. `again` if these pieces may be entered, left by a
    /// failure and passed by another way, so that their captures must be undone.
    fn sequence(&mut self, pieces: &[Piece], after: First, again: bool) {
        // By piece what may stand behind it, from the last.
        let mut behind = vec![after; pieces.len()];
        for at in (1..pieces.len()).rev() {
            behind[at - 1] = First::before_one(&pieces[at], self.ignore_case, behind[at]);
        }
        let mut at = 0;
        while let (Some(piece), Some(next)) = (pieces.get(at), behind.get(at).copied()) {
            if at == 0 || !is_fixed(&pieces[at - 1]) {
                self.phrase(&pieces[at..]);
            }
            at += 1;
            match pieces.get(at) {
                Some(port) if is_ip(piece) && is_port(port) => {
                    let short_cut = self.address(true, NOTHING, behind[at]);
                    self.piece(piece, next, again);
                    self.piece(port, behind[at], again);
                    self.close(short_cut);
                    at += 1;
                }
                Some(digits) if *piece == SIGN && *digits == DIGITS => {
                    let firm = !First::of(|byte| byte.is_ascii_digit()).meets(behind[at]);
                    self.ops.push(Op::Int {
                        firm,
                        fills: NOTHING,
                    });
                    at += 1;
                }
                _ => self.piece(piece, next, again),
            }
        }
    }

    fn piece(&mut self, piece: &Piece, next: First, again: bool) {
        match piece {
            Piece::Text(text) => {
                // A step holds the length in two bytes.
                for text in text.chunks(usize::from(u16::MAX)) {
                    let text = self.text(text);
                    self.ops.push(match self.ignore_case {
                        true => Op::TextAnyCase(text),
                        false => Op::Text(text),
                    });
                }
            }
            Piece::Blanks { required } => self.ops.push(Op::Blanks(u32::from(*required))),
            Piece::Run { class, min, max } => self.ops.push(Op::Run(Run {
                class: *class,
                min: *min as u16,
                max: u32::try_from(*max).unwrap_or(u32::MAX),
                firm: !First::of(|byte| class.holds(byte)).meets(next),
                fills: NOTHING,
            })),
            Piece::Quad => self.quad(next),
            // The hint is filled in when all is there.
            Piece::Lazy => {
                self.behind_lazy.push(next);
                self.ops.push(Op::Lazy {
                    hint: Hint::End,
                    fills: NOTHING,
                });
            }
            Piece::Rest => self.ops.push(Op::Rest { fills: NOTHING }),
            Piece::Choice(options) => match texts(options) {
                Some(texts) if !self.ignore_case => {
                    let from = self.aside.options.len() as u32;
                    for text in &texts {
                        let text = self.text(text);
                        self.aside.options.push(text);
                    }
                    self.ops.push(Op::OneOf {
                        from,
                        count: texts.len() as u32,
                        fills: NOTHING,
                    });
                }
                _ => self.choice(options, next),
            },
            Piece::Capture(capture, inner) => self.capture(*capture, inner, next, again),
        }
    }

    fn capture(&mut self, capture: usize, inner: &[Piece], next: First, again: bool) {
        let variable = self.variables[capture] as u32;
        if again {
            self.ops.push(Op::Keep(variable));
        }
        let short_cut = match inner {
            [ip] if is_ip(ip) => self.address(false, variable, next),
            [ip, port] if is_ip(ip) && is_port(port) => self.address(true, variable, next),
            _ => None,
        };
        let open = self.ops.len();
        self.ops.push(Op::Open(variable));
        self.sequence(inner, next, again);
        // One step can fill the span by itself.
        if let [
            Op::Run(Run { fills, .. })
            | Op::Int { fills, .. }
            | Op::OneOf { fills, .. }
            | Op::Lazy { fills, .. }
            | Op::Rest { fills },
        ] = self.ops.split_at_mut(open + 1).1
        {
            *fills = variable;
            self.ops.swap_remove(open);
        } else {
            self.ops.push(Op::Close(variable));
        }
        self.close(short_cut);
    }

    fn text(&mut self, text: &[u8]) -> Text {
        let from = self.texts.len() as u32;
        self.texts.extend_from_slice(text);
        Text {
            from,
            len: text.len() as u16,
        }
    }

    fn bytes(&mut self, first: First) -> Bytes {
        let held: Vec<u8> = (0..=u8::MAX)
            .filter(|byte| first.holds(Some(byte)))
            .collect();
        match held.as_slice() {
            [one, ..] if held.len() <= 4 && !first.end => {
                Bytes::Few(std::array::from_fn(|at| *held.get(at).unwrap_or(one)))
            }
            _ => {
                self.aside.firsts.push(first);
                Bytes::Many(self.aside.firsts.len() as u32 - 1)
            }
        }
    }

    /// Appends the short cut for an address if no shorter one could match, so that there is nothing to come back to.
    /// Where it leads is filled in when its pieces are there.
    fn address(&mut self, port: bool, fills: u32, after: First) -> Option<usize> {
        let more = First::of(|byte| byte.is_ascii_digit() || (port && Class::PortMark.holds(byte)));
        if more.meets(after) {
            return None;
        }
        self.ops.push(Op::Address { port, fills, to: 0 });
        Some(self.ops.len() - 1)
    }

    fn close(&mut self, short_cut: Option<usize>) {
        let there = self.ops.len() as u32;
        if let Some(Op::Address { to, .. }) = short_cut.and_then(|at| self.ops.get_mut(at)) {
            *to = there;
        }
    }

    /// Appends the short cut for the words and blanks that `pieces` begin with, if there are several.
    fn phrase(&mut self, pieces: &[Piece]) {
        let fixed = || pieces.iter().take_while(|piece| is_fixed(piece));
        let count = fixed().count();
        if count < 2 || self.ignore_case {
            return;
        }
        let (mut usual, mut tight, mut ends) = (Vec::new(), Vec::new(), false);
        for piece in fixed() {
            ends = false;
            match piece {
                Piece::Text(text) => {
                    usual.extend_from_slice(text);
                    tight.extend_from_slice(text);
                }
                piece => {
                    usual.push(b' ');
                    // Before a colon there is seldom a blank, behind it often.
                    let after_text = tight.last().is_some_and(|byte| *byte != b':');
                    let optional = matches!(piece, Piece::Blanks { required: false });
                    if !(optional && (after_text || tight.is_empty())) {
                        tight.push(b' ');
                    }
                    ends = true;
                }
            }
        }
        // Blanks at the end that need not be there are blanks all the same, or the phrase does not end in them.
        let blanks = ends && tight.last() == Some(&b' ');
        // A step holds the lengths in two bytes; then it leads over as many steps as there are pieces.
        if (ends && !blanks) || usual.len() > usize::from(u16::MAX) {
            return;
        }
        let to = (self.ops.len() + 1 + count) as u32;
        let is_same = tight == usual;
        let usual = self.text(&usual);
        let tight = match is_same {
            true => 0,
            false => self.text(&tight).len,
        };
        self.ops.push(Op::Phrase {
            blanks,
            tight,
            usual,
            to,
        });
    }

    fn quad(&mut self, after: First) {
        self.ops.push(Op::Quad {
            firm: !First::of(|byte| byte.is_ascii_digit()).meets(after),
            then: self.ops.len() as u32 + 1,
            otherwise: NEVER,
        });
    }

    fn choice(&mut self, options: &[Vec<Piece>], after: First) {
        let firsts: Vec<First> = options
            .iter()
            .map(|option| First::before(option, self.ignore_case, after))
            .collect();
        let mut ends = Vec::new();
        for (index, option) in options.iter().enumerate() {
            let Some(others) = firsts[index + 1..].iter().copied().reduce(First::or) else {
                self.sequence(option, after, true);
                break;
            };
            let fork = self.ops.len();
            let is_told = !firsts[index].meets(others);
            match option.as_slice() {
                // See there: no other option matches where a quad does.
                [Piece::Quad] => self.quad(after),
                [one, rest @ ..] if is_told && is_byte(one) => {
                    let bytes = self.bytes(firsts[index]);
                    self.ops.push(Op::Byte(bytes, 0));
                    self.sequence(rest, after, true);
                }
                _ if is_told => {
                    let bytes = self.bytes(firsts[index]);
                    self.ops.push(Op::Unless(bytes, 0));
                    self.sequence(option, after, true);
                }
                _ => {
                    self.ops.push(Op::Split(0));
                    self.sequence(option, after, true);
                }
            }
            // Where nothing stands in the other, both go on here.
            if options[index + 1..] != [Vec::new()] && option.as_slice() != [Piece::Quad] {
                ends.push(self.ops.len());
                self.ops.push(Op::Jump(0));
            }
            let there = self.ops.len() as u32;
            match &mut self.ops[fork] {
                Op::Quad { otherwise, .. } => {
                    *otherwise = there;
                    ends.push(fork);
                }
                Op::Byte(_, to) | Op::Unless(_, to) | Op::Split(to) => *to = there,
                _ => {}
            }
        }
        let there = self.ops.len() as u32;
        for end in ends {
            if let Op::Jump(to) | Op::Quad { then: to, .. } = &mut self.ops[end] {
                *to = there;
            }
        }
    }

    /// Fills in where what follows a lazy hole may start.
    fn hints(&mut self) {
        let mut behind = std::mem::take(&mut self.behind_lazy).into_iter();
        for at in 0..self.ops.len() {
            if matches!(self.ops[at], Op::Lazy { .. })
                && let Some(first) = behind.next()
            {
                let found = self.hint(at + 1).unwrap_or_else(|| {
                    self.aside.firsts.push(first);
                    Hint::Any(self.aside.firsts.len() as u32 - 1)
                });
                if let Op::Lazy { hint, .. } = &mut self.ops[at] {
                    *hint = found;
                }
            }
        }
    }

    /// A hint that finds the step at `at`, if it is one that can be searched for.
    fn hint(&mut self, mut at: usize) -> Option<Hint> {
        loop {
            return Some(match *self.ops.get(at)? {
                // Behind a short cut its pieces follow.
                Op::Keep(_)
                | Op::Open(_)
                | Op::Close(_)
                | Op::Phrase { .. }
                | Op::Address { .. } => {
                    at += 1;
                    continue;
                }
                Op::Text(Text { from, len: 1 }) => Hint::One(self.texts[from as usize]),
                Op::Text(text) => Hint::Text(self.finder(text)),
                Op::TextAnyCase(text) => {
                    let first = self.texts[text.from as usize];
                    Hint::Two(first.to_ascii_lowercase(), first.to_ascii_uppercase())
                }
                Op::Blanks(min) => match *self.ops.get(at + 1)? {
                    Op::Text(text) => Hint::BlanksText(min > 0, self.finder(text)),
                    _ if min == 0 => return None,
                    _ => Hint::Three(b' ', b'\t', 0xC2),
                },
                Op::End => Hint::End,
                _ => return None,
            });
        }
    }

    fn finder(&mut self, text: Text) -> u32 {
        let from = text.from as usize;
        let finder = memmem::Finder::new(&self.texts[from..from + usize::from(text.len)]);
        self.aside.finders.push(finder.into_owned());
        self.aside.finders.len() as u32 - 1
    }
}

/// Whether a piece is one byte, of whichever class.
fn is_byte(piece: &Piece) -> bool {
    match piece {
        Piece::Text(text) => text.len() == 1,
        Piece::Run { min: 1, max: 1, .. } => true,
        _ => false,
    }
}

/// The texts that a choice is between, if it is between texts alone and none begins with another.
fn texts(options: &[Vec<Piece>]) -> Option<Box<[Box<[u8]>]>> {
    let text = |option: &Vec<Piece>| match option.as_slice() {
        [Piece::Text(text)] if text.len() <= usize::from(u16::MAX) => Some(text.as_slice().into()),
        _ => None,
    };
    let texts: Box<[Box<[u8]>]> = options.iter().map(text).collect::<Option<_>>()?;
    let clashes = |at: usize| {
        let mut others = texts.iter().enumerate().filter(|(other, _)| *other != at);
        others.any(|(_, other)| texts[at].starts_with(other))
    };
    (!(0..texts.len()).any(clashes)).then_some(texts)
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

#[cfg(test)]
mod tests {
    use super::*;
    use regex_automata::meta::Regex;
    use regex_automata::util::syntax;

    fn both(template: &str, message: &str) -> Option<Vec<Option<Vec<u8>>>> {
        let parsed = Template::parse(template).unwrap();
        let variables: Vec<usize> = (0..parsed.captures.len()).collect();
        let machine = Machine::new(&parsed, false, &variables);
        let mut spans = vec![NOWHERE; parsed.captures.len()];
        let run = |start, spans: &mut Vec<Span>| {
            machine.run(message.as_bytes(), start, spans, &mut Scratch::default())
        };
        let outcome = run(Start::default(), &mut spans);
        // It comes to the same from behind any beginning of the message.
        for len in 0..=message.len() {
            let mut again = vec![NOWHERE; parsed.captures.len()];
            let start = machine.after(&message.as_bytes()[..len]);
            assert_eq!(run(start, &mut again), outcome, "{template} over {message}");
            if outcome == Outcome::Matched {
                assert_eq!(again, spans, "{template} over {message}");
            }
        }
        let found = (outcome == Outcome::Matched).then(|| {
            spans
                .iter()
                .map(|span| {
                    (*span != NOWHERE)
                        .then(|| message.as_bytes()[span.0 as usize..span.1 as usize].to_vec())
                })
                .collect::<Vec<_>>()
        });
        let regex = Regex::builder()
            .syntax(syntax::Config::new().unicode(false).utf8(false))
            .build(&format!("^{}", parsed.to_regex(false)))
            .unwrap();
        let mut captures = regex.create_captures();
        regex.captures(message, &mut captures);
        let expected = captures.is_match().then(|| {
            (1..captures.group_len())
                .map(|group| {
                    captures
                        .get_group(group)
                        .map(|span| message.as_bytes()[span.range()].to_vec())
                })
                .collect::<Vec<_>>()
        });
        // What the machine leaves undecided is left to the expression, as it is for real.
        if outcome != Outcome::Undecided {
            assert_eq!(found, expected, "{template} over {message}");
        }
        expected
    }

    #[test]
    fn the_machine_and_the_regex_agree() {
        for (template, message, expected) in [
            ("SEL is {n:int}% full", "SEL  is 85% full", Some("85")),
            ("from : {who}", "from: me and you", Some("me and you")),
            (
                "for {user} from {_:ip} port {_:int} ssh2",
                "for a from 1.2.3.4 port 5 ssh2 from 6.7.8.9 port 10 ssh2",
                Some("a from 1.2.3.4 port 5 ssh2"),
            ),
            (
                "for {user} from {_:ip} port {_:int} ssh2",
                "for a from 1.2.3.4 port 5 ssh2 x",
                None,
            ),
            (
                "Device: {d}, {_:rest}",
                "Device: /dev/sda [SAT], x, y",
                Some("/dev/sda [SAT]"),
            ),
            ("{d:word}, T", "/dev/sda, T", Some("/dev/sda")),
            ("at {p:peer}.", "at 10.0.0.1/443.", Some("10.0.0.1/443")),
            ("at {p:peer}.", "at fe80::1%eth0.", Some("fe80::1%eth0")),
            ("at {p:peer}: x", "at ::1:443: x", Some("::1:443")),
            ("at {p:ip} up", "at 999.1.1 up", None),
            ("client {c:quoted} gone", "client \"a b\" gone", Some("a b")),
            ("v {x:number} {_:(up|down)}", "v -1.50 down", Some("-1.50")),
            ("r {x:hex}", "r 0x1F", Some("0x1F")),
            ("is{? not?} {w}", "is not it", Some("it")),
            ("is{? not?} {w}", "is it", Some("it")),
            ("up{x:rest}", "up", Some("")),
            ("up {x:rest}", "up  now", Some("now")),
            ("at {p:peer} up", "at 10.0.0.1:22 up", Some("10.0.0.1:22")),
            ("at {p:peer} up", "at 10.0.0.1/ up", None),
            ("at {p:ip} up", "at 10.0.0.1/2 up", None),
            ("at {p:ip} up", "at 10.0.0.1234 up", None),
            ("at {_:peer} is {w}", "at 10.0.0.1:22  is up", Some("up")),
            ("at {_:peer} is {w}", "at ::1/22 is up", Some("up")),
            // The address is not all that looks like one.
            ("{p:peer}5", "10.0.0.15", Some("10.0.0.1")),
            ("{p:peer}5", "10.0.0.1/15", Some("10.0.0.1/1")),
            ("{p:peer}/x", "10.0.0.1/x", Some("10.0.0.1")),
            ("{p:peer}/x", "10.0.0.1/443/x", Some("10.0.0.1/443")),
            ("{p:peer}{w}", "10.0.0.1/443", Some("10.0.0.1/44")),
            ("n {n:int}/{m:int}", "n -5/+6", Some("-5")),
            ("n {n:int}.5", "n +12.5", Some("+12")),
            ("n {n:int}", "n +", None),
            ("n {n:int}", "n --5", None),
            // A step that fills its span by itself is shortened or made longer.
            ("{n:int}25", "-1225", Some("-12")),
            ("{w:word}b c", "aabb c", Some("aab")),
            ("{x:name}.{y:name}.a", "a.b.c.a", Some("a.b")),
            ("{x}, {y} end", "a, b end, c end", Some("a")),
            ("{x} b{? {n:int}?}", "a b 1 b b 12", Some("a b 1 b")),
        ] {
            let found = both(template, message).map(|captures| captures[0].clone());
            assert_eq!(
                found,
                expected.map(|text| Some(text.as_bytes().to_vec())),
                "{template}"
            );
        }
    }

    proptest::proptest! {
        /// Pieces and messages over a small alphabet meet often enough to matter.
        #[test]
        fn the_machine_and_the_regex_agree_on_random_templates(
            parts in proptest::collection::vec(
                proptest::sample::select(vec![
                    "a", "b", " ", ":", " : ", ".", "1", "{_}", "{x}", "{y:word}", "{n:int}", "{m:number}",
                    "{? a?}", "{?b?}", "{?b1?}", "{t:(a1|b)}", "{i:ip}", "{p:peer}", "{q:quoted}", "{h:hex}", "{e:name}", "{o:(a|a b|1)}",
                    "{_:int}", "{_:word}", "{_:ip}", "{_:peer}", "/", "-", "{?{k:int}?}", "{? {l:peer}?}", "{?b{z}:?}",
                ]), 1..7),
            message in "([ab1 :.\"/+\u{a0}é-]|1\\.1\\.1\\.1|1\\.1\\.11\\.111[:/]1){0,14}",
        ) {
            let mut seen = std::collections::HashSet::new();
            let text: String = parts.iter().filter(|part| !part.starts_with('{') || part.starts_with("{?") || seen.insert(**part)).copied().collect();
            let message = message.trim();
            if Template::parse(&text).is_ok() {
                both(&text, message);
            }
        }
    }
}
