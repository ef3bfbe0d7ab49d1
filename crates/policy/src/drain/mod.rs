//! Draining: whether a worker that gets no new connections still has some in hand, and when it may be
//! told to end.
//!
//! The facts are those of `sock_diag` with `tcp_info`, which need no privilege, and with privilege the exact
//! order of data.

mod connection;
mod learning;
mod watch;

pub use connection::{Activity, ConnectionFacts, DataDirection, QUIET};
pub use learning::SelfDrain;
pub use watch::{DrainStep, DrainWatch};

/// What a worker finishes before it is told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DrainMode {
    /// Nothing: the program finishes its own work after the stop signal.
    None,
    /// The requests that are in hand.
    #[default]
    Busy,
    /// All connections.
    All,
}

impl DrainMode {
    /// The word on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Busy => "busy",
            Self::All => "all",
        }
    }
}
