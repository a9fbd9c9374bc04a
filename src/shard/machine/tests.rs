//! The machine in a model of its world: several processes that want one shard, and a broker with epochs and transactions.
//! Processes are killed, stopped and cut off, answers are lost or never come, and clocks differ by one per cent.
//!
//! `SHARD_STEPS` says how many steps are made; `make model` makes many.

use std::collections::BTreeMap;

use super::*;

/// Simulated milliseconds between two steps of the world.
const STEP_MS: u64 = 100;
const LEASE: Duration = Duration::from_secs(45);
/// Log lines are of so many appliances, one after the other.
const APPLIANCES: usize = 3;

/// A generator of random numbers (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// True once in so many times.
    fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// What is left out, to see that it is needed.
#[derive(Clone, Copy, PartialEq)]
enum Without {
    Nothing,
    Wait,
    Lease,
    Epoch,
    /// What the writer of a checkpoint says of the owners before it.
    Settled,
    /// To give up a task whose answer does not come.
    GivingUp,
}

/// A record of the state's partition.
#[derive(Clone)]
enum Kept {
    /// The lines of an appliance.
    Block(usize, u64),
    /// The offset of the next line, and who wrote it.
    Head(u64, Claim),
}

/// A record, and its transaction.
struct Appended {
    transaction: usize,
    kept: Kept,
}

#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Open,
    Committed,
    Aborted,
}

/// The leader of the state's partition, and the coordinator of its transactions.
struct Broker {
    epoch: u64,
    log: Vec<Appended>,
    /// By transaction.
    fates: Vec<Fate>,
    /// The open transaction of each producer; with epochs there is but one.
    open: BTreeMap<u64, usize>,
    has_epochs: bool,
}

/// The state that a reader of committed records finds.
#[derive(Default)]
struct Found {
    counts: [u64; APPLIANCES],
    next: u64,
    claim: Option<Claim>,
}

impl Broker {
    fn fence(&mut self, producer: u64) -> u64 {
        self.epoch += 1;
        if self.has_epochs {
            self.abort_all();
        }
        let _ = producer;
        self.epoch
    }

    fn abort_all(&mut self) {
        for transaction in std::mem::take(&mut self.open).into_values() {
            self.fates[transaction] = Fate::Aborted;
        }
    }

    /// False if the producer is fenced off.
    fn write(&mut self, producer: u64, epoch: u64, kept: Kept) -> bool {
        if self.has_epochs && epoch != self.epoch {
            return false;
        }
        let fates = &mut self.fates;
        let transaction = *self.open.entry(producer).or_insert_with(|| {
            fates.push(Fate::Open);
            fates.len() - 1
        });
        self.log.push(Appended { transaction, kept });
        true
    }

    fn end(&mut self, producer: u64, epoch: u64, fate: Fate) -> bool {
        if self.has_epochs && epoch != self.epoch {
            return false;
        }
        // An answer that was lost is asked for again.
        if let Some(transaction) = self.open.remove(&producer) {
            self.fates[transaction] = fate;
        }
        true
    }

    /// A transaction takes too long.
    fn time_out(&mut self) {
        if self.has_epochs && !self.open.is_empty() {
            self.abort_all();
            self.epoch += 1;
        }
    }

    /// Offset of the first record whose fate is open, and the high watermark.
    fn ends(&self) -> (usize, usize) {
        let is_open = |one: &Appended| self.fates[one.transaction] == Fate::Open;
        let stable = self.log.iter().position(is_open);
        (stable.unwrap_or(self.log.len()), self.log.len())
    }

    fn read(&self) -> Found {
        let mut found = Found::default();
        for one in &self.log[..self.ends().0] {
            if self.fates[one.transaction] != Fate::Committed {
                continue;
            }
            match &one.kept {
                Kept::Block(at, count) => found.counts[*at] = *count,
                Kept::Head(next, claim) => {
                    found.next = *next;
                    found.claim = Some(claim.clone());
                }
            }
        }
        found
    }

    /// What has a younger record of the same key goes.
    fn compact(&mut self) {
        let (stable, _) = self.ends();
        let mut known = Vec::new();
        let mut kept = Vec::new();
        let rest = self.log.split_off(stable);
        for one in std::mem::take(&mut self.log).into_iter().rev() {
            let key = match &one.kept {
                Kept::Block(at, _) => *at,
                Kept::Head(..) => APPLIANCES,
            };
            if self.fates[one.transaction] == Fate::Committed && !known.contains(&key) {
                known.push(key);
                kept.push(one);
            }
        }
        kept.reverse();
        self.log = kept;
        self.log.extend(rest);
    }
}

/// A task on its way to the broker.
struct Doing {
    task: Task,
    /// What is left to be written, and the state of the counters that it is of.
    writes: Vec<Kept>,
    /// Time of the next step.
    at: u64,
    /// The high watermark up to which is read.
    bound: usize,
    /// The call does not return, whatever became of it.
    hangs: bool,
    /// A fence has taken effect, and its answer is to come.
    is_done: bool,
}

struct Process {
    number: u64,
    machine: Machine,
    counts: [u64; APPLIANCES],
    next: u64,
    catch_up_to: u64,
    catch_up_since: BootTime,
    dirty: [bool; APPLIANCES],
    epoch: u64,
    doing: Option<Doing>,
    /// What was given up and may go on nevertheless, with its epoch.
    given_up: Vec<(u64, Doing)>,
    checkpoint_at: u64,
}

struct Replica {
    /// Its clock passes so many millionths of the true time, from there on.
    rate: u64,
    start: u64,
    place: u64,
    process: Option<Process>,
    /// Until then, it is stopped, is cut off from the broker, is away.
    stopped: u64,
    cut_off: u64,
    away: u64,
}

/// How late the answer of a fence may come, milliseconds.
const LATE_FENCE_MS: u64 = 150_000;

/// Something that goes wrong.
#[derive(Clone, Copy)]
struct Fault {
    kind: u64,
    /// The replica.
    at: usize,
    /// Milliseconds.
    long: u64,
    /// It starts in another place.
    moves: bool,
}

impl Fault {
    /// One of nine kinds, each of which comes once in so many steps.
    fn draw(random: &mut Random, steps: u64) -> Option<Self> {
        let kind = random.below(steps);
        (kind < 9).then(|| Self {
            kind,
            at: random.below(3) as usize,
            long: 1_000 * random.below(150),
            moves: random.once_in(2),
        })
    }
}

struct World {
    random: Random,
    without: Without,
    /// Calls may not return, and the answer of a fence may come later than a lease.
    has_late_answers: bool,
    now: u64,
    broker: Broker,
    lines: u64,
    replicas: Vec<Replica>,
    processes: u64,
    places: u64,
    /// The highest count of each appliance that was ever shown.
    shown: [u64; APPLIANCES],
    shown_ms: u64,
    owners: u64,
    last_owner: u64,
}

impl World {
    fn new(seed: u64, without: Without) -> Self {
        let mut random = Random(seed);
        let replicas = (0..3)
            .map(|place| Replica {
                rate: 990_000 + random.below(20_001),
                start: random.below(1_000_000),
                place,
                process: None,
                stopped: 0,
                cut_off: 0,
                away: random.below(60_000),
            })
            .collect();
        Self {
            random,
            without,
            has_late_answers: false,
            now: 0,
            broker: Broker {
                epoch: 0,
                log: Vec::new(),
                fates: Vec::new(),
                open: BTreeMap::new(),
                has_epochs: without != Without::Epoch,
            },
            lines: 0,
            replicas,
            processes: 0,
            places: 3,
            shown: [0; APPLIANCES],
            shown_ms: 0,
            owners: 0,
            last_owner: 0,
        }
    }

    /// Makes one step, and says what is wrong afterwards.
    fn step(&mut self, fault: Option<Fault>) -> Result<(), String> {
        self.now += STEP_MS;
        self.lines += u64::from(self.random.once_in(3));
        if let Some(fault) = fault {
            self.suffer(fault);
        }
        self.look()?;
        for at in 0..self.replicas.len() {
            self.act(at)?;
        }
        Ok(())
    }

    fn suffer(
        &mut self,
        Fault {
            kind,
            at,
            long,
            moves,
        }: Fault,
    ) {
        match kind {
            0 | 1 => self.replicas[at].stopped = self.now + long,
            2 | 3 => self.replicas[at].cut_off = self.now + long,
            // Killed; it starts in the same place, or in another one, where it knows nothing of the one before.
            4 => {
                let replica = &mut self.replicas[at];
                replica.process = None;
                replica.stopped = 0;
                replica.away = self.now + long / 4;
                if moves {
                    replica.place = self.places;
                    self.places += 1;
                }
            }
            // While it is stopped, another one is started elsewhere: as when a node does not answer.
            5 => {
                let other = (at + 1) % 3;
                self.replicas[at].stopped = self.now + 120_000;
                self.replicas[other].away = self.now;
            }
            // Asked to end.
            6 => self.end(at, long / 3),
            7 => self.broker.time_out(),
            8 => self.broker.compact(),
            _ => {}
        }
    }

    fn clock(&self, at: usize) -> BootTime {
        let replica = &self.replicas[at];
        let ms = replica.start + self.now * replica.rate / 1_000_000;
        BootTime::after(Duration::from_millis(ms))
    }

    /// A process ends in order: its last checkpoint gives the shard up, if nothing is in the way.
    fn end(&mut self, at: usize, away: u64) {
        let now = self.clock(at);
        let replica = &mut self.replicas[at];
        if self.now < replica.stopped {
            return;
        }
        let is_cut_off = self.now < replica.cut_off;
        replica.away = self.now + away;
        let Some(mut process) = replica.process.take() else {
            return;
        };
        let is_free = process.doing.is_none();
        if let Some(claim) = process.machine.release(now)
            && is_free
            && !is_cut_off
        {
            let (number, epoch) = (process.number, process.epoch);
            let writes = process.writes(claim);
            let are_written = writes
                .into_iter()
                .all(|kept| self.broker.write(number, epoch, kept));
            if are_written {
                self.broker.end(number, epoch, Fate::Committed);
            }
        }
    }

    /// Prometheus looks at all replicas at the same time.
    fn look(&mut self) -> Result<(), String> {
        let mut showing = Vec::new();
        for at in 0..self.replicas.len() {
            let now = self.clock(at);
            let replica = &self.replicas[at];
            let Some(process) = replica
                .process
                .as_ref()
                .filter(|_| self.now >= replica.stopped)
            else {
                continue;
            };
            let shown = process.machine.shown();
            let is = match self.without {
                Without::Lease => shown.is_some_and(|(from, _)| from <= now),
                _ => is_shown(shown, now),
            };
            if is {
                showing.push((process.number, process.counts));
            }
        }
        if showing.len() > 1 {
            return Err(format!("{} show the shard", showing.len()));
        }
        if let Some((number, counts)) = showing.pop() {
            self.shown_ms += STEP_MS;
            self.owners += u64::from(number != self.last_owner);
            self.last_owner = number;
            for (shown, count) in self.shown.iter_mut().zip(counts) {
                if count < *shown {
                    return Err(format!("{count} is shown after {shown}"));
                }
                *shown = count;
            }
        }
        Ok(())
    }

    /// What a replica does meanwhile.
    fn act(&mut self, at: usize) -> Result<(), String> {
        let clock = self.clock(at);
        let replica = &mut self.replicas[at];
        if self.now < replica.stopped.max(replica.away) {
            return Ok(());
        }
        let is_cut_off = self.now < replica.cut_off;
        let processes = &mut self.processes;
        let process = replica.process.get_or_insert_with(|| {
            *processes += 1;
            let owner = Owner {
                place: replica.place.to_string().into(),
                process: *processes,
            };
            Process {
                number: *processes,
                machine: Machine::new(owner, LEASE),
                counts: [0; APPLIANCES],
                next: 0,
                catch_up_to: u64::MAX,
                catch_up_since: BootTime::default(),
                dirty: [false; APPLIANCES],
                epoch: 0,
                doing: None,
                given_up: Vec::new(),
                checkpoint_at: 0,
            }
        });
        if process.machine.is_owner() && !is_cut_off {
            if process.machine.must_catch_up_again(clock) {
                process.catch_up_to = u64::MAX;
            }
            if process.catch_up_to == u64::MAX {
                (process.catch_up_to, process.catch_up_since) = (self.lines, clock);
            }
            process.count(self.lines);
        }
        let is_due = process.dirty.contains(&true) && self.now >= process.checkpoint_at;
        if let Some(task) = process.machine.next(clock, is_due) {
            process.checkpoint_at = self.now + 10_000;
            let claim = process.machine.claim().filter(|_| task == Task::Commit);
            process.doing = Some(Doing {
                task,
                writes: claim.map_or_else(Vec::new, |claim| process.writes(claim)),
                at: self.now + self.random.below(500),
                bound: usize::MAX,
                hangs: self.has_late_answers && self.random.once_in(100),
                is_done: false,
            });
        }
        // Calls return after their timeouts, also without brokers.
        if process.doing.as_ref().is_some_and(|doing| !doing.hangs) {
            process.machine.progressed(clock);
        }
        if self.without != Without::GivingUp && process.machine.is_overdue(clock) {
            process.machine.give_up(clock);
            let given_up = process.doing.take().map(|doing| (process.epoch, doing));
            process.given_up.extend(given_up);
        }
        if !is_cut_off && self.random.once_in(50) {
            process.wake_one_that_was_given_up(&mut self.broker);
        }
        if process
            .doing
            .as_ref()
            .is_some_and(|doing| self.now >= doing.at && !doing.hangs)
            && !is_cut_off
        {
            let is_lost = self.random.once_in(20);
            let gives_up = self.random.once_in(100);
            let is_fence = (process.doing.as_ref()).is_some_and(|doing| doing.task == Task::Fence);
            let is_late = is_fence && self.has_late_answers;
            let later = self.now + self.random.below(if is_late { LATE_FENCE_MS } else { 500 });
            process.talk(
                &mut self.broker,
                clock,
                self.without,
                (is_lost, gives_up, later),
            )?;
        }
        Ok(())
    }
}

impl Process {
    /// A call that was given up takes effect after all, a step at a time.
    fn wake_one_that_was_given_up(&mut self, broker: &mut Broker) {
        let Some((epoch, mut doing)) = self.given_up.pop() else {
            return;
        };
        let number = self.number;
        let is_over = match doing.task {
            Task::Fence => {
                broker.fence(number);
                true
            }
            Task::Commit => match doing.writes.pop() {
                Some(kept) => !broker.write(number, epoch, kept),
                None => {
                    broker.end(number, epoch, Fate::Committed);
                    true
                }
            },
            Task::Restore | Task::Look => true,
        };
        if !is_over {
            self.given_up.push((epoch, doing));
        }
    }

    /// A checkpoint.
    fn writes(&mut self, claim: Claim) -> Vec<Kept> {
        let dirty = self.dirty.iter().enumerate().filter(|(_, dirty)| **dirty);
        let mut writes: Vec<Kept> = dirty
            .map(|(at, _)| Kept::Block(at, self.counts[at]))
            .collect();
        writes.push(Kept::Head(self.next, claim));
        // They are taken from the back.
        writes.reverse();
        writes
    }

    fn count(&mut self, lines: u64) {
        for _ in 0..20 {
            if self.next < lines {
                let at = self.next as usize % APPLIANCES;
                self.counts[at] += 1;
                self.dirty[at] = true;
                self.next += 1;
            }
        }
        if self.next >= self.catch_up_to {
            self.machine.caught_up(self.catch_up_since);
            self.catch_up_to = u64::MAX - 1;
        }
    }

    /// One exchange with the broker. An answer may be lost, then the same is asked again; or it is given up.
    fn talk(
        &mut self,
        broker: &mut Broker,
        clock: BootTime,
        without: Without,
        (is_lost, gives_up, later): (bool, bool, u64),
    ) -> Result<(), String> {
        let Some(doing) = &mut self.doing else {
            return Ok(());
        };
        doing.at = later;
        match doing.task {
            Task::Fence => {
                if !doing.is_done || gives_up {
                    self.epoch = broker.fence(self.number);
                    doing.is_done = true;
                }
                if !is_lost {
                    self.doing = None;
                    self.machine.fenced(clock);
                }
            }
            Task::Restore => {
                let (stable, end) = broker.ends();
                if doing.bound == usize::MAX {
                    doing.bound = end;
                }
                if stable < doing.bound.min(end) {
                    if gives_up {
                        self.doing = None;
                        self.machine.failed(clock);
                    }
                    return Ok(());
                }
                let mut found = broker.read();
                self.doing = None;
                for (at, count) in found.counts.iter().enumerate() {
                    let lines = (0..found.next).filter(|line| *line as usize % APPLIANCES == at);
                    if *count != lines.count() as u64 {
                        return Err(format!("{:?} up to {}", found.counts, found.next));
                    }
                }
                (self.counts, self.next) = (found.counts, found.next);
                (self.dirty, self.catch_up_to) = ([false; APPLIANCES], u64::MAX);
                if let Some(claim) = &mut found.claim {
                    claim.is_released |= without == Without::Wait;
                    claim.is_settled |= without == Without::Settled;
                }
                self.machine.restored(clock, found.claim.as_ref());
            }
            Task::Commit if gives_up => {
                let is_ours = broker.end(self.number, self.epoch, Fate::Aborted);
                self.doing = None;
                match is_ours {
                    true => self.machine.failed(clock),
                    false => self.machine.refused(),
                }
            }
            Task::Commit => {
                let is_ours = match doing.writes.last().cloned() {
                    Some(kept) => broker.write(self.number, self.epoch, kept),
                    None => broker.end(self.number, self.epoch, Fate::Committed),
                };
                if !is_ours {
                    self.doing = None;
                    self.machine.refused();
                } else if doing.writes.pop().is_none() && !is_lost {
                    self.doing = None;
                    self.machine.committed();
                }
            }
            Task::Look => {
                self.doing = None;
                match gives_up {
                    true => self.machine.failed(clock),
                    false => _ = self.machine.looked(clock, broker.read().claim),
                }
            }
        }
        Ok(())
    }
}

/// What became of a world after so many steps with faults.
struct Outcome {
    violation: Option<String>,
    shown: f64,
    owners: u64,
}

/// Then the faults end, and the shard must be shown, with all lines.
fn run(seed: u64, steps: u64, without: Without) -> Outcome {
    let mut world = World::new(seed, without);
    let mut outcome = Outcome {
        violation: None,
        shown: 0.0,
        owners: 0,
    };
    world.has_late_answers = true;
    for step in 0..steps {
        let fault = Fault::draw(&mut world.random, 3_000);
        if let Err(violation) = world.step(fault) {
            outcome.violation = Some(format!("seed {seed}, step {step}: {violation}"));
            return outcome;
        }
    }
    outcome.shown = world.shown_ms as f64 / world.now as f64;
    outcome.owners = world.owners;
    world.has_late_answers = false;
    for replica in &mut world.replicas {
        (replica.stopped, replica.cut_off) = (0, 0);
    }
    // Longer than a late fence, a lease of one that is stopped for good, the wait of the next one, and what contention takes.
    for _ in 0..(LATE_FENCE_MS + 6 * LEASE.as_millis() as u64) / STEP_MS {
        if let Err(violation) = world.step(None) {
            outcome.violation = Some(format!("seed {seed}, at last: {violation}"));
            return outcome;
        }
    }
    let before = world.shown_ms;
    for _ in 0..100 {
        let _ = world.step(None);
    }
    let all: u64 = world.shown.iter().sum();
    if world.shown_ms != before + 100 * STEP_MS || all + 20 < world.lines {
        outcome.violation = Some(format!(
            "seed {seed}: nobody shows the shard at last, {all} of {}",
            world.lines
        ));
    }
    outcome
}

fn steps() -> u64 {
    let steps = std::env::var("SHARD_STEPS").ok();
    steps.map_or(600_000, |steps| steps.parse().expect("a number"))
}

/// Steps of one world: eight hours.
const WORLD_STEPS: u64 = 288_000;

#[test]
fn no_two_processes_show_a_shard_and_every_line_is_counted_once() {
    let worlds = steps().div_ceil(WORLD_STEPS);
    let (mut shown, mut owners) = (0.0, 0);
    for seed in 0..worlds {
        let outcome = run(seed, WORLD_STEPS, Without::Nothing);
        assert_eq!(outcome.violation, None);
        shown += outcome.shown;
        owners += outcome.owners;
    }
    let hours = worlds * WORLD_STEPS * STEP_MS / 3_600_000;
    let share = 100.0 * shown / worlds as f64;
    println!(
        "{worlds} worlds, {hours} hours, {owners} changes of the owner; shown {share:.1} % of the time"
    );
    assert!(share > 30.0, "{share}");
}

/// Whether the model finds out, in so many worlds, that something is missing, by a violation of this kind.
fn is_found_out(without: Without, kind: &str) -> bool {
    let mut violations = (0..20).filter_map(|seed| run(seed, WORLD_STEPS, without).violation);
    violations.any(|violation| violation.contains(kind))
}

#[test]
fn without_the_wait_two_show_a_shard() {
    assert!(is_found_out(Without::Wait, "2 show the shard"));
}

#[test]
fn without_the_lease_two_show_a_shard() {
    assert!(is_found_out(Without::Lease, "2 show the shard"));
}

#[test]
fn without_what_a_checkpoint_says_of_owners_before_two_show_a_shard() {
    assert!(is_found_out(Without::Settled, "2 show the shard"));
}

#[test]
fn without_giving_up_a_call_that_does_not_return_hides_a_shard_for_ever() {
    assert!(is_found_out(Without::GivingUp, "nobody shows the shard"));
}

#[test]
fn without_epochs_former_owners_spoil_it() {
    assert!(is_found_out(Without::Epoch, ""));
}

#[test]
fn a_fence_and_a_restore_may_last_while_their_calls_return() {
    let at = |seconds: u64| BootTime::after(Duration::from_secs(seconds));
    let owner = Owner {
        place: "here".into(),
        process: 1,
    };
    let mut machine = Machine::new(owner, LEASE);
    assert_eq!(machine.next(at(1_000), true), Some(Task::Fence));
    assert!(!machine.is_overdue(at(1_047)));
    assert!(machine.is_overdue(at(1_048)));
    machine.progressed(at(1_040));
    assert!(!machine.is_overdue(at(1_087)));
    assert!(machine.is_overdue(at(1_088)));
    // A call that returned before that one says nothing.
    machine.progressed(at(900));
    assert!(!machine.is_overdue(at(1_087)));

    // However long it took: leases of others are over a lease after the answer.
    machine.fenced(at(1_200));
    assert_eq!(machine.next(at(1_200), true), Some(Task::Restore));
    machine.progressed(at(1_300));
    assert!(!machine.is_overdue(at(1_347)));
    machine.restored(at(1_310), None);
    machine.caught_up(at(1_310));

    // A lease counts from the beginning of its commit.
    assert_eq!(machine.next(at(1_310), true), Some(Task::Commit));
    machine.progressed(at(1_340));
    assert!(machine.is_overdue(at(1_358)));
    machine.committed();
    assert!(is_shown(machine.shown(), at(1_354)));
    assert!(!is_shown(machine.shown(), at(1_355)));
}

/// Shards of a replica, and of all replicas.
const SHARDS_OF_ONE: u64 = 10;
const SHARDS: u64 = 240;
/// Steps of a day.
const DAY: u64 = 864_000;
/// After so long without a fault, a shard is shown.
const CALM_STEPS: u64 = 6 * LEASE.as_millis() as u64 / STEP_MS;

/// What became of a shard, in steps: in which it was shown, in which nothing was wrong, and in which it was hidden
/// nevertheless.
#[derive(Default)]
struct Day {
    shown: u64,
    calm: u64,
    hidden: u64,
}

/// Ten shards that three replicas want, which are killed, stopped and cut off as a whole. The brokers are away for all shards
/// that there are at the same time.
fn run_shards(group: u64, steps: u64) -> Result<Vec<Day>, String> {
    // Replicas are those of the group, whatever else differs.
    let mut worlds: Vec<World> = (0..SHARDS_OF_ONE)
        .map(|shard| World {
            random: Random(1_000 * group + shard),
            ..World::new(group, Without::Nothing)
        })
        .collect();
    let mut days: Vec<Day> = worlds.iter().map(|_| Day::default()).collect();
    let (mut random, mut brokers) = (Random(!group), Random(7));
    let mut calm_from = CALM_STEPS;
    for step in 0..steps {
        let fault = Fault::draw(&mut random, 60_000);
        let is_compacted = fault.is_some_and(|fault| fault.kind == 8);
        let away = brokers.once_in(36_000).then(|| 1_000 * brokers.below(60));
        let is_wrong = (fault.is_some() && !is_compacted) || away.is_some();
        for (shard, world) in worlds.iter_mut().enumerate() {
            if let Some(long) = away {
                let until = world.now + long;
                (world.replicas.iter_mut()).for_each(|one| one.cut_off = one.cut_off.max(until));
            }
            let before = world.shown_ms;
            world.has_late_answers = step + CALM_STEPS < calm_from;
            let violation = |why| format!("group {group}, shard {shard}, step {step}: {why}");
            world.step(fault).map_err(violation)?;
            let is_shown = world.shown_ms > before;
            let day = &mut days[shard];
            day.shown += u64::from(is_shown);
            if step >= calm_from && !is_wrong {
                day.calm += 1;
                day.hidden += u64::from(!is_shown);
            }
        }
        if is_wrong {
            let replicas = worlds.iter().flat_map(|world| &world.replicas);
            let over = replicas.map(|one| one.stopped.max(one.cut_off).max(one.away));
            let over = over.max().unwrap_or(0).div_ceil(STEP_MS);
            calm_from = calm_from.max(over.max(step) + CALM_STEPS);
        }
    }
    Ok(days)
}

#[test]
fn each_of_many_shards_is_shown_and_by_one_for_a_day() {
    // A day of all of them, if so many steps are wanted; else some hours of a few.
    let groups = if steps() >= SHARDS * DAY {
        SHARDS / SHARDS_OF_ONE
    } else {
        3
    };
    let each = DAY.min(steps() / (groups * SHARDS_OF_ONE));
    let days: Vec<Day> = (0..groups)
        .flat_map(|group| run_shards(group, each).unwrap_or_else(|why| panic!("{why}")))
        .collect();
    let steps = each * days.len() as u64;
    let part = |of: fn(&Day) -> u64| {
        let all: u64 = days.iter().map(of).sum();
        100.0 * all as f64 / steps as f64
    };
    println!(
        "{} shards, {} s each; shown {:.1} % of the time; nothing was wrong for {:.1} % of the time",
        days.len(),
        each * STEP_MS / 1_000,
        part(|day| day.shown),
        part(|day| day.calm)
    );
    for day in days {
        assert!(day.calm > 0);
        assert_eq!(day.hidden, 0, "steps in which nothing was wrong");
    }
}
