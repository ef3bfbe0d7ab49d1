//! Counts connections that were there before the programs.
//!
//! No program has seen to which listener they belonged. The member is the one of the process that has the
//! connection open, or of its nearest ancestor that has a member. Their changes of state are not reported,
//! so each is counted until its last descriptor is closed. One in an accept queue is nobody's yet, and
//! counted by a later call.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::atomic::Ordering::SeqCst;

use super::error::TrafficError;
use super::layout::{COUNTED, COUNTED_UNTIL_CLOSE, RawMark, counter, counters, mark, member};
use super::state::TrafficState;
use crate::bpf::socket_iter::{IterFilter, walk};
use crate::int_hash::IntSet;
use crate::netlink::{InspectError, list_established};
use crate::proc::fd_scan::{FdHolders, scan_all};
use crate::process::parent;
use crate::socket::raw_option::tcp_info;
use crate::socket::worker_access::SocketAccess;
use crate::socket::worker_socket::WorkerSocket;

/// `TCP_ESTABLISHED` and `TCP_CLOSE_WAIT`.
const OPEN: [u8; 2] = [1, 8];
/// How far above a process its member is looked for.
const ANCESTORS: usize = 8;

impl TrafficState {
    /// Counts the connections of the port that are not counted yet, for the members of their processes
    /// (`PlannedMember::pid`, or the process that called listen). Returns how many were counted. A few
    /// microseconds for each. Only the caller's network namespace is looked at.
    ///
    /// # Errors
    ///
    /// See [`InspectError`].
    pub fn count_existing(&self) -> Result<usize, InspectError> {
        let open = list_established(&BTreeSet::from([self.key.port]))?;
        let inodes: IntSet<u64> =
            open.iter().map(|it| it.inode).filter(|inode| *inode != 0).collect();
        if inodes.is_empty() {
            return Ok(0);
        }
        let holders = self.holders(&inodes);
        let members = self.members_by_process();
        let mut counted = 0;
        for (inode, holders) in holders.of.iter().filter(|(inode, _)| inodes.contains(inode)) {
            let found = holders.iter().find_map(|holder| {
                let above = std::iter::successors(Some(holder.pid), |pid| parent(*pid));
                let number = above.take(ANCESTORS).find_map(|pid| members.get(&pid))?;
                Some((holder, *number))
            });
            let Some((holder, number)) = found else { continue };
            // A process that ended has closed its connections.
            if let Ok(SocketAccess::Socket(socket)) =
                WorkerSocket::from_thread(holder.pid, holder.descriptor)
                && socket.inode() == *inode
            {
                counted += usize::from(self.count_one(&socket, number).is_ok_and(|it| it));
            }
        }
        Ok(counted)
    }

    fn holders(&self, inodes: &IntSet<u64>) -> FdHolders {
        let states = OPEN.iter().map(|state| 1 << state).sum();
        let walked = walk(IterFilter { states, port: Some(self.key.port), quickly: false });
        walked.map_or_else(|_| scan_all(inodes), |walked| walked.holders)
    }

    fn members_by_process(&self) -> BTreeMap<i32, usize> {
        let mut members = BTreeMap::new();
        for number in self.used() {
            let owner = self.members.u64(number * member::SIZE + member::OWNER).load(SeqCst);
            if let Ok(pid) = i32::try_from(owner)
                && pid != 0
            {
                members.entry(pid).or_insert(number);
            }
        }
        members
    }

    fn count_one(&self, socket: &WorkerSocket, number: usize) -> Result<bool, TrafficError> {
        let wrong = |error| TrafficError::Socket("bpf(BPF_MAP_UPDATE_ELEM)", socket.inode(), error);
        let key = socket.as_fd().as_raw_fd().to_ne_bytes();
        let mut present = RawMark::default();
        if self.marks.lookup(&key, &mut present).is_ok() {
            return Ok(false);
        }
        let generation = self.member(number, member::GENERATION).load(SeqCst);
        let load = self.counters.u32(counters::LOADS + 8 * number);
        let counts = [self.counter(number, counter::OPEN), load];
        // Before the mark: the program that sees the close takes it back.
        for count in counts {
            count.fetch_add(1, SeqCst);
        }
        let flags = COUNTED | COUNTED_UNTIL_CLOSE;
        let of = u32::try_from(number).unwrap_or(u32::MAX);
        let marked = self.marks.update(&key, &mark(of, generation, 0, flags));
        // This process has it open, so that nobody closes it last meanwhile; but the peer may have.
        let state = tcp_info(socket).and_then(|info| info.first().copied());
        let is_open = state.is_some_and(|state| OPEN.contains(&state));
        if marked.is_ok() && is_open {
            return Ok(true);
        }
        for count in counts {
            count.fetch_sub(1, SeqCst);
        }
        if marked.is_ok() {
            let _ = self.marks.delete(&key);
        }
        marked.map_err(wrong).map(|()| false)
    }
}
