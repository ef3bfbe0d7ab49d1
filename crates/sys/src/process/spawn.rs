//! Starting a worker: fork, restore the state that this process was started in, install the filter,
//! send its listener to the parent, exec.

#![expect(unsafe_code, reason = "code between fork and exec")]

use std::ffi::{CString, OsString};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

use super::listen_fds;
use super::listen_fds::{ListenFdSetup, ListenFds};
use super::{Credentials, capability, startup};
use crate::errno::from_io;
use crate::seccomp::{FilterInstall, InstallStage, NotifyListener, install};

/// A started worker.
#[derive(Debug)]
pub struct SpawnedWorker {
    /// The worker's process id. The worker is a child of this process, so the id stays valid until
    /// [`super::reap`] returns it.
    pub pid: i32,
    /// Receives the filtered calls of the worker and its descendants, if a filter was installed.
    pub listener: Option<NotifyListener>,
}

/// Options of [`spawn`].
#[derive(Debug, Default)]
pub struct SpawnOptions<'a> {
    /// The seccomp filter to install.
    pub filter: Option<&'a FilterInstall>,
    /// Environment variables to set or, with `None`, to remove.
    pub environment: Vec<(OsString, Option<OsString>)>,
    /// The worker's cgroup: its `cgroup.procs`, open for writing.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Whether the worker leads its own process group instead of joining the one of this process.
    pub own_group: bool,
    /// Sockets to pass to the worker.
    pub listen_fds: Option<ListenFds<'a>>,
    /// Whether CAP_CHOWN is removed from the capabilities that the worker inherits.
    pub drop_chown: bool,
    /// The user and groups of the worker, if not those of this process.
    pub user: Option<Credentials>,
    /// The working directory of the worker, if not the one of this process. A program with a slash in
    /// its name is searched from it.
    pub directory: Option<PathBuf>,
    /// The standard output and the standard error of the worker, if not those of this process.
    pub output: Option<(BorrowedFd<'a>, BorrowedFd<'a>)>,
}

/// Why a worker did not start. No process is left.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The program does not exist.
    #[error("not found")]
    NotFound,
    /// The program exists, and the kernel does not execute it.
    #[error("{0}")]
    NotExecutable(io::Error),
    /// `fork` or a call before it failed.
    #[error("{0}")]
    Fork(io::Error),
    /// The filter could not be installed.
    #[error("{1}")]
    Filter(InstallStage, Errno),
    /// The worker could not join its cgroup.
    #[error("{0}")]
    Cgroup(Errno),
    /// The file for its output could not be opened.
    #[error("log file: {0}")]
    Log(io::Error),
    /// The worker could not get its user and groups.
    #[error("setresuid: {0}")]
    User(Errno),
    /// The worker could not enter its directory, with the permissions of its user.
    #[error("chdir: {0}")]
    Directory(Errno),
}

/// Starts `command`: the program, searched in PATH as `execvp(3)` does, and its arguments.
///
/// The worker inherits the standard streams, environment, directory, process group and terminal of
/// this process, and the signal mask, ignored signals and descriptor limit that this process was
/// started with. It inherits no other descriptor. `options` change this.
///
/// # Errors
///
/// See [`StartError`]. `Filter(InstallStage::Filter, EBUSY)`: this process itself runs under a
/// filter with a listener, and the kernel allows one for a process and its descendants.
pub fn spawn(
    command: &[OsString],
    options: &SpawnOptions<'_>,
) -> Result<SpawnedWorker, StartError> {
    let (program, arguments) = command.split_first().ok_or(StartError::NotFound)?;
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    let (channel, child_channel) =
        rustix::net::socketpair(family, kind, SocketFlags::CLOEXEC, None)
            .map_err(|errno| StartError::Fork(errno.into()))?;

    let mut child = Command::new(program);
    child.args(arguments);
    for (name, value) in &options.environment {
        match value {
            Some(value) => child.env(name, value),
            None => child.env_remove(name),
        };
    }
    if options.own_group {
        child.process_group(0);
    }
    if let Some((stdout, stderr)) = options.output {
        let duplicate = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().map_err(StartError::Fork);
        child.stdout(duplicate(stdout)?).stderr(duplicate(stderr)?);
    }
    let mut setup = ChildSetup::new(command, options, child_channel).map_err(StartError::Fork)?;
    // SAFETY: `run` is async-signal-safe: it makes system calls on values from before the fork, and
    // neither allocates nor locks.
    unsafe { child.pre_exec(move || setup.run()) };
    let spawned = child.spawn();
    // Closes the parent's copy of the child's end, so that a missing message is an error at once.
    drop(child);
    let passes_sockets = options.listen_fds.is_some();
    finish(spawned, &channel, passes_sockets)
}

/// The steps of the child between fork and exec, with everything that they need.
struct ChildSetup {
    channel: OwnedFd,
    cgroup: Option<OwnedFd>,
    drop_chown: bool,
    filter: Option<FilterInstall>,
    user: Option<Credentials>,
    directory: Option<CString>,
    listen_fds: Option<ListenFdSetup>,
}

impl ChildSetup {
    fn new(command: &[OsString], options: &SpawnOptions<'_>, channel: OwnedFd) -> io::Result<Self> {
        let cgroup = options.cgroup.map(|procs| procs.try_clone_to_owned()).transpose()?;
        let listen_fds = options.listen_fds.as_ref();
        let listen_fds = listen_fds
            .map(|fds| ListenFdSetup::new(command, &options.environment, fds, &channel))
            .transpose()?;
        let (filter, drop_chown) = (options.filter.cloned(), options.drop_chown);
        let user = options.user.clone();
        let directory = options.directory.as_ref().map(|path| path.as_os_str().as_bytes());
        let directory = directory.map(CString::new).transpose()?;
        Ok(Self { channel, cgroup, drop_chown, filter, user, directory, listen_fds })
    }

    /// Runs in the child. Returns if `std` shall execute the program, and on an error.
    fn run(&mut self) -> io::Result<()> {
        startup::restore()?;
        if let Some(procs) = &self.cgroup {
            // The kernel takes "0" for the writing process.
            let joined = rustix::io::write(procs, b"0").map(drop);
            joined.or_else(|errno| report_failure(&self.channel, CGROUP_STEP, errno))?;
        }
        if self.drop_chown {
            capability::drop_ambient_chown()?;
        }
        // Root installs the filter without no_new_privs, so the user changes after it.
        let listener = match self.filter.as_ref().map(install) {
            None => None,
            Some(Ok(listener)) => Some(listener),
            Some(Err((stage, errno))) => return self.fail(stage as u8, errno),
        };
        if let Some(Err(errno)) = self.user.as_ref().map(Credentials::assume) {
            return self.fail(USER_STEP, errno);
        }
        if let Some(Err(errno)) = self.directory.as_deref().map(rustix::process::chdir) {
            return self.fail(DIRECTORY_STEP, errno);
        }
        report_ready(&self.channel, listener.as_ref().map(AsFd::as_fd))?;
        startup::restore_descriptor_limit()?;
        match &mut self.listen_fds {
            None => Ok(()),
            Some(setup) => setup.exec(),
        }
    }

    fn fail(&self, step: u8, errno: Errno) -> io::Result<()> {
        Ok(report_failure(&self.channel, step, errno)?)
    }
}

/// Runs in the parent, after the child's exec or its failure.
fn finish(
    spawned: io::Result<Child>,
    channel: &OwnedFd,
    passes_sockets: bool,
) -> Result<SpawnedWorker, StartError> {
    match (spawned, receive_report(channel)) {
        (Ok(mut process), Ok(ChildReport::Ready(listener))) => {
            if passes_sockets && let Some(errno) = listen_fds::exec_error(channel) {
                // The child has exited. Another thread may have reaped it.
                let _ = process.wait();
                return Err(not_executed(errno.into()));
            }
            let pid = process.id().cast_signed();
            Ok(SpawnedWorker { pid, listener: listener.map(NotifyListener::new) })
        }
        (Ok(mut process), report) => {
            // Without the listener, the kernel answers no bind of the worker.
            process.kill().and_then(|()| process.wait()).map_err(StartError::Fork)?;
            Err(StartError::Fork(report.err().unwrap_or(Errno::PROTO).into()))
        }
        (Err(error), Ok(ChildReport::Failure(step))) => {
            let errno = from_io(&error);
            let stage = [InstallStage::NoNewPrivs, InstallStage::Filter]
                .into_iter()
                .find(|stage| *stage as u8 == step);
            Err(match (stage, step) {
                (Some(stage), _) => StartError::Filter(stage, errno),
                (None, USER_STEP) => StartError::User(errno),
                (None, DIRECTORY_STEP) => StartError::Directory(errno),
                (None, _) => StartError::Cgroup(errno),
            })
        }
        // All steps before exec succeeded, so exec failed.
        (Err(error), Ok(ChildReport::Ready(_))) => Err(not_executed(error)),
        (Err(error), Err(_)) => Err(StartError::Fork(error)),
    }
}

fn not_executed(error: io::Error) -> StartError {
    match error.kind() {
        io::ErrorKind::NotFound => StartError::NotFound,
        _ => StartError::NotExecutable(error),
    }
}

/// The message of the child before its exec.
enum ChildReport {
    Ready(Option<OwnedFd>),
    /// The step that failed: an [`InstallStage`], or one of the constants below.
    Failure(u8),
}

/// Bytes of the message, besides those of [`InstallStage`].
const READY: u8 = u8::MAX;
const CGROUP_STEP: u8 = u8::MAX - 1;
const USER_STEP: u8 = u8::MAX - 2;
const DIRECTORY_STEP: u8 = u8::MAX - 3;

/// Sends the listener to the parent. Async-signal-safe.
fn report_ready(socket: &OwnedFd, listener: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = listener.as_slice();
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(&[READY])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Sends the failed step to the parent and returns the error. Async-signal-safe.
fn report_failure(socket: &OwnedFd, step: u8, errno: Errno) -> Result<(), Errno> {
    rustix::net::send(socket, &[step], SendFlags::NOSIGNAL)?;
    Err(errno)
}

/// Receives the child's message, which has arrived before exec or its failure.
fn receive_report(socket: &OwnedFd) -> Result<ChildReport, Errno> {
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
        return Ok(ChildReport::Failure(byte[0]));
    }
    let mut listener = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message {
            listener = fds.next();
        }
    }
    Ok(ChildReport::Ready(listener))
}

#[cfg(test)]
#[path = "spawn_tests.rs"]
mod tests;
