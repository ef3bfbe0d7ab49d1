//! Errors of listing sockets.

use std::io;

use sameport_policy::model::Protocol;

use super::sock_diag::{ATTEMPTS, DiagError};

/// Why the sockets could not be listed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// A system call failed.
    #[error("cannot list {protocol} sockets: {call}: {source}")]
    Ask {
        /// The call that failed.
        call: &'static str,
        /// The requested protocol.
        protocol: Protocol,
        /// The system's error.
        source: io::Error,
    },
    /// The kernel has no `inet_diag`, `tcp_diag` or `udp_diag`.
    #[error("cannot list {protocol} sockets: this kernel has no {protocol}_diag")]
    Unsupported {
        /// The requested protocol.
        protocol: Protocol,
    },
    /// The table changed during every attempt to read it.
    #[error("cannot list {protocol} sockets: the list changed during {tries} attempts to read it")]
    Unsettled {
        /// The requested protocol.
        protocol: Protocol,
        /// Number of attempts.
        tries: usize,
    },
    /// The reply does not match the kernel's headers.
    #[error("cannot list {protocol} sockets: the answer of sock_diag could not be understood")]
    Malformed {
        /// The requested protocol.
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
