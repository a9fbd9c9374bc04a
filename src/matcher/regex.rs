//! Regular expressions: those of rules, and those that stand in for a template whose budget is spent.

use regex_automata::meta::Regex;
use regex_automata::util::syntax;

use crate::rules::REGEX_BYTES_MAX;

/// How all patterns are read: over bytes.
pub(super) fn syntax() -> syntax::Config {
    syntax::Config::new().unicode(false).utf8(false)
}

/// An engine that costs time linear in the message.
///
/// # Errors
/// It is no regular expression, or one larger than [`REGEX_BYTES_MAX`].
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
