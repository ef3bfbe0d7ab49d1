//! The state in which a worker starts, written by a shell that runs as the worker.

use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::process::{Pid, WaitOptions, WaitStatus, waitpid};

use super::*;
use crate::process::{ancestry, signal_group};

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

fn wait_for(pid: i32) -> WaitStatus {
    let pid = Pid::from_raw(pid).unwrap();
    waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap().1
}

/// The text that the script writes to its first argument.
fn output_of(script: &str, options: &SpawnOptions<'_>) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("output");
    let command = words(&["sh", "-c", script, "sh", file.to_str().unwrap()]);
    let worker = spawn(&command, options).unwrap();
    assert_eq!(wait_for(worker.pid).exit_status(), Some(0));
    std::fs::read_to_string(&file).unwrap().replace(&format!("<{}>", worker.pid), "<own>")
}

fn environment() -> Vec<(OsString, OsString)> {
    let path = std::env::var_os("PATH").unwrap();
    let mut list = vec![("PATH".into(), path)];
    for (name, value) in
        [("KEPT", "k"), ("CHANGED", "before"), ("REMOVED", "r"), ("LISTEN_FDS", "9")]
    {
        list.push((name.into(), value.into()));
    }
    list
}

#[test]
fn sockets_are_passed_by_number_and_announced() {
    let _turn = crate::serial::run_shared();
    let (tcp, udp) =
        (TcpListener::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let inode = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).unwrap().st_ino;
    // Up to a count at which the numbers collide with descriptors that `spawn` itself uses.
    for count in [0, 1, 2, 40] {
        let sockets: Vec<_> = [tcp.as_fd(), udp.as_fd()].into_iter().cycle().take(count).collect();
        let links = sockets.iter().map(|fd| format!("socket:[{}]\n", inode(*fd)));
        let expected = format!("<own> {count} k after unset\n{}done\n", links.collect::<String>());
        let options = SpawnOptions {
            environment: vec![("CHANGED".into(), Some("after".into())), ("REMOVED".into(), None)],
            listen_fds: Some(ListenFds { sockets, environment: environment() }),
            ..SpawnOptions::default()
        };
        let script = r#"exec >"$1"
            [ "$LISTEN_PID" = $$ ] || exit 1
            echo "<$$> $LISTEN_FDS $KEPT $CHANGED ${REMOVED-unset}"
            n=3; while [ $n -lt $((3 + LISTEN_FDS)) ]; do
                readlink /proc/$$/fd/$n; n=$((n + 1))
            done
            # Nothing above, except for the descriptors from 10 on that the shell itself opens.
            while [ $n -lt 10 ]; do [ -e /proc/$$/fd/$n ] && exit 2; n=$((n + 1)); done
            echo done"#;
        assert_eq!(output_of(script, &options), expected, "{count}");
    }
    // The descriptors of this process are unchanged.
    let flags = rustix::io::fcntl_getfd(&tcp).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
}

#[test]
fn a_failed_exec_is_reported_with_and_without_sockets() {
    let _turn = crate::serial::run_shared();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text");
    std::fs::write(&text, "no program\n").unwrap();
    let text = text.to_str().unwrap();
    for count in [None, Some(1), Some(40)] {
        let options = SpawnOptions {
            listen_fds: count.map(|count| ListenFds {
                sockets: vec![listener.as_fd(); count],
                environment: environment(),
            }),
            ..SpawnOptions::default()
        };
        let missing = spawn(&words(&["/no/such/program"]), &options);
        assert!(matches!(missing, Err(StartError::NotFound)), "{missing:?}");
        let Err(StartError::NotExecutable(error)) = spawn(&words(&[text]), &options) else {
            panic!("{text} was executed")
        };
        assert_eq!(error.raw_os_error(), Some(libc::EACCES));
        let nul = spawn(&words(&["sh", "a\0b"]), &options);
        assert!(matches!(nul, Err(StartError::Fork(_))), "{nul:?}");
    }
}

#[test]
fn own_group_makes_the_worker_a_group_leader() {
    let _turn = crate::serial::run_shared();
    let group = |pid| crate::process::tree::group_of(pid).unwrap();
    let own = group(std::process::id().cast_signed());
    for (own_group, listener) in [(false, None), (true, None), (true, Some(ListenFds::default()))] {
        let options = SpawnOptions { own_group, listen_fds: listener, ..SpawnOptions::default() };
        let path = Path::new("/bin/sleep");
        let worker = spawn(&words(&[path.to_str().unwrap(), "60"]), &options).unwrap();
        assert_eq!(group(worker.pid), if own_group { worker.pid } else { own });
        assert_eq!(ancestry(worker.pid), Some(vec![worker.pid]));
        if own_group {
            signal_group(worker.pid, 15).unwrap();
        } else {
            crate::process::signal(worker.pid, 15).unwrap();
        }
        assert_eq!(wait_for(worker.pid).terminating_signal(), Some(15));
        assert_eq!(ancestry(worker.pid), None);
        assert_eq!(signal_group(worker.pid, 15), Ok(()));
    }
    // The own group, every process, and an invalid id.
    for group in [0, 1, -5] {
        assert_eq!(signal_group(group, 15), Err(Errno::INVAL));
    }
}
