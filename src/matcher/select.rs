//! Which rules of one program could match a message, in order.
//!
//! ```text
//! prefixes, blanks dropped        0 connectionclosedby   1 connectionfrom   2 failedpassword   3 (any text)
//!
//! rows      ┌─ c ─▶ o ─▶ n ─▶ … ─▶ n ─┬─ c ─▶ {0, 3}
//!  start ───┤                         ├─ f ─▶ {1, 3}
//!           ├─ f ─▶ {2, 3}            └─ else {3}
//!           └─ else {3}
//! ```
//!
//! A [`Selector`] is a trie over the literal text that each pattern begins with, at most
//! [`PREFIX_BYTES_MAX`](super::prefixes::PREFIX_BYTES_MAX) bytes of it. Blanks are dropped and ASCII case is ignored, in the
//! prefixes and in the message: a filter may let too much pass, and then needs no notion of how many blanks there may be.
//! It ends as soon as more bytes would tell no more candidates apart. The templates of those that are left are tried in
//! order, which decides.
//!
//! More than [`CANDIDATES_MAX`] candidates are left where a placeholder stands before what tells rules apart (`Device:
//! {device}, …`). Then one anchored lazy DFA (regex-automata) over all patterns of the program names the first that
//! matches, so that the cost does not grow with their number.
//!
//! **Cost.** The trie: 15 instructions for eight bytes that were walked before, 10 for each byte of others, mostly less
//! than twenty bytes; its rows are made with the selector, when the program's first message comes, 4 bytes for each node and
//! different byte. The DFA: 10 instructions for each byte of the whole message, and about a mebibyte once it is made;
//! states that were seen are cached within [`Limits::dfa_cache_bytes_max`].
//!
//! **Not used** to find captures: neither the trie nor the DFA knows where a placeholder is.

use hashbrown::HashMap;
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson;
use regex_automata::{Anchored, Input, MatchKind};

use super::prefixes::canonical;
use super::regex::syntax;

/// With more candidates than this the DFA is asked first. Most are ruled out by a byte or a text before they are tried.
const CANDIDATES_MAX: usize = 16;

/// In a longer message than this, in bytes, the DFA is asked even about two: each of them might spend the budget.
const TRIED_BYTES_MAX: usize = 512;

const DFA_BYTES_PER_PATTERN: usize = 64 << 10;
const DFA_BYTES_MIN: usize = 1 << 20;

/// Where patterns are so many that their automaton would be larger, all candidates are tried.
const NFA_BYTES_MAX: usize = 64 << 20;

/// Bounds of a selector.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Memory for the states of a program's DFA, bytes; [`DFA_BYTES_PER_PATTERN`] for each pattern, if that is less. When
    /// it is full, it is cleared.
    pub dfa_cache_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            dfa_cache_bytes_max: 64 << 20,
        }
    }
}

/// The patterns of one program, by their number in order.
#[derive(Debug)]
pub(super) struct Selector {
    /// By byte its column in a row.
    columns: Box<[u16; 256]>,
    /// By row and column what comes next: where another row starts, or with [`LEAF`] a candidate set.
    table: Box<[u32]>,
    start: u32,
    /// Walks of eight bytes, by their hash.
    walks: Box<[Walk; WALKS]>,
    sets: Box<[Set]>,
    dfa: LazyDfa,
    limits: Limits,
}

const LEAF: u32 = 1 << 31;

/// Where eight bytes of a message lead to from a row. Messages of a program begin with few texts, so nearly every walk is
/// one that was made before.
#[derive(Clone, Copy, Debug)]
struct Walk {
    bytes: u64,
    from: u32,
    to: u32,
}

/// Walks that are cached for a selector, 16 bytes each.
const WALKS: usize = 64;

/// The column for the end of the message, and for bytes that no prefix has.
const END: u16 = 0;
const OTHER: u16 = 1;
/// The column of blanks, which lead to the row that they come from.
const BLANK: u16 = 2;
/// That of the first byte of a prefix.
const FIRST: u16 = 3;

#[derive(Debug)]
enum LazyDfa {
    NotMade,
    /// The patterns are too many for its limit.
    TooLarge,
    Made(Box<(DFA, Cache)>),
}

/// Members in order.
#[derive(Debug)]
struct Set {
    members: Box<[u32]>,
    /// The last one that begins with a literal text: messages that come here mostly match it.
    likely: u32,
}

/// What a search found.
#[derive(Debug)]
pub(super) struct Candidates<'s> {
    /// Members in order.
    pub members: &'s [u32],
    /// The one that most messages match that none before it matches.
    pub likely: u32,
    /// The DFA was asked.
    pub by_dfa: bool,
}

impl Selector {
    /// A selector for patterns that begin so: each with one prefix or several, in order.
    pub(super) fn new(members: &[Vec<Vec<u8>>], limits: Limits) -> Self {
        let mut entries = Vec::new();
        for (prefixes, member) in members.iter().zip(0..) {
            entries.extend(prefixes.iter().map(|prefix| (prefix.as_slice(), member)));
        }
        let mut builder = Builder::new(&entries);
        let start = builder.node(&entries, 0);
        Self {
            columns: builder.columns,
            table: builder.table.into(),
            start,
            // None begins at a leaf.
            walks: Box::new(
                [Walk {
                    bytes: 0,
                    from: LEAF,
                    to: LEAF,
                }; WALKS],
            ),
            sets: builder.sets.into(),
            dfa: LazyDfa::NotMade,
            limits,
        }
    }

    /// The members that could match, in order; none before the first could. `regexes` are what the members say, in
    /// order, and asked for only once.
    #[inline]
    pub(super) fn search<R: AsRef<str>>(
        &mut self,
        message: &[u8],
        regexes: impl FnOnce() -> Vec<R>,
    ) -> Candidates<'_> {
        let (mut next, mut rest) = (self.start, message);
        while next & LEAF == 0 {
            (next, rest) = match rest.split_first_chunk() {
                Some((eight, rest)) => (self.walk_eight(next, eight), rest),
                None => match self.walk(next, rest) {
                    row if row & LEAF == 0 => (self.table[row as usize + usize::from(END)], rest),
                    leaf => (leaf, rest),
                },
            };
        }
        let set = (next & !LEAF) as usize;
        let tried_max = match message.len() {
            ..=TRIED_BYTES_MAX => CANDIDATES_MAX,
            _ => 1,
        };
        if self.sets[set].members.len() <= tried_max {
            return self.sets[set].candidates();
        }
        self.first_match(set, message, regexes)
    }

    #[inline]
    fn walk_eight(&mut self, from: u32, eight: &[u8; 8]) -> u32 {
        let bytes = u64::from_le_bytes(*eight);
        let hash = (bytes ^ u64::from(from)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // The upper bits are the best mixed.
        let at = (hash >> 58) as usize % WALKS;
        if (self.walks[at].bytes, self.walks[at].from) != (bytes, from) {
            let to = self.walk(from, eight);
            self.walks[at] = Walk { bytes, from, to };
        }
        self.walks[at].to
    }

    /// The row or leaf that some bytes of a message lead to.
    #[inline(never)]
    fn walk(&self, from: u32, bytes: &[u8]) -> u32 {
        let mut next = from;
        for byte in bytes {
            if next & LEAF != 0 {
                break;
            }
            let column = self.columns[usize::from(*byte)];
            next = self.table[next as usize + usize::from(column)];
        }
        next
    }

    /// How often the cache of the DFA was full.
    #[cfg(test)]
    pub(super) fn cache_clears(&self) -> usize {
        match &self.dfa {
            LazyDfa::Made(made) => made.1.clear_count(),
            LazyDfa::NotMade | LazyDfa::TooLarge => 0,
        }
    }

    /// Asks the DFA for the first member that matches. If there is none that could decide, all members are candidates.
    fn first_match<R: AsRef<str>>(
        &mut self,
        set: usize,
        message: &[u8],
        regexes: impl FnOnce() -> Vec<R>,
    ) -> Candidates<'_> {
        if matches!(self.dfa, LazyDfa::NotMade) {
            self.dfa = match lazy_dfa(&regexes(), self.limits) {
                Some(dfa) => {
                    let cache = dfa.create_cache();
                    LazyDfa::Made(Box::new((dfa, cache)))
                }
                None => LazyDfa::TooLarge,
            };
        }
        let all = self.sets[set].candidates();
        let LazyDfa::Made(made) = &mut self.dfa else {
            return all;
        };
        let (dfa, cache) = &mut **made;
        let input = Input::new(message).anchored(Anchored::Yes);
        match dfa.try_search_fwd(cache, &input) {
            Ok(Some(found)) => {
                let first = found.pattern().as_u32();
                let before = all.members.partition_point(|member| *member < first);
                Candidates {
                    members: &all.members[before..],
                    likely: first,
                    by_dfa: true,
                }
            }
            Ok(None) => Candidates {
                members: &[],
                by_dfa: true,
                ..all
            },
            Err(_) => all,
        }
    }
}

impl Set {
    #[inline]
    fn candidates(&self) -> Candidates<'_> {
        Candidates {
            members: &self.members,
            likely: self.likely,
            by_dfa: false,
        }
    }
}

/// None if the patterns are too many for the limit.
fn lazy_dfa(patterns: &[impl AsRef<str>], limits: Limits) -> Option<DFA> {
    let nfa = thompson::NFA::compiler()
        .syntax(syntax())
        .configure(
            thompson::Config::new()
                .utf8(false)
                .which_captures(thompson::WhichCaptures::None)
                .nfa_size_limit(Some(NFA_BYTES_MAX)),
        )
        .build_many(patterns)
        .ok()?;
    let bytes = (DFA_BYTES_PER_PATTERN * patterns.len()).max(DFA_BYTES_MIN);
    let config = DFA::config()
        .match_kind(MatchKind::LeftmostFirst)
        .cache_capacity(bytes.min(limits.dfa_cache_bytes_max))
        .skip_cache_capacity_check(true);
    DFA::builder().configure(config).build_from_nfa(nfa).ok()
}

/// A prefix and the member that it belongs to.
type Entry<'p> = (&'p [u8], u32);

struct Builder {
    columns: Box<[u16; 256]>,
    width: usize,
    /// The bytes that have a column of their own.
    used: Vec<u8>,
    table: Vec<u32>,
    sets: Vec<Set>,
    set_numbers: HashMap<Box<[u32]>, u32>,
}

impl Builder {
    fn new(entries: &[Entry<'_>]) -> Self {
        let mut used: Vec<u8> = (entries.iter())
            .flat_map(|(prefix, _)| prefix.iter().copied())
            .collect();
        used.sort_unstable();
        used.dedup();
        let mut columns = Box::new([OTHER; 256]);
        for (byte, column) in (0..=u8::MAX).zip(columns.iter_mut()) {
            *column = match canonical(byte).map(|byte| used.binary_search(&byte)) {
                None => BLANK,
                Some(Ok(place)) => FIRST + place as u16,
                Some(Err(_)) => OTHER,
            };
        }
        Self {
            columns,
            width: usize::from(FIRST) + used.len(),
            used,
            table: Vec::new(),
            sets: Vec::new(),
            set_numbers: HashMap::new(),
        }
    }

    /// What a message comes to that begins as these prefixes do up to `depth`.
    fn node(&mut self, entries: &[Entry<'_>], depth: usize) -> u32 {
        let is_open = |(prefix, _): &&Entry<'_>| prefix.len() > depth;
        let mut open = entries.iter().filter(is_open).map(|(_, member)| *member);
        let first = open.next();
        // One that is open is told from those that have ended by trying it.
        if open.all(|member| Some(member) == first) {
            return self.set(entries);
        }
        let row = self.table.len();
        self.table.resize(row + self.width, row as u32);
        let ended: Vec<Entry<'_>> = (entries.iter().copied())
            .filter(|(prefix, _)| prefix.len() <= depth)
            .collect();
        let otherwise = self.set(&ended);
        for column in [END, OTHER] {
            self.table[row + usize::from(column)] = otherwise;
        }
        for place in 0..self.used.len() {
            let byte = self.used[place];
            let goes_on = |(prefix, _): &Entry<'_>| prefix.get(depth).is_none_or(|it| *it == byte);
            let then: Vec<_> = entries.iter().copied().filter(goes_on).collect();
            self.table[row + usize::from(FIRST) + place] = match then.len() > ended.len() {
                true => self.node(&then, depth + 1),
                false => otherwise,
            };
        }
        row as u32
    }

    /// The members of entries, which are in their order.
    fn set(&mut self, entries: &[Entry<'_>]) -> u32 {
        let mut members: Vec<u32> = entries.iter().map(|(_, member)| *member).collect();
        members.dedup();
        let entry = self.set_numbers.entry(members.into());
        let number = *entry.or_insert_with_key(|members| {
            let likely = entries.iter().rfind(|(prefix, _)| !prefix.is_empty());
            self.sets.push(Set {
                members: members.clone(),
                likely: likely.map_or(u32::MAX, |(_, member)| *member),
            });
            self.sets.len() as u32 - 1
        });
        number | LEAF
    }
}
