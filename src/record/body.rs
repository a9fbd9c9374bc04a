//! What messages say of themselves. Which body means what is left to the packs: a [`BodyFormat`] says where messages of
//! a program name their host, severity and id, and how one is known whose header names no program. Two forms need no
//! more than a program of that name: `%FAC-n-ID:` is a message of the program FAC, `CEF:0|Vendor|Product|…` one of
//! Product.

use super::bytes::{is_blank, number, skip_blanks, split_digits, strip_prefix_ignore_case};
use super::severity::Severity;
use super::{ProgramId, Programs, Record};

/// Most pairs or columns of a message that are looked at.
const FIELDS_MAX: usize = 64;

/// Fields of a message at most that are looked at for its severity, where the header names the program.
const SEVERITY_FIELDS_MAX: usize = 8;

/// What the messages of a program look like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BodyFormat {
    /// The program that such a message belongs to; one that the pack declares.
    pub program: String,
    /// What the body looks like.
    pub shape: BodyShape,
    /// Messages without a program are of this one, too, if they come from a source with this profile.
    pub profile: Option<String>,
    /// The field with the name of the device. It counts where the header names no host.
    pub host: Option<String>,
    /// The field with the severity: a word, or a syslog number.
    pub severity: Option<String>,
    /// What the field's values mean, if they are neither.
    pub severities: Vec<(String, Severity)>,
    /// The field with the message id, which becomes the tag.
    pub message_id: Option<String>,
    /// The id is the first number behind that name, however it is written, or at the start of the message.
    pub is_number: bool,
}

/// What a body looks like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BodyShape {
    /// The header names the program; the message may begin with something before the message proper.
    #[default]
    Plain,
    /// As `Plain`, and `error : 0xc0000711 : ` may stand before the message: a severity and a code.
    SeverityAndCode,
    /// As `Plain`, and `MESSAGE_ID: ` may stand before the message.
    MessageId,
    /// As `Plain`, and `[12345.678901] ` may stand before the message: the time since the start.
    Uptime,
    /// As `Plain`, and the message has `key=value` fields.
    Fields,
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

/// What stands before the messages proper of a program, or within them, as its pack says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Preamble {
    #[default]
    None,
    SeverityAndCode,
    MessageId,
    Uptime,
    /// Fields, by the number of the format.
    Fields(u16),
}

impl BodyFormat {
    /// What it means for messages whose header names the program; none if it is about others. `number` is its own.
    pub(super) fn preamble(&self, number: u16) -> Option<Preamble> {
        match self.shape {
            BodyShape::Plain => Some(Preamble::None),
            BodyShape::SeverityAndCode => Some(Preamble::SeverityAndCode),
            BodyShape::MessageId => Some(Preamble::MessageId),
            BodyShape::Uptime => Some(Preamble::Uptime),
            BodyShape::Fields => Some(Preamble::Fields(number)),
            BodyShape::KeyValue(_) | BodyShape::Csv { .. } => None,
        }
    }

    /// Enters what a message of a source states whose lines name no program.
    fn read_all<'a>(&self, text: &'a [u8], record: &mut Record<'a>) {
        if self.shape == BodyShape::Fields {
            let host = self.host.as_ref();
            let host = host.and_then(|name| value_of(text, name, FIELDS_MAX));
            if let Some(host) = host.filter(|host| !host.is_empty()) {
                record.add_host(host);
            }
            self.read_fields(text, record);
        }
    }

    /// Enters severity and id that a message states whose header names the program.
    pub(super) fn read_fields<'a>(&self, text: &'a [u8], record: &mut Record<'a>) {
        let severity = self.severity.as_ref();
        let stated = severity.and_then(|name| value_of(text, name, SEVERITY_FIELDS_MAX));
        if let Some(severity) = stated.and_then(|value| self.severity_of(value)) {
            record.severity = Some(severity);
        }
        let id = self
            .message_id
            .as_ref()
            .and_then(|name| self.id_of(text, name));
        if let Some(id) = id {
            record.tag = id;
        }
    }

    fn id_of<'a>(&self, text: &'a [u8], name: &str) -> Option<&'a [u8]> {
        match self.is_number {
            true => number_behind(text, name.as_bytes()),
            false => value_of(text, name, FIELDS_MAX),
        }
    }

    fn severity_of(&self, value: &[u8]) -> Option<Severity> {
        let mut named = self.severities.iter();
        let named = named.find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(value));
        match named {
            Some((_, severity)) => Some(*severity),
            None if self.severities.is_empty() => severity(value),
            None => None,
        }
    }
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
                is_pair(text) && (keys.iter()).all(|key| value_of(text, key, FIELDS_MAX).is_some())
            }
            BodyShape::Csv { column, is, .. } => columns(text)
                .nth(*column)
                .is_some_and(|value| is.iter().any(|wanted| wanted.as_bytes() == value)),
            _ => false,
        };
        if !found {
            continue;
        }
        let field = |name: &Option<String>| {
            let name = name.as_ref()?;
            match &format.shape {
                BodyShape::Csv { columns: names, .. } => {
                    let at = names.iter().position(|column| column == name)?;
                    columns(text).nth(at)
                }
                _ => value_of(text, name, FIELDS_MAX),
            }
        };
        record.program_id = Some(id);
        if let Some(host) = field(&format.host).filter(|host| !host.is_empty()) {
            record.add_host(host);
        }
        if let Some(severity) = field(&format.severity).and_then(|value| format.severity_of(value))
        {
            record.severity = Some(severity);
        }
        let message_id = match (&format.message_id, format.is_number) {
            (Some(name), true) => number_behind(text, name.as_bytes()),
            (name, _) => field(name),
        };
        if let Some(message_id) = message_id {
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

/// The number behind a key, however that is written: `id=278`, `id: 00278`, `[ID: 278]`, or `278: …` at the start. What
/// stands in quotes does not count, nor do leading zeros.
fn number_behind<'a>(text: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    const SIGNS_MAX: usize = 3;
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let number_at = |text: &'a [u8]| {
        let (digits, rest) = split_digits(text);
        let zeros = digits.iter().take_while(|byte| **byte == b'0').count();
        let is_whole = !digits.is_empty() && !rest.first().is_some_and(is_word);
        is_whole.then(|| digits.get(zeros..).unwrap_or_default())
    };
    if let Some(number) = number_at(text.strip_prefix(b"[").unwrap_or(text)) {
        return Some(number);
    }
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.first() == Some(&b'"') {
            at += 2 + memchr::memchr(b'"', rest.get(1..)?)?;
            continue;
        }
        if let Some(after) = strip_prefix_ignore_case(rest, key) {
            let signs = after.iter().take(SIGNS_MAX + 1).position(is_word);
            let number = signs.filter(|signs| (1..=SIGNS_MAX).contains(signs));
            if let Some(number) = number.and_then(|signs| number_at(after.get(signs..)?)) {
                return Some(number);
            }
        }
        // On to what stands behind the next sign that may part fields, or to the next quote.
        let parts = |byte: &u8| is_blank(*byte) || matches!(byte, b'[' | b',' | b';' | b'"');
        let next = rest.iter().position(parts)?;
        at += next + usize::from(rest.get(next) != Some(&b'"'));
    }
    None
}

/// The value of a key: `key=value` or `key="a value"`, at the start or behind a blank or a comma, among the first pairs.
fn value_of<'a>(text: &'a [u8], key: &str, pairs_max: usize) -> Option<&'a [u8]> {
    let mut rest = text;
    for _ in 0..pairs_max {
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
        if name.get(start..)?.eq_ignore_ascii_case(key.as_bytes()) {
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

    /// A message in which no program was found is of the one that a pack names for the source's profile.
    #[inline]
    pub(crate) fn adopt(&self, record: &mut Record<'_>, profile: &str) {
        let is_nameless = record.program.is_empty() && record.program_id.is_none();
        if !is_nameless || record.repeat_last > 0 {
            return;
        }
        let mut formats = self.formats();
        let of_profile = |format: &BodyFormat| format.profile.as_deref() == Some(profile);
        if let Some((format, id)) = formats.find(|(format, _)| of_profile(format)) {
            record.program_id = Some(id);
            format.read_all(record.message, record);
        }
    }

    /// A format by its number.
    pub(super) fn format(&self, number: u16) -> Option<&BodyFormat> {
        self.formats
            .get(usize::from(number))
            .map(|(format, _)| format)
    }
}
