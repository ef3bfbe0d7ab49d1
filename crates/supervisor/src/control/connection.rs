//! A connection of a verb to a supervisor.

use std::io::{self, Read, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::client_error::ClientError;
use super::codec;
use super::codec::FrameError;
use super::protocol::{ControlReply, ControlRequest, VERSION, VersionedRequest};

/// A connection to a supervisor.
pub(super) struct Connection {
    stream: UnixStream,
    pid: i32,
    /// The time limit of one reply. Without it the next one may take any time.
    limit: Option<Duration>,
}

/// Reads before a point in time. The time limit of a socket is the one of a read: a supervisor that sends a byte
/// at a time would never exceed it.
struct TimedReader<'a> {
    stream: &'a UnixStream,
    until: Option<Instant>,
}

impl Read for TimedReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if let Some(until) = self.until {
            let rest = until.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(rest))?;
        }
        self.stream.read(into)
    }
}

impl Connection {
    pub(super) fn new(stream: UnixStream, pid: i32, limit: Duration) -> Self {
        Self { stream, pid, limit: Some(limit) }
    }

    /// Sends a request, and waits until the supervisor has accepted it.
    pub(super) fn accepted(mut self, request: ControlRequest) -> Result<Self, ClientError> {
        self.send_request(&VersionedRequest { version: VERSION, request })?;
        match self.next()? {
            ControlReply::Accepted => Ok(self),
            other => Err(self.unexpected(&other)),
        }
    }

    fn send_request(&mut self, request: &VersionedRequest) -> Result<(), ClientError> {
        let bytes = codec::encode(request, codec::MAX_REQUEST).map_err(|error| match error {
            FrameError::TooLong(bytes) => ClientError::TooLong(bytes, codec::MAX_REQUEST),
            error => ClientError::Frame(self.pid, error),
        })?;
        match self.stream.write_all(&bytes) {
            // The supervisor closed after it sent its reply.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other.map_err(|error| self.connection_error(error.into())),
        }
    }

    pub(super) fn disable_timeout(&mut self) -> Result<(), ClientError> {
        self.limit = None;
        self.stream.set_read_timeout(None).map_err(|error| self.connection_error(error.into()))
    }

    /// Reads the next reply. [`ControlReply::Failed`] becomes an error.
    pub(super) fn next(&mut self) -> Result<ControlReply, ClientError> {
        let until = self.limit.map(|limit| Instant::now() + limit);
        match codec::read(&mut TimedReader { stream: &self.stream, until }, codec::MAX_REPLY) {
            Ok(Some(ControlReply::Failed { fault, error, hint })) => {
                Err(ClientError::Failed { fault, error, hint })
            }
            Ok(Some(reply)) => Ok(reply),
            Ok(None) => Err(ClientError::SupervisorEnded(self.pid)),
            Err(error) => Err(self.connection_error(error)),
        }
    }

    fn connection_error(&self, error: FrameError) -> ClientError {
        match error {
            FrameError::Read(error)
                if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
            {
                ClientError::NoAnswer(self.pid)
            }
            FrameError::Incomplete => ClientError::SupervisorEnded(self.pid),
            error => ClientError::Frame(self.pid, error),
        }
    }

    pub(super) fn unexpected(&self, reply: &ControlReply) -> ClientError {
        ClientError::Frame(self.pid, FrameError::Invalid(format!("{reply:?} out of turn")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_in_small_parts_has_the_time_limit_of_one_reply() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let drips = std::thread::spawn(move || {
            let pause = Duration::from_millis(5);
            // A frame of 16,384 bytes, a byte at a time.
            theirs.write_all(&[0, 0, 0x40, 0]).unwrap();
            while stopped.recv_timeout(pause) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                theirs.write_all(b" ").unwrap();
            }
        });
        let mut connection = Connection::new(ours, 7, Duration::from_millis(50));
        assert!(matches!(connection.next(), Err(ClientError::NoAnswer(7))));
        drop(stop);
        drips.join().unwrap();
    }
}
