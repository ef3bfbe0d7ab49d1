//! A supervisor's door: its name, where it can be asked, and its record.

use std::io;
use std::os::fd::RawFd;
use std::path::PathBuf;

use sameport_policy::model::name::RunName;
use sameport_sys::fd::inherit;
use sameport_sys::run_files;
use sameport_sys::run_files::NameClaim;
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::record::{RunInfo, RunRecord};
use super::server::{PendingRequest, serve};

/// Open for as long as it lives. Its files go with it.
pub struct ControlSocket {
    claim: NameClaim,
    info: RunInfo,
    /// A duplicate, for [`Door::pass`].
    listener: std::os::unix::net::UnixListener,
    close: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

/// A door on its way through an `exec` of this process: descriptors by their numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InheritedControlSocket {
    folder: RawFd,
    lock: RawFd,
    path: PathBuf,
    listener: RawFd,
}

impl ControlSocket {
    /// Opens the door of a name that was claimed, within a tokio runtime. Whole requests of this
    /// user, and root, come over the channel.
    ///
    /// # Errors
    /// Those of `bind` and `listen`.
    pub fn open(
        claim: NameClaim,
        about: RunInfo,
    ) -> io::Result<(Self, mpsc::Receiver<PendingRequest>)> {
        let listener = claim.listen()?;
        Self::start(claim, about, listener)
    }

    fn start(
        claim: NameClaim,
        about: RunInfo,
        listener: std::os::unix::net::UnixListener,
    ) -> io::Result<(Self, mpsc::Receiver<PendingRequest>)> {
        // More than one client has one request under way, so this never is full for long.
        const QUEUE: usize = 16;
        let attended = UnixListener::from_std(listener.try_clone()?)?;
        let (sender, calls) = mpsc::channel(QUEUE);
        let (closed, is_closed) = oneshot::channel();
        let serving = tokio::spawn(serve(attended, sender, is_closed));
        Ok((Self { claim, info: about, listener, close: closed, server: serving }, calls))
    }

    /// Writes the record anew: these are the first processes of the workers now. Without it, as on a
    /// full disk, only those who ask after a supervisor that was killed miss something.
    ///
    /// # Errors
    /// Those of writing a file.
    pub fn write_record(&self, workers: &[i32]) -> io::Result<()> {
        let record = RunRecord::new(&self.info, workers);
        let mut bytes = serde_json::to_vec(&record)?;
        bytes.push(b'\n');
        Ok(self.claim.write_record(&bytes)?)
    }

    /// The command is another one from now on, in the next record too.
    pub fn set_command(&mut self, command: Vec<std::ffi::OsString>) {
        self.info.command = command;
    }

    /// Takes no more clients, removes the files, and gives clients a second to read their last
    /// reply. Every [`super::Replies`] has to be ended or dropped before.
    pub async fn close(self) {
        let Self { claim, listener, close: closed, server: serving, .. } = self;
        drop((claim, listener, closed));
        // It has its own time limit; a panic in it is not ours.
        let _ = serving.await;
    }

    /// Lets the door outlive an `exec` of this process: the name stays ours, and clients wait. Nothing
    /// may be started in between. If `exec` fails, [`Door::stay`].
    ///
    /// # Errors
    /// Those of `fcntl`.
    pub fn keep_on_exec(&self) -> io::Result<InheritedControlSocket> {
        let run_files::InheritedClaim { folder, lock, path } = self.claim.keep_on_exec()?;
        let listener = inherit::keep_on_exec(&self.listener)?;
        Ok(InheritedControlSocket { folder, lock, path, listener })
    }

    /// There was no `exec` after [`Door::pass`].
    ///
    /// # Errors
    /// Those of `fcntl`.
    pub fn close_on_exec(&self) -> io::Result<()> {
        self.claim.close_on_exec()?;
        Ok(inherit::close_on_exec(&self.listener)?)
    }

    /// The door that was passed through an `exec`, within a tokio runtime. Once, before this process
    /// opens descriptors of its own.
    ///
    /// # Errors
    /// `EBADF`, `ENOTDIR`: the numbers are not those of a door.
    pub fn from_inherited(
        name: RunName,
        about: RunInfo,
        passed: InheritedControlSocket,
    ) -> io::Result<(Self, mpsc::Receiver<PendingRequest>)> {
        let InheritedControlSocket { folder, lock, path, listener } = passed;
        let claim =
            NameClaim::from_inherited(name, run_files::InheritedClaim { folder, lock, path })?;
        Self::start(claim, about, inherit::take(listener)?.into())
    }
}
