//! `metrics` of a rule: what it does to which series.

use std::sync::Arc;

use serde_yaml::Mapping;

use super::scene::RuleScope;
use super::{Builder, Report};
use crate::diagnostic::{Path, Problems, nearest};
use crate::metric::{Kind, LabelValues};
use crate::rules::file::{ConditionFile, LabelsFile, Scalar, UpdateFile, WorstFile};
use crate::rules::{Action, Condition, Part, Update, ValueRef, ValueTemplate, Worst};

impl Builder<'_> {
    /// A metric's labels after `appliance`.
    pub(super) fn labels_of(&self, metric: usize) -> &[Arc<str>] {
        &self.set.metrics[metric].spec.family.labels[1..]
    }

    /// Whether a setting leaves a label out that the pack declares and rules give.
    pub(super) fn is_left_out(&self, metric: usize, label: &str) -> bool {
        let name = self.set.metrics[metric].spec.family.name.to_string();
        self.left_out.contains(&(name, label.to_owned()))
    }

    /// Reports a label that the metric does not have. False if a setting leaves it out: rules still give it.
    pub(super) fn refuse_label(
        &self,
        metric: usize,
        label: &str,
        at: &Path,
        problems: &mut Problems<'_>,
    ) -> bool {
        if self.is_left_out(metric, label) {
            return false;
        }
        let near = nearest(label, self.labels_of(metric).iter().map(|known| &**known));
        problems.key(
            at,
            "the metric has no such label",
            near.map(|near| format!("did you mean `{near}`?")),
        );
        true
    }

    /// The place of a label that an action names.
    fn place_of(
        &self,
        metric: usize,
        label: &str,
        at: &Path,
        problems: &mut Problems<'_>,
    ) -> Option<usize> {
        let labels = self.labels_of(metric);
        let found = labels.iter().position(|known| **known == *label);
        if found.is_none() {
            problems.value(at, "the metric has no such label", None);
        }
        found
    }

    pub(super) fn find_metric(
        &self,
        name: &str,
        path: &Path,
        problems: &mut Problems<'_>,
    ) -> Option<usize> {
        let found = self.metrics.get(name).copied();
        if found.is_none() {
            problems.value(
                path,
                "no pack declares this metric",
                nearest(name, self.metrics.keys().map(String::as_str))
                    .map(|near| format!("did you mean `{near}`?")),
            );
        }
        found
    }

    pub(super) fn update(
        &self,
        file: &UpdateFile,
        path: &Path,
        scene: &mut RuleScope<'_>,
        report: &mut Report<'_>,
    ) -> Option<Update> {
        let (verb, metric) = self.verb(file, path, &mut report.faults)?;
        let at = path.then("labels");
        let labels = if verb == "clear" {
            // They are matchers.
            Vec::new()
        } else {
            let texts = label_texts(file.labels.as_ref(), &at, scene, &mut report.faults);
            let left_out = file.label.as_deref();
            self.labels(metric, texts, left_out, &at, path, scene, report)?
        };
        let state_label = file.label.as_ref().and_then(|label| {
            self.place_of(metric, label, &path.then("label"), &mut report.faults)
        });
        let conditions = conditions(file.conditions.as_ref(), path, scene, &mut report.faults);
        let mut value =
            |text: &Option<Scalar>, key| value(text.as_ref(), key, path, scene, &mut report.faults);
        let verb = match verb {
            "inc" => Action::Inc,
            "add" => Action::Add(value(&file.value, "value")?),
            "set" => Action::Set(value(&file.value, "value")?),
            "time" => Action::Time,
            "states" => Action::States {
                label: state_label?,
                active: value(&file.active, "active")?,
                split: file.split.clone(),
            },
            "clear" => {
                let value = match &file.value {
                    Some(_) => Some(value(&file.value, "value")?),
                    None => None,
                };
                let clear = self.clear(file, value, metric, path, scene, &mut report.faults)?;
                Action::Clear(Box::new(clear))
            }
            _ => {
                let mut groups = Vec::new();
                for (index, of) in file.of.iter().enumerate() {
                    groups.push(self.worst(of, &path.then("of").then(index), scene, report)?);
                }
                Action::Worst(groups)
            }
        };
        Some(Update {
            metric,
            labels,
            conditions,
            verb,
        })
    }

    /// The verb, the metric that it works on, and whether the other keys go with them.
    fn verb(
        &self,
        file: &UpdateFile,
        path: &Path,
        problems: &mut Problems<'_>,
    ) -> Option<(&'static str, usize)> {
        let verbs: Vec<(&str, &String)> = [
            ("inc", &file.inc),
            ("add", &file.add),
            ("set", &file.set),
            ("states", &file.states),
            ("time", &file.time),
            ("worst", &file.worst),
            ("clear", &file.clear),
        ]
        .into_iter()
        .filter_map(|(verb, metric)| metric.as_ref().map(|metric| (verb, metric)))
        .collect();
        let &[(verb, name)] = verbs.as_slice() else {
            problems.value(
                path,
                "an update needs one verb",
                Some("one of inc, add, set, states, time, worst, clear".into()),
            );
            return None;
        };
        let metric = self.find_metric(name, &path.then(verb), problems)?;
        let counts = matches!(verb, "inc" | "add");
        if counts != (self.set.metrics[metric].spec.family.kind == Kind::Counter) {
            let kind = if counts { "gauge" } else { "counter" };
            let message = format!("`{verb}` does not work on a {kind}");
            problems.value(&path.then(verb), message, None);
            return None;
        }
        let is_optional = verb == "clear";
        for (key, there, wanted) in [
            (
                "value",
                file.value.is_some() && !is_optional,
                matches!(verb, "add" | "set"),
            ),
            ("and", file.and.is_some() && !is_optional, false),
            ("label", file.label.is_some(), verb == "states"),
            ("active", file.active.is_some(), verb == "states"),
            ("of", !file.of.is_empty(), verb == "worst"),
        ] {
            if there != wanted {
                let message = if wanted {
                    format!("`{verb}` needs `{key}`")
                } else {
                    format!("`{key}` does not go with `{verb}`")
                };
                problems.value(path, message, None);
                return None;
            }
        }
        if file.split.is_some() && verb != "states" {
            problems.value(path, format!("`split` does not go with `{verb}`"), None);
        }
        Some((verb, metric))
    }

    /// Puts texts into the order of the metric's labels; `left_out` has none.
    #[expect(
        clippy::too_many_arguments,
        reason = "two call sites, each with its own place for faults"
    )]
    fn labels(
        &self,
        metric: usize,
        mut texts: Vec<(String, ValueTemplate)>,
        left_out: Option<&str>,
        at: &Path,
        update: &Path,
        scene: &RuleScope<'_>,
        report: &mut Report<'_>,
    ) -> Option<Vec<Option<ValueTemplate>>> {
        let spec = &self.set.metrics[metric].spec;
        let mut labels = Vec::with_capacity(spec.domains.len());
        let mut sound = true;
        for (label, domain) in spec.family.labels[1..].iter().zip(&spec.domains) {
            let found = texts.iter().position(|(name, _)| **name == **label);
            let text = found.map(|index| texts.swap_remove(index).1);
            match (&text, left_out == Some(&**label)) {
                (None, false) if scene.is_broken => sound = false,
                (None, false) => {
                    report
                        .faults
                        .value(update, format!("the label `{label}` has no value"), None);
                    sound = false;
                }
                (Some(_), true) => {
                    report.faults.value(
                        at,
                        format!("the label `{label}` is set by `active`"),
                        None,
                    );
                    sound = false;
                }
                _ => {}
            }
            if let (LabelValues::Any(_), Some(text)) = (domain, &text) {
                for part in &text.parts {
                    if let Part::Value(ValueRef::Variable(variable), transforms) = part
                        && transforms.is_empty()
                        && scene.boundless.get(*variable) == Some(&true)
                    {
                        report.lints.value(
                            update,
                            format!(
                                "`{}` can be any text and becomes the label `{label}`",
                                scene.variables[*variable]
                            ),
                            Some("map it, or declare the label's values".into()),
                        );
                    }
                }
            }
            labels.push(text);
        }
        for (name, _) in texts {
            let at = at.then(name.as_str());
            sound &= !self.refuse_label(metric, &name, &at, &mut report.faults);
        }
        sound.then_some(labels)
    }

    fn worst(
        &self,
        of: &WorstFile,
        path: &Path,
        scene: &mut RuleScope<'_>,
        report: &mut Report<'_>,
    ) -> Option<Worst> {
        let metric = self.find_metric(&of.metric, &path.then("metric"), &mut report.faults)?;
        let mut texts = Vec::new();
        for (label, text) in &of.labels {
            let Some(label) = label.as_str() else {
                continue;
            };
            let at = path.then("labels").then(label);
            let Scalar(text) = report.faults.decode(text, &at)?;
            texts.push((
                label.to_owned(),
                scene.text(&text, &at, &mut report.faults)?,
            ));
        }
        let at = path.then("label");
        let label = self.place_of(metric, &of.label, &at, &mut report.faults)?;
        let labels = self.labels(
            metric,
            texts,
            Some(&of.label),
            &path.then("labels"),
            path,
            scene,
            report,
        )?;
        let mut weights = Vec::new();
        for (value, weight) in &of.weights {
            let value: Scalar = serde_yaml::from_value(value.clone()).ok()?;
            let at = path.then("weights").then(value.0.as_str());
            weights.push((value.0, report.faults.decode::<f64>(weight, &at)?));
        }
        Some(Worst {
            metric,
            labels,
            label,
            weights,
        })
    }
}

/// The labels of an update, as a mapping or as a list of names.
fn label_texts(
    labels: Option<&LabelsFile>,
    at: &Path,
    scene: &mut RuleScope<'_>,
    problems: &mut Problems<'_>,
) -> Vec<(String, ValueTemplate)> {
    let mut texts = Vec::new();
    match labels {
        None => {}
        Some(LabelsFile::Texts(mapping)) => {
            for (label, text) in mapping {
                let Some(label) = label.as_str() else {
                    continue;
                };
                let at = at.then(label);
                let Some(Scalar(text)) = problems.decode(text, &at) else {
                    continue;
                };
                let text = scene.text(&text, &at, problems);
                texts.extend(text.map(|text| (label.to_owned(), text)));
            }
        }
        Some(LabelsFile::Names(names)) => {
            for (index, name) in names.iter().enumerate() {
                let text = scene.text(&format!("{{{name}}}"), &at.then(index), problems);
                texts.extend(text.map(|text| (name.clone(), text)));
            }
        }
    }
    texts
}

/// The `if` of an update.
/// What stands under `if`.
pub(super) fn conditions(
    written: Option<&Mapping>,
    path: &Path,
    scene: &mut RuleScope<'_>,
    problems: &mut Problems<'_>,
) -> Vec<Condition> {
    let mut conditions = Vec::with_capacity(written.map_or(0, Mapping::len));
    for (name, value) in written.into_iter().flatten() {
        let Some(name) = name.as_str() else { continue };
        let at = path.then("if").then(name);
        let Some(from) = scene.lookup(name) else {
            if !scene.is_broken {
                let near = nearest(name, scene.variables.iter().map(String::as_str));
                problems.key(
                    &at,
                    "nothing in this rule is called so",
                    near.map(|near| format!("did you mean `{near}`?")),
                );
            }
            continue;
        };
        let Some(condition) = problems.decode::<ConditionFile>(value, &at) else {
            continue;
        };
        let (values, negated) = match &condition {
            ConditionFile::Is(values) => (values, false),
            ConditionFile::Not { not } => (not, true),
        };
        conditions.push(Condition {
            from,
            values: values.texts().into_iter().map(str::to_owned).collect(),
            negated,
        });
    }
    conditions
}

/// The text under `key`; that under `value` is a number, or captured.
fn value(
    text: Option<&Scalar>,
    key: &str,
    path: &Path,
    scene: &mut RuleScope<'_>,
    problems: &mut Problems<'_>,
) -> Option<ValueTemplate> {
    let Scalar(written) = text?;
    let at = path.then(key);
    let text = scene.text(written, &at, problems)?;
    let constant = text.constant().filter(|_| key == "value");
    if constant.is_some_and(|text| text.parse::<f64>().is_err()) {
        let hint = (scene.variables.contains(written))
            .then(|| format!("a captured value is written in braces: '{{{written}}}'"));
        problems.value(&at, "not a number", hint);
    }
    Some(text)
}
