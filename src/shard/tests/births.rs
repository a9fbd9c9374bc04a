//! What those see who scrape a replica of whose shards some are hidden, move and come back: no counter falls, each is at 0
//! before it is at 1, and what is hidden holds up nothing else.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use hashbrown::HashMap;

use super::*;
use crate::boot_time::BootTime;
use crate::metric::ScrapeView;

const SHARDS: usize = 2;
const SCRAPERS: usize = 2;

#[derive(Clone, Debug)]
enum Step {
    /// An appliance of a shard gets a line.
    Count(usize, usize),
    Scrape(usize),
    /// The second scraper is disconnected until it scrapes again.
    Leave,
    Show(usize, bool),
    /// A checkpoint is begun, or committed.
    Commit(usize, bool),
    /// The owner begins anew with the last checkpoint.
    TakeOver(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let shard = 0..SHARDS;
    prop_oneof![
        4 => (shard.clone(), 0usize..5).prop_map(|(shard, appliance)| Step::Count(shard, appliance)),
        6 => (0..SCRAPERS).prop_map(Step::Scrape),
        1 => Just(Step::Leave),
        2 => (shard.clone(), any::<bool>()).prop_map(|(shard, is_shown)| Step::Show(shard, is_shown)),
        3 => (shard.clone(), any::<bool>()).prop_map(|(shard, is_over)| Step::Commit(shard, is_over)),
        1 => shard.prop_map(Step::TakeOver),
    ]
}

/// A shard whose state is in a topic.
struct Kept {
    shard: Shard,
    published: Published,
    /// Keys of the records of its partition.
    log: Vec<String>,
    /// Up to which birth everybody was shown all, as the last checkpoint says that was begun.
    shown: u64,
    begun: Option<(Head, Saved)>,
    committed: Option<(Head, Saved)>,
}

#[derive(Default)]
struct Scraper {
    number: u64,
    answered: u64,
    has_left: bool,
    seen: BTreeMap<String, f64>,
}

struct Replica {
    main: &'static Engine,
    view: ScrapeView,
    shards: Vec<Kept>,
    scrapers: [Scraper; SCRAPERS],
    has_moved: bool,
}

fn begin(main: &Engine) -> Shard {
    let limits = Limits {
        are_counters_lazy: true,
        ..Limits::default()
    };
    let engine = Arc::new(main.shard(limits, &[]));
    let mut shard = Shard::new(engine, source(ApplianceFrom::Key), 200, Head::default());
    shard.finish_backfill();
    shard
}

impl Replica {
    fn new() -> Self {
        // To compile the rules takes longer than all else.
        static MAIN: OnceLock<Engine> = OnceLock::new();
        let main = MAIN.get_or_init(|| Engine::new(built_in(), Limits::default(), &[]).unwrap());
        let shards = (0..SHARDS).map(|partition| {
            let shard = begin(main);
            let engine = shard.engine().clone();
            let published = Published::new("fleet".into(), partition as i32, engine, true);
            published.figures().births_shown = 0;
            Kept {
                shard,
                published,
                log: Vec::new(),
                shown: 0,
                begun: None,
                committed: None,
            }
        });
        Self {
            shards: shards.collect(),
            main,
            view: ScrapeView::default(),
            scrapers: Default::default(),
            has_moved: false,
        }
    }

    fn shown_to_all(&self) -> u64 {
        let open = self.scrapers.iter().filter(|scraper| !scraper.has_left);
        open.map(|scraper| scraper.number).min().unwrap_or(0)
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Count(at, appliance) => {
                let kept = &mut self.shards[at];
                kept.log.push(format!("hsm{at}{appliance}"));
                kept.read_on();
            }
            Step::Scrape(at) => return self.scrape(at),
            Step::Leave => self.scrapers[1].has_left = true,
            Step::Show(at, is_shown) => {
                let always = (BootTime::default(), BootTime::END);
                self.shards[at].published.figures().shown = is_shown.then_some(always);
            }
            Step::Commit(at, false) => {
                let shown = self.shown_to_all();
                let kept = &mut self.shards[at];
                kept.shown = kept.shown.max(shown);
                let (mut head, saved) = kept.shard.save();
                head.shown = kept.shown;
                kept.begun = Some((head, saved));
            }
            Step::Commit(at, true) => {
                let kept = &mut self.shards[at];
                let Some((head, saved)) = kept.begun.take() else {
                    return Ok(());
                };
                let mut figures = kept.published.figures();
                (figures.births_on_disk, figures.births_shown) = (saved.last_birth, head.shown);
                drop(figures);
                kept.committed = Some((head, saved));
            }
            Step::TakeOver(at) => {
                self.has_moved = true;
                self.shards[at].take_over(self.main);
            }
        }
        Ok(())
    }

    fn scrape(&mut self, at: usize) -> Result<(), TestCaseError> {
        let scraper = &mut self.scrapers[at];
        scraper.has_left = false;
        scraper.number = scraper.number.max(scraper.answered);
        while !self.main.table().sync_view(&mut self.view, 100) {}
        let mut birth = self.view.last_birth();
        for kept in &self.shards {
            let (part, own) = kept.published.part(scraper.number, BootTime::default);
            birth = birth.min(own);
            for (family, series) in part.unwrap_or_default().snapshot.families {
                if &*family.name != "log_messages_total" {
                    continue;
                }
                for one in series {
                    let name = one.values.join(" ");
                    let before = scraper.seen.insert(name.clone(), one.value);
                    prop_assert!(before.unwrap_or(0.0) <= one.value, "{at}: {name} falls");
                    // What has moved may have been shown while one was away.
                    if before.is_none() && (at == 0 || !self.has_moved) {
                        prop_assert_eq!(one.value, 0.0, "{}: {} begins", at, name);
                    }
                }
            }
        }
        scraper.answered = birth;
        Ok(())
    }
}

impl Kept {
    fn read_on(&mut self) {
        let line = "Feb 29 12:05:01 x sshd[7]: a";
        let all = self.log.iter().zip(0..);
        let records = all.map(|(key, offset)| record(offset, NOW - 5000, key, line));
        self.shard.count(&records.collect::<Vec<_>>(), now());
    }

    fn take_over(&mut self, main: &Engine) {
        self.published.figures().shown = None;
        let next = begin(main);
        self.published.replace_engine(next.engine().clone());
        self.shard = next;
        self.shown = 0;
        self.begun = None;
        if let Some((head, mut saved)) = self.committed.clone() {
            saved.last_birth = 0;
            let engine = self.shard.engine().clone();
            engine.table().restore(&saved);
            engine.table().restart_births(head.shown);
            self.shard.restore(head, &Restored::default());
        }
        let mut figures = self.published.figures();
        (figures.births_on_disk, figures.births_shown) = (0, 0);
        drop(figures);
        self.read_on();
    }
}

#[test]
fn who_was_away_is_shown_at_0_what_others_know() {
    let mut replica = Replica::new();
    let commit = [Step::Commit(0, false), Step::Commit(0, true)];
    let scrape = || Step::Scrape(0);
    let steps = [Step::Show(0, true), scrape(), Step::Scrape(1), Step::Leave];
    let steps = steps.into_iter().chain([Step::Count(0, 0), scrape()]);
    let steps = steps.chain(commit.clone()).chain([scrape(), scrape()]);
    // From now on the value is shown, also by the next owner.
    let steps = steps.chain(commit).chain([scrape(), Step::Show(0, false)]);
    let steps = steps.chain([Step::Scrape(1), Step::Show(0, true), Step::Scrape(1)]);
    for step in steps {
        replica.step(step).unwrap();
    }
    let seen = replica
        .scrapers
        .each_ref()
        .map(|one| one.seen.values().sum::<f64>());
    assert_eq!(seen, [1.0, 0.0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn a_hidden_shard_holds_up_no_other_and_nothing_falls(
        steps in prop::collection::vec(step(), 0..100),
        may_move: bool,
    ) {
        let mut replica = Replica::new();
        for scraper in 0..SCRAPERS {
            replica.scrape(scraper)?;
        }
        for step in steps {
            if may_move || !matches!(step, Step::TakeOver(_)) {
                replica.step(step)?;
            }
        }
        // The first shard has births that nobody has seen, and stays hidden; the second one is shown to the end.
        for (at, is_shown) in [(0, false), (1, true)] {
            replica.step(Step::Show(at, is_shown))?;
            replica.step(Step::Count(at, 5))?;
        }
        replica.scrapers[1].has_left = true;
        for _ in 0..4 {
            replica.step(Step::Scrape(0))?;
            for shard in 0..SHARDS {
                replica.step(Step::Commit(shard, false))?;
                replica.step(Step::Commit(shard, true))?;
            }
        }
        let mut lines: HashMap<&String, f64> = HashMap::new();
        for key in &replica.shards[1].log {
            *lines.entry(key).or_default() += 1.0;
        }
        let seen = &replica.scrapers[0].seen;
        for (appliance, lines) in lines {
            let all: f64 = seen.iter().filter(|(name, _)| name.starts_with(appliance)).map(|(_, value)| value).sum();
            prop_assert_eq!(all, lines, "{}", appliance);
        }
    }
}
