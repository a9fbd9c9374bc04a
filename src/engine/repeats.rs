//! What `last message repeated N times` repeats: for each appliance of a stream, what its last line counted.
//!
//! A collector's file mixes the lines of many appliances, so that the line before is not always the one that is
//! repeated. A [`Last`] is a cache line or two, since one is written for each line.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrayvec::ArrayVec;
use hashbrown::HashMap;

use super::Engine;
use crate::metric::{ApplianceId, SavedAmount, SavedRepeat, Slot, Table};
use crate::rules::RuleId;
use crate::update::Counted;

/// Appliances of one stream whose last line is known; beyond that all are dropped, and repetitions count as not
/// attributed until the next line of the appliance.
const APPLIANCES_MAX: usize = 1 << 14;

/// The same for all streams together: some 15 MiB. Beyond that, a stream that hears of a new appliance knows the last line
/// of that one alone.
const APPLIANCES_OF_ALL_MAX: usize = 1 << 17;

/// Appliances whose last line is part of a checkpoint, over all streams.
pub(crate) const REPEATS_SAVED_MAX: usize = 20_000;

/// What the last line of each appliance of a stream counted.
#[derive(Debug)]
pub struct Repeats {
    /// By appliance its place in `last`.
    places: HashMap<ApplianceId, u32>,
    last: Vec<Last>,
    appliances_max: usize,
    /// How many there are in all streams that share it.
    of_all: Arc<AtomicUsize>,
}

impl Default for Repeats {
    fn default() -> Self {
        Self::new(APPLIANCES_MAX)
    }
}

impl Drop for Repeats {
    fn drop(&mut self) {
        self.of_all.fetch_sub(self.last.len(), Ordering::Relaxed);
    }
}

/// Series of a line that are kept in place, one for each bit of [`Last::standing`].
const SLOTS_MAX: usize = u8::BITS as usize;

/// What one line counted.
#[derive(Clone, Debug)]
pub(super) struct Last {
    /// The table's epoch when it was recorded.
    epoch: u32,
    pub(super) rule: Option<RuleId>,
    /// Series that went up by 1.
    slots: ArrayVec<Slot, SLOTS_MAX>,
    /// By place among `slots` a bit: whether it counts the line itself, and not what it says.
    standing: u8,
    pub(super) event_time: Slot,
    /// Series that went up by another amount, and those that `slots` does not hold.
    #[expect(
        clippy::box_collection,
        reason = "a pointer is a third of a vector, and hardly a line has any"
    )]
    others: Option<Box<Vec<(Slot, f64)>>>,
}

impl Last {
    #[inline]
    pub(super) fn new(epoch: u32) -> Self {
        Self {
            epoch,
            rule: None,
            standing: 0,
            slots: ArrayVec::new(),
            event_time: Slot::NONE,
            others: None,
        }
    }

    #[inline]
    fn reset(&mut self, epoch: u32) {
        self.epoch = epoch;
        self.rule = None;
        self.standing = 0;
        self.slots.clear();
        self.event_time = Slot::NONE;
        self.others = None;
    }

    /// Records the series that count the line itself.
    #[inline]
    pub(super) fn count_line(&mut self, counted: Counted) {
        self.count(counted.messages);
        self.count(counted.event);
        if counted.event_time != Slot::NONE {
            self.event_time = counted.event_time;
        }
    }

    #[inline]
    fn count(&mut self, slot: Slot) {
        let at = self.slots.len();
        if slot != Slot::NONE && self.slots.try_push(slot).is_ok() {
            self.standing |= 1 << at;
        }
    }

    /// Records a counter of a rule that went up by one.
    #[inline]
    pub(super) fn increment(&mut self, slot: Slot) {
        if self.slots.try_push(slot).is_err() {
            self.add(slot, 1.0);
        }
    }

    /// Records a counter of a rule that went up by `amount`.
    #[cold]
    pub(super) fn add(&mut self, slot: Slot, amount: f64) {
        let others = self.others.get_or_insert_default();
        // No rule has so many updates; it bounds what a stream may hold.
        if others.len() < 64 {
            others.push((slot, amount));
        }
    }

    /// Whether every slot still means what it meant.
    pub(super) fn is_valid(&self, table: &Table) -> bool {
        let mut slots = self
            .slots
            .iter()
            .copied()
            .chain(self.amounts().map(|(slot, _)| slot));
        slots.all(|slot| table.is_since(slot, self.epoch))
    }

    /// The slots that count the line itself, or those that do not.
    fn slots(&self, standing: bool) -> impl Iterator<Item = Slot> {
        let slots = self.slots.iter().enumerate();
        let is_wanted = move |at: &usize| (self.standing >> at & 1 == 1) == standing;
        slots.filter_map(move |(at, slot)| is_wanted(&at).then_some(*slot))
    }

    /// The series that count the line itself.
    pub(super) fn counted(&self) -> impl Iterator<Item = Slot> {
        self.slots(true)
    }

    /// The counters of rules, and what was added to each.
    pub(super) fn amounts(&self) -> impl Iterator<Item = (Slot, f64)> {
        let others = self.others.iter().flat_map(|others| others.iter().copied());
        self.slots(false).map(|slot| (slot, 1.0)).chain(others)
    }
}

impl Repeats {
    /// Holds the last lines of at most so many appliances.
    pub fn new(appliances_max: usize) -> Self {
        Self {
            places: HashMap::new(),
            last: Vec::new(),
            appliances_max,
            of_all: Arc::default(),
        }
    }

    /// Of one stream of several, whose appliances are counted together.
    pub(super) fn of(of_all: &Arc<AtomicUsize>) -> Self {
        Self {
            places: HashMap::new(),
            last: Vec::new(),
            appliances_max: APPLIANCES_MAX,
            of_all: of_all.clone(),
        }
    }

    /// The entry of an appliance for a new line, of which nothing is counted yet.
    #[inline(always)] // A third of its cost is to call it.
    pub(super) fn start(&mut self, appliance: ApplianceId, epoch: u32) -> &mut Last {
        let place = match self.places.get(&appliance) {
            Some(place) => *place,
            None => self.insert(appliance, epoch),
        };
        let last = &mut self.last[place as usize];
        last.reset(epoch);
        last
    }

    #[cold]
    fn insert(&mut self, appliance: ApplianceId, epoch: u32) -> u32 {
        let others = self.of_all.fetch_add(1, Ordering::Relaxed);
        if self.last.len() >= self.appliances_max || others >= APPLIANCES_OF_ALL_MAX {
            self.of_all.fetch_sub(self.last.len(), Ordering::Relaxed);
            // Their memory, too.
            (self.places, self.last) = (HashMap::new(), Vec::new());
        }
        let place = self.last.len() as u32;
        self.places.insert(appliance, place);
        self.last.push(Last::new(epoch));
        place
    }

    pub(super) fn get(&self, appliance: ApplianceId) -> Option<&Last> {
        self.last.get(*self.places.get(&appliance)? as usize)
    }

    /// By name, but for what is not valid any more. At most `max` appliances.
    pub fn save(&self, engine: &Engine, path: &str, max: usize) -> Vec<SavedRepeat> {
        let table = engine.table();
        let amount = |slot: Slot, amount: f64| {
            let (spec, test, values) = table.describe(slot)?;
            Some(SavedAmount {
                metric: spec.family.name.clone(),
                test,
                values: values.get(1..)?.to_vec(),
                amount,
            })
        };
        let last = |(appliance, place): (&ApplianceId, &u32)| {
            Some((*appliance, self.last.get(*place as usize)?))
        };
        let all = self.places.iter().filter_map(last);
        let valid = all.filter(|(_, last)| last.is_valid(&table));
        valid
            .take(max)
            .map(|(appliance, last)| SavedRepeat {
                path: path.to_owned(),
                appliance: table.appliance_name(appliance).into(),
                rule: last
                    .rule
                    .map(|rule| engine.compiled.rules.rules[rule.0 as usize].id.clone()),
                standing: last
                    .counted()
                    .filter_map(|slot| amount(slot, 1.0))
                    .collect(),
                counted: last
                    .amounts()
                    .filter_map(|(slot, of)| amount(slot, of))
                    .collect(),
                event_time: amount(last.event_time, 0.0).filter(|_| last.event_time != Slot::NONE),
            })
            .collect()
    }

    /// Takes over one that was saved; it is dropped if its series are not there.
    pub fn restore(&mut self, engine: &Engine, saved: &SavedRepeat) {
        let mut table = engine.table();
        let appliance = table.appliance(&saved.appliance);
        let find = |saved: &SavedAmount| {
            let metric = table.metric(&saved.metric)?;
            let values: Vec<&str> = saved.values.iter().map(|value| &**value).collect();
            table.find(metric, appliance, saved.test, &values)
        };
        let epoch = table.epoch();
        let mut last = Last::new(epoch);
        for saved in &saved.standing {
            let Some(slot) = find(saved) else { return };
            last.count(slot);
        }
        for saved in &saved.counted {
            let Some(slot) = find(saved) else { return };
            match saved.amount {
                1.0 => last.increment(slot),
                amount => last.add(slot, amount),
            }
        }
        last.event_time = saved
            .event_time
            .as_ref()
            .and_then(find)
            .unwrap_or(Slot::NONE);
        last.rule = saved.rule.as_ref().and_then(|id| {
            let at = engine
                .compiled
                .rules
                .rules
                .iter()
                .position(|rule| rule.id == *id)?;
            Some(RuleId(at as u32))
        });
        *self.start(appliance, epoch) = last;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_appliances_of_all_streams_are_bounded() {
        let of_all = Arc::default();
        let mut streams: Vec<Repeats> = (0..100).map(|_| Repeats::of(&of_all)).collect();
        let sum = |streams: &[Repeats]| streams.iter().map(|one| one.last.len()).sum::<usize>();
        for stream in &mut streams {
            for appliance in 0..APPLIANCES_MAX as u32 {
                stream.start(ApplianceId(appliance), 0);
            }
        }
        assert!(sum(&streams) <= APPLIANCES_OF_ALL_MAX + streams.len());
        assert_eq!(sum(&streams), of_all.load(Ordering::Relaxed));
        // The last line of each is known nevertheless.
        for stream in &mut streams {
            stream.start(ApplianceId(1 << 20), 0);
            assert!(stream.get(ApplianceId(1 << 20)).is_some());
        }
        streams.clear();
        assert_eq!(of_all.load(Ordering::Relaxed), 0);
    }
}
