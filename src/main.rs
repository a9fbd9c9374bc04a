//! The binary: exit code only.
fn main() {}
