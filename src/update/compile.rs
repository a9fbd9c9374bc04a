//! What follows from the updates of a rule alone: what decides which series they lead to.

use super::{Counter, RulePlan, Source, Step};
use crate::rules::{Action, Binding, ConditionLabel, Field, Rule, Update, ValueRef, ValueTemplate};

/// Of each rule what its updates depend on.
pub(super) fn compile(rule: &Rule) -> RulePlan {
    let of_updates: Vec<_> = rule.updates.iter().map(|of| sources(rule, of)).collect();
    let mut all: Vec<Source> = Vec::new();
    for source in of_updates.iter().flatten().flatten() {
        if !all.contains(source) {
            all.push(*source);
        }
    }
    let mut counters = vec![Counter::Matches];
    let mut others = Vec::new();
    for (number, (update, sources)) in rule.updates.iter().zip(&of_updates).enumerate() {
        match update.verb {
            Action::Inc if sources.is_some() => counters.push(Counter::Update(number)),
            _ => others.push((number, update, sources.is_some())),
        }
    }
    let mut len = counters.len() as u32;
    let step = |(number, update, is_cached): (usize, &Update, bool)| {
        let is_planned = match &update.verb {
            Action::States { .. } | Action::Worst(_) | Action::Clear(_) => true,
            // The value comes to the same whenever the series does.
            Action::Set(value) if is_cached && value.constant().is_none() => {
                sources_of(rule, value.sources().collect())
                    .is_some_and(|own| own.iter().all(|source| all.contains(source)))
            }
            _ => false,
        };
        let cell = is_cached.then_some(len);
        len += u32::from(is_cached);
        Step {
            update: number,
            cell,
            is_planned,
        }
    };
    let steps = others.into_iter().map(step).collect();
    let needs_time = |update: &Update| matches!(update.verb, Action::Time);
    RulePlan {
        sources: all.into(),
        counters: counters.into(),
        steps,
        len,
        needs_time: rule.updates.iter().any(needs_time),
    }
}

/// What decides which series an update leads to; none if it may be anything in the line.
fn sources(rule: &Rule, update: &Update) -> Option<Vec<Source>> {
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
    sources_of(rule, visit)
}

/// The same for what texts name.
fn sources_of(rule: &Rule, mut visit: Vec<ValueRef>) -> Option<Vec<Source>> {
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
            ValueRef::Field(Field::Timestamp) => return None,
            ValueRef::Field(_) => add(Source::Raw(from)),
        }
    }
    Some(sources)
}
