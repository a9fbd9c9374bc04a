//! `clear`: the end of states. The series that it ends are looked up once for each combination of captures.

use std::borrow::Cow;
use std::sync::Arc;

use super::eval::{EvalContext, compare};
use super::{Change, metric_id};
use crate::metric::{MetricId, Slot, Table};
use crate::rules::{Action, Clear, ConditionLabel, Update};

/// The series that an update ends, good as long as none is created that it would have to know.
#[derive(Debug)]
pub(super) struct ClearPlan {
    /// Each with the series whose value decides whether it ends, if the update asks for one.
    pairs: Vec<(Slot, Option<Slot>)>,
    /// What they are set to; without it they are removed.
    value: Option<f64>,
}

impl ClearPlan {
    /// Which series this line ends. Creates none.
    pub(super) fn new(
        metric: MetricId,
        clear: &Clear,
        context: &EvalContext<'_>,
        table: &Table,
    ) -> Option<Self> {
        let value = match &clear.value {
            Some(value) => Some(context.number(value)?),
            None => None,
        };
        Some(Self {
            pairs: pairs(metric, clear, context, table),
            value,
        })
    }

    /// Ends them.
    pub(super) fn run(
        &self,
        update: &Update,
        context: &EvalContext<'_>,
        table: &mut Table,
        observer: &mut impl FnMut(Slot, Change),
    ) {
        let Action::Clear(clear) = &update.verb else {
            return;
        };
        // What the number of a deciding series is compared with; nothing is true of none.
        let and = clear.and.as_ref();
        let number = and.and_then(|and| Some((and.comparison, context.number(&and.number)?)));
        let is_true = |value| number.is_some_and(|(how, number)| compare(how, value, number));
        let late = context.line.late;
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

/// The series that match, each with the one that decides.
fn pairs(
    metric: MetricId,
    clear: &Clear,
    context: &EvalContext<'_>,
    table: &Table,
) -> Vec<(Slot, Option<Slot>)> {
    let line = context.line;
    let matchers: Vec<Option<Vec<String>>> = clear
        .matchers
        .iter()
        .map(|texts| {
            let texts = texts.as_ref()?;
            let values = texts.iter().filter_map(|text| context.text(text));
            Some(values.map(Cow::into_owned).collect())
        })
        .collect();
    let other = |labels: &[&str]| -> Option<Option<Slot>> {
        let Some(and) = &clear.and else {
            return Some(None);
        };
        let labels = and.labels.iter().map(|label| match label {
            ConditionLabel::Text(text) => context.text(text),
            ConditionLabel::Same(at) => labels.get(*at).map(|label| Cow::Borrowed(*label)),
        });
        let labels = labels.collect::<Option<Vec<_>>>()?;
        let labels: Vec<&str> = labels.iter().map(|label| &**label).collect();
        Some(Some(line.find(table, metric_id(and.metric), &labels)?))
    };
    if let Some(combinations) = combinations(&matchers) {
        let pair = |labels: Vec<&str>| line.find(table, metric, &labels).zip(other(&labels));
        return combinations.into_iter().filter_map(pair).collect();
    }
    let matches = |values: &[Arc<str>]| {
        let mut labels = values.iter().zip(&matchers);
        labels.all(|(value, wanted)| {
            wanted
                .as_ref()
                .is_none_or(|wanted| wanted.iter().any(|wanted| **wanted == **value))
        })
    };
    let group = table.group(metric, line.appliance, line.record.test);
    let pair = |(slot, values): (Slot, &[Arc<str>])| {
        let labels: Vec<&str> = values.iter().map(|value| &**value).collect();
        other(&labels).map(|other| (slot, other))
    };
    group
        .filter(|(_, values)| matches(values))
        .filter_map(pair)
        .collect()
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
