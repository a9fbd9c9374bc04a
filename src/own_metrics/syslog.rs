//! What is counted of messages that come over the network.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::{Labelled, Registry};

/// Why a message that was received is not counted, or not as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// Its connection ended in the middle of it.
    Torn,
    /// It was not complete in time.
    Slow,
    /// It was cut.
    TooLong,
    /// It could not be read back from the spool.
    Damaged,
    /// It is a datagram of somebody who may not send.
    Refused,
    /// The exporter was stopped while the spool could not be written.
    Unwritten,
}

impl DropReason {
    /// All there are.
    pub const ALL: [DropReason; 6] = [
        DropReason::Torn,
        DropReason::Slow,
        DropReason::TooLong,
        DropReason::Damaged,
        DropReason::Refused,
        DropReason::Unwritten,
    ];

    /// As the label `reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            DropReason::Torn => "torn",
            DropReason::Slow => "slow",
            DropReason::TooLong => "too_long",
            DropReason::Damaged => "damaged",
            DropReason::Refused => "refused",
            DropReason::Unwritten => "unwritten",
        }
    }
}

/// Handles of `appliance_log_exporter_syslog_…`; every one has the label `source`.
#[derive(Debug)]
pub struct SyslogMetrics {
    /// Connections that are open, by `transport`.
    pub open_connections: Labelled<2, Gauge>,
    /// Connections that came, by `transport` and `result`.
    pub connections: Labelled<3, Counter>,
    /// Datagrams that the kernel dropped.
    pub datagrams_dropped: Labelled<1, Counter>,
    /// Messages that came, by `framing`.
    pub frames: Labelled<2, Counter>,
    /// Messages, or parts of them, that are not counted, by `reason`.
    pub lines_dropped: Labelled<2, Counter>,
    /// Lines whose header names another appliance than the one that sent them, by the `appliance` that did.
    pub forged_lines: Labelled<2, Counter>,
    /// Bytes that were received and are kept.
    pub spool_bytes: Labelled<1, Gauge>,
    /// Seconds without space for what is received.
    pub spool_full_seconds: Labelled<1, Counter<f64, AtomicU64>>,
    /// When the certificate that senders see expires, Unix time in seconds.
    pub certificate_expiry: Labelled<1, Gauge>,
}

impl SyslogMetrics {
    pub(super) fn new(own: &mut Registry) -> Self {
        let open_connections = Labelled::new(["source", "transport"]);
        own.register(
            "syslog_open_connections",
            "Connections of senders that are open",
            open_connections.clone(),
        );
        let connections = Labelled::new(["source", "transport", "result"]);
        own.register(
            "syslog_connections",
            "Connections of senders: accepted, or closed because of a limit, a failed TLS handshake, or because nothing identifies the sender",
            connections.clone(),
        );
        let datagrams_dropped = Labelled::new(["source"]);
        own.register(
            "syslog_datagrams_dropped",
            "Datagrams that the kernel dropped since the receive buffer was full",
            datagrams_dropped.clone(),
        );
        let frames = Labelled::new(["source", "framing"]);
        own.register(
            "syslog_frames",
            "Messages received, by what marked their end: a newline, an octet count or the end of a datagram",
            frames.clone(),
        );
        let lines_dropped = Labelled::new(["source", "reason"]);
        own.register(
            "syslog_lines_dropped",
            "Messages that were received and not counted as a whole: cut since they were too long, dropped since they were unfinished, slow or damaged, from an address that may not send, or could not be written at a stop",
            lines_dropped.clone(),
        );
        let forged_lines = Labelled::new(["source", "appliance"]);
        own.register(
            "syslog_forged_lines",
            "Lines whose header names another known appliance than the one that certificate or address say; they count for the latter, which is the label",
            forged_lines.clone(),
        );
        let spool_bytes = Labelled::new(["source"]);
        own.register(
            "syslog_spool_bytes",
            "Bytes that were received and are kept until a checkpoint has them, or until they are read if there is no state directory",
            spool_bytes.clone(),
        );
        let spool_full_seconds = Labelled::new(["source"]);
        own.register(
            "syslog_spool_full_seconds",
            "Time for which what is received could not be kept: senders over TCP waited, datagrams were dropped",
            spool_full_seconds.clone(),
        );
        let certificate_expiry = Labelled::new(["source"]);
        own.register(
            "syslog_certificate_expiry_timestamp_seconds",
            "When the certificate that senders over TLS see expires, or the first one of its chain",
            certificate_expiry.clone(),
        );
        SyslogMetrics {
            open_connections,
            connections,
            datagrams_dropped,
            frames,
            lines_dropped,
            forged_lines,
            spool_bytes,
            spool_full_seconds,
            certificate_expiry,
        }
    }

    /// Exposes everything of a source that listens by these transports, at 0; but for what the kernel drops, which may not
    /// be known.
    pub fn touch(&self, source: &str, transports: &[&str]) {
        for transport in transports {
            if *transport == "udp" {
                self.frames.get([source, "datagram"]);
                continue;
            }
            self.open_connections.get([source, transport]);
            for result in ["accepted", "limit", "tls_failed", "refused"] {
                self.connections.get([source, transport, result]);
            }
            for framing in ["newline", "octets"] {
                self.frames.get([source, framing]);
            }
        }
        for reason in DropReason::ALL {
            self.lines_dropped.get([source, reason.as_str()]);
        }
        self.spool_bytes.get([source]);
        self.spool_full_seconds.get([source]);
    }
}
