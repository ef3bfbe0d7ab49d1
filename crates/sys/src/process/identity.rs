//! Process identities that survive the reuse of pids. Names of files and cgroups contain them, so
//! that leftovers of dead processes can be found.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::str::FromStr;

use super::tree::after_name;

/// A process among all processes since the machine was booted. Displayed as
/// `NAMESPACE-PID-START`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessIdentity {
    /// The inode of the pid namespace in which `pid` is valid.
    namespace: u64,
    pid: u32,
    /// When the process started, in clock ticks after the boot.
    started: u64,
}

impl ProcessIdentity {
    /// The identity of this process.
    ///
    /// # Errors
    /// Errors of reading `/proc`.
    pub fn current() -> io::Result<Self> {
        Self::of(std::process::id())
    }

    /// The process that has this pid now.
    ///
    /// # Errors
    /// `NotFound`: no process has the pid. Errors of reading `/proc`.
    pub fn of(pid: u32) -> io::Result<Self> {
        let started = started(pid).ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { namespace: namespace()?, pid, started })
    }

    /// The process id, in the pid namespace of the process.
    #[must_use]
    pub fn pid(self) -> u32 {
        self.pid
    }

    /// Whether the process has certainly ended. `false` for a process of another pid namespace.
    #[must_use]
    pub fn is_gone(self) -> bool {
        namespace().is_ok_and(|here| here == self.namespace)
            && started(std::process::id()).is_some()
            && started(self.pid) != Some(self.started)
    }
}

fn namespace() -> io::Result<u64> {
    fs::metadata("/proc/self/ns/pid").map(|namespace| namespace.ino())
}

/// The start time of a process. `None`: no such process, or a zombie, which stays forever where the
/// init process of a pid namespace does not reap.
fn started(pid: u32) -> Option<u64> {
    let fields = after_name(&format!("/proc/{pid}/stat"))?;
    let mut fields = fields.split_whitespace();
    let ended = matches!(fields.next()?, "Z" | "X");
    fields.nth(18)?.parse().ok().filter(|_| !ended)
}

impl fmt::Display for ProcessIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.namespace, self.pid, self.started)
    }
}

impl FromStr for ProcessIdentity {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut numbers = text.split('-');
        let mut next = || numbers.next().ok_or(());
        let identity = Self {
            namespace: next()?.parse().map_err(drop)?,
            pid: next()?.parse().map_err(drop)?,
            started: next()?.parse().map_err(drop)?,
        };
        numbers.next().is_none().then_some(identity).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start() {
        let current = ProcessIdentity::current().unwrap();
        assert_eq!(current.to_string().parse(), Ok(current));
        assert!(!current.is_gone() && current.started > 0);
        assert!(ProcessIdentity { started: current.started + 1, ..current }.is_gone());
        assert!(ProcessIdentity { pid: u32::MAX, ..current }.is_gone());
        // A process of another namespace may be alive.
        assert!(!ProcessIdentity { pid: u32::MAX, namespace: 1, ..current }.is_gone());
    }
}
