//! From `syslog.listen` to sockets, or to one clear error.

use std::io::{self, ErrorKind};
use std::net::{TcpListener, UdpSocket};

use socket2::SockRef;
use tracing::warn;

use crate::config::{ListenAddress, ListenSocket, Source, Transport};
use crate::host;
use crate::passed::Passed;

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

/// Listens on every address of every source that listens. Those that systemd opened are among `passed`.
///
/// # Errors
/// The first one that cannot be bound, and why.
pub fn bind(sources: &[Source], passed: &mut Passed) -> Result<Vec<Bound>, String> {
    let mut bound = Vec::new();
    for (source, settings) in sources.iter().enumerate() {
        let Some(syslog) = settings.syslog() else {
            continue;
        };
        for address in &syslog.listen {
            let sockets = sockets(address, passed)
                .and_then(|sockets| {
                    let prepare = |socket| prepare(socket, address, syslog.receive_buffer);
                    sockets
                        .into_iter()
                        .map(prepare)
                        .collect::<io::Result<Vec<_>>>()
                })
                .map_err(|error| refused(address, &error))?;
            bound.extend(sockets.into_iter().map(|socket| Bound {
                source,
                address: address.clone(),
                socket,
            }));
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
             CAP_NET_BIND_SERVICE, or let systemd open the socket"
        ),
        _ => format!("cannot listen on `{address}`: {error}"),
    }
}

fn sockets(address: &ListenAddress, passed: &mut Passed) -> io::Result<Vec<Socket>> {
    Ok(match (address.transport, &address.socket) {
        (Transport::Udp, ListenSocket::Bind { host, port }) => {
            vec![Socket::Datagrams(host::datagrams(host, *port)?)]
        }
        (Transport::Udp, ListenSocket::Passed(name)) => {
            let sockets = passed.take_datagrams(name)?;
            sockets.into_iter().map(Socket::Datagrams).collect()
        }
        (Transport::Tcp | Transport::Tls, ListenSocket::Bind { host, port }) => {
            vec![Socket::Streams(host::listen(host, *port)?)]
        }
        (Transport::Tcp | Transport::Tls, ListenSocket::Passed(name)) => {
            let sockets = passed.take_streams(name)?;
            sockets.into_iter().map(Socket::Streams).collect()
        }
    })
}

fn prepare(socket: Socket, address: &ListenAddress, receive_buffer: usize) -> io::Result<Socket> {
    match &socket {
        Socket::Streams(listener) => listener.set_nonblocking(true)?,
        Socket::Datagrams(datagrams) => {
            datagrams.set_nonblocking(true)?;
            let reference = SockRef::from(datagrams);
            // systemd may give more than a process can get, which must not be taken back.
            if reference.recv_buffer_size()? < receive_buffer {
                reference.set_recv_buffer_size(receive_buffer)?;
            }
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
        }
    }
    Ok(socket)
}
