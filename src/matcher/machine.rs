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

/// What the machine does at one place. All but [`Op::Run`] with `firm` unset, [`Op::Lazy`] and [`Op::Split`] leave nothing
/// to come back to, so that most templates run straight through, without touching the stack.
///
/// The tag is a byte of its own: packed into a field's spare values, it takes a dozen instructions to find at every step.
#[derive(Clone, Debug)]
#[repr(u8)]
pub(super) enum Op {
    /// These bytes.
    Text(Box<[u8]>),
    /// These bytes, ASCII case ignored.
    TextAnyCase(Box<[u8]>),
    /// One of these: words as they are usually written, with one blank wherever blanks may be. Go on there if it is so,
    /// else here, where the words and blanks follow one by one.
    Phrase(Phrase, usize),
    /// All blanks there are, at least so many.
    Blanks(usize),
    /// Bytes of a class, greedy.
    Run(Run),
    /// A dotted quad; its last run of digits is `firm` or not, as in [`Run`]. Go on at `then`; if there is none, there.
    Quad {
        firm: bool,
        then: usize,
        otherwise: Option<usize>,
    },
    /// One of these texts, of which none begins with another.
    OneOf(Box<[Box<[u8]>]>),
    /// One of these bytes; if the next is another, go on there. That byte could not match.
    Byte(Box<First>, usize),
    /// One byte that is no blank, then as few as possible; the hint finds where what follows may start.
    Lazy(Hint),
    /// Everything that is left.
    Rest,
    /// Go on here; if that fails, there.
    Split(usize),
    /// Go on here if the next byte is one of these, else there. The other way could not match.
    Unless(Box<First>, usize),
    Jump(usize),
    /// A capture opens. If it may have been open before and closed by a failure, its old place is kept.
    Open {
        variable: usize,
        keep: bool,
    },
    Close(usize),
    /// The message must end here.
    End,
}

/// The usual ways to write the same words.
#[derive(Clone, Debug)]
pub(super) struct Phrase {
    /// As the template has it.
    usual: Box<[u8]>,
    /// Without the blanks that need not be there.
    tight: Option<Box<[u8]>>,
    /// Blanks end it, of which there may be more.
    blanks: bool,
}

impl Phrase {
    /// How many bytes of the text are the phrase; none if it is written in another way.
    #[inline]
    fn len(&self, text: &[u8]) -> Option<usize> {
        let len = if starts_with(text, &self.usual) {
            self.usual.len()
        } else {
            let tight = self.tight.as_ref()?;
            if !starts_with(text, tight) {
                return None;
            }
            tight.len()
        };
        match self.blanks {
            true => Some(len + blanks(&text[len..])),
            false => Some(len),
        }
    }

    /// Whether the first letter shows that the words are others, however they are written. It may not, although they are.
    #[inline]
    fn is_other(&self, text: &[u8]) -> bool {
        match (text, &*self.usual) {
            ([b' ', first @ b'!'..=b'~', ..], [b' ', own, ..])
            | ([first @ b'!'..=b'~', ..], [own @ b'!'..=b'~', ..]) => first != own,
            _ => false,
        }
    }
}

/// A run of bytes of a class.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub class: &'static [bool; 256],
    pub min: usize,
    max: usize,
    /// The class is that of digits.
    digits: bool,
    /// Nothing that may follow begins with a byte of the class, so that a shorter run could not match.
    firm: bool,
}

/// With which bytes a match may begin, or that it may be empty. Too many rather than too few.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct First {
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
    pub(super) fn holds(&self, next: Option<&u8>) -> bool {
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
#[derive(Clone, Debug)]
pub(super) enum Hint {
    One(u8),
    Two(u8, u8),
    Three(u8, u8, u8),
    Text(Box<memmem::Finder<'static>>),
    /// So many blanks of any kind at least, and then this.
    BlanksText(usize, Box<memmem::Finder<'static>>),
    End,
    /// One of these.
    Any(Box<First>),
}

impl Hint {
    /// The bytes that what follows may start with; none if it may also be the end.
    pub(super) fn bytes(&self) -> Option<[bool; 256]> {
        let any = |bytes: &[u8]| Some(std::array::from_fn(|byte| bytes.contains(&(byte as u8))));
        match self {
            Hint::One(a) => any(&[*a]),
            Hint::Two(a, b) => any(&[*a, *b]),
            Hint::Three(a, b, c) => any(&[*a, *b, *c]),
            Hint::Text(finder) => any(finder.needle().get(..1)?),
            Hint::BlanksText(0, finder) => any(&[b' ', b'\t', 0xC2, *finder.needle().first()?]),
            Hint::BlanksText(..) => any(&[b' ', b'\t', 0xC2]),
            Hint::End => None,
            Hint::Any(first) if first.end => None,
            Hint::Any(first) => Some(std::array::from_fn(|byte| first.holds(Some(&(byte as u8))))),
        }
    }

    /// The first position from `from` on where what follows may start.
    fn find(&self, text: &[u8], from: usize) -> Option<usize> {
        let rest = text.get(from..)?;
        let found = match self {
            Hint::One(a) => memchr(*a, rest)?,
            Hint::Two(a, b) => memchr2(*a, *b, rest)?,
            Hint::Three(a, b, c) => memchr3(*a, *b, *c, rest)?,
            Hint::Text(finder) => finder.find(rest)?,
            Hint::BlanksText(min, finder) => {
                let mut behind = 0;
                loop {
                    let text = behind + finder.find(&rest[behind..])?;
                    let blanks = trim_blanks(&rest[..text]).len();
                    if *min == 0 || blanks < text {
                        break blanks;
                    }
                    behind = text + 1;
                }
            }
            Hint::End => rest.len(),
            Hint::Any(first) => match rest.iter().position(|byte| first.holds(Some(byte))) {
                Some(at) => at,
                None if first.end => rest.len(),
                None => return None,
            },
        };
        Some(from + found)
    }
}

/// A template, ready to run.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    ops: Box<[Op]>,
}

/// Where a run goes on: the step, and the place in the message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Start {
    at: usize,
    pos: usize,
}

impl Start {
    pub(super) fn pos(self) -> usize {
        self.pos
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

#[derive(Clone, Copy, Debug)]
enum Back {
    /// Go on at this op and position.
    Branch(usize, usize),
    /// A greedy run may end earlier: op, least end, end so far.
    Shrink(usize, usize, usize),
    /// A lazy hole may end later: op, end so far.
    Grow(usize, usize),
    /// A capture was something else before.
    Restore(usize, Span),
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
        };
        compiler.sequence(&template.pieces, First::END, false);
        let mut ops = compiler.ops;
        ops.push(Op::End);
        for at in 0..ops.len() {
            if matches!(ops[at], Op::Lazy(_))
                && let Some(hint) = hint(&ops, at + 1)
            {
                ops[at] = Op::Lazy(hint);
            }
        }
        Self { ops: ops.into() }
    }

    /// How far a run surely comes over a message that begins with `prefix`, whatever follows.
    pub(super) fn after(&self, prefix: &[u8]) -> Start {
        let mut start = Start::default();
        loop {
            let rest = prefix.get(start.pos..).unwrap_or_default();
            let to = match &self.ops[start.at] {
                // The words and blanks follow one by one.
                Op::Phrase(..) => start.at + 1,
                Op::Text(text) if starts_with(rest, text) => {
                    start.pos += text.len();
                    start.at + 1
                }
                Op::Blanks(min) => {
                    let count = blanks(rest);
                    // There may be more of them.
                    if count < *min || matches!(rest[count..], [] | [0xC2]) {
                        return start;
                    }
                    start.pos += count;
                    start.at + 1
                }
                Op::OneOf(texts) => match texts.iter().find(|text| starts_with(rest, text)) {
                    Some(text) => {
                        start.pos += text.len();
                        start.at + 1
                    }
                    None => return start,
                },
                Op::Byte(first, _) if !rest.is_empty() && first.holds(rest.first()) => {
                    start.pos += 1;
                    start.at + 1
                }
                Op::Unless(first, _) if !rest.is_empty() && first.holds(rest.first()) => {
                    start.at + 1
                }
                Op::Byte(_, to) | Op::Unless(_, to) if !rest.is_empty() => *to,
                Op::Jump(to) => *to,
                _ => return start,
            };
            start.at = to;
        }
    }

    /// The steps, for the set that tells which machines to try.
    pub(super) fn ops(&self) -> &[Op] {
        &self.ops
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
        let Start { mut at, mut pos } = start;
        loop {
            let mut failed = false;
            match &self.ops[at] {
                Op::Text(literal) => match starts_with(&text[pos..], literal) {
                    true => pos += literal.len(),
                    false => failed = true,
                },
                Op::Phrase(phrase, to) => {
                    let rest = &text[pos..];
                    if let Some(len) = phrase.len(rest) {
                        pos += len;
                        at = *to;
                        continue;
                    }
                    failed = phrase.is_other(rest);
                }
                Op::TextAnyCase(literal) => match text.get(pos..pos + literal.len()) {
                    Some(found) if found.eq_ignore_ascii_case(literal) => pos += literal.len(),
                    _ => failed = true,
                },
                Op::Blanks(min) => {
                    let count = blanks(&text[pos..]);
                    pos += count;
                    failed = count < *min;
                }
                Op::Run(run) => {
                    let count = run.longest(&text[pos..]);
                    if count < run.min {
                        failed = true;
                    } else {
                        if count > run.min && !run.firm {
                            stack.push(Back::Shrink(at + 1, pos + run.min, pos + count));
                        }
                        pos += count;
                    }
                }
                Op::Quad {
                    firm,
                    then,
                    otherwise,
                } => match quad(&text[pos..]) {
                    Some((least, longest)) => {
                        if longest > least && !firm {
                            stack.push(Back::Shrink(*then, pos + least, pos + longest));
                        }
                        pos += longest;
                        at = *then;
                        continue;
                    }
                    None => match otherwise {
                        Some(to) => {
                            at = *to;
                            continue;
                        }
                        None => failed = true,
                    },
                },
                Op::OneOf(options) => {
                    let rest = &text[pos..];
                    match options.iter().find(|option| starts_with(rest, option)) {
                        Some(option) => pos += option.len(),
                        None => failed = true,
                    }
                }
                Op::Byte(first, to) => {
                    if !first.holds(text.get(pos)) {
                        at = *to;
                        continue;
                    }
                    pos += 1;
                }
                Op::Lazy(hint) => {
                    let first = match &text[pos..] {
                        [] | [b' ' | b'\t', ..] | [0xC2] | [0xC2, 0xA0, ..] => None,
                        [0xC2, ..] => Some(2),
                        _ => Some(1),
                    };
                    match first.and_then(|first| hint.find(text, pos + first)) {
                        Some(end) => {
                            if !matches!(hint, Hint::End) {
                                stack.push(Back::Grow(at, end));
                            }
                            pos = end;
                        }
                        None => failed = true,
                    }
                }
                Op::Rest => pos = text.len(),
                Op::Split(other) => stack.push(Back::Branch(*other, pos)),
                Op::Jump(to) => {
                    at = *to;
                    continue;
                }
                Op::Unless(first, to) => {
                    if !first.holds(text.get(pos)) {
                        at = *to;
                        continue;
                    }
                }
                Op::Open { variable, keep } => {
                    if *keep {
                        stack.push(Back::Restore(*variable, spans[*variable]));
                    }
                    spans[*variable] = (pos as u32, u32::MAX);
                }
                Op::Close(variable) => spans[*variable].1 = pos as u32,
                Op::End => match pos == text.len() {
                    true => return Outcome::Matched,
                    false => failed = true,
                },
            }
            if !failed {
                at += 1;
                continue;
            }
            // Back to the latest choice that is still open.
            loop {
                if budget == 0 {
                    return Outcome::Undecided;
                }
                budget -= 1;
                match stack.pop() {
                    None => return Outcome::NotMatched,
                    Some(Back::Restore(capture, span)) => spans[capture] = span,
                    Some(Back::Branch(to, from)) => {
                        (at, pos) = (to, from);
                        break;
                    }
                    Some(Back::Shrink(next, least, end)) => {
                        if end - 1 > least {
                            stack.push(Back::Shrink(next, least, end - 1));
                        }
                        (at, pos) = (next, end - 1);
                        break;
                    }
                    Some(Back::Grow(lazy, end)) => {
                        let Op::Lazy(hint) = &self.ops[lazy] else {
                            continue;
                        };
                        if let Some(end) = hint.find(text, end + 1) {
                            stack.push(Back::Grow(lazy, end));
                            (at, pos) = (lazy + 1, end);
                            break;
                        }
                    }
                }
            }
        }
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
        if self.max == 1 {
            return usize::from(
                text.first()
                    .is_some_and(|&byte| self.class[usize::from(byte)]),
            );
        }
        if self.digits
            && self.max >= 8
            && let Some(eight) = text.first_chunk::<8>()
            && let count @ ..8 = digits(u64::from_le_bytes(*eight))
        {
            return count;
        }
        let text = text.get(..self.max).unwrap_or(text);
        text.iter()
            .position(|&byte| !self.class[usize::from(byte)])
            .unwrap_or(text.len())
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

struct Compiler<'t> {
    ignore_case: bool,
    variables: &'t [usize],
    ops: Vec<Op>,
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
        for (at, (piece, next)) in pieces.iter().zip(behind).enumerate() {
            if at == 0 || !is_fixed(&pieces[at - 1]) {
                self.phrase(&pieces[at..]);
            }
            match piece {
                Piece::Text(text) if self.ignore_case => {
                    self.ops.push(Op::TextAnyCase(text.as_slice().into()));
                }
                Piece::Text(text) => self.ops.push(Op::Text(text.as_slice().into())),
                Piece::Blanks { required } => self.ops.push(Op::Blanks(usize::from(*required))),
                Piece::Run { class, min, max } => self.ops.push(Op::Run(Run {
                    class: table(*class),
                    min: *min,
                    max: *max,
                    digits: *class == Class::Digit,
                    firm: !First::of(|byte| class.holds(byte)).meets(next),
                })),
                Piece::Quad => self.quad(next),
                // Where one step follows, there is a better hint; it is filled in when all is there.
                Piece::Lazy => self.ops.push(Op::Lazy(Hint::Any(Box::new(next)))),
                Piece::Rest => self.ops.push(Op::Rest),
                Piece::Choice(options) => match texts(options) {
                    Some(texts) if !self.ignore_case => self.ops.push(Op::OneOf(texts)),
                    _ => self.choice(options, next),
                },
                Piece::Capture(capture, inner) => {
                    let variable = self.variables[*capture];
                    self.ops.push(Op::Open {
                        variable,
                        keep: again,
                    });
                    self.sequence(inner, next, again);
                    self.ops.push(Op::Close(variable));
                }
            }
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
        if ends && !blanks {
            return;
        }
        let to = self.ops.len() + 1 + count;
        let phrase = Phrase {
            tight: (tight != usual).then(|| tight.into()),
            usual: usual.into(),
            blanks,
        };
        self.ops.push(Op::Phrase(phrase, to));
    }

    fn quad(&mut self, after: First) {
        self.ops.push(Op::Quad {
            firm: !First::of(|byte| byte.is_ascii_digit()).meets(after),
            then: self.ops.len() + 1,
            otherwise: None,
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
                    self.ops.push(Op::Byte(Box::new(firsts[index]), 0));
                    self.sequence(rest, after, true);
                }
                _ if is_told => {
                    self.ops.push(Op::Unless(Box::new(firsts[index]), 0));
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
            let there = self.ops.len();
            match &mut self.ops[fork] {
                Op::Quad { otherwise, .. } => {
                    *otherwise = Some(there);
                    ends.push(fork);
                }
                Op::Byte(_, to) | Op::Unless(_, to) | Op::Split(to) => *to = there,
                _ => {}
            }
        }
        let there = self.ops.len();
        for end in ends {
            if let Op::Jump(to) | Op::Quad { then: to, .. } = &mut self.ops[end] {
                *to = there;
            }
        }
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
        [Piece::Text(text)] => Some(text.as_slice().into()),
        _ => None,
    };
    let texts: Box<[Box<[u8]>]> = options.iter().map(text).collect::<Option<_>>()?;
    let clashes = |at: usize| {
        let mut others = texts.iter().enumerate().filter(|(other, _)| *other != at);
        others.any(|(_, other)| texts[at].starts_with(other))
    };
    (!(0..texts.len()).any(clashes)).then_some(texts)
}

/// A hint that finds the step at `at`, if it is one that can be searched for.
fn hint(ops: &[Op], mut at: usize) -> Option<Hint> {
    loop {
        return Some(match ops.get(at)? {
            Op::Open { .. } | Op::Close(_) | Op::Phrase(..) => {
                at += 1;
                continue;
            }
            Op::Text(text) if text.len() == 1 => Hint::One(text[0]),
            Op::Text(text) => Hint::Text(Box::new(memmem::Finder::new(text).into_owned())),
            Op::TextAnyCase(text) => {
                Hint::Two(text[0].to_ascii_lowercase(), text[0].to_ascii_uppercase())
            }
            Op::Blanks(min) => match (min, ops.get(at + 1)?) {
                (_, Op::Text(text)) => {
                    Hint::BlanksText(*min, Box::new(memmem::Finder::new(text).into_owned()))
                }
                (0, _) => return None,
                _ => Hint::Three(b' ', b'\t', 0xC2),
            },
            Op::End => Hint::End,
            _ => return None,
        });
    }
}

/// The class as a table, made at compile time.
fn table(class: Class) -> &'static [bool; 256] {
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
        assert_eq!(found, expected, "{template} over {message}");
        found
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
                ]), 1..7),
            message in "[ab1 :.\"/\u{a0}é]{0,14}",
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
