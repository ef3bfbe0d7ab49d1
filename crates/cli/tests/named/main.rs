//! End-to-end tests of named runs: real programs, workers that misbehave, and the connections of
//! clients.
#![cfg(target_os = "linux")]

mod after_the_end;
mod canary;
mod children;
mod completions;
mod crashes;
mod drains;
mod each;
mod first_start;
mod hang_up;
#[path = "../harness/mod.rs"]
mod harness;
mod held_ports;
mod held_sockets;
mod launch;
mod programs;
mod ready;
mod revive;
mod socket_kinds;
mod supervisor;
mod takeover;
mod users;
