//! Filters that kill, that fail, and that refuse one address family.

use std::process::Command;
use std::ptr;

use sameport_policy::classic_bpf::Instruction;

use super::*;

const LOAD: u16 = 0x20;
const EQUALS: u16 = 0x15;
const RETURN: u16 = 0x06;
/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const FIRST_ARGUMENT: u32 = 16;

fn step(code: u16, k: u32, if_true: u8, if_false: u8) -> Instruction {
    Instruction { code, if_true, if_false, k }
}

/// A filter that answers these calls by this action, and `socket` of this family by EAFNOSUPPORT.
fn filter(calls: &[libc::c_long], action: u32, family: i32) -> Vec<Instruction> {
    let mut program = vec![step(LOAD, NUMBER, 0, 0)];
    for call in calls {
        program.push(step(EQUALS, u32::try_from(*call).unwrap(), 0, 1));
        program.push(step(RETURN, action, 0, 0));
    }
    let socket = u32::try_from(libc::SYS_socket).unwrap();
    let refused = libc::SECCOMP_RET_ERRNO | libc::EAFNOSUPPORT.cast_unsigned();
    program.extend([
        step(EQUALS, socket, 0, 3),
        step(LOAD, FIRST_ARGUMENT, 0, 0),
        step(EQUALS, family.cast_unsigned(), 0, 1),
        step(RETURN, refused, 0, 0),
        step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0),
    ]);
    program
}

fn install(program: &[Instruction]) {
    let program: Vec<libc::sock_filter> = program
        .iter()
        .map(|i| libc::sock_filter { code: i.code, jt: i.if_true, jf: i.if_false, k: i.k })
        .collect();
    let len = u16::try_from(program.len()).unwrap();
    let filter = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    rustix::thread::set_no_new_privs(true).unwrap();
    // SAFETY: the kernel reads `len` instructions of a live slice.
    let done = unsafe {
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter, 0, 0)
    };
    assert_eq!(done, 0, "{}", last_errno());
}

/// In a process of its own, because a filter stays.
fn in_child(test: &str) {
    let arguments = ["--exact", test, "--ignored", "--test-threads=1"];
    let child = Command::new("/proc/self/exe").args(arguments).output().unwrap();
    let stdout = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && stdout.contains("1 passed"), "{child:?}");
}

#[test]
fn calls_that_kill_are_known_without_being_killed() {
    in_child("seccomp::inherited::tests::child_with_a_filter_that_kills");
}

#[test]
#[ignore = "started by another test, in its own process"]
fn child_with_a_filter_that_kills() {
    let calls = [libc::SYS_pidfd_getfd, libc::SYS_seccomp, libc::SYS_bpf];
    install(&filter(&calls, libc::SECCOMP_RET_KILL_PROCESS, libc::AF_NETLINK));
    let refused = refused_calls();
    let expected = [
        (SandboxedCall::NetlinkSocket, CallRefusal::Fails(libc::EAFNOSUPPORT)),
        (SandboxedCall::Seccomp, CallRefusal::Kills),
        (SandboxedCall::PidfdGetfd, CallRefusal::Kills),
        (SandboxedCall::Bpf, CallRefusal::Kills),
    ];
    assert_eq!(refused.0, expected);
    assert_eq!(permits(SandboxedCall::Bpf), Err(Errno::PERM));
    assert_eq!(permits(SandboxedCall::NetlinkSocket), Ok(()));
    // No child is left, not even one that waits to be reaped.
    // SAFETY: the kernel writes nothing through a null pointer.
    let left = unsafe { libc::waitpid(-1, ptr::null_mut(), libc::__WALL | libc::WNOHANG) };
    assert_eq!((left, last_errno()), (-1, Errno::CHILD));
}

#[test]
fn calls_that_fail_are_known() {
    in_child("seccomp::inherited::tests::child_with_a_filter_that_fails");
}

#[test]
#[ignore = "started by another test, in its own process"]
fn child_with_a_filter_that_fails() {
    let calls = [libc::SYS_pidfd_getfd, libc::SYS_bpf];
    let action = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
    install(&filter(&calls, action, libc::AF_UNIX));
    let expected = [
        (SandboxedCall::UnixSocket, CallRefusal::Fails(libc::EAFNOSUPPORT)),
        (SandboxedCall::PidfdGetfd, CallRefusal::Fails(libc::EPERM)),
    ];
    assert_eq!(refused_calls().0, expected);
    assert_eq!(permits(SandboxedCall::PidfdGetfd), Ok(()));
}
