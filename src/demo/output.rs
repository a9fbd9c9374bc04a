//! What a device of the demo writes to: log files, or a socket.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use socket2::{Domain, Socket, Type};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::config::{Tls, Transport};

/// A log that grows beyond this is rotated, so that a forgotten demo does not fill the disk.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// How long it takes until the system says that nobody has a port.
const REFUSED_AFTER: Duration = Duration::from_millis(50);

/// A device.
pub(super) struct Device {
    pub(super) name: &'static str,
    output: Output,
}

enum Output {
    Files { directory: PathBuf, logs: Vec<Log> },
    Datagrams(UdpSocket),
    Stream(Box<dyn Write + Send>),
}

impl Device {
    /// One that writes to files in a directory of its name.
    pub(super) fn with_files(directory: &Path, name: &'static str) -> io::Result<Self> {
        let directory = directory.join(name);
        std::fs::create_dir_all(&directory)?;
        let logs = Vec::new();
        let output = Output::Files { directory, logs };
        Ok(Device { name, output })
    }

    /// Whether its lines go over the network, where each begins with a priority.
    pub(super) fn is_remote(&self) -> bool {
        !matches!(self.output, Output::Files { .. })
    }

    /// Writes a line. `log` names the file; the wire ignores it.
    pub(super) fn line(&mut self, log: &'static str, line: &str) -> io::Result<()> {
        match &mut self.output {
            Output::Datagrams(socket) => socket.send(line.as_bytes()).map(drop),
            Output::Stream(stream) => {
                write!(stream, "{} {line}", line.len())?;
                stream.flush()
            }
            Output::Files { directory, logs } => {
                if !logs.iter().any(|known| known.name == log) {
                    logs.push(Log::new(directory, log)?);
                }
                let log = logs.iter_mut().find(|known| known.name == log);
                log.map_or(Ok(()), |log| log.line(line))
            }
        }
    }
}

/// One log file of a device.
struct Log {
    name: &'static str,
    path: PathBuf,
    file: File,
    bytes: u64,
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

impl Log {
    fn new(directory: &Path, name: &'static str) -> io::Result<Self> {
        let path = directory.join(format!("{name}.log"));
        Ok(Self {
            name,
            file: open(&path)?,
            path,
            bytes: 0,
        })
    }

    fn line(&mut self, line: &str) -> io::Result<()> {
        if self.bytes > FILE_BYTES_MAX {
            std::fs::rename(&self.path, self.path.with_extension("log.1"))?;
            self.file = open(&self.path)?;
            self.bytes = 0;
        }
        self.bytes += line.len() as u64 + 1;
        writeln!(self.file, "{line}")
    }
}

/// How devices reach an exporter that listens on this host.
pub(super) struct Network {
    pub(super) transport: Transport,
    pub(super) port: u16,
    tls: Option<Arc<ClientConfig>>,
}

impl Network {
    /// One with a port that is free now. For TLS, makes a certificate in `directory`.
    pub(super) fn new(
        transport: Transport,
        directory: &Path,
    ) -> io::Result<(Network, Option<Tls>)> {
        let any = (Ipv4Addr::LOCALHOST, 0);
        let port = match transport {
            Transport::Udp => UdpSocket::bind(any)?.local_addr()?.port(),
            Transport::Tcp | Transport::Tls => {
                std::net::TcpListener::bind(any)?.local_addr()?.port()
            }
        };
        let (settings, tls) = match transport {
            Transport::Tls => Some(make_certificate(directory)?).unzip(),
            Transport::Udp | Transport::Tcp => (None, None),
        };
        let network = Network {
            transport,
            port,
            tls,
        };
        Ok((network, settings))
    }

    /// Connects a device from this address.
    ///
    /// # Errors
    /// Nobody listens yet.
    pub(super) fn connect(&self, name: &'static str, from: Ipv4Addr) -> io::Result<Device> {
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        if self.transport == Transport::Udp {
            let socket = UdpSocket::bind((from, 0))?;
            socket.connect(to)?;
            // An empty datagram is no message, and asks whether anybody is there.
            socket.send(&[])?;
            std::thread::sleep(REFUSED_AFTER);
            if let Some(error) = socket.take_error()? {
                return Err(error);
            }
            let output = Output::Datagrams(socket);
            return Ok(Device { name, output });
        }
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((from, 0)).into())?;
        socket.connect(&to.into())?;
        let stream = TcpStream::from(socket);
        let stream: Box<dyn Write + Send> = match &self.tls {
            None => Box::new(stream),
            Some(tls) => {
                let host = ServerName::from(Ipv4Addr::LOCALHOST);
                let session = ClientConnection::new(tls.clone(), host).map_err(io::Error::other)?;
                Box::new(StreamOwned::new(session, stream))
            }
        };
        let output = Output::Stream(stream);
        Ok(Device { name, output })
    }
}

/// A certificate for this host that only the demo's devices trust.
fn make_certificate(directory: &Path) -> io::Result<(Tls, Arc<ClientConfig>)> {
    let host = Ipv4Addr::LOCALHOST.to_string();
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed([host]).map_err(io::Error::other)?;
    let (cert_file, key_file) = (directory.join("demo.pem"), directory.join("demo.key"));
    std::fs::write(&cert_file, cert.pem())?;
    std::fs::write(&key_file, signing_key.serialize_pem())?;
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).map_err(io::Error::other)?;
    let client = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let settings = Tls {
        cert_file,
        key_file,
        client_ca_file: None,
        client_crl_file: None,
    };
    Ok((settings, Arc::new(client)))
}
