//! The user and the groups that a worker runs with, where these are not the supervisor's.

use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::capability;

/// A user, a group and supplementary groups, for [`super::SpawnOptions::user`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

impl Credentials {
    /// `None`: an id is 2^32 - 1, which the kernel reads as "no change".
    #[must_use]
    pub fn new(uid: u32, gid: u32, groups: &[u32]) -> Option<Self> {
        let is_id = |id: &u32| *id != u32::MAX;
        [uid, gid].iter().chain(groups).all(is_id).then(|| Self {
            uid: Uid::from_raw(uid),
            gid: Gid::from_raw(gid),
            groups: groups.iter().map(|group| Gid::from_raw(*group)).collect(),
        })
    }

    /// The user id.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid.as_raw()
    }

    /// Gives the calling thread this user and these groups, and takes all its capabilities unless
    /// the user is root. Async-signal-safe, for use between `fork` and `exec`: the calls change one
    /// thread, and the child has no other.
    ///
    /// # Errors
    ///
    /// EPERM: no CAP_SETUID or CAP_SETGID, or setgroups(2) is denied in this user namespace. EINVAL:
    /// an id is not mapped in this user namespace.
    pub(super) fn assume(&self) -> Result<(), Errno> {
        // The groups come first: without the user, the right to change them is gone.
        rustix::thread::set_thread_groups(&self.groups)?;
        rustix::thread::set_thread_res_gid(self.gid, self.gid, self.gid)?;
        rustix::thread::set_thread_res_uid(self.uid, self.uid, self.uid)?;
        if self.uid.is_root() {
            return Ok(());
        }
        // setresuid(2) keeps the inheritable set, and with the securebits of some containers every set
        // (capabilities(7)).
        rustix::thread::clear_ambient_capability_set()?;
        let none = CapabilitySet::empty();
        let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
        rustix::thread::set_capabilities(None, sets)
    }
}

/// Whether this process may start workers as another user: CAP_SETUID and CAP_SETGID.
#[must_use]
pub fn may_change_user() -> bool {
    capability::has(CapabilitySet::SETUID | CapabilitySet::SETGID).unwrap_or(false)
}
