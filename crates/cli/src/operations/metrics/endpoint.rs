//! The address that is served: TCP, or a Unix socket.

use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sameport_policy::addr::{AddrSpec, Host, PortSpec, Protocol};

use crate::operations::listen::{self, ListenRequest, OpenListeners};

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EndpointSpec {
    /// On TCP.
    Tcp(AddrSpec),
    /// On a Unix socket.
    Unix(PathBuf),
}

/// `9464` is on 127.0.0.1; every address is `*:9464`.
impl FromStr for EndpointSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err("write the path of the socket after unix:".to_owned()),
                path => Ok(Self::Unix(path.into())),
            };
        }
        let spec: PortSpec = text.parse().map_err(|error: _| format!("{error}"))?;
        if spec.protocol == Some(Protocol::Udp) {
            return Err("TCP only: write no /udp".to_owned());
        }
        if let Some(device) = &spec.device {
            return Err(format!("no interface can be named: leave out %{device}"));
        }
        let is_port = text.bytes().next().is_some_and(|byte| byte.is_ascii_digit())
            && spec.addr.host == Host::Any;
        let host = match is_port {
            true => Host::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            false => spec.addr.host,
        };
        Ok(Self::Tcp(AddrSpec { host, port: spec.addr.port }))
    }
}

/// Listening sockets.
#[derive(Debug)]
pub(crate) enum Endpoint {
    Tcp(Vec<TcpListener>),
    Unix(UnixListener, PathBuf),
}

/// Why there are none.
#[derive(Debug)]
pub(crate) enum EndpointError {
    /// The address of TCP cannot be opened.
    Tcp(Box<(ListenRequest, sameport::Error)>),
    /// Another process listens on this Unix socket.
    InUse(PathBuf),
    /// The path has a file that is no socket.
    NotSocket(PathBuf),
    /// A system call failed.
    Unix(PathBuf, io::Error),
}

impl EndpointSpec {
    /// Listens.
    ///
    /// # Errors
    ///
    /// See [`EndpointError`].
    pub(crate) fn open(&self) -> Result<Endpoint, EndpointError> {
        match self {
            Self::Tcp(address) => {
                let (address, protocol) = (address.clone(), Protocol::Tcp);
                let request = ListenRequest { address, protocol, exclusive: true };
                match listen::open(&request) {
                    Ok(OpenListeners::Tcp(all)) => Ok(Endpoint::Tcp(all)),
                    Ok(OpenListeners::Udp(_)) => Ok(Endpoint::Tcp(Vec::new())),
                    Err(error) => Err(EndpointError::Tcp(Box::new((request, error)))),
                }
            }
            Self::Unix(path) => open_unix(path),
        }
    }
}

/// Listens on a Unix socket, in the place of one without a listener.
fn open_unix(path: &Path) -> Result<Endpoint, EndpointError> {
    let failed = |error| EndpointError::Unix(path.to_owned(), error);
    if let Ok(found) = path.symlink_metadata() {
        if !found.file_type().is_socket() {
            return Err(EndpointError::NotSocket(path.to_owned()));
        }
        match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path).map_err(failed)?;
            }
            Ok(_) => return Err(EndpointError::InUse(path.to_owned())),
            // Gone meanwhile, or a queue that is full: the bind tells.
            Err(_) => {}
        }
    }
    let listener = UnixListener::bind(path).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => EndpointError::InUse(path.to_owned()),
        _ => failed(error),
    })?;
    Ok(Endpoint::Unix(listener, path.to_owned()))
}

impl Endpoint {
    /// Where clients find it, one for each socket.
    ///
    /// # Errors
    ///
    /// Those of `getsockname(2)`.
    pub(crate) fn urls(&self) -> io::Result<Vec<String>> {
        match self {
            Self::Tcp(all) => {
                all.iter().map(|it| Ok(format!("http://{}/metrics", it.local_addr()?))).collect()
            }
            Self::Unix(_, path) => Ok(vec![format!("unix:{} /metrics", path.display())]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_on_loopback() {
        for (text, expected) in [
            ("9464", Some("127.0.0.1:9464")),
            ("127.0.0.1:9464", Some("127.0.0.1:9464")),
            ("0.0.0.0:9464", Some("0.0.0.0:9464")),
            ("[::1]:9464", Some("[::1]:9464")),
            ("localhost:0", Some("localhost:0")),
            ("9464/tcp", Some("127.0.0.1:9464")),
            ("9464/udp", None),
            ("*%eth0:9464", None),
            ("99999", None),
            ("unix:", None),
        ] {
            let spec: Result<EndpointSpec, _> = text.parse();
            let wanted = expected.map(|text| EndpointSpec::Tcp(text.parse().unwrap()));
            assert_eq!(spec.ok(), wanted, "{text}");
        }
        let every: EndpointSpec = "*:9464".parse().unwrap();
        let EndpointSpec::Tcp(address) = every else { panic!("{every:?}") };
        assert_eq!(address.host, Host::Any);
        assert_eq!("unix:/run/x.sock".parse(), Ok(EndpointSpec::Unix("/run/x.sock".into())));
    }
}
