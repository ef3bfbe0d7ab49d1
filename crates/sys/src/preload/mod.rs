//! The host side of the preload library: its file, its environment variables, its reports, and
//! whether a program can load it.

mod elf;
mod environment;
mod library_file;
mod program;
mod report;

pub use environment::{ChildrenMode, LIBRARY_PREFIX, LibraryOptions, ld_preload};
pub use library_file::{LibraryFile, folders, install};
pub use program::{LoadDoubt, Loadable, Obstacle, check_program};
pub use report::{LibraryReport, ReceivedReport, ReportSocket, SharedBy};
