//! What one process may do to another: open it, copy its descriptors, read its memory, see it.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;

use rustix::process::{
    PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd as getfd, pidfd_open as open_process,
};
use rustix::thread::CapabilitySet;
use sameport_policy::capability::question::ProbeAnswer;

use super::child::Sleeper;
use super::{calls, system, usable};

fn own_pidfd() -> io::Result<OwnedFd> {
    Ok(open_process(getpid(), PidfdFlags::empty())?)
}

/// `pidfd_open` on ourselves.
pub(super) fn pidfd_open() -> ProbeAnswer {
    usable("pidfd_open", own_pidfd(), |_| String::new())
}

/// `PIDFD_THREAD` on the calling thread.
pub(super) fn pidfd_thread() -> ProbeAnswer {
    let flag = PidfdFlags::from_bits_retain(libc::O_EXCL.cast_unsigned());
    let opened = open_process(rustix::thread::gettid(), flag).map_err(io::Error::from);
    usable("pidfd_open(PIDFD_THREAD)", opened, |_| String::new())
}

/// `pidfd_getfd` on ourselves, which no rule about other processes forbids.
pub(super) fn pidfd_getfd() -> ProbeAnswer {
    let copied = own_pidfd().and_then(|pidfd| {
        let flags = PidfdGetfdFlags::empty();
        Ok(getfd(pidfd.as_fd(), pidfd.as_raw_fd(), flags)?)
    });
    usable("pidfd_getfd", copied, |_| String::new())
}

/// `process_vm_readv` on ourselves.
pub(super) fn vm_readv() -> ProbeAnswer {
    let known = 0x5a4d_e904_7000_0001_u64;
    match calls::read_memory(getpid().as_raw_nonzero().get(), &known) {
        Ok(read) if read != known => ProbeAnswer::No("process_vm_readv read something else".into()),
        read => usable("process_vm_readv", read, |_| String::new()),
    }
}

/// What the kernel permits between processes of one user.
pub(super) struct ProcessAccess {
    pub(super) descendants: ProbeAnswer,
    pub(super) same_user: ProbeAnswer,
}

/// Starts a child, and looks into it as its parent and as its sibling.
pub(super) fn trace() -> ProcessAccess {
    let started = own_pidfd().and_then(|fd| Ok((fd, Sleeper::start()?)));
    let (fd, sleeper) = match started {
        Ok(started) => started,
        Err(error) => {
            let answer = ProbeAnswer::CouldNotTell(format!("no process to look into: {error}"));
            return ProcessAccess { descendants: answer.clone(), same_user: answer };
        }
    };
    let word = 0x5a4d_e904_7000_0002_u64;
    let as_parent =
        sleeper.duplicate(&fd).and_then(|()| calls::read_memory(sleeper.pid(), &word).map(drop));
    let as_sibling = sleeper.duplicate_from_sibling(&fd);
    let scope = scope();
    let call = |whose: &str| format!("pidfd_getfd of a {whose} ({scope})");
    ProcessAccess {
        descendants: usable(&call("child"), as_parent, |()| scope.clone()),
        same_user: usable(&call("sibling"), as_sibling, |()| scope.clone()),
    }
}

/// Yama's rule, in words. The file is absent where Yama is not compiled in or not enabled.
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

/// Lists the descriptors of other users' processes until one works. Where no such process can be
/// seen, the capability decides.
pub(super) fn see_other_users() -> ProbeAnswer {
    const MOST: usize = 64;
    let own = rustix::process::geteuid().as_raw();
    let processes = match fs::metadata("/proc/self/fd").and_then(|_| fs::read_dir("/proc")) {
        Ok(entries) => entries,
        Err(error) => return ProbeAnswer::CouldNotTell(format!("/proc cannot be seen: {error}")),
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
            // It has ended meanwhile.
            Err(_) => {}
        }
    }
    let capable = system::capable(CapabilitySet::SYS_PTRACE);
    match (capable, refusal) {
        (_, Some(error)) => ProbeAnswer::No(format!("as uid {own}: /proc/PID/fd: {error}")),
        (Ok(true), None) => ProbeAnswer::Yes(format!("as uid {own}, by CAP_SYS_PTRACE")),
        (Ok(false), None) => {
            ProbeAnswer::CouldNotTell("no process of another user can be seen".into())
        }
        (Err(error), None) => ProbeAnswer::CouldNotTell(format!("capget: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serial::run_shared;

    #[test]
    fn a_child_can_be_looked_into_and_is_reaped() {
        let _turn = run_shared();
        let sleeper = Sleeper::start().unwrap();
        let pid = sleeper.pid();
        assert!(fs::exists(format!("/proc/{pid}")).unwrap());
        drop(sleeper);
        assert!(!fs::exists(format!("/proc/{pid}")).unwrap(), "pid {pid} is still there");
    }

    #[test]
    fn a_descriptor_that_is_not_open_there_is_an_error_on_both_ways() {
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
        let root = system::capable(CapabilitySet::SYS_PTRACE).unwrap();
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
