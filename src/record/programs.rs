//! The programs that the loaded packs know, found by name in a few nanoseconds. What a program's rules are is left to
//! the matcher.

use super::body::{BodyFormat, Preamble};

/// A program that some rule pack knows, as an index into [`Programs`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProgramId(pub u16);

/// The programs that the loaded packs know, with all their spellings; ASCII case is ignored.
///
/// At most 65,535 programs and as many spellings are kept; what comes after them is left out and so counts as unknown.
#[derive(Clone, Debug, Default)]
pub struct Programs {
    /// Canonical names by id.
    names: Vec<String>,
    /// Every spelling in lower case with its program, and what is compared before it.
    spellings: Vec<(Folded, Box<[u8]>, ProgramId)>,
    /// Open addressing by hash; the index of a spelling plus one, 0 is free. A power of two long, at most a quarter
    /// full, so that a probe always ends.
    slots: Vec<u16>,
    /// Length of the longest spelling, bytes: longer tokens are refused without hashing.
    spelling_bytes_max: usize,
    /// What bodies look like, in the order of the packs.
    pub(super) formats: Vec<(BodyFormat, ProgramId)>,
    /// By id what stands before the messages whose header names the program; missing at the end where nothing does.
    preambles: Vec<Preamble>,
}

impl Programs {
    /// Builds the table from `(canonical name, other spellings)`. A spelling that two entries share, canonical or not,
    /// makes them one program under the first one's canonical name. Empty spellings are left out.
    pub fn new(entries: impl IntoIterator<Item = (String, Vec<String>)>) -> Programs {
        let mut programs = Programs::default();
        for (canonical, aliases) in entries {
            programs.add(canonical, aliases);
        }
        programs
    }

    /// The same programs, and what their messages look like. A format of a program that is not there is left out; of two
    /// for messages that name the program in their header, the first counts.
    pub fn with_formats(mut self, formats: impl IntoIterator<Item = BodyFormat>) -> Programs {
        for format in formats {
            let Some(id) = self.lookup(format.program.as_bytes()) else {
                continue;
            };
            let number = u16::try_from(self.formats.len()).ok();
            if let Some(preamble) = number.and_then(|number| format.preamble(number)) {
                let at = usize::from(id.0);
                if self.preambles.len() <= at {
                    self.preambles.resize(at + 1, Preamble::None);
                }
                if self.preambles[at] == Preamble::None {
                    self.preambles[at] = preamble;
                }
            }
            self.formats.push((format, id));
        }
        self
    }

    /// What stands before the messages of a program.
    #[inline]
    pub(super) fn preamble(&self, id: Option<ProgramId>) -> Preamble {
        let of = |id: ProgramId| self.preambles.get(usize::from(id.0));
        id.and_then(of).copied().unwrap_or_default()
    }

    fn add(&mut self, canonical: String, aliases: Vec<String>) {
        let known = std::iter::once(&canonical)
            .chain(&aliases)
            .find_map(|name| self.lookup(name.as_bytes()));
        let spellings: Vec<Box<[u8]>> = std::iter::once(&canonical)
            .chain(&aliases)
            .filter(|name| !name.is_empty())
            .map(|name| name.to_ascii_lowercase().into_bytes().into_boxed_slice())
            .collect();
        if spellings.is_empty() {
            return;
        }
        let id = match known {
            Some(id) => id,
            None => {
                let Ok(index) = u16::try_from(self.names.len()) else {
                    return;
                };
                if index == u16::MAX {
                    return;
                }
                self.names.push(canonical);
                ProgramId(index)
            }
        };
        for spelling in spellings {
            if self.lookup(&spelling).is_none() && self.spellings.len() < usize::from(u16::MAX) {
                self.insert(spelling, id);
            }
        }
    }

    fn insert(&mut self, spelling: Box<[u8]>, id: ProgramId) {
        self.spelling_bytes_max = self.spelling_bytes_max.max(spelling.len());
        self.spellings.push((Folded::new(&spelling), spelling, id));
        let wanted = (self.spellings.len() * 4).next_power_of_two();
        if wanted > self.slots.len() {
            self.slots = vec![0; wanted];
            for index in 0..self.spellings.len() {
                self.link(index);
            }
        } else {
            self.link(self.spellings.len() - 1);
        }
    }

    fn link(&mut self, index: usize) {
        let mask = self.slots.len() - 1;
        let mut slot = self.spellings[index].0.hash() & mask;
        while self.slots[slot] != 0 {
            slot = (slot + 1) & mask;
        }
        // `add` keeps the number of spellings below `u16::MAX`, so the index plus one fits.
        self.slots[slot] = u16::try_from(index + 1).unwrap_or(0);
    }

    /// The program called `name` in any case.
    #[inline]
    pub fn lookup(&self, name: &[u8]) -> Option<ProgramId> {
        if name.len() > self.spelling_bytes_max || name.is_empty() {
            return None;
        }
        let mask = self.slots.len().wrapping_sub(1);
        let folded = Folded::new(name);
        let mut slot = folded.hash() & mask;
        loop {
            let index = usize::from(*self.slots.get(slot)?);
            let (key, spelling, id) = self.spellings.get(index.checked_sub(1)?)?;
            // Sixteen bytes are compared with the key, case aside; longer names have a middle, too.
            if *key == folded && (name.len() <= 16 || spelling.eq_ignore_ascii_case(name)) {
                return Some(*id);
            }
            slot = (slot + 1) & mask;
        }
    }

    /// The canonical name; empty for an id of another table.
    pub fn name(&self, id: ProgramId) -> &str {
        self.names.get(usize::from(id.0)).map_or("", String::as_str)
    }

    /// How many programs there are; their ids are `0..len`.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether no program is known.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// All programs with their canonical names, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (ProgramId, &str)> {
        (0..u16::MAX)
            .zip(&self.names)
            .map(|(index, name)| (ProgramId(index), name.as_str()))
    }
}

/// A name's first and last eight bytes with the bit set that tells the cases of a letter apart, so that equal names have
/// equal keys in any case. (Some punctuation is told apart by that bit as well, `_` and the control character DEL; no
/// header has such a program.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Folded {
    head: u64,
    tail: u64,
    len: usize,
}

impl Folded {
    #[inline]
    fn new(name: &[u8]) -> Folded {
        const FOLD: u64 = 0x2020_2020_2020_2020;
        let (head, tail) = match (name.first_chunk::<8>(), name.last_chunk::<8>()) {
            (Some(head), Some(tail)) => (u64::from_le_bytes(*head), u64::from_le_bytes(*tail)),
            _ => match (name.first_chunk::<4>(), name.last_chunk::<4>()) {
                (Some(head), Some(tail)) => (
                    u64::from(u32::from_le_bytes(*head)),
                    u64::from(u32::from_le_bytes(*tail)),
                ),
                _ => (
                    name.iter()
                        .fold(0, |word, &byte| word << 8 | u64::from(byte)),
                    0,
                ),
            },
        };
        Folded {
            head: head | FOLD,
            tail: tail | FOLD,
            len: name.len(),
        }
    }

    #[inline]
    fn hash(self) -> usize {
        const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
        let mixed =
            (self.head ^ self.tail.rotate_left(29) ^ self.len as u64).wrapping_mul(MULTIPLIER);
        (mixed >> 40) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn entry(name: &str, aliases: &[&str]) -> (String, Vec<String>) {
        (
            name.to_owned(),
            aliases.iter().map(|&alias| alias.to_owned()).collect(),
        )
    }

    #[test]
    fn case_and_spelling_do_not_matter() {
        let programs = Programs::new([
            entry("NTLS", &["ntlsd"]),
            entry("sshd", &["sshd-session", "sshd-auth"]),
        ]);
        let ntls = programs.lookup(b"ntls").unwrap();
        assert_eq!(programs.name(ntls), "NTLS");
        assert_eq!(programs.lookup(b"NTLSD"), Some(ntls));
        assert_eq!(
            programs.name(programs.lookup(b"SSHD-Session").unwrap()),
            "sshd"
        );
        for unknown in [
            &b""[..],
            b"ntl",
            b"ntlsx",
            b"sshd_session",
            b"sshd-sessionsshd-session",
        ] {
            assert_eq!(programs.lookup(unknown), None);
        }
        assert_eq!(programs.len(), 2);
        assert_eq!(
            programs.iter().map(|(_, name)| name).collect::<Vec<_>>(),
            ["NTLS", "sshd"]
        );
    }

    #[test]
    fn a_spelling_in_two_packs_is_one_program() {
        let programs = Programs::new([
            entry("kmd", &["iked"]),
            entry("iked", &["ikemd"]),
            entry("KMD", &[]),
        ]);
        assert_eq!(programs.len(), 1);
        assert_eq!(programs.lookup(b"ikemd"), programs.lookup(b"kmd"));
    }

    #[test]
    fn an_empty_table_knows_nothing() {
        let programs = Programs::new([entry("", &[""])]);
        assert!(programs.is_empty());
        assert_eq!(programs.lookup(b"sshd"), None);
    }

    proptest! {
        #[test]
        fn agrees_with_a_map(names in prop::collection::vec("[a-zA-Z_.-]{0,12}", 0..200), asked in "[a-zA-Z_.-]{0,12}") {
            let programs = Programs::new(names.iter().map(|name| (name.clone(), Vec::new())));
            let mut model: HashMap<String, &str> = HashMap::new();
            for name in names.iter().filter(|name| !name.is_empty()) {
                model.entry(name.to_ascii_lowercase()).or_insert(name);
            }
            prop_assert_eq!(programs.len(), model.len());
            for name in names.iter().chain([&asked]) {
                let found = programs.lookup(name.as_bytes()).map(|id| programs.name(id));
                prop_assert_eq!(found, model.get(&name.to_ascii_lowercase()).copied());
            }
        }
    }
}
