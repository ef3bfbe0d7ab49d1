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

use crate::seccomp::{Installation, Listener, Stage, install};

/// A process that runs the command, with the listener for its binds.
#[derive(Debug)]
pub struct Worker {
    /// Its process id. It is our child, so the number stays its own until [`super::reap`] has
    /// given its end.
    pub pid: i32,
    /// Where its binds, and those of everything it starts, are asked about.
    pub listener: Listener,
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
    Filter(Stage, Errno),
}

/// Starts `command` (program first, sought in PATH as `execvp(3)` does) under the filter.
///
/// The worker has our standard streams, environment, directory, process group and terminal, the
/// signal mask and SIGPIPE disposition that we were started with, and no descriptor of ours. The
/// listener exists once: in the returned [`Worker`].
///
/// # Errors
///
/// See [`StartError`]. `Filter(Stage::Filter, EBUSY)`: we ourselves run under a listener.
pub fn start(command: &[OsString], installation: &Installation) -> Result<Worker, StartError> {
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
    let installation = installation.clone();
    let prepare = move || {
        crate::inherited::restore()?;
        match install(&installation) {
            Ok(listener) => hand_over(&theirs, listener.as_fd())?,
            Err((stage, errno)) => {
                rustix::net::send(&theirs, &[stage as u8], SendFlags::NOSIGNAL)?;
                return Err(errno.into());
            }
        }
        crate::inherited::restore_descriptor_limit()?;
        Ok(())
    };
    // SAFETY: `prepare` runs in the forked child of what may be a process with threads; it makes
    // system calls on values that were made before the fork and neither allocates nor locks.
    unsafe { child.pre_exec(prepare) };

    let spawned = child.spawn();
    drop(child);
    match (spawned, take_over(&ours)) {
        (Ok(process), Ok(Handed::Listener(listener))) => {
            Ok(Worker { pid: process.id().cast_signed(), listener: Listener::new(listener) })
        }
        (Ok(mut process), handed) => {
            // The worker runs, but nobody would ever answer its binds.
            process.kill().and_then(|()| process.wait()).map_err(StartError::Fork)?;
            Err(fork_error(handed.err().unwrap_or(Errno::PROTO)))
        }
        (Err(error), Ok(Handed::Failure(stage))) => {
            Err(StartError::Filter(stage, Errno::from_io_error(&error).unwrap_or(Errno::IO)))
        }
        // The filter was on, so it was exec that failed.
        (Err(error), Ok(Handed::Listener(_))) => match error.kind() {
            std::io::ErrorKind::NotFound => Err(StartError::NotFound),
            _ => Err(StartError::NotExecutable(error)),
        },
        (Err(error), Err(_)) => Err(StartError::Fork(error)),
    }
}

/// What came out of the child before its exec.
enum Handed {
    Listener(OwnedFd),
    Failure(Stage),
}

/// Between fork and exec: no allocation.
fn hand_over(socket: &OwnedFd, listener: BorrowedFd<'_>) -> Result<(), Errno> {
    let fds = [listener];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    rustix::net::sendmsg(socket, &[IoSlice::new(&[u8::MAX])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// After exec, or its failure: the message is there, or never will be.
fn take_over(socket: &OwnedFd) -> Result<Handed, Errno> {
    let mut byte = [0u8];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received =
        rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, flags)?;
    if received.bytes == 0 || received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(Errno::PROTO);
    }
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message
            && let Some(fd) = fds.next()
        {
            return Ok(Handed::Listener(fd));
        }
    }
    let stages = [Stage::NoNewPrivs, Stage::Filter];
    stages.into_iter().find(|s| *s as u8 == byte[0]).map(Handed::Failure).ok_or(Errno::PROTO)
}
