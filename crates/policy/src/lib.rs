//! The decisions of sameport: pure functions from facts to verdicts.
//!
//! Facts and verdicts are plain values. The crate reads no file, clock, environment variable or
//! socket, and has no `unsafe`; `tests/structure` checks it. Every rule is therefore tested as a
//! table, on any system.

#![forbid(unsafe_code)]

pub mod audit;
pub mod bind;
pub mod capability;
pub mod classic_bpf;
pub mod diff;
pub mod drain;
pub mod drop_in;
pub mod guard;
pub mod guard_rules;
pub mod hang_up;
pub mod holder;
pub mod interpreter;
pub mod join_debounce;
pub mod launch;
pub mod lifecycle;
pub mod membership;
pub mod metrics;
pub mod model;
pub mod option_values;
pub mod output;
pub mod predict;
pub mod readiness;
pub mod refusal;
pub mod sandbox;
pub mod seccomp;
#[cfg(feature = "serde")]
mod serialize;
pub mod service_unit;
pub mod services;
pub mod spelling;
pub mod stop_signal;
pub mod systemd;
pub mod top;
pub mod traffic;
pub mod watchdog;

pub use sameport_addr as addr;

/// The source files that use `core` only, by name. The preload library is compiled from them, for
/// programs that may have no `std`. There they are siblings, so each refers to another by `super`.
pub const CORE_ONLY: &[(&str, &str)] = &[
    ("map.rs", include_str!("bind/map.rs")),
    ("overlap.rs", sameport_addr::OVERLAP_SOURCE),
    ("protocol.rs", sameport_addr::PROTOCOL_SOURCE),
    ("reuse.rs", include_str!("bind/reuse.rs")),
    ("share.rs", include_str!("bind/share.rs")),
    ("sockaddr.rs", include_str!("bind/sockaddr.rs")),
    ("source.rs", include_str!("bind/source.rs")),
];
