//! Conversations that several tests and the benchmark have.

use super::Client::{self, Talk};
use super::Step::{Expect, Pause, Send};

/// Two lines that return, with a second between them.
pub(crate) const ECHO: Client = Talk(&[
    Send(b"first\n"),
    Expect(b"first\n"),
    Pause(1000),
    Send(b"second\n"),
    Expect(b"second\n"),
]);

/// A line that returns.
pub(crate) const QUICK_ECHO: Client = Talk(&[Send(b"once\n"), Expect(b"once\n")]);

/// A websocket with two messages that return, and 1.5 s without a message between them. The mask of
/// a message is zero (RFC 6455, section 5.2).
pub(crate) const WEBSOCKET: Client = Talk(&[
    Send(
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: c2FtZXBvcnQgIHRlc3RzIQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    ),
    Expect(b"HTTP/1.1 101 "),
    Expect(b"\r\n\r\n"),
    Send(b"\x81\x85\0\0\0\0first"),
    Expect(b"\x81\x05first"),
    Pause(1500),
    Send(b"\x81\x86\0\0\0\0second"),
    Expect(b"\x81\x06second"),
]);
