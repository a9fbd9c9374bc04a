//! Messages without a program in their header that tell by their body what wrote them. Which bodies mean what is left to
//! the packs: a [`BodyFormat`] says how to know a message and where it names its host, severity and id. Two forms need
//! no more than a program of that name: `%FAC-n-ID:` is a message of the program FAC, `CEF:0|Vendor|Product|…` one of
//! Product.

use super::bytes::{is_blank, number, skip_blanks};
use super::severity::Severity;
use super::{ProgramId, Programs, Record};

/// Most pairs or columns of a message that are looked at.
const FIELDS_MAX: usize = 64;

/// How a pack knows its messages by their body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyFormat {
    /// The program that such a message belongs to; one that the pack declares.
    pub program: String,
    /// What the body looks like.
    pub shape: BodyShape,
    /// The field with the name of the device. It counts where the header names no host.
    pub host: Option<String>,
    /// The field with the severity: a word, or a syslog number.
    pub severity: Option<String>,
    /// The field with the message id, which becomes the tag.
    pub message_id: Option<String>,
}

/// What a body looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyShape {
    /// `key=value key="a value"`, with all of these keys.
    KeyValue(Vec<String>),
    /// Values with commas between them; the names of the first columns, and what one of them must be.
    Csv {
        /// Names, in order.
        columns: Vec<String>,
        /// A column, by its place.
        column: usize,
        /// What it may say.
        is: Vec<String>,
    },
}

/// Looks for a format that the message has, and enters what it says.
pub(super) fn read<'a>(text: &'a [u8], record: &mut Record<'a>, programs: &Programs) -> &'a [u8] {
    let text = skip_blanks(text);
    if let Some(message) = common_event(text, record, programs) {
        return message;
    }
    for (format, id) in programs.formats() {
        let found = match &format.shape {
            BodyShape::KeyValue(keys) => {
                is_pair(text) && keys.iter().all(|key| value_of(text, key).is_some())
            }
            BodyShape::Csv { column, is, .. } => columns(text)
                .nth(*column)
                .is_some_and(|value| is.iter().any(|wanted| wanted.as_bytes() == value)),
        };
        if !found {
            continue;
        }
        let field = |name: &Option<String>| {
            let name = name.as_ref()?;
            match &format.shape {
                BodyShape::KeyValue(_) => value_of(text, name),
                BodyShape::Csv { columns: names, .. } => {
                    let at = names.iter().position(|column| column == name)?;
                    columns(text).nth(at)
                }
            }
        };
        record.program_id = Some(id);
        if let Some(host) = field(&format.host).filter(|host| !host.is_empty()) {
            record.add_host(host);
        }
        if let Some(severity) = field(&format.severity).and_then(severity) {
            record.severity = Some(severity);
        }
        if let Some(message_id) = field(&format.message_id) {
            record.tag = message_id;
        }
        return text;
    }
    text
}

/// `CEF:0|Vendor|Product|Version|ID|Name|Severity|extension` (ArcSight's Common Event Format). The message begins with
/// the event's name.
fn common_event<'a>(
    text: &'a [u8],
    record: &mut Record<'a>,
    programs: &Programs,
) -> Option<&'a [u8]> {
    let mut rest = text.strip_prefix(b"CEF:")?;
    let mut fields: [&[u8]; 7] = [b""; 7];
    let mut message = rest;
    for (at, field) in fields.iter_mut().enumerate() {
        if at == 5 {
            message = rest;
        }
        let end = bar(rest)?;
        let (value, after) = rest.split_at_checked(end)?;
        (*field, rest) = (value, after.get(1..)?);
    }
    let [_, vendor, product, _, id, _, level] = fields;
    let (program, name) = [product, vendor]
        .into_iter()
        .find_map(|name| Some((programs.lookup(name)?, name)))?;
    record.program = name;
    record.program_id = Some(program);
    record.tag = id;
    // 0 to 3 low, to 6 medium, to 8 high, to 10 very high.
    let level = match number(level) {
        Some(0..=3) => Some(Severity::Notice),
        Some(4..=6) => Some(Severity::Warning),
        Some(7 | 8) => Some(Severity::Err),
        Some(9 | 10) => Some(Severity::Crit),
        _ => None,
    };
    record.severity = level.or(record.severity);
    Some(message)
}

/// The place of the next bar that no backslash stands before.
fn bar(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'|', b'\\', text.get(at..)?)?;
        if text.get(at) == Some(&b'|') {
            return Some(at);
        }
        at += 2;
    }
}

fn severity(word: &[u8]) -> Option<Severity> {
    Severity::parse(word).or_else(|| Severity::from_number(number(word)?))
}

/// Whether the text begins with `key=`.
fn is_pair(text: &[u8]) -> bool {
    let key = text
        .iter()
        .position(|byte| !(byte.is_ascii_alphanumeric() || b"_-.".contains(byte)));
    key.is_some_and(|len| len > 0 && text.get(len) == Some(&b'='))
}

/// The value of a key: `key=value` or `key="a value"`, at the start or behind a blank or a comma.
fn value_of<'a>(text: &'a [u8], key: &str) -> Option<&'a [u8]> {
    let mut rest = text;
    for _ in 0..FIELDS_MAX {
        let equals = memchr::memchr(b'=', rest)?;
        let (name, after) = rest.split_at_checked(equals)?;
        let start = name
            .iter()
            .rposition(|&byte| is_blank(byte) || byte == b',')
            .map_or(0, |at| at + 1);
        let value = after.get(1..)?;
        let (value, tail) = match value {
            [b'"', quoted @ ..] => {
                let end = memchr::memchr(b'"', quoted)?;
                (quoted.get(..end)?, quoted.get(end + 1..)?)
            }
            _ => {
                let end = value
                    .iter()
                    .position(|&byte| is_blank(byte) || byte == b',')
                    .unwrap_or(value.len());
                value.split_at_checked(end)?
            }
        };
        if name.get(start..)? == key.as_bytes() {
            return Some(value);
        }
        rest = tail;
    }
    None
}

/// The values between commas; one in quotes may hold commas.
fn columns(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let (value, after) = match text {
            [b'"', quoted @ ..] => {
                let end = memchr::memchr(b'"', quoted).unwrap_or(quoted.len());
                let (value, after) = quoted.split_at_checked(end)?;
                (value, after.get(1..).unwrap_or_default())
            }
            _ => text.split_at_checked(memchr::memchr(b',', text).unwrap_or(text.len()))?,
        };
        rest = after.strip_prefix(b",");
        Some(value)
    })
    .take(FIELDS_MAX)
}

impl Programs {
    /// The formats with the programs that they name.
    fn formats(&self) -> impl Iterator<Item = (&BodyFormat, ProgramId)> {
        self.formats.iter().map(|(format, id)| (format, *id))
    }
}
