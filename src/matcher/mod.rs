//! A record meets the rules of its program: the first that matches, its captures, and what it changes.
//!
//! Of several matching rules the first in [`RuleSet`] order wins, exactly as if each were tried in turn; with
//! `continue: true` the search goes on after it. [`Matcher::compile`] may hit a limit; [`Matcher::find`] never fails
//! and costs time linear in the message, whatever it holds.

mod machine;
mod nearest;
mod set;
mod update;

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use hashbrown::{HashMap, HashSet};
use regex_automata::Input;
use regex_automata::meta::Regex;
use regex_automata::util::captures::Captures;
use regex_automata::util::syntax;
use regex_syntax::hir::HirKind;

use machine::{Machine, NOWHERE, Outcome, Scratch as MachineScratch, Span, Start};
pub use nearest::Nearest;
use set::{Beginning, Set};
pub use update::{Change, Updater, Updates};

use crate::record::Record;
use crate::rules::{HeaderField, Pattern, RuleId, RuleSet, Scope, Template, When};

/// All rules, ready to run.
#[derive(Debug)]
pub struct Matcher {
    /// By program, as in [`RuleSet::programs`].
    programs: Vec<Group>,
    /// For programs that no pack knows.
    unknown: Group,
    /// For lines without a program.
    nameless: Group,
    patterns: Vec<Compiled>,
    /// By rule, what the header must say, and how many variables there are.
    rules: Vec<(Box<[When]>, usize)>,
    /// The largest number of variables a rule has.
    variables: usize,
}

/// The patterns that one program's messages meet, in order.
#[derive(Debug)]
struct Group {
    members: Box<[Member]>,
    /// The group's place among the sets.
    number: usize,
    /// The tags that its rules ask for, in lower case. Messages with one of them have a set of their own, of the rules
    /// that ask for that tag or for none.
    tags: HashSet<Box<[u8]>>,
}

/// A rule, and the index of one of its patterns into [`Matcher::patterns`].
type Member = (RuleId, u32);

#[derive(Debug)]
enum Compiled {
    Template {
        template: Arc<Template>,
        ignore_case: bool,
        variables: Arc<[usize]>,
        /// Made when a message may match.
        machine: OnceLock<Machine>,
        /// For messages that the machine leaves undecided; made when there is one.
        fallback: OnceLock<Option<Regex>>,
    },
    Regex {
        source: Arc<str>,
        variables: Arc<[Option<usize>]>,
        /// Made when a message may match, or before if it may be too large.
        search: OnceLock<Option<Search>>,
    },
}

/// A regular expression, ready to run.
#[derive(Debug)]
struct Search {
    regex: Regex,
    /// If all captures have fixed places before the end of a match: variable, and how far from there they start and end.
    /// The end of a match is found by an automaton; to find captures costs several times as much.
    places: Option<Box<[(usize, usize, usize)]>>,
}

/// The patterns that messages of one program meet, perhaps of one tag.
#[derive(Debug)]
struct Meeting {
    /// By member of the set.
    members: Box<[Ready]>,
    set: Set,
}

/// A member, and what is asked of its rule for every message.
#[derive(Debug)]
struct Ready {
    rule: RuleId,
    pattern: u32,
    variables: u32,
    /// The header must say something.
    conditional: bool,
}

/// The meetings of one group, each made when its first message comes.
#[derive(Debug, Default)]
struct Meetings {
    /// Of messages without a tag that a rule asks for.
    plain: Option<Meeting>,
    tagged: HashMap<Box<[u8]>, Meeting>,
}

/// Memory that searches share; one for each thread.
#[derive(Debug)]
pub struct Scratch {
    /// By group.
    meetings: Vec<Meetings>,
    /// The tag of a message, in lower case.
    tag: Vec<u8>,
    machine: MachineScratch,
    captures: Captures,
    found: Found,
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
    pub fn compile(rules: &RuleSet) -> Result<Self, String> {
        let mut patterns = Vec::new();
        // By rule the range of its patterns.
        let mut ranges = Vec::new();
        for rule in &rules.rules {
            let first = patterns.len();
            for pattern in &rule.patterns {
                let compiled = Compiled::from(pattern);
                if let Compiled::Regex {
                    source,
                    variables,
                    search,
                } = &compiled
                    && !rules.packs[rule.pack].is_built_in
                {
                    let made = Search::new(source, variables)
                        .map_err(|error| format!("{}: {error}", rule.id))?;
                    search.get_or_init(|| Some(made));
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
            let tags = whens.filter_map(tags).flatten();
            let whole = tags.filter(|(tag, is_prefix)| !is_prefix && !tag.is_empty());
            Group {
                tags: whole.map(|(tag, _)| tag.as_bytes().into()).collect(),
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
        })
    }

    /// Memory for searches with this matcher.
    pub fn scratch(&self) -> Scratch {
        let sets = self.programs.len() + 2;
        Scratch {
            meetings: std::iter::repeat_with(Meetings::default)
                .take(sets)
                .collect(),
            tag: Vec::new(),
            machine: MachineScratch::default(),
            captures: Captures::empty(regex_automata::util::captures::GroupInfo::empty()),
            found: Found {
                rule: RuleId(0),
                spans: vec![NOWHERE; self.variables],
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
        let group = match record.program_id {
            Some(id) => self
                .programs
                .get(usize::from(id.0))
                .unwrap_or(&self.unknown),
            None if record.program.is_empty() => &self.nameless,
            None => &self.unknown,
        };
        if group.members.is_empty() {
            return false;
        }
        let Scratch {
            meetings,
            tag,
            machine,
            captures,
            found,
        } = scratch;
        let Some(Meetings { plain, tagged }) = meetings.get_mut(group.number) else {
            return false;
        };
        tag.clear();
        if !group.tags.is_empty() {
            tag.extend(record.tag.iter().map(u8::to_ascii_lowercase));
        }
        if !tag.is_empty() && !tagged.contains_key(&**tag) && group.tags.contains(&**tag) {
            tagged.insert(tag.as_slice().into(), self.meeting(group, Some(tag)));
        }
        let meeting = match tagged.get_mut(&**tag) {
            Some(meeting) => meeting,
            None => plain.get_or_insert_with(|| self.meeting(group, None)),
        };
        let Meeting { members, set } = meeting;
        let mut any = false;
        let mut last = None;
        let candidates = set.search(
            record.message,
            |member, prefix| self.patterns[members[member as usize].pattern as usize].after(prefix),
            || {
                let patterns = members.iter().map(|member| member.pattern as usize);
                patterns.map(|at| self.patterns[at].regex()).collect()
            },
        );
        for (candidate, start) in candidates.iter() {
            let Ready {
                rule,
                pattern,
                variables,
                conditional,
            } = members[candidate as usize];
            if last == Some(rule) {
                continue;
            }
            if conditional {
                let (when, _) = &self.rules[rule.0 as usize];
                if !when.iter().all(|when| holds(when, record)) {
                    continue;
                }
            }
            let spans = &mut found.spans[..variables as usize];
            spans.fill(NOWHERE);
            let end = candidates
                .known
                .and_then(|(member, end)| (member == candidate).then_some(end));
            let pattern = &self.patterns[pattern as usize];
            if pattern.captures(record.message, start, end, spans, machine, captures) {
                found.rule = rule;
                any = true;
                last = Some(rule);
                if !each(found) {
                    break;
                }
            }
        }
        any
    }

    /// What a group's messages meet that have this tag, or none that is asked for.
    #[cold]
    fn meeting(&self, group: &Group, tag: Option<&[u8]>) -> Meeting {
        let may_hold = |(rule, _): &&Member| {
            self.rules[rule.0 as usize].0.iter().all(|when| match tag {
                Some(tag) => tags(when).is_none_or(|wanted| is_one_of(tag, wanted)),
                None => tags(when).is_none_or(|wanted| {
                    wanted
                        .iter()
                        .any(|(wanted, is_prefix)| *is_prefix || wanted.is_empty())
                }),
            })
        };
        let ready = |(rule, pattern): &Member| {
            let (when, variables) = &self.rules[rule.0 as usize];
            Ready {
                rule: *rule,
                pattern: *pattern,
                variables: *variables as u32,
                conditional: !when.is_empty(),
            }
        };
        let members: Box<[Ready]> = group.members.iter().filter(may_hold).map(ready).collect();
        let beginning = |member: &Ready| self.patterns[member.pattern as usize].beginning();
        let set = Set::new(members.iter().map(beginning));
        Meeting { members, set }
    }
}

impl Compiled {
    fn beginning(&self) -> Beginning<'_> {
        match self {
            Compiled::Template {
                template,
                ignore_case,
                variables,
                machine,
                ..
            } => Beginning::Machine(
                machine.get_or_init(|| Machine::new(template, *ignore_case, variables)),
            ),
            Compiled::Regex { source, .. } => Beginning::Regex(source),
        }
    }

    /// The pattern as a regular expression, which whoever runs it anchors at the start.
    fn regex(&self) -> Cow<'_, str> {
        match self {
            Compiled::Template {
                template,
                ignore_case,
                ..
            } => Cow::Owned(template.to_regex(*ignore_case)),
            Compiled::Regex { source, .. } => Cow::Borrowed(source),
        }
    }

    /// Where a run over a message that begins so goes on behind it.
    fn after(&self, prefix: &[u8]) -> Start {
        match self {
            Compiled::Template { machine, .. } => machine
                .get()
                .map(|machine| machine.after(prefix))
                .unwrap_or_default(),
            Compiled::Regex { .. } => Start::default(),
        }
    }

    /// `spans`, by variable and all of them [`NOWHERE`], are meaningful only after a match. `start` is from [`Self::after`];
    /// `end` is where the match ends, if that is known.
    #[inline]
    fn captures(
        &self,
        message: &[u8],
        start: Start,
        end: Option<usize>,
        spans: &mut [Span],
        scratch: &mut MachineScratch,
        captures: &mut Captures,
    ) -> bool {
        match self {
            Compiled::Template {
                template,
                ignore_case,
                variables,
                machine,
                fallback,
            } => match machine
                .get_or_init(|| Machine::new(template, *ignore_case, variables))
                .run(message, start, spans, scratch)
            {
                Outcome::NotMatched => false,
                Outcome::Matched => true,
                Outcome::Undecided => {
                    let linear = || linear(&format!("^{}", template.to_regex(*ignore_case))).ok();
                    undecided(
                        fallback.get_or_init(linear),
                        message,
                        variables,
                        spans,
                        captures,
                    )
                }
            },
            Compiled::Regex {
                source,
                variables,
                search,
            } => search
                .get_or_init(|| Search::new(source, variables).ok())
                .as_ref()
                .is_some_and(|search| search.captures(message, end, variables, spans, captures)),
        }
    }
}

/// Rare, and still linear: a message made to spend the machine's budget.
#[cold]
fn undecided(
    regex: &Option<Regex>,
    message: &[u8],
    variables: &[usize],
    spans: &mut [Span],
    captures: &mut Captures,
) -> bool {
    let Some(regex) = regex else {
        return false;
    };
    let named = variables.iter().map(|variable| Some(*variable));
    spans.fill(NOWHERE);
    from_regex(regex, message, named, spans, captures)
}

fn from_regex(
    regex: &Regex,
    message: &[u8],
    variables: impl Iterator<Item = Option<usize>>,
    spans: &mut [Span],
    captures: &mut Captures,
) -> bool {
    *captures = regex.create_captures();
    regex.captures(message, captures);
    if !captures.is_match() {
        return false;
    }
    for (variable, group) in variables.zip(1..) {
        if let (Some(variable), Some(span)) = (variable, captures.get_group(group)) {
            // The same name may be in several alternatives; the one that took part counts.
            spans[variable] = (span.start as u32, span.end as u32);
        }
    }
    true
}

impl From<&Pattern> for Compiled {
    fn from(pattern: &Pattern) -> Self {
        match pattern {
            Pattern::Template {
                template,
                ignore_case,
                variables,
            } => Compiled::Template {
                template: template.clone(),
                ignore_case: *ignore_case,
                variables: variables.clone(),
                machine: OnceLock::new(),
                fallback: OnceLock::new(),
            },
            Pattern::Regex { source, variables } => Compiled::Regex {
                source: source.clone(),
                variables: variables.clone(),
                search: OnceLock::new(),
            },
        }
    }
}

impl Search {
    fn new(source: &str, variables: &[Option<usize>]) -> Result<Self, String> {
        Ok(Self {
            regex: anchored(source)?,
            places: places(source, variables),
        })
    }

    /// As [`Compiled::captures`].
    #[inline(never)]
    fn captures(
        &self,
        message: &[u8],
        end: Option<usize>,
        variables: &[Option<usize>],
        spans: &mut [Span],
        captures: &mut Captures,
    ) -> bool {
        let Some(places) = &self.places else {
            let variables = variables.iter().copied();
            return from_regex(&self.regex, message, variables, spans, captures);
        };
        let found = || {
            let half = self.regex.search_half(&Input::new(message))?;
            Some(half.offset())
        };
        let Some(end) = end.or_else(found) else {
            return false;
        };
        for (variable, start, stop) in places {
            spans[*variable] = ((end - start) as u32, (end - stop) as u32);
        }
        true
    }
}

/// See [`Search::places`]. Reads the parts of the expression from the last, as long as their lengths are fixed.
fn places(source: &str, variables: &[Option<usize>]) -> Option<Box<[(usize, usize, usize)]>> {
    let syntax = syntax::Config::new().unicode(false).utf8(false);
    let hir = syntax::parse_with(source, &syntax).ok()?;
    let parts = match hir.kind() {
        HirKind::Concat(parts) => parts.as_slice(),
        _ => std::slice::from_ref(&hir),
    };
    let mut places = Vec::new();
    let mut behind = 0;
    for part in parts.iter().rev() {
        let (Some(len), true) = (
            part.properties().minimum_len(),
            part.properties().minimum_len() == part.properties().maximum_len(),
        ) else {
            break;
        };
        if let HirKind::Capture(capture) = part.kind()
            && let Some(variable) = *variables.get((capture.index as usize).checked_sub(1)?)?
        {
            places.push((variable, behind + len, behind));
        }
        behind += len;
    }
    // The others are elsewhere.
    let named = variables.iter().flatten().count();
    (places.len() == named).then(|| places.into())
}

fn anchored(source: &str) -> Result<Regex, String> {
    linear(&format!("^(?:{source})"))
}

fn linear(source: &str) -> Result<Regex, String> {
    Regex::builder()
        .syntax(syntax::Config::new().unicode(false).utf8(false))
        .configure(
            Regex::config()
                .utf8_empty(false)
                .nfa_size_limit(Some(1 << 20)),
        )
        .build(source)
        .map_err(|error| error.to_string())
}

fn holds(when: &When, record: &Record<'_>) -> bool {
    match when {
        When::Severity(severities) => record
            .severity
            .is_some_and(|severity| severities.contains(&severity)),
        When::Test(test) => record.test == *test,
        When::Field(field, values) => {
            let value = match field {
                HeaderField::Facility => record.facility,
                HeaderField::AppSeverity => record.app_severity,
                HeaderField::Code => record.code,
                HeaderField::Tag => record.tag,
                HeaderField::Host => record.host.unwrap_or_default(),
            };
            is_one_of(value, values)
        }
    }
}

/// Whether it is one of these, or begins with one that is marked as a prefix.
fn is_one_of(value: &[u8], wanted: &[(String, bool)]) -> bool {
    wanted.iter().any(|(wanted, is_prefix)| {
        let wanted = wanted.as_bytes();
        match is_prefix {
            true => value
                .get(..wanted.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(wanted)),
            false => value.eq_ignore_ascii_case(wanted),
        }
    })
}

/// The tags that a condition asks for, if it is one on the tag.
fn tags(when: &When) -> Option<&[(String, bool)]> {
    match when {
        When::Field(HeaderField::Tag, values) => Some(values),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::{self, Programs};
    use crate::rules::{self, Example, Settings};

    /// The rules of a program tried one after the other, each as a regular expression.
    struct OneByOne {
        rules: RuleSet,
        programs: Programs,
        matcher: Matcher,
        regexes: Vec<Regex>,
    }

    type Hit = (RuleId, Vec<Option<Vec<u8>>>);

    impl OneByOne {
        fn new() -> Self {
            let rules = rules::load(&[], Settings::default()).expect("the packs are in order");
            let names = |program: &rules::Program| (program.name.clone(), program.aliases.clone());
            let programs = Programs::new(rules.programs.iter().map(names));
            let matcher = Matcher::compile(&rules).expect("the packs compile");
            let regex = |pattern: &Compiled| match pattern {
                Compiled::Template {
                    template,
                    ignore_case,
                    ..
                } => linear(&format!("^{}", template.to_regex(*ignore_case))),
                Compiled::Regex { source, .. } => anchored(source),
            };
            let regexes = matcher
                .patterns
                .iter()
                .map(|pattern| regex(pattern).unwrap());
            Self {
                regexes: regexes.collect(),
                rules,
                programs,
                matcher,
            }
        }

        /// All rules that match, in order, with their captures by variable.
        fn expected(&self, record: &Record<'_>) -> Vec<Hit> {
            let group = match record.program_id {
                Some(id) => &self.matcher.programs[usize::from(id.0)],
                None if record.program.is_empty() => &self.matcher.nameless,
                None => &self.matcher.unknown,
            };
            let mut hits: Vec<Hit> = Vec::new();
            for (rule, pattern) in &group.members {
                let known = &self.rules.rules[rule.0 as usize];
                if hits.last().is_some_and(|(last, _)| last == rule)
                    || !known.when.iter().all(|when| holds(when, record))
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
                    let variable = match &self.matcher.patterns[*pattern as usize] {
                        Compiled::Template { variables, .. } => Some(variables[group - 1]),
                        Compiled::Regex { variables, .. } => variables[group - 1],
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
                // The first time, when the way there is learnt, and again, when it is known.
                for _ in 0..3 {
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

    /// The packs' examples as they are, with a byte changed, cut short, and with a message behind another header.
    #[test]
    fn the_matcher_and_one_rule_after_the_other_agree() {
        let model = OneByOne::new();
        let mut scratch = model.matcher.scratch();
        let examples = model.rules.rules.iter().flat_map(|rule| &rule.examples);
        let lines: Vec<Vec<u8>> = examples
            .flat_map(|example| match example {
                Example::Lines { lines, .. } => lines.clone(),
                Example::Not { line, .. } => vec![line.clone()],
            })
            .map(String::into_bytes)
            .collect();
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
