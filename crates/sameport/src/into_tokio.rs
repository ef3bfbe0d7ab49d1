//! Conversions into tokio's types. Feature `tokio`.

use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};

/// Makes a socket of std non-blocking and hands it to tokio.
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
    /// Tokio's type for this one.
    type Tokio;

    /// Converts. Must be called in a tokio runtime with I/O enabled; panics outside of one, as
    /// tokio's `from_std` does.
    ///
    /// # Errors
    /// What the operating system says to making it non-blocking or to registering it.
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
