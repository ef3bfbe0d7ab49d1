//! Whether the kernel follows the state.

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
    /// Another program: classic BPF, or eBPF.
    Other,
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
                Some(_) => GroupProgram::Other,
            });
            let (ip, device) = self.lane_address(index);
            groups.push(SteeredGroup { ip, device, program });
        }
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
