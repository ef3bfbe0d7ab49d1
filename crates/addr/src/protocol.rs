//! TCP and UDP.
//!
//! This file uses `core` only: the preload library is compiled from it.

use core::fmt;

/// A transport protocol. TCP and UDP have separate port spaces.
///
/// `Display` writes [`Protocol::name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP: listeners and connections.
    Tcp,
    /// UDP: datagrams.
    Udp,
}

impl Protocol {
    /// `tcp` or `udp`, as in messages and JSON.
    ///
    /// ```
    /// assert_eq!(sameport_addr::Protocol::Tcp.name(), "tcp");
    /// ```
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
