//! What a supervisor holds: descriptors and memory.

use std::time::Duration;

use super::{Process, eventually};

/// What a process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Footprint {
    pub(crate) descriptors: usize,
    /// Resident memory. The kernel counts it no more exactly than some hundred KiB.
    pub(crate) kib: u64,
}

/// The size once the supervisor has let go of the last bind: when the descriptors have stopped
/// changing for longer than it follows one (two seconds), or are as many as expected for that long.
/// Where they never get there, it is what they were in the end.
pub(crate) fn settled_footprint(run: &Process, expected: Option<Footprint>) -> Footprint {
    const QUIET: u32 = 25;
    let (mut last, mut quiet) = (descriptors(run), 0);
    eventually(|| {
        std::thread::sleep(Duration::from_millis(90));
        let now = descriptors(run);
        quiet = if now == last { quiet + 1 } else { 0 };
        last = now;
        let is_expected = expected.is_none_or(|expected| expected.descriptors == now);
        (quiet >= QUIET && is_expected).then_some(())
    });
    Footprint { descriptors: last, kib: memory(run) }
}

fn descriptors(run: &Process) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", run.pid())).unwrap().count()
}

fn memory(run: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", run.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}
