//! The capture machine: runs one template over one message and says where its holes are.
//!
//! It is a small backtracking machine over the template's [`Piece`]s. Generic capture engines cost several hundred
//! nanoseconds a message; a template is mostly literal text, and this machine compares it with `memcmp` and finds the
//! end of a hole with `memchr`. Backtracking is bounded by a budget of steps; a message that exceeds it is left to
//! regex-automata's linear engine, built from the same pieces, so that no input costs more than linear time.

use memchr::{memchr, memchr2, memchr3, memmem};

use crate::rules::{Class, Piece, Template};

/// A capture: start and end in the message, or [`NOWHERE`].
pub(super) type Span = (u32, u32);

/// A hole that has no place in this message.
pub(super) const NOWHERE: Span = (u32::MAX, u32::MAX);

#[derive(Clone, Debug)]
enum Op {
    /// These bytes.
    Text(Box<[u8]>),
    /// These bytes, ASCII case ignored.
    TextAnyCase(Box<[u8]>),
    /// All blanks there are, at least so many.
    Blanks(usize),
    /// Bytes of a class, greedy.
    Run(&'static [bool; 256], usize, usize),
    /// One byte that is no blank, then as few as possible; the hint finds where what follows may start.
    Lazy(Hint),
    /// Everything that is left.
    Rest,
    /// Go on here; if that fails, there.
    Split(usize),
    Jump(usize),
    Open(usize),
    Close(usize),
    /// The message must end here.
    End,
}

/// Where the piece after a lazy hole may start.
#[derive(Clone, Debug)]
enum Hint {
    One(u8),
    Two(u8, u8),
    Three(u8, u8, u8),
    /// A blank of any kind, or this.
    BlankOr(u8),
    Text(Box<memmem::Finder<'static>>),
    End,
    Anywhere,
}

impl Hint {
    /// The first position from `from` on where what follows may start.
    fn find(&self, text: &[u8], from: usize) -> Option<usize> {
        let rest = text.get(from..)?;
        let found = match self {
            Hint::One(a) => memchr(*a, rest)?,
            Hint::Two(a, b) => memchr2(*a, *b, rest)?,
            Hint::Three(a, b, c) => memchr3(*a, *b, *c, rest)?,
            Hint::BlankOr(a) => rest
                .iter()
                .position(|byte| byte == a || matches!(byte, b' ' | b'\t' | 0xC2))?,
            Hint::Text(finder) => finder.find(rest)?,
            Hint::End => rest.len(),
            Hint::Anywhere => 0,
        };
        Some(from + found)
    }
}

/// A template, ready to run.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    ops: Box<[Op]>,
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
    pub(super) fn new(template: &Template, ignore_case: bool) -> Self {
        let mut ops = Vec::new();
        compile(&template.pieces, ignore_case, &mut ops);
        ops.push(Op::End);
        for at in 0..ops.len() {
            if matches!(ops[at], Op::Lazy(_)) {
                ops[at] = Op::Lazy(hint(&ops, at + 1));
            }
        }
        Self { ops: ops.into() }
    }

    /// Runs over a whole message. `spans` holds a place for every capture and is meaningful only after a match.
    pub(super) fn run(&self, text: &[u8], spans: &mut [Span], scratch: &mut Scratch) -> Outcome {
        let stack = &mut scratch.stack;
        stack.clear();
        spans.fill(NOWHERE);
        let mut budget = 256 + 16 * text.len();
        let (mut at, mut pos) = (0, 0);
        loop {
            let mut failed = false;
            match &self.ops[at] {
                Op::Text(literal) => match text[pos..].starts_with(literal) {
                    true => pos += literal.len(),
                    false => failed = true,
                },
                Op::TextAnyCase(literal) => match text.get(pos..pos + literal.len()) {
                    Some(found) if found.eq_ignore_ascii_case(literal) => pos += literal.len(),
                    _ => failed = true,
                },
                Op::Blanks(min) => {
                    let count = blanks(&text[pos..]);
                    pos += count;
                    failed = count < *min;
                }
                Op::Run(class, min, max) => {
                    let rest = &text[pos..];
                    let longest = rest.len().min(*max);
                    let mut count = 0;
                    while count < longest && class[usize::from(rest[count])] {
                        count += 1;
                    }
                    if count < *min {
                        failed = true;
                    } else {
                        if count > *min {
                            stack.push(Back::Shrink(at + 1, pos + min, pos + count));
                        }
                        pos += count;
                    }
                }
                Op::Lazy(hint) => {
                    let first = match &text[pos..] {
                        [] | [b' ' | b'\t', ..] | [0xC2] | [0xC2, 0xA0, ..] => None,
                        [0xC2, ..] => Some(2),
                        _ => Some(1),
                    };
                    match first.and_then(|first| hint.find(text, pos + first)) {
                        Some(end) => {
                            stack.push(Back::Grow(at, end));
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
                Op::Open(capture) => {
                    stack.push(Back::Restore(*capture, spans[*capture]));
                    spans[*capture] = (pos as u32, u32::MAX);
                }
                Op::Close(capture) => spans[*capture].1 = pos as u32,
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
    let mut at = 0;
    loop {
        match &text[at..] {
            [b' ' | b'\t', ..] => at += 1,
            [0xC2, 0xA0, ..] => at += 2,
            _ => return at,
        }
    }
}

fn compile(pieces: &[Piece], ignore_case: bool, ops: &mut Vec<Op>) {
    for piece in pieces {
        match piece {
            Piece::Text(text) if ignore_case => ops.push(Op::TextAnyCase(text.as_slice().into())),
            Piece::Text(text) => ops.push(Op::Text(text.as_slice().into())),
            Piece::Blanks { required } => ops.push(Op::Blanks(usize::from(*required))),
            Piece::Run { class, min, max } => ops.push(Op::Run(table(*class), *min, *max)),
            // The hint depends on what follows and is filled in when all is there.
            Piece::Lazy => ops.push(Op::Lazy(Hint::Anywhere)),
            Piece::Rest => ops.push(Op::Rest),
            Piece::Choice(options) => {
                let mut ends = Vec::new();
                for (index, option) in options.iter().enumerate() {
                    let last = index + 1 == options.len();
                    let split = ops.len();
                    if !last {
                        ops.push(Op::Split(0));
                    }
                    compile(option, ignore_case, ops);
                    if !last {
                        ends.push(ops.len());
                        ops.push(Op::Jump(0));
                        ops[split] = Op::Split(ops.len());
                    }
                }
                for end in ends {
                    ops[end] = Op::Jump(ops.len());
                }
            }
            Piece::Capture(index, inner) => {
                ops.push(Op::Open(*index));
                compile(inner, ignore_case, ops);
                ops.push(Op::Close(*index));
            }
        }
    }
}

fn hint(ops: &[Op], mut at: usize) -> Hint {
    loop {
        match &ops[at] {
            Op::Open(_) | Op::Close(_) => at += 1,
            Op::Text(text) if text.len() == 1 => return Hint::One(text[0]),
            Op::Text(text) => return Hint::Text(Box::new(memmem::Finder::new(text).into_owned())),
            Op::TextAnyCase(text) => {
                let (lower, upper) = (text[0].to_ascii_lowercase(), text[0].to_ascii_uppercase());
                return Hint::Two(lower, upper);
            }
            Op::Blanks(0) => {
                return match ops.get(at + 1) {
                    Some(Op::Text(text)) => Hint::BlankOr(text[0]),
                    _ => Hint::Anywhere,
                };
            }
            Op::Blanks(_) => return Hint::Three(b' ', b'\t', 0xC2),
            Op::End => return Hint::End,
            _ => return Hint::Anywhere,
        }
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

    fn both(template: &str, message: &str) -> Option<Vec<Option<String>>> {
        let parsed = Template::parse(template).unwrap();
        let machine = Machine::new(&parsed, false);
        let mut spans = vec![NOWHERE; parsed.captures.len()];
        let outcome = machine.run(message.as_bytes(), &mut spans, &mut Scratch::default());
        let found = (outcome == Outcome::Matched).then(|| {
            spans
                .iter()
                .map(|span| {
                    (*span != NOWHERE).then(|| message[span.0 as usize..span.1 as usize].to_owned())
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
                        .map(|span| message[span.range()].to_owned())
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
                expected.map(|text| Some(text.to_owned())),
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
                    "{? a?}", "{?b?}", "{i:ip}", "{p:peer}", "{q:quoted}", "{h:hex}", "{e:name}", "{o:(a|a b|1)}",
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
