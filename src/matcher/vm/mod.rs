//! Runs one template over one message and says where its placeholders are.
//!
//! ```text
//! template      SEL is {n:int}% full
//! pieces        Text SEL · Blanks · Text is · Blanks · Capture(Run Sign, Run Digit+) · Text % · Blanks · Text full
//! instructions  0 Phrase "SEL is "        the words as they are usually written, else one by one
//!               1 Int, possessive         fills the span of `n`
//!               2 Phrase "% full"
//!               3 End
//! ```
//!
//! It is a backtracking matcher. A template is mostly literal text, which is compared in place; the end of a placeholder
//! is found with `memchr`. Only runs that are not possessive, [`Inst::Lazy`], [`Inst::Split`] and
//! [`Inst::SaveCapture`] push a backtrack point; most templates never do. A run is possessive if nothing that may follow
//! begins with one of its bytes, so that a shorter run could not match.
//!
//! **Cost.** About 12 instructions for each step and one for each byte compared: some 550 for a message of a hundred
//! bytes, where a generic capture engine takes several thousand. Backtracking reads bytes again, so it has a
//! [budget](Scratch::start) of bytes read that all templates that are tried on one message share. When that is spent the
//! outcome is [`Outcome::BudgetExceeded`], and the caller asks a linear engine, built from the same pieces.
//!
//! **Not used** for patterns that are written as regular expressions, nor to find out which of many templates match:
//! that is what [`super::select`] is for.

mod compile;
mod scan;
#[cfg(test)]
mod tests;

use crate::rules::Class;
pub(super) use compile::{first_of_all, is_without_blanks, last_of_all};
pub(super) use scan::FirstSet;
pub(super) use scan::blanks;
use scan::{Prefilter, digits_of, quad, strip, strip_any_case};

/// A capture: start and end in the message, in bytes.
pub(super) type Span = (u32, u32);

/// A placeholder that is not in this message.
pub(super) const ABSENT: Span = (u32::MAX, u32::MAX);

/// The number of no variable: fills no span.
const NO_CAPTURE: u32 = u32::MAX;

/// What the machine does at one place, and then goes on with the next instruction if nothing else is said.
///
/// The tag is a byte of its own: packed into a field's spare values, it takes a dozen instructions to read at every step.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
enum Inst {
    /// These bytes.
    Text(Text),
    /// These bytes, ASCII case ignored.
    TextAnyCase(Text),
    /// Words with the blanks between them as they are usually written, perhaps with `blanks` at their end; or else as this
    /// one of [`TemplateVm::phrases`] has them, one by one.
    Phrase {
        words: Text,
        blanks: bool,
        one_by_one: u32,
    },
    /// All blanks there are, at least so many.
    Blanks(usize),
    /// Bytes of a class, greedy.
    Run(Run),
    /// A sign or none, and digits.
    Int {
        possessive: bool,
        capture: u32,
    },
    /// A dotted quad. If there is none, go on there, or fail at [`NO_CAPTURE`].
    Quad {
        possessive: bool,
        otherwise: u32,
    },
    /// A dotted quad, perhaps with a port. Go on at `to` if there is one, else here, where its pieces follow.
    Address {
        port: bool,
        to: u32,
    },
    /// One of these texts, by their places among [`TemplateVm::options`]; none begins with another.
    OneOf {
        from: u32,
        to: u32,
        capture: u32,
    },
    /// One byte that is no blank, then as few as possible; this one of [`TemplateVm::prefilters`] finds where what follows
    /// may start.
    Lazy {
        prefilter: u32,
        capture: u32,
    },
    /// Everything that is left.
    Rest {
        capture: u32,
    },
    /// Go on here; if that fails, there.
    Split(u32),
    /// Go on here if the next byte is one of this one of [`TemplateVm::first_sets`], else there. The other branch could not
    /// match.
    Unless(u32, u32),
    Jump(u32),
    /// A failed branch may have filled this span, and another may pass it by: keep its old place.
    SaveCapture(u32),
    CaptureStart(u32),
    CaptureEnd(u32),
    /// The message must end here.
    End,
}

/// A part of [`TemplateVm::texts`].
#[derive(Clone, Copy, Debug)]
struct Text {
    from: u32,
    to: u32,
}

/// A part of a phrase.
#[derive(Clone, Copy, Debug)]
enum FixedPart {
    /// These bytes.
    Text(Text),
    /// All blanks there are, at least so many.
    Blanks(usize),
}

/// A run of bytes of a class.
#[derive(Clone, Copy, Debug)]
struct Run {
    class: Class,
    possessive: bool,
    /// The same, but that a no-break space may be within the run and begin what follows.
    possessive_without_no_break_space: bool,
    min: u16,
    max: u32,
    capture: u32,
}

/// A template, ready to run.
#[derive(Clone, Debug)]
pub(super) struct TemplateVm {
    insts: Box<[Inst]>,
    phrases: Box<[Box<[FixedPart]>]>,
    /// All texts that instructions compare with.
    texts: Box<[u8]>,
    options: Box<[Text]>,
    first_sets: Box<[FirstSet]>,
    prefilters: Box<[Prefilter]>,
}

/// What a run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Matched,
    NotMatched,
    /// A linear engine must decide.
    BudgetExceeded,
}

/// What is left to try. An instruction that fills a span is named, so that the span's end can follow: its start is still
/// right, because jumps only lead on.
#[derive(Clone, Copy, Debug)]
enum Backtrack {
    /// Go on at this instruction and position.
    Branch(u32, u32),
    /// A greedy run may end earlier: instruction, least end, end so far.
    GiveBack(u32, u32, u32),
    /// A lazy placeholder may end later: instruction, where to look for its next end.
    Extend(u32, u32),
    /// A capture was something else before.
    RestoreCapture(u32, Span),
}

/// Memory that runs share.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    stack: Vec<Backtrack>,
    /// Bytes that backtracking may still read, and one for each time it does.
    budget: usize,
    /// How many it has read.
    #[cfg(test)]
    read: usize,
    /// What everything has cost, roughly in processor instructions.
    #[cfg(any(test, fuzzing))]
    pub(super) cost: usize,
}

impl Scratch {
    /// Sets the budget for a message that templates will be tried on: its length, and some for short ones.
    pub(super) fn start(&mut self, message: &[u8]) {
        self.budget = 1024 + message.len();
    }

    /// Takes from the budget, which is spent when it is 0.
    #[inline]
    fn spend(&mut self, bytes: usize) {
        #[cfg(test)]
        {
            self.read += bytes;
        }
        self.add_cost(2 * bytes);
        self.budget = self.budget.saturating_sub(bytes);
    }
}

impl Scratch {
    /// Adds to what is held against the cost of an ordinary line.
    #[inline]
    pub(super) fn add_cost(&mut self, _instructions: usize) {
        #[cfg(any(test, fuzzing))]
        {
            self.cost += _instructions;
        }
    }
}

impl TemplateVm {
    #[inline]
    fn text(&self, text: Text) -> &[u8] {
        let text = self.texts.get(text.from as usize..text.to as usize);
        text.unwrap_or_default()
    }

    /// What is left of a text behind the option that it begins with.
    fn strip_option<'t>(&self, from: u32, to: u32, text: &'t [u8]) -> Option<&'t [u8]> {
        let options = self.options.get(from as usize..to as usize)?;
        let mut options = options.iter();
        options.find_map(|option| strip(text, self.text(*option)))
    }

    /// What is left of a text behind the words and blanks of a phrase, whatever the blanks.
    fn phrase<'t>(&self, number: u32, text: &'t [u8], scratch: &mut Scratch) -> Option<&'t [u8]> {
        let mut rest = text;
        for part in self.phrases.get(number as usize)? {
            scratch.add_cost(20);
            rest = match *part {
                FixedPart::Text(literal) => strip(rest, self.text(literal))?,
                FixedPart::Blanks(min) => skip_blanks(rest, min)?,
            };
        }
        Some(rest)
    }

    /// Runs over a whole message, for which [`Scratch::start`] was called. `spans`, all of them [`ABSENT`], are meaningful
    /// only after a match.
    #[inline]
    pub(super) fn run(&self, text: &[u8], spans: &mut [Span], scratch: &mut Scratch) -> Outcome {
        scratch.stack.clear();
        let mut at = 0;
        // What is left of the message, and where it was before the last failure.
        let (mut rest, mut resumed) = (text, 0);
        loop {
            scratch.add_cost(20);
            let pos = text.len() - rest.len();
            let left = match self.insts[at as usize] {
                Inst::Text(literal) => strip(rest, self.text(literal)),
                Inst::TextAnyCase(literal) => strip_any_case(rest, self.text(literal)),
                Inst::Phrase {
                    words,
                    blanks: more,
                    one_by_one,
                } => match strip(rest, self.text(words)) {
                    Some(left) if more => Some(&left[blanks(left)..]),
                    None => self.phrase(one_by_one, rest, scratch),
                    left => left,
                },
                Inst::Blanks(min) => skip_blanks(rest, min),
                Inst::Run(run) => {
                    let within = rest.get(..run.max as usize).unwrap_or(rest);
                    let count = scan::run(run.class, within);
                    let least = usize::from(run.min);
                    let may_give_back = !run.possessive
                        && (!run.possessive_without_no_break_space
                            || rest[..count].contains(&0xC2));
                    if count > least && may_give_back {
                        let ends = ((pos + least) as u32, (pos + count) as u32);
                        scratch.stack.push(Backtrack::GiveBack(at, ends.0, ends.1));
                    }
                    fill(spans, run.capture, pos, pos + count);
                    (count >= least).then(|| &rest[count..])
                }
                Inst::Int {
                    possessive,
                    capture,
                } => {
                    let sign = usize::from(matches!(rest, [b'+' | b'-', ..]));
                    let count = digits_of(&rest[sign..]);
                    let end = pos + sign + count;
                    if count > 1 && !possessive {
                        let least = (pos + sign + 1) as u32;
                        let back = Backtrack::GiveBack(at, least, end as u32);
                        scratch.stack.push(back);
                    }
                    fill(spans, capture, pos, end);
                    (count > 0).then(|| &rest[sign + count..])
                }
                Inst::Quad {
                    possessive,
                    otherwise,
                } => match quad(rest) {
                    Some((least, longest)) => {
                        if longest > least && !possessive {
                            let ends = ((pos + least) as u32, (pos + longest) as u32);
                            scratch.stack.push(Backtrack::GiveBack(at, ends.0, ends.1));
                        }
                        Some(&rest[longest..])
                    }
                    None if otherwise != NO_CAPTURE => {
                        at = otherwise;
                        continue;
                    }
                    None => None,
                },
                Inst::Address { port, to } => {
                    at += 1;
                    if let Some(left) = scan::address(rest, port) {
                        rest = left;
                        at = to;
                    }
                    continue;
                }
                Inst::OneOf { from, to, capture } => {
                    scratch.add_cost(6 * (to - from) as usize);
                    let left = self.strip_option(from, to, rest);
                    if let Some(left) = left {
                        fill(spans, capture, pos, text.len() - left.len());
                    }
                    left
                }
                Inst::Lazy { prefilter, capture } => {
                    let found = match rest {
                        [] | [b' ' | b'\t', ..] | [0xC2] | [0xC2, 0xA0, ..] => None,
                        [0xC2, ..] => self.find(prefilter, text, pos + 2, scratch),
                        _ => self.find(prefilter, text, pos + 1, scratch),
                    };
                    found.and_then(|(end, resume)| {
                        scratch.stack.push(Backtrack::Extend(at, resume as u32));
                        fill(spans, capture, pos, end);
                        text.get(end..)
                    })
                }
                Inst::Rest { capture } => {
                    fill(spans, capture, pos, text.len());
                    Some(&[][..])
                }
                Inst::Split(other) => {
                    scratch.stack.push(Backtrack::Branch(other, pos as u32));
                    Some(rest)
                }
                Inst::Unless(first, other) => {
                    let first = self.first_sets.get(first as usize);
                    let may_start = first.is_some_and(|first| match rest.first() {
                        Some(byte) => first.holds(*byte),
                        None => first.end,
                    });
                    at = if may_start { at + 1 } else { other };
                    continue;
                }
                Inst::Jump(to) => {
                    at = to;
                    continue;
                }
                Inst::SaveCapture(variable) => {
                    let span = spans.get(variable as usize).copied().unwrap_or(ABSENT);
                    let back = Backtrack::RestoreCapture(variable, span);
                    scratch.stack.push(back);
                    Some(rest)
                }
                Inst::CaptureStart(variable) => {
                    fill(spans, variable, pos, u32::MAX as usize);
                    Some(rest)
                }
                Inst::CaptureEnd(variable) => {
                    set_end(spans, variable, pos);
                    Some(rest)
                }
                Inst::End if rest.is_empty() => return Outcome::Matched,
                Inst::End => None,
            };
            if let Some(left) = left {
                rest = left;
                at += 1;
                continue;
            }
            if scratch.stack.is_empty() && scratch.budget > 0 {
                return Outcome::NotMatched;
            }
            // What was read since the last failure may be read again.
            scratch.spend(1 + pos.saturating_sub(resumed));
            match self.backtrack(text, spans, scratch) {
                _ if scratch.budget == 0 => return Outcome::BudgetExceeded,
                None => return Outcome::NotMatched,
                Some((inst, pos)) => {
                    (at, resumed) = (inst, pos);
                    rest = text.get(pos..).unwrap_or_default();
                }
            }
        }
    }

    /// The latest choice that is still open: where to go on. None if there is none, or if the budget is spent.
    #[inline(never)]
    fn backtrack(
        &self,
        text: &[u8],
        spans: &mut [Span],
        scratch: &mut Scratch,
    ) -> Option<(u32, usize)> {
        loop {
            match scratch.stack.pop()? {
                Backtrack::RestoreCapture(variable, span) => {
                    if let Some(kept) = spans.get_mut(variable as usize) {
                        *kept = span;
                    }
                }
                Backtrack::Branch(to, pos) => return Some((to, pos as usize)),
                Backtrack::GiveBack(inst, least, end) => {
                    let end = end - 1;
                    if end > least {
                        scratch.stack.push(Backtrack::GiveBack(inst, least, end));
                    }
                    if let Inst::Run(Run { capture, .. }) | Inst::Int { capture, .. } =
                        self.insts[inst as usize]
                    {
                        set_end(spans, capture, end as usize);
                    }
                    return Some((inst + 1, end as usize));
                }
                Backtrack::Extend(inst, from) => {
                    if let Inst::Lazy { prefilter, capture } = self.insts[inst as usize]
                        && let Some((end, resume)) =
                            self.find(prefilter, text, from as usize, scratch)
                    {
                        scratch.stack.push(Backtrack::Extend(inst, resume as u32));
                        set_end(spans, capture, end);
                        return Some((inst + 1, end));
                    }
                    if scratch.budget == 0 {
                        return None;
                    }
                }
            }
        }
    }

    /// Where what follows a lazy placeholder may start, and where to look for the next such place. None, too, if the
    /// budget is spent.
    #[inline]
    fn find(
        &self,
        prefilter: u32,
        text: &[u8],
        from: usize,
        scratch: &mut Scratch,
    ) -> Option<(usize, usize)> {
        let found = self.prefilters.get(prefilter as usize)?.find(text, from);
        let read = found.map_or(text.len(), |(_, resume)| resume - 1);
        scratch.spend(read.saturating_sub(from));
        found.filter(|_| scratch.budget > 0)
    }
}

/// What is left of a text behind at least so many blanks, and all that there are.
#[inline]
fn skip_blanks(text: &[u8], min: usize) -> Option<&[u8]> {
    let count = blanks(text);
    (count >= min).then(|| &text[count..])
}

#[inline]
fn fill(spans: &mut [Span], variable: u32, start: usize, end: usize) {
    if let Some(span) = spans.get_mut(variable as usize) {
        *span = (start as u32, end as u32);
    }
}

#[inline]
fn set_end(spans: &mut [Span], variable: u32, end: usize) {
    if let Some(span) = spans.get_mut(variable as usize) {
        span.1 = end as u32;
    }
}
