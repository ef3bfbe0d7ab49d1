//! Terminals for processes under test.

#![allow(unsafe_code, reason = "terminals have no safe wrapper among the dev-dependencies")]

use std::fs::File;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// The two ends of a terminal, close-on-exec. Dropping the first hangs it up.
pub(crate) fn terminal() -> (File, OwnedFd) {
    let ours = File::options().read(true).write(true).open("/dev/ptmx").unwrap();
    let locked = 0;
    // SAFETY: the kernel reads one integer through the pointer.
    let done = unsafe { libc::ioctl(ours.as_raw_fd(), libc::TIOCSPTLCK, &raw const locked) };
    assert_eq!(done, 0);
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: this ioctl takes its flags by value.
    let theirs = unsafe { libc::ioctl(ours.as_raw_fd(), libc::TIOCGPTPEER, flags) };
    assert!(theirs >= 0);
    // SAFETY: the kernel has just opened the descriptor, and no value owns it.
    (ours, unsafe { OwnedFd::from_raw_fd(theirs) })
}

/// Makes the command lead a session, with a terminal as its standard input. Returns the other end.
pub(crate) fn at_terminal(command: &mut Command) -> File {
    let (ours, theirs) = terminal();
    command.stdin(theirs);
    let take = || {
        // SAFETY: setsid(2) takes nothing.
        let session = unsafe { libc::setsid() };
        // SAFETY: this ioctl takes a number.
        let terminal = unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) };
        if session < 0 || terminal < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: `take` neither allocates nor locks.
    unsafe { command.pre_exec(take) };
    ours
}
