//! The supervisor's end of the control socket, with the claim of the name and the record.

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

use super::continuation::Continuation;
use super::record::{EndedRun, RunHistory, RunInfo, RunRecord};
use super::server::{PendingRequest, serve};

/// A listening control socket. Its files are removed when it is dropped.
pub struct ControlSocket {
    claim: NameClaim,
    info: RunInfo,
    /// A duplicate, for [`Self::keep_on_exec`].
    listener: std::os::unix::net::UnixListener,
    close: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

/// A control socket that survives `exec`: numbers of its descriptors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InheritedControlSocket {
    folder: RawFd,
    lock: RawFd,
    path: PathBuf,
    listener: RawFd,
}

impl ControlSocket {
    /// Listens on the control socket of a claimed name. The receiver gets complete requests of this user
    /// and of root. To be called within a tokio runtime.
    ///
    /// # Errors
    ///
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
        // The event loop takes requests at once, so a full queue delays clients for a moment only.
        const QUEUE: usize = 16;
        let attended = UnixListener::from_std(listener.try_clone()?)?;
        let (sender, calls) = mpsc::channel(QUEUE);
        let (closed, is_closed) = oneshot::channel();
        let serving = tokio::spawn(serve(attended, sender, is_closed));
        Ok((Self { claim, info: about, listener, close: closed, server: serving }, calls))
    }

    /// Writes the report about the end of the run, which remains for `status`.
    ///
    /// # Errors
    ///
    /// Those of writing a file.
    pub fn write_ended(&self, ended: &EndedRun) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(ended)?;
        bytes.push(b'\n');
        Ok(self.claim.write_ended(&bytes)?)
    }

    /// Leaves the record of the supervisor before, whose workers live.
    ///
    /// # Errors
    ///
    /// Those of writing a file.
    pub fn leave_record(&mut self, record: &[u8]) -> io::Result<()> {
        self.claim.leave_record();
        Ok(self.claim.write_record(record)?)
    }

    /// Replaces the record, with these first processes of workers.
    ///
    /// # Errors
    ///
    /// Those of writing a file.
    pub fn write_record(
        &self,
        workers: &[i32],
        history: RunHistory,
        next: Continuation,
    ) -> io::Result<()> {
        let mut record = RunRecord::new(&self.info, workers, history);
        record.continuation = Some(next);
        let mut bytes = serde_json::to_vec(&record)?;
        bytes.push(b'\n');
        Ok(self.claim.write_record(&bytes)?)
    }

    /// Changes the description of the run in the next records.
    pub fn set_info(&mut self, info: RunInfo) {
        self.info = info;
    }

    /// Stops accepting clients, removes the files, and waits up to 1 s until clients have read their last
    /// reply. Every [`super::Responder`] must be finished or dropped before.
    pub async fn close(self) {
        let Self { claim, listener, close: closed, server: serving, .. } = self;
        drop((claim, listener, closed));
        // The task has a time limit of its own. Its panic changes nothing here.
        let _ = serving.await;
    }

    /// Makes the socket and the claim survive `exec`; clients wait meanwhile. No process may be started
    /// before `exec`. After a failed `exec`, call [`Self::close_on_exec`].
    ///
    /// # Errors
    ///
    /// Those of `fcntl`.
    pub fn keep_on_exec(&self) -> io::Result<InheritedControlSocket> {
        let run_files::InheritedClaim { folder, lock, path } = self.claim.keep_on_exec()?;
        let listener = inherit::keep_on_exec(&self.listener)?;
        Ok(InheritedControlSocket { folder, lock, path, listener })
    }

    /// Undoes [`Self::keep_on_exec`].
    ///
    /// # Errors
    ///
    /// Those of `fcntl`.
    pub fn close_on_exec(&self) -> io::Result<()> {
        self.claim.close_on_exec()?;
        Ok(inherit::close_on_exec(&self.listener)?)
    }

    /// Takes the socket that survived `exec`. To be called once, within a tokio runtime, before this
    /// program opens other descriptors.
    ///
    /// # Errors
    ///
    /// EBADF, ENOTDIR: the descriptors are not those of a control socket.
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
