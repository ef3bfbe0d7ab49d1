//! Accepting connections, for verbs that serve many clients.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections at once; others wait in the accept queue. The usual limit of descriptors is 1,024, and each
/// question to a supervisor needs some.
pub(crate) const CONNECTIONS: usize = 512;

/// The pause after an `accept` that failed for lack of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);

/// A listener of any family.
pub(crate) trait StreamListener {
    /// Its connections.
    type Stream;

    /// Accepts the next connection.
    fn next(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl StreamListener for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

impl StreamListener for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<UnixStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

/// Passes each connection to `serve`, with the slot that it has until the slot is dropped.
pub(crate) async fn accept_all<L: StreamListener>(
    listener: L,
    slots: Arc<Semaphore>,
    serve: impl Fn(L::Stream, OwnedSemaphorePermit),
) {
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match listener.next().await {
            Ok(stream) => serve(stream, slot),
            // The peer reset the connection while it waited in the queue.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
