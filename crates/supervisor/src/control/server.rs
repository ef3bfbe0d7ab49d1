//! At the door: who may ask, what is understood, and what becomes of it.
//!
//! Clients belong to this user, and may still be broken, slow, many, or gone. None of them keeps the
//! supervisor waiting: it gets whole requests over a channel, and its replies go into another one.

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

/// How many clients are attended to at once.
pub(crate) const MAX_CLIENTS: usize = 64;

/// How long a client may take to say what it wants, and to read a reply.
pub(crate) const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);

/// How many changes may wait for a client to read them.
const MAX_UPDATES: usize = 256;

/// A pause when no connection can be accepted, for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long the last replies may take, once the door is closed.
const FINAL_TIMEOUT: Duration = Duration::from_secs(1);

/// Something that is asked of the supervisor.
#[derive(Debug)]
pub struct PendingRequest {
    pub request: ControlRequest,
    pub responder: Responder,
}

/// The way back to who asked, who may have gone: then what is said is lost, and what was asked for
/// is done all the same. Nothing here waits.
#[derive(Debug)]
pub struct Responder {
    changes: mpsc::Sender<ControlReply>,
    /// Room for the last reply, however far behind the client is.
    last: mpsc::OwnedPermit<ControlReply>,
}

impl Responder {
    /// Something happened on the way. A client that is far behind does not hear of it.
    pub fn send_update(&self, change: &WorkerUpdate) {
        drop(self.changes.try_send(ControlReply::Update(change.clone())));
    }

    /// The last reply. A caller that never gets one is told that the supervisor has ended.
    pub fn finish(self, reply: ControlReply) {
        self.last.send(reply);
    }
}

/// Attends to clients until the door is closed, and then to those who still wait for a reply.
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
    let everybody = async { while clients.join_next().await.is_some() {} };
    // Who does not read now never hears it.
    let _ = timeout(FINAL_TIMEOUT, everybody).await;
}

/// Our own user, and root. The kernel remembers who connected; not a byte is read before.
fn is_permitted(stream: &UnixStream, owner: u32) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == owner || peer.uid() == 0)
}

/// One too many: told so in a moment, or not at all.
fn refuse(stream: &UnixStream) {
    let error = format!("{MAX_CLIENTS} others ask this supervisor already");
    let reply = ControlReply::failed(error, Some("try again in a few seconds"));
    if let Ok(bytes) = codec::encode(&reply, codec::MAX_REPLY) {
        // Nothing else is in its buffer.
        let _ = stream.try_write(&bytes);
    }
}

async fn serve_client(mut stream: UnixStream, calls: mpsc::Sender<PendingRequest>) {
    let request = match timeout(CLIENT_TIMEOUT, read_request(&mut stream)).await {
        Ok(Ok(request)) => request,
        Ok(Err(reply)) => return drop(send(&mut stream, &reply).await),
        // It never said what it wanted.
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
            // A client has no more to say: it is gone, or knows no manners.
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

/// The request, or what to answer to what is none.
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
    // Another version may mean anything by the rest.
    let Version { version } = codec::decode(&bytes).map_err(complaint)?;
    if version != VERSION {
        let error = format!(
            "the supervisor is sameport {}, which is asked by version {VERSION}, not {version}, of \
             the control messages",
            env!("CARGO_PKG_VERSION")
        );
        return Err(ControlReply::failed(
            error,
            Some("ask it with the sameport that it was started by"),
        ));
    }
    let asked: VersionedRequest = codec::decode(&bytes).map_err(complaint)?;
    Ok(asked.request)
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
