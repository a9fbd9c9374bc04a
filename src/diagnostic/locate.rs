//! Line and column of a value in a YAML text, by a second, marked parse.

use saphyr_parser::{Event, Parser, ScanError, Span, StrInput};

use super::{Path, Step};

/// Which end of a mapping entry a fault is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spot {
    Key,
    Value,
}

/// Line, column and text of the value or key at `path`; of the last step that exists if the path does not.
pub(super) fn locate(text: &str, path: &Path, spot: Spot) -> (usize, usize, String) {
    let mut best = (1, 1, line_of(text, 1));
    let mut events = Events::of(text);
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

pub(super) fn line_of(text: &str, line: usize) -> String {
    shorten(text.lines().nth(line.saturating_sub(1)).unwrap_or_default())
}

/// Offending text is quoted in a message of one line.
pub(super) fn shorten(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    let line = text.trim().lines().next().unwrap_or_default();
    if line.chars().count() <= CHARS_MAX {
        return line.to_owned();
    }
    line.chars().take(CHARS_MAX - 1).chain(['…']).collect()
}

/// The events of a parse.
pub(super) struct Events<'t> {
    parser: Parser<'t, StrInput<'t>>,
}

impl<'t> Events<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        Self {
            parser: Parser::new_from_str(text),
        }
    }

    pub(super) fn next_event(&mut self) -> Option<Result<(Event<'t>, Span), ScanError>> {
        self.parser.next_event()
    }

    /// The next event of a node, or none at the end of the document or where the text is wrong.
    fn next_node(&mut self) -> Option<(Event<'t>, Span)> {
        loop {
            match self.next_event()?.ok()? {
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
