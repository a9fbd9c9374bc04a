//! What benches are fed with: the examples of all packs, so that no single mix of lines is tuned for.
#![allow(dead_code, reason = "each bench uses a part of it")]

use std::collections::BTreeMap;
use std::sync::Arc;

use appliance_log_exporter::engine::{Engine, StreamContext, Worker};
use appliance_log_exporter::metric::Limits;
use appliance_log_exporter::record::{Clock, Programs, parse};
use appliance_log_exporter::rules::{self, Example, RuleSet, Settings};

/// The name under which all examples are found.
pub const ALL: &str = "all programs";
/// A program with fewer examples says little.
const LINES_MIN: usize = 20;

pub struct Examples {
    pub rules: Arc<RuleSet>,
    pub programs: Programs,
    /// Whole lines by program, those of [`ALL`] included; repeated marks and all.
    pub lines: BTreeMap<String, Vec<String>>,
}

impl Examples {
    pub fn load() -> Self {
        let rules =
            Arc::new(rules::load(&[], Settings::default()).expect("the packs are in order"));
        let programs = worker(&rules).engine().programs().clone();
        let mut lines: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for example in rules.rules.iter().flat_map(|rule| &rule.examples) {
            let Example::Lines { lines: own, .. } = example else {
                continue;
            };
            for line in own {
                let program = parse(line.as_bytes(), &programs).program_id;
                let program = program.map_or("other", |id| programs.name(id)).to_owned();
                lines.entry(program).or_default().push(line.clone());
            }
        }
        let all = lines.values().flatten().cloned().collect();
        lines.retain(|_, lines| lines.len() >= LINES_MIN);
        lines.insert(ALL.to_owned(), all);
        Self {
            rules,
            programs,
            lines,
        }
    }

    /// All lines, as a file has them.
    pub fn text(&self) -> String {
        self.lines[ALL].join("\n") + "\n"
    }
}

pub fn worker(rules: &Arc<RuleSet>) -> Worker {
    let engine = Engine::new(rules.clone(), Limits::default(), &[]).expect("the packs compile");
    Worker::new(Arc::new(engine))
}

pub fn origin() -> StreamContext {
    StreamContext::new(Clock {
        zone: jiff::tz::TimeZone::UTC,
        now: jiff::Timestamp::UNIX_EPOCH,
    })
}
