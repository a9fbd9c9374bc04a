//! The literal texts that a pattern may begin with: what a [`Selector`](super::select::Selector) tells patterns apart by.

use regex_syntax::hir::{Class, Hir, HirKind};

use super::regex::syntax;
use super::vm::{self, FirstSet};
use crate::rules::{Piece, Template};

/// Longest prefix of a pattern, bytes without blanks.
pub(super) const PREFIX_BYTES_MAX: usize = 24;

/// Prefixes of one pattern; one with more has the shorter ones before its choice.
const PREFIXES_MAX: usize = 32;

/// A literal text that a pattern may begin with, and what may stand right behind it, blanks left out.
#[derive(Clone, Debug)]
pub(super) struct Prefix {
    pub(super) text: Vec<u8>,
    pub(super) next: FirstSet,
}

/// A byte as prefixes have it; none if they drop it. Of a no-break space both bytes are dropped, wherever they stand.
pub(super) fn canonical(byte: u8) -> Option<u8> {
    match byte {
        b' ' | b'\t' | 0xC2 | 0xA0 => None,
        byte => Some(byte.to_ascii_lowercase()),
    }
}

/// The literal texts that a pattern may begin with, at least one, if only an empty one.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    /// Those that what follows is appended to.
    open: Vec<Vec<u8>>,
    /// Those that are whole.
    done: Vec<Prefix>,
}

impl Prefixes {
    pub(super) fn of_template(template: &Template) -> Vec<Prefix> {
        let mut this = Self::start();
        this.pieces(&template.pieces, FirstSet::END);
        this.stop(FirstSet::END);
        this.done
    }

    /// `regex` is as it was written, without an anchor.
    pub(super) fn of_regex(regex: &str) -> Vec<Prefix> {
        let mut this = Self::start();
        if let Ok(hir) = regex_automata::util::syntax::parse_with(regex, &syntax()) {
            this.hir(&hir);
        }
        this.stop(FirstSet::full());
        this.done
    }

    fn start() -> Self {
        Self {
            open: vec![Vec::new()],
            done: Vec::new(),
        }
    }

    /// One of these bytes follows, and then anything.
    fn stop(&mut self, next: FirstSet) {
        let blanks = b" \t\xC2\xA0";
        let may_be_blank = blanks.iter().any(|blank| next.holds(*blank));
        for text in self.open.drain(..) {
            // Behind blanks, or behind a text that is cut short, it may be something else.
            let next = match may_be_blank || text.len() >= PREFIX_BYTES_MAX {
                true => FirstSet::full(),
                false => next.map(|byte| byte.to_ascii_lowercase()),
            };
            self.done.push(Prefix { text, next });
        }
    }

    fn text(&mut self, text: &[u8]) {
        let text: Vec<u8> = text.iter().copied().filter_map(canonical).collect();
        for prefix in &mut self.open {
            let space = PREFIX_BYTES_MAX.saturating_sub(prefix.len());
            prefix.extend(text.iter().take(space));
        }
    }

    /// One of several things follows, which `read` reads.
    fn choice<T>(&mut self, options: &[T], mut read: impl FnMut(&mut Self, &T)) {
        let before = std::mem::take(&mut self.open);
        let done = self.done.len();
        let mut after = Vec::new();
        for option in options {
            self.open.clone_from(&before);
            read(self, option);
            after.append(&mut self.open);
        }
        if after.len() + self.done.len() > PREFIXES_MAX {
            self.done.truncate(done);
            self.open = before;
            self.stop(FirstSet::full());
            after.clear();
        }
        self.open = after;
    }

    /// `after` is what may stand behind all pieces.
    fn pieces(&mut self, pieces: &[Piece], after: FirstSet) {
        for (at, piece) in pieces.iter().enumerate() {
            let behind = || vm::first_of_all(&pieces[at + 1..], true, after);
            match piece {
                Piece::Text(text) => self.text(text),
                Piece::Blanks { .. } => {}
                Piece::Choice(options) => {
                    let behind = behind();
                    self.choice(options, |this, pieces| this.pieces(pieces, behind));
                }
                Piece::Capture(_, inner) => self.pieces(inner, behind()),
                Piece::Run { .. } | Piece::Quad | Piece::Lazy | Piece::Rest => {
                    self.stop(vm::first_of_all(&pieces[at..], true, after));
                }
            }
        }
    }

    fn hir(&mut self, hir: &Hir) {
        match hir.kind() {
            HirKind::Empty | HirKind::Look(_) => {}
            HirKind::Literal(text) => self.text(&text.0),
            HirKind::Class(class) => match one_byte(class) {
                Some(byte) => self.text(&[byte]),
                None => self.stop(FirstSet::full()),
            },
            HirKind::Capture(capture) => self.hir(&capture.sub),
            HirKind::Concat(parts) => parts.iter().for_each(|part| self.hir(part)),
            HirKind::Alternation(parts) => self.choice(parts, Self::hir),
            HirKind::Repetition(repetition) if repetition.max == Some(1) => {
                self.choice(&[true, false], |this, is_there| {
                    if *is_there {
                        this.hir(&repetition.sub);
                    }
                });
            }
            HirKind::Repetition(_) => self.stop(FirstSet::full()),
        }
    }
}

/// The byte of a class that holds the same letter in both cases, or the same byte alone.
fn one_byte(class: &Class) -> Option<u8> {
    let Class::Bytes(class) = class else {
        return None;
    };
    let mut bytes = class
        .ranges()
        .iter()
        .flat_map(|range| range.start()..=range.end());
    let first = canonical(bytes.next()?)?;
    bytes
        .all(|byte| canonical(byte) == Some(first))
        .then_some(first)
}
