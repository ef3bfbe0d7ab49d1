//! A process, named so that another one with the same pid is not taken for it: how files and
//! cgroups that outlive their maker are told from those of a living one.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::str::FromStr;

/// Which process. Written `NAMESPACE-PID-START`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessIdentity {
    /// The pid namespace, outside which a pid says nothing.
    namespace: u64,
    pid: u32,
    /// When it was started, in clock ticks since the machine was.
    started: u64,
}

impl ProcessIdentity {
    /// This process.
    ///
    /// # Errors
    /// Where `/proc` cannot be read.
    pub fn ourselves() -> io::Result<Self> {
        Self::of(std::process::id())
    }

    /// The process that has this pid now.
    ///
    /// # Errors
    /// `NotFound`: there is none. Others where `/proc` cannot be read.
    pub fn of(pid: u32) -> io::Result<Self> {
        let started = started(pid).ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { namespace: namespace()?, pid, started })
    }

    /// Its number, in its own pid namespace.
    #[must_use]
    pub fn pid(self) -> u32 {
        self.pid
    }

    /// Whether it has ended for certain.
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

/// `None`: there is no such process, or it has ended and nobody has waited for it, as where the first
/// process of a pid namespace does not.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
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
        let ourselves = ProcessIdentity::ourselves().unwrap();
        assert_eq!(ourselves.to_string().parse(), Ok(ourselves));
        assert!(!ourselves.is_gone() && ourselves.started > 0);
        assert!(ProcessIdentity { started: ourselves.started + 1, ..ourselves }.is_gone());
        assert!(ProcessIdentity { pid: u32::MAX, ..ourselves }.is_gone());
        // Of another namespace's processes nothing is known.
        assert!(!ProcessIdentity { pid: u32::MAX, namespace: 1, ..ourselves }.is_gone());
    }
}
