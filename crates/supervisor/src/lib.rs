//! Starts and keeps the workers of `sameport run`.
//!
//! An interposer (`interpose`) makes the workers' binds shareable or moves them. The supervisor starts
//! the workers and stays until the last process ends; that of a named run restarts and replaces
//! workers, keeps their sockets (`pool`) and answers `control` requests. The crate prints nothing and
//! reads no arguments: events go to the caller's function.

#![cfg(target_os = "linux")]

mod bind_options;
pub mod conflict;
mod conflict_report;
pub mod control;
mod drain;
mod error;
mod event;
mod event_loop;
mod group_check;
pub mod guards;
mod handover;
mod held_ports;
mod interpose;
mod launch;
mod monitor;
mod named;
mod narrower;
mod next_program;
mod orphans;
mod output;
mod plain;
mod plan;
mod pool;
mod private_group;
mod processes;
mod readiness;
mod report;
mod run;
mod runtime;
mod service_manager;
mod start;
mod status;
mod termination;
mod traffic;
mod worker_ends;
mod workers;

pub use bind_options::{BindOptions, UnusedOption};
pub use error::{
    InheritError, PolicyError, PrivateGroupError, PrivateSocketError, RunError, TakeoverError,
};
pub use event::{AnswerTrouble, ContestedTraffic, OutOfReach, Remark, RunEvent};
pub use handover::{DETACHED, HANDOVER_FD, START_FD};
pub use launch::{LaunchOptions, UserError, WorkerUser};
pub use next_program::{CHECK, CHECK_DETACHED};
pub use output::{LOG_WRITER, LogTarget, color_of, write_logs};
pub use plan::{
    ChildrenMode, InterposerChoice, InterposerKind, KeptLog, NamedOptions, PROGRAM, PolicyChoice,
    PreloadOptions, ReadyCheck, ReadyOptions, RunBegin, RunEnvironment, RunPlan, SeccompOptions,
    SharingScope, TrafficOptions, WorkerOutput,
};
pub use run::{check, run};
pub use traffic::TrafficRecord;
