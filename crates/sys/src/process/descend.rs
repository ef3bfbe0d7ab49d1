//! The processes below a process, from the kernel's lists of children.
//!
//! `/proc/PID/task/TID/children` (Linux 3.5, `CONFIG_PROC_CHILDREN`) lists the children that a thread
//! has started. The time depends on the processes that are found, and not on all processes of the
//! machine. Without these files one pass over `/proc/PID/stat` finds the same.

use std::collections::{BTreeMap, HashSet};
use std::sync::OnceLock;

use super::exempt::exempted;
use super::tree::parent;

/// A process, and the parent under which it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descendant {
    /// The process.
    pub pid: i32,
    /// Its parent.
    pub parent: i32,
}

/// The descendants of a process, parents first. A process that starts or ends meanwhile may be missing,
/// so repeat the call until it returns none.
#[must_use]
pub fn descendants(root: i32) -> Vec<i32> {
    descendants_of(&[root]).into_iter().map(|found| found.pid).collect()
}

/// The descendants of several processes, parents first. Those of the first root come first.
#[must_use]
pub fn descendants_of(roots: &[i32]) -> Vec<Descendant> {
    if !lists_children() {
        return scan(roots);
    }
    let mut seen: HashSet<i32> = roots.iter().copied().collect();
    let mut found = Vec::new();
    let mut next: Vec<i32> = roots.iter().rev().copied().collect();
    while let Some(parent) = next.pop() {
        for pid in children(parent) {
            // A process whose parent ends meanwhile can be listed twice.
            if seen.insert(pid) {
                found.push(Descendant { pid, parent });
                next.push(pid);
            }
        }
    }
    found
}

/// The children of a process. None is missing as long as none of them is reaped meanwhile.
#[must_use]
pub fn children(pid: i32) -> Vec<i32> {
    if !lists_children() {
        return scan(&[pid]).iter().filter(|it| it.parent == pid).map(|it| it.pid).collect();
    }
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut found = Vec::new();
    for thread in threads {
        let Ok(text) = std::fs::read_to_string(thread.path().join("children")) else { continue };
        found.extend(text.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
    }
    let exempt = exempted();
    found.retain(|pid| !exempt.contains(pid));
    found
}

/// The children that the main thread of this process has started, and the orphaned descendants that
/// it has adopted: every child, if no other thread starts processes.
#[must_use]
pub fn own_children() -> Vec<i32> {
    let own_pid = rustix::process::getpid().as_raw_nonzero().get();
    match std::fs::read_to_string(format!("/proc/self/task/{own_pid}/children")) {
        Ok(text) => {
            let exempt = exempted();
            let pids = text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok());
            pids.filter(|pid| !exempt.contains(pid)).collect()
        }
        Err(_) => children(own_pid),
    }
}

/// Whether the kernel lists children.
fn lists_children() -> bool {
    static LISTS: OnceLock<bool> = OnceLock::new();
    let own_pid = rustix::process::getpid().as_raw_nonzero().get();
    let path = format!("/proc/self/task/{own_pid}/children");
    *LISTS.get_or_init(|| std::path::Path::new(&path).exists())
}

/// [`descendants_of`] by one pass over all processes.
fn scan(roots: &[i32]) -> Vec<Descendant> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let exempt = exempted();
    for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
        if !exempt.contains(&pid)
            && let Some(parent) = parent(pid)
        {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut next: Vec<i32> = roots.iter().rev().copied().collect();
    while let Some(parent) = next.pop() {
        let children = children.remove(&parent).unwrap_or_default();
        found.extend(children.iter().map(|pid| Descendant { pid: *pid, parent }));
        next.extend(children);
    }
    found
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn both_ways_find_children_and_grandchildren() {
        let _turn = crate::serial::run_shared();
        let own_pid = std::process::id().cast_signed();
        let mut shell =
            Command::new("sh").args(["-c", "sleep 60 & sleep 61 & wait"]).spawn().unwrap();
        let root = shell.id().cast_signed();
        let begun = Instant::now();
        while descendants(root).len() < 2 && begun.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let sorted = |mut found: Vec<Descendant>| {
            found.sort_by_key(|it| it.pid);
            found
        };
        let (listed, scanned) = (sorted(descendants_of(&[root])), sorted(scan(&[root])));
        let mut direct = children(root);
        let has_shell = children(own_pid).contains(&root);
        for pid in &direct {
            crate::process::signal(*pid, 9).unwrap();
        }
        shell.wait().unwrap();
        direct.sort_unstable();
        assert_eq!(listed, scanned);
        assert_eq!(listed.iter().map(|it| it.pid).collect::<Vec<_>>(), direct);
        assert!(listed.len() == 2 && listed.iter().all(|it| it.parent == root), "{listed:?}");
        assert!(has_shell);
        assert!(children(root).is_empty());
    }
}
