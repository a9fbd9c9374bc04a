//! Updates that change several series: state sets, and the worst of several states.

use super::clear::ClearPlan;
use super::eval::EvalContext;
use super::{Change, UpdatePlan};
use crate::metric::{ApplianceId, LabelValues, Slot, Table};
use crate::rules::{Action, Update, Worst};

/// Active values in one line; more of them are left out.
const ITEMS_MAX: usize = 64;

/// The series of an update and their new values, good as long as no series is created that it would have to know.
#[derive(Debug, Default)]
pub(super) struct StateSetPlan {
    entered: Entered,
    /// Series and their new values, in order.
    set: Vec<(Slot, f64)>,
    /// Instead of that: a series, and those of which the largest weight among them that are 1 becomes its value.
    worst: Option<(Slot, Vec<(Slot, f64)>)>,
    /// Instead of that: series that end.
    pub(super) clear: ClearPlan,
}

/// The series that there had been: with others a plan may come to something else.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Entered {
    /// How many gauges of the appliance.
    gauges: u64,
    /// Of the metrics that the update reads and writes.
    own: u64,
}

impl Entered {
    pub(super) fn of(
        updates: &UpdatePlan,
        update: &Update,
        line: &EvalContext<'_>,
        appliance: ApplianceId,
        table: &Table,
    ) -> Self {
        Self {
            gauges: table.gauges_entered(appliance),
            own: last_entered(updates, update, line, appliance, table),
        }
    }
}

/// When the last series was made of the metrics that an update reads and writes.
fn last_entered(
    updates: &UpdatePlan,
    update: &Update,
    line: &EvalContext<'_>,
    appliance: ApplianceId,
    table: &Table,
) -> u64 {
    let (others, other): (&[Worst], _) = match &update.verb {
        Action::Worst(groups) => (groups, None),
        Action::Clear(clear) => (&[], clear.and.as_ref().map(|and| and.metric)),
        _ => (&[], None),
    };
    let metrics = others.iter().map(|group| group.metric).chain(other);
    let metrics = metrics.chain([update.metric]);
    // The largest one: any new series has a larger number than all before.
    metrics
        .map(|metric| table.last_entered(updates.metric(metric), appliance, line.record.test))
        .fold(0, u64::max)
}

impl StateSetPlan {
    /// One that ends states.
    pub(super) fn of_clear(clear: ClearPlan, entered: Entered) -> Self {
        Self {
            entered,
            clear,
            ..Self::default()
        }
    }

    /// The plan, unless a series was made since that it would have to know. Most new gauges of an appliance are of other
    /// metrics.
    #[inline]
    pub(super) fn if_current(
        &mut self,
        updates: &UpdatePlan,
        update: &Update,
        line: &EvalContext<'_>,
        appliance: ApplianceId,
        table: &Table,
    ) -> Option<&mut Self> {
        let gauges = table.gauges_entered(appliance);
        if self.entered.gauges != gauges {
            if self.entered.own != last_entered(updates, update, line, appliance, table) {
                return None;
            }
            self.entered.gauges = gauges;
        }
        Some(self)
    }

    /// All of it, or nothing if one of the series was set since a line that is read late was written.
    pub(super) fn run(
        &self,
        table: &mut Table,
        late: Option<u32>,
        observer: &mut impl FnMut(Slot, Change),
    ) {
        // What these weigh is not among what is set.
        let worst = self.worst.as_ref().map(|(slot, weighed)| {
            let open = weighed.iter().filter(|(other, _)| table.get(*other) == 1.0);
            (
                *slot,
                open.fold(0.0, |worst: f64, (_, weight)| worst.max(*weight)),
            )
        });
        let is_set = match worst {
            Some(worst) => table.set_unless_newer(&[worst], late),
            None => table.set_unless_newer(&self.set, late),
        };
        if !is_set {
            return;
        }
        for (slot, value) in self.set.iter().copied().chain(worst) {
            if slot != Slot::NONE {
                observer(slot, Change::Set(value));
            }
        }
    }
}

/// What an update comes to on this line. Creates the series.
pub(super) fn plan(
    updates: &UpdatePlan,
    update: &Update,
    line: &EvalContext<'_>,
    appliance: ApplianceId,
    table: &mut Table,
) -> StateSetPlan {
    let mut plan = StateSetPlan::default();
    fill(&mut plan, updates, update, line, appliance, table);
    plan.entered = Entered::of(updates, update, line, appliance, table);
    plan
}

/// Nothing is planned if a condition does not hold or a label is empty, hence the option.
fn fill(
    plan: &mut StateSetPlan,
    updates: &UpdatePlan,
    update: &Update,
    line: &EvalContext<'_>,
    appliance: ApplianceId,
    table: &mut Table,
) -> Option<()> {
    let metric = updates.metric(update.metric);
    let test = line.record.test;
    if !line.holds(&update.conditions) {
        return None;
    }
    let labels = line.labels(&update.labels)?;
    let mut labels: Vec<&str> = labels
        .iter()
        .map(|label| label.as_deref().unwrap_or_default())
        .collect();
    match &update.verb {
        Action::States {
            label,
            active,
            split,
        } => {
            let active = line.text(active).filter(|active| !active.is_empty())?;
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
            let mut listed = 0;
            for (slot, value) in table.siblings(metric, appliance, test, &labels, *label) {
                listed += usize::from(value != "other");
                let mut known = active.iter_mut().filter(|(wanted, _)| *wanted == value);
                match known.next() {
                    Some((_, own)) => *own = Some(slot),
                    None => plan.set.push((slot, 0.0)),
                }
            }
            if let LabelValues::OneOf(values) = &table.spec(metric).domains[*label]
                && listed < values.len()
            {
                let (values, mut labels) = (values.clone(), labels.clone());
                let is_active = |value: &str| active.iter().any(|(wanted, _)| *wanted == value);
                for value in values.iter().filter(|value| !is_active(value)) {
                    labels[*label] = value;
                    let slot = table.series(metric, appliance, test, &labels);
                    let is_known = |(known, _): &(Slot, f64)| *known == slot;
                    if !plan.set.iter().any(is_known) {
                        plan.set.push((slot, 0.0));
                    }
                }
            }
            for (value, slot) in active {
                labels[*label] = value;
                let slot = slot.unwrap_or_else(|| table.series(metric, appliance, test, &labels));
                plan.set.push((slot, 1.0));
            }
        }
        Action::Worst(groups) => {
            let weighed = groups
                .iter()
                .flat_map(|group| weighed(updates, group, line, appliance, table))
                .collect();
            let slot = table.series(metric, appliance, test, &labels);
            plan.worst = Some((slot, weighed));
        }
        Action::Set(value) => {
            let value = line.number(value)?;
            let slot = table.series(metric, appliance, test, &labels);
            plan.set.push((slot, value));
        }
        Action::Inc | Action::Add(_) | Action::Time | Action::Clear(_) => {}
    }
    Some(())
}

/// The group's series that are there, and their weights.
fn weighed(
    updates: &UpdatePlan,
    group: &Worst,
    line: &EvalContext<'_>,
    appliance: ApplianceId,
    table: &Table,
) -> Vec<(Slot, f64)> {
    let Some(labels) = line.labels(&group.labels) else {
        return Vec::new();
    };
    let mut labels: Vec<&str> = labels
        .iter()
        .map(|label| label.as_deref().unwrap_or_default())
        .collect();
    let metric = updates.metric(group.metric);
    let mut weighed = Vec::new();
    for (value, weight) in &group.weights {
        labels[group.label] = value;
        let found = table.find(metric, appliance, line.record.test, &labels);
        weighed.extend(found.map(|slot| (slot, *weight)));
    }
    weighed
}
