//! Probes of the machine for `doctor`: each makes the call that sameport would make, and undoes it.
//!
//! No probe reads the kernel's version: distributions backport features, and sandboxes remove them.
//! `sameport_policy::capability` decides about the answers.

mod answer;
mod calls;
mod child;
mod interposers;
mod process;
mod seccomp;
mod sockets;
mod system;

use std::path::Path;

use sameport_policy::capability::question::{ProbeAnswer, ProbeFact, ProbeSubject};

/// Whether this process can select the members of a group by eBPF: it may load what is needed
/// ([`check_extended_tier`](crate::bpf::traffic::check_extended_tier)), and a program that it attaches to a group
/// of its own is accepted.
#[must_use]
pub fn steering_by_ebpf() -> ProbeAnswer {
    match sockets::traffic_programs() {
        ProbeAnswer::Yes(_) => sockets::reuse_port_ebpf(),
        no => no,
    }
}

/// Runs every probe, in the order of the report. Takes some milliseconds.
///
/// Starts two processes and one thread and creates a cgroup, and removes them before it returns.
/// Changes neither the calling process nor the system. Needs no privilege. A probe that fails
/// answers [`ProbeAnswer::Unknown`].
#[must_use]
pub fn examine() -> Vec<ProbeFact> {
    let listener = seccomp::trial();
    let trace = process::trace();
    let cgroup = interposers::cgroup();
    [
        (ProbeSubject::Kernel, system::kernel()),
        (ProbeSubject::CallFilter, seccomp::call_filter()),
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
        (ProbeSubject::ReusePortEbpf, sockets::reuse_port_ebpf()),
        (ProbeSubject::TrafficPrograms, sockets::traffic_programs()),
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
        (ProbeSubject::KernelMemory, system::kernel_memory()),
        (ProbeSubject::Attachments, interposers::attachments()),
    ]
    .map(|(subject, answer)| ProbeFact { subject, answer })
    .into()
}

/// The directory for the preload library, found by writing the library there and removing it.
/// `runtime` is the value of XDG_RUNTIME_DIR.
#[must_use]
pub fn preload_dir(library: &[u8], runtime: Option<&Path>) -> ProbeAnswer {
    interposers::preload_dir(library, &crate::preload::folders(runtime))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::process::Command;

    /// In its own process: parallel tests open and close descriptors.
    #[test]
    fn every_subject_is_probed_once_and_nothing_is_left() {
        let _turn = crate::serial::run_shared();
        let examined = Command::new("/proc/self/exe")
            .args(["--exact", "probe::tests::child_examines", "--ignored", "--test-threads=1"])
            .output()
            .unwrap();
        let stdout = String::from_utf8_lossy(&examined.stdout);
        assert!(examined.status.success() && stdout.contains("1 passed"), "{examined:?}");
    }

    #[test]
    #[ignore = "started by another test, in its own process"]
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
            assert!(names.insert(fact.subject.name()), "{} is probed twice", fact.subject.name());
            assert!(!fact.answer.text().contains('\n'), "{fact:?}");
        }
        assert_eq!(names.len(), 35);
        assert_eq!(filters(), before.1);
        // The first examination may fill caches, the later ones may not.
        for _ in 0..20 {
            drop(examine());
        }
        assert!(descriptors() < before.0 + 20, "twenty examinations leak descriptors");
    }
}
