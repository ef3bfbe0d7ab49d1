//! The set of guards, on this machine.
