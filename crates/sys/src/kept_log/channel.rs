//! The socket between a supervisor and its log writer, which passes the pipes.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType,
};

use crate::fd::poll::wait_readable;

/// The longest label in bytes: the name of a run and a number.
const LABEL: usize = 512;

/// The supervisor's end.
#[derive(Debug)]
pub struct PipeSender(OwnedFd);

/// The log writer's end.
#[derive(Debug)]
pub struct PipeReceiver(OwnedFd);

/// A message for the log writer.
#[derive(Debug)]
pub enum ReceivedPipe {
    /// A pipe to read, and the text in front of its lines.
    Pipe(String, OwnedFd),
    /// The supervisor sends no more pipes.
    End,
    /// Nothing has arrived.
    Nothing,
}

/// Opens the socket.
///
/// # Errors
///
/// Errors of `socketpair(2)`.
pub(super) fn channel() -> Result<(PipeSender, OwnedFd), Errno> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    let (ours, theirs) = rustix::net::socketpair(family, kind, SocketFlags::CLOEXEC, None)?;
    Ok((PipeSender(ours), theirs))
}

impl PipeSender {
    /// Takes an inherited end.
    #[must_use]
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// The descriptor, for `exec`.
    #[must_use]
    pub fn fd(&self) -> &OwnedFd {
        &self.0
    }

    /// Passes a pipe, without waiting.
    ///
    /// # Errors
    ///
    /// EAGAIN: the log writer has not read earlier ones. EPIPE, ECONNRESET: it has ended.
    pub fn send(&self, label: &str, pipe: BorrowedFd<'_>) -> Result<(), Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [pipe];
        control.push(SendAncillaryMessage::ScmRights(&fds));
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let label = &label.as_bytes()[..label.len().min(LABEL)];
        rustix::net::sendmsg(&self.0, &[IoSlice::new(label)], &mut control, flags).map(drop)
    }

    /// Ends the messages, and waits until the log writer has written what was in the pipes, or has ended, for at most
    /// `timeout`.
    pub fn finish(&self, timeout: Duration) {
        // Fails if the log writer has ended.
        let _ = rustix::net::shutdown(&self.0, Shutdown::Write);
        wait_readable(&self.0, timeout);
    }
}

impl PipeReceiver {
    /// The end that a log writer has as its standard input.
    ///
    /// # Errors
    ///
    /// Errors of `fcntl(2)`.
    pub fn of_stdin() -> Result<Self, Errno> {
        Ok(Self(rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 3)?))
    }

    /// The descriptor, to wait for.
    #[must_use]
    pub fn fd(&self) -> &OwnedFd {
        &self.0
    }

    /// The next message, without waiting.
    pub fn receive(&self) -> ReceivedPipe {
        let mut label = [0; LABEL];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let mut bytes = [IoSliceMut::new(&mut label)];
        let length = match rustix::net::recvmsg(self.0.as_fd(), &mut bytes, &mut control, flags) {
            Ok(received) => received.bytes,
            Err(Errno::AGAIN | Errno::INTR) => return ReceivedPipe::Nothing,
            Err(_) => return ReceivedPipe::End,
        };
        let mut pipe = None;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(mut fds) = message {
                pipe = fds.next();
            }
        }
        match (length, pipe) {
            (0, None) => ReceivedPipe::End,
            (_, Some(pipe)) => {
                ReceivedPipe::Pipe(String::from_utf8_lossy(&label[..length]).into_owned(), pipe)
            }
            // The limit of descriptors is reached: the supervisor keeps the pipe.
            (_, None) => ReceivedPipe::Nothing,
        }
    }

    /// Tells a supervisor that waits in [`PipeSender::finish`] that everything is written.
    pub fn finished(&self) {
        // The supervisor may have ended.
        let _ = rustix::net::send(&self.0, b"!", SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_and_their_end_arrive_in_order() {
        let (sender, receiver) = channel().unwrap();
        let receiver = PipeReceiver(receiver);
        assert!(matches!(receiver.receive(), ReceivedPipe::Nothing));
        let (reader, writer) = std::io::pipe().unwrap();
        std::io::Write::write_all(&mut &writer, b"x").unwrap();
        for number in 1..=256 {
            sender.send(&format!("web.{number}"), reader.as_fd()).unwrap();
        }
        for number in 1..=256 {
            let ReceivedPipe::Pipe(label, _) = receiver.receive() else { panic!("{number}") };
            assert_eq!(label, format!("web.{number}"));
        }
        sender.finish(Duration::ZERO);
        assert!(matches!(receiver.receive(), ReceivedPipe::End));
        receiver.finished();
        sender.finish(Duration::from_secs(3600));
        drop(receiver);
        assert!(sender.send("web.1", reader.as_fd()).is_err());
    }
}
