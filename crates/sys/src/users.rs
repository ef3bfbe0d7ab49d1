//! Login names of user ids, each asked for once: the user database may be far away.

#![expect(unsafe_code, reason = "getpwnam_r(3) and getpwuid_r(3) have no safe wrapper")]

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;

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

/// The user id of this login name. `None`: no such user, or the database cannot be read.
#[must_use]
pub fn user_id(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: `name` ends with NUL, and `lookup` passes a buffer with its length.
    lookup(
        |entry, buffer, size, found| unsafe {
            libc::getpwnam_r(name.as_ptr(), entry, buffer, size, found)
        },
        |entry| entry.pw_uid,
    )
}

fn login_name(uid: u32) -> Option<String> {
    // SAFETY: `lookup` passes a buffer with its length.
    lookup(
        |entry, buffer, size, found| unsafe { libc::getpwuid_r(uid, entry, buffer, size, found) },
        // SAFETY: the name of a returned entry is a string that ends with NUL.
        |entry| unsafe { CStr::from_ptr(entry.pw_name) }.to_string_lossy().into_owned(),
    )
}

/// Calls a function of the family `getpwnam_r(3)`, with larger buffers until one suffices, and reads
/// the entry before the buffer that it points into is freed. `None`: no such entry, or an error.
fn lookup<T>(
    call: impl Fn(*mut libc::passwd, *mut libc::c_char, usize, *mut *mut libc::passwd) -> libc::c_int,
    read: impl FnOnce(&libc::passwd) -> T,
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
}
