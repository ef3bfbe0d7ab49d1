//! Predicts the result of `bind(2)` and `listen(2)`, and the receiver of the traffic.
//!
//! The rules are those of Linux 6.x: `inet_csk_get_port`, `inet_bind_conflict`,
//! `inet_rcv_saddr_equal`, `udp_lib_lport_inuse`, `__inet_lookup_listener`, `udp4_lib_lookup2` and
//! their IPv6 counterparts. `tests/prediction` compares every prediction with the running kernel. If
//! the result depends on a hidden fact (an option of another user's socket, the order of two binds),
//! the prediction is [`PredictedResult::Uncertain`] and names the fact.
//!
//! Out of scope: TCP sockets whose options or owner changed after their bind, or that are closed (the
//! kernel remembers the last bind of a port in use); VRFs; binds refused by cgroup programs or
//! security modules.

mod bind;
mod conflict;
mod contest;
mod existing;
mod model;
mod remedies;
#[cfg(test)]
mod tests;
mod traffic;

pub use bind::predict;
pub use conflict::conflicts;
pub use contest::{Contest, Winner, contests};
pub use existing::existing_sockets;
pub use model::{
    BindRequest, Conflict, ExistingSocket, Missing, PortLimits, PredictedRefusal, PredictedResult,
    Prediction, ReuseFlag, SocketUse, TrafficEffect, TrafficOutcome, Uncertainty, UnknownFact,
};
pub use remedies::{Remedy, remedies};
