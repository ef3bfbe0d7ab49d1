//! Which of the processes that have a socket open wait for its events.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::Path;

use rustix::net::{AddressFamily, SocketType};

/// The processes among `pids` that have one of these sockets in an epoll set, by inode. A server that opens
/// the listeners of its workers, as nginx does for `reuseport`, hands every one of them to every worker:
/// only the set says which worker accepts from which.
///
/// A process that waits in accept(2), poll(2) or select(2), or by io_uring, is not found, nor one that the
/// caller may not trace (ptrace(2)). Reads the links of `/proc/PID/fd` and the sets in `/proc/PID/fdinfo`
/// (proc(5); with inodes since Linux 4.13): about 2 µs for each descriptor.
#[must_use]
pub fn watchers_of(inodes: &HashSet<u64>, pids: &[i32]) -> HashMap<u64, BTreeSet<i32>> {
    let mut watchers: HashMap<u64, BTreeSet<i32>> = HashMap::new();
    let Some(device) = socket_device() else { return watchers };
    for pid in pids {
        for text in epoll_sets(*pid) {
            for inode in watched(&text, device).filter(|inode| inodes.contains(inode)) {
                watchers.entry(inode).or_default().insert(*pid);
            }
        }
    }
    watchers
}

/// The device of every socket's inode, as the kernel numbers it: a file of another device can have the same
/// inode number.
fn socket_device() -> Option<u64> {
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).ok()?;
    let device = rustix::fs::fstat(&socket).ok()?.st_dev;
    Some(u64::from(rustix::fs::major(device)) << 20 | u64::from(rustix::fs::minor(device)))
}

/// The text of each epoll set that a process has open.
fn epoll_sets(pid: i32) -> impl Iterator<Item = String> {
    let directory = format!("/proc/{pid}");
    let entries = fs::read_dir(format!("{directory}/fd")).into_iter().flatten().flatten();
    entries.filter_map(move |entry| {
        let target = fs::read_link(entry.path()).ok()?;
        let is_set = target == Path::new("anon_inode:[eventpoll]");
        let name = entry.file_name();
        is_set.then(|| fs::read_to_string(format!("{directory}/fdinfo/{}", name.to_str()?)).ok())?
    })
}

/// The inodes of this device in the text of a set:
/// `tfd:        3 events:     2019 data:     562ab297ed50  pos:0 ino:12423dad sdev:9`.
fn watched(text: &str, device: u64) -> impl Iterator<Item = u64> {
    text.lines().filter(|line| line.starts_with("tfd:")).filter_map(move |line| {
        let field = |name| {
            let value = line.split_whitespace().find_map(|word| word.strip_prefix(name))?;
            u64::from_str_radix(value, 16).ok()
        };
        field("ino:").filter(|_| field("sdev:") == Some(device))
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsRawFd as _;

    use rustix::event::epoll;

    use super::*;

    fn inode(listener: &TcpListener) -> u64 {
        let link = fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap();
        let link = link.to_str().unwrap();
        link.trim_start_matches("socket:[").trim_end_matches(']').parse().unwrap()
    }

    #[test]
    fn the_process_with_the_socket_in_a_set_is_found() {
        let listeners = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let [watched, other] = listeners.each_ref().map(inode);
        let set = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let data = epoll::EventData::new_u64(0);
        epoll::add(&set, &listeners[0], data, epoll::EventFlags::IN).unwrap();
        let own = std::process::id().cast_signed();
        let found = watchers_of(&HashSet::from([watched, other]), &[own, i32::MAX]);
        assert_eq!(found, HashMap::from([(watched, BTreeSet::from([own]))]));
    }

    #[test]
    fn an_inode_of_another_device_is_none() {
        let text = "pos:\t0\nflags:\t02\ntfd:        3 events:     2019 data:     55  pos:0 ino:1f sdev:9\n\
                    tfd:        4 events: 19 data: 0  pos:0 ino:20 sdev:10\ntfd: 5 events: 19 data: 0\n";
        assert_eq!(watched(text, 9).collect::<Vec<_>>(), [0x1f]);
    }
}
