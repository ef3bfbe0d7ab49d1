//! Advice for a command that cannot be executed as the command line asks.

use std::io;
use std::path::Path;

use sameport_policy::launch::UserSpec;
use sameport_supervisor::{TakeoverError, UserError};
use sameport_sys::Errno;
use sameport_sys::process::StartError;
use sameport_sys::seccomp::InstallStage;

use super::{DOCTOR, ExitKind, Failure};
use crate::output::text::{printable, shorten};

/// A `--user` that workers cannot run as.
pub(crate) fn user_failure(spec: &UserSpec, error: &UserError) -> Failure {
    match error {
        UserError::NotPermitted => Failure::unsupported(format!(
            "--user {spec}: setresuid needs CAP_SETUID and CAP_SETGID"
        ))
        .hint("run it as root"),
        UserError::NoSuchUser(user) => Failure::usage(format!("--user: there is no user {user}"))
            .hint(
                "`getent passwd` lists the users; an id without an entry needs a group: 1000:1000",
            ),
        UserError::NoSuchGroup(group) => {
            Failure::usage(format!("--user: there is no group {group}"))
                .hint("`getent group` lists the groups")
        }
        UserError::NoGroupOf(uid) => {
            Failure::usage(format!("--user {spec}: uid {uid} has no entry, and so no group"))
                .hint(format!("name the group too: --user {uid}:GROUP"))
        }
    }
}

/// A `--directory` that cannot be made absolute.
pub(crate) fn directory_failure(directory: &Path, error: &io::Error) -> Failure {
    let directory = shorten(&printable(&directory.to_string_lossy()));
    Failure::usage(format!("--directory {directory}: {error}")).hint("write an absolute path")
}

/// Workers of a killed supervisor that cannot be taken over.
pub(super) fn takeover_failure(error: &TakeoverError) -> Failure {
    const STOP: &str = "`sameport stop NAME` ends the workers that the supervisor before left; then start \
                        it again";
    match error {
        TakeoverError::NotListed(error) => {
            Failure::failed(format!("the sockets of its workers cannot be listed: {error}"))
                .hint(STOP)
        }
        TakeoverError::NotSeen(address) => Failure::unsupported(format!(
            "the worker with the socket on {address} cannot be read: it is not dumpable, or of another \
             user"
        ))
        .hint(STOP),
        TakeoverError::NotDuplicated { pid, descriptor, errno } => Failure::unsupported(format!(
            "pidfd_getfd: descriptor {descriptor} of its worker (pid {pid}): {errno}"
        ))
        .hint(format!(
            "it needs the right to ptrace the worker: run it as root or, as the same user, with \
             kernel.yama.ptrace_scope=0; or {STOP}"
        )),
        TakeoverError::OtherGroup(address) => Failure::failed(format!(
            "the socket of its workers on {address} belongs to another group: --private, --group or \
             the command was different"
        ))
        .hint(STOP),
    }
}

/// A worker that did not start.
pub(super) fn start_failure(error: &StartError) -> Failure {
    let filter = |message: String| Failure::unsupported(message).hint(DOCTOR);
    match error {
        StartError::Filter(InstallStage::Filter, Errno::INVAL) => filter(
            "seccomp: this kernel has no user notification (Linux 5.0), or no filters".into(),
        ),
        StartError::Filter(InstallStage::Filter, errno) => {
            filter(format!("seccomp: SECCOMP_SET_MODE_FILTER: {errno}"))
        }
        StartError::Filter(InstallStage::NoNewPrivs, errno) => {
            filter(format!("prctl: PR_SET_NO_NEW_PRIVS: {errno}"))
        }
        StartError::User(Errno::PERM) => Failure::unsupported(
            "setresuid: the user needs CAP_SETUID and CAP_SETGID, and setgroups(2)",
        )
        .hint("run it as root, outside of a user namespace that denies setgroups"),
        StartError::User(errno) => Failure::unsupported(format!("setresuid: {errno}")).hint(
            "the user or a group may not be mapped in this user namespace: see /proc/self/uid_map",
        ),
        StartError::Directory(errno) => Failure::usage(format!("chdir: {errno}"))
            .hint("name a directory that exists and that the workers' user may enter"),
        StartError::Log(why) => Failure::usage(format!("{why}"))
            .hint("name a regular file in a directory that only sameport's user can change"),
        StartError::Cgroup(errno) => Failure::failed(format!("write to cgroup.procs: {errno}")),
        StartError::Fork(why) => Failure::failed(format!("fork: {why}")),
        StartError::NotFound => Failure::new(ExitKind::NotFound, "command not found")
            .hint("after `--` comes the program, then its arguments"),
        StartError::NotExecutable(why) => {
            Failure::new(ExitKind::NotExecutable, format!("cannot be executed: {why}"))
        }
    }
}
