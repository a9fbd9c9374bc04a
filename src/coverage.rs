//! Which lines of a log no rule recognises: a list for a person, or draft rules to start from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::engine::{Engine, Origin};
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
    engine: &mut Engine,
    origin: &mut Origin,
    lines: impl FnOnce(&mut dyn FnMut(&[u8])) -> Result<(), E>,
) -> Result<Coverage, E> {
    let mut found = Coverage::default();
    let now = u32::try_from(origin.clock.now.as_second()).unwrap_or(0);
    let mut batch = engine.batch(now, None);
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
        out
    }

    /// A pack with a draft rule for each kind of line: template, event and example, ready to edit.
    pub fn drafts(&self) -> String {
        let mut out = String::from("pack: site\n");
        let programs: BTreeSet<&str> = self
            .kinds
            .keys()
            .map(|(program, _)| program.as_str())
            .filter(|program| !program.is_empty())
            .collect();
        if !programs.is_empty() {
            out.push_str("programs:\n");
        }
        for program in programs {
            let _ = writeln!(out, "  {}: []", quote(program));
        }
        out.push_str("rules:\n");
        let mut events = BTreeMap::new();
        for ((program, _), Kind { line, message, .. }) in self.most_first() {
            let message = String::from_utf8_lossy(message);
            let event = event(&message);
            let count = events.entry(event.clone()).or_insert(0);
            *count += 1;
            match count {
                1 => {
                    let _ = writeln!(out, "  - event: {event}");
                }
                count => {
                    let _ = writeln!(out, "  - event: {event}_{count}");
                }
            }
            let program = if program.is_empty() { "-" } else { program };
            let _ = writeln!(out, "    program: {}", quote(program));
            let _ = writeln!(out, "    match: {}", quote(&template(&message)));
            let _ = writeln!(out, "    help: what this message means");
            let _ = writeln!(out, "    layout: seen");
            let _ = writeln!(out, "    examples:");
            let _ = writeln!(
                out,
                "      - line: {}",
                quote(&String::from_utf8_lossy(line))
            );
        }
        if self.kinds.is_empty() {
            out.push_str("  []\n");
        }
        out
    }
}

/// A YAML text in single quotes.
fn quote(text: &str) -> String {
    let printable: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    format!("'{}'", printable.replace('\'', "''"))
}

/// An event named after the message's first words.
fn event(message: &str) -> String {
    let words: Vec<String> = message
        .split(|c: char| !c.is_ascii_alphabetic())
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

/// The message with holes where numbers, addresses and quoted texts stand.
fn template(message: &str) -> String {
    let mut out = String::new();
    for word in message.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        let core = word
            .trim_end_matches([',', '.', ':', ';', ')'])
            .trim_start_matches('(');
        let start = word.find(core).unwrap_or(0);
        let kind = kind_of(core);
        match kind {
            Some(kind) if !core.is_empty() => {
                let escaped = |text: &str| text.replace('{', "{{").replace('}', "}}");
                out.push_str(&escaped(&word[..start]));
                let _ = write!(out, "{{_:{kind}}}");
                out.push_str(&escaped(&word[start + core.len()..]));
            }
            _ => out.push_str(&word.replace('{', "{{").replace('}', "}}")),
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
        assert_eq!(event(message), "client_abc_from_sent_bytes");
        assert!(crate::rules::Template::parse(&template(message)).is_ok());
    }
}
