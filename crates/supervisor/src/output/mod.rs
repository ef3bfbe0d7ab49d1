//! The output of workers, where it does not go to the descriptors of the supervisor.
//!
//! Each worker has a pipe. `writer` is the program of the log writer, a process of its own that reads the pipes and
//! writes files or a terminal, so that a full disk delays no supervisor, and workers outlive one. `pipes` is the
//! supervisor's side: it keeps the ends to read, so that a log writer that is killed is started again and reads on.
//! `disk` is the part of the log writer that waits for the disk; `kept` reads back the last lines of a worker.

mod disk;
mod kept;
mod pipes;
mod writer;

use std::time::Duration;

pub(crate) use kept::last_lines;
pub(crate) use pipes::{HandoverOutput, OutputPipes, RecordedOutput, WorkerStreams};
pub use writer::{LogTarget, color_of, run as write_logs};

/// Time limit for the log writer to write what the workers wrote last.
pub(crate) const LAST_OUTPUT: Duration = Duration::from_secs(5);

/// The hidden verb that runs the log writer.
pub const LOG_WRITER: &str = "log-writer";
