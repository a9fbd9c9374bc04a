//! How long a line takes to become a record: each header family alone, and the packs' examples by program.
//! `cargo bench --bench record`

use std::hint::black_box;

use appliance_log_exporter::record::{frames, parse};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use examples::Examples;

#[path = "common/examples.rs"]
mod examples;

const FAMILIES: [(&str, &[u8]); 6] = [
    (
        "luna file",
        b"2024 Feb 29 12:05:01 hsm1  local5 info  NTLS [77]: info : 0 : NTLA Client \"192.168.0.100\" Connection instance removed : 192.168.0.100/40847",
    ),
    (
        "rfc 3164",
        b"Dec 10 06:55:48 LabSZ sshd[24200]: Failed password for invalid user webmaster from 173.234.31.186 port 38926 ssh2",
    ),
    (
        "rfc 3164 from an address",
        b"<38>Dec 10 06:55:48 10.0.0.1 sshd[24200]: Failed password for invalid user webmaster from 173.234.31.186 port 38926 ssh2",
    ),
    (
        "rfc 5424",
        b"<30>1 2024-02-29T12:05:01.461+10:00 srx1 kmd 9812 KMD_VPN_UP_ALARM_USER [junos@2636.1.1.1.2.26 vpn-name=\"v1\" remote-address=\"10.0.0.1\"] VPN v1 from 10.0.0.1 is up.",
    ),
    (
        "ontap",
        b"<13>Feb 29 12:05:01 [node-01:ktls.badAuth:notice]: ONTAP received a TLS message with incorrect authentication at local address 10.0.0.5",
    ),
    (
        "unknown program",
        b"2024 Feb 29 12:05:01 hsm1  daemon info  systemd[1]: Started Session 77 of user root, and what else such a line may say of itself.",
    ),
];

fn records(criterion: &mut Criterion) {
    let examples = Examples::load();
    let mut group = criterion.benchmark_group("record");
    group.throughput(Throughput::Elements(1));
    for (name, line) in FAMILIES {
        group.bench_function(name, |bencher| {
            bencher.iter(|| parse(black_box(line), &examples.programs))
        });
    }
    for (program, lines) in &examples.lines {
        group.throughput(Throughput::Elements(lines.len() as u64));
        group.bench_function(program, |bencher| {
            bencher.iter(|| {
                for frame in lines.iter().flat_map(|line| frames(line.as_bytes())) {
                    black_box(parse(black_box(frame), &examples.programs));
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, records);
criterion_main!(benches);
