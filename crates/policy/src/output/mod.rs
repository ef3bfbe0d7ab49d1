//! The output of workers: its records in files, sizes of files, and the times of `--since`.

pub mod record;
pub mod size;
pub mod splitter;
pub mod time;

pub use record::{LineEnding, Record, push_record};
pub use size::parse_size;
pub use splitter::LineSplitter;
pub use time::{parse_since, rfc3339};
