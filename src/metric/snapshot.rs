//! A table by name, for a checkpoint or for another table.

use std::fmt;
use std::io::Read;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::{Kind, Slot, Table};

/// What the last line of an appliance in a stream counted, for `last message repeated N times`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedRepeat {
    /// The path of the stream.
    pub path: String,
    /// The appliance.
    pub appliance: Arc<str>,
    /// `pack/event` of the rule that knew the line.
    pub rule: Option<Arc<str>>,
    /// What counted the line itself.
    pub standing: Vec<SavedAmount>,
    /// What counted what it says.
    pub counted: Vec<SavedAmount>,
    /// The time of its event.
    pub event_time: Option<SavedAmount>,
}

/// A series, and what was added to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedAmount {
    /// The metric's name.
    pub metric: Arc<str>,
    /// The series has the label `test="true"`.
    pub test: bool,
    /// The label values behind `appliance`.
    pub values: Vec<Arc<str>>,
    /// What was added.
    pub amount: f64,
}

/// Failed attempts in a row, by the hash of whose they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedAttempts {
    /// The hash of the appliance, of what was attempted, and of who did.
    pub key: u64,
    /// How many failed.
    pub failures: u32,
    /// When the last one did, seconds since 1970.
    pub last: u32,
}

/// What came of a snapshot that was read.
#[derive(Debug, Default)]
pub struct Restored {
    /// Series that are in the table now.
    pub series: usize,
    /// Series that mean nothing any more, or found no space.
    pub dropped: usize,
    /// What last lines counted.
    pub repeats: Vec<SavedRepeat>,
    /// Failed attempts in a row.
    pub attempts: Vec<SavedAttempts>,
    /// Which births scrapers had been shown.
    pub shown: Vec<Shown>,
}

/// A table's content by name, independent of slots and of the rules that made it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    /// All appliances seen.
    pub appliances: Vec<Arc<str>>,
    /// Those of them that are trusted.
    #[serde(default)]
    pub trusted: Vec<Arc<str>>,
    /// Those whose name is from the settings or a path.
    #[serde(default)]
    pub named: Vec<Arc<str>>,
    /// All series.
    pub series: Vec<SavedSeries>,
    /// What last lines counted.
    #[serde(default)]
    pub repeats: Vec<SavedRepeat>,
    /// Failed attempts in a row.
    #[serde(default)]
    pub attempts: Vec<SavedAttempts>,
    /// The number of the last birth.
    #[serde(default)]
    pub last_birth: u64,
    /// Which births each scraper had been shown; the table itself knows of no scrapers.
    #[serde(default)]
    pub shown: Vec<Shown>,
}

/// The births that a scraper has been shown at 0, so that it may see the values of these series.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// The scraper's address.
    pub address: IpAddr,
    /// Its `User-Agent`.
    pub user_agent: Arc<str>,
    /// Its requests come through a proxy.
    #[serde(default)]
    pub is_proxied: bool,
    /// The number of the last birth that it was shown.
    pub birth: u64,
}

/// One series of a [`Saved`] table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedSeries {
    /// The metric's name.
    pub metric: Arc<str>,
    /// Label names, `appliance` first.
    pub labels: Arc<[Arc<str>]>,
    /// A value for each label.
    pub values: Arc<[Arc<str>]>,
    /// The series has the label `test="true"`.
    pub test: bool,
    /// Its value.
    pub value: f64,
    /// When it was last touched, seconds since 1970.
    pub touched: u32,
    /// When it was born, seconds since 1970; 0 if that is not known.
    #[serde(default)]
    pub created: u32,
    /// The number of its birth; 0 if it had none that a scraper must see.
    #[serde(default)]
    pub born: u64,
}

impl Table {
    /// Everything, for a file or for another table. Shares the texts, so it is quick.
    pub fn save(&self) -> Saved {
        let series = self.labels.iter().enumerate().filter_map(|(at, label)| {
            let label = label.as_ref()?;
            let family = &self.specs[label.metric.0 as usize].family;
            Some(SavedSeries {
                metric: family.name.clone(),
                labels: family.labels.clone(),
                values: label.values.clone(),
                test: label.test,
                value: self.values[at],
                touched: self.touched[at],
                created: label.created,
                born: label.born,
            })
        });
        Saved {
            repeats: Vec::new(),
            attempts: Vec::new(),
            appliances: self.appliances(),
            trusted: self.trusted_appliances(),
            named: self.named_appliances(),
            series: series.collect(),
            last_birth: self.birth_numbers.load(Ordering::SeqCst),
            shown: Vec::new(),
        }
    }

    /// Takes over what still means the same: series whose metric has the same labels as before. Returns how many series
    /// did not.
    pub fn restore(&mut self, saved: &Saved) -> usize {
        self.restore_last_birth(saved.last_birth);
        for name in &saved.trusted {
            self.restore_trusted(name);
        }
        for name in &saved.named {
            self.trusted_appliance(name);
        }
        for name in &saved.appliances {
            self.appliance(name);
        }
        let restored = saved
            .series
            .iter()
            .map(|series| self.restore_series(series));
        restored.filter(|restored| !restored).count()
    }

    /// Births are numbered on from this one.
    pub(super) fn restore_last_birth(&mut self, last: u64) {
        self.birth_numbers.fetch_max(last, Ordering::SeqCst);
    }

    /// Takes over one series; false if it means nothing any more, or finds no space. That is no birth, and keeps the
    /// number that it has.
    pub(super) fn restore_series(&mut self, series: &SavedSeries) -> bool {
        if self.limits.are_counters_lazy && series.value == 0.0 {
            let metric = self.metric(&series.metric);
            let kind = metric.map(|metric| self.specs[metric.0 as usize].family.kind);
            if kind == Some(Kind::Counter) {
                return true;
            }
        }
        let backfilling = std::mem::replace(&mut self.backfilling, true);
        let restored = self.metric(&series.metric).and_then(|metric| {
            let is_counter = self.specs[metric.0 as usize].family.kind == Kind::Counter;
            if !is_counter && !self.plausible[metric.0 as usize].contains(&series.value) {
                return None;
            }
            let family = self.specs[metric.0 as usize].family.clone();
            if family.labels != series.labels || series.labels.len() != series.values.len() {
                return None;
            }
            let (appliance, values) = series.values.split_first()?;
            let appliance = self.appliance(appliance);
            let values: Vec<&str> = values.iter().map(|value| &**value).collect();
            let made = self.entered;
            let slot = self.series(metric, appliance, series.test, &values);
            (slot != Slot::NONE).then_some((slot, self.entered > made))
        });
        self.backfilling = backfilling;
        let Some((slot, is_new)) = restored else {
            return false;
        };
        let at = slot.0 as usize;
        let Some(label) = &mut self.labels[at] else {
            return false;
        };
        match self.specs[label.metric.0 as usize].family.kind {
            // Several counters may have become one, the overflow's. It is as old as the oldest of them, as that was shown.
            Kind::Counter => {
                (label.born, label.created) = match is_new {
                    true => (series.born, series.created),
                    false => (
                        label.born.min(series.born),
                        label.created.min(series.created),
                    ),
                };
                self.values[at] = (self.values[at] + series.value).clamp(f64::MIN, f64::MAX);
            }
            Kind::Gauge => self.values[at] = series.value,
        }
        // A clock that was ahead must not keep it for ever.
        self.is_set[at] = true;
        self.touched[at] = series.touched.min(self.now);
        self.change(slot);
        true
    }

    /// Reads a [`Saved`] as JSON, and takes over one series after the other: never more of it is in memory
    /// than the table keeps, however large it is.
    ///
    /// # Errors
    /// It is no such JSON. What was read up to there is in the table.
    pub fn restore_from(&mut self, json: impl Read) -> serde_json::Result<Restored> {
        let mut reader = serde_json::Deserializer::from_reader(json);
        let restored = Snapshot { table: self }.deserialize(&mut reader)?;
        reader.end()?;
        Ok(restored)
    }
}

/// Reads a whole snapshot into a table.
struct Snapshot<'t> {
    table: &'t mut Table,
}

impl<'de> DeserializeSeed<'de> for Snapshot<'_> {
    type Value = Restored;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Restored, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Snapshot<'_> {
    type Value = Restored;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a saved table")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Restored, A::Error> {
        let mut restored = Restored::default();
        let mut has_series = false;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "appliances" => {
                    for name in map.next_value::<Vec<Arc<str>>>()? {
                        self.table.appliance(&name);
                    }
                }
                "trusted" => {
                    for name in map.next_value::<Vec<Arc<str>>>()? {
                        self.table.restore_trusted(&name);
                    }
                }
                "named" => {
                    for name in map.next_value::<Vec<Arc<str>>>()? {
                        self.table.trusted_appliance(&name);
                    }
                }
                "series" => {
                    has_series = true;
                    let series = Series {
                        table: self.table,
                        restored: &mut restored,
                    };
                    map.next_value_seed(series)?;
                }
                "repeats" => restored.repeats = map.next_value()?,
                "attempts" => restored.attempts = map.next_value()?,
                "last_birth" => self.table.restore_last_birth(map.next_value()?),
                "shown" => restored.shown = map.next_value()?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        match has_series {
            true => Ok(restored),
            false => Err(A::Error::missing_field("series")),
        }
    }
}

/// Reads the series of a snapshot into a table.
struct Series<'t> {
    table: &'t mut Table,
    restored: &'t mut Restored,
}

impl<'de> DeserializeSeed<'de> for Series<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Series<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("series")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut series: A) -> Result<(), A::Error> {
        while let Some(one) = series.next_element::<SavedSeries>()? {
            match self.table.restore_series(&one) {
                true => self.restored.series += 1,
                false => self.restored.dropped += 1,
            }
        }
        Ok(())
    }
}
