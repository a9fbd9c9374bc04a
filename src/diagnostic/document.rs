//! A YAML text that is at least well-formed.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use saphyr_parser::Event;
use serde_yaml::Value;

use super::Diagnostic;
use super::locate::{Events, line_of, shorten};

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
    let mut events = Events::of(text);
    loop {
        let (event, span) = match events.next_event() {
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
