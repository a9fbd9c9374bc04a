//! The rules of one program: which of them could match a message, in order.
//!
//! A tree over the literal beginnings of all patterns leaves few candidates for most programs, and the capture machine
//! tries those in order. Where many patterns begin alike (`Device: {device}, …`), one anchored automaton over all of
//! them names the first that matches, so that the cost does not grow with their number.

use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, MatchKind};

use super::machine::blanks;

/// With more candidates than this the automaton is asked first.
const CANDIDATES_MAX: usize = 4;

/// Memory for the automaton's states that have been seen, in bytes for every pattern, and at most.
const CACHE_BYTES_PER_PATTERN: usize = 64 << 10;
const CACHE_BYTES_MAX: usize = 64 << 20;

/// How one pattern takes part in a set.
pub(super) struct Member {
    /// What every match starts with; a blank stands for a run of blanks.
    pub prefix: Vec<u8>,
    /// The pattern, anchored at the start by whoever runs it.
    pub regex: String,
}

/// The patterns of one program, told apart by their number in order.
#[derive(Debug)]
pub(super) struct Set {
    root: Node,
    automaton: Option<DFA>,
}

/// Memory that a search needs.
#[derive(Debug, Default)]
pub(super) struct SetScratch {
    /// The members that could match, in order.
    pub candidates: Vec<u32>,
    cache: Option<Cache>,
}

impl Set {
    pub(super) fn new(members: &[Member]) -> Self {
        let mut sorted: Vec<(&[u8], u32)> = members
            .iter()
            .zip(0..)
            .map(|(member, number)| (member.prefix.as_slice(), number))
            .collect();
        sorted.sort();
        let root = Node::new(&sorted, 0);
        let automaton = (root.widest() > CANDIDATES_MAX)
            .then(|| automaton(members))
            .flatten();
        Self { root, automaton }
    }

    /// Fills `scratch.candidates` with the members that could match, in order; none before the first could.
    #[inline]
    pub(super) fn search(&self, message: &[u8], scratch: &mut SetScratch) {
        let candidates = &mut scratch.candidates;
        candidates.clear();
        self.root.walk(message, candidates);
        if candidates.len() < 2 {
            return;
        }
        candidates.sort_unstable();
        let Some(automaton) = &self.automaton else {
            return;
        };
        if candidates.len() <= CANDIDATES_MAX {
            return;
        }
        let cache = scratch
            .cache
            .get_or_insert_with(|| automaton.create_cache());
        let input = Input::new(message).anchored(Anchored::Yes);
        match automaton.try_search_fwd(cache, &input) {
            Ok(Some(found)) => {
                let first = found.pattern().as_u32();
                candidates.retain(|candidate| *candidate >= first);
            }
            Ok(None) => candidates.clear(),
            // The automaton gave up, so each candidate is tried.
            Err(_) => {}
        }
    }
}

/// None if the patterns are too many for the limit; every candidate is then tried in order.
fn automaton(members: &[Member]) -> Option<DFA> {
    let patterns: Vec<&str> = members.iter().map(|member| member.regex.as_str()).collect();
    let nfa = thompson::NFA::compiler()
        .syntax(syntax::Config::new().unicode(false).utf8(false))
        .configure(
            thompson::Config::new()
                .utf8(false)
                .which_captures(thompson::WhichCaptures::None)
                .nfa_size_limit(Some(CACHE_BYTES_MAX)),
        )
        .build_many(&patterns)
        .ok()?;
    let capacity = (CACHE_BYTES_PER_PATTERN * members.len()).clamp(1 << 20, CACHE_BYTES_MAX);
    let config = DFA::config()
        .match_kind(MatchKind::LeftmostFirst)
        .cache_capacity(capacity)
        .skip_cache_capacity_check(true);
    DFA::builder().configure(config).build_from_nfa(nfa).ok()
}

/// A node of the tree of beginnings.
#[derive(Debug)]
struct Node {
    /// What all below have in common from here on; a blank stands for a run of blanks. Empty for a single member, which
    /// the machine compares faster by itself.
    common: Box<[u8]>,
    /// Members whose beginning ends here.
    members: Box<[u32]>,
    /// By the next byte, sorted; a blank stands for a run of blanks.
    next: Box<[(u8, Node)]>,
    /// By the next byte the index into `next`, or 255; only where there are many.
    index: Option<Box<[u8; 256]>>,
}

impl Node {
    /// `sorted` agree in their first `depth` bytes.
    fn new(sorted: &[(&[u8], u32)], depth: usize) -> Self {
        let leaf = |members: Vec<u32>, common: &[u8], next: Vec<(u8, Node)>| {
            let index = (next.len() > 4).then(|| {
                let mut index = Box::new([u8::MAX; 256]);
                for (at, (byte, _)) in next.iter().enumerate() {
                    index[usize::from(*byte)] = at as u8;
                }
                index
            });
            Node {
                common: common.into(),
                members: members.into(),
                next: next.into(),
                index,
            }
        };
        let Some(((first, _), (last, _))) = sorted.first().zip(sorted.last()) else {
            return leaf(Vec::new(), &[], Vec::new());
        };
        if let [(_, number)] = sorted {
            return leaf(vec![*number], &[], Vec::new());
        }
        // Sorted, so what first and last have in common all have.
        let common = first[depth..]
            .iter()
            .zip(&last[depth..])
            .take_while(|(a, b)| a == b)
            .count();
        let depth_here = depth + common;
        let ended = sorted.partition_point(|(prefix, _)| prefix.len() == depth_here);
        let members = sorted[..ended].iter().map(|(_, number)| *number).collect();
        let mut next = Vec::new();
        let mut rest = &sorted[ended..];
        while let Some((prefix, _)) = rest.first() {
            let byte = prefix[depth_here];
            let count = rest.partition_point(|(prefix, _)| prefix[depth_here] == byte);
            next.push((byte, Node::new(&rest[..count], depth_here + 1)));
            rest = &rest[count..];
        }
        leaf(members, &first[depth..depth_here], next)
    }

    #[inline]
    fn walk(&self, message: &[u8], candidates: &mut Vec<u32>) {
        let mut node = self;
        let mut rest = message;
        loop {
            for &byte in &node.common {
                match (byte, rest.split_first()) {
                    (b' ', _) => match blanks(rest) {
                        0 => return,
                        count => rest = &rest[count..],
                    },
                    (byte, Some((first, tail))) if byte == *first => rest = tail,
                    _ => return,
                }
            }
            candidates.extend_from_slice(&node.members);
            let Some((&first, tail)) = rest.split_first() else {
                return;
            };
            let byte = match rest {
                [b'\t', ..] | [0xC2, 0xA0, ..] => b' ',
                _ => first,
            };
            let found = match &node.index {
                Some(index) => node.next.get(usize::from(index[usize::from(byte)])),
                None => node.next.iter().find(|(next, _)| *next == byte),
            };
            let Some((_, next)) = found else { return };
            rest = if byte == b' ' {
                &rest[blanks(rest)..]
            } else {
                tail
            };
            node = next;
        }
    }

    /// The largest number of candidates that a walk can end with.
    fn widest(&self) -> usize {
        let below = self.next.iter().map(|(_, node)| node.widest()).max();
        self.members.len() + below.unwrap_or(0)
    }
}
