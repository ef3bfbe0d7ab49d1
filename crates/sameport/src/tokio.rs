//! Functions for programs that use tokio. Feature `tokio`.
//!
//! They open the sockets of the functions of the same name in the [crate root](crate), as the types of
//! tokio. They resolve names with [`tokio::net::lookup_host`], on a thread for blocking calls, so that
//! no task waits for the resolver. For sockets with [`Options`], convert the result with [`IntoTokio`]:
//! opening a socket on an address that is not a name does not block.
//!
//! All functions need a runtime with I/O enabled, and panic outside of one, as tokio's own do. They are
//! cancellation-safe: dropping a future closes its socket, and leaves nothing else behind. Only a
//! thread that resolves a name runs until the resolver answers.
//!
//! ```
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
//! # runtime.block_on(async {
//! let far = sameport::tokio::listen("127.0.0.1:0").await?;
//! let near = sameport::tokio::listen("127.0.0.1:0").await?;
//! let (from, to) = (near.local_addr().unwrap(), far.local_addr().unwrap());
//!
//! let stream = sameport::tokio::connect(from, to).await?;
//! let (_accepted, peer) = far.accept().await.unwrap();
//! assert_eq!((stream.local_addr().unwrap(), peer), (from, from));
//! # Ok::<(), sameport::Error>(())
//! # }).unwrap();
//! ```

use std::fmt;

use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};

#[cfg(feature = "tokio-time")]
use crate::connect::timed_out;
use crate::connect::{connect_datagram, no_pair, pairs};
use crate::endpoint::{Endpoint, ToAddress};
use crate::error::{Error, Result};
use crate::into_tokio::IntoTokio;
use crate::open;
use crate::options::Options;
use crate::pairs::Pair;
use crate::socket_job::Role;

/// Opens a shared TCP listener: [`sameport::listen`](crate::listen()).
///
/// ```
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
/// # runtime.block_on(async {
/// let listener = sameport::tokio::listen("localhost:0").await?;
/// # Ok::<(), sameport::Error>(())
/// # }).unwrap();
/// ```
///
/// # Errors
///
/// As [`Options::listen`].
///
/// # Panics
///
/// Outside of a tokio runtime with I/O enabled.
pub async fn listen(address: impl ToAddress) -> Result<TcpListener> {
    open_listener(&Options::shared(), endpoint(address)?).await
}

/// Opens an exclusive TCP listener: [`sameport::listen_exclusive`](crate::listen_exclusive).
///
/// ```
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
/// # runtime.block_on(async {
/// let listener = sameport::tokio::listen_exclusive("localhost:0").await?;
/// # Ok::<(), sameport::Error>(())
/// # }).unwrap();
/// ```
///
/// # Errors
///
/// As [`Options::listen`].
///
/// # Panics
///
/// Outside of a tokio runtime with I/O enabled.
pub async fn listen_exclusive(address: impl ToAddress) -> Result<TcpListener> {
    open_listener(&Options::exclusive(), endpoint(address)?).await
}

/// Opens a shared UDP socket: [`sameport::bind_udp`](crate::bind_udp).
///
/// ```
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
/// # runtime.block_on(async {
/// let socket = sameport::tokio::bind_udp("localhost:0").await?;
/// # Ok::<(), sameport::Error>(())
/// # }).unwrap();
/// ```
///
/// # Errors
///
/// As [`Options::listen`].
///
/// # Panics
///
/// Outside of a tokio runtime with I/O enabled.
pub async fn bind_udp(address: impl ToAddress) -> Result<UdpSocket> {
    open_datagram(&Options::shared(), endpoint(address)?).await
}

/// Opens an exclusive UDP socket: [`sameport::bind_udp_exclusive`](crate::bind_udp_exclusive).
///
/// ```
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
/// # runtime.block_on(async {
/// let socket = sameport::tokio::bind_udp_exclusive("localhost:0").await?;
/// # Ok::<(), sameport::Error>(())
/// # }).unwrap();
/// ```
///
/// # Errors
///
/// As [`Options::listen`].
///
/// # Panics
///
/// Outside of a tokio runtime with I/O enabled.
pub async fn bind_udp_exclusive(address: impl ToAddress) -> Result<UdpSocket> {
    open_datagram(&Options::exclusive(), endpoint(address)?).await
}

/// Connects from the local address `from`, which shared listeners can have too, to `to`:
/// [`sameport::connect`](crate::connect()), without blocking.
///
/// Cancellation-safe: dropping the future ends the attempt and frees the pair of addresses. For a
/// limit of time, wrap the future in `tokio::time::timeout`, or use `connect_timeout` (feature
/// `tokio-time`).
///
/// ```
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
/// # runtime.block_on(async {
/// let far = sameport::tokio::listen("127.0.0.1:0").await?;
/// let stream = sameport::tokio::connect(0, far.local_addr().unwrap()).await?;
/// # drop(stream);
/// # Ok::<(), sameport::Error>(())
/// # }).unwrap();
/// ```
///
/// # Errors
///
/// As [`sameport::connect`](crate::connect()).
///
/// # Panics
///
/// Outside of a tokio runtime with I/O enabled.
pub async fn connect(from: impl ToAddress, to: impl ToAddress) -> Result<TcpStream> {
    connect_any(&endpoint(from)?, &endpoint(to)?, &mut None).await
}

/// As [`connect`], for at most `timeout` over the resolution of names and all addresses. Feature
/// `tokio-time`.
///
/// ```
/// use std::time::Duration;
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
/// # runtime.block_on(async {
/// let far = sameport::tokio::listen("127.0.0.1:0").await?;
/// let to = far.local_addr().unwrap();
/// let stream = sameport::tokio::connect_timeout(0, to, Duration::from_secs(3)).await?;
/// # drop(stream);
/// # Ok::<(), sameport::Error>(())
/// # }).unwrap();
/// ```
///
/// # Errors
///
/// As [`sameport::connect_timeout`](crate::connect_timeout).
///
/// # Panics
///
/// Outside of a tokio runtime with I/O and time enabled.
#[cfg(feature = "tokio-time")]
pub async fn connect_timeout(
    from: impl ToAddress,
    to: impl ToAddress,
    timeout: std::time::Duration,
) -> Result<TcpStream> {
    let (from, to) = (endpoint(from)?, endpoint(to)?);
    let mut attempt = None;
    match tokio::time::timeout(timeout, connect_any(&from, &to, &mut attempt)).await {
        Ok(result) => result,
        Err(_) => Err(timed_out(&from, &to, attempt)),
    }
}

/// Opens a UDP socket on the local address `from`, which shared UDP sockets can have too, and connects
/// it to `to`: [`sameport::connect_udp`](crate::connect_udp).
///
/// ```
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
/// # runtime.block_on(async {
/// let far = sameport::tokio::bind_udp("127.0.0.1:0").await?;
/// let socket = sameport::tokio::connect_udp(0, far.local_addr().unwrap()).await?;
/// socket.send(b"hello").await.unwrap();
/// assert_eq!(far.recv_from(&mut [0; 8]).await.unwrap().0, 5);
/// # Ok::<(), sameport::Error>(())
/// # }).unwrap();
/// ```
///
/// # Errors
///
/// As [`sameport::connect_udp`](crate::connect_udp).
///
/// # Panics
///
/// Outside of a tokio runtime with I/O enabled.
pub async fn connect_udp(from: impl ToAddress, to: impl ToAddress) -> Result<UdpSocket> {
    let (from, to) = (endpoint(from)?, endpoint(to)?);
    let mut last = None;
    for pair in resolved_pairs(&from, &to).await? {
        // `connect` of a UDP socket sends no packet, so the call returns at once.
        match connect_datagram(&pair) {
            Ok(socket) => return register(std::net::UdpSocket::from(socket), &pair),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| no_pair(&from, &to)))
}

/// Consumes the address, so that a future does not contain it, and is `Send` whatever it is.
fn endpoint(address: impl ToAddress) -> Result<Endpoint> {
    address.to_endpoint()
}

async fn open_listener(options: &Options, endpoint: Endpoint) -> Result<TcpListener> {
    let resolved = endpoint.resolve_in_tokio().await?;
    let socket = open::first(options, Role::Listener, &resolved)?;
    register(std::net::TcpListener::from(socket), &endpoint)
}

async fn open_datagram(options: &Options, endpoint: Endpoint) -> Result<UdpSocket> {
    let resolved = endpoint.resolve_in_tokio().await?;
    let socket = open::first(options, Role::Datagram, &resolved)?;
    register(std::net::UdpSocket::from(socket), &endpoint)
}

fn register<T: IntoTokio>(socket: T, address: &impl fmt::Display) -> Result<T::Tokio> {
    socket.into_tokio().map_err(|os| Error::os("register", address, os))
}

async fn resolved_pairs(from: &Endpoint, to: &Endpoint) -> Result<Vec<Pair>> {
    let local = from.resolve_in_tokio().await?;
    let remote = to.resolve_in_tokio().await?;
    pairs(from, &local, to, &remote)
}

/// Sets `attempt` to the pair that it tries.
async fn connect_any(
    from: &Endpoint,
    to: &Endpoint,
    attempt: &mut Option<Pair>,
) -> Result<TcpStream> {
    let mut last = None;
    for pair in resolved_pairs(from, to).await? {
        *attempt = Some(pair);
        match connect_pair(&pair).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| no_pair(from, to)))
}

async fn connect_pair(pair: &Pair) -> Result<TcpStream> {
    let socket = pair.bind(true)?;
    socket.set_nonblocking(true).map_err(|os| Error::os("set nonblocking", pair, os))?;
    let connecting = TcpSocket::from_std_stream(socket.into()).connect(pair.remote);
    connecting.await.map_err(|os| pair.connect_error(os))
}
