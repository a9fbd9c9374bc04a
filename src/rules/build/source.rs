//! Packs before they are built: read as far as their heads, and which of them replaces which.

use std::borrow::Cow;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_yaml::Value;

use crate::diagnostic::{Diagnostic, Document, Path, Problems, nearest};
use crate::rules::file::PackFile;
use crate::rules::{BuiltIn, PackText};

/// A pack before it is read.
pub(in crate::rules) enum Source {
    /// YAML.
    Text(PackText),
    /// The compact form of a built-in one.
    BuiltIn(&'static BuiltIn),
}

/// A rule or a family before it is read.
pub(super) enum RawRule {
    Yaml(Value),
    Compact(&'static str),
}

/// A pack whose head is read.
pub(super) struct LoadedPack {
    pub document: Document,
    pub file: PackFile,
    /// The rules that stand in no `file`: those of the compact form.
    pub compact: &'static [&'static str],
    pub is_built_in: bool,
}

impl LoadedPack {
    pub(super) fn new(
        source: Source,
        is_built_in: bool,
        faults: &mut Vec<Diagnostic>,
    ) -> Option<Self> {
        match source {
            Source::Text(pack) => match Document::parse(&pack.file, &pack.text) {
                Ok(mut document) => {
                    let mut problems = Problems::new(&document);
                    match document.value.as_mapping() {
                        // Empty, as a shell leaves the file that it will write to.
                        Some(keys) if keys.is_empty() => return None,
                        Some(_) => {}
                        None => {
                            let message = "a pack starts with `pack: NAME`";
                            problems.value(&Path::root(), message, None);
                            faults.extend(problems.into_diagnostics());
                            return None;
                        }
                    }
                    let file = problems.decode(&document.value, &Path::root());
                    faults.extend(problems.into_diagnostics());
                    // What it says is in `file` now.
                    document.value = Value::Null;
                    Some(Self {
                        document,
                        file: file?,
                        compact: &[],
                        is_built_in,
                    })
                }
                Err(fault) => {
                    faults.push(fault);
                    None
                }
            },
            Source::BuiltIn(pack) => {
                let document = Document {
                    file: pack.name().into(),
                    text: Arc::new(Cow::Borrowed(pack.text)),
                    value: Value::Null,
                };
                let mut problems = Problems::new(&document);
                let file = compact(pack.head, &Path::root(), &mut problems);
                faults.extend(problems.into_diagnostics());
                Some(Self {
                    document,
                    file: file?,
                    compact: pack.rules,
                    is_built_in,
                })
            }
        }
    }
}

/// Reads a part of the compact form. What is wrong is reported only roughly: `check` reads what it was made from.
pub(super) fn compact<T: DeserializeOwned>(
    text: &str,
    path: &Path,
    problems: &mut Problems<'_>,
) -> Option<T> {
    serde_json::from_str(text)
        .map_err(|error| problems.value(path, error.to_string(), None))
        .ok()
}

/// Takes away the built-in packs that `own` ones replace.
pub(super) fn replace(
    own: &[LoadedPack],
    built_in: &mut Vec<LoadedPack>,
    faults: &mut Vec<Diagnostic>,
    warnings: &mut Vec<Diagnostic>,
) {
    for pack in own {
        let mut problems = Problems::new(&pack.document);
        let mut unsaid = Problems::new(&pack.document);
        let (key, replaced) = match &pack.file.replaces {
            Some(replaced) => ("replaces", replaced),
            None => ("pack", &pack.file.pack),
        };
        let path = Path::root().then(key);
        match built_in
            .iter()
            .position(|known| known.file.pack == *replaced)
        {
            Some(known) => {
                let known = built_in.remove(known);
                if pack.file.replaces.is_none() {
                    let rules = known.file.rules.len() + known.compact.len();
                    unsaid.value(
                        &path,
                        format!("replaces the built-in pack of this name and its {rules} rules"),
                        Some(format!("if that is meant, add `replaces: {replaced}`; if not, choose another name")),
                    );
                }
            }
            None if key == "replaces" => {
                let near = nearest(
                    replaced,
                    built_in.iter().map(|known| known.file.pack.as_str()),
                );
                problems.value(
                    &path,
                    "no built-in pack has this name",
                    near.map(|near| format!("did you mean `{near}`?")),
                );
            }
            None => {}
        }
        faults.extend(problems.into_diagnostics());
        warnings.extend(unsaid.into_diagnostics());
    }
}
