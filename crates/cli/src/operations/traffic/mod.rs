//! The traffic of ports: `steer`.
//!
//! [`port`] finds the members of a port, [`facts`] has them as `sameport_policy::traffic` wants them, and
//! [`status`] is what holds.

pub(crate) mod error;
pub(crate) mod facts;
pub(crate) mod port;
pub(crate) mod status;

pub(crate) use error::Error;
