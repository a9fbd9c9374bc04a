//! From `syslog.listen` to sockets, or to one clear error.

use std::io::{self, ErrorKind};
use std::net::{TcpListener, UdpSocket};

use socket2::SockRef;
use tracing::warn;

use crate::config::{ListenAddress, Source, Transport};
use crate::host::on_host;

/// A socket of the source with this index.
#[derive(Debug)]
pub struct Bound {
    /// Index of the source.
    pub(super) source: usize,
    pub(super) address: ListenAddress,
    pub(super) socket: Socket,
}

#[derive(Debug)]
pub(super) enum Socket {
    Datagrams(UdpSocket),
    Streams(TcpListener),
}

/// Listens on every address of every source that listens.
///
/// # Errors
/// The first one that cannot be bound, and why.
pub fn bind(sources: &[Source]) -> Result<Vec<Bound>, String> {
    let mut bound = Vec::new();
    for (source, settings) in sources.iter().enumerate() {
        let Some(syslog) = &settings.syslog else {
            continue;
        };
        for address in &syslog.listen {
            let socket = bind_one(address, syslog.receive_buffer)
                .map_err(|error| refused(address, &error))?;
            bound.push(Bound {
                source,
                address: address.clone(),
                socket,
            });
        }
    }
    Ok(bound)
}

fn refused(address: &ListenAddress, error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => format!(
            "cannot listen on `{address}`: the address is already in use\n  hint: rsyslog may listen there; end it, or \
             choose another port"
        ),
        ErrorKind::PermissionDenied => format!(
            "cannot listen on `{address}`: permission denied\n  hint: ports below 1024 want the capability \
             CAP_NET_BIND_SERVICE"
        ),
        _ => format!("cannot listen on `{address}`: {error}"),
    }
}

fn bind_one(address: &ListenAddress, receive_buffer: usize) -> io::Result<Socket> {
    match address.transport {
        Transport::Tcp | Transport::Tls => {
            let listener = on_host(&address.host, address.port, TcpListener::bind)?;
            listener.set_nonblocking(true)?;
            Ok(Socket::Streams(listener))
        }
        Transport::Udp => {
            let socket = on_host(&address.host, address.port, UdpSocket::bind)?;
            socket.set_nonblocking(true)?;
            let reference = SockRef::from(&socket);
            reference.set_recv_buffer_size(receive_buffer)?;
            // Linux doubles what it is asked for, to have space for its own records.
            let given = reference.recv_buffer_size()?;
            if given < receive_buffer {
                warn!(
                    %address,
                    wanted = receive_buffer,
                    given,
                    "the system gives a smaller receive buffer, so bursts of datagrams may be dropped; raise net.core.rmem_max"
                );
            }
            Ok(Socket::Datagrams(socket))
        }
    }
}
