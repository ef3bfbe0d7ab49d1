//! The preload library, from outside: whether a program can load it, where its file lies, what it is
//! told by environment variables, and what it reports.

mod elf;
mod environment;
mod library_file;
mod program;
mod report;

pub use environment::{Children, NAME, Orders, list};
pub use library_file::{Placed, folders, place};
pub use program::{Doubt, Loadable, Obstacle, check};
pub use report::{Inbox, Received, Report, Sharing};
