//! `clear` as an update: which series of a metric have come to their end.

use serde::Deserialize;
use serde_yaml::Mapping;

use super::Builder;
use super::scene::RuleScope;
use crate::diagnostic::{Path, Problems};
use crate::rules::file::{LabelsFile, OneOrMany, Scalar, UpdateFile};
use crate::rules::{And, Clear, Comparison, ConditionLabel, ValueTemplate};

/// `and` as written; exactly one of the comparisons is there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AndFile {
    metric: String,
    #[serde(default)]
    labels: Mapping,
    #[serde(default)]
    le: Option<Scalar>,
    #[serde(default)]
    lt: Option<Scalar>,
    #[serde(default)]
    ge: Option<Scalar>,
    #[serde(default)]
    gt: Option<Scalar>,
    #[serde(default)]
    eq: Option<Scalar>,
    #[serde(default)]
    ne: Option<Scalar>,
}

impl Builder<'_> {
    /// What a `clear` ends; `value` is read already.
    pub(super) fn clear(
        &self,
        file: &UpdateFile,
        value: Option<ValueTemplate>,
        metric: usize,
        path: &Path,
        scene: &mut RuleScope<'_>,
        problems: &mut Problems<'_>,
    ) -> Option<Clear> {
        let at = path.then("labels");
        let mut wanted: Vec<(String, Path, Vec<ValueTemplate>)> = Vec::new();
        match &file.labels {
            None => {}
            Some(LabelsFile::Names(names)) => {
                for (index, name) in names.iter().enumerate() {
                    let at = at.then(index);
                    let text = scene.text(&format!("{{{name}}}"), &at, problems)?;
                    wanted.push((name.clone(), at, vec![text]));
                }
            }
            Some(LabelsFile::Texts(mapping)) => {
                for (label, texts) in mapping {
                    let Some(label) = label.as_str() else {
                        continue;
                    };
                    let at = at.then(label);
                    let texts = problems.decode::<OneOrMany>(texts, &at)?;
                    let texts = texts.texts().into_iter();
                    let texts = texts.map(|text| scene.text(text, &at, problems));
                    let texts = texts.collect::<Option<Vec<_>>>()?;
                    wanted.push((label.to_owned(), at, texts));
                }
            }
        }
        let labels = self.labels_of(metric);
        let mut matchers = vec![None; labels.len()];
        for (label, at, texts) in wanted {
            match labels.iter().position(|known| **known == *label) {
                Some(place) => matchers[place] = Some(texts),
                None if self.refuse_label(metric, &label, &at, problems) => return None,
                None => {}
            }
        }
        let and = match &file.and {
            None => None,
            Some(and) => {
                let at = path.then("and");
                let and: AndFile = problems.decode(and, &at)?;
                Some(self.and(and, metric, &at, scene, problems)?)
            }
        };
        Some(Clear {
            matchers,
            value,
            and,
        })
    }

    fn and(
        &self,
        file: AndFile,
        cleared: usize,
        path: &Path,
        scene: &mut RuleScope<'_>,
        problems: &mut Problems<'_>,
    ) -> Option<And> {
        let metric = self.find_metric(&file.metric, &path.then("metric"), problems)?;
        let comparisons = [
            ("le", Comparison::Le, &file.le),
            ("lt", Comparison::Lt, &file.lt),
            ("ge", Comparison::Ge, &file.ge),
            ("gt", Comparison::Gt, &file.gt),
            ("eq", Comparison::Eq, &file.eq),
            ("ne", Comparison::Ne, &file.ne),
        ];
        let mut given = comparisons
            .into_iter()
            .filter_map(|(key, how, number)| Some((key, how, number.as_ref()?)));
        let (Some((key, comparison, Scalar(number))), None) = (given.next(), given.next()) else {
            problems.value(
                path,
                "`and` compares in one way",
                Some("one of le, lt, ge, gt, eq, ne".into()),
            );
            return None;
        };
        let number = scene.text(number, &path.then(key), problems)?;
        let at = path.then("labels");
        let mut texts = Vec::new();
        for (label, text) in &file.labels {
            let Some(label) = label.as_str() else {
                continue;
            };
            let at = at.then(label);
            let Scalar(text) = problems.decode(text, &at)?;
            texts.push((label, scene.text(&text, &at, problems)?));
        }
        let own = self.labels_of(cleared);
        let mut labels = Vec::new();
        for label in self.labels_of(metric) {
            let given = texts.iter().position(|(name, _)| **name == **label);
            let same = own.iter().position(|name| name == label);
            labels.push(match (given, same) {
                (Some(at), _) => ConditionLabel::Text(texts.swap_remove(at).1),
                (None, Some(place)) => ConditionLabel::Same(place),
                (None, None) => {
                    problems.value(path, format!("the label `{label}` has no value"), None);
                    return None;
                }
            });
        }
        for (label, _) in texts {
            if !self.is_left_out(metric, label) {
                problems.key(&at.then(label), "the metric has no such label", None);
            }
        }
        Some(And {
            metric,
            labels,
            comparison,
            number,
        })
    }
}
