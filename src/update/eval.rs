//! What a matching line offers to the texts, numbers and conditions of its rule.

use std::borrow::Cow;
use std::cell::OnceCell;

use super::key::RowKey;
use super::params::param;
use super::{Line, Source};
use crate::matcher::Found;
use crate::rules::{Binding, Comparison, Condition, Field, Part, Rule, ValueRef, ValueTemplate};

/// A line and the rule that matched it, and the values of that rule's `let`s once they are asked for.
pub(super) struct EvalContext<'a> {
    pub line: &'a Line<'a>,
    pub rule: &'a Rule,
    pub found: &'a Found,
    /// By `let` its value, once it is worked out.
    pub lets: OnceCell<Vec<OnceCell<Option<String>>>>,
}

impl<'a> EvalContext<'a> {
    #[inline]
    pub(super) fn new(line: &'a Line<'a>, rule: &'a Rule, found: &'a Found) -> Self {
        Self {
            line,
            rule,
            found,
            lets: OnceCell::new(),
        }
    }

    /// The line's own time, in seconds since 1970.
    pub(super) fn timestamp(&self) -> Option<i64> {
        let time = self.line.record.timestamp(self.line.clock)?;
        Some(time.as_second())
    }

    /// Adds what these are in the line to a key.
    #[inline]
    pub(super) fn read(&self, sources: &[Source], key: &mut RowKey) {
        for source in sources {
            match source {
                Source::Raw(from) => key.push(Some(self.raw(*from))),
                Source::Compared(at) => key.push(self.compared(*at).map(str::as_bytes)),
                Source::Param(at) => key.push(self.param(*at).as_deref()),
                Source::Timestamp => {
                    let seconds = self.timestamp().map(i64::to_le_bytes);
                    key.push(seconds.as_ref().map(<[u8; 8]>::as_slice));
                }
            }
        }
    }

    /// A capture or field as it stands in the line.
    #[inline]
    pub(super) fn raw(&self, from: ValueRef) -> &'a [u8] {
        match from {
            ValueRef::Variable(variable) => self
                .found
                .capture(variable, self.line.record.message)
                .unwrap_or_default(),
            ValueRef::Field(field) => match field {
                Field::Program => self.line.record.program,
                Field::Host => self.line.record.host.unwrap_or_default(),
                Field::Severity => self
                    .line
                    .record
                    .severity
                    .map_or(&b""[..], |severity| severity.name().as_bytes()),
                Field::AppSeverity => self.line.record.app_severity,
                Field::Code => self.line.record.code,
                Field::Tag => self.line.record.tag,
                Field::Facility => self.line.record.facility,
                Field::Event | Field::Pack | Field::Timestamp => b"",
            },
        }
    }

    fn get(&self, from: ValueRef) -> Option<Cow<'_, str>> {
        let text = match from {
            ValueRef::Variable(variable) => {
                let lets = &self.rule.lets;
                match lets.iter().position(|(made, _)| *made == variable) {
                    Some(at) => return self.binding(at).map(Cow::Borrowed),
                    None => String::from_utf8_lossy(self.raw(from)),
                }
            }
            ValueRef::Field(Field::Event) => Cow::Borrowed(&*self.rule.event),
            ValueRef::Field(Field::Pack) => {
                Cow::Borrowed(&*self.line.rules.packs[self.rule.pack].name)
            }
            ValueRef::Field(Field::Timestamp) => Cow::Owned(self.timestamp()?.to_string()),
            ValueRef::Field(Field::Program) => match self.line.record.program_id {
                Some(id) => Cow::Borrowed(self.line.programs.name(id)),
                None => String::from_utf8_lossy(self.line.record.program),
            },
            ValueRef::Field(_) => String::from_utf8_lossy(self.raw(from)),
        };
        (!text.is_empty()).then_some(text)
    }

    pub(super) fn text(&self, text: &'a ValueTemplate) -> Option<Cow<'_, str>> {
        text.fill(|from| self.get(from))
    }

    /// The values of labels, empty for those that have no text; none if a text comes to nothing.
    pub(super) fn labels(&self, texts: &'a [Option<ValueTemplate>]) -> Option<Vec<Cow<'_, str>>> {
        let value = |text: &'a Option<ValueTemplate>| match text {
            None => Some(Cow::Borrowed("")),
            Some(text) => self.text(text).filter(|value| !value.is_empty()),
        };
        texts.iter().map(value).collect()
    }

    #[inline]
    pub(super) fn number(&self, text: &'a ValueTemplate) -> Option<f64> {
        let value = match self.borrowed(text) {
            Some(text) => number(text),
            None => number(&self.text(text)?),
        }?;
        value.is_finite().then_some(value)
    }

    /// A text that is a constant, or a capture as it stands in the line.
    #[inline]
    fn borrowed(&self, text: &'a ValueTemplate) -> Option<&'a str> {
        match text.parts.as_slice() {
            [Part::Literal(text)] => Some(text),
            [Part::Value(from @ ValueRef::Variable(variable), transforms)]
                if transforms.is_empty()
                    && self.rule.lets.iter().all(|(made, _)| made != variable) =>
            {
                std::str::from_utf8(self.raw(*from)).ok()
            }
            _ => None,
        }
    }

    /// The value of a `let` that is a comparison.
    #[inline]
    pub(super) fn compared(&self, at: usize) -> Option<&str> {
        if let Binding::Compare(comparison, left, right) = &self.rule.lets.get(at)?.1
            && let Some((left, right)) = self.borrowed(left).zip(self.borrowed(right))
        {
            return Some(compared(*comparison, number(left)?, number(right)?));
        }
        self.binding(at)
    }

    pub(super) fn holds(&self, conditions: &[Condition]) -> bool {
        conditions.iter().all(|condition| {
            let value = self.get(condition.from).unwrap_or_default();
            condition.values.iter().any(|wanted| *wanted == value) != condition.negated
        })
    }

    /// The value of a `let` that is a parameter: the first of its names counts, in the structured data before the message.
    pub(super) fn param(&self, at: usize) -> Option<Cow<'a, [u8]>> {
        let Binding::Param(names) = &self.rule.lets.get(at)?.1 else {
            return None;
        };
        match param(self.line.record.structured, names) {
            Some((0, value)) => Some(value),
            Some((later, value)) => param(self.line.record.message, &names[..later])
                .map(|(_, earlier)| earlier)
                .or(Some(value)),
            None => param(self.line.record.message, names).map(|(_, value)| value),
        }
    }

    /// The value of a `let`, worked out with those before it.
    fn binding(&self, at: usize) -> Option<&str> {
        let lets = &self.rule.lets;
        let made = self
            .lets
            .get_or_init(|| lets.iter().map(|_| OnceCell::new()).collect());
        made.get(at)?
            .get_or_init(|| {
                let get = |from: ValueRef| match from {
                    ValueRef::Variable(variable) => {
                        let before = lets[..at].iter().rposition(|(made, _)| *made == variable);
                        match before {
                            Some(before) => self.binding(before).map(Cow::Borrowed),
                            None => {
                                let text = String::from_utf8_lossy(self.raw(from));
                                (!text.is_empty()).then_some(text)
                            }
                        }
                    }
                    ValueRef::Field(_) => self.get(from),
                };
                match &lets[at].1 {
                    Binding::Text(text) => text.fill(get).map(Cow::into_owned),
                    Binding::First(texts) => texts
                        .iter()
                        .find_map(|text| text.fill(get).filter(|value| !value.is_empty()))
                        .map(Cow::into_owned),
                    Binding::Param(_) => self
                        .param(at)
                        .map(|value| String::from_utf8_lossy(&value).into_owned()),
                    Binding::Compare(comparison, left, right) => {
                        let number = |text: &'a ValueTemplate| match self.borrowed(text) {
                            Some(text) => number(text),
                            None => number(&text.fill(get)?),
                        };
                        number(left)
                            .zip(number(right))
                            .map(|(left, right)| compared(*comparison, left, right).to_owned())
                    }
                }
            })
            .as_deref()
    }
}

/// A number as `f64` reads it, with a short cut for the short whole ones that most are.
#[inline]
fn number(text: &str) -> Option<f64> {
    const DIGITS_MAX: usize = 9;
    let whole = |digits: &[u8]| {
        digits.iter().try_fold(0, |sum: u32, byte| {
            let digit = byte.wrapping_sub(b'0');
            (digit < 10).then(|| sum * 10 + u32::from(digit))
        })
    };
    if let digits @ [_, ..] = text.as_bytes()
        && digits.len() <= DIGITS_MAX
        && let Some(number) = whole(digits)
    {
        return Some(f64::from(number));
    }
    text.trim().parse().ok()
}

/// The value of a `let` that is a comparison.
fn compared(comparison: Comparison, left: f64, right: f64) -> &'static str {
    if compare(comparison, left, right) {
        "1"
    } else {
        "0"
    }
}

pub(super) fn compare(comparison: Comparison, left: f64, right: f64) -> bool {
    match comparison {
        Comparison::Le => left <= right,
        Comparison::Lt => left < right,
        Comparison::Ge => left >= right,
        Comparison::Gt => left > right,
        Comparison::Eq => left == right,
        Comparison::Ne => left != right,
    }
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_are_what_the_library_reads() {
        for text in [
            "",
            "0",
            "007",
            "123456789",
            "1234567890",
            "-1",
            "+3",
            "1.5",
            " 7 ",
            "1e3",
            "x",
            "1x",
            "١",
        ] {
            assert_eq!(number(text), text.trim().parse().ok(), "{text}");
        }
    }
}
