//! The preload library, from outside: whether a program can load it, where its file lies, what it is
//! told by environment variables, and what it reports.

mod elf;
mod environment;
mod library_file;
mod program;
mod report;

pub use environment::{ChildPolicy, LIBRARY_PREFIX, LibraryOptions, ld_preload};
pub use library_file::{LibraryFile, folders, install};
pub use program::{LoadDoubt, Loadable, Obstacle, check_program};
pub use report::{LibraryReport, ReceivedReport, ReportSocket, SharedBy};
