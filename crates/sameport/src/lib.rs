//! Several programs on one port: shared and exclusive TCP listeners and UDP sockets, and the truth
//! about what sharing means on each system.
//!
//! ```
//! // Two listeners, here in one program, usually in two.
//! let first = sameport::listen("127.0.0.1:0")?;
//! let address = first.local_addr()?;
//! let second = sameport::listen(address)?;
//!
//! // On an exclusive address, the second is refused.
//! let alone = sameport::listen_exclusive("127.0.0.1:0")?;
//! let refused = sameport::listen(alone.local_addr()?).unwrap_err();
//! assert_eq!(refused.kind(), sameport::Kind::InUse);
//! # drop(second);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Everything is synchronous and returns the types of std. The feature `tokio` adds conversions.
//! For more than the plain case there is [`Options`], also for sockets that the caller made.
//!
//! # Addresses
//!
//! | given | means |
//! |---|---|
//! | `8080` (text or `u16`), `:8080`, `*:8080` | every address, IPv4 and IPv6, in one socket |
//! | `127.0.0.1:8080`, `0.0.0.0:8080` | that address, or every IPv4 address |
//! | `[::1]:8080` | that address |
//! | `[::]:8080` | every address, IPv4 too, unless [`Options::v6only`] |
//! | `localhost:8080` | the first address of that name that can be had |
//!
//! Port 0 lets the system pick a port that nobody has, and that others can join from then on.
//! Where one call should open all that a name, or a bare port, means: [`listen_all`], [`bind_all`].
//!
//! # What sharing means
//!
//! Only Linux is tested by running; the other rows come from the systems' sources and manuals, and
//! their code is checked by the compiler alone. [`support`] gives this table's row as a value.
//!
//! | system | by | traffic | who can join | exclusive | both families |
//! |---|---|---|---|---|---|
//! | Linux, Android | `SO_REUSEPORT` | balanced by a hash | the same user, not even root | plain bind | one socket |
//! | FreeBSD 12 and later | `SO_REUSEPORT_LB` and `SO_REUSEPORT` | balanced by a hash, but not on a socket for both families | the same user, root | plain bind ¹ | one socket, or two to be balanced |
//! | FreeBSD 11 and older | `SO_REUSEPORT` | one member gets all | the same user, root | plain bind ¹ | one socket |
//! | DragonFly 3.6 and later | `SO_REUSEPORT` | balanced by a hash | the same user, root | plain bind ¹ | two sockets |
//! | macOS | `SO_REUSEPORT` | one member gets all | the same user, root; a wildcard: **any user** | plain bind ¹ | one socket |
//! | NetBSD | `SO_REUSEPORT` | one member gets all | the same user, root; a wildcard: **any user** | plain bind ¹ | one socket |
//! | OpenBSD | `SO_REUSEPORT` | one member gets all | the same user, root | plain bind ¹ | two sockets |
//! | Windows | `SO_REUSEADDR` | undefined | **any user** | `SO_EXCLUSIVEADDRUSE` | one socket |
//! | illumos, Solaris | – | an error | – | `SO_EXCLBIND` | one socket |
//! | others | – | an error | – | plain bind | two sockets |
//!
//! ¹ The same user, or root, can still bind a more specific address than an exclusive wildcard, by
//! asking to share.
//!
//! Who shares on macOS, NetBSD or Windows trusts the other users of the machine. Who must have
//! balancing says [`Options::require_balanced`], and gets an error where there is none.
//!
//! `SO_REUSEADDR` is never set, except to share on Windows: on Linux it would let any user's UDP
//! socket in, and a TCP listener needs it only to be started again without `SO_REUSEPORT`.

mod dial;
mod error;
#[cfg(feature = "tokio")]
mod into_tokio;
mod open;
mod options;
mod place;
mod support;
mod system;

use std::net::{TcpListener, UdpSocket};

pub use dial::{connect, connect_timeout, connect_udp};
pub use error::{Error, ErrorKind, Result};
#[cfg(feature = "tokio")]
pub use into_tokio::IntoTokio;
pub use options::{AsHandle, Options};
pub use place::{Endpoint, ToAddress};
pub use support::{DualStack, Exclusive, JoinPolicy, Sharing, Support, support};

/// A shared TCP listener: [`Options::shared`], [`Options::listen`].
///
/// # Errors
/// As [`Options::listen`].
pub fn listen(address: impl ToAddress) -> Result<TcpListener> {
    Options::shared().listen(address)
}

/// A TCP listener that nobody can join: [`Options::exclusive`], [`Options::listen`].
///
/// # Errors
/// As [`Options::listen`].
pub fn listen_exclusive(address: impl ToAddress) -> Result<TcpListener> {
    Options::exclusive().listen(address)
}

/// Shared TCP listeners on all that the address means: [`Options::listen_all`].
///
/// # Errors
/// As [`Options::listen`].
pub fn listen_all(address: impl ToAddress) -> Result<Vec<TcpListener>> {
    Options::shared().listen_all(address)
}

/// A shared UDP socket: [`Options::shared`], [`Options::bind_udp`].
///
/// # Errors
/// As [`Options::listen`].
pub fn bind(address: impl ToAddress) -> Result<UdpSocket> {
    Options::shared().bind_udp(address)
}

/// A UDP socket that nobody can join: [`Options::exclusive`], [`Options::bind_udp`].
///
/// # Errors
/// As [`Options::listen`].
pub fn bind_exclusive(address: impl ToAddress) -> Result<UdpSocket> {
    Options::exclusive().bind_udp(address)
}

/// Shared UDP sockets on all that the address means: [`Options::bind_udp_all`].
///
/// # Errors
/// As [`Options::listen`].
pub fn bind_all(address: impl ToAddress) -> Result<Vec<UdpSocket>> {
    Options::shared().bind_udp_all(address)
}
