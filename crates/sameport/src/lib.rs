//! Shared and exclusive TCP listeners and UDP sockets.
