//! What one line means, for a human or for a program.

use std::cell::RefCell;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::engine::{Engine, Repeats, StreamContext, Worker};
use crate::matcher::Scratch;
use crate::metric::{Slot, Table};
use crate::nearest::nearest;
use crate::record::Record;
use crate::rules::RuleSet;
use crate::update::Change;

/// One line, explained.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    record: Value,
    /// `pack/event` of the rule that decided, if any.
    rule: Option<String>,
    event: Option<String>,
    /// All rules that saw the line, if there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rules: Vec<String>,
    captures: Map<String, Value>,
    /// If no rule knows the line, the one that came nearest, and why it did not match.
    #[serde(skip_serializing_if = "Option::is_none")]
    nearest: Option<String>,
    updates: Vec<Value>,
}

/// Reads a line with the engine and says what it did.
pub fn explain(
    worker: &mut Worker,
    origin: &mut StreamContext,
    repeats: &mut Repeats,
    line: &[u8],
) -> Vec<Explanation> {
    let engine = worker.engine().clone();
    let rules = engine.rules();
    let mut explanations = Vec::new();
    let clock = origin.clock.clone();
    let mut scratch = engine.matcher().scratch();
    // Changes of a frame come before its outcome, which takes them.
    let changes = RefCell::new(Vec::new());
    let now = u32::try_from(origin.clock.now.as_second()).unwrap_or(0);
    worker.batch(now, Some(repeats)).line_with(
        origin,
        line,
        |slot, change| changes.borrow_mut().push((slot, change)),
        |outcome| {
            let table = engine.table();
            let matched = outcome.rules.iter().map(|id| &rules.rules[id.0 as usize]);
            let names: Vec<String> = matched.clone().map(|rule| rule.id.to_string()).collect();
            let mut deciding = matched.clone().filter(|rule| !rule.go_on);
            let decided = deciding.next().or_else(|| matched.clone().next());
            let appliance = table.appliance_name(outcome.appliance);
            explanations.push(Explanation {
                record: record(outcome.record, appliance, &clock),
                rule: decided.map(|rule| rule.id.to_string()),
                event: decided.map(|rule| rule.event.to_string()),
                rules: if names.len() > 1 { names } else { Vec::new() },
                captures: captures(&engine, &mut scratch, outcome.record),
                nearest: match decided {
                    Some(_) => None,
                    None => why_unmatched(&engine, outcome.record),
                },
                updates: changes
                    .take()
                    .into_iter()
                    .filter_map(|(slot, change)| update(&table, slot, change))
                    .collect(),
            });
        },
    );
    explanations
}

/// What the rule that decides on a message captures, by name.
fn captures(engine: &Engine, scratch: &mut Scratch, record: &Record<'_>) -> Map<String, Value> {
    let rules = engine.rules();
    let mut captures = Map::new();
    engine.matcher().find(record, scratch, |found| {
        let rule = &rules.rules[found.rule.0 as usize];
        let value = |(variable, name): (usize, &String)| {
            let value = found.capture(variable, record.message)?;
            Some((name.clone(), String::from_utf8_lossy(value).into()))
        };
        captures = rule
            .variables
            .iter()
            .enumerate()
            .filter_map(value)
            .collect();
        rule.go_on
    });
    captures
}

/// Why no rule matches.
fn why_unmatched(engine: &Engine, record: &Record<'_>) -> Option<String> {
    let rules = engine.rules();
    if let Some(nearest) = nearest(rules, record) {
        return Some(nearest);
    }
    let program = String::from_utf8_lossy(record.program);
    let is_unknown = rules.programs.iter().all(|known| known.name != program);
    (is_unknown && !program.is_empty()).then(|| {
        format!("no pack reads the program `{program}`; its lines count as program=\"other\"")
    })
}

fn update(table: &Table, slot: Slot, change: Change) -> Option<Value> {
    let (spec, test, values) = table.describe(slot)?;
    let mut labels: Map<String, Value> = spec
        .family
        .labels
        .iter()
        .zip(values)
        .map(|(name, value)| (name.to_string(), Value::from(&**value)))
        .collect();
    if test {
        labels.insert("test".into(), "true".into());
    }
    let (op, value) = match change {
        Change::Inc(value) => ("inc", value),
        Change::Add(value) => ("add", value),
        Change::Set(value) => ("set", value),
        Change::Clear => ("clear", f64::NAN),
    };
    Some(json!({
        "metric": &*spec.family.name,
        "labels": labels,
        "op": op,
        "value": number(value),
    }))
}

fn record(record: &Record<'_>, appliance: &str, clock: &crate::record::Clock) -> Value {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut fields = Map::new();
    fields.insert("appliance".into(), appliance.into());
    fields.insert("program".into(), text(record.program).into());
    fields.insert(
        "severity".into(),
        record.severity.map(|severity| severity.name()).into(),
    );
    fields.insert(
        "timestamp".into(),
        record.timestamp(clock).map(|time| time.to_string()).into(),
    );
    fields.insert("message".into(), text(record.message).into());
    fields.insert("test".into(), record.test.into());
    for (name, value) in [
        ("host", record.host.unwrap_or_default()),
        ("facility", record.facility),
        ("tag", record.tag),
        ("structured_data", record.structured),
        ("app_severity", record.app_severity),
        ("code", record.code),
    ] {
        if !value.is_empty() {
            fields.insert(name.into(), text(value).into());
        }
    }
    for (name, count, usual) in [
        ("repeat", record.repeat, 1),
        ("repeat_last", record.repeat_last, 0),
    ] {
        if count != usual {
            fields.insert(name.into(), count.into());
        }
    }
    fields.into()
}

/// Whole numbers without a fraction, as a person would write them.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 9e15 {
        Value::from(value as i64)
    } else {
        // What is no number is null.
        Value::from(value)
    }
}

impl Explanation {
    /// One line of JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// A few lines for a person; `rules` are those that explained.
    pub fn to_text(&self, rules: &RuleSet) -> String {
        use std::fmt::Write as _;
        let mut out = String::new();
        let fields = self.record.as_object();
        for (name, value) in fields
            .into_iter()
            .flatten()
            .filter(|(_, value)| !value.is_null())
        {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            let _ = writeln!(out, "  {name:<16} {value}");
        }
        match &self.rule {
            Some(rule) => {
                let _ = writeln!(out, "  {:<16} {rule}", "rule");
                if let Some(rule) = rules.rules.iter().find(|known| *known.id == **rule)
                    && !rule.help.is_empty()
                {
                    let _ = writeln!(out, "  {:<16} {}", "meaning", rule.help);
                }
                if !self.rules.is_empty() {
                    let _ = writeln!(out, "  {:<16} {}", "all rules", self.rules.join(", "));
                }
            }
            None => {
                let _ = writeln!(out, "  {:<16} none", "rule");
                if let Some(nearest) = &self.nearest {
                    let _ = writeln!(out, "  {:<16} {nearest}", "nearest");
                }
            }
        }
        for (name, value) in &self.captures {
            let _ = writeln!(
                out,
                "  {:<16} {name} = {}",
                "capture",
                value.as_str().unwrap_or_default()
            );
        }
        for update in &self.updates {
            let labels: Vec<String> = update["labels"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            let change = match update["op"].as_str() {
                Some("clear") => "is removed".to_owned(),
                Some("set") => format!("= {}", update["value"]),
                _ => format!("+= {}", update["value"]),
            };
            let metric = update["metric"].as_str().unwrap_or_default();
            let labels = labels.join(",");
            let _ = writeln!(out, "  {:<16} {metric}{{{labels}}} {change}", "update");
        }
        out
    }
}
