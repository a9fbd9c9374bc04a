//! A replica that is stopped while its checkpoints are on their way, and goes on when another one has its shards.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::broker::Cluster;
use crate::exporter::LONG;
use crate::kafka_state::{METRIC, Watcher, own, prepare, settings_with, start, write};
use crate::support::{free_port, wait_for};

/// The request of Kafka's protocol that ends a transaction.
const END_TRANSACTION: i16 = 26;
/// Longer than any request here.
const REQUEST_BYTES_MAX: usize = 16 << 20;

/// Passes requests on to a broker. It can hold back those that end a transaction.
#[derive(Clone, Default)]
struct Gate {
    is_closed: Arc<AtomicBool>,
    /// Requests that are or were held back.
    held: Arc<AtomicUsize>,
    /// Those of them that were passed on.
    passed: Arc<AtomicUsize>,
}

impl Gate {
    /// Passes on all connections to this port of loopback, which is that of a broker.
    fn open(self, listener: TcpListener, to: u16) {
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let gate = self.clone();
                std::thread::spawn(move || {
                    // A connection that ends is none of ours.
                    let _ = client.and_then(|client| gate.connect(client, to));
                });
            }
        });
    }

    fn connect(&self, mut client: TcpStream, to: u16) -> io::Result<()> {
        let mut broker = TcpStream::connect((Ipv4Addr::LOCALHOST, to))?;
        let (mut answers, mut back) = (broker.try_clone()?, client.try_clone()?);
        std::thread::spawn(move || {
            let _ = io::copy(&mut answers, &mut back);
            let _ = back.shutdown(Shutdown::Both);
        });
        let passed = self.pass(&mut client, &mut broker);
        let _ = broker.shutdown(Shutdown::Both);
        passed
    }

    fn pass(&self, client: &mut TcpStream, broker: &mut TcpStream) -> io::Result<()> {
        loop {
            let mut length = [0; 4];
            client.read_exact(&mut length)?;
            let bytes = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            assert!((2..REQUEST_BYTES_MAX).contains(&bytes), "{bytes}");
            let mut request = vec![0; bytes];
            client.read_exact(&mut request)?;
            let kind = i16::from_be_bytes([request[0], request[1]]);
            let is_held = kind == END_TRANSACTION && self.is_closed.load(Ordering::SeqCst);
            if is_held {
                self.held.fetch_add(1, Ordering::SeqCst);
                while self.is_closed.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
            broker.write_all(&length)?;
            broker.write_all(&request)?;
            self.passed
                .fetch_add(usize::from(is_held), Ordering::SeqCst);
        }
    }
}

/// It is stopped when all of a checkpoint is written but for its end, which reaches the brokers when another replica owns the
/// shards. Then it goes on.
#[test]
fn a_zombie_in_the_middle_of_a_transaction_commits_nothing_and_shows_nothing() {
    const SHARDS: usize = 2;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let proxy = listener.local_addr().expect("an address").port();
    let (cluster, inner) = Cluster::start_behind(proxy);
    let gate = Gate::default();
    gate.clone().open(listener, inner);
    let (_directory, config) = prepare(&cluster, SHARDS as i32);
    let behind = tempfile::tempdir().expect("a directory");
    let config_behind = settings_with(behind.path(), &format!("127.0.0.1:{proxy}"));
    let ports = [free_port(), free_port()];
    let mut zombie = start(&config_behind, "0/1", ports[0]);
    let watcher = Watcher::start(&ports);
    write(&cluster, 6, 10);
    watcher.wait_for(60, &mut [&mut zombie]);

    gate.is_closed.store(true, Ordering::SeqCst);
    write(&cluster, 6, 10);
    wait_for("transactions that are to end", LONG, || {
        let is_open = |shard| {
            let (end, stable) = cluster.ends("logs-state", shard);
            stable < end
        };
        let are_held = gate.held.load(Ordering::SeqCst) == SHARDS;
        (are_held && (0..SHARDS as i32).all(is_open)).then_some(())
    });
    zombie.child.signal("STOP");
    let mut other = start(&config, "0/1", ports[1]);
    watcher.wait_for(120, &mut [&mut other]);
    write(&cluster, 6, 10);
    watcher.wait_for(180, &mut [&mut other]);

    gate.is_closed.store(false, Ordering::SeqCst);
    wait_for("ends of transactions", LONG, || {
        (gate.passed.load(Ordering::SeqCst) == SHARDS).then_some(())
    });
    zombie.child.signal("CONT");
    let contended = zombie.wait_for("contended shards", || {
        let samples = crate::exporter::scrape(ports[0])?;
        let contended = own(&samples, "state", &["state=\"contended\""]);
        (contended == SHARDS as f64).then_some(samples)
    });
    // Its lease was over for so long that it may not have waited for what the brokers say.
    let events = ["fenced", "given_up"].map(|event| format!("event=\"{event}\""));
    let events = events.map(|event| own(&contended, "events_total", &[&event]));
    assert_eq!(events.iter().sum::<f64>(), SHARDS as f64, "{events:?}");
    assert_eq!(contended.sum(METRIC, &[]), 0.0);
    write(&cluster, 6, 10);
    watcher.wait_for(240, &mut [&mut other]);

    // What it goes on from is the other one's checkpoint.
    other.child.signal("TERM");
    other.child.wait_for_end(LONG);
    write(&cluster, 6, 10);
    watcher.wait_for(300, &mut [&mut zombie]);
    let samples = zombie.scrape();
    for metric in ["lost_records_total", "state_missing_total"] {
        assert_eq!(own(&samples, metric, &[]), 0.0, "{metric}");
    }
    println!("{} scrapes", watcher.finish());
}
