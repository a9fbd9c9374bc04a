//! Updates whose series and values are planned once: state sets, the worst of several states, and the end of states.

use super::clear::ClearPlan;
use super::eval::EvalContext;
use super::{Change, metric_id};
use crate::metric::{LabelValues, Slot, Table};
use crate::rules::{Action, Update, Worst};

/// Active values in one line; more of them are left out.
const ITEMS_MAX: usize = 64;

/// The series of an update and their new values, good as long as no series is created that it would have to know.
#[derive(Debug)]
pub(super) struct Planned {
    /// The last one of the metrics that the update reads and writes.
    last_own: u64,
    effect: Effect,
}

#[derive(Debug)]
enum Effect {
    /// These are set, in order.
    Set(Vec<(Slot, f64)>),
    /// It is set to the largest weight among those that are 1.
    Worst(Slot, Vec<(Slot, f64)>),
    /// These end.
    Clear(ClearPlan),
}

/// The number of the last series that was created of the metrics that an update reads and writes.
fn last_own(update: &Update, context: &EvalContext<'_>, table: &Table) -> u64 {
    let (others, other): (&[Worst], _) = match &update.verb {
        Action::Worst(groups) => (groups, None),
        Action::Clear(clear) => (&[], clear.and.as_ref().map(|and| and.metric)),
        _ => (&[], None),
    };
    let metrics = others.iter().map(|group| group.metric).chain(other);
    let line = context.line;
    // The largest one: any new series has a larger number than all before.
    metrics
        .chain([update.metric])
        .map(|metric| table.last_entered(metric_id(metric), line.appliance, line.record.test))
        .fold(0, u64::max)
}

impl Planned {
    /// What an update comes to on this line. Creates the series.
    pub(super) fn new(update: &Update, context: &EvalContext<'_>, table: &mut Table) -> Self {
        // Nothing changes if a condition does not hold or a label is empty.
        let effect = effect(update, context, table).unwrap_or(Effect::Set(Vec::new()));
        Self {
            last_own: last_own(update, context, table),
            effect,
        }
    }

    /// Whether no series was made since that the plan would have to know.
    pub(super) fn is_current(
        &self,
        update: &Update,
        context: &EvalContext<'_>,
        table: &Table,
    ) -> bool {
        self.last_own == last_own(update, context, table)
    }

    /// All of it, or nothing if one of the series was set since a line that is read late was written.
    pub(super) fn run(
        &self,
        update: &Update,
        context: &EvalContext<'_>,
        table: &mut Table,
        observer: &mut impl FnMut(Slot, Change),
    ) {
        let worst;
        let set = match &self.effect {
            Effect::Set(set) => set.as_slice(),
            Effect::Worst(slot, weighed) => {
                let open = weighed.iter().filter(|(other, _)| table.get(*other) == 1.0);
                worst = [(*slot, open.map(|(_, weight)| *weight).fold(0.0, f64::max))];
                &worst
            }
            Effect::Clear(clear) => return clear.run(update, context, table, observer),
        };
        if table.set_unless_newer(set, context.line.late) {
            for (slot, value) in set.iter().filter(|(slot, _)| *slot != Slot::NONE) {
                observer(*slot, Change::Set(*value));
            }
        }
    }
}

fn effect(update: &Update, context: &EvalContext<'_>, table: &mut Table) -> Option<Effect> {
    let line = context.line;
    let metric = metric_id(update.metric);
    if !context.holds(&update.conditions) {
        return None;
    }
    let labels = context.labels(&update.labels)?;
    let mut labels: Vec<&str> = labels.iter().map(|label| &**label).collect();
    match &update.verb {
        Action::States {
            label,
            active,
            split,
        } => {
            let active = context.text(active).filter(|active| !active.is_empty())?;
            // Each with its series, if that is there.
            let mut active: Vec<(&str, Option<Slot>)> = match split {
                Some(split) => active
                    .split(split.as_str())
                    .map(str::trim)
                    .filter(|item| !item.is_empty())
                    .take(ITEMS_MAX)
                    .map(|item| (item, None))
                    .collect(),
                None => vec![(active.as_ref(), None)],
            };
            let mut set = Vec::new();
            let mut listed = 0;
            let (appliance, test) = (line.appliance, line.record.test);
            for (slot, value) in table.siblings(metric, appliance, test, &labels, *label) {
                listed += usize::from(value != "other");
                let mut known = active.iter_mut().filter(|(wanted, _)| *wanted == value);
                match known.next() {
                    Some((_, own)) => *own = Some(slot),
                    None => set.push((slot, 0.0)),
                }
            }
            if let LabelValues::OneOf(values) = &table.spec(metric).domains[*label]
                && listed < values.len()
            {
                let (values, mut labels) = (values.clone(), labels.clone());
                let is_active = |value: &str| active.iter().any(|(wanted, _)| *wanted == value);
                for value in values.iter().filter(|value| !is_active(value)) {
                    labels[*label] = value;
                    let slot = line.series(table, metric, &labels);
                    if !set.iter().any(|(known, _)| *known == slot) {
                        set.push((slot, 0.0));
                    }
                }
            }
            for (value, slot) in active {
                labels[*label] = value;
                let slot = slot.unwrap_or_else(|| line.series(table, metric, &labels));
                set.push((slot, 1.0));
            }
            Some(Effect::Set(set))
        }
        Action::Worst(groups) => {
            let weighed = groups
                .iter()
                .flat_map(|group| weighed(group, context, table))
                .collect();
            Some(Effect::Worst(line.series(table, metric, &labels), weighed))
        }
        Action::Set(value) => {
            let value = context.number(value)?;
            Some(Effect::Set(vec![(
                line.series(table, metric, &labels),
                value,
            )]))
        }
        Action::Clear(clear) => ClearPlan::new(metric, clear, context, table).map(Effect::Clear),
        Action::Inc | Action::Add(_) | Action::Time => None,
    }
}

/// The group's series that are there, and their weights.
fn weighed(group: &Worst, context: &EvalContext<'_>, table: &Table) -> Vec<(Slot, f64)> {
    let Some(labels) = context.labels(&group.labels) else {
        return Vec::new();
    };
    let mut labels: Vec<&str> = labels.iter().map(|label| &**label).collect();
    let mut weighed = Vec::new();
    for (value, weight) in &group.weights {
        labels[group.label] = value;
        let found = context.line.find(table, metric_id(group.metric), &labels);
        weighed.extend(found.map(|slot| (slot, *weight)));
    }
    weighed
}
