//! Telling the person: text for people on stdout or stderr, JSON for programs.

pub(crate) mod failure;
