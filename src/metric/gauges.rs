//! Gauges when there is no space: unlike a counter's, their overflow cannot be a sum.
//!
//! An appliance whose share of a gauge is used up keeps the series of names that the pack lists; of the others, one that
//! says nothing bad and was not touched for long is evicted for the new one. The slot of an evicted series keeps its
//! meaning until no batch is open, so that whoever holds it can bring the series back.

use std::sync::Arc;

use hashbrown::HashMap;

use super::key::{Group, SeriesKey};
use super::{ApplianceId, Kind, LabelValues, MetricId, OTHER, Slot, Table};

/// Series looked at to find one that can go: the clock hand of an approximate LRU.
const LOOKED_AT: usize = 32;
/// Evicted series whose slots are not free yet; beyond that further ones are refused.
const EVICTED_MAX: usize = 1 << 16;
/// Beyond this many, their slots are wanted back.
const EVICTED_MANY: usize = 1 << 13;

/// Evicted series, until their slots are free.
#[derive(Debug, Default)]
pub(super) struct EvictedGauges {
    pub(super) labels: HashMap<Slot, SeriesKey>,
    by_hash: HashMap<u64, Slot>,
    hand: usize,
}

impl Table {
    /// Makes space for another series of a gauge; false if none can be evicted.
    pub(super) fn make_space(
        &mut self,
        metric: MetricId,
        appliance: ApplianceId,
        test: bool,
    ) -> bool {
        let Some(Group { slots, .. }) = self.groups.get(&(metric, appliance, test)) else {
            return false;
        };
        if self.evicted_gauges.labels.len() >= EVICTED_MAX {
            return false;
        }
        let low_is_worse = self.is_low_worse[metric.0 as usize];
        let looked_at = (0..slots.len().min(LOOKED_AT))
            .map(|step| slots[(self.evicted_gauges.hand + step) % slots.len()]);
        let oldest = looked_at
            .filter(|slot| !self.is_listed(*slot))
            .min_by_key(|slot| {
                let at = slot.0 as usize;
                // Readings differ in more than how bad they are: what is above 2 is only compared by age.
                let value = self.values[at].clamp(0.0, 2.0) as u8;
                let badness = if low_is_worse { 2 - value } else { value };
                (badness, self.touched[at])
            });
        self.evicted_gauges.hand = self.evicted_gauges.hand.wrapping_add(LOOKED_AT);
        let Some(slot) = oldest else { return false };
        let Some(label) = self.labels[slot.0 as usize].clone() else {
            return false;
        };
        self.evicted[metric.0 as usize] += 1;
        self.put_away(slot, label);
        true
    }

    fn put_away(&mut self, slot: Slot, label: SeriesKey) {
        self.remove(slot);
        // It is not free yet.
        self.free.pop();
        let hash = self.hash_of_label(&label);
        self.evicted_gauges.by_hash.insert(hash, slot);
        self.evicted_gauges.labels.insert(slot, label);
        self.wants_eviction |= self.evicted_gauges.labels.len() >= EVICTED_MANY;
    }

    /// The series of one metric of one appliance, with their label values after `appliance`.
    pub fn group(
        &self,
        metric: MetricId,
        appliance: ApplianceId,
        test: bool,
    ) -> impl Iterator<Item = (Slot, &[Arc<str>])> {
        let group = self.groups.get(&(metric, appliance, test));
        let slots = group.into_iter().flat_map(|group| &group.slots);
        slots.filter_map(|slot| {
            let label = self.labels[slot.0 as usize].as_ref()?;
            Some((*slot, label.values.get(1..)?))
        })
    }

    /// Another number whenever a series of one metric of one appliance was made.
    pub fn last_entered(&self, metric: MetricId, appliance: ApplianceId, test: bool) -> u64 {
        let group = self.groups.get(&(metric, appliance, test));
        group.map_or(0, |group| group.last_entered)
    }

    /// Whether a slot's series is there.
    pub fn is_there(&self, slot: Slot) -> bool {
        self.labels
            .get(slot.0 as usize)
            .is_some_and(Option::is_some)
    }

    /// Removes a series of a gauge; who holds its slot can bring it back by setting it. A line that is read late and was
    /// written then (in seconds since 1970) removes none that was set since. True if the series was there and is gone.
    pub fn clear_series(&mut self, slot: Slot, late: Option<u32>) -> bool {
        let at = slot.0 as usize;
        let Some(label) = self.labels.get(at).cloned().flatten() else {
            return false;
        };
        let is_newer = |late| self.is_set[at] && self.touched[at] > late;
        if late.is_some_and(is_newer) || self.evicted_gauges.labels.len() >= EVICTED_MAX {
            return false;
        }
        let cleared_at = late.unwrap_or(self.now);
        let last = self.cleared.entry((label.metric, label.appliance));
        let last = last.or_insert(cleared_at);
        *last = cleared_at.max(*last);
        self.put_away(slot, label);
        self.values[at] = 0.0;
        self.is_set[at] = false;
        true
    }

    /// Whether a gauge has no value yet and a line that was written after `late` has cleared its metric.
    fn is_cleared_since(&self, slot: Slot, late: u32) -> bool {
        let at = slot.0 as usize;
        let there = self.labels.get(at).and_then(Option::as_ref);
        let Some(label) = there.or_else(|| self.evicted_gauges.labels.get(&slot)) else {
            return false;
        };
        let cleared_at = self.cleared.get(&(label.metric, label.appliance));
        !self.is_set[at] && cleared_at.is_some_and(|at| *at > late)
    }

    /// Whether the pack lists the values of a series.
    fn is_listed(&self, slot: Slot) -> bool {
        let Some(label) = &self.labels[slot.0 as usize] else {
            return false;
        };
        let domains = &self.specs[label.metric.0 as usize].domains;
        let mut values = domains.iter().zip(&label.values[1..]);
        values.all(|(domain, value)| match domain {
            LabelValues::OneOf(_) => true,
            LabelValues::Any(known) => known.contains(value),
        })
    }

    fn hash_of_label(&self, label: &SeriesKey) -> u64 {
        let values = label.values[1..].iter().map(|value| &**value);
        self.hash(label.metric, label.appliance, label.test, values)
    }

    /// The series with these labels, if it was evicted.
    pub(super) fn find_evicted(
        &self,
        metric: MetricId,
        appliance: ApplianceId,
        test: bool,
        values: &[&str],
    ) -> Option<Slot> {
        if self.evicted_gauges.labels.is_empty() {
            return None;
        }
        let hash = self.hash(metric, appliance, test, values.iter().copied());
        let slot = *self.evicted_gauges.by_hash.get(&hash)?;
        let label = self.evicted_gauges.labels.get(&slot)?;
        label.is(metric, appliance, test, values).then_some(slot)
    }

    /// Brings back an evicted series; another one may have to go. False if there is none, or no space.
    pub(super) fn bring_back(&mut self, slot: Slot) -> bool {
        let Some(label) = self.evicted_gauges.labels.get(&slot) else {
            return false;
        };
        let group = (label.metric, label.appliance, label.test);
        let own = self.groups.get(&group);
        let own = own.map_or(0, |group| group.slots.len());
        let is_full =
            own >= self.limits.series_per_metric_and_appliance || !self.has_space(label.appliance);
        if is_full && !self.make_space(group.0, group.1, group.2) {
            return false;
        }
        let Some(label) = self.evicted_gauges.labels.remove(&slot) else {
            return false;
        };
        let hash = self.hash_of_label(&label);
        self.evicted_gauges.by_hash.remove(&hash);
        self.enter(slot, label, hash);
        true
    }

    /// Frees the slots of evicted series. Only while no batch is open.
    pub(crate) fn free_evicted(&mut self) {
        if self.evicted_gauges.labels.is_empty() {
            return;
        }
        self.evicted_gauges.by_hash.clear();
        let slots: Vec<Slot> = self
            .evicted_gauges
            .labels
            .drain()
            .map(|(slot, _)| slot)
            .collect();
        self.free.extend(slots);
        self.finish_removal();
    }

    /// Sets a gauge and marks it as touched. A value that its unit does not allow is refused and counted.
    pub fn set(&mut self, slot: Slot, new: f64) {
        self.set_at(slot, new, self.now);
    }

    /// Sets gauges together. `late`: to what a line said that was written then (in seconds since 1970) and is read late;
    /// does nothing, and returns false, if one of them was set since.
    pub fn set_unless_newer(&mut self, gauges: &[(Slot, f64)], late: Option<u32>) -> bool {
        let is_newer = |slot: Slot, late| {
            let at = slot.0 as usize;
            self.labels.get(at).is_some_and(Option::is_some)
                && self.is_set[at]
                && self.touched[at] > late
        };
        if let Some(late) = late {
            if gauges.iter().any(|(slot, _)| is_newer(*slot, late)) {
                return false;
            }
            let mut slots = gauges.iter().map(|(slot, _)| *slot);
            if slots.any(|slot| self.is_cleared_since(slot, late)) {
                // They were made for this line.
                for (slot, _) in gauges {
                    if self.is_set.get(slot.0 as usize) == Some(&false) {
                        self.clear_series(*slot, Some(late));
                    }
                }
                return false;
            }
        }
        let set_at = late.unwrap_or(self.now);
        for (slot, value) in gauges {
            self.set_at(*slot, *value, set_at);
        }
        true
    }

    fn set_at(&mut self, slot: Slot, new: f64, set_at: u32) {
        let at = slot.0 as usize;
        if at >= self.values.len() {
            return;
        }
        if self.labels[at].is_none() && !self.bring_back(slot) {
            return;
        }
        let Some(label) = &self.labels[at] else {
            return;
        };
        let metric = label.metric.0 as usize;
        if !self.plausible[metric].contains(&new) {
            self.implausible[metric] += 1;
            return;
        }
        let family = &self.specs[metric].family;
        // `other` is many appliances: the worst of them is shown, until nobody has said so for long.
        if label.appliance == OTHER && family.kind == Kind::Gauge && self.is_set[at] {
            let is_better = match self.is_low_worse[metric] {
                true => new > self.values[at],
                false => new < self.values[at],
            };
            if is_better {
                return;
            }
        }
        self.values[at] = new;
        self.is_set[at] = true;
        self.touched[at] = set_at;
    }

    /// For every metric its name, and how many values were refused that its unit does not allow.
    pub fn implausible(&self) -> impl Iterator<Item = (&Arc<str>, u64)> {
        let of = |id: &MetricId| {
            let at = id.0 as usize;
            (&self.specs[at].family.name, self.implausible[at])
        };
        self.by_name.iter().map(of)
    }

    /// Counts a value of a metric that its unit does not allow.
    pub fn count_implausible(&mut self, metric: MetricId) {
        if let Some(count) = self.implausible.get_mut(metric.0 as usize) {
            *count += 1;
        }
    }
}
