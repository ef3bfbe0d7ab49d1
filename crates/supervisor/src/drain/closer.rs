//! Ends idle connections of draining workers.

use std::sync::mpsc::{Receiver, Sender, channel};

use sameport_policy::lifecycle::InstanceId;
use sameport_sys::socket::{CloseResult, IdleConnection, close_idle};

/// A connection of a worker that is to be closed: the worker, the connection's cookie.
pub(super) type Closing = (InstanceId, u64, IdleConnection);

/// Ends idle connections, on threads of their own.
#[derive(Debug)]
pub(super) struct IdleCloser {
    sender: Sender<(InstanceId, u64, CloseResult)>,
    receiver: Receiver<(InstanceId, u64, CloseResult)>,
}

impl IdleCloser {
    pub(super) fn new() -> Self {
        let (sender, receiver) = channel();
        Self { sender, receiver }
    }

    pub(super) fn close(&self, closing: Vec<Closing>) {
        if closing.is_empty() {
            return;
        }
        let sender = self.sender.clone();
        let failed: Vec<(InstanceId, u64)> =
            closing.iter().map(|(start, id, _)| (*start, *id)).collect();
        // Waits for the servers, and the last close of a socket with SO_LINGER blocks.
        let thread = std::thread::Builder::new().name("close-idle".into()).spawn(move || {
            let connections: Vec<IdleConnection> = closing.iter().map(|(.., it)| *it).collect();
            for ((start, id, _), result) in closing.iter().zip(close_idle(&connections)) {
                // The drains have ended meanwhile.
                let _ = sender.send((*start, *id, result));
            }
        });
        if thread.is_err() {
            for (start, id) in failed {
                let _ = self.sender.send((start, id, CloseResult::Failed));
            }
        }
    }

    pub(super) fn results(&self) -> Vec<(InstanceId, u64, CloseResult)> {
        self.receiver.try_iter().collect()
    }
}
