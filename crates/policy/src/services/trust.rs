//! Whether a user may act on a file of services: its writer chooses the commands.

use std::fmt;

/// The facts about a file and its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileOwnership {
    /// The effective uid of the process that acts on the file.
    pub reader: u32,
    /// The uid of the owner.
    pub owner: u32,
    /// The gid of the group.
    pub group: u32,
    /// The permission bits.
    pub mode: u32,
    /// The owner of the symbolic link, if the path is one.
    pub link_owner: Option<u32>,
}

/// Why a file must not be acted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distrust {
    /// It is of this user.
    Owner(u32),
    /// The symbolic link to it is of this user.
    LinkOwner(u32),
    /// Its group may write it.
    GroupWritable,
    /// Every user may write it.
    WorldWritable,
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owner(_) => f.write_str("it is of another user"),
            Self::LinkOwner(_) => f.write_str("the symbolic link is of another user"),
            Self::GroupWritable => f.write_str("its group may write it"),
            Self::WorldWritable => f.write_str("every user may write it"),
        }
    }
}

/// Why this file must not be acted on, if so. A user trusts himself and root. Root trusts no group but its own; for other
/// users a group that may write is the user's own on many systems.
#[must_use]
pub fn distrust(file: &FileOwnership) -> Option<Distrust> {
    let is_foreign = |uid: u32| uid != 0 && uid != file.reader;
    match file.link_owner {
        Some(owner) if is_foreign(owner) => return Some(Distrust::LinkOwner(owner)),
        _ if is_foreign(file.owner) => return Some(Distrust::Owner(file.owner)),
        _ => {}
    }
    let group_counts = file.reader == 0 && file.group != 0;
    match (file.mode & 0o002 != 0, file.mode & 0o020 != 0 && group_counts) {
        (true, _) => Some(Distrust::WorldWritable),
        (false, true) => Some(Distrust::GroupWritable),
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_write_the_commands_of_a_user() {
        for (reader, owner, group, mode, link_owner, expected) in [
            (0, 0, 0, 0o644, None, None),
            (0, 0, 0, 0o664, None, None),
            (0, 0, 100, 0o664, None, Some(Distrust::GroupWritable)),
            (0, 0, 100, 0o644, None, None),
            (0, 0, 0, 0o666, None, Some(Distrust::WorldWritable)),
            (0, 1000, 0, 0o644, None, Some(Distrust::Owner(1000))),
            (0, 0, 0, 0o644, Some(0), None),
            (0, 0, 0, 0o644, Some(1000), Some(Distrust::LinkOwner(1000))),
            (1000, 1000, 1000, 0o664, None, None),
            (1000, 1000, 1000, 0o662, None, Some(Distrust::WorldWritable)),
            (1000, 0, 0, 0o644, Some(0), None),
            (1000, 1001, 1000, 0o600, None, Some(Distrust::Owner(1001))),
            (1000, 1000, 1000, 0o644, Some(1001), Some(Distrust::LinkOwner(1001))),
        ] {
            let file = FileOwnership { reader, owner, group, mode, link_owner };
            assert_eq!(distrust(&file), expected, "{file:?}");
        }
    }
}
