//! The budget of a table: how many series there may be in all, and what is removed when it is used up.
//!
//! Appliances that only headers name can use seven eighths of it, and of each metric's limit: whoever makes up names does
//! not keep an appliance that a path or the settings name from having its series. What finds no space is counted, by
//! metric; when [`Table::evict`] is called, appliances that only headers name go, those that have earned nothing and have
//! the fewest lines first, until a quarter is free.

use std::sync::Arc;

use hashbrown::HashSet;
use hashbrown::hash_map::Entry;

use super::{ApplianceId, MetricId, OTHER, Slot, Table};

/// How much the table may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Series of one metric, over all appliances.
    pub series_per_metric: usize,
    /// Series of one metric for one appliance, so that one noisy device does not use up the others' share.
    pub series_per_metric_and_appliance: usize,
    /// Appliances; further ones count under `other`.
    pub appliances: usize,
    /// Bytes of a label's value; longer ones are cut.
    pub label_bytes: usize,
    /// Series of all metrics together.
    pub series: usize,
    /// Bytes that they may take, scrapes and checkpoints included.
    pub bytes: usize,
    /// An appliance goes when nothing was heard of it for so many seconds. If it is not set, after 30 days, but those
    /// that the settings list never do.
    pub appliance_expiry_seconds: Option<u32>,
    /// A counter is made when it first counts, not with its appliance.
    pub are_counters_lazy: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            series_per_metric: 200_000,
            series_per_metric_and_appliance: 2_000,
            appliances: 10_000,
            label_bytes: 256,
            series: 750_000,
            bytes: 384 << 20,
            appliance_expiry_seconds: None,
            are_counters_lazy: false,
        }
    }
}

/// What a series takes besides its label values: in the table, its index and groups, in the copy for scrapes, and while
/// a scrape is encoded and a checkpoint is written. With three labels that comes to the 480 bytes that were measured at
/// the peak of a process with 500,000 series.
const SERIES_BYTES: usize = 420;
/// What a reference to a label value takes.
const VALUE_BYTES: usize = 16;
/// What a text takes besides its bytes.
const TEXT_BYTES: usize = 40;

/// What the series of a table take.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    pub(super) series: usize,
    series_bytes: usize,
    text_bytes: usize,
}

impl Usage {
    pub(super) fn add_series(&mut self, values: &[Arc<str>]) {
        self.series += 1;
        self.series_bytes += bytes_of(values);
    }

    fn remove_series(&mut self, values: &[Arc<str>]) {
        self.series -= 1;
        self.series_bytes -= bytes_of(values);
    }

    pub(super) fn add_text(&mut self, bytes: usize) {
        self.text_bytes += TEXT_BYTES + bytes;
    }

    fn bytes(&self) -> usize {
        self.series_bytes + self.text_bytes
    }
}

/// What a series takes: the body of a scrape has the text of its label values, which the table has once for all series.
/// There, a backslash stands before some bytes.
fn bytes_of(values: &[Arc<str>]) -> usize {
    let is_escaped = |byte: &u8| matches!(byte, b'"' | b'\\' | b'\n');
    let value = |value: &Arc<str>| {
        let escaped = value.bytes().filter(|byte| is_escaped(byte)).count();
        VALUE_BYTES + value.len() + escaped
    };
    SERIES_BYTES + values.iter().map(value).sum::<usize>()
}

impl Table {
    /// What the appliance can use of a limit.
    fn share(&self, appliance: ApplianceId, limit: usize) -> usize {
        match self.is_named(appliance) {
            true => limit,
            false => limit - limit / 8,
        }
    }

    /// Whether a counter is made when it first counts.
    pub(crate) fn are_counters_lazy(&self) -> bool {
        self.limits.are_counters_lazy
    }

    /// Whether there is space for counters of which none has counted yet: a quarter of the budget is left to what has
    /// happened.
    pub(crate) fn has_space_for_zeros(&self) -> bool {
        let of = |limit: usize| limit - limit / 4;
        self.usage.series < of(self.limits.series) && self.usage.bytes() < of(self.limits.bytes)
    }

    /// Whether there is space for another series of the appliance.
    pub(super) fn has_space(&self, appliance: ApplianceId) -> bool {
        self.usage.series < self.share(appliance, self.limits.series)
            && self.usage.bytes() < self.share(appliance, self.limits.bytes)
    }

    /// Whether a metric has no space for another series of the appliance.
    pub(super) fn is_full(&self, metric: MetricId, appliance: ApplianceId) -> bool {
        let limit = self.limits.series_per_metric;
        self.counts[metric.0 as usize].0 >= self.share(appliance, limit)
    }

    /// Series that all metrics may have together.
    pub fn series_budget(&self) -> usize {
        self.limits.series
    }

    /// Bytes that all series take, scrapes and checkpoints included: an estimate.
    pub fn series_bytes(&self) -> usize {
        self.usage.bytes()
    }

    /// Something found no space that an eviction could give it.
    pub fn wants_eviction(&self) -> bool {
        self.wants_eviction
    }

    /// For every metric its name, and how many series were removed for others.
    pub fn evictions(&self) -> impl Iterator<Item = (&Arc<str>, u64)> {
        let of = |id: &MetricId| {
            let at = id.0 as usize;
            (&self.specs[at].family.name, self.evicted[at])
        };
        self.by_name.iter().map(of)
    }

    /// Goes on with what `former` has counted: series that were refused or evicted, and values that a unit does not allow.
    pub fn add_counts(&mut self, former: &Table) {
        for id in &self.by_name {
            let at = id.0 as usize;
            let Some(same) = former.metric(&self.specs[at].family.name) else {
                continue;
            };
            let theirs = same.0 as usize;
            self.counts[at].1 += former.counts[theirs].1;
            self.evicted[at] += former.evicted[theirs];
            self.implausible[at] += former.implausible[theirs];
        }
    }

    /// If something found no space, removes appliances that only headers name until a quarter is free of the budget and of
    /// what full metrics hold: first those that have earned nothing, and among them those with the fewest lines, then
    /// those that were heard of longest ago. `lines` is the metric that counts an appliance's lines. Returns how many
    /// appliances went.
    pub fn evict(&mut self, lines: MetricId) -> usize {
        if !std::mem::take(&mut self.wants_eviction) {
            return 0;
        }
        let mut series = vec![0; self.appliances.len()];
        // Those of metrics that are full.
        let mut crowding = vec![0; self.appliances.len()];
        let mut last = vec![0; self.appliances.len()];
        for (label, touched) in self.labels.iter().zip(&self.touched) {
            let Some(label) = label else { continue };
            let at = label.appliance.0 as usize;
            series[at] += 1;
            crowding[at] += usize::from(self.is_full(label.metric, OTHER));
            last[at] = touched.max(&last[at]).to_owned();
        }
        let ids = (0..self.appliances.len() as u32).map(ApplianceId);
        let mut candidates: Vec<_> = ids
            .filter(|id| *id != OTHER && self.is_known(*id) && !self.is_named(*id))
            .map(|id| {
                let lines = self.sum(lines, id) as u64;
                (self.is_trusted(id), lines, last[id.0 as usize], id)
            })
            .collect();
        candidates.sort_unstable_by_key(|(earned, lines, last, id)| (*earned, *lines, *last, id.0));
        let per_series = self.usage.bytes() / self.usage.series.max(1);
        let keep = (self.limits.series - self.limits.series / 4)
            .min((self.limits.bytes - self.limits.bytes / 4) / per_series.max(1));
        let keep_appliances = self.limits.appliances - self.limits.appliances.div_ceil(4);
        let mut crowd: usize = crowding.iter().sum();
        let keep_crowd = crowd - crowd / 4;
        let (mut left, mut appliances) = (self.usage.series, self.appliance_ids.len() - 1);
        let mut gone = HashSet::new();
        for (.., id) in candidates {
            if left <= keep && appliances <= keep_appliances && crowd <= keep_crowd {
                break;
            }
            left -= series[id.0 as usize];
            crowd -= crowding[id.0 as usize];
            appliances -= 1;
            gone.insert(id);
        }
        for label in self.labels.iter().flatten() {
            if gone.contains(&label.appliance) {
                self.evicted[label.metric.0 as usize] += 1;
            }
        }
        self.remove_appliances(&gone);
        gone.len()
    }

    /// Removes one series; [`Self::finish_removal`] is to follow.
    pub(super) fn remove(&mut self, slot: Slot) {
        let at = slot.0 as usize;
        let Some(label) = self.labels[at].take() else {
            return;
        };
        let values = label.values[1..].iter().map(|value| &**value);
        let hash = self.hash(label.metric, label.appliance, label.test, values);
        if let Ok(found) = self.index.find_entry(hash, |other| *other == slot) {
            found.remove();
        }
        let group = (label.metric, label.appliance, label.test);
        if let Entry::Occupied(mut group) = self.groups.entry(group) {
            group.get_mut().slots.retain(|other| *other != slot);
            if group.get().slots.is_empty() {
                group.remove();
            }
        }
        self.counts[label.metric.0 as usize].0 -= 1;
        self.usage.remove_series(&label.values);
        self.change(slot);
        self.free.push(slot);
    }

    /// Slots that were handed out may mean other series from now on, and texts that no series has are dropped.
    pub(super) fn finish_removal(&mut self) {
        self.epoch += 1;
        self.strings
            .retain(|text| std::sync::Arc::strong_count(text) > 1);
        let texts = self.strings.iter();
        self.usage.text_bytes = texts.map(|text| TEXT_BYTES + text.len()).sum();
    }
}
