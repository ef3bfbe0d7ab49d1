//! What changes, as it does.
