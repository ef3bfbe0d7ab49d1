//! The descriptors and the memory of a supervisor.

use std::time::Duration;

use super::{Process, eventually};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Footprint {
    pub(crate) descriptors: usize,
    /// Resident memory in KiB. The kernel's counter is off by up to some hundred KiB.
    pub(crate) kib: u64,
}

/// The footprint of an idle supervisor. The supervisor follows a bind for up to two seconds, so the
/// number of descriptors must be stable for longer than that, and equal to `expected` if that is
/// given. After the timeout: the last footprint.
pub(crate) fn settled_footprint(run: &Process, expected: Option<Footprint>) -> Footprint {
    const STABLE_POLLS: u32 = 25;
    let (mut last, mut stable) = (descriptors(run), 0);
    eventually(|| {
        std::thread::sleep(Duration::from_millis(90));
        let now = descriptors(run);
        stable = if now == last { stable + 1 } else { 0 };
        last = now;
        let is_expected = expected.is_none_or(|expected| expected.descriptors == now);
        (stable >= STABLE_POLLS && is_expected).then_some(())
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
