//! From `--web.listen-address` or systemd to listening sockets, or to one clear error.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::TcpListener;

use crate::host;
use crate::passed::Passed;

/// An address that cannot be listened on.
#[derive(Debug)]
pub struct BindError {
    /// As the user wrote it.
    address: String,
    error: io::Error,
}

impl BindError {
    /// Whether what the user wrote is no address at all, rather than one that the system refuses.
    pub fn is_invalid(&self) -> bool {
        self.error.kind() == ErrorKind::InvalidInput
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, error } = self;
        match error.kind() {
            ErrorKind::AddrInUse => write!(
                f,
                "cannot listen on `{address}`: the address is already in use\n  hint: end it, or choose another \
                 address with --web.listen-address"
            ),
            ErrorKind::PermissionDenied => write!(
                f,
                "cannot listen on `{address}`: permission denied\n  hint: ports below 1024 want the capability \
                 CAP_NET_BIND_SERVICE; choose a higher one, or let systemd open the socket"
            ),
            _ => write!(f, "cannot listen on `{address}`: {error}"),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// Whether an address has one of the forms that [`bind`] takes. Looks up no name.
///
/// # Errors
/// What form it should have.
pub(crate) fn check_address(address: &str) -> Result<(), String> {
    let port = address.rsplit_once(':').and_then(|(host, port)| {
        let is_open = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
        port.parse::<u16>().ok().filter(|_| !is_open)
    });
    match port {
        Some(_) => Ok(()),
        None => Err("must be HOST:PORT, [IPv6]:PORT or :PORT, with a port up to 65535".into()),
    }
}

/// Listens on every address: `host:port`, `[::1]:port`, or `:port` for all interfaces. Do it before anything else that
/// takes time, so that a port in use is reported at once.
///
/// # Errors
/// The first address that cannot be parsed or bound.
pub fn bind<A: AsRef<str>>(addresses: &[A]) -> Result<Vec<TcpListener>, BindError> {
    addresses
        .iter()
        .map(|address| {
            let address = address.as_ref();
            check_address(address).map_err(|error| BindError {
                address: address.to_owned(),
                error: io::Error::new(ErrorKind::InvalidInput, error),
            })?;
            let bound = match address.strip_prefix(':').map(str::parse) {
                Some(Ok(port)) => host::listen("", port),
                _ => TcpListener::bind(address),
            };
            bound.map_err(|error| BindError {
                address: address.to_owned(),
                error,
            })
        })
        .collect()
}

/// The sockets that systemd opened for us (`ListenStream=` of a socket unit), but for those whose names are taken.
///
/// # Errors
/// There is none, or one is no TCP socket.
pub fn systemd_listeners(
    passed: &mut Passed,
    is_taken: impl Fn(&str) -> bool,
) -> Result<Vec<TcpListener>, BindError> {
    let listeners = passed.take_all(|name| !is_taken(name));
    listeners.map_err(|error| BindError {
        address: "systemd".to_owned(),
        error,
    })
}

#[cfg(test)]
mod tests {
    use super::check_address;

    #[test]
    fn forms_of_an_address() {
        for (address, good) in [
            (":10067", true),
            ("localhost:0", true),
            ("192.0.2.1:80", true),
            ("[::1]:80", true),
            ("::1:80", false),
            ("foo", false),
            (":100000", false),
            ("", false),
        ] {
            assert_eq!(check_address(address).is_ok(), good, "{address}");
        }
    }
}
