//! Threads that receive no signal of the process.

use std::io;

use super::signal_set::SignalSet;

/// Starts a thread with every signal blocked, so that a signal to the process goes to a thread that
/// handles it, whatever the mask of this thread is. `stack` is in bytes.
///
/// # Errors
///
/// EAGAIN: a limit of processes or memory is reached.
pub(crate) fn start(
    name: &str,
    stack: usize,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    let all: Vec<i32> = (1..=libc::SIGRTMAX()).collect();
    // The new thread inherits the mask.
    let before = SignalSet::new(&all).block()?;
    let builder = std::thread::Builder::new().name(name.to_owned()).stack_size(stack);
    let started = builder.spawn(work).map(drop);
    before.set_mask()?;
    started
}
