//! Texts made from captures: label values, gauge values and `let`s, with their transforms.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::diagnostic::nearest;

/// Where a text takes a value from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueRef {
    /// A capture or a `let` of the rule, as an index into its variables.
    Variable(usize),
    /// A field of the record or of the rule itself.
    Field(Field),
}

/// The fields that a text may name besides the rule's own captures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(
    missing_docs,
    reason = "each is what its name says; docs/rules.md lists them"
)]
pub enum Field {
    Event,
    Pack,
    Program,
    Host,
    Severity,
    AppSeverity,
    Code,
    Tag,
    Facility,
    Timestamp,
}

impl Field {
    /// All of them, by name.
    pub const NAMED: [(&'static str, Field); 10] = [
        ("event", Field::Event),
        ("pack", Field::Pack),
        ("program", Field::Program),
        ("host", Field::Host),
        ("severity", Field::Severity),
        ("app_severity", Field::AppSeverity),
        ("code", Field::Code),
        ("tag", Field::Tag),
        ("facility", Field::Facility),
        ("timestamp", Field::Timestamp),
    ];
}

/// A named table of a pack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Map {
    /// Key to value.
    pub values: BTreeMap<String, String>,
    /// What an unknown key gives; without it, nothing.
    pub otherwise: Option<String>,
}

/// One step from a value to another.
#[derive(Clone, Debug)]
#[expect(
    missing_docs,
    reason = "each is what its name says; docs/rules.md lists them"
)]
pub enum Transform {
    Lower,
    Upper,
    Trim,
    Snake,
    Fold,
    Device,
    Cut(String),
    Words(usize),
    Or(String),
    Map(Arc<Map>),
    Int,
    Hex,
    Number,
    Hours,
    Percent,
    Duration,
    Date,
    Not,
    Item(String),
}

/// A part of a text.
#[derive(Clone, Debug)]
pub enum Part {
    /// These characters.
    Literal(String),
    /// A value, after its transforms.
    Value(ValueRef, Vec<Transform>),
}

/// A text with values in it.
#[derive(Clone, Debug)]
pub struct ValueTemplate {
    /// Its parts in order.
    pub parts: Vec<Part>,
}

/// Why a text is none: the message and perhaps a hint.
pub type TextError = (String, Option<String>);

const TRANSFORMS: &[&str] = &[
    "lower", "upper", "trim", "snake", "fold", "device", "cut", "words", "or", "map", "int", "hex",
    "number", "hours", "percent", "duration", "date", "not", "item",
];

impl ValueTemplate {
    /// Parses a text; `variables` are the names in scope, `maps` the pack's tables.
    ///
    /// # Errors
    /// An unknown name, transform or map, a wrong argument, a brace that is not closed.
    pub fn parse(
        text: &str,
        variables: &[String],
        maps: &HashMap<String, Arc<Map>>,
    ) -> Result<Self, TextError> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(next) = rest.chars().next() {
            if rest.starts_with("{{") || rest.starts_with("}}") {
                literal.push(next);
                rest = &rest[2..];
            } else if next == '{' {
                let end = rest
                    .find('}')
                    .ok_or_else(|| ("a brace is not closed".to_owned(), None))?;
                if !literal.is_empty() {
                    parts.push(Part::Literal(std::mem::take(&mut literal)));
                }
                parts.push(value(&rest[1..end], variables, maps)?);
                rest = &rest[end + 1..];
            } else {
                literal.push(next);
                rest = &rest[next.len_utf8()..];
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        parts.shrink_to_fit();
        Ok(Self { parts })
    }

    /// The text of one variable as it is.
    pub fn variable(index: usize) -> Self {
        Self {
            parts: vec![Part::Value(ValueRef::Variable(index), Vec::new())],
        }
    }

    /// The text, if no value is in it.
    pub fn constant(&self) -> Option<String> {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Value(..) => return None,
            }
        }
        Some(out)
    }

    /// What the text depends on.
    pub fn sources(&self) -> impl Iterator<Item = ValueRef> {
        self.parts.iter().filter_map(|part| match part {
            Part::Value(from, _) => Some(*from),
            Part::Literal(_) => None,
        })
    }

    /// The text with its values filled in; `get` looks a value up. None where a value has no answer.
    pub fn fill<'v>(
        &'v self,
        get: impl Fn(ValueRef) -> Option<Cow<'v, str>>,
    ) -> Option<Cow<'v, str>> {
        match self.parts.as_slice() {
            [Part::Literal(text)] => return Some(Cow::Borrowed(text)),
            [Part::Value(from, transforms)] => return apply(get(*from), transforms),
            _ => {}
        }
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Value(from, transforms) => out.push_str(&apply(get(*from), transforms)?),
            }
        }
        Some(out.into())
    }
}

fn value(
    body: &str,
    variables: &[String],
    maps: &HashMap<String, Arc<Map>>,
) -> Result<Part, TextError> {
    let mut steps = body.split('|');
    let name = steps.next().unwrap_or_default();
    let from = if let Some(index) = variables.iter().position(|variable| variable == name) {
        ValueRef::Variable(index)
    } else if let Some((_, field)) = Field::NAMED.iter().find(|(field, _)| *field == name) {
        ValueRef::Field(*field)
    } else {
        let known = variables
            .iter()
            .map(String::as_str)
            .chain(Field::NAMED.iter().map(|(name, _)| *name));
        let hint = match nearest(name, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None if variables.is_empty() => "this rule captures nothing".to_owned(),
            None => format!("this rule captures: {}", variables.join(", ")),
        };
        return Err((format!("this rule does not capture `{name}`"), Some(hint)));
    };
    let mut transforms = steps
        .map(|step| transform(step, maps))
        .collect::<Result<Vec<_>, _>>()?;
    transforms.shrink_to_fit();
    Ok(Part::Value(from, transforms))
}

fn transform(step: &str, maps: &HashMap<String, Arc<Map>>) -> Result<Transform, TextError> {
    let (name, argument) = match step.split_once(':') {
        Some((name, argument)) => (name, Some(argument)),
        None => (step, None),
    };
    let wants = |what: &str| (format!("`{name}` wants {what} after a colon"), None);
    let text = || argument.map(str::to_owned).ok_or_else(|| wants("a text"));
    let plain = |transform: Transform| match argument {
        None => Ok(transform),
        Some(_) => Err((format!("`{name}` takes no argument"), None)),
    };
    match name {
        "lower" => plain(Transform::Lower),
        "upper" => plain(Transform::Upper),
        "trim" => plain(Transform::Trim),
        "snake" => plain(Transform::Snake),
        "fold" => plain(Transform::Fold),
        "device" => plain(Transform::Device),
        "int" => plain(Transform::Int),
        "hex" => plain(Transform::Hex),
        "number" => plain(Transform::Number),
        "hours" => plain(Transform::Hours),
        "percent" => plain(Transform::Percent),
        "duration" => plain(Transform::Duration),
        "date" => plain(Transform::Date),
        "not" => plain(Transform::Not),
        "cut" => Ok(Transform::Cut(text()?)),
        "or" => Ok(Transform::Or(text()?)),
        "item" => Ok(Transform::Item(text()?)),
        "words" => argument
            .and_then(|count| count.parse().ok())
            .filter(|count| *count > 0)
            .map(Transform::Words)
            .ok_or_else(|| wants("a number above 0")),
        "map" => {
            let name = text()?;
            match maps.get(&name) {
                Some(map) => Ok(Transform::Map(map.clone())),
                None => Err((
                    format!("no map is called `{name}`"),
                    nearest(&name, maps.keys().map(String::as_str))
                        .map(|near| format!("did you mean `{near}`?")),
                )),
            }
        }
        _ => Err((
            format!("`{name}` is no transform"),
            Some(match nearest(name, TRANSFORMS.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("transforms: {}", TRANSFORMS.join(", ")),
            }),
        )),
    }
}

fn apply<'v>(value: Option<Cow<'v, str>>, transforms: &[Transform]) -> Option<Cow<'v, str>> {
    transforms
        .iter()
        .fold(value, |value, transform| transform.apply(value))
}

impl Transform {
    fn apply<'v>(&self, value: Option<Cow<'v, str>>) -> Option<Cow<'v, str>> {
        if let Transform::Or(text) = self {
            return Some(match value {
                Some(value) if !value.is_empty() => value,
                _ => text.clone().into(),
            });
        }
        let value = value?;
        Some(match self {
            Transform::Lower => value.to_ascii_lowercase().into(),
            Transform::Upper => value.to_ascii_uppercase().into(),
            Transform::Trim => value.trim().to_owned().into(),
            Transform::Snake => snake(&value).into(),
            Transform::Fold => fold(&value).into(),
            Transform::Device => device(&value).into(),
            Transform::Cut(text) => match value.strip_prefix(text.as_str()) {
                Some(rest) => rest.to_owned().into(),
                None => value,
            },
            Transform::Words(count) => value
                .split_ascii_whitespace()
                .take(*count)
                .collect::<Vec<_>>()
                .join(" ")
                .into(),
            Transform::Map(map) => map
                .values
                .get(value.as_ref())
                .or(map.otherwise.as_ref())?
                .clone()
                .into(),
            Transform::Int => {
                let digits = value.trim_start_matches(['+', '0']);
                if digits.is_empty() { "0" } else { digits }
                    .to_owned()
                    .into()
            }
            Transform::Hex => {
                let digits = value.trim_start_matches("0x").trim_start_matches("0X");
                u64::from_str_radix(digits, 16).ok()?.to_string().into()
            }
            Transform::Number => first_number(&value)?.to_owned().into(),
            Transform::Hours => match clock_hours(&value) {
                Some(hours) => hours.to_string().into(),
                None => first_number(&value)?.to_owned().into(),
            },
            Transform::Percent => {
                let number: f64 = first_number(&value)?.parse().ok()?;
                (number / 100.0).to_string().into()
            }
            Transform::Duration => duration_seconds(&value)?.to_string().into(),
            Transform::Date => date_seconds(&value)?.to_string().into(),
            Transform::Not => match value.as_ref() {
                "0" => "1".into(),
                "1" => "0".into(),
                _ => return None,
            },
            Transform::Item(item) => {
                let there = value
                    .split([',', ' ', '\t'])
                    .any(|candidate| candidate == item);
                if there { "1" } else { "0" }.into()
            }
            Transform::Or(_) => return Some(value),
        })
    }
}

/// Lower case, with every run of other characters than letters and digits as one underscore.
fn snake(value: &str) -> String {
    value
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect::<Vec<_>>()
        .join("_")
}

/// An IPMI sensor's name: 16 bytes padded with blanks and a final dot in the appliance's own files.
fn fold(value: &str) -> String {
    let words = value.split_whitespace().collect::<Vec<_>>().join(" ");
    words
        .strip_suffix('.')
        .unwrap_or(&words)
        .trim_end()
        .to_owned()
}

/// A disk as smartctl_exporter spells it: `/dev/bus/0 [megaraid_disk_21]` is `bus_0_megaraid_21`, `/dev/sda [SAT]`
/// is `sda`.
fn device(value: &str) -> String {
    let mut words = value.split_whitespace();
    let path = words.next().unwrap_or_default();
    // `/dev/sda[auto]` is written without a blank.
    let (path, glued) = match path.find('[') {
        Some(at) => path.split_at(at),
        None => (path, ""),
    };
    let path = path.strip_prefix("/dev/").unwrap_or(path);
    let mut out: String = path.trim_matches('/').replace('/', "_");
    for word in std::iter::once(glued).chain(words) {
        let kind = word.trim_matches(['[', ']']);
        if kind.is_empty() || matches!(kind, "SAT" | "SCSI" | "SCSI/SAT" | "auto") {
            continue;
        }
        out.push('_');
        let kind = kind.replace("_disk_", "_").replace("_disk#", "_");
        out.extend(kind.chars().map(|c| match c {
            c if c.is_ascii_alphanumeric() => c,
            _ => '_',
        }));
    }
    out
}

/// The first number in a text, with sign and fraction.
fn first_number(value: &str) -> Option<&str> {
    let bytes = value.as_bytes();
    let start = bytes.iter().position(u8::is_ascii_digit)?;
    let mut end = start;
    while bytes.get(end).is_some_and(u8::is_ascii_digit) {
        end += 1;
    }
    if bytes.get(end) == Some(&b'.') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit) {
        end += 1;
        while bytes.get(end).is_some_and(u8::is_ascii_digit) {
            end += 1;
        }
    }
    let signed = start > 0
        && bytes[start - 1] == b'-'
        && (start < 2 || !bytes[start - 2].is_ascii_alphanumeric());
    value.get(start - usize::from(signed)..end)
}

/// smartd's hours: `1205h+30m+12.345s`.
fn clock_hours(value: &str) -> Option<f64> {
    let (hours, rest) = value.trim().split_once('h')?;
    let hours: f64 = hours.parse().ok()?;
    let mut total = hours;
    for part in rest.split('+').filter(|part| !part.is_empty()) {
        let part = part.split_whitespace().next().unwrap_or_default();
        if let Some(minutes) = part.strip_suffix('m') {
            total += minutes.parse::<f64>().ok()? / 60.0;
        } else if let Some(seconds) = part.strip_suffix('s') {
            total += seconds.parse::<f64>().ok()? / 3600.0;
        }
    }
    Some(total)
}

/// uptime's words: `112 days, 6:50`, `4 min`, `6:50`, `1:02:03`, `3 hours, 5 minutes`.
fn duration_seconds(value: &str) -> Option<f64> {
    let mut total = None;
    let mut number: Option<f64> = None;
    for word in value
        .split([' ', '\t', ','])
        .filter(|word| !word.is_empty())
    {
        if word.contains(':') {
            let mut parts = word.split(':').map(|part| part.parse::<f64>().ok());
            let (hours, minutes) = (parts.next()??, parts.next()??);
            let seconds = parts.next().unwrap_or(Some(0.0))?;
            *total.get_or_insert(0.0) += hours * 3600.0 + minutes * 60.0 + seconds;
        } else if let Ok(parsed) = word.parse::<f64>() {
            number = Some(parsed);
        } else if let Some(count) = number.take() {
            let unit = match word.as_bytes() {
                [b'd', ..] => 86_400.0,
                [b'h', ..] => 3_600.0,
                [b'm', ..] => 60.0,
                [b's', ..] => 1.0,
                _ => return None,
            };
            *total.get_or_insert(0.0) += count * unit;
        }
    }
    total
}

/// OpenSSL's `Jul 26 16:32:48 2023 GMT`, RFC 3339, or `2012-02-29 12:05:01`; without a zone it is UTC.
fn date_seconds(value: &str) -> Option<i64> {
    let value = value.trim();
    if let Ok(time) = value.parse::<Timestamp>() {
        return Some(time.as_second());
    }
    let words = value.split_whitespace().collect::<Vec<_>>().join(" ");
    let words = words.trim_end_matches(" GMT").trim_end_matches(" UTC");
    for format in [
        "%b %d %H:%M:%S %Y",
        "%Y-%m-%d %H:%M:%S",
        "%Y %b %d %H:%M:%S",
    ] {
        if let Ok(time) = DateTime::strptime(format, words) {
            return TimeZone::UTC
                .to_timestamp(time)
                .ok()
                .map(|time| time.as_second());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str, x: &str) -> String {
        let map = Map {
            values: [("a".to_owned(), "1".to_owned())].into_iter().collect(),
            otherwise: None,
        };
        let maps = HashMap::from_iter([("m".to_owned(), Arc::new(map))]);
        let text = match ValueTemplate::parse(text, &["x".to_owned()], &maps) {
            Ok(text) => text,
            Err((message, hint)) => return format!("{message}; {}", hint.unwrap_or_default()),
        };
        text.fill(|_| Some(Cow::Borrowed(x)))
            .map_or("nothing".to_owned(), Cow::into_owned)
    }

    #[test]
    fn transforms_do_what_the_language_says() {
        for (text, x, expected) in [
            ("{x}", "a", "a"),
            ("{x}/{x|upper}", "a", "a/A"),
            (
                "{x|snake}",
                "Lower Non-recoverable",
                "lower_non_recoverable",
            ),
            ("{x|fold}", "Fan3B          .", "Fan3B"),
            ("{x|fold}", "PSU2_+12V_value.", "PSU2_+12V_value"),
            ("{x|device}", "/dev/sda [SAT]", "sda"),
            (
                "{x|device}",
                "/dev/bus/0 [megaraid_disk_21]",
                "bus_0_megaraid_21",
            ),
            (
                "{x|device}",
                "/dev/sda [megaraid_disk_00] [SAT]",
                "sda_megaraid_00",
            ),
            ("{x|device}", "/dev/nvme0", "nvme0"),
            (
                "{x|device}",
                "/dev/disk/by-id/wwn-0x5",
                "disk_by-id_wwn-0x5",
            ),
            ("{x|cut:RC_|lower}", "RC_SSL_ERROR", "ssl_error"),
            ("{x|words:2}", "my file list", "my file"),
            ("{x|or:none}", "", "none"),
            ("{x|map:m}", "a", "1"),
            ("{x|map:m}", "b", "nothing"),
            ("{x|map:m|or:z}", "b", "z"),
            ("{x|int}", "00278", "278"),
            ("{x|int}", "000", "0"),
            ("{x|hex}", "0x1f", "31"),
            ("{x|number}", "33 (Min/Max 18/48)", "33"),
            ("{x|number}", "-1.5 V", "-1.5"),
            ("{x|hours}", "1205h+30m+36s", "1205.51"),
            ("{x|hours}", "77", "77"),
            ("{x|percent}", "85%", "0.85"),
            ("{x|duration}", "112 days,  6:50", "9701400"),
            ("{x|duration}", "4 min", "240"),
            ("{x|date}", "Jul 26 16:32:48 2023 GMT", "1690389168"),
            ("{x|date}", "Jul  6 16:32:48 2023 GMT", "1688661168"),
            ("{x|not}", "1", "0"),
            ("{x|item:30}", "130,30,100", "1"),
            ("{x|item:30}", "130,100", "0"),
            (
                "{y}",
                "",
                "this rule does not capture `y`; did you mean `x`?",
            ),
            (
                "{x|lowr}",
                "",
                "`lowr` is no transform; did you mean `lower`?",
            ),
            ("{x|map:q}", "", "no map is called `q`; did you mean `m`?"),
        ] {
            assert_eq!(filled(text, x), expected, "{text} of {x}");
        }
    }
}
