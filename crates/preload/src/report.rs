//! Reports to the supervisor: the library is loaded, and the result of each bind.
//!
//! Each report is one message over a new connection that the call opens and closes, so that the
//! program never has a descriptor of the library. Sending never waits and never fails the program's
//! call; a report that cannot be sent is lost. A datagram socket would queue only ten messages by
//! default (`net.unix.max_dgram_qlen`).

#![expect(unsafe_code, reason = "raw system calls")]

use core::fmt;

use crate::machine::{call, number};
use crate::settings::{Flag, Settings};

/// One line, truncated to 256 bytes.
pub(crate) struct ReportLine {
    bytes: [u8; 256],
    length: usize,
}

impl ReportLine {
    pub(crate) fn new() -> Self {
        Self { bytes: [0; 256], length: 0 }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl fmt::Write for ReportLine {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            *self.bytes.get_mut(self.length).ok_or(fmt::Error)? = byte;
            self.length += 1;
        }
        Ok(())
    }
}

/// Reports, once for each process image, that the library is loaded.
pub(crate) fn loaded(settings: &Settings) {
    if !settings.set(Flag::LoadReported) {
        send(settings, format_args!("loaded"));
    }
}

/// Sends a report, if the supervisor asked for reports.
pub(crate) fn send(settings: &Settings, text: fmt::Arguments<'_>) {
    const UNIX: u16 = 1;
    const SEQPACKET: usize = 5;
    const CLOSE_ON_EXEC: usize = 0o2_000_000;
    const NON_BLOCKING: usize = 0o4_000;
    const NO_SIGNAL: usize = 0x4000;
    let (name, length) = settings.report_name();
    if length == 0 {
        return;
    }
    let mut line = ReportLine::new();
    // Fails if the line is full: then it is truncated.
    let _ = fmt::Write::write_fmt(&mut line, text);

    // An abstract name begins with a zero byte: unix(7).
    let mut address = [0u8; 110];
    for (to, from) in address.iter_mut().zip(UNIX.to_ne_bytes()) {
        *to = from;
    }
    for (to, from) in address.iter_mut().skip(3).zip(name.iter().take(length)) {
        *to = *from;
    }
    let socket_type = SEQPACKET | CLOSE_ON_EXEC | NON_BLOCKING;
    // SAFETY: takes three numbers.
    let Ok(socket) =
        (unsafe { call(number::SOCKET, [usize::from(UNIX), socket_type, 0, 0, 0, 0]) })
    else {
        return;
    };
    let to = [socket, address.as_ptr().expose_provenance(), 3 + length, 0, 0, 0];
    // SAFETY: the address is a live local of at least this length, and only read.
    if unsafe { call(number::CONNECT, to) }.is_ok() {
        let bytes = line.bytes();
        let arguments = [socket, bytes.as_ptr().expose_provenance(), bytes.len(), NO_SIGNAL, 0, 0];
        // SAFETY: the pointer and the length are those of a live slice, which is only read.
        let _ = unsafe { call(number::SENDTO, arguments) };
    }
    // SAFETY: closes the socket opened above, whose number no other code has.
    let _ = unsafe { call(number::CLOSE, [socket, 0, 0, 0, 0, 0]) };
}
