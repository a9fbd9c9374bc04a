//! Which files a source follows: paths and globs.
//!
//! A pattern is a path in which `*`, `?` and `[…]` stand for characters of one component, `**` for any number of
//! directories, and `{a,b}` for alternatives. A `{name}` (letters, digits and `_`, no comma) stands for one or more
//! characters of one component, as `*` does, and gives what it stands for a name: `/var/log/appliances/{appliance}/*.log`
//! makes `hsm1` the `appliance` of `/var/log/appliances/hsm1/messages.log`. `-` is standard input.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use globset::GlobBuilder;
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::meta::Regex;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};
use walkdir::WalkDir;

use super::is_absent;

/// Stands for a named wildcard while globset translates the rest. It reads it as a plain character.
const PLACEHOLDER: &str = "\u{1}";

/// A path or glob, checked. See the [module](crate::tail) for the syntax.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    StandardInput,
    /// No wildcard: one path, followed whether it exists yet or not.
    Literal(PathBuf),
    Glob {
        /// The longest path without a wildcard; everything that matches lies beneath it.
        root: PathBuf,
        regex: Regex,
        /// The same, to be asked byte by byte whether a match can still come.
        reach: Arc<DFA>,
        /// Names of the wildcards, in the order of the regex's groups from 1.
        names: Vec<Arc<str>>,
        /// What follows the last component with a wildcard, if the components of a matching path can be counted.
        literal_end: Option<LiteralEnd>,
    },
}

#[derive(Clone, Debug)]
struct LiteralEnd {
    /// Components of a path up to the last one with a wildcard.
    wild: usize,
    path: PathBuf,
}

impl LiteralEnd {
    /// The one path beneath this directory that can match, if only one can.
    fn below(&self, directory: &Path) -> Option<PathBuf> {
        let given = directory.components().count().checked_sub(self.wild)?;
        Some(directory.join(self.path.iter().skip(given).collect::<PathBuf>()))
    }
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternError(String);

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PatternError {}

/// What a [`Pattern::walk`] comes by.
pub(super) enum Found<'a> {
    /// Is there, is no directory, and lies where a match may lie.
    File(&'a Path),
    /// A matching file may appear in this directory, or it shows when such a directory comes or goes.
    Directory(&'a Path),
    /// Matches, or hides what may match: it is not known what it is, or what is in it.
    Unreadable(&'a Path, &'a io::Error),
}

/// What the named wildcards of a pattern stand for in one path: name and text.
pub type Captures = Vec<(Arc<str>, String)>;

impl Pattern {
    /// Reads a pattern as it stands in the settings. A relative one counts from the current directory.
    ///
    /// # Errors
    ///
    /// If it is empty, if the glob is malformed, or if two wildcards have one name.
    pub fn parse(text: &str) -> Result<Pattern, PatternError> {
        let kind = if text == "-" {
            Kind::StandardInput
        } else {
            glob(text)?
        };
        Ok(Pattern {
            text: text.to_owned(),
            kind,
        })
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Names of the wildcards that capture, in order.
    pub fn capture_names(&self) -> &[Arc<str>] {
        match &self.kind {
            Kind::Glob { names, .. } => names,
            _ => &[],
        }
    }

    /// The one path that matches a pattern without wildcards; `-` for standard input.
    pub(super) fn literal(&self) -> Option<&Path> {
        match &self.kind {
            Kind::StandardInput => Some(Path::new("-")),
            Kind::Literal(path) => Some(path),
            Kind::Glob { .. } => None,
        }
    }

    /// The directory beneath which everything lies that can match.
    fn root(&self) -> Option<&Path> {
        match &self.kind {
            Kind::StandardInput => None,
            Kind::Literal(path) => Some(path.parent().unwrap_or(path)),
            Kind::Glob { root, .. } => Some(root),
        }
    }

    /// Whether the coming or going of a directory may bring or take a file that matches.
    pub(super) fn depends_on(&self, directory: &Path) -> bool {
        self.root()
            .is_some_and(|root| root.starts_with(directory) || directory.starts_with(root))
    }

    /// What the wildcards stand for if `path` (absolute) matches, otherwise `None`.
    pub(crate) fn matches(&self, path: &Path) -> Option<Captures> {
        match &self.kind {
            Kind::StandardInput => (path == Path::new("-")).then(Vec::new),
            Kind::Literal(literal) => (path == literal).then(Vec::new),
            Kind::Glob { regex, names, .. } => {
                let path = path.as_os_str().as_bytes();
                let mut captures = regex.create_captures();
                regex.captures(path, &mut captures);
                captures.is_match().then(|| {
                    let text = |group| {
                        captures
                            .get_group(group)
                            .and_then(|span| path.get(span.range()))
                            .unwrap_or_default()
                    };
                    let named = names.iter().enumerate();
                    named
                        .map(|(i, name)| {
                            (
                                name.clone(),
                                String::from_utf8_lossy(text(i + 1)).into_owned(),
                            )
                        })
                        .collect()
                })
            }
        }
    }

    /// Calls `found` for what is there now beneath the root and may match, for the directories in which it lies, and for
    /// what hides it.
    pub(super) fn walk(&self, mut found: impl FnMut(Found<'_>)) {
        let Some(root) = self.root() else { return };
        // Also for a root that is not there yet: its coming shows in an ancestor. And its going shows in its parent, but
        // not in itself as long as somebody holds a file open that was in it, as we do.
        for existing in root
            .ancestors()
            .skip_while(|ancestor| !ancestor.is_dir())
            .take(2)
        {
            found(Found::Directory(existing));
        }
        let Kind::Glob {
            reach, literal_end, ..
        } = &self.kind
        else {
            return;
        };
        let mut cache = reach.create_cache();
        // Links to directories are followed, as a shell's glob does; walkdir breaks loops.
        let entries = WalkDir::new(root)
            .follow_links(true)
            .into_iter()
            .filter_entry(|entry| {
                !entry.file_type().is_dir() || may_hold(reach, &mut cache, entry.path())
            });
        let mut cache = reach.create_cache();
        for entry in entries {
            match entry {
                Ok(entry) if entry.file_type().is_dir() => found(Found::Directory(entry.path())),
                Ok(entry) => found(Found::File(entry.path())),
                Err(error) => {
                    let (Some(path), Some(error)) = (error.path(), error.io_error()) else {
                        continue;
                    };
                    if is_absent(error)
                        || (self.matches(path).is_none() && !may_hold(reach, &mut cache, path))
                    {
                        continue;
                    }
                    // A directory that may be entered and not listed still says of one path whether it is there.
                    let only = literal_end.as_ref().and_then(|end| end.below(path));
                    match only.as_ref().map(std::fs::metadata) {
                        Some(Ok(_)) => only.iter().for_each(|path| found(Found::File(path))),
                        Some(Err(error)) if is_absent(&error) => {}
                        _ => found(Found::Unreadable(path, error)),
                    }
                }
            }
        }
    }
}

/// Whether a path beneath this one may match.
fn may_hold(reach: &DFA, cache: &mut Cache, path: &Path) -> bool {
    let path = path.as_os_str().as_bytes();
    let separator: &[u8] = match path {
        b"/" => b"",
        _ => b"/",
    };
    let start = Input::new("").anchored(Anchored::Yes);
    let Ok(mut state) = reach.start_state_forward(cache, &start) else {
        return true;
    };
    for byte in [path, separator].concat() {
        match reach.next_state(cache, state, byte) {
            Ok(next) if next.is_dead() => return false,
            Ok(next) => state = next,
            // It would need more memory than it may have.
            Err(_) => return true,
        }
    }
    true
}

fn glob(text: &str) -> Result<Kind, PatternError> {
    let (glob, names) = take_names(text)?;
    let absolute =
        std::path::absolute(&glob).map_err(|error| PatternError(format!("`{text}`: {error}")))?;
    let special = |part: &OsStr| {
        part.as_bytes()
            .iter()
            .any(|byte| b"*?[]{}\\\x01".contains(byte))
    };
    let components: Vec<Component<'_>> = absolute.components().collect();
    let Some(first) = components
        .iter()
        .position(|component| special(component.as_os_str()))
    else {
        return Ok(Kind::Literal(absolute));
    };
    let absolute = absolute.to_str().unwrap_or(&glob);
    let translated = GlobBuilder::new(absolute)
        .literal_separator(true)
        .build()
        .map_err(|error| PatternError(format!("`{text}`: {}", error.kind())))?;
    let syntax = syntax::Config::new()
        .utf8(false)
        .unicode(false)
        .dot_matches_new_line(true);
    let translated = translated.regex().replace(PLACEHOLDER, "([^/]+)");
    let regex = Regex::builder()
        .syntax(syntax)
        .build(&translated)
        .map_err(|error| PatternError(format!("`{text}`: {error}")))?;
    let reach = DFA::builder()
        .syntax(syntax)
        .build(&translated)
        .map_err(|error| PatternError(format!("`{text}`: {error}")))?;
    Ok(Kind::Glob {
        root: components.iter().take(first).collect(),
        regex,
        reach: Arc::new(reach),
        names,
        literal_end: literal_end(&components, special),
    })
}

fn literal_end(
    components: &[Component<'_>],
    special: impl Fn(&OsStr) -> bool,
) -> Option<LiteralEnd> {
    let crosses = |component: &Component<'_>| {
        let bytes = component.as_os_str().as_bytes();
        // `**`, and alternatives that hold a slash, which are cut in two here.
        let braces = |brace| bytes.iter().filter(|byte| **byte == brace).count();
        bytes == b"**" || braces(b'{') != braces(b'}')
    };
    if components.iter().any(crosses) {
        return None;
    }
    let last = (components.iter()).rposition(|component| special(component.as_os_str()))?;
    let (wild, path) = components.split_at_checked(last + 1)?;
    Some(LiteralEnd {
        wild: wild.len(),
        path: path.iter().collect(),
    })
}

/// `text` with a placeholder for each `{name}`, and the names.
fn take_names(text: &str) -> Result<(String, Vec<Arc<str>>), PatternError> {
    if text.is_empty() {
        return Err(PatternError("a path is empty".to_owned()));
    }
    let is_name = |name: &str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let mut glob = String::new();
    let mut names: Vec<Arc<str>> = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        glob.push_str(before);
        match after.split_once('}') {
            Some((name, after)) if is_name(name) => {
                if names.iter().any(|known| **known == *name) {
                    return Err(PatternError(format!(
                        "`{text}`: two wildcards are called `{name}`"
                    )));
                }
                names.push(name.into());
                glob.push_str(PLACEHOLDER);
                rest = after;
            }
            _ => {
                glob.push('{');
                rest = after;
            }
        }
    }
    glob.push_str(rest);
    Ok((glob, names))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matching() {
        for (pattern, path, want) in [
            ("/var/log/messages", "/var/log/messages", Some("")),
            ("/var/log/messages", "/var/log/messages.1", None),
            ("/var/log/*.log", "/var/log/a.log", Some("")),
            ("/var/log/*.log", "/var/log/x/a.log", None),
            ("/var/log/**/*.log", "/var/log/a.log", Some("")),
            ("/var/log/**/*.log", "/var/log/x/y/a.log", Some("")),
            ("/var/log/{a,b}.log", "/var/log/b.log", Some("")),
            ("/var/log/{a,b}.log", "/var/log/c.log", None),
            ("/var/log/hsm[12]", "/var/log/hsm2", Some("")),
            (
                "/l/{appliance}/*.log",
                "/l/hsm1/m.log",
                Some("appliance=hsm1"),
            ),
            ("/l/{appliance}/*.log", "/l/hsm1/x/m.log", None),
            (
                "/l/{site}-{appliance}.{log,txt}",
                "/l/zrh-hsm-1.txt",
                Some("site=zrh-hsm appliance=1"),
            ),
            (
                "/l/**/{appliance}.log",
                "/l/x/y/hsm1.log",
                Some("appliance=hsm1"),
            ),
            (
                "/l/\u{e9}/{appliance}",
                "/l/\u{e9}/h\u{fc}",
                Some("appliance=h\u{fc}"),
            ),
        ] {
            let got = Pattern::parse(pattern).unwrap().matches(Path::new(path));
            let got = got.map(|found| {
                found
                    .iter()
                    .map(|(k, v)| format!("{k}={v}"))
                    .collect::<Vec<_>>()
                    .join(" ")
            });
            assert_eq!(got.as_deref(), want, "{pattern} on {path}");
        }
    }

    #[test]
    fn directories_that_may_hold_a_match() {
        for (pattern, yes, no) in [
            (
                "/*/messages",
                &["/", "/hsm1"][..],
                &["/hsm1/messages", "/hsm1/x"][..],
            ),
            (
                "/var/log/*.log",
                &["/var/log"],
                &["/var/log/x", "/var/log/x.log", "/var/lo"],
            ),
            (
                "/var/log/a*/messages",
                &["/var/log", "/var/log/a", "/var/log/ab"],
                &["/var/log/private"],
            ),
            (
                "/var/log/**/*.log",
                &["/var/log", "/var/log/x/y.log"],
                &["/var/lib"],
            ),
            ("/var/log/**", &["/var/log", "/var/log/x/y"], &["/var/logs"]),
            (
                "/l/{a,b/c}/{appliance}.log",
                &["/l", "/l/a", "/l/b", "/l/b/c"],
                &["/l/c", "/l/a/hsm1.log"],
            ),
            ("/l/{appliance}/[12]*", &["/l/h\u{fc}"], &["/l/h\u{fc}/1"]),
        ] {
            let pattern = Pattern::parse(pattern).unwrap();
            let Kind::Glob { reach, .. } = &pattern.kind else {
                panic!("{pattern:?}");
            };
            let mut cache = reach.create_cache();
            let mut held = |path: &&&str| may_hold(reach, &mut cache, Path::new(path));
            let all: Vec<_> = [yes, no].concat();
            assert_eq!(
                all.iter().filter(&mut held).collect::<Vec<_>>(),
                yes.iter().collect::<Vec<_>>(),
                "{pattern:?}"
            );
        }
    }

    #[test]
    fn refused() {
        for (pattern, want) in [
            ("", "a path is empty"),
            ("/l/[a", "`/l/[a`: unclosed character class; missing ']'"),
            ("/l/{a}/{a}", "`/l/{a}/{a}`: two wildcards are called `a`"),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap_err().to_string(), want);
        }
    }
}
