//! The manual pages and the shells' completions are made from the flags, and from what is below. `UPDATE=1 cargo test manual` renews them.

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

/// The command line, with the version alone: a revision would change the pages with each commit.
fn cli() -> clap::Command {
    Cli::command().long_version(env!("CARGO_PKG_VERSION"))
}

/// What the main page says besides the flags.
const MORE: &str = r#".SH FILES
.TP
.I /etc/default/appliance_log_exporter
Flags of the service, in the variable ARGS.
.TP
.I /etc/appliance_log_exporter/rules
Rule packs of this machine, read if the directory exists and no other is named.
.TP
.I /var/log/appliances
Where the shipped rsyslog configuration writes the log of each appliance.
.TP
.I /var/lib/appliance_log_exporter
State of the service: how far each file was read, and the value of each series.
.TP
.I /usr/share/doc/appliance\-log\-exporter
The documents, with examples for rsyslog, logrotate, Prometheus and Alertmanager.
.SH SIGNALS
.TP
.B SIGHUP
Read configuration and rules again. If anything is wrong with them, the previous ones stay.
.TP
.B SIGTERM, SIGINT
Write a last checkpoint and exit with status 0.
.SH "SEE ALSO"
.BR promtool (1),
.BR rsyslogd (8),
.BR logrotate (8)
"#;

/// A manual page: flags by clap, exit status and examples from the end of the help.
fn page(command: &clap::Command, is_main: bool) -> String {
    let help = command
        .get_after_help()
        .map(ToString::to_string)
        .unwrap_or_default();
    let (examples, status) = help.split_once("\n\nExit status:").unwrap_or((&help, ""));
    let man = clap_mangen::Man::new(command.clone().after_help(""));
    let mut roff = Vec::new();
    let mut write = |render: &dyn Fn(&mut Vec<u8>) -> std::io::Result<()>| {
        render(&mut roff).expect("memory takes it");
    };
    write(&|out| man.render_title(out));
    write(&|out| man.render_name_section(out));
    write(&|out| man.render_synopsis_section(out));
    write(&|out| man.render_description_section(out));
    write(&|out| man.render_options_section(out));
    if is_main {
        write(&|out| man.render_subcommands_section(out));
    }
    let mut page = String::from_utf8(roff).expect("text");
    let escaped = |text: &str| {
        text.replace('\\', "\\e")
            .replace('-', "\\-")
            .replace('\'', "\\(aq")
    };
    let lines = |text: &str| -> String {
        text.lines()
            .map(|line| escaped(line.trim()))
            .filter(|line| !line.is_empty())
            .map(|line| format!("{line}\n"))
            .collect()
    };
    if is_main {
        page += MORE;
    }
    if !status.is_empty() {
        page += &format!(".SH \"EXIT STATUS\"\n.nf\n{}.fi\n", lines(status));
    }
    if let Some((_, examples)) = examples.split_once("Examples:") {
        page += &format!(".SH EXAMPLES\n.nf\n{}.fi\n", lines(examples));
    }
    page
}

#[test]
fn pages_and_completions_are_those_of_the_flags() {
    let directory = tempfile::tempdir().expect("a directory");
    let (pages, completions) = (directory.path().join("man"), directory.path().join("sh"));
    for path in [&pages, &completions] {
        std::fs::create_dir(path).expect("a directory");
    }
    let mut cli = cli();
    cli.build();
    std::fs::write(pages.join("appliance_log_exporter.1"), page(&cli, true)).expect("a page");
    for command in cli
        .get_subcommands()
        .filter(|command| command.get_name() != "help")
    {
        let name = format!("appliance_log_exporter-{}", command.get_name());
        std::fs::write(pages.join(format!("{name}.1")), page(command, false)).expect("a page");
    }
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(
            shell,
            &mut self::cli(),
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

#[test]
fn the_main_page_has_what_an_operator_looks_for() {
    let page = page(&cli(), true);
    for section in [
        "FILES",
        "SIGNALS",
        "\"EXIT STATUS\"",
        "EXAMPLES",
        "\"SEE ALSO\"",
    ] {
        assert!(
            page.contains(&format!("\n.SH {section}\n")),
            "{section}\n{page}"
        );
    }
}

#[test]
fn the_program_prints_the_completions_that_are_shipped() {
    for (shell, file) in [
        ("bash", "appliance_log_exporter.bash"),
        ("zsh", "_appliance_log_exporter"),
        ("fish", "appliance_log_exporter.fish"),
    ] {
        let said = succeeds(crate::exporter::binary().args(["completions", shell]));
        let shipped = std::fs::read_to_string(root().join(COMPLETIONS).join(file));
        assert_eq!(said.out, shipped.expect("it is there"), "{shell}");
    }
}
