//! Reports to the supervisor: that the library is loaded, and what it did.
//!
//! One message a report, over a connection of its own that is opened and closed within the call, so
//! that the program never has a descriptor of ours. A report never waits and never fails the
//! program: where it cannot be sent, it is lost. Connections rather than datagrams, because a
//! datagram socket takes ten of them by default (`net.unix.max_dgram_qlen`) and loses the rest.

#![expect(unsafe_code, reason = "raw system calls")]

use core::fmt;

use crate::machine::{call, number};
use crate::settings::{AtomicFlag, HookSettings};

/// One line, cut where it is full.
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

/// Says, once a process image, that the library is there.
pub(crate) fn loaded(settings: &HookSettings) {
    if !settings.set(AtomicFlag::Told) {
        send(settings, format_args!("loaded"));
    }
}

/// Sends a report, if somebody wants reports.
pub(crate) fn send(settings: &HookSettings, text: fmt::Arguments<'_>) {
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
    // A line that is full is cut.
    let _ = fmt::Write::write_fmt(&mut line, text);

    // An abstract name is a zero byte and what follows.
    let mut address = [0u8; 110];
    for (to, from) in address.iter_mut().zip(UNIX.to_ne_bytes()) {
        *to = from;
    }
    for (to, from) in address.iter_mut().skip(3).zip(name.iter().take(length)) {
        *to = *from;
    }
    let how = SEQPACKET | CLOSE_ON_EXEC | NON_BLOCKING;
    // SAFETY: takes three numbers.
    let Ok(socket) = (unsafe { call(number::SOCKET, [usize::from(UNIX), how, 0, 0, 0, 0]) }) else {
        return;
    };
    let to = [socket, address.as_ptr().expose_provenance(), 3 + length, 0, 0, 0];
    // SAFETY: the address is a live local of at least this length, and only read.
    if unsafe { call(number::CONNECT, to) }.is_ok() {
        let bytes = line.bytes();
        let what = [socket, bytes.as_ptr().expose_provenance(), bytes.len(), NO_SIGNAL, 0, 0];
        // SAFETY: the pointer and the length are those of a live slice, which is only read.
        let _ = unsafe { call(number::SENDTO, what) };
    }
    // SAFETY: closes the socket opened above, which nobody else knows.
    let _ = unsafe { call(number::CLOSE, [socket, 0, 0, 0, 0, 0]) };
}
