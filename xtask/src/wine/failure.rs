//! Why the chore failed.

/// A missing program, with its package, or a message.
pub(super) enum WineFailure {
    Missing(String, &'static str),
    Failed(String),
}
