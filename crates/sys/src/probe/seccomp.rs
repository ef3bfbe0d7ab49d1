//! Probes of seccomp user notification, and of its flags.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::thread;

use sameport_policy::capability::question::ProbeAnswer;
use sameport_policy::classic_bpf::Instruction;

use super::answer::{present, usable};
use super::calls;
use crate::seccomp::{FilterInstall, add_fd, install};
use crate::seccomp::{permits, refused_calls};
use sameport_policy::sandbox::SandboxedCall;

/// Whether an inherited filter refuses a call of the seccomp interposer.
pub(super) fn call_filter() -> ProbeAnswer {
    let refused = refused_calls().among(SandboxedCall::OF_SECCOMP);
    match refused.is_empty() {
        true if refused_calls().is_empty() => ProbeAnswer::Yes("no call is refused".into()),
        true => ProbeAnswer::Yes(format!("refused, and not needed: {}", refused_calls())),
        false => {
            let lines = refused.unit_lines().join(" and ");
            ProbeAnswer::No(format!("a filter refuses {refused}; a unit needs {lines}"))
        }
    }
}

/// `SECCOMP_RET_USER_NOTIF`, with the sizes of its messages.
pub(super) fn notify() -> ProbeAnswer {
    let known = calls::seccomp_action_available(libc::SECCOMP_RET_USER_NOTIF)
        .and_then(|()| calls::seccomp_notif_sizes());
    present("seccomp(SECCOMP_RET_USER_NOTIF)", known, |(notification, response)| {
        format!("notification {notification} bytes, response {response} bytes")
    })
}

/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`. Needs no filter, so that it works below a supervisor.
pub(super) fn wait_killable() -> ProbeAnswer {
    let flags =
        libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    let error = calls::seccomp_without_filter(flags);
    present("seccomp(WAIT_KILLABLE_RECV)", known_by(error, libc::EFAULT), |()| String::new())
}

/// Turns the expected error of a call that is made to fail into success.
fn known_by(error: io::Error, proof: i32) -> io::Result<()> {
    if error.raw_os_error() == Some(proof) { Ok(()) } else { Err(error) }
}

/// The answers that need an installed listener.
pub(super) struct SeccompTrial {
    pub(super) no_new_privs: ProbeAnswer,
    pub(super) installed: ProbeAnswer,
    pub(super) addfd: ProbeAnswer,
    pub(super) addfd_send: ProbeAnswer,
}

/// Installs a listener on a new thread: filters and `no_new_privs` belong to the thread and end with
/// it.
pub(super) fn trial() -> SeccompTrial {
    let ended = thread::Builder::new()
        .spawn(on_this_thread)
        .and_then(|thread| thread.join().map_err(|_| io::Error::other("the thread panicked")));
    ended.unwrap_or_else(|error| {
        let answer = ProbeAnswer::Unknown(format!("no thread to try it on: {error}"));
        SeccompTrial {
            no_new_privs: answer.clone(),
            installed: answer.clone(),
            addfd: answer.clone(),
            addfd_send: answer,
        }
    })
}

/// Installs a filter that allows every call, on the calling thread alone.
fn install_listener() -> io::Result<OwnedFd> {
    permits(SandboxedCall::Seccomp)?;
    /// `BPF_RET | BPF_K`.
    const RETURN: u16 = 0x06;
    let allow = Instruction { code: RETURN, if_true: 0, if_false: 0, k: libc::SECCOMP_RET_ALLOW };
    install(&FilterInstall::new(&[allow], false)).map_err(|(_, errno)| errno.into())
}

/// Asks for a descriptor in a call that does not exist: ENOENT if the kernel knows the flags, else
/// EINVAL or ENOTTY.
fn add_fd_to_no_call(listener: BorrowedFd<'_>, flags: u32) -> io::Error {
    let srcfd = listener.as_raw_fd().cast_unsigned();
    let request =
        libc::seccomp_notif_addfd { id: u64::MAX, flags, srcfd, newfd: 0, newfd_flags: 0 };
    match add_fd(listener, &request) {
        Err(errno) => errno.into(),
        Ok(()) => io::Error::other("the kernel added a descriptor to no call"),
    }
}

fn on_this_thread() -> SeccompTrial {
    let was_set = rustix::thread::no_new_privs();
    let set = rustix::thread::set_no_new_privs(true).and(was_set).map_err(io::Error::from);
    let no_new_privs = usable("prctl(PR_SET_NO_NEW_PRIVS)", set, |was_set| {
        if was_set { "already set".into() } else { "can be set".into() }
    });

    let listener = install_listener();
    let without = |reason: &io::Error| {
        ProbeAnswer::Unknown(format!("no listener could be installed to ask: {reason}"))
    };
    let (addfd, addfd_send) = match &listener {
        Ok(listener) => {
            let ask = |flags: libc::c_ulong| {
                let flags = u32::try_from(flags).unwrap_or(u32::MAX);
                known_by(add_fd_to_no_call(listener.as_fd(), flags), libc::ENOENT)
            };
            (
                present("SECCOMP_IOCTL_NOTIF_ADDFD", ask(0), |()| String::new()),
                present("ADDFD_FLAG_SEND", ask(libc::SECCOMP_ADDFD_FLAG_SEND), |()| String::new()),
            )
        }
        Err(reason) => (without(reason), without(reason)),
    };
    let installed = match listener {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
            ProbeAnswer::No("another supervisor already listens to this process (EBUSY)".into())
        }
        listener => usable("seccomp(NEW_LISTENER)", listener, |_| "tried on a thread".into()),
    };
    SeccompTrial { no_new_privs, installed, addfd, addfd_send }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A second listener on one thread is refused on every machine.
    #[test]
    fn a_second_listener_is_a_definite_no() {
        let second = thread::spawn(|| {
            rustix::thread::set_no_new_privs(true).unwrap();
            let first = install_listener()?;
            let trial = on_this_thread();
            drop(first);
            Ok::<_, io::Error>((trial, wait_killable()))
        });
        match second.join().unwrap() {
            Ok((trial, wait_killable)) => {
                assert!(matches!(&trial.installed, ProbeAnswer::No(r) if r.contains("EBUSY")));
                assert!(matches!(trial.addfd, ProbeAnswer::Unknown(_)));
                assert_eq!(trial.no_new_privs, ProbeAnswer::Yes("already set".into()));
                // The first listener does not hide whether the kernel knows the flag.
                assert!(!matches!(wait_killable, ProbeAnswer::Unknown(_)), "{wait_killable:?}");
            }
            // The tests themselves may run below a supervisor.
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EBUSY)),
        }
    }

    #[test]
    fn unknown_flags_are_refused() {
        let unknown = calls::seccomp_without_filter(1 << 30);
        assert_eq!(unknown.raw_os_error(), Some(libc::EINVAL));
        assert!(calls::seccomp_action_available(0x1234_0000).is_err());
    }
}
