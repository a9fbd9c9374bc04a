//! Regular expressions, ready to run: those of rules, and those that stand in for a template whose budget is spent.

use regex_automata::Input;
use regex_automata::meta::Regex;
use regex_automata::util::captures::Captures;
use regex_automata::util::syntax;
use regex_syntax::hir::HirKind;

use super::vm::Span;
use crate::rules::REGEX_BYTES_MAX;

/// A regular expression of a rule.
#[derive(Debug)]
pub(super) struct Search {
    regex: Regex,
    /// If all captures have fixed places before the end of a match: variable, and how far from there they start and end.
    /// The end of a match is found by an automaton; to find captures costs several times as much.
    places: Option<Box<[(usize, usize, usize)]>>,
}

impl Search {
    /// `variables` says for each group of the expression which of the spans it fills.
    ///
    /// # Errors
    /// It is no regular expression, or one larger than [`REGEX_BYTES_MAX`].
    pub(super) fn new(source: &str, variables: &[Option<usize>]) -> Result<Self, String> {
        Ok(Self {
            regex: linear(&format!("^(?:{source})"))?,
            places: places(source, variables),
        })
    }

    /// Whether it matches the message; `end` is where, if that is known. `spans`, all of them absent, are meaningful only
    /// after a match.
    #[inline(never)]
    pub(super) fn captures(
        &self,
        message: &[u8],
        end: Option<usize>,
        variables: &[Option<usize>],
        spans: &mut [Span],
        captures: &mut Captures,
    ) -> bool {
        let Some(places) = &self.places else {
            let variables = variables.iter().copied();
            return fill(&self.regex, message, variables, spans, captures);
        };
        let found = || Some(self.regex.search_half(&Input::new(message))?.offset());
        let Some(end) = end.or_else(found) else {
            return false;
        };
        for (variable, start, stop) in places {
            spans[*variable] = ((end - start) as u32, (end - stop) as u32);
        }
        true
    }
}

/// Runs an anchored expression. The first variable is that of its first group, and so on.
pub(super) fn fill(
    regex: &Regex,
    message: &[u8],
    variables: impl Iterator<Item = Option<usize>>,
    spans: &mut [Span],
    captures: &mut Captures,
) -> bool {
    *captures = regex.create_captures();
    regex.captures(message, captures);
    if !captures.is_match() {
        return false;
    }
    for (variable, group) in variables.zip(1..) {
        if let (Some(variable), Some(span)) = (variable, captures.get_group(group)) {
            // The same name may be in several alternatives; the one that took part counts.
            spans[variable] = (span.start as u32, span.end as u32);
        }
    }
    true
}

/// See [`Search::places`]. Reads the parts of the expression from the last, as long as their lengths are fixed.
fn places(source: &str, variables: &[Option<usize>]) -> Option<Box<[(usize, usize, usize)]>> {
    let hir = syntax::parse_with(source, &self::syntax()).ok()?;
    let parts = match hir.kind() {
        HirKind::Concat(parts) => parts.as_slice(),
        _ => std::slice::from_ref(&hir),
    };
    let mut places = Vec::new();
    let mut behind = 0;
    for part in parts.iter().rev() {
        let properties = part.properties();
        let len = properties.minimum_len();
        let Some(len) = len.filter(|_| len == properties.maximum_len()) else {
            break;
        };
        if let HirKind::Capture(capture) = part.kind()
            && let Some(variable) = *variables.get((capture.index as usize).checked_sub(1)?)?
        {
            places.push((variable, behind + len, behind));
        }
        behind += len;
    }
    // The others are elsewhere.
    let named = variables.iter().flatten().count();
    (places.len() == named).then(|| places.into())
}

/// How all patterns are read: over bytes.
pub(super) fn syntax() -> syntax::Config {
    syntax::Config::new().unicode(false).utf8(false)
}

/// An engine that costs time linear in the message.
///
/// # Errors
/// As [`Search::new`].
pub(super) fn linear(source: &str) -> Result<Regex, String> {
    let config = Regex::config()
        .utf8_empty(false)
        .nfa_size_limit(Some(REGEX_BYTES_MAX));
    Regex::builder()
        .syntax(syntax())
        .configure(config)
        .build(source)
        .map_err(|error| error.to_string())
}
