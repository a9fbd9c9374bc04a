//! `formats` of a pack: what the messages of its programs look like.

use serde::Deserialize;
use serde_yaml::{Mapping, Value};

use super::file::{OneOrMany, PackFile};
use crate::diagnostic::{Path, Problems, nearest};
use crate::record::{BodyFormat, BodyShape, Severity};

/// A format as written; exactly one of the shapes is there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FormatFile {
    program: OneOrMany,
    #[serde(default)]
    profile: Option<String>,
    #[serde(default)]
    prefix: Option<PrefixWord>,
    #[serde(default)]
    key_value: Option<KeyValueFile>,
    #[serde(default)]
    csv: Option<CsvFile>,
    #[serde(default)]
    host: Option<String>,
    #[serde(default)]
    severity: Option<String>,
    #[serde(default)]
    severities: Mapping,
    #[serde(default)]
    message_id: Option<MessageIdFile>,
}

/// What stands before the message proper.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PrefixWord {
    SeverityAndCode,
    MessageId,
    Uptime,
}

/// A field, or the number behind its name.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "expected the name of a field, or {number: NAME}"
)]
enum MessageIdFile {
    Field(String),
    Number { number: String },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyValueFile {
    #[serde(default)]
    has: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CsvFile {
    columns: Vec<String>,
    column: String,
    is: Vec<String>,
}

/// Reads the formats of a pack that declares these programs.
pub(super) fn formats(
    file: &PackFile,
    programs: &[&str],
    problems: &mut Problems<'_>,
) -> Vec<BodyFormat> {
    let read = |(index, value)| {
        let path = Path::root().then("formats").then(index);
        format(value, programs, &file.profiles, &path, problems)
    };
    file.formats
        .iter()
        .enumerate()
        .filter_map(read)
        .flatten()
        .collect()
}

fn format(
    value: &Value,
    programs: &[&str],
    profiles: &[String],
    path: &Path,
    problems: &mut Problems<'_>,
) -> Option<Vec<BodyFormat>> {
    let file: FormatFile = problems.decode(value, path)?;
    for program in file.program.texts() {
        if !programs.contains(&program) {
            problems.value(
                &path.then("program"),
                "not a program of this pack",
                nearest(program, programs.iter().copied())
                    .map(|near| format!("did you mean `{near}`?")),
            );
            return None;
        }
    }
    if let Some(profile) = &file.profile
        && !profiles.contains(profile)
    {
        problems.value(
            &path.then("profile"),
            "not a profile of this pack",
            nearest(profile, profiles.iter().map(String::as_str))
                .map(|near| format!("did you mean `{near}`?")),
        );
        return None;
    }
    let shape = match (file.prefix, file.key_value, file.csv) {
        (Some(prefix), None, None) => match prefix {
            PrefixWord::SeverityAndCode => BodyShape::SeverityAndCode,
            PrefixWord::MessageId => BodyShape::MessageId,
            PrefixWord::Uptime => BodyShape::Uptime,
        },
        (None, None, None) if file.profile.is_some() => BodyShape::Plain,
        (None, Some(KeyValueFile { has }), None) if has.is_empty() => BodyShape::Fields,
        (None, Some(KeyValueFile { has }), None) => BodyShape::KeyValue(has),
        (None, None, Some(csv)) => {
            let Some(column) = csv.columns.iter().position(|name| *name == csv.column) else {
                problems.value(
                    &path.then("csv").then("column"),
                    "not one of the columns",
                    None,
                );
                return None;
            };
            BodyShape::Csv {
                columns: csv.columns,
                column,
                is: csv.is,
            }
        }
        _ => {
            problems.value(
                path,
                "a format has one of `prefix`, `key_value`, `csv` and `profile`",
                None,
            );
            return None;
        }
    };
    let (message_id, is_number) = match file.message_id {
        Some(MessageIdFile::Field(name)) => (Some(name), false),
        Some(MessageIdFile::Number { number }) => (Some(number), true),
        None => (None, false),
    };
    let fields = [
        ("host", &file.host),
        ("severity", &file.severity),
        ("message_id", &message_id),
    ];
    for (key, name) in fields {
        let Some(name) = name else { continue };
        let fault = match &shape {
            BodyShape::Csv { columns, .. } if !columns.contains(name) => "not one of the columns",
            BodyShape::Csv { .. } | BodyShape::KeyValue(_) => continue,
            BodyShape::Fields if key != "host" || file.profile.is_some() => continue,
            BodyShape::Fields => "the header names the host of such a message",
            _ => "such a message has no fields",
        };
        problems.value(&path.then(key), fault, None);
    }
    let mut severities = Vec::new();
    for (value, word) in &file.severities {
        let at = path.then("severities");
        let value: super::file::Scalar = problems.decode(value, &at)?;
        let at = at.then(value.0.as_str());
        let word: String = problems.decode(word, &at)?;
        match Severity::parse(word.as_bytes()) {
            Some(severity) => severities.push((value.0, severity)),
            None => problems.value(
                &at,
                format!("`{word}` is no severity"),
                Some("emerg, alert, crit, err, warning, notice, info or debug".into()),
            ),
        }
    }
    let of_program = |program: &str| BodyFormat {
        program: program.to_owned(),
        shape: shape.clone(),
        profile: file.profile.clone(),
        host: file.host.clone(),
        severity: file.severity.clone(),
        severities: severities.clone(),
        message_id: message_id.clone(),
        is_number,
    };
    Some(file.program.texts().into_iter().map(of_program).collect())
}
