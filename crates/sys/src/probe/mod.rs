//! Asking the machine, by doing: each probe makes the very call that sameport would make, and
//! leaves nothing behind.
//!
//! No probe reads the kernel's version; distributions carry features back, and sandboxes take them
//! away. What the answers mean for sameport is decided in `sameport_policy::capability`.

mod calls;
mod child;
mod interposers;
mod process;
mod seccomp;
mod sockets;
mod system;

use std::io;
use std::path::Path;

use sameport_policy::capability::question::{ProbeAnswer, ProbeFact, ProbeSubject};

/// Asks everything, in the order in which it is told. Takes some milliseconds.
///
/// Starts two processes and one thread, and makes a cgroup, all of which are gone when it returns;
/// changes neither the calling process nor the system. Needs no privilege. Never fails: what could
/// not be asked is answered [`Answer::CouldNotTell`].
#[must_use]
pub fn examine() -> Vec<ProbeFact> {
    let listener = seccomp::trial();
    let trace = process::trace();
    let cgroup = interposers::cgroup();
    [
        (ProbeSubject::Kernel, system::kernel()),
        (ProbeSubject::SeccompNotify, seccomp::notify()),
        (ProbeSubject::SeccompListener, listener.installed),
        (ProbeSubject::SeccompWaitKillable, seccomp::wait_killable()),
        (ProbeSubject::SeccompAddfd, listener.addfd),
        (ProbeSubject::SeccompAddfdSend, listener.addfd_send),
        (ProbeSubject::NoNewPrivs, listener.no_new_privs),
        (ProbeSubject::PidfdOpen, process::pidfd_open()),
        (ProbeSubject::PidfdThread, process::pidfd_thread()),
        (ProbeSubject::PidfdGetfd, process::pidfd_getfd()),
        (ProbeSubject::ProcessVmReadv, process::vm_readv()),
        (ProbeSubject::TraceDescendants, trace.descendants),
        (ProbeSubject::TraceSameUser, trace.same_user),
        (ProbeSubject::SeeOtherUsers, process::see_other_users()),
        (ProbeSubject::ReusePort, sockets::reuse_port()),
        (ProbeSubject::ReusePortCbpf, sockets::reuse_port_cbpf()),
        (ProbeSubject::NetnsCookie, sockets::netns_cookie()),
        (ProbeSubject::SockDiagTcp, sockets::diag(libc::IPPROTO_TCP)),
        (ProbeSubject::SockDiagUdp, sockets::diag(libc::IPPROTO_UDP)),
        (ProbeSubject::SocketIterator, sockets::iterator()),
        (ProbeSubject::ChangeOwner, sockets::change_owner()),
        (ProbeSubject::TcpMigrateReq, system::tcp_migrate_req()),
        (ProbeSubject::Somaxconn, system::somaxconn()),
        (ProbeSubject::LowPorts, system::low_ports()),
        (ProbeSubject::IoUring, system::io_uring()),
        (ProbeSubject::Cgroup2, system::cgroup2()),
        (ProbeSubject::FirstCgroup, interposers::first_cgroup()),
        (ProbeSubject::Ebpf, system::ebpf()),
        (ProbeSubject::OwnCgroup, cgroup.own),
        (ProbeSubject::CgroupPrograms, cgroup.programs),
        (ProbeSubject::Bpffs, interposers::bpffs()),
        (ProbeSubject::Attachments, interposers::attachments()),
    ]
    .map(|(subject, answer)| ProbeFact { subject, answer })
    .into()
}

/// Where the preload library can lie, found by putting it there, from where it is removed at once.
/// `runtime`: the value of XDG_RUNTIME_DIR.
#[must_use]
pub fn preload_dir(library: &[u8], runtime: Option<&Path>) -> ProbeAnswer {
    interposers::place(library, &crate::preload::folders(runtime))
}

/// The answer to "can this process do it": a call that is not permitted cannot be made here, which
/// the reason keeps apart from a kernel that does not have it.
fn usable<T>(call: &str, result: io::Result<T>, detail: impl FnOnce(T) -> String) -> ProbeAnswer {
    match result {
        Ok(value) => ProbeAnswer::Yes(detail(value)),
        Err(error) => refused(call, &error)
            .unwrap_or_else(|| ProbeAnswer::CouldNotTell(format!("{call}: {error}"))),
    }
}

/// The answer to "does this kernel have it": a call that is not permitted proves nothing.
fn present<T>(call: &str, result: io::Result<T>, detail: impl FnOnce(T) -> String) -> ProbeAnswer {
    match usable(call, result, detail) {
        ProbeAnswer::No(reason) if reason.starts_with(NOT_PERMITTED) => {
            ProbeAnswer::CouldNotTell(reason)
        }
        answer => answer,
    }
}

const NOT_PERMITTED: &str = "not permitted here";

/// What an error says for certain, if it says anything for certain.
fn refused(call: &str, error: &io::Error) -> Option<ProbeAnswer> {
    match error.raw_os_error()? {
        libc::ENOSYS | libc::EINVAL | libc::ENOPROTOOPT | libc::EOPNOTSUPP => {
            Some(ProbeAnswer::No(format!("this kernel does not have it: {call}: {error}")))
        }
        libc::EPERM | libc::EACCES => {
            Some(ProbeAnswer::No(format!("{NOT_PERMITTED}: {call}: {error}")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::process::Command;

    fn failed(errno: i32) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(errno))
    }

    #[test]
    fn a_refused_question_is_not_a_missing_feature() {
        let text = |()| String::new();
        let cases = [
            (libc::ENOSYS, "no", "no"),
            (libc::EINVAL, "no", "no"),
            (libc::EOPNOTSUPP, "no", "no"),
            (libc::EPERM, "no", "could not tell"),
            (libc::EACCES, "no", "could not tell"),
            (libc::EMFILE, "could not tell", "could not tell"),
        ];
        for (errno, use_it, have_it) in cases {
            let (usable, present) =
                (usable("call", failed(errno), text), present("call", failed(errno), text));
            assert_eq!((usable.to_string(), present.to_string()), (use_it.into(), have_it.into()));
            let permission = matches!(errno, libc::EPERM | libc::EACCES);
            for answer in [usable, present] {
                assert_eq!(answer.text().starts_with(NOT_PERMITTED), permission, "{answer:?}");
            }
        }
    }

    /// In a process of its own: the tests beside this one have descriptors that come and go.
    #[test]
    fn every_subject_is_asked_once_and_nothing_stays_behind() {
        let _turn = crate::serial::run_shared();
        let examined = Command::new("/proc/self/exe")
            .args(["--exact", "probe::tests::child_examines", "--ignored", "--test-threads=1"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&examined.stdout);
        assert!(examined.status.success() && said.contains("1 passed"), "{examined:?}");
    }

    #[test]
    #[ignore = "started by another test, in a process of its own"]
    fn child_examines() {
        let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let filters = || {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            let of =
                |key: &str| status.lines().find(|line| line.starts_with(key)).map(str::to_owned);
            (of("Seccomp:"), of("NoNewPrivs:"))
        };
        let before = (descriptors(), filters());
        let mut names = HashSet::new();
        for fact in examine() {
            assert!(names.insert(fact.subject.name()), "{} is asked twice", fact.subject.name());
            assert!(!fact.answer.text().contains('\n'), "{fact:?}");
        }
        assert_eq!(names.len(), 32);
        assert_eq!(filters(), before.1);
        // The first one may keep something for the next, but not each of them.
        for _ in 0..20 {
            drop(examine());
        }
        assert!(descriptors() < before.0 + 20, "twenty examinations leak descriptors");
    }
}
