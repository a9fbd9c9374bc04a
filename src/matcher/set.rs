//! The rules of one program: which of them could match a message, in order.
//!
//! A table that is driven by the first bytes of a message names the few rules that can begin so, mostly one, and reads
//! no further than it must for that; the capture machine tries those in order. Where holes at the beginning leave many
//! (`Device: {device}, …`), one anchored automaton over all of them names the first that matches, so that the cost does
//! not grow with their number.
//!
//! A set is made when its program logs its first message, so that rules cost nothing where their program is not there.

use hashbrown::HashMap;
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input, MatchKind};
use regex_syntax::hir::{Class, Hir, HirKind};

use super::machine::Op;

/// With more candidates than this the automaton is asked first.
const CANDIDATES_MAX: usize = 4;

/// Rows of the table, for every pattern and at most; what lies beyond is left to the automaton.
const ROWS_PER_PATTERN: usize = 8;
const ROWS_MAX: usize = 4096;

/// Memory for the automaton's states that have been seen, in bytes for every pattern, and at most.
const CACHE_BYTES_PER_PATTERN: usize = 64 << 10;
const CACHE_BYTES_MAX: usize = 64 << 20;

/// How one pattern takes part in a set.
pub(super) struct Member<'m> {
    pub beginning: Beginning<'m>,
    /// The pattern, anchored at the start by whoever runs it.
    pub regex: &'m str,
}

/// What a pattern may begin with.
pub(super) enum Beginning<'m> {
    /// What this machine accepts.
    Ops(&'m [Op]),
    /// What the regex says.
    Regex,
}

/// The patterns of one program, told apart by their number in order.
#[derive(Debug)]
pub(super) struct Set {
    /// By byte its column.
    columns: Box<[u8; 256]>,
    /// How many columns a row has.
    width: usize,
    /// By row and column what comes next: the start of a row, or with [`LEAF`] set an index into `leaves`.
    table: Box<[u32]>,
    /// By row the index into `leaves` for a message that ends here.
    ends: Box<[u32]>,
    /// Where a search starts, as in `table`.
    start: u32,
    /// Members in order.
    leaves: Box<[Box<[u32]>]>,
    automaton: Option<DFA>,
}

/// Marks an end in [`Set::table`].
const LEAF: u32 = 1 << 31;

/// Memory that searches of one set share.
#[derive(Debug, Default)]
pub(super) struct SetScratch {
    cache: Option<Cache>,
}

impl Set {
    pub(super) fn new<'m>(members: impl Iterator<Item = Member<'m>>) -> Self {
        let members: Vec<Member> = members.collect();
        let mut set = Beginnings::new(&members).determinize(members.len());
        let widest = set.leaves.iter().map(|leaf| leaf.len()).max();
        if widest.unwrap_or(0) > CANDIDATES_MAX {
            set.automaton = automaton(&members);
        }
        set
    }

    /// The members that could match, in order; none before the first could.
    #[inline]
    pub(super) fn search<'s>(&'s self, message: &[u8], scratch: &mut SetScratch) -> &'s [u32] {
        let mut at = self.start;
        let mut rest = message.iter();
        while at & LEAF == 0 {
            let next = match rest.next() {
                Some(&byte) => {
                    let column = usize::from(self.columns[usize::from(byte)]);
                    self.table.get(at as usize + column)
                }
                None => self.ends.get(at as usize / self.width),
            };
            at = next.copied().unwrap_or(LEAF);
        }
        let leaf = self.leaves.get((at & !LEAF) as usize);
        let candidates = leaf.map_or(&[][..], |leaf| &**leaf);
        if candidates.len() <= CANDIDATES_MAX {
            return candidates;
        }
        self.first_of(candidates, message, scratch)
    }

    fn first_of<'s>(
        &'s self,
        candidates: &'s [u32],
        message: &[u8],
        scratch: &mut SetScratch,
    ) -> &'s [u32] {
        let Some(automaton) = &self.automaton else {
            return candidates;
        };
        let cache = scratch
            .cache
            .get_or_insert_with(|| automaton.create_cache());
        let input = Input::new(message).anchored(Anchored::Yes);
        match automaton.try_search_fwd(cache, &input) {
            Ok(Some(found)) => {
                let first = found.pattern().as_u32();
                let before = candidates.partition_point(|candidate| *candidate < first);
                candidates.get(before..).unwrap_or_default()
            }
            Ok(None) => &[],
            // The automaton gave up, so each candidate is tried.
            Err(_) => candidates,
        }
    }
}

/// None if the patterns are too many for the limit; every candidate is then tried in order.
fn automaton(members: &[Member<'_>]) -> Option<DFA> {
    let patterns: Vec<&str> = members.iter().map(|member| member.regex).collect();
    let nfa = thompson::NFA::compiler()
        .syntax(syntax())
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

fn syntax() -> syntax::Config {
    syntax::Config::new().unicode(false).utf8(false)
}

/// What all patterns may begin with, as a nondeterministic automaton. It may accept too much, never too little.
struct Beginnings {
    nodes: Vec<Node>,
    /// By node the member that it belongs to.
    owners: Vec<u32>,
    starts: Vec<u32>,
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
    /// From here on anything goes.
    Stop,
    /// The message ends here.
    End,
}

impl Beginnings {
    fn new(members: &[Member<'_>]) -> Self {
        let mut this = Self {
            nodes: Vec::new(),
            owners: Vec::new(),
            starts: Vec::new(),
            classes: Vec::new(),
        };
        for (member, number) in members.iter().zip(0..) {
            let start = match member.beginning {
                Beginning::Ops(ops) => this.ops(ops),
                Beginning::Regex => {
                    let stop = this.push(Node::Stop);
                    match syntax::parse_with(member.regex, &syntax()) {
                        Ok(hir) => this.hir(&hir, stop),
                        Err(_) => stop,
                    }
                }
            };
            this.starts.push(start);
            this.owners.resize(this.nodes.len(), number);
        }
        this
    }

    fn push(&mut self, node: Node) -> u32 {
        self.nodes.push(node);
        self.nodes.len() as u32 - 1
    }

    fn class(&mut self, class: [bool; 256], next: u32) -> u32 {
        let known = self.classes.iter().position(|known| *known == class);
        let number = known.unwrap_or_else(|| {
            self.classes.push(class);
            self.classes.len() - 1
        });
        self.push(Node::Class(number as u32, next))
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

    /// The nodes of a machine. Ops only ever lead on to later ones, so they are taken from the last.
    fn ops(&mut self, ops: &[Op]) -> u32 {
        let stop = self.push(Node::Stop);
        let mut starts = vec![stop; ops.len() + 1];
        for (at, op) in ops.iter().enumerate().rev() {
            let next = starts[at + 1];
            let to = |other: usize| starts.get(other).copied().unwrap_or(stop);
            starts[at] = match op {
                Op::Text(text) => self.text(text, next),
                Op::TextAnyCase(text) => text.iter().rfold(next, |next, byte| {
                    let class =
                        std::array::from_fn(|other| (other as u8).eq_ignore_ascii_case(byte));
                    self.class(class, next)
                }),
                Op::Blanks(min) => self.repeat(*min > 0, next, |this, fork| {
                    let blank = std::array::from_fn(|byte| matches!(byte as u8, b' ' | b'\t'));
                    let blank = this.class(blank, fork);
                    let no_break = this.text(&[0xC2, 0xA0], fork);
                    this.push(Node::Either(blank, no_break))
                }),
                Op::Run(run) => {
                    self.repeat(run.min > 0, next, |this, fork| this.class(*run.class, fork))
                }
                Op::Quad { otherwise, .. } => {
                    let digit = std::array::from_fn(|byte| (byte as u8).is_ascii_digit());
                    let last = self.repeat(true, next, |this, fork| this.class(digit, fork));
                    let quad = (0..3).fold(last, |next, _| {
                        let dot = self.push(Node::Byte(b'.', next));
                        self.repeat(true, dot, |this, fork| this.class(digit, fork))
                    });
                    match otherwise {
                        Some(other) => self.push(Node::Either(quad, to(*other))),
                        None => quad,
                    }
                }
                Op::Lazy(_) | Op::Rest => stop,
                Op::Split(other) | Op::Unless(_, other) => {
                    self.push(Node::Either(next, to(*other)))
                }
                Op::Jump(other) => to(*other),
                Op::Open { .. } | Op::Close(_) => next,
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
                let class = std::array::from_fn(|byte| {
                    let held = |range: &regex_syntax::hir::ClassBytesRange| {
                        (range.start()..=range.end()).contains(&(byte as u8))
                    };
                    class.ranges().iter().any(held)
                });
                self.class(class, next)
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

    /// By byte its column: bytes that no node tells apart share one. And how many columns there are.
    fn columns(&self) -> (Box<[u8; 256]>, usize) {
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
            let count = known.len();
            *column = *known.entry(kind).or_insert(count) as u8;
        }
        (columns, known.len())
    }

    /// The table that says for every beginning who is left.
    fn determinize(&self, members: usize) -> Set {
        let (columns, width) = self.columns();
        // By class the columns that it holds.
        let class_columns: Vec<Vec<usize>> = self
            .classes
            .iter()
            .map(|class| {
                let held = (0..256).filter(|byte| class[*byte]);
                let mut held: Vec<usize> = held.map(|byte| usize::from(columns[byte])).collect();
                held.sort_unstable();
                held.dedup();
                held
            })
            .collect();
        let mut maker = Maker {
            beginnings: self,
            width,
            rows_max: (64 + ROWS_PER_PATTERN * members).min(ROWS_MAX),
            seen: vec![0; self.nodes.len()],
            round: 0,
            open: Vec::new(),
            set: Vec::new(),
            table: Vec::new(),
            rows: Vec::new(),
            states: HashMap::new(),
            leaves: Vec::new(),
            leaf_numbers: HashMap::new(),
        };
        let start = maker.state(&self.starts, &[]);
        let mut ends = Vec::new();
        // By column where its bytes lead.
        let mut next: Vec<Vec<u32>> = vec![Vec::new(); width];
        let (mut stopped, mut ended) = (Vec::new(), Vec::new());
        while let Some(nodes) = maker.rows.get(ends.len()).cloned() {
            next.iter_mut().for_each(Vec::clear);
            stopped.clear();
            ended.clear();
            for &node in &nodes {
                match self.nodes[node as usize] {
                    Node::Byte(byte, to) => next[usize::from(columns[usize::from(byte)])].push(to),
                    Node::Class(class, to) => {
                        let held = &class_columns[class as usize];
                        held.iter().for_each(|column| next[*column].push(to));
                    }
                    Node::Stop => {
                        stopped.push(node);
                        ended.push(node);
                    }
                    Node::End => ended.push(node),
                    Node::Either(..) => {}
                }
            }
            let row = ends.len() * width;
            let nowhere = maker.state(&[], &stopped);
            for (column, next) in next.iter().enumerate() {
                maker.table[row + column] = match next.is_empty() {
                    true => nowhere,
                    false => maker.state(next, &stopped),
                };
            }
            ends.push(maker.leaf(&ended));
        }
        Set {
            columns,
            width,
            table: maker.table.into(),
            ends: ends.into(),
            start,
            leaves: maker.leaves.into(),
            automaton: None,
        }
    }
}

/// The table while it is made: the subset construction, cut off where few members are left.
struct Maker<'b> {
    beginnings: &'b Beginnings,
    width: usize,
    rows_max: usize,
    /// By node the round in which it was last gathered.
    seen: Vec<u32>,
    round: u32,
    /// Memory of a round: nodes to visit, and nodes gathered.
    open: Vec<u32>,
    set: Vec<u32>,
    table: Vec<u32>,
    /// By row the nodes that it stands for.
    rows: Vec<Box<[u32]>>,
    states: HashMap<Box<[u32]>, u32>,
    leaves: Vec<Box<[u32]>>,
    leaf_numbers: HashMap<Box<[u32]>, u32>,
}

impl Maker<'_> {
    /// The state, as it stands in the table, for these nodes and all that they lead to without a byte.
    fn state(&mut self, nodes: &[u32], more: &[u32]) -> u32 {
        let mut set = std::mem::take(&mut self.set);
        set.clear();
        self.round += 1;
        self.open.extend_from_slice(nodes);
        self.open.extend_from_slice(more);
        while let Some(node) = self.open.pop() {
            if std::mem::replace(&mut self.seen[node as usize], self.round) == self.round {
                continue;
            }
            match self.beginnings.nodes[node as usize] {
                Node::Either(a, b) => self.open.extend([b, a]),
                _ => set.push(node),
            }
        }
        set.sort_unstable();
        let known = self.states.get(set.as_slice()).copied();
        let state = known.unwrap_or_else(|| self.add(&set));
        self.set = set;
        state
    }

    /// A state that is new. `set` is sorted.
    fn add(&mut self, set: &[u32]) -> u32 {
        // To read on tells nothing more about members that have stopped.
        let reads_on = |node: &&u32| self.beginnings.nodes[**node as usize] != Node::Stop;
        let mut live = set.iter().filter(reads_on).map(|node| self.owner(*node));
        let first = live.next();
        let decided = live.all(|other| Some(other) == first);
        let state = if decided || self.rows.len() >= self.rows_max {
            self.leaf(set)
        } else {
            let row = self.rows.len();
            self.rows.push(set.into());
            self.table.resize((row + 1) * self.width, LEAF);
            (row * self.width) as u32
        };
        self.states.insert(set.into(), state);
        state
    }

    fn owner(&self, node: u32) -> u32 {
        self.beginnings.owners[node as usize]
    }

    /// `nodes` are sorted, and so are their owners.
    fn leaf(&mut self, nodes: &[u32]) -> u32 {
        let mut owners: Vec<u32> = nodes.iter().map(|node| self.owner(*node)).collect();
        owners.dedup();
        let owners: Box<[u32]> = owners.into();
        let leaves = &mut self.leaves;
        let number = self
            .leaf_numbers
            .entry(owners)
            .or_insert_with_key(|owners| {
                leaves.push(owners.clone());
                leaves.len() as u32 - 1
            });
        *number | LEAF
    }
}
