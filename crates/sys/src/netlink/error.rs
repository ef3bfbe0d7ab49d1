//! Errors of listing sockets.

use std::io;

use sameport_policy::model::Protocol;

use super::sock_diag::{ATTEMPTS, DiagError};

/// Why the list of sockets could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// A call of the conversation with the kernel failed.
    #[error("cannot list {protocol} sockets: {call}: {source}")]
    Ask {
        /// The call that failed.
        call: &'static str,
        /// What was asked for.
        protocol: Protocol,
        /// The system's error.
        source: io::Error,
    },
    /// The kernel has no `inet_diag`, `tcp_diag` or `udp_diag`.
    #[error("cannot list {protocol} sockets: this kernel has no {protocol}_diag")]
    Unsupported {
        /// What was asked for.
        protocol: Protocol,
    },
    /// The table changed during every attempt to read it.
    #[error("cannot list {protocol} sockets: the list changed during {tries} attempts to read it")]
    Unsettled {
        /// What was asked for.
        protocol: Protocol,
        /// How often.
        tries: usize,
    },
    /// The answer is not what the kernel's headers describe.
    #[error("cannot list {protocol} sockets: the answer of sock_diag could not be understood")]
    Malformed {
        /// What was asked for.
        protocol: Protocol,
    },
}

impl InspectError {
    pub(super) fn new(protocol: Protocol, error: DiagError) -> Self {
        match error {
            DiagError::Call(call, source) => Self::Ask { call, protocol, source },
            DiagError::NoModule => Self::Unsupported { protocol },
            DiagError::Unsettled => Self::Unsettled { protocol, tries: ATTEMPTS },
            DiagError::Malformed => Self::Malformed { protocol },
        }
    }
}
