//! Where and why a YAML file is wrong: file, line, column, the offending text, and a hint where we know the cure.
//!
//! A file is parsed once into a [`Document`]; whoever gives it meaning walks its values with a [`Path`] in hand and
//! reports what is wrong to [`Problems`], all of it, not just the first. Line and column are looked up only then, by a
//! second, marked parse of the text, so that the usual case, a file without faults, pays nothing for them.

mod document;
mod locate;
mod problems;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

pub use self::document::Document;
use self::locate::{Spot, locate};
pub use self::problems::Problems;
pub(crate) use self::problems::SHOWN_MAX;

/// One fault in a file that a user wrote, or in a flag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// The file as the user named it, or the flag.
    pub file: Arc<str>,
    /// Line, from 1; 0 if the fault is that of the whole file.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The offending text, shortened to one line.
    pub text: String,
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// The cure, where we know it.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// A fault of a whole file, of a flag, or of nothing in particular (an empty `file`).
    pub(crate) fn of_file(file: impl Into<Arc<str>>, message: &str, hint: Option<String>) -> Self {
        Self {
            file: file.into(),
            line: 0,
            column: 0,
            text: String::new(),
            message: message.to_owned(),
            hint,
        }
    }

    /// A fault in the value of a flag.
    pub(crate) fn of_flag(flag: &str, message: &str, hint: Option<String>) -> Self {
        Self::of_file(flag, message, hint)
    }

    /// A fault that is in no file: of several files or flags together.
    pub(crate) fn bare(message: &str, hint: &str) -> Self {
        Self::of_file("", message, Some(hint.to_owned()))
    }

    /// A file or directory that cannot be read.
    pub(crate) fn unreadable(path: &std::path::Path, error: &str) -> Self {
        let hint = (path.is_relative() && !path.exists()).then(|| {
            let current = std::env::current_dir().unwrap_or_default();
            format!("a relative path starts at {}", current.display())
        });
        let file = path.display().to_string();
        Self::of_file(file, &format!("cannot be read: {error}"), hint)
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = printable(&self.message);
        match (self.file.is_empty(), self.line) {
            (true, _) => write!(f, "error: {message}")?,
            (false, 0) => write!(f, "{}: {message}", printable(&self.file))?,
            (false, line) => {
                let file = printable(&self.file);
                write!(f, "{file}:{line}:{}: {message}", self.column)?;
            }
        }
        if !self.text.is_empty() {
            write!(f, ": `{}`", printable(&self.text))?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {}", printable(hint))?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostic {}

/// `text` as a terminal may show it: control characters, which could move the cursor or rename the window, are escaped.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    let harmless = |c: char| !c.is_control() || c == '\t' || c == '\n';
    if text.chars().all(harmless) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if harmless(c) {
            shown.push(c);
        } else {
            shown.extend(c.escape_default());
        }
    }
    Cow::Owned(shown)
}

/// One step from a YAML value to a value inside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The value of a mapping's key.
    Key(String),
    /// An item of a sequence, from 0.
    Index(usize),
}

impl From<&str> for Step {
    fn from(key: &str) -> Self {
        Step::Key(key.to_owned())
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Self {
        Step::Index(index)
    }
}

/// The way from a document's root to a value. Ways share what they begin with: most are walked, few are reported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(Option<Arc<(Path, Step)>>);

impl Path {
    /// The root of the document.
    pub fn root() -> Self {
        Self::default()
    }

    /// This path and one step more.
    pub fn then(&self, step: impl Into<Step>) -> Self {
        Self(Some(Arc::new((self.clone(), step.into()))))
    }

    fn steps(&self) -> Vec<&Step> {
        let ends = std::iter::successors(self.0.as_deref(), |(before, _)| before.0.as_deref());
        let mut steps: Vec<&Step> = ends.map(|(_, step)| step).collect();
        steps.reverse();
        steps
    }
}

/// A fault at a path of a text that is known to be YAML.
pub fn at(
    file: &Arc<str>,
    text: &str,
    path: &Path,
    message: String,
    hint: Option<String>,
) -> Diagnostic {
    let (line, column, text) = locate(text, path, Spot::Value);
    Diagnostic {
        file: file.clone(),
        line,
        column,
        text,
        message,
        hint,
    }
}

/// The candidate nearest to `word`, if it is near enough to be a slip of the pen.
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::osa_distance(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
