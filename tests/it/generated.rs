//! Files that are made from packs and code and kept in the repository, so that a review shows what changed.

use std::fs;

use crate::support::root;

/// Compares a file of the repository with what it should hold. With `UPDATE=1` in the environment it is rewritten.
///
/// # Panics
/// If they differ, with the first line that does.
pub fn compare(path: &str, wanted: &str) {
    let file = root().join(path);
    if std::env::var_os("UPDATE").is_some_and(|value| !value.is_empty()) {
        fs::write(&file, wanted)
            .unwrap_or_else(|error| panic!("{path} cannot be written: {error}"));
        return;
    }
    let there = fs::read_to_string(&file).unwrap_or_default();
    if there == wanted {
        return;
    }
    let differs = there
        .lines()
        .zip(wanted.lines())
        .position(|(there, wanted)| there != wanted)
        .unwrap_or_else(|| there.lines().count().min(wanted.lines().count()));
    panic!(
        "{path}:{} is not up to date\n  file:   {}\n  wanted: {}\nrun: UPDATE=1 cargo test --test it, and read the diff",
        differs + 1,
        there.lines().nth(differs).unwrap_or("(end of file)"),
        wanted.lines().nth(differs).unwrap_or("(end of file)"),
    );
}

/// A text for a cell of a Markdown table.
pub fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\r', '\n'], " ")
}

/// A text as code in a cell, whatever backticks it has.
pub fn code(text: &str) -> String {
    let fence = if text.contains('`') { "``" } else { "`" };
    let pad = if text.starts_with('`') || text.ends_with('`') {
        " "
    } else {
        ""
    };
    format!("{fence}{pad}{}{pad}{fence}", cell(text))
}
