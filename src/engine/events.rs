//! When notable events last happened.

use hashbrown::HashMap;

use super::standard::LAST_EVENT;
use super::{Engine, EventTime, label};
use crate::metric::{ApplianceId, CounterDeltas, Slot};
use crate::record::{Clock, ProgramId, Record};
use crate::rules::RuleId;

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
            EventTime::Record => match record.timestamp(clock) {
                Some(time) => Self::At(time.min(clock.now).as_second() as f64),
                None => Self::Unknown,
            },
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
                label(&engine.programs, record),
                &engine.rules.rules[rule.0 as usize].event,
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
