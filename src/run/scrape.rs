//! What the server shows: scrapes, the status page, health.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::MutexGuard;
use tracing::{debug, error, info};

use super::publish::{Figures, add};
use super::totals::Totals;
use super::{RELOAD_WAIT, ReloadState, Shared, unix_seconds};
use crate::boot_time::BootTime;
use crate::engine::Engine;
use crate::exposition::{self, Body, Format};
use crate::logfmt;
use crate::metric::{ScrapeView, Snapshot, Table};
use crate::own_metrics::{Process, ScrapeGauges, ShardGauges};
use crate::server::{self, App, ApplianceStatus, Scope};
use crate::shard::{self, Part, Phase, Published, is_shown, last_heard};
use crate::unrecognised::Folded;

/// How long a scrape waits for fresh figures of the reading thread.
const FIGURES_WAIT: Duration = Duration::from_millis(50);
/// Labels that a scrape copies while the reading thread waits: less than a millisecond's work.
const LABELS_AT_ONCE: usize = 10_000;
/// A reading thread that makes no progress for so long hangs.
const HANGS_AFTER: Duration = Duration::from_secs(30);
/// Appliances that may wait to be forgotten.
const FORGET_MAX: usize = 100;
/// Threads that may have an answer for whoever wants an appliance forgotten.
const FORGET_ANSWERS: usize = 64;
/// Kinds of unrecognised messages that are shown on the status page.
const UNRECOGNISED_SHOWN: usize = 50;

impl Shared {
    /// What the reading thread says of its files, fresh if it answers in time; if not, what was appended since is added
    /// to its lag.
    pub(super) fn figures(&self) -> Figures {
        let mut figures = self.figures.lock();
        let number = figures.number;
        self.asked.store(true, Ordering::SeqCst);
        self.wake();
        let is_old = |figures: &mut Figures| figures.number == number;
        let waited = self
            .fresh
            .wait_while_for(&mut figures, is_old, FIGURES_WAIT);
        let mut figures = figures.clone();
        if waited.timed_out() {
            for (path, source, size) in &figures.sizes {
                let now = std::fs::metadata(path).map_or(*size, |metadata| metadata.len());
                add(&mut figures.lag, source, now.saturating_sub(*size));
            }
        }
        figures
    }

    /// What scrapes see, brought up to date.
    fn sync_view(&self, engine: &Engine) -> MutexGuard<'_, ScrapeView> {
        let mut view = self.view.lock();
        // Those who read may go on between two steps.
        while !engine.table().sync_view(&mut view, LABELS_AT_ONCE) {}
        view
    }

    /// The rules' own table, and that of every shard.
    fn engines(&self) -> Vec<Arc<Engine>> {
        let shards = self.shards.all();
        let shards = shards.iter().map(|shard| shard.engine());
        std::iter::once(self.engine()).chain(shards).collect()
    }

    /// Shows the view of every table, one after the other.
    fn each_view(&self, mut each: impl FnMut(&ScrapeView)) {
        each(&self.sync_view(&self.engine()));
        for shard in self.shards.all() {
            each(&shard.synced());
        }
    }

    /// What all tables show to somebody who has been shown the births up to `shown`, and up to which birth that is shown
    /// then. Half a backlog is no figure, and who is shown none of it sees each birth later.
    fn snapshot(&self, scope: &Scope, shown: u64) -> (Snapshot, u64) {
        let shards = self.shards.all();
        if let Scope::Shard(name) = scope {
            let mut named = shards.iter().filter(|shard| shard.name() == **name);
            let (part, birth) = named
                .next()
                .map_or((None, 0), |shard| shard.part(shown, BootTime::now));
            return (part.unwrap_or_default().snapshot, birth);
        }
        let mut parts = Vec::new();
        let mut birth = 0;
        if self.ready.load(Ordering::SeqCst) {
            let view = self.sync_view(&self.engine());
            birth = view.last_birth();
            parts.push(Part {
                snapshot: view.snapshot(shown),
                last_heard: last_heard(&view),
            });
        }
        let merged = shards.iter().filter(|_| *scope == Scope::All);
        for shard in merged {
            let (part, shard_birth) = shard.part(shown, BootTime::now);
            birth = birth.min(shard_birth);
            parts.extend(part);
        }
        (shard::merge(parts), birth)
    }

    fn shard_gauges(&self) -> Vec<ShardGauges> {
        let (now, boot_time) = (Instant::now(), BootTime::now());
        let each = |shard: &Arc<Published>| {
            let appliances = match is_shown(shard.figures().shown, boot_time) {
                true => shard.engine().table().appliances(),
                false => Vec::new(),
            };
            let figures = shard.figures();
            let age = |at: Instant| now.saturating_duration_since(at).as_secs_f64();
            let is_read = figures.phase.is_read();
            ShardGauges {
                source: shard.source.clone(),
                partition: shard.partition,
                states: Phase::ALL
                    .map(|phase| (phase.as_str(), phase == figures.phase(boot_time)))
                    .to_vec(),
                next_offset: is_read.then_some(figures.next_offset),
                lag: is_read.then(|| (figures.lag_records(), figures.lag_seconds(now))),
                contact_age_seconds: figures.contact.map(age),
                checkpoint_age_seconds: figures.checkpoint.map(age),
                lease_seconds: figures.lease(boot_time).map(|left| left.as_secs_f64()),
                state_bytes: figures.state_bytes,
                restore_seconds: figures.restore.map(|took| took.as_secs_f64()),
                appliances,
            }
        };
        self.shards.all().iter().map(each).collect()
    }

    /// What the status page shows of shards.
    pub(super) fn shard_list(&self) -> Vec<server::ShardStatus> {
        let (shards, now) = (self.shards.all(), BootTime::now());
        let each = |shard: &Arc<Published>| {
            let appliances = shard.engine().table().appliances().len();
            let figures = shard.figures();
            server::ShardStatus {
                source: shard.source.to_string(),
                partition: shard.partition,
                state: figures.phase(now).as_str(),
                is_active: figures.phase(now) == Phase::Active,
                appliances,
                next_offset: figures.next_offset,
                lag_records: figures.lag_records(),
                contact: figures.contact.map(|at| at.elapsed()),
                checkpoint: figures.checkpoint.map(|at| at.elapsed()),
            }
        };
        shards.iter().map(each).collect()
    }

    /// The appliances, the one that was silent for longest first; those that were never heard before all.
    fn appliance_list(&self) -> Vec<ApplianceStatus> {
        let now = unix_seconds(SystemTime::now());
        let mut found: BTreeMap<Arc<str>, ApplianceStatus> = BTreeMap::new();
        for name in self.config().expected_appliances() {
            found.entry(name).or_default();
        }
        self.each_view(|view| {
            for (labels, count) in view.series_of("log_messages_total") {
                found.entry(labels[0].clone()).or_default().messages += count as u64;
            }
            for (labels, count) in view.series_of("log_unmatched_messages_total") {
                found.entry(labels[0].clone()).or_default().unmatched += count as u64;
            }
            for (labels, at) in view.series_of("log_event_last_timestamp_seconds") {
                if let [appliance, program, event] = labels {
                    let age = Duration::from_secs_f64((now - at).max(0.0));
                    let last = &mut found.entry(appliance.clone()).or_default().last_event;
                    if at > 0.0 && last.as_ref().is_none_or(|(_, known)| age < *known) {
                        *last = Some((format!("{program}/{event}"), age));
                    }
                }
            }
            for (name, at) in last_heard(view) {
                let age = Duration::from_secs_f64((now - at).max(0.0));
                let last = &mut found.entry(name).or_default().last_message;
                *last = Some(last.map_or(age, |known| known.min(age)));
            }
        });
        let mut profiles = self.profiles(Table::appliances);
        let named = found.into_iter().map(|(name, appliance)| ApplianceStatus {
            profile: profiles.remove(&name).flatten(),
            name: name.to_string(),
            ..appliance
        });
        let mut list: Vec<_> = named.collect();
        list.sort_by_key(|appliance| Reverse(appliance.last_message.unwrap_or(Duration::MAX)));
        list
    }

    /// The profiles of the appliances that `which` takes of each table.
    fn profiles(&self, which: fn(&Table) -> Vec<Arc<str>>) -> BTreeMap<Arc<str>, Option<String>> {
        let mut profiles = BTreeMap::new();
        for engine in self.engines() {
            let mut table = engine.table();
            let names = which(&table);
            let ids: Vec<_> = names.iter().map(|name| table.appliance(name)).collect();
            drop(table);
            for (name, id) in names.into_iter().zip(ids) {
                let known: &mut Option<String> = profiles.entry(name).or_default();
                let profile = engine.profile(id);
                *known = known.take().or(profile.map(|name| name.to_string()));
            }
        }
        profiles
    }

    /// The most frequent kinds of messages that no rule knows.
    fn unrecognised(&self) -> Vec<Folded> {
        let engines = self.engines();
        let kinds = engines.iter().flat_map(|engine| {
            let counts = engine.rule_counts();
            counts.unrecognised.most_frequent(UNRECOGNISED_SHOWN)
        });
        let mut kinds: Vec<_> = kinds.collect();
        kinds.sort_by_key(|kind| Reverse(kind.count));
        kinds.truncate(UNRECOGNISED_SHOWN);
        kinds
    }

    fn checkpoint_age(&self) -> Option<Duration> {
        self.checkpoint.lock().map(|at| at.elapsed())
    }
}

impl App for Shared {
    fn exposition(&self, scope: &Scope, format: Format, shown: u64, body: &mut Body) -> u64 {
        if let Scope::Shard(_) = scope {
            let (snapshot, birth) = self.snapshot(scope, shown);
            body.reserve(&snapshot);
            exposition::write(snapshot, format, |bytes| body.push(bytes));
            return birth;
        }
        let (source_lag_bytes, unreadable_files, followed_files) = {
            let figures = self.figures();
            (
                figures.lag.clone(),
                figures.unreadable.clone(),
                figures.followed.clone(),
            )
        };
        let engine = self.engine();
        // Before the series: a line that the exporter says it has read is in them.
        let own = self.own.families();
        let (mut snapshot, birth) = self.snapshot(scope, shown);
        let totals = Totals::of(&self.engines());
        let gauges = ScrapeGauges {
            ready: self.ready(),
            source_lag_bytes,
            unreadable_files,
            followed_files,
            series: totals
                .series()
                .map(|(name, held, _)| (name, held))
                .collect(),
            series_dropped: totals
                .series()
                .map(|(name, _, refused)| (name, refused))
                .collect(),
            rule_hits: totals.rule_hits(engine.rules()).collect(),
            negative_amounts: totals.negative_amounts,
            rules_loaded: engine.rules().rules.len() as u64,
            series_budget: self.config().limits.table.series as u64,
            series_evicted: totals.evicted,
            implausible_values: totals.implausible,
            repeats_dropped: [
                ("implausible".into(), totals.repeats_implausible),
                ("unattributed".into(), totals.repeats_unattributed),
            ]
            .into(),
            expected_appliances: self.config().expected_appliances(),
            checkpoint_age_seconds: self.config().state.directory.as_ref().map(|_| {
                // As long as none was written, the start has to do: a disk that is full from the beginning shows.
                let age = self.checkpoint_age();
                age.unwrap_or_else(|| self.started.elapsed()).as_secs_f64()
            }),
            stderr_lines_dropped: logfmt::lost_lines(),
            certificate_expiry: self.web.as_ref().and_then(|web| web.certificate_expiry()),
        };
        let families = &mut snapshot.families;
        families.splice(0..0, own);
        families.extend(gauges.families());
        let (shards, partitions) = (self.shard_gauges(), self.shards.partitions());
        families.extend(ShardGauges::families(&shards, &partitions));
        families.extend(Process::read().families());
        body.reserve(&snapshot);
        exposition::write(snapshot, format, |bytes| body.push(bytes));
        birth
    }

    fn shards(&self) -> Vec<String> {
        let shards = self.shards.all();
        shards.iter().map(|shard| shard.name()).collect()
    }

    fn status(&self) -> server::Status {
        let figures = self.figures();
        let sum = |of: &[(Arc<str>, u64)]| of.iter().map(|(_, count)| count).sum();
        let engine = self.engine();
        let config = self.config();
        let totals = Totals::of(&self.engines());
        server::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: self.started.elapsed(),
            ready: self.ready(),
            followed_files: sum(&figures.followed),
            unreadable_files: sum(&figures.unreadable),
            files: figures.files,
            listeners: figures.listeners,
            shards: self.shard_list(),
            rules: totals
                .rule_hits(engine.rules())
                .map(|(name, hits)| server::RuleStatus {
                    name: name.to_string(),
                    hits,
                })
                .collect(),
            unrecognised: self.unrecognised(),
            series: totals
                .series()
                .filter(|(_, series, refused)| *series > 0 || *refused > 0)
                .map(|(metric, series, dropped)| server::SeriesStatus {
                    metric: metric.to_string(),
                    series: series as usize,
                    series_max: config.limits.table.series_per_metric,
                    dropped,
                })
                .collect(),
            appliances: self.appliance_list(),
            appliances_max: config.limits.table.appliances,
            reload: {
                let reload = self.reload.lock();
                server::Reload {
                    age: reload.at.elapsed(),
                    error: reload.error.clone(),
                }
            },
            checkpoint: config
                .state
                .directory
                .as_ref()
                .map(|directory| server::Checkpoint {
                    directory: directory.display().to_string(),
                    age: self.checkpoint_age(),
                }),
        }
    }

    fn healthy(&self) -> bool {
        self.heartbeat.age().max(self.topics.heartbeat_age()) < HANGS_AFTER
    }

    fn forget(&self, appliance: &str) -> Result<bool, String> {
        let (done, finished) = sync_channel(FORGET_ANSWERS);
        let mut wanted = self.forget.lock();
        if wanted.len() >= FORGET_MAX {
            return Err("too many appliances are to be forgotten at once".into());
        }
        wanted.push((appliance.to_owned(), done.clone()));
        drop(wanted);
        self.wake();
        let topics = self.topics.forget(appliance, &done);
        let mut is_known = false;
        for _ in 0..topics + 1 {
            let answer = finished.recv_timeout(RELOAD_WAIT);
            is_known |= answer.map_err(|_| {
                // What was reported as failed must not be done later. Whoever waits has gone, so its channel says who it is.
                let mut wanted = self.forget.lock();
                wanted.retain(|(waiting, _)| waiting != appliance);
                "the reading thread does not answer".to_owned()
            })?;
        }
        Ok(is_known)
    }

    fn ready(&self) -> bool {
        self.ready.load(Ordering::SeqCst) && self.shards.are_ready()
    }

    fn reload(&self) -> Result<(), String> {
        let outcome = self.try_reload();
        let own = &self.own;
        own.config_last_reload_successful
            .set(i64::from(outcome.is_ok()));
        match &outcome {
            Ok(()) => {
                own.config_last_reload_success_timestamp_seconds
                    .set(unix_seconds(SystemTime::now()));
                info!("settings and rules reloaded");
            }
            Err(fault) => {
                error!(err = %fault, "the reload failed; the former settings and rules stay")
            }
        }
        let mut reload = self.reload.lock();
        match &outcome {
            Ok(()) => *reload = ReloadState::succeeded(),
            Err(fault) => reload.error = Some(fault.clone()),
        }
        outcome
    }

    fn appliances(&self) -> Vec<server::Appliance> {
        let profiles = self.profiles(Table::named_appliances).into_iter();
        let mut appliances: BTreeMap<Arc<str>, server::Appliance> = profiles
            .map(|(name, profile)| {
                let appliance = server::Appliance {
                    name: name.to_string(),
                    profile,
                    last_message: None,
                };
                (name, appliance)
            })
            .collect();
        self.each_view(|view| {
            for (name, at) in last_heard(view) {
                if let Some(appliance) = appliances.get_mut(&name) {
                    let last = appliance.last_message.get_or_insert(at);
                    *last = last.max(at);
                }
            }
        });
        appliances.into_values().collect()
    }

    fn debug(&self) -> String {
        self.debug_page()
    }

    fn configuration(&self) -> String {
        self.config().written().to_owned()
    }

    fn scrapes_in_flight(&self, change: i64) {
        self.own.scrapes_in_flight.inc_by(change);
    }

    fn scraped(&self, code: u16, took: Duration) {
        debug!(code, milliseconds = took.as_millis(), "scraped");
        self.own.scrapes.get([&code.to_string()]).inc();
        self.own.scrape_seconds.inc_by(took.as_secs_f64());
    }
}
