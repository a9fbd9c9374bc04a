//! How far a shard was read, and how to recognise that place.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::machine::Claim;

/// How far a partition was read, at the instant of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset of the next record, unless records before it were lost.
    pub next_offset: i64,
    /// The last record that was read; none if there was none yet.
    pub last: Option<LastRecord>,
    /// A record behind that place which has ended the process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<Attempts>,
    /// Who wrote it, where several may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,
    /// Up to which birth everybody had been shown all when it was written, by the numbers of its writer.
    #[serde(default)]
    pub shown: u64,
    /// The blocks that belong to it, where they are records of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocks: Option<Blocks>,
}

/// All blocks of a checkpoint, to tell whether one is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocks {
    /// How many there are.
    pub count: u64,
    /// The sum of their hashes, each as it is written.
    pub hash: u64,
}

impl Blocks {
    /// Adds one.
    pub fn add(&mut self, key: &str, value: &[u8]) {
        let mut hasher = Xxh3::new();
        hasher.update(key.as_bytes());
        hasher.update(&[0]);
        hasher.update(value);
        self.count += 1;
        self.hash = self.hash.wrapping_add(hasher.digest());
    }

    /// How many are missing here that the head of a checkpoint has.
    pub fn missing_of(self, head: Blocks) -> u64 {
        match self == head {
            true => 0,
            // One that is another than the head means is missing, too.
            false => head.count.saturating_sub(self.count).max(1),
        }
    }
}

/// Attempts to count a record, each of which has ended the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempts {
    /// The offset of the record.
    pub offset: i64,
    /// How many there were.
    pub count: u32,
}

/// So many are made.
const ATTEMPTS_MAX: u32 = 3;

/// A record, to be recognised: a topic that was made anew, or lost its end, has another one at this offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRecord {
    /// Its offset.
    pub offset: i64,
    /// Its time, milliseconds since 1970.
    pub time_ms: i64,
    /// Of its key and value.
    pub hash: u64,
}

/// A record as it stands in a partition.
#[derive(Clone, Copy, Debug)]
pub struct Record<'r> {
    /// Its offset.
    pub offset: i64,
    /// Its time, milliseconds since 1970; that of the broker or of whoever wrote it.
    pub time_ms: i64,
    /// Its key.
    pub key: Option<&'r [u8]>,
    /// Its value.
    pub value: Option<&'r [u8]>,
}

impl Record<'_> {
    /// What [`Head::last`] keeps of it.
    pub fn identity(&self) -> LastRecord {
        let mut hasher = Xxh3::new();
        for part in [self.key, self.value] {
            let bytes = part.unwrap_or_default();
            // An empty text is not the same as none.
            hasher.update(&[u8::from(part.is_some())]);
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        }
        LastRecord {
            offset: self.offset,
            time_ms: self.time_ms,
            hash: hasher.digest(),
        }
    }
}

/// Where a shard goes on, and what is not as it was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Everything since the last checkpoint is there.
    There,
    /// So many records were deleted before they could be read.
    Deleted(u64),
    /// The record that was read last is not there any more, or another stands in its place: the topic was made anew, or its
    /// end was cut off.
    Replaced,
}

impl Head {
    /// The record at this offset has ended the process.
    pub fn failed_at(&mut self, offset: i64) {
        let before = self.attempts.filter(|attempts| attempts.offset == offset);
        self.attempts = Some(Attempts {
            offset,
            count: before.map_or(1, |attempts| attempts.count.saturating_add(1)),
        });
    }

    /// The record that has ended the process too often to be tried again.
    pub fn given_up(&self) -> Option<i64> {
        let given_up = self
            .attempts
            .filter(|attempts| attempts.count >= ATTEMPTS_MAX);
        given_up.map(|attempts| attempts.offset)
    }

    /// All before this offset is counted, `last` being the last record of it.
    pub fn reached(&mut self, next_offset: i64, last: Option<LastRecord>) {
        self.next_offset = next_offset;
        self.last = last;
        self.attempts = self
            .attempts
            .filter(|attempts| attempts.offset >= next_offset);
    }

    /// What became of the place, if the partition begins at `low` and ends before `high`. `found` is the record that
    /// stands where the last one was, if that could still be there.
    pub fn place(&self, low: i64, high: i64, found: Option<LastRecord>) -> Place {
        if self.next_offset > high {
            return Place::Replaced;
        }
        match self.last {
            Some(last) if last.offset >= low => match found == Some(last) {
                true => Place::There,
                false => Place::Replaced,
            },
            _ => match u64::try_from(low.saturating_sub(self.next_offset)) {
                Ok(lost) if lost > 0 => Place::Deleted(lost),
                _ => Place::There,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_a_place() {
        let last = LastRecord {
            offset: 9,
            time_ms: 5,
            hash: 7,
        };
        let head = Head {
            next_offset: 10,
            last: Some(last),
            ..Head::default()
        };
        let other = LastRecord { hash: 8, ..last };
        for (low, high, found, place) in [
            (0, 10, Some(last), Place::There),
            (0, 99, Some(last), Place::There),
            (9, 10, Some(last), Place::There),
            // Gone by retention, but nothing that was not read.
            (10, 10, None, Place::There),
            (13, 20, None, Place::Deleted(3)),
            (0, 9, None, Place::Replaced),
            (0, 10, Some(other), Place::Replaced),
            (0, 10, None, Place::Replaced),
            (0, 0, None, Place::Replaced),
        ] {
            assert_eq!(head.place(low, high, found), place, "{low} {high}");
        }
        let new = Head::default();
        assert_eq!(new.place(0, 10, None), Place::There);
        assert_eq!(new.place(4, 10, None), Place::Deleted(4));
    }

    #[test]
    fn a_block_that_is_missing_or_another_one_is_noticed() {
        let of = |blocks: &[(&str, &str)]| {
            let mut all = Blocks::default();
            (blocks.iter()).for_each(|(key, value)| all.add(key, value.as_bytes()));
            all
        };
        let head = of(&[("a", "1"), ("b", "2"), ("c", "3")]);
        for (found, missing) in [
            (&[("c", "3"), ("a", "1"), ("b", "2")][..], 0),
            (&[("a", "1"), ("b", "2"), ("c", "4")], 1),
            (&[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")], 1),
            (&[("a", "1")], 2),
            (&[], 3),
        ] {
            assert_eq!(of(found).missing_of(head), missing, "{found:?}");
        }
    }

    #[test]
    fn a_record_is_known_by_its_key_and_value() {
        let record = |key, value| Record {
            offset: 1,
            time_ms: 2,
            key,
            value,
        };
        let one = record(Some(&b"a"[..]), Some(&b"bc"[..])).identity();
        assert_eq!(one, record(Some(b"a"), Some(b"bc")).identity());
        for (key, value) in [
            (Some(&b"ab"[..]), Some(&b"c"[..])),
            (None, Some(b"bc")),
            (Some(b"a"), None),
            (Some(b""), Some(b"abc")),
        ] {
            assert_ne!(one, record(key, value).identity());
        }
    }
}
