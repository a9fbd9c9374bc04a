//! What is wrong in a document, all of it.

use serde::de::DeserializeOwned;
use serde_yaml::Value;

use super::{Diagnostic, Document, Path, Spot, Step, locate, nearest};

/// Faults of one file that are shown. Each is looked up in the text, so that all of them would take time in proportion to
/// the square of a file that is wrong throughout.
pub(crate) const SHOWN_MAX: usize = 100;

/// The faults found in one document so far.
#[derive(Debug)]
pub struct Problems<'a> {
    document: &'a Document,
    found: Vec<(Path, Spot, String, Option<String>)>,
}

impl<'a> Problems<'a> {
    /// None yet.
    pub fn new(document: &'a Document) -> Self {
        Self {
            document,
            found: Vec::new(),
        }
    }

    /// The value at `path` is wrong.
    pub fn value(&mut self, path: &Path, message: impl Into<String>, hint: Option<String>) {
        self.found
            .push((path.clone(), Spot::Value, message.into(), hint));
    }

    /// The key that `path` ends with is wrong.
    pub fn key(&mut self, path: &Path, message: impl Into<String>, hint: Option<String>) {
        self.found
            .push((path.clone(), Spot::Key, message.into(), hint));
    }

    /// How many faults there are so far.
    pub(crate) fn len(&self) -> usize {
        self.found.len()
    }

    /// Nothing is wrong so far.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Reads `value`, which stands at `path`, as a `T`. Every unknown key and every value of a wrong kind is reported;
    /// nothing is returned then.
    pub fn decode<T: DeserializeOwned>(&mut self, value: &Value, path: &Path) -> Option<T> {
        let before = self.found.len();
        let decoded = self.decode_rest(value, path);
        decoded.filter(|_| self.found.len() == before)
    }

    /// As [`Problems::decode`], but returns what is left when the faulty keys are taken away, so that more can be checked.
    pub fn decode_rest<T: DeserializeOwned>(&mut self, value: &Value, path: &Path) -> Option<T> {
        // Nearly always all is well, and nothing needs to be copied.
        if let Ok(decoded) = T::deserialize(value) {
            return Some(decoded);
        }
        let mut value = value.clone();
        let mut removed: Vec<String> = Vec::new();
        // Each round removes one key, so the loop ends.
        loop {
            let error = match serde_path_to_error::deserialize::<_, T>(value.clone()) {
                Ok(decoded) => return Some(decoded),
                Err(error) => error,
            };
            let mut at = path.clone();
            for segment in error.path().iter() {
                use serde_path_to_error::Segment;
                match segment {
                    Segment::Seq { index } => at = at.then(*index),
                    Segment::Map { key } => at = at.then(key.as_str()),
                    Segment::Enum { .. } | Segment::Unknown => {}
                }
            }
            let message = error.inner().to_string();
            if let Some((key, known)) = unknown_field(&message) {
                if at.steps().last() != Some(&&Step::Key(key.to_owned())) {
                    at = at.then(key);
                }
                let hint = nearest(key, known.iter().copied())
                    .map(|near| format!("did you mean `{near}`?"))
                    .or_else(|| Some(format!("known keys: {}", known.join(", "))));
                self.key(&at, "unknown key", hint);
            } else {
                // A key that was taken away because its value is wrong is not missing.
                if message
                    .strip_prefix("missing field `")
                    .and_then(|rest| rest.split_once('`'))
                    .is_some_and(|(key, _)| removed.iter().any(|removed| removed == key))
                {
                    return None;
                }
                let (message, hint) = plain(&message, &at);
                self.value(&at, message, hint);
            }
            let steps = at.steps();
            let Some(Step::Key(key)) = steps.last().filter(|_| steps.len() > path.steps().len())
            else {
                return None;
            };
            if !remove(&mut value, &steps[path.steps().len()..]) {
                return None;
            }
            removed.push(key.clone());
        }
    }

    /// The faults with their places, in the order of the file.
    pub fn into_diagnostics(self) -> Vec<Diagnostic> {
        let document = self.document;
        let more = self.found.len().saturating_sub(SHOWN_MAX);
        let mut diagnostics: Vec<_> = self
            .found
            .into_iter()
            .take(SHOWN_MAX)
            .map(|(path, spot, message, hint)| {
                let (line, column, text) = locate(&document.text, &path, spot);
                Diagnostic {
                    file: document.file.clone(),
                    line,
                    column,
                    text,
                    message,
                    hint,
                }
            })
            .collect();
        diagnostics.sort_by_key(|d| (d.line, d.column));
        if more > 0 {
            let message = format!("{more} more errors");
            diagnostics.push(Diagnostic::of_file(document.file.clone(), &message, None));
        }
        diagnostics
    }
}

/// serde's words about a value of the wrong kind, in those of a manual, with what to write instead.
fn plain(message: &str, at: &Path) -> (String, Option<String>) {
    if let Some(rest) = message.strip_prefix("missing field ") {
        return (format!("missing key {rest}"), None);
    }
    if let Some(rest) = message.strip_prefix("unknown variant `")
        && let Some((word, known)) = rest.split_once('`')
    {
        let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
        let hint =
            nearest(word, known.iter().copied()).map(|near| format!("did you mean `{near}`?"));
        return (format!("must be {}", known.join(" or ")), hint);
    }
    let Some((found, expected)) = message
        .strip_prefix("invalid ")
        .and_then(|rest| rest.rsplit_once(", expected "))
    else {
        return (message.to_owned(), None);
    };
    let key = match at.steps().last() {
        Some(Step::Key(key)) => Some(key.clone()),
        _ => None,
    };
    let (message, hint) = match expected {
        "a sequence" => {
            // "type: string \"x\"": what was meant as the only item.
            let item = found
                .split_once('"')
                .and_then(|(_, rest)| rest.strip_suffix('"'));
            let hint = match (key, item) {
                (Some(key), Some(item)) => Some(format!("write `{key}: ['{item}']`")),
                _ => None,
            };
            ("must be a list", hint)
        }
        "a boolean" => ("must be true or false", None),
        "u8" | "u16" | "u32" | "u64" | "usize" => ("must be a whole number, 0 or more", None),
        "i8" | "i16" | "i32" | "i64" => ("must be a whole number", None),
        "f32" | "f64" => ("must be a number", None),
        "a string" => ("must be text", Some("put it in quotes".to_owned())),
        "path string" => ("must be a path", None),
        expected if expected == "a map" || expected.starts_with("struct ") => {
            ("must be keys with values, as in `key: value`", None)
        }
        _ => return (message.to_owned(), None),
    };
    (message.to_owned(), hint)
}

/// serde's own words: "unknown field `x`, expected one of `a`, `b`".
fn unknown_field(message: &str) -> Option<(&str, Vec<&str>)> {
    let rest = message.strip_prefix("unknown field `")?;
    let (key, rest) = rest.split_once('`')?;
    let known = rest.split('`').skip(1).step_by(2).collect::<Vec<_>>();
    Some((key, known))
}

fn remove(value: &mut Value, steps: &[&Step]) -> bool {
    match steps {
        [Step::Key(key)] => value
            .as_mapping_mut()
            .is_some_and(|mapping| mapping.shift_remove(key.as_str()).is_some()),
        [step, rest @ ..] => {
            let inner = match step {
                Step::Key(key) => value.get_mut(key.as_str()),
                Step::Index(index) => value.get_mut(*index),
            };
            inner.is_some_and(|inner| remove(inner, rest))
        }
        [] => false,
    }
}
