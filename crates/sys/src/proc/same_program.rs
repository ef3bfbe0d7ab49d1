//! The executed file and the ancestors of a process, which identify processes of one program.

use std::os::unix::fs::MetadataExt as _;

use sameport_policy::holder::MOST_ANCESTORS;

use crate::process::parent;

/// Device and inode number of the file that a process executes; `None` if it exited or cannot be read:
/// this needs permission to ptrace it (same user and dumpable, or CAP_SYS_PTRACE).
#[must_use]
pub fn executable_id(pid: i32) -> Option<(u64, u64)> {
    let file = std::fs::metadata(format!("/proc/{pid}/exe")).ok()?;
    Some((file.dev(), file.ino()))
}

/// The parent of a process, its parent and so on, in the caller's pid namespace. Needs no privilege.
#[must_use]
pub fn ancestors(pid: i32) -> Vec<i32> {
    let up = |pid: &i32| parent(*pid).filter(|parent| *parent > 0);
    std::iter::successors(up(&pid), up).take(MOST_ANCESTORS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_below_us_and_executes_another_file() {
        let _turn = crate::serial::run_shared();
        let ourselves = std::process::id().cast_signed();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id().cast_signed();
        let (above, file) = (ancestors(pid), executable_id(pid));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(above.first(), Some(&ourselves));
        assert_eq!(above[1..], ancestors(ourselves));
        assert!(file.is_some() && file != executable_id(ourselves));
        assert_eq!((ancestors(pid), executable_id(pid)), (vec![], None));
    }
}
