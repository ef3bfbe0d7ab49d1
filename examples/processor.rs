//! Pins a thread to the processor of its member.

use std::io;

/// Pins the calling thread to a processor, if the member has one, so that connections are answered
/// where the kernel handles their packets: sched_setaffinity(2).
#[cfg(target_os = "linux")]
pub(crate) fn pin(cpu: Option<usize>) -> io::Result<()> {
    let Some(cpu) = cpu else { return Ok(()) };
    let mut set = rustix::thread::CpuSet::new();
    if cpu < rustix::thread::CpuSet::MAX_CPU {
        set.set(cpu);
    }
    rustix::thread::sched_setaffinity(None, &set).map_err(Into::into)
}

/// Other systems give members no processors.
#[cfg(not(target_os = "linux"))]
pub(crate) fn pin(_cpu: Option<usize>) -> io::Result<()> {
    Ok(())
}
