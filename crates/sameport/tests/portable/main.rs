//! What holds on every system, or differs by the facts of `sameport::support()`.
//!
//! `expected` is the table of these differences. Facts of Linux alone are in `linux.rs` and
//! `users_and_namespaces.rs`.

mod dialing;
mod dual_stack;
mod exclusive;
mod expected;
mod refusals;
mod support;
mod tcp;
mod traffic;
mod udp;
