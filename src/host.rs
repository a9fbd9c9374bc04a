//! Sockets on a host as users write it.

use std::fmt::Display;
use std::io::{self, ErrorKind};

/// Binds to a port of one host, or of all interfaces if `host` is empty: the IPv6 wildcard takes IPv4 too; where there is no
/// IPv6, its family is refused.
///
/// # Errors
/// Those of `bind`.
pub(crate) fn on_host<T>(
    host: &str,
    port: impl Display,
    bind: impl Fn(String) -> io::Result<T>,
) -> io::Result<T> {
    if !host.is_empty() {
        return bind(format!("{host}:{port}"));
    }
    bind(format!("[::]:{port}")).or_else(|error| match error.kind() {
        ErrorKind::AddrInUse => Err(error),
        _ => bind(format!("0.0.0.0:{port}")),
    })
}
