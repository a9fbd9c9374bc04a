//! When a shard may be shown: a state machine for its owner, who keeps its state in a topic of the brokers.
//!
//! Several processes may want the same shard, and any of them may be stopped or cut off at any moment without noticing. Two
//! rules keep a shard from being shown by two of them:
//!
//! 1. *A commit is a lease.* Whoever commits a checkpoint may show the shard until `lease` after the moment at which that
//!    commit was begun. Brokers accept commits of the process alone that fenced last.
//! 2. *A new owner waits.* All leases of former owners were begun before it fenced them off, so they are over `lease` later,
//!    plus a margin for clocks that differ in speed. It waits that long before it shows the shard, and reads meanwhile. Then
//!    it makes sure that it has counted all that a former owner may have shown. It need not wait if the last checkpoint says
//!    that its writer shows nothing any more, or if its writer was a former process in the same place, which has ended.
//!
//! A checkpoint that was written by an owner that still waits says so: it proves nothing about the owner before.
//!
//! An answer may never come: a call to the brokers may not return, whatever its timeout. After a lease, when a transaction is
//! void anyway, what was asked is given up ([`Machine::give_up`]), and the owner behaves as one that was fenced off. A fence and
//! a restore may take longer, while their calls return: they give no lease, and what they find counts from their answer on.
//!
//! Whoever was fenced off drops what it has, and looks at what the last checkpoint says before it fences in turn. If another
//! owner goes on committing, it leaves the shard to that one.
//!
//! No two clocks are compared, that of the brokers neither.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::boot_time::BootTime;

/// How long something is left alone that did not work.
const RETRY: Duration = Duration::from_secs(1);
/// By this part of a lease, two clocks may go apart while it lasts: 5 %.
const MARGIN: u32 = 20;
/// A checkpoint renews the lease when a third of it is over, and so may fail twice.
const RENEW: u32 = 3;

/// A process that wants shards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Where it runs. A process that starts in a place knows that the one before has ended.
    pub place: Arc<str>,
    /// A number that no other process has.
    pub process: u64,
}

/// What a checkpoint says of its writer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Who wrote it.
    pub owner: Owner,
    /// How many checkpoints the process had begun to write, this one included.
    pub number: u64,
    /// The leases of all former owners were over when it was written.
    pub is_settled: bool,
    /// The writer shows the shard no more.
    #[serde(default)]
    pub is_released: bool,
}

/// What is to be asked of the brokers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// To fence off whoever owned the shard.
    Fence,
    /// To read the last checkpoint.
    Restore,
    /// To commit a checkpoint.
    Commit,
    /// To look at what the last checkpoint says, and change nothing.
    Look,
}

/// What the owner of a shard does, or whoever wants to be it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It fences, or waits for an answer.
    Waiting,
    /// Another one owns the shard.
    Contended,
    /// It is the owner, and reads the last checkpoint.
    Restoring,
    /// It reads what was written while nobody read.
    CatchingUp,
    /// It could show the shard, but a lease of a former owner may not be over, or its own is.
    Hidden,
    /// It shows the shard.
    Active,
    /// It has given the shard up.
    Released,
}

impl Phase {
    /// All of them.
    pub const ALL: [Phase; 7] = [
        Phase::Waiting,
        Phase::Contended,
        Phase::Restoring,
        Phase::CatchingUp,
        Phase::Hidden,
        Phase::Active,
        Phase::Released,
    ];

    /// Whether records are counted.
    pub fn is_read(self) -> bool {
        matches!(self, Phase::CatchingUp | Phase::Hidden | Phase::Active)
    }

    /// As in the label `state`.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Waiting => "waiting",
            Phase::Contended => "contended",
            Phase::Restoring => "restoring",
            Phase::CatchingUp => "catching_up",
            Phase::Hidden => "hidden",
            Phase::Active => "active",
            Phase::Released => "released",
        }
    }
}

/// When a shard is shown: from the first time on, and before the second.
pub type Shown = (BootTime, BootTime);

/// The state machine. Whoever drives it asks [`Machine::next`] for tasks, and reports what came of each.
#[derive(Debug)]
pub struct Machine {
    owner: Owner,
    lease: Duration,
    state: State,
    /// What is being done, and since when.
    doing: Option<(Task, BootTime)>,
    /// Nothing is begun before.
    not_before: BootTime,
    /// Checkpoints that were begun.
    commits: u64,
}

#[derive(Debug)]
enum State {
    Wanted,
    Fenced {
        /// When the leases of all former owners are over.
        settled_from: BootTime,
    },
    Owned(Owned),
    Refused {
        /// The claim of another one, and when it was first seen.
        seen: Option<(Claim, BootTime)>,
    },
    Released,
}

#[derive(Debug)]
struct Owned {
    settled_from: BootTime,
    /// Everything is counted that was written before this time.
    caught_up: Option<BootTime>,
    /// When the last commit that succeeded was begun, and whether it said that it is settled.
    committed: Option<(BootTime, bool)>,
}

impl Machine {
    /// Of a process that wants the shard.
    pub fn new(owner: Owner, lease: Duration) -> Self {
        Self {
            owner,
            lease,
            state: State::Wanted,
            doing: None,
            not_before: BootTime::default(),
            commits: 0,
        }
    }

    /// What is to be done now, if anything: one task at a time. `is_due` says that a checkpoint would be worth it.
    pub fn next(&mut self, now: BootTime, is_due: bool) -> Option<Task> {
        if self.doing.is_some() || now < self.not_before {
            return None;
        }
        let task = match &self.state {
            State::Wanted => Task::Fence,
            State::Fenced { .. } => Task::Restore,
            State::Owned(owned) if is_due || owned.must_commit(self.lease, now) => Task::Commit,
            State::Refused { .. } => Task::Look,
            State::Owned(_) | State::Released => return None,
        };
        if task == Task::Commit {
            self.commits += 1;
        }
        self.doing = Some((task, now));
        Some(task)
    }

    /// Whether the answer to a task is to come.
    pub fn is_busy(&self) -> bool {
        self.doing.is_some()
    }

    /// A call returned at this time, of those that a fence or a restore makes. The time of a commit is that of its lease.
    pub fn progressed(&mut self, at: BootTime) {
        if let Some((Task::Fence | Task::Restore, since)) = &mut self.doing {
            *since = at.max(*since);
        }
    }

    /// Whether an answer should have come by now.
    pub fn is_overdue(&self, now: BootTime) -> bool {
        self.doing
            .is_some_and(|(_, since)| now >= since + self.lease + self.lease / MARGIN)
    }

    /// No answer is expected any more. What was asked may still be done, as by another process; so a fence has to come before
    /// anything else that is asked.
    pub fn give_up(&mut self, now: BootTime) {
        self.doing = None;
        self.not_before = now;
        match self.state {
            State::Fenced { .. } => self.state = State::Wanted,
            State::Owned(_) => self.state = State::Refused { seen: None },
            State::Wanted | State::Refused { .. } | State::Released => {}
        }
    }

    /// What the checkpoint says that is being committed.
    pub fn claim(&self) -> Option<Claim> {
        let (_, begun) = self.doing?;
        Some(Claim {
            owner: self.owner.clone(),
            number: self.commits,
            is_settled: match &self.state {
                State::Owned(owned) => begun >= owned.settled_from,
                _ => false,
            },
            is_released: false,
        })
    }

    /// All former owners are fenced off.
    pub fn fenced(&mut self, now: BootTime) {
        self.doing = None;
        self.state = State::Fenced {
            settled_from: now + self.lease + self.lease / MARGIN,
        };
    }

    /// The last checkpoint is read, and this is what it says; nothing if there was none.
    pub fn restored(&mut self, now: BootTime, former: Option<&Claim>) {
        self.doing = None;
        let State::Fenced { settled_from } = self.state else {
            return;
        };
        let has_ended = former.is_none_or(|former| {
            former.is_released || (former.is_settled && former.owner.place == self.owner.place)
        });
        self.state = State::Owned(Owned {
            settled_from: if has_ended { now } else { settled_from },
            caught_up: None,
            committed: None,
        });
    }

    /// Everything is counted that was written before `since`.
    pub fn caught_up(&mut self, since: BootTime) {
        if let State::Owned(owned) = &mut self.state {
            owned.caught_up = Some(since);
        }
    }

    /// Whether it is to catch up once more, from now on: a former owner may have counted, and shown, until its lease was over.
    pub fn must_catch_up_again(&mut self, now: BootTime) -> bool {
        let State::Owned(owned) = &mut self.state else {
            return false;
        };
        let must = now >= owned.settled_from
            && (owned.caught_up).is_some_and(|since| since < owned.settled_from);
        if must {
            owned.caught_up = None;
        }
        must
    }

    /// The checkpoint is committed.
    pub fn committed(&mut self) {
        let is_settled = self.claim().is_some_and(|claim| claim.is_settled);
        let begun = self.doing.take();
        if let (State::Owned(owned), Some((Task::Commit, begun))) = (&mut self.state, begun) {
            owned.committed = Some((begun, is_settled));
        }
    }

    /// What was begun has not worked, and says nothing about who owns the shard.
    pub fn failed(&mut self, now: BootTime) {
        self.doing = None;
        self.not_before = now + RETRY;
    }

    /// The brokers do not accept us any more. Another one may have fenced us off, or a transaction has taken too long.
    pub fn refused(&mut self) {
        self.doing = None;
        if !matches!(self.state, State::Released) {
            self.state = State::Refused { seen: None };
        }
    }

    /// What the last checkpoint says; nothing if there is none. Returns whether another one owns the shard.
    pub fn looked(&mut self, now: BootTime, found: Option<Claim>) -> bool {
        self.doing = None;
        let State::Refused { seen } = &mut self.state else {
            return false;
        };
        let other =
            found.filter(|claim| claim.owner.process != self.owner.process && !claim.is_released);
        let Some(claim) = other else {
            self.state = State::Wanted;
            self.not_before = now + RETRY;
            return false;
        };
        match seen {
            // An owner that commits nothing for so long shows nothing.
            Some((known, since)) if *known == claim => {
                if now.since(*since) > self.lease + self.lease / MARGIN {
                    self.state = State::Wanted;
                }
            }
            _ => *seen = Some((claim, now)),
        }
        self.not_before = now + self.lease / RENEW;
        true
    }

    /// Gives the shard up. Returns what a last checkpoint is to say, if one may be committed.
    pub fn release(&mut self, now: BootTime) -> Option<Claim> {
        let former = std::mem::replace(&mut self.state, State::Released);
        let State::Owned(owned) = former else {
            return None;
        };
        self.commits += 1;
        let is_settled = now >= owned.settled_from;
        Some(Claim {
            owner: self.owner.clone(),
            number: self.commits,
            is_settled,
            // Leases of owners before may not be over.
            is_released: is_settled,
        })
    }

    /// Whether records are to be counted.
    pub fn is_owner(&self) -> bool {
        matches!(self.state, State::Owned(_))
    }

    /// When the shard is shown, as far as is known now.
    pub fn shown(&self) -> Option<Shown> {
        let State::Owned(owned) = &self.state else {
            return None;
        };
        let (begun, _) = owned.committed?;
        let since = owned.caught_up?;
        (since >= owned.settled_from).then(|| (owned.settled_from, begun + self.lease))
    }

    /// What it does.
    pub fn phase(&self, now: BootTime) -> Phase {
        match &self.state {
            State::Wanted => Phase::Waiting,
            State::Fenced { .. } => Phase::Restoring,
            State::Refused { .. } => Phase::Contended,
            State::Released => Phase::Released,
            State::Owned(owned) if owned.caught_up.is_none() => Phase::CatchingUp,
            State::Owned(_) => match is_shown(self.shown(), now) {
                true => Phase::Active,
                false => Phase::Hidden,
            },
        }
    }
}

/// Whether a shard is shown at this moment.
pub fn is_shown(shown: Option<Shown>, now: BootTime) -> bool {
    shown.is_some_and(|(from, until)| from <= now && now < until)
}

impl Owned {
    /// There is no lease yet, or it is to be renewed, or the last checkpoint says less than it could.
    fn must_commit(&self, lease: Duration, now: BootTime) -> bool {
        self.committed.is_none_or(|(begun, is_settled)| {
            now >= begun + lease / RENEW || (!is_settled && now >= self.settled_from)
        })
    }
}

#[cfg(test)]
mod tests;
