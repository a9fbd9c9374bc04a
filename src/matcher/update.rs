//! What a matching rule changes in the series table.
//!
//! Most updates depend on few captures, and the same captures come again and again. The series an update leads to is
//! therefore remembered under the captures as they stand in the message: transforms, maps and conditions run once for
//! each new combination, and after that an update is a look-up and an addition. Memory of that is bounded: when it is
//! full it is forgotten and learnt anew.

use std::borrow::Cow;
use std::cell::OnceCell;

use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

use super::Found;
use crate::metric::{ApplianceId, Domain, MetricId, Slot, Table};
use crate::record::{Programs, Record};
use crate::rules::{Comparison, Field, From, If, Let, Rule, RuleSet, Text, Update, Verb, Worst};

/// Combinations of captures remembered, over all updates.
const REMEMBERED_MAX: usize = 1 << 16;
/// Bytes of captures remembered.
const REMEMBERED_BYTES_MAX: usize = 8 << 20;

/// A slot that was not looked up yet.
const UNKNOWN: Slot = Slot(u32::MAX - 1);

/// One change to one series, for `explain` and for `last message repeated`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// A counter went up by this, once for each time the line was seen.
    Inc(f64),
    /// A counter went up by this.
    Add(f64),
    /// A gauge has this value now.
    Set(f64),
}

/// The updates of all rules, ready to run on one table.
#[derive(Debug)]
pub struct Updater {
    /// By rule.
    rules: Vec<Compiled>,
    /// By appliance, then by update: the series of updates that depend on nothing else.
    fixed: Vec<Box<[Slot]>>,
    fixed_len: usize,
    memory: Memory,
    key: Vec<u8>,
    epoch: u32,
    /// Negative amounts for a counter, since last asked.
    faults: u64,
}

#[derive(Debug)]
struct Compiled {
    rule: Rule,
    pack: String,
    updates: Vec<Ready>,
    /// Some update wants the line's own time.
    needs_time: bool,
}

#[derive(Debug)]
struct Ready {
    update: Update,
    number: u32,
    metric: MetricId,
    depends: Depends,
}

/// What decides which series an update leads to.
#[derive(Debug)]
enum Depends {
    /// The appliance alone.
    Nothing,
    /// These captures and fields.
    On(Box<[From]>),
    /// The whole message, or numbers that hardly repeat.
    Everything,
}

/// All that one line offers to a text.
struct Line<'a> {
    rule: &'a Compiled,
    record: &'a Record<'a>,
    found: &'a Found,
    programs: &'a Programs,
    timestamp: Option<i64>,
    lets: OnceCell<Vec<Option<String>>>,
}

impl Updater {
    /// Updates for a table that was made with the same rule set; metrics of rules are the table's from `first` on.
    pub fn new(rules: &RuleSet, first: u32) -> Self {
        let mut number = 0;
        let compiled: Vec<Compiled> = rules
            .rules
            .iter()
            .map(|rule| Compiled {
                pack: rules.packs[rule.pack].name.to_string(),
                needs_time: rule
                    .updates
                    .iter()
                    .any(|update| matches!(update.verb, Verb::Time)),
                updates: rule
                    .updates
                    .iter()
                    .map(|update| {
                        number += 1;
                        Ready {
                            metric: MetricId(first + update.metric as u32),
                            number: number - 1,
                            depends: depends(rule, update),
                            update: update.clone(),
                        }
                    })
                    .collect(),
                rule: rule.clone(),
            })
            .collect();
        let shift = first as usize;
        let mut this = Self {
            rules: compiled,
            fixed: Vec::new(),
            fixed_len: number as usize,
            memory: Memory::default(),
            key: Vec::new(),
            epoch: 0,
            faults: 0,
        };
        this.shift_worst(shift);
        this
    }

    fn shift_worst(&mut self, by: usize) {
        for ready in self.rules.iter_mut().flat_map(|rule| &mut rule.updates) {
            if let Verb::Worst(groups) = &mut ready.update.verb {
                for group in groups {
                    group.metric += by;
                }
            }
        }
    }

    /// How many amounts were negative, and so not added, since this was last asked.
    pub fn take_faults(&mut self) -> u64 {
        std::mem::take(&mut self.faults)
    }

    /// Does what the rule that was found says. `timestamp` is the line's own time in seconds since 1970, asked for only
    /// when a rule wants it. Every change is told to `each`.
    #[inline]
    #[expect(
        clippy::too_many_arguments,
        reason = "one call site; a struct for it would be taken apart at once"
    )]
    pub fn apply(
        &mut self,
        found: &Found,
        record: &Record<'_>,
        programs: &Programs,
        appliance: ApplianceId,
        timestamp: impl FnOnce() -> Option<i64>,
        table: &mut Table,
        mut each: impl FnMut(&Table, Slot, Change),
    ) {
        if self.epoch != table.epoch() {
            self.epoch = table.epoch();
            self.fixed.clear();
            self.memory.clear();
        }
        let Self {
            rules,
            fixed,
            fixed_len,
            memory,
            key,
            faults,
            ..
        } = self;
        let Some(rule) = rules.get(found.rule.0 as usize) else {
            return;
        };
        if rule.updates.is_empty() {
            return;
        }
        let line = Line {
            rule,
            record,
            found,
            programs,
            timestamp: if rule.needs_time { timestamp() } else { None },
            lets: OnceCell::new(),
        };
        let times = f64::from(record.repeat.max(1));
        for ready in &rule.updates {
            let update = &ready.update;
            if matches!(update.verb, Verb::States { .. } | Verb::Worst(_)) {
                several(ready, &line, appliance, table, &mut each);
                continue;
            }
            let change = match &update.verb {
                Verb::Inc => Some(Change::Inc(times)),
                Verb::Add(value) => line.number(value).and_then(|amount| {
                    *faults += u64::from(amount < 0.0);
                    (amount >= 0.0).then_some(Change::Add(amount * times))
                }),
                Verb::Set(value) => line.number(value).map(Change::Set),
                Verb::Time => line.timestamp.map(|seconds| Change::Set(seconds as f64)),
                Verb::States { .. } | Verb::Worst(_) => None,
            };
            // A gauge is made only when there is a value for it.
            let Some(change) = change else { continue };
            let slot = match &ready.depends {
                _ if record.test => resolve(ready, &line, appliance, table),
                Depends::Everything => resolve(ready, &line, appliance, table),
                Depends::Nothing => {
                    let at = appliance.0 as usize;
                    if fixed.len() <= at {
                        fixed.resize_with(at + 1, Default::default);
                    }
                    if fixed[at].is_empty() {
                        fixed[at] = vec![UNKNOWN; *fixed_len].into();
                    }
                    let known = fixed[at][ready.number as usize];
                    if known == UNKNOWN {
                        let slot = resolve(ready, &line, appliance, table);
                        fixed[at][ready.number as usize] = slot;
                        slot
                    } else {
                        known
                    }
                }
                Depends::On(sources) => {
                    key.clear();
                    key.extend_from_slice(&ready.number.to_le_bytes());
                    key.extend_from_slice(&appliance.0.to_le_bytes());
                    for from in sources {
                        let value = line.raw(*from);
                        key.extend_from_slice(&(value.len() as u32).to_le_bytes());
                        key.extend_from_slice(value);
                    }
                    match memory.get(key) {
                        Some(slot) => slot,
                        None => {
                            let slot = resolve(ready, &line, appliance, table);
                            memory.put(key, slot);
                            slot
                        }
                    }
                }
            };
            if slot == Slot::NONE {
                continue;
            }
            match change {
                Change::Inc(amount) | Change::Add(amount) => table.add(slot, amount),
                Change::Set(value) => table.set(slot, value),
            }
            each(table, slot, change);
        }
    }
}

/// The series that an update leads to: [`Slot::NONE`] if a condition does not hold or a label is empty.
fn resolve(ready: &Ready, line: &Line<'_>, appliance: ApplianceId, table: &mut Table) -> Slot {
    let update = &ready.update;
    if !line.holds(&update.conditions) {
        return Slot::NONE;
    }
    let Some(labels) = line.labels(&update.labels) else {
        return Slot::NONE;
    };
    let labels: Vec<&str> = labels
        .iter()
        .map(|label| label.as_deref().unwrap_or_default())
        .collect();
    table.series(ready.metric, appliance, line.record.test, &labels)
}

/// Updates that touch several series: state sets, and the worst of others.
fn several(
    ready: &Ready,
    line: &Line<'_>,
    appliance: ApplianceId,
    table: &mut Table,
    each: &mut impl FnMut(&Table, Slot, Change),
) {
    let update = &ready.update;
    let test = line.record.test;
    if !line.holds(&update.conditions) {
        return;
    }
    let Some(labels) = line.labels(&update.labels) else {
        return;
    };
    let mut labels: Vec<&str> = labels
        .iter()
        .map(|label| label.as_deref().unwrap_or_default())
        .collect();
    let mut set = |table: &mut Table, slot: Slot, value: f64| {
        table.set(slot, value);
        if slot != Slot::NONE {
            each(table, slot, Change::Set(value));
        }
    };
    match &update.verb {
        Verb::States {
            label,
            active,
            split,
        } => {
            let Some(active) = line.text(active).filter(|active| !active.is_empty()) else {
                return;
            };
            let active: Vec<&str> = match split {
                Some(split) => active
                    .split(split.as_str())
                    .map(str::trim)
                    .filter(|item| !item.is_empty())
                    .collect(),
                None => vec![active.as_ref()],
            };
            // What is there goes by its slot, which is most of what is known after the first line.
            let there: Vec<(Slot, Option<usize>)> = table
                .siblings(ready.metric, appliance, test, &labels, *label)
                .map(|(slot, value)| (slot, active.iter().position(|active| *active == value)))
                .collect();
            for (slot, _) in there.iter().filter(|(_, active)| active.is_none()) {
                set(table, *slot, 0.0);
            }
            if let Domain::OneOf(values) = &table.spec(ready.metric).domains[*label]
                && there.len() < values.len()
            {
                let values = values.clone();
                let mut labels = labels.clone();
                for value in values.iter().filter(|value| !active.contains(&&***value)) {
                    labels[*label] = value;
                    let slot = table.series(ready.metric, appliance, test, &labels);
                    if there.iter().all(|(known, _)| *known != slot) {
                        set(table, slot, 0.0);
                    }
                }
            }
            for (index, value) in active.into_iter().enumerate() {
                let known = there.iter().find(|(_, active)| *active == Some(index));
                let slot = match known {
                    Some((slot, _)) => *slot,
                    None => {
                        labels[*label] = value;
                        table.series(ready.metric, appliance, test, &labels)
                    }
                };
                set(table, slot, 1.0);
            }
        }
        Verb::Worst(groups) => {
            let mut worst: f64 = 0.0;
            for group in groups {
                worst = worst.max(weigh(group, line, appliance, table).unwrap_or(0.0));
            }
            let slot = table.series(ready.metric, appliance, test, &labels);
            set(table, slot, worst);
        }
        _ => {}
    }
}

/// The largest weight among the group's series that are 1.
fn weigh(group: &Worst, line: &Line<'_>, appliance: ApplianceId, table: &Table) -> Option<f64> {
    let labels = line.labels(&group.labels)?;
    let mut labels: Vec<&str> = labels
        .iter()
        .map(|label| label.as_deref().unwrap_or_default())
        .collect();
    let metric = MetricId(group.metric as u32);
    let mut worst: f64 = 0.0;
    for (value, weight) in &group.weights {
        labels[group.label] = value;
        let found = table.find(metric, appliance, line.record.test, &labels);
        if found.is_some_and(|slot| table.get(slot) == 1.0) {
            worst = worst.max(*weight);
        }
    }
    Some(worst)
}

impl<'a> Line<'a> {
    /// A capture or field as it stands in the line.
    #[inline]
    fn raw(&self, from: From) -> &'a [u8] {
        match from {
            From::Variable(variable) => self
                .found
                .capture(variable, self.record.message)
                .unwrap_or_default(),
            From::Field(field) => match field {
                Field::Program => self.record.program,
                Field::Host => self.record.host.unwrap_or_default(),
                Field::Severity => self
                    .record
                    .severity
                    .map_or(&b""[..], |severity| severity.name().as_bytes()),
                Field::AppSeverity => self.record.app_severity,
                Field::Code => self.record.code,
                Field::Tag => self.record.tag,
                Field::Facility => self.record.facility,
                Field::Event | Field::Pack | Field::Timestamp => b"",
            },
        }
    }

    fn get(&self, from: From) -> Option<Cow<'_, str>> {
        let text = match from {
            From::Variable(variable) => {
                let made = self
                    .rule
                    .rule
                    .lets
                    .iter()
                    .position(|(made, _)| *made == variable);
                match made {
                    Some(at) => return self.lets().get(at)?.as_deref().map(Cow::Borrowed),
                    None => String::from_utf8_lossy(self.raw(from)),
                }
            }
            From::Field(Field::Event) => Cow::Borrowed(&*self.rule.rule.event),
            From::Field(Field::Pack) => Cow::Borrowed(self.rule.pack.as_str()),
            From::Field(Field::Timestamp) => Cow::Owned(self.timestamp?.to_string()),
            From::Field(Field::Program) => match self.record.program_id {
                Some(id) => Cow::Borrowed(self.programs.name(id)),
                None => String::from_utf8_lossy(self.record.program),
            },
            From::Field(_) => String::from_utf8_lossy(self.raw(from)),
        };
        (!text.is_empty()).then_some(text)
    }

    fn text(&self, text: &'a Text) -> Option<Cow<'_, str>> {
        text.fill(|from| self.get(from))
    }

    fn labels(&self, texts: &'a [Option<Text>]) -> Option<Vec<Option<Cow<'_, str>>>> {
        texts
            .iter()
            .map(|text| match text {
                None => Some(None),
                Some(text) => match self.text(text) {
                    Some(value) if !value.is_empty() => Some(Some(value)),
                    _ => None,
                },
            })
            .collect()
    }

    #[inline]
    fn number(&self, text: &'a Text) -> Option<f64> {
        let value: f64 = self.text(text)?.trim().parse().ok()?;
        value.is_finite().then_some(value)
    }

    fn holds(&self, conditions: &[If]) -> bool {
        conditions.iter().all(|condition| {
            let value = self.get(condition.from).unwrap_or_default();
            condition.values.iter().any(|wanted| *wanted == value) != condition.negated
        })
    }

    /// All `let`s of the rule. Each is worked out with those before it.
    fn lets(&self) -> &[Option<String>] {
        self.lets.get_or_init(|| {
            let lets = &self.rule.rule.lets;
            let mut values: Vec<Option<String>> = Vec::with_capacity(lets.len());
            for (at, (_, how)) in lets.iter().enumerate() {
                let value = {
                    let get = |from: From| match from {
                        From::Variable(variable) => {
                            match lets[..at].iter().rposition(|(made, _)| *made == variable) {
                                Some(before) => values[before].as_deref().map(Cow::Borrowed),
                                None => {
                                    let text = String::from_utf8_lossy(self.raw(from));
                                    (!text.is_empty()).then_some(text)
                                }
                            }
                        }
                        From::Field(_) => self.get(from),
                    };
                    match how {
                        Let::Text(text) => text.fill(get).map(Cow::into_owned),
                        Let::First(texts) => texts
                            .iter()
                            .find_map(|text| text.fill(get).filter(|value| !value.is_empty()))
                            .map(Cow::into_owned),
                        Let::Param(names) => names.iter().find_map(|name| {
                            param(self.record.structured, name)
                                .or_else(|| param(self.record.message, name))
                        }),
                        Let::Compare(comparison, left, right) => {
                            let number = |text: &Text| text.fill(get)?.trim().parse::<f64>().ok();
                            number(left)
                                .zip(number(right))
                                .map(|(left, right)| compare(*comparison, left, right))
                        }
                    }
                };
                values.push(value);
            }
            values
        })
    }
}

fn compare(comparison: Comparison, left: f64, right: f64) -> String {
    let holds = match comparison {
        Comparison::Le => left <= right,
        Comparison::Lt => left < right,
        Comparison::Ge => left >= right,
        Comparison::Gt => left > right,
        Comparison::Eq => left == right,
        Comparison::Ne => left != right,
    };
    if holds { "1" } else { "0" }.to_owned()
}

/// The value of `name=value` or `name="value"`; a quote or bracket in a quoted value is escaped by a backslash. Names
/// are compared without case, and text inside of quotes is never taken for a name.
fn param(text: &[u8], name: &str) -> Option<String> {
    let mut at = 0;
    let mut word = 0;
    while at < text.len() {
        match text[at] {
            b'"' => at = quoted(text, at + 1).1 + 1,
            b'=' => {
                let hit = text[word..at].eq_ignore_ascii_case(name.as_bytes());
                let (value, end) = if text.get(at + 1) == Some(&b'"') {
                    let (value, end) = quoted(text, at + 2);
                    (value, end + 1)
                } else {
                    let end = text[at + 1..]
                        .iter()
                        .position(|byte| matches!(byte, b' ' | b'\t' | b',' | b']'))
                        .map_or(text.len(), |length| at + 1 + length);
                    (text[at + 1..end].to_vec(), end)
                };
                if hit {
                    return Some(String::from_utf8_lossy(&value).into_owned());
                }
                at = end;
                word = at;
            }
            b' ' | b'\t' | b',' | b'[' | b']' | b'(' | b';' => {
                at += 1;
                word = at;
            }
            _ => at += 1,
        }
    }
    None
}

/// The text from `start` to the closing quote, without backslashes before `"`, `\` and `]`; and the quote's position.
fn quoted(text: &[u8], start: usize) -> (Vec<u8>, usize) {
    let mut value = Vec::new();
    let mut at = start;
    while let Some(&byte) = text.get(at) {
        match (byte, text.get(at + 1)) {
            (b'"', _) => return (value, at),
            (b'\\', Some(&next @ (b'"' | b'\\' | b']'))) => {
                value.push(next);
                at += 2;
            }
            _ => {
                value.push(byte);
                at += 1;
            }
        }
    }
    (value, text.len())
}

fn depends(rule: &Rule, update: &Update) -> Depends {
    let mut sources: Vec<From> = Vec::new();
    let mut everything = false;
    let mut visit: Vec<From> = update
        .labels
        .iter()
        .flatten()
        .flat_map(Text::sources)
        .chain(update.conditions.iter().map(|condition| condition.from))
        .collect();
    while let Some(from) = visit.pop() {
        match from {
            From::Variable(variable) => {
                let made = rule.lets.iter().filter(|(made, _)| *made == variable);
                let mut raw = true;
                for (_, how) in made {
                    raw = false;
                    match how {
                        Let::Text(text) => visit.extend(text.sources()),
                        Let::First(texts) => visit.extend(texts.iter().flat_map(Text::sources)),
                        // Numbers hardly repeat, and parameters may be anywhere.
                        Let::Compare(..) | Let::Param(_) => everything = true,
                    }
                }
                if raw && !sources.contains(&from) {
                    sources.push(from);
                }
            }
            From::Field(Field::Event | Field::Pack) => {}
            From::Field(Field::Timestamp) => everything = true,
            From::Field(_) => {
                if !sources.contains(&from) {
                    sources.push(from);
                }
            }
        }
        if everything {
            return Depends::Everything;
        }
    }
    match sources.is_empty() {
        true => Depends::Nothing,
        false => Depends::On(sources.into()),
    }
}

/// Captures to series, open to forgetting.
#[derive(Debug, Default)]
struct Memory {
    table: HashTable<Remembered>,
    keys: Vec<u8>,
    hasher: DefaultHashBuilder,
}

#[derive(Debug)]
struct Remembered {
    hash: u64,
    start: u32,
    len: u32,
    slot: Slot,
}

impl Memory {
    fn clear(&mut self) {
        self.table.clear();
        self.keys.clear();
    }

    #[inline]
    fn get(&self, key: &[u8]) -> Option<Slot> {
        let hash = self.hasher.hash_one(key);
        self.table
            .find(hash, |entry| {
                let (start, len) = (entry.start as usize, entry.len as usize);
                self.keys.get(start..start + len) == Some(key)
            })
            .map(|entry| entry.slot)
    }

    fn put(&mut self, key: &[u8], slot: Slot) {
        if self.table.len() >= REMEMBERED_MAX || self.keys.len() + key.len() > REMEMBERED_BYTES_MAX
        {
            self.clear();
        }
        if key.len() > REMEMBERED_BYTES_MAX {
            return;
        }
        let hash = self.hasher.hash_one(key);
        let start = self.keys.len() as u32;
        self.keys.extend_from_slice(key);
        let entry = Remembered {
            hash,
            start,
            len: key.len() as u32,
            slot,
        };
        self.table.insert_unique(hash, entry, |entry| entry.hash);
    }
}

#[cfg(test)]
mod tests {
    use super::param;

    #[test]
    fn parameters_are_found_outside_of_quotes_alone() {
        let text =
            br#"[junos@2636 vpn-name="a b" msg="id=7, say \"x\"" n=1] id=278, action=Drop last=z"#;
        for (name, expected) in [
            ("vpn-name", Some("a b")),
            ("id", Some("278")),
            ("ACTION", Some("Drop")),
            ("msg", Some("id=7, say \"x\"")),
            ("n", Some("1")),
            ("last", Some("z")),
            ("say", None),
            ("x", None),
        ] {
            assert_eq!(param(text, name).as_deref(), expected, "{name}");
        }
    }
}
