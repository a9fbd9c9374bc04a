//! Datagrams: a thread for each socket.
//!
//! While the buffer is full nothing is read, so that the kernel drops what comes then, and counts it ([`dropped`]).

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing::warn;

use super::entry::Tag;
use super::framing::datagram;
use super::identity::Credentials;
use super::listener::{Listener, Rules};
use super::repeated::Repeated;
use crate::config::ListenAddress;
use crate::heartbeat::EndOnPanic;
use crate::own_metrics::DropReason;

/// The largest datagram.
const DATAGRAM_BYTES_MAX: usize = 65_536;
/// Entries that are handed over at once, in bytes.
const BATCH_BYTES: usize = 256 << 10;
/// Datagrams that are received before the thread looks whether it is to stop: those that are refused fill no batch.
const DATAGRAMS_AT_ONCE: usize = 4096;
/// Senders whose names are cached; beyond that the cache is cleared.
const SENDERS_MAX: usize = 20_000;
/// How long a full buffer is left alone.
const FULL_PAUSE: Duration = Duration::from_millis(2);
/// After an error: the cause will last a moment.
const ERROR_PAUSE: Duration = Duration::from_millis(100);
/// How often the thread looks whether it is to stop.
const STOP_EVERY: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};

/// Receives until the receivers stop.
pub(super) fn receive(socket: &UdpSocket, address: &ListenAddress, listener: &Listener) {
    let _end = EndOnPanic;
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    let mut entries = Vec::with_capacity(BATCH_BYTES + DATAGRAM_BYTES_MAX);
    let mut senders = Senders::default();
    let mut failing = Repeated::default();
    let datagrams = listener.frames("datagram");
    while !listener.is_stopping() {
        if listener.buffer.is_full() {
            std::thread::sleep(FULL_PAUSE);
            continue;
        }
        let (mut frames, mut received) = (0, 0);
        let rules = senders.renew(listener);
        let failed = loop {
            if entries.len() >= BATCH_BYTES || received >= DATAGRAMS_AT_ONCE {
                break None;
            }
            received += 1;
            let (length, from) = match socket.recv_from(&mut buffer) {
                Ok(received) => received,
                Err(error) => break Some(error),
            };
            let Some(tag) = senders.tag(from.ip(), &rules) else {
                listener.dropped.count(DropReason::Refused);
                continue;
            };
            let bytes = buffer.get(..length).unwrap_or_default();
            datagram(bytes, rules.line_bytes, |frame| {
                frames += 1;
                if frame.cut_bytes > 0 {
                    listener.dropped.count(DropReason::TooLong);
                }
                tag.write(frame.bytes, &mut entries);
            });
        };
        if !entries.is_empty() {
            datagrams.inc_by(frames);
            listener.buffer.append(&entries);
            entries.clear();
        }
        match failed {
            None => {}
            Some(error) if error.kind() == ErrorKind::WouldBlock => {
                let mut fds = [PollFd::new(socket, PollFlags::IN)];
                // An interrupted wait is a short one.
                let _ = poll(&mut fds, Some(&STOP_EVERY));
            }
            Some(error) if error.kind() == ErrorKind::Interrupted => {}
            Some(error) => {
                if failing.is_due() {
                    warn!(%address, err = %error, "datagrams cannot be received");
                }
                std::thread::sleep(ERROR_PAUSE);
            }
        }
    }
}

/// Who the senders are, by address, by the rules in force.
#[derive(Default)]
struct Senders {
    rules: Option<Arc<Rules>>,
    tags: HashMap<IpAddr, Option<Tag>>,
}

impl Senders {
    /// The rules in force; others than before know other senders.
    fn renew(&mut self, listener: &Listener) -> Arc<Rules> {
        let rules = listener.rules();
        if !(self.rules.as_ref()).is_some_and(|known| Arc::ptr_eq(known, &rules)) {
            self.tags.clear();
            self.rules = Some(rules.clone());
        }
        rules
    }

    fn tag(&mut self, address: IpAddr, rules: &Rules) -> Option<&Tag> {
        if self.tags.len() >= SENDERS_MAX && !self.tags.contains_key(&address) {
            self.tags.clear();
        }
        let tag = self.tags.entry(address).or_insert_with(|| {
            let certificate = None;
            rules.identity.sender(&Credentials {
                address,
                certificate,
            })
        });
        tag.as_ref()
    }
}

/// How many datagrams the kernel dropped of this socket so far, from the tables of the network namespace.
///
/// Source: proc(5), `/proc/net/udp`: the inode is the tenth column, the drops are the last.
pub(super) fn dropped(socket: &UdpSocket) -> Option<u32> {
    let inode = rustix::fs::fstat(socket).ok()?.st_ino;
    ["/proc/self/net/udp", "/proc/self/net/udp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .find_map(|table| drops_of(&table, inode))
}

/// How many were dropped since then. The kernel counts in 32 bits, and a flood fills them within hours.
pub(super) fn more_dropped(then: u32, now: u32) -> u64 {
    now.wrapping_sub(then).into()
}

fn drops_of(table: &str, inode: u64) -> Option<u32> {
    table.lines().skip(1).find_map(|line| {
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        let found = columns.get(9)?.parse() == Ok(inode);
        found.then(|| columns.last()?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::config::Syslog;

    #[test]
    fn drops_are_those_of_the_socket() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
  123: 0100007F:0202 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 17\n\
  124: 00000000:0044 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4712 2 0000000000000000 0\n";
        for (inode, drops) in [(4711, Some(17)), (4712, Some(0)), (471, None)] {
            assert_eq!(drops_of(table, inode), drops);
        }
    }

    #[test]
    fn the_kernels_count_begins_anew_when_its_bits_are_full() {
        for (then, now, more) in [(0, 0, 0), (3, 7, 4), (u32::MAX - 1, 5, 7)] {
            assert_eq!(more_dropped(then, now), more);
        }
    }

    /// They fill no batch.
    #[test]
    fn datagrams_that_are_refused_do_not_hold_up_a_stop() {
        let address: ListenAddress = "udp://127.0.0.1:0".parse().unwrap();
        let settings = Syslog {
            addresses: Some(Vec::new()),
            ..Syslog::of_flags(vec![address.clone()], None)
        };
        let (listener, _reader) = Listener::of_test(settings);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let to = socket.local_addr().unwrap();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| {
                    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
                    while !is_over.load(Ordering::SeqCst) {
                        let _ = sender.send_to(b"<13>a", to);
                    }
                });
            }
            let refused = listener.own.syslog.lines_dropped.get(["wire", "refused"]);
            let receiver = threads.spawn(|| receive(&socket, &address, &listener));
            while refused.get() < 2 * DATAGRAMS_AT_ONCE as u64 {
                std::thread::sleep(Duration::from_millis(5));
            }
            listener.stop();
            receiver.join().unwrap();
            is_over.store(true, Ordering::SeqCst);
        });
    }
}
