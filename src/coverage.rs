//! Which lines of a log no rule recognises: a list for a person, or draft rules to start from.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::engine::{StreamContext, Worker};
use crate::suggest::{Draft, Drafts};
use crate::unrecognised::fold;

/// Kinds of lines kept; a log that has more of them has no pattern to find.
const KINDS_MAX: usize = 10_000;

/// How many lines of one kind there were, and the first of them.
#[derive(Debug)]
struct Kind {
    count: u64,
    line: Vec<u8>,
    message: Vec<u8>,
}

/// What was found in a log.
#[derive(Debug, Default)]
pub struct Coverage {
    lines: u64,
    recognised: u64,
    /// By program and folded message.
    kinds: BTreeMap<(String, String), Kind>,
}

/// Reads lines with the engine; `lines` calls back for each.
///
/// # Errors
/// Those of `lines`.
pub fn read<E>(
    worker: &mut Worker,
    origin: &mut StreamContext,
    lines: impl FnOnce(&mut dyn FnMut(&[u8])) -> Result<(), E>,
) -> Result<Coverage, E> {
    let mut found = Coverage::default();
    let now = u32::try_from(origin.clock.now.as_second()).unwrap_or(0);
    let mut batch = worker.batch(now, None);
    lines(&mut |line| {
        batch.line_with(
            origin,
            line,
            |_, _| {},
            |outcome| {
                found.lines += 1;
                let record = outcome.record;
                if outcome.recognised {
                    found.recognised += 1;
                    return;
                }
                let program = String::from_utf8_lossy(record.program).into_owned();
                let key = (program, fold(record.message));
                if found.kinds.len() < KINDS_MAX || found.kinds.contains_key(&key) {
                    let kind = found.kinds.entry(key).or_insert_with(|| Kind {
                        count: 0,
                        line: line.to_vec(),
                        message: record.message.to_vec(),
                    });
                    kind.count += 1;
                }
            },
        );
    })?;
    Ok(found)
}

impl Coverage {
    fn most_first(&self) -> Vec<(&(String, String), &Kind)> {
        let mut kinds: Vec<_> = self.kinds.iter().collect();
        kinds.sort_by_key(|(_, kind)| std::cmp::Reverse(kind.count));
        kinds
    }

    /// How many lines were recognised, and the others, folded and counted, most frequent first.
    pub fn report(&self) -> String {
        let mut out = String::new();
        for ((program, sample), Kind { count, .. }) in self.most_first() {
            let program = if program.is_empty() { "-" } else { program };
            let _ = writeln!(out, "{count:>8}  {program}: {sample}");
        }
        let _ = writeln!(
            out,
            "{} of {} lines recognised",
            self.recognised, self.lines
        );
        if !self.kinds.is_empty() {
            out.push_str("`appliance_log_exporter suggest` drafts rules for the others\n");
        }
        out
    }

    /// The same for a program.
    pub(crate) fn json(&self) -> serde_json::Value {
        let kinds = self.most_first();
        let kinds = kinds.iter().map(|((program, message), Kind { count, .. })| {
            serde_json::json!({"program": program, "message": message, "lines": count})
        });
        serde_json::json!({
            "lines": self.lines,
            "recognised": self.recognised,
            "unrecognised": kinds.collect::<Vec<_>>(),
        })
    }

    /// The share of lines that were recognised, in percent; all of no lines.
    pub(crate) fn percent(&self) -> f64 {
        match self.lines {
            0 => 100.0,
            lines => self.recognised as f64 * 100.0 / lines as f64,
        }
    }

    /// A draft rule for each kind of line that is text.
    pub(crate) fn drafts(&self) -> Drafts {
        let rules = self.most_first().into_iter().filter_map(|(key, kind)| {
            let text = |bytes| std::str::from_utf8(bytes).ok();
            let (message, line) = (text(&kind.message)?, text(&kind.line)?);
            let is_text = message.chars().all(|c| !c.is_control() || c == '\t');
            let pattern = template(message);
            (is_text && !pattern.is_empty()).then(|| Draft {
                event: event(&pattern),
                program: key.0.clone(),
                pattern,
                line: line.to_owned(),
            })
        });
        Drafts(rules.collect())
    }
}

/// An event named after the first words of a pattern. What a placeholder stands for differs from line to line, or is
/// somebody's name.
fn event(pattern: &str) -> String {
    let words: Vec<String> = pattern
        .split("{_:")
        .enumerate()
        .map(|(number, part)| match number {
            0 => part,
            _ => part.split_once('}').map_or("", |(_, rest)| rest),
        })
        .flat_map(|part| part.split(|c: char| !c.is_ascii_alphabetic()))
        .filter(|word| word.len() > 1)
        .take(5)
        .map(str::to_ascii_lowercase)
        .collect();
    if words.is_empty() {
        "unnamed".to_owned()
    } else {
        words.join("_")
    }
}

/// The words of a message; a quoted text is one word, whatever is in it.
fn words(message: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = message.trim();
    while !rest.is_empty() {
        let blank = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let word = &rest[..blank];
        let end = match word.find('"') {
            // The quote is not closed in this word: it ends behind the one that closes it, and what hangs on to that.
            Some(open) if word.matches('"').count() == 1 => rest[open + 1..]
                .find('"')
                .map(|close| open + close + 2)
                .map(|close| {
                    let tail = rest[close..].find(char::is_whitespace);
                    tail.map_or(rest.len(), |tail| close + tail)
                }),
            _ => None,
        };
        let (word, after) = rest.split_at(end.unwrap_or(blank));
        words.push(word);
        rest = after.trim_start();
    }
    words
}

/// The message with placeholders where numbers, addresses and quoted texts stand.
fn template(message: &str) -> String {
    let mut out = String::new();
    for word in words(message) {
        if !out.is_empty() {
            out.push(' ');
        }
        let engine = word
            .trim_end_matches([',', '.', ':', ';', ')'])
            .trim_start_matches('(');
        let start = word.find(engine).unwrap_or(0);
        let escaped = |text: &str| text.replace('{', "{{").replace('}', "}}");
        match kind_of(engine) {
            Some(kind) if !engine.is_empty() => {
                out.push_str(&escaped(&word[..start]));
                let _ = write!(out, "{{_:{kind}}}");
                out.push_str(&escaped(&word[start + engine.len()..]));
            }
            _ => out.push_str(&escaped(word)),
        }
    }
    out
}

fn kind_of(word: &str) -> Option<&'static str> {
    let address = word.split(['/', '%']).next().unwrap_or_default();
    let (host, _) = address.rsplit_once(':').unwrap_or((address, ""));
    if address.parse::<std::net::IpAddr>().is_ok() || host.parse::<std::net::Ipv4Addr>().is_ok() {
        return Some("peer");
    }
    if word.len() > 1 && word.starts_with('"') && word.ends_with('"') {
        return Some("quoted");
    }
    let digits = word.strip_prefix(['+', '-']).unwrap_or(word);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some("int");
    }
    if digits.parse::<f64>().is_ok() && digits.contains('.') {
        return Some("number");
    }
    if word.starts_with("0x")
        && word[2..].bytes().all(|byte| byte.is_ascii_hexdigit())
        && word.len() > 2
    {
        return Some("hex");
    }
    let mixed = word.bytes().any(|byte| byte.is_ascii_digit());
    mixed.then_some("word")
}

#[cfg(test)]
mod tests {
    use super::{event, template};

    #[test]
    fn a_draft_has_holes_where_lines_differ() {
        let message = "Client \"abc\" from 10.0.0.1/443 sent 17 bytes (0x1f), load 1.5.";
        assert_eq!(
            template(message),
            "Client {_:quoted} from {_:peer} sent {_:int} bytes ({_:hex}), load {_:number}."
        );
        assert_eq!(event(&template(message)), "client_from_sent_bytes_load");
        let named = event(&template("User \"Bob O'Neil\" of group 7 left"));
        assert_eq!(named, "user_of_group_left");
        assert!(crate::rules::Template::parse(&template(message)).is_ok());
        for (message, expected) in [
            (
                "User \"Bob O'Neil\" of group \"x\" left",
                "User {_:quoted} of group {_:quoted} left",
            ),
            ("User \"Bob O'Neil, gone", "User \"Bob O'Neil, gone"),
            ("name=\"a b\", done", "name=\"a b\", done"),
        ] {
            assert_eq!(template(message), expected);
        }
    }
}
