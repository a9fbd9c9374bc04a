//! Where and why a YAML file is wrong: file, line, column, the offending text, and a hint where we know the cure.
//!
//! A file is parsed once into a [`Document`]; whoever gives it meaning walks its values with a [`Path`] in hand and
//! reports what is wrong to [`Problems`], all of it, not just the first. Line and column are looked up only then, by a
//! second, marked parse of the text, so that the usual case, a file without faults, pays nothing for them.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use saphyr_parser::{Event, Parser, Span};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_yaml::Value;

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
        let hint = path.is_relative().then(|| {
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

impl std::error::Error for Diagnostic {}

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

/// Which end of a mapping entry a fault is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spot {
    Key,
    Value,
}

/// A YAML file that is at least well-formed.
#[derive(Clone, Debug)]
pub struct Document {
    /// The file as the user named it.
    pub file: Arc<str>,
    /// Its text; that of a built-in file is part of the program.
    pub text: Arc<Cow<'static, str>>,
    /// Its root value.
    pub value: Value,
}

impl Document {
    /// Parses a YAML text. An empty text is an empty mapping; a byte order mark is skipped.
    ///
    /// # Errors
    /// The text is not YAML, a mapping has the same key twice, or it is nested more than [`DEPTH_MAX`] deep.
    pub fn parse(file: &str, text: &str) -> Result<Self, Diagnostic> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let fault = |line, column, message: &str, hint: Option<&str>| Diagnostic {
            file: file.into(),
            line,
            column,
            text: line_of(text, line),
            message: message.to_owned(),
            hint: hint.map(str::to_owned),
        };
        if let Err((line, column, message, shown)) = survey(text) {
            let mut fault = fault(line, column, message, None);
            fault.text = shown;
            return Err(fault);
        }
        let value: Value = serde_yaml::from_str(text).map_err(|error| {
            let (line, column) = error
                .location()
                .map_or((1, 1), |at| (at.line(), at.column()));
            // The location is given apart; the library repeats it at the end of its message.
            let message = error.to_string();
            let message = message.split(" at line ").next().unwrap_or_default();
            let hint = message.contains("escape").then_some(
                "write patterns in single quotes; double quotes need every backslash doubled",
            );
            fault(line, column, message, hint)
        })?;
        let value = if value.is_null() {
            Value::Mapping(Default::default())
        } else {
            value
        };
        Ok(Self {
            file: file.into(),
            text: Arc::new(Cow::Owned(text.to_owned())),
            value,
        })
    }
}

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
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edit distance in which a swap of neighbours counts one.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j - 1] + change)
                .min(rows[i - 1][j] + 1)
                .min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
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

/// How deep sequences and mappings may be nested. No setting needs a tenth of it, and a parser's time or stack may grow
/// with the depth faster than the text does.
const DEPTH_MAX: usize = 64;

/// Looks for what the parser would not report, or would report at the wrong place: deep nesting and a key that is there
/// twice. Line, column, message and offending text.
fn survey(text: &str) -> Result<(), (usize, usize, &'static str, String)> {
    /// A sequence, or a mapping with its keys so far and whether a key comes next.
    enum Open {
        Sequence,
        Mapping(HashSet<String>, bool),
    }
    let mut open: Vec<Open> = Vec::new();
    let mut events = Events {
        parser: Parser::new_from_str(text),
    };
    loop {
        let (event, span) = match events.parser.next_event() {
            // The parser has a limit of its own.
            Some(Err(error)) if error.info().contains("recursion limit") => {
                let at = error.marker();
                let line = line_of(text, at.line());
                return Err((at.line(), at.col() + 1, "nested too deep", line));
            }
            None | Some(Err(_) | Ok((Event::StreamEnd, _))) => return Ok(()),
            Some(Ok((
                Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing,
                _,
            ))) => continue,
            Some(Ok(found)) => found,
        };
        let at = span.start;
        if matches!(event, Event::MappingEnd | Event::SequenceEnd) {
            open.pop();
            continue;
        }
        if let Some(Open::Mapping(keys, is_key)) = open.last_mut() {
            if *is_key
                && let Event::Scalar(key, ..) = &event
                && !keys.insert(key.to_string())
            {
                let key = shorten(key);
                return Err((at.line(), at.col() + 1, "this key is there twice", key));
            }
            *is_key = !*is_key;
        }
        match event {
            Event::MappingStart(..) => open.push(Open::Mapping(HashSet::new(), true)),
            Event::SequenceStart(..) => open.push(Open::Sequence),
            _ => {}
        }
        if open.len() > DEPTH_MAX {
            let line = line_of(text, at.line());
            return Err((at.line(), at.col() + 1, "nested too deep", line));
        }
    }
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

fn line_of(text: &str, line: usize) -> String {
    shorten(text.lines().nth(line.saturating_sub(1)).unwrap_or_default())
}

/// Offending text is quoted in a message of one line.
fn shorten(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    let line = text.trim().lines().next().unwrap_or_default();
    if line.chars().count() <= CHARS_MAX {
        return line.to_owned();
    }
    line.chars().take(CHARS_MAX - 1).chain(['…']).collect()
}

/// Line, column and text of the value or key at `path`; of the last step that exists if the path does not.
fn locate(text: &str, path: &Path, spot: Spot) -> (usize, usize, String) {
    let mut best = (1, 1, line_of(text, 1));
    let mut events = Events {
        parser: Parser::new_from_str(text),
    };
    let steps = path.steps();
    let mut steps = steps.as_slice();
    // Skip the starts of stream and document.
    let Some(mut node) = events.next_node() else {
        return best;
    };
    let shown = |span: Span, event: &Event<'_>| {
        let at = span.start;
        let text = match event {
            Event::Scalar(value, ..) => shorten(value),
            _ => line_of(text, at.line()),
        };
        (at.line(), at.col() + 1, text)
    };
    loop {
        let (event, span) = &node;
        let Some((step, rest)) = steps.split_first() else {
            return shown(*span, event);
        };
        let found = match (event, step) {
            (Event::MappingStart(..), Step::Key(key)) => loop {
                let Some(entry) = events.next_node() else {
                    break None;
                };
                if matches!(entry.0, Event::MappingEnd) {
                    break None;
                }
                let hit = matches!(&entry.0, Event::Scalar(name, ..) if name == key);
                if hit {
                    best = shown(entry.1, &entry.0);
                    if rest.is_empty() && spot == Spot::Key {
                        return best;
                    }
                    break events.next_node();
                }
                events.skip(&entry.0);
                let Some(value) = events.next_node() else {
                    break None;
                };
                events.skip(&value.0);
            },
            (Event::SequenceStart(..), Step::Index(index)) => {
                let mut left = *index;
                loop {
                    let Some(item) = events.next_node() else {
                        break None;
                    };
                    if matches!(item.0, Event::SequenceEnd) {
                        break None;
                    }
                    if left == 0 {
                        break Some(item);
                    }
                    left -= 1;
                    events.skip(&item.0);
                }
            }
            _ => None,
        };
        let Some(found) = found else {
            return best;
        };
        best = shown(found.1, &found.0);
        node = found;
        steps = rest;
    }
}

struct Events<'t> {
    parser: Parser<'t, saphyr_parser::StrInput<'t>>,
}

impl<'t> Events<'t> {
    fn next_node(&mut self) -> Option<(Event<'t>, Span)> {
        loop {
            match self.parser.next_event()?.ok()? {
                (Event::StreamStart | Event::DocumentStart(_) | Event::Nothing, _) => {}
                (Event::StreamEnd | Event::DocumentEnd, _) => return None,
                found => return Some(found),
            }
        }
    }

    /// Skips what `opened` opened.
    fn skip(&mut self, opened: &Event<'t>) {
        let mut depth = match opened {
            Event::MappingStart(..) | Event::SequenceStart(..) => 1,
            _ => return,
        };
        while depth > 0 {
            match self.next_node() {
                Some((Event::MappingStart(..) | Event::SequenceStart(..), _)) => depth += 1,
                Some((Event::MappingEnd | Event::SequenceEnd, _)) => depth -= 1,
                Some(_) => {}
                None => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only the faults are looked at")]
    struct Rule {
        event: String,
        #[serde(rename = "match", default)]
        pattern: Option<String>,
        #[serde(default)]
        count: u32,
    }

    fn check(text: &str) -> Vec<String> {
        let document = match Document::parse("rules.yaml", text) {
            Ok(document) => document,
            Err(fault) => return vec![fault.to_string()],
        };
        let mut problems = Problems::new(&document);
        let rules = document.value["rules"].as_sequence().unwrap();
        for (index, rule) in rules.iter().enumerate() {
            let path = Path::root().then("rules").then(index);
            problems.decode::<Rule>(rule, &path);
        }
        problems
            .into_diagnostics()
            .iter()
            .map(Diagnostic::to_string)
            .collect()
    }

    #[test]
    fn every_unknown_key_is_found_where_it_stands() {
        let found = check(
            "rules:\n  - event: a\n    mtach: 'x'\n    contu: 1\n  - {event: b, count: two}\n",
        );
        assert_eq!(
            found,
            [
                "rules.yaml:3:5: unknown key: `mtach`\n  hint: did you mean `match`?",
                "rules.yaml:4:5: unknown key: `contu`\n  hint: did you mean `count`?",
                "rules.yaml:5:23: must be a whole number, 0 or more: `two`",
            ]
        );
    }

    #[test]
    fn what_the_parser_would_misplace_is_found_first() {
        let deep = format!("rules: {}", "[".repeat(100_000));
        for (text, expected) in [
            (
                "rules:\n  - {event: a}\nrules: []\n",
                "rules.yaml:3:1: this key is there twice: `rules`",
            ),
            (
                "\u{feff}rules:\n  - {event: a, count: -1}\n",
                "rules.yaml:2:23: must be a whole number, 0 or more: `-1`",
            ),
            (
                "rules: [{event: \"\\e[2J\", count: \"\\e[2J\"}]",
                "rules.yaml:1:33: must be a whole number, 0 or more: `\\u{1b}[2J`",
            ),
        ] {
            assert_eq!(check(text), [expected], "{text}");
        }
        let found = check(&deep);
        assert!(found[0].contains(": nested too deep: "), "{found:?}");
    }

    #[test]
    fn a_text_that_is_no_yaml_says_where() {
        let found = check("rules:\n  - event: \"\\d\"\n");
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("rules.yaml:2:"), "{found:?}");
        assert!(found[0].contains("single quotes"), "{found:?}");
    }
}
