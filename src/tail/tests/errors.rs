//! What cannot be read for a while: no permission (`EACCES`), no descriptors (`EMFILE`), a disk that fails (`EIO`). The
//! errors are real, but for those of a disk: these come from a C library that is put before the system's.

use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::set_thread_res_uid;

use super::kinds::{CASES, Case, check_lines, play};
use super::*;

/// Why nothing can be read for a while.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// The files may not be read.
    Permission,
    /// The directory may be entered and not listed.
    Listing,
    /// So many descriptors are left.
    Descriptors(u64),
    /// Reading fails from this offset on, in bytes.
    Disk(u64),
}

/// Answers `EIO` to every read of a file below a directory `followed-…` from the offset on that the file `EIO_WHILE` has,
/// while that is there.
const FAILING_READS: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* From which offset on reads of this descriptor fail; -1 if they do not. */
static long fails_from(int fd) {
    const char *flag = getenv("EIO_WHILE");
    char link[64], path[512];
    long from = -1;
    FILE *file = flag ? fopen(flag, "re") : NULL;
    if (!file) return -1;
    if (fscanf(file, "%ld", &from) != 1) from = -1;
    fclose(file);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, sizeof path - 1);
    if (len < 0) return -1;
    path[len] = 0;
    return strstr(path, "/followed-") ? from : -1;
}
ssize_t read(int fd, void *to, size_t len) {
    static ssize_t (*real)(int, void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "read");
    long from = fails_from(fd);
    if (from >= 0) {
        off_t at = lseek(fd, 0, SEEK_CUR);
        if (at >= from) { errno = EIO; return -1; }
        if (at + (off_t) len > from) len = from - at;
    }
    return real(fd, to, len);
}
ssize_t pread64(int fd, void *to, size_t len, off_t at) {
    static ssize_t (*real)(int, void *, size_t, off_t);
    if (!real) real = dlsym(RTLD_NEXT, "pread64");
    long from = fails_from(fd);
    if (from >= 0) {
        if (at >= from) { errno = EIO; return -1; }
        if (at + (off_t) len > from) len = from - at;
    }
    return real(fd, to, len, at);
}
"#;

/// Does something as a user who is not root; one who is not root does so anyway.
fn as_nobody(what: impl FnOnce()) {
    use rustix::process::{Uid, geteuid};
    let own = geteuid();
    let nobody = Uid::from_raw(65_534);
    if own.is_root() {
        set_thread_res_uid(own, nobody, own).unwrap();
    }
    what();
    if own.is_root() {
        set_thread_res_uid(own, own, own).unwrap();
    }
}

fn rights(scene: &Scene, file: u32) {
    for entry in scene.dir.path().read_dir().unwrap().flatten() {
        if entry.file_type().unwrap().is_file() {
            fs::set_permissions(entry.path(), fs::Permissions::from_mode(file)).unwrap();
        }
    }
}

fn directory_rights(scene: &Scene, mode: u32) {
    fs::set_permissions(scene.dir.path(), fs::Permissions::from_mode(mode)).unwrap();
}

/// Looks for some seconds while nothing can be read.
fn look_under(scene: &mut Scene, fault: Fault) {
    match fault {
        Fault::Permission => {
            directory_rights(scene, 0o755);
            rights(scene, 0);
            as_nobody(|| {
                scene.look().later(12);
            });
            rights(scene, 0o644);
        }
        Fault::Listing => {
            directory_rights(scene, 0o711);
            rights(scene, 0o644);
            as_nobody(|| {
                scene.look().later(12);
            });
            directory_rights(scene, 0o755);
        }
        Fault::Descriptors(left) => {
            let before = getrlimit(Resource::Nofile);
            let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
            let next = open
                .filter_map(|entry| entry.file_name().to_str()?.parse::<u64>().ok())
                .max();
            // Below the highest, all are taken: by this.
            let mut taken = Vec::new();
            let highest = next.unwrap();
            while let Ok(file) = File::open("/dev/null") {
                use std::os::fd::AsRawFd;
                let is_above = file.as_raw_fd() as u64 > highest;
                taken.push(file);
                if is_above {
                    break;
                }
            }
            let current = Some(highest + 2 + left);
            setrlimit(Resource::Nofile, Rlimit { current, ..before }).unwrap();
            scene.look().later(12);
            setrlimit(Resource::Nofile, before).unwrap();
        }
        Fault::Disk(from) => {
            let flag = PathBuf::from(std::env::var_os("EIO_WHILE").unwrap());
            fs::write(&flag, from.to_string()).unwrap();
            let path = scene.dir.path().join("probe");
            fs::write(&path, "x".repeat(1000)).unwrap();
            let error = fs::read(&path).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(5));
            fs::remove_file(path).unwrap();
            scene.look().later(12);
            fs::remove_file(flag).unwrap();
        }
    }
}

fn check((name, patterns, before, after): &Case, fault: Fault) {
    for restarts in [true, false] {
        // What failed before may have left it.
        let _ = fs::remove_file(std::env::var_os("EIO_WHILE").unwrap());
        let dir = tempfile::Builder::new()
            .prefix("followed-")
            .tempdir()
            .unwrap();
        let mut scene = Scene::within(dir, Watcher::Inotify, patterns);
        let next = play(&mut scene, before, after, restarts);
        let what = format!("{name}, {fault:?}, restarts {restarts}");
        look_under(&mut scene, fault);
        let lag: u64 = scene
            .tail
            .iter()
            .flat_map(Tail::status)
            .map(|f| f.lag_bytes)
            .sum();
        let read: usize = scene.log.lines.values().map(Vec::len).sum();
        let missing = (next as usize).saturating_sub(read);
        let is_said = scene
            .events()
            .iter()
            .any(|event| matches!(event, Unreadable(_)));
        assert!(
            missing == 0 || lag > 0 || is_said,
            "{what}: {missing} are missing, and nothing says so"
        );
        // And a restart in between changes nothing.
        if restarts {
            let positions = scene.stop();
            scene.restart(positions);
        }
        scene.look().later(40);
        check_lines(&scene, next, &what);
    }
}

#[test]
fn each_line_once_after_what_cannot_be_read_for_a_while() {
    if std::env::var_os("EIO_WHILE").is_none() {
        let dir = tempfile::tempdir().unwrap();
        let (source, library) = (dir.path().join("eio.c"), dir.path().join("eio.so"));
        fs::write(&source, FAILING_READS).unwrap();
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .args([&library, &source])
            .status();
        assert!(compiled.expect("a C compiler").success());
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("tail::tests::errors::each_line_once_after_what_cannot_be_read_for_a_while")
            .env("LD_PRELOAD", library)
            .env("EIO_WHILE", dir.path().join("fails"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains("1 passed"),
            "{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        return;
    }
    let mut faults = vec![Fault::Permission, Fault::Listing];
    faults.extend([0, 1, 20, 100, 700].map(Fault::Disk));
    faults.extend((0..10).map(Fault::Descriptors));
    std::panic::set_hook(Box::new(|panic| println!("{panic}")));
    let every = CASES
        .iter()
        .flat_map(|case| faults.iter().map(move |fault| (case, *fault)));
    let failed = every
        .filter(|(case, fault)| std::panic::catch_unwind(|| check(case, *fault)).is_err())
        .map(|(case, fault)| (case.0, fault));
    let failed: Vec<_> = failed.collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

/// A directory that may be entered and not listed hides nothing of which the name is known.
#[test]
fn a_name_below_a_directory_that_cannot_be_listed() {
    let readable = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    for (pattern, found) in [
        ("*/logs/messages", true),
        ("hsm[0-9]/logs/messages", true),
        ("hsm1/logs/messages", true),
        ("*/*/messages", true),
        ("*/logs/m*", false),
        ("**/messages", false),
    ] {
        let mut scene = Scene::with(Watcher::Inotify, &[pattern]);
        fs::create_dir_all(scene.path("hsm1/logs")).unwrap();
        scene.write("hsm1/logs/messages", "1\n");
        directory_rights(&scene, 0o755);
        readable(&scene.path("hsm1/logs/messages"), 0o644);
        readable(&scene.path("hsm1/logs"), 0o711);
        as_nobody(|| {
            scene.look();
        });
        // That rotated files beside it are not found is said of the directory.
        let unreadable = Unreadable(Trouble::PermissionDenied);
        assert_eq!(scene.events(), [unreadable], "{pattern}");
        scene.write("hsm1/logs/messages", "2\n");
        as_nobody(|| {
            scene.later(6);
        });
        let followed = scene.tail.as_ref().unwrap().status();
        let followed = followed.filter(|file| file.info.path == scene.path("hsm1/logs/messages"));
        assert_eq!(followed.count(), usize::from(found), "{pattern}");
        if found {
            assert_eq!(scene.lines("hsm1/logs/messages"), ["1", "2"], "{pattern}");
        }
    }
}
