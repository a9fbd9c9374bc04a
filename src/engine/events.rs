//! When events happened, and attempts that are some.

use super::attempts::key;
use super::{Engine, EventTime, StreamContext};
use crate::matcher::Found;
use crate::record::{self, Clock, Record};
use crate::rules::{AttemptEvent, AttemptOutcome};
use crate::update::standard::LAST_EVENT;
use crate::update::{EventTimestamp, Line, attempts_of};

/// When the event of a line is taken to have happened.
pub(super) fn event_time(origin: &StreamContext, record: &Record<'_>) -> EventTimestamp {
    match origin.event_time {
        EventTime::Arrival => EventTimestamp::Now,
        EventTime::At(seconds) => EventTimestamp::At(f64::from(seconds)),
        EventTime::Record => match record.timestamp(&origin.clock) {
            Some(time) => EventTimestamp::At(time.min(origin.clock.now).as_second() as f64),
            None => EventTimestamp::Unknown,
        },
    }
}

impl Engine {
    /// Enters what a match says of somebody's attempts. Many failures, or a success after them, may be an event.
    #[cold]
    pub(super) fn enter_attempts(&self, line: &Line<'_>, found: &Found, origin: &StreamContext) {
        let (record, appliance) = (line.record, line.appliance);
        let time = match origin.event_time {
            EventTime::Arrival | EventTime::At(_) => None,
            EventTime::Record => record.timestamp(&origin.clock),
        };
        let now = time.unwrap_or(origin.clock.now).as_second();
        let now = u32::try_from(now).unwrap_or(0);
        attempts_of(line, found, |attempt, whose| {
            let key = key(self.table().appliance_name(appliance), &attempt.name, whose);
            let failures = match attempt.outcome {
                AttemptOutcome::Passed => self.attempts.lock().passed(key, now),
                AttemptOutcome::Failed => {
                    self.attempts.lock().failed(key, record.repeat.max(1), now)
                }
            };
            if let Some(AttemptEvent { after, event }) = &attempt.event
                && failures >= *after
            {
                let labels = [line.program(), event];
                let mut table = self.table();
                let slot = table.series(LAST_EVENT, appliance, false, &labels);
                event_time(origin, record).set(&mut table, slot);
            }
        });
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
