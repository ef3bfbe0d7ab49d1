//! Descriptors of this process, of threads with their own table, and of children.

use std::collections::HashSet;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use rustix::event::epoll;
use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use socket2::{Domain, Socket, Type};

use super::*;
use crate::inspect;
use crate::serial::run_shared;
use crate::socket::own_sockets::{duplicate, until};

fn is_open(socket: &WorkerSocket, pids: &[i32]) -> bool {
    !inspect::open_in(&HashSet::from([socket.inode()]), pids).unwrap().is_empty()
}

fn ourselves() -> i32 {
    std::process::id().cast_signed()
}

/// The alias found in a thread with its own descriptor table, which has no descriptors of other tests
/// besides those from before.
fn alias_after(with: impl FnOnce(&Socket) -> Vec<Box<dyn AsFd + Send>> + Send) -> Option<FdAlias> {
    std::thread::scope(|scope| {
        let (give, take) = mpsc::channel();
        let (go, end) = mpsc::channel::<()>();
        scope.spawn(move || {
            own_table();
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            let aliases = with(&socket);
            give.send((rustix::thread::gettid().as_raw_nonzero().get(), socket.as_raw_fd()))
                .unwrap();
            end.recv().unwrap();
            drop(aliases);
        });
        let (tid, fd) = take.recv().unwrap();
        let crate::socket::worker_access::SocketAccess::Socket(socket) =
            WorkerSocket::from_thread(tid, fd).unwrap()
        else {
            panic!("not reached")
        };
        let alias = socket.find_alias(tid, fd).unwrap();
        go.send(()).unwrap();
        alias
    })
}

/// Gives this thread its own copy of the descriptor table.
#[expect(unsafe_code, reason = "the thread returns no descriptor")]
fn own_table() {
    // SAFETY: this thread alone uses and closes the descriptors that it opens from here on, and does
    // not touch the copied ones.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::FILES) }.unwrap();
}

fn epoll_with(sockets: &[&dyn AsFd]) -> Box<dyn AsFd + Send> {
    let set = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    for socket in sockets {
        epoll::add(&set, socket.as_fd(), epoll::EventData::new_u64(0), epoll::EventFlags::IN)
            .unwrap();
    }
    Box::new(set)
}

#[test]
fn epoll_sets_and_duplicates_are_aliases() {
    let _turn = run_shared();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(alias_after(|_| Vec::new()), None);
    assert_eq!(alias_after(|_| vec![epoll_with(&[&other])]), None);
    assert_eq!(alias_after(|socket| vec![epoll_with(&[socket])]), Some(FdAlias::Epoll));
    assert_eq!(alias_after(|socket| vec![epoll_with(&[&other, socket])]), Some(FdAlias::Epoll));
    let copied = |socket: &Socket| -> Vec<Box<dyn AsFd + Send>> {
        vec![Box::new(socket.try_clone().unwrap())]
    };
    assert_eq!(alias_after(copied), Some(FdAlias::Duplicate));
    // Added through a descriptor that has been closed since.
    let by_another = |socket: &Socket| {
        let copy = socket.try_clone().unwrap();
        vec![epoll_with(&[&copy])]
    };
    assert_eq!(alias_after(by_another), Some(FdAlias::Epoll));
}

#[test]
fn an_epoll_entry_is_matched_by_inode_or_by_descriptor_number() {
    let _turn = run_shared();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let status = rustix::fs::fstat(&socket).unwrap();
    let (inode, device) = (status.st_ino, kernel_device(&status));
    let line = |fd: i32, inode, device| {
        format!(
            "pos:\t0\nflags:\t02\ntfd: {fd:8} events:       19 data:                5  pos:0 ino:{inode:x} sdev:{device:x}\n"
        )
    };
    for (info, fd, expected) in [
        (line(7, inode, device), 7, true),
        (line(8, inode, device), 7, true),
        (line(7, inode + 1, device), 7, false),
        (line(7, inode, device + 1), 7, false),
        (line(8, inode + 1, device) + &line(9, inode, device), 7, true),
        ("pos:\t0\nflags:\t02\n".to_owned(), 7, false),
        ("tfd:        7 events:       19 data:                5\n".to_owned(), 7, true),
        ("tfd:       17 events:       19 data:                5\n".to_owned(), 7, false),
    ] {
        assert_eq!(epoll_contains(&info, &status, fd), expected, "{info}");
    }
}

#[test]
fn close_on_exec_is_read() {
    let _turn = run_shared();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for flags in [FdFlags::CLOEXEC, FdFlags::empty()] {
        fcntl_setfd(&socket, flags).unwrap();
        let closes = closes_on_exec(ourselves(), socket.as_raw_fd()).unwrap();
        assert_eq!(closes, fcntl_getfd(&socket).unwrap().contains(FdFlags::CLOEXEC));
    }
    assert_eq!(closes_on_exec(ourselves(), i32::MAX), Err(Errno::BADF));
}

#[test]
fn a_socket_is_open_where_a_process_or_one_of_its_threads_has_it() {
    let _turn = run_shared();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let held = duplicate(&listener);
    assert!(is_open(&held, &[ourselves()]));
    assert!(!is_open(&held, &[]));

    // A child with the socket as standard input, and one without.
    let stdin = std::os::fd::OwnedFd::from(listener.try_clone().unwrap());
    let mut with = Command::new("sleep").arg("60").stdin(stdin).spawn().unwrap();
    let mut without = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
    let [a, b] = [&with, &without].map(|child| child.id().cast_signed());
    assert!(is_open(&held, &[a]) && is_open(&held, &[b, a]));
    assert!(!is_open(&held, &[b]));

    // A zombie has no descriptors.
    with.kill().unwrap();
    without.kill().unwrap();
    until("it has ended", || {
        crate::process::thread_has_ended(a, a) && crate::process::thread_has_ended(b, b)
    });
    assert!(!is_open(&held, &[a, b]));
    with.wait().unwrap();
    without.wait().unwrap();
    assert!(!is_open(&held, &[a, b]));
}

#[test]
fn a_thread_with_its_own_table_is_scanned() {
    let _turn = run_shared();
    let (give, take) = mpsc::channel();
    let (go, end) = mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        own_table();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        give.send((rustix::thread::gettid().as_raw_nonzero().get(), socket.as_raw_fd())).unwrap();
        end.recv().unwrap();
    });
    let (tid, fd) = take.recv().unwrap();
    let crate::socket::worker_access::SocketAccess::Socket(socket) =
        WorkerSocket::from_thread(tid, fd).unwrap()
    else {
        panic!("not reached")
    };
    let inode = HashSet::from([socket.inode()]);
    drop(socket);
    assert_eq!(inspect::open_in(&inode, &[ourselves()]), Some(inode.clone()));
    go.send(()).unwrap();
    thread.join().unwrap();
    assert_eq!(inspect::open_in(&inode, &[ourselves()]), Some(HashSet::new()));
}

/// A process whose program its user cannot read is not dumpable, so that its descriptors are unreadable.
#[test]
fn a_process_that_cannot_be_read_leaves_the_holders_unknown() {
    let _turn = run_shared();
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("sleep");
    std::fs::copy("/bin/sleep", &program).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o111)).unwrap();
    let mut child = None;
    // ETXTBSY: a child of another test has the file open for writing until its exec.
    until("the program starts", || {
        child = Command::new(&program).arg("60").stdin(Stdio::null()).spawn().ok();
        child.is_some()
    });
    let mut child = child.unwrap();
    let pid = child.id().cast_signed();
    let may_look = std::fs::read_link(format!("/proc/{pid}/fd/0")).is_ok();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(
        inspect::open_in(&HashSet::from([duplicate(&listener).inode()]), &[pid]).is_none(),
        !may_look
    );
    child.kill().unwrap();
    child.wait().unwrap();
}
