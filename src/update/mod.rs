//! What a matching rule changes in the series table.
//!
//! Most updates depend on few captures, and the same captures come again and again. The series that they lead to are
//! therefore cached under the captures as they stand in the message ([`memo`]): transforms, maps and conditions run once
//! for each new combination, and after that an update is a look-up. What is added to counters goes into the thread's
//! [`CounterDeltas`]; what depends on the order of lines (gauges, state sets) and series that are new go into the table at once.

mod clear;
mod compile;
mod eval;
mod key;
mod memo;
mod params;
pub(crate) mod standard;
mod state_set;

use eval::EvalContext;
use key::RowKey;
pub use memo::MemoLimits;
use memo::{SeriesMemo, UNKNOWN};
use parking_lot::{Mutex, MutexGuard};
use standard::{EVENTS, LAST_EVENT, LAST_MESSAGE, MESSAGES, RULE_METRICS, SEVERITIES, UNMATCHED};
use state_set::Planned;

use crate::matcher::Found;
use crate::metric::{ApplianceId, CounterDeltas, MetricId, Slot, Table, plausible};
use crate::record::{Clock, Programs, Record};
use crate::rules::{Action, Attempt, RuleId, RuleSet, Update, ValueRef};

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
    /// By metric: the largest amount that one line may add.
    max_amounts: Box<[f64]>,
}

/// What follows from the updates of one rule.
#[derive(Debug)]
struct RulePlan {
    /// All that decides which series its updates lead to.
    sources: Box<[Source]>,
    /// The numbers of updates that go up once for each line.
    counters: Box<[usize]>,
    steps: Box<[Step]>,
    /// The cell of the last event's time, if the rule is notable.
    event: Option<usize>,
    /// How many cells an entry of the memo has: those that every line has, one for each counter, and for each step that has
    /// one.
    len: usize,
}

/// An update that does more than count lines.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// Its number among those of the rule.
    update: usize,
    /// Its cell.
    cell: usize,
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
    /// The line's own time.
    Timestamp,
}

/// A line, and whom it is about.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// The rules that the plan was made of.
    pub rules: &'a RuleSet,
    /// Their programs.
    pub programs: &'a Programs,
    /// What it says.
    pub record: &'a Record<'a>,
    /// For its timestamp, which may have no year or zone.
    pub clock: &'a Clock,
    /// Whom it is about.
    pub appliance: ApplianceId,
    /// If it is read late: when it was written, in seconds since 1970. A gauge that was set since keeps its value.
    pub late: Option<u32>,
    /// It counts as a message of its program already: a rule with `continue` has matched it.
    pub is_counted: bool,
}

/// The time of a notable event.
#[derive(Clone, Copy, Debug)]
pub enum EventTimestamp {
    /// The time of the flush.
    Now,
    /// This, in seconds since 1970, unless a later event is known.
    At(f64),
    /// Unknown: the event has no time that could be shown.
    Unknown,
}

/// The series that count a line itself, each [`Slot::NONE`] if there is none.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    /// By severity.
    pub messages: Slot,
    /// Its event, or that no rule recognises it.
    pub event: Slot,
    /// When its event, a notable one, last happened.
    pub event_time: Slot,
}

/// Per-thread cache from captures to series, and counts of what happened since they were last taken.
#[derive(Debug, Default)]
pub struct Updater {
    memo: SeriesMemo,
    /// Memory for the keys of one line after the other.
    key: RowKey,
    /// By rule its matches.
    hits: Vec<u64>,
    /// Negative amounts for a counter, by rule.
    negative_amounts: Vec<(RuleId, u64)>,
}

impl Line<'_> {
    /// How often it was written.
    fn times(&self) -> f64 {
        f64::from(self.record.repeat.max(1))
    }

    /// The value of the label `program`.
    pub(crate) fn program(&self) -> &str {
        self.record
            .program_id
            .map_or("other", |id| self.programs.name(id))
    }

    /// A series of its appliance. Creates it.
    fn series(&self, table: &mut Table, metric: MetricId, values: &[&str]) -> Slot {
        table.series(metric, self.appliance, self.record.test, values)
    }

    /// The same if it is there.
    fn find(&self, table: &Table, metric: MetricId, values: &[&str]) -> Option<Slot> {
        table.find(metric, self.appliance, self.record.test, values)
    }
}

impl EventTimestamp {
    /// Sets the series of an event's time.
    pub(crate) fn set(self, table: &mut Table, slot: Slot) {
        match self {
            Self::Now => table.stamp(slot),
            Self::At(seconds) => table.raise(slot, seconds),
            Self::Unknown => {}
        }
    }
}

/// Cells of every row: of messages, when the last one was read, and what counts the event, or that none is recognised.
const LINE_CELLS: usize = 3;

/// Where changes go.
struct Changes<'c, F> {
    tally: &'c mut CounterDeltas,
    table: Lazily<'c>,
    observer: F,
}

impl UpdatePlan {
    /// Updates for a table of the standard metrics and those of the same rule set.
    pub fn new(rules: &RuleSet) -> Self {
        Self {
            rules: rules.rules.iter().map(compile::compile).collect(),
            max_amounts: rules
                .metrics
                .iter()
                .map(|metric| *plausible(&metric.spec.family).end())
                .collect(),
        }
    }
}

/// Calls `each` with the attempts whose conditions hold, and whose they are, if the line says it.
pub fn attempts_of<'r>(line: &Line<'r>, found: &Found, mut each: impl FnMut(&'r Attempt, &str)) {
    let Some(rule) = line.rules.rules.get(found.rule.0 as usize) else {
        return;
    };
    let context = EvalContext::new(line, rule, found);
    for attempt in &rule.attempts {
        let whose = match context.holds(&attempt.conditions) {
            true => context.text(&attempt.of),
            false => None,
        };
        if let Some(whose) = whose.filter(|whose| !whose.is_empty()) {
            each(attempt, &whose);
        }
    }
}

/// The table's number of a metric of the rules.
fn metric_id(metric: usize) -> MetricId {
    MetricId(RULE_METRICS + metric as u32)
}

/// The series that a line has whatever it says. Creates them.
fn line_series(line: &Line<'_>, table: &mut Table) -> [u32; 2] {
    let program = line.program();
    let severity = line.record.severity.map(|severity| severity as usize);
    let severity = SEVERITIES[severity.unwrap_or(SEVERITIES.len() - 1)];
    let messages = line.series(table, MESSAGES, &[program, severity]);
    let last_message = line.series(table, LAST_MESSAGE, &[program]);
    // Until the flush a scrape would show that it was last heard of in 1970, which is an alert.
    table.stamp(last_message);
    [messages.0, last_message.0]
}

/// The series that an update leads to: [`Slot::NONE`] if a condition does not hold or a label is empty.
fn resolve(update: &Update, context: &EvalContext<'_>, table: &mut Table) -> Slot {
    if !context.holds(&update.conditions) {
        return Slot::NONE;
    }
    let Some(labels) = context.labels(&update.labels) else {
        return Slot::NONE;
    };
    let labels: Vec<&str> = labels.iter().map(|label| &**label).collect();
    context
        .line
        .series(table, metric_id(update.metric), &labels)
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

    /// How often each rule matched since this was last asked, as far as any did.
    pub fn take_hits(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.hits)
    }

    /// Counts matches of a rule.
    #[inline]
    pub fn count_hits(&mut self, rule: RuleId, count: u32) {
        let at = rule.0 as usize;
        if self.hits.len() <= at {
            self.hits.resize(at + 1, 0);
        }
        self.hits[at] += u64::from(count);
    }

    #[cold]
    fn count_negative(&mut self, rule: RuleId) {
        let mut known = self.negative_amounts.iter_mut();
        match known.find(|(known, _)| *known == rule) {
            Some((_, count)) => *count += 1,
            None => self.negative_amounts.push((rule, 1)),
        }
    }

    /// The cells of a line that no rule recognises. The first two are those of all lines of its program and severity.
    fn unmatched_row(
        &mut self,
        line: &Line<'_>,
        table: &mut Lazily<'_>,
        start: impl FnOnce(&mut Table),
    ) -> &mut [u32] {
        self.key.start(line, None);
        let row = self.memo.row(&self.key, LINE_CELLS);
        let cells = &mut self.memo.cells[row..][..LINE_CELLS];
        if cells[0] == UNKNOWN {
            let table = table.get();
            cells[..2].copy_from_slice(&line_series(line, table));
            if !line.record.test {
                start(table);
            }
        }
        cells
    }

    /// Counts a line that no rule recognises. `start` is called if it may be the first of its program.
    pub fn unmatched(
        &mut self,
        line: &Line<'_>,
        tally: &mut CounterDeltas,
        table: &Mutex<Table>,
        start: impl FnOnce(&mut Table),
    ) -> Counted {
        self.memo.make_room();
        let mut table = Lazily { table, guard: None };
        let cells = self.unmatched_row(line, &mut table, start);
        if cells[2] == UNKNOWN {
            cells[2] = match line.record.program_id {
                Some(_) => line.series(table.get(), UNMATCHED, &[line.program()]).0,
                None => Slot::NONE.0,
            };
        }
        count_line(line, cells, tally)
    }

    /// Does what the rule that was found says. `plan` was made of the same rules; `event_time` is given for notable events.
    /// `start` is called when the line may be the first of its program. Every change but of what counts the line itself is
    /// passed to `observer`.
    #[inline]
    #[expect(clippy::too_many_arguments, reason = "one call site")]
    pub fn apply(
        &mut self,
        plan: &UpdatePlan,
        line: &Line<'_>,
        found: &Found,
        event_time: Option<EventTimestamp>,
        tally: &mut CounterDeltas,
        table: &Mutex<Table>,
        start: impl Fn(&mut Table),
        observer: impl FnMut(Slot, Change),
    ) -> Counted {
        let at = found.rule.0 as usize;
        let Some((rule, own)) = line.rules.rules.get(at).zip(plan.rules.get(at)) else {
            return Counted::NONE;
        };
        let context = EvalContext::new(line, rule, found);
        self.count_hits(found.rule, line.record.repeat.max(1));
        let mut changes = Changes {
            tally,
            table: Lazily { table, guard: None },
            observer,
        };
        self.memo.make_room();
        self.key.start(line, Some(found.rule));
        context.read(&own.sources, &mut self.key);
        let row = self.memo.row(&self.key, own.len);
        if self.memo.cells[row] == UNKNOWN {
            let of_all = self.unmatched_row(line, &mut changes.table, &start);
            let of_all = [of_all[0], of_all[1]];
            let table = changes.table.get();
            let labels = [line.program(), &rule.event];
            let event = line.series(table, EVENTS, &labels);
            let cells = &mut self.memo.cells[row..];
            cells[..2].copy_from_slice(&of_all);
            cells[2] = event.0;
            for (cell, update) in cells[LINE_CELLS..].iter_mut().zip(&own.counters) {
                *cell = resolve(&rule.updates[*update], &context, table).0;
            }
        }
        let cells = &mut self.memo.cells[row..];
        let mut counted = count_line(line, cells, changes.tally);
        let times = line.times();
        for slot in &cells[LINE_CELLS..LINE_CELLS + own.counters.len()] {
            if *slot != Slot::NONE.0 {
                changes.tally.add(Slot(*slot), times);
                (changes.observer)(Slot(*slot), Change::Inc(times));
            }
        }
        if let Some((time, cell)) = event_time.zip(own.event) {
            counted.event_time = set_event_time(&mut cells[cell], time, &context, &mut changes);
        }
        for step in &own.steps {
            self.step(plan, step, &context, row, &mut changes);
        }
        counted
    }

    #[inline]
    fn step(
        &mut self,
        plan: &UpdatePlan,
        step: &Step,
        context: &EvalContext<'_>,
        row: usize,
        changes: &mut Changes<'_, impl FnMut(Slot, Change)>,
    ) {
        let line = context.line;
        let update = &context.rule.updates[step.update];
        let cell = row + step.cell;
        let known = self.memo.cells[cell];
        if step.is_planned {
            let (table, observer) = (changes.table.get(), &mut changes.observer);
            let planned = self.memo.plans.get(known as usize);
            match planned.filter(|planned| planned.is_current(update, context, table)) {
                Some(planned) => planned.run(update, context, table, observer),
                None => {
                    let planned = Planned::new(update, context, table);
                    planned.run(update, context, table, observer);
                    self.memo.keep(cell, known, planned);
                }
            }
            return;
        }
        let change = match &update.verb {
            Action::Add(value) => match context.number(value) {
                Some(amount) if amount > plan.max_amounts[update.metric] => {
                    let metric = metric_id(update.metric);
                    changes.table.get().count_implausible(metric);
                    None
                }
                Some(amount) if amount < 0.0 => {
                    self.count_negative(context.found.rule);
                    None
                }
                amount => amount.map(|amount| Change::Add(amount * line.times())),
            },
            Action::Set(value) => context.number(value).map(Change::Set),
            Action::Time => context
                .timestamp()
                .map(|seconds| Change::Set(seconds as f64)),
            Action::Inc | Action::States { .. } | Action::Worst(_) | Action::Clear(_) => None,
        };
        // A gauge is created only when there is a value for it.
        let Some(change) = change else { return };
        if known == UNKNOWN {
            self.memo.cells[cell] = resolve(update, context, changes.table.get()).0;
        }
        let slot = Slot(self.memo.cells[cell]);
        if slot == Slot::NONE {
            return;
        }
        match change {
            Change::Set(value) => {
                let table = changes.table.get();
                if !table.set_unless_newer(&[(slot, value)], line.late) {
                    return;
                }
            }
            Change::Inc(amount) | Change::Add(amount) => changes.tally.add(slot, amount),
            Change::Clear => {}
        }
        (changes.observer)(slot, change);
    }
}

impl Counted {
    const NONE: Self = Self {
        messages: Slot::NONE,
        event: Slot::NONE,
        event_time: Slot::NONE,
    };
}

/// Counts a line itself in the series of its row.
#[inline]
fn count_line(line: &Line<'_>, cells: &[u32], tally: &mut CounterDeltas) -> Counted {
    let times = line.times();
    let &[messages, last_message, event, ..] = cells else {
        return Counted::NONE;
    };
    let mut counted = Counted {
        event: Slot(event),
        ..Counted::NONE
    };
    if !line.is_counted {
        counted.messages = Slot(messages);
        tally.add(counted.messages, times);
        tally.stamp(Slot(last_message));
    }
    tally.add(counted.event, times);
    counted
}

/// Sets when a notable event last happened. Returns its series, which is created only when there is a time for it.
fn set_event_time<F>(
    cell: &mut u32,
    time: EventTimestamp,
    context: &EvalContext<'_>,
    changes: &mut Changes<'_, F>,
) -> Slot {
    let is_new = *cell == UNKNOWN;
    match time {
        EventTimestamp::Unknown => return Slot::NONE,
        EventTimestamp::Now if !is_new => changes.tally.stamp(Slot(*cell)),
        // Before the flush a scrape would show an event of 1970.
        time => {
            let table = changes.table.get();
            if is_new {
                let labels = [context.line.program(), &context.rule.event];
                *cell = context.line.series(table, LAST_EVENT, &labels).0;
            }
            time.set(table, Slot(*cell));
        }
    }
    Slot(*cell)
}

/// A table that is locked for the rest of a line once something has to be done at once.
struct Lazily<'t> {
    table: &'t Mutex<Table>,
    guard: Option<MutexGuard<'t, Table>>,
}

impl Lazily<'_> {
    #[inline]
    fn get(&mut self) -> &mut Table {
        self.guard.get_or_insert_with(|| self.table.lock())
    }
}
