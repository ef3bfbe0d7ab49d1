//! Conversations over TCP that are a list of steps, and datagrams with an answer.

use std::fmt::Debug;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use super::tally::{Moment, Tally, connect};

/// A step of a conversation.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    Send(&'static [u8]),
    /// Reads until these bytes have arrived; others may be before them.
    Expect(&'static [u8]),
    /// Milliseconds in which the client does nothing.
    Pause(u64),
}

/// A connection that says everything, and then closes.
pub(crate) fn talk(client: &dyn Debug, to: SocketAddr, steps: &[Step], tally: &mut Tally) {
    let mut moment = Moment::First;
    let said = connect(to).and_then(|mut stream| {
        let mut unread = Vec::new();
        for step in steps {
            match step {
                Step::Send(bytes) => stream.write_all(bytes)?,
                Step::Pause(milliseconds) => thread::sleep(Duration::from_millis(*milliseconds)),
                Step::Expect(bytes) => {
                    read_until(&mut stream, &mut unread, bytes)?;
                    moment = Moment::Within;
                }
            }
        }
        Ok(())
    });
    match said {
        Ok(()) => tally.answered += 1,
        Err(error) => tally.fail(&error, moment, client),
    }
}

/// Reads until `wanted` has arrived, and removes everything up to it from `unread`.
fn read_until(stream: &mut TcpStream, unread: &mut Vec<u8>, wanted: &[u8]) -> io::Result<()> {
    loop {
        if let Some(at) = unread.windows(wanted.len()).position(|part| part == wanted) {
            unread.drain(..at + wanted.len());
            return Ok(());
        }
        if unread.len() > 65_536 {
            return Err(io::Error::new(ErrorKind::InvalidData, "much else than expected"));
        }
        let mut bytes = [0; 4096];
        match stream.read(&mut bytes)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            length => unread.extend_from_slice(&bytes[..length]),
        }
    }
}

/// The time in which an answer to a datagram arrives, also on a busy machine.
const ANSWER: Duration = Duration::from_secs(20);

/// A datagram. The network is a loopback device, so a question without an answer is a loss.
pub(crate) fn query(client: &dyn Debug, to: SocketAddr, question: &[u8], tally: &mut Tally) {
    let answered = || -> io::Result<()> {
        let socket = UdpSocket::bind(("127.0.0.1", 0))?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(ANSWER))?;
        socket.send(question)?;
        socket.recv(&mut [0; 2048]).map(drop)
    };
    match answered() {
        Ok(()) => tally.answered += 1,
        Err(error) => tally.fail(&error, Moment::First, client),
    }
    thread::sleep(Duration::from_millis(3));
}
