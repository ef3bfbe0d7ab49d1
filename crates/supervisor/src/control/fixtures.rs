//! A supervisor for tests: a control socket in a thread of its own.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use sameport_sys::run_files::NameClaim;
use tokio::sync::mpsc;

use super::protocol::{ControlReply, ControlRequest, RunStatus, WorkerPhase, WorkerUpdate};
use super::{ControlSocket, PendingRequest, RunInfo};

pub(crate) const NAME: &str = "web";

/// A supervisor without workers. It ends on a stop request.
pub(crate) struct ControlFixture {
    pub(crate) dir: tempfile::TempDir,
    thread: Option<JoinHandle<()>>,
}

impl ControlFixture {
    /// Opens the control socket and calls `attend` with its requests.
    pub(crate) fn new<F, A>(attend: F) -> Self
    where
        F: FnOnce(ControlSocket, mpsc::Receiver<PendingRequest>) -> A + Send + 'static,
        A: Future<Output = ()>,
    {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("sameport");
        let (opened, is_open) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let claim = NameClaim::take(&NAME.parse().unwrap(), &[folder]).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let (door, calls) = ControlSocket::open(claim, about()).unwrap();
                opened.send(()).unwrap();
                attend(door, calls).await;
            });
        });
        is_open.recv().unwrap();
        Self { dir, thread: Some(thread) }
    }

    /// A supervisor that executes each request at once.
    pub(crate) fn willing() -> Self {
        Self::new(willing)
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.dir.path().join("sameport")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder().join(format!("{NAME}.sock"))
    }

    /// Waits for the end of the thread.
    pub(crate) fn ended(mut self) -> tempfile::TempDir {
        self.thread.take().unwrap().join().unwrap();
        assert!(!self.folder().exists(), "something is left");
        self.dir
    }
}

pub(crate) async fn willing(door: ControlSocket, mut calls: mpsc::Receiver<PendingRequest>) {
    while let Some(PendingRequest { request, responder: replies }) = calls.recv().await {
        match request {
            ControlRequest::Status => replies.finish(ControlReply::Status(Box::new(status()))),
            ControlRequest::Restart { surge, .. } => {
                for worker in 1..=surge.unwrap_or(1) {
                    replies.send_update(&change(worker));
                }
                replies.finish(ControlReply::Done);
            }
            ControlRequest::Stop => {
                replies.finish(ControlReply::Done);
                break;
            }
            other => replies.finish(ControlReply::failed(format!("{other:?}"), Some("next"))),
        }
    }
    door.close().await;
}

pub(crate) fn about() -> RunInfo {
    RunInfo {
        service: None,
        detached: false,
        command: vec!["node".into(), "server.js".into()],
        directory: Path::new("/srv").into(),
        since: 1,
    }
}

pub(crate) fn change(worker: u16) -> WorkerUpdate {
    WorkerUpdate {
        at: 7,
        worker,
        canary: false,
        pid: Some(41),
        state: WorkerPhase::Ready,
        why: None,
        connections: Some(2),
        in_hand: None,
        next_start: None,
    }
}

pub(crate) fn status() -> RunStatus {
    RunStatus {
        name: NAME.into(),
        pid: std::process::id().cast_signed(),
        version: "0".into(),
        since: 1,
        command: about().command,
        directory: about().directory,
        via: "seccomp".into(),
        copies: 0,
        workers: Vec::new(),
        addresses: Vec::new(),
        remarks: Vec::new(),
        treatment: Default::default(),
    }
}
