//! The output of workers: its records in files, sizes of files, and the times of `--since`.

pub mod record;
pub mod size;
pub mod splitter;
pub mod time;
pub mod worker_pids;

pub use record::{LineEnding, Record, push_record};
pub use size::parse_size;
pub use splitter::LineSplitter;
pub use time::{parse_since, rfc3339};
pub use worker_pids::{WorkerPids, worker_of_message};
