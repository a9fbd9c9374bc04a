//! Which births each scraper has been shown, so that it sees each counter at 0 before it sees what was counted:
//! `increase()` does not see what a series begins with.
//!
//! A scraper is a connection that is kept alive and whose requests carry `X-Prometheus-Scrape-Timeout-Seconds`. Births are
//! numbered, so one number says what a scraper has been shown. It goes up when an answer has arrived, which the next
//! request on the connection proves, or its orderly end; an answer that fails on its way is given once more. So no first
//! event is lost, and no value falls: what was once shown as it is stays so.
//!
//! A new connection goes on where a closed one of the same address and `User-Agent` stopped. Of several closed ones it
//! takes the highest number, and one that is not known takes the highest of all: somebody was shown these values, and it
//! may have been this one under another address. Then it may miss the first event of what was born since its last
//! scrape, but nothing falls.
//!
//! With a state directory, the numbers outlive the process. A birth counts as shown once a checkpoint with it is on disk,
//! and none without it is on its way there, so that a process that is killed and goes on from either shows nobody a value
//! that falls.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::metric::Shown;

/// Closed connections whose numbers are kept; of more, those that were closed first are forgotten.
const CLOSED_MAX: usize = 256;

/// Bytes of a `User-Agent` that tell scrapers apart.
const USER_AGENT_BYTES_MAX: usize = 256;

/// The scrapers that are known.
#[derive(Debug)]
pub struct Scrapers(parking_lot::Mutex<State>);

/// A scraper on its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ScraperId(u64);

/// Who asks, as far as requests say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    address: IpAddr,
    user_agent: Arc<str>,
    /// The request came through a proxy, which may use one connection for several scrapers and several for one.
    is_proxied: bool,
}

impl Identity {
    /// Of a request's peer and its headers.
    pub fn new(address: IpAddr, user_agent: &str, is_proxied: bool) -> Self {
        let mut end = user_agent.len().min(USER_AGENT_BYTES_MAX);
        while !user_agent.is_char_boundary(end) {
            end -= 1;
        }
        Self {
            address: address.to_canonical(),
            user_agent: user_agent[..end].into(),
            is_proxied,
        }
    }
}

impl Identity {
    fn is_of(&self, shown: &Shown) -> bool {
        self.address == shown.address
            && self.user_agent == shown.user_agent
            && self.is_proxied == shown.is_proxied
    }
}

#[derive(Debug, Default)]
struct State {
    open: HashMap<ScraperId, Open>,
    /// Those closed last are at the end; each identity once.
    closed: Vec<Closed>,
    last_id: u64,
    /// The highest that any scraper has or had.
    highest: Number,
    /// What the last checkpoint says; nothing where there are none, or they cannot be written.
    on_disk: Option<Vec<Shown>>,
    /// Checkpoints that were taken and may take its place at any moment, in their order: one is being written, one waits.
    on_their_way: VecDeque<Vec<Shown>>,
    /// A number has changed since it was last asked.
    is_changed: bool,
}

/// Births by number, each time up to this one.
#[derive(Clone, Copy, Debug, Default)]
struct Number {
    /// They were shown.
    shown: u64,
    /// They are shown with their values.
    settled: u64,
}

impl Number {
    fn raise_to(&mut self, other: Number) {
        self.shown = self.shown.max(other.shown);
        self.settled = self.settled.max(other.settled);
    }
}

#[derive(Debug)]
struct Open {
    identity: Identity,
    number: Number,
    /// What the last answer showed, if it has arrived.
    answered: u64,
}

#[derive(Debug)]
struct Closed {
    identity: Identity,
    /// The highest of all that were ever closed: whoever took its place may have been another that looks alike.
    number: Number,
    /// Those that were closed and have no successor yet.
    connections: usize,
}

impl Scrapers {
    /// Goes on with what a former process had shown. `needs_disk` says that there is a state directory.
    pub fn new(former: &[Shown], needs_disk: bool) -> Self {
        let mut state = State {
            on_disk: needs_disk.then(|| former.to_vec()),
            ..State::default()
        };
        for shown in former {
            // The one that no scraper has, [`Scrapers::save`], only counts for the highest.
            let number = Number {
                shown: shown.birth,
                settled: shown.birth,
            };
            state.highest.raise_to(number);
            let identity = Identity {
                address: shown.address,
                user_agent: shown.user_agent.clone(),
                is_proxied: shown.is_proxied,
            };
            if !identity.address.is_unspecified() {
                state.close(identity, number);
            }
        }
        Self(parking_lot::Mutex::new(state))
    }

    /// A connection turns out to be a scraper's.
    pub fn connect(&self, identity: Identity) -> ScraperId {
        let mut state = self.0.lock();
        let former = state
            .closed
            .iter_mut()
            .find(|closed| closed.identity == identity && closed.connections > 0);
        let number = match former {
            Some(closed) => {
                closed.connections -= 1;
                closed.number
            }
            None => state.unknown(&identity),
        };
        state.is_changed |= state.listed(&identity).is_none();
        state.last_id += 1;
        let id = ScraperId(state.last_id);
        let open = Open {
            identity,
            number,
            answered: 0,
        };
        state.open.insert(id, open);
        id
    }

    /// A scraper asks: up to which birth it has been shown all, and so sees values. Later ones it must see at 0.
    pub fn ask(&self, id: ScraperId) -> u64 {
        let mut state = self.0.lock();
        let Some(open) = state.open.get(&id) else {
            return 0;
        };
        let on_disk = state.on_disk(&open.identity);
        let mut number = open.number;
        if open.identity.is_proxied {
            let same = state
                .open
                .values()
                .filter(|other| other.identity == open.identity);
            same.for_each(|other| number.raise_to(other.number));
        }
        let Some(open) = state.open.get_mut(&id) else {
            return 0;
        };
        // Who asks again has read the last answer.
        number.shown = number.shown.max(open.answered);
        number.settled = number.settled.max(number.shown.min(on_disk));
        open.number = number;
        state.highest.raise_to(number);
        number.settled
    }

    /// A whole answer is on its way that showed the births up to this one.
    pub fn answered(&self, id: ScraperId, birth: u64) {
        let mut state = self.0.lock();
        if let Some(open) = state.open.get_mut(&id)
            && open.answered < birth
        {
            open.answered = birth;
            state.is_changed = true;
        }
    }

    /// The connection has ended. `arrived` says that the last whole answer has arrived.
    pub fn disconnect(&self, id: ScraperId, arrived: bool) {
        let mut state = self.0.lock();
        let Some(Open {
            identity,
            mut number,
            answered,
            ..
        }) = state.open.remove(&id)
        else {
            return;
        };
        if arrived {
            number.shown = number.shown.max(answered);
        }
        state.highest.raise_to(number);
        // One that has an answer on its way may be listed with more than it was shown.
        state.is_changed |= state.listed(&identity) != Some(number.shown);
        state.close(identity, number);
    }

    /// Up to which birth all that are connected have been shown all; nothing without one.
    pub fn shown_to_all(&self) -> Option<u64> {
        let state = self.0.lock();
        let open = state.open.values().map(|open| open.number.shown);
        open.min()
    }

    /// What a checkpoint must know. Taken before the series are, so that each birth in it is among them.
    pub fn save(&self) -> Vec<Shown> {
        let mut state = self.0.lock();
        let all = state.all();
        state.on_their_way.push_back(all.clone());
        all
    }

    /// A checkpoint with this is on disk.
    pub fn saved(&self, saved: &[Shown]) {
        let mut state = self.0.lock();
        if let Some(at) = state.on_their_way.iter().position(|taken| taken == saved) {
            state.on_their_way.drain(..=at);
        }
        state.on_disk = Some(saved.to_vec());
    }

    /// The checkpoint that was taken last will not be written.
    pub(crate) fn not_saved(&self) {
        self.0.lock().on_their_way.pop_back();
    }

    /// Checkpoints cannot be written: what counts is in memory alone, until one is.
    pub fn save_failed(&self) {
        let mut state = self.0.lock();
        state.on_their_way.pop_front();
        state.on_disk = None;
    }

    /// Whether there is something for a checkpoint since it was last asked.
    pub fn take_changed(&self) -> bool {
        std::mem::take(&mut self.0.lock().is_changed)
    }
}

impl State {
    /// All that a checkpoint must know.
    fn all(&self) -> Vec<Shown> {
        let shown = |identity: &Identity, birth| Shown {
            address: identity.address,
            user_agent: identity.user_agent.clone(),
            is_proxied: identity.is_proxied,
            birth,
        };
        let closed = self.closed.iter().flat_map(|closed| {
            // As many entries as there are connections, so that each finds its own.
            std::iter::repeat_n(
                shown(&closed.identity, closed.number.shown),
                closed.connections.min(CLOSED_MAX),
            )
        });
        // An answer that is on its way is shown with its values as soon as its scraper asks again.
        let open = self.open.values().map(|open| {
            let closed = self.closed.iter();
            let former = closed.filter(|closed| closed.identity == open.identity);
            let former = former.map(|closed| closed.number.shown).max().unwrap_or(0);
            let own = open.number.shown.max(open.answered);
            shown(&open.identity, own.max(former))
        });
        let mut all: Vec<Shown> = closed.chain(open).collect();
        let nobody = Identity::new(Ipv4Addr::UNSPECIFIED.into(), "", false);
        all.push(shown(&nobody, self.highest.shown));
        all
    }

    /// Up to which birth the next process would show this scraper values, were this one killed now.
    fn on_disk(&self, identity: &Identity) -> u64 {
        let Some(on_disk) = &self.on_disk else {
            return u64::MAX;
        };
        let of = |checkpoint: &Vec<Shown>| {
            let all = checkpoint.iter().map(|shown| shown.birth);
            listed(checkpoint, identity)
                .or_else(|| all.max())
                .unwrap_or(0)
        };
        let on_their_way = self.on_their_way.iter().map(of);
        on_their_way.fold(of(on_disk), u64::min)
    }

    /// What the last checkpoint says of those that look so.
    fn listed(&self, identity: &Identity) -> Option<u64> {
        listed(self.on_disk.as_ref()?, identity)
    }

    /// Where a scraper begins that takes no closed one's place: at the highest that any was shown, as it may have been this
    /// one, but not beyond what is on disk of those that look alike.
    fn unknown(&self, identity: &Identity) -> Number {
        let alike = self.open.values().filter(|open| open.identity == *identity);
        let alike = alike.map(|open| open.number.settled).max().unwrap_or(0);
        let Number { shown, settled } = self.highest;
        Number {
            shown,
            settled: settled.min(self.on_disk(identity)).max(alike),
        }
    }

    fn close(&mut self, identity: Identity, number: Number) {
        let same = self
            .closed
            .iter()
            .position(|closed| closed.identity == identity);
        let mut closed = match same {
            Some(at) => self.closed.remove(at),
            None => Closed {
                identity,
                number,
                connections: 0,
            },
        };
        // Which of them comes back cannot be known.
        closed.number.raise_to(number);
        closed.connections = closed.connections.saturating_add(1);
        self.closed.push(closed);
        if self.closed.len() > CLOSED_MAX {
            self.closed.remove(0);
        }
    }
}

/// What a checkpoint says of those that look so.
fn listed(checkpoint: &[Shown], identity: &Identity) -> Option<u64> {
    let alike = checkpoint.iter().filter(|shown| identity.is_of(shown));
    alike.map(|shown| shown.birth).max()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn identity(number: u8) -> Identity {
        let address = Ipv4Addr::new(192, 0, 2, number);
        Identity::new(address.into(), "Prometheus/3.16.0", false)
    }

    /// A whole exchange: the birth up to which values are shown, and that the answer shows.
    fn scrape(scrapers: &Scrapers, id: ScraperId, birth: u64) -> u64 {
        let settled = scrapers.ask(id);
        scrapers.answered(id, birth);
        settled
    }

    #[test]
    fn each_scraper_is_shown_a_birth_once_at_zero() {
        let scrapers = Scrapers::new(&[], false);
        assert_eq!(scrapers.shown_to_all(), None);
        let [a, b] = [1, 2].map(|number| scrapers.connect(identity(number)));
        assert_eq!([a, a, b].map(|id| scrape(&scrapers, id, 5)), [0, 5, 0]);
        assert_eq!(scrapers.shown_to_all(), Some(0));
        assert_eq!([b, a, b].map(|id| scrape(&scrapers, id, 7)), [5, 5, 7]);
        assert_eq!(scrapers.shown_to_all(), Some(5));
        // It goes on where it stopped, and finds what it missed.
        scrapers.disconnect(a, true);
        let a = scrapers.connect(identity(1));
        assert_eq!(scrape(&scrapers, a, 9), 7);
        // What was lost on its way is given again.
        scrapers.disconnect(a, false);
        let a = scrapers.connect(identity(1));
        assert_eq!([a, a].map(|id| scrape(&scrapers, id, 9)), [7, 9]);
        // Nobody knows whether it saw what others did.
        let new = scrapers.connect(identity(3));
        assert_eq!(scrape(&scrapers, new, 12), 9);
    }

    #[test]
    fn of_several_that_look_alike_the_highest_number_counts() {
        let scrapers = Scrapers::new(&[], false);
        let [a, b] = [1, 1].map(|number| scrapers.connect(identity(number)));
        assert_eq!([a, a, b].map(|id| scrape(&scrapers, id, 5)), [0, 5, 0]);
        scrapers.disconnect(b, true);
        // The other one is still there, so this is the one that left.
        let b = scrapers.connect(identity(1));
        assert_eq!([a, a].map(|id| scrape(&scrapers, id, 8)), [5, 8]);
        assert_eq!(scrape(&scrapers, b, 8), 5);
        let [a, b] = [a, b]
            .map(|id| {
                scrapers.disconnect(id, id != b);
                id
            })
            .map(|_| scrapers.connect(identity(1)));
        assert_eq!([a, b].map(|id| scrape(&scrapers, id, 8)), [8, 8]);
    }

    #[test]
    fn the_connections_of_a_proxy_are_one() {
        let scrapers = Scrapers::new(&[], false);
        let identity = Identity::new(Ipv4Addr::LOCALHOST.into(), "", true);
        let [a, b] = [(); 2].map(|()| scrapers.connect(identity.clone()));
        assert_eq!([a, a, b].map(|id| scrape(&scrapers, id, 5)), [0, 5, 5]);
    }

    #[test]
    fn a_birth_is_shown_once_a_checkpoint_knows_of_it() {
        let scrapers = Scrapers::new(&[], true);
        let a = scrapers.connect(identity(1));
        assert_eq!([a, a].map(|id| scrape(&scrapers, id, 5)), [0, 0]);
        assert!(scrapers.take_changed() && !scrapers.take_changed());
        let saved = scrapers.save();
        assert_eq!(scrape(&scrapers, a, 6), 0);
        scrapers.saved(&saved);
        assert_eq!(scrape(&scrapers, a, 6), 5);
        scrapers.save_failed();
        assert_eq!(scrape(&scrapers, a, 6), 6);
        // Killed: the next process knows of the last checkpoint.
        let scrapers = Scrapers::new(&saved, true);
        let [a, b] = [1, 2].map(|number| scrapers.connect(identity(number)));
        assert_eq!([a, b].map(|id| scrape(&scrapers, id, 9)), [5, 5]);
    }

    #[test]
    fn a_checkpoint_that_was_taken_before_and_is_written_later_takes_nothing_back() {
        let scrapers = Scrapers::new(&[], true);
        let a = scrapers.connect(identity(1));
        assert_eq!(scrape(&scrapers, a, 1), 0);
        // It lists nobody but the first, so others would begin at the highest number.
        let first = scrapers.save();
        let b = scrapers.connect(identity(2));
        scrapers.ask(b);
        scrapers.disconnect(b, false);
        scrapers.saved(&first);
        let second = scrapers.save();
        let b = scrapers.connect(identity(2));
        assert_eq!([b, b].map(|id| scrape(&scrapers, id, 1)), [0, 0]);
        scrapers.saved(&second);
        let third = scrapers.save();
        assert_eq!(scrape(&scrapers, b, 1), 0);
        scrapers.saved(&third);
        assert_eq!(scrape(&scrapers, b, 1), 1);
        // One that will never be written holds up nobody.
        let c = scrapers.connect(identity(1));
        scrape(&scrapers, c, 2);
        let fourth = scrapers.save();
        scrapers.save();
        scrapers.not_saved();
        scrapers.saved(&fourth);
        assert_eq!(scrape(&scrapers, c, 2), 2);
    }

    #[test]
    fn what_is_known_of_scrapers_is_bounded() {
        let scrapers = Scrapers::new(&[], false);
        for number in 0..10_000 {
            let user_agent = format!("{number}{}", "ø".repeat(10_000));
            let id = scrapers.connect(Identity::new(
                Ipv4Addr::LOCALHOST.into(),
                &user_agent,
                false,
            ));
            scrape(&scrapers, id, number);
            scrapers.disconnect(id, true);
        }
        let saved = scrapers.save();
        assert_eq!(saved.len(), CLOSED_MAX + 1);
        assert!(
            saved
                .iter()
                .all(|shown| shown.user_agent.len() <= USER_AGENT_BYTES_MAX)
        );
        // Those that were forgotten were shown no more than this.
        let again = Scrapers::new(&saved, false);
        let id = again.connect(identity(1));
        assert_eq!(again.ask(id), 9_999);
    }

    /// What may happen between an exporter and those who scrape it.
    #[derive(Clone, Debug)]
    enum Step {
        /// A series gets its first event, or one more.
        Count(u8),
        Scrape(usize, Fate),
        /// The connection ends between two scrapes.
        Leave(usize, bool),
        /// A checkpoint is taken, and is on disk a while later, or fails.
        Checkpoint,
        OnDisk,
        Killed,
        Restarted,
    }

    /// What becomes of an answer.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Fate {
        Arrives,
        /// The client is gone before all is written.
        IsCut,
        /// All is written, and then the connection is reset.
        IsLost,
    }

    const CLIENTS: usize = 5;
    /// The first three look alike, the others can be told apart.
    const ADDRESSES: [u8; CLIENTS] = [1, 1, 1, 2, 3];

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let fate = prop_oneof![
            4 => Just(Fate::Arrives),
            1 => Just(Fate::IsCut),
            1 => Just(Fate::IsLost)
        ];
        let step = prop_oneof![
            6 => (0u8..20).prop_map(Step::Count),
            10 => (0..CLIENTS, fate).prop_map(|(client, fate)| Step::Scrape(client, fate)),
            2 => (0..CLIENTS, any::<bool>()).prop_map(|(client, orderly)| Step::Leave(client, orderly)),
            3 => Just(Step::Checkpoint),
            3 => Just(Step::OnDisk),
            1 => Just(Step::Killed),
            1 => Just(Step::Restarted),
        ];
        prop::collection::vec(step, 0..200)
    }

    /// An exporter with its state directory; series by name.
    struct Exporter {
        scrapers: Scrapers,
        /// What the log says.
        log: BTreeMap<u8, u64>,
        /// The numbers of births.
        born: BTreeMap<u8, u64>,
        /// A checkpoint on its way, and the one on disk.
        taken: Option<Checkpoint>,
        on_disk: Checkpoint,
        connections: [Option<ScraperId>; CLIENTS],
        has_state: bool,
        /// An answer that was lost may be in the checkpoint on disk as one on its way.
        is_lost_unsaved: bool,
    }

    #[derive(Clone, Default)]
    struct Checkpoint {
        born: BTreeMap<u8, u64>,
        shown: Vec<Shown>,
    }

    impl Exporter {
        fn count(&mut self, series: u8) {
            *self.log.entry(series).or_default() += 1;
            let next = self.born.values().max().map_or(1, |last| last + 1);
            self.born.entry(series).or_insert(next);
        }

        fn checkpoint(&mut self) {
            self.taken = Some(Checkpoint {
                shown: self.scrapers.save(),
                born: self.born.clone(),
            });
            self.is_lost_unsaved = false;
        }

        fn put_on_disk(&mut self) {
            if let Some(taken) = self.taken.take()
                && self.has_state
            {
                self.scrapers.saved(&taken.shown);
                self.on_disk = taken;
            }
        }

        /// Another process goes on from the last checkpoint; what came later it reads again, in another order.
        fn restart(&mut self) {
            self.connections = [None; CLIENTS];
            self.taken = None;
            self.scrapers = Scrapers::new(&self.on_disk.shown, true);
            self.born = self.on_disk.born.clone();
            let mut next = self.born.values().max().copied().unwrap_or(0);
            for series in self.log.keys().rev() {
                self.born.entry(*series).or_insert_with(|| {
                    next += 1;
                    next
                });
            }
        }

        fn leave(&mut self, client: usize, arrived: bool) {
            if let Some(id) = self.connections[client].take() {
                self.scrapers.disconnect(id, arrived);
            }
        }

        /// What arrives of a scrape.
        fn scrape(&mut self, client: usize, fate: Fate) -> Option<BTreeMap<u8, u64>> {
            let connect = || self.scrapers.connect(identity(ADDRESSES[client]));
            let id = *self.connections[client].get_or_insert_with(connect);
            let settled = self.scrapers.ask(id);
            let value = |(series, number): (&u8, &u64)| match *number > settled {
                true => (*series, 0),
                false => (*series, self.log[series]),
            };
            let answer = self.born.iter().map(value).collect();
            if fate != Fate::IsCut {
                let birth = self.born.values().max().copied().unwrap_or(0);
                self.scrapers.answered(id, birth);
            }
            if fate != Fate::Arrives {
                self.leave(client, false);
                self.is_lost_unsaved = true;
                return None;
            }
            Some(answer)
        }
    }

    proptest! {
        /// Whatever happens: no value falls, and who can be told apart sees each series at 0 first that was born after its
        /// first scrape.
        #[test]
        fn nothing_falls_and_no_first_event_is_lost(steps in steps(), has_state: bool) {
            let mut exporter = Exporter {
                scrapers: Scrapers::new(&[], has_state),
                log: BTreeMap::new(),
                born: BTreeMap::new(),
                taken: None,
                on_disk: Checkpoint::default(),
                connections: [None; CLIENTS],
                has_state,
                is_lost_unsaved: false,
            };
            let mut seen: [BTreeMap<u8, u64>; CLIENTS] = Default::default();
            // Series that were there before a client's first scrape.
            let mut old: [Option<Vec<u8>>; CLIENTS] = Default::default();
            let mut look = |exporter: &mut Exporter, client: usize, fate| {
                let Some(fate) = fate else {
                    // A process that was killed before a checkpoint knew of this scraper: the next one cannot know it.
                    old[client] = None;
                    return Ok(());
                };
                let known: Vec<u8> = exporter.log.keys().copied().collect();
                let Some(answer) = exporter.scrape(client, fate) else { return Ok(()) };
                let old = old[client].get_or_insert(known);
                for (series, value) in answer {
                    let before = seen[client].insert(series, value);
                    prop_assert!(before.unwrap_or(0) <= value, "client {client}: series {series} falls");
                    if client >= 3 && before.is_none() && !old.contains(&series) {
                        prop_assert_eq!(value, 0, "client {}: series {}", client, series);
                    }
                }
                Ok(())
            };
            for step in steps {
                match step {
                    Step::Count(series) => exporter.count(series),
                    Step::Scrape(client, fate) => look(&mut exporter, client, Some(fate))?,
                    Step::Leave(client, arrived) => exporter.leave(client, arrived),
                    Step::Checkpoint => exporter.checkpoint(),
                    Step::OnDisk => exporter.put_on_disk(),
                    Step::Killed if has_state && !exporter.is_lost_unsaved => {
                        for (client, number) in ADDRESSES.iter().enumerate() {
                            let address = identity(*number).address;
                            if !exporter.on_disk.shown.iter().any(|shown| shown.address == address) {
                                look(&mut exporter, client, None)?;
                            }
                        }
                        exporter.restart();
                    }
                    Step::Restarted if has_state => {
                        for client in 0..CLIENTS {
                            exporter.leave(client, false);
                        }
                        exporter.checkpoint();
                        exporter.put_on_disk();
                        exporter.restart();
                    }
                    Step::Killed | Step::Restarted => {}
                }
            }
            // In the end everybody sees everything.
            for _ in 0..3 {
                for client in 0..CLIENTS {
                    look(&mut exporter, client, Some(Fate::Arrives))?;
                }
                exporter.checkpoint();
                exporter.put_on_disk();
            }
            for seen in seen {
                prop_assert_eq!(&seen, &exporter.log);
            }
        }
    }
}
