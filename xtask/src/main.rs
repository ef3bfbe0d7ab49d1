//! Chores of the project: `cargo xtask CHORE`.

fn main() {}
