//! QUIC behind one port: connections stay with their process while clients change their port and
//! processes come and go. The servers and clients are quinn's.
#![cfg(target_os = "linux")]

mod client;
mod groups;
#[path = "../harness/mod.rs"]
mod harness;
mod runs;
mod server;
