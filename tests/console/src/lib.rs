//! The commands of the documentation: parsed from Markdown, run in a shell of their own, compared with
//! the printed output, and drawn as a picture.
//!
//! A block of commands begins with ```` ```console ````. A line that begins with `$ ` is a command of an
//! ordinary user, one that begins with `# ` a command of root; the lines below it are its output.
//! A command goes on in the next line after `\`, and to the end of a here-document. A line of the output
//! that is `…` stands for any lines, `…` in a line for any text, and a number for any number, unless it is
//! a port.
//!
//! A word after `console` says who runs the block, where it is not the test of the pages:
//! [`Block::mark`].

mod page;
mod picture;
#[cfg(target_os = "linux")]
mod session;
mod shape;

pub use page::{Block, Page, Step};
pub use picture::{SESSION, draw};
#[cfg(target_os = "linux")]
pub use session::{Call, Session, Setup};
pub use shape::{contains, same};
