//! Conditions on the header.

use crate::record::{Record, Severity};

/// A field of the header that a rule may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is what its name says")]
pub enum HeaderField {
    Facility,
    AppSeverity,
    Code,
    Tag,
    Host,
}

/// A condition on the header.
#[derive(Clone, Debug)]
pub enum When {
    /// The severity is one of these.
    Severity(Vec<Severity>),
    /// The field has one of these values; `true` marks a prefix. Case is ignored.
    Field(HeaderField, Vec<(String, bool)>),
    /// The line has the test marker, or has it not.
    Test(bool),
}

impl When {
    /// Whether it holds for a record.
    pub fn holds(&self, record: &Record<'_>) -> bool {
        match self {
            When::Severity(severities) => record
                .severity
                .is_some_and(|severity| severities.contains(&severity)),
            When::Test(test) => record.test == *test,
            When::Field(field, values) => {
                let value = match field {
                    HeaderField::Facility => record.facility,
                    HeaderField::AppSeverity => record.app_severity,
                    HeaderField::Code => record.code,
                    HeaderField::Tag => record.tag,
                    HeaderField::Host => record.host.unwrap_or_default(),
                };
                is_one_of(value, values)
            }
        }
    }

    /// The message ids that it asks for, if it is a condition on them.
    pub fn message_ids(&self) -> Option<&[(String, bool)]> {
        match self {
            When::Field(HeaderField::Tag, values) => Some(values),
            _ => None,
        }
    }
}

/// Whether it is one of these, or begins with one that is marked as a prefix.
pub(crate) fn is_one_of(value: &[u8], wanted: &[(String, bool)]) -> bool {
    wanted.iter().any(|(wanted, is_prefix)| {
        let wanted = wanted.as_bytes();
        match is_prefix {
            true => value
                .get(..wanted.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(wanted)),
            false => value.eq_ignore_ascii_case(wanted),
        }
    })
}
