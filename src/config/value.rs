//! Checks of single values, for the sections of the file alike.

use std::ops::RangeInclusive;

use serde_yaml::Value;

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

/// A whole number in this range; nothing if there is none.
pub(super) fn whole_number(
    typed: Option<&Value>,
    range: RangeInclusive<u64>,
    at: &Path,
    problems: &mut Problems<'_>,
) -> Option<u64> {
    let typed = typed.filter(|value| !value.is_null())?;
    let value = typed.as_u64().filter(|value| range.contains(value));
    if value.is_none() {
        let (min, max) = range.into_inner();
        let message = format!("must be a whole number from {min} to {max}");
        problems.value(at, message, None);
    }
    value
}

/// Bytes, with or without a unit.
pub(super) fn size(
    typed: &Value,
    range: RangeInclusive<u64>,
    shown: &str,
    at: &Path,
    problems: &mut Problems<'_>,
) -> Option<u64> {
    const UNITS: [(&str, u64); 4] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
    ];
    let of_text = |text: &str| {
        let unit = UNITS
            .iter()
            .find_map(|(name, bytes)| Some((text.strip_suffix(name)?, bytes)));
        let (number, bytes) = unit.unwrap_or((text, &1));
        number.parse::<u64>().ok()?.checked_mul(*bytes)
    };
    let value = typed.as_u64().or_else(|| of_text(typed.as_str()?));
    let value = value.filter(|value| range.contains(value));
    if value.is_none() {
        let message = format!("must be a size from {shown}, such as 64MiB");
        problems.value(at, message, None);
    }
    value
}
