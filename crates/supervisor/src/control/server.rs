//! Serves the clients of the control socket.
//!
//! Clients run as this user, but can be broken, slow or many. None of them delays the supervisor: it
//! gets complete requests from a channel and sends its replies into another.

use std::time::Duration;

use sameport_sys::effective_user;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::codec;
use super::codec::FrameError;
use super::protocol::{ControlReply, ControlRequest, VERSION, VersionedRequest, WorkerUpdate};

/// Maximum number of connected clients.
pub(crate) const MAX_CLIENTS: usize = 64;

/// Time limit for a client to send its request, and to read a reply.
pub(crate) const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum number of updates in a client's queue.
const MAX_UPDATES: usize = 256;

/// Pause after a failed `accept`, for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Time limit for the last replies, after the socket is closed.
const FINAL_TIMEOUT: Duration = Duration::from_secs(1);

/// A request that waits for the supervisor.
#[derive(Debug)]
pub struct PendingRequest {
    /// The request.
    pub request: ControlRequest,
    /// Where its replies go.
    pub responder: Responder,
}

/// Sends replies to a client, without waiting. The replies to a client that has left are dropped.
#[derive(Debug)]
pub struct Responder {
    changes: mpsc::Sender<ControlReply>,
    /// A reserved place for the last reply: a full queue does not lose it.
    last: mpsc::OwnedPermit<ControlReply>,
}

impl Responder {
    /// Sends an update; drops it if the client's queue is full.
    pub fn send_update(&self, change: &WorkerUpdate) {
        drop(self.changes.try_send(ControlReply::Update(change.clone())));
    }

    /// Sends the last reply. Without one, the client gets an error when the responder is dropped.
    pub fn finish(self, reply: ControlReply) {
        self.last.send(reply);
    }
}

/// Serves clients until `closed`, then those that still wait for a reply.
pub(crate) async fn serve(
    listener: UnixListener,
    calls: mpsc::Sender<PendingRequest>,
    mut closed: oneshot::Receiver<()>,
) {
    let owner = effective_user();
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if !is_permitted(&stream, owner) => drop(stream),
                Ok((stream, _)) if clients.len() >= MAX_CLIENTS => refuse(&stream),
                Ok((stream, _)) => drop(clients.spawn(serve_client(stream, calls.clone()))),
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = clients.join_next(), if !clients.is_empty() => {}
            _ = &mut closed => break,
        }
    }
    drop((listener, calls));
    let remaining = async { while clients.join_next().await.is_some() {} };
    // A client that does not read in time misses its last reply.
    let _ = timeout(FINAL_TIMEOUT, remaining).await;
}

/// Whether the client runs as this user or root, by SO_PEERCRED.
fn is_permitted(stream: &UnixStream, owner: u32) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == owner || peer.uid() == 0)
}

/// Sends an error to a client above the maximum, without waiting.
fn refuse(stream: &UnixStream) {
    let error = format!("{MAX_CLIENTS} other clients are connected to this supervisor");
    let reply = ControlReply::failed(error, Some("try again in a few seconds"));
    if let Ok(bytes) = codec::encode(&reply, codec::MAX_REPLY) {
        // The send buffer is empty, so the write fits.
        let _ = stream.try_write(&bytes);
    }
}

async fn serve_client(mut stream: UnixStream, calls: mpsc::Sender<PendingRequest>) {
    let request = match timeout(CLIENT_TIMEOUT, read_request(&mut stream)).await {
        Ok(Ok(request)) => request,
        Ok(Err(reply)) => return drop(send(&mut stream, &reply).await),
        // No request in time.
        Err(_) => return,
    };
    let (changes, mut replies) = mpsc::channel(MAX_UPDATES + 1);
    let Ok(last) = changes.clone().try_reserve_owned() else { return };
    let call = PendingRequest { request, responder: Responder { changes, last } };
    if calls.send(call).await.is_err() {
        return drop(send(&mut stream, &supervisor_ended()).await);
    }
    if send(&mut stream, &ControlReply::Accepted).await.is_err() {
        return;
    }
    loop {
        let reply = tokio::select! {
            reply = replies.recv() => reply.unwrap_or_else(supervisor_ended),
            // The client closed the connection, or broke the protocol by sending more.
            _ = stream.read_u8() => return,
        };
        let over = reply.is_last();
        if send(&mut stream, &reply).await.is_err() || over {
            return;
        }
    }
}

fn supervisor_ended() -> ControlReply {
    ControlReply::failed("the supervisor ended before it was done", None)
}

/// Reads the request; the error is the reply to an invalid one.
async fn read_request(stream: &mut UnixStream) -> Result<ControlRequest, ControlReply> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let complaint = |error: FrameError| ControlReply::failed(error.to_string(), None);
    let broken = |error: std::io::Error| complaint(error.into());
    let mut header = [0; codec::HEADER];
    stream.read_exact(&mut header).await.map_err(broken)?;
    let length = codec::frame_length(header, codec::MAX_REQUEST).map_err(complaint)?;
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await.map_err(broken)?;
    // The meaning of the other fields depends on the version.
    let Version { version } = codec::decode(&bytes).map_err(complaint)?;
    if version != VERSION {
        let error = format!(
            "the supervisor is sameport {}, which takes version {VERSION}, not {version}, of \
             the control messages",
            env!("CARGO_PKG_VERSION")
        );
        return Err(ControlReply::failed(
            error,
            Some("ask it with the sameport that it was started by"),
        ));
    }
    let request: VersionedRequest = codec::decode(&bytes).map_err(complaint)?;
    Ok(request.request)
}

async fn send(stream: &mut UnixStream, reply: &ControlReply) -> Result<(), FrameError> {
    let bytes = codec::encode(reply, codec::MAX_REPLY)?;
    match timeout(CLIENT_TIMEOUT, stream.write_all(&bytes)).await {
        Ok(written) => Ok(written?),
        Err(_) => Err(FrameError::Incomplete),
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
