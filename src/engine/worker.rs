//! The thread's part of the engine: one line after the other, through caches, into increments that a flush moves into
//! the table.

use std::sync::Arc;

use arrayvec::ArrayVec;
use hashbrown::HashMap;

use super::attempts::Attempts;
use super::events::{event_time, written_at};
use super::repeats::{Last, Repeats};
use super::zeros::Zeros;
use super::{CacheLimits, Compiled, Engine, Outcome, RuleCounts, StreamContext};
use crate::matcher::Scratch;
use crate::metric::{ApplianceId, CounterDeltas, Slot, Table};
use crate::record::{self, HeaderId, Headers, Record};
use crate::rules::RuleId;
use crate::unrecognised::Sampler;
use crate::update::{Change, EventTimestamp, Line, Updater};

/// What one thread needs to read lines.
#[derive(Debug)]
pub struct Worker {
    engine: Arc<Engine>,
    limits: CacheLimits,
    scratch: Scratch,
    updater: Updater,
    /// Increments that are not in the table yet.
    tally: CounterDeltas,
    headers: Headers,
    /// By header; valid for one generation of the headers.
    header_appliances: Vec<Option<ApplianceId>>,
    header_generation: u32,
    hosts: HashMap<Box<[u8]>, ApplianceId>,
    /// The table's epoch that all slots here belong to.
    epoch: u32,
    unrecognised: Sampler,
    repeats_unattributed: u64,
    repeats_implausible: u64,
    matched: ArrayVec<RuleId, 8>,
}

/// Lines that are read at one time. What they count is in the table once the batch is dropped.
#[derive(Debug)]
pub struct Batch<'e> {
    worker: &'e mut Worker,
    repeats: Option<&'e mut Repeats>,
    /// The syslog line that a JSON object is turned into.
    json: Vec<u8>,
}

impl Worker {
    /// An engine for one thread. Others may feed the same core.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self::with_limits(engine, CacheLimits::default())
    }

    /// The same with other caches.
    pub fn with_limits(engine: Arc<Engine>, limits: CacheLimits) -> Self {
        Self {
            limits,
            scratch: engine.compiled.matcher.scratch(),
            updater: Updater::new(limits.memo),
            tally: CounterDeltas::default(),
            headers: Headers::new(limits.headers),
            header_appliances: Vec::new(),
            header_generation: 0,
            hosts: HashMap::new(),
            epoch: 0,
            unrecognised: Sampler::default(),
            repeats_unattributed: 0,
            repeats_implausible: 0,
            matched: ArrayVec::new(),
            engine,
        }
    }

    /// What it shares with others.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Begins a batch of lines that are received at `now`, in seconds since 1970. `repeats` are those of the stream; without
    /// them, `last message repeated N times` is counted as not attributed.
    pub fn batch<'e>(&'e mut self, now: u32, repeats: Option<&'e mut Repeats>) -> Batch<'e> {
        let mut table = self.engine.table();
        table.set_now(now);
        let epoch = table.epoch();
        drop(table);
        if self.epoch != epoch {
            self.epoch = epoch;
            self.invalidate();
        }
        Batch {
            worker: self,
            repeats,
            json: Vec::new(),
        }
    }

    /// Clears all caches of what was looked up in the table.
    pub(crate) fn invalidate(&mut self) {
        self.hosts.clear();
        self.header_appliances.clear();
        self.updater.reset();
    }

    /// Moves what was counted into the table.
    fn flush(&mut self) {
        if !self.tally.is_empty() {
            self.engine.table().apply(&mut self.tally);
        }
        let negative_amounts = self.updater.take_negative_amounts();
        let hits = self.updater.take_hits();
        let repeats = self.repeats_unattributed + self.repeats_implausible;
        let is_empty = hits.is_empty() && negative_amounts.is_empty() && repeats == 0;
        if is_empty && self.unrecognised.is_empty() {
            return;
        }
        let mut counts = self.engine.rule_counts();
        for (rule, more) in negative_amounts {
            let rule = &self.engine.compiled.rules.rules[rule.0 as usize].id;
            if let Some(count) = counts.negative_amounts.get_mut(rule) {
                *count += more;
            }
        }
        for (count, more) in counts.hits.iter_mut().zip(hits) {
            *count += more;
        }
        counts.repeats_unattributed += std::mem::take(&mut self.repeats_unattributed);
        counts.repeats_implausible += std::mem::take(&mut self.repeats_implausible);
        self.unrecognised.flush_into(&mut counts.unrecognised);
    }

    /// Empties the table and all caches; the rules stay compiled. No other engine may be at work.
    pub fn reset(&mut self) {
        let mut table = self.engine.table();
        table.clear();
        self.epoch = table.epoch();
        drop(table);
        *self.engine.zeros.lock() = Zeros::default();
        *self.engine.attempts.lock() = Attempts::default();
        *self.engine.rule_counts() = RuleCounts::new(self.engine.rules());
        self.unrecognised = Sampler::default();
        self.invalidate();
    }

    /// Counts one record. Returns its appliance, and whether a rule recognises it.
    #[inline]
    fn process(
        &mut self,
        repeats: Option<&mut Repeats>,
        origin: &mut StreamContext,
        record: &Record<'_>,
        header: Option<HeaderId>,
        late: Option<u32>,
        change: &mut impl FnMut(Slot, Change),
    ) -> (ApplianceId, bool) {
        self.matched.clear();
        self.repeats_implausible += record.implausible_repeats;
        // Whether a relayed host counts depends on the source, which a header does not say.
        let header = header.filter(|_| origin.appliance.is_none() && record.relayed_host.is_none());
        let appliance = self.appliance(header, origin, record);
        origin.last_appliance = Some(appliance);
        if record.repeat_last > 0 {
            self.apply_repeat(repeats, origin, record, appliance, change);
            return (appliance, true);
        }
        let mut unused = None;
        let last = match repeats {
            Some(repeats) => repeats.start(appliance, self.epoch),
            None => unused.insert(Last::new(self.epoch)),
        };
        let Self {
            engine,
            scratch,
            updater,
            tally,
            matched,
            unrecognised,
            ..
        } = self;
        let Compiled {
            rules,
            programs,
            matcher,
            updates,
            ..
        } = &*engine.compiled;
        let mut line = Line {
            rules,
            programs,
            record,
            clock: &origin.clock,
            appliance,
            late,
            is_counted: false,
        };
        let start = |table: &mut Table| {
            engine.start_zeros(
                table,
                appliance,
                record.program_id,
                origin.profile.as_deref(),
            );
        };
        let times = f64::from(record.repeat.max(1));
        // A rule with `continue` does not recognise a line by itself.
        let mut recognised = false;
        matcher.find(record, scratch, |found| {
            let rule = &rules.rules[found.rule.0 as usize];
            let _ = matched.try_push(found.rule);
            last.rule = Some(found.rule);
            let counted = updater.apply(
                updates,
                &line,
                found,
                rule.notable.then(|| event_time(origin, record)),
                tally,
                &engine.table,
                start,
                |slot, done| {
                    match done {
                        Change::Inc(_) => last.increment(slot),
                        Change::Add(amount) => last.add(slot, amount / times),
                        Change::Set(_) | Change::Clear => {}
                    }
                    change(slot, done);
                },
            );
            line.is_counted = true;
            last.count_line(counted);
            if !rule.attempts.is_empty() && !record.test {
                engine.enter_attempts(&line, found, origin);
            }
            recognised |= !rule.go_on;
            rule.go_on
        });
        if !recognised {
            sample(engine, unrecognised, record, appliance);
            last.count_line(updater.unmatched(&line, tally, &engine.table, start));
        }
        (appliance, recognised)
    }

    /// `last message repeated N times`: counts what the appliance's last line in this stream counted so often again.
    #[cold]
    fn apply_repeat(
        &mut self,
        repeats: Option<&mut Repeats>,
        origin: &StreamContext,
        record: &Record<'_>,
        appliance: ApplianceId,
        change: &mut impl FnMut(Slot, Change),
    ) {
        let table = self.engine.table();
        let last = repeats.and_then(|repeats| repeats.get(appliance));
        let Some(last) = last.filter(|last| last.is_valid(&table)) else {
            self.repeats_unattributed += u64::from(record.repeat_last);
            return;
        };
        drop(table);
        let times = f64::from(record.repeat_last);
        last.counted().for_each(|slot| self.tally.add(slot, times));
        for (slot, amount) in last.amounts() {
            self.tally.add(slot, amount * times);
            change(slot, Change::Inc(amount * times));
        }
        match event_time(origin, record) {
            EventTimestamp::Now => self.tally.stamp(last.event_time),
            time => time.set(&mut self.engine.table(), last.event_time),
        }
        if let Some(rule) = last.rule {
            self.updater.count_hits(rule, record.repeat_last);
            let _ = self.matched.try_push(rule);
        }
    }

    /// Whom a line is about.
    #[inline(always)] // A fifth of its cost is to call it.
    fn appliance(
        &mut self,
        header: Option<HeaderId>,
        origin: &mut StreamContext,
        record: &Record<'_>,
    ) -> ApplianceId {
        if self.header_generation != self.headers.generation() {
            self.header_generation = self.headers.generation();
            self.header_appliances.clear();
        }
        // A header without a host does not decide.
        let header = header.filter(|_| record.host.is_some_and(|host| !host.is_empty()));
        let Some(header) = header else {
            return self.look_up_appliance(origin, record);
        };
        let at = header.0 as usize;
        if let Some(Some(known)) = self.header_appliances.get(at) {
            return *known;
        }
        let appliance = self.look_up_appliance(origin, record);
        if self.header_appliances.len() <= at {
            self.header_appliances.resize(at + 1, None);
        }
        self.header_appliances[at] = Some(appliance);
        appliance
    }

    fn look_up_appliance(
        &mut self,
        origin: &mut StreamContext,
        record: &Record<'_>,
    ) -> ApplianceId {
        if let Some(name) = &origin.appliance {
            if let Some((epoch, id)) = origin.resolved
                && epoch == self.epoch
            {
                return id;
            }
            let id = self.engine.table().trusted_appliance(name);
            origin.resolved = Some((self.epoch, id));
            return id;
        }
        let (name, is_trusted) = match (origin.host(record), &origin.fallback) {
            (Some(host), _) if !host.is_empty() => (host, origin.trusts_headers),
            (_, Some(name)) => (name.as_bytes(), true),
            (_, None) => (&b"unknown"[..], false),
        };
        if let Some(id) = self.hosts.get(name) {
            return *id;
        }
        let text = String::from_utf8_lossy(name);
        let mut table = self.engine.table();
        let id = match is_trusted {
            true => table.trusted_appliance(&text),
            false => table.appliance(&text),
        };
        drop(table);
        if self.hosts.len() >= self.limits.hosts {
            self.hosts.clear();
        }
        self.hosts.insert(name.into(), id);
        id
    }
}

/// Keeps an unmatched line for those who look for new wordings.
#[cold]
fn sample(engine: &Engine, sampler: &mut Sampler, record: &Record<'_>, appliance: ApplianceId) {
    let program = match record.program_id {
        Some(id) => engine.compiled.programs.name(id).as_bytes(),
        None => record.program,
    };
    if let Some(look) = sampler.count(program, record.message) {
        let appliance = engine.table().appliance_name(appliance).to_owned();
        let shared = &mut engine.rule_counts().unrecognised;
        sampler.add(shared, look, &appliance, program, record.message);
    }
}

impl Batch<'_> {
    /// The engine's core.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.worker.engine
    }

    /// Reads one line, without its line feed.
    #[inline]
    pub fn line(&mut self, origin: &mut StreamContext, line: &[u8]) {
        self.line_with(origin, line, |_, _| {}, |_| {});
    }

    /// Reads one line and reports what it does: first every change, then the outcome.
    #[inline]
    pub fn line_with(
        &mut self,
        origin: &mut StreamContext,
        line: &[u8],
        mut change: impl FnMut(Slot, Change),
        mut outcome: impl FnMut(Outcome<'_, '_>),
    ) {
        let worker = &mut *self.worker;
        for frame in record::frames(record::unwrap_json(line, &mut self.json)) {
            let mut record = Record::default();
            let programs = &worker.engine.compiled.programs;
            let header = worker.headers.parse(frame, programs, &mut record);
            if let Some(profile) = &origin.profile {
                programs.adopt(&mut record, profile);
            }
            let repeats = self.repeats.as_deref_mut();
            let late = origin.is_late.then(|| written_at(frame, &origin.clock));
            let (appliance, recognised) =
                worker.process(repeats, origin, &record, header, late, &mut change);
            outcome(Outcome {
                record: &record,
                appliance,
                rules: &worker.matched,
                recognised,
            });
        }
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.worker.flush();
    }
}
