//! Finds the owners of sockets in one pass over `/proc/PID/fd`.
//!
//! A scan of all processes reads the descriptor table of each main thread. It misses threads with a
//! table of their own (`unshare(CLONE_FILES)`), and processes whose main thread has exited. A scan of
//! given processes reads every table.

use std::collections::HashSet;
use std::ffi::CStr;
use std::hash::{BuildHasher, BuildHasherDefault};
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags, RawDir};
use rustix::io::Errno;
use sameport_policy::model::Process;

use super::details::{BootClock, read_details};
use crate::int_hash::{IntMap, IntSet};

/// Size of the buffer of `getdents64` in bytes: about a thousand entries.
const ENTRIES: usize = 32 * 1024;
/// More threads contend for locks of the kernel.
const MOST_THREADS: usize = 4;
/// Number of processes whose scan takes as long as starting a thread.
const WORTH_A_THREAD: usize = 32;
/// Size of the buffer of a link in bytes: `socket:[4294967295]` fits, and longer links are not sockets.
const LINK: usize = 32;

/// A descriptor of a process that refers to a wanted socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FdHolder {
    pub(crate) pid: i32,
    pub(crate) descriptor: i32,
}

/// The owners of sockets.
#[derive(Debug, Default)]
pub(crate) struct FdHolders {
    /// Owners by inode, ordered by pid; each process once.
    pub(crate) of: IntMap<u64, Vec<FdHolder>>,
    /// Whether the descriptors of every process could be read.
    pub(crate) all_read: bool,
}

impl FdHolders {
    fn add(&mut self, other: Self) {
        self.all_read &= other.all_read;
        for (inode, holders) in other.of {
            self.of.entry(inode).or_default().extend(holders);
        }
    }

    /// Orders the owners by pid, and keeps the first descriptor of each process.
    pub(crate) fn sort(&mut self) {
        for holders in self.of.values_mut() {
            holders.sort_unstable_by_key(|holder| (holder.pid, holder.descriptor));
            holders.dedup_by_key(|holder| holder.pid);
        }
    }
}

/// Reads every descriptor of every process and keeps those of the wanted inodes. `all_read` is false if a
/// process could not be read, but not if it exited. Most of the time is spent in the kernel, which
/// creates an entry of `/proc` for each descriptor, so several threads share the work.
pub(crate) fn scan_all(wanted: &IntSet<u64>) -> FdHolders {
    let mut found = FdHolders {
        of: IntMap::with_capacity_and_hasher(wanted.len(), BuildHasherDefault::default()),
        all_read: true,
    };
    if wanted.is_empty() {
        return found;
    }
    let Ok(pids) = processes() else { return FdHolders { all_read: false, ..found } };
    // With `hidepid` the processes of other users are missing without an error. Pid 1 always exists.
    found.all_read = directory(CWD, "/proc/1").is_ok();
    let next = AtomicUsize::new(0);
    let share = || scan_tables(wanted, std::iter::from_fn(|| pids.get(next.fetch_add(1, Relaxed))));
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let others = processors.min(MOST_THREADS).min(pids.len() / WORTH_A_THREAD).saturating_sub(1);
    std::thread::scope(|scope| {
        let started = || std::thread::Builder::new().spawn_scoped(scope, share).ok();
        // If no thread can be started, this one does all the work.
        let threads: Vec<_> = (0..others).map_while(|_| started()).collect();
        found.add(share());
        for thread in threads {
            found.add(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
    });
    found.sort();
    found
}

/// The pids of all processes.
fn processes() -> Result<Vec<i32>, Errno> {
    let proc = directory(CWD, "/proc")?;
    let mut buffer = vec![MaybeUninit::uninit(); ENTRIES];
    let mut entries = RawDir::new(&proc, &mut buffer);
    let mut pids = Vec::new();
    while let Some(entry) = entries.next() {
        pids.extend(number(entry?.file_name()));
    }
    Ok(pids)
}

/// Reads every descriptor of these processes.
fn scan_tables<'a>(wanted: &IntSet<u64>, pids: impl Iterator<Item = &'a i32>) -> FdHolders {
    let mut found = FdHolders { of: IntMap::default(), all_read: true };
    let Ok(proc) = directory(CWD, "/proc") else {
        return FdHolders { all_read: false, ..found };
    };
    let mut buffer = vec![MaybeUninit::uninit(); ENTRIES];
    for pid in pids {
        match scan_table(&proc, &format!("{pid}/fd"), *pid, &mut buffer, wanted, &mut found) {
            Ok(()) | Err(Errno::NOENT | Errno::SRCH) => {}
            Err(_) => found.all_read = false,
        }
    }
    found
}

/// Reads every descriptor table of every thread of these processes.
pub(crate) fn scan_processes<S: BuildHasher>(wanted: &HashSet<u64, S>, pids: &[i32]) -> FdHolders {
    let mut found = FdHolders { of: IntMap::default(), all_read: true };
    let mut buffer = vec![MaybeUninit::uninit(); ENTRIES];
    let Ok(proc) = directory(CWD, "/proc") else {
        found.all_read = false;
        return found;
    };
    for pid in pids {
        let threads = threads_with_a_table(*pid);
        // With `hidepid`, another user's process looks like one that exited.
        found.all_read &= !threads.is_empty() || crate::process::is_gone(*pid);
        for tid in threads {
            let table = format!("{pid}/task/{tid}/fd");
            match scan_table(&proc, &table, *pid, &mut buffer, wanted, &mut found) {
                Ok(()) | Err(Errno::NOENT | Errno::SRCH) => {}
                // Only root can read the table of a zombie.
                Err(_) if crate::process::thread_has_ended(*pid, tid) => {}
                Err(_) => found.all_read = false,
            }
        }
    }
    found.sort();
    found
}

/// The main thread, and the threads that do not share its table or cannot be compared (kcmp(2)).
fn threads_with_a_table(pid: i32) -> Vec<i32> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut threads: Vec<_> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    threads.retain(|tid| {
        *tid == pid || crate::process::fd_table::share_fd_table(pid, *tid) != Ok(true)
    });
    threads
}

fn scan_table<S: BuildHasher>(
    proc: &OwnedFd,
    table: &str,
    pid: i32,
    buffer: &mut [MaybeUninit<u8>],
    wanted: &HashSet<u64, S>,
    found: &mut FdHolders,
) -> Result<(), Errno> {
    let table = directory(proc, table)?;
    let mut link = [0; LINK];
    let mut entries = RawDir::new(&table, buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let Some(descriptor) = number(entry.file_name()) else { continue };
        let length = match rustix::fs::readlinkat_raw(&table, entry.file_name(), &mut link[..]) {
            Ok(length) => length,
            // Closed since the directory was read.
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(errno),
        };
        if let Some(inode) = socket_inode(&link[..length])
            && wanted.contains(&inode)
        {
            found.of.entry(inode).or_default().push(FdHolder { pid, descriptor });
        }
    }
    Ok(())
}

fn directory(at: impl rustix::fd::AsFd, path: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(at, path, flags, Mode::empty())
}

/// A file name as a number; `None` for `self`, `net` or `.`.
fn number(name: &CStr) -> Option<i32> {
    name.to_str().ok()?.parse().ok()
}

/// `socket:[123]` → 123.
fn socket_inode(link: &[u8]) -> Option<u64> {
    let digits = link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Processes by pid, each read once.
#[derive(Default)]
pub(crate) struct ProcessCache {
    known: IntMap<i32, Option<Process>>,
    names: IntMap<i32, String>,
    details: Option<BootClock>,
}

impl ProcessCache {
    /// Starts with these names of processes. `details`: whether to read process details.
    pub(crate) fn new(names: IntMap<i32, String>, details: bool) -> Self {
        Self { names, details: details.then(BootClock::read), ..Self::default() }
    }

    /// The process; `None` if it exited. The name is empty if it cannot be read; bytes that are not UTF-8
    /// are replaced.
    pub(crate) fn process(&mut self, pid: i32) -> Option<Process> {
        let clock = self.details;
        let read = || {
            let details = clock.map(|clock| read_details(pid, clock));
            let named = self.names.remove(&pid).map(|name| Process::new(pid, name));
            named.or_else(|| read_process(pid)).map(|process| Process { details, ..process })
        };
        self.known.entry(pid).or_insert_with(read).clone()
    }
}

fn read_process(pid: i32) -> Option<Process> {
    let program = match std::fs::read(format!("/proc/{pid}/comm")) {
        Ok(bytes) => {
            String::from_utf8_lossy(bytes.strip_suffix(b"\n").unwrap_or(&bytes)).into_owned()
        }
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOENT | libc::ESRCH) => return None,
            _ => String::new(),
        },
    };
    Some(Process::new(pid, program))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_links_to_sockets_have_an_inode() {
        let cases: [(&[u8], Option<u64>); 8] = [
            (b"socket:[123]", Some(123)),
            (b"socket:[4294967295]", Some(4_294_967_295)),
            (b"socket:[]", None),
            (b"socket:[123", None),
            (b"socket:[12x]", None),
            (b"pipe:[123]", None),
            (b"/tmp/socket:[123]", None),
            (b"socket:[12345678901234567890123", None),
        ];
        for (link, expected) in cases {
            assert_eq!(socket_inode(link), expected, "{}", link.escape_ascii());
        }
    }

    #[test]
    fn finds_this_process_by_its_own_socket_and_once() {
        use std::os::linux::fs::MetadataExt as _;
        let _alone = crate::serial::run_exclusive();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let twin = listener.try_clone().unwrap();
        let file = std::fs::File::from(OwnedFd::from(twin.try_clone().unwrap()));
        let inode = file.metadata().unwrap().st_ino();

        let found = scan_all(&IntSet::from_iter([inode]));

        let pids: Vec<_> = found.of[&inode].iter().map(|holder| holder.pid).collect();
        assert_eq!(pids, [i32::try_from(std::process::id()).unwrap()]);
    }

    #[test]
    fn an_ended_process_has_no_name() {
        let _turn = crate::serial::run_shared();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        child.wait().unwrap();
        assert_eq!(ProcessCache::default().process(pid), None);
    }

    #[test]
    fn nothing_wanted_is_nothing_missed() {
        assert!(scan_all(&IntSet::default()).all_read);
    }
}
