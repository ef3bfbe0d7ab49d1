//! One file for each operating system, which implements the trait [`System`]. No other module of
//! this crate depends on the target, except for the names of std's traits and types of socket handles.
//!
//! To add a system: write its file with a type that implements [`System`], name the file below,
//! add the system to the table of the crate's documentation and to `docs/platforms.md`, and its
//! target to `xtask/src/targets.rs`.

use std::collections::BTreeSet;
use std::io;

use socket2::{SockRef, Socket};

use crate::error_kind::ErrorKind;
use crate::socket_job::{BindRefusal, FailedCall, SocketJob};
use crate::steering_program::Instruction;
use crate::support::Support;

#[cfg(any(
    target_vendor = "apple",
    target_os = "dragonfly",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd",
))]
#[path = "bsd.rs"]
mod here;
#[cfg(any(target_os = "illumos", target_os = "solaris"))]
#[path = "illumos.rs"]
mod here;
#[cfg(any(target_os = "linux", target_os = "android"))]
#[path = "linux.rs"]
mod here;
#[cfg(windows)]
#[path = "windows.rs"]
mod here;
#[cfg(not(any(
    windows,
    target_vendor = "apple",
    target_os = "android",
    target_os = "dragonfly",
    target_os = "freebsd",
    target_os = "illumos",
    target_os = "linux",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "solaris",
)))]
#[path = "other.rs"]
mod here;

#[cfg(any(target_os = "linux", target_os = "android"))]
mod bound_sockets;
#[cfg(unix)]
mod descriptors;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod exclusive_listener;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod proc_net;
#[cfg(any(
    windows,
    target_vendor = "apple",
    target_os = "android",
    target_os = "dragonfly",
    target_os = "freebsd",
    target_os = "illumos",
    target_os = "linux",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "solaris",
))]
mod raw;

pub(crate) use here::Here;

/// The socket options of one operating system.
///
/// Each function sets or reads options of one socket, or reads a fact about the system. An option that
/// the system lacks is an error of kind [`io::ErrorKind::Unsupported`], never ignored. No function opens
/// or binds a socket, with these exceptions: `support` of FreeBSD opens one for its probe,
/// `bind_exclusive` and `listen_exclusive` are calls of a listener, the latter opens a netlink socket on
/// Linux, and `take_descriptors` takes sockets that are open.
pub(crate) trait System {
    /// The raw error numbers of a missing address family, protocol or option.
    const UNSUPPORTED: &'static [i32];

    /// The facts about this system. Constant, except that FreeBSD probes a socket option and DragonFly
    /// reads settings.
    fn support() -> Support;

    /// Makes the socket one that joins others and that others can join. Called before `bind`,
    /// unless [`System::shares_after_bind`]. Clears every option that admits more sockets than
    /// sharing needs: `SO_REUSEADDR` on all systems but Windows.
    fn set_shared(socket: &SockRef<'_>, job: &SocketJob) -> io::Result<()>;

    /// Makes the socket one that no other socket can join: sets the system's exclusive option, if
    /// any, and clears the sharing options that the caller may have set. Called before `bind`.
    fn set_exclusive(socket: &SockRef<'_>, job: &SocketJob) -> io::Result<()>;

    /// Binds a new exclusive TCP listener, after [`System::set_exclusive`].
    fn bind_exclusive(socket: &Socket, job: &SocketJob) -> io::Result<()> {
        socket.bind(&job.address.into())
    }

    /// Listens, after [`System::bind_exclusive`].
    fn listen_exclusive(socket: &Socket, _job: &SocketJob, backlog: i32) -> Result<(), FailedCall> {
        socket.listen(backlog).map_err(FailedCall::of("listen"))
    }

    /// Whether the socket has the option that [`System::set_shared`] sets.
    fn is_shared(_socket: &SockRef<'_>) -> io::Result<bool> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Whether the socket is a listening TCP socket (`SO_ACCEPTCONN`).
    fn is_listening(_socket: &SockRef<'_>) -> io::Result<bool> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Whether a shared socket gets its option right after `bind` instead of before it, because the
    /// system could otherwise choose a port that another socket has. `set_exclusive` is then called
    /// before `bind`.
    fn shares_after_bind(_job: &SocketJob) -> bool {
        false
    }

    /// Takes the descriptors that another process passed to this one, `count` from number `first` up;
    /// all or none. The error has the number of a descriptor;
    /// [`io::ErrorKind::AlreadyExists`] if it was not passed.
    #[cfg(unix)]
    fn take_descriptors(first: i32, count: usize) -> Result<Vec<Socket>, (i32, io::Error)> {
        descriptors::take(first, count)
    }

    /// Windows has no numbers of descriptors that a child could keep.
    #[cfg(not(unix))]
    fn take_descriptors(first: i32, count: usize) -> Result<Vec<Socket>, (i32, io::Error)> {
        match count {
            0 => Ok(Vec::new()),
            _ => Err((first, io::ErrorKind::Unsupported.into())),
        }
    }

    /// The name of the device that the socket is restricted to, or an empty one.
    fn device(_socket: &SockRef<'_>) -> io::Result<String> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Whether the socket has the option of [`System::set_transparent`].
    fn is_transparent(_socket: &SockRef<'_>, _ipv6: bool) -> io::Result<bool> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Whether the socket has the option of [`System::set_freebind`].
    fn is_freebind(_socket: &SockRef<'_>, _ipv6: bool) -> io::Result<bool> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// [`crate::Options::device`].
    fn set_device(_socket: &SockRef<'_>, _name: &str, _ipv6: bool) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// [`crate::Options::transparent`].
    fn set_transparent(_socket: &SockRef<'_>, _ipv6: bool) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// [`crate::Options::freebind`].
    fn set_freebind(_socket: &SockRef<'_>, _ipv6: bool) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// [`crate::Drain::hold_off`].
    fn drop_new_connections(_listener: &SockRef<'_>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The most sockets that one address balances over.
    const MAX_MEMBERS: Option<usize> = None;

    /// The processors that the calling thread may use, ascending; empty if the system does not select
    /// sockets by processor.
    fn processors() -> Vec<usize> {
        Vec::new()
    }

    /// Whether [`System::set_incoming_cpu`] selects among the sockets of a group.
    fn selects_by_incoming_cpu() -> bool {
        false
    }

    /// [`crate::Steering::IncomingCpu`] of one socket; `None` clears it.
    fn set_incoming_cpu(_socket: &SockRef<'_>, _processor: Option<usize>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Attaches a program to the group of a member, in place of another one.
    fn attach_program(_member: &SockRef<'_>, _program: &[Instruction]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Removes the program of the group of a member, if it has one.
    fn detach_program(_member: &SockRef<'_>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The number by which [`System::others`] knows a socket.
    fn inode(_socket: &SockRef<'_>) -> Option<u64> {
        None
    }

    /// The number of sockets in the group of an address, without these, which must all be there; `None`
    /// if unknown. Counts sockets bound to other devices too.
    fn others(_job: &SocketJob, _without: &BTreeSet<u64>) -> Option<usize> {
        None
    }

    /// The reason why `bind` or `listen` failed with an error of this kind.
    fn explain(kind: ErrorKind, _job: &SocketJob) -> BindRefusal {
        kind.into()
    }
}
