//! Why traffic cannot be shown or changed.

use std::io;

use sameport_policy::addr::PortSpec;
use sameport_sys::inspect::InspectError;

use super::port::PortError;

/// Why traffic cannot be shown.
#[derive(Debug)]
pub(crate) enum Error {
    /// The name has no address.
    Name { name: String, source: io::Error },
    /// The kernel did not list sockets.
    Look(InspectError),
    /// No socket takes connections there.
    NoSocket(PortSpec),
}

impl From<PortError> for Error {
    fn from(error: PortError) -> Self {
        match error {
            PortError::Name { name, source } => Self::Name { name, source },
            PortError::Look(error) => Self::Look(error),
        }
    }
}
