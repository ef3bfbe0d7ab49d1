//! Set-ups with which nothing is wrong.
