//! When notable events last happened.

use hashbrown::HashMap;

use super::attempts::key;
use super::standard::LAST_EVENT;
use super::{Engine, EventTime, StreamContext, label};
use crate::metric::{ApplianceId, CounterDeltas, Slot, lock};
use crate::record::{self, Clock, ProgramId, Record};
use crate::rules::{Attempt, AttemptEvent, AttemptOutcome, RuleId};
use crate::update::{Match, UpdatePlan};

/// The series of notable events, by appliance, rule and program.
#[derive(Debug)]
pub(super) struct EventSlots {
    slots: HashMap<(ApplianceId, RuleId, Option<ProgramId>), Slot>,
    /// When there are so many, the cache is cleared.
    slots_max: usize,
}

/// The new value of a notable event's series.
#[derive(Clone, Copy, Debug)]
pub(super) enum EventTimestamp {
    /// The time of the flush.
    Now,
    /// This, in seconds since 1970, unless a later event is known.
    At(f64),
    /// Unknown: the event has no time that could be shown.
    Unknown,
}

impl EventTimestamp {
    pub(super) fn of(event_time: EventTime, record: &Record<'_>, clock: &Clock) -> Self {
        match event_time {
            EventTime::Arrival => Self::Now,
            EventTime::At(seconds) => Self::At(f64::from(seconds)),
            EventTime::Record => match record.timestamp(clock) {
                Some(time) => Self::At(time.min(clock.now).as_second() as f64),
                None => Self::Unknown,
            },
        }
    }
}

impl Engine {
    /// Enters what a match says of somebody's attempts. Many failures, or a success after them, may be an event.
    #[cold]
    pub(super) fn enter_attempts(
        &self,
        attempts: &[Attempt],
        matched: &Match<'_>,
        origin: &StreamContext,
    ) {
        let (record, appliance) = (matched.record, matched.appliance);
        let time = match origin.event_time {
            EventTime::Arrival | EventTime::At(_) => None,
            EventTime::Record => record.timestamp(&origin.clock),
        };
        let now = time.unwrap_or(origin.clock.now).as_second();
        let now = u32::try_from(now).unwrap_or(0);
        for attempt in attempts {
            let failures = UpdatePlan::attempt_of(attempt, matched, |whose| {
                let key = key(self.table().appliance_name(appliance), &attempt.name, whose);
                let mut rows = lock(&self.attempts);
                match attempt.outcome {
                    AttemptOutcome::Passed => rows.passed(key, now),
                    AttemptOutcome::Failed => rows.failed(key, record.repeat.max(1), now),
                }
            });
            let Some(AttemptEvent { after, event }) = &attempt.event else {
                continue;
            };
            if failures.is_some_and(|failures| failures >= *after) {
                let labels = [label(self.programs(), record), event];
                let mut table = self.table();
                let slot = table.series(LAST_EVENT, appliance, false, &labels);
                match EventTimestamp::of(origin.event_time, record, &origin.clock) {
                    EventTimestamp::Now => table.stamp(slot),
                    EventTimestamp::At(seconds) => table.raise(slot, seconds),
                    EventTimestamp::Unknown => {}
                }
            }
        }
    }
}

impl EventSlots {
    pub(super) fn new(slots_max: usize) -> Self {
        Self {
            slots: HashMap::new(),
            slots_max,
        }
    }

    pub(super) fn clear(&mut self) {
        self.slots.clear();
    }

    /// Records when an event last happened, and returns the series.
    pub(super) fn record(
        &mut self,
        engine: &Engine,
        rule: RuleId,
        record: &Record<'_>,
        appliance: ApplianceId,
        time: EventTimestamp,
        tally: &mut CounterDeltas,
    ) -> Slot {
        if let EventTimestamp::Unknown = time {
            return Slot::NONE;
        }
        let key = (appliance, rule, record.program_id);
        let known = match record.test {
            true => None,
            false => self.slots.get(&key).copied(),
        };
        let slot = known.unwrap_or_else(|| {
            let labels = [
                label(&engine.compiled.programs, record),
                &engine.compiled.rules.rules[rule.0 as usize].event,
            ];
            let mut table = engine.table();
            let slot = table.series(LAST_EVENT, appliance, record.test, &labels);
            // Before the flush a scrape would show an event of 1970.
            match time {
                EventTimestamp::Now => table.stamp(slot),
                EventTimestamp::At(seconds) => table.raise(slot, seconds),
                EventTimestamp::Unknown => {}
            }
            drop(table);
            if !record.test {
                if self.slots.len() >= self.slots_max {
                    self.slots.clear();
                }
                self.slots.insert(key, slot);
            }
            slot
        });
        match time {
            EventTimestamp::Now => tally.stamp(slot),
            EventTimestamp::At(seconds) if known.is_some() => engine.table().raise(slot, seconds),
            EventTimestamp::At(_) | EventTimestamp::Unknown => {}
        }
        slot
    }
}

/// When whoever collected a line wrote it, in seconds since 1970; 0 if that is not known.
#[cold]
pub(super) fn written_at(line: &[u8], clock: &Clock) -> u32 {
    record::outer_timestamp(line, clock)
        .filter(|at| *at <= clock.now)
        .and_then(|at| at.as_second().try_into().ok())
        .unwrap_or(0)
}
