//! The sources of the project as the structural tests and `cargo xtask survey` read them: code
//! without comments, literals and tests; items; comments; modules and the imports between files.
//!
//! Everything is read from the text: no build, no macro expansion.

mod blank;
mod comment;
mod cycle;
mod declaration;
mod import;
mod item;
mod module;
mod source;
mod token;

pub use comment::Comment;
pub use cycle::cycles;
pub use import::imports;
pub use item::{Item, Kind};
pub use source::{Source, sources};
pub use token::in_a_name;

/// Type names that several modules may have, because the module completes their meaning.
pub const SHARED_TYPE_NAMES: &[&str] = &["Args", "Error", "Options"];
