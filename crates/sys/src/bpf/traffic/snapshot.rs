//! What is known about the members of a port, as it is now.

use std::sync::atomic::Ordering::SeqCst;

use rustix::time::ClockId;

use super::layout::{LANES, MEMBERS, control, counter, counters, member, table};
use super::state::TrafficState;

/// A member, as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberCounts {
    /// Its sockets.
    pub cookies: Vec<u64>,
    /// Its number in the maps, below 1,024.
    pub number: u32,
    /// Counts the members that have had this number.
    pub generation: u32,
    /// Connections in ESTABLISHED or CLOSE-WAIT.
    pub open: u32,
    /// Connections that it was chosen for in the last second and that are not established yet.
    pub pending: u32,
    /// How often it was chosen since the rules changed last.
    pub chosen: u64,
    /// How many connections were established.
    pub established: u64,
    /// Whether it is left out because nothing is accepted from its queue.
    pub hung: bool,
    /// Whether it is left out because its queue is full.
    pub full: bool,
    /// Whether it can be chosen.
    pub admitted: bool,
    /// Whether it is chosen among the canaries. False for a member that cannot be chosen.
    pub canary: bool,
}

/// The members of a port and their counts. Each number is exact at one moment, and these differ by
/// microseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrafficCounts {
    /// By number.
    pub members: Vec<MemberCounts>,
    /// Choices that the kernel's hash made, because no member could.
    pub missed: u64,
}

impl TrafficState {
    /// Reads the counts.
    #[must_use]
    pub fn snapshot(&self) -> TrafficCounts {
        let [ordinary, canaries] = [0, 1].map(|class| self.admitted(class));
        let now = rustix::time::clock_gettime(ClockId::MonotonicCoarse);
        let nanoseconds = u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000
            + u64::try_from(now.tv_nsec).unwrap_or(0);
        let members = self.used().map(|number| {
            let counter = |field| self.counter(number, field).load(SeqCst);
            let long = |field| self.long(number, field).load(SeqCst);
            let cookies = (0..LANES).map(|lane| self.cookie(number, lane));
            let hung = counter(counter::HUNG);
            MemberCounts {
                cookies: cookies.filter(|cookie| *cookie != 0).collect(),
                number: u32::try_from(number).unwrap_or(u32::MAX),
                generation: self.member(number, member::GENERATION).load(SeqCst),
                open: counter(counter::OPEN),
                pending: self.pending(number, nanoseconds),
                chosen: long(counter::CHOSEN),
                established: long(counter::ESTABLISHED),
                hung: hung == 1,
                full: hung == 2,
                admitted: ordinary[number] || canaries[number],
                canary: canaries[number],
            }
        });
        TrafficCounts {
            members: members.collect(),
            missed: self.control.u64(control::MISSED).load(SeqCst),
        }
    }

    /// What the next choice will not forget, as `forget` in `bpf/traffic.bpf.c`.
    fn pending(&self, number: usize, nanoseconds: u64) -> u32 {
        let epoch = u32::try_from(nanoseconds >> 29 & u64::from(u32::MAX)).unwrap_or(0);
        let swept = self.control.u32(control::SWEPT).load(SeqCst);
        let at = |epoch: u32| {
            let at = counters::PENDING + 8 * number + if epoch & 1 == 1 { 4 } else { 0 };
            let pending = self.counters.u32(at).load(SeqCst);
            u32::try_from(pending.cast_signed()).unwrap_or(0)
        };
        match epoch.wrapping_sub(swept) {
            0 => at(swept) + at(!swept),
            1 => at(swept),
            _ => 0,
        }
    }

    /// The members that have an entry in the table that is read for this class.
    fn admitted(&self, class: u32) -> Vec<bool> {
        let active = self.control.u32(control::ACTIVE).load(SeqCst) & 1;
        let mut bytes = vec![0; table::SIZE];
        if self.tables.lookup(&(active * 2 + class).to_ne_bytes(), &mut bytes).is_err() {
            return vec![false; MEMBERS];
        }
        let (positions, _) = bytes[table::AT..table::AT + 2 * MEMBERS].as_chunks::<2>();
        positions.iter().map(|position| *position != [0, 0]).collect()
    }
}
