//! Checks of single values, for the sections of the file alike.

use crate::diagnostic::{Path, Problems, nearest};

/// The choice that `text` names.
pub(super) fn choice<T: Copy>(
    text: &str,
    choices: &[(&str, T)],
    at: &Path,
    problems: &mut Problems<'_>,
) -> Option<T> {
    let found = choices.iter().find(|(name, _)| *name == text);
    if found.is_none() {
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        let hint =
            nearest(text, names.iter().copied()).map(|near| format!("did you mean `{near}`?"));
        problems.value(at, format!("must be {}", names.join(" or ")), hint);
    }
    found.map(|(_, value)| *value)
}

/// Reports a text that is empty or blank.
pub(super) fn unless_empty(text: &str, at: &Path, problems: &mut Problems<'_>) {
    if text.trim().is_empty() {
        problems.value(at, "must not be empty", None);
    }
}
