//! A record meets the rules of its program: the first that matches, and its captures.
//!
//! ```text
//!            program, message id          first bytes              template or regex
//!  Record ────────────────────▶ Selector ─────────────▶ candidates ────────────────▶ Found
//! ```
//!
//! Of several matching rules the first in [`RuleSet`] order wins, exactly as if each were tried in turn; with
//! `continue: true` the search goes on after it. [`Matcher::compile`] may hit a limit; [`Matcher::find`] never fails
//! and costs time linear in the message, whatever it holds.

mod pattern;
mod prefixes;
mod regex;
mod select;
mod vm;

use std::cell::OnceCell;

use hashbrown::HashMap;

use pattern::{Compiled, RequiredText, behind_first_word};
pub use select::Limits;
use select::{Candidates, Selector};
use vm::{ABSENT, FirstSet, Scratch as VmScratch, Span};

use crate::record::{Record, starts_with};
use crate::rules::{RuleId, RuleSet, Scope, When, is_one_of, looked_at};

/// All rules, ready to run.
#[derive(Debug)]
pub struct Matcher {
    /// By program, as in [`RuleSet::programs`].
    programs: Vec<ProgramGroup>,
    /// For programs that no pack knows.
    unknown: ProgramGroup,
    /// For lines without a program.
    nameless: ProgramGroup,
    patterns: Vec<Compiled>,
    /// By rule, what the header must say, and how many variables there are.
    rules: Vec<(Box<[When]>, usize)>,
    /// The largest number of variables a rule has.
    variables: usize,
    limits: Limits,
}

/// The patterns that one program's messages meet, in order.
#[derive(Debug)]
struct ProgramGroup {
    members: Box<[Member]>,
    /// The group's place in [`Scratch::groups`].
    number: usize,
    /// The message ids that its rules ask for, in lower case. Messages with one of them have a selector of their own, of
    /// the rules that ask for that id or for none.
    message_ids: Box<[Box<[u8]>]>,
}

/// A rule, and the index of one of its patterns into [`Matcher::patterns`].
type Member = (RuleId, u32);

/// The patterns that messages of one program meet, perhaps of one message id.
#[derive(Debug)]
struct ProgramRules {
    /// By member of the selector.
    members: Box<[Candidate]>,
    selector: Selector,
}

/// A member, and what is asked of its rule for every message.
#[derive(Debug)]
struct Candidate {
    rule: RuleId,
    pattern: u32,
    variables: u32,
    /// The header must say something.
    conditional: bool,
    /// The bytes that a matching message may end with. Templates that begin with a placeholder are mostly told apart by
    /// that.
    last: FirstSet,
    required: Option<RequiredText>,
}

/// The rules of one group, ready when the first message of each kind comes.
#[derive(Debug)]
struct ByMessageId {
    /// For messages without an id that a rule asks for.
    plain: Option<ProgramRules>,
    /// By id that a rule asks for.
    of_id: HashMap<Box<[u8]>, Option<ProgramRules>>,
}

/// Memory that searches share; one for each thread.
#[derive(Debug)]
pub struct Scratch {
    /// By group.
    groups: Vec<ByMessageId>,
    /// The id of a message, in lower case.
    message_id: Vec<u8>,
    vm: VmScratch,
    found: Found,
}

impl Scratch {
    /// What the searches have cost since this was last asked, roughly in processor instructions.
    #[cfg(fuzzing)]
    pub fn take_cost(&mut self) -> usize {
        std::mem::take(&mut self.vm.cost)
    }
}

/// A rule that matched, and where its captures are.
#[derive(Clone, Debug)]
pub struct Found {
    /// The rule.
    pub rule: RuleId,
    /// By variable of the rule, where in the message it was captured.
    spans: Vec<Span>,
}

impl Found {
    /// What a variable captured; nothing if it is made by a `let` or was not there.
    pub fn capture<'m>(&self, variable: usize, message: &'m [u8]) -> Option<&'m [u8]> {
        let span = *self.spans.get(variable)?;
        message.get(span.0 as usize..span.1 as usize)
    }
}

impl Matcher {
    /// Compiles all rules, or sees that they can be compiled once a message needs them.
    ///
    /// # Errors
    /// The id of a rule whose regular expression exceeds the size limit (1 MiB).
    pub fn compile(rules: &RuleSet, limits: Limits) -> Result<Self, String> {
        let mut patterns = Vec::new();
        // By rule the range of its patterns.
        let mut ranges = Vec::new();
        for rule in &rules.rules {
            let first = patterns.len();
            for pattern in &rule.patterns {
                let compiled = Compiled::new(pattern.clone());
                if !rules.packs[rule.pack].is_built_in {
                    let made = compiled.prepare();
                    made.map_err(|error| format!("{}: {error}", rule.id))?;
                }
                patterns.push(compiled);
            }
            ranges.push(first..patterns.len());
        }
        let mut number = 0;
        let mut group = |scopes: &mut dyn FnMut(&Scope) -> bool| {
            let mut chosen = Vec::new();
            // A program's own rules come before those for every program.
            for every in [false, true] {
                for (index, rule) in rules.rules.iter().enumerate() {
                    let is_every = rule.scope == Scope::Every;
                    if every == is_every && (is_every || scopes(&rule.scope)) {
                        let patterns = ranges[index].clone();
                        chosen.extend(patterns.map(|at| (RuleId(index as u32), at as u32)));
                    }
                }
            }
            number += 1;
            let whens = chosen
                .iter()
                .flat_map(|(rule, _): &Member| &rules.rules[rule.0 as usize].when);
            let ids = whens.filter_map(When::message_ids).flatten();
            let whole = ids.filter(|(id, is_prefix)| !is_prefix && !id.is_empty());
            ProgramGroup {
                message_ids: whole.map(|(id, _)| id.as_bytes().into()).collect(),
                members: chosen.into(),
                number: number - 1,
            }
        };
        let programs = (0..rules.programs.len())
            .map(|program| {
                group(&mut |scope| matches!(scope, Scope::Programs(own) if own.contains(&program)))
            })
            .collect();
        let unknown = group(&mut |_| false);
        let nameless = group(&mut |scope| *scope == Scope::Nameless);
        Ok(Self {
            programs,
            unknown,
            nameless,
            patterns,
            rules: rules
                .rules
                .iter()
                .map(|rule| (rule.when.clone().into(), rule.variables.len()))
                .collect(),
            variables: rules
                .rules
                .iter()
                .map(|rule| rule.variables.len())
                .max()
                .unwrap_or(0),
            limits,
        })
    }

    /// Memory for searches with this matcher.
    pub fn scratch(&self) -> Scratch {
        let groups = self.programs.iter().chain([&self.unknown, &self.nameless]);
        let rules = |group: &ProgramGroup| {
            let ids = group.message_ids.iter();
            ByMessageId {
                plain: None,
                of_id: ids.map(|id| (id.clone(), None)).collect(),
            }
        };
        Scratch {
            groups: groups.map(rules).collect(),
            message_id: Vec::new(),
            vm: VmScratch::default(),
            found: Found {
                rule: RuleId(0),
                spans: vec![ABSENT; self.variables],
            },
        }
    }

    /// Calls `each` with the first matching rule, and as long as it returns true with the next ones. Returns whether
    /// any rule matched.
    #[inline]
    pub fn find(
        &self,
        record: &Record<'_>,
        scratch: &mut Scratch,
        mut each: impl FnMut(&Found) -> bool,
    ) -> bool {
        let group = self.group(record);
        if group.members.is_empty() {
            return false;
        }
        let Scratch {
            groups,
            message_id,
            vm,
            found,
        } = scratch;
        let Some(rules) = groups.get_mut(group.number) else {
            return false;
        };
        let ProgramRules { members, selector } =
            self.program_rules(group, rules, record, message_id);
        let message = looked_at(record.message);
        let Candidates {
            members: candidates,
            likely,
            by_dfa,
        } = selector.search(message, || {
            let patterns = members.iter().map(|member| member.pattern as usize);
            patterns.map(|at| self.patterns[at].source()).collect()
        });
        vm.start(message);
        if by_dfa {
            vm.add_cost(10 * message.len());
        }
        let mut any = false;
        let mut last = None;
        let second = OnceCell::new();
        for &number in candidates {
            let candidate = &members[number as usize];
            let may_end = match message.last() {
                Some(byte) => candidate.last.holds(*byte),
                None => candidate.last.end,
            };
            if !may_end {
                continue;
            }
            // The rule may have matched by another of its patterns.
            if last == Some(candidate.rule) {
                continue;
            }
            let is_there = |required: &RequiredText| match required {
                RequiredText::SecondWord(text) => {
                    let second = second.get_or_init(|| behind_first_word(message));
                    second.is_none_or(|second| starts_with(second, text))
                }
                RequiredText::Anywhere(text) => text.find(message).is_some(),
            };
            if number != likely && !candidate.required.as_ref().is_none_or(is_there) {
                continue;
            }
            if candidate.conditional {
                let (when, _) = &self.rules[candidate.rule.0 as usize];
                if !when.iter().all(|when| when.holds(record)) {
                    continue;
                }
            }
            let spans = &mut found.spans[..candidate.variables as usize];
            spans.fill(ABSENT);
            let pattern = &self.patterns[candidate.pattern as usize];
            if pattern.captures(message, spans, vm) {
                found.rule = candidate.rule;
                any = true;
                last = Some(candidate.rule);
                if !each(found) {
                    break;
                }
            }
        }
        any
    }

    #[inline]
    fn group(&self, record: &Record<'_>) -> &ProgramGroup {
        match record.program_id {
            Some(id) => self
                .programs
                .get(usize::from(id.0))
                .unwrap_or(&self.unknown),
            None if record.program.is_empty() => &self.nameless,
            None => &self.unknown,
        }
    }

    /// The rules that a message meets: those of its id, if a rule asks for that.
    #[inline]
    fn program_rules<'s>(
        &self,
        group: &ProgramGroup,
        rules: &'s mut ByMessageId,
        record: &Record<'_>,
        message_id: &mut Vec<u8>,
    ) -> &'s mut ProgramRules {
        let ByMessageId { plain, of_id } = rules;
        if !group.message_ids.is_empty() && !record.tag.is_empty() {
            message_id.clear();
            message_id.extend(record.tag.iter().map(u8::to_ascii_lowercase));
            if let Some(rules) = of_id.get_mut(&**message_id) {
                return rules.get_or_insert_with(|| self.ready(group, Some(message_id)));
            }
        }
        plain.get_or_insert_with(|| self.ready(group, None))
    }

    /// What a group's messages meet that have this id, or none that is asked for.
    #[cold]
    fn ready(&self, group: &ProgramGroup, id: Option<&[u8]>) -> ProgramRules {
        let may_hold = |(rule, _): &&Member| {
            self.rules[rule.0 as usize].0.iter().all(|when| match id {
                Some(id) => when
                    .message_ids()
                    .is_none_or(|wanted| is_one_of(id, wanted)),
                None => when.message_ids().is_none_or(|wanted| {
                    wanted
                        .iter()
                        .any(|(wanted, is_prefix)| *is_prefix || wanted.is_empty())
                }),
            })
        };
        let candidate = |(rule, pattern): &Member| {
            let (when, variables) = &self.rules[rule.0 as usize];
            Candidate {
                rule: *rule,
                pattern: *pattern,
                variables: *variables as u32,
                conditional: !when.is_empty(),
                last: self.patterns[*pattern as usize].last(),
                required: self.patterns[*pattern as usize].required(),
            }
        };
        let members: Box<[Candidate]> = (group.members.iter())
            .filter(may_hold)
            .map(candidate)
            .collect();
        let patterns = members.iter().map(|member| member.pattern as usize);
        let prefixes: Vec<_> = patterns.map(|at| self.patterns[at].prefixes()).collect();
        let selector = Selector::new(&prefixes, self.limits);
        ProgramRules { members, selector }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex_automata::meta::Regex;

    use super::*;
    use crate::record::{self, Programs};
    use crate::rules::{self, Example, MESSAGE_BYTES_MAX, Pattern, Piece, Settings, Template};

    /// The rules of a program tried one after the other, each as a regular expression.
    struct OneByOne {
        rules: RuleSet,
        programs: Programs,
        matcher: Matcher,
        regexes: Vec<Regex>,
    }

    type Hit = (RuleId, Vec<Option<Vec<u8>>>);

    impl OneByOne {
        fn new(limits: Limits) -> Self {
            let rules = rules::load(&[], Settings::default()).expect("the packs are in order");
            let names = |program: &rules::Program| (program.name.clone(), program.aliases.clone());
            let programs = Programs::new(rules.programs.iter().map(names))
                .with_formats(rules.formats.iter().cloned());
            let matcher = Matcher::compile(&rules, limits).expect("the packs compile");
            let patterns = matcher.patterns.iter();
            let regexes = patterns.map(|pattern| pattern.linear().expect("it is in order"));
            Self {
                regexes: regexes.collect(),
                rules,
                programs,
                matcher,
            }
        }

        /// All rules that match, in order, with their captures by variable.
        fn expected(&self, record: &Record<'_>) -> Vec<Hit> {
            let group = self.matcher.group(record);
            let mut hits: Vec<Hit> = Vec::new();
            for (rule, pattern) in &group.members {
                let known = &self.rules.rules[rule.0 as usize];
                if hits.last().is_some_and(|(last, _)| last == rule)
                    || !known.when.iter().all(|when| when.holds(record))
                {
                    continue;
                }
                let regex = &self.regexes[*pattern as usize];
                let mut captures = regex.create_captures();
                regex.captures(record.message, &mut captures);
                if !captures.is_match() {
                    continue;
                }
                let mut values = vec![None; known.variables.len()];
                for group in 1..captures.group_len() {
                    let variable = match &self.matcher.patterns[*pattern as usize].pattern {
                        Pattern::Template { variables, .. } => Some(variables[group - 1]),
                        Pattern::Regex { variables, .. } => variables[group - 1],
                    };
                    if let (Some(variable), Some(span)) = (variable, captures.get_group(group)) {
                        values[variable] = Some(record.message[span.range()].to_vec());
                    }
                }
                hits.push((*rule, values));
            }
            hits
        }

        fn check(&self, line: &[u8], scratch: &mut Scratch) {
            for frame in record::frames(line) {
                let record = record::parse(frame, &self.programs);
                let expected = self.expected(&record);
                // Again, when what the first search made is there.
                for _ in 0..2 {
                    let mut hits: Vec<Hit> = Vec::new();
                    self.matcher.find(&record, scratch, |found| {
                        let count = self.rules.rules[found.rule.0 as usize].variables.len();
                        let value = |at| Some(found.capture(at, record.message)?.to_vec());
                        hits.push((found.rule, (0..count).map(value).collect()));
                        true
                    });
                    assert_eq!(hits, expected, "{}", String::from_utf8_lossy(line));
                }
            }
        }
    }

    /// The lines of all examples.
    fn examples(rules: &RuleSet) -> Vec<Vec<u8>> {
        let examples = rules.rules.iter().flat_map(|rule| &rule.examples);
        examples
            .flat_map(|example| match example {
                Example::Lines { lines, .. } => lines.clone(),
                Example::Not { line, .. } => vec![line.clone()],
            })
            .map(String::into_bytes)
            .collect()
    }

    #[test]
    fn an_automaton_whose_cache_is_cleared_again_and_again_finds_the_same() {
        let model = OneByOne::new(Limits {
            dfa_cache_bytes_max: 1,
        });
        let mut scratch = model.matcher.scratch();
        for line in &examples(&model.rules) {
            model.check(line, &mut scratch);
        }
        let groups = scratch.groups.iter();
        let rules =
            groups.flat_map(|group| group.plain.iter().chain(group.of_id.values().flatten()));
        let cleared: usize = rules.map(|rules| rules.selector.cache_clears()).sum();
        assert!(cleared > 0, "no cache was ever full");
    }

    /// What a template's message looks like, with what stands between two of its pieces repeated up to the limit.
    fn pumped(template: &Template) -> Vec<Vec<u8>> {
        fn write(pieces: &[Piece], out: &mut Vec<u8>) {
            for piece in pieces {
                match piece {
                    Piece::Text(text) => out.extend_from_slice(text),
                    Piece::Blanks { .. } => out.push(b' '),
                    Piece::Run { class, .. } => {
                        out.extend(b"1a:x".iter().find(|byte| class.holds(**byte)));
                    }
                    Piece::Quad => out.extend_from_slice(b"10.0.0.1"),
                    Piece::Lazy | Piece::Rest => out.push(b'x'),
                    Piece::Choice(options) => write(&options[0], out),
                    Piece::Capture(_, inner) => write(inner, out),
                }
            }
        }
        let pieces = &template.pieces;
        let mut messages = Vec::new();
        for start in 0..pieces.len() {
            for end in start + 1..=pieces.len().min(start + 6) {
                let (mut message, mut pump) = (Vec::new(), Vec::new());
                write(&pieces[..end], &mut message);
                write(&pieces[start..end], &mut pump);
                if pump.is_empty() {
                    continue;
                }
                while message.len() + pump.len() < MESSAGE_BYTES_MAX {
                    message.extend_from_slice(&pump);
                }
                message.push(1);
                messages.push(message);
            }
        }
        messages
    }

    /// What a message costs that is made to be dear, held against the examples, byte by byte.
    #[test]
    fn no_message_costs_more_than_twenty_times_what_an_ordinary_one_costs() {
        let OneByOne {
            rules,
            programs,
            matcher,
            ..
        } = OneByOne::new(Limits::default());
        // The header, the counters and the look-up of a line cost about this.
        const REST: usize = 1500;
        let mut scratch = matcher.scratch();
        let (mut cost, mut bytes) = (0, 0);
        for line in &examples(&rules) {
            for frame in record::frames(line) {
                let record = record::parse(frame, &programs);
                scratch.vm.cost = 0;
                matcher.find(&record, &mut scratch, |_| false);
                cost += scratch.vm.cost + REST;
                bytes += line.len();
            }
        }
        let ordinary = cost as f64 / bytes as f64;
        let mut worst = (0.0, String::new());
        for rule in &rules.rules {
            let program = match &rule.scope {
                Scope::Programs(own) => rules.programs[own[0]].name.clone(),
                Scope::Every | Scope::Nameless => String::new(),
            };
            for pattern in &rule.patterns {
                let Pattern::Template { template, .. } = pattern else {
                    continue;
                };
                for message in pumped(template) {
                    let record = Record {
                        program: program.as_bytes(),
                        program_id: programs.lookup(program.as_bytes()),
                        message: &message,
                        repeat: 1,
                        ..Record::default()
                    };
                    scratch.vm.cost = 0;
                    matcher.find(&record, &mut scratch, |_| false);
                    let ratio = (scratch.vm.cost + REST) as f64 / message.len() as f64 / ordinary;
                    if ratio > worst.0 {
                        let start = String::from_utf8_lossy(&message[..message.len().min(80)]);
                        worst = (ratio, format!("{}: {start}…", rule.id));
                    }
                }
            }
        }
        println!("worst {worst:?}, ordinary {ordinary:.1} for each byte");
        assert!(worst.0 <= 20.0, "{worst:?}");
    }

    /// The packs' examples as they are, with a byte changed, cut short, and with a message behind another header.
    #[test]
    fn the_matcher_and_one_rule_after_the_other_agree() {
        let model = OneByOne::new(Limits::default());
        let mut scratch = model.matcher.scratch();
        let lines = examples(&model.rules);
        for line in &lines {
            model.check(line, &mut scratch);
        }
        let line = (0..lines.len(), any::<prop::sample::Index>());
        let change = (0u8..5, any::<u8>(), any::<prop::sample::Index>());
        let changes = (
            line,
            prop::collection::vec(change, 1..3),
            any::<prop::sample::Index>(),
        );
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
            cases: 3_000,
            failure_persistence: None,
            ..ProptestConfig::default()
        });
        let outcome = runner.run(&changes, |((line, at), changes, other)| {
            let mut line = lines[line].clone();
            for (kind, byte, place) in changes {
                let place = place.index(line.len().max(1));
                match kind {
                    _ if line.is_empty() => {}
                    0 => line[place] = byte,
                    1 => drop(line.remove(place)),
                    2 => line.truncate(place.max(line.len() / 2)),
                    3 => line.insert(place, b" :.\"1"[usize::from(byte) % 5]),
                    // The end of another line.
                    _ => {
                        let other = &lines[other.index(lines.len())];
                        line.truncate(place.max(line.len() / 2));
                        line.extend_from_slice(&other[at.index(other.len().max(1))..]);
                    }
                }
            }
            model.check(&line, &mut model.matcher.scratch());
            Ok(())
        });
        outcome.unwrap();
    }
}
