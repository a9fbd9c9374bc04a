//! The series table.
//!
//! ```text
//!   (metric, appliance, test, label values)      what a rule's update says
//!            │ index: a hash table of slots        once for each new combination
//!            ▼
//!          Slot ── cached by whoever updates it    from then on
//!            │
//!   ┌────────┴──┬────────┬─────────┬─────────┐
//!   │ labels    │ values │ is_set  │ touched │     arrays by slot
//!   └───────────┴────────┴─────────┴─────────┘
//! ```
//!
//! A slot is an index into dense arrays, so an update by somebody who has the slot is an addition at an index, without a
//! hash. Label values are interned: a name that a thousand series carry is in memory once. A removed series leaves its
//! slot free for another; [`Table::epoch`] changes then, and cached slots of before are no longer good.
//!
//! **Costs.** A lookup by labels hashes all label values. It happens once for each combination and thread, since `update`
//! caches slots. A series takes some 480 bytes at the peak of a process, its share of a scrape and of a checkpoint
//! included (`budget.rs`). Expiry and eviction go over all series, at most once a minute and once a second.
//!
//! **Limits.** Four bounds hold at the same time: series of a metric for one appliance, of a metric, of the whole table,
//! and its bytes. What has no series of its own counts in one whose labels are `other`, so sums stay right; what happens to
//! a gauge then is in `gauges.rs`, and who is evicted for whom in `budget.rs`.
//!
//! **Births.** A counter that comes into being gets the next number, which `view.rs` compares with what a scraper has
//! been shown.
//!
//! **When it is not used.** The exporter's own metrics are few and known beforehand: `own_metrics` has them.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::{DefaultHashBuilder, HashMap, HashSet, HashTable};
use std::hash::{BuildHasher, Hash, Hasher};

use super::appliances::Appliance;
use super::budget::Usage;
use super::gauges::EvictedGauges;
use super::key::{Group, SeriesKey};
use super::plausible::{is_low_worse, plausible};
use super::{
    ApplianceId, CounterDeltas, Family, Kind, LabelValues, Limits, MetricDesc, MetricId, OTHER,
    Slot, Snapshot, tally::Delta, view,
};

/// The series of all appliances.
#[derive(Debug)]
pub struct Table {
    pub(super) specs: Vec<MetricDesc>,
    pub(super) by_name: Vec<MetricId>,
    pub(super) limits: Limits,
    pub(super) usage: Usage,
    /// Something found no space that an eviction could give it.
    pub(super) wants_eviction: bool,
    /// By metric: series that were removed for others.
    pub(super) evicted: Vec<u64>,
    /// By metric: the values that its unit allows, how many were refused, and whether a lower one is worse.
    pub(super) plausible: Vec<RangeInclusive<f64>>,
    pub(super) implausible: Vec<u64>,
    pub(super) is_low_worse: Vec<bool>,
    /// Gauges that were evicted for others of their metric.
    pub(super) evicted_gauges: EvictedGauges,
    /// When a metric of an appliance was last cleared, seconds since 1970: what is read late brings nothing back.
    pub(super) cleared: HashMap<(MetricId, ApplianceId), u32>,
    hasher: DefaultHashBuilder,
    /// Label values, each kept once.
    pub(super) strings: HashSet<Arc<str>>,
    pub(super) appliances: Vec<Appliance>,
    pub(super) free_appliances: Vec<ApplianceId>,
    pub(super) appliance_ids: HashMap<Arc<str>, ApplianceId>,
    /// Only these appliances get series of their own, if there are any.
    pub(super) exclusive: bool,

    /// By slot. A slot without label is free.
    pub(super) labels: Vec<Option<SeriesKey>>,
    /// By slot.
    pub(super) values: Vec<f64>,
    /// By slot: it was set, and does not merely exist.
    pub(super) is_set: Vec<bool>,
    /// By slot: when it was last touched, seconds since 1970.
    pub(super) touched: Vec<u32>,
    /// Slots whose label changed since the scrape view was last brought up to date, each once, and by slot whether it is
    /// one.
    pub(super) changed: Vec<Slot>,
    pub(super) is_changed: Vec<bool>,
    /// A view with another one has seen other slots.
    pub(super) identity: Arc<()>,
    pub(super) free: Vec<Slot>,
    /// From labels to slot.
    pub(super) index: HashTable<Slot>,
    /// The series of one metric of one appliance, for state sets and limits.
    pub(super) groups: HashMap<(MetricId, ApplianceId, bool), Group>,
    /// By metric: series that exist, series that were refused.
    pub(super) counts: Vec<(usize, u64)>,
    /// Series that were ever made.
    pub(super) entered: u64,
    pub(super) epoch: u32,
    /// The number of the last birth in all tables that share it. Numbers only grow, over restarts, too.
    pub(super) birth_numbers: Arc<AtomicU64>,
    /// The number of the last birth in this table since it was made; 0 if there was none.
    pub(super) last_birth: u64,
    /// New counters have no birth: what a first start finds in old logs is no burst of events.
    pub(super) backfilling: bool,
    pub(super) now: u32,
}

impl Table {
    /// An empty table for these metrics.
    pub fn new(specs: Vec<MetricDesc>, limits: Limits, exclusive: &[String]) -> Self {
        let mut by_name: Vec<MetricId> = (0..specs.len() as u32).map(MetricId).collect();
        by_name.sort_by(|a, b| {
            let name = |id: &MetricId| specs[id.0 as usize].family.name.clone();
            name(a).cmp(&name(b))
        });
        let mut table = Self {
            counts: vec![(0, 0); specs.len()],
            evicted: vec![0; specs.len()],
            plausible: specs.iter().map(|spec| plausible(&spec.family)).collect(),
            implausible: vec![0; specs.len()],
            is_low_worse: specs
                .iter()
                .map(|spec| is_low_worse(&spec.family))
                .collect(),
            evicted_gauges: EvictedGauges::default(),
            cleared: HashMap::new(),
            usage: Usage::default(),
            wants_eviction: false,
            specs,
            by_name,
            limits,
            hasher: DefaultHashBuilder::default(),
            strings: HashSet::new(),
            appliances: Vec::new(),
            free_appliances: Vec::new(),
            appliance_ids: HashMap::new(),
            exclusive: false,
            labels: Vec::new(),
            values: Vec::new(),
            is_set: Vec::new(),
            touched: Vec::new(),
            changed: Vec::new(),
            is_changed: Vec::new(),
            identity: Arc::new(()),
            free: Vec::new(),
            index: HashTable::new(),
            groups: HashMap::new(),
            entered: 0,
            epoch: 0,
            birth_numbers: Arc::default(),
            last_birth: 0,
            backfilling: true,
            now: 0,
        };
        table.appliance("other");
        for name in exclusive {
            table.list_appliance(name);
        }
        table.exclusive = !exclusive.is_empty();
        table
    }

    /// Removes all series and appliances.
    pub fn clear(&mut self) {
        self.strings.clear();
        let listed = self.listed_appliances();
        self.appliances.truncate(1);
        self.free_appliances.clear();
        self.usage = Usage::default();
        self.wants_eviction = false;
        self.appliance_ids.retain(|_, id| *id == OTHER);
        self.labels.clear();
        self.values.clear();
        self.is_set.clear();
        self.evicted_gauges = EvictedGauges::default();
        self.cleared.clear();
        self.touched.clear();
        self.changed.clear();
        self.is_changed.clear();
        self.identity = Arc::new(());
        self.free.clear();
        self.index.clear();
        self.groups.clear();
        self.counts.fill((0, 0));
        self.epoch += 1;
        let exclusive = std::mem::replace(&mut self.exclusive, false);
        listed.iter().for_each(|name| self.list_appliance(name));
        self.exclusive = exclusive;
    }

    /// Changes when slots that were handed out may mean other series.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Sets the time that updates are stamped with, in seconds since 1970.
    pub fn set_now(&mut self, seconds: u32) {
        self.now = seconds;
    }

    /// Whether a slot that was handed out in this epoch still means the same series.
    pub fn is_since(&self, slot: Slot, epoch: u32) -> bool {
        let label = self.labels.get(slot.0 as usize);
        label.is_some_and(|label| label.as_ref().is_some_and(|label| label.since <= epoch))
    }

    /// The metric of this name.
    pub fn metric(&self, name: &str) -> Option<MetricId> {
        let specs = &self.specs;
        let at = self
            .by_name
            .binary_search_by(|id| (*specs[id.0 as usize].family.name).cmp(name));
        at.ok().map(|at| self.by_name[at])
    }

    /// What a slot stands for, also if its series was just removed: the metric's declaration, the test mark, and the label
    /// values, `appliance` first.
    pub fn describe(&self, slot: Slot) -> Option<(&MetricDesc, bool, &[Arc<str>])> {
        let there = self.labels.get(slot.0 as usize)?.as_ref();
        let label = there.or_else(|| self.evicted_gauges.labels.get(&slot))?;
        Some((
            &self.specs[label.metric.0 as usize],
            label.test,
            &label.values,
        ))
    }

    /// The series with these label values (those after `appliance`), made if it is not there. Beyond a limit a counter
    /// gives the series whose labels are all `other`, so that totals stay right; a gauge gives [`Slot::NONE`].
    pub fn series(
        &mut self,
        metric: MetricId,
        appliance: ApplianceId,
        test: bool,
        values: &[&str],
    ) -> Slot {
        let Some(spec) = self.specs.get(metric.0 as usize) else {
            return Slot::NONE;
        };
        let kind = spec.family.kind;
        let mut folded: arrayvec::ArrayVec<&str, 16> = arrayvec::ArrayVec::new();
        for (value, domain) in values.iter().zip(&spec.domains) {
            let value = match domain {
                LabelValues::OneOf(known) if !known.iter().any(|known| **known == **value) => {
                    "other"
                }
                _ => cut(value, self.limits.label_bytes),
            };
            if folded.try_push(value).is_err() {
                return Slot::NONE;
            }
        }
        if folded.len() != spec.domains.len() {
            return Slot::NONE;
        }
        if let Some(slot) = self.find(metric, appliance, test, &folded) {
            return slot;
        }
        if let Some(slot) = self.find_evicted(metric, appliance, test, &folded) {
            return slot;
        }
        let own = self
            .groups
            .get(&(metric, appliance, test))
            .map_or(0, |group| group.slots.len());
        let is_metric_full = self.is_full(metric, appliance);
        let is_share_full = own >= self.limits.series_per_metric_and_appliance;
        let is_budget_full = !self.has_space(appliance);
        if !is_metric_full && !is_share_full && !is_budget_full {
            return self.insert(metric, appliance, test, &folded);
        }
        self.wants_eviction |= is_budget_full || is_metric_full;
        if kind == Kind::Gauge && !is_metric_full && self.make_space(metric, appliance, test) {
            return self.insert(metric, appliance, test, &folded);
        }
        self.counts[metric.0 as usize].1 += 1;
        if kind == Kind::Gauge {
            return Slot::NONE;
        }
        folded.iter_mut().for_each(|value| *value = "other");
        // The overflow series is the one that may exceed the limit; over the metric's limit, or the budget, all appliances
        // share one.
        let appliance = if is_metric_full || is_budget_full {
            OTHER
        } else {
            appliance
        };
        match self.find(metric, appliance, test, &folded) {
            Some(slot) => slot,
            None => self.insert(metric, appliance, test, &folded),
        }
    }

    /// The series with these label values, if it is there.
    pub fn find(
        &self,
        metric: MetricId,
        appliance: ApplianceId,
        test: bool,
        values: &[&str],
    ) -> Option<Slot> {
        let hash = self.hash(metric, appliance, test, values.iter().copied());
        self.index
            .find(hash, |slot| {
                let label = self.labels[slot.0 as usize].as_ref();
                label.is_some_and(|label| label.is(metric, appliance, test, values))
            })
            .copied()
    }

    fn insert(
        &mut self,
        metric: MetricId,
        appliance: ApplianceId,
        test: bool,
        values: &[&str],
    ) -> Slot {
        let name = match &self.appliances[appliance.0 as usize].name {
            Some(name) => name.clone(),
            None => self.string("other"),
        };
        let values: Arc<[Arc<str>]> = std::iter::once(name)
            .chain(values.iter().map(|value| self.string(value)))
            .collect();
        let counter = self.specs[metric.0 as usize].family.kind == Kind::Counter;
        let hash = self.hash(metric, appliance, test, values[1..].iter().map(|v| &**v));
        let is_born = counter && !self.backfilling;
        if is_born {
            self.last_birth = self.birth_numbers.fetch_add(1, Ordering::SeqCst) + 1;
        }
        let label = SeriesKey {
            metric,
            appliance,
            test,
            since: self.epoch,
            created: if is_born { self.now } else { 0 },
            born: if is_born { self.last_birth } else { 0 },
            values,
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            let slot = Slot(self.labels.len() as u32);
            self.labels.push(None);
            self.values.push(0.0);
            self.is_set.push(false);
            self.touched.push(0);
            self.is_changed.push(false);
            slot
        });
        let at = slot.0 as usize;
        self.values[at] = 0.0;
        self.is_set[at] = false;
        self.touched[at] = self.now;
        self.enter(slot, label, hash);
        slot
    }

    /// Enters a series at a slot that has none.
    pub(super) fn enter(&mut self, slot: Slot, label: SeriesKey, hash: u64) {
        let (metric, appliance, test) = (label.metric, label.appliance, label.test);
        self.usage.add_series(&label.values);
        self.labels[slot.0 as usize] = Some(label);
        self.change(slot);
        let (labels, hasher) = (&self.labels, &self.hasher);
        self.index.insert_unique(hash, slot, |slot| {
            labels[slot.0 as usize].as_ref().map_or(0, |label| {
                let values = label.values[1..].iter().map(|value| &**value);
                hash_of(hasher, label.metric, label.appliance, label.test, values)
            })
        });
        self.entered += 1;
        let group = self.groups.entry((metric, appliance, test)).or_default();
        group.slots.push(slot);
        group.last_entered = self.entered;
        self.counts[metric.0 as usize].0 += 1;
    }

    pub(super) fn change(&mut self, slot: Slot) {
        if !std::mem::replace(&mut self.is_changed[slot.0 as usize], true) {
            self.changed.push(slot);
        }
    }

    pub(super) fn hash<'v>(
        &self,
        metric: MetricId,
        appliance: ApplianceId,
        test: bool,
        values: impl Iterator<Item = &'v str>,
    ) -> u64 {
        hash_of(&self.hasher, metric, appliance, test, values)
    }

    pub(super) fn string(&mut self, value: &str) -> Arc<str> {
        let value = cut(value, self.limits.label_bytes);
        let usage = &mut self.usage;
        let make = |value: &str| {
            usage.add_text(value.len());
            value.into()
        };
        self.strings.get_or_insert_with(value, make).clone()
    }

    /// Adds to a counter (or gauge) and marks it as touched. What is too large for a number stops at the largest one: JSON
    /// has no infinity, and a checkpoint with one could not be read.
    #[inline]
    pub fn add(&mut self, slot: Slot, amount: f64) {
        if let Some(value) = self.values.get_mut(slot.0 as usize) {
            *value = (*value + amount).clamp(f64::MIN, f64::MAX);
            self.touched[slot.0 as usize] = self.now;
        }
    }

    /// Takes over what a thread has counted; its tally begins anew. It must stem from this table, and from this epoch.
    pub fn apply(&mut self, tally: &mut CounterDeltas) {
        tally.drain(|slot, change| match change {
            Delta::Sum(amount) => self.add(slot, amount),
            Delta::Stamp => self.stamp(slot),
        });
    }

    /// Sets a gauge to the time of receipt.
    pub fn stamp(&mut self, slot: Slot) {
        self.set(slot, f64::from(self.now));
    }

    /// Sets a gauge to a larger value; a smaller one changes nothing.
    pub fn raise(&mut self, slot: Slot, new: f64) {
        if self.get(slot) < new {
            self.set(slot, new);
        }
    }

    /// The value; 0 for [`Slot::NONE`].
    pub fn get(&self, slot: Slot) -> f64 {
        self.values.get(slot.0 as usize).copied().unwrap_or(0.0)
    }

    /// The series of one metric of one appliance that differ from `values` in the label `label` alone.
    pub fn siblings<'t>(
        &'t self,
        metric: MetricId,
        appliance: ApplianceId,
        test: bool,
        values: &'t [&'t str],
        label: usize,
    ) -> impl Iterator<Item = (Slot, &'t str)> + 't {
        self.groups
            .get(&(metric, appliance, test))
            .into_iter()
            .flat_map(|group| &group.slots)
            .filter_map(move |slot| {
                let known = self.labels[slot.0 as usize].as_ref()?;
                let same = known.values[1..]
                    .iter()
                    .zip(values)
                    .enumerate()
                    .all(|(index, (a, b))| index == label || **a == **b);
                same.then(|| (*slot, &*known.values[label + 1]))
            })
    }

    /// The metric's declaration.
    pub fn spec(&self, metric: MetricId) -> &MetricDesc {
        &self.specs[metric.0 as usize]
    }

    /// Makes every expected series of a counter, at 0. None is expected of other metrics, nor where a label is wholly
    /// open.
    pub fn zero(&mut self, metric: MetricId, appliance: ApplianceId) {
        let spec = &self.specs[metric.0 as usize];
        if spec.family.kind != Kind::Counter || self.limits.are_counters_lazy {
            return;
        }
        let mut rows: Vec<Vec<Arc<str>>> = vec![Vec::new()];
        for domain in &spec.domains {
            rows = rows
                .iter()
                .flat_map(|row| {
                    domain.known().iter().map(|value| {
                        let mut row = row.clone();
                        row.push(value.clone());
                        row
                    })
                })
                .collect();
        }
        for row in rows {
            let values: Vec<&str> = row.iter().map(|value| &**value).collect();
            self.series(metric, appliance, false, &values);
        }
    }

    /// All series as they are.
    pub fn snapshot(&self) -> Snapshot {
        view::collect(&self.families(), &self.labels, &self.values, u64::MAX)
    }

    /// In order of name.
    pub(super) fn families(&self) -> Vec<(MetricId, Arc<Family>)> {
        let family = |id: &MetricId| (*id, self.specs[id.0 as usize].family.clone());
        self.by_name.iter().map(family).collect()
    }

    /// For every metric its name, how many series there are and how many were refused.
    pub fn counts(&self) -> impl Iterator<Item = (&Arc<str>, usize, u64)> {
        self.by_name.iter().map(|id| {
            let at = id.0 as usize;
            (
                &self.specs[at].family.name,
                self.counts[at].0,
                self.counts[at].1,
            )
        })
    }
}

fn hash_of<'v>(
    hasher: &DefaultHashBuilder,
    metric: MetricId,
    appliance: ApplianceId,
    test: bool,
    values: impl Iterator<Item = &'v str>,
) -> u64 {
    let mut state = hasher.build_hasher();
    (metric, appliance, test).hash(&mut state);
    for value in values {
        value.hash(&mut state);
    }
    state.finish()
}

/// At most `bytes` bytes, on a character's edge.
fn cut(value: &str, bytes: usize) -> &str {
    if value.len() <= bytes {
        return value;
    }
    let mut end = bytes;
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    &value[..end]
}

#[cfg(test)]
mod tests {
    use super::super::Saved;
    use super::*;
    use crate::metric::{ScrapeView, Series};

    const DROPS: MetricId = MetricId(0);
    const STATE: MetricId = MetricId(1);

    fn table(limits: Limits) -> Table {
        let spec = |name: &str, kind, label: &str, domain, expire_seconds| MetricDesc {
            family: Arc::new(Family {
                name: name.into(),
                help: "".into(),
                kind,
                labels: ["appliance", label].map(Arc::from).into(),
            }),
            domains: vec![domain],
            expire_seconds,
        };
        let ids = LabelValues::OneOf(["278", "282"].map(Arc::from).to_vec());
        Table::new(
            vec![
                spec("drops_total", Kind::Counter, "id", ids, None),
                spec(
                    "state",
                    Kind::Gauge,
                    "code",
                    LabelValues::Any(Vec::new()),
                    Some(60),
                ),
            ],
            limits,
            &[],
        )
    }

    #[test]
    fn births_that_another_process_may_not_have_shown_are_shown_at_0_once_more() {
        let mut former = table(Limits::default());
        former.finish_backfill();
        let appliance = former.appliance("hsm1");
        for (id, amount) in [("278", 3.0), ("282", 5.0)] {
            let slot = former.series(DROPS, appliance, false, &[id]);
            former.add(slot, amount);
        }
        let saved = former.save();
        let mut next = table(Limits::default());
        // It has had births of its own.
        next.finish_backfill();
        next.birth_numbers.store(9, Ordering::SeqCst);
        next.restore(&Saved {
            last_birth: 0,
            ..saved
        });
        next.restart_births(1);
        let mut view = ScrapeView::default();
        let values =
            |snapshot: Snapshot| all(&snapshot).map(|(_, value)| value).collect::<Vec<_>>();
        assert_eq!(values(scrape(&mut next, &mut view, 9)), [3.0, 0.0]);
        assert_eq!((view.last_birth(), view.last_own_birth()), (10, 10));
        assert_eq!(values(scrape(&mut next, &mut view, 10)), [3.0, 5.0]);
    }

    /// What somebody sees who was shown the births up to this one.
    fn scrape(table: &mut Table, view: &mut ScrapeView, shown: u64) -> Snapshot {
        // In the smallest steps there are.
        while !table.sync_view(view, 1) {}
        view.snapshot(shown)
    }

    fn name(family: &Family, series: &Series) -> String {
        let test = if series.test { ",test" } else { "" };
        format!("{}{{{}{test}}}", family.name, series.values.join(","))
    }

    fn all(snapshot: &Snapshot) -> impl Iterator<Item = (String, f64)> {
        snapshot.families.iter().flat_map(|(family, series)| {
            let named = |series| (name(family, series), series.value);
            series.iter().map(named)
        })
    }

    fn shown(snapshot: &Snapshot) -> Vec<String> {
        all(snapshot)
            .map(|(name, value)| format!("{name} {value}"))
            .collect()
    }

    #[test]
    fn zero_comes_before_one() {
        let mut table = table(Limits::default());
        table.finish_backfill();
        let a = table.appliance("a");
        table.zero(DROPS, a);
        let slot = table.series(DROPS, a, false, &["278"]);
        table.add(slot, 3.0);
        let mut view = ScrapeView::default();
        for (seen, value) in [(0, 0), (1, 3), (2, 3), (u64::MAX, 3)] {
            assert_eq!(
                shown(&scrape(&mut table, &mut view, seen)),
                [
                    format!("drops_total{{a,278}} {value}"),
                    "drops_total{a,282} 0".to_owned()
                ],
                "up to {seen}"
            );
            assert_eq!(view.last_birth(), 2);
        }
    }

    #[test]
    fn what_is_read_at_start_is_no_burst() {
        let mut table = table(Limits::default());
        let a = table.appliance("a");
        let slot = table.series(DROPS, a, false, &["278"]);
        table.add(slot, 3.0);
        table.finish_backfill();
        let shown = shown(&scrape(&mut table, &mut ScrapeView::default(), 0));
        assert_eq!(shown, ["drops_total{a,278} 3"]);
    }

    #[test]
    fn a_snapshot_that_knows_no_births_is_restored() {
        let mut table = table(Limits::default());
        let json = r#"{"appliances": ["a"], "series": [{"metric": "drops_total", "labels": ["appliance", "id"],
            "values": ["a", "278"], "test": false, "value": 3.0, "touched": 5, "zero_until": 4294967295}]}"#;
        assert_eq!(table.restore_from(json.as_bytes()).unwrap().series, 1);
        table.finish_backfill();
        let shown = shown(&scrape(&mut table, &mut ScrapeView::default(), 0));
        assert_eq!(shown, ["drops_total{a,278} 3"]);
    }

    #[test]
    fn sums_beyond_every_number_can_be_saved() {
        let mut table = table(Limits::default());
        let a = table.appliance("a");
        let slot = table.series(DROPS, a, false, &["278"]);
        for _ in 0..3 {
            table.add(slot, 1e308);
        }
        let mut saved = table.save();
        saved.series.extend(saved.series.clone());
        table.restore(&saved);
        let json = serde_json::to_vec(&table.save()).unwrap();
        let read: Saved = serde_json::from_slice(&json).unwrap();
        assert_eq!(read, table.save());
        assert_eq!(read.series[0].value, f64::MAX);
    }

    #[test]
    fn overflow_keeps_totals() {
        let limits = Limits {
            series_per_metric_and_appliance: 1,
            appliances: 2,
            ..Limits::default()
        };
        let mut table = table(limits);
        let a = table.appliance("a");
        for id in ["278", "282", "282", "9"] {
            let slot = table.series(DROPS, a, false, &[id]);
            table.add(slot, 1.0);
        }
        assert_eq!(
            shown(&table.snapshot()),
            ["drops_total{a,278} 1", "drops_total{a,other} 3"]
        );
        assert_eq!(table.appliance("b"), ApplianceId(2));
        assert_eq!(table.appliance("c"), OTHER);
        assert_eq!(table.series(STATE, a, false, &["1"]), Slot(2));
        // A gauge that is full gives way.
        assert_eq!(table.series(STATE, a, false, &["2"]), Slot(3));
        let counts: Vec<_> = table
            .counts()
            .map(|(_, of, refused)| (of, refused))
            .collect();
        assert_eq!(counts, [(2, 2), (1, 0)]);
        assert_eq!(table.evictions().map(|(_, count)| count).sum::<u64>(), 1);
        // Who holds the slot of the evicted one brings it back.
        table.set(Slot(2), 5.0);
        assert_eq!(shown(&table.snapshot()).last().unwrap(), "state{a,1} 5");
    }

    #[test]
    fn stale_gauges_go_and_their_slots_are_used_again() {
        let mut table = table(Limits::default());
        let a = table.appliance("a");
        table.set_now(100);
        let slot = table.series(STATE, a, false, &["30"]);
        table.set(slot, 1.0);
        table.set_now(159);
        assert_eq!(table.expire(), 0);
        table.set_now(160);
        assert_eq!(table.expire(), 1);
        assert_eq!(table.epoch(), 1);
        assert!(table.snapshot().families.is_empty());
        assert_eq!(table.series(STATE, a, false, &["60"]), slot);
        assert_eq!(table.get(slot), 0.0);
    }

    proptest::proptest! {
        /// Whatever happens between scrapes, the view shows what a copy of the whole table would, but for counters whose
        /// birth was not shown yet: they are at 0.
        #[test]
        fn a_view_shows_the_table(steps in proptest::collection::vec((0u8..7, 0u8..3, 0u8..4, 0u32..26), 0..60)) {
            let mut table = table(Limits::default());
            let mut view = ScrapeView::default();
            let mut is_backfilling = true;
            // The counters that a scraper knows: those of the start, and those that it was shown.
            let mut known: HashSet<String> = HashSet::new();
            let mut seen = 0;
            let mut now = 1000;
            for (what, appliance, value, seconds) in steps {
                now += seconds;
                table.set_now(now);
                let appliance = table.appliance(["a", "b", "c"][usize::from(appliance)]);
                let value = ["278", "282", "30", "60"][usize::from(value)];
                match what {
                    0 => {
                        let slot = table.series(DROPS, appliance, false, &[value]);
                        table.add(slot, 1.0);
                    }
                    1 => {
                        let slot = table.series(STATE, appliance, false, &[value]);
                        table.set(slot, 1.0);
                    }
                    2 => drop(table.expire()),
                    3 if value == "60" => {
                        table.clear();
                        known.clear();
                    }
                    4 if is_backfilling => {
                        is_backfilling = false;
                        table.finish_backfill();
                        known.extend(all(&table.snapshot()).map(|(name, _)| name));
                    }
                    // Killed: another process goes on with what was saved.
                    5 => {
                        let json = serde_json::to_vec(&table.save()).unwrap();
                        table = self::table(Limits::default());
                        table.set_now(now);
                        table.restore(&serde_json::from_slice(&json).unwrap());
                        view = ScrapeView::default();
                        if !is_backfilling {
                            table.finish_backfill();
                        }
                    }
                    _ => {
                        let mut expected = table.snapshot();
                        let counters = expected.families.iter_mut().filter(|(family, _)| {
                            !is_backfilling && family.kind == Kind::Counter
                        });
                        for (family, series) in counters {
                            for series in series {
                                if known.insert(name(family, series)) {
                                    series.value = 0.0;
                                }
                            }
                        }
                        proptest::prop_assert_eq!(
                            shown(&scrape(&mut table, &mut view, seen)),
                            shown(&expected)
                        );
                        seen = view.last_birth();
                    }
                }
            }
        }
    }

    #[test]
    fn a_table_is_restored_as_it_was_saved() {
        let mut old = table(Limits::default());
        let a = old.appliance("a");
        old.finish_backfill();
        let slot = old.series(DROPS, a, false, &["278"]);
        old.add(slot, 3.0);
        let slot = old.series(DROPS, a, true, &["282"]);
        old.add(slot, 1.0);
        let mut new = table(Limits::default());
        let mut saved = old.save();
        assert_eq!(new.restore(&saved), 0);
        assert_eq!(new.save(), saved);
        saved.series[0].metric = "gone_total".into();
        saved.series[1].labels = ["appliance", "renamed"].map(Arc::from).into();
        assert_eq!(table(Limits::default()).restore(&saved), 2);
    }
}
