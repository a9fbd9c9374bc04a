//! What the server shows: scrapes, the status page, health.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tracing::{debug, error, info};

use super::publish::{Figures, add};
use super::{RELOAD_WAIT, ReloadState, Shared, unix_seconds};
use crate::engine::Engine;
use crate::exposition::{self, Body, Format};
use crate::logfmt;
use crate::metric::{ScrapeView, Snapshot, lock};
use crate::own_metrics::{Process, ScrapeGauges};
use crate::server::{self, App, ApplianceStatus};

/// How long a scrape waits for fresh figures of the reading thread.
const FIGURES_WAIT: Duration = Duration::from_millis(50);
/// Labels that a scrape copies while the reading thread waits: less than a millisecond's work.
const LABELS_AT_ONCE: usize = 10_000;
/// A reading thread that makes no progress for so long hangs.
const HANGS_AFTER: Duration = Duration::from_secs(30);
/// Appliances that may wait to be forgotten.
const FORGET_MAX: usize = 100;
/// Kinds of unrecognised messages that are shown on the status page.
const UNRECOGNISED_SHOWN: usize = 50;

impl Shared {
    /// What the reading thread says of its files, fresh if it answers in time; if not, what was appended since is added
    /// to its lag.
    pub(super) fn figures(&self) -> Figures {
        let figures = lock(&self.figures);
        let number = figures.number;
        self.asked.store(true, Ordering::SeqCst);
        self.wake();
        let waited = self
            .fresh
            .wait_timeout_while(figures, FIGURES_WAIT, |figures| figures.number == number);
        let (figures, waited) = waited.unwrap_or_else(PoisonError::into_inner);
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
        let mut view = lock(&self.view);
        // Those who read may go on between two steps.
        while !engine.table().sync_view(&mut view, LABELS_AT_ONCE) {}
        view
    }

    /// The appliances, the one that was silent for longest first; those that were never heard before all.
    fn appliance_list(&self, engine: &Engine) -> Vec<ApplianceStatus> {
        let (now, view) = (unix_seconds(SystemTime::now()), self.sync_view(engine));
        let mut found: BTreeMap<&str, ApplianceStatus> = BTreeMap::new();
        let expected = self.config().expected_appliances();
        for name in &expected {
            found.entry(name).or_default();
        }
        for (labels, count) in view.series_of("log_messages_total") {
            found.entry(&labels[0]).or_default().messages += count as u64;
        }
        for (labels, count) in view.series_of("log_unmatched_messages_total") {
            found.entry(&labels[0]).or_default().unmatched += count as u64;
        }
        for (name, at) in last_messages(&view) {
            let age = Duration::from_secs_f64((now - at).max(0.0));
            found.entry(name).or_default().last_message = Some(age);
        }
        let named = found.into_iter().map(|(name, appliance)| ApplianceStatus {
            name: name.to_owned(),
            ..appliance
        });
        let mut list: Vec<_> = named.collect();
        list.sort_by_key(|appliance| Reverse(appliance.last_message.unwrap_or(Duration::MAX)));
        list
    }

    fn checkpoint_age(&self) -> Option<Duration> {
        lock(&self.checkpoint).map(|at| at.elapsed())
    }
}

/// When each appliance was last heard, by any of its programs, in seconds since 1970.
fn last_messages(view: &ScrapeView) -> BTreeMap<&str, f64> {
    let mut last: BTreeMap<&str, f64> = BTreeMap::new();
    for (labels, at) in view.series_of("log_last_message_timestamp_seconds") {
        let known = last.entry(&labels[0]).or_insert(at);
        *known = known.max(at);
    }
    last
}

impl App for Shared {
    fn exposition(&self, format: Format, shown: u64, body: &mut Body) -> u64 {
        let ready = self.ready.load(Ordering::SeqCst);
        let (source_lag_bytes, unreadable_files, followed_files) = {
            let figures = self.figures();
            (
                figures.lag.clone(),
                figures.unreadable.clone(),
                figures.followed.clone(),
            )
        };
        let engine = self.engine();
        let (mut snapshot, birth) = match ready {
            true => {
                let view = self.sync_view(&engine);
                (view.snapshot(shown), view.last_birth())
            }
            // Half a backlog is no figure, and who is shown none of it sees each birth later.
            false => (Snapshot::default(), 0),
        };
        let table = engine.table();
        let counts = |count: fn(usize, u64) -> u64| {
            let of = |(metric, series, refused): (&Arc<str>, _, _)| {
                (metric.clone(), count(series, refused))
            };
            table.counts().map(of).collect()
        };
        let (series, series_dropped) = (
            counts(|series, _| series as u64),
            counts(|_, refused| refused),
        );
        let of = |(metric, count): (&Arc<str>, u64)| (metric.clone(), count);
        let series_evicted = table.evictions().map(of).collect();
        let implausible_values = table.implausible().map(of).collect();
        drop(table);
        let rule_counts = engine.rule_counts();
        let gauges = ScrapeGauges {
            ready,
            source_lag_bytes,
            unreadable_files,
            followed_files,
            series,
            series_dropped,
            rule_hits: engine
                .rules()
                .rules
                .iter()
                .zip(&rule_counts.hits)
                .map(|(rule, hits)| (rule.id.clone(), *hits))
                .collect(),
            negative_amounts: rule_counts
                .negative_amounts
                .iter()
                .map(|(rule, count)| (rule.clone(), *count))
                .collect(),
            rules_loaded: engine.rules().rules.len() as u64,
            series_budget: self.config().limits.table.series as u64,
            series_evicted,
            implausible_values,
            repeats_dropped: [
                ("implausible".into(), rule_counts.repeats_implausible),
                ("unattributed".into(), rule_counts.repeats_unattributed),
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
        drop(rule_counts);
        let families = &mut snapshot.families;
        families.splice(0..0, self.own.families());
        families.extend(gauges.families());
        families.extend(Process::read().families());
        body.reserve(&snapshot);
        exposition::write(snapshot, format, |bytes| body.push(bytes));
        birth
    }

    fn status(&self) -> server::Status {
        let figures = self.figures();
        let sum = |of: &[(Arc<str>, u64)]| of.iter().map(|(_, count)| count).sum();
        let engine = self.engine();
        let config = self.config();
        let appliances = self.appliance_list(&engine);
        let (table, rule_counts) = (engine.table(), engine.rule_counts());
        let status = server::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: self.started.elapsed(),
            ready: self.ready.load(Ordering::SeqCst),
            followed_files: sum(&figures.followed),
            unreadable_files: sum(&figures.unreadable),
            files: figures.streams,
            rules: engine
                .rules()
                .rules
                .iter()
                .zip(&rule_counts.hits)
                .map(|(rule, hits)| server::RuleStatus {
                    name: rule.id.to_string(),
                    hits: *hits,
                })
                .collect(),
            unrecognised: rule_counts.unrecognised.most_frequent(UNRECOGNISED_SHOWN),
            series: table
                .counts()
                .filter(|(_, series, refused)| *series > 0 || *refused > 0)
                .map(|(metric, series, dropped)| server::SeriesStatus {
                    metric: metric.to_string(),
                    series,
                    series_max: config.limits.table.series_per_metric,
                    dropped,
                })
                .collect(),
            appliances,
            appliances_max: config.limits.table.appliances,
            reload: {
                let reload = lock(&self.reload);
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
        };
        drop((table, rule_counts));
        status
    }

    fn healthy(&self) -> bool {
        self.heartbeat.age() < HANGS_AFTER
    }

    fn forget(&self, appliance: &str) -> Result<bool, String> {
        let (done, finished) = sync_channel(1);
        let mut wanted = lock(&self.forget);
        if wanted.len() >= FORGET_MAX {
            return Err("too many appliances are to be forgotten at once".into());
        }
        wanted.push((appliance.to_owned(), done));
        drop(wanted);
        self.wake();
        finished.recv_timeout(RELOAD_WAIT).map_err(|_| {
            // What was reported as failed must not be done later. Whoever waits has gone, so its channel says who it is.
            let mut wanted = lock(&self.forget);
            wanted.retain(|(waiting, _)| waiting != appliance);
            "the reading thread does not answer; nothing was changed".to_owned()
        })
    }

    fn ready(&self) -> bool {
        self.ready.load(Ordering::SeqCst)
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
        let mut reload = lock(&self.reload);
        match &outcome {
            Ok(()) => *reload = ReloadState::succeeded(),
            Err(fault) => reload.error = Some(fault.clone()),
        }
        outcome
    }

    fn appliances(&self) -> Vec<server::Appliance> {
        let engine = self.engine();
        let mut table = engine.table();
        let named = table.named_appliances();
        let ids: Vec<_> = named.iter().map(|name| table.appliance(name)).collect();
        drop(table);
        let mut appliances: BTreeMap<String, server::Appliance> = BTreeMap::new();
        for (name, id) in named.iter().zip(ids) {
            let appliance = server::Appliance {
                name: name.to_string(),
                profile: engine.profile(id).map(|profile| profile.to_string()),
                last_message: None,
            };
            appliances.insert(name.to_string(), appliance);
        }
        for (name, at) in last_messages(&self.sync_view(&engine)) {
            if let Some(appliance) = appliances.get_mut(name) {
                appliance.last_message = Some(at);
            }
        }
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
