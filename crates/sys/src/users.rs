//! The user database: login names of user ids, each asked for once because the database may be far
//! away, and the accounts that workers run as.

#![expect(unsafe_code, reason = "getpwnam_r(3) and its family have no safe wrapper")]

use std::ffi::{CStr, CString, OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt as _;

use crate::int_hash::IntMap;

#[derive(Default)]
pub(crate) struct UserNames {
    known: IntMap<u32, Option<String>>,
}

impl UserNames {
    /// `None` for a user that the database does not know, or when it could not be asked.
    pub(crate) fn name(&mut self, uid: u32) -> Option<String> {
        self.known.entry(uid).or_insert_with(|| login_name(uid)).clone()
    }
}

/// The login name of this user id. `None`: no such user, or the database cannot be read.
#[must_use]
pub fn user_name(uid: u32) -> Option<String> {
    UserNames::default().name(uid)
}

/// The effective user id of this process.
#[must_use]
pub fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The user id of this login name. `None`: no such user, or the database cannot be read.
#[must_use]
pub fn user_id(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: `name` ends with NUL, and `lookup` passes a buffer with its length.
    lookup(
        |entry, buffer, size, found| unsafe {
            libc::getpwnam_r(name.as_ptr(), entry, buffer, size, found)
        },
        |entry: &libc::passwd| entry.pw_uid,
    )
}

/// A user as the database describes it (`passwd(5)`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The user id.
    pub uid: u32,
    /// The primary group.
    pub gid: u32,
    /// The login name.
    pub name: CString,
    /// The home directory.
    pub home: OsString,
    /// The login shell.
    pub shell: OsString,
}

impl Account {
    /// The account with this login name. `None`: no such user, or the database cannot be read.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        let name = CString::new(name).ok()?;
        // SAFETY: `name` ends with NUL, and `lookup` passes a buffer with its length.
        lookup(
            |entry, buffer, size, found| unsafe {
                libc::getpwnam_r(name.as_ptr(), entry, buffer, size, found)
            },
            Self::read,
        )
    }

    /// The account with this user id. `None`: no such user, or the database cannot be read.
    #[must_use]
    pub fn by_uid(uid: u32) -> Option<Self> {
        // SAFETY: `lookup` passes a buffer with its length.
        lookup(
            |entry, buffer, size, found| unsafe {
                libc::getpwuid_r(uid, entry, buffer, size, found)
            },
            Self::read,
        )
    }

    fn read(entry: &libc::passwd) -> Self {
        let text = |string: *const libc::c_char| match string.is_null() {
            true => CString::default(),
            // SAFETY: a string of a returned entry that is not null ends with NUL.
            false => unsafe { CStr::from_ptr(string) }.to_owned(),
        };
        let os_text = |string| OsStr::from_bytes(text(string).as_bytes()).to_owned();
        Self {
            uid: entry.pw_uid,
            gid: entry.pw_gid,
            name: text(entry.pw_name),
            home: os_text(entry.pw_dir),
            shell: os_text(entry.pw_shell),
        }
    }

    /// The groups that `initgroups(3)` sets for this user with the primary group `gid`.
    #[must_use]
    pub fn groups(&self, gid: u32) -> Vec<u32> {
        /// NGROUPS_MAX of Linux.
        const LIMIT: usize = 65_536;
        let mut groups: Vec<u32> = vec![0; 64];
        loop {
            let mut count = libc::c_int::try_from(groups.len()).unwrap_or(libc::c_int::MAX);
            // SAFETY: the name ends with NUL, and `count` is the length of `groups`, which the call
            // does not exceed; it writes the number that it found to `count`.
            let result = unsafe {
                libc::getgrouplist(self.name.as_ptr(), gid, groups.as_mut_ptr(), &raw mut count)
            };
            let found = usize::try_from(count).unwrap_or(0);
            if result >= 0 || groups.len() >= LIMIT {
                groups.truncate(found);
                return groups;
            }
            // musl reports the number that it needs, glibc too.
            groups.resize(found.max(groups.len() * 2).min(LIMIT), 0);
        }
    }
}

/// The id of this group (`group(5)`). `None`: no such group, or the database cannot be read.
#[must_use]
pub fn group_id(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: `name` ends with NUL, and `lookup` passes a buffer with its length.
    lookup(
        |entry, buffer, size, found| unsafe {
            libc::getgrnam_r(name.as_ptr(), entry, buffer, size, found)
        },
        |entry: &libc::group| entry.gr_gid,
    )
}

fn login_name(uid: u32) -> Option<String> {
    // SAFETY: `lookup` passes a buffer with its length.
    lookup(
        |entry, buffer, size, found| unsafe { libc::getpwuid_r(uid, entry, buffer, size, found) },
        |entry: &libc::passwd| {
            // SAFETY: the name of a returned entry is a string that ends with NUL.
            unsafe { CStr::from_ptr(entry.pw_name) }.to_string_lossy().into_owned()
        },
    )
}

/// Calls a function of the family `getpwnam_r(3)`, with larger buffers until one suffices, and reads
/// the entry before the buffer that it points into is freed. `None`: no such entry, or an error.
fn lookup<E, T>(
    call: impl Fn(*mut E, *mut libc::c_char, usize, *mut *mut E) -> libc::c_int,
    read: impl FnOnce(&E) -> T,
) -> Option<T> {
    const LARGEST: usize = 1 << 20;
    let mut buffer = vec![0; 1024];
    loop {
        let mut entry = MaybeUninit::uninit();
        let mut found = std::ptr::null_mut();
        match call(entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &raw mut found) {
            // SAFETY: the call has written `entry` if it succeeds with a result that is not null.
            0 if !found.is_null() => return Some(read(unsafe { entry.assume_init_ref() })),
            libc::ERANGE if buffer.len() < LARGEST => buffer.resize(buffer.len() * 2, 0),
            libc::EINTR => {}
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_a_name_and_a_stranger_has_none() {
        let mut users = UserNames::default();
        assert_eq!(users.name(0).as_deref(), Some("root"));
        assert_eq!(users.name(3_999_999_999), None);
        assert_eq!((user_id("root"), user_id("no such user")), (Some(0), None));
    }

    #[test]
    fn root_has_an_account_with_groups() {
        let root = Account::by_name("root").unwrap();
        assert_eq!(Account::by_uid(0), Some(root.clone()));
        assert_eq!((root.uid, root.gid, root.name.to_str()), (0, 0, Ok("root")));
        assert!(root.home.as_bytes().starts_with(b"/"), "{:?}", root.home);
        assert!(root.groups(7).contains(&7));
        assert_eq!((group_id("root"), group_id("no such group")), (Some(0), None));
        assert_eq!(Account::by_name("no such user"), None);
    }
}
