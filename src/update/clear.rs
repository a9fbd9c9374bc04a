//! `clear`: the end of states. The series that it ends are looked up once for each combination of captures.

use std::borrow::Cow;
use std::sync::Arc;

use super::eval::{EvalContext, compare};
use super::{Change, UpdatePlan};
use crate::metric::{ApplianceId, Slot, Table};
use crate::rules::{Clear, Comparison, ConditionLabel, Update};

/// The series that an update ends, good as long as none is created that it would have to know.
#[derive(Debug, Default)]
pub(super) struct ClearPlan {
    /// Each with the series whose value decides whether it ends, if the update asks for one.
    pairs: Vec<(Slot, Option<Slot>)>,
    /// What they are set to; without it they are removed.
    value: Option<f64>,
}

impl ClearPlan {
    /// Ends them. `is_true` compares the number of a deciding series with that of the line.
    pub(super) fn run(
        &self,
        table: &mut Table,
        late: Option<u32>,
        is_true: impl Fn(f64) -> bool,
        observer: &mut impl FnMut(Slot, Change),
    ) {
        for (slot, decides) in &self.pairs {
            if !table.is_there(*slot) {
                continue;
            }
            if decides.is_some_and(|other| !table.is_there(other) || !is_true(table.get(other))) {
                continue;
            }
            let (is_done, change) = match self.value {
                Some(value) if table.get(*slot) == value => continue,
                Some(value) => {
                    let is_set = table.set_unless_newer(&[(*slot, value)], late);
                    (is_set, Change::Set(value))
                }
                None => (table.clear_series(*slot, late), Change::Clear),
            };
            if is_done {
                observer(*slot, change);
            }
        }
    }
}

/// What a line's number must be compared with, for [`ClearPlan::run`]: false if it has none.
pub(super) fn condition<'l>(
    clear: &'l Clear,
    line: &'l EvalContext<'_>,
) -> impl Fn(f64) -> bool + use<'l> {
    let number = clear
        .and
        .as_ref()
        .and_then(|and| Some((and.comparison, line.number(&and.number)?)));
    move |value| number.is_some_and(|(how, number): (Comparison, f64)| compare(how, value, number))
}

/// Which series this line ends. Creates none.
pub(super) fn plan(
    updates: &UpdatePlan,
    update: &Update,
    clear: &Clear,
    line: &EvalContext<'_>,
    appliance: ApplianceId,
    table: &Table,
) -> ClearPlan {
    let mut plan = ClearPlan::default();
    if !line.holds(&update.conditions) {
        return plan;
    }
    if let Some(value) = &clear.value {
        plan.value = line.number(value);
        if plan.value.is_none() {
            return plan;
        }
    }
    let matchers: Vec<Option<Vec<String>>> = clear
        .matchers
        .iter()
        .map(|texts| {
            let texts = texts.as_ref()?;
            let values = texts.iter().filter_map(|text| line.text(text));
            Some(values.map(Cow::into_owned).collect())
        })
        .collect();
    let test = line.record.test;
    let metric = updates.metric(update.metric);
    let other = |labels: &[&str]| -> Option<Option<Slot>> {
        let Some(and) = &clear.and else {
            return Some(None);
        };
        let labels = and.labels.iter().map(|label| match label {
            ConditionLabel::Text(text) => line.text(text),
            ConditionLabel::Same(at) => labels.get(*at).map(|label| Cow::Borrowed(*label)),
        });
        let labels = labels.collect::<Option<Vec<_>>>()?;
        let labels: Vec<&str> = labels.iter().map(|label| &**label).collect();
        let other = table.find(updates.metric(and.metric), appliance, test, &labels)?;
        Some(Some(other))
    };
    if let Some(combinations) = combinations(&matchers) {
        for labels in combinations {
            let found = table.find(metric, appliance, test, &labels);
            plan.pairs.extend(found.zip(other(&labels)));
        }
        return plan;
    }
    let matches = |values: &[Arc<str>]| {
        let mut labels = values.iter().zip(&matchers);
        labels.all(|(value, wanted)| {
            wanted
                .as_ref()
                .is_none_or(|wanted| wanted.iter().any(|wanted| **wanted == **value))
        })
    };
    let group = table.group(metric, appliance, test);
    for (slot, values) in group.filter(|(_, values)| matches(values)) {
        let labels: Vec<&str> = values.iter().map(|value| &**value).collect();
        plan.pairs.extend(other(&labels).map(|other| (slot, other)));
    }
    plan
}

/// The label values of all series that can match, if every label has a matcher and they are few: to look for them costs
/// less than to look at all series there are.
fn combinations(matchers: &[Option<Vec<String>>]) -> Option<Vec<Vec<&str>>> {
    const COMBINATIONS_MAX: usize = 64;
    let mut all: Vec<Vec<&str>> = vec![Vec::new()];
    for values in matchers {
        let values = values.as_ref()?;
        if all.len() * values.len() > COMBINATIONS_MAX {
            return None;
        }
        let mut longer = Vec::with_capacity(all.len() * values.len());
        for value in values {
            for labels in &all {
                let mut labels = labels.clone();
                labels.push(value.as_str());
                longer.push(labels);
            }
        }
        all = longer;
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::combinations;

    #[test]
    fn all_combinations_of_matchers_are_looked_for() {
        let some = |values: &[&str]| Some(values.iter().map(ToString::to_string).collect());
        let matchers = [some(&["a"]), some(&["b", "c"])];
        let all = combinations(&matchers);
        assert_eq!(all, Some(vec![vec!["a", "b"], vec!["a", "c"]]));
        assert_eq!(combinations(&[some(&["a"]), None]), None);
        assert_eq!(combinations(&[some(&[])]), Some(vec![]));
        assert_eq!(combinations(&[]), Some(vec![vec![]]));
    }
}
