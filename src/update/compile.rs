//! What follows from the updates of a rule alone: what decides which series they lead to.

use super::{LINE_CELLS, RulePlan, Source, Step};
use crate::rules::{Action, Binding, ConditionLabel, Field, Rule, Update, ValueRef, ValueTemplate};

/// Of each rule what its updates depend on.
pub(super) fn compile(rule: &Rule) -> RulePlan {
    let names = rule.updates.iter().flat_map(names).collect();
    let all = sources(rule, names);
    let (mut counters, mut others) = (Vec::new(), Vec::new());
    for (number, update) in rule.updates.iter().enumerate() {
        match update.verb {
            Action::Inc => counters.push(number),
            _ => others.push((number, update)),
        }
    }
    let mut len = LINE_CELLS + counters.len();
    let mut next_cell = || {
        len += 1;
        len - 1
    };
    let event = rule.notable.then(&mut next_cell);
    let step = |(update, of): (usize, &Update)| {
        let is_planned = match &of.verb {
            Action::States { .. } | Action::Worst(_) | Action::Clear(_) => true,
            // The value comes to the same whenever the series does.
            Action::Set(value) if value.constant().is_none() => {
                let own = sources(rule, value.sources().collect());
                own.iter().all(|source| all.contains(source))
            }
            _ => false,
        };
        Step {
            update,
            cell: next_cell(),
            is_planned,
        }
    };
    let steps = others.into_iter().map(step).collect();
    RulePlan {
        sources: all.into(),
        counters: counters.into(),
        steps,
        event,
        len,
    }
}

/// What the texts name that decide which series an update leads to.
fn names(update: &Update) -> Vec<ValueRef> {
    let labels = |texts: &[Option<ValueTemplate>]| -> Vec<ValueRef> {
        texts
            .iter()
            .flatten()
            .flat_map(ValueTemplate::sources)
            .collect()
    };
    let mut visit: Vec<ValueRef> = labels(&update.labels);
    visit.extend(update.conditions.iter().map(|condition| condition.from));
    match &update.verb {
        Action::States { active, .. } => visit.extend(active.sources()),
        Action::Worst(others) => {
            visit.extend(others.iter().flat_map(|other| labels(&other.labels)));
        }
        Action::Clear(clear) => {
            let texts = clear.matchers.iter().flatten().flatten();
            visit.extend(texts.chain(&clear.value).flat_map(ValueTemplate::sources));
            let labels = clear.and.iter().flat_map(|and| &and.labels);
            visit.extend(labels.flat_map(ConditionLabel::sources));
        }
        Action::Inc | Action::Add(_) | Action::Set(_) | Action::Time => {}
    }
    visit
}

/// What decides what these come to.
fn sources(rule: &Rule, mut visit: Vec<ValueRef>) -> Vec<Source> {
    let mut sources: Vec<Source> = Vec::new();
    while let Some(from) = visit.pop() {
        let mut add = |source| {
            if !sources.contains(&source) {
                sources.push(source);
            }
        };
        match from {
            ValueRef::Variable(variable) => {
                let mut raw = true;
                for (at, (made, how)) in rule.lets.iter().enumerate() {
                    if *made != variable {
                        continue;
                    }
                    raw = false;
                    match how {
                        Binding::Text(text) => visit.extend(text.sources()),
                        Binding::First(texts) => {
                            visit.extend(texts.iter().flat_map(ValueTemplate::sources))
                        }
                        Binding::Compare(..) => add(Source::Compared(at)),
                        Binding::Param(_) => add(Source::Param(at)),
                    }
                }
                if raw {
                    add(Source::Raw(from));
                }
            }
            ValueRef::Field(Field::Event | Field::Pack) => {}
            ValueRef::Field(Field::Timestamp) => add(Source::Timestamp),
            ValueRef::Field(_) => add(Source::Raw(from)),
        }
    }
    sources
}
