//! Probes of the access of one process to another: pidfds, descriptors, memory, /proc.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;

use rustix::process::{PidfdFlags, getpid, pidfd_open as open_process};
use rustix::thread::CapabilitySet;
use sameport_policy::capability::question::ProbeAnswer;

use super::answer::usable;
use super::child::Sleeper;
use super::system;
use crate::fd::duplicate_from;
use crate::process::fd_table::PIDFD_THREAD;
use crate::process::{capability, read_memory};

fn own_pidfd() -> io::Result<OwnedFd> {
    Ok(open_process(getpid(), PidfdFlags::empty())?)
}

/// `pidfd_open` on this process.
pub(super) fn pidfd_open() -> ProbeAnswer {
    usable("pidfd_open", own_pidfd(), |_| String::new())
}

/// `PIDFD_THREAD` on the calling thread.
pub(super) fn pidfd_thread() -> ProbeAnswer {
    let opened = open_process(rustix::thread::gettid(), PIDFD_THREAD).map_err(io::Error::from);
    usable("pidfd_open(PIDFD_THREAD)", opened, |_| String::new())
}

/// `pidfd_getfd` on this process, which no ptrace rule forbids.
pub(super) fn pidfd_getfd() -> ProbeAnswer {
    let copied = own_pidfd().and_then(|pidfd| Ok(duplicate_from(&pidfd, pidfd.as_raw_fd())?));
    usable("pidfd_getfd", copied, |_| String::new())
}

/// `process_vm_readv` on this process.
pub(super) fn vm_readv() -> ProbeAnswer {
    let word = 0x5a4d_e904_7000_0001_u64;
    match read_word(getpid().as_raw_nonzero().get(), &word) {
        Ok(copy) if copy != word => ProbeAnswer::No("process_vm_readv read something else".into()),
        copy => usable("process_vm_readv", copy, |_| String::new()),
    }
}

/// Reads from a process the word that this process has at the same address: its own memory, or that
/// of a forked child.
fn read_word(pid: i32, word: &u64) -> io::Result<u64> {
    let mut copy = [0; size_of::<u64>()];
    let address = std::ptr::from_ref(word).expose_provenance() as u64;
    read_memory(pid, address, &mut copy)?;
    Ok(u64::from_ne_bytes(copy))
}

/// The access that the kernel permits between processes of one user.
pub(super) struct ProcessAccess {
    pub(super) descendants: ProbeAnswer,
    pub(super) same_user: ProbeAnswer,
}

/// Starts a child and accesses it as its parent and from a sibling.
pub(super) fn trace() -> ProcessAccess {
    let started = own_pidfd().and_then(|fd| Ok((fd, Sleeper::start()?)));
    let (fd, sleeper) = match started {
        Ok(started) => started,
        Err(error) => {
            let answer = ProbeAnswer::Unknown(format!("no process to look into: {error}"));
            return ProcessAccess { descendants: answer.clone(), same_user: answer };
        }
    };
    let word = 0x5a4d_e904_7000_0002_u64;
    let as_parent = sleeper.duplicate(&fd).and_then(|()| read_word(sleeper.pid(), &word).map(drop));
    let as_sibling = sleeper.duplicate_from_sibling(&fd);
    let scope = scope();
    let call = |relation: &str| format!("pidfd_getfd of a {relation} ({scope})");
    ProcessAccess {
        descendants: usable(&call("child"), as_parent, |()| scope.clone()),
        same_user: usable(&call("sibling"), as_sibling, |()| scope.clone()),
    }
}

/// Yama's `ptrace_scope` with its meaning. The file is absent where Yama is not built in or not
/// enabled.
fn scope() -> String {
    let meaning = match system::sysctl("kernel/yama/ptrace_scope") {
        Ok(value) => match value.as_str() {
            "0" => "0: any process of the same user",
            "1" => "1: only processes that it started",
            "2" => "2: only with CAP_SYS_PTRACE",
            "3" => "3: nobody, not even root",
            _ => return format!("kernel.yama.ptrace_scope is {value}"),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return "Yama is absent: any process of the same user".into();
        }
        Err(error) => return format!("kernel.yama.ptrace_scope cannot be read: {error}"),
    };
    format!("kernel.yama.ptrace_scope is {meaning}")
}

/// Lists the descriptors of other users' processes until one list can be read. Where no process of
/// another user is visible, CAP_SYS_PTRACE decides.
pub(super) fn see_other_users() -> ProbeAnswer {
    const MOST: usize = 64;
    let own = rustix::process::geteuid().as_raw();
    let processes = match fs::metadata("/proc/self/fd").and_then(|_| fs::read_dir("/proc")) {
        Ok(entries) => entries,
        Err(error) => return ProbeAnswer::Unknown(format!("/proc cannot be seen: {error}")),
    };
    let others = processes
        .flatten()
        .filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit))
        .filter(|entry| entry.metadata().is_ok_and(|it| it.uid() != own));
    let mut refusal = None;
    for entry in others.take(MOST) {
        match fs::read_dir(entry.path().join("fd")) {
            Ok(_) => return ProbeAnswer::Yes(format!("as uid {own}")),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => refusal = Some(error),
            // The process has ended meanwhile.
            Err(_) => {}
        }
    }
    let capable = capability::has(CapabilitySet::SYS_PTRACE);
    match (capable, refusal) {
        (_, Some(error)) => ProbeAnswer::No(format!("as uid {own}: /proc/PID/fd: {error}")),
        (Ok(true), None) => ProbeAnswer::Yes(format!("as uid {own}, by CAP_SYS_PTRACE")),
        (Ok(false), None) => ProbeAnswer::Unknown("no process of another user can be seen".into()),
        (Err(error), None) => ProbeAnswer::Unknown(format!("capget: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serial::run_shared;

    #[test]
    fn a_child_can_be_accessed_and_is_reaped() {
        let _turn = run_shared();
        let sleeper = Sleeper::start().unwrap();
        let pid = sleeper.pid();
        assert!(fs::exists(format!("/proc/{pid}")).unwrap());
        drop(sleeper);
        assert!(!fs::exists(format!("/proc/{pid}")).unwrap(), "pid {pid} is still there");
    }

    #[test]
    fn a_descriptor_that_the_child_does_not_have_is_an_error() {
        let _turn = run_shared();
        let sleeper = Sleeper::start().unwrap();
        // Opened after the fork: only this process has it, unless the number was in use before.
        let late = own_pidfd().unwrap();
        let link = format!("/proc/{}/fd/{}", sleeper.pid(), late.as_raw_fd());
        if fs::read_link(link).is_err() {
            assert!(sleeper.duplicate(&late).is_err());
            assert!(sleeper.duplicate_from_sibling(&late).is_err());
        }
    }

    #[test]
    fn the_answers_agree_with_proc() {
        let _turn = run_shared();
        let trace = trace();
        let yama = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").ok();
        let root = capability::has(CapabilitySet::SYS_PTRACE).unwrap();
        let scope = yama.as_deref().map(str::trim);
        let expected = match (scope, root) {
            (Some("3"), _) => (false, false),
            (Some("2" | "1" | "0") | None, true) => (true, true),
            (Some("2"), false) => (false, false),
            (Some("1"), false) => (true, false),
            _ => (true, true),
        };
        let yes = |answer: &ProbeAnswer| matches!(answer, ProbeAnswer::Yes(_));
        assert_eq!(
            (yes(&trace.descendants), yes(&trace.same_user)),
            expected,
            "{:?} {:?}",
            trace.descendants,
            trace.same_user
        );
    }
}
