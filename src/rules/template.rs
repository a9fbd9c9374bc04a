//! Message templates: text with typed placeholders, parsed into [`Piece`]s, and their meaning as a regular expression.
//!
//! Two engines run a template: the automata of a whole program's rules, which are built from [`Template::to_regex`], and the
//! matcher of single templates in [`crate::matcher`], which runs the pieces. Both must agree; the pieces are therefore few
//! and each has its meaning stated here. docs/rules.md is the user's view of the same language.

use std::fmt::Write as _;

use super::choice;
use super::piece::{Class, Piece};

/// What a capture is called, and what it may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// The name in the template.
    pub name: String,
    /// The texts it can be, if the template lists them: its values are then known before any line is read.
    pub one_of: Option<Vec<String>>,
    /// The placeholder's type cannot hold text that a remote party made up freely: numbers.
    pub numeric: bool,
}

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// Its parts, which together match a whole message.
    pub pieces: Vec<Piece>,
    /// The named placeholders in the order written; a name stands once.
    pub captures: Vec<Capture>,
}

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError {
    /// What is wrong.
    pub message: String,
    /// The cure, where we know it.
    pub hint: Option<String>,
}

const PLACEHOLDER_TYPES: &[&str] = &[
    "text", "rest", "word", "name", "int", "number", "hex", "ip", "peer", "quoted",
];

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// A brace is not closed, a placeholder's type is unknown, a name is no name or is used twice, `rest` is not at the end.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parser = TemplateParser {
            rest: text,
            captures: Vec::new(),
        };
        let pieces = parser.sequence(false)?;
        let pieces = tidy(pieces);
        if pieces.is_empty() {
            return Err(fault("the template is empty", None));
        }
        check_rest(&pieces, true)?;
        edges(&pieces)?;
        let mut captures = parser.captures;
        captures.shrink_to_fit();
        Ok(Self { pieces, captures })
    }

    /// The template as a regular expression for a whole message, its captures as unnamed groups in order.
    pub fn to_regex(&self, ignore_case: bool) -> String {
        regex(&self.factored(), ignore_case)
    }

    /// Pieces that match the same, with less to try where a choice has many options.
    pub(crate) fn factored(&self) -> Vec<Piece> {
        choice::factored(&self.pieces)
    }

    /// The bytes that every match starts with; a blank stands for a run of blanks.
    pub fn prefix(&self) -> Vec<u8> {
        let mut prefix = Vec::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => prefix.extend_from_slice(text),
                Piece::Blanks { required: true } => prefix.push(b' '),
                _ => break,
            }
        }
        prefix
    }
}

fn fault(message: impl Into<String>, hint: Option<&str>) -> TemplateError {
    TemplateError {
        message: message.into(),
        hint: hint.map(str::to_owned),
    }
}

struct TemplateParser<'t> {
    rest: &'t str,
    captures: Vec<Capture>,
}

impl TemplateParser<'_> {
    /// Reads up to the end, or up to `?}` inside an optional part.
    fn sequence(&mut self, optional: bool) -> Result<Vec<Piece>, TemplateError> {
        let mut pieces = Vec::new();
        let mut text = String::new();
        loop {
            if optional && self.rest.starts_with("?}") {
                self.rest = &self.rest[2..];
                break;
            }
            let Some(next) = self.rest.chars().next() else {
                if optional {
                    return Err(fault(
                        "an optional part is not closed",
                        Some("write `?}` where it ends"),
                    ));
                }
                break;
            };
            if self.rest.starts_with("{{") || self.rest.starts_with("}}") {
                text.push(next);
                self.rest = &self.rest[2..];
            } else if let Some(rest) = self.rest.strip_prefix("{?") {
                literal(&mut pieces, &text);
                text.clear();
                self.rest = rest;
                let inner = self.sequence(true)?;
                pieces.push(Piece::Choice(vec![inner, Vec::new()]));
            } else if next == '{' {
                literal(&mut pieces, &text);
                text.clear();
                self.placeholder(&mut pieces)?;
            } else if next == '}' {
                return Err(fault(
                    "a closing brace without an opening one",
                    Some("write `}}` for a literal brace"),
                ));
            } else {
                text.push(next);
                self.rest = &self.rest[next.len_utf8()..];
            }
        }
        literal(&mut pieces, &text);
        pieces.shrink_to_fit();
        Ok(pieces)
    }

    fn placeholder(&mut self, pieces: &mut Vec<Piece>) -> Result<(), TemplateError> {
        let Some(end) = self.rest.find('}') else {
            return Err(fault(
                "a placeholder is not closed",
                Some("write `{{` for a literal brace"),
            ));
        };
        let body = &self.rest[1..end];
        self.rest = &self.rest[end + 1..];
        let (name, kind) = body.split_once(':').unwrap_or((body, "text"));
        let named = match name {
            "_" => false,
            name if is_name(name) => true,
            _ => {
                return Err(fault(
                    format!("invalid placeholder name `{name}`"),
                    Some(
                        "names are lower-case letters, digits and `_`; `_` alone captures nothing",
                    ),
                ));
            }
        };
        let run = |class, min, max| Piece::Run { class, min, max };
        let digits = || run(Class::Digit, 1, usize::MAX);
        let maybe = |pieces: Vec<Piece>| Piece::Choice(vec![pieces, Vec::new()]);
        let text = |text: &str| Piece::Text(text.as_bytes().to_vec());
        let ip = || {
            // The second has a colon where a quad has its first dot.
            Piece::Choice(vec![
                vec![Piece::Quad],
                vec![
                    run(Class::Hex, 0, 4),
                    text(":"),
                    run(Class::Ip6, 0, 40),
                    maybe(vec![text("%"), run(Class::Name, 1, usize::MAX)]),
                ],
            ])
        };
        let mut one_of = None;
        let mut around = None;
        let inner = match kind {
            "text" => vec![Piece::Lazy],
            "rest" => {
                // The blank before it is optional, so that a template reads naturally.
                if let Some(Piece::Blanks { required }) = pieces.last_mut() {
                    *required = false;
                } else {
                    pieces.push(Piece::Blanks { required: false });
                }
                vec![Piece::Rest]
            }
            "word" => vec![run(Class::Word, 1, usize::MAX)],
            "name" => vec![run(Class::Name, 1, usize::MAX)],
            "int" => vec![run(Class::Sign, 0, 1), digits()],
            "number" => vec![
                run(Class::Sign, 0, 1),
                digits(),
                maybe(vec![text("."), digits()]),
            ],
            "hex" => vec![
                maybe(vec![text("0"), run(Class::X, 1, 1)]),
                run(Class::Hex, 1, usize::MAX),
            ],
            "ip" => vec![ip()],
            "peer" => vec![ip(), maybe(vec![run(Class::PortMark, 1, 1), digits()])],
            "quoted" => {
                around = Some(text("\""));
                vec![run(Class::Unquoted, 0, usize::MAX)]
            }
            _ if kind.starts_with('(') && kind.ends_with(')') => {
                let options: Vec<String> = kind[1..kind.len() - 1]
                    .split('|')
                    .map(str::to_owned)
                    .collect();
                let choice = options
                    .iter()
                    .map(|option| {
                        let mut inner = Vec::new();
                        literal(&mut inner, option);
                        inner
                    })
                    .collect();
                one_of = Some(options);
                vec![Piece::Choice(choice)]
            }
            _ => {
                return Err(TemplateError {
                    message: format!("unknown placeholder type `{kind}`"),
                    hint: Some(
                        match crate::diagnostic::nearest(kind, PLACEHOLDER_TYPES.iter().copied()) {
                            Some(near) => format!("did you mean `{near}`?"),
                            None => {
                                format!("types: {}, (one|of|these)", PLACEHOLDER_TYPES.join(", "))
                            }
                        },
                    ),
                });
            }
        };
        let numeric = matches!(kind, "int" | "number" | "hex");
        pieces.extend(around.clone());
        if named {
            if self.captures.iter().any(|capture| capture.name == name) {
                return Err(fault(
                    format!("the placeholder `{name}` is there twice"),
                    Some("a name stands for one place"),
                ));
            }
            pieces.push(Piece::Capture(self.captures.len(), inner));
            self.captures.push(Capture {
                name: name.to_owned(),
                one_of,
                numeric,
            });
        } else {
            pieces.extend(inner);
        }
        pieces.extend(around);
        Ok(())
    }
}

/// A name of a placeholder or a `let`.
pub fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// Turns literal text into pieces: runs of blanks, and the blanks beside a colon, which are optional.
fn literal(pieces: &mut Vec<Piece>, text: &str) {
    let bytes = text.as_bytes();
    let mut at = 0;
    let mut word = Vec::new();
    let flush = |word: &mut Vec<u8>, pieces: &mut Vec<Piece>| {
        if !word.is_empty() {
            pieces.push(Piece::Text(word.as_slice().into()));
            word.clear();
        }
    };
    while at < bytes.len() {
        if !matches!(bytes[at], b' ' | b'\t') {
            word.push(bytes[at]);
            at += 1;
            continue;
        }
        let start = at;
        while at < bytes.len() && matches!(bytes[at], b' ' | b'\t') {
            at += 1;
        }
        flush(&mut word, pieces);
        let after_colon = start > 0 && bytes[start - 1] == b':';
        let before_colon = bytes.get(at) == Some(&b':');
        pieces.push(Piece::Blanks {
            required: !(after_colon || before_colon),
        });
    }
    flush(&mut word, pieces);
}

/// Joins neighbours that mean one thing, and drops the blanks at both ends, which a message never has.
fn tidy(pieces: Vec<Piece>) -> Vec<Piece> {
    let mut out: Vec<Piece> = Vec::new();
    for piece in pieces {
        match (out.last_mut(), piece) {
            (Some(Piece::Text(text)), Piece::Text(more)) => text.extend(more),
            (Some(Piece::Blanks { required }), Piece::Blanks { required: more }) => {
                *required |= more;
            }
            (_, piece) => out.push(piece),
        }
    }
    if matches!(out.first(), Some(Piece::Blanks { .. })) {
        out.remove(0);
    }
    if matches!(out.last(), Some(Piece::Blanks { .. })) {
        out.pop();
    }
    out.shrink_to_fit();
    out
}

/// `rest` runs to the end, so nothing may follow it.
fn check_rest(pieces: &[Piece], last: bool) -> Result<(), TemplateError> {
    for (index, piece) in pieces.iter().enumerate() {
        let last = last && index + 1 == pieces.len();
        match piece {
            Piece::Rest if !last => {
                return Err(fault(
                    "something follows a placeholder of type `rest`",
                    Some("use `{name}` for text in between"),
                ));
            }
            Piece::Capture(_, inner) => check_rest(inner, last)?,
            Piece::Choice(options) => {
                for option in options {
                    check_rest(option, last)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether some way through the pieces starts or ends with blanks, or is empty. Two runs of blanks must not meet: each
/// takes all there are, so the second would find none.
fn edges(pieces: &[Piece]) -> Result<(bool, bool, bool), TemplateError> {
    let (mut starts, mut ends, mut empty) = (false, false, true);
    for piece in pieces {
        let (s, e, n) = match piece {
            Piece::Blanks { .. } => (true, true, false),
            Piece::Text(_) | Piece::Quad | Piece::Lazy | Piece::Rest => (false, false, false),
            Piece::Run { min, .. } => (false, false, *min == 0),
            Piece::Capture(_, inner) => edges(inner)?,
            Piece::Choice(options) => {
                let mut all = (false, false, false);
                for option in options {
                    let (s, e, n) = edges(option)?;
                    all = (all.0 | s, all.1 | e, all.2 | n);
                }
                all
            }
        };
        if ends && s {
            return Err(fault(
                "blanks meet at the edge of an optional part",
                Some("write the blank inside or outside of it, not both: `a{? b?} c`"),
            ));
        }
        starts |= empty && s;
        ends = e || (n && ends);
        empty &= n;
    }
    Ok((starts, ends, empty))
}

/// See [`Template::to_regex`].
pub(super) fn regex(pieces: &[Piece], ignore_case: bool) -> String {
    let mut out = String::from(if ignore_case { "(?i-u:" } else { "(?-u:" });
    write_regex(pieces, &mut out);
    out.push_str(")\\z");
    out
}

fn write_regex(pieces: &[Piece], out: &mut String) {
    for piece in pieces {
        match piece {
            Piece::Text(text) => {
                for &byte in text {
                    // Escaped one by one: the text may hold any byte.
                    if byte.is_ascii_alphanumeric() {
                        out.push(char::from(byte));
                    } else {
                        let _ = write!(out, "\\x{byte:02X}");
                    }
                }
            }
            Piece::Blanks { required: true } => out.push_str("(?:[ \\t]|\\xC2\\xA0)+"),
            Piece::Blanks { required: false } => out.push_str("(?:[ \\t]|\\xC2\\xA0)*"),
            Piece::Run { class, min, max } => {
                out.push_str(class.regex());
                match (min, max) {
                    (0, 1) => out.push('?'),
                    (1, 1) => {}
                    (0, &usize::MAX) => out.push('*'),
                    (1, &usize::MAX) => out.push('+'),
                    (min, &usize::MAX) => {
                        let _ = write!(out, "{{{min},}}");
                    }
                    (min, max) => {
                        let _ = write!(out, "{{{min},{max}}}");
                    }
                }
            }
            Piece::Quad => out.push_str(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}"),
            Piece::Lazy => out.push_str("(?:[^ \\t\\xC2]|\\xC2[^\\xA0])(?s:.*?)"),
            Piece::Rest => out.push_str("(?s:.*)"),
            Piece::Choice(options) => {
                out.push_str("(?:");
                for (index, option) in options.iter().enumerate() {
                    if index > 0 {
                        out.push('|');
                    }
                    write_regex(option, out);
                }
                out.push(')');
            }
            Piece::Capture(_, inner) => {
                out.push('(');
                write_regex(inner, out);
                out.push(')');
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regex(template: &str) -> String {
        match Template::parse(template) {
            Ok(template) => template.to_regex(false),
            Err(error) => error.message,
        }
    }

    #[test]
    fn templates_mean_regular_expressions() {
        for (template, expected) in [
            (
                "SEL is {n:int}% full",
                r"(?-u:SEL_+is_+([+-]?[0-9]+)\x25_+full)\z",
            ),
            ("from : {who}", r"(?-u:from_*\x3A_*(LAZY))\z"),
            ("from: {_:word}.", r"(?-u:from\x3A_*[^ \t]+\x2E)\z"),
            ("is up{_:rest}", r"(?-u:is_+up_*(?s:.*))\z"),
            (
                "a{? b?} {s:(on|off line)}",
                r"(?-u:a(?:_+b|)_+((?:on|off_+line)))\z",
            ),
            ("client {c:quoted}", "(?-u:client_+\\x22([^\"]*)\\x22)\\z"),
            ("{{x}}", r"(?-u:\x7Bx\x7D)\z"),
            (
                "{x:rest} more",
                "something follows a placeholder of type `rest`",
            ),
            ("{x:nmuber}", "unknown placeholder type `nmuber`"),
            ("{x} {x}", "the placeholder `x` is there twice"),
            ("{x", "a placeholder is not closed"),
            ("{?x", "an optional part is not closed"),
            ("a {? b?} c", "blanks meet at the edge of an optional part"),
            ("a {?b ?}c", r"(?-u:a_+(?:b_+|)c)\z"),
        ] {
            let expected = expected
                .replace("_+", "(?:[ \\t]|\\xC2\\xA0)+")
                .replace("_*", "(?:[ \\t]|\\xC2\\xA0)*")
                .replace("LAZY", "(?:[^ \\t\\xC2]|\\xC2[^\\xA0])(?s:.*?)");
            assert_eq!(regex(template), expected, "{template}");
        }
    }

    #[test]
    fn a_prefix_ends_where_the_first_hole_begins() {
        let template = Template::parse("SEL  buffer {n:int}").unwrap();
        assert_eq!(template.prefix(), b"SEL buffer ");
    }
}
