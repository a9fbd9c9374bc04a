//! From the pieces of a template to instructions.

use memchr::memmem;

use super::scan::{FirstSet, Prefilter};
use super::{FixedPart, Inst, NO_CAPTURE, Run, TemplateVm, Text};
use crate::rules::{Class, Piece, Template};

impl TemplateVm {
    /// `variables` says for every capture of the template which of the spans it fills.
    pub(in crate::matcher) fn new(
        template: &Template,
        ignore_case: bool,
        variables: &[usize],
    ) -> Self {
        let mut compiler = Compiler {
            ignore_case,
            variables,
            insts: Vec::new(),
            phrases: Vec::new(),
            texts: Vec::new(),
            options: Vec::new(),
            first_sets: Vec::new(),
            prefilters: Vec::new(),
        };
        compiler.sequence(&template.factored(), &[], FirstSet::END, false);
        compiler.insts.push(Inst::End);
        Self {
            insts: compiler.insts.into(),
            phrases: compiler.phrases.into(),
            texts: compiler.texts.into(),
            options: compiler.options.into(),
            first_sets: compiler.first_sets.into(),
            prefilters: compiler.prefilters.into(),
        }
    }
}

/// What may stand at the start of `piece`, if `after` may follow it.
fn first_set(piece: &Piece, ignore_case: bool, after: FirstSet) -> FirstSet {
    let or_after = |set: FirstSet, may_be_empty| if may_be_empty { set.or(after) } else { set };
    match piece {
        Piece::Text(text) => FirstSet::of(|byte| match ignore_case {
            true => byte.eq_ignore_ascii_case(&text[0]),
            false => byte == text[0],
        }),
        Piece::Blanks { required } => {
            let blanks = FirstSet::of(|byte| matches!(byte, b' ' | b'\t' | 0xC2));
            or_after(blanks, !required)
        }
        Piece::Run { class, min, .. } => {
            or_after(FirstSet::of(|byte| class.holds(byte)), *min == 0)
        }
        Piece::Quad => FirstSet::of(|byte| byte.is_ascii_digit()),
        Piece::Lazy => FirstSet::of(|byte| !matches!(byte, b' ' | b'\t')),
        Piece::Rest => FirstSet::of(|_| true).or(FirstSet::END),
        Piece::Choice(options) => (options.iter())
            .map(|option| first_of_all(option, ignore_case, after))
            .fold(FirstSet::default(), FirstSet::or),
        Piece::Capture(_, inner) => first_of_all(inner, ignore_case, after),
    }
}

/// The same for several.
pub(in crate::matcher) fn first_of_all(
    pieces: &[Piece],
    ignore_case: bool,
    after: FirstSet,
) -> FirstSet {
    // What stands behind the first that is never empty does not count.
    let first = pieces.iter().position(|piece| !may_be_empty(piece));
    let pieces = first.map_or(pieces, |first| &pieces[..=first]);
    let before = |after, piece| first_set(piece, ignore_case, after);
    pieces.iter().rfold(after, before)
}

/// The bytes with which a match of these may end; `before` is what may stand before them.
pub(in crate::matcher) fn last_of_all(
    pieces: &[Piece],
    ignore_case: bool,
    before: FirstSet,
) -> FirstSet {
    let last = pieces.iter().rposition(|piece| !may_be_empty(piece));
    let pieces = last.map_or(pieces, |last| &pieces[last..]);
    pieces.iter().fold(before, |before, piece| {
        let own = match piece {
            Piece::Text(text) => FirstSet::of(|byte| match (ignore_case, text.last()) {
                (true, Some(last)) => byte.eq_ignore_ascii_case(last),
                (false, last) => Some(&byte) == last,
                (true, None) => false,
            }),
            Piece::Blanks { .. } => FirstSet::of(|byte| matches!(byte, b' ' | b'\t' | 0xA0)),
            Piece::Run { class, .. } => FirstSet::of(|byte| class.holds(byte)),
            Piece::Quad => FirstSet::of(|byte| byte.is_ascii_digit()),
            Piece::Lazy | Piece::Rest => FirstSet::full(),
            Piece::Choice(options) => (options.iter())
                .map(|option| last_of_all(option, ignore_case, before))
                .fold(FirstSet::default(), FirstSet::or),
            Piece::Capture(_, inner) => last_of_all(inner, ignore_case, before),
        };
        if may_be_empty(piece) {
            own.or(before)
        } else {
            own
        }
    })
}

/// Whether what matches a piece holds no blank, if it holds no no-break space.
pub(in crate::matcher) fn is_without_blanks(piece: &Piece) -> bool {
    let are = |pieces: &Vec<Piece>| pieces.iter().all(is_without_blanks);
    match piece {
        Piece::Text(text) => !text.iter().any(|byte| matches!(byte, b' ' | b'\t')),
        Piece::Run { class, .. } => !class.holds(b' ') && !class.holds(b'\t'),
        Piece::Quad => true,
        Piece::Choice(options) => options.iter().all(are),
        Piece::Capture(_, inner) => are(inner),
        Piece::Blanks { .. } | Piece::Lazy | Piece::Rest => false,
    }
}

fn may_be_empty(piece: &Piece) -> bool {
    let all_may = |pieces: &Vec<Piece>| pieces.iter().all(may_be_empty);
    match piece {
        Piece::Text(_) | Piece::Quad | Piece::Lazy => false,
        Piece::Blanks { required } => !required,
        Piece::Run { min, .. } => *min == 0,
        Piece::Rest => true,
        Piece::Choice(options) => options.iter().any(all_may),
        Piece::Capture(_, inner) => all_may(inner),
    }
}

const SIGN: Piece = Piece::Run {
    class: Class::Sign,
    min: 0,
    max: 1,
};

const PORT_MARK: Piece = Piece::Run {
    class: Class::PortMark,
    min: 1,
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
    insts: Vec<Inst>,
    phrases: Vec<Box<[FixedPart]>>,
    texts: Vec<u8>,
    options: Vec<Text>,
    first_sets: Vec<FirstSet>,
    prefilters: Vec<Prefilter>,
}

impl Compiler<'_> {
    /// Appends the instructions for `pieces`. `following` are the pieces that stand behind them, as far as they are the
    /// same for every match, and `after` all that may. `again` if these pieces may be entered, left by a failure and
    /// passed by another branch, so that their captures must be undone.
    fn sequence(&mut self, pieces: &[Piece], following: &[Piece], after: FirstSet, again: bool) {
        let is_fixed = |piece: &Piece| matches!(piece, Piece::Text(_) | Piece::Blanks { .. });
        let mut at = 0;
        while let Some(piece) = pieces.get(at) {
            let fixed = pieces[at..].iter().take_while(|piece| is_fixed(piece));
            let fixed = fixed.count();
            if fixed > 1 && !self.ignore_case {
                self.phrase(&pieces[at..at + fixed]);
                at += fixed;
                continue;
            }
            let address = self.address(&pieces[at..], after);
            let is_int = *piece == SIGN && pieces.get(at + 1) == Some(&DIGITS);
            at += 1 + usize::from(is_int);
            let next = first_of_all(&pieces[at..], self.ignore_case, after);
            let behind = if at < pieces.len() {
                &pieces[at..]
            } else {
                following
            };
            match piece {
                _ if is_int => self.insts.push(Inst::Int {
                    possessive: !FirstSet::of(|byte| byte.is_ascii_digit()).meets(next),
                    capture: NO_CAPTURE,
                }),
                Piece::Capture(capture, inner) => {
                    self.capture(self.variables[*capture] as u32, inner, behind, next, again);
                }
                piece => self.piece(piece, behind, next),
            }
            if let Some((short_cut, piece)) = address {
                if let Some(port) = piece {
                    at += 1;
                    let next = first_of_all(&pieces[at..], self.ignore_case, after);
                    self.piece(port, &[], next);
                }
                let there = self.insts.len() as u32;
                if let Inst::Address { to, .. } = &mut self.insts[short_cut] {
                    *to = there;
                }
            }
        }
    }

    /// Appends the short cut for an address, perhaps with a port, that `pieces` begin with, if no shorter one could match.
    /// Returns where it is, and the piece of the port.
    fn address<'p>(
        &mut self,
        pieces: &'p [Piece],
        after: FirstSet,
    ) -> Option<(usize, Option<&'p Piece>)> {
        let is_ip = |options: &[Vec<Piece>]| {
            options
                .first()
                .is_some_and(|option| **option == [Piece::Quad])
        };
        let is_port = |options: &[Vec<Piece>]| *options == [vec![PORT_MARK, DIGITS], vec![]];
        let (port, following) = match pieces {
            [Piece::Choice(ip), port @ Piece::Choice(options), rest @ ..]
                if is_ip(ip) && is_port(options) =>
            {
                (Some(port), rest)
            }
            [Piece::Choice(ip), rest @ ..] if is_ip(ip) => (None, rest),
            _ => return None,
        };
        let is_more =
            |byte: u8| byte.is_ascii_digit() || (port.is_some() && Class::PortMark.holds(byte));
        let next = first_of_all(following, self.ignore_case, after);
        if FirstSet::of(is_more).meets(next) {
            return None;
        }
        let port_may_follow = port.is_some();
        self.insts.push(Inst::Address {
            port: port_may_follow,
            to: 0,
        });
        Some((self.insts.len() - 1, port))
    }

    fn piece(&mut self, piece: &Piece, behind: &[Piece], next: FirstSet) {
        let inst = match piece {
            Piece::Text(text) if self.ignore_case => Inst::TextAnyCase(self.text(text)),
            Piece::Text(text) => Inst::Text(self.text(text)),
            Piece::Blanks { required } => Inst::Blanks(usize::from(*required)),
            Piece::Run { class, min, max } => Inst::Run(Run {
                class: *class,
                min: *min as u16,
                max: u32::try_from(*max).unwrap_or(u32::MAX),
                possessive: !FirstSet::of(|byte| class.holds(byte)).meets(next),
                possessive_without_no_break_space: !FirstSet::of(|byte| {
                    class.holds(byte) && byte != 0xC2
                })
                .meets(next),
                capture: NO_CAPTURE,
            }),
            Piece::Quad => Inst::Quad {
                possessive: !FirstSet::of(|byte| byte.is_ascii_digit()).meets(next),
                otherwise: NO_CAPTURE,
            },
            Piece::Lazy => {
                let prefilter = self.prefilter(behind, next);
                self.prefilters.push(prefilter);
                Inst::Lazy {
                    prefilter: self.prefilters.len() as u32 - 1,
                    capture: NO_CAPTURE,
                }
            }
            Piece::Rest => Inst::Rest {
                capture: NO_CAPTURE,
            },
            Piece::Choice(options) => match texts(options) {
                Some(texts) if !self.ignore_case => {
                    let from = self.options.len() as u32;
                    for text in texts {
                        let text = self.text(text);
                        self.options.push(text);
                    }
                    Inst::OneOf {
                        from,
                        to: self.options.len() as u32,
                        capture: NO_CAPTURE,
                    }
                }
                _ => return self.choice(options, behind, next),
            },
            Piece::Capture(_, inner) => return self.sequence(inner, behind, next, true),
        };
        self.insts.push(inst);
    }

    fn capture(
        &mut self,
        variable: u32,
        inner: &[Piece],
        behind: &[Piece],
        next: FirstSet,
        again: bool,
    ) {
        if again {
            self.insts.push(Inst::SaveCapture(variable));
        }
        let start = self.insts.len();
        self.insts.push(Inst::CaptureStart(variable));
        self.sequence(inner, behind, next, again);
        // A single instruction can fill the span by itself.
        if let [
            _,
            Inst::Run(Run { capture, .. })
            | Inst::Int { capture, .. }
            | Inst::OneOf { capture, .. }
            | Inst::Lazy { capture, .. }
            | Inst::Rest { capture },
        ] = &mut self.insts[start..]
        {
            *capture = variable;
            self.insts.swap_remove(start);
        } else {
            self.insts.push(Inst::CaptureEnd(variable));
        }
    }

    fn text(&mut self, text: &[u8]) -> Text {
        let from = self.texts.len() as u32;
        self.texts.extend_from_slice(text);
        Text {
            from,
            to: self.texts.len() as u32,
        }
    }

    /// Appends the instruction for words and blanks.
    fn phrase(&mut self, pieces: &[Piece]) {
        let from = self.texts.len() as u32;
        let part = |piece: &Piece| match piece {
            Piece::Text(text) => Some(FixedPart::Text(self.text(text))),
            Piece::Blanks { required } => {
                self.texts.push(b' ');
                Some(FixedPart::Blanks(usize::from(*required)))
            }
            _ => None,
        };
        let parts: Box<[FixedPart]> = pieces.iter().filter_map(part).collect();
        self.insts.push(Inst::Phrase {
            words: Text {
                from,
                to: self.texts.len() as u32,
            },
            blanks: matches!(parts.last(), Some(FixedPart::Blanks(_))),
            one_by_one: self.phrases.len() as u32,
        });
        self.phrases.push(parts);
    }

    /// The first option is tried first, and the next one if that or what follows fails.
    fn choice(&mut self, options: &[Vec<Piece>], behind: &[Piece], after: FirstSet) {
        let mut ends = Vec::new();
        for (index, option) in options.iter().enumerate() {
            let is_last = index + 1 == options.len();
            let fork = self.insts.len();
            // No other option matches where a quad does.
            let is_quad = option.as_slice() == [Piece::Quad];
            if !is_last && !is_quad {
                let own = first_of_all(option, self.ignore_case, after);
                let others = (options[index + 1..].iter())
                    .map(|option| first_of_all(option, self.ignore_case, after))
                    .fold(FirstSet::default(), FirstSet::or);
                self.insts.push(match own.meets(others) {
                    true => Inst::Split(0),
                    false => {
                        self.first_sets.push(own);
                        Inst::Unless(self.first_sets.len() as u32 - 1, 0)
                    }
                });
            }
            self.sequence(option, behind, after, true);
            // Behind an option that is followed by an empty one, the choice is over.
            if options[index + 1..].iter().any(|option| !option.is_empty()) {
                ends.push(self.insts.len());
                self.insts.push(Inst::Jump(0));
            }
            let there = self.insts.len() as u32;
            match &mut self.insts[fork..] {
                [
                    Inst::Split(to) | Inst::Unless(_, to) | Inst::Quad { otherwise: to, .. },
                    ..,
                ] if !is_last => *to = there,
                _ => {}
            }
        }
        let there = self.insts.len() as u32;
        for end in ends {
            self.insts[end] = Inst::Jump(there);
        }
    }

    /// Finds where `behind`, which may begin with `next`, may start.
    fn prefilter(&self, behind: &[Piece], next: FirstSet) -> Prefilter {
        let finder = |text: &[u8]| memmem::Finder::new(text).into_owned();
        match behind {
            [Piece::Text(text), ..] if text.len() > 1 && !self.ignore_case => {
                return Prefilter::Text(finder(text));
            }
            [Piece::Blanks { required }, Piece::Text(text), ..] if !self.ignore_case => {
                return Prefilter::BlanksText(*required, finder(text));
            }
            [Piece::Blanks { required: true }, rest @ ..] => {
                // What may follow is not known behind the last piece.
                let first = first_of_all(rest, self.ignore_case, FirstSet::full());
                return Prefilter::Blanks(Box::new(first));
            }
            _ => {}
        }
        let bytes: Vec<u8> = (0..=u8::MAX).filter(|byte| next.holds(*byte)).collect();
        match bytes.as_slice() {
            [] => Prefilter::End,
            [a] if !next.end => Prefilter::One(*a),
            [a, b] if !next.end => Prefilter::Two(*a, *b),
            [a, b, c] if !next.end => Prefilter::Three(*a, *b, *c),
            _ => Prefilter::Any(Box::new(next)),
        }
    }
}

/// The texts that a choice is between, if it is between texts alone and none begins with another.
fn texts(options: &[Vec<Piece>]) -> Option<Vec<&[u8]>> {
    let texts: Option<Vec<&[u8]>> = (options.iter())
        .map(|option| match option.as_slice() {
            [Piece::Text(text)] => Some(text.as_slice()),
            _ => None,
        })
        .collect();
    let texts = texts?;
    let clashes = |at: usize| {
        let mut others = texts.iter().enumerate().filter(|(other, _)| *other != at);
        others.any(|(_, other)| texts[at].starts_with(other))
    };
    (!(0..texts.len()).any(clashes)).then_some(texts)
}
