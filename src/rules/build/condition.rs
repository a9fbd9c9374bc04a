//! `when`, `let` and examples of a rule.

use serde_yaml::Value;

use super::parts::MergedRule;
use super::scene::RuleScope;
use crate::diagnostic::{Document, Path, Problems, nearest};
use crate::record::Severity;
use crate::rules::file::{ExampleFile, LetFile, OneOrMany, Scalar};
use crate::rules::template::is_name;
use crate::rules::{Binding, Comparison, Example, HeaderField, Place, When};

pub(super) fn condition(
    (key, value): (&Value, &Value),
    path: &Path,
    problems: &mut Problems<'_>,
) -> Option<When> {
    let key = key.as_str()?;
    let at = path.then(key);
    if key == "test" {
        return problems.decode::<bool>(value, &at).map(When::Test);
    }
    const FIELDS: [(&str, HeaderField); 6] = [
        ("facility", HeaderField::Facility),
        ("app_severity", HeaderField::AppSeverity),
        ("code", HeaderField::Code),
        ("tag", HeaderField::Tag),
        ("message_id", HeaderField::Tag),
        ("host", HeaderField::Host),
    ];
    let field = FIELDS.iter().find(|(name, _)| *name == key);
    if field.is_none() && key != "severity" {
        let known = FIELDS
            .iter()
            .map(|(name, _)| *name)
            .chain(["severity", "test"]);
        problems.key(
            &at,
            "no such header field",
            nearest(key, known)
                .map(|near| format!("did you mean `{near}`?"))
                .or_else(|| {
                    Some("severity, facility, app_severity, code, tag, host or test".into())
                }),
        );
        return None;
    }
    let values = problems.decode::<OneOrMany>(value, &at)?;
    let Some((_, field)) = field else {
        let mut severities = Vec::new();
        for word in values.texts() {
            match Severity::parse(word.as_bytes()) {
                Some(severity) => severities.push(severity),
                None => problems.value(
                    &at,
                    format!("`{word}` is no severity"),
                    Some("emerg, alert, crit, err, warning, notice, info or debug".into()),
                ),
            }
        }
        return Some(When::Severity(severities));
    };
    let values = values
        .texts()
        .into_iter()
        .map(|value| match value.strip_suffix('*') {
            Some(prefix) => (prefix.to_ascii_lowercase(), true),
            None => (value.to_ascii_lowercase(), false),
        })
        .collect();
    Some(When::Field(*field, values))
}

/// The variables that a rule computes, in order.
pub(super) fn lets(
    parts: &MergedRule<'_>,
    scene: &mut RuleScope<'_>,
    problems: &mut Problems<'_>,
) -> Vec<(usize, Binding)> {
    let captures = scene.variables.len();
    let mut lets = Vec::new();
    for (mapping, at) in &parts.lets {
        for (name, value) in *mapping {
            let Some(name) = name.as_str() else { continue };
            let at = at.then(name);
            if !is_name(name) {
                problems.key(
                    &at,
                    "invalid name",
                    Some("lower-case letters, digits and `_`".into()),
                );
                continue;
            }
            let Some(how) = make(value, &at, scene, problems) else {
                continue;
            };
            let variable = match scene.variables.iter().position(|known| known == name) {
                Some(known) if known < captures => {
                    problems.key(&at, "a placeholder has this name already", None);
                    continue;
                }
                Some(known) => known,
                None => scene.add(name, false),
            };
            lets.push((variable, how));
        }
    }
    lets
}

fn make(
    value: &Value,
    path: &Path,
    scene: &mut RuleScope<'_>,
    problems: &mut Problems<'_>,
) -> Option<Binding> {
    if !value.is_mapping() {
        let Scalar(text) = problems.decode(value, path)?;
        return scene.text(&text, path, problems).map(Binding::Text);
    }
    let file = problems.decode::<LetFile>(value, path)?;
    let comparisons = [
        ("le", Comparison::Le, file.le),
        ("lt", Comparison::Lt, file.lt),
        ("ge", Comparison::Ge, file.ge),
        ("gt", Comparison::Gt, file.gt),
        ("eq", Comparison::Eq, file.eq),
        ("ne", Comparison::Ne, file.ne),
    ];
    let mut found = Vec::new();
    for (key, comparison, operands) in comparisons {
        if let Some([left, right]) = operands {
            let at = path.then(key);
            let left = scene.text(&left.0, &at.then(0), problems)?;
            let right = scene.text(&right.0, &at.then(1), problems)?;
            found.push(Binding::Compare(comparison, left, right));
        }
    }
    if let Some(names) = file.param {
        found.push(Binding::Param(
            names.texts().into_iter().map(str::to_owned).collect(),
        ));
    }
    if let Some(texts) = file.first {
        let at = path.then("first");
        let mut parsed = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            parsed.push(scene.text(&text.0, &at.then(index), problems)?);
        }
        found.push(Binding::First(parsed));
    }
    if found.len() != 1 {
        problems.value(
            path,
            "a `let` is made in one way",
            Some("a text, or one of le, lt, ge, gt, eq, ne, param, first".into()),
        );
        return None;
    }
    found.pop()
}

pub(super) fn example(
    document: &Document,
    value: &Value,
    path: &Path,
    problems: &mut Problems<'_>,
) -> Option<Example> {
    let file = problems.decode::<ExampleFile>(value, path)?;
    let at = place(document, path);
    let positive = |lines: Vec<String>| Example::Lines {
        lines,
        samples: file.samples.clone(),
        absent: file.absent.clone(),
        at: at.clone(),
    };
    match (file.line.clone(), file.lines.clone(), file.not.clone()) {
        (Some(line), None, None) => Some(positive(vec![line])),
        (None, Some(lines), None) if !lines.is_empty() => Some(positive(lines)),
        (None, None, Some(line)) if file.samples.is_empty() && file.absent.is_empty() => {
            Some(Example::Not { line, at })
        }
        _ => {
            problems.value(
                path,
                "an example has `line`, `lines` or `not`, one of them",
                None,
            );
            None
        }
    }
}

/// Where a value stands, for faults that show only when the rules run. Worked out when asked, since it is dear.
pub(super) fn place(document: &Document, path: &Path) -> Place {
    Place {
        file: document.file.clone(),
        text: document.text.clone(),
        path: path.clone(),
    }
}
