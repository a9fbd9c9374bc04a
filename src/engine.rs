//! What one line does: record, rule, updates. The straight way of the data, without files, threads or clocks.
//!
//! An [`Engine`] holds a rule set, ready to run, and the series table that it feeds. It is given lines and the time, and
//! never fails: a line that nothing recognises is counted as such.

use std::sync::Arc;

use arrayvec::ArrayVec;
use hashbrown::HashMap;

use crate::matcher::{Change, Matcher, Scratch, Updater};
use crate::metric::{
    ApplianceId, Domain, Family, Kind, Limits, MetricId, OTHER, Saved, Slot, Spec, Table,
};
use crate::record::{self, Clock, HeaderId, Headers, ProgramId, Programs, Record};
use crate::rules::{HeaderField, RuleId, RuleSet, When};
use crate::unrecognised::Unrecognised;

const MESSAGES: MetricId = MetricId(0);
const EVENTS: MetricId = MetricId(1);
const UNMATCHED: MetricId = MetricId(2);
const LAST_MESSAGE: MetricId = MetricId(3);
/// The metrics of the rule set follow those that every line has.
const RULE_METRICS: u32 = 4;

const SEVERITIES: [&str; 9] = [
    "emerg", "alert", "crit", "err", "warning", "notice", "info", "debug", "unknown",
];

/// Hosts whose appliance is remembered; more are looked up in the table.
const HOSTS_MAX: usize = 20_000;

/// An appliance that was not looked up yet.
const NOBODY: ApplianceId = ApplianceId(u32::MAX);

/// A slot that was not looked up yet.
const UNKNOWN: Slot = Slot(u32::MAX - 1);

/// Where lines come from, as far as it matters to what they mean.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The configured name of the device, which outranks the header's.
    pub appliance: Option<String>,
    /// The name to use if neither settings nor header give one.
    pub fallback: Option<String>,
    /// The device profile, if it is configured.
    pub profile: Option<String>,
    /// For stamps without a year or zone.
    pub clock: Clock,
    /// What the last line did, for `last message repeated N times`.
    last: Last,
}

impl Origin {
    /// Lines whose header names the device.
    pub fn new(clock: Clock) -> Self {
        Self {
            appliance: None,
            fallback: None,
            profile: None,
            clock,
            last: Last::default(),
        }
    }

    /// The appliance that the last line was about.
    pub fn last_appliance(&self) -> Option<ApplianceId> {
        self.last.appliance
    }
}

#[derive(Clone, Debug, Default)]
struct Last {
    appliance: Option<ApplianceId>,
    epoch: u32,
    rule: Option<RuleId>,
    counters: ArrayVec<(Slot, f64), 24>,
}

/// What became of a line, for those who want to know.
#[derive(Debug)]
pub struct Outcome<'r, 'l> {
    /// The header's fields and the message.
    pub record: &'r Record<'l>,
    /// The device the line was counted for.
    pub appliance: ApplianceId,
    /// The rules that matched, in order; several only with `continue`.
    pub rules: &'r [RuleId],
    /// One of them knows the line, and did not only look at it.
    pub recognised: bool,
}

/// A rule set at work.
#[derive(Debug)]
pub struct Engine {
    rules: Arc<RuleSet>,
    programs: Programs,
    matcher: Matcher,
    scratch: Scratch,
    updater: Updater,
    /// The numbers.
    pub table: Table,
    headers: Headers,
    /// By header that was seen before, the appliance of its host; good for one generation of the headers.
    by_header: Vec<ApplianceId>,
    by_header_generation: u32,
    hosts: HashMap<Box<[u8]>, ApplianceId>,
    /// By appliance.
    seen: Vec<Seen>,
    epoch: u32,
    /// By rule.
    hits: Vec<u64>,
    /// Negative amounts that engines before this one refused.
    former_negative_amounts: u64,
    unrecognised: Unrecognised,
    unrecognised_lines: u64,
    matched: ArrayVec<RuleId, 8>,
    now: u32,
}

/// The series that every line of an appliance needs, by number instead of by name.
#[derive(Debug)]
struct Seen {
    /// By program (the last for unknown ones) and severity.
    messages: Box<[Slot]>,
    /// By program.
    last: Box<[Slot]>,
    /// By program.
    unmatched: Box<[Slot]>,
    /// By rule.
    events: Box<[Slot]>,
    /// By pack: its series exist at 0.
    started: Box<[bool]>,
    profile_started: bool,
}

impl Engine {
    /// Makes a rule set ready to run on an empty table.
    ///
    /// # Errors
    /// A rule is too large to compile.
    pub fn new(rules: Arc<RuleSet>, limits: Limits, exclusive: &[String]) -> Result<Self, String> {
        let programs = Programs::new(
            rules
                .programs
                .iter()
                .map(|program| (program.name.clone(), program.aliases.clone())),
        );
        let matcher = Matcher::compile(&rules)?;
        let specs = standard_metrics()
            .into_iter()
            .chain(rules.metrics.iter().map(|metric| metric.spec.clone()))
            .collect();
        Ok(Self {
            scratch: matcher.scratch(),
            updater: Updater::new(&rules, RULE_METRICS),
            matcher,
            programs,
            table: Table::new(specs, limits, exclusive),
            headers: Headers::default(),
            by_header: Vec::new(),
            by_header_generation: 0,
            hosts: HashMap::new(),
            seen: Vec::new(),
            epoch: 0,
            hits: vec![0; rules.rules.len()],
            former_negative_amounts: 0,
            unrecognised: Unrecognised::default(),
            unrecognised_lines: 0,
            matched: ArrayVec::new(),
            now: 0,
            rules,
        })
    }

    /// The rules at work.
    pub fn rules(&self) -> &Arc<RuleSet> {
        &self.rules
    }

    /// The programs that the rules know.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// Sets the time of receipt for what follows, in seconds since 1970.
    pub fn set_now(&mut self, seconds: u32) {
        self.now = seconds;
        self.table.set_now(seconds);
    }

    /// Goes on counting where an engine with other rules stopped: a rule is the same if its id is.
    pub fn keep_counts(&mut self, former: &Engine) {
        self.former_negative_amounts = former.negative_amounts();
        let counts: HashMap<&str, u64> = former
            .rules
            .rules
            .iter()
            .zip(&former.hits)
            .map(|(rule, hits)| (&*rule.id, *hits))
            .collect();
        for (rule, hits) in self.rules.rules.iter().zip(&mut self.hits) {
            *hits = counts.get(&*rule.id).copied().unwrap_or(0);
        }
    }

    /// How many amounts a rule would have added to a counter, had they not been negative.
    pub fn negative_amounts(&self) -> u64 {
        self.former_negative_amounts + self.updater.negative_amounts()
    }

    /// How often each rule matched, in rule order.
    pub fn hits(&self) -> &[u64] {
        &self.hits
    }

    /// Messages that no rule recognises, by kind.
    pub fn unrecognised(&self) -> &Unrecognised {
        &self.unrecognised
    }

    /// Empties the table and forgets what was seen; the rules stay compiled.
    pub fn forget(&mut self) {
        self.table.clear();
        self.hosts.clear();
        self.by_header.clear();
        self.seen.clear();
        self.epoch = self.table.epoch();
        self.hits.fill(0);
        self.unrecognised = Unrecognised::default();
    }

    /// The first rule that would decide on a message of this program under a header that fulfils `when`.
    pub(crate) fn winner(
        &mut self,
        program: &str,
        message: &[u8],
        when: &[When],
    ) -> Option<RuleId> {
        let mut record = Record {
            program: program.as_bytes(),
            program_id: self.programs.lookup(program.as_bytes()),
            message,
            repeat: 1,
            ..Record::default()
        };
        for when in when {
            match when {
                When::Severity(severities) => record.severity = severities.first().copied(),
                When::Test(test) => record.test = *test,
                When::Field(field, values) => {
                    let value = values
                        .first()
                        .map_or(&b""[..], |(value, _)| value.as_bytes());
                    match field {
                        HeaderField::Facility => record.facility = value,
                        HeaderField::AppSeverity => record.app_severity = value,
                        HeaderField::Code => record.code = value,
                        HeaderField::Tag => record.tag = value,
                        HeaderField::Host => record.host = Some(value),
                    }
                }
            }
        }
        let mut winner = None;
        let rules = &self.rules;
        self.matcher.find(&record, &mut self.scratch, |found| {
            let go_on = rules.rules[found.rule.0 as usize].go_on;
            if !go_on {
                winner = Some(found.rule);
            }
            go_on
        });
        winner
    }

    /// For each record in a line that no rule knows, the rule that came nearest and why it did not match.
    pub fn nearest(&self, line: &[u8]) -> Vec<Option<String>> {
        record::frames(line)
            .map(|frame| {
                let record = record::parse(frame, &self.programs);
                let nearest = self.matcher.nearest(&self.rules, &record)?;
                let rule = &self.rules.rules[nearest.rule.0 as usize].id;
                let rest =
                    String::from_utf8_lossy(record.message.get(nearest.at..).unwrap_or_default());
                let rest: String = rest.chars().take(40).collect();
                Some(match nearest.expected {
                    Some(expected) => format!(
                        "{rule} wants {expected} at byte {} of the message, where `{rest}` stands",
                        nearest.at
                    ),
                    None => format!(
                        "{rule} matches the message, but its conditions on the header do not hold"
                    ),
                })
            })
            .collect()
    }

    /// For each record in a line the names and values that the first matching rule captures.
    pub fn captures(&mut self, line: &[u8]) -> Vec<Vec<(String, String)>> {
        let Self {
            rules,
            programs,
            matcher,
            scratch,
            ..
        } = self;
        record::frames(line)
            .map(|frame| {
                let record = record::parse(frame, programs);
                let mut captures = Vec::new();
                matcher.find(&record, scratch, |found| {
                    let rule = &rules.rules[found.rule.0 as usize];
                    captures = rule
                        .variables
                        .iter()
                        .enumerate()
                        .filter_map(|(index, name)| {
                            let value = found.capture(index, record.message)?;
                            Some((name.clone(), String::from_utf8_lossy(value).into_owned()))
                        })
                        .collect();
                    rule.go_on
                });
                captures
            })
            .collect()
    }

    /// Takes over what an engine with other rules knew. Returns how many series no longer mean anything.
    pub fn restore(&mut self, saved: &Saved) -> usize {
        self.table.restore(saved)
    }

    /// Reads one line, without its line feed.
    #[inline]
    pub fn line(&mut self, origin: &mut Origin, line: &[u8]) {
        self.line_with(origin, line, |_, _, _| {}, |_, _| {});
    }

    /// Reads one line and tells what it does: first every change, then the outcome.
    #[inline]
    pub fn line_with(
        &mut self,
        origin: &mut Origin,
        line: &[u8],
        mut change: impl FnMut(&Table, Slot, Change),
        mut outcome: impl FnMut(&Table, Outcome<'_, '_>),
    ) {
        for frame in record::frames(line) {
            let mut record = Record::default();
            let header = self.headers.parse(frame, &self.programs, &mut record);
            let appliance = self.one(origin, &record, header, &mut change);
            outcome(
                &self.table,
                Outcome {
                    record: &record,
                    appliance,
                    rules: &self.matched,
                    recognised: record.repeat_last > 0
                        || self
                            .matched
                            .iter()
                            .any(|id| !self.rules.rules[id.0 as usize].go_on),
                },
            );
        }
    }

    #[inline]
    fn one(
        &mut self,
        origin: &mut Origin,
        record: &Record<'_>,
        header: Option<HeaderId>,
        change: &mut impl FnMut(&Table, Slot, Change),
    ) -> ApplianceId {
        self.matched.clear();
        let appliance = match header {
            Some(header) if origin.appliance.is_none() => self.appliance_of(header, origin, record),
            _ => self.appliance(origin, record),
        };
        if record.repeat_last > 0 {
            self.again(origin, appliance, record.repeat_last, change);
            return appliance;
        }
        let times = f64::from(record.repeat.max(1));
        let (messages, last_message) = self.standard(origin, record, appliance);
        self.table.add(messages, times);
        self.table.set(last_message, f64::from(self.now));
        let last = &mut origin.last;
        last.counters.clear();
        last.rule = None;
        last.appliance = Some(appliance);
        last.epoch = self.epoch;
        let _ = last.counters.try_push((messages, 1.0));

        let Self {
            rules,
            programs,
            matcher,
            scratch,
            updater,
            table,
            seen,
            hits,
            matched,
            ..
        } = self;
        let clock = &origin.clock;
        // A rule that lets later ones see the line does not claim to know it.
        let mut recognised = false;
        matcher.find(record, scratch, |found| {
            let at = found.rule.0 as usize;
            let rule = &rules.rules[at];
            hits[at] += u64::from(record.repeat.max(1));
            let _ = matched.try_push(found.rule);
            let event = match record.test {
                false => {
                    let slot = &mut seen[appliance.0 as usize].events[at];
                    if *slot == UNKNOWN {
                        *slot = table.series(
                            EVENTS,
                            appliance,
                            false,
                            &[label(programs, record), &rule.event],
                        );
                    }
                    *slot
                }
                true => table.series(
                    EVENTS,
                    appliance,
                    true,
                    &[label(programs, record), &rule.event],
                ),
            };
            table.add(event, times);
            let _ = last.counters.try_push((event, 1.0));
            last.rule = Some(found.rule);
            updater.apply(
                found,
                record,
                programs,
                appliance,
                || record.timestamp(clock).map(|time| time.as_second()),
                table,
                |table, slot, done| {
                    if let Change::Inc(_) | Change::Add(_) = done {
                        let amount = match done {
                            Change::Add(amount) => amount / times,
                            _ => 1.0,
                        };
                        let _ = last.counters.try_push((slot, amount));
                    }
                    change(table, slot, done);
                },
            );
            recognised |= !rule.go_on;
            rule.go_on
        });
        if !recognised {
            self.not_recognised(record, appliance, times, origin);
        }
        appliance
    }

    /// `last message repeated N times`: what the last line counted is counted so often again.
    #[cold]
    fn again(
        &mut self,
        origin: &Origin,
        appliance: ApplianceId,
        count: u32,
        change: &mut impl FnMut(&Table, Slot, Change),
    ) {
        let last = &origin.last;
        if last.appliance != Some(appliance) || last.epoch != self.table.epoch() {
            return;
        }
        for (index, (slot, amount)) in last.counters.iter().enumerate() {
            let amount = amount * f64::from(count);
            self.table.add(*slot, amount);
            // The first two are the line's own standing counters.
            if index > 1 {
                change(&self.table, *slot, Change::Inc(amount));
            }
        }
        if let Some(rule) = last.rule {
            self.hits[rule.0 as usize] += u64::from(count);
            let _ = self.matched.try_push(rule);
        }
    }

    /// The appliance of a header that names its host.
    #[inline]
    fn appliance_of(
        &mut self,
        header: HeaderId,
        origin: &Origin,
        record: &Record<'_>,
    ) -> ApplianceId {
        if self.by_header_generation != self.headers.generation() {
            self.by_header_generation = self.headers.generation();
            self.by_header.clear();
        }
        let at = header.0 as usize;
        match self.by_header.get(at) {
            Some(&known) if known != NOBODY => known,
            _ => {
                let appliance = self.appliance(origin, record);
                // Without a host in it, the header does not decide.
                if record.host.is_some_and(|host| !host.is_empty()) {
                    if self.by_header.len() <= at {
                        self.by_header.resize(at + 1, NOBODY);
                    }
                    self.by_header[at] = appliance;
                }
                appliance
            }
        }
    }

    fn appliance(&mut self, origin: &Origin, record: &Record<'_>) -> ApplianceId {
        let name = match &origin.appliance {
            Some(name) => name.as_bytes(),
            None => match record.host {
                Some(host) if !host.is_empty() => host,
                _ => origin.fallback.as_deref().unwrap_or("unknown").as_bytes(),
            },
        };
        if let Some(id) = self.hosts.get(name) {
            return *id;
        }
        let id = self.table.appliance(&String::from_utf8_lossy(name));
        if self.hosts.len() >= HOSTS_MAX {
            self.hosts.clear();
        }
        self.hosts.insert(name.into(), id);
        id
    }

    /// The two series that every line touches.
    #[inline]
    fn standard(
        &mut self,
        origin: &Origin,
        record: &Record<'_>,
        appliance: ApplianceId,
    ) -> (Slot, Slot) {
        if self.epoch != self.table.epoch() {
            self.epoch = self.table.epoch();
            self.seen.clear();
        }
        let program = record
            .program_id
            .map_or(self.programs.len(), |id| usize::from(id.0));
        let severity = record
            .severity
            .map_or(SEVERITIES.len() - 1, |severity| severity as usize);
        let at = appliance.0 as usize;
        if self.seen.len() <= at {
            self.grow(at);
        }
        if record.test {
            let program = label(&self.programs, record);
            let messages =
                self.table
                    .series(MESSAGES, appliance, true, &[program, SEVERITIES[severity]]);
            let last = self.table.series(LAST_MESSAGE, appliance, true, &[program]);
            return (messages, last);
        }
        let seen = &mut self.seen[at];
        let number = program * SEVERITIES.len() + severity;
        let known = (seen.messages[number], seen.last[program]);
        if known.0 != UNKNOWN && known.1 != UNKNOWN {
            return known;
        }
        self.first(origin, record, appliance, program, number, severity)
    }

    #[cold]
    fn first(
        &mut self,
        origin: &Origin,
        record: &Record<'_>,
        appliance: ApplianceId,
        program: usize,
        number: usize,
        severity: usize,
    ) -> (Slot, Slot) {
        let name = label(&self.programs, record);
        let messages = self
            .table
            .series(MESSAGES, appliance, false, &[name, SEVERITIES[severity]]);
        let last = self.table.series(LAST_MESSAGE, appliance, false, &[name]);
        let seen = &mut self.seen[appliance.0 as usize];
        let first = seen.last[program] == UNKNOWN;
        seen.messages[number] = messages;
        seen.last[program] = last;
        if first {
            if let Some(id) = record.program_id {
                let slot = self.table.series(UNMATCHED, appliance, false, &[name]);
                self.seen[appliance.0 as usize].unmatched[program] = slot;
                self.start_program(appliance, id);
            }
            if let Some(profile) = &origin.profile {
                self.start_profile(appliance, profile);
            }
        }
        (messages, last)
    }

    #[cold]
    fn grow(&mut self, at: usize) {
        let programs = self.programs.len() + 1;
        self.seen.resize_with(at + 1, || Seen {
            messages: vec![UNKNOWN; programs * SEVERITIES.len()].into(),
            last: vec![UNKNOWN; programs].into(),
            unmatched: vec![UNKNOWN; programs].into(),
            events: vec![UNKNOWN; self.rules.rules.len()].into(),
            started: vec![false; self.rules.packs.len()].into(),
            profile_started: false,
        });
    }

    /// Zero before one: a program that belongs to one kind of device starts all that is known of that kind.
    fn start_program(&mut self, appliance: ApplianceId, program: ProgramId) {
        let rules = self.rules.clone();
        let Some(program) = rules.programs.get(usize::from(program.0)) else {
            return;
        };
        let mut profiles: Vec<&Arc<str>> = program
            .packs
            .iter()
            .flat_map(|pack| &rules.packs[*pack].profiles)
            .collect();
        profiles.sort();
        profiles.dedup();
        match profiles.as_slice() {
            [profile] => self.start_profile(appliance, profile),
            _ => program
                .packs
                .iter()
                .for_each(|pack| self.start_pack(appliance, *pack)),
        }
    }

    fn start_profile(&mut self, appliance: ApplianceId, profile: &str) {
        if std::mem::replace(&mut self.seen[appliance.0 as usize].profile_started, true) {
            return;
        }
        let rules = self.rules.clone();
        for (index, pack) in rules.packs.iter().enumerate() {
            if pack.profiles.iter().any(|own| **own == *profile) {
                self.start_pack(appliance, index);
            }
        }
    }

    fn start_pack(&mut self, appliance: ApplianceId, pack: usize) {
        // `other` is many devices, of which nothing is expected.
        if appliance == OTHER
            || std::mem::replace(&mut self.seen[appliance.0 as usize].started[pack], true)
        {
            return;
        }
        let rules = self.rules.clone();
        for (index, metric) in rules.metrics.iter().enumerate() {
            if metric.packs.contains(&pack) {
                self.table
                    .zero(MetricId(RULE_METRICS + index as u32), appliance);
            }
        }
        for rule in rules
            .rules
            .iter()
            .filter(|rule| rule.pack == pack && rule.notable)
        {
            if let crate::rules::Scope::Programs(programs) = &rule.scope {
                // One program stands for all that may log the event, or an alert's sum would not start at 0.
                if let Some(program) = programs.first() {
                    let program = &rules.programs[*program].name;
                    self.table
                        .series(EVENTS, appliance, false, &[program, &rule.event]);
                }
            }
        }
    }

    #[cold]
    fn not_recognised(
        &mut self,
        record: &Record<'_>,
        appliance: ApplianceId,
        times: f64,
        origin: &mut Origin,
    ) {
        let Some(id) = record.program_id else { return };
        let slot = match record.test {
            true => self
                .table
                .series(UNMATCHED, appliance, true, &[self.programs.name(id)]),
            false => self.seen[appliance.0 as usize].unmatched[usize::from(id.0)],
        };
        self.table.add(slot, times);
        let _ = origin.last.counters.try_push((slot, 1.0));
        self.unrecognised_lines += 1;
        // Under load one in 64 stands for all, so that a new wording does not make lines dear.
        let stands_for = if self.unrecognised_lines <= 1_000 {
            1
        } else if self.unrecognised_lines.is_multiple_of(64) {
            64
        } else {
            return;
        };
        let appliance = self.table.appliance_name(appliance);
        self.unrecognised.add(
            appliance,
            self.programs.name(id),
            record.message,
            stands_for,
        );
    }
}

/// The value of the label `program`.
fn label<'p>(programs: &'p Programs, record: &Record<'_>) -> &'p str {
    record.program_id.map_or("other", |id| programs.name(id))
}

/// The metrics that every line feeds.
fn standard_metrics() -> Vec<Spec> {
    let spec = |name: &str, kind: Kind, help: &str, labels: &[&str]| Spec {
        family: Arc::new(Family {
            name: name.into(),
            help: help.into(),
            kind,
            labels: std::iter::once("appliance")
                .chain(labels.iter().copied())
                .map(Arc::from)
                .collect(),
        }),
        domains: vec![Domain::Any(Vec::new()); labels.len()],
        expire_seconds: None,
    };
    vec![
        spec(
            "log_messages_total",
            Kind::Counter,
            "Log messages read, by program (`other` if no rule pack knows it) and syslog severity.",
            &["program", "severity"],
        ),
        spec(
            "log_events_total",
            Kind::Counter,
            "Log messages that a rule recognised, by event.",
            &["program", "event"],
        ),
        spec(
            "log_unmatched_messages_total",
            Kind::Counter,
            "Log messages of a known program that no rule recognised.",
            &["program"],
        ),
        spec(
            "log_last_message_timestamp_seconds",
            Kind::Gauge,
            "When the last message was received, in seconds since 1970.",
            &["program"],
        ),
    ]
}
