//! A worker inherits everything from the caller of `sameport`, and nothing else.

#![expect(unsafe_code, reason = "a child's signals, limits and descriptors are set before exec")]

use std::collections::BTreeSet;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::harness::{User, command_for, in_test_dir, is_root, sameport, spawn_process};

/// A change that a parent makes in the child between fork and exec.
type Change = fn() -> io::Result<()>;

fn check(done: i32) -> io::Result<()> {
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn ignore(signals: &[i32]) -> io::Result<()> {
    for signal in signals {
        // SAFETY: SIG_IGN installs no handler.
        if unsafe { libc::signal(*signal, libc::SIG_IGN) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

fn block(signals: &[i32]) -> io::Result<()> {
    // SAFETY: an all-zero signal set is valid, and empty on Linux.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    for signal in signals {
        // SAFETY: the set is a live local variable.
        check(unsafe { libc::sigaddset(&raw mut set, *signal) })?;
    }
    // SAFETY: the set is a live local variable; a null old set is not written.
    check(unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) })
}

fn limit(resource: libc::__rlimit_resource_t, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the kernel reads one `rlimit` through the pointer.
    check(unsafe { libc::setrlimit(resource, &raw const limit) })
}

fn close(fds: &[i32]) -> io::Result<()> {
    for fd in fds {
        // SAFETY: the child owns its standard descriptors, and nothing uses them between fork and
        // exec.
        check(unsafe { libc::close(*fd) })?;
    }
    Ok(())
}

/// A descriptor that `sameport` must not close.
fn extra_descriptor() -> io::Result<()> {
    // SAFETY: the path is a C string literal.
    let fd = unsafe { libc::open(c"/dev/zero".as_ptr(), libc::O_RDONLY) };
    check(fd)?;
    // SAFETY: dup2 takes two numbers; tests have fewer descriptors than 900.
    check(unsafe { libc::dup2(fd, 900) })?;
    // SAFETY: the descriptor was opened above. Its number depends on other tests.
    check(unsafe { libc::close(fd) })
}

const CHANGES: &[(&str, Change)] = &[
    ("nothing", || Ok(())),
    ("ignored SIGPIPE", || ignore(&[libc::SIGPIPE])),
    ("ignored SIGHUP, SIGINT, SIGUSR2", || ignore(&[libc::SIGHUP, libc::SIGINT, libc::SIGUSR2])),
    ("ignored SIGCHLD", || ignore(&[libc::SIGCHLD])),
    ("blocked SIGUSR1", || block(&[libc::SIGUSR1])),
    ("blocked SIGTERM, SIGCHLD, SIGPIPE", || block(&[libc::SIGTERM, libc::SIGCHLD, libc::SIGPIPE])),
    ("limits", || {
        limit(libc::RLIMIT_NOFILE, 100, 200)?;
        limit(libc::RLIMIT_CORE, 0, 0)?;
        limit(libc::RLIMIT_STACK, 4 << 20, 16 << 20)
    }),
    // SAFETY: nice(2) takes a number.
    ("nice", || check(unsafe { libc::nice(3) })),
    ("umask", || {
        // SAFETY: umask(2) takes a number and cannot fail.
        unsafe { libc::umask(0o137) };
        Ok(())
    }),
    // SAFETY: setsid(2) takes nothing.
    ("a session of its own", || check(unsafe { libc::setsid() })),
    ("an open descriptor", extra_descriptor),
    ("closed stdin", || close(&[0])),
    ("closed stdout", || close(&[1])),
    ("closed stderr", || close(&[2])),
    ("closed stdin and stdout", || close(&[0, 1])),
    ("all closed", || close(&[0, 1, 2])),
];

/// The program's report about its environment.
fn report(user: User, arguments: &[&str], change: Change) -> BTreeSet<String> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let dir = in_test_dir("reports");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
    let file = dir.join(COUNT.fetch_add(1, Ordering::Relaxed).to_string());
    let program = super::program("trap_state");
    let (program, file) = (program.to_str().unwrap(), file.to_str().unwrap());
    let all = [arguments, &[program, file, "--port", "a b", "", "--"]].concat();
    let mut command: Command = command_for(user, all[0], &all[1..]);
    command.env("EMPTY", "").env("LINES", "a\nb").env("sameport", "run").stdout(Stdio::null());
    // SAFETY: the changes are system calls on numbers and neither allocate nor lock.
    unsafe { command.pre_exec(change) };
    let started = spawn_process(command);
    let leader = started.pid().to_string();
    let exited = started.wait();
    assert_eq!((exited.code, exited.stderr.as_str()), (7, ""), "{all:?}");
    let text = std::fs::read_to_string(file).unwrap();
    // `sameport` leads a session if the caller made one, and the worker is in it. Whole words are
    // compared, because one number can be part of another.
    let word = |word: &str| match word.trim_end_matches(',') == leader {
        true => "LEADER".to_owned(),
        false => word.trim_end_matches(',').to_owned(),
    };
    let plain = |line: &str| match line.starts_with("group ") {
        true => line.split(' ').map(word).collect::<Vec<String>>().join(" "),
        false => line.to_owned(),
    };
    text.lines().map(plain).collect()
}

#[test]
fn worker_inherits_the_callers_environment() {
    for user in User::all() {
        for (what, change) in CHANGES {
            let bare = report(*user, &[], *change);
            let run = report(*user, &[sameport().to_str().unwrap(), "run", "--"], *change);
            let lost: Vec<&str> = bare.difference(&run).map(String::as_str).collect();
            let gained: Vec<&str> = run.difference(&bare).map(String::as_str).collect();
            // The filter, and what the kernel requires for it without CAP_SYS_ADMIN.
            let (expected_loss, expected_gain) = if *user == User::Current && is_root() {
                (vec!["Seccomp:\t0"], vec!["Seccomp:\t2"])
            } else {
                (vec!["NoNewPrivs:\t0", "Seccomp:\t0"], vec!["NoNewPrivs:\t1", "Seccomp:\t2"])
            };
            assert_eq!((lost, gained), (expected_loss, expected_gain), "{what}, {user:?}");
        }
    }
}
