//! What one line does: record, rule, updates. The straight way of the data, without files, threads or clocks.
//!
//! An [`Engine`] holds a rule set, ready to run, and the series table that it feeds. Several may share one [`Compiled`]
//! rule set, with a table each. Each thread that reads lines has a [`Worker`] on an engine: caches, and increments that are not in the table yet. Lines are read in a [`Batch`], which flushes
//! those increments when it ends. An engine never fails: a line that nothing recognises is counted as such.

mod attempts;
mod cache_limits;
mod events;
mod repeats;
#[cfg(test)]
mod tests;
mod worker;
mod zeros;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use hashbrown::HashMap;
use parking_lot::{Mutex, MutexGuard};

use crate::matcher::{Limits as MatcherLimits, Matcher};
use crate::metric::{ApplianceId, Limits, Saved, SavedAttempts, Table};
use crate::record::{Clock, Programs, Record};
use crate::rules::{Action, Rule, RuleId, RuleSet};
use crate::unrecognised::Unrecognised;
use crate::update::UpdatePlan;
use crate::update::standard::{LAST_EVENT, LAST_MESSAGE, MESSAGES, standard_metrics};
use attempts::Attempts;
pub use cache_limits::CacheLimits;
pub(crate) use repeats::REPEATS_SAVED_MAX;
pub use repeats::Repeats;
pub use worker::{Batch, Worker};
use zeros::Zeros;

/// The time at which a notable event is taken to have happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventTime {
    /// When its line was read, by our clock: an event that was written while the exporter was away is still news.
    Arrival,
    /// What its line says, at most the present. For a backlog that is read for the first time, and for replays.
    Record,
    /// This, in seconds since 1970: for whoever sets the time of receipt to another than that of our clock.
    At(u32),
}

/// Where lines come from, as far as it matters to what they mean.
#[derive(Clone, Debug)]
pub struct StreamContext {
    /// The configured name of the device, which outranks the header's.
    pub appliance: Option<String>,
    /// The name to use if neither settings nor header give one.
    pub fallback: Option<String>,
    /// The device profile, if it is configured.
    pub profile: Option<String>,
    /// Hosts whose word is taken for whom a line is about that they passed on; `*` means all.
    pub relays: Vec<String>,
    /// For stamps without a year or zone.
    pub clock: Clock,
    /// How notable events are dated.
    pub event_time: EventTime,
    /// A younger file was read before: gauges keep what was set since a line was written.
    pub is_late: bool,
    /// A name in a header is as good as one in a path: whoever reads the lines wrote them.
    pub trusts_headers: bool,
    /// The appliance of [`Self::appliance`], and the table's epoch when it was looked up.
    resolved: Option<(u32, ApplianceId)>,
    /// The appliance of the last line.
    last_appliance: Option<ApplianceId>,
}

impl StreamContext {
    /// Lines whose header names the device.
    pub fn new(clock: Clock) -> Self {
        Self {
            appliance: None,
            fallback: None,
            profile: None,
            relays: Vec::new(),
            clock,
            event_time: EventTime::Arrival,
            is_late: false,
            trusts_headers: false,
            resolved: None,
            last_appliance: None,
        }
    }

    /// The host that a line is about: the one that the collector wrote, or the one that it passed on if that is a relay.
    fn host<'l>(&self, record: &Record<'l>) -> Option<&'l [u8]> {
        let outer = record.host?;
        let trusted = |name: &String| name == "*" || name.as_bytes() == outer;
        let relayed = record
            .relayed_host
            .filter(|_| self.relays.iter().any(trusted));
        Some(relayed.unwrap_or(outer))
    }

    /// Drops what refers to a table: another one is in use from now on.
    pub fn reset(&mut self) {
        self.resolved = None;
        self.last_appliance = None;
    }

    /// The appliance that the last line was about.
    pub fn last_appliance(&self) -> Option<ApplianceId> {
        self.last_appliance
    }
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
    /// One of them recognises the line: it matched without `continue`.
    pub recognised: bool,
}

/// A rule set, ready to run. It never changes.
#[derive(Debug)]
struct Compiled {
    rules: Arc<RuleSet>,
    programs: Programs,
    matcher: Matcher,
    updates: UpdatePlan,
    /// Appliances whose last line is known, over all streams.
    repeats: Arc<AtomicUsize>,
}

/// A rule set at work, and what it counts: what the workers of all threads share.
#[derive(Debug)]
pub struct Engine {
    compiled: Arc<Compiled>,
    table: Mutex<Table>,
    /// Which counters exist at 0; locked after the table.
    zeros: Mutex<Zeros>,
    rule_counts: Mutex<RuleCounts>,
    /// Locked alone.
    attempts: Mutex<Attempts>,
}

/// What is known of the rules' work.
#[derive(Debug)]
pub struct RuleCounts {
    /// How often each rule matched, in rule order.
    pub hits: Vec<u64>,
    /// How many amounts a rule would have added to a counter, had they not been negative, by `pack/event` of every rule
    /// that adds amounts.
    pub negative_amounts: BTreeMap<Arc<str>, u64>,
    /// Repetitions of a line that was not known any more.
    pub repeats_unattributed: u64,
    /// Repetitions beyond [`crate::record::REPEAT_MAX`] for one line.
    pub repeats_implausible: u64,
    /// Messages that no rule recognises, by kind.
    pub unrecognised: Unrecognised,
}

impl RuleCounts {
    /// Nothing has matched yet.
    fn new(rules: &RuleSet) -> Self {
        let adds = |rule: &&Rule| {
            let mut updates = rule.updates.iter();
            updates.any(|update| matches!(update.verb, Action::Add(_)))
        };
        let adding = rules.rules.iter().filter(adds);
        Self {
            hits: vec![0; rules.rules.len()],
            negative_amounts: adding.map(|rule| (rule.id.clone(), 0)).collect(),
            repeats_unattributed: 0,
            repeats_implausible: 0,
            unrecognised: Unrecognised::default(),
        }
    }
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
        )
        .with_formats(rules.formats.iter().cloned());
        let compiled = Compiled {
            matcher: Matcher::compile(&rules, MatcherLimits::default())?,
            updates: UpdatePlan::new(&rules),
            programs,
            rules,
            repeats: Arc::default(),
        };
        Ok(Self::of(Arc::new(compiled), limits, exclusive))
    }

    /// The same rules on an empty table of its own, with limits of its own. Births are numbered together.
    pub fn shard(&self, limits: Limits, exclusive: &[String]) -> Self {
        let shard = Self::of(self.compiled.clone(), limits, exclusive);
        shard.table().share_birth_numbers(&self.table());
        shard
    }

    fn of(compiled: Arc<Compiled>, limits: Limits, exclusive: &[String]) -> Self {
        let rules = &compiled.rules;
        let specs = standard_metrics()
            .into_iter()
            .chain(rules.metrics.iter().map(|metric| metric.spec.clone()))
            .collect();
        Self {
            table: Mutex::new(Table::new(specs, limits, exclusive)),
            zeros: Mutex::default(),
            attempts: Mutex::default(),
            rule_counts: Mutex::new(RuleCounts::new(rules)),
            compiled,
        }
    }

    /// For what the last lines of one more stream count.
    pub fn repeats(&self) -> Repeats {
        Repeats::of(&self.compiled.repeats)
    }

    /// The rules at work.
    pub fn rules(&self) -> &Arc<RuleSet> {
        &self.compiled.rules
    }

    /// The programs that the rules know.
    pub fn programs(&self) -> &Programs {
        &self.compiled.programs
    }

    /// Picks the rules, for those who want to know why.
    pub(crate) fn matcher(&self) -> &Matcher {
        &self.compiled.matcher
    }

    /// Locks the series table. Increments that are not flushed are missing; ingest blocks while it is held.
    pub fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock()
    }

    /// Locks the counts of the rules, to the same extent.
    pub fn rule_counts(&self) -> MutexGuard<'_, RuleCounts> {
        self.rule_counts.lock()
    }

    /// What is to be done from time to time: removes series and appliances that nothing was heard of for long, trusts
    /// those that have earned it, and makes space if the budget is used up. Only while no batch is open.
    pub fn maintain(&self, now: u32) {
        let mut table = self.table();
        table.set_now(now);
        table.expire();
        table.expire_appliances();
        self.trust_earned(&mut table);
        table.evict(MESSAGES);
        table.free_evicted();
    }

    /// The clock was set, by so many seconds, or perhaps by a few (0): what is said of times in the future is not true, and
    /// nothing is older than before. Only while no batch is open.
    pub fn clock_was_set(&self, now: u32, by_seconds: i64) {
        self.attempts.lock().clock_was_set(now, by_seconds);
        let mut table = self.table();
        table.set_now(now);
        table.clock_was_set(by_seconds, &[LAST_MESSAGE, LAST_EVENT]);
    }

    /// Removes all that is known of an appliance; false if nothing is. Only while no batch is open.
    pub fn forget_appliance(&self, name: &str) -> bool {
        self.table().forget_appliance(name)
    }

    /// What a checkpoint keeps: the table, and failed attempts.
    pub fn save(&self) -> Saved {
        let mut saved = self.table().save();
        saved.attempts = self.attempts.lock().save();
        saved
    }

    /// Goes on counting failed attempts of before.
    pub fn restore_attempts(&self, saved: &[SavedAttempts]) {
        self.attempts.lock().restore(saved);
    }

    /// Goes on counting where one with other rules stopped: series that mean the same, failed attempts, and hits of rules
    /// with the same id. Returns how many series no longer mean anything.
    pub fn migrate_from(&self, former: &Engine) -> usize {
        let saved = former.save();
        self.restore_attempts(&saved.attempts);
        let mut table = self.table();
        table.succeed(&former.table());
        let dropped = table.restore(&saved);
        drop(table);
        self.add_rule_counts(former);
        dropped
    }

    /// Goes on with what `former` has counted of its own work, but for its series: what a process sums up over its tables may not
    /// fall because one of them begins anew.
    pub fn add_counts(&self, former: &Engine) {
        self.table().add_counts(&former.table());
        self.add_rule_counts(former);
    }

    fn add_rule_counts(&self, former: &Engine) {
        let (mut own, theirs) = (self.rule_counts(), former.rule_counts());
        let rules = former.rules().rules.iter().map(|rule| &*rule.id);
        let hits: HashMap<&str, u64> = rules.zip(theirs.hits.iter().copied()).collect();
        for (rule, count) in self.rules().rules.iter().zip(&mut own.hits) {
            *count += hits.get(&*rule.id).copied().unwrap_or(0);
        }
        for (rule, count) in &mut own.negative_amounts {
            *count += theirs.negative_amounts.get(rule).copied().unwrap_or(0);
        }
        own.repeats_unattributed += theirs.repeats_unattributed;
        own.repeats_implausible += theirs.repeats_implausible;
    }
}
