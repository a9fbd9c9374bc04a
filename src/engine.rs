//! What one line does: record, rule, updates. The straight way of the data, without files, threads or clocks.
//!
//! A [`Core`] holds a rule set, ready to run, and the series table that it feeds. Each thread that reads lines has an
//! [`Engine`] on it: its own memory of what it met, and what it counted since the table last heard of it. An engine is
//! given lines and the time, and never fails: a line that nothing recognises is counted as such.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use arrayvec::ArrayVec;
use hashbrown::HashMap;

use crate::matcher::{Change, Matcher, Scratch, Updater, Updates};
use crate::metric::{
    ApplianceId, Domain, Family, Kind, Limits, MetricId, OTHER, Slot, Spec, Table, Tally, lock,
};
use crate::record::{self, Clock, HeaderId, Headers, ProgramId, Programs, Record, Severity};
use crate::rules::{HeaderField, Rule, RuleId, RuleSet, Verb, When};
use crate::unrecognised::Unrecognised;

const MESSAGES: MetricId = MetricId(0);
const EVENTS: MetricId = MetricId(1);
const UNMATCHED: MetricId = MetricId(2);
const LAST_MESSAGE: MetricId = MetricId(3);
const LAST_EVENT: MetricId = MetricId(4);
/// The metrics of the rule set follow those that every line has.
const RULE_METRICS: u32 = 5;

const SEVERITIES: [&str; 9] = [
    "emerg", "alert", "crit", "err", "warning", "notice", "info", "debug", "unknown",
];

/// Hosts whose appliance is remembered; more are looked up in the table.
const HOSTS_MAX: usize = 20_000;

/// Notable events whose series are cached; beyond that the cache is cleared.
const EVENT_SLOTS_MAX: usize = 1 << 16;

/// An appliance that was not looked up yet.
const NOBODY: ApplianceId = ApplianceId(u32::MAX);

/// The time at which a notable event is taken to have happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventTime {
    /// When its line was read, by our clock: an event that was written while the exporter was away is still news.
    Arrival,
    /// What its line says, at most the present. For a backlog that is read for the first time, and for replays.
    Record,
}

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
    /// How notable events are dated.
    pub event_time: EventTime,
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
            event_time: EventTime::Arrival,
            last: Last::default(),
        }
    }

    /// Forgets what the last line did: other rules are at work from now on.
    pub fn forget(&mut self) {
        self.last = Last::default();
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
    /// What counted the line itself, whatever it says.
    standing: ArrayVec<Slot, 10>,
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

/// A rule set at work, and what it counts: what the engines of all threads share.
#[derive(Debug)]
pub struct Core {
    rules: Arc<RuleSet>,
    programs: Programs,
    matcher: Matcher,
    updates: Updates,
    table: Mutex<Table>,
    rule_counts: Mutex<RuleCounts>,
}

/// What is known of the rules' work.
#[derive(Debug)]
pub struct RuleCounts {
    /// How often each rule matched, in rule order.
    pub hits: Vec<u64>,
    /// How many amounts a rule would have added to a counter, had they not been negative, by `pack/event` of every rule
    /// that adds amounts.
    pub negative_amounts: BTreeMap<Arc<str>, u64>,
    /// Messages that no rule recognises, by kind.
    pub unrecognised: Unrecognised,
}

/// What one thread needs to read lines.
#[derive(Debug)]
pub struct Engine {
    core: Arc<Core>,
    scratch: Scratch,
    updater: Updater,
    /// Counted, and not in the table yet.
    tally: Tally,
    headers: Headers,
    /// By header that was seen before; good for one generation of the headers.
    senders: Vec<Sender>,
    senders_generation: u32,
    /// Those with lines that the tally has not heard of.
    counted: Vec<HeaderId>,
    hosts: HashMap<Box<[u8]>, ApplianceId>,
    /// By appliance.
    seen: Vec<Seen>,
    event_slots: EventSlots,
    epoch: u32,
    unrecognised_lines: u64,
    matched: ArrayVec<RuleId, 8>,
}

/// What the lines under one header have in common.
#[derive(Clone, Copy, Debug)]
struct Sender {
    /// That of the header's host; [`NOBODY`] if it names none.
    appliance: ApplianceId,
    /// Lines that `messages` and `last` have not heard of.
    lines: u32,
    /// The series that every such line touches, if it has this severity; a message may tell another one than the header.
    messages: Slot,
    last: Slot,
    severity: Option<Severity>,
}

impl Sender {
    const UNKNOWN: Sender = Sender {
        appliance: NOBODY,
        lines: 0,
        messages: Slot::UNKNOWN,
        last: Slot::UNKNOWN,
        severity: None,
    };
}

/// The series of notable events, by appliance, rule and program.
#[derive(Debug, Default)]
struct EventSlots(HashMap<(ApplianceId, RuleId, Option<ProgramId>), Slot>);

/// The new value of a notable event's series.
#[derive(Clone, Copy, Debug)]
enum EventTimestamp {
    /// The time of the flush.
    Now,
    /// This, in seconds since 1970, unless a later event is known.
    At(f64),
    /// Unknown: the event has no time that could be shown.
    Unknown,
}

impl EventTimestamp {
    fn of(event_time: EventTime, record: &Record<'_>, clock: &Clock) -> Self {
        match event_time {
            EventTime::Arrival => Self::Now,
            EventTime::Record => match record.timestamp(clock) {
                Some(time) => Self::At(time.min(clock.now).as_second() as f64),
                None => Self::Unknown,
            },
        }
    }
}

impl EventSlots {
    /// Records when an event last happened.
    fn record(
        &mut self,
        core: &Core,
        rule: RuleId,
        record: &Record<'_>,
        appliance: ApplianceId,
        time: EventTimestamp,
        tally: &mut Tally,
    ) {
        if let EventTimestamp::Unknown = time {
            return;
        }
        let key = (appliance, rule, record.program_id);
        let known = match record.test {
            true => None,
            false => self.0.get(&key).copied(),
        };
        let slot = known.unwrap_or_else(|| {
            let labels = [
                label(&core.programs, record),
                &core.rules.rules[rule.0 as usize].event,
            ];
            let mut table = core.table();
            let slot = table.series(LAST_EVENT, appliance, record.test, &labels);
            // Before the flush a scrape would show an event of 1970.
            match time {
                EventTimestamp::Now => table.stamp(slot),
                EventTimestamp::At(seconds) => table.raise(slot, seconds),
                EventTimestamp::Unknown => {}
            }
            drop(table);
            if !record.test {
                if self.0.len() >= EVENT_SLOTS_MAX {
                    self.0.clear();
                }
                self.0.insert(key, slot);
            }
            slot
        });
        match time {
            EventTimestamp::Now => tally.stamp(slot),
            EventTimestamp::At(seconds) if known.is_some() => core.table().raise(slot, seconds),
            EventTimestamp::At(_) | EventTimestamp::Unknown => {}
        }
    }
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
    /// By pack: its series exist at 0.
    started: Box<[bool]>,
}

impl Core {
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
        let specs = standard_metrics()
            .into_iter()
            .chain(rules.metrics.iter().map(|metric| metric.spec.clone()))
            .collect();
        let adds = |rule: &&Rule| {
            let mut updates = rule.updates.iter();
            updates.any(|update| matches!(update.verb, Verb::Add(_)))
        };
        let adding = rules.rules.iter().filter(adds);
        Ok(Self {
            matcher: Matcher::compile(&rules)?,
            updates: Updates::new(&rules, EVENTS, RULE_METRICS),
            programs,
            table: Mutex::new(Table::new(specs, limits, exclusive)),
            rule_counts: Mutex::new(RuleCounts {
                hits: vec![0; rules.rules.len()],
                negative_amounts: adding.map(|rule| (rule.id.clone(), 0)).collect(),
                unrecognised: Unrecognised::default(),
            }),
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

    /// The numbers, but for what engines have counted and not handed over. Those who read lines wait meanwhile.
    pub fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }

    /// What is known of the rules' work, to the same extent.
    pub fn rule_counts(&self) -> MutexGuard<'_, RuleCounts> {
        lock(&self.rule_counts)
    }

    /// Goes on counting where one with other rules stopped: series that mean the same, and hits of rules with the same
    /// id. Returns how many series no longer mean anything.
    pub fn take_over(&self, former: &Core) -> usize {
        let saved = former.table().save();
        let dropped = self.table().restore(&saved);
        let (mut own, theirs) = (self.rule_counts(), former.rule_counts());
        let counts: HashMap<&str, u64> = former
            .rules
            .rules
            .iter()
            .zip(&theirs.hits)
            .map(|(rule, hits)| (&*rule.id, *hits))
            .collect();
        for (rule, hits) in self.rules.rules.iter().zip(&mut own.hits) {
            *hits = counts.get(&*rule.id).copied().unwrap_or(0);
        }
        for (rule, count) in &mut own.negative_amounts {
            *count = theirs.negative_amounts.get(rule).copied().unwrap_or(0);
        }
        dropped
    }
}

impl Engine {
    /// An engine for one thread. Others may feed the same core.
    pub fn new(core: Arc<Core>) -> Self {
        Self {
            scratch: core.matcher.scratch(),
            updater: Updater::default(),
            tally: Tally::default(),
            headers: Headers::default(),
            senders: Vec::new(),
            senders_generation: 0,
            counted: Vec::new(),
            hosts: HashMap::new(),
            seen: Vec::new(),
            event_slots: EventSlots::default(),
            epoch: 0,
            unrecognised_lines: 0,
            matched: ArrayVec::new(),
            core,
        }
    }

    /// What it shares with others.
    pub fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Sets the time of receipt for what follows, in seconds since 1970. To be told between two hand-overs: what the
    /// engine remembers is good as long as no series goes, so none must go while an engine has something to hand over.
    pub fn set_now(&mut self, seconds: u32) {
        let mut table = self.core.table();
        table.set_now(seconds);
        let epoch = table.epoch();
        drop(table);
        if self.epoch != epoch {
            self.epoch = epoch;
            self.forget_slots();
        }
    }

    /// Forgets what was looked up in the table. To be told between two hand-overs, too.
    pub(crate) fn forget_slots(&mut self) {
        self.seen.clear();
        self.senders.clear();
        self.event_slots.0.clear();
        self.updater.forget();
    }

    /// Hands over what was counted since the last time.
    pub fn hand_over(&mut self) {
        self.tell_senders();
        self.updater.tell(&self.core.updates, &mut self.tally);
        if !self.tally.is_empty() {
            self.core.table().take_in(&mut self.tally);
        }
        let negative_amounts = self.updater.take_negative_amounts();
        let mut hits = self.updater.take_hits().peekable();
        if hits.peek().is_some() || !negative_amounts.is_empty() {
            let mut counts = self.core.rule_counts();
            for (rule, more) in negative_amounts {
                let rule = &self.core.rules.rules[rule.0 as usize].id;
                if let Some(count) = counts.negative_amounts.get_mut(rule) {
                    *count += more;
                }
            }
            for (rule, more) in hits {
                counts.hits[rule.0 as usize] += more;
            }
        }
    }

    /// Tells the tally of the lines that were counted by their headers.
    fn tell_senders(&mut self) {
        for header in self.counted.drain(..) {
            let sender = &mut self.senders[header.0 as usize];
            let lines = std::mem::take(&mut sender.lines);
            self.tally.add(sender.messages, f64::from(lines));
            self.tally.stamp(sender.last);
        }
    }

    /// The numbers, with all that this engine has counted.
    pub fn table(&mut self) -> MutexGuard<'_, Table> {
        self.hand_over();
        self.core.table()
    }

    /// Empties the table and forgets what was seen; the rules stay compiled. No other engine may be at work.
    pub fn forget(&mut self) {
        self.hand_over();
        let mut table = self.core.table();
        table.clear();
        self.epoch = table.epoch();
        drop(table);
        let mut counts = self.core.rule_counts();
        counts.hits.fill(0);
        counts
            .negative_amounts
            .values_mut()
            .for_each(|count| *count = 0);
        counts.unrecognised = Unrecognised::default();
        drop(counts);
        self.hosts.clear();
        self.forget_slots();
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
            program_id: self.core.programs.lookup(program.as_bytes()),
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
        let Core { rules, matcher, .. } = &*self.core;
        matcher.find(&record, &mut self.scratch, |found| {
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
        let core = &*self.core;
        record::frames(line)
            .map(|frame| {
                let record = record::parse(frame, &core.programs);
                let nearest = core.matcher.nearest(&core.rules, &record)?;
                let rule = &core.rules.rules[nearest.rule.0 as usize].id;
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
        let Core {
            rules,
            programs,
            matcher,
            ..
        } = &*self.core;
        let scratch = &mut self.scratch;
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

    /// Reads one line, without its line feed.
    #[inline]
    pub fn line(&mut self, origin: &mut Origin, line: &[u8]) {
        self.line_with(origin, line, |_, _| {}, |_| {});
    }

    /// Reads one line and tells what it does: first every change, then the outcome.
    #[inline]
    pub fn line_with(
        &mut self,
        origin: &mut Origin,
        line: &[u8],
        mut change: impl FnMut(Slot, Change),
        mut outcome: impl FnMut(Outcome<'_, '_>),
    ) {
        for frame in record::frames(line) {
            let mut record = Record::default();
            let header = self.headers.parse(frame, &self.core.programs, &mut record);
            let appliance = self.one(origin, &record, header, &mut change);
            outcome(Outcome {
                record: &record,
                appliance,
                rules: &self.matched,
                recognised: record.repeat_last > 0
                    || self
                        .matched
                        .iter()
                        .any(|id| !self.core.rules.rules[id.0 as usize].go_on),
            });
        }
    }

    #[inline]
    fn one(
        &mut self,
        origin: &mut Origin,
        record: &Record<'_>,
        header: Option<HeaderId>,
        change: &mut impl FnMut(Slot, Change),
    ) -> ApplianceId {
        self.matched.clear();
        let header = header.filter(|_| origin.appliance.is_none());
        let appliance = match header {
            Some(header) => self.appliance_of(header, origin, record),
            None => self.appliance(origin, record),
        };
        if record.repeat_last > 0 {
            self.again(origin, appliance, record.repeat_last, change);
            return appliance;
        }
        let times = f64::from(record.repeat.max(1));
        let messages = self.standing(origin, record, header, appliance);
        let last = &mut origin.last;
        last.appliance = Some(appliance);
        last.epoch = self.epoch;
        last.rule = None;
        last.standing.clear();
        last.standing.push(messages);
        last.counters.clear();

        let Self {
            core,
            scratch,
            updater,
            tally,
            matched,
            event_slots,
            ..
        } = self;
        let Core {
            rules,
            programs,
            matcher,
            updates,
            table,
            ..
        } = &**core;
        let clock = &origin.clock;
        // A rule that lets later ones see the line does not claim to know it.
        let mut recognised = false;
        matcher.find(record, scratch, |found| {
            let rule = &rules.rules[found.rule.0 as usize];
            let _ = matched.try_push(found.rule);
            last.rule = Some(found.rule);
            let events = updater.apply(
                rules,
                updates,
                found,
                record,
                programs,
                appliance,
                || record.timestamp(clock).map(|time| time.as_second()),
                tally,
                table,
                |slot, done| {
                    if let Change::Inc(_) | Change::Add(_) = done {
                        let amount = match done {
                            Change::Add(amount) => amount / times,
                            _ => 1.0,
                        };
                        let _ = last.counters.try_push((slot, amount));
                    }
                    change(slot, done);
                },
            );
            let _ = last.standing.try_push(events);
            if rule.notable {
                let time = EventTimestamp::of(origin.event_time, record, clock);
                event_slots.record(core, found.rule, record, appliance, time, tally);
            }
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
        change: &mut impl FnMut(Slot, Change),
    ) {
        let last = &origin.last;
        if last.appliance != Some(appliance) || last.epoch != self.epoch {
            return;
        }
        let times = f64::from(count);
        for slot in &last.standing {
            self.tally.add(*slot, times);
        }
        for (slot, amount) in &last.counters {
            self.tally.add(*slot, amount * times);
            change(*slot, Change::Inc(amount * times));
        }
        if let Some(rule) = last.rule {
            self.updater.again(rule, count);
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
        if self.senders_generation != self.headers.generation() {
            self.senders_generation = self.headers.generation();
            self.tell_senders();
            self.senders.clear();
        }
        let at = header.0 as usize;
        match self.senders.get(at) {
            Some(known) if known.appliance != NOBODY => known.appliance,
            _ => {
                let appliance = self.appliance(origin, record);
                // Without a host in it, the header does not decide.
                if record.host.is_some_and(|host| !host.is_empty()) {
                    if self.senders.len() <= at {
                        self.senders.resize(at + 1, Sender::UNKNOWN);
                    }
                    self.senders[at].appliance = appliance;
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
        let id = self.core.table().appliance(&String::from_utf8_lossy(name));
        if self.hosts.len() >= HOSTS_MAX {
            self.hosts.clear();
        }
        self.hosts.insert(name.into(), id);
        id
    }

    /// Counts a line as such, and returns the series that does.
    #[inline]
    fn standing(
        &mut self,
        origin: &Origin,
        record: &Record<'_>,
        header: Option<HeaderId>,
        appliance: ApplianceId,
    ) -> Slot {
        let times = record.repeat.max(1);
        let sender = header.filter(|_| !record.test);
        if let Some(header) = sender
            && let Some(sender) = self.senders.get_mut(header.0 as usize)
            && sender.messages != Slot::UNKNOWN
            && sender.severity == record.severity
            && let Some(lines) = sender.lines.checked_add(times)
        {
            if sender.lines == 0 {
                self.counted.push(header);
            }
            sender.lines = lines;
            return sender.messages;
        }
        let (messages, last) = self.standard(origin, record, appliance);
        self.tally.add(messages, f64::from(times));
        self.tally.stamp(last);
        if let Some(header) = sender
            && let Some(sender) = self.senders.get_mut(header.0 as usize)
            && sender.appliance == appliance
            && sender.lines == 0
        {
            sender.messages = messages;
            sender.last = last;
            sender.severity = record.severity;
        }
        messages
    }

    /// The two series that every line touches.
    #[inline]
    fn standard(
        &mut self,
        origin: &Origin,
        record: &Record<'_>,
        appliance: ApplianceId,
    ) -> (Slot, Slot) {
        let program = record
            .program_id
            .map_or(self.core.programs.len(), |id| usize::from(id.0));
        let severity = record
            .severity
            .map_or(SEVERITIES.len() - 1, |severity| severity as usize);
        let at = appliance.0 as usize;
        if self.seen.len() <= at {
            self.grow(at);
        }
        if record.test {
            let program = label(&self.core.programs, record);
            let mut table = self.core.table();
            let messages =
                table.series(MESSAGES, appliance, true, &[program, SEVERITIES[severity]]);
            let last = table.series(LAST_MESSAGE, appliance, true, &[program]);
            table.stamp(last);
            return (messages, last);
        }
        let seen = &mut self.seen[at];
        let number = program * SEVERITIES.len() + severity;
        let known = (seen.messages[number], seen.last[program]);
        if known.0 != Slot::UNKNOWN && known.1 != Slot::UNKNOWN {
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
        let core = self.core.clone();
        let name = label(&core.programs, record);
        let mut table = core.table();
        let messages = table.series(MESSAGES, appliance, false, &[name, SEVERITIES[severity]]);
        let last = table.series(LAST_MESSAGE, appliance, false, &[name]);
        // Until the hand-over a scrape would show that it was last heard of in 1970, which is an alert.
        table.stamp(last);
        let seen = &mut self.seen[appliance.0 as usize];
        let first = seen.last[program] == Slot::UNKNOWN;
        seen.messages[number] = messages;
        seen.last[program] = last;
        if first {
            if let Some(id) = record.program_id {
                let slot = table.series(UNMATCHED, appliance, false, &[name]);
                self.seen[appliance.0 as usize].unmatched[program] = slot;
                self.start_program(&mut table, appliance, id);
            }
            if let Some(profile) = &origin.profile {
                self.start_profile(&mut table, appliance, profile);
            }
        }
        (messages, last)
    }

    #[cold]
    fn grow(&mut self, at: usize) {
        let programs = self.core.programs.len() + 1;
        self.seen.resize_with(at + 1, || Seen {
            messages: vec![Slot::UNKNOWN; programs * SEVERITIES.len()].into(),
            last: vec![Slot::UNKNOWN; programs].into(),
            unmatched: vec![Slot::UNKNOWN; programs].into(),
            started: vec![false; self.core.rules.packs.len()].into(),
        });
    }

    /// Zero before one: a program that belongs to one kind of device starts all that is known of that kind.
    fn start_program(&mut self, table: &mut Table, appliance: ApplianceId, program: ProgramId) {
        let rules = self.core.rules.clone();
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
            [profile] => self.start_profile(table, appliance, profile),
            _ => program
                .packs
                .iter()
                .for_each(|pack| self.start_pack(table, appliance, *pack)),
        }
    }

    fn start_profile(&mut self, table: &mut Table, appliance: ApplianceId, profile: &str) {
        let rules = self.core.rules.clone();
        for (index, pack) in rules.packs.iter().enumerate() {
            if pack.profiles.iter().any(|own| **own == *profile) {
                self.start_pack(table, appliance, index);
            }
        }
    }

    fn start_pack(&mut self, table: &mut Table, appliance: ApplianceId, pack: usize) {
        // `other` is many devices, of which nothing is expected.
        if appliance == OTHER
            || std::mem::replace(&mut self.seen[appliance.0 as usize].started[pack], true)
        {
            return;
        }
        let rules = self.core.rules.clone();
        for (index, metric) in rules.metrics.iter().enumerate() {
            if metric.packs.contains(&pack) {
                table.zero(MetricId(RULE_METRICS + index as u32), appliance);
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
                    table.series(EVENTS, appliance, false, &[program, &rule.event]);
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
        let program = self.core.programs.name(id);
        let slot = match record.test {
            true => self
                .core
                .table()
                .series(UNMATCHED, appliance, true, &[program]),
            false => self.seen[appliance.0 as usize].unmatched[usize::from(id.0)],
        };
        self.tally.add(slot, times);
        let _ = origin.last.standing.try_push(slot);
        self.unrecognised_lines += 1;
        // Under load one in 64 stands for all, so that a new wording does not make lines dear.
        let stands_for = if self.unrecognised_lines <= 1_000 {
            1
        } else if self.unrecognised_lines.is_multiple_of(64) {
            64
        } else {
            return;
        };
        let appliance = self.core.table().appliance_name(appliance).to_owned();
        self.core
            .rule_counts()
            .unrecognised
            .add(&appliance, program, record.message, stands_for);
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
            "When the exporter last read a message, by its own clock, in seconds since 1970. After an outage of the exporter that is later than what the messages themselves say.",
            &["program"],
        ),
        spec(
            "log_event_last_timestamp_seconds",
            Kind::Gauge,
            "When a notable event last became known, by the exporter's clock, in seconds since 1970; there is no series before the first. Of a file that is read for the first time without state, the time in the message.",
            &["program", "event"],
        ),
    ]
}
