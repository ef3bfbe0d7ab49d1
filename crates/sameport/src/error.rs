//! What can go wrong, in kinds that a caller can act on.

use std::fmt;
use std::io;

use sameport_addr::AddrSpecError;

use crate::system::{BindRefusal, kind_of};

/// What a failure means for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Another socket has the address, and one of the two does not share it. For a connection: the
    /// same two addresses are connected already. Where the system does not say whose socket it is,
    /// it can be another user's that is shared: on all systems but Linux, and on Linux for a TCP
    /// socket that is bound and not listening.
    InUse,
    /// A socket of another user has the address ([`Error::holder`] is that user). Told on Linux.
    InUseByAnotherUser,
    /// The caller lacks a privilege: a low port, or an option such as transparent.
    NotPermitted,
    /// No such address, or no such device, on this machine.
    AddressNotHere,
    /// This system, or this kernel, cannot do it.
    Unsupported,
    /// The text is not an address, the name does not resolve, or the options contradict the address.
    BadAddress,
    /// The other side refused the connection.
    Refused,
    /// The other side did not answer in time.
    TimedOut,
    /// Anything else, out of descriptors for instance: see [`Error::os_error`].
    Other,
}

/// A call that failed: which, on what address, and why.
///
/// `Display` is one line in lower case, such as
/// `bind 127.0.0.1:8080: in use by another user (uid 33)`.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    call: &'static str,
    address: String,
    holder: Option<u32>,
    note: Option<String>,
    os: Option<io::Error>,
}

/// What the fallible functions here return.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// What the failure means.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The call that failed: `bind`, `listen`, `connect`, `socket`, `resolve`,
    /// `setsockopt(device)` and the like; `address` if a text could not be read.
    #[must_use]
    pub fn call(&self) -> &'static str {
        self.call
    }

    /// The address that the call was for; `FROM to TO` for a connection.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The user id of the socket in the way, where the system tells: on Linux, from `/proc/net`.
    #[must_use]
    pub fn holder(&self) -> Option<u32> {
        self.holder
    }

    /// What the operating system said, if it was asked at all.
    #[must_use]
    pub fn os_error(&self) -> Option<&io::Error> {
        self.os.as_ref()
    }

    /// The next step for a person, if there is one.
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
        Self { kind, call, address: address.to_string(), holder: None, note: None, os: None }
    }

    pub(crate) fn os(call: &'static str, address: impl fmt::Display, os: io::Error) -> Self {
        Self { os: None, ..Self::new(kind_of(&os), call, address) }.because(os)
    }

    pub(crate) fn refused(
        call: &'static str,
        address: impl fmt::Display,
        os: io::Error,
        refusal: BindRefusal,
    ) -> Self {
        Self {
            holder: refusal.uid,
            note: refusal.note.map(String::from),
            ..Self::new(refusal.kind, call, address)
        }
        .because(os)
    }

    pub(crate) fn text(text: &str, error: &AddrSpecError) -> Self {
        Self::new(ErrorKind::BadAddress, "address", text.chars().take(60).collect::<String>())
            .noting(error.to_string())
    }

    pub(crate) fn noting(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    pub(crate) fn because(mut self, os: io::Error) -> Self {
        self.os = Some(os);
        self
    }

    pub(crate) fn of_kind(mut self, kind: ErrorKind) -> Self {
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
        match (self.kind, self.holder, &self.os) {
            (ErrorKind::InUse, ..) if self.call == "connect" => f.write_str("already connected"),
            (ErrorKind::InUse, Some(_), _) => {
                f.write_str("in use by the same user, and not shared")
            }
            (ErrorKind::InUse, ..) => f.write_str("in use, and not shared"),
            (ErrorKind::InUseByAnotherUser, Some(uid), _) => {
                write!(f, "in use by another user (uid {uid})")
            }
            (ErrorKind::InUseByAnotherUser, ..) => f.write_str("in use by another user"),
            (ErrorKind::NotPermitted, ..) => f.write_str("not permitted"),
            (ErrorKind::AddressNotHere, ..) => f.write_str("this machine has no such address"),
            (ErrorKind::Unsupported, ..) => f.write_str("not supported by this system"),
            (ErrorKind::BadAddress, ..) => f.write_str("not a usable address"),
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

/// Keeps the meaning: the kind of the result is the one std uses for the same failure, and the
/// [`Error`] itself is inside.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.kind {
            ErrorKind::InUse | ErrorKind::InUseByAnotherUser => io::ErrorKind::AddrInUse,
            ErrorKind::NotPermitted => io::ErrorKind::PermissionDenied,
            ErrorKind::AddressNotHere => io::ErrorKind::AddrNotAvailable,
            ErrorKind::Unsupported => io::ErrorKind::Unsupported,
            ErrorKind::BadAddress => io::ErrorKind::InvalidInput,
            ErrorKind::Refused => io::ErrorKind::ConnectionRefused,
            ErrorKind::TimedOut => io::ErrorKind::TimedOut,
            ErrorKind::Other => error.os.as_ref().map_or(io::ErrorKind::Other, io::Error::kind),
        };
        Self::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_like_the_house() {
        let os = || io::Error::from(io::ErrorKind::AddrInUse);
        let of = |kind, uid, note| {
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
            assert_eq!(of(kind, uid, note), expected);
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
}
