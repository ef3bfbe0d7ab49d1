//! Messages from a process to the one that started it.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::fd::inherit;

/// The longest message, in bytes.
pub const LONGEST: usize = 16 * 1024;

/// The end of the process that was started. A message arrives whole or not at all.
#[derive(Debug)]
pub struct MessageSender(OwnedFd);

/// The end of the process that has started the other.
#[derive(Debug)]
pub struct MessageReceiver(OwnedFd);

/// A connection in one direction: `socketpair(2)` with SOCK_SEQPACKET, Linux 2.6.4.
///
/// # Errors
///
/// Errors of `socketpair(2)`, such as EMFILE.
pub fn message_pair() -> io::Result<(MessageSender, MessageReceiver)> {
    let (sender, receiver) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    Ok((MessageSender(sender), MessageReceiver(receiver)))
}

impl MessageSender {
    /// Takes over the inherited descriptor of this number, see [`inherit::take`].
    ///
    /// # Errors
    ///
    /// Those of [`inherit::take`].
    pub fn inherited(number: RawFd) -> Result<Self, Errno> {
        inherit::take(number).map(Self)
    }

    /// The descriptor, to be passed to the other process.
    #[must_use]
    pub fn into_descriptor(self) -> OwnedFd {
        self.0
    }

    /// Sends a message, without waiting.
    ///
    /// # Errors
    ///
    /// AGAIN: the queue is full. EPIPE: the receiver has ended. MSGSIZE: the message is longer than [`LONGEST`].
    pub fn send(&self, message: &[u8]) -> Result<(), Errno> {
        if message.len() > LONGEST {
            return Err(Errno::MSGSIZE);
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        rustix::net::send(&self.0, message, flags).map(drop)
    }
}

impl MessageReceiver {
    /// Waits for the next message; `None`: every sender has ended.
    ///
    /// # Errors
    ///
    /// Errors of `recv(2)`.
    pub fn receive(&self) -> Result<Option<Vec<u8>>, Errno> {
        let mut message = vec![0; LONGEST];
        loop {
            match rustix::net::recv(self.0.as_fd(), &mut message[..], RecvFlags::empty()) {
                Ok((_, 0)) => return Ok(None),
                Ok((_, length)) => {
                    message.truncate(length);
                    return Ok(Some(message));
                }
                Err(Errno::INTR) => {}
                // The sender was killed with something unread.
                Err(Errno::CONNRESET) => return Ok(None),
                Err(errno) => return Err(errno),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_whole_and_then_the_end() {
        let (sender, receiver) = message_pair().unwrap();
        sender.send(b"one").unwrap();
        sender.send(&[7; LONGEST]).unwrap();
        assert_eq!(sender.send(&[7; LONGEST + 1]), Err(Errno::MSGSIZE));
        drop(sender);
        assert_eq!(receiver.receive(), Ok(Some(b"one".to_vec())));
        assert_eq!(receiver.receive(), Ok(Some(vec![7; LONGEST])));
        assert_eq!(receiver.receive(), Ok(None));
    }

    #[test]
    fn a_receiver_that_ended_or_does_not_read_is_not_waited_for() {
        let (sender, receiver) = message_pair().unwrap();
        let full = (0..10_000).find_map(|_| sender.send(b"line").err());
        assert_eq!(full, Some(Errno::AGAIN));
        drop(receiver);
        // `unix(7)`: ECONNRESET where messages were not read.
        let ended = sender.send(b"line");
        assert!(matches!(ended, Err(Errno::PIPE | Errno::CONNRESET)), "{ended:?}");
    }
}
