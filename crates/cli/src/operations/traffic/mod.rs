//! The traffic of ports: `steer` and `drain`.
//!
//! [`port`] finds the members of a port, [`facts`] has them as `sameport_policy::traffic` wants them.
//! [`change`] is what a user wants. [`steer`] asks the supervisor of the members ([`supervised`]), or changes the
//! state of the kernel ([`direct`]). [`drain`] waits for what a member has, and [`status`] is what holds.

pub(crate) mod change;
mod direct;
pub(crate) mod drain;
pub(crate) mod error;
mod facts;
mod held;
pub(crate) mod port;
mod rights;
pub(crate) mod status;
pub(crate) mod steer;
mod supervised;

pub(crate) use error::Error;

/// Removes states that killed programs have left, if this user may.
pub(crate) fn remove_stale() {
    sameport_sys::bpf::traffic::TrafficState::remove_stale();
}
