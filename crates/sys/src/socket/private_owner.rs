//! Sockets that belong to no user, so that the kernel lets nobody but those with the same owner join.

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::process::Uid;

use crate::socket::worker_socket::WorkerSocket;
use crate::users;

impl WorkerSocket {
    /// Gives the socket to another owner: the one that the kernel compares when it is bound (`fchown(2)`;
    /// sock_diag shows it). Nobody becomes that user, and no other descriptor changes; but for the right
    /// to `fchown` and `fchmod` the socket, nothing hangs on it. After a TCP socket's `bind` it is too late.
    ///
    /// Needs CAP_CHOWN in the current user namespace.
    ///
    /// # Errors
    ///
    /// EPERM: no CAP_CHOWN, or the socket's user is none of this user namespace. EINVAL: `owner` is none
    /// of this user namespace.
    pub fn set_owner(&mut self, owner: u32) -> Result<(), Errno> {
        if self.owner() != owner {
            rustix::fs::fchown(&*self, Some(Uid::from_raw(owner)), None)?;
            self.record_owner(owner);
        }
        Ok(())
    }

    /// Sets or clears `SO_REUSEADDR`.
    pub fn set_reuse_address(&self, on: bool) -> Result<(), Errno> {
        sockopt::set_socket_reuseaddr(self, on)
    }
}

/// Gives a socket of ours to this owner, to see whether that can be done. See [`WorkerSocket::give`].
///
/// # Errors
///
/// Those of [`WorkerSocket::give`]; EIO: it was done, and the socket's owner is another one.
pub fn check_owner_change(owner: u32) -> Result<(), Errno> {
    let (family, kind) = (AddressFamily::INET, SocketType::DGRAM);
    let any = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    let mut socket = WorkerSocket::from_fd(any)?;
    socket.set_owner(owner)?;
    let seen = rustix::fs::fstat(&socket)?.st_uid;
    if seen == owner { Ok(()) } else { Err(Errno::IO) }
}

/// Whose this user id is: a user's, or part of a range that somebody may use in user namespaces
/// (`/etc/subuid`). `None`: nobody's that is known here.
#[must_use]
pub fn registered_user(uid: u32) -> Option<String> {
    users::user_name(uid).or_else(|| {
        let ranges = std::fs::read_to_string("/etc/subuid").unwrap_or_default();
        ranges.lines().find_map(|line| in_range(line, uid))
    })
}

/// `name:first:count`, subuid(5).
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
    fn a_range_has_its_ends() {
        let of = |uid| in_range("ann:100000:65536", uid);
        assert_eq!((of(99_999), of(165_536)), (None, None));
        assert_eq!((of(100_000), of(165_535)), (Some("ann".into()), Some("ann".into())));
        for line in ["", "ann", "ann:1", "ann:x:9", "# ann:1:9x", "ann:1:"] {
            assert_eq!(in_range(line, 5), None, "{line}");
        }
    }

    #[test]
    fn root_is_a_user_and_the_reserved_ids_are_nobodys() {
        assert_eq!(registered_user(0).as_deref(), Some("root"));
        assert_eq!(registered_user(0x7000_0000), None);
    }

    #[test]
    fn only_the_capability_gives_sockets_away() {
        let capable = rustix::thread::capabilities(None).unwrap().effective;
        let expected =
            if capable.contains(CapabilitySet::CHOWN) { Ok(()) } else { Err(Errno::PERM) };
        assert_eq!(check_owner_change(0x7000_0000), expected);
        assert_eq!(check_owner_change(crate::effective_user()), Ok(()));
    }
}
