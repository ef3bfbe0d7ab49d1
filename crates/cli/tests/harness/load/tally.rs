//! The losses of a client, and when in the life of a connection they happen.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

/// The timeout of each step.
const PATIENCE: Duration = Duration::from_secs(120);

/// The kind of a loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Loss {
    /// No listener.
    Refused,
    /// A reset or an early end, before the first byte of the first answer.
    Unanswered,
    /// A reset or an early end of a request on a connection that had been idle.
    CutWhenIdle,
    /// A reset or an early end, after a part of the answer or of the conversation.
    CutInHand,
    /// A step took longer than the timeout.
    TimedOut,
    /// Another answer than expected.
    WrongAnswer,
}

/// The moment of a connection at which an error occurs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Before the first byte of the first answer.
    First,
    /// After a complete answer, before the first byte of the next.
    Idle,
    /// After a part of an answer.
    Within,
}

impl Loss {
    /// `None` for an error of this machine, such as no descriptors.
    pub(crate) fn of(error: &io::Error, moment: Moment) -> Option<Self> {
        Some(match error.kind() {
            ErrorKind::ConnectionRefused => Self::Refused,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Self::TimedOut,
            ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::NotConnected
            | ErrorKind::UnexpectedEof => match moment {
                Moment::First => Self::Unanswered,
                Moment::Idle => Self::CutWhenIdle,
                Moment::Within => Self::CutInHand,
            },
            ErrorKind::InvalidData => Self::WrongAnswer,
            _ => return None,
        })
    }
}

/// The results of all clients of a phase.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Requests with their complete answers, and complete conversations.
    pub(crate) answered: u64,
    /// Each loss with the client and its error.
    pub(crate) lost: Vec<(Loss, String)>,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.lost.extend(other.lost);
    }

    /// The number of losses of each kind.
    pub(crate) fn kinds(&self) -> BTreeMap<Loss, usize> {
        let mut kinds = BTreeMap::new();
        for (loss, _) in &self.lost {
            *kinds.entry(*loss).or_default() += 1;
        }
        kinds
    }

    /// Records the end of a connection by an error.
    pub(crate) fn fail(&mut self, error: &io::Error, moment: Moment, client: &dyn Debug) {
        let Some(loss) = Loss::of(error, moment) else {
            panic!("{client:?}: an error of this machine: {error}");
        };
        self.lost.push((loss, format!("{client:?}: {error}")));
        // One outage does not count many times.
        thread::sleep(Duration::from_millis(20));
    }
}

/// Connects, with the timeout for each later step.
pub(crate) fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
