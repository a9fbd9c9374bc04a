//! YAML as written becomes a checked [`RuleSet`]: templates, labels, metrics and examples that make sense.
//!
//! Whatever can be wrong in a rule is found here, before the first byte of a log is read, and all of it at once.
//! How a rule set is matched is the business of [`crate::matcher`]. docs/rules.md is the manual of the language.

mod build;
mod choice;
mod directory;
mod file;
mod format;
mod piece;
mod template;
mod text;
mod when;

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

pub(crate) use directory::{overlooked, read as texts};
pub use piece::{Class, Piece};
pub use template::{Capture, Template};
pub use text::{Field, Map, Part, Transform, ValueRef, ValueTemplate};
pub(crate) use when::is_one_of;
pub use when::{HeaderField, When};

use crate::diagnostic::Diagnostic;
use crate::metric::MetricDesc;

/// Rules look at so many bytes of a message; what stands behind them is not there for them. Senders of syslog end a message
/// before that: rsyslog at 8 KiB.
pub(crate) const MESSAGE_BYTES_MAX: usize = 8 << 10;

/// The part of a message that rules look at.
#[inline]
pub(crate) fn looked_at(message: &[u8]) -> &[u8] {
    message.get(..MESSAGE_BYTES_MAX).unwrap_or(message)
}

/// Largest compiled regular expression of a rule, bytes.
pub(crate) const REGEX_BYTES_MAX: usize = 1 << 20;

/// A rule, as an index into [`RuleSet::rules`]. The order is the order of matching.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub u32);

/// Everything that the loaded packs say.
#[derive(Clone, Debug, Default)]
pub struct RuleSet {
    /// The packs, in the order of matching.
    pub packs: Vec<Pack>,
    /// The programs that they know.
    pub programs: Vec<Program>,
    /// How messages without a program are known by their body.
    pub formats: Vec<crate::record::BodyFormat>,
    /// The metrics that they declare.
    pub metrics: Vec<Metric>,
    /// The rules, first match first.
    pub rules: Vec<Rule>,
    /// What is allowed but not right: `check` reports it, a run does not mind.
    pub lints: Vec<Diagnostic>,
    /// What is right and may surprise: a start and `check` report it.
    pub warnings: Vec<Diagnostic>,
}

/// A pack, without its rules.
#[derive(Clone, Debug)]
pub struct Pack {
    /// Its unique name.
    pub name: Arc<str>,
    /// What it is about, in a sentence.
    pub about: String,
    /// The device profiles it belongs to.
    pub profiles: Vec<Arc<str>>,
    /// Where it was read from.
    pub file: Arc<str>,
    /// It came with the exporter, whose tests have compiled all that is in it.
    pub is_built_in: bool,
}

/// A program that packs read.
#[derive(Clone, Debug)]
pub struct Program {
    /// The name that the label `program` shows.
    pub name: String,
    /// Other spellings.
    pub aliases: Vec<String>,
    /// The packs that name it, as indices into [`RuleSet::packs`].
    pub packs: Vec<usize>,
}

/// A metric, and who declares it.
#[derive(Clone, Debug)]
pub struct Metric {
    /// What the series table knows of it; `appliance` is the first label.
    pub spec: MetricDesc,
    /// The packs that declare it, as indices into [`RuleSet::packs`].
    pub packs: Vec<usize>,
}

/// Which lines a rule sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those of these programs, as indices into [`RuleSet::programs`].
    Programs(Vec<usize>),
    /// Those of every program, known or not, after the program's own rules.
    Every,
    /// Those in which no program was found.
    Nameless,
}

/// One way to write a message.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// A template, and the rule's variable for each of its captures.
    Template {
        /// The template.
        template: Arc<Template>,
        /// ASCII case does not matter.
        ignore_case: bool,
        /// For each capture of the template the index of the rule's variable.
        variables: Arc<[usize]>,
    },
    /// A regular expression, anchored at the start, and the rule's variable for each group; `None` for unnamed ones.
    Regex {
        /// The expression as written, with `ignore_case` folded in.
        source: Arc<str>,
        /// For each group after the whole match the index of the rule's variable.
        variables: Arc<[Option<usize>]>,
    },
}

/// How two numbers are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is what its name says")]
pub enum Comparison {
    Le,
    Lt,
    Ge,
    Gt,
    Eq,
    Ne,
}

/// How a variable is made from others.
#[derive(Clone, Debug)]
pub enum Binding {
    /// A text with values.
    Text(ValueTemplate),
    /// `1` or `0`.
    Compare(Comparison, ValueTemplate, ValueTemplate),
    /// The first of these parameters that the structured data or the message has.
    Param(Vec<String>),
    /// The first that is not empty.
    First(Vec<ValueTemplate>),
}

/// A condition of an update.
#[derive(Clone, Debug)]
pub struct Condition {
    /// What is looked at.
    pub from: ValueRef,
    /// The values that count.
    pub values: Vec<String>,
    /// None of them must be it.
    pub negated: bool,
}

/// What a rule changes.
#[derive(Clone, Debug)]
pub struct Update {
    /// The metric, as an index into [`RuleSet::metrics`].
    pub metric: usize,
    /// For each label after `appliance` its text; of the label of a state set, nothing.
    pub labels: Vec<Option<ValueTemplate>>,
    /// All must hold.
    pub conditions: Vec<Condition>,
    /// What happens.
    pub verb: Action,
}

/// What a match says of somebody's attempts to get in.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// What they are counted by: a failure and a success belong together if this is the same.
    pub name: Arc<str>,
    /// Whose they are.
    pub of: ValueTemplate,
    /// All must hold.
    pub conditions: Vec<Condition>,
    /// What became of it.
    pub outcome: AttemptOutcome,
    /// What so many failures in a row are.
    pub event: Option<AttemptEvent>,
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AttemptOutcome {
    /// It failed, one more in a row.
    Failed,
    /// It succeeded, and the row is over.
    Passed,
}

/// An event that a row of failures makes.
#[derive(Clone, Debug)]
pub struct AttemptEvent {
    /// How many failures it takes; the attempt itself is one of them if it failed.
    pub after: u32,
    /// The value of the label `event`.
    pub event: Arc<str>,
}

/// What happens to the series.
#[derive(Clone, Debug)]
pub enum Action {
    /// One more for every time the line was seen.
    Inc,
    /// So much more.
    Add(ValueTemplate),
    /// The gauge's new value.
    Set(ValueTemplate),
    /// The series with the active value becomes 1, its siblings 0.
    States {
        /// The index of the state label among the labels after `appliance`.
        label: usize,
        /// The active value or values.
        active: ValueTemplate,
        /// What parts several active values.
        split: Option<String>,
    },
    /// The time of the line.
    Time,
    /// The largest weight among other series that are 1.
    Worst(Vec<Worst>),
    /// A state has ended: series are removed, or get another value. None is made.
    Clear(Box<Clear>),
}

/// The series that [`Action::Clear`] ends.
#[derive(Clone, Debug)]
pub struct Clear {
    /// For each label after `appliance` the values that match; `None` matches all.
    pub matchers: Vec<Option<Vec<ValueTemplate>>>,
    /// What they are set to; without it they are removed.
    pub value: Option<ValueTemplate>,
    /// What else must hold of each of them.
    pub and: Option<And>,
}

/// A comparison with another series that each series must pass.
#[derive(Clone, Debug)]
pub struct And {
    /// The other metric, as an index into [`RuleSet::metrics`].
    pub metric: usize,
    /// Which of its series, for each label after `appliance`.
    pub labels: Vec<ConditionLabel>,
    /// How its value must compare.
    pub comparison: Comparison,
    /// With what.
    pub number: ValueTemplate,
}

/// A label of the series that is compared.
#[derive(Clone, Debug)]
pub enum ConditionLabel {
    /// A text.
    Text(ValueTemplate),
    /// As the series that may end has it, by its place after `appliance` there.
    Same(usize),
}

impl ConditionLabel {
    /// Where it takes values of the line from.
    pub fn sources(&self) -> impl Iterator<Item = ValueRef> + '_ {
        let text = match self {
            ConditionLabel::Text(text) => Some(text),
            ConditionLabel::Same(_) => None,
        };
        text.into_iter().flat_map(ValueTemplate::sources)
    }
}

/// A group of series that [`Action::Worst`] looks at.
#[derive(Clone, Debug)]
pub struct Worst {
    /// The metric, as an index into [`RuleSet::metrics`].
    pub metric: usize,
    /// For each label after `appliance` its text; of the weighed label, nothing.
    pub labels: Vec<Option<ValueTemplate>>,
    /// The index of the weighed label among the labels after `appliance`.
    pub label: usize,
    /// The weight of each value.
    pub weights: Vec<(String, f64)>,
}

/// Lines that show what a rule is for.
#[derive(Clone, Debug)]
pub enum Example {
    /// One of these lines at least is matched by this rule, and after the last these samples are there.
    Lines {
        /// Whole log lines.
        lines: Vec<String>,
        /// Samples in the classic text format.
        samples: Vec<String>,
        /// Series that must not be there.
        absent: Vec<String>,
        /// Where it stands.
        at: Place,
    },
    /// This line is not matched by this rule.
    Not {
        /// A whole log line.
        line: String,
        /// Where it stands.
        at: Place,
    },
}

/// A place in a file, for faults that show only later. Line and column are looked up when somebody asks.
#[derive(Clone)]
pub struct Place {
    file: Arc<str>,
    text: Arc<Cow<'static, str>>,
    path: crate::diagnostic::Path,
}

impl Place {
    /// A fault at this place.
    pub fn fault(&self, message: impl Into<String>, hint: Option<String>) -> Diagnostic {
        crate::diagnostic::at(&self.file, &self.text, &self.path, message.into(), hint)
    }
}

impl fmt::Debug for Place {
    /// Without the text of the whole file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.file, self.path)
    }
}

/// One rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// `pack/event`.
    pub id: Arc<str>,
    /// Its pack, as an index into [`RuleSet::packs`].
    pub pack: usize,
    /// The value of the label `event`.
    pub event: Arc<str>,
    /// Which lines it sees.
    pub scope: Scope,
    /// The ways to write the message.
    pub patterns: Vec<Pattern>,
    /// Conditions on the header; all must hold.
    pub when: Vec<When>,
    /// The names of its captures and `let`s.
    pub variables: Vec<String>,
    /// How the last of the variables are made, in order: (variable, how).
    pub lets: Vec<(usize, Binding)>,
    /// What it changes.
    pub updates: Vec<Update>,
    /// What it says of somebody's attempts to get in.
    pub attempts: Box<[Attempt]>,
    /// An alert looks at this event.
    pub notable: bool,
    /// Later rules see the line too.
    pub go_on: bool,
    /// What the message means.
    pub help: String,
    /// The layout was seen in the field, not only documented.
    pub seen: bool,
    /// Lines that show what it is for; [`load_to_run`] leaves them out.
    pub examples: Vec<Example>,
    /// Where it stands.
    pub at: Place,
}

/// Settings that change what rules mean.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// Labels that hold a remote party's address are there.
    pub remote_address: bool,
}

/// A pack's text and where it comes from.
#[derive(Clone, Debug)]
pub struct PackText {
    /// The file as the user knows it.
    pub file: String,
    /// Its content.
    pub text: String,
}

/// A pack that came with the exporter; build.rs makes the list of them.
struct BuiltIn {
    /// Its file's name.
    file: &'static str,
    /// As it is written.
    text: &'static str,
    /// Its values as JSON, without the rules.
    head: &'static str,
    /// Its rules as JSON, without their examples.
    rules: &'static [&'static str],
}

include!(concat!(env!("OUT_DIR"), "/built_in_packs.rs"));

impl BuiltIn {
    fn name(&self) -> String {
        format!("built-in:{}", self.file)
    }
}

/// Reads the packs of these directories and the built-in ones that they do not replace, for somebody who looks at rules.
///
/// # Errors
/// Every fault in every file, and directories or files that cannot be read.
pub fn load(directories: &[PathBuf], settings: Settings) -> Result<RuleSet, Vec<Diagnostic>> {
    let built_in = BUILT_IN.iter().map(|pack| {
        build::Source::Text(PackText {
            file: pack.name(),
            text: pack.text.to_owned(),
        })
    });
    read(directories, built_in.collect(), settings, true)
}

/// As [`load`], but without examples, and faster: nothing is looked at in the built-in packs that only `check` reports.
///
/// # Errors
/// As [`load`].
pub fn load_to_run(
    directories: &[PathBuf],
    settings: Settings,
) -> Result<RuleSet, Vec<Diagnostic>> {
    let built_in = BUILT_IN.iter().map(build::Source::BuiltIn);
    read(directories, built_in.collect(), settings, false)
}

fn read(
    directories: &[PathBuf],
    built_in: Vec<build::Source>,
    settings: Settings,
    with_examples: bool,
) -> Result<RuleSet, Vec<Diagnostic>> {
    let mut faults = Vec::new();
    let own = texts(directories, &mut faults);
    let own = own.into_iter().map(build::Source::Text).collect();
    match build::build(own, built_in, settings, with_examples) {
        Ok(rules) if faults.is_empty() => Ok(rules),
        Ok(_) => Err(faults),
        Err(more) => {
            faults.extend(more);
            Err(faults)
        }
    }
}

/// Reads packs from texts alone.
///
/// # Errors
/// Every fault in every text.
pub fn parse(packs: Vec<PackText>, settings: Settings) -> Result<RuleSet, Vec<Diagnostic>> {
    let packs = packs.into_iter().map(build::Source::Text).collect();
    build::build(packs, Vec::new(), settings, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compact_form_of_the_packs_says_what_they_say() {
        for remote_address in [false, true] {
            let settings = Settings { remote_address };
            let mut written = load(&[], settings).expect("the packs are in order");
            let mut compact = load_to_run(&[], settings).expect("their compact form is");
            assert_eq!(written.rules.len(), compact.rules.len());
            assert!(written.rules.iter().all(|rule| !rule.examples.is_empty()));
            for rule in &mut written.rules {
                rule.examples.clear();
            }
            for (written, compact) in written.rules.iter().zip(&compact.rules) {
                assert_eq!(format!("{written:?}"), format!("{compact:?}"));
            }
            written.rules.clear();
            compact.rules.clear();
            assert_eq!(format!("{written:?}"), format!("{compact:?}"));
        }
    }
}
