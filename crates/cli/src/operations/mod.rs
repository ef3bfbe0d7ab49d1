//! Looking, deciding and acting: one file an operation. Nothing here prints or exits.
