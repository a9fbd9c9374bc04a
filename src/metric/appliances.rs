//! The appliances of a table: which are known, which are trusted, and how long.

use std::sync::Arc;

use hashbrown::HashSet;

use super::{ApplianceId, Kind, MetricId, OTHER, Slot, Table};

/// How long an appliance that the settings do not list is kept without a line, if the settings do not say.
const EXPIRE_SECONDS: u32 = 30 * 86_400;

/// How long the worst value of all appliances that have no series of their own is shown, in seconds.
const OTHER_EXPIRE_SECONDS: u32 = 86_400;

/// What is known of an appliance besides its series.
#[derive(Clone, Debug)]
pub(super) struct Appliance {
    /// None if it was removed, and the place is free.
    pub(super) name: Option<Arc<str>>,
    /// The settings list it.
    listed: bool,
    /// Its name is from the settings or a path: no line can have made it up.
    named: bool,
    /// Its name is not taken from a header alone, or it has logged for long.
    trusted: bool,
    /// When it was first heard of, seconds since 1970.
    since: u32,
}

impl Table {
    /// The appliance of this name; [`OTHER`] beyond the limit, or when the configured ones are exclusive.
    pub fn appliance(&mut self, name: &str) -> ApplianceId {
        if let Some(&id) = self.appliance_ids.get(name) {
            return id;
        }
        if self.exclusive {
            return OTHER;
        }
        // `other` has a place, too.
        if self.appliance_ids.len() > self.limits.appliances {
            self.wants_eviction = true;
            return OTHER;
        }
        let name = self.string(name);
        if let Some(&id) = self.appliance_ids.get(&name) {
            return id;
        }
        let appliance = Appliance {
            name: Some(name.clone()),
            listed: false,
            named: false,
            trusted: false,
            since: self.now,
        };
        let id = match self.free_appliances.pop() {
            Some(id) => {
                self.appliances[id.0 as usize] = appliance;
                id
            }
            None => {
                self.appliances.push(appliance);
                ApplianceId(self.appliances.len() as u32 - 1)
            }
        };
        self.appliance_ids.insert(name, id);
        id
    }

    /// The same for a name that no line can have made up.
    pub fn trusted_appliance(&mut self, name: &str) -> ApplianceId {
        let id = self.appliance(name);
        self.trust(id);
        if id != OTHER {
            self.appliances[id.0 as usize].named = true;
        }
        id
    }

    pub(super) fn list_appliance(&mut self, name: &str) {
        let id = self.trusted_appliance(name);
        self.appliances[id.0 as usize].listed = true;
    }

    /// From now on the appliance's counters start at 0.
    pub fn trust(&mut self, id: ApplianceId) {
        if let Some(appliance) = self.appliances.get_mut(id.0 as usize) {
            appliance.trusted = id != OTHER;
        }
    }

    /// Whether an appliance is trusted.
    pub fn is_trusted(&self, id: ApplianceId) -> bool {
        let appliance = self.appliances.get(id.0 as usize);
        appliance.is_some_and(|appliance| appliance.trusted)
    }

    /// Whether its name is from the settings or a path.
    pub(super) fn is_named(&self, id: ApplianceId) -> bool {
        let appliance = self.appliances.get(id.0 as usize);
        appliance.is_some_and(|appliance| appliance.named)
    }

    /// Whether it was not removed.
    pub fn is_known(&self, id: ApplianceId) -> bool {
        let appliance = self.appliances.get(id.0 as usize);
        appliance.is_some_and(|appliance| appliance.name.is_some())
    }

    /// For how long an appliance has been known; 0 if the clock was set back.
    pub fn known_for_seconds(&self, id: ApplianceId) -> u32 {
        let appliance = self.appliances.get(id.0 as usize);
        appliance.map_or(0, |appliance| self.now.saturating_sub(appliance.since))
    }

    /// Whether something was heard of an appliance of this name, or the settings list it.
    pub fn knows_appliance(&self, name: &str) -> bool {
        self.appliance_ids.get(name).is_some_and(|id| *id != OTHER)
    }

    /// The appliance's name.
    pub fn appliance_name(&self, id: ApplianceId) -> &str {
        let appliance = self.appliances.get(id.0 as usize);
        appliance
            .and_then(|appliance| appliance.name.as_deref())
            .unwrap_or("other")
    }

    /// The names of all appliances seen, without `other`.
    pub fn appliances(&self) -> Vec<Arc<str>> {
        let appliances = self.appliances.iter().skip(1);
        appliances.filter_map(|one| one.name.clone()).collect()
    }

    pub(super) fn listed_appliances(&self) -> Vec<Arc<str>> {
        let appliances = self.appliances.iter().filter(|one| one.listed);
        appliances.filter_map(|one| one.name.clone()).collect()
    }

    /// Those of the trusted ones.
    pub fn trusted_appliances(&self) -> Vec<Arc<str>> {
        let appliances = self.appliances.iter().filter(|one| one.trusted);
        appliances.filter_map(|one| one.name.clone()).collect()
    }

    /// Those whose name is from the settings or a path.
    pub fn named_appliances(&self) -> Vec<Arc<str>> {
        let appliances = self.appliances.iter().filter(|one| one.named);
        appliances.filter_map(|one| one.name.clone()).collect()
    }

    /// Those of a snapshot.
    pub(super) fn restore_trusted(&mut self, name: &str) {
        let id = self.appliance(name);
        self.trust(id);
    }

    /// Removes the series whose time has come. Returns how many went.
    pub fn expire(&mut self) -> usize {
        let mut gone = 0;
        for at in 0..self.labels.len() {
            let Some(label) = &self.labels[at] else {
                continue;
            };
            let spec = &self.specs[label.metric.0 as usize];
            let of_other = (label.appliance == OTHER && spec.family.kind == Kind::Gauge)
                .then_some(OTHER_EXPIRE_SECONDS);
            let Some(seconds) = spec.expire_seconds.or(of_other) else {
                continue;
            };
            if self.now.saturating_sub(self.touched[at]) < seconds {
                continue;
            }
            self.remove(Slot(at as u32));
            gone += 1;
        }
        if gone > 0 {
            self.finish_removal();
        }
        gone
    }

    /// Removes the appliances that nothing was heard of for long. Returns how many.
    pub fn expire_appliances(&mut self) -> usize {
        let mut last = vec![0; self.appliances.len()];
        for (label, touched) in self.labels.iter().zip(&self.touched) {
            if let Some(label) = label {
                let last: &mut u32 = &mut last[label.appliance.0 as usize];
                *last = (*last).max(*touched);
            }
        }
        let of_settings = self.limits.appliance_expiry_seconds;
        let is_over = |(at, one): (usize, &Appliance)| {
            let after = match one.listed {
                true => of_settings?,
                false => of_settings.unwrap_or(EXPIRE_SECONDS),
            };
            let heard = last[at].max(one.since);
            let is_over = at > 0 && one.name.is_some() && self.now.saturating_sub(heard) >= after;
            is_over.then_some(ApplianceId(at as u32))
        };
        let gone = self.appliances.iter().enumerate().filter_map(is_over);
        let gone: HashSet<ApplianceId> = gone.collect();
        self.remove_appliances(&gone);
        gone.len()
    }

    /// The clock was set by so many seconds: whatever was touched is as old as before. Gauges of these metrics, which hold
    /// times, are not in the future, and neither is the time at which a counter began.
    pub(crate) fn clock_was_set(&mut self, by_seconds: i64, times: &[MetricId]) {
        let moved = |time: u32| {
            let time = i64::from(time).saturating_add(by_seconds);
            time.clamp(0, i64::from(self.now)) as u32
        };
        self.touched
            .iter_mut()
            .for_each(|time| *time = moved(*time));
        let appliances = self.appliances.iter_mut();
        appliances.for_each(|one| one.since = moved(one.since));
        for at in 0..self.labels.len() {
            let Some(label) = &mut self.labels[at] else {
                continue;
            };
            if times.contains(&label.metric) {
                self.values[at] = self.values[at].min(f64::from(self.now));
            }
            if label.created > self.now {
                label.created = self.now;
                self.change(Slot(at as u32));
            }
        }
    }

    /// Removes an appliance with all its series. False if it is not known.
    pub fn forget_appliance(&mut self, name: &str) -> bool {
        let Some(&id) = self.appliance_ids.get(name) else {
            return false;
        };
        if id == OTHER {
            return false;
        }
        self.remove_appliances(&HashSet::from_iter([id]));
        true
    }

    pub(super) fn remove_appliances(&mut self, gone: &HashSet<ApplianceId>) {
        if gone.is_empty() {
            return;
        }
        self.cleared
            .retain(|(_, appliance), _| !gone.contains(appliance));
        for at in 0..self.labels.len() {
            let of = self.labels[at].as_ref().map(|label| label.appliance);
            if of.is_some_and(|of| gone.contains(&of)) {
                self.remove(Slot(at as u32));
            }
        }
        for id in gone {
            let one = &mut self.appliances[id.0 as usize];
            // One that is listed stays known, without a series.
            if one.listed {
                continue;
            }
            if let Some(name) = one.name.take() {
                self.appliance_ids.remove(&name);
            }
            (one.trusted, one.named) = (false, false);
            self.free_appliances.push(*id);
        }
        self.finish_removal();
    }

    /// The sum of a metric's series of one appliance.
    pub fn sum(&self, metric: MetricId, appliance: ApplianceId) -> f64 {
        let group = self.groups.get(&(metric, appliance, false));
        let slots = group.into_iter().flat_map(|group| &group.slots);
        slots.map(|slot| self.get(*slot)).sum()
    }
}
