//! All sources of a process, as one.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::Value;

use crate::followed::Files;
use crate::pipeline::Pipeline;
use crate::source::{OnDisk, Positions, Source, StreamStatus};
use crate::tail::Progress;

/// What the reading thread polls.
pub(super) struct Sources {
    /// The one that waits for all; it is made anew by a reload.
    pub(super) files: Files,
    pub(super) others: Vec<Box<dyn Source>>,
    /// Positions of streams that a former process left. They are kept for those that no source has at present, since
    /// settings may bring them back.
    pub(super) former: BTreeMap<String, Value>,
}

impl Sources {
    pub(super) fn new(
        files: Files,
        others: Vec<Box<dyn Source>>,
        former: BTreeMap<String, Value>,
    ) -> Self {
        Sources {
            files,
            others,
            former,
        }
    }

    fn all(&self) -> impl Iterator<Item = &dyn Source> {
        let others = self.others.iter().map(|source| &**source);
        std::iter::once::<&dyn Source>(&self.files).chain(others)
    }

    /// Polls each in turn.
    pub(super) fn read(&mut self, now: Instant, pipeline: &mut Pipeline) -> Progress {
        let mut all = self.files.read(now, pipeline);
        for source in &mut self.others {
            let progress = source.read(now, pipeline);
            all.bytes += progress.bytes;
            all.more |= progress.more;
        }
        all
    }

    /// How far all were read, and whom to call once that is on disk. All that was read must be counted.
    pub(super) fn positions(&self, pipeline: &Pipeline) -> (Positions, Vec<OnDisk>) {
        let mut positions = Positions {
            streams: self.former.clone(),
            ..Positions::default()
        };
        let held_bytes = |file| pipeline.held_bytes(file);
        let of = |source: &dyn Source| source.positions(&held_bytes, &mut positions);
        let on_disk = self.all().filter_map(of).collect();
        (positions, on_disk)
    }

    /// Describes the streams of all.
    pub(super) fn status(&self, mut each: impl FnMut(StreamStatus)) {
        self.all().for_each(|source| source.status(&mut each));
    }

    /// Bytes that wait to be read.
    pub(super) fn lag_bytes(&self) -> u64 {
        let mut all = 0;
        self.status(|stream| all += stream.lag_bytes);
        all
    }

    /// Takes in nothing more.
    pub(super) fn stop(&mut self, pipeline: &mut Pipeline) {
        for source in &mut self.others {
            source.stop(pipeline);
        }
    }
}
