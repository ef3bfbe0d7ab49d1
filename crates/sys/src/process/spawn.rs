//! Starting a worker: fork, give it back what we were given, put the filter on, hand the listener
//! over, exec.

#![expect(unsafe_code, reason = "code between fork and exec")]

use std::ffi::OsString;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

use super::listen_fds;
use super::listen_fds::{ListenFdSetup, ListenFds};
use crate::seccomp::{FilterInstall, InstallStage, NotifyListener, install};

/// A process that runs the command, with the listener for its binds.
#[derive(Debug)]
pub struct SpawnedWorker {
    /// Its process id. It is our child, so the number stays its own until [`super::reap`] has
    /// given its end.
    pub pid: i32,
    /// Where its binds, and those of everything it starts, are asked about, if it has a filter.
    pub listener: Option<NotifyListener>,
}

/// What a worker is started with, beside what we were.
#[derive(Debug, Default)]
pub struct SpawnOptions<'a> {
    /// The filter to put on it.
    pub filter: Option<&'a FilterInstall>,
    /// Variables that are set in its environment, or removed from it.
    pub environment: Vec<(OsString, Option<OsString>)>,
    /// `cgroup.procs` of the cgroup to put it into, open for writing.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Whether it leads a process group of its own, by its process id, instead of being in ours.
    pub own_group: bool,
    /// Sockets that it is to find open.
    pub listen_fds: Option<ListenFds<'a>>,
    /// Whether CAP_CHOWN is ours alone: a worker that would inherit it does not.
    pub drop_chown: bool,
}

/// Why a worker could not be started. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The program does not exist.
    #[error("not found")]
    NotFound,
    /// The program exists, and the kernel does not execute it.
    #[error("{0}")]
    NotExecutable(std::io::Error),
    /// `fork` failed, or what precedes it.
    #[error("{0}")]
    Fork(std::io::Error),
    /// The filter could not be put on.
    #[error("{1}")]
    Filter(InstallStage, Errno),
    /// It could not be put into its cgroup.
    #[error("{0}")]
    Cgroup(Errno),
}

/// Starts `command` (program first, sought in PATH as `execvp(3)` does) in this setting.
///
/// The worker has our standard streams, environment, directory, process group and terminal, the
/// signal mask and SIGPIPE disposition that we were started with, and no descriptor of ours, but for
/// what the setting says. The listener exists once: in the returned [`Worker`].
///
/// # Errors
///
/// See [`StartError`]. `Filter(Stage::Filter, EBUSY)`: we ourselves run under a listener.
pub fn spawn(
    command: &[OsString],
    setting: &SpawnOptions<'_>,
) -> Result<SpawnedWorker, StartError> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(StartError::NotFound);
    };
    let fork_error = |errno: Errno| StartError::Fork(errno.into());
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(fork_error)?;

    let mut child = Command::new(program);
    child.args(arguments);
    for (name, value) in &setting.environment {
        match value {
            Some(value) => child.env(name, value),
            None => child.env_remove(name),
        };
    }
    let filter = setting.filter.cloned();
    let keep_chown = setting.drop_chown;
    let cgroup = setting.cgroup.map(|procs| procs.try_clone_to_owned()).transpose();
    let cgroup = cgroup.map_err(StartError::Fork)?;
    if setting.own_group {
        child.process_group(0);
    }
    let prepared = setting
        .listen_fds
        .as_ref()
        .map(|passed| ListenFdSetup::prepare(command, &setting.environment, passed, &theirs));
    let mut passing = prepared.transpose().map_err(StartError::Fork)?;
    let passes = passing.is_some();
    let prepare = move || {
        crate::process::startup::restore()?;
        if let Some(procs) = &cgroup {
            // "0" is whoever writes it.
            let joined = rustix::io::write(procs, b"0").map(drop);
            joined.or_else(|errno| give_up(&theirs, IN_CGROUP, errno))?;
        }
        if keep_chown {
            crate::socket::private_owner::keep_capability()?;
        }
        match filter.as_ref().map(install) {
            None => hand_over(&theirs, None)?,
            Some(Ok(listener)) => hand_over(&theirs, Some(listener.as_fd()))?,
            Some(Err((stage, errno))) => give_up(&theirs, stage as u8, errno)?,
        }
        crate::process::startup::restore_descriptor_limit()?;
        match &mut passing {
            None => Ok(()),
            Some(passing) => passing.exec(),
        }
    };
    // SAFETY: `prepare` runs in the forked child of what may be a process with threads; it makes
    // system calls on values that were made before the fork and neither allocates nor locks.
    unsafe { child.pre_exec(prepare) };

    let spawned = child.spawn();
    drop(child);
    match (spawned, take_over(&ours)) {
        (Ok(mut process), Ok(ChildMessage::Ready(listener))) => {
            if passes && let Some(errno) = listen_fds::failure(&ours) {
                // It has ended; whoever reaps children may have been faster.
                let _ = process.wait();
                return Err(not_executed(errno.into()));
            }
            let pid = process.id().cast_signed();
            Ok(SpawnedWorker { pid, listener: listener.map(NotifyListener::new) })
        }
        (Ok(mut process), handed) => {
            // The worker runs, but nobody would ever answer its binds.
            process.kill().and_then(|()| process.wait()).map_err(StartError::Fork)?;
            Err(fork_error(handed.err().unwrap_or(Errno::PROTO)))
        }
        (Err(error), Ok(ChildMessage::Failure(byte))) => {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            let stage = [InstallStage::NoNewPrivs, InstallStage::Filter]
                .into_iter()
                .find(|s| *s as u8 == byte);
            Err(stage.map_or(StartError::Cgroup(errno), |stage| StartError::Filter(stage, errno)))
        }
        // All was ready, so it was exec that failed.
        (Err(error), Ok(ChildMessage::Ready(_))) => Err(not_executed(error)),
        (Err(error), Err(_)) => Err(StartError::Fork(error)),
    }
}

fn not_executed(error: std::io::Error) -> StartError {
    match error.kind() {
        std::io::ErrorKind::NotFound => StartError::NotFound,
        _ => StartError::NotExecutable(error),
    }
}

/// What came out of the child before its exec.
enum ChildMessage {
    Ready(Option<OwnedFd>),
    /// A [`Stage`], or [`IN_CGROUP`].
    Failure(u8),
}

/// The bytes that stand for what came out, beside those of [`Stage`].
const READY: u8 = u8::MAX;
const IN_CGROUP: u8 = u8::MAX - 1;

/// Between fork and exec: no allocation.
fn hand_over(socket: &OwnedFd, listener: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = listener.as_slice();
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(&[READY])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Between fork and exec: says which step failed, and fails.
fn give_up(socket: &OwnedFd, step: u8, errno: Errno) -> Result<(), Errno> {
    rustix::net::send(socket, &[step], SendFlags::NOSIGNAL)?;
    Err(errno)
}

/// After exec, or its failure: the message is there, or never will be.
fn take_over(socket: &OwnedFd) -> Result<ChildMessage, Errno> {
    let mut byte = [0u8];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received =
        rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, flags)?;
    if received.bytes == 0 || received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(Errno::PROTO);
    }
    if byte[0] != READY {
        return Ok(ChildMessage::Failure(byte[0]));
    }
    let mut listener = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message {
            listener = fds.next();
        }
    }
    Ok(ChildMessage::Ready(listener))
}

#[cfg(test)]
#[path = "spawn_tests.rs"]
mod tests;
