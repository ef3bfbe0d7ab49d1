//! The output of `top`: lines for `--once` and for the screen, JSON, and the screen itself.
//!
//! `cells` makes the text of a row, `lines` puts rows into columns. `screen_state` is what a user has selected and
//! typed, `draw` draws it, `keys` reads what was typed, `ansi` writes to the terminal, and `live` joins them.

mod ansi;
mod cells;
mod draw;
pub(crate) mod json;
mod keys;
pub(crate) mod lines;
pub(crate) mod live;
mod screen_state;
#[cfg(test)]
mod tests;
