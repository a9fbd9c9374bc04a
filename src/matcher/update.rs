//! What a matching rule changes in the series table.
//!
//! Most updates depend on few captures, and the same captures come again and again. The series an update leads to are
//! therefore remembered under the captures as they stand in the message: transforms, maps and conditions run once for
//! each new combination, and after that an update is a look-up. Memory of that is bounded: when it is full it is
//! forgotten and learnt anew.
//!
//! What a rule counts once for each line is not even added for each line: that a combination was there is counted with it,
//! in one place, and [`Updater::tell`] adds that to all counters it leads to.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::hash::{BuildHasher, Hasher};
use std::sync::{Mutex, MutexGuard};

use arrayvec::ArrayVec;
use hashbrown::{DefaultHashBuilder, HashTable};
use memchr::memchr2;

use super::Found;
use crate::metric::{ApplianceId, Domain, MetricId, Slot, Table, Tally, lock, plausible};
use crate::record::{Programs, Record, starts_with};
use crate::rules::{
    Comparison, Field, From, If, Let, Part, Rule, RuleId, RuleSet, Scope, Text, Update, Verb, Worst,
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
    /// The steps and groups of all rules, one after the other: what a line touches lies close together.
    steps: Box<[Step]>,
    groups: Box<[Group]>,
    /// How many rows of first groups an appliance has.
    own_len: usize,
    /// The metric that counts every rule's matches, by program and event.
    events: MetricId,
    /// Where the metrics of the rules begin among those of the table.
    first: u32,
    /// By metric: the largest amount that one line may add.
    max_amounts: Box<[f64]>,
}

/// What one thread remembers of updates to one table, open to forgetting, and what it counted.
#[derive(Debug, Default)]
pub struct Updater {
    memory: Memory,
    /// Rows whose lines the tally has not heard of.
    counted: Vec<Counted>,
    hits: Hits,
    /// Negative amounts for a counter, by rule.
    negative_amounts: Vec<(RuleId, u64)>,
}

/// A row that has lines.
#[derive(Clone, Copy, Debug)]
struct Counted {
    rule: RuleId,
    /// Among those of all rules.
    group: u32,
    row: u32,
}

/// Matches that nobody was told of yet.
#[derive(Debug, Default)]
struct Hits {
    /// By rule.
    counts: Vec<u64>,
    /// Those that have some.
    rules: Vec<RuleId>,
}

impl Hits {
    fn add(&mut self, rule: RuleId, count: u32) {
        let at = rule.0 as usize;
        if self.counts.len() <= at {
            self.counts.resize(at + 1, 0);
        }
        if self.counts[at] == 0 {
            self.rules.push(rule);
        }
        self.counts[at] += u64::from(count);
    }
}

#[derive(Clone, Copy, Debug)]
struct Compiled {
    /// Where its groups begin, and how many there are; the first is of what depends on the appliance and program alone.
    groups: (u32, u32),
    /// Where its steps begin, and how many there are.
    steps: (u32, u32),
    /// Where its rows of the first group begin among an appliance's, and whether there are several: one for each program
    /// that the rule is for.
    own: u32,
    has_several: bool,
    /// Some update wants the line's own time.
    needs_time: bool,
    /// Counters of the first group, if there is nothing else.
    only_counters: Option<u32>,
}

/// What depends on the same captures and fields.
#[derive(Debug)]
struct Group {
    sources: Box<[Source]>,
    /// What goes up once for each line.
    counters: Box<[Counter]>,
    /// How many cells a row has: a count of lines, the series of the counters, and what steps remember.
    len: u32,
}

#[derive(Clone, Copy, Debug)]
enum Counter {
    /// That of matches.
    Matches,
    /// That of the rule's update with this number.
    Update(usize),
}

/// An update that does more than count lines.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// Its number among those of the rule.
    update: u32,
    /// The group of the rule, and the place in its rows; none if it may depend on anything in the line, so that nothing is
    /// remembered.
    depends: Option<(u8, u16)>,
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

/// Groups of one rule besides the first. If there would be more, all updates are one group, so that a line costs few
/// look-ups.
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
    /// Updates for a table that was made with the same rule set. `events` is the table's metric for matches, with the
    /// labels `program` and `event`; metrics of rules are the table's from `first` on.
    pub fn new(rules: &RuleSet, events: MetricId, first: u32) -> Self {
        let (mut groups, mut steps, mut own_len) = (Vec::new(), Vec::new(), 0);
        let compile = |rule: &Rule| {
            let rows = match &rule.scope {
                Scope::Programs(programs) => programs.len(),
                // The last is for unknown ones.
                Scope::Every => rules.programs.len() + 1,
                Scope::Nameless => 1,
            };
            let (own_groups, own_steps) = Self::compile(rule);
            let only_counters = match (own_groups.as_slice(), own_steps.as_slice()) {
                ([only], []) => Some(only.counters.len() as u32),
                _ => None,
            };
            let compiled = Compiled {
                only_counters,
                groups: (groups.len() as u32, own_groups.len() as u32),
                steps: (steps.len() as u32, own_steps.len() as u32),
                own: own_len as u32,
                has_several: rows > 1,
                needs_time: rule
                    .updates
                    .iter()
                    .any(|update| matches!(update.verb, Verb::Time)),
            };
            own_len += rows;
            groups.extend(own_groups);
            steps.extend(own_steps);
            compiled
        };
        Self {
            rules: rules.rules.iter().map(compile).collect(),
            groups: groups.into(),
            steps: steps.into(),
            own_len,
            events,
            first,
            max_amounts: rules
                .metrics
                .iter()
                .map(|metric| *plausible(&metric.spec.family).end())
                .collect(),
        }
    }

    fn compile(rule: &Rule) -> (Vec<Group>, Vec<Step>) {
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
        distinct.insert(0, Vec::new());
        let group_of = |sources: &Vec<Source>| match sources.as_slice() {
            [] => 0,
            // If it is not there, the one that holds all.
            _ => distinct
                .iter()
                .position(|known| known == sources)
                .unwrap_or(1),
        };
        let mut counters = vec![Vec::new(); distinct.len()];
        counters[0].push(Counter::Matches);
        let mut others = Vec::new();
        for (number, (update, sources)) in rule.updates.iter().zip(&sources).enumerate() {
            match (&update.verb, sources.as_ref().map(group_of)) {
                (Verb::Inc, Some(own)) => counters[own].push(Counter::Update(number)),
                (_, own) => others.push((number, own)),
            }
        }
        let mut lens: Vec<usize> = counters.iter().map(|counters| 1 + counters.len()).collect();
        let step = |(number, own): (usize, Option<usize>)| {
            let is_planned = match (&rule.updates[number].verb, own) {
                (Verb::States { .. } | Verb::Worst(_), _) => true,
                // The value comes to the same whenever the series does.
                (Verb::Set(value), Some(own @ 1..)) => {
                    value.constant().is_none()
                        && sources_of(rule, value.sources().collect())
                            .is_some_and(|all| all.iter().all(|one| distinct[own].contains(one)))
                }
                _ => false,
            };
            let depends = own.map(|own| {
                lens[own] += 1;
                (own as u8, lens[own] as u16 - 1)
            });
            Step {
                update: number as u32,
                depends,
                is_planned,
            }
        };
        let steps = others.into_iter().map(step).collect();
        let groups = distinct.into_iter().zip(counters).zip(lens);
        let group = |((sources, counters), len): ((Vec<Source>, Vec<Counter>), usize)| Group {
            sources: sources.into(),
            counters: counters.into(),
            len: len as u32,
        };
        (groups.map(group).collect(), steps)
    }

    /// The row of a rule's first group among an appliance's.
    #[inline]
    fn own(&self, compiled: &Compiled, rules: &RuleSet, rule: &Rule, record: &Record<'_>) -> usize {
        let first = compiled.own as usize;
        if !compiled.has_several {
            return first;
        }
        let program = record.program_id.map(|id| usize::from(id.0));
        first
            + match &rule.scope {
                Scope::Programs(own) => own
                    .iter()
                    .position(|own| Some(*own) == program)
                    .unwrap_or(0),
                Scope::Every => program.unwrap_or(rules.programs.len()),
                Scope::Nameless => 0,
            }
    }

    #[inline]
    fn groups(&self, compiled: &Compiled) -> &[Group] {
        let (start, len) = compiled.groups;
        &self.groups[start as usize..][..len as usize]
    }

    #[inline]
    fn steps(&self, compiled: &Compiled) -> &[Step] {
        let (start, len) = compiled.steps;
        &self.steps[start as usize..][..len as usize]
    }

    /// The series of a group's counters. Makes them.
    #[cold]
    fn counters(
        &self,
        group: &Group,
        line: &Line<'_>,
        appliance: ApplianceId,
        table: &mut Table,
    ) -> Vec<u32> {
        let slot = |counter: &Counter| match counter {
            Counter::Matches => {
                let labels = [line.program(), &line.rule.event];
                table.series(self.events, appliance, line.record.test, &labels)
            }
            Counter::Update(number) => {
                resolve(self, &line.rule.updates[*number], line, appliance, table)
            }
        };
        group.counters.iter().map(slot).map(|slot| slot.0).collect()
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

    /// How often each rule matched since this was last asked, but for what the tally was not [told](Self::tell).
    pub fn take_hits(&mut self) -> impl Iterator<Item = (RuleId, u64)> {
        let Hits { counts, rules } = &mut self.hits;
        rules
            .drain(..)
            .map(|rule| (rule, std::mem::take(&mut counts[rule.0 as usize])))
    }

    /// The last line matched this rule and is repeated so often.
    pub fn again(&mut self, rule: RuleId, count: u32) {
        self.hits.add(rule, count);
    }

    /// Tells the tally, and the hits, of all lines that were counted with what they led to.
    pub fn tell(&mut self, updates: &Updates, tally: &mut Tally) {
        for Counted { rule, group, row } in self.counted.drain(..) {
            let counters = &updates.groups[group as usize].counters;
            let cells = &mut self.memory.cells[row as usize..][..=counters.len()];
            let count = std::mem::take(&mut cells[0]);
            for slot in &cells[1..] {
                tally.add(Slot(*slot), f64::from(count));
            }
            if let Some(Counter::Matches) = counters.first() {
                self.hits.add(rule, count);
            }
        }
    }

    /// Counts so many lines in a row. False if they are too many for a cell.
    #[inline]
    fn count(&mut self, rule: RuleId, group: u32, row: usize, repeat: u32) -> bool {
        let count = &mut self.memory.cells[row];
        let Some(sum) = count.checked_add(repeat) else {
            return false;
        };
        if *count == 0 {
            self.counted.push(Counted {
                rule,
                group,
                row: row as u32,
            });
        }
        *count = sum;
        true
    }

    /// Does what the rule that was found says. `updates` were made of these rules; `timestamp` is the line's own time in
    /// seconds since 1970, asked for only when a rule wants it. Every change is told to `each`. Returns the series that
    /// counts the match.
    ///
    /// Additions go into the tally, most of them not before [`Self::tell`]. What depends on the order of an appliance's
    /// lines, and series that are new, go into the table at once.
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
    ) -> Slot {
        let at = found.rule.0 as usize;
        let Some((rule, compiled)) = rules.rules.get(at).zip(updates.rules.get(at)) else {
            return Slot::NONE;
        };
        let repeat = record.repeat.max(1);
        let times = f64::from(repeat);
        let own = updates.own(compiled, rules, rule, record);
        if let Some(counters) = compiled.only_counters
            && !record.test
            && let Some(row) = self.memory.own(appliance, own)
            && self.count(found.rule, compiled.groups.0, row, repeat)
        {
            let slots = &self.memory.cells[row + 1..][..counters as usize];
            tell_each(&slots[1..], times, &mut each);
            return Slot(slots[0]);
        }
        if self.memory.is_full() {
            self.tell(updates, tally);
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
        let mut table = Lazily { table, guard: None };
        let mut rows: ArrayVec<Option<usize>, { GROUPS_MAX + 1 }> = ArrayVec::new();
        let mut matches = Slot::NONE;
        for (number, group) in updates.groups(compiled).iter().enumerate() {
            let in_all = compiled.groups.0 + number as u32;
            let row = match number {
                _ if record.test => None,
                0 => match self.memory.own(appliance, own) {
                    None => self.memory.new_own(updates, group, appliance, own),
                    known => known,
                },
                _ => self.memory.combination(group, in_all, &line, appliance),
            };
            rows.push(row);
            if group.counters.is_empty() {
                continue;
            }
            let mut counters = || updates.counters(group, &line, appliance, table.get());
            let loose;
            let (slots, is_counted) = match row {
                Some(row) => {
                    let slots = row + 1..=row + group.counters.len();
                    if self.memory.cells[row + 1] == UNKNOWN {
                        self.memory.cells[slots.clone()].copy_from_slice(&counters());
                    }
                    let is_counted = self.count(found.rule, in_all, row, repeat);
                    (&self.memory.cells[slots], is_counted)
                }
                None => {
                    loose = counters();
                    (&loose[..], false)
                }
            };
            if !is_counted {
                slots.iter().for_each(|slot| tally.add(Slot(*slot), times));
                if number == 0 {
                    self.hits.add(found.rule, repeat);
                }
            }
            let slots = match (number, slots) {
                (0, [first, others @ ..]) => {
                    matches = Slot(*first);
                    others
                }
                _ => slots,
            };
            tell_each(slots, times, &mut each);
        }
        for step in updates.steps(compiled) {
            let update = &rule.updates[step.update as usize];
            let change = match &update.verb {
                Verb::Add(value) => match line.number(value) {
                    Some(amount) if amount > updates.max_amounts[update.metric] => {
                        table.get().count_implausible(updates.metric(update.metric));
                        None
                    }
                    Some(amount) if amount < 0.0 => {
                        refuse(&mut self.negative_amounts, found.rule);
                        None
                    }
                    amount => amount.map(|amount| Change::Add(amount * times)),
                },
                _ if step.is_planned => None,
                Verb::Set(value) => line.number(value).map(Change::Set),
                Verb::Time => line.timestamp.map(|seconds| Change::Set(seconds as f64)),
                Verb::Inc => Some(Change::Inc(times)),
                Verb::States { .. } | Verb::Worst(_) => None,
            };
            // A gauge is made only when there is a value for it.
            if change.is_none() && !step.is_planned {
                continue;
            }
            let cell = step
                .depends
                .and_then(|(group, place)| Some(rows[usize::from(group)]? + usize::from(place)));
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
        matches
    }
}

/// Tells of counters that went up.
#[inline]
fn tell_each(slots: &[u32], times: f64, each: &mut impl FnMut(Slot, Change)) {
    for slot in slots.iter().filter(|slot| **slot != Slot::NONE.0) {
        each(Slot(*slot), Change::Inc(times));
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
    /// The value of the label `program`.
    fn program(&self) -> &'a str {
        self.record
            .program_id
            .map_or("other", |id| self.programs.name(id))
    }

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
    /// By appliance and place, as in [`Updates::own`], where a row of a rule's first group begins.
    own: Vec<Box<[u32]>>,
    /// By combination its row.
    rows: HashTable<Row>,
    keys: Vec<u8>,
    hasher: DefaultHashBuilder,
    /// Rows: a count of lines, and slots, or for updates of several series the number of a plan; [`UNKNOWN`] before the
    /// first time.
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
        self.own.clear();
        self.rows.clear();
        self.keys.clear();
        self.cells.clear();
        self.plans.clear();
    }

    /// Where a row of a rule's first group begins, if it is known.
    #[inline]
    fn own(&self, appliance: ApplianceId, place: usize) -> Option<usize> {
        let row = *self.own.get(appliance.0 as usize)?.get(place)?;
        (row != UNKNOWN).then_some(row as usize)
    }

    /// None if there is no such place, which cannot be.
    #[cold]
    fn new_own(
        &mut self,
        updates: &Updates,
        group: &Group,
        appliance: ApplianceId,
        place: usize,
    ) -> Option<usize> {
        let row = self.add_row(group);
        let at = appliance.0 as usize;
        if self.own.len() <= at {
            self.own.resize_with(at + 1, Box::default);
        }
        let own = &mut self.own[at];
        if own.is_empty() {
            *own = vec![UNKNOWN; updates.own_len].into();
        }
        *own.get_mut(place)? = row as u32;
        Some(row)
    }

    /// A row of which nothing is known yet.
    fn add_row(&mut self, group: &Group) -> usize {
        let row = self.cells.len();
        self.cells.resize(row + group.len as usize, UNKNOWN);
        self.cells[row] = 0;
        row
    }

    /// Where the cells of another group begin for what this line captured; none if that cannot be remembered: it is too
    /// long, or does not stand in the line as it is.
    #[inline]
    fn combination(
        &mut self,
        group: &Group,
        number: u32,
        line: &Line<'_>,
        appliance: ApplianceId,
    ) -> Option<usize> {
        let mut values = Values::new();
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u64(u64::from(number) << 32 | u64::from(appliance.0));
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
                && row.group == number
                && row.appliance == appliance
                && row.has(&self.keys, &values)
        });
        match found {
            Some(row) => Some(row.start as usize),
            None => self.learn(group, number, appliance, &values, hash),
        }
    }

    #[cold]
    fn learn(
        &mut self,
        group: &Group,
        number: u32,
        appliance: ApplianceId,
        values: &Values<'_>,
        hash: u64,
    ) -> Option<usize> {
        let bytes: usize = values.iter().flatten().map(|value| value.len()).sum();
        if bytes > KEY_BYTES_MAX {
            return None;
        }
        let key = self.keys.len() as u32;
        let start = self.add_row(group);
        let row = Row {
            hash,
            group: number,
            appliance,
            key,
            start: start as u32,
        };
        for value in values {
            self.keys.extend_from_slice(&len_of(*value).to_le_bytes());
            self.keys.extend_from_slice(value.unwrap_or_default());
        }
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
