//! The user ids that own the sockets of private groups.
//!
//! systemd's UIDS-GIDS document lists 0x70000000 to 0x7FFFFFFF as unused, except for a piece at the
//! end, so no user, system service or container has one of these ids. Each is positive as a C int.

/// The first user id.
pub const FIRST: u32 = 0x7000_0000;

/// The number of user ids: 251,658,240.
pub const COUNT: u32 = 0x0f00_0000;

/// Whether sockets with this owner belong to a private group.
#[must_use]
pub fn is_private_uid(uid: u32) -> bool {
    (FIRST..FIRST + COUNT).contains(&uid)
}

/// Whether the kernel keeps a run's other sockets out of the group of a socket with owner `uid`, or lets
/// every socket of the user in although the run is private. `run`: the owner of the run's sockets, if the
/// run is private.
#[must_use]
pub fn is_of_other_group(uid: u32, run: Option<u32>) -> bool {
    match run {
        Some(owner) => uid != owner,
        None => is_private_uid(uid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_run_has_one_owner_and_another_run_no_private_one() {
        for (uid, run, expected) in [
            (1000, None, false),
            (FIRST, None, true),
            (FIRST, Some(FIRST), false),
            (FIRST + 1, Some(FIRST), true),
            (1000, Some(FIRST), true),
        ] {
            assert_eq!(is_of_other_group(uid, run), expected, "{uid} {run:?}");
        }
    }
}
