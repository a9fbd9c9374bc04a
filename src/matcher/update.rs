//! What a matching rule changes in the series table.
//!
//! Most updates depend on few captures, and the same captures come again and again. The series an update leads to are
//! therefore remembered under the captures as they stand in the message: transforms, maps and conditions run once for
//! each new combination, and after that an update is a look-up and an addition. Memory of that is bounded: when it is
//! full it is forgotten and learnt anew.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::hash::{BuildHasher, Hasher};
use std::sync::{Mutex, MutexGuard};

use arrayvec::ArrayVec;
use hashbrown::{DefaultHashBuilder, HashTable};
use memchr::memchr2;

use super::Found;
use crate::metric::{ApplianceId, Domain, MetricId, Slot, Table, Tally, lock};
use crate::record::{Programs, Record, starts_with};
use crate::rules::{
    Comparison, Field, From, If, Let, Part, Rule, RuleId, RuleSet, Text, Update, Verb, Worst,
};

/// Combinations of captures remembered, over all rules.
const REMEMBERED_MAX: usize = 1 << 16;
/// Bytes of captures remembered.
const REMEMBERED_BYTES_MAX: usize = 8 << 20;
/// Longest combination that is remembered, bytes.
const KEY_BYTES_MAX: usize = 1 << 10;
/// Values in a combination that is remembered.
const SOURCES_MAX: usize = 16;
/// State sets and comparisons remembered.
const PLANS_MAX: usize = 1 << 14;

/// What was not looked up yet.
const UNKNOWN: u32 = Slot::UNKNOWN.0;

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

/// What follows from the updates of all rules, ready to run on one table. What they say stays in the [`RuleSet`].
#[derive(Debug)]
pub struct Updates {
    /// By rule.
    rules: Box<[Compiled]>,
    /// Where the metrics of the rules begin among those of the table.
    first: u32,
    /// How many updates there are that depend on the appliance alone.
    fixed_len: usize,
}

/// What one thread remembers of updates to one table, open to forgetting.
#[derive(Debug, Default)]
pub struct Updater {
    memory: Memory,
    /// Negative amounts for a counter, by rule.
    negative_amounts: Vec<(RuleId, u64)>,
}

#[derive(Debug)]
struct Compiled {
    /// As the rule has them.
    updates: Box<[Ready]>,
    groups: Box<[Group]>,
    /// Some update wants the line's own time.
    needs_time: bool,
}

/// Updates of a rule that depend on the same captures and fields.
#[derive(Debug)]
struct Group {
    /// Among the groups of all rules.
    number: u32,
    sources: Box<[Source]>,
    /// How many updates it has.
    len: usize,
}

#[derive(Debug)]
struct Ready {
    depends: Depends,
    /// The series to be changed, and their values, are remembered together.
    is_planned: bool,
}

/// Something that decides which series an update leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// A capture or field, as it stands in the line.
    Raw(From),
    /// What a comparison comes to, by its place among the `let`s: the numbers hardly repeat, but that does.
    Compared(usize),
    /// A parameter, by its place among the `let`s.
    Param(usize),
}

/// What decides which series an update leads to, and where that is remembered.
#[derive(Clone, Copy, Debug)]
enum Depends {
    /// The appliance alone: a place in [`Memory::fixed`].
    Nothing(usize),
    /// Captures and fields: a group of the rule, and a place in its row.
    On(usize, usize),
    /// The time of the line. Nothing is remembered.
    Everything,
}

/// Groups of one rule. If there would be more, all updates are one group, so that a line costs few look-ups.
const GROUPS_MAX: usize = 3;

/// All that one line offers to a text.
struct Line<'a> {
    rules: &'a RuleSet,
    rule: &'a Rule,
    record: &'a Record<'a>,
    found: &'a Found,
    programs: &'a Programs,
    timestamp: Option<i64>,
    /// By `let` its value, once it is worked out.
    lets: OnceCell<Vec<OnceCell<Option<String>>>>,
}

impl Updates {
    /// Updates for a table that was made with the same rule set; metrics of rules are the table's from `first` on.
    pub fn new(rules: &RuleSet, first: u32) -> Self {
        let (mut groups, mut fixed_len) = (0, 0);
        let compile = |rule: &Rule| {
            let sources: Vec<_> = rule.updates.iter().map(|of| sources(rule, of)).collect();
            let mut distinct: Vec<Vec<Source>> = Vec::new();
            for sources in sources
                .iter()
                .flatten()
                .filter(|sources| !sources.is_empty())
            {
                if !distinct.contains(sources) {
                    distinct.push(sources.clone());
                }
            }
            if distinct.len() > GROUPS_MAX {
                let mut all: Vec<Source> = Vec::new();
                for source in distinct.into_iter().flatten() {
                    if !all.contains(&source) {
                        all.push(source);
                    }
                }
                distinct = vec![all];
            }
            let group = |sources: Vec<Source>| {
                groups += 1;
                Group {
                    number: groups - 1,
                    sources: sources.into(),
                    len: 0,
                }
            };
            let mut own: Box<[Group]> = distinct.into_iter().map(group).collect();
            let ready = |(update, sources): (&Update, Option<Vec<Source>>)| {
                let depends = match sources {
                    None => Depends::Everything,
                    Some(sources) if sources.is_empty() => {
                        fixed_len += 1;
                        Depends::Nothing(fixed_len - 1)
                    }
                    Some(sources) => {
                        let known = own.iter().position(|group| *group.sources == *sources);
                        // If it is not there, the one that holds all.
                        let at = known.unwrap_or(0);
                        own[at].len += 1;
                        Depends::On(at, own[at].len - 1)
                    }
                };
                let is_planned = match &update.verb {
                    Verb::States { .. } | Verb::Worst(_) => true,
                    // The value comes to the same whenever the series does.
                    Verb::Set(value) => match depends {
                        Depends::On(at, _) => {
                            let own = &own[at].sources;
                            value.constant().is_none()
                                && sources_of(rule, value.sources().collect())
                                    .is_some_and(|all| all.iter().all(|one| own.contains(one)))
                        }
                        Depends::Nothing(_) | Depends::Everything => false,
                    },
                    Verb::Inc | Verb::Add(_) | Verb::Time => false,
                };
                Ready {
                    depends,
                    is_planned,
                }
            };
            Compiled {
                updates: rule.updates.iter().zip(sources).map(ready).collect(),
                groups: own,
                needs_time: rule
                    .updates
                    .iter()
                    .any(|update| matches!(update.verb, Verb::Time)),
            }
        };
        Self {
            rules: rules.rules.iter().map(compile).collect(),
            first,
            fixed_len,
        }
    }

    /// The table's number of a metric of the rules.
    fn metric(&self, metric: usize) -> MetricId {
        MetricId(self.first + metric as u32)
    }

    /// How many series were ever born whose coming changes what a plan for this update would be.
    fn births(&self, update: &Update, table: &Table) -> u64 {
        let own = table.births(self.metric(update.metric));
        match &update.verb {
            Verb::Worst(others) => others.iter().fold(own, |sum, other| {
                sum + table.births(self.metric(other.metric))
            }),
            _ => own,
        }
    }
}

/// Counts one amount of a rule.
#[cold]
fn refuse(negative_amounts: &mut Vec<(RuleId, u64)>, rule: RuleId) {
    match negative_amounts
        .iter_mut()
        .find(|(known, _)| *known == rule)
    {
        Some((_, count)) => *count += 1,
        None => negative_amounts.push((rule, 1)),
    }
}

impl Updater {
    /// How many amounts of each rule were negative, and so not added, since this was last asked.
    pub fn take_negative_amounts(&mut self) -> Vec<(RuleId, u64)> {
        std::mem::take(&mut self.negative_amounts)
    }

    /// Forgets all slots: the table has moved on to another epoch.
    pub fn forget(&mut self) {
        self.memory.clear();
    }

    /// Does what the rule that was found says. `updates` were made of these rules; `timestamp` is the line's own time in
    /// seconds since 1970, asked for only when a rule wants it. Every change is told to `each`.
    ///
    /// Additions go into the tally. What depends on the order of an appliance's lines, and series that are new, go into
    /// the table at once.
    #[inline]
    #[expect(
        clippy::too_many_arguments,
        reason = "one call site; a struct for it would be taken apart at once"
    )]
    pub fn apply(
        &mut self,
        rules: &RuleSet,
        updates: &Updates,
        found: &Found,
        record: &Record<'_>,
        programs: &Programs,
        appliance: ApplianceId,
        timestamp: impl FnOnce() -> Option<i64>,
        tally: &mut Tally,
        table: &Mutex<Table>,
        mut each: impl FnMut(Slot, Change),
    ) {
        let at = found.rule.0 as usize;
        let Some((rule, compiled)) = rules.rules.get(at).zip(updates.rules.get(at)) else {
            return;
        };
        if rule.updates.is_empty() {
            return;
        }
        if self.memory.is_full() {
            self.memory.clear();
        }
        let line = Line {
            rules,
            rule,
            record,
            found,
            programs,
            timestamp: if compiled.needs_time {
                timestamp()
            } else {
                None
            },
            lets: OnceCell::new(),
        };
        let times = f64::from(record.repeat.max(1));
        let mut table = Lazily { table, guard: None };
        // By group of the rule its row in the memory, once it is looked up.
        let mut rows: ArrayVec<Option<usize>, GROUPS_MAX> = ArrayVec::new();
        for (update, ready) in rule.updates.iter().zip(&compiled.updates) {
            let change = match &update.verb {
                _ if ready.is_planned => None,
                Verb::Inc => Some(Change::Inc(times)),
                Verb::Add(value) => line.number(value).and_then(|amount| {
                    if amount < 0.0 {
                        refuse(&mut self.negative_amounts, found.rule);
                        return None;
                    }
                    Some(Change::Add(amount * times))
                }),
                Verb::Set(value) => line.number(value).map(Change::Set),
                Verb::Time => line.timestamp.map(|seconds| Change::Set(seconds as f64)),
                Verb::States { .. } | Verb::Worst(_) => None,
            };
            // A gauge is made only when there is a value for it.
            if change.is_none() && !ready.is_planned {
                continue;
            }
            let cell = match ready.depends {
                _ if record.test => None,
                Depends::Everything => None,
                Depends::Nothing(at) => Some(self.memory.fixed(appliance, at, updates.fixed_len)),
                Depends::On(group, place) => {
                    while rows.len() <= group {
                        let group = &compiled.groups[rows.len()];
                        let row = self.memory.row(group, &line, appliance);
                        rows.push(row);
                    }
                    rows[group].map(|row| row + place)
                }
            };
            let known = cell.map_or(UNKNOWN, |cell| self.memory.cells[cell]);
            let Some(change) = change else {
                let table = table.get();
                match self.memory.plans.get(known as usize) {
                    Some(plan) if plan.births == updates.births(update, table) => {
                        plan.run(table, &mut each);
                    }
                    _ => {
                        let plan = plan(updates, update, &line, appliance, table);
                        plan.run(table, &mut each);
                        self.memory.keep(cell, known, plan);
                    }
                }
                continue;
            };
            let slot = match known {
                UNKNOWN => {
                    let slot = resolve(updates, update, &line, appliance, table.get());
                    if let Some(cell) = cell {
                        self.memory.cells[cell] = slot.0;
                    }
                    slot
                }
                known => Slot(known),
            };
            if slot == Slot::NONE {
                continue;
            }
            match change {
                Change::Inc(amount) | Change::Add(amount) => tally.add(slot, amount),
                Change::Set(value) => table.get().set(slot, value),
            }
            each(slot, change);
        }
    }
}

/// A table that is locked for the rest of a line once something has to be done at once.
struct Lazily<'t> {
    table: &'t Mutex<Table>,
    guard: Option<MutexGuard<'t, Table>>,
}

impl Lazily<'_> {
    #[inline]
    fn get(&mut self) -> &mut Table {
        self.guard.get_or_insert_with(|| lock(self.table))
    }
}

/// What an update does of which more than the series is remembered, as long as no series is born that it would have to
/// know.
#[derive(Debug, Default)]
struct Plan {
    births: u64,
    /// Series and their new values, in order.
    set: Vec<(Slot, f64)>,
    /// A series, and those of which the largest weight among them that are 1 becomes its value.
    worst: Option<(Slot, Vec<(Slot, f64)>)>,
}

impl Plan {
    fn run(&self, table: &mut Table, each: &mut impl FnMut(Slot, Change)) {
        // What these weigh is not among what is set.
        let worst = self.worst.as_ref().map(|(slot, weighed)| {
            let open = weighed.iter().filter(|(other, _)| table.get(*other) == 1.0);
            (
                *slot,
                open.fold(0.0, |worst: f64, (_, weight)| worst.max(*weight)),
            )
        });
        for (slot, value) in self.set.iter().copied().chain(worst) {
            table.set(slot, value);
            if slot != Slot::NONE {
                each(slot, Change::Set(value));
            }
        }
    }
}

/// The series that an update leads to: [`Slot::NONE`] if a condition does not hold or a label is empty.
fn resolve(
    updates: &Updates,
    update: &Update,
    line: &Line<'_>,
    appliance: ApplianceId,
    table: &mut Table,
) -> Slot {
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
    let metric = updates.metric(update.metric);
    table.series(metric, appliance, line.record.test, &labels)
}

/// What an update does of which more than the series is remembered. Makes the series.
fn plan(
    updates: &Updates,
    update: &Update,
    line: &Line<'_>,
    appliance: ApplianceId,
    table: &mut Table,
) -> Plan {
    let mut plan = Plan::default();
    fill(&mut plan, updates, update, line, appliance, table);
    plan.births = updates.births(update, table);
    plan
}

/// Nothing is planned if a condition does not hold or a label is empty, hence the option.
fn fill(
    plan: &mut Plan,
    updates: &Updates,
    update: &Update,
    line: &Line<'_>,
    appliance: ApplianceId,
    table: &mut Table,
) -> Option<()> {
    let metric = updates.metric(update.metric);
    let test = line.record.test;
    if !line.holds(&update.conditions) {
        return None;
    }
    let labels = line.labels(&update.labels)?;
    let mut labels: Vec<&str> = labels
        .iter()
        .map(|label| label.as_deref().unwrap_or_default())
        .collect();
    match &update.verb {
        Verb::States {
            label,
            active,
            split,
        } => {
            let active = line.text(active).filter(|active| !active.is_empty())?;
            let active: Vec<&str> = match split {
                Some(split) => active
                    .split(split.as_str())
                    .map(str::trim)
                    .filter(|item| !item.is_empty())
                    .collect(),
                None => vec![active.as_ref()],
            };
            let there: Vec<(Slot, bool)> = table
                .siblings(metric, appliance, test, &labels, *label)
                .map(|(slot, value)| (slot, active.contains(&value)))
                .collect();
            let others = there.iter().filter(|(_, active)| !active);
            plan.set.extend(others.map(|(slot, _)| (*slot, 0.0)));
            if let Domain::OneOf(values) = &table.spec(metric).domains[*label] {
                let (values, mut labels) = (values.clone(), labels.clone());
                for value in values.iter().filter(|value| !active.contains(&&***value)) {
                    labels[*label] = value;
                    let slot = table.series(metric, appliance, test, &labels);
                    if there.iter().all(|(known, _)| *known != slot) {
                        plan.set.push((slot, 0.0));
                    }
                }
            }
            for value in active {
                labels[*label] = value;
                let slot = table.series(metric, appliance, test, &labels);
                plan.set.push((slot, 1.0));
            }
        }
        Verb::Worst(groups) => {
            let weighed = groups
                .iter()
                .flat_map(|group| weighed(updates, group, line, appliance, table))
                .collect();
            let slot = table.series(metric, appliance, test, &labels);
            plan.worst = Some((slot, weighed));
        }
        Verb::Set(value) => {
            let value = line.number(value)?;
            let slot = table.series(metric, appliance, test, &labels);
            plan.set.push((slot, value));
        }
        Verb::Inc | Verb::Add(_) | Verb::Time => {}
    }
    Some(())
}

/// The group's series that are there, and their weights.
fn weighed(
    updates: &Updates,
    group: &Worst,
    line: &Line<'_>,
    appliance: ApplianceId,
    table: &Table,
) -> Vec<(Slot, f64)> {
    let Some(labels) = line.labels(&group.labels) else {
        return Vec::new();
    };
    let mut labels: Vec<&str> = labels
        .iter()
        .map(|label| label.as_deref().unwrap_or_default())
        .collect();
    let metric = updates.metric(group.metric);
    let mut weighed = Vec::new();
    for (value, weight) in &group.weights {
        labels[group.label] = value;
        let found = table.find(metric, appliance, line.record.test, &labels);
        weighed.extend(found.map(|slot| (slot, *weight)));
    }
    weighed
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
                let lets = &self.rule.lets;
                match lets.iter().position(|(made, _)| *made == variable) {
                    Some(at) => return self.made(at).map(Cow::Borrowed),
                    None => String::from_utf8_lossy(self.raw(from)),
                }
            }
            From::Field(Field::Event) => Cow::Borrowed(&*self.rule.event),
            From::Field(Field::Pack) => Cow::Borrowed(&*self.rules.packs[self.rule.pack].name),
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
        let value = match self.plain(text) {
            Some(plain) => number(plain),
            None => number(&self.text(text)?),
        }?;
        value.is_finite().then_some(value)
    }

    /// A text that is a constant, or a capture as it stands in the line.
    #[inline]
    fn plain(&self, text: &'a Text) -> Option<&'a str> {
        match text.parts.as_slice() {
            [Part::Literal(text)] => Some(text),
            [Part::Value(from @ From::Variable(variable), transforms)]
                if transforms.is_empty()
                    && self.rule.lets.iter().all(|(made, _)| made != variable) =>
            {
                std::str::from_utf8(self.raw(*from)).ok()
            }
            _ => None,
        }
    }

    /// The value of a `let` that is a comparison.
    #[inline]
    fn compared(&self, at: usize) -> Option<&str> {
        if let Let::Compare(comparison, left, right) = &self.rule.lets.get(at)?.1
            && let Some((left, right)) = self.plain(left).zip(self.plain(right))
        {
            return Some(compare(*comparison, number(left)?, number(right)?));
        }
        self.made(at)
    }

    fn holds(&self, conditions: &[If]) -> bool {
        conditions.iter().all(|condition| {
            let value = self.get(condition.from).unwrap_or_default();
            condition.values.iter().any(|wanted| *wanted == value) != condition.negated
        })
    }

    /// The value of a `let` that is a parameter: the first of its names counts, in the structured data before the message.
    fn param(&self, at: usize) -> Option<Cow<'a, [u8]>> {
        let Let::Param(names) = &self.rule.lets.get(at)?.1 else {
            return None;
        };
        match param(self.record.structured, names) {
            Some((0, value)) => Some(value),
            Some((later, value)) => param(self.record.message, &names[..later])
                .map(|(_, earlier)| earlier)
                .or(Some(value)),
            None => param(self.record.message, names).map(|(_, value)| value),
        }
    }

    /// The value of a `let`, worked out with those before it.
    fn made(&self, at: usize) -> Option<&str> {
        let lets = &self.rule.lets;
        let made = self
            .lets
            .get_or_init(|| lets.iter().map(|_| OnceCell::new()).collect());
        made.get(at)?
            .get_or_init(|| {
                let get = |from: From| match from {
                    From::Variable(variable) => {
                        let before = lets[..at].iter().rposition(|(made, _)| *made == variable);
                        match before {
                            Some(before) => self.made(before).map(Cow::Borrowed),
                            None => {
                                let text = String::from_utf8_lossy(self.raw(from));
                                (!text.is_empty()).then_some(text)
                            }
                        }
                    }
                    From::Field(_) => self.get(from),
                };
                match &lets[at].1 {
                    Let::Text(text) => text.fill(get).map(Cow::into_owned),
                    Let::First(texts) => texts
                        .iter()
                        .find_map(|text| text.fill(get).filter(|value| !value.is_empty()))
                        .map(Cow::into_owned),
                    Let::Param(_) => self
                        .param(at)
                        .map(|value| String::from_utf8_lossy(&value).into_owned()),
                    Let::Compare(comparison, left, right) => {
                        let number = |text: &'a Text| match self.plain(text) {
                            Some(plain) => number(plain),
                            None => number(&text.fill(get)?),
                        };
                        number(left)
                            .zip(number(right))
                            .map(|(left, right)| compare(*comparison, left, right).to_owned())
                    }
                }
            })
            .as_deref()
    }
}

/// A number as `f64` reads it, with a short cut for the short whole ones that most are.
#[inline]
fn number(text: &str) -> Option<f64> {
    const DIGITS_MAX: usize = 9;
    let whole = |digits: &[u8]| {
        digits.iter().try_fold(0, |sum: u32, byte| {
            let digit = byte.wrapping_sub(b'0');
            (digit < 10).then(|| sum * 10 + u32::from(digit))
        })
    };
    if let digits @ [_, ..] = text.as_bytes()
        && digits.len() <= DIGITS_MAX
        && let Some(number) = whole(digits)
    {
        return Some(f64::from(number));
    }
    text.trim().parse().ok()
}

fn compare(comparison: Comparison, left: f64, right: f64) -> &'static str {
    let holds = match comparison {
        Comparison::Le => left <= right,
        Comparison::Lt => left < right,
        Comparison::Ge => left >= right,
        Comparison::Gt => left > right,
        Comparison::Eq => left == right,
        Comparison::Ne => left != right,
    };
    if holds { "1" } else { "0" }
}

/// The first of these names that a text gives a value to, by its place, and that value: `name=value` or `name="value"`; a
/// quote or bracket in a quoted value is escaped by a backslash. Names are compared without case, and text inside of
/// quotes is never taken for a name.
fn param<'t>(text: &'t [u8], mut names: &[String]) -> Option<(usize, Cow<'t, [u8]>)> {
    let mut best = None;
    let mut at = 0;
    // A word begins here or behind, and whether it may begin right here.
    let (mut floor, mut here) = (0, true);
    while !names.is_empty()
        && let Some(found) = memchr2(b'"', b'=', text.get(at..).unwrap_or_default())
    {
        at += found;
        if text[at] == b'"' {
            at = quote_end(text, at + 1) + 1;
            (floor, here) = (at, false);
            continue;
        }
        let parts = |byte: &u8| matches!(byte, b' ' | b'\t' | b',' | b'[' | b']' | b'(' | b';');
        let before = &text[floor..at];
        let word = match before.iter().rposition(parts) {
            Some(part) => Some(&before[part + 1..]),
            None => here.then_some(before),
        };
        let is_quoted = text.get(at + 1) == Some(&b'"');
        let (start, end) = if is_quoted {
            (at + 2, quote_end(text, at + 2))
        } else {
            let rest = &text[at + 1..];
            let parts = |byte: &u8| matches!(byte, b' ' | b'\t' | b',' | b']');
            let len = rest.iter().position(parts).unwrap_or(rest.len());
            (at + 1, at + 1 + len)
        };
        let named = |word: &[u8]| {
            names
                .iter()
                .position(|name| word.eq_ignore_ascii_case(name.as_bytes()))
        };
        if let Some(place) = word.and_then(named) {
            let value = &text[start..end];
            let value = match is_quoted {
                true => without_escapes(value),
                false => Cow::Borrowed(value),
            };
            best = Some((place, value));
            names = &names[..place];
        }
        at = end + usize::from(is_quoted);
        (floor, here) = (at, true);
    }
    best
}

/// Whether a backslash and what follows it stand for the latter.
fn is_escape(text: &[u8]) -> bool {
    matches!(text, [b'\\', b'"' | b'\\' | b']', ..])
}

/// Where the quote that was opened before `start` is closed, or the end of the text.
fn quote_end(text: &[u8], start: usize) -> usize {
    let mut at = start;
    while let Some(rest) = text.get(at..)
        && let Some(found) = memchr2(b'"', b'\\', rest)
    {
        at += found;
        if text[at] == b'"' {
            return at;
        }
        at += 1 + usize::from(is_escape(&text[at..]));
    }
    text.len()
}

fn without_escapes(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'\\') {
        return Cow::Borrowed(text);
    }
    let mut value = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(rest @ [byte, ..]) = text.get(at..) {
        let escaped = usize::from(is_escape(rest));
        value.push(*rest.get(escaped).unwrap_or(byte));
        at += 1 + escaped;
    }
    Cow::Owned(value)
}

/// What decides which series an update leads to; none if it may be anything in the line.
fn sources(rule: &Rule, update: &Update) -> Option<Vec<Source>> {
    let labels = |texts: &[Option<Text>]| -> Vec<From> {
        texts.iter().flatten().flat_map(Text::sources).collect()
    };
    let mut visit: Vec<From> = labels(&update.labels);
    visit.extend(update.conditions.iter().map(|condition| condition.from));
    match &update.verb {
        Verb::States { active, .. } => visit.extend(active.sources()),
        Verb::Worst(others) => {
            visit.extend(others.iter().flat_map(|other| labels(&other.labels)));
        }
        Verb::Inc | Verb::Add(_) | Verb::Set(_) | Verb::Time => {}
    }
    sources_of(rule, visit)
}

/// The same for what texts name.
fn sources_of(rule: &Rule, mut visit: Vec<From>) -> Option<Vec<Source>> {
    let mut sources: Vec<Source> = Vec::new();
    while let Some(from) = visit.pop() {
        let mut add = |source| {
            if !sources.contains(&source) {
                sources.push(source);
            }
        };
        match from {
            From::Variable(variable) => {
                let mut raw = true;
                for (at, (made, how)) in rule.lets.iter().enumerate() {
                    if *made != variable {
                        continue;
                    }
                    raw = false;
                    match how {
                        Let::Text(text) => visit.extend(text.sources()),
                        Let::First(texts) => visit.extend(texts.iter().flat_map(Text::sources)),
                        Let::Compare(..) => add(Source::Compared(at)),
                        Let::Param(_) => add(Source::Param(at)),
                    }
                }
                if raw {
                    add(Source::Raw(from));
                }
            }
            From::Field(Field::Event | Field::Pack) => {}
            From::Field(Field::Timestamp) => return None,
            From::Field(_) => add(Source::Raw(from)),
        }
    }
    Some(sources)
}

/// What captures lead to, open to forgetting.
#[derive(Debug, Default)]
struct Memory {
    /// By appliance where its updates that depend on nothing else begin among the cells.
    fixed: Vec<usize>,
    /// By combination its row.
    rows: HashTable<Row>,
    keys: Vec<u8>,
    hasher: DefaultHashBuilder,
    /// Slots, or for updates of several series the number of a plan; [`UNKNOWN`] before the first time.
    cells: Vec<u32>,
    plans: Vec<Plan>,
}

/// What a combination led to.
#[derive(Debug)]
struct Row {
    hash: u64,
    group: u32,
    appliance: ApplianceId,
    /// Where the values begin among the keys, each behind its length.
    key: u32,
    /// Where the row begins among the cells.
    start: u32,
}

impl Row {
    /// Whether it is that of these values, as many as it was learnt from.
    #[inline]
    fn has(&self, keys: &[u8], values: &[Option<&[u8]>]) -> bool {
        let mut rest = keys.get(self.key as usize..).unwrap_or_default();
        values.iter().all(|value| {
            let Some((len, after)) = rest.split_first_chunk::<4>() else {
                return false;
            };
            let text = value.unwrap_or_default();
            let is_same = u32::from_le_bytes(*len) == len_of(*value) && starts_with(after, text);
            rest = after.get(text.len()..).unwrap_or_default();
            is_same
        })
    }
}

/// The values of a group's sources; a value may be absent.
type Values<'l> = ArrayVec<Option<&'l [u8]>, SOURCES_MAX>;

/// The length of a value as it is remembered. No text is so long as to be taken for an absent one.
fn len_of(value: Option<&[u8]>) -> u32 {
    value.map_or(u32::MAX, |value| value.len() as u32)
}

impl Memory {
    /// Whether it is time to forget. What one line adds fits in between.
    fn is_full(&self) -> bool {
        self.rows.len() >= REMEMBERED_MAX
            || self.keys.len() >= REMEMBERED_BYTES_MAX
            || self.plans.len() >= PLANS_MAX
    }

    fn clear(&mut self) {
        self.fixed.clear();
        self.rows.clear();
        self.keys.clear();
        self.cells.clear();
        self.plans.clear();
    }

    /// The cell of an update that depends on the appliance alone.
    #[inline]
    fn fixed(&mut self, appliance: ApplianceId, at: usize, len: usize) -> usize {
        let number = appliance.0 as usize;
        if self
            .fixed
            .get(number)
            .is_none_or(|start| *start == usize::MAX)
        {
            if self.fixed.len() <= number {
                self.fixed.resize(number + 1, usize::MAX);
            }
            self.fixed[number] = self.cells.len();
            self.cells.resize(self.cells.len() + len, UNKNOWN);
        }
        self.fixed[number] + at
    }

    /// Where the cells of a group begin for what this line captured; none if that cannot be remembered: it is too long, or
    /// does not stand in the line as it is.
    #[inline]
    fn row(&mut self, group: &Group, line: &Line<'_>, appliance: ApplianceId) -> Option<usize> {
        let mut values = Values::new();
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u64(u64::from(group.number) << 32 | u64::from(appliance.0));
        for source in &group.sources {
            let value = match source {
                Source::Raw(from) => Some(line.raw(*from)),
                Source::Compared(at) => line.compared(*at).map(str::as_bytes),
                Source::Param(at) => match line.param(*at) {
                    Some(Cow::Owned(_)) => return None,
                    Some(Cow::Borrowed(value)) => Some(value),
                    None => None,
                },
            };
            hasher.write(value.unwrap_or_default());
            values.try_push(value).ok()?;
        }
        let hash = hasher.finish();
        let found = self.rows.find(hash, |row| {
            row.hash == hash
                && row.group == group.number
                && row.appliance == appliance
                && row.has(&self.keys, &values)
        });
        match found {
            Some(row) => Some(row.start as usize),
            None => self.learn(group, appliance, &values, hash),
        }
    }

    #[cold]
    fn learn(
        &mut self,
        group: &Group,
        appliance: ApplianceId,
        values: &Values<'_>,
        hash: u64,
    ) -> Option<usize> {
        let bytes: usize = values.iter().flatten().map(|value| value.len()).sum();
        if bytes > KEY_BYTES_MAX {
            return None;
        }
        let start = self.cells.len();
        let row = Row {
            hash,
            group: group.number,
            appliance,
            key: self.keys.len() as u32,
            start: start as u32,
        };
        for value in values {
            self.keys.extend_from_slice(&len_of(*value).to_le_bytes());
            self.keys.extend_from_slice(value.unwrap_or_default());
        }
        self.cells.resize(start + group.len, UNKNOWN);
        self.rows.insert_unique(hash, row, |row| row.hash);
        Some(start)
    }

    /// Remembers a plan in place of the one with the number `known`, if there is one.
    #[cold]
    fn keep(&mut self, cell: Option<usize>, known: u32, plan: Plan) {
        let Some(cell) = cell else { return };
        match self.plans.get_mut(known as usize) {
            Some(old) => *old = plan,
            None => {
                self.cells[cell] = self.plans.len() as u32;
                self.plans.push(plan);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{number, param};

    #[test]
    fn numbers_are_what_the_library_reads() {
        for text in [
            "",
            "0",
            "007",
            "123456789",
            "1234567890",
            "-1",
            "+3",
            "1.5",
            " 7 ",
            "1e3",
            "x",
            "1x",
            "١",
        ] {
            assert_eq!(number(text), text.trim().parse().ok(), "{text}");
        }
    }

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
            let found = param(text, &[name.to_owned()]).map(|(_, value)| value);
            assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{name}");
        }
    }
}
