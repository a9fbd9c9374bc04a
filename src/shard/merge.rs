//! One scrape of several tables.
//!
//! An appliance is in one shard, but two kinds of series are in several: those of `other`, and those of an appliance whose
//! records have different keys, or came by different partitioners. Counters are added. Of gauges the worst is shown for
//! `other`, as within a table, and else that of the shard that heard of the appliance last.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use crate::metric::{Family, Kind, Series, Snapshot, is_low_worse};

/// What one table shows.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// Its series.
    pub snapshot: Snapshot,
    /// When each of its appliances was last heard of, in seconds since 1970.
    pub last_heard: HashMap<Arc<str>, f64>,
}

/// A family in the making.
struct Merged {
    family: Arc<Family>,
    series: Vec<Series>,
    /// Where each series of an appliance that is in several tables stands, and when that one was heard of.
    shared: HashMap<Labels, (usize, f64)>,
}

/// Label values, and whether the series is of test lines.
type Labels = (Arc<[Arc<str>]>, bool);

/// All of them as one.
pub fn merge(mut parts: Vec<Part>) -> Snapshot {
    if parts.len() < 2 {
        return parts.pop().unwrap_or_default().snapshot;
    }
    let shared = in_several(&parts);
    let mut all: BTreeMap<Arc<str>, Merged> = BTreeMap::new();
    for part in parts {
        for (family, series) in part.snapshot.families {
            let merged = all.entry(family.name.clone()).or_insert_with(|| Merged {
                family: family.clone(),
                series: Vec::new(),
                shared: HashMap::new(),
            });
            // While rules are exchanged, tables may differ for an instant.
            if merged.family.labels != family.labels {
                continue;
            }
            merged.series.reserve(series.len());
            for one in series {
                match one.values.first() {
                    Some(appliance) if shared.contains(appliance) => {
                        let heard = part.last_heard.get(appliance).copied();
                        merged.combine(one, heard.unwrap_or(0.0));
                    }
                    _ => merged.series.push(one),
                }
            }
        }
    }
    Snapshot {
        families: (all.into_values())
            .map(|merged| (merged.family, merged.series))
            .collect(),
    }
}

/// The appliances that are in more than one table.
fn in_several(parts: &[Part]) -> HashSet<Arc<str>> {
    let mut seen: HashSet<&Arc<str>> = HashSet::new();
    let appliances = parts.iter().flat_map(|part| part.last_heard.keys());
    let twice = appliances.filter(|appliance| !seen.insert(appliance));
    twice.cloned().chain([Arc::from("other")]).collect()
}

impl Merged {
    fn combine(&mut self, one: Series, heard: f64) {
        let key = (one.values.clone(), one.test);
        let Some((at, last_heard)) = self.shared.get_mut(&key) else {
            self.shared.insert(key, (self.series.len(), heard));
            self.series.push(one);
            return;
        };
        let Some(known) = self.series.get_mut(*at) else {
            return;
        };
        if self.family.kind == Kind::Counter {
            known.value += one.value;
            known.created = match (known.created, one.created) {
                (0, _) | (_, 0) => 0,
                (a, b) => a.min(b),
            };
            return;
        }
        let is_other = one.values.first().is_some_and(|name| **name == *"other");
        let is_better = match (is_other, is_low_worse(&self.family)) {
            (true, true) => one.value < known.value,
            (true, false) => one.value > known.value,
            (false, _) => heard > *last_heard,
        };
        if is_better {
            known.value = one.value;
            *last_heard = heard;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(heard: &[(&str, f64)], rows: &[(&str, Kind, &str, f64)]) -> Part {
        let mut families: BTreeMap<&str, (Arc<Family>, Vec<Series>)> = BTreeMap::new();
        for (name, kind, appliance, value) in rows {
            let family = || Family {
                name: (*name).into(),
                help: "".into(),
                kind: *kind,
                labels: Arc::from([Arc::from("appliance")]),
            };
            let entry = families.entry(name);
            let (_, series) = entry.or_insert_with(|| (Arc::new(family()), Vec::new()));
            series.push(Series {
                values: Arc::from([Arc::from(*appliance)]),
                test: false,
                created: 0,
                value: *value,
            });
        }
        Part {
            snapshot: Snapshot {
                families: families.into_values().collect(),
            },
            last_heard: heard
                .iter()
                .map(|(name, at)| ((*name).into(), *at))
                .collect(),
        }
    }

    #[test]
    fn counters_add_up_and_gauges_are_the_youngest_or_the_worst() {
        use Kind::{Counter, Gauge};
        let parts = [
            part(
                &[("a", 5.0), ("b", 9.0)],
                &[
                    ("fan_up", Gauge, "other", 1.0),
                    ("heat", Gauge, "a", 40.0),
                    ("heat", Gauge, "b", 41.0),
                    ("heat", Gauge, "other", 42.0),
                    ("lines_total", Counter, "a", 1.0),
                    ("lines_total", Counter, "other", 2.0),
                ],
            ),
            part(
                &[("b", 8.0), ("c", 1.0)],
                &[
                    ("fan_up", Gauge, "other", 0.0),
                    ("heat", Gauge, "b", 50.0),
                    ("heat", Gauge, "other", 39.0),
                    ("lines_total", Counter, "c", 3.0),
                    ("lines_total", Counter, "other", 4.0),
                ],
            ),
        ];
        let merged = merge(parts.to_vec());
        let shown: Vec<String> = (merged.families.iter())
            .flat_map(|(family, series)| {
                let name =
                    |one: &Series| format!("{} {} {}", family.name, one.values[0], one.value);
                series.iter().map(name).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(
            shown,
            [
                "fan_up other 0",
                "heat a 40",
                "heat b 41",
                "heat other 42",
                "lines_total a 1",
                "lines_total other 6",
                "lines_total c 3",
            ]
        );
    }
}
