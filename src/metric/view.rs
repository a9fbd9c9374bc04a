//! What scrapes see of the series table: a copy of it, so that encoding holds up nobody who counts.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::key::SeriesKey;
use super::{Family, MetricId, Series, Slot, Snapshot, Table};

/// A copy of a table, brought up to date by [`Table::sync_view`].
#[derive(Debug, Default)]
pub struct ScrapeView {
    /// The table that it is a copy of.
    table: Arc<()>,
    families: Vec<(MetricId, Arc<Family>)>,
    /// By slot.
    labels: Vec<Option<SeriesKey>>,
    /// By slot.
    values: Vec<f64>,
    last_birth: u64,
    last_own_birth: u64,
}

impl ScrapeView {
    /// All series, for somebody who has been shown the births up to `shown`: counters that were born later are at 0.
    /// `u64::MAX` gives every value as it is.
    pub fn snapshot(&self, shown: u64) -> Snapshot {
        collect(&self.families, &self.labels, &self.values, shown)
    }

    /// The label values and the value of each series of a metric, but for test lines.
    pub(crate) fn series_of(&self, metric: &str) -> impl Iterator<Item = (&[Arc<str>], f64)> {
        let family = self
            .families
            .iter()
            .find(|(_, family)| *family.name == *metric);
        let id = family.map(|(id, _)| *id);
        let all = self.labels.iter().zip(&self.values);
        all.filter_map(move |(key, value)| {
            let key = key
                .as_ref()
                .filter(|key| Some(key.metric) == id && !key.test)?;
            Some((&*key.values, *value))
        })
    }

    /// Who takes this view's snapshot has been shown all births of its table up to this number.
    pub fn last_birth(&self) -> u64 {
        self.last_birth
    }

    /// The number of the last birth in the table itself since it was made, where several number theirs together.
    pub fn last_own_birth(&self) -> u64 {
        self.last_own_birth
    }
}

impl Table {
    /// Copies at most `labels_max` changed labels into `view`, and all values once no label is left; returns whether the
    /// view is complete. Bounded, so that a large scrape does not hold up those who feed the table: they may go on
    /// between two calls.
    ///
    /// A table has one view.
    pub fn sync_view(&mut self, view: &mut ScrapeView, labels_max: usize) -> bool {
        if !Arc::ptr_eq(&view.table, &self.identity) {
            *view = ScrapeView {
                table: self.identity.clone(),
                families: self.families(),
                ..ScrapeView::default()
            };
            for at in 0..self.labels.len() as u32 {
                self.change(Slot(at));
            }
        }
        view.labels.resize_with(self.labels.len(), || None);
        let left = self.changed.len().saturating_sub(labels_max);
        for slot in self.changed.drain(left..) {
            let at = slot.0 as usize;
            self.is_changed[at] = false;
            view.labels[at] = self.labels[at].clone();
        }
        if left > 0 {
            return false;
        }
        view.values.clone_from(&self.values);
        view.last_birth = self.birth_numbers.load(Ordering::SeqCst);
        view.last_own_birth = self.last_birth;
        true
    }
}

pub(super) fn collect(
    families: &[(MetricId, Arc<Family>)],
    labels: &[Option<SeriesKey>],
    values: &[f64],
    shown: u64,
) -> Snapshot {
    // As much memory as is needed: what a growing vector leaves behind is more than the allocator likes to keep, and to
    // get it anew from the system for every scrape costs half as much as the scrape itself.
    let mut counts = vec![0; families.len()];
    for label in labels.iter().flatten() {
        counts[label.metric.0 as usize] += 1;
    }
    let mut rows: Vec<Vec<Series>> = counts.into_iter().map(Vec::with_capacity).collect();
    for (label, value) in labels.iter().zip(values) {
        let Some(label) = label else { continue };
        rows[label.metric.0 as usize].push(Series {
            values: label.values.clone(),
            test: label.test,
            created: label.created,
            value: if label.born > shown { 0.0 } else { *value },
        });
    }
    let rows = families.iter().map(|(id, family)| {
        let series = std::mem::take(&mut rows[id.0 as usize]);
        (family.clone(), series)
    });
    Snapshot {
        families: rows.filter(|(_, series)| !series.is_empty()).collect(),
    }
}
