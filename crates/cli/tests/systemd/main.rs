//! Named runs as services of the real systemd, which is pid 1 of namespaces of its own. `machine.rs`
//! says how a test starts one.
#![cfg(target_os = "linux")]

mod advice;
mod attachments;
mod documents;
mod guards;
mod hardened;
#[path = "../harness/mod.rs"]
mod harness;
mod holders;
mod install_service;
mod killed_supervisor;
mod logs;
mod machine;
mod machine_ends;
mod package;
mod passed_sockets;
mod second_program;
mod services;
mod socket_units;
mod traffic;
mod user_holders;
mod user_manager;
