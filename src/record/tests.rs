//! Tests of the record module. The cases are data: `tests/fixtures/record/*.txt` hold lines, each followed by the record
//! that it must become. `UPDATE=1 cargo test record` writes what the code says now; read the difference.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

/// The programs that the packs of the project know, written down here so that a pack can change without this test.
fn programs() -> Programs {
    let list: [(&str, &[&str]); 35] = [
        ("NTLS", &["ntlsd"]),
        ("ipmievd", &["ipmiev", "ipmievdc"]),
        ("smartd", &[]),
        ("sshd", &["sshd-session", "sshd-auth"]),
        ("kmd", &["iked"]),
        ("EFW", &[]),
        ("IPSEC", &[]),
        ("ems", &[]),
        ("lunash", &[]),
        ("lush", &[]),
        ("oamp", &[]),
        ("certmonitord", &[]),
        ("lsta", &[]),
        ("AdminAPI", &[]),
        ("sysstatd", &[]),
        ("kernel", &[]),
        ("crontab", &[]),
        ("crond", &["cron", "CRON"]),
        ("anacron", &[]),
        ("logger", &[]),
        ("login", &[]),
        ("passwd", &[]),
        ("usermod", &[]),
        ("useradd", &[]),
        ("userdel", &[]),
        ("groupadd", &[]),
        ("groupdel", &[]),
        ("chage", &[]),
        ("root", &[]),
        ("wdt_heartbeat", &["wdt_heartbeatd"]),
        ("snmpd", &[]),
        ("su", &[]),
        ("sudo", &[]),
        ("systemd-logind", &[]),
        ("hsm", &[]),
    ];
    Programs::new(list.map(|(name, aliases)| {
        (
            name.to_owned(),
            aliases.iter().map(|&name| name.to_owned()).collect(),
        )
    }))
    .with_formats(prefixes())
    .with_formats([
        BodyFormat {
            program: "hsm".to_owned(),
            shape: BodyShape::KeyValue(vec!["devname".to_owned(), "logid".to_owned()]),
            host: Some("devname".to_owned()),
            severity: Some("level".to_owned()),
            message_id: Some("logid".to_owned()),
            ..BodyFormat::default()
        },
        BodyFormat {
            program: "hsm".to_owned(),
            shape: BodyShape::Csv {
                columns: ["one", "name", "type", "level"].map(str::to_owned).to_vec(),
                column: 2,
                is: vec!["TRAFFIC".to_owned()],
            },
            host: Some("name".to_owned()),
            severity: Some("level".to_owned()),
            message_id: Some("type".to_owned()),
            ..BodyFormat::default()
        },
    ])
}

/// What the shipped packs say of messages whose header names the program.
fn prefixes() -> Vec<BodyFormat> {
    static PREFIXES: LazyLock<Vec<BodyFormat>> = LazyLock::new(|| {
        let rules = crate::rules::load(&[], crate::rules::Settings::default()).unwrap();
        rules.formats
    });
    PREFIXES.clone()
}

fn clock() -> Clock {
    Clock {
        zone: jiff::tz::TimeZone::UTC,
        now: "2024-03-01T00:00:00Z".parse().unwrap(),
    }
}

fn fixtures(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(kind)
}

/// What a line becomes, empty fields left out.
fn describe(line: &[u8], programs: &Programs) -> String {
    let mut text = String::new();
    let mut buffer = Vec::new();
    for frame in frames(unwrap_json(line, &mut buffer)) {
        let record = parse(frame, programs);
        let mut field = |name: &str, value: &[u8]| {
            if !value.is_empty() {
                write!(text, " {name}={}", readable(value)).unwrap();
            }
        };
        field("host", record.host.unwrap_or_default());
        field("relayed", record.relayed_host.unwrap_or_default());
        field("program", record.program);
        if let Some(id) = record.program_id {
            if !programs.name(id).as_bytes().eq(record.program) {
                field("known-as", programs.name(id).as_bytes());
            }
        } else if !record.program.is_empty() {
            field("known-as", b"-");
        }
        field("facility", record.facility);
        field(
            "severity",
            record.severity.map_or("", Severity::name).as_bytes(),
        );
        field("tag", record.tag);
        field("app", record.app_severity);
        field("code", record.code);
        if record.repeat != 1 {
            field("repeat", record.repeat.to_string().as_bytes());
        }
        if record.repeat_last != 0 {
            field("repeat-last", record.repeat_last.to_string().as_bytes());
        }
        if record.test {
            field("test", b"yes");
        }
        let time = record.timestamp(&clock()).map(|time| time.to_string());
        match &time {
            Some(time) => field("time", time.as_bytes()),
            None if !record.stamp.is_empty() => field("never", record.stamp),
            None => {}
        }
        if text.is_empty() || text.ends_with('\n') {
            text.push_str(" nothing");
        }
        text.push('\n');
        if !record.structured.is_empty() {
            writeln!(text, "  {}", readable(record.structured)).unwrap();
        }
        writeln!(text, "  > {}", readable(record.message)).unwrap();
    }
    text.lines().map(|line| format!("   {line}\n")).collect()
}

/// Bytes as a fixture shows them.
fn readable(bytes: &[u8]) -> String {
    bytes
        .escape_ascii()
        .to_string()
        .replace("\\'", "'")
        .replace("\\\"", "\"")
}

/// Undoes `escape_ascii` in a fixture's line.
fn unescape(line: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = line.as_bytes();
    loop {
        rest = match rest {
            [] => return bytes,
            [b'\\', b't', tail @ ..] => {
                bytes.push(b'\t');
                tail
            }
            [b'\\', b'r', tail @ ..] => {
                bytes.push(b'\r');
                tail
            }
            [b'\\', b'x', high, low, tail @ ..] => {
                let digit = |byte: &u8| (*byte as char).to_digit(16).unwrap();
                bytes.push((digit(high) * 16 + digit(low)) as u8);
                tail
            }
            [byte, tail @ ..] => {
                bytes.push(*byte);
                tail
            }
        }
    }
}

fn check(path: &Path, actual: &str) {
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(path).unwrap();
    for (number, (expected, actual)) in expected.lines().zip(actual.lines()).enumerate() {
        assert_eq!(actual, expected, "{}:{}", path.display(), number + 1);
    }
    assert_eq!(
        actual.lines().count(),
        expected.lines().count(),
        "{}",
        path.display()
    );
}

#[test]
fn lines_become_the_records_of_the_fixtures() {
    let programs = programs();
    let mut files = 0;
    for entry in std::fs::read_dir(fixtures("record")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "txt") {
            continue;
        }
        files += 1;
        let mut actual = String::new();
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            match line.as_bytes() {
                [] | [b'#', b' ', ..] => writeln!(actual, "{line}").unwrap(),
                [b' ', ..] => {}
                _ => write!(actual, "{line}\n{}", describe(&unescape(line), &programs)).unwrap(),
            }
        }
        check(&path, &actual);
    }
    assert!(files > 0);
}

/// A header of each family, with `HOST` for the host that it names.
const HEADERS: [&str; 24] = [
    "Feb 29 12:05:01 HOST ",
    "2024 Feb 29 12:05:01 HOST  local5 info  ",
    "<38>Feb 29 12:05:01 HOST ",
    "2024-02-29T12:05:01+00:00 HOST ",
    "Feb 29 12:05:01 HOST: ",
    "Feb 29 12:05:01 HOST : ",
    "Feb 29 12:05:01 local@HOST ",
    "Feb 29 12:05:01 [10.0.0.1] HOST ",
    "Feb 29 12:05:01 <4.6> HOST ",
    "Dez 25 10:06:12 HOST ",
    "[   12.345678] HOST ",
    "1131566479 HOST ",
    "- 1131566479 2005.11.09 HOST Nov 9 12:01:19 HOST ",
    "2010-12-15 15:00:25\tLocal0.Info\tHOST\t",
    "2016-10-06T00:17:09Z stdout F Feb 29 12:05:01 HOST ",
    "<38>1 2024-02-29T12:05:01Z HOST - - - - ",
    "<38>1 2024-02-29T12:05:01Z HOST NTLS 1 - - ",
    "1 2024-02-29T12:05:01Z HOST x 1 - [a@1 b=\"c\"] ",
    "2024-02-29T12:05:01Z HOST NTLS 1 - - ",
    "<1>1 2024-02-29T12:05:01Z HOST IPSEC : ",
    "[HOST:ktls.badAuth:notice]: ",
    "foo: [HOST:ktls.badAuth:notice]: ",
    "HOST ",
    "",
];

/// Whatever header stands inside another, the line is about the first one's host.
#[test]
fn a_header_within_a_header_names_no_other_host() {
    let programs = programs();
    let dated = |header: &&&str| header.contains(":0") || header.contains("1131566479");
    for outer in HEADERS.iter().filter(dated) {
        // What a program wrote is not looked at; here the bracket, `-` and another program stand in front as well.
        for between in [
            "", "- ", "foo ", "foo: ", "foo[1]: ", "<38>", "[1]: ", "(x) ", "%A-1-B: ", "last ",
        ] {
            for inner in HEADERS {
                for middle in HEADERS {
                    let line = [
                        &outer.replace("HOST", "hsm2"),
                        between,
                        &middle.replace("HOST", "hsm1"),
                        &inner.replace("HOST", "hsm1"),
                        "NTLS[7]: info : 0 : NTLS is online and operational",
                    ]
                    .concat();
                    let record = parse(line.as_bytes(), &programs);
                    let expected = match outer.contains("[10.0.0.1]") {
                        true => &b"10.0.0.1"[..],
                        false => b"hsm2",
                    };
                    // `hsm2: ` may as well be a program.
                    let is_host = record.host.is_some() || !outer.contains("HOST: ");
                    assert!(!is_host || record.host == Some(expected), "{line}");
                    cached(line.as_bytes(), &programs);
                }
            }
        }
    }
}

#[test]
fn every_documented_line_has_its_host_and_program() {
    let programs = programs();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for name in ["luna", "kmd", "clavister", "ktls"] {
        for line in std::fs::read_to_string(fixtures("catalogue").join(name).with_extension("log"))
            .unwrap()
            .lines()
        {
            let record = parse(line.as_bytes(), &programs);
            let program = programs.name(
                record
                    .program_id
                    .unwrap_or_else(|| panic!("no program in {line}")),
            );
            let host = record
                .host
                .unwrap_or_else(|| panic!("no host in {line}"))
                .escape_ascii();
            let severity = record.severity.map_or("-", Severity::name);
            assert!(!record.message.is_empty(), "no message in {line}");
            let app = if record.code.is_empty() {
                ""
            } else {
                " with a code"
            };
            *seen
                .entry(format!("{name}: {host} {program} {severity}{app}"))
                .or_default() += 1;
        }
    }
    let actual = seen.iter().fold(String::new(), |text, (what, count)| {
        text + &format!("{what}: {count}\n")
    });
    check(&fixtures("record").join("catalogue.counts"), &actual);
}

fn lies_within(line: &[u8], part: &[u8]) -> bool {
    const CONSTANTS: [&[u8]; 3] = [b"kmd", b"ems", b"EFW"];
    let (line, range) = (line.as_ptr_range(), part.as_ptr_range());
    part.is_empty()
        || (line.start <= range.start && range.end <= line.end)
        || CONSTANTS.contains(&part)
        || (0..24).any(|number| severity::facility_name(number) == part)
}

thread_local! {
    /// Headers of all lines of a test, so that what one line has cached is used for the others.
    static CACHE: std::cell::RefCell<Headers> = std::cell::RefCell::new(Headers::new(1 << 15));
}

/// A header read from the cache is what [`parse`] reads, the first time and the second.
fn cached(line: &[u8], programs: &Programs) {
    CACHE.with_borrow_mut(|headers| {
        for _ in 0..2 {
            let mut record = Record::default();
            headers.parse(line, programs, &mut record);
            let expected = parse(line, programs);
            assert_eq!(
                format!("{record:?}"),
                format!("{expected:?}"),
                "{}",
                line.escape_ascii()
            );
        }
    });
}

fn holds(line: &[u8], programs: &Programs) {
    cached(line, programs);
    let mut frame_bytes = 0;
    unwrap_json(line, &mut Vec::new());
    for frame in frames(line) {
        frame_bytes += frame.len();
        let record = parse(frame, programs);
        for part in [
            record.host.unwrap_or_default(),
            record.relayed_host.unwrap_or_default(),
            record.program,
            record.facility,
            record.stamp,
            record.tag,
            record.structured,
            record.app_severity,
            record.code,
            record.message,
        ] {
            assert!(
                lies_within(line, part),
                "{:?} is not in the line",
                part.escape_ascii().to_string()
            );
        }
        assert!((1..=REPEAT_MAX).contains(&record.repeat) && record.repeat_last <= REPEAT_MAX);
        record.timestamp(&clock());
    }
    assert!(frame_bytes <= line.len());
}

/// All lines of all fixtures, to be mutated.
fn all_lines() -> Vec<Vec<u8>> {
    let mut lines = Vec::new();
    for (folder, extension) in [("record", "txt"), ("catalogue", "log")] {
        for entry in std::fs::read_dir(fixtures(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|found| found == extension) {
                let text = std::fs::read_to_string(path).unwrap();
                lines.extend(
                    text.lines()
                        .filter(|line| !line.starts_with([' ', '#']))
                        .map(unescape),
                );
            }
        }
    }
    lines
}

proptest! {
    /// Words that meet often in other orders, behind other stamps, with other pids and messages.
    #[test]
    fn the_cache_of_headers_changes_nothing(
        lines in prop::collection::vec("(<38>|<7>|<191>|<192>|<013>|)(2024 )?(Feb 29 12:05:01|May  3 01:02:03|2024-02-29T12:05:01\\+01:00|2024-02-29T12:05:01.25Z|Feb 3 1:2:3) \
            (h|hsm1|mail|2024|UTC|local5.info|last|\\(FPC Slot 1|10.0.0.1|a/a|a: a|kmd|ems|x:y|%D-4-KMD_X|\\[n|<38>|-)?  ?\
            (local5|user|daemon|info|message repeated 2 times|---|1 )? ?(info|err|h2|mail|)  ?\
            (NTLS|sshd|foo|kmd|KMD_X|x.y|GET /NTLS|a|EFW|hsm1|info)( \\[1\\]:|\\[12\\]:|:|\\[3\\]|\\(pam\\)\\[1\\]:|\\[1\\) x\\]:) ?\
            (x|: x|\\[a.b:info\\]: y|\\[x: a.b: err\\]|\\) Slot|a: a|info : 0 : x|)", 1..8),
    ) {
        let programs = programs();
        for line in &lines {
            cached(line.as_bytes(), &programs);
        }
    }

    #[test]
    fn any_bytes_give_a_record(line in prop::collection::vec(any::<u8>(), 0..200)) {
        holds(&line, &programs());
    }

    #[test]
    fn header_like_bytes_give_a_record(line in "(<[0-9]{0,4}>)?[0-9 ]{0,3}[1A-Z:. \\-\\[\\]()%{}=\"\\\\a-z0-9]{0,80}") {
        holds(line.as_bytes(), &programs());
    }
}

#[test]
fn lines_cut_anywhere_give_records() {
    let programs = programs();
    for line in all_lines() {
        for end in 0..=line.len() {
            holds(&line[..end], &programs);
            holds(&line[end..], &programs);
        }
    }
}

#[test]
fn headers_with_a_byte_changed_give_records() {
    let programs = programs();
    for mut line in all_lines() {
        for at in 0..line.len().min(80) {
            let was = line[at];
            for byte in *b" :[]()<>-%=\"\\1A\0\xff" {
                line[at] = byte;
                holds(&line, &programs);
            }
            line[at] = was;
        }
    }
}
