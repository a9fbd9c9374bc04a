//! Where the message is in a record.

use std::borrow::Cow;

use serde_json::Value;

use super::Record;
use crate::config::RecordFormat;

/// Why a record cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unusable {
    /// It has no value, or an empty one.
    Empty,
    /// Its value is no JSON.
    NoJson,
    /// The field that should hold the message is not there, or no text.
    NoMessage,
    /// It has no key, which should name the appliance.
    NoKey,
    /// It has ended the process each time that it was counted.
    Fatal,
}

impl Unusable {
    /// All of them.
    pub const ALL: [Unusable; 5] = [
        Unusable::Empty,
        Unusable::NoJson,
        Unusable::NoMessage,
        Unusable::NoKey,
        Unusable::Fatal,
    ];

    /// As in the label `reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Unusable::Empty => "empty",
            Unusable::NoJson => "no_json",
            Unusable::NoMessage => "no_message",
            Unusable::NoKey => "no_key",
            Unusable::Fatal => "fatal",
        }
    }
}

/// The message of a record, without what ends it.
///
/// # Errors
/// There is none.
pub fn message<'r>(record: &Record<'r>, format: &RecordFormat) -> Result<Cow<'r, [u8]>, Unusable> {
    let value = record.value.unwrap_or_default();
    let message = match format {
        RecordFormat::Text => Cow::Borrowed(trimmed(value)),
        _ if value.is_empty() => Cow::Borrowed(value),
        RecordFormat::Json(names) => {
            let json: Value = serde_json::from_slice(value).map_err(|_| Unusable::NoJson)?;
            let found = (names.iter()).try_fold(&json, |at, name| at.get(name));
            let text = found.and_then(Value::as_str).ok_or(Unusable::NoMessage)?;
            Cow::Owned(trimmed(text.as_bytes()).to_vec())
        }
    };
    match message.is_empty() {
        true => Err(Unusable::Empty),
        false => Ok(message),
    }
}

fn trimmed(mut message: &[u8]) -> &[u8] {
    while let Some((b'\n' | b'\r' | 0, rest)) = message.split_last() {
        message = rest;
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_message_is() {
        let json = |path: &str| RecordFormat::Json(path.split('.').map(str::to_owned).collect());
        let text = || RecordFormat::Text;
        for (format, value, expected) in [
            (text(), Some("a b"), Ok("a b")),
            (text(), Some("a\nb\r\n\0"), Ok("a\nb")),
            (text(), Some(""), Err(Unusable::Empty)),
            (text(), Some("\n"), Err(Unusable::Empty)),
            (text(), None, Err(Unusable::Empty)),
            (json("message"), None, Err(Unusable::Empty)),
            (json("message"), Some(r#"{"message": "a\n"}"#), Ok("a")),
            (
                json("log.original"),
                Some(r#"{"log": {"original": "a"}}"#),
                Ok("a"),
            ),
            (json("message"), Some("a"), Err(Unusable::NoJson)),
            (json("message"), Some("[1]"), Err(Unusable::NoMessage)),
            (
                json("message"),
                Some(r#"{"message": 1}"#),
                Err(Unusable::NoMessage),
            ),
            (
                json("message"),
                Some(r#"{"message": ""}"#),
                Err(Unusable::Empty),
            ),
            (json("a.b"), Some(r#"{"a": "b"}"#), Err(Unusable::NoMessage)),
        ] {
            let record = Record {
                offset: 0,
                time_ms: 0,
                key: None,
                value: value.map(str::as_bytes),
            };
            let found = message(&record, &format);
            let found = found.map(|found| String::from_utf8(found.into_owned()).unwrap());
            assert_eq!(found, expected.map(str::to_owned), "{value:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_survived(value in proptest::collection::vec(proptest::num::u8::ANY, 0..60)) {
            for format in [RecordFormat::Text, RecordFormat::Json(vec!["message".into()])] {
                let record = Record { offset: 0, time_ms: 0, key: None, value: Some(&value) };
                if let Ok(message) = message(&record, &format) {
                    assert!(!message.is_empty());
                }
            }
        }
    }
}
