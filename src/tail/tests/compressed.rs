//! Compressed files: gzip is read whatever its name is, other forms are left alone and reported.

use super::*;

/// What `printf '1\n'` becomes.
const XZ: &[u8] = b"\xfd7zXZ\0\0\x04\xe6\xd6\xb4\x46\x02\0\x21\x01\x16\0\0\0\x74\x2f\xe5\xa3\x01\0\x01\x31\x0a\0\0\0\xe5\x4f\xb9\x2b\x3f\x09\x10\x75\0\x01\x1a\x02\xdc\x2e\xa5\x7e\x1f\xb6\xf3\x7d\x01\0\0\0\0\x04YZ";
const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd\x04\x58\x11\0\0\x31\x0a\x4f\x66\x51\x30";
const BZIP2: &[u8] = b"BZh91AY&SY\x32\x29\x21\xbd\0\0\0\xc8\0\0\x10\x20\0\x20\0\x21\0\x82\xb1\x77\x24\x53\x85\x09\x03\x22\x92\x1b\xd0";
const EMPTY_BZIP2: &[u8] = b"BZh9\x17\x72\x45\x38\x50\x90\0\0\0\0";
const LZ4: &[u8] = b"\x04\x22\x4d\x18\x64\x40\xa7\x02\0\0\x80\x31\x0a\0\0\0\0\x77\xf5\x12\x64";

fn put(scene: &Scene, name: &str, content: &[u8]) {
    fs::write(scene.path(name), content).unwrap();
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// File name and reason of what is shown as unreadable.
fn shown(scene: &Scene) -> Vec<(String, String)> {
    let files = scene.tail.as_ref().unwrap().status();
    files
        .filter_map(|file| match file.state {
            FileState::Unreadable(trouble) => {
                let name = file.info.path.file_name().unwrap().display().to_string();
                Some((name, trouble.to_string()))
            }
            _ => None,
        })
        .collect()
}

#[test]
fn what_is_compressed_and_cannot_be_read_is_left_alone_and_reported_once() {
    for (name, content) in [
        ("a.log.xz", XZ),
        ("a.log.1.xz", b"text all the same\n"),
        ("a.log.xz", b""),
        ("a.zst", ZSTD),
        ("a.bz2", BZIP2),
        ("a.lz4", LZ4),
        ("a.lzma", b"]\0\0"),
        ("a.lz", b"LZIP\x01"),
        ("a.lzo", b""),
        ("a.Z", b"\x1f\x9d\x90"),
        ("a.7z", b""),
        ("a.log", XZ),
        ("a.log", ZSTD),
        ("a.log", b"\x50\x2a\x4d\x18\x04\0\0\0\0\0\0\0"),
        ("a.log", BZIP2),
        ("a.log", EMPTY_BZIP2),
        ("a.log", LZ4),
        ("a.log", b"LZIP\x01\x0c"),
        ("a.log", b"\x89LZO\0\r\n\x1a\n\x10"),
        ("a.log", b"\x1f\x9d\x90"),
        ("a.log", b"7z\xbc\xaf\x27\x1c\0"),
        ("a.log", b"PK\x03\x04\x14"),
        // Also with the ending of another form.
        ("a.log.gz", XZ),
    ] {
        let mut scene = Scene::with(Watcher::Inotify, &["*"]);
        put(&scene, name, content);
        let told = troubles(&mut scene);
        assert_eq!(told, [[name]; 2], "{content:?}");
        assert_eq!(troubles(&mut scene), [vec![name], vec![]], "{content:?}");
        assert!(shown(&scene)[0].1.starts_with("compressed ("));
        assert!(scene.log.lines.is_empty(), "{name} {content:?}");
        scene.remove(name);
        assert_eq!(troubles(&mut scene), [[""; 0]; 2]);
    }
}

#[test]
fn what_only_looks_compressed_is_read() {
    for name in [
        "fw1.example.com.br",
        "fw1.example.zip",
        "xz",
        ".xz",
        "BZh.log",
    ] {
        let mut scene = Scene::with(Watcher::Inotify, &["*"]);
        put(&scene, name, b"BZh9 is no magic\nPK is none\n");
        assert_eq!(troubles(&mut scene), [[""; 0]; 2], "{name}");
        assert_eq!(scene.lines(name).len(), 2, "{name}");
    }
}

#[test]
fn gzip_is_read_whatever_its_name_is() {
    let mut scene = Scene::with(Watcher::Inotify, &["*.log*"]);
    put(&scene, "a.log", &gzip("1\n2\n"));
    put(&scene, "b.log.1", &gzip("3\n"));
    // logrotate's `compressext`.
    put(&scene, "c.log.Z", &gzip("5\n"));
    scene.write("b.log", "4\n");
    assert_eq!(troubles(&mut scene), [[""; 0]; 2]);
    assert_eq!(scene.lines("a.log"), ["1", "2"]);
    assert_eq!(scene.lines("c.log.Z"), ["5"]);
    assert_eq!(scene.lines("b.log"), ["3", "4"]);
}

#[test]
fn a_file_that_was_empty_and_becomes_a_compressed_one_is_not_read_as_text() {
    let mut scene = Scene::with(Watcher::Inotify, &["*.log"]);
    let mut files = ["a.log", "b.log"].map(|name| File::create(scene.path(name)).unwrap());
    scene.look().later(1);
    files[0].write_all(XZ).unwrap();
    files[1].write_all(&gzip("1\n")).unwrap();
    scene.look().later(20);
    assert_eq!(shown(&scene).len(), 1);
    let told = scene.log.events.iter();
    let told: Vec<_> = told
        .filter(|(_, event)| matches!(event, Unreadable(_)))
        .collect();
    assert!(
        matches!(told[..], [(name, _)] if name == "a.log"),
        "{told:?}"
    );
    assert_eq!(scene.lines("a.log"), [""; 0]);
    assert_eq!(scene.lines("b.log"), ["1"]);
}

#[test]
fn a_compressed_archive_that_the_glob_means_is_shown_as_unread() {
    let mut scene = Scene::with(Watcher::Inotify, &["messages*"]);
    put(&scene, "messages.2.xz", XZ);
    // logrotate's `compressext` may be anything, also nothing.
    put(&scene, "messages.1", XZ);
    scene.write("messages", "3\n");
    let mut told = troubles(&mut scene);
    told.iter_mut().for_each(|names| names.sort());
    assert_eq!(told, [["messages.1", "messages.2.xz"]; 2]);
    assert_eq!(
        troubles(&mut scene),
        [vec!["messages.1", "messages.2.xz"], vec![]]
    );
    assert_eq!(scene.lines("messages"), ["3"]);
    assert_eq!(scene.log.lines.len(), 1, "{:?}", scene.log.lines);
    scene.remove("messages.1");
    scene.remove("messages.2.xz");
    assert_eq!(troubles(&mut scene), [[""; 0]; 2]);
}

#[test]
fn a_log_that_is_rotated_and_compressed_while_stopped_is_shown_as_unread() {
    let mut scene = Scene::new();
    // Old ones are history, and nobody misses them.
    put(&scene, "messages.9.xz", XZ);
    scene.write("messages", "1\n");
    scene.look().later(5);
    let positions = scene.stop();
    scene.write("messages", "2\n");
    scene.remove("messages");
    put(&scene, "messages.1.xz", XZ);
    scene.write("messages", "3\n");
    scene.restart(positions);
    scene.look().later(20);
    assert_eq!(scene.lines("messages"), ["1", "3"]);
    let names: Vec<String> = shown(&scene).into_iter().map(|(name, _)| name).collect();
    assert!(names.contains(&"messages.1.xz".to_owned()), "{names:?}");
    // Decompressed, it is read on.
    scene.remove("messages.1.xz");
    scene.write("messages.1", "1\n2\n");
    scene.rename("messages", "messages.0");
    scene.write("messages", "4\n");
    scene.look().later(20);
    assert!(
        shown(&scene)
            .iter()
            .all(|(name, _)| name != "messages.1.xz")
    );
}

#[test]
fn an_archive_that_cannot_be_read_is_not_missed_where_all_lines_are_found() {
    let mut scene = Scene::new();
    scene.write("messages", "1\n");
    scene.look();
    scene.rename("messages", "messages.2");
    scene.write("messages", "2\n");
    scene.look().later(5);
    scene.remove("messages.2");
    put(&scene, "messages.2.xz", XZ);
    scene.look().later(5);
    let positions = scene.stop();
    scene.write("messages", "3\n");
    scene.rename("messages", "messages.1");
    scene.write("messages", "4\n");
    scene.restart(positions);
    scene.look().later(20);
    assert_eq!(scene.lines("messages"), ["1", "2", "3", "4"]);
    assert_eq!(shown(&scene), []);
}
