//! A table by name, for a checkpoint or for another table.

use std::fmt;
use std::io::Read;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::{SavedSeries, Shown, Table};

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

/// What came of a snapshot that was read.
#[derive(Debug, Default)]
pub struct Restored {
    /// Series that are in the table now.
    pub series: usize,
    /// Series that mean nothing any more, or found no space.
    pub dropped: usize,
    /// What last lines counted.
    pub repeats: Vec<SavedRepeat>,
    /// Which births scrapers had been shown.
    pub shown: Vec<Shown>,
}

impl Table {
    /// Reads a [`Saved`](super::Saved) as JSON, and takes over one series after the other: never more of it is in memory
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
