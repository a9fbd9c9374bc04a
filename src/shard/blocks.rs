//! A checkpoint in pieces, as the records of a state topic: one block for each appliance, one or more for all else, and the
//! head. A block that has not changed need not be written again.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use xxhash_rust::xxh3::Xxh3;

use crate::metric::{Saved, SavedSeries};

/// What the keys of this format begin with.
const FORMAT: &str = "1/";
/// Text of series in a block, roughly, in bytes. Brokers take records of 1 MiB; no series is larger than what is between.
const BLOCK_BYTES: usize = 512 << 10;
/// Entries of other lists in a block.
const BLOCK_ENTRIES: usize = 4_096;

/// The key of a record in a state topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// How far the shard was read, and by whom.
    Head,
    /// A part of what belongs to an appliance.
    Appliance(Arc<str>, u32),
    /// A part of what belongs to none.
    Other(u32),
}

impl Key {
    /// As it is written.
    pub fn encode(&self) -> String {
        match self {
            Key::Head => format!("{FORMAT}head"),
            // An appliance may have any name.
            Key::Appliance(name, part) => format!("{FORMAT}a/{part}/{name}"),
            Key::Other(part) => format!("{FORMAT}o/{part}"),
        }
    }

    /// Reads what [`Key::encode`] wrote; nothing if it is something else.
    pub fn decode(key: &[u8]) -> Option<Self> {
        let key = std::str::from_utf8(key).ok()?.strip_prefix(FORMAT)?;
        if key == "head" {
            return Some(Key::Head);
        }
        if let Some(part) = key.strip_prefix("o/") {
            return Some(Key::Other(number(part)?));
        }
        let (part, name) = key.strip_prefix("a/")?.split_once('/')?;
        Some(Key::Appliance(name.into(), number(part)?))
    }
}

/// A number as `Display` writes it, so that a key has one form.
fn number(text: &str) -> Option<u32> {
    let number: u32 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// The blocks of a checkpoint. To restore all of them, in any order, is to restore the whole.
pub fn split(saved: Saved) -> BTreeMap<Key, Saved> {
    let Saved {
        appliances,
        trusted,
        named,
        series,
        repeats,
        attempts,
        last_birth,
        shown,
    } = saved;
    let mut blocks: HashMap<Option<Arc<str>>, Vec<Saved>> = HashMap::new();
    for name in appliances {
        let first = Saved {
            appliances: vec![name.clone()],
            ..Saved::default()
        };
        blocks.insert(Some(name), vec![first]);
    }
    for name in trusted {
        first_of(&mut blocks, &name).trusted.push(name);
    }
    for name in named {
        first_of(&mut blocks, &name).named.push(name);
    }
    let mut sizes: HashMap<Option<Arc<str>>, usize> = HashMap::new();
    for one in series {
        let owner = one
            .values
            .first()
            .filter(|name| blocks.contains_key(&Some(Arc::clone(name))));
        let owner = owner.cloned();
        let parts = blocks.entry(owner.clone()).or_default();
        let size = sizes.entry(owner).or_default();
        let bytes = text_bytes(&one);
        if parts.is_empty() || (*size > 0 && *size + bytes > BLOCK_BYTES) {
            parts.push(Saved::default());
            *size = 0;
        }
        *size += bytes;
        if let Some(last) = parts.last_mut() {
            last.series.push(one);
        }
    }
    for repeat in repeats {
        first_of(&mut blocks, &repeat.appliance)
            .repeats
            .push(repeat);
    }
    let rest = blocks.entry(None).or_default();
    for some in attempts.chunks(BLOCK_ENTRIES) {
        rest.push(Saved {
            attempts: some.to_vec(),
            ..Saved::default()
        });
    }
    if rest.is_empty() {
        rest.push(Saved::default());
    }
    if let Some(first) = rest.first_mut() {
        (first.last_birth, first.shown) = (last_birth, shown);
    }
    let numbered = blocks.into_iter().flat_map(|(name, parts)| {
        let parts = parts.into_iter().zip(0..);
        parts.map(move |(block, part)| match &name {
            Some(name) => (Key::Appliance(name.clone(), part), block),
            None => (Key::Other(part), block),
        })
    });
    numbered.collect()
}

/// The first block of an appliance; of one that is not listed, that of all else.
fn first_of<'b>(
    blocks: &'b mut HashMap<Option<Arc<str>>, Vec<Saved>>,
    name: &Arc<str>,
) -> &'b mut Saved {
    let key = Some(name.clone());
    let key = key.filter(|_| blocks.contains_key(&Some(name.clone())));
    let parts = blocks.entry(key).or_default();
    if parts.is_empty() {
        parts.push(Saved::default());
    }
    &mut parts[0]
}

/// About what a series takes as JSON.
fn text_bytes(series: &SavedSeries) -> usize {
    let texts = series.labels.iter().chain(&*series.values);
    120 + series.metric.len() + texts.map(|text| text.len() + 3).sum::<usize>()
}

/// A number that another block has not, nor this one after a change.
pub fn fingerprint(block: &Saved) -> u64 {
    let mut hasher = Xxh3::new();
    let text = |hasher: &mut Xxh3, text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    for list in [&block.appliances, &block.trusted, &block.named] {
        hasher.update(&(list.len() as u64).to_le_bytes());
        list.iter().for_each(|name| text(&mut hasher, name));
    }
    for series in &block.series {
        text(&mut hasher, &series.metric);
        let texts = series.labels.iter().chain(&*series.values);
        texts.for_each(|one| text(&mut hasher, one));
        hasher.update(&[u8::from(series.test)]);
        hasher.update(&series.value.to_bits().to_le_bytes());
        hasher.update(&series.touched.to_le_bytes());
        hasher.update(&series.created.to_le_bytes());
        hasher.update(&series.born.to_le_bytes());
    }
    // The rest is short, or changes with the series.
    let rest = format!(
        "{:?}{:?}{}",
        block.repeats, block.attempts, block.last_birth
    );
    text(&mut hasher, &rest);
    hasher.digest()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::metric::{SavedAttempts, SavedRepeat};

    fn series(appliance: &str, number: u32, text: usize) -> SavedSeries {
        SavedSeries {
            metric: "lines_total".into(),
            labels: ["appliance", "text"].map(Arc::from).into(),
            values: [
                appliance.into(),
                format!("{number}{}", "x".repeat(text)).into(),
            ]
            .into(),
            test: false,
            value: f64::from(number),
            touched: number,
            created: 1,
            born: 2,
        }
    }

    fn whole(names: &[String], rows: &[(usize, usize)]) -> Saved {
        let names: Vec<Arc<str>> = names.iter().map(|name| name.as_str().into()).collect();
        let owner = |at: usize| names.get(at).map_or("other", |name| name);
        let repeat = |name: &Arc<str>| SavedRepeat {
            path: "shard".into(),
            appliance: name.clone(),
            rule: None,
            standing: Vec::new(),
            counted: Vec::new(),
            event_time: None,
        };
        Saved {
            trusted: names.iter().take(2).cloned().collect(),
            named: names.iter().take(1).cloned().collect(),
            series: (rows.iter().zip(0..))
                .map(|((at, text), number)| series(owner(*at), number, *text))
                .collect(),
            repeats: names.iter().map(repeat).collect(),
            attempts: (0..9_000)
                .map(|key| SavedAttempts {
                    key,
                    failures: 1,
                    last: 2,
                })
                .collect(),
            last_birth: 7,
            shown: Vec::new(),
            appliances: names,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Nothing is lost, and no block is larger than brokers take.
        #[test]
        fn blocks_are_the_whole(
            names in prop::collection::btree_set("[a-z/]{1,9}", 0..5),
            rows in prop::collection::vec((0_usize..7, 0_usize..2_000), 0..900),
        ) {
            let names: Vec<String> = names.into_iter().filter(|name| name != "other").collect();
            let saved = whole(&names, &rows);
            let blocks = split(saved.clone());
            let mut series: Vec<_> = blocks.values().flat_map(|block| block.series.clone()).collect();
            series.sort_by_key(|one| one.touched);
            prop_assert_eq!(series, saved.series);
            let sum = |count: fn(&Saved) -> usize| blocks.values().map(count).sum::<usize>();
            prop_assert_eq!(sum(|block| block.appliances.len()), names.len());
            prop_assert_eq!(sum(|block| block.trusted.len()), names.len().min(2));
            prop_assert_eq!(sum(|block| block.named.len()), names.len().min(1));
            prop_assert_eq!(sum(|block| block.repeats.len()), names.len());
            prop_assert_eq!(sum(|block| block.attempts.len()), 9_000);
            prop_assert_eq!(sum(|block| block.last_birth as usize), 7);
            for (key, block) in &blocks {
                let read = Key::decode(key.encode().as_bytes());
                prop_assert_eq!(read.as_ref(), Some(key));
                prop_assert!(serde_json::to_vec(block).unwrap().len() < 900_000);
                // Of one appliance is what belongs to it.
                if let Key::Appliance(name, _) = key {
                    prop_assert!(block.series.iter().all(|one| one.values[0] == *name));
                }
            }
        }

        #[test]
        fn any_key_is_survived(key in prop::collection::vec(any::<u8>(), 0..20), is_own: bool) {
            let key = if is_own { [b"1/", &key[..]].concat() } else { key };
            if let Some(read) = Key::decode(&key) {
                prop_assert_eq!(read.encode().into_bytes(), key);
            }
        }
    }

    #[test]
    fn a_block_that_has_changed_has_another_fingerprint() {
        let names = ["a".to_owned()];
        let of = |change: &dyn Fn(&mut Saved)| {
            let mut saved = whole(&names, &[(0, 1), (0, 2)]);
            change(&mut saved);
            fingerprint(&saved)
        };
        let before = of(&|_| {});
        assert_eq!(before, of(&|_| {}));
        for (at, change) in [
            (&|saved: &mut Saved| saved.series[1].value += 1.0) as &dyn Fn(&mut Saved),
            &|saved| saved.series[0].touched += 1,
            &|saved| saved.series[0].test = true,
            &|saved| saved.series[0].born += 1,
            &|saved| saved.series[0].created += 1,
            &|saved| _ = saved.series.pop(),
            &|saved| saved.trusted.clear(),
            &|saved| saved.appliances.push("b".into()),
            &|saved| saved.attempts[5].failures += 1,
            &|saved| saved.repeats.clear(),
            &|saved| saved.last_birth += 1,
        ]
        .into_iter()
        .enumerate()
        {
            assert_ne!(before, of(change), "{at}");
        }
    }
}
