//! Errors, which have the same kinds on every system.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use sameport::{ErrorKind, Options};

use crate::traffic::{PATIENCE, at};

#[test]
fn names_are_resolved_or_bad_addresses() {
    let listener = sameport::listen_exclusive("localhost:0").unwrap();
    assert!(at(&listener).ip().is_loopback());
    let all = Options::exclusive().listen_all("localhost:0").unwrap();
    let ports: HashSet<u16> = all.iter().map(|listener| at(listener).port()).collect();
    assert_eq!(ports.len(), 1, "one port on {all:?}");
    assert!(all.iter().all(|listener| at(listener).ip().is_loopback()));
    for error in [
        sameport::listen("name.invalid:8080").unwrap_err(),
        sameport::bind_udp("name.invalid:8080").unwrap_err(),
        sameport::connect("127.0.0.1:0", "name.invalid:8080").unwrap_err(),
        sameport::listen_all("name.invalid:8080").unwrap_err(),
    ] {
        assert_eq!((error.kind(), error.call()), (ErrorKind::BadAddress, "resolve"), "{error}");
        assert_eq!(error.address(), "name.invalid:8080");
    }
}

#[test]
fn invalid_texts_are_quoted_in_the_error() {
    for (text, message) in [
        ("1e3", "\"1e3\" is not a port"),
        ("::1:8080", "brackets, such as [::1]:8080"),
        ("", "the address is empty"),
    ] {
        let error = sameport::listen(text).unwrap_err();
        assert_eq!((error.kind(), error.call()), (ErrorKind::BadAddress, "address"));
        assert!(error.to_string().contains(message), "{error}");
    }
    let error = sameport::listen("9".repeat(1 << 20)).unwrap_err();
    assert!(error.to_string().len() < 200 && error.address().len() < 200);
}

#[test]
fn absent_addresses_are_errors() {
    // 192.0.2.0/24 is reserved for documentation: no machine has it.
    let error = sameport::listen_exclusive("192.0.2.1:0").unwrap_err();
    assert_eq!((error.kind(), error.call()), (ErrorKind::AddressNotHere, "bind"), "{error}");
    let error = sameport::connect("192.0.2.1:0", "127.0.0.1:9").unwrap_err();
    assert_eq!((error.kind(), error.call()), (ErrorKind::AddressNotHere, "bind"), "{error}");
    let io = std::io::Error::from(error);
    assert_eq!(io.kind(), std::io::ErrorKind::AddrNotAvailable);
}

/// Each option, and the systems that have it: the table of docs/platforms.md.
#[test]
fn options_that_a_system_lacks_are_errors() {
    let device = cfg!(any(
        target_os = "linux",
        target_os = "android",
        target_vendor = "apple",
        target_os = "illumos",
        target_os = "solaris",
    ));
    let other_addresses = cfg!(any(
        target_os = "linux",
        target_os = "android",
        target_os = "freebsd",
        target_os = "openbsd",
    ));
    let cases = [
        ("device", device, Options::exclusive().device("nosuchdevice")),
        ("transparent", other_addresses, Options::exclusive().transparent(true)),
        ("freebind", other_addresses, Options::exclusive().freebind(true)),
    ];
    for (option, exists, options) in cases {
        let result = options.listen("127.0.0.1:0");
        let kind = result.as_ref().err().map(sameport::Error::kind);
        let expected = match (option, exists) {
            (_, false) => kind == Some(ErrorKind::Unsupported),
            ("device", true) => kind == Some(ErrorKind::AddressNotHere),
            // The privilege is the caller's.
            _ => matches!(kind, None | Some(ErrorKind::NotPermitted)),
        };
        assert!(expected, "{option}: {result:?}");
    }
    for name in ["", "l\0o", &"x".repeat(40)] {
        let error = Options::exclusive().device(name).listen("127.0.0.1:0").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadAddress, "{error}");
    }
}

#[test]
fn a_full_queue_times_out() {
    const WAIT: Duration = Duration::from_millis(200);
    // The length of the shortest queue differs.
    const LONGEST: usize = 512;
    let full = Options::exclusive().backlog(1).listen("127.0.0.1:0").unwrap();
    let mut queued = Vec::new();
    let error = loop {
        assert!(queued.len() < LONGEST, "{LONGEST} connections are queued");
        let started = Instant::now();
        match sameport::connect_timeout("127.0.0.1:0", at(&full), WAIT) {
            Ok(stream) => queued.push(stream),
            Err(error) => {
                // The timeout is truncated to whole milliseconds.
                let waited = started.elapsed() + Duration::from_millis(2);
                assert!(waited >= WAIT && waited < PATIENCE, "{waited:?}");
                break error;
            }
        }
    };
    assert_eq!((error.kind(), error.call()), (ErrorKind::TimedOut, "connect"), "{error}");
}
