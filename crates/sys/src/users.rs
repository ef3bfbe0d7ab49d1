//! Login names of user ids, each asked for once: the user database may be far away.

use std::collections::HashMap;

use nix::unistd::{Uid, User};

#[derive(Default)]
pub(crate) struct UserNames {
    known: HashMap<u32, Option<String>>,
}

impl UserNames {
    /// `None` for a user that the database does not know, or when it could not be asked.
    pub(crate) fn name(&mut self, uid: u32) -> Option<String> {
        let ask = || User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name);
        self.known.entry(uid).or_insert_with(ask).clone()
    }
}

/// The login name of this user id; `None` if the user database knows none, or could not be asked.
#[must_use]
pub fn user_name(uid: u32) -> Option<String> {
    UserNames::default().name(uid)
}

/// The user id of this login name; `None` as for [`user`].
#[must_use]
pub fn user_id(name: &str) -> Option<u32> {
    User::from_name(name).ok().flatten().map(|user| user.uid.as_raw())
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
