//! Are the rules right? Runs the examples that stand beside them, and looks for rules that can never match.

use std::sync::Arc;

use crate::diagnostic::{Diagnostic, SHOWN_MAX};
use crate::engine::{Engine, Repeats, StreamContext, Worker};
use crate::matcher::Scratch;
use crate::metric::{Family, Limits, Series};
use crate::nearest::nearest;
use crate::record::{Clock, Record};
use crate::rules::{
    Class, Example, HeaderField, Pattern, Piece, Rule, RuleId, RuleSet, Scope, When,
};

/// When examples are read, so that stamps without a year always mean the same.
const EXAMPLE_TIME: i64 = 1_771_500_000;

/// Every example that does not do what it says, and everything that is allowed but not right, in the order of the rules.
///
/// # Errors
/// A rule cannot be compiled.
pub fn check(rules: &Arc<RuleSet>) -> Result<Vec<Diagnostic>, String> {
    let mut faults = rules.lints.clone();
    // Compiling is dear, a table is cheap: one engine, whose table is emptied for each example.
    let engine = Engine::new(rules.clone(), Limits::default(), &[])?;
    let mut worker = Worker::new(Arc::new(engine));
    for (index, rule) in rules.rules.iter().enumerate() {
        for example in &rule.examples {
            worker.reset();
            run(
                &mut worker,
                RuleId(index as u32),
                rule,
                example,
                &mut faults,
            );
            // Each is looked up in the text.
            if faults.len() >= SHOWN_MAX {
                faults.push(Diagnostic::bare(
                    "too many errors; the other examples were not run",
                    "mend these first",
                ));
                return Ok(faults);
            }
        }
    }
    faults.extend(shadowed(worker.engine()));
    faults.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    faults.dedup();
    Ok(faults)
}

/// The clock of examples: UTC, at a fixed time in February 2026.
pub fn example_clock() -> Clock {
    Clock {
        zone: jiff::tz::TimeZone::UTC,
        now: jiff::Timestamp::from_second(EXAMPLE_TIME).unwrap_or(jiff::Timestamp::UNIX_EPOCH),
    }
}

fn run(
    worker: &mut Worker,
    id: RuleId,
    rule: &Rule,
    example: &Example,
    faults: &mut Vec<Diagnostic>,
) {
    let mut origin = StreamContext::new(example_clock());
    origin.trusts_headers = true;
    let mut repeats = Repeats::default();
    let mut matched = Vec::new();
    let mut near = None;
    let engine = worker.engine().clone();
    let rules = engine.rules();
    let (lines, at) = match example {
        Example::Lines { lines, at, .. } => (lines.as_slice(), at),
        Example::Not { line, at } => (std::slice::from_ref(line), at),
    };
    let mut batch = worker.batch(EXAMPLE_TIME as u32, Some(&mut repeats));
    for line in lines {
        batch.line_with(
            &mut origin,
            line.as_bytes(),
            |_, _| {},
            |outcome| {
                matched.extend_from_slice(outcome.rules);
                let must_match = matches!(example, Example::Lines { .. });
                if must_match && matched.is_empty() && near.is_none() {
                    near = nearest(rules, outcome.record);
                }
            },
        );
    }
    drop(batch);
    let names = |matched: &[RuleId]| {
        let names: Vec<&str> = matched
            .iter()
            .map(|id| &*rules.rules[id.0 as usize].id)
            .collect();
        names.join(", ")
    };
    match example {
        Example::Not { .. } => {
            if matched.contains(&id) {
                faults.push(at.fault(
                    format!("{} matches this line and should not", rule.id),
                    None,
                ));
            }
        }
        Example::Lines {
            samples, absent, ..
        } => {
            if !matched.contains(&id) {
                let (message, hint) = if matched.is_empty() {
                    let message = format!("no rule matches this example of {}", rule.id);
                    (message, near)
                } else {
                    (
                        format!(
                            "this example of {} is matched by {}",
                            rule.id,
                            names(&matched)
                        ),
                        Some(
                            "the first rule that matches wins; put the more particular one first"
                                .to_owned(),
                        ),
                    )
                };
                faults.push(at.fault(message, hint));
                return;
            }
            for sample in samples {
                if faults.len() >= SHOWN_MAX {
                    return;
                }
                if let Err(fault) = shows(worker, sample) {
                    faults.push(at.fault(
                        format!("the example of {} does not give {sample}: {fault}", rule.id),
                        None,
                    ));
                }
            }
            for series in absent {
                if faults.len() >= SHOWN_MAX {
                    return;
                }
                let fault = match parse_sample(&format!("{series} 0")) {
                    Some((name, labels, _)) => match value_of(worker, &name, &labels) {
                        Some(value) => format!("it is {value}"),
                        None => continue,
                    },
                    None => "this is no series".to_owned(),
                };
                faults.push(at.fault(
                    format!("the example of {} leaves {series}: {fault}", rule.id),
                    None,
                ));
            }
        }
    }
}

/// Rules that an earlier one always wins from: every message made from their templates goes to the other.
fn shadowed(engine: &Engine) -> Vec<Diagnostic> {
    let mut faults = Vec::new();
    let rules = engine.rules();
    let mut scratch = engine.matcher().scratch();
    for (rule, id) in rules.rules.iter().zip(0..) {
        let Some(winner) = rule.shadow(RuleId(id), engine, &mut scratch) else {
            continue;
        };
        faults.push(rule.at.fault(
            format!(
                "{} never matches: {winner} comes first and matches all that it does",
                rule.id
            ),
            Some("put the more particular rule first, or take one away".to_owned()),
        ));
    }
    faults
}

impl Rule {
    /// The earlier rule that takes all messages made from this rule's templates.
    fn shadow(&self, id: RuleId, engine: &Engine, scratch: &mut Scratch) -> Option<Arc<str>> {
        let rules = engine.rules();
        let program = match &self.scope {
            Scope::Programs(programs) => rules.programs.get(*programs.first()?)?.name.as_str(),
            Scope::Every => "unheard-of",
            Scope::Nameless => "",
        };
        let mut winner = None;
        for pattern in &self.patterns {
            let Pattern::Template { template, .. } = pattern else {
                return None;
            };
            for fill in 0..4 {
                let message = sample(&template.pieces, fill);
                let mut record = Record {
                    program: program.as_bytes(),
                    program_id: engine.programs().lookup(program.as_bytes()),
                    message: message.as_bytes(),
                    repeat: 1,
                    ..Record::default()
                };
                self.when.iter().for_each(|when| fulfil(when, &mut record));
                let mut first = None;
                engine.matcher().find(&record, scratch, |found| {
                    let go_on = rules.rules[found.rule.0 as usize].go_on;
                    first = (!go_on).then_some(found.rule);
                    go_on
                });
                let matched = first?;
                if matched >= id {
                    return None;
                }
                winner = Some(matched);
            }
        }
        winner.map(|winner| rules.rules[winner.0 as usize].id.clone())
    }
}

/// Makes a header fulfil a condition.
fn fulfil<'r>(when: &'r When, record: &mut Record<'r>) {
    match when {
        When::Severity(severities) => record.severity = severities.first().copied(),
        When::Test(test) => record.test = *test,
        When::Field(field, values) => {
            let value = values
                .first()
                .map_or(&b""[..], |(value, _)| value.as_bytes());
            match field {
                HeaderField::Facility => record.facility = value,
                HeaderField::AppSeverity => record.app_severity = value,
                HeaderField::Code => record.code = value,
                HeaderField::Tag => record.tag = value,
                HeaderField::Host => record.host = Some(value),
            }
        }
    }
}

/// A message that a template matches; `fill` chooses among several ways to fill its placeholders.
fn sample(pieces: &[Piece], fill: usize) -> String {
    let mut out = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => out.push_str(&String::from_utf8_lossy(text)),
            Piece::Blanks { .. } => out.push(' '),
            Piece::Run { class, min, max } => {
                let byte = match class {
                    Class::Digit => ["7", "42", "190", "3"][fill],
                    Class::Hex => ["7", "ab", "1f", "e"][fill],
                    Class::Ip6 => ["2", "fe80", "a1", "f"][fill],
                    Class::Name => ["q", "x-ray", "N.1", "zz_9"][fill],
                    Class::Word => ["q", "x-ray", "N.1", "(zz)"][fill],
                    Class::Unquoted => ["q", "x ray", "", "(zz)"][fill],
                    Class::Sign => ["", "-", "+", ""][fill],
                    Class::PortMark => ["/", ":", "/", ":"][fill],
                    Class::X => "x",
                };
                let text: String = byte.chars().take((*max).max(*min)).collect();
                out.push_str(&text);
            }
            Piece::Quad => {
                out.push_str(["10.0.0.7", "1.2.3.4", "192.168.255.255", "0.0.0.0"][fill])
            }
            Piece::Lazy => out.push_str(["qqq", "some other text", "X-1 (z)", "17 of them"][fill]),
            Piece::Rest => out.push_str(["", "and so on", "17", "(end)"][fill]),
            Piece::Choice(options) => out.push_str(&sample(&options[fill % options.len()], fill)),
            Piece::Capture(_, inner) => out.push_str(&sample(inner, fill)),
        }
    }
    out
}

/// Whether the table shows this sample.
fn shows(worker: &mut Worker, sample: &str) -> Result<(), String> {
    let (name, labels, value) = parse_sample(sample).ok_or("this is no sample")?;
    if let Some(found) = value_of(worker, &name, &labels) {
        let is_close = (found - value).abs() <= 1e-9 * value.abs().max(1.0);
        return match is_close {
            true => Ok(()),
            false => Err(format!("it is {found}")),
        };
    }
    // Nothing was counted, whether the series is there or not.
    if value == 0.0 {
        return Ok(());
    }
    let snapshot = worker.engine().table().snapshot();
    let of_name = |family: &Family| *family.name == *name;
    let Some((family, series)) = snapshot.families.iter().find(|(family, _)| of_name(family))
    else {
        return Err("there is no such series".to_owned());
    };
    // Zero series are not worth mentioning.
    let others = series.iter().filter(|series| series.value != 0.0);
    let others = others.take(3).map(|series| {
        let labels = labels_of(family, series).into_iter();
        let labels: Vec<String> = labels
            .map(|(name, value)| format!("{name}={value:?}"))
            .collect();
        format!("{{{}}} {}", labels.join(","), series.value)
    });
    match others.collect::<Vec<_>>() {
        none if none.is_empty() => Err("there is none".to_owned()),
        others => Err(format!("there is {}", others.join(" and "))),
    }
}

/// The value of the series with these labels, if it is there.
fn value_of(worker: &Worker, name: &str, labels: &[(String, String)]) -> Option<f64> {
    let snapshot = worker.engine().table().snapshot();
    let of_name = |family: &Family| *family.name == *name;
    let (family, series) = (snapshot.families.iter()).find(|(family, _)| of_name(family))?;
    let found = series.iter().find(|series| {
        let own = labels_of(family, series);
        own.len() == labels.len()
            && labels
                .iter()
                .all(|(name, value)| own.contains(&(name.as_str(), value.as_str())))
    });
    found.map(|series| series.value)
}

fn labels_of<'s>(family: &'s Family, series: &'s Series) -> Vec<(&'s str, &'s str)> {
    let names = family.labels.iter().map(|name| &**name);
    let mut labels: Vec<_> = names
        .zip(series.values.iter().map(|value| &**value))
        .collect();
    if series.test {
        labels.push(("test", "true"));
    }
    labels
}

type Sample = (String, Vec<(String, String)>, f64);

/// `name{a="b",…} value`, as in the classic text format.
fn parse_sample(text: &str) -> Option<Sample> {
    let text = text.trim();
    let (name, rest) = match text.find('{') {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => {
            let (name, value) = text.split_once(' ')?;
            return Some((name.to_owned(), Vec::new(), value.trim().parse().ok()?));
        }
    };
    let mut labels = Vec::new();
    let mut rest = rest.trim_start();
    while !rest.starts_with('}') {
        let (label, after) = rest.split_once('=')?;
        let mut value = String::new();
        let mut chars = after.strip_prefix('"')?.char_indices();
        let end = loop {
            match chars.next()? {
                (_, '\\') => match chars.next()?.1 {
                    'n' => value.push('\n'),
                    c => value.push(c),
                },
                (at, '"') => break at,
                (_, c) => value.push(c),
            }
        };
        labels.push((label.trim().to_owned(), value));
        rest = after[end + 2..]
            .trim_start()
            .trim_start_matches(',')
            .trim_start();
    }
    let value = match rest[1..].trim() {
        "+Inf" => f64::INFINITY,
        value => value.parse().ok()?,
    };
    Some((name.to_owned(), labels, value))
}
