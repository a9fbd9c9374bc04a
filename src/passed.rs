//! Sockets that systemd opened for us, and their names (sd_listen_fds(3)).

use std::io;
use std::net::{TcpListener, UdpSocket};

use listenfd::ListenFd;

/// Sockets that were passed and that nobody took yet.
pub struct Passed {
    sockets: ListenFd,
    /// By index: `FileDescriptorName=` of the socket unit, else the unit's own name.
    names: Vec<String>,
}

impl Passed {
    /// Those of this process. Asked again, there are none.
    pub fn from_env() -> Self {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        Passed {
            sockets: ListenFd::from_env(),
            names: names.split(':').map(str::to_owned).collect(),
        }
    }

    /// Takes the TCP sockets with such a name.
    ///
    /// # Errors
    /// There is none, or one is no TCP socket.
    pub(crate) fn take_all(
        &mut self,
        is_wanted: impl Fn(&str) -> bool,
    ) -> io::Result<Vec<TcpListener>> {
        let mut taken = Vec::new();
        for index in self.wanted(is_wanted) {
            taken.extend(self.sockets.take_tcp_listener(index)?);
        }
        match taken.is_empty() {
            true => Err(none()),
            false => Ok(taken),
        }
    }

    /// Takes the TCP sockets with this name, and leaves others with it.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn take_streams(&mut self, name: &str) -> io::Result<Vec<TcpListener>> {
        self.take(name, ListenFd::take_tcp_listener)
    }

    /// Takes the UDP sockets with this name, and leaves others with it.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn take_datagrams(&mut self, name: &str) -> io::Result<Vec<UdpSocket>> {
        self.take(name, ListenFd::take_udp_socket)
    }

    fn take<T>(
        &mut self,
        name: &str,
        take: impl Fn(&mut ListenFd, usize) -> io::Result<Option<T>>,
    ) -> io::Result<Vec<T>> {
        let wanted = self.wanted(|known| known == name).into_iter();
        // A socket of another kind is an error.
        let taken = wanted.filter_map(|index| take(&mut self.sockets, index).ok().flatten());
        let taken: Vec<T> = taken.collect();
        match taken.is_empty() {
            true => Err(none()),
            false => Ok(taken),
        }
    }

    fn wanted(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<usize> {
        let name = |index: usize| self.names.get(index).map_or("", String::as_str);
        let all = 0..self.sockets.len();
        all.filter(|index| is_wanted(name(*index))).collect()
    }
}

fn none() -> io::Error {
    io::Error::other("no such socket was passed; is the service started by its socket unit?")
}
