//! Facts about sockets and the processes that hold them.
