//! The manual pages and the shells' completions are made from the flags. `UPDATE=1 cargo test manual` renews them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use appliance_log_exporter::cli::Cli;
use clap::CommandFactory;
use clap_complete::Shell;

use crate::support::{program, root, succeeds};

const PAGES: &str = "deploy/man";
const COMPLETIONS: &str = "deploy/completions";

fn files(directory: &Path) -> BTreeMap<String, String> {
    std::fs::read_dir(directory)
        .map(|entries| {
            entries
                .map(|entry| {
                    let path = entry.expect("an entry").path();
                    let name = path.file_name().expect("a name").to_string_lossy().into();
                    (name, std::fs::read_to_string(path).expect("a text file"))
                })
                .collect()
        })
        .unwrap_or_default()
}

#[test]
fn pages_and_completions_are_those_of_the_flags() {
    let directory = tempfile::tempdir().expect("a directory");
    let (pages, completions) = (directory.path().join("man"), directory.path().join("sh"));
    for path in [&pages, &completions] {
        std::fs::create_dir(path).expect("a directory");
    }
    clap_mangen::generate_to(Cli::command(), &pages).expect("pages");
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(
            shell,
            &mut Cli::command(),
            "appliance_log_exporter",
            &completions,
        )
        .expect("completions");
    }
    for (made, kept) in [(pages, PAGES), (completions, COMPLETIONS)] {
        let kept = root().join(kept);
        if std::env::var_os("UPDATE").is_some() {
            let _ = std::fs::remove_dir_all(&kept);
            std::fs::create_dir_all(&kept).expect("a directory");
            for (name, text) in files(&made) {
                std::fs::write(kept.join(name), text).expect("a file");
            }
        }
        let (made, there) = (files(&made), files(&kept));
        assert!(!made.is_empty());
        assert!(
            made == there,
            "{} is out of date: run `UPDATE=1 cargo test manual`",
            kept.display()
        );
    }
}

#[test]
fn bash_and_man_accept_them() {
    succeeds(
        Command::new(program("bash"))
            .arg("-n")
            .arg(root().join(COMPLETIONS).join("appliance_log_exporter.bash")),
    );
    for name in files(&root().join(PAGES)).into_keys() {
        let said = succeeds(
            Command::new(program("groff"))
                .args(["-man", "-Tascii", "-ww", "-z"])
                .arg(root().join(PAGES).join(&name)),
        );
        assert_eq!(said.err, "", "{name}");
    }
}
