//! What several tables hold and what their rules did, summed up.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::Engine;
use crate::rules::RuleSet;

/// Sums over the tables of a process.
#[derive(Default)]
pub(super) struct Totals {
    /// By metric: series that are held, updates that found no space.
    series: BTreeMap<Arc<str>, (u64, u64)>,
    hits: BTreeMap<Arc<str>, u64>,
    /// By metric: series that made space for others.
    pub(super) evicted: Vec<(Arc<str>, u64)>,
    /// By metric: values that were refused.
    pub(super) implausible: Vec<(Arc<str>, u64)>,
    /// By rule.
    pub(super) negative_amounts: Vec<(Arc<str>, u64)>,
    pub(super) repeats_unattributed: u64,
    pub(super) repeats_implausible: u64,
}

impl Totals {
    pub(super) fn of(engines: &[Arc<Engine>]) -> Self {
        let mut all = Totals::default();
        let (mut evicted, mut implausible) = (BTreeMap::new(), BTreeMap::new());
        let mut negative_amounts = BTreeMap::new();
        for engine in engines {
            let table = engine.table();
            for (metric, held, refused) in table.counts() {
                let sums = all.series.entry(metric.clone()).or_default();
                *sums = (sums.0 + held as u64, sums.1 + refused);
            }
            add(&mut evicted, table.evictions());
            add(&mut implausible, table.implausible());
            drop(table);
            let counts = engine.rule_counts();
            let rules = engine.rules().rules.iter().map(|rule| &rule.id);
            add(&mut all.hits, rules.zip(counts.hits.iter().copied()));
            let amounts = counts.negative_amounts.iter();
            add(&mut negative_amounts, amounts.map(|(rule, of)| (rule, *of)));
            all.repeats_unattributed += counts.repeats_unattributed;
            all.repeats_implausible += counts.repeats_implausible;
        }
        all.evicted = evicted.into_iter().collect();
        all.implausible = implausible.into_iter().collect();
        all.negative_amounts = negative_amounts.into_iter().collect();
        all
    }

    /// For each metric the series that are held, and the updates that found no space.
    pub(super) fn series(&self) -> impl Iterator<Item = (Arc<str>, u64, u64)> {
        let series = self.series.iter();
        series.map(|(metric, (held, refused))| (metric.clone(), *held, *refused))
    }

    /// For each rule how often it matched, in their order.
    pub(super) fn rule_hits(&self, rules: &RuleSet) -> impl Iterator<Item = (Arc<str>, u64)> {
        rules.rules.iter().map(|rule| {
            let hits = self.hits.get(&rule.id).copied().unwrap_or(0);
            (rule.id.clone(), hits)
        })
    }
}

fn add<'a>(sums: &mut BTreeMap<Arc<str>, u64>, more: impl Iterator<Item = (&'a Arc<str>, u64)>) {
    for (of, count) in more {
        *sums.entry(of.clone()).or_default() += count;
    }
}
