//! Which files of a rules directory are packs, and their text.
//!
//! A directory is somebody's input: a file in it may be larger than memory, a device that never ends, a pipe that nobody
//! writes to, or a link to nothing. Each of these is a fault with its path, and none is waited for.

use std::fs::{DirEntry, File, Metadata};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::PackText;
use crate::diagnostic::Diagnostic;

/// Bytes of a pack. The largest built-in one has 0.3 MB.
const PACK_BYTES_MAX: u64 = 4 << 20;

/// Packs of a directory.
const PACKS_MAX: usize = 1_000;

/// The packs of these directories, in the order of their names. A path may also be that of one pack.
pub(crate) fn read(directories: &[PathBuf], faults: &mut Vec<Diagnostic>) -> Vec<PackText> {
    let mut packs = Vec::new();
    for directory in directories {
        let files = match files(directory) {
            Ok(files) => files,
            Err(error) => {
                faults.push(Diagnostic::unreadable(directory, &error.to_string()));
                continue;
            }
        };
        if files.len() > PACKS_MAX {
            let message = format!("has {} packs, more than {PACKS_MAX}", files.len());
            let file = directory.display().to_string();
            faults.push(Diagnostic::of_file(file, &message, None));
            continue;
        }
        for file in files {
            match text(&file) {
                Ok(text) => packs.push(PackText {
                    file: file.display().to_string(),
                    text,
                }),
                Err(error) => faults.push(Diagnostic::unreadable(&file, &error)),
            }
        }
    }
    packs
}

/// What is in these directories and looks like a pack, but is not read.
pub(crate) fn overlooked(directories: &[PathBuf]) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for directory in directories.iter().filter(|path| path.is_dir()) {
        let mut packs = 0;
        for entry in entries(directory).unwrap_or_default() {
            let path = entry.path();
            let warning = |message: &str, hint: &str| {
                Diagnostic::of_file(path.display().to_string(), message, Some(hint.to_owned()))
            };
            let name = entry.file_name().to_string_lossy().to_lowercase();
            if name.starts_with('.') {
                // As a shell's glob does, and as editors' backups want it.
            } else if is_pack(&path) && !path.is_dir() {
                packs += 1;
            } else if path.is_dir() {
                if entries(&path).is_ok_and(|inside| inside.iter().any(|e| is_pack(&e.path()))) {
                    let hint = format!("name it too: --rules.dir {}", path.display());
                    found.push(warning("packs in a directory below are not read", &hint));
                }
            } else if name.contains(".yaml") || name.contains(".yml") {
                found.push(warning(
                    "is not read",
                    "a pack is called NAME.yaml, in lower case",
                ));
            }
        }
        if packs == 0 {
            let file = directory.display().to_string();
            let hint = Some("a pack is a file called NAME.yaml".to_owned());
            found.push(Diagnostic::of_file(file, "has no rule pack", hint));
        }
    }
    found
}

fn is_pack(path: &Path) -> bool {
    let is_hidden = path
        .file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    !is_hidden
        && path
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml")
}

fn entries(directory: &Path) -> io::Result<Vec<DirEntry>> {
    let mut entries = std::fs::read_dir(directory)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(DirEntry::file_name);
    Ok(entries)
}

/// The packs of a directory; a path that is no directory is one itself.
fn files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    if !std::fs::metadata(directory)?.is_dir() {
        return Ok(vec![directory.to_owned()]);
    }
    let paths = entries(directory)?.into_iter().map(|entry| entry.path());
    // A directory may be called anything.
    Ok(paths
        .filter(|path| is_pack(path) && !path.is_dir())
        .collect())
}

fn text(path: &Path) -> Result<String, String> {
    let metadata = std::fs::metadata(path).map_err(|error| match path.is_symlink() {
        true => format!("the link leads nowhere: {error}"),
        false => error.to_string(),
    })?;
    plain(&metadata)?;
    // Asked again of what was opened, which may be another file by now; a pipe is not waited for.
    let file = rustix::fs::open(
        path,
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    );
    let file = File::from(file.map_err(|error| io::Error::from(error).to_string())?);
    plain(&file.metadata().map_err(|error| error.to_string())?)?;
    let mut bytes = Vec::new();
    file.take(PACK_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > PACK_BYTES_MAX {
        return Err(too_large());
    }
    String::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())
}

fn plain(metadata: &Metadata) -> Result<(), String> {
    if !metadata.is_file() {
        return Err("not a regular file".to_owned());
    }
    match metadata.len() > PACK_BYTES_MAX {
        true => Err(too_large()),
        false => Ok(()),
    }
}

fn too_large() -> String {
    format!("larger than {} MiB", PACK_BYTES_MAX >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_pack_is_refused_or_left_alone_at_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("good.yaml"), "pack: good\n").expect("a file");
        std::fs::write(path(".hidden.yaml"), "nonsense").expect("a file");
        std::fs::write(path("notes.yaml.txt"), "nonsense").expect("a file");
        std::fs::write(path("LOUD.YAML"), "nonsense").expect("a file");
        std::fs::write(path("latin1.yaml"), b"pack: \xe9\n").expect("a file");
        std::fs::create_dir(path("below")).expect("a directory");
        std::fs::write(path("below/deep.yaml"), "pack: deep\n").expect("a file");
        let sparse = File::create(path("sparse.yaml")).expect("a file");
        sparse.set_len(3 << 30).expect("a length");
        std::os::unix::fs::symlink("/dev/zero", path("zero.yaml")).expect("a link");
        std::os::unix::fs::symlink("nowhere", path("dangling.yaml")).expect("a link");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            path("fifo.yaml"),
            rustix::fs::FileType::Fifo,
            mode,
            0,
        )
        .expect("a pipe");

        let mut faults = Vec::new();
        let packs = read(&[directory.path().to_owned()], &mut faults);
        assert_eq!(packs.len(), 1, "{packs:?}");
        let prefix = format!("{}/", directory.path().display());
        let said = |faults: Vec<Diagnostic>| -> Vec<String> {
            faults
                .iter()
                .map(|fault| fault.to_string().replace(&prefix, ""))
                .collect()
        };
        assert_eq!(
            said(faults),
            [
                "dangling.yaml: cannot be read: the link leads nowhere: No such file or directory (os error 2)",
                "fifo.yaml: cannot be read: not a regular file",
                "latin1.yaml: cannot be read: not UTF-8",
                "sparse.yaml: cannot be read: larger than 4 MiB",
                "zero.yaml: cannot be read: not a regular file",
            ]
        );
        assert_eq!(
            said(overlooked(&[directory.path().to_owned()])),
            [
                "LOUD.YAML: is not read\n  hint: a pack is called NAME.yaml, in lower case",
                "below: packs in a directory below are not read\n  hint: name it too: --rules.dir below",
                "notes.yaml.txt: is not read\n  hint: a pack is called NAME.yaml, in lower case",
            ]
        );
    }
}
