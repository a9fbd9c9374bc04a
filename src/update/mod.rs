//! What a matching rule changes in the series table.
//!
//! Most updates depend on few captures, and the same captures come again and again. The series that they lead to are
//! therefore cached under the captures as they stand in the message ([`memo`]): transforms, maps and conditions run once
//! for each new combination, and after that an update is a look-up. What is added to counters goes into the thread's
//! [`CounterDeltas`]; what depends on the order of lines (gauges, state sets) and series that are new go into the table at once.

mod clear;
mod compile;
mod eval;
mod memo;
mod params;
mod state_set;

use std::cell::OnceCell;
use std::sync::{Mutex, MutexGuard};

use eval::EvalContext;
pub use memo::MemoLimits;
use memo::{SeriesMemo, UNKNOWN};
use state_set::{Entered, StateSetPlan};

use crate::matcher::Found;
use crate::metric::{ApplianceId, CounterDeltas, MetricId, Slot, Table, lock, plausible};
use crate::record::{Programs, Record};
use crate::rules::{Action, Attempt, Clear, RuleId, RuleSet, Update, ValueRef};

/// One change to one series, for `explain` and for `last message repeated`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// A counter went up by this, once for each time the line was seen.
    Inc(f64),
    /// A counter went up by this.
    Add(f64),
    /// A gauge has this value now.
    Set(f64),
    /// A gauge's series was removed.
    Clear,
}

/// What follows from the updates of all rules, ready to run on one table. What they say stays in the [`RuleSet`].
#[derive(Debug)]
pub struct UpdatePlan {
    /// By rule.
    rules: Box<[RulePlan]>,
    /// The metric that counts every rule's matches, by program and event.
    events: MetricId,
    /// Where the metrics of the rules begin among those of the table.
    first: u32,
    /// By metric: the largest amount that one line may add.
    max_amounts: Box<[f64]>,
}

/// What follows from the updates of one rule.
#[derive(Debug)]
struct RulePlan {
    /// All that decides which series its updates lead to.
    sources: Box<[Source]>,
    /// What goes up once for each line; the first is that of matches.
    counters: Box<[Counter]>,
    steps: Box<[Step]>,
    /// How many cells an entry of the memo has: one for each counter, and for each step that has one.
    len: u32,
    /// Some update wants the line's own time.
    needs_time: bool,
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
    update: usize,
    /// Its cell; none if it may depend on anything in the line, so that nothing is cached.
    cell: Option<u32>,
    /// The series to be changed, and their values, are cached together.
    is_planned: bool,
}

/// Something that decides which series an update leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// A capture or field, as it stands in the line.
    Raw(ValueRef),
    /// What a comparison comes to, by its place among the `let`s: the numbers hardly repeat, but that does.
    Compared(usize),
    /// A parameter, by its place among the `let`s.
    Param(usize),
}

/// A line and the rule that matched it.
#[derive(Clone, Copy, Debug)]
pub struct Match<'a> {
    /// The rules that the plan was made of.
    pub rules: &'a RuleSet,
    /// Their programs.
    pub programs: &'a Programs,
    /// The line.
    pub record: &'a Record<'a>,
    /// The rule, and what it captured.
    pub found: &'a Found,
    /// Whom the line is about.
    pub appliance: ApplianceId,
    /// If it is read late: when it was written, in seconds since 1970. A gauge that was set since keeps its value.
    pub late: Option<u32>,
}

/// Per-thread cache from captures to series, and counts of what happened since they were last taken.
#[derive(Debug, Default)]
pub struct Updater {
    memo: SeriesMemo,
    /// By rule its matches, and the rules that have some.
    hits: Vec<u64>,
    hit_rules: Vec<RuleId>,
    /// Negative amounts for a counter, by rule.
    negative_amounts: Vec<(RuleId, u64)>,
}

impl UpdatePlan {
    /// Updates for a table that was made with the same rule set. `events` is the table's metric for matches, with the
    /// labels `program` and `event`; metrics of rules are the table's from `first` on.
    pub fn new(rules: &RuleSet, events: MetricId, first: u32) -> Self {
        Self {
            rules: rules.rules.iter().map(compile::compile).collect(),
            events,
            first,
            max_amounts: rules
                .metrics
                .iter()
                .map(|metric| *plausible(&metric.spec.family).end())
                .collect(),
        }
    }

    /// Whose attempt it was, if the conditions hold and the line says it.
    pub fn attempt_of<T>(
        attempt: &Attempt,
        matched: &Match<'_>,
        then: impl FnOnce(&str) -> T,
    ) -> Option<T> {
        let Match {
            rules,
            programs,
            record,
            found,
            ..
        } = *matched;
        let line = EvalContext {
            rules,
            rule: rules.rules.get(found.rule.0 as usize)?,
            record,
            found,
            programs,
            timestamp: None,
            lets: OnceCell::new(),
        };
        if !line.holds(&attempt.conditions) {
            return None;
        }
        let whose = line.text(&attempt.of)?;
        (!whose.is_empty()).then(|| then(&whose))
    }

    /// The series of a rule's counters. Creates them.
    #[cold]
    fn counters(
        &self,
        plan: &RulePlan,
        line: &EvalContext<'_>,
        appliance: ApplianceId,
        table: &mut Table,
    ) -> Vec<u32> {
        let slot = |counter: &Counter| match counter {
            Counter::Matches => {
                let labels = [line.program(), &line.rule.event];
                table.series(self.events, appliance, line.record.test, &labels)
            }
            Counter::Update(number) => {
                self.resolve(&line.rule.updates[*number], line, appliance, table)
            }
        };
        plan.counters.iter().map(slot).map(|slot| slot.0).collect()
    }

    /// The series that an update leads to: [`Slot::NONE`] if a condition does not hold or a label is empty.
    fn resolve(
        &self,
        update: &Update,
        line: &EvalContext<'_>,
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
        let metric = self.metric(update.metric);
        table.series(metric, appliance, line.record.test, &labels)
    }

    /// The table's number of a metric of the rules.
    fn metric(&self, metric: usize) -> MetricId {
        MetricId(self.first + metric as u32)
    }
}

impl Updater {
    /// An updater whose cache has these bounds.
    pub fn new(limits: MemoLimits) -> Self {
        Self {
            memo: SeriesMemo::new(limits),
            ..Self::default()
        }
    }

    /// How many amounts of each rule were negative, and so not added, since this was last asked.
    pub fn take_negative_amounts(&mut self) -> Vec<(RuleId, u64)> {
        std::mem::take(&mut self.negative_amounts)
    }

    /// Invalidates all slots: the table has moved on to another epoch.
    pub fn reset(&mut self) {
        self.memo.clear();
    }

    /// How often each rule matched since this was last asked.
    pub fn take_hits(&mut self) -> impl Iterator<Item = (RuleId, u64)> {
        let Self {
            hits, hit_rules, ..
        } = self;
        hit_rules
            .drain(..)
            .map(|rule| (rule, std::mem::take(&mut hits[rule.0 as usize])))
    }

    /// Counts matches of a rule.
    #[inline]
    pub fn count_hits(&mut self, rule: RuleId, count: u32) {
        match self.hits.get_mut(rule.0 as usize) {
            Some(hits) if *hits > 0 => *hits += u64::from(count),
            _ => self.count_first_hits(rule, count),
        }
    }

    #[cold]
    fn count_first_hits(&mut self, rule: RuleId, count: u32) {
        let at = rule.0 as usize;
        if self.hits.len() <= at {
            self.hits.resize(at + 1, 0);
        }
        self.hits[at] = u64::from(count);
        self.hit_rules.push(rule);
    }

    #[cold]
    fn count_negative(&mut self, rule: RuleId) {
        let mut known = self.negative_amounts.iter_mut();
        match known.find(|(known, _)| *known == rule) {
            Some((_, count)) => *count += 1,
            None => self.negative_amounts.push((rule, 1)),
        }
    }

    /// Does what the rule that was found says. `plan` was made of the same rules; `timestamp` is the line's own time in
    /// seconds since 1970, asked for only when a rule wants it. Every change is passed to `observer`. Returns the series
    /// that counts the match.
    #[inline]
    pub fn apply(
        &mut self,
        plan: &UpdatePlan,
        matched: &Match<'_>,
        timestamp: impl FnOnce() -> Option<i64>,
        tally: &mut CounterDeltas,
        table: &Mutex<Table>,
        mut observer: impl FnMut(Slot, Change),
    ) -> Slot {
        let Match {
            rules,
            programs,
            record,
            found,
            appliance,
            late: _,
        } = *matched;
        let at = found.rule.0 as usize;
        let Some((rule, own)) = rules.rules.get(at).zip(plan.rules.get(at)) else {
            return Slot::NONE;
        };
        let line = EvalContext {
            rules,
            rule,
            record,
            found,
            programs,
            timestamp: if own.needs_time { timestamp() } else { None },
            lets: OnceCell::new(),
        };
        let repeat = record.repeat.max(1);
        let times = f64::from(repeat);
        self.count_hits(found.rule, repeat);
        self.memo.make_room();
        let row = self.memo.lookup(own, &line, found.rule, appliance);
        let mut table = Lazily { table, guard: None };
        let mut counters = || plan.counters(own, &line, appliance, table.get());
        let uncached;
        let slots = match row {
            Some(row) => {
                let slots = row..row + own.counters.len();
                if self.memo.cells[row] == UNKNOWN {
                    self.memo.cells[slots.clone()].copy_from_slice(&counters());
                }
                &self.memo.cells[slots]
            }
            None => {
                uncached = counters();
                &uncached[..]
            }
        };
        let matches = slots.first().map_or(Slot::NONE, |slot| Slot(*slot));
        tally.add(matches, times);
        for slot in slots.iter().skip(1).copied().map(Slot) {
            if slot != Slot::NONE {
                tally.add(slot, times);
                observer(slot, Change::Inc(times));
            }
        }
        for step in &own.steps {
            self.step(
                plan,
                step,
                &line,
                matched,
                row,
                tally,
                &mut table,
                &mut observer,
            );
        }
        matches
    }

    #[inline]
    #[expect(
        clippy::too_many_arguments,
        reason = "one call site; a struct for it would be taken apart at once"
    )]
    fn step(
        &mut self,
        plan: &UpdatePlan,
        step: &Step,
        line: &EvalContext<'_>,
        matched: &Match<'_>,
        row: Option<usize>,
        tally: &mut CounterDeltas,
        table: &mut Lazily<'_>,
        observer: &mut impl FnMut(Slot, Change),
    ) {
        let update = &line.rule.updates[step.update];
        let appliance = matched.appliance;
        let times = f64::from(line.record.repeat.max(1));
        let cell = row.and_then(|row| Some(row + step.cell? as usize));
        let known = cell.map_or(UNKNOWN, |cell| self.memo.cells[cell]);
        if let Action::Clear(clear) = &update.verb {
            let table = table.get();
            self.clear(plan, clear, update, line, matched, cell, table, observer);
            return;
        }
        if step.is_planned {
            let table = table.get();
            let planned = self.memo.plans.get_mut(known as usize);
            match planned.and_then(|set| set.if_current(plan, update, line, appliance, table)) {
                Some(set) => set.run(table, matched.late, observer),
                None => {
                    let set = state_set::plan(plan, update, line, appliance, table);
                    set.run(table, matched.late, observer);
                    self.memo.keep(cell, known, set);
                }
            }
            return;
        }
        let change = match &update.verb {
            Action::Add(value) => match line.number(value) {
                Some(amount) if amount > plan.max_amounts[update.metric] => {
                    let metric = plan.metric(update.metric);
                    table.get().count_implausible(metric);
                    None
                }
                Some(amount) if amount < 0.0 => {
                    self.count_negative(matched.found.rule);
                    None
                }
                amount => amount.map(|amount| Change::Add(amount * times)),
            },
            Action::Set(value) => line.number(value).map(Change::Set),
            Action::Time => line.timestamp.map(|seconds| Change::Set(seconds as f64)),
            Action::Inc => Some(Change::Inc(times)),
            Action::States { .. } | Action::Worst(_) | Action::Clear(_) => None,
        };
        // A gauge is created only when there is a value for it.
        let Some(change) = change else { return };
        let slot = match known {
            UNKNOWN => {
                let slot = plan.resolve(update, line, appliance, table.get());
                if let Some(cell) = cell {
                    self.memo.cells[cell] = slot.0;
                }
                slot
            }
            known => Slot(known),
        };
        if slot == Slot::NONE {
            return;
        }
        match change {
            Change::Inc(amount) | Change::Add(amount) => tally.add(slot, amount),
            Change::Set(value) => {
                if !table.get().set_unless_newer(&[(slot, value)], matched.late) {
                    return;
                }
            }
            Change::Clear => {}
        }
        observer(slot, change);
    }

    /// Ends states.
    #[inline]
    #[expect(
        clippy::too_many_arguments,
        reason = "one call site; a struct for it would be taken apart at once"
    )]
    fn clear(
        &mut self,
        plan: &UpdatePlan,
        clear: &Clear,
        update: &Update,
        line: &EvalContext<'_>,
        matched: &Match<'_>,
        cell: Option<usize>,
        table: &mut Table,
        observer: &mut impl FnMut(Slot, Change),
    ) {
        let appliance = matched.appliance;
        let known = cell.map_or(UNKNOWN, |cell| self.memo.cells[cell]);
        let is_true = clear::condition(clear, line);
        let planned = self.memo.plans.get_mut(known as usize);
        match planned.and_then(|set| set.if_current(plan, update, line, appliance, table)) {
            Some(set) => set.clear.run(table, matched.late, is_true, observer),
            None => {
                let ends = clear::plan(plan, update, clear, line, appliance, table);
                let entered = Entered::of(plan, update, line, appliance, table);
                ends.run(table, matched.late, is_true, observer);
                let set = StateSetPlan::of_clear(ends, entered);
                self.memo.keep(cell, known, set);
            }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::matcher::{Limits as MatcherLimits, Matcher};
    use crate::metric::{Family, Kind, LabelValues, Limits, MetricDesc};
    use crate::record;
    use crate::rules::{self, Example, Program, Settings};

    /// What the examples of all packs come to, for two appliances in turn, and how often the memo was cleared.
    fn replay(limits: MemoLimits) -> (String, usize) {
        let rules = rules::load(&[], Settings::default()).expect("the packs are in order");
        let names = |program: &Program| (program.name.clone(), program.aliases.clone());
        let programs = Programs::new(rules.programs.iter().map(names))
            .with_formats(rules.formats.iter().cloned());
        let matcher = Matcher::compile(&rules, MatcherLimits::default()).expect("they compile");
        let events = MetricDesc {
            family: Arc::new(Family {
                name: "log_events_total".into(),
                help: "Matches.".into(),
                kind: Kind::Counter,
                labels: ["appliance", "program", "event"].map(Arc::from).into(),
            }),
            domains: vec![LabelValues::Any(Vec::new()); 2],
            expire_seconds: None,
        };
        let metrics = rules.metrics.iter().map(|metric| metric.spec.clone());
        let specs = std::iter::once(events).chain(metrics).collect();
        let table = Mutex::new(Table::new(specs, Limits::default(), &[]));
        let plan = UpdatePlan::new(&rules, MetricId(0), 1);
        let mut updater = Updater::new(limits);
        let (mut scratch, mut tally) = (matcher.scratch(), CounterDeltas::default());
        let examples = rules.rules.iter().flat_map(|rule| &rule.examples);
        let lines = examples.flat_map(|example| match example {
            Example::Lines { lines, .. } => lines.as_slice(),
            Example::Not { line, .. } => std::slice::from_ref(line),
        });
        let lines: Vec<&String> = lines.collect();
        for (line, appliance) in lines.iter().flat_map(|line| [(line, "a"), (line, "b")]) {
            let appliance = lock(&table).appliance(appliance);
            for frame in record::frames(line.as_bytes()) {
                let record = record::parse(frame, &programs);
                matcher.find(&record, &mut scratch, |found| {
                    let matched = Match {
                        rules: &rules,
                        programs: &programs,
                        record: &record,
                        found,
                        appliance,
                        late: None,
                    };
                    updater.apply(&plan, &matched, || Some(1), &mut tally, &table, |_, _| {});
                    rules.rules[found.rule.0 as usize].go_on
                });
            }
        }
        let mut table = table.into_inner().expect("no thread has failed");
        table.apply(&mut tally);
        (format!("{:?}", table.save()), updater.memo.evictions)
    }

    #[test]
    fn a_memo_that_is_cleared_again_and_again_counts_the_same() {
        let (expected, clears) = replay(MemoLimits::default());
        assert_eq!(clears, 0);
        let limits = MemoLimits::default();
        for small in [
            MemoLimits {
                rows_max: 2,
                ..limits
            },
            MemoLimits {
                key_bytes_max: 40,
                ..limits
            },
            MemoLimits {
                plans_max: 1,
                ..limits
            },
        ] {
            let (found, clears) = replay(small);
            assert!(clears > 10, "{small:?}");
            assert_eq!(found, expected, "{small:?}");
        }
    }
}
