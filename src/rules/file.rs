//! A rule pack as it is written in YAML: plain data, without meaning. docs/rules.md is the manual of this format.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use serde_yaml::Mapping;

/// A whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PackFile {
    pub pack: String,
    /// The built-in pack whose place it takes.
    #[serde(default)]
    pub replaces: Option<String>,
    #[serde(default)]
    pub about: String,
    #[serde(default)]
    pub profiles: Vec<String>,
    /// Canonical name to other spellings.
    #[serde(default)]
    pub programs: Mapping,
    /// How messages without a program are known by their body.
    #[serde(default)]
    pub formats: Vec<serde_yaml::Value>,
    #[serde(default)]
    pub maps: Mapping,
    #[serde(default)]
    pub metrics: Mapping,
    #[serde(default)]
    pub rules: Vec<serde_yaml::Value>,
}

/// A metric's declaration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MetricFile {
    #[serde(rename = "type")]
    pub kind: KindWord,
    pub help: String,
    #[serde(default)]
    pub labels: Mapping,
    #[serde(default)]
    pub expire: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum KindWord {
    Counter,
    Gauge,
}

/// `any`, a list of values, or `{any: true, known: […], when: setting}`.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "expected `any`, a list of values, or {any: true, known: […]}"
)]
pub(super) enum LabelFile {
    Word(String),
    Values(Vec<Scalar>),
    Open(OpenFile),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OpenFile {
    pub any: bool,
    #[serde(default)]
    pub when: Option<String>,
    #[serde(default)]
    pub known: Vec<Scalar>,
}

/// An entry of `rules`: one rule, or a family if it has `events`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleFile {
    #[serde(default)]
    pub event: Option<String>,
    #[serde(default)]
    pub program: Option<OneOrMany>,
    #[serde(default, rename = "match")]
    pub templates: Option<OneOrMany>,
    #[serde(default)]
    pub regex: Option<OneOrMany>,
    #[serde(default)]
    pub ignore_case: Option<bool>,
    #[serde(default)]
    pub when: Option<Mapping>,
    #[serde(default, rename = "let")]
    pub lets: Option<Mapping>,
    #[serde(default)]
    pub metrics: Vec<serde_yaml::Value>,
    #[serde(default)]
    pub attempts: Vec<serde_yaml::Value>,
    #[serde(default)]
    pub notable: Option<bool>,
    #[serde(default, rename = "continue")]
    pub go_on: Option<bool>,
    #[serde(default)]
    pub help: Option<String>,
    #[serde(default)]
    pub layout: Option<LayoutWord>,
    #[serde(default)]
    pub examples: Vec<serde_yaml::Value>,
    #[serde(default)]
    pub events: Option<Mapping>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum LayoutWord {
    Seen,
    Documented,
}

/// An update; exactly one of the verbs is there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdateFile {
    #[serde(default)]
    pub inc: Option<String>,
    #[serde(default)]
    pub add: Option<String>,
    #[serde(default)]
    pub set: Option<String>,
    #[serde(default)]
    pub states: Option<String>,
    #[serde(default)]
    pub time: Option<String>,
    #[serde(default)]
    pub worst: Option<String>,
    #[serde(default)]
    pub clear: Option<String>,
    #[serde(default)]
    pub and: Option<serde_yaml::Value>,
    #[serde(default)]
    pub value: Option<Scalar>,
    #[serde(default)]
    pub labels: Option<LabelsFile>,
    #[serde(default, rename = "if")]
    pub conditions: Option<Mapping>,
    #[serde(default)]
    pub label: Option<String>,
    #[serde(default)]
    pub active: Option<Scalar>,
    #[serde(default)]
    pub split: Option<String>,
    #[serde(default)]
    pub of: Vec<WorstFile>,
}

/// What a match says of somebody's attempts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AttemptFile {
    #[serde(default)]
    pub failed: Option<String>,
    #[serde(default)]
    pub passed: Option<String>,
    pub of: Scalar,
    #[serde(default, rename = "if")]
    pub conditions: Option<Mapping>,
    #[serde(default)]
    pub after: Option<u32>,
    #[serde(default)]
    pub event: Option<String>,
}

/// A map from label to text, or a list of labels called as their captures.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a map from label to text, or a list of labels"
)]
pub(super) enum LabelsFile {
    Texts(Mapping),
    Names(Vec<String>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WorstFile {
    pub metric: String,
    #[serde(default)]
    pub labels: Mapping,
    pub label: String,
    pub weights: Mapping,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExampleFile {
    #[serde(default)]
    pub line: Option<String>,
    #[serde(default)]
    pub lines: Option<Vec<String>>,
    #[serde(default)]
    pub samples: Vec<String>,
    #[serde(default)]
    pub absent: Vec<String>,
    #[serde(default)]
    pub not: Option<String>,
}

/// What a `let` may be besides a text.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LetFile {
    #[serde(default)]
    pub le: Option<[Scalar; 2]>,
    #[serde(default)]
    pub lt: Option<[Scalar; 2]>,
    #[serde(default)]
    pub ge: Option<[Scalar; 2]>,
    #[serde(default)]
    pub gt: Option<[Scalar; 2]>,
    #[serde(default)]
    pub eq: Option<[Scalar; 2]>,
    #[serde(default)]
    pub ne: Option<[Scalar; 2]>,
    #[serde(default)]
    pub param: Option<OneOrMany>,
    #[serde(default)]
    pub first: Option<Vec<Scalar>>,
}

/// A condition's value: one, several, or none of these.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a value, a list of values, or {not: …}"
)]
pub(super) enum ConditionFile {
    Is(OneOrMany),
    Not { not: OneOrMany },
}

/// A value or a list of values.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "expected a text or a list of texts")]
pub(super) enum OneOrMany {
    One(Scalar),
    Many(Vec<Scalar>),
}

impl OneOrMany {
    pub fn texts(&self) -> Vec<&str> {
        match self {
            OneOrMany::One(one) => vec![one.0.as_str()],
            OneOrMany::Many(many) => many.iter().map(|one| one.0.as_str()).collect(),
        }
    }

    /// Whether a list was written, so that a fault's path can name the item.
    pub fn is_list(&self) -> bool {
        matches!(self, OneOrMany::Many(_))
    }
}

/// A text, number or truth value, as text: `{Asserted: 1}` is as good as `{Asserted: '1'}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Scalar(pub String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScalarVisitor;
        impl Visitor<'_> for ScalarVisitor {
            type Value = Scalar;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a number")
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Scalar, E> {
                Ok(Scalar(value.to_owned()))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
        }
        deserializer.deserialize_any(ScalarVisitor)
    }
}
