//! The kinds of errors, by which a caller decides what to do.

/// The kind of an [`Error`](crate::Error).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Another socket has the address, and at least one of the two sockets is not shared. For a
    /// connection: the same pair of addresses is already connected.
    ///
    /// Also a shared socket of another user, where the system does not report the owner: on all
    /// systems but Linux, and on Linux for a TCP socket that is bound but not listening.
    InUse,
    /// A socket of another user has the address. Linux only. [`Error::owner_uid`] is the user.
    ///
    /// [`Error::owner_uid`]: crate::Error::owner_uid
    InUseByAnotherUser,
    /// Other sockets share the address, so the group cannot be steered by a program: it would select
    /// for them too. Only from [`Steering::Program`](crate::Steering::Program) and
    /// [`Member::withdraw`](crate::Member::withdraw).
    SharedByOthers,
    /// The caller lacks a privilege, for a low port or an option such as
    /// [`transparent`](crate::Options::transparent).
    NotPermitted,
    /// This machine has no such address or no such network device.
    AddressNotHere,
    /// The operating system or the kernel version does not support the operation.
    Unsupported,
    /// The text is not an address, the name does not resolve, or the options contradict the
    /// address.
    BadAddress,
    /// The socket that the caller or the parent process made is not one for this call: of another
    /// family or type, bound already, when options have no effect any more, or not what was asked for.
    WrongSocket,
    /// The peer refused the connection.
    Refused,
    /// The peer did not answer in time.
    TimedOut,
    /// Any other error, such as too many open files: see
    /// [`Error::os_error`](crate::Error::os_error).
    Other,
}
