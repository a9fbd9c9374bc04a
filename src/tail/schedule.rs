//! When what is looked at and read: hints of the watcher, periodic looks, and a queue in which paths take turns.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::content::Content;
use super::followed_path::FollowedPath;
use super::generation::Generation;
use super::watch::{Hint, Watch};
use super::{Progress, Shared, Sink, Tail, Watcher};

/// How much one call of [`Tail::read`] reads at most, in bytes, give or take a chunk.
const READ_BYTES: usize = 1024 * 1024;

/// How long one call of [`Tail::read`] looks at paths at most.
pub(super) const LOOK_FOR: Duration = Duration::from_millis(200);

/// How often rotated files are looked at until they are quiet for long enough.
const DRAIN_POLL: Duration = Duration::from_millis(50);

/// Where the watcher alone is not to be relied upon: how often files are looked at that had something to read in the last
/// [`BUSY_FOR`]. What is unlinked and made anew more often than a file is looked at is never seen.
const BUSY_POLL: Duration = Duration::from_millis(10);

/// See [`BUSY_POLL`].
const BUSY_FOR: Duration = Duration::from_secs(2);

/// How many files are looked at that often, so that it costs next to nothing.
const BUSY_MAX: usize = 64;

/// After the first event of a burst, how long its followers are waited for.
const COALESCE: Duration = Duration::from_millis(2);

impl Tail {
    /// Reads what is there, up to about 1 MiB, file by file in turn, and looks at files whose time has come. `now` must
    /// not go back. Never blocks longer than the file system does.
    pub fn read(&mut self, now: Instant, sink: &mut impl Sink) -> Progress {
        self.take_hints();
        // A round that takes longer than the time between two is finished before the next one.
        let is_free = self.round.is_none();
        if is_free && self.next_rescan.is_none_or(|next| next <= now) {
            self.search = true;
            self.begin_round(now);
            self.followed
                .iter_mut()
                .for_each(|path| path.look_beside = true);
            self.next_rescan = Some(now + self.shared.options.rescan);
        } else if is_free
            && self.watch.kind() != Watcher::Inotify
            && self.next_poll.is_none_or(|next| next <= now)
        {
            self.begin_round(now);
            self.next_poll = Some(now + self.shared.options.poll);
        }
        if self.next_busy.is_some_and(|next| next <= now) {
            self.mark_busy(now);
        }
        if std::mem::take(&mut self.search) {
            self.search(sink);
        }
        if self.next_drain.is_some_and(|next| next <= now) {
            self.next_drain = None;
            self.mark_draining();
        }
        if !self.look_at_queued(sink) {
            // There are many; whoever reads has other things to look at, too.
            return Progress {
                bytes: 0,
                more: true,
            };
        }
        if self.round.take().is_some_and(|begun| begun < now) {
            // It took long: the time until the next one is for reading.
            self.next_rescan = Some(now + self.shared.options.rescan);
            self.next_poll = self.next_poll.map(|_| now + self.shared.options.poll);
        }
        let mut bytes = 0;
        let mut later = VecDeque::new();
        while bytes < READ_BYTES
            && let Some(index) = self.queue.pop_front()
        {
            bytes += self.serve(index, now, &mut later, sink);
        }
        self.queue.append(&mut later);
        Progress {
            bytes: bytes as u64,
            more: !self.queue.is_empty() || self.search,
        }
    }

    /// Looks at the paths in the queue that have to be looked at, then at what lies beside them. Says whether all of it
    /// could be done within [`Tail::look_for`].
    fn look_at_queued(&mut self, sink: &mut impl Sink) -> bool {
        let deadline = Instant::now() + self.look_for;
        for at in 0..self.queue.len() {
            let Some(index) = self.queue.get(at).copied() else {
                break;
            };
            if self.followed.get(index).is_some_and(|path| path.look) {
                self.look_at(index, sink);
                if Instant::now() >= deadline {
                    return false;
                }
            }
        }
        loop {
            // Directories are listed after the paths were looked at: what was there is found under its new name.
            self.shared.listings.clear();
            let starting = self.shared.starting;
            for at in 0..self.queue.len() {
                let Some(index) = self.queue.get(at).copied() else {
                    break;
                };
                if self.followed.get(index).is_some_and(|path| path.unresolved) {
                    self.with_path(index, |path, others, shared| {
                        let known = path.compressed.len();
                        path.resolve_rotations(others, shared, sink);
                        path.report_compressed(known, sink);
                        path.pending |= std::mem::take(&mut path.unresolved);
                    });
                    // However long a directory takes, half of the time goes into what lies in it.
                    let listing = self.shared.listings.took();
                    if Instant::now() >= deadline + 2 * listing {
                        return false;
                    }
                }
            }
            if !starting {
                break;
            }
            // Everything that is there was seen: what was not found is nowhere.
            self.shared.starting = false;
            for path in &mut self.followed {
                path.unresolved |= std::mem::take(&mut path.pending);
            }
        }
        self.shared.listings.clear();
        self.shared.registry.all_are_met();
        true
    }

    fn with_path(
        &mut self,
        index: usize,
        act: impl FnOnce(&mut FollowedPath, &mut [FollowedPath], &mut Shared),
    ) {
        let Some(place) = self.followed.get_mut(index) else {
            return;
        };
        // While one path is worked on, what others lost sight of may turn out to be its own.
        let vacant = FollowedPath::new(index, place.info.clone(), place.read_from);
        let mut path = std::mem::replace(place, vacant);
        act(&mut path, &mut self.followed, &mut self.shared);
        if let Some(place) = self.followed.get_mut(index) {
            *place = path;
        }
        for (owner, archive) in self.shared.registry.take_displaced() {
            if let Some(path) = self.followed.get_mut(owner) {
                path.displace(archive, &self.shared);
            }
        }
    }

    fn look_at(&mut self, index: usize, sink: &mut impl Sink) {
        let mut changed = None;
        self.with_path(index, |path, others, shared| {
            let before = path.target.clone();
            path.look(others, shared, sink);
            if path.target != before {
                changed = Some((before, path.target.clone()));
            }
        });
        if let Some((before, target)) = changed {
            if let Some(before) = before {
                self.targets.remove(&before);
            }
            if let Some(target) = target {
                self.targets.insert(target, index);
                // Its directory has to be watched too.
                self.search = true;
            }
        }
        self.close_quiet_if_many(sink);
    }

    /// Reads one chunk of one path. Returns the bytes read.
    fn serve(
        &mut self,
        index: usize,
        now: Instant,
        later: &mut VecDeque<usize>,
        sink: &mut impl Sink,
    ) -> usize {
        let is_closed = |generation: &Generation| generation.ready && !generation.is_open();
        if self
            .followed
            .get(index)
            .and_then(FollowedPath::current)
            .is_some_and(is_closed)
        {
            // It was closed to save a descriptor.
            self.look_at(index, sink);
        }
        let Some(path) = self.followed.get_mut(index) else {
            return 0;
        };
        path.queued = false;
        let bytes = path.read(now, &mut self.shared, sink);
        if bytes > 0 && self.watch.kind() != Watcher::Inotify {
            let until = now + BUSY_FOR;
            if let Some((_, known)) = self.busy.iter_mut().find(|(busy, _)| *busy == index) {
                *known = until;
            } else if self.busy.len() < BUSY_MAX {
                self.busy.push((index, until));
            }
            self.next_busy.get_or_insert(now + BUSY_POLL);
        }
        if path.is_draining() && self.next_drain.is_none() {
            self.next_drain = Some(now + DRAIN_POLL);
        }
        // A path that could not be opened is looked at again when its time comes, not at once.
        if path.unresolved || path.look && path.trouble.is_none() {
            path.queued = true;
            later.push_back(index);
        } else if bytes > 0 && path.is_ready() {
            path.queued = true;
            self.queue.push_back(index);
        }
        self.close_quiet_if_many(sink);
        bytes
    }

    fn close_quiet_if_many(&mut self, sink: &mut impl Sink) {
        if self.shared.opened > (self.shared.options.open_files_max / 8).min(64) {
            self.shared.opened = 0;
            self.close_quiet(sink);
        }
    }

    /// Some path was found that no checkpoint knows. Nothing of it is handed on before [`Tail::saved`] is called: whoever
    /// counts it saves the [positions](Tail::positions) first, so that what is rotated after that is known to be news.
    /// Always false without [`Options::durable`](super::Options::durable).
    pub fn has_unsaved(&self) -> bool {
        self.shared.unsaved && !self.followed.iter().any(|path| path.queued && path.look)
    }

    /// The present positions are on disk, or cannot be had there.
    pub fn saved(&mut self) {
        self.shared.unsaved = false;
        for path in self.followed.iter_mut().filter(|path| path.unsaved) {
            path.unsaved = false;
            enqueue(path, &mut self.queue);
        }
    }

    /// Waits until something may have changed, a [`Waker`](super::Waker) is used, or `timeout` is over; shorter if files have to be
    /// looked at before.
    pub fn wait(&mut self, timeout: Duration) {
        if !self.queue.is_empty() || self.search {
            return;
        }
        let next_poll = self
            .next_poll
            .filter(|_| self.watch.kind() != Watcher::Inotify);
        let next = [self.next_rescan, next_poll, self.next_busy, self.next_drain]
            .into_iter()
            .flatten()
            .min();
        let now = Instant::now();
        let timeout = next.map_or(timeout, |next| {
            timeout.min(next.saturating_duration_since(now))
        });
        let timeout = Timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let watch = self.watch.descriptor();
        let followed: &[FollowedPath] = match self.shared.pipes {
            true => &self.followed,
            false => &[],
        };
        let pipes: Vec<_> = followed
            .iter()
            .flat_map(|path| &path.generations)
            .filter_map(Generation::pipe)
            .collect();
        let mut fds = vec![PollFd::new(&self.wake_receiver, PollFlags::IN)];
        fds.extend(watch.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        fds.extend(pipes.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        // An interrupted wait is a short one.
        let _ = poll(&mut fds, Some(&timeout));
        let is_ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        let watch_ready = watch.is_some() && fds.get(1).is_some_and(is_ready);
        let pipes_ready = fds
            .iter()
            .skip(1 + usize::from(watch.is_some()))
            .any(is_ready);
        let woken = fds.first().is_some_and(is_ready);
        if woken {
            let mut signals = [0; 64];
            while io::Read::read(&mut &self.wake_receiver, &mut signals).is_ok_and(|len| len > 0) {}
        }
        if pipes_ready {
            self.mark_pipes();
        }
        if watch_ready && !woken {
            // A writer that writes line by line would wake us up for each.
            std::thread::sleep(COALESCE);
        }
    }

    pub(super) fn fall_back(&mut self, error: &io::Error) {
        self.watch = Watch::Poll;
        self.watching.watcher = Watcher::Poll;
        self.watching.fallback = Some(error.to_string().into());
    }

    pub(super) fn take_hints(&mut self) {
        let mut everything = false;
        let is_full = self.is_full();
        let Tail {
            watch,
            followed,
            paths,
            targets,
            queue,
            search,
            shared,
            ..
        } = self;
        let result = watch.hints(|hint| match hint {
            Hint::Everything => everything = true,
            Hint::Directories => *search = true,
            // A directory of files that we follow may have busy neighbours.
            Hint::Directory(path) => {
                let mut patterns = shared.sources.iter().flat_map(|source| &source.include);
                *search |= patterns.any(|pattern| pattern.depends_on(path))
                    || targets.keys().any(|target| target.starts_with(path));
            }
            Hint::Written(path) | Hint::Renamed(path) => {
                let renamed = matches!(hint, Hint::Renamed(_));
                match paths
                    .get(path)
                    .or_else(|| targets.get(path))
                    .and_then(|index| followed.get_mut(*index))
                {
                    Some(followed) => {
                        followed.look |= renamed || followed.current().is_none();
                        if let Some(current) = followed.generations.last_mut() {
                            current.ready = true;
                        }
                        enqueue(followed, queue);
                    }
                    // The limit is reached; it is counted at the next rescan.
                    None if is_full => {}
                    // A rotated name, or a new file that matches a source.
                    None => {
                        let matches = || {
                            shared
                                .sources
                                .iter()
                                .any(|source| source.matches(path).is_some())
                        };
                        *search |= renamed && path.exists() && matches();
                    }
                }
            }
        });
        if let Err(error) = result {
            self.fall_back(&error);
            everything = true;
        }
        if everything {
            self.watching.overflows += 1;
            self.search = true;
            self.mark_all();
        }
    }

    fn begin_round(&mut self, now: Instant) {
        self.round = Some(now);
        self.mark_all();
    }

    pub(super) fn mark_all(&mut self) {
        for path in &mut self.followed {
            path.look = true;
            for generation in &mut path.generations {
                // A look at the path tells nothing of a pipe, nor of what was rotated away.
                generation.ready |= generation.is_pipe() || !generation.current;
            }
            enqueue(path, &mut self.queue);
        }
    }

    fn mark_busy(&mut self, now: Instant) {
        self.busy.retain(|(_, until)| *until > now);
        self.next_busy = (!self.busy.is_empty()).then_some(now + BUSY_POLL);
        for (index, _) in &self.busy {
            if let Some(path) = self.followed.get_mut(*index) {
                path.look = true;
                enqueue(path, &mut self.queue);
            }
        }
    }

    fn mark_draining(&mut self) {
        for path in self.followed.iter_mut().filter(|path| path.is_draining()) {
            for generation in path
                .generations
                .iter_mut()
                .filter(|generation| !generation.current)
            {
                generation.ready = true;
            }
            enqueue(path, &mut self.queue);
        }
    }

    fn mark_pipes(&mut self) {
        for path in &mut self.followed {
            if let Some(current) = path
                .generations
                .last_mut()
                .filter(|generation| generation.is_pipe())
            {
                current.ready = true;
                enqueue(path, &mut self.queue);
            }
        }
    }

    /// Closes files until there are no more open ones than allowed: quiet ones first, least recently written first
    /// (roughly: a clock hand goes round), then those that wait to be read, which are opened again for that. If that is
    /// not enough, files that were rotated away and are quiet are finished early.
    fn close_quiet(&mut self, sink: &mut impl Sink) {
        let finished = self.followed.iter().filter(|path| path.finished.is_some());
        let open = self
            .followed
            .iter()
            .flat_map(|path| &path.generations)
            .filter(|generation| generation.is_open())
            .count()
            + finished.count();
        let mut excess = open.saturating_sub(self.shared.options.open_files_max);
        let mut finished = self.followed.iter_mut().map(|path| &mut path.finished);
        while excess > 0
            && let Some(finished) = finished.find(|finished| finished.is_some())
        {
            *finished = None;
            excess -= 1;
        }
        for spare_ready in [true, false] {
            for _ in 0..self.followed.len() {
                if excess == 0 {
                    return;
                }
                self.hand = (self.hand + 1) % self.followed.len();
                let current = self
                    .followed
                    .get_mut(self.hand)
                    .and_then(|path| path.generations.last_mut());
                if let Some(generation) = current
                    && generation.current
                    && !(spare_ready && generation.ready)
                    && matches!(generation.content, Content::Plain(_))
                {
                    generation.content = Content::Closed;
                    excess -= 1;
                }
            }
        }
        for path in &mut self.followed {
            let is_quiet = |g: &Generation| !g.current && !g.ready && g.is_open();
            while excess > 0
                && let Some(at) = path.generations.iter().position(is_quiet)
            {
                path.finish(at, &mut self.shared, sink);
                excess -= 1;
            }
        }
    }
}

pub(super) fn enqueue(path: &mut FollowedPath, queue: &mut VecDeque<usize>) {
    if !path.queued {
        path.queued = true;
        queue.push_back(path.index);
    }
}
