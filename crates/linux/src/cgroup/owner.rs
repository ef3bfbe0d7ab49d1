//! A process, named so that another one with the same pid is not taken for it: how files and
//! cgroups that outlive their maker are told from those of a living one.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::str::FromStr;

/// Written `NAMESPACE-PID-START`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    /// The pid namespace, outside which a pid says nothing.
    namespace: u64,
    pid: u32,
    /// When it was started, in clock ticks since the machine was.
    started: u64,
}

impl Owner {
    pub(super) fn ourselves() -> io::Result<Self> {
        let pid = std::process::id();
        let started = started(pid).ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { namespace: namespace()?, pid, started })
    }

    /// Whether it has ended for certain.
    pub(super) fn is_gone(self) -> bool {
        namespace().is_ok_and(|here| here == self.namespace)
            && started(std::process::id()).is_some()
            && started(self.pid) != Some(self.started)
    }
}

fn namespace() -> io::Result<u64> {
    fs::metadata("/proc/self/ns/pid").map(|namespace| namespace.ino())
}

/// `None`: there is no such process.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.namespace, self.pid, self.started)
    }
}

impl FromStr for Owner {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut numbers = text.split('-');
        let mut next = || numbers.next().ok_or(());
        let owner = Self {
            namespace: next()?.parse().map_err(drop)?,
            pid: next()?.parse().map_err(drop)?,
            started: next()?.parse().map_err(drop)?,
        };
        numbers.next().is_none().then_some(owner).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start() {
        let ourselves = Owner::ourselves().unwrap();
        assert_eq!(ourselves.to_string().parse(), Ok(ourselves));
        assert!(!ourselves.is_gone() && ourselves.started > 0);
        assert!(Owner { started: ourselves.started + 1, ..ourselves }.is_gone());
        assert!(Owner { pid: u32::MAX, ..ourselves }.is_gone());
        // Of another namespace's processes nothing is known.
        assert!(!Owner { pid: u32::MAX, namespace: 1, ..ourselves }.is_gone());
    }
}
