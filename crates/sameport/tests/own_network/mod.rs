//! A network namespace for one thread of a test.

// Reason: no safe binding moves one thread into a new network namespace.
#![allow(unsafe_code)]

use std::process::Command;

/// Runs `action` in a thread with a new network namespace. Needs root.
pub(crate) fn in_own_network(test: &str, action: impl FnOnce() + Send + 'static) {
    // SAFETY: geteuid(2) has no arguments and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        sameport_skips::skip(test, "needs root");
        return;
    }
    let thread = std::thread::spawn(|| {
        // SAFETY: unshare(2) has no pointer arguments; the namespace is one of this thread.
        let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        ip("link set lo up");
        action();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// ip(8) in the network namespace of this thread.
pub(crate) fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}
