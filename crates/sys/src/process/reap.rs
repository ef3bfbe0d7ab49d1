//! Reaping children that have ended.

use rustix::io::Errno;
use rustix::process::WaitOptions;
use sameport_policy::lifecycle::exit::Exit;

use super::descend::children;
use super::exempt::{forget_exempt, has_exempt};

/// A reaped child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedChild {
    /// Its former process id, which the kernel may reuse.
    pub pid: i32,
    /// Its exit code or terminating signal.
    pub exit: Exit,
}

/// Reaps every child that has ended (`waitpid(2)`). Returns them, and whether a child is left that
/// `exempt` does not except.
///
/// # Errors
///
/// Errors of `waitpid(2)` other than ECHILD and EINTR.
pub fn reap() -> Result<(Vec<EndedChild>, bool), Errno> {
    let mut ended = Vec::new();
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                let number = |n: i32| u8::try_from(n).unwrap_or(u8::MAX);
                let exit = match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Exit::Code(number(code)),
                    (None, Some(signal)) => Exit::Signal(number(signal)),
                    (None, None) => continue,
                };
                forget_exempt(pid.as_raw_nonzero().get());
                ended.push(EndedChild { pid: pid.as_raw_nonzero().get(), exit });
            }
            Ok(None) => {
                let only_exempt = has_exempt()
                    && children(rustix::process::getpid().as_raw_nonzero().get()).is_empty();
                return Ok((ended, !only_exempt));
            }
            Err(Errno::CHILD) => return Ok((ended, false)),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}
