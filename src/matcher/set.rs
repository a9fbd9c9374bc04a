//! The rules of one program: which of them could match a message, in order.
//!
//! A table that is driven by the first bytes of a message names the few rules that can begin so, mostly one, and reads
//! no further than it must for that; the capture machine tries those in order. A row of the table is made when a message
//! first comes there, so that rules cost nothing where their messages do not occur; and the bytes that led to an end are
//! remembered, so that most messages are compared with them and not walked along byte by byte.
//!
//! Where a text of any length stands before what tells the rules apart (`Device: {device}, …`), the search goes on from
//! every place where that text may end, of which there are few. Where that does not help, one anchored automaton over
//! all patterns names the first that matches, so that the cost does not grow with their number.

use hashbrown::HashMap;
use memchr::{memchr, memchr2, memchr3};
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, MatchKind};
use regex_syntax::hir::{Class, Hir, HirKind};

use super::machine::{Machine, NEVER, Op, Start, table};
use crate::rules;

/// With more candidates than this the automaton is asked first.
const CANDIDATES_MAX: usize = 8;

/// To make an automaton costs as much as some thousand such messages, and about a mebibyte. For the first of them so
/// many candidates are tried.
const TRIALS: u32 = 250;
const TRIED_MAX: usize = 16;

/// States of the table, for every pattern and at most; what lies beyond is left to the automaton.
const STATES_PER_PATTERN: usize = 8;
const STATES_MAX: usize = 4096;

/// So many members are tried rather than told apart by what follows a number or quoted text.
const FEW: usize = 4;

/// Fewer members than this are tried rather than told apart by what follows a text of any length.
const SPREAD_MIN: usize = 4;

/// Members that are tried besides those that have a text of any length at one place.
const OTHERS_MAX: usize = 6;

/// Places where a text of any length may end; where there are more, the automaton is asked.
const WALKS_MAX: usize = 24;

/// Memory for the automaton's states that have been seen, in bytes for every pattern, and at most.
const CACHE_BYTES_PER_PATTERN: usize = 64 << 10;
const CACHE_BYTES_MAX: usize = 64 << 20;

/// What a pattern may begin with.
pub(super) enum Beginning<'m> {
    /// What this machine accepts.
    Machine(&'m Machine),
    /// What this regular expression says.
    Regex(&'m str),
}

/// The patterns of one program, told apart by their number in order.
#[derive(Debug)]
pub(super) struct Set {
    beginnings: Beginnings,
    /// By byte its column.
    columns: Box<[u16; 256]>,
    /// How many columns a row has; the first is for the end of the message.
    width: usize,
    /// By class the columns that it holds.
    class_columns: Vec<Vec<usize>>,
    /// By row and column what comes next.
    table: Vec<Next>,
    /// Where a search starts.
    start: Next,
    states: Vec<State>,
    /// By row its state.
    row_states: Vec<usize>,
    state_numbers: HashMap<Box<[u32]>, u32>,
    states_max: usize,
    /// Members in order.
    leaves: Vec<Box<[u32]>>,
    leaf_numbers: HashMap<Box<[u32]>, u32>,
    spreads: Vec<Spread>,
    /// By hash of a message's first eight bytes, a power of two of them; empty until there is one.
    ways: Box<[Vec<Way>]>,
    way_count: usize,
    /// How many were not known.
    new_ways: u32,
    gather: Gather,
    /// Candidates of a search that went several ways.
    union: Vec<u32>,
    automaton: Automaton,
    /// How many messages had more than [`CANDIDATES_MAX`].
    trials: u32,
}

/// What a byte leads to: a [`Step`] in 32 bits, of which the upper two tell the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Next(u32);

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Go on in the row that starts there.
    Row(usize),
    /// A state whose row is not made yet.
    State(usize),
    /// These members, by number among the leaves.
    Leaf(usize),
    /// Go on from several places.
    Spread(usize),
}

/// Where a walk over the first bytes of a message came to. Messages that begin with the same bytes come there, too. It fits
/// one line of the processor's memory, and most messages are told by that from all others that begin alike.
#[derive(Debug)]
#[repr(align(64))]
struct Way {
    /// The first eight bytes of the text, or as many as it has, and which bits of them count.
    head: u64,
    mask: u64,
    /// The last eight, if it has more.
    tail: u64,
    end: Next,
    text: Box<[u8]>,
    /// If it ends at a leaf of few members: these, and where their runs go on behind the text.
    members: Box<[(u32, Start)]>,
}

/// The first eight bytes of a message; none if it is shorter.
#[inline]
fn first_eight(message: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(*message.first_chunk()?))
}

/// Of a message's first eight bytes, as many bits as an index of the ways may need.
#[inline]
fn way_hash(first: u64) -> usize {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    (first.wrapping_mul(MULTIPLIER) >> 56) as usize
}

impl Way {
    fn new(text: &[u8], end: Next, members: Box<[(u32, Start)]>) -> Self {
        let mut head = [0; 8];
        let mut mask = [0; 8];
        for ((head, mask), byte) in head.iter_mut().zip(&mut mask).zip(text) {
            (*head, *mask) = (*byte, 0xff);
        }
        Self {
            head: u64::from_le_bytes(head),
            mask: u64::from_le_bytes(mask),
            tail: u64::from_le_bytes(*text.last_chunk().unwrap_or(&[0; 8])),
            end,
            text: text.into(),
            members,
        }
    }

    /// Whether a message of which these are the first eight bytes begins with the text.
    #[inline]
    fn leads(&self, message: &[u8], first: u64) -> bool {
        let len = self.text.len();
        if (first ^ self.head) & self.mask != 0 {
            return false;
        }
        len <= 8
            || message.get(..len).is_some_and(|message| {
                let tail = message.last_chunk().copied().map(u64::from_le_bytes);
                tail == Some(self.tail) && (len <= 16 || *message == *self.text)
            })
    }
}

/// What a search found.
pub(super) struct Candidates<'s> {
    /// Members in order, and where their runs may start.
    started: &'s [(u32, Start)],
    /// Members in order whose runs start at the beginning, if there are none of the others.
    members: &'s [u32],
    /// A member that is known to match, and where its match ends.
    pub known: Option<(u32, usize)>,
}

impl<'s> Candidates<'s> {
    fn of(members: &'s [u32]) -> Self {
        Self {
            started: &[],
            members,
            known: None,
        }
    }

    /// The members in order, and where their runs may start.
    #[inline]
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, Start)> + use<'s> {
        let members = self.members.iter();
        let from_beginning = members.map(|member| (*member, Start::default()));
        self.started.iter().copied().chain(from_beginning)
    }
}

/// Ways remembered for messages whose first eight bytes have one hash: so many in any case, and more while the set has
/// few of them. And how many hashes there are.
const WAYS_MIN: usize = 4;
const WAYS_MAX: usize = 16;
const WAYS_PER_MEMBER: usize = 8;
const WAY_HASHES_MAX: usize = 256;

/// One in so many new ways takes the place of a known one.
const WAYS_RENEWED: u32 = 64;

/// Longest way that is remembered, bytes.
const WAY_BYTES_MAX: usize = 64;

impl Next {
    const KIND: u32 = 3 << 30;
    const STATE: u32 = 1 << 30;
    const LEAF: u32 = 2 << 30;
    const SPREAD: u32 = 3 << 30;

    fn state(number: usize) -> Next {
        Next(number as u32 | Next::STATE)
    }

    fn leaf(number: usize) -> Next {
        Next(number as u32 | Next::LEAF)
    }

    fn spread(number: usize) -> Next {
        Next(number as u32 | Next::SPREAD)
    }

    /// Rows start below 2²¹: there are at most [`STATES_MAX`] of at most 257 columns.
    fn row(start: usize) -> Next {
        Next(start as u32)
    }

    #[inline]
    fn step(self) -> Step {
        let number = (self.0 & !Next::KIND) as usize;
        match self.0 & Next::KIND {
            0 => Step::Row(number),
            Next::STATE => Step::State(number),
            Next::LEAF => Step::Leaf(number),
            _ => Step::Spread(number),
        }
    }
}

#[derive(Debug)]
struct State {
    nodes: Box<[u32]>,
    /// Where its row starts, once it is made.
    row: Option<usize>,
}

/// A text of any length that nearly all members left have here.
#[derive(Debug)]
struct Spread {
    /// Where it may end.
    finder: Finder,
    /// What follows it.
    next: Next,
    /// All members that are left.
    leaf: usize,
    /// Those that have no such text.
    others: usize,
    /// How often in a row this led to too many; it is given up when that happens too often.
    failures: u32,
}

const FAILURES_MAX: u32 = 16;

/// Finds bytes of a class.
#[derive(Debug)]
enum Finder {
    One(u8),
    Two(u8, u8),
    Three(u8, u8, u8),
    Any(Box<[bool; 256]>),
}

impl Finder {
    fn new(class: Box<[bool; 256]>) -> Self {
        let bytes: Vec<u8> = (0..=u8::MAX).filter(|at| class[usize::from(*at)]).collect();
        match bytes.as_slice() {
            [a] => Finder::One(*a),
            [a, b] => Finder::Two(*a, *b),
            [a, b, c] => Finder::Three(*a, *b, *c),
            _ => Finder::Any(class),
        }
    }

    #[inline]
    fn find(&self, text: &[u8]) -> Option<usize> {
        match self {
            Finder::One(a) => memchr(*a, text),
            Finder::Two(a, b) => memchr2(*a, *b, text),
            Finder::Three(a, b, c) => memchr3(*a, *b, *c, text),
            Finder::Any(class) => text.iter().position(|byte| class[usize::from(*byte)]),
        }
    }
}

#[derive(Debug)]
enum Automaton {
    NotMade,
    /// The patterns are too many for its limit.
    TooLarge,
    Made(Box<(DFA, Cache)>),
}

impl Set {
    /// A set of patterns that begin so.
    pub(super) fn new<'m>(members: impl Iterator<Item = Beginning<'m>>) -> Self {
        let beginnings = Beginnings::new(members);
        let (columns, width) = beginnings.columns();
        let class_columns = beginnings.class_columns(&columns);
        let starts = beginnings.starts.clone();
        let mut this = Self {
            gather: Gather::new(beginnings.nodes.len()),
            beginnings,
            columns,
            width,
            class_columns,
            table: Vec::new(),
            start: Next::leaf(0),
            states: Vec::new(),
            row_states: Vec::new(),
            state_numbers: HashMap::new(),
            states_max: (64 + STATES_PER_PATTERN * starts.len()).min(STATES_MAX),
            leaves: Vec::new(),
            leaf_numbers: HashMap::new(),
            way_count: 0,
            new_ways: 0,
            spreads: Vec::new(),
            ways: Box::default(),
            union: Vec::new(),
            automaton: Automaton::NotMade,
            trials: 0,
        };
        this.start = this.state(&starts, &[]);
        this
    }

    /// The members that could match, in order; none before the first could. `start` says where the run of a member over a
    /// message goes on behind these bytes, if it begins with them; `regexes` are what the members say, in order, and asked
    /// for only once.
    #[inline]
    pub(super) fn search<R: AsRef<str>>(
        &mut self,
        message: &[u8],
        start: impl Fn(u32, &[u8]) -> Start,
        regexes: impl FnOnce() -> Vec<R>,
    ) -> Candidates<'_> {
        let Some(first) = first_eight(message) else {
            return self.walk(self.start, message, 0, regexes);
        };
        let bucket = way_hash(first) & self.ways.len().wrapping_sub(1);
        let known = self.ways.get(bucket).map_or(&[][..], |ways| ways);
        let Some(at) = known.iter().position(|way| way.leads(message, first)) else {
            let (end, len) = self.new_way(message, first, start);
            return self.walk(end, message, len, regexes);
        };
        let way = &self.ways[bucket][at];
        if way.members.is_empty() {
            let (end, len) = (way.end, way.text.len());
            return self.walk(end, message, len, regexes);
        }
        Candidates {
            started: &self.ways[bucket][at].members,
            members: &[],
            known: None,
        }
    }

    /// Goes on with a search from what the first bytes led to.
    fn walk<R: AsRef<str>>(
        &mut self,
        next: Next,
        message: &[u8],
        at: usize,
        regexes: impl FnOnce() -> Vec<R>,
    ) -> Candidates<'_> {
        let (end, from) = self.go(next, message, at, message.len());
        let leaf = match end.step() {
            Step::Leaf(leaf) => leaf,
            Step::Spread(spread) => {
                if self.spreads[spread].failures < FAILURES_MAX {
                    if self.spread(spread, message, from) {
                        self.spreads[spread].failures = 0;
                        return Candidates::of(&self.union);
                    }
                    self.spreads[spread].failures += 1;
                }
                self.spreads[spread].leaf
            }
            // It ends at one of those.
            Step::Row(_) | Step::State(_) => return Candidates::of(&[]),
        };
        match self.leaves.get(leaf).map(|members| members.len()) {
            Some(count) if self.may_try(count) => Candidates::of(&self.leaves[leaf]),
            _ => self.first_of(leaf, message, regexes),
        }
    }

    /// Whether so many candidates are tried, instead of asking the automaton.
    fn may_try(&mut self, count: usize) -> bool {
        if count <= CANDIDATES_MAX {
            return true;
        }
        let may = count <= TRIED_MAX && self.trials < TRIALS;
        self.trials += u32::from(may);
        may
    }

    /// Walks up to the first number or quoted text, which is likely to be another next time, and remembers the way.
    #[cold]
    fn new_way(
        &mut self,
        message: &[u8],
        first: u64,
        start: impl Fn(u32, &[u8]) -> Start,
    ) -> (Next, usize) {
        let varies = |byte: &u8| byte.is_ascii_digit() || *byte == b'"';
        let window = message.get(..WAY_BYTES_MAX).unwrap_or(message);
        let stop = window.iter().position(varies).unwrap_or(window.len());
        let (end, len) = self.go(self.start, message, 0, stop);
        let end = self.few(end);
        if self.ways.is_empty() {
            let hashes = (2 * self.beginnings.starts.len()).next_power_of_two();
            let none = std::iter::repeat_with(Vec::new);
            self.ways = none.take(hashes.min(WAY_HASHES_MAX)).collect();
        }
        let bucket = way_hash(first) & (self.ways.len() - 1);
        let ways = &mut self.ways[bucket];
        self.new_ways = self.new_ways.wrapping_add(1);
        let room = match self.way_count < WAYS_PER_MEMBER * self.beginnings.starts.len() {
            true => WAYS_MAX,
            false => WAYS_MIN,
        };
        if ways.len() >= room {
            // What differs from message to message all the same would drive out what does not.
            if !self.new_ways.is_multiple_of(WAYS_RENEWED) {
                return (end, len);
            }
            ways.swap_remove((self.new_ways / WAYS_RENEWED) as usize % ways.len());
            self.way_count -= 1;
        }
        let members = match end.step() {
            Step::Leaf(leaf) if self.leaves[leaf].len() <= CANDIDATES_MAX => &*self.leaves[leaf],
            _ => &[],
        };
        // The words that the first member wants may go on behind what tells it from the others.
        let words = message.get(..stop.max(len)).unwrap_or(message);
        let wanted = members.first().map(|first| start(*first, words).pos());
        if let Some(text) = words.get(..wanted.unwrap_or(0).max(len))
            && ways.iter().all(|way| *way.text != *text)
        {
            let started = |member: &u32| (*member, start(*member, text));
            ways.push(Way::new(text, end, members.iter().map(started).collect()));
            self.way_count += 1;
            // The one that leads farthest first.
            ways.sort_by_key(|way| std::cmp::Reverse(way.text.len()));
        }
        (end, len)
    }

    /// Ends a walk before a number or quoted text if the members left are so few that to try them costs less than to read
    /// on.
    fn few(&mut self, end: Next) -> Next {
        let number = match end.step() {
            Step::Row(start) => self.row_states[start / self.width],
            Step::State(number) => number,
            Step::Leaf(_) | Step::Spread(_) => return end,
        };
        let nodes = self.states[number].nodes.clone();
        let leaf = self.leaf(&nodes);
        match self.leaves[leaf].len() {
            ..=FEW => Next::leaf(leaf),
            _ => end,
        }
    }

    /// Goes from row to row, to the end or until so many bytes are read, and tells how many were. The end of the message
    /// counts as one.
    #[inline]
    fn go(&mut self, mut next: Next, message: &[u8], mut at: usize, stop: usize) -> (Next, usize) {
        // Where in the table we came from.
        let mut came_by = None;
        loop {
            match next.step() {
                Step::Row(mut start) => {
                    let mut place;
                    let mut rest = message.get(at..stop).unwrap_or_default().iter();
                    loop {
                        let column = match rest.next() {
                            Some(byte) => usize::from(self.columns[usize::from(*byte)]),
                            None if stop < message.len() => return (Next::row(start), stop),
                            None => 0,
                        };
                        place = start + column;
                        next = self.table[place];
                        match next.step() {
                            Step::Row(then) => start = then,
                            _ => break,
                        }
                    }
                    at = stop - rest.len();
                    came_by = Some(place);
                }
                Step::State(number) => {
                    next = self.make(number);
                    match came_by {
                        Some(place) => self.table[place] = next,
                        None if self.start == Next::state(number) => self.start = next,
                        None => {}
                    }
                }
                Step::Leaf(_) | Step::Spread(_) => return (next, at),
            }
        }
    }

    /// Unites what could match behind every place from `from` on where the text may end. False if they are too many to be
    /// worth it.
    fn spread(&mut self, number: usize, message: &[u8], from: usize) -> bool {
        if let Step::State(state) = self.spreads[number].next.step() {
            self.spreads[number].next = self.make(state);
        }
        let Spread { next, others, .. } = self.spreads[number];
        self.union.clear();
        self.union.extend_from_slice(&self.leaves[others]);
        let mut walks = 0;
        let mut at = from;
        while let Some(rest) = message.get(at..)
            && let Some(found) = self.spreads[number].finder.find(rest)
        {
            at += found;
            walks += 1;
            let Step::Leaf(leaf) = self.go(next, message, at, message.len()).0.step() else {
                return false;
            };
            if walks > WALKS_MAX || self.leaves[leaf].len() > TRIED_MAX {
                return false;
            }
            for member in &self.leaves[leaf] {
                if let Err(place) = self.union.binary_search(member) {
                    self.union.insert(place, *member);
                }
            }
            at += 1;
        }
        self.may_try(self.union.len())
    }

    fn first_of<R: AsRef<str>>(
        &mut self,
        leaf: usize,
        message: &[u8],
        regexes: impl FnOnce() -> Vec<R>,
    ) -> Candidates<'_> {
        if matches!(self.automaton, Automaton::NotMade) {
            self.automaton = match automaton(&regexes()) {
                Some(automaton) => {
                    let cache = automaton.create_cache();
                    Automaton::Made(Box::new((automaton, cache)))
                }
                None => Automaton::TooLarge,
            };
        }
        let candidates = self.leaves.get(leaf).map_or(&[][..], |leaf| leaf);
        let Automaton::Made(made) = &mut self.automaton else {
            return Candidates::of(candidates);
        };
        let (automaton, cache) = &mut **made;
        let input = Input::new(message).anchored(Anchored::Yes);
        match automaton.try_search_fwd(cache, &input) {
            Ok(Some(found)) => {
                let first = found.pattern().as_u32();
                let before = candidates.partition_point(|candidate| *candidate < first);
                let left = candidates.get(before..).unwrap_or_default();
                Candidates {
                    known: Some((first, found.offset())),
                    ..Candidates::of(left)
                }
            }
            Ok(None) => Candidates::of(&[]),
            // The automaton gave up, so each candidate is tried.
            Err(_) => Candidates::of(candidates),
        }
    }

    /// Makes the row of a state, and says how the state is entered from then on.
    #[cold]
    fn make(&mut self, number: usize) -> Next {
        let made = match self.states[number].row {
            Some(made) => made,
            None => self.row(number),
        };
        self.states[number].row = Some(made);
        Next::row(made)
    }

    /// Appends the row of a state to the table; returns where it starts.
    fn row(&mut self, number: usize) -> usize {
        let nodes = self.states[number].nodes.clone();
        // By column where its bytes lead.
        let mut next: Vec<Vec<u32>> = vec![Vec::new(); self.width];
        let (mut stopped, mut ended) = (Vec::new(), Vec::new());
        for &node in &nodes {
            match self.beginnings.nodes[node as usize] {
                Node::Byte(byte, to) => next[usize::from(self.columns[usize::from(byte)])].push(to),
                Node::Class(class, to) => {
                    let held = &self.class_columns[class as usize];
                    held.iter().for_each(|column| next[*column].push(to));
                }
                // How such a text goes on is not told from its middle.
                Node::Stop | Node::Text(..) => {
                    let stop = self.beginnings.stops[self.beginnings.owner(node) as usize];
                    stopped.push(stop);
                    ended.push(stop);
                }
                Node::End => ended.push(node),
                Node::Either(..) => {}
            }
        }
        // By owner, as a leaf wants them.
        ended.sort_unstable();
        let nowhere = self.state(&[], &stopped);
        let start = self.table.len();
        self.row_states.push(number);
        self.table.resize(start + self.width, nowhere);
        self.table[start] = Next::leaf(self.leaf(&ended));
        for (column, next) in next.iter().enumerate().skip(1) {
            if !next.is_empty() {
                self.table[start + column] = self.state(next, &stopped);
            }
        }
        start
    }

    /// The state for these nodes and all that they lead to without a byte.
    fn state(&mut self, nodes: &[u32], more: &[u32]) -> Next {
        let set = self.gather.closure(&self.beginnings, nodes, more);
        if let Some(known) = self.state_numbers.get(set.as_slice()) {
            return Next(*known);
        }
        let next = self.add(&set);
        self.state_numbers.insert(set.into(), next.0);
        next
    }

    /// A state that is new. `set` is sorted.
    fn add(&mut self, set: &[u32]) -> Next {
        let node = |node: &u32| self.beginnings.nodes[*node as usize];
        // To read on tells nothing more about members that have stopped.
        let live = set.iter().filter(|at| node(at) != Node::Stop);
        if self.beginnings.has_one_owner(live) || self.states.len() >= self.states_max {
            return Next::leaf(self.leaf(set));
        }
        let texts: Vec<(u32, u32, u32)> = set
            .iter()
            .filter_map(|at| match node(at) {
                Node::Text(ends, next) => Some((self.beginnings.owner(*at), ends, next)),
                _ => None,
            })
            .collect();
        // Members without such a text here are tried in any case, if they are few.
        let others: Vec<u32> = set
            .iter()
            .copied()
            .filter(|at| !matches!(node(at), Node::Text(..)))
            .collect();
        let owners = self.beginnings.owners(&others);
        let mut of_texts: Vec<u32> = texts.iter().map(|(owner, ..)| *owner).collect();
        of_texts.dedup();
        if of_texts.len() > SPREAD_MIN && owners.len() <= OTHERS_MAX {
            let mut ends = Box::new([false; 256]);
            for (_, class, _) in &texts {
                let class = &self.beginnings.classes[*class as usize];
                ends.iter_mut()
                    .zip(class)
                    .for_each(|(end, byte)| *end |= byte);
            }
            let nexts: Vec<u32> = texts.iter().map(|(_, _, next)| *next).collect();
            let spread = Spread {
                finder: Finder::new(ends),
                next: self.state(&nexts, &[]),
                leaf: self.leaf(set),
                others: self.leaf(&others),
                failures: 0,
            };
            self.spreads.push(spread);
            return Next::spread(self.spreads.len() - 1);
        }
        // Where many have none, it is not told how such a text goes on.
        let reads_on = |at: &u32| !matches!(node(at), Node::Stop | Node::Text(..));
        if self
            .beginnings
            .has_one_owner(set.iter().filter(|at| reads_on(at)))
        {
            return Next::leaf(self.leaf(set));
        }
        self.states.push(State {
            nodes: set.into(),
            row: None,
        });
        Next::state(self.states.len() - 1)
    }

    /// `nodes` are sorted.
    fn leaf(&mut self, nodes: &[u32]) -> usize {
        let owners = self.beginnings.owners(nodes);
        let leaves = &mut self.leaves;
        let number = self
            .leaf_numbers
            .entry(owners.into())
            .or_insert_with_key(|owners| {
                leaves.push(owners.clone());
                leaves.len() as u32 - 1
            });
        *number as usize
    }
}

/// Memory of [`Set::state`].
#[derive(Debug)]
struct Gather {
    /// By node the round in which it was last gathered.
    seen: Vec<u32>,
    round: u32,
    open: Vec<u32>,
}

impl Gather {
    fn new(nodes: usize) -> Self {
        Self {
            seen: vec![0; nodes],
            round: 0,
            open: Vec::new(),
        }
    }

    /// These nodes and all that they lead to without a byte, sorted.
    fn closure(&mut self, beginnings: &Beginnings, nodes: &[u32], more: &[u32]) -> Vec<u32> {
        let mut set = Vec::with_capacity(nodes.len() + more.len());
        self.round += 1;
        self.open.extend_from_slice(nodes);
        self.open.extend_from_slice(more);
        while let Some(node) = self.open.pop() {
            if std::mem::replace(&mut self.seen[node as usize], self.round) == self.round {
                continue;
            }
            match beginnings.nodes[node as usize] {
                Node::Either(a, b) => self.open.extend([b, a]),
                _ => set.push(node),
            }
        }
        set.sort_unstable();
        set
    }
}

/// None if the patterns are too many for the limit; every candidate is then tried in order.
fn automaton(patterns: &[impl AsRef<str>]) -> Option<DFA> {
    let nfa = thompson::NFA::compiler()
        .syntax(syntax())
        .configure(
            thompson::Config::new()
                .utf8(false)
                .which_captures(thompson::WhichCaptures::None)
                .nfa_size_limit(Some(CACHE_BYTES_MAX)),
        )
        .build_many(patterns)
        .ok()?;
    let capacity = (CACHE_BYTES_PER_PATTERN * patterns.len()).clamp(1 << 20, CACHE_BYTES_MAX);
    let config = DFA::config()
        .match_kind(MatchKind::LeftmostFirst)
        .cache_capacity(capacity)
        .skip_cache_capacity_check(true);
    DFA::builder().configure(config).build_from_nfa(nfa).ok()
}

fn syntax() -> syntax::Config {
    syntax::Config::new().unicode(false).utf8(false)
}

/// What all patterns may begin with, as a nondeterministic automaton. It may accept too much, never too little.
#[derive(Debug)]
struct Beginnings {
    nodes: Vec<Node>,
    starts: Vec<u32>,
    /// By member the node from which on anything goes: the first of its own.
    stops: Vec<u32>,
    /// Classes of bytes that nodes refer to.
    classes: Vec<[bool; 256]>,
}

/// A step, and the nodes behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    /// This byte.
    Byte(u8, u32),
    /// A byte of a class.
    Class(u32, u32),
    Either(u32, u32),
    /// A text of any length, or what is left of it, which may end before bytes of a class.
    Text(u32, u32),
    /// From here on anything goes.
    Stop,
    /// The message ends here.
    End,
}

impl Beginnings {
    fn new<'m>(members: impl Iterator<Item = Beginning<'m>>) -> Self {
        let mut this = Self {
            nodes: Vec::new(),
            starts: Vec::new(),
            stops: Vec::new(),
            classes: Vec::new(),
        };
        for member in members {
            let stop = this.push(Node::Stop);
            let start = match member {
                Beginning::Machine(machine) => this.machine(machine, stop),
                Beginning::Regex(regex) => match syntax::parse_with(regex, &syntax()) {
                    Ok(hir) => this.hir(&hir, stop),
                    Err(_) => stop,
                },
            };
            this.starts.push(start);
            this.stops.push(stop);
        }
        // As it grew it took up to twice the room.
        this.nodes.shrink_to_fit();
        this
    }

    fn push(&mut self, node: Node) -> u32 {
        self.nodes.push(node);
        self.nodes.len() as u32 - 1
    }

    /// The member that a node belongs to.
    fn owner(&self, node: u32) -> u32 {
        self.stops.partition_point(|stop| *stop <= node) as u32 - 1
    }

    /// The members that these nodes, which are sorted, belong to, in order.
    fn owners(&self, nodes: &[u32]) -> Vec<u32> {
        let mut owners = Vec::new();
        // Where the nodes of the last of them end.
        let mut end = 0;
        for node in nodes {
            if *node >= end {
                let owner = self.owner(*node);
                let next = self.stops.get(owner as usize + 1);
                end = next.copied().unwrap_or(u32::MAX);
                owners.push(owner);
            }
        }
        owners
    }

    /// Whether at most one member has all these nodes.
    fn has_one_owner<'n>(&self, mut nodes: impl Iterator<Item = &'n u32>) -> bool {
        let first = nodes.next().map(|node| self.owner(*node));
        nodes.all(|node| Some(self.owner(*node)) == first)
    }

    fn class_number(&mut self, class: [bool; 256]) -> u32 {
        let known = self.classes.iter().position(|known| *known == class);
        let number = known.unwrap_or_else(|| {
            self.classes.push(class);
            self.classes.len() - 1
        });
        number as u32
    }

    fn class(&mut self, class: [bool; 256], next: u32) -> u32 {
        let mut held = (0..=u8::MAX).filter(|byte| class[usize::from(*byte)]);
        if let (Some(byte), None) = (held.next(), held.next()) {
            return self.push(Node::Byte(byte, next));
        }
        let number = self.class_number(class);
        self.push(Node::Class(number, next))
    }

    fn text(&mut self, text: &[u8], next: u32) -> u32 {
        text.iter()
            .rfold(next, |next, byte| self.push(Node::Byte(*byte, next)))
    }

    /// `from`, and as often again as one likes, what `make` makes; then `next`.
    fn repeat(&mut self, once: bool, next: u32, make: impl FnOnce(&mut Self, u32) -> u32) -> u32 {
        let fork = self.push(Node::Either(next, next));
        let inner = make(self, fork);
        self.nodes[fork as usize] = Node::Either(inner, next);
        if once { inner } else { fork }
    }

    /// The nodes of a machine. Its steps only ever lead on to later ones, so they are taken from the last.
    fn machine(&mut self, machine: &Machine, stop: u32) -> u32 {
        let ops = machine.ops();
        let mut starts = vec![stop; ops.len() + 1];
        let digit = std::array::from_fn(|byte| (byte as u8).is_ascii_digit());
        for (at, op) in ops.iter().enumerate().rev() {
            let next = starts[at + 1];
            let to = |other: u32| starts.get(other as usize).copied().unwrap_or(stop);
            starts[at] = match *op {
                Op::Text(text) => self.text(machine.text(text), next),
                Op::TextAnyCase(text) => machine.text(text).iter().rfold(next, |next, byte| {
                    let class =
                        std::array::from_fn(|other| (other as u8).eq_ignore_ascii_case(byte));
                    self.class(class, next)
                }),
                Op::Blanks(min) => self.repeat(min > 0, next, |this, fork| {
                    let blank = std::array::from_fn(|byte| matches!(byte as u8, b' ' | b'\t'));
                    let blank = this.class(blank, fork);
                    let no_break = this.text(&[0xC2, 0xA0], fork);
                    this.push(Node::Either(blank, no_break))
                }),
                Op::Run(run) => self.repeat(run.min > 0, next, |this, fork| {
                    this.class(*table(run.class), fork)
                }),
                Op::Int { .. } => {
                    let digits = self.repeat(true, next, |this, fork| this.class(digit, fork));
                    let sign = self.class(*table(rules::Class::Sign), digits);
                    self.push(Node::Either(sign, digits))
                }
                Op::OneOf { from, count, .. } => {
                    let texts = machine.options(from, count);
                    let starts: Vec<u32> = texts.map(|text| self.text(text, next)).collect();
                    let one = |a, b| self.push(Node::Either(a, b));
                    starts.into_iter().reduce(one).unwrap_or(stop)
                }
                Op::Byte(bytes, other) => {
                    let class = std::array::from_fn(|byte| machine.may_be(bytes, &[byte as u8]));
                    let one = self.class(class, next);
                    self.push(Node::Either(one, to(other)))
                }
                Op::Quad {
                    then, otherwise, ..
                } => {
                    let next = to(then);
                    let last = self.repeat(true, next, |this, fork| this.class(digit, fork));
                    let quad = (0..3).fold(last, |next, _| {
                        let dot = self.push(Node::Byte(b'.', next));
                        self.repeat(true, dot, |this, fork| this.class(digit, fork))
                    });
                    match otherwise {
                        NEVER => quad,
                        other => self.push(Node::Either(quad, to(other))),
                    }
                }
                Op::Lazy { hint, .. } => match machine.hinted(hint) {
                    Some(ends) => {
                        let ends = self.class_number(ends);
                        let text = self.push(Node::Text(ends, next));
                        let first = std::array::from_fn(|at| !matches!(at as u8, b' ' | b'\t'));
                        self.class(first, text)
                    }
                    None => stop,
                },
                Op::Rest { .. } => stop,
                Op::Split(other) | Op::Unless(_, other) => self.push(Node::Either(next, to(other))),
                Op::Jump(other) => to(other),
                // Behind a short cut its pieces follow.
                Op::Phrase { .. } | Op::Address { .. } => next,
                Op::Keep(_) | Op::Open(_) | Op::Close(_) => next,
                Op::End => self.push(Node::End),
            };
        }
        starts[0]
    }

    fn hir(&mut self, hir: &Hir, next: u32) -> u32 {
        match hir.kind() {
            HirKind::Empty | HirKind::Look(_) => next,
            HirKind::Literal(text) => self.text(&text.0, next),
            HirKind::Class(Class::Bytes(class)) => {
                let mut held = [false; 256];
                for range in class.ranges() {
                    held[usize::from(range.start())..=usize::from(range.end())].fill(true);
                }
                self.class(held, next)
            }
            HirKind::Class(Class::Unicode(_)) => self.push(Node::Stop),
            HirKind::Capture(capture) => self.hir(&capture.sub, next),
            HirKind::Concat(parts) => parts.iter().rfold(next, |next, part| self.hir(part, next)),
            HirKind::Alternation(parts) => {
                let starts: Vec<u32> = parts.iter().map(|part| self.hir(part, next)).collect();
                let one = |a, b| self.push(Node::Either(a, b));
                starts.into_iter().reduce(one).unwrap_or(next)
            }
            HirKind::Repetition(repetition) => match (repetition.min, repetition.max) {
                (0, Some(1)) => {
                    let inner = self.hir(&repetition.sub, next);
                    self.push(Node::Either(inner, next))
                }
                // What goes on and on tells little of how a message begins.
                (0, _) => self.push(Node::Stop),
                _ => {
                    let stop = self.push(Node::Stop);
                    self.hir(&repetition.sub, stop)
                }
            },
        }
    }

    /// By byte its column: bytes that no node tells apart share one; the first is no byte's. And how many columns there
    /// are.
    fn columns(&self) -> (Box<[u16; 256]>, usize) {
        let mut literal = [false; 256];
        for node in &self.nodes {
            if let Node::Byte(byte, _) = node {
                literal[usize::from(*byte)] = true;
            }
        }
        let mut known = HashMap::new();
        let mut columns = Box::new([0; 256]);
        for (byte, column) in columns.iter_mut().enumerate() {
            let member: Vec<bool> = self.classes.iter().map(|class| class[byte]).collect();
            let kind = (literal[byte].then_some(byte), member);
            let count = known.len() as u16 + 1;
            *column = *known.entry(kind).or_insert(count);
        }
        (columns, known.len() + 1)
    }

    /// By class the columns that it holds.
    fn class_columns(&self, columns: &[u16; 256]) -> Vec<Vec<usize>> {
        let of = |class: &[bool; 256]| {
            let held = (0..256).filter(|byte| class[*byte]);
            let mut held: Vec<usize> = held.map(|byte| usize::from(columns[byte])).collect();
            held.sort_unstable();
            held.dedup();
            held
        };
        self.classes.iter().map(of).collect()
    }
}
