//! Zero before one: which counters exist before anything was counted.
//!
//! A counter that is born with its first event is hard to alert on, so an appliance's kind decides which exist from its
//! first line on. But a name in a header may be anybody's invention, and one line of a program can start hundreds of
//! series. So only an appliance that is trusted has them at once: one that the settings or a path name. Any other has
//! to earn them by lines over time.

use std::sync::Arc;

use hashbrown::HashMap;

use super::Engine;
use crate::metric::{ApplianceId, MetricId, OTHER, Table};
use crate::record::ProgramId;
use crate::rules::Scope;
use crate::update::standard::{EVENTS, MESSAGES, RULE_METRICS, UNMATCHED};

/// How long an appliance that only headers name must have been known to be trusted.
const EARNED_AFTER_SECONDS: u32 = 600;
/// How many lines there must have been of it.
const EARNED_BY_LINES: f64 = 10.0;

/// What was started, by appliance.
#[derive(Debug, Default)]
pub(super) struct Zeros {
    appliances: HashMap<ApplianceId, Started>,
}

#[derive(Debug, Default)]
struct Started {
    /// Packs whose counters exist.
    packs: Vec<usize>,
    /// What waits until the appliance is trusted.
    waiting_packs: Vec<usize>,
    waiting_programs: Vec<ProgramId>,
}

impl Engine {
    /// A program of an appliance has logged for the first time: its counters start at 0, now or once the appliance is
    /// trusted. A program that belongs to one kind of appliance starts all that is known of that kind.
    pub(super) fn start_zeros(
        &self,
        table: &mut Table,
        appliance: ApplianceId,
        program: Option<ProgramId>,
        profile: Option<&str>,
    ) {
        // `other` is many appliances, of which nothing is expected.
        if appliance == OTHER {
            return;
        }
        let mut wanted = Vec::new();
        if let Some(program) =
            program.and_then(|id| self.compiled.rules.programs.get(usize::from(id.0)))
        {
            let profiles = program.packs.iter();
            let mut profiles: Vec<&Arc<str>> = profiles
                .flat_map(|pack| &self.compiled.rules.packs[*pack].profiles)
                .collect();
            profiles.sort();
            profiles.dedup();
            match profiles.as_slice() {
                [profile] => wanted.extend(self.packs_of(profile)),
                _ => wanted.extend(&program.packs),
            }
        }
        wanted.extend(
            profile
                .into_iter()
                .flat_map(|profile| self.packs_of(profile)),
        );
        let mut zeros = self.zeros.lock();
        let started = zeros.appliances.entry(appliance).or_default();
        wanted.retain(|pack| !started.packs.contains(pack));
        for pack in wanted {
            if !started.waiting_packs.contains(&pack) {
                started.waiting_packs.push(pack);
            }
        }
        if let Some(program) = program
            && !started.waiting_programs.contains(&program)
        {
            started.waiting_programs.push(program);
        }
        if table.is_trusted(appliance) {
            self.start_waiting(table, appliance, started);
        }
    }

    /// The kind of an appliance, if what it has logged belongs to one kind only.
    pub(crate) fn profile(&self, appliance: ApplianceId) -> Option<Arc<str>> {
        let zeros = self.zeros.lock();
        let started = zeros.appliances.get(&appliance)?;
        let packs = started
            .packs
            .iter()
            .map(|pack| &self.compiled.rules.packs[*pack].profiles);
        let mut packs = packs.filter(|profiles| !profiles.is_empty());
        let mut common = packs.next()?.clone();
        packs.for_each(|profiles| common.retain(|profile| profiles.contains(profile)));
        match common.as_slice() {
            [profile] => Some(profile.clone()),
            _ => None,
        }
    }

    /// The packs that belong to a kind of appliance.
    fn packs_of(&self, profile: &str) -> impl Iterator<Item = usize> {
        let packs = self.compiled.rules.packs.iter().enumerate();
        packs
            .filter(move |(_, pack)| pack.profiles.iter().any(|own| **own == *profile))
            .map(|(at, _)| at)
    }

    /// Trusts the appliances that have earned it, and starts what waited for that. While the
    /// budget is nearly used up, they wait on.
    pub(super) fn trust_earned(&self, table: &mut Table) {
        let mut zeros = self.zeros.lock();
        zeros.appliances.retain(|id, _| table.is_known(*id));
        for (appliance, started) in &mut zeros.appliances {
            if table.known_for_seconds(*appliance) >= EARNED_AFTER_SECONDS
                && !table.is_trusted(*appliance)
                && table.sum(MESSAGES, *appliance) >= EARNED_BY_LINES
                && table.has_space_for_zeros()
            {
                table.trust(*appliance);
            }
            if table.is_trusted(*appliance) {
                self.start_waiting(table, *appliance, started);
            }
        }
    }

    fn start_waiting(&self, table: &mut Table, appliance: ApplianceId, started: &mut Started) {
        if table.are_counters_lazy() {
            started.waiting_programs.clear();
            started.packs.append(&mut started.waiting_packs);
            return;
        }
        for program in started.waiting_programs.drain(..) {
            let name = self.compiled.programs.name(program);
            table.series(UNMATCHED, appliance, false, &[name]);
        }
        for pack in started.waiting_packs.drain(..) {
            started.packs.push(pack);
            for (index, metric) in self.compiled.rules.metrics.iter().enumerate() {
                if metric.packs.contains(&pack) {
                    table.zero(MetricId(RULE_METRICS + index as u32), appliance);
                }
            }
            let rules = self.compiled.rules.rules.iter();
            for rule in rules.filter(|rule| rule.pack == pack && rule.notable) {
                if let Scope::Programs(programs) = &rule.scope
                    // One program is enough, or an alert's sum would not start at 0.
                    && let Some(program) = programs.first()
                {
                    let program = &self.compiled.rules.programs[*program].name;
                    table.series(EVENTS, appliance, false, &[program, &rule.event]);
                }
            }
        }
    }
}
