//! What the texts of one rule may name: captures, variables of `let`, fields of the header.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::diagnostic::{Path, Problems};
use crate::rules::{Field, Map, ValueRef, ValueTemplate};

/// The maps of a pack, by name.
pub(super) type Maps = HashMap<String, Arc<Map>>;

/// What is known while one rule is built.
pub(super) struct RuleScope<'a> {
    pub maps: &'a Maps,
    pub variables: Vec<String>,
    /// Whether a variable was ever named by a text or a condition.
    pub used: Vec<bool>,
    /// Variables that are placeholders of type `rest`.
    pub boundless: Vec<bool>,
    /// The pattern could not be read, so what it captures is not known.
    pub is_broken: bool,
}

impl RuleScope<'_> {
    pub(super) fn text(
        &mut self,
        text: &str,
        path: &Path,
        problems: &mut Problems<'_>,
    ) -> Option<ValueTemplate> {
        match ValueTemplate::parse(text, &self.variables, self.maps) {
            Ok(text) => {
                for from in text.sources() {
                    self.mark(from);
                }
                Some(text)
            }
            Err(_) if self.is_broken => None,
            Err((message, hint)) => {
                problems.value(path, message, hint);
                None
            }
        }
    }

    /// A new variable; its index.
    pub(super) fn add(&mut self, name: &str, is_boundless: bool) -> usize {
        self.variables.push(name.to_owned());
        self.used.push(false);
        self.boundless.push(is_boundless);
        self.variables.len() - 1
    }

    fn mark(&mut self, from: ValueRef) {
        if let ValueRef::Variable(index) = from {
            self.used[index] = true;
        }
    }

    pub(super) fn lookup(&mut self, name: &str) -> Option<ValueRef> {
        let from = match self.variables.iter().position(|variable| variable == name) {
            Some(index) => ValueRef::Variable(index),
            None => ValueRef::Field(Field::NAMED.iter().find(|(field, _)| *field == name)?.1),
        };
        self.mark(from);
        Some(from)
    }
}
