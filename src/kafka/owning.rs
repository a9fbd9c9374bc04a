//! What a thread that reads does with the shards whose state is in a topic: it drives the state machine of `shard/machine` with
//! what the shard's own thread reports.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::client::Client;
use super::ownership::Ownership;
use super::reading::Reading;
use super::state_topic::{Answer, Found, Job};
use super::{Settings, Topic};
use crate::boot_time::BootTime;
use crate::engine::Engine;
use crate::metric::Saved;
use crate::shard::{Head, Phase, Task};

/// How long the last checkpoints of a process that ends may take.
const RELEASE_MAX: Duration = Duration::from_secs(10);
/// How long the brokers may take to take the offsets that others see.
const OFFSETS_MAX: Duration = Duration::from_secs(2);

impl Reading {
    /// Does what the ownership of the shard asks for. Returns whether its partition is to be read now and was not, or the
    /// other way round.
    pub(super) fn own(
        &mut self,
        (topic, client): (&Topic, &Client),
        settings: &Settings,
        engine: &dyn Fn() -> Arc<Engine>,
    ) -> bool {
        let was_read = self.is_read();
        let Some(mut ownership) = self.ownership.take() else {
            return false;
        };
        let was_owner = ownership.machine.is_owner();
        if let Some(answer) = ownership.thread.answer() {
            if let Answer::Committed { next_offset, .. } = answer {
                client.commit(std::iter::once((self.partition(), next_offset)));
            }
            self.heard(&mut ownership, answer, topic, settings, engine);
        }
        let (now, instant) = (BootTime::now(), Instant::now());
        let last_call = now - ownership.thread.progress_age();
        ownership.machine.progressed(last_call);
        if ownership.machine.is_overdue(now) && ownership.thread.give_up() {
            ownership.machine.give_up(now);
            ownership.events.given_up.inc();
            warn!(
                source = &*topic.name,
                partition = self.partition(),
                "the brokers have not answered for a lease: beginning anew as the owner of a shard"
            );
            if was_owner {
                self.lose(topic, settings, engine());
            }
        }
        // What has no place yet cannot be gone on from.
        let has_place = !ownership.machine.is_owner() || !self.is_new;
        let has_shown = {
            let figures = self.published.figures();
            figures.births_on_disk > figures.births_shown
                && (topic.shown)().is_some_and(|shown| shown > figures.births_shown)
        };
        let is_due = (self.dirty || has_shown) && instant >= ownership.checkpoint_at;
        let task = has_place.then(|| ownership.machine.next(now, is_due));
        if let Some(task) = task.flatten() {
            let job = match task {
                Task::Fence => Job::Fence,
                Task::Restore => Job::Restore(engine()),
                Task::Look => Job::Look,
                Task::Commit => {
                    ownership.checkpoint_at = instant + settings.interval;
                    self.dirty = false;
                    // Before the series are taken: a birth that gets another number meanwhile has a later one.
                    let shown = (topic.shown)().unwrap_or(0);
                    ownership.shown = ownership.shown.max(shown);
                    let (mut head, saved) = self.shard.save();
                    (head.claim, head.shown) = (ownership.machine.claim(), ownership.shown);
                    Job::Commit(Box::new((head, saved)))
                }
            };
            ownership.thread.ask(job);
        }
        self.publish(&ownership, now);
        if ownership.machine.must_catch_up_again(now) {
            (self.needs_place, self.has_caught_up) = (true, false);
        }
        self.ownership = Some(ownership);
        self.is_read() != was_read
    }

    fn heard(
        &mut self,
        ownership: &mut Ownership,
        answer: Answer,
        topic: &Topic,
        settings: &Settings,
        engine: &dyn Fn() -> Arc<Engine>,
    ) {
        let partition = self.partition();
        let (machine, events) = (&mut ownership.machine, &ownership.events);
        let now = BootTime::now();
        match answer {
            Answer::Fenced => machine.fenced(now),
            Answer::Restored(found) => {
                let claim = found.head.as_ref().and_then(|head| head.claim.clone());
                machine.restored(now, claim.as_ref());
                events.restored.inc();
                events.missing.inc_by(found.missing);
                ownership.shown = 0;
                ownership.has_checkpoint = found.head.is_some();
                self.take_over(*found, topic, settings, engine);
            }
            Answer::Committed { births, bytes, .. } => {
                machine.committed();
                ownership.has_checkpoint = true;
                let mut figures = self.published.figures();
                figures.births_on_disk = births;
                figures.births_shown = ownership.shown;
                figures.state_bytes = Some(bytes);
                figures.checkpoint = Some(Instant::now());
            }
            Answer::Looked(claim) => {
                if machine.looked(now, claim) {
                    events.contended.inc();
                }
            }
            Answer::Failed => {
                machine.failed(now);
                self.dirty = true;
            }
            Answer::Refused => {
                machine.refused();
                events.fenced.inc();
                warn!(
                    source = &*topic.name,
                    partition,
                    "another owner has fenced off this one, or a transaction took too long"
                );
                self.lose(topic, settings, engine());
            }
        }
    }

    /// Drops what was counted: another one may own the shard, or it has to be read anew.
    fn lose(&mut self, topic: &Topic, settings: &Settings, engine: Arc<Engine>) {
        // Before anything else: whoever owns it now may show it soon.
        self.published.figures().shown = None;
        self.replace(topic, settings, engine, None);
    }

    /// Goes on from what was found.
    fn take_over(
        &mut self,
        found: Found,
        topic: &Topic,
        settings: &Settings,
        engine: &dyn Fn() -> Arc<Engine>,
    ) {
        let Found {
            head,
            engine: filled,
            restored,
            missing,
            took,
        } = found;
        let partition = self.partition();
        let next_offset = head.as_ref().map(|head| head.next_offset);
        info!(
            source = &*topic.name,
            partition,
            next_offset,
            series = restored.series,
            dropped = restored.dropped,
            milliseconds = took.as_millis(),
            "a shard is ours"
        );
        if missing > 0 {
            error!(
                source = &*topic.name,
                partition,
                missing,
                "records of the state topic are missing: their appliances begin at 0"
            );
        }
        let are_same_rules = Arc::ptr_eq(filled.rules(), settings.engine.rules());
        let head = head.map(|head| (head, &restored));
        self.replace(topic, settings, filled, head);
        if !are_same_rules {
            // They were exchanged meanwhile.
            let engine = engine();
            self.shard
                .replace_engine(engine.clone(), settings.source.clone());
            self.published.replace_engine(engine);
        }
        self.published.figures().restore = Some(took);
    }

    /// Says what scrapes are to show.
    fn publish(&self, ownership: &Ownership, now: BootTime) {
        let machine = &ownership.machine;
        let phase = machine.phase(now);
        let mut figures = self.published.figures();
        let former = std::mem::replace(&mut figures.phase, phase);
        figures.shown = machine.shown();
        drop(figures);
        if former == phase {
            return;
        }
        let (source, partition) = (&*self.published.source, self.partition());
        match (former, phase) {
            (Phase::Active, Phase::Hidden) => {
                ownership.events.lease_over.inc();
                warn!(
                    source,
                    partition, "the lease of a shard is over: it is hidden until a commit"
                );
            }
            (_, Phase::Active) => info!(source, partition, "a shard is shown"),
            (_, Phase::Contended) => {
                warn!(source, partition, "a shard was lost; looking who has it");
            }
            _ => {}
        }
    }

    /// What a last checkpoint is, that gives the shard up.
    fn last_words(&mut self) -> Option<(Head, Saved)> {
        let ownership = self.ownership.as_mut()?;
        let claim = ownership.machine.release(BootTime::now())?;
        let (mut head, saved) = self.shard.save();
        (head.claim, head.shown) = (Some(claim), ownership.shown);
        Some((head, saved))
    }
}

/// Gives all shards up: hides them, and says so in a last checkpoint of each, that nobody has to wait for a lease.
pub(super) fn release(topic: &Topic, client: &Client, shards: &mut [Reading]) {
    let until = Instant::now() + RELEASE_MAX;
    let mut committed = Vec::new();
    let mut asked = Vec::new();
    for (at, one) in shards.iter_mut().enumerate() {
        let mut figures = one.published.figures();
        (figures.shown, figures.phase) = (None, Phase::Released);
        drop(figures);
        topic.heartbeat.beat();
        let Some(ownership) = &mut one.ownership else {
            continue;
        };
        // Another job has to be over first.
        if ownership.machine.is_busy() {
            let left = until.saturating_duration_since(Instant::now());
            match ownership.thread.answer_within(left) {
                Some(Answer::Committed { .. }) => ownership.machine.committed(),
                Some(Answer::Failed) => ownership.machine.failed(BootTime::now()),
                _ => continue,
            }
        }
        if let Some(checkpoint) = one.last_words()
            && let Some(ownership) = &one.ownership
        {
            ownership.thread.ask(Job::Commit(Box::new(checkpoint)));
            asked.push(at);
        }
    }
    let asked = asked.into_iter().filter_map(|at| shards.get(at));
    for one in asked {
        let Some(ownership) = &one.ownership else {
            continue;
        };
        topic.heartbeat.beat();
        let left = until.saturating_duration_since(Instant::now());
        match ownership.thread.answer_within(left) {
            Some(Answer::Committed { next_offset, .. }) => {
                ownership.events.released.inc();
                committed.push((one.partition(), next_offset));
            }
            _ => warn!(
                source = &*topic.name,
                partition = one.partition(),
                "the last checkpoint of a shard was not committed"
            ),
        }
    }
    let ownerships = shards.iter().filter_map(|one| one.ownership.as_ref());
    ownerships.for_each(|ownership| ownership.thread.stop());
    client.commit(committed.into_iter());
    client.finish_commits(OFFSETS_MAX);
}
