//! The walls of the house, as absences. ARCHITECTURE.md names them; this file keeps them.
//!
//! Every check is a function from a source or a manifest to complaints, and each is also fed
//! something broken, so that a check that no longer sees anything fails as well.

#[path = "walls/source.rs"]
mod source;

#[path = "walls/absences.rs"]
mod absences;

#[path = "walls/shape.rs"]
mod shape;

#[path = "walls/arrows.rs"]
mod arrows;

/// Fails with one line a complaint, each of which says what to do.
#[track_caller]
fn none(complaints: impl IntoIterator<Item = String>) {
    let complaints: Vec<_> = complaints.into_iter().collect();
    assert!(complaints.is_empty(), "\n\n{}\n", complaints.join("\n"));
}
