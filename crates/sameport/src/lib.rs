//! Several programs on one port: shared and exclusive TCP listeners and UDP sockets, with the facts
//! about sharing on each operating system.
//!
//! ```
//! // Two listeners, here in one program, usually in two.
//! let first = sameport::listen("127.0.0.1:0")?;
//! let address = first.local_addr()?;
//! let second = sameport::listen(address)?;
//!
//! // An exclusive listener refuses a second one.
//! let exclusive = sameport::listen_exclusive("127.0.0.1:0")?;
//! let error = sameport::listen(exclusive.local_addr()?).unwrap_err();
//! assert_eq!(error.kind(), sameport::ErrorKind::InUse);
//! # drop(second);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! The functions are synchronous and return types of std. The feature `tokio` adds the module `tokio`
//! with functions for asynchronous programs, and conversions of sockets; the feature `tokio-time`
//! adds its `connect_timeout`. [`Options`] has further socket options, also for sockets of other crates.
//! [`PassedSockets`] are those of socket activation.
//!
//! The minimum Rust version is 1.75.
//!
//! # Addresses
//!
//! | address | meaning |
//! |---|---|
//! | `8080` (text or `u16`), `:8080`, `*:8080` | every IPv4 and IPv6 address, in one socket |
//! | `127.0.0.1:8080`, `0.0.0.0:8080` | one address, or every IPv4 address |
//! | `[::1]:8080` | one address |
//! | `[::]:8080` | every IPv6 and IPv4 address; IPv6 only with [`Options::v6only`] |
//! | `localhost:8080` | the first possible address of the name |
//!
//! [`ToAddress`] lists the types, which include all of [`std::net::ToSocketAddrs`] and lists of
//! addresses. For port 0 the system chooses a free port, which other sockets can join afterwards.
//! [`listen_all`] and [`bind_udp_all`] open every address of a name, bare port or list.
//!
//! # Sets
//!
//! [`listen_n`], [`per_core`], [`bind_udp_n`] and [`bind_udp_per_core`] open [`Members`] of one address,
//! one for each thread. A member leaves without losing a connection: [`Member::drain`].
//! The repository has [examples] of one runtime of tokio for each processor, and of axum with a
//! graceful end.
//!
//! [examples]: https://github.com/sameport/sameport/tree/main/examples
//!
//! # Sharing on each system
//!
//! The tests run on Linux, and for Windows under Wine. The other rows come from the systems' sources and
//! manuals, and their code is checked by the compiler only. [`support()`] returns the row of the running
//! system.
//!
//! | system | mechanism | traffic | users that can join | exclusive | both families |
//! |---|---|---|---|---|---|
//! | Linux, Android | `SO_REUSEPORT` | balanced by a hash | the same user; root is not exempt | plain bind | one socket |
//! | FreeBSD 12 and later | `SO_REUSEPORT_LB` and `SO_REUSEPORT` | balanced by a hash, but not on a socket for both families | the same user, root | plain bind ¹ | one socket, or two to be balanced |
//! | FreeBSD 11 and older | `SO_REUSEPORT` | one socket receives all | the same user, root | plain bind ¹ | one socket |
//! | DragonFly 3.6 and later | `SO_REUSEPORT` | balanced by a hash ² | the same user, root | plain bind ¹ | two sockets |
//! | macOS | `SO_REUSEPORT` | one socket receives all | the same user, root; **any user** on a wildcard address | plain bind ¹ | one socket |
//! | NetBSD | `SO_REUSEPORT` | one socket receives all | the same user, root; **any user** on a wildcard address and on IPv6 | plain bind ¹ | one socket |
//! | OpenBSD | `SO_REUSEPORT` | one socket receives all | the same user, root | plain bind ¹ | two sockets |
//! | Windows | `SO_REUSEADDR` | undefined | **any user** | `SO_EXCLUSIVEADDRUSE` | one socket |
//! | illumos, Solaris | – | an error | – | `SO_EXCLBIND` | one socket |
//! | others | – | an error | – | plain bind | two sockets |
//!
//! ¹ The same user, or root, can bind a more specific address than an exclusive wildcard address with
//! `SO_REUSEADDR` or a sharing option (NetBSD: any user, on IPv6).
//!
//! ² Unless `net.inet.tcp.reuseport_ext` or `net.inet.udp.reuseport_ext` is 0.
//!
//! On macOS, NetBSD and Windows, a shared socket requires trust in all users of the machine.
//! [`Options::require_balanced`] is an error where the system does not balance.
//!
//! `SO_REUSEADDR` is never set on UDP sockets or before a shared `bind`, except to share on Windows: on
//! Linux it would admit UDP sockets of any user, and a TCP listener with `SO_REUSEPORT` can bind over
//! connections in TIME-WAIT without it. An exclusive TCP listener on Linux and illumos gets it in a
//! way that admits no other socket: [`Options::exclusive`].

mod apply;
mod connect;
mod drain;
mod endpoint;
mod error;
mod error_kind;
mod group;
#[cfg(feature = "tokio")]
mod into_tokio;
mod listen;
mod member_drain;
mod members;
mod open;
mod options;
mod pairs;
mod passed;
mod sets;
mod socket_facts;
mod socket_job;
mod steering;
mod steering_program;
mod support;
mod system;
mod targets;
#[cfg(feature = "tokio")]
pub mod tokio;

pub use connect::{connect, connect_timeout, connect_udp};
pub use drain::{Drain, DrainEnd, drain};
pub use endpoint::{Endpoint, ToAddress};
pub use error::{Error, Result};
pub use error_kind::ErrorKind;
#[cfg(feature = "tokio")]
pub use into_tokio::IntoTokio;
pub use listen::{
    AsHandle, bind_udp, bind_udp_all, bind_udp_exclusive, listen, listen_all, listen_exclusive,
};
pub use member_drain::MemberDrain;
pub use members::{Member, Members};
pub use options::Options;
pub use passed::{PassedSocket, PassedSockets};
pub use sets::{bind_udp_n, bind_udp_per_core, listen_n, per_core};
pub use steering::Steering;
pub use support::{DualStack, Exclusive, JoinPolicy, Sharing, Support};

/// The facts about the running system.
///
/// Constant on all systems but two: on FreeBSD the function probes `SO_REUSEPORT_LB` on a socket that
/// it never binds, and on DragonFly it reads two settings. Needs no privilege.
///
/// ```
/// let support = sameport::support();
/// println!("{}, open to {}", support.sharing, support.join_policy);
/// ```
#[doc(alias = "SO_REUSEPORT")]
#[doc(alias = "SO_REUSEPORT_LB")]
#[must_use]
pub fn support() -> Support {
    use system::System;

    system::Here::support()
}

/// The examples of the README are compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
