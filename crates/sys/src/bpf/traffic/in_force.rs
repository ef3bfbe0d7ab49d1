//! Whether the kernel follows the state.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::Ordering::SeqCst;

use sameport_policy::traffic::facts::SocketId;

use super::layout::{LANES, control, lane};
use super::state::TrafficState;
use crate::bpf::socket_iter::{IterFilter, walk};
use crate::bpf::syscall;

/// What selects the members of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupProgram {
    /// The program of the state.
    Ours,
    /// The kernel's hash.
    Hash,
    /// Another program.
    Other(OtherProgram),
}

/// A program that is not of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OtherProgram {
    /// Classic BPF, which any process of the user can attach. The kernel does not number it.
    Classic,
    /// eBPF.
    Extended(ExtendedProgram),
}

/// An eBPF program as the kernel describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExtendedProgram {
    /// The kernel's number: `bpftool prog show id NUMBER`.
    pub id: u32,
    /// The user that loaded it; `None`: it has gone, or the kernel does not say.
    pub uid: Option<u32>,
    /// Its name, padded with zeros.
    name: [u8; 16],
}

impl fmt::Display for GroupProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ours => f.write_str("the program of sameport"),
            Self::Hash => f.write_str("the kernel's hash"),
            Self::Other(program) => program.fmt(f),
        }
    }
}

impl OtherProgram {
    fn of(id: u32) -> Self {
        if id == 0 {
            return Self::Classic;
        }
        let known = syscall::program_origin(id).ok();
        Self::Extended(ExtendedProgram {
            id,
            uid: known.map(|(uid, _)| uid),
            name: known.map(|(_, name)| name).unwrap_or_default(),
        })
    }
}

impl fmt::Display for OtherProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Extended(program) = self else { return f.write_str("a program of classic BPF") };
        write!(f, "the eBPF program {}", program.id)?;
        let end = program.name.iter().position(|byte| *byte == 0).unwrap_or(program.name.len());
        if end > 0 {
            write!(f, " ({})", String::from_utf8_lossy(&program.name[..end]))?;
        }
        match program.uid {
            Some(uid) => write!(f, " of uid {uid}"),
            None => Ok(()),
        }
    }
}

/// One group of the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SteeredGroup {
    /// Its IP address.
    pub ip: IpAddr,
    /// The index of the device that it is bound to, or 0.
    pub device: u32,
    /// What selects its members; `None` if none of the sockets is in it.
    pub program: Option<GroupProgram>,
}

impl TrafficState {
    /// What selects the members of each group, for the listeners of the caller's network namespace.
    ///
    /// # Errors
    ///
    /// EPERM without CAP_BPF and CAP_PERFMON; ENOENT and EOPNOTSUPP on a kernel without BTF.
    pub fn groups(&self, sockets: &[SocketId]) -> io::Result<Vec<SteeredGroup>> {
        const LISTEN: u32 = 10;
        let states = 1 << LISTEN;
        let facts = walk(IterFilter { states, port: Some(self.key.port), quickly: true })?.facts;
        let numbers = self.numbers();
        let mut groups = Vec::new();
        for index in 0..self.lanes().min(LANES) {
            let is_here = |socket: &&SocketId| {
                let number = socket.cookie.and_then(|cookie| numbers.get(&cookie));
                number
                    .and_then(|number| usize::try_from(*number).ok())
                    .is_some_and(|number| Some(self.cookie(number, index)) == socket.cookie)
            };
            let programs = sockets.iter().filter(is_here).filter_map(|it| facts.get(&it.inode));
            let own = self.program_id(index)?;
            let program = programs.map(|it| it.group_program).next().map(|program| match program {
                None => GroupProgram::Hash,
                Some(id) if Some(id) == own => GroupProgram::Ours,
                Some(id) => GroupProgram::Other(OtherProgram::of(id)),
            });
            let (ip, device) = self.lane_address(index);
            groups.push(SteeredGroup { ip, device, program });
        }
        Ok(groups)
    }

    /// The groups in which another program selects, or the kernel's hash.
    ///
    /// # Errors
    ///
    /// As for [`Self::groups`].
    pub fn replaced(&self, sockets: &[SocketId]) -> io::Result<Vec<SteeredGroup>> {
        let mut groups = self.groups(sockets)?;
        groups.retain(|group| group.program.is_some_and(|it| it != GroupProgram::Ours));
        Ok(groups)
    }

    /// The kernel's number of the program of this lane, if it was loaded.
    fn program_id(&self, index: usize) -> io::Result<Option<u32>> {
        match syscall::open_pinned(&self.directory.join(format!("choose_{index}"))) {
            Ok(program) => Ok(Some(syscall::program_times(program)?.id)),
            Err(error) if super::pins::is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn lane_address(&self, index: usize) -> (IpAddr, u32) {
        let word =
            |at: usize| self.control.u32(control::LANE + index * lane::SIZE + at).load(SeqCst);
        let mut bytes = [0; 16];
        for at in 0..4 {
            bytes[at * 4..at * 4 + 4].copy_from_slice(&word(lane::IP + at * 4).to_ne_bytes());
        }
        let [a, b, c, d, ..] = bytes;
        let is_v4 = word(lane::FAMILY) == libc::AF_INET.cast_unsigned();
        let ip = if is_v4 { IpAddr::from([a, b, c, d]) } else { IpAddr::from(bytes) };
        (ip, word(lane::DEVICE))
    }
}
