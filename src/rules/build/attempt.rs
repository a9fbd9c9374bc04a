//! `attempts` of a rule: what a match says of somebody's attempts to get in.

use serde_yaml::Value;

use super::scene::RuleScope;
use super::update::conditions;
use crate::diagnostic::{Path, Problems};
use crate::rules::file::AttemptFile;
use crate::rules::template::is_name;
use crate::rules::{Attempt, AttemptEvent, AttemptOutcome};

/// One entry of the list.
pub(super) fn attempt(
    value: &Value,
    path: &Path,
    pack: &str,
    scene: &mut RuleScope<'_>,
    problems: &mut Problems<'_>,
) -> Option<Attempt> {
    let file = problems.decode::<AttemptFile>(value, path)?;
    let of = scene.text(&file.of.0, &path.then("of"), problems)?;
    let conditions = conditions(file.conditions.as_ref(), path, scene, problems);
    let event = match (file.after, file.event) {
        (None, None) => Some(None),
        (Some(after), Some(event)) if after > 0 && is_name(&event) => {
            let event = event.into();
            Some(Some(AttemptEvent { after, event }))
        }
        _ => None,
    };
    let (name, outcome, event) = match (file.failed, file.passed, event) {
        (Some(name), None, Some(event)) => (name, AttemptOutcome::Failed, event),
        // A success alone is nothing.
        (None, Some(name), Some(Some(event))) => (name, AttemptOutcome::Passed, Some(event)),
        _ => {
            problems.value(
                path,
                "an attempt has `failed` or `passed`; with `passed`, and if wanted with `failed`, `after` (1 or more) and `event` \
                 (a name)",
                None,
            );
            return None;
        }
    };
    Some(Attempt {
        name: format!("{pack}/{name}").into(),
        of,
        conditions,
        outcome,
        event,
    })
}
