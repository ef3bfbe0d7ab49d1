//! Changing the owner of sockets. A group of sockets whose owner is no real user is private: the
//! kernel lets only sockets of the same owner join.

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::process::Uid;
use sameport_policy::sandbox::SandboxedCall;

use crate::seccomp::permits;
use crate::socket::worker_socket::WorkerSocket;
use crate::users;

impl WorkerSocket {
    /// Changes the owner of the socket (`fchown(2)`), which the kernel compares with the owners of the
    /// group at `bind(2)` and which sock_diag reports. A TCP socket must not be bound yet. Apart from
    /// `fchown` and `fchmod` of the socket, the owner has no other effect.
    ///
    /// Needs CAP_CHOWN in the current user namespace.
    ///
    /// # Errors
    ///
    /// EPERM: no CAP_CHOWN, or the present owner is not mapped in this user namespace. EINVAL: `owner`
    /// is not mapped in this user namespace.
    pub fn set_owner(&mut self, owner: u32) -> Result<(), Errno> {
        if self.owner() != owner {
            permits(SandboxedCall::Fchown)?;
            rustix::fs::fchown(&*self, Some(Uid::from_raw(owner)), None)?;
            self.record_owner(owner);
        }
        Ok(())
    }

    /// Sets or clears `SO_REUSEADDR`.
    ///
    /// # Errors
    ///
    /// Errors of `setsockopt(2)`.
    pub fn set_reuse_address(&self, on: bool) -> Result<(), Errno> {
        sockopt::set_socket_reuseaddr(self, on)
    }
}

/// Checks whether this process can change the owner of a socket, on a socket of its own.
///
/// # Errors
///
/// Errors of [`WorkerSocket::set_owner`]. EIO: the call succeeded without effect.
pub fn check_owner_change(owner: u32) -> Result<(), Errno> {
    let (family, kind) = (AddressFamily::INET, SocketType::DGRAM);
    let fd = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    let mut socket = WorkerSocket::from_fd(fd)?;
    socket.set_owner(owner)?;
    let actual = rustix::fs::fstat(&socket)?.st_uid;
    if actual == owner { Ok(()) } else { Err(Errno::IO) }
}

/// The user who has this user id, or a range in `/etc/subuid` that contains it. `None`: no known user.
#[must_use]
pub fn registered_user(uid: u32) -> Option<String> {
    users::user_name(uid).or_else(|| {
        let ranges = std::fs::read_to_string("/etc/subuid").unwrap_or_default();
        ranges.lines().find_map(|line| in_range(line, uid))
    })
}

/// The name in a line `name:first:count` of `subuid(5)` whose range contains `uid`.
fn in_range(line: &str, uid: u32) -> Option<String> {
    let (name, range) = line.split_once(':')?;
    let (first, count) = range.split_once(':')?;
    let (first, count): (u64, u64) = (first.parse().ok()?, count.trim().parse().ok()?);
    (first..first.saturating_add(count)).contains(&uid.into()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use rustix::thread::CapabilitySet;

    use super::*;

    #[test]
    fn ranges_have_bounds() {
        let of = |uid| in_range("ann:100000:65536", uid);
        assert_eq!((of(99_999), of(165_536)), (None, None));
        assert_eq!((of(100_000), of(165_535)), (Some("ann".into()), Some("ann".into())));
        for line in ["", "ann", "ann:1", "ann:x:9", "# ann:1:9x", "ann:1:"] {
            assert_eq!(in_range(line, 5), None, "{line}");
        }
    }

    #[test]
    fn root_is_a_user_and_private_ids_are_not() {
        assert_eq!(registered_user(0).as_deref(), Some("root"));
        assert_eq!(registered_user(0x7000_0000), None);
    }

    #[test]
    fn changing_the_owner_needs_cap_chown() {
        let capable = rustix::thread::capabilities(None).unwrap().effective;
        let expected =
            if capable.contains(CapabilitySet::CHOWN) { Ok(()) } else { Err(Errno::PERM) };
        assert_eq!(check_owner_change(0x7000_0000), expected);
        assert_eq!(check_owner_change(crate::effective_user()), Ok(()));
    }
}
