//! Sockets that another process opened and passed to this one.
//!
//! Sources: sd_listen_fds(3), systemd.socket(5).

mod compare;
mod socket;
mod variables;

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::process;
use std::sync::{Mutex, PoisonError};

use socket2::SockRef;

pub use self::socket::PassedSocket;
use self::socket::wrong;
use self::variables::{FIRST, Variables};
use crate::endpoint::{Endpoint, ResolvedAddr, ToAddress};
use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::open;
use crate::options::Options;
use crate::socket_job::Role;
use crate::system::{Here, System};

/// Whether the sockets of this process are taken.
static TAKEN: Mutex<bool> = Mutex::new(false);

/// The sockets that the parent passed to this process: socket activation by `systemd`,
/// `systemd-socket-activate`, `sameport run --listen`, `systemfd` and others.
///
/// The protocol is that of sd_listen_fds(3): `LISTEN_PID` is the process that the sockets are for,
/// `LISTEN_FDS` their number, `LISTEN_FDNAMES` their names, separated by `:`. They are the
/// descriptors 3, 4 and so on.
///
/// A program that runs with and without socket activation:
///
/// ```
/// use sameport::{Options, PassedSockets};
///
/// let mut passed = PassedSockets::take()?;
/// // A passed socket, which must be what is asked for; opened here if there is no passed one.
/// let web = passed.listen(&Options::shared(), "127.0.0.1:0")?;
/// # Ok::<(), sameport::Error>(())
/// ```
///
/// A socket of systemd is exclusive, unless its unit has `ReusePort=yes`; those of
/// `sameport run --name NAME --listen` are shared. A program that takes either asks them:
///
/// ```
/// # use sameport::{Options, PassedSockets};
/// let mut passed = PassedSockets::take()?;
/// let is_shared = passed.iter().all(|socket| socket.is_shared());
/// let options = if is_shared { Options::shared() } else { Options::exclusive() };
/// let web = passed.listen(&options, "127.0.0.1:0")?;
/// # Ok::<(), sameport::Error>(())
/// ```
///
/// # Platform differences
///
/// The same on every Unix system. Windows has no such protocol: there, `take` returns no sockets, and
/// [`ErrorKind::Unsupported`] if the variables are set for this process.
#[derive(Debug)]
#[doc(alias = "LISTEN_FDS")]
#[doc(alias = "sd_listen_fds")]
#[doc(alias = "socket activation")]
pub struct PassedSockets {
    sockets: Vec<PassedSocket>,
    /// Whether a socket was passed, which can be gone from `sockets` since.
    any: bool,
}

impl PassedSockets {
    /// Takes the sockets that are meant for this process; an empty result if no socket was passed.
    ///
    /// Call it once, early in `main`: the sockets belong to the result, and a second call is an error,
    /// also if the first found no socket. Each descriptor becomes close-on-exec, so that no child
    /// inherits it. A descriptor that is close-on-exec already was not passed, or other code has taken
    /// it, and is an error. One that C code opened before without that flag looks like a passed one.
    ///
    /// The environment is read, not changed, because other threads can read it meanwhile. A child
    /// ignores the variables, which have the process id of its parent. Before `exec` in this process,
    /// which keeps the process id, remove them: `Command::env_remove`.
    ///
    /// ```
    /// let passed = sameport::PassedSockets::take()?;
    /// for socket in &passed {
    ///     println!("descriptor {} is {}", socket.number(), socket.name());
    /// }
    /// assert!(sameport::PassedSockets::take().is_err());
    /// # Ok::<(), sameport::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Other`] for a second call, or if a variable is malformed;
    /// [`ErrorKind::WrongSocket`] for a descriptor that is not open, or was not passed. After these
    /// errors nothing is taken.
    pub fn take() -> Result<Self> {
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        if *taken {
            return Err(Error::new(ErrorKind::Other, "take", "LISTEN_FDS")
                .with_note("the sockets of this process are taken already"));
        }
        let result = Self::take_once();
        *taken = result.is_ok();
        result
    }

    fn take_once() -> Result<Self> {
        let names =
            Variables::of_this_process().names(process::id()).map_err(|(variable, note)| {
                Error::new(ErrorKind::Other, "take", variable).with_note(note)
            })?;
        let name = |number: i32| {
            let name = names.get(usize::try_from(number - FIRST).unwrap_or(usize::MAX));
            format!("descriptor {number} ({})", name.map_or("", String::as_str))
        };
        let sockets = Here::take_descriptors(FIRST, names.len()).map_err(|(number, os)| {
            let (kind, note) = match os.kind() {
                io::ErrorKind::AlreadyExists => (
                    ErrorKind::WrongSocket,
                    "close-on-exec, so other code opened it, or has taken it".to_owned(),
                ),
                io::ErrorKind::Unsupported => (
                    ErrorKind::Unsupported,
                    "this system passes no sockets by their numbers".to_owned(),
                ),
                _ => (ErrorKind::WrongSocket, format!("not open: {os}")),
            };
            Error::new(kind, "take", name(number)).with_note(note).with_source(os)
        })?;
        let any = !sockets.is_empty();
        let sockets = sockets
            .into_iter()
            .zip(FIRST..)
            .zip(&names)
            .map(|((socket, number), name)| PassedSocket::new(name.clone(), number, socket));
        Ok(Self { sockets: sockets.collect(), any })
    }

    /// The number of sockets that are left.
    ///
    /// ```
    /// let passed = sameport::PassedSockets::take()?;
    /// assert_eq!(passed.len(), passed.iter().count());
    /// # Ok::<(), sameport::Error>(())
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.sockets.len()
    }

    /// Whether no socket is left.
    ///
    /// ```
    /// if sameport::PassedSockets::take()?.is_empty() {
    ///     println!("started without socket activation");
    /// }
    /// # Ok::<(), sameport::Error>(())
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// The sockets that are left, in the order of their descriptors.
    ///
    /// ```
    /// let passed = sameport::PassedSockets::take()?;
    /// let listeners = passed.iter().filter(|socket| socket.is_listener()).count();
    /// # assert_eq!(listeners, 0);
    /// # Ok::<(), sameport::Error>(())
    /// ```
    pub fn iter(&self) -> std::slice::Iter<'_, PassedSocket> {
        self.sockets.iter()
    }

    /// Takes the first socket of this name out.
    ///
    /// The name is that of `FileDescriptorName=` of a socket unit, by default the name of the unit;
    /// `sameport` under `sameport run --listen`; `unknown` if the parent gave no names.
    ///
    /// ```
    /// # let mut passed = sameport::PassedSockets::take()?;
    /// if let Some(socket) = passed.remove("web") {
    ///     socket.check(&sameport::Options::shared(), 8080)?;
    ///     let listener = socket.into_listener()?;
    ///     # drop(listener);
    /// }
    /// # Ok::<(), sameport::Error>(())
    /// ```
    pub fn remove(&mut self, name: &str) -> Option<PassedSocket> {
        let at = self.sockets.iter().position(|socket| socket.name() == name)?;
        Some(self.sockets.remove(at))
    }

    /// The passed TCP listener with this address, taken out; or opens one if no socket at all was
    /// passed to this process.
    ///
    /// The passed socket must be what is asked for: [`PassedSocket::check`]. If sockets were passed, but
    /// none with this address, opening one would be a mistake: clients could be in the queue of the
    /// passed one.
    ///
    /// ```
    /// use sameport::{Options, PassedSockets};
    ///
    /// let mut passed = PassedSockets::take()?;
    /// let listener = passed.listen(&Options::shared().nonblocking(true), "127.0.0.1:0")?;
    /// # Ok::<(), sameport::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WrongSocket`] if no passed socket is the one; otherwise as [`Options::listen`].
    pub fn listen(&mut self, options: &Options, address: impl ToAddress) -> Result<TcpListener> {
        let endpoint = address.to_endpoint()?;
        let resolved = endpoint.resolve()?;
        if !self.any {
            return open::first(options, Role::Listener, &resolved).map(Into::into);
        }
        let socket = self.matching(options, &endpoint, &resolved, true)?;
        let listener = socket.into_listener()?;
        set_nonblocking(options, SockRef::from(&listener), &endpoint)?;
        Ok(listener)
    }

    /// As [`PassedSockets::listen`], for a UDP socket.
    ///
    /// ```
    /// use sameport::{Options, PassedSockets};
    ///
    /// let mut passed = PassedSockets::take()?;
    /// let socket = passed.bind_udp(&Options::exclusive(), "127.0.0.1:0")?;
    /// # Ok::<(), sameport::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WrongSocket`] if no passed socket is the one; otherwise as [`Options::bind_udp`].
    pub fn bind_udp(&mut self, options: &Options, address: impl ToAddress) -> Result<UdpSocket> {
        let endpoint = address.to_endpoint()?;
        let resolved = endpoint.resolve()?;
        if !self.any {
            return open::first(options, Role::Datagram, &resolved).map(Into::into);
        }
        let socket = self.matching(options, &endpoint, &resolved, false)?.into_udp()?;
        set_nonblocking(options, SockRef::from(&socket), &endpoint)?;
        Ok(socket)
    }

    /// Takes the socket with one of these addresses out, if it is what was asked for.
    fn matching(
        &mut self,
        options: &Options,
        endpoint: &Endpoint,
        resolved: &[ResolvedAddr],
        tcp: bool,
    ) -> Result<PassedSocket> {
        let is_it = |socket: &PassedSocket| {
            let kind = if tcp { socket.is_listener() } else { socket.is_udp() };
            kind && socket.is_at(resolved)
        };
        let Some(at) = self.sockets.iter().position(is_it) else {
            let mut note = match tcp {
                true => "no passed socket is a TCP listener with this address".to_owned(),
                false => "no passed socket is a UDP socket with this address".to_owned(),
            };
            for socket in &self.sockets {
                note += &format!("; {socket}");
            }
            return Err(wrong(endpoint, note));
        };
        self.sockets[at].compare(options, endpoint, resolved)?;
        Ok(self.sockets.remove(at))
    }
}

fn set_nonblocking(options: &Options, socket: SockRef<'_>, endpoint: &Endpoint) -> Result<()> {
    if options.nonblocking {
        socket.set_nonblocking(true).map_err(|os| Error::os("set nonblocking", endpoint, os))?;
    }
    Ok(())
}

impl IntoIterator for PassedSockets {
    type Item = PassedSocket;
    type IntoIter = std::vec::IntoIter<PassedSocket>;

    fn into_iter(self) -> Self::IntoIter {
        self.sockets.into_iter()
    }
}

impl<'a> IntoIterator for &'a PassedSockets {
    type Item = &'a PassedSocket;
    type IntoIter = std::slice::Iter<'a, PassedSocket>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
