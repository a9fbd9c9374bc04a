//! Sockets on a host as users write it.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, SockRef, Socket, Type};

/// Connections that wait to be accepted. After a restart all senders come at once, and who finds no place among them tries
/// again a second later.
const BACKLOG: i32 = 1024;

/// Listens on a port of one host, or of all interfaces if `host` is empty.
///
/// # Errors
/// The address cannot be had.
pub(crate) fn listen(host: &str, port: u16) -> io::Result<TcpListener> {
    match host.is_empty() {
        true => on_all(port, Type::STREAM).map(Into::into),
        false => {
            let listener = TcpListener::bind(format!("{host}:{port}"))?;
            SockRef::from(&listener).listen(BACKLOG)?;
            Ok(listener)
        }
    }
}

/// The same for datagrams.
///
/// # Errors
/// The address cannot be had.
pub(crate) fn datagrams(host: &str, port: u16) -> io::Result<UdpSocket> {
    match host.is_empty() {
        true => on_all(port, Type::DGRAM).map(Into::into),
        false => UdpSocket::bind(format!("{host}:{port}")),
    }
}

/// The IPv6 wildcard takes IPv4 too; where there is no IPv6, its family is refused.
fn on_all(port: u16, kind: Type) -> io::Result<Socket> {
    bind((Ipv6Addr::UNSPECIFIED, port).into(), kind).or_else(|error| match error.kind() {
        ErrorKind::AddrInUse => Err(error),
        _ => bind((Ipv4Addr::UNSPECIFIED, port).into(), kind),
    })
}

fn bind(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    if address.is_ipv6() {
        // Not everywhere by itself: net.ipv6.bindv6only.
        socket.set_only_v6(false)?;
    }
    if kind == Type::STREAM {
        // As std does: a port whose last connections are not quite over is free.
        socket.set_reuse_address(true)?;
    }
    socket.bind(&address.into())?;
    if kind == Type::STREAM {
        socket.listen(BACKLOG)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    /// Whatever `net.ipv6.bindv6only` says.
    #[test]
    fn all_interfaces_are_those_of_both_families() {
        let listener = listen("", 0).unwrap();
        let datagrams = datagrams("", 0).unwrap();
        let address = listener.local_addr().unwrap();
        if address.is_ipv6() {
            assert!(!SockRef::from(&listener).only_v6().unwrap());
            assert!(!SockRef::from(&datagrams).only_v6().unwrap());
            TcpStream::connect((Ipv6Addr::LOCALHOST, address.port())).unwrap();
        }
        TcpStream::connect((Ipv4Addr::LOCALHOST, address.port())).unwrap();
    }

    #[test]
    fn a_port_that_somebody_has_is_refused() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert_eq!(listen("", port).unwrap_err().kind(), ErrorKind::AddrInUse);
    }
}
