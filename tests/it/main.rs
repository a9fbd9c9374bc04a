//! The integration tests: one binary, a module per subject.

mod exposition;
mod support;
