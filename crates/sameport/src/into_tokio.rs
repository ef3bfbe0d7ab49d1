//! Conversions into the types of tokio. Feature `tokio`.

use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};

use crate::members::Member;

/// Converts a socket of std into the corresponding type of tokio. Feature `tokio`.
///
/// ```
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
/// # let _guard = runtime.enter();
/// use sameport::IntoTokio;
///
/// let listener: tokio::net::TcpListener = sameport::listen("127.0.0.1:0")?.into_tokio()?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait IntoTokio {
    /// The corresponding type of tokio.
    type Tokio;

    /// Makes the socket non-blocking and registers it with the current runtime.
    ///
    /// # Errors
    ///
    /// The operating system's error, if one of the two steps fails.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with I/O enabled, as tokio's `from_std` does.
    fn into_tokio(self) -> io::Result<Self::Tokio>;
}

impl IntoTokio for TcpListener {
    type Tokio = tokio::net::TcpListener;

    fn into_tokio(self) -> io::Result<Self::Tokio> {
        self.set_nonblocking(true)?;
        Self::Tokio::from_std(self)
    }
}

impl IntoTokio for TcpStream {
    type Tokio = tokio::net::TcpStream;

    fn into_tokio(self) -> io::Result<Self::Tokio> {
        self.set_nonblocking(true)?;
        Self::Tokio::from_std(self)
    }
}

impl IntoTokio for UdpSocket {
    type Tokio = tokio::net::UdpSocket;

    fn into_tokio(self) -> io::Result<Self::Tokio> {
        self.set_nonblocking(true)?;
        Self::Tokio::from_std(self)
    }
}

/// The set keeps the member: [`Member::withdraw`] and dropping it work as before.
///
/// To [drain](Member::drain) it, convert it back with `member.try_map(TcpListener::into_std)`, and
/// iterate on a thread for blocking calls (`tokio::task::spawn_blocking`).
impl IntoTokio for Member<TcpListener> {
    type Tokio = Member<tokio::net::TcpListener>;

    fn into_tokio(self) -> io::Result<Self::Tokio> {
        self.try_map(TcpListener::into_tokio)
    }
}

/// The set keeps the member: [`Member::withdraw`] and dropping it work as before.
impl IntoTokio for Member<UdpSocket> {
    type Tokio = Member<tokio::net::UdpSocket>;

    fn into_tokio(self) -> io::Result<Self::Tokio> {
        self.try_map(UdpSocket::into_tokio)
    }
}

/// For [`listen_all`](crate::listen_all) and [`bind_udp_all`](crate::bind_udp_all).
impl<T: IntoTokio> IntoTokio for Vec<T> {
    type Tokio = Vec<T::Tokio>;

    fn into_tokio(self) -> io::Result<Self::Tokio> {
        self.into_iter().map(T::into_tokio).collect()
    }
}
