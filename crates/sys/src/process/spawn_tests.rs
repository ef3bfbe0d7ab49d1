//! What a worker finds when it starts, said by a shell that was started as one.

use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::process::{Pid, WaitOptions, WaitStatus, waitpid};

use super::*;
use crate::process::{ancestry, signal_group};

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

fn end_of(pid: i32) -> WaitStatus {
    let pid = Pid::from_raw(pid).unwrap();
    waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap().1
}

/// What the shell writes to its first argument.
fn said(script: &str, setting: &SpawnOptions<'_>) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("said");
    let command = words(&["sh", "-c", script, "sh", file.to_str().unwrap()]);
    let worker = spawn(&command, setting).unwrap();
    assert_eq!(end_of(worker.pid).exit_status(), Some(0));
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
    // Few, and so many that their numbers are taken by what starting a worker needs.
    for count in [0, 1, 2, 40] {
        let sockets: Vec<_> = [tcp.as_fd(), udp.as_fd()].into_iter().cycle().take(count).collect();
        let links = sockets.iter().map(|fd| format!("socket:[{}]\n", inode(*fd)));
        let expected = format!("<own> {count} k after unset\n{}done\n", links.collect::<String>());
        let setting = SpawnOptions {
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
            # Nothing above but what the shell itself needs, from 10 on.
            while [ $n -lt 10 ]; do [ -e /proc/$$/fd/$n ] && exit 2; n=$((n + 1)); done
            echo done"#;
        assert_eq!(said(script, &setting), expected, "{count}");
    }
    // Ours are as they were.
    let flags = rustix::io::fcntl_getfd(&tcp).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
}

#[test]
fn a_program_that_cannot_be_executed_is_told_with_and_without_sockets() {
    let _turn = crate::serial::run_shared();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text");
    std::fs::write(&text, "no program\n").unwrap();
    let text = text.to_str().unwrap();
    for count in [None, Some(1), Some(40)] {
        let setting = SpawnOptions {
            listen_fds: count.map(|count| ListenFds {
                sockets: vec![listener.as_fd(); count],
                environment: environment(),
            }),
            ..SpawnOptions::default()
        };
        let missing = spawn(&words(&["/no/such/program"]), &setting);
        assert!(matches!(missing, Err(StartError::NotFound)), "{missing:?}");
        let Err(StartError::NotExecutable(error)) = spawn(&words(&[text]), &setting) else {
            panic!("{text} was executed")
        };
        assert_eq!(error.raw_os_error(), Some(libc::EACCES));
        let nul = spawn(&words(&["sh", "a\0b"]), &setting);
        assert!(matches!(nul, Err(StartError::Fork(_))), "{nul:?}");
    }
}

#[test]
fn a_worker_leads_a_group_if_it_is_to() {
    let _turn = crate::serial::run_shared();
    let group = |pid| crate::process::tree::group_of(pid).unwrap();
    let ours = group(std::process::id().cast_signed());
    for (own, listener) in [(false, None), (true, None), (true, Some(ListenFds::default()))] {
        let setting =
            SpawnOptions { own_group: own, listen_fds: listener, ..SpawnOptions::default() };
        let path = Path::new("/bin/sleep");
        let worker = spawn(&words(&[path.to_str().unwrap(), "60"]), &setting).unwrap();
        assert_eq!(group(worker.pid), if own { worker.pid } else { ours });
        assert_eq!(ancestry(worker.pid), Some(vec![worker.pid]));
        if own {
            signal_group(worker.pid, 15).unwrap();
        } else {
            crate::process::signal(worker.pid, 15).unwrap();
        }
        assert_eq!(end_of(worker.pid).terminating_signal(), Some(15));
        assert_eq!(ancestry(worker.pid), None);
        assert_eq!(signal_group(worker.pid, 15), Ok(()));
    }
    // Our own group, everybody, and nobody's.
    for group in [0, 1, -5] {
        assert_eq!(signal_group(group, 15), Err(Errno::INVAL));
    }
}
