//! The error of this crate: call, address, kind and cause.

use std::fmt;
use std::io;

use crate::error_kind::ErrorKind;
use crate::socket_job::BindRefusal;
use crate::system::{Here, System};

/// A failed call: its name, the address and the reason.
///
/// `Display` writes one line in lower case, such as
/// `bind 127.0.0.1:8080: in use by another user (uid 33)`. `source` is the error of the operating
/// system.
///
/// # Conversion into `io::Error`
///
/// An [`io::Error`] has either a number or a text. `?` and `into` keep the number
/// ([`io::Error::raw_os_error`]) if the operating system gave one, so that code that compares numbers
/// or kinds works as with std; the address and the reason are lost. Other errors keep this error as
/// their inner error, with the corresponding kind. To keep the text, print this error before the
/// conversion, or convert with [`io::Error::other`]:
///
/// ```
/// # let held = sameport::listen_exclusive("127.0.0.1:0")?;
/// # let address = held.local_addr()?;
/// let error = sameport::listen(address).map_err(std::io::Error::other).unwrap_err();
/// assert!(error.to_string().starts_with("bind 127.0.0.1:"));
///
/// let error: std::io::Error = sameport::listen(address).unwrap_err().into();
/// assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
/// assert!(error.raw_os_error().is_some());
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Examples
///
/// ```
/// let held = sameport::listen_exclusive("127.0.0.1:0")?;
/// let address = held.local_addr()?;
///
/// let error = sameport::listen(address).unwrap_err();
/// assert_eq!(error.kind(), sameport::ErrorKind::InUse);
/// assert_eq!((error.call(), error.address()), ("bind", address.to_string().as_str()));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    call: &'static str,
    address: String,
    owner_uid: Option<u32>,
    note: Option<String>,
    os: Option<io::Error>,
}

/// The result of this crate's fallible functions.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The kind of the error.
    ///
    /// ```
    /// let error = sameport::listen("127.0.0.1:x").unwrap_err();
    /// assert_eq!(error.kind(), sameport::ErrorKind::BadAddress);
    /// ```
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The name of the failed call: `bind`, `listen`, `connect`, `socket`, `resolve`,
    /// `setsockopt(device)` and so on; `address` if a text is not an address; `apply`, `take` and
    /// `LISTEN_FDS` for sockets that the caller or the parent process made.
    ///
    /// ```
    /// let held = sameport::listen_exclusive("127.0.0.1:0")?;
    /// let error = sameport::listen(held.local_addr()?).unwrap_err();
    /// assert_eq!(error.call(), "bind");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn call(&self) -> &'static str {
        self.call
    }

    /// The address of the call; for a connection `FROM to TO`, or `TO` if the system chooses all of
    /// `FROM`.
    ///
    /// ```
    /// let held = sameport::listen_exclusive("127.0.0.1:0")?;
    /// let error = sameport::listen(held.local_addr()?).unwrap_err();
    /// assert_eq!(error.address(), held.local_addr()?.to_string());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The owner of the conflicting socket, a user id. Linux only, from `/proc/net`.
    ///
    /// ```
    /// let held = sameport::listen_exclusive("127.0.0.1:0")?;
    /// let error = sameport::listen(held.local_addr()?).unwrap_err();
    /// if let Some(uid) = error.owner_uid() {
    ///     println!("held by user {uid}");
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn owner_uid(&self) -> Option<u32> {
        self.owner_uid
    }

    /// The error of the operating system, if the call reached it.
    ///
    /// ```
    /// let held = sameport::listen_exclusive("127.0.0.1:0")?;
    /// let error = sameport::listen(held.local_addr()?).unwrap_err();
    /// let error = error.os_error().expect("the system refused it");
    /// assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[doc(alias = "source")]
    #[must_use]
    pub fn os_error(&self) -> Option<&io::Error> {
        self.os.as_ref()
    }

    /// The number of the operating system's error, such as 98 (`EADDRINUSE`) on Linux.
    ///
    /// `None` if the call did not reach the system, and for a timeout of
    /// [`connect_timeout`](crate::connect_timeout).
    ///
    /// ```
    /// let held = sameport::listen_exclusive("127.0.0.1:0")?;
    /// let error = sameport::listen(held.local_addr()?).unwrap_err();
    /// println!("errno {:?}", error.raw_os_error());
    /// let error = sameport::listen("127.0.0.1:x").unwrap_err();
    /// assert_eq!(error.raw_os_error(), None);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[doc(alias = "errno")]
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        self.os.as_ref().and_then(io::Error::raw_os_error)
    }

    /// A suggestion for the user, without a full stop.
    ///
    /// ```
    /// let held = sameport::listen_exclusive("127.0.0.1:0")?;
    /// let error = sameport::listen(held.local_addr()?).unwrap_err();
    /// assert!(error.hint().is_some_and(|hint| hint.contains("another port")));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self.kind {
            ErrorKind::InUse if self.call == "connect" => Some("use another local port"),
            ErrorKind::InUse => Some("open it as shared in every program, or pick another port"),
            ErrorKind::InUseByAnotherUser => Some("run as that user, or pick another port"),
            ErrorKind::NotPermitted => Some("pick a port from 1024 up, or grant the privilege"),
            ErrorKind::AddressNotHere => Some("use an address and a device that this machine has"),
            _ => None,
        }
    }

    pub(crate) fn new(kind: ErrorKind, call: &'static str, address: impl fmt::Display) -> Self {
        Self { kind, call, address: address.to_string(), owner_uid: None, note: None, os: None }
    }

    pub(crate) fn os(call: &'static str, address: impl fmt::Display, os: io::Error) -> Self {
        Self { os: None, ..Self::new(kind_of(&os), call, address) }.with_source(os)
    }

    pub(crate) fn refused(
        call: &'static str,
        address: impl fmt::Display,
        os: io::Error,
        refusal: BindRefusal,
    ) -> Self {
        Self {
            owner_uid: refusal.uid,
            note: refusal.note.map(String::from),
            ..Self::new(refusal.kind, call, address)
        }
        .with_source(os)
    }

    pub(crate) fn text(text: &str, reason: &impl fmt::Display) -> Self {
        Self::new(ErrorKind::BadAddress, "address", text.chars().take(60).collect::<String>())
            .with_note(reason.to_string())
    }

    pub(crate) fn with_note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    pub(crate) fn with_source(mut self, os: io::Error) -> Self {
        self.os = Some(os);
        self
    }

    pub(crate) fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.call == "address" {
            // The note quotes the text itself.
            return f.write_str(self.note.as_deref().unwrap_or("not an address"));
        }
        write!(f, "{} {}: ", self.call, self.address)?;
        if let Some(note) = &self.note {
            return f.write_str(note);
        }
        match (self.kind, self.owner_uid, &self.os) {
            (ErrorKind::InUse, ..) if self.call == "connect" => f.write_str("already connected"),
            (ErrorKind::InUse, Some(_), _) => {
                f.write_str("in use by the same user, and not shared")
            }
            (ErrorKind::InUse, ..) => f.write_str("in use, and not shared"),
            (ErrorKind::InUseByAnotherUser, Some(uid), _) => {
                write!(f, "in use by another user (uid {uid})")
            }
            (ErrorKind::InUseByAnotherUser, ..) => f.write_str("in use by another user"),
            (ErrorKind::SharedByOthers, ..) => f.write_str("shared with other sockets"),
            (ErrorKind::NotPermitted, ..) => f.write_str("not permitted"),
            (ErrorKind::AddressNotHere, ..) => f.write_str("this machine has no such address"),
            (ErrorKind::Unsupported, ..) => f.write_str("not supported by this system"),
            (ErrorKind::BadAddress, ..) => f.write_str("not a usable address"),
            (ErrorKind::WrongSocket, ..) => f.write_str("not a socket for this call"),
            (ErrorKind::Refused, ..) => f.write_str("refused"),
            (ErrorKind::TimedOut, ..) => f.write_str("timed out"),
            (ErrorKind::Other, _, Some(os)) => write!(f, "{os}"),
            (ErrorKind::Other, ..) => f.write_str("failed"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.os.as_ref().map(|os| os as _)
    }
}

/// Keeps the number of the operating system's error, or else this error and the corresponding kind:
/// see [`Error`].
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        if let Some(number) = error.raw_os_error() {
            return Self::from_raw_os_error(number);
        }
        let kind = match error.kind {
            ErrorKind::InUse | ErrorKind::InUseByAnotherUser | ErrorKind::SharedByOthers => {
                io::ErrorKind::AddrInUse
            }
            ErrorKind::NotPermitted => io::ErrorKind::PermissionDenied,
            ErrorKind::AddressNotHere => io::ErrorKind::AddrNotAvailable,
            ErrorKind::Unsupported => io::ErrorKind::Unsupported,
            ErrorKind::BadAddress | ErrorKind::WrongSocket => io::ErrorKind::InvalidInput,
            ErrorKind::Refused => io::ErrorKind::ConnectionRefused,
            ErrorKind::TimedOut => io::ErrorKind::TimedOut,
            ErrorKind::Other => error.os.as_ref().map_or(io::ErrorKind::Other, io::Error::kind),
        };
        Self::new(kind, error)
    }
}

/// The kind of an operating system's error.
pub(crate) fn kind_of(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::AddrInUse => ErrorKind::InUse,
        io::ErrorKind::AddrNotAvailable => ErrorKind::AddressNotHere,
        io::ErrorKind::PermissionDenied => ErrorKind::NotPermitted,
        io::ErrorKind::ConnectionRefused => ErrorKind::Refused,
        io::ErrorKind::TimedOut => ErrorKind::TimedOut,
        io::ErrorKind::Unsupported => ErrorKind::Unsupported,
        _ if error.raw_os_error().is_some_and(|os| Here::UNSUPPORTED.contains(&os)) => {
            ErrorKind::Unsupported
        }
        _ => ErrorKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_call_address_and_reason() {
        let os = || io::Error::from(io::ErrorKind::AddrInUse);
        let message = |kind, uid, note| {
            Error::refused("bind", "127.0.0.1:80", os(), BindRefusal { kind, uid, note })
                .to_string()
        };
        for (kind, uid, note, expected) in [
            (ErrorKind::InUse, None, None, "bind 127.0.0.1:80: in use, and not shared"),
            (
                ErrorKind::InUse,
                Some(1),
                None,
                "bind 127.0.0.1:80: in use by the same user, and not shared",
            ),
            (ErrorKind::InUse, None, Some("closing"), "bind 127.0.0.1:80: closing"),
            (
                ErrorKind::InUseByAnotherUser,
                Some(33),
                None,
                "bind 127.0.0.1:80: in use by another user (uid 33)",
            ),
            (ErrorKind::NotPermitted, None, None, "bind 127.0.0.1:80: not permitted"),
        ] {
            assert_eq!(message(kind, uid, note), expected);
        }
    }

    #[test]
    fn an_io_error_keeps_kind_and_cause() {
        fn sendable<T: Send + Sync + 'static>() {}
        sendable::<Error>();
        let error = Error::os("bind", ":80", io::Error::from(io::ErrorKind::PermissionDenied));
        assert_eq!(error.kind(), ErrorKind::NotPermitted);
        let io: io::Error = error.into();
        assert_eq!(io.kind(), io::ErrorKind::PermissionDenied);
        let inner = io.get_ref().and_then(|e| e.downcast_ref::<Error>()).unwrap();
        assert_eq!((inner.call(), inner.address()), ("bind", ":80"));
        assert!(inner.os_error().is_some());
    }

    #[test]
    fn an_io_error_keeps_the_number() {
        // EACCES of Unix and WSAEACCES.
        let number = if cfg!(windows) { 10013 } else { 13 };
        let os = || io::Error::from_raw_os_error(number);
        let error = Error::os("bind", ":80", os());
        assert_eq!(error.raw_os_error(), Some(number));
        let io: io::Error = error.into();
        assert_eq!((io.raw_os_error(), io.kind()), (Some(number), os().kind()));
        // Without a number, the error itself is the inner error.
        let error = Error::new(ErrorKind::BadAddress, "open", ":80").with_note("note");
        assert_eq!(error.raw_os_error(), None);
        let io: io::Error = error.into();
        assert_eq!((io.raw_os_error(), io.kind()), (None, io::ErrorKind::InvalidInput));
        assert_eq!(io.to_string(), "open :80: note");
    }
}
