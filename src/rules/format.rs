//! `formats` of a pack: how messages without a program in their header are known by their body.

use serde::Deserialize;
use serde_yaml::Value;

use crate::diagnostic::{Path, Problems, nearest};
use crate::record::{BodyFormat, BodyShape};

/// A format as written; exactly one of the shapes is there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FormatFile {
    program: String,
    #[serde(default)]
    key_value: Option<KeyValueFile>,
    #[serde(default)]
    csv: Option<CsvFile>,
    #[serde(default)]
    host: Option<String>,
    #[serde(default)]
    severity: Option<String>,
    #[serde(default)]
    message_id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyValueFile {
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
    values: &[Value],
    programs: &[&str],
    problems: &mut Problems<'_>,
) -> Vec<BodyFormat> {
    let read = |(index, value)| {
        let path = Path::root().then("formats").then(index);
        format(value, programs, &path, problems)
    };
    values.iter().enumerate().filter_map(read).collect()
}

fn format(
    value: &Value,
    programs: &[&str],
    path: &Path,
    problems: &mut Problems<'_>,
) -> Option<BodyFormat> {
    let file: FormatFile = problems.decode(value, path)?;
    if !programs.contains(&file.program.as_str()) {
        problems.value(
            &path.then("program"),
            "not a program of this pack",
            nearest(&file.program, programs.iter().copied())
                .map(|near| format!("did you mean `{near}`?")),
        );
        return None;
    }
    let shape = match (file.key_value, file.csv) {
        (Some(KeyValueFile { has }), None) if !has.is_empty() => BodyShape::KeyValue(has),
        (None, Some(csv)) => {
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
                "a format has either `key_value` with keys that must be there, or `csv`",
                None,
            );
            return None;
        }
    };
    if let BodyShape::Csv { columns, .. } = &shape {
        for (key, name) in [
            ("host", &file.host),
            ("severity", &file.severity),
            ("message_id", &file.message_id),
        ] {
            if let Some(name) = name
                && !columns.contains(name)
            {
                problems.value(&path.then(key), "not one of the columns", None);
            }
        }
    }
    Some(BodyFormat {
        program: file.program,
        shape,
        host: file.host,
        severity: file.severity,
        message_id: file.message_id,
    })
}
