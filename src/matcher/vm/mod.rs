//! Runs one template over one message and says where its placeholders are.
//!
//! ```text
//! template   SEL is {n:int}% full
//! pieces     Text SEL · Blanks · Text is · Blanks · Capture(Run Sign, Run Digit+) · Text % · Blanks · Text full
//! nodes      Phrase "SEL is "     the words as they are usually written; else the four nodes behind it, one by one
//!            Text · Blanks · Text · Blanks
//!            Run signed, Digit+   fills the span of `n`
//!            Phrase "% full"      …
//! ```
//!
//! It is a backtracking matcher: where there is a choice, it calls itself for what follows, once for each way, and so as
//! deep as a template has choices at most. A template is mostly literal text, which is compared in place; the end of a
//! placeholder is found with `memchr`. A run of bytes is no choice if nothing that may follow begins with one of them;
//! most templates have none.
//!
//! **Cost.** About 12 instructions for each node and one for each byte compared. Backtracking reads bytes again, so it has a
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
pub(super) use compile::{is_without_blanks, last_of_all};
pub(super) use scan::{FirstSet, blanks};
use scan::{Prefilter, quad, strip, strip_any_case};

/// A capture: start and end in the message, in bytes.
pub(super) type Span = (u32, u32);

/// A placeholder that is not in this message.
pub(super) const ABSENT: Span = (u32::MAX, u32::MAX);

/// The number of no variable: fills no span.
const NO_CAPTURE: u32 = u32::MAX;

/// Templates with more choices than this are left to the linear engine: each may take a call within a call.
const CHOICES_MAX: usize = 200;

/// A step of a template.
#[derive(Clone, Debug)]
struct Node {
    /// What stands in the message here.
    what: What,
    /// The variable that it is the value of.
    capture: u32,
}

#[derive(Clone, Debug)]
enum What {
    /// These bytes.
    Text(Box<[u8]>),
    /// These bytes, ASCII case ignored.
    TextAnyCase(Box<[u8]>),
    /// The words and blanks of so many nodes behind this one as they are usually written, perhaps with more blanks at their
    /// end. If they are not there, these nodes decide.
    Phrase {
        words: Box<[u8]>,
        count: u32,
        blanks: bool,
    },
    /// All blanks there are, perhaps at least one.
    Blanks {
        required: bool,
    },
    /// Bytes of a class, as many as there are.
    Run(Run),
    /// A dotted quad; a shorter one may do if one of these may follow. If there is none and this is an option, skip its end.
    Quad(Option<Box<FirstSet>>, bool),
    /// One byte that is no blank, then as few as possible.
    Lazy(Box<Prefilter>),
    /// Everything that is left.
    Rest,
    /// Go on here; if that fails, skip an option.
    Split(Skip),
    /// Go on here if the next byte is one of these, else skip an option, which could not match.
    Unless(Box<FirstSet>, Skip),
    /// The end of an option: skip the others.
    Skip(Skip),
    /// The value of the variable begins or ends here.
    CaptureStart,
    CaptureEnd,
}

/// A run of bytes of a class.
#[derive(Clone, Debug)]
struct Run {
    class: Class,
    /// A sign may stand before it.
    signed: bool,
    min: u16,
    max: u32,
    /// What may follow, if a shorter run could do.
    next: Option<Box<FirstSet>>,
}

/// Nodes to be passed by.
#[derive(Clone, Debug)]
struct Skip {
    count: u32,
    /// The variables that they fill. An attempt that failed may have filled them.
    captures: Box<[u32]>,
}

/// A template, ready to run.
#[derive(Clone, Debug)]
pub(super) struct TemplateVm {
    nodes: Box<[Node]>,
    choices: usize,
}

/// What a run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Matched,
    NotMatched,
    /// A linear engine must decide.
    BudgetExceeded,
}

/// Memory that runs share.
#[derive(Debug, Default)]
pub(super) struct Scratch {
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
    /// Runs over a whole message, for which [`Scratch::start`] was called. `spans`, all of them [`ABSENT`], are meaningful
    /// only after a match.
    #[inline]
    pub(super) fn run(&self, text: &[u8], spans: &mut [Span], scratch: &mut Scratch) -> Outcome {
        if self.choices > CHOICES_MAX {
            return Outcome::BudgetExceeded;
        }
        let mut search = Search {
            text,
            spans,
            scratch,
        };
        match search.matches(&self.nodes, text) {
            true => Outcome::Matched,
            false if search.scratch.budget == 0 => Outcome::BudgetExceeded,
            false => Outcome::NotMatched,
        }
    }
}

/// One template over one message.
struct Search<'s> {
    text: &'s [u8],
    spans: &'s mut [Span],
    scratch: &'s mut Scratch,
}

impl<'s> Search<'s> {
    /// Whether these nodes match what is left of the message. Spans that were filled are meaningful only if they do.
    fn matches(&mut self, mut nodes: &[Node], mut rest: &'s [u8]) -> bool {
        let text = self.text;
        let start = rest.len();
        loop {
            let [node, next @ ..] = nodes else {
                if rest.is_empty() {
                    return true;
                }
                break;
            };
            self.scratch.add_cost(20);
            let pos = text.len() - rest.len();
            nodes = next;
            let left = match &node.what {
                What::Text(literal) => strip(rest, literal),
                What::TextAnyCase(literal) => strip_any_case(rest, literal),
                What::Phrase {
                    words,
                    count,
                    blanks: more,
                } => {
                    if let Some(left) = strip(rest, words) {
                        rest = if *more { &left[blanks(left)..] } else { left };
                        nodes = next.get(*count as usize..).unwrap_or_default();
                    }
                    continue;
                }
                What::Blanks { required } => {
                    let count = blanks(rest);
                    (count > 0 || !required).then(|| &rest[count..])
                }
                What::Run(run) => {
                    let sign = usize::from(run.signed && matches!(rest, [b'+' | b'-', ..]));
                    let within = &rest[sign..];
                    let within = within.get(..run.max as usize).unwrap_or(within);
                    let count = scan::run(run.class, within);
                    let least = usize::from(run.min);
                    if let Some(after) = &run.next
                        && count > least
                    {
                        let ends = (pos + sign + least, pos + sign + count);
                        if self.ends(node.capture, pos, ends, after, next) {
                            return true;
                        }
                        break;
                    }
                    let end = sign + count;
                    self.fill(node.capture, pos, pos + end);
                    (count >= least).then(|| &rest[end..])
                }
                What::Quad(after, is_option) => match (quad(rest), after) {
                    (Some((least, longest)), Some(after)) => {
                        let ends = (pos + least, pos + longest);
                        if self.ends(node.capture, pos, ends, after, next) {
                            return true;
                        }
                        break;
                    }
                    (Some((_, longest)), None) => {
                        self.fill(node.capture, pos, pos + longest);
                        Some(&rest[longest..])
                    }
                    (None, _) if *is_option => {
                        nodes = next.get(1..).unwrap_or_default();
                        continue;
                    }
                    (None, _) => None,
                },
                What::Lazy(prefilter) => {
                    if self.lazy(node.capture, rest, prefilter, next) {
                        return true;
                    }
                    break;
                }
                What::Rest => {
                    self.fill(node.capture, pos, text.len());
                    Some(&[][..])
                }
                What::Split(option) => {
                    if self.matches(next, rest) {
                        return true;
                    }
                    if self.scratch.budget == 0 {
                        break;
                    }
                    nodes = self.skip(next, option);
                    continue;
                }
                What::Unless(first, option) => {
                    if !first.may_start(rest) {
                        nodes = self.skip(next, option);
                    }
                    continue;
                }
                What::Skip(others) => {
                    nodes = self.skip(next, others);
                    continue;
                }
                What::CaptureStart => {
                    self.fill(node.capture, pos, pos);
                    continue;
                }
                What::CaptureEnd => {
                    if let Some(span) = self.spans.get_mut(node.capture as usize) {
                        span.1 = pos as u32;
                    }
                    continue;
                }
            };
            match left {
                Some(left) => rest = left,
                None => break,
            }
        }
        // What was read may be read again.
        self.scratch.spend(1 + start - rest.len());
        false
    }

    /// Whether a run that ends at one of these places, the last first, is followed by what is behind it.
    fn ends(
        &mut self,
        capture: u32,
        start: usize,
        (least, longest): (usize, usize),
        after: &FirstSet,
        next: &[Node],
    ) -> bool {
        let text = self.text;
        for end in (least..=longest).rev() {
            if after.may_start(&text[end..]) && self.scratch.budget > 0 {
                self.fill(capture, start, end);
                if self.matches(next, &text[end..]) {
                    return true;
                }
            }
        }
        self.scratch.spend(1 + longest - start);
        false
    }

    /// Whether a text of any length that ends at one of the places that `prefilter` finds, the first first, is followed by
    /// what is behind it.
    #[inline]
    fn lazy(&mut self, capture: u32, rest: &'s [u8], prefilter: &Prefilter, next: &[Node]) -> bool {
        let first = match rest {
            [] | [b' ' | b'\t', ..] | [0xC2] | [0xC2, 0xA0, ..] => return false,
            [0xC2, ..] => 2,
            _ => 1,
        };
        let text = self.text;
        let start = text.len() - rest.len();
        let mut from = start + first;
        while let Some((end, resume)) = self.find(prefilter, from) {
            self.fill(capture, start, end);
            if self.matches(next, &text[end..]) {
                return true;
            }
            from = resume;
        }
        false
    }

    /// The nodes behind those that are passed by.
    #[inline]
    fn skip<'t>(&mut self, nodes: &'t [Node], skip: &Skip) -> &'t [Node] {
        for capture in &skip.captures {
            self.fill(*capture, ABSENT.0 as usize, ABSENT.1 as usize);
        }
        nodes.get(skip.count as usize..).unwrap_or_default()
    }

    #[inline]
    fn fill(&mut self, variable: u32, start: usize, end: usize) {
        if let Some(span) = self.spans.get_mut(variable as usize) {
            *span = (start as u32, end as u32);
        }
    }

    /// Where what follows a text of any length may start, and where to look for the next such place. None, too, if the
    /// budget is spent.
    #[inline]
    fn find(&mut self, prefilter: &Prefilter, from: usize) -> Option<(usize, usize)> {
        if self.scratch.budget == 0 {
            return None;
        }
        let found = prefilter.find(self.text, from);
        let read = found.map_or(self.text.len(), |(_, resume)| resume - 1);
        self.scratch.spend(read.saturating_sub(from));
        found.filter(|_| self.scratch.budget > 0)
    }
}
