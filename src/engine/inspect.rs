//! What `check` and `explain` ask about lines and rules, without counting anything.

use super::{Compiled, Worker};
use crate::record::{self, Record};
use crate::rules::{HeaderField, RuleId, When};

impl Worker {
    /// The first rule that would decide on a message of this program under a header that fulfils `when`.
    pub(crate) fn winner(
        &mut self,
        program: &str,
        message: &[u8],
        when: &[When],
    ) -> Option<RuleId> {
        let mut record = Record {
            program: program.as_bytes(),
            program_id: self.engine.compiled.programs.lookup(program.as_bytes()),
            message,
            repeat: 1,
            ..Record::default()
        };
        for when in when {
            match when {
                When::Severity(severities) => record.severity = severities.first().copied(),
                When::Test(test) => record.test = *test,
                When::Field(field, values) => {
                    let value = values
                        .first()
                        .map_or(&b""[..], |(value, _)| value.as_bytes());
                    match field {
                        HeaderField::Facility => record.facility = value,
                        HeaderField::AppSeverity => record.app_severity = value,
                        HeaderField::Code => record.code = value,
                        HeaderField::Tag => record.tag = value,
                        HeaderField::Host => record.host = Some(value),
                    }
                }
            }
        }
        let mut winner = None;
        let Compiled { rules, matcher, .. } = &*self.engine.compiled;
        matcher.find(&record, &mut self.scratch, |found| {
            let go_on = rules.rules[found.rule.0 as usize].go_on;
            if !go_on {
                winner = Some(found.rule);
            }
            go_on
        });
        winner
    }

    /// For each unmatched record in a line, the rule that came nearest and why it did not match.
    pub fn nearest(&self, line: &[u8]) -> Vec<Option<String>> {
        let engine = &*self.engine;
        let mut json = Vec::new();
        record::frames(record::unwrap_json(line, &mut json))
            .map(|frame| {
                let record = record::parse(frame, &engine.compiled.programs);
                let nearest = engine
                    .compiled
                    .matcher
                    .nearest(&engine.compiled.rules, &record)?;
                let rule = &engine.compiled.rules.rules[nearest.rule.0 as usize].id;
                let rest =
                    String::from_utf8_lossy(record.message.get(nearest.at..).unwrap_or_default());
                let rest: String = rest.chars().take(40).collect();
                Some(match nearest.expected {
                    Some(expected) => format!(
                        "{rule} wants {expected} at byte {} of the message, where `{rest}` stands",
                        nearest.at
                    ),
                    None => format!(
                        "{rule} matches the message, but its conditions on the header do not hold"
                    ),
                })
            })
            .collect()
    }

    /// For each record in a line the names and values that the first matching rule captures.
    pub fn captures(&mut self, line: &[u8]) -> Vec<Vec<(String, String)>> {
        let Compiled {
            rules,
            programs,
            matcher,
            ..
        } = &*self.engine.compiled;
        let scratch = &mut self.scratch;
        let mut json = Vec::new();
        record::frames(record::unwrap_json(line, &mut json))
            .map(|frame| {
                let record = record::parse(frame, programs);
                let mut captures = Vec::new();
                matcher.find(&record, scratch, |found| {
                    let rule = &rules.rules[found.rule.0 as usize];
                    captures = rule
                        .variables
                        .iter()
                        .enumerate()
                        .filter_map(|(index, name)| {
                            let value = found.capture(index, record.message)?;
                            Some((name.clone(), String::from_utf8_lossy(value).into_owned()))
                        })
                        .collect();
                    rule.go_on
                });
                captures
            })
            .collect()
    }
}
