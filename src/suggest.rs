//! Draft rules: as a new pack, or added to a pack that is there, whose comments and order stay as they are.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_yaml::Value;

use crate::diagnostic::{Diagnostic, Document};

/// The schema that editors check a pack with, where the packages put it.
const SCHEMA: &str = "/usr/share/appliance-log-exporter/rules.schema.json";

/// A rule to start from.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) event: String,
    /// Empty for a line without a program.
    pub(crate) program: String,
    pub(crate) pattern: String,
    /// The line that it was made from, its example.
    pub(crate) line: String,
}

/// Draft rules, the most useful first.
#[derive(Debug)]
pub(crate) struct Drafts(pub(crate) Vec<Draft>);

impl Drafts {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// A whole pack.
    pub(crate) fn pack(&self, name: &str) -> String {
        let mut out = format!("# yaml-language-server: $schema={SCHEMA}\npack: {name}\n");
        let programs = self.programs();
        if !programs.is_empty() {
            out.push_str("programs:\n");
        }
        for program in programs {
            let _ = writeln!(out, "  {}: []", quote(program));
        }
        out.push_str("rules:\n");
        out.push_str(&self.rules("  ", &mut HashSet::new()));
        out
    }

    /// Adds the drafts to the pack of this name in `directory`, or makes it. Returns the file. Nothing that is there is
    /// changed or overwritten.
    ///
    /// # Errors
    /// The directory cannot be read or written, or the pack is written in a way that cannot be added to.
    pub(crate) fn write(&self, directory: &Path, name: &str) -> Result<PathBuf, Diagnostic> {
        let unwritable = |path: &Path, error: &std::io::Error| {
            Diagnostic::of_file(
                path.display().to_string(),
                &format!("cannot be written: {error}"),
                None,
            )
        };
        fs::create_dir_all(directory).map_err(|error| unwritable(directory, &error))?;
        let (path, text) = match find(directory, name)? {
            Some((path, document)) => {
                let text = self.added(&path, &document)?;
                (path, text)
            }
            None => {
                let path = directory.join(format!("{name}.yaml"));
                if fs::metadata(&path).is_ok_and(|metadata| metadata.len() > 0) {
                    let message = "holds another pack";
                    let hint = Some("choose another name with --pack".to_owned());
                    return Err(Diagnostic::of_file(
                        path.display().to_string(),
                        message,
                        hint,
                    ));
                }
                (path, self.pack(name))
            }
        };
        // Renamed into place, so that a reload never sees half a pack.
        let written = tempfile::NamedTempFile::new_in(directory).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            let mode = fs::metadata(&path).map(|metadata| metadata.permissions());
            let default = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o644);
            file.as_file().set_permissions(mode.unwrap_or(default))?;
            file.persist(&path).map_err(|error| error.error)?;
            Ok(())
        });
        written.map_err(|error| unwritable(&path, &error))?;
        Ok(path)
    }

    fn programs(&self) -> BTreeSet<&str> {
        let programs = self.0.iter().map(|draft| draft.program.as_str());
        programs.filter(|program| !program.is_empty()).collect()
    }

    /// The rules as items of a list, indented; `events` are those that are taken.
    fn rules(&self, indent: &str, events: &mut HashSet<String>) -> String {
        let mut out = String::new();
        for draft in &self.0 {
            let mut event = draft.event.clone();
            let mut number = 1;
            while !events.insert(event.clone()) {
                number += 1;
                event = format!("{}_{number}", draft.event);
            }
            let program = match draft.program.as_str() {
                "" => "-",
                program => program,
            };
            for line in [
                format!("- event: {event}"),
                format!("  program: {}", quote(program)),
                format!("  match: {}", quote(&draft.pattern)),
                "  help: what this message means".to_owned(),
                "  layout: seen".to_owned(),
                "  examples:".to_owned(),
                format!("    - line: {}", quote(&draft.line)),
            ] {
                let _ = writeln!(out, "{indent}{line}");
            }
        }
        out
    }

    /// The text of a pack with the drafts at its end.
    fn added(&self, path: &Path, document: &Document) -> Result<String, Diagnostic> {
        let cannot = |hint: &str| {
            let message = "rules cannot be added to this file";
            Diagnostic::of_file(path.display().to_string(), message, Some(hint.to_owned()))
        };
        let mut text = document.text.to_string();
        if !text.ends_with('\n') {
            text.push('\n');
        }
        let before = document.value["rules"].as_sequence().map_or(0, Vec::len);
        let known = document.value["programs"].as_mapping();
        let missing: Vec<&str> = self
            .programs()
            .into_iter()
            .filter(|program| !known.is_some_and(|known| known.contains_key(*program)))
            .collect();
        if !missing.is_empty() {
            text = with_programs(&text, &missing)
                .ok_or_else(|| cannot("write `programs:` as a block, one program a line"))?;
        }
        let last = text
            .lines()
            .rfind(|line| line.starts_with(char::is_alphabetic));
        match last.map(str::trim_end) {
            Some("rules:") => {}
            Some("rules: []") => text = text.replacen("\nrules: []", "\nrules:", 1),
            Some(_) if before == 0 => text.push_str("rules:\n"),
            _ => return Err(cannot("`rules:` must be its last key")),
        }
        let indent = text
            .lines()
            .skip_while(|line| line.trim_end() != "rules:")
            .find_map(|line| line.split_once("- event:").or(line.split_once("- ")))
            .map_or("  ", |(indent, _)| {
                if indent.trim().is_empty() {
                    indent
                } else {
                    "  "
                }
            })
            .to_owned();
        let mut events = events(&document.value);
        text.push_str(&self.rules(&indent, &mut events));
        let whole = Document::parse(&document.file, &text)
            .map_err(|_| cannot("write its rules as a block list"))?;
        let after = whole.value["rules"].as_sequence().map_or(0, Vec::len);
        match after == before + self.len() {
            true => Ok(text),
            false => Err(cannot("write its rules as a block list")),
        }
    }
}

/// `text` with more programs, as its `programs:` is written.
fn with_programs(text: &str, missing: &[&str]) -> Option<String> {
    let flow: String = missing
        .iter()
        .map(|program| format!("{}: [], ", quote(program)))
        .collect();
    let block: String = missing
        .iter()
        .map(|program| format!("  {}: []\n", quote(program)))
        .collect();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let at = |key: &str| lines.iter().position(|line| line.starts_with(key));
    let (index, line) = match at("programs:") {
        Some(index) => {
            let value = lines[index]["programs:".len()..].trim();
            let line = match value.strip_prefix('{') {
                Some(rest) if rest.trim() == "}" => {
                    format!("programs: {{{}}}\n", flow.trim_end_matches(", "))
                }
                Some(rest) => format!("programs: {{{flow}{rest}\n"),
                // The next line shows how it is indented.
                None if value.is_empty() || value.starts_with('#') => {
                    let next = lines.get(index + 1)?;
                    let indent = &next[..next.len() - next.trim_start().len()];
                    let block = block.replace("  '", &format!("{indent}'"));
                    format!("{}{block}", lines[index])
                }
                None => return None,
            };
            (index, line)
        }
        None => {
            let index = at("rules:").unwrap_or(lines.len());
            let before = lines.get(index).copied().unwrap_or_default();
            (index, format!("programs:\n{block}{before}"))
        }
    };
    let mut out = lines[..index].concat();
    out.push_str(&line);
    out.push_str(&lines.get(index + 1..).unwrap_or_default().concat());
    Some(out)
}

/// The names of events that a pack has.
fn events(pack: &Value) -> HashSet<String> {
    let rules = pack["rules"].as_sequence().into_iter().flatten();
    let names = rules.flat_map(|rule| {
        let family = rule["events"].as_mapping().into_iter();
        let family = family.flat_map(|events| events.keys());
        family.chain(rule.get("event")).filter_map(Value::as_str)
    });
    names.map(str::to_owned).collect()
}

/// The file of the pack of this name.
fn find(directory: &Path, name: &str) -> Result<Option<(PathBuf, Document)>, Diagnostic> {
    let mut faults = Vec::new();
    let packs = crate::rules::texts(&[directory.to_owned()], &mut faults);
    if let Some(fault) = faults.into_iter().next() {
        return Err(fault);
    }
    for pack in packs {
        let document = Document::parse(&pack.file, &pack.text)?;
        if document.value["pack"].as_str() == Some(name) {
            return Ok(Some((PathBuf::from(pack.file), document)));
        }
    }
    Ok(None)
}

/// A YAML text in single quotes.
fn quote(text: &str) -> String {
    let printable: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    format!("'{}'", printable.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drafts() -> Drafts {
        let draft = |event: &str, program: &str| Draft {
            event: event.to_owned(),
            program: program.to_owned(),
            pattern: "it's {_:int}".to_owned(),
            line: format!("hsm1 {program}: it's 7"),
        };
        Drafts(vec![draft("it", "doord"), draft("it", "lampd")])
    }

    const RULES: &str = "- event: it_2
    program: 'doord'
    match: 'it''s {_:int}'
    help: what this message means
    layout: seen
    examples:
      - line: 'hsm1 doord: it''s 7'
  - event: it_3
    program: 'lampd'
    match: 'it''s {_:int}'
    help: what this message means
    layout: seen
    examples:
      - line: 'hsm1 lampd: it''s 7'
";

    #[test]
    fn drafts_are_added_and_nothing_else_changes() {
        let rule = "  # mine\n  - {event: it, match: x}  # kept\n";
        for (before, expected) in [
            (
                format!("# site\npack: site\nprograms: {{doord: []}}\nrules:\n{rule}"),
                Ok(format!(
                    "# site\npack: site\nprograms: {{'lampd': [], doord: []}}\nrules:\n{rule}  {RULES}"
                )),
            ),
            (
                format!("pack: site\nprograms:\n    doord: [d]\nrules:\n{rule}"),
                Ok(format!(
                    "pack: site\nprograms:\n    'lampd': []\n    doord: [d]\nrules:\n{rule}  {RULES}"
                )),
            ),
            (
                format!("pack: site\nrules:\n{rule}"),
                Ok(format!(
                    "pack: site\nprograms:\n  'doord': []\n  'lampd': []\nrules:\n{rule}  {RULES}"
                )),
            ),
            (
                "pack: site\nrules: [{event: it, match: x}]\nabout: x\n".to_owned(),
                Err("rules cannot be added to this file\n  hint: `rules:` must be its last key"),
            ),
        ] {
            let directory = tempfile::tempdir().expect("a directory");
            let path = directory.path().join("mine.yaml");
            fs::write(&path, &before).expect("a file");
            fs::write(directory.path().join("empty.yaml"), "").expect("a file");
            let written = drafts().write(directory.path(), "site");
            let after = fs::read_to_string(&path).expect("a file");
            match expected {
                Ok(text) => {
                    assert_eq!(written.expect("written"), path);
                    assert_eq!(after, text);
                }
                Err(message) => {
                    let fault = written.expect_err("refused").to_string();
                    assert_eq!(fault, format!("{}: {message}", path.display()));
                    assert_eq!(after, before);
                }
            }
        }
    }

    #[test]
    fn a_pack_is_made_where_there_is_none_and_never_over_another() {
        let directory = tempfile::tempdir().expect("a directory");
        let made = drafts()
            .write(&directory.path().join("new"), "site")
            .expect("written");
        let text = fs::read_to_string(&made).expect("a file");
        assert_eq!(text, drafts().pack("site"));
        assert!(
            text.starts_with("# yaml-language-server: $schema="),
            "{text}"
        );
        fs::write(directory.path().join("site.yaml"), "pack: other\n").expect("a file");
        let fault = drafts()
            .write(directory.path(), "site")
            .expect_err("refused");
        assert!(fault.to_string().contains("holds another pack"), "{fault}");
    }
}
