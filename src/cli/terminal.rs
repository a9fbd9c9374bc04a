//! What only a person at a terminal sees: colours and progress.

use std::fs::Metadata;
use std::io::{IsTerminal as _, Read};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A text in a colour; printed through anstream, which drops the colour where it is not wanted (`NO_COLOR`, a pipe).
pub(super) fn green(text: &str) -> String {
    format!("\u{1b}[32m{text}\u{1b}[0m")
}

/// As [`green`].
pub(super) fn red(text: &str) -> String {
    format!("\u{1b}[31m{text}\u{1b}[0m")
}

/// How much of an input of `metadata` was read, on standard error if that is a terminal; an input without a length gets
/// a count of bytes.
pub(super) fn progress(metadata: Option<&Metadata>) -> ProgressBar {
    let bar = match metadata.filter(|metadata| metadata.is_file()) {
        Some(metadata) => ProgressBar::new(metadata.len()),
        None => ProgressBar::no_length(),
    };
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style = if bar.length().is_some() {
        "{bytes} of {total_bytes} [{wide_bar}] {bytes_per_sec}, {eta} left"
    } else {
        "{bytes} read, {bytes_per_sec}"
    };
    // The template is ours; were it wrong, the default would do.
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar
}

/// An input that moves a progress bar.
pub(super) struct Measured<R>(pub(super) R, pub(super) ProgressBar);

impl<R: Read> Read for Measured<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.0.read(buffer)?;
        self.1.inc(count as u64);
        if count == 0 {
            self.1.finish_and_clear();
        }
        Ok(count)
    }
}
