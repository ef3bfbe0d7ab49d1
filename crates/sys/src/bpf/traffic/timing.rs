//! How long a choice takes, by the kernel's own statistics.

use std::io;
use std::os::fd::OwnedFd;

use super::layout::LANES;
use super::state::TrafficState;
use crate::bpf::syscall;

/// Has the kernel measure programs until it is dropped, about 70 ns a run of each program included
/// (`BPF_ENABLE_STATS`, Linux 5.8).
#[derive(Debug)]
pub struct ProgramTimer {
    _enabled: OwnedFd,
}

impl ProgramTimer {
    /// Begins to measure.
    ///
    /// # Errors
    ///
    /// EPERM without CAP_SYS_ADMIN.
    pub fn start() -> io::Result<Self> {
        Ok(Self { _enabled: syscall::enable_stats()? })
    }
}

/// The runs of the programs that choose, on every address of a port, since each was loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChoiceTimes {
    /// How many were measured.
    pub runs: u64,
    /// The sum of their times.
    pub nanoseconds: u64,
}

impl TrafficState {
    /// The measured choices: 0 unless a [`ProgramTimer`] measured some.
    ///
    /// # Errors
    ///
    /// Errors of `bpf(BPF_OBJ_GET_INFO_BY_FD)`.
    pub fn choice_times(&self) -> io::Result<ChoiceTimes> {
        let mut times = ChoiceTimes::default();
        for lane in 0..LANES {
            let Ok(program) = syscall::open_pinned(&self.directory.join(format!("choose_{lane}")))
            else {
                continue;
            };
            let measured = syscall::program_times(program)?;
            times.runs += measured.runs;
            times.nanoseconds += measured.nanoseconds;
        }
        Ok(times)
    }
}
