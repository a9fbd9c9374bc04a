//! From the pieces of a template to nodes.

use memchr::memmem;

use super::scan::{FirstSet, Prefilter};
use super::{NO_CAPTURE, Node, Run, Skip, TemplateVm, What};
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
            choices: 0,
        };
        let nodes = compiler.sequence(&template.factored(), &[], FirstSet::END);
        Self {
            nodes: nodes.into(),
            choices: compiler.choices,
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
fn first_of_all(pieces: &[Piece], ignore_case: bool, after: FirstSet) -> FirstSet {
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

const DIGITS: Piece = Piece::Run {
    class: Class::Digit,
    min: 1,
    max: usize::MAX,
};

struct Compiler<'t> {
    ignore_case: bool,
    variables: &'t [usize],
    choices: usize,
}

impl Compiler<'_> {
    /// The nodes for `pieces`. `following` are the pieces that stand behind them, as far as they are the same for every
    /// match, and `after` all that may.
    fn sequence(&mut self, pieces: &[Piece], following: &[Piece], after: FirstSet) -> Vec<Node> {
        let mut nodes = Vec::new();
        let mut at = 0;
        while let Some(piece) = pieces.get(at) {
            if let Some((words, count)) = self.phrase(&pieces[at..]) {
                nodes.push(Node::from(What::Phrase {
                    blanks: words.ends_with(b" "),
                    words: words.into(),
                    count: count as u32,
                }));
                nodes.extend(
                    pieces[at..at + count]
                        .iter()
                        .filter_map(|piece| self.fixed(piece)),
                );
                at += count;
                continue;
            }
            let signed = *piece == SIGN && pieces.get(at + 1) == Some(&DIGITS);
            at += 1 + usize::from(signed);
            let next = first_of_all(&pieces[at..], self.ignore_case, after);
            let behind = if at < pieces.len() {
                &pieces[at..]
            } else {
                following
            };
            let what = match piece {
                _ if signed => self.run(Class::Digit, signed, (1, usize::MAX), next),
                Piece::Run { class, min, max } => self.run(*class, signed, (*min, *max), next),
                Piece::Quad => {
                    let shorter = self.shorter(FirstSet::of(|byte| byte.is_ascii_digit()), next);
                    What::Quad(shorter, false)
                }
                Piece::Lazy => {
                    self.choices += 1;
                    What::Lazy(Box::new(self.prefilter(behind, next)))
                }
                Piece::Rest => What::Rest,
                Piece::Choice(options) => {
                    nodes.append(&mut self.choice(options, behind, next));
                    continue;
                }
                Piece::Capture(capture, inner) => {
                    let capture = self.variables[*capture] as u32;
                    let mut inner = self.sequence(inner, behind, next);
                    match inner.as_mut_slice() {
                        // It fills the span by itself.
                        [
                            node @ Node {
                                what: What::Run(_) | What::Quad(..) | What::Lazy(_) | What::Rest,
                                ..
                            },
                        ] => node.capture = capture,
                        _ => {
                            let [start, end] = [What::CaptureStart, What::CaptureEnd]
                                .map(|what| Node { what, capture });
                            inner.insert(0, start);
                            inner.push(end);
                        }
                    }
                    nodes.append(&mut inner);
                    continue;
                }
                piece => {
                    nodes.extend(self.fixed(piece));
                    continue;
                }
            };
            nodes.push(Node::from(what));
        }
        nodes
    }

    /// Of several options the first that fits.
    fn choice(&mut self, options: &[Vec<Piece>], behind: &[Piece], next: FirstSet) -> Vec<Node> {
        let Some((option, others)) = options.split_first() else {
            return Vec::new();
        };
        let mut nodes = self.sequence(option, behind, next);
        if others.is_empty() {
            return nodes;
        }
        let first = |option: &Vec<Piece>| first_of_all(option, self.ignore_case, next);
        let own = first(option);
        let is_only_one = !others.iter().map(first).any(|other| own.meets(other));
        let mut others = self.choice(others, behind, next);
        if !others.is_empty() {
            nodes.push(Node::from(What::Skip(skip(&others))));
        }
        match (option.as_slice(), nodes.as_mut_slice()) {
            // No other option matches where a quad does.
            (
                [Piece::Quad],
                [
                    Node {
                        what: What::Quad(_, is_option),
                        ..
                    },
                    _,
                ],
            ) => *is_option = true,
            _ => {
                let option = skip(&nodes);
                let what = match is_only_one {
                    true => What::Unless(Box::new(own), option),
                    false => {
                        self.choices += 1;
                        What::Split(option)
                    }
                };
                nodes.insert(0, Node::from(what));
            }
        }
        nodes.append(&mut others);
        nodes
    }

    /// A text or blanks.
    fn fixed(&self, piece: &Piece) -> Option<Node> {
        Some(Node::from(match piece {
            Piece::Text(text) if self.ignore_case => What::TextAnyCase(text.as_slice().into()),
            Piece::Text(text) => What::Text(text.as_slice().into()),
            Piece::Blanks { required } => What::Blanks {
                required: *required,
            },
            _ => return None,
        }))
    }

    /// The words and blanks that `pieces` begin with as they are usually written, and how many pieces these are.
    fn phrase(&self, pieces: &[Piece]) -> Option<(Vec<u8>, usize)> {
        let mut words = Vec::new();
        let mut count = 0;
        for piece in pieces {
            match piece {
                Piece::Text(text) => words.extend_from_slice(text),
                Piece::Blanks { .. } => words.push(b' '),
                _ => break,
            }
            count += 1;
        }
        (count > 1 && !self.ignore_case).then_some((words, count))
    }

    fn run(
        &mut self,
        class: Class,
        signed: bool,
        (min, max): (usize, usize),
        next: FirstSet,
    ) -> What {
        What::Run(Run {
            class,
            signed,
            min: min as u16,
            max: u32::try_from(max).unwrap_or(u32::MAX),
            next: self.shorter(FirstSet::of(|byte| class.holds(byte)), next),
        })
    }

    /// What may follow a run of these bytes, if a shorter run could do.
    fn shorter(&mut self, run: FirstSet, next: FirstSet) -> Option<Box<FirstSet>> {
        let could = run.meets(next);
        self.choices += usize::from(could);
        could.then(|| Box::new(next))
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

impl From<What> for Node {
    fn from(what: What) -> Self {
        Self {
            what,
            capture: NO_CAPTURE,
        }
    }
}

/// Passes these nodes by.
fn skip(nodes: &[Node]) -> Skip {
    let captures = nodes.iter().map(|node| node.capture);
    Skip {
        count: nodes.len() as u32,
        captures: captures.filter(|capture| *capture != NO_CAPTURE).collect(),
    }
}
