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
