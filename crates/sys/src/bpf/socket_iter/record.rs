//! The record that the program writes for a descriptor.

use sameport_policy::model::GroupPosition;

/// `struct record` in `bpf/sockets.bpf.c`.
pub(super) const RECORD: usize = 48;

/// How many members of a reuseport group are searched for the socket. The verifier simulates each round
/// of the search: loading takes 1.1 ms with the small number, and 11 ms with the large one.
pub(super) const SEARCH: u32 = 32;
pub(super) const LONG_SEARCH: u32 = 512;

const REUSE_PORT: u32 = 1;
const REUSE_ADDRESS: u32 = 2;
const FILTER: u32 = 4;
const STEERED: u32 = 8;
const GROUPED: u32 = 16;
const UNNUMBERED: u32 = u32::MAX;

/// A descriptor of a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DescriptorRecord {
    pub(super) inode: u64,
    pub(super) pid: i32,
    pub(super) descriptor: i32,
    /// The name of the process, padded with zeros.
    pub(super) comm: [u8; 16],
    pub(super) reuse_port: bool,
    pub(super) reuse_address: bool,
    pub(super) filter: bool,
    /// `None` without a group, and in a group too large for the search.
    pub(super) position: Option<GroupPosition>,
    /// The number of the program that selects in its group, 0 of a classic one.
    pub(super) program: Option<u32>,
    /// The search ended before it found the socket in its group.
    pub(super) unnumbered: bool,
}

impl DescriptorRecord {
    pub(super) fn read(bytes: &[u8; RECORD]) -> Self {
        let word = |at: usize| {
            u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let flags = word(16);
        let (index, of) = (word(20), word(24));
        let position = GroupPosition { index, of, steered: flags & STEERED != 0 };
        let known = flags & GROUPED != 0 && index != UNNUMBERED && index < of;
        let mut inode = [0; 8];
        inode.copy_from_slice(&bytes[..8]);
        let mut comm = [0; 16];
        comm.copy_from_slice(&bytes[28..44]);
        Self {
            inode: u64::from_ne_bytes(inode),
            pid: word(8).cast_signed(),
            descriptor: word(12).cast_signed(),
            comm,
            reuse_port: flags & REUSE_PORT != 0,
            reuse_address: flags & REUSE_ADDRESS != 0,
            filter: flags & FILTER != 0,
            position: known.then_some(position),
            program: (flags & STEERED != 0).then_some(word(44)),
            unnumbered: flags & GROUPED != 0 && index == UNNUMBERED && of > SEARCH,
        }
    }

    /// The name of the process, with bytes that are not UTF-8 replaced.
    pub(super) fn program(&self) -> String {
        let end = self.comm.iter().position(|byte| *byte == 0).unwrap_or(self.comm.len());
        String::from_utf8_lossy(&self.comm[..end]).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(flags: u32, index: u32, of: u32) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        bytes[..8].copy_from_slice(&77_u64.to_ne_bytes());
        for (at, word) in [(8, 123), (12, 5), (16, flags), (20, index), (24, of)] {
            bytes[at..at + 4].copy_from_slice(&word.to_ne_bytes());
        }
        bytes[28..33].copy_from_slice(b"nginx");
        bytes
    }

    #[test]
    fn every_field_is_where_the_program_writes_it() {
        let record = DescriptorRecord::read(&bytes(REUSE_PORT | GROUPED | STEERED, 2, 3));
        assert_eq!((record.inode, record.pid, record.descriptor), (77, 123, 5));
        assert_eq!(record.program(), "nginx");
        assert!(record.reuse_port && !record.reuse_address && !record.filter);
        assert_eq!(record.position, Some(GroupPosition { index: 2, of: 3, steered: true }));
    }

    #[test]
    fn an_unknown_position_is_none() {
        assert_eq!(DescriptorRecord::read(&bytes(REUSE_PORT, 0, 0)).position, None);
        let beyond = DescriptorRecord::read(&bytes(GROUPED, UNNUMBERED, 5000));
        assert!(beyond.position.is_none() && beyond.unnumbered);
        assert!(!DescriptorRecord::read(&bytes(GROUPED, UNNUMBERED, SEARCH)).unnumbered);
        // The group changed between two reads of the program.
        assert_eq!(DescriptorRecord::read(&bytes(GROUPED, 3, 3)).position, None);
    }
}
