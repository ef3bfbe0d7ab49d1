//! Valid and invalid messages; connections without a message.

use std::time::Instant;

use proptest::prelude::*;
use rustix::net::SocketAddrUnix;

use super::*;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn messages_are_read() {
    let bound = |asked: Option<&str>, rule, sharing, errno| {
        let protocol = Protocol::Tcp;
        let (address, asked) = (address("127.0.0.1:80"), asked.map(address));
        Some(LibraryReport::Bound { protocol, address, asked, rule, sharing, errno })
    };
    let source = |text: &str, errno| {
        Some(LibraryReport::Source { protocol: Protocol::Udp, address: address(text), errno })
    };
    let in_use = Some(Errno::ADDRINUSE);
    let cases = [
        ("loaded", Some(LibraryReport::Loaded)),
        ("bound tcp 127.0.0.1:80", bound(None, None, SharedBy::NotShared, None)),
        ("bound tcp 127.0.0.1:80 shared", bound(None, None, SharedBy::Library, None)),
        ("bound tcp 127.0.0.1:80 itself errno 98", bound(None, None, SharedBy::Program, in_use)),
        (
            "bound tcp 127.0.0.1:80 asked [::]:8 rule 3 shared errno 98",
            bound(Some("[::]:8"), Some(3), SharedBy::Library, in_use),
        ),
        ("bound tcp 127.0.0.1:80 errno 98", bound(None, None, SharedBy::NotShared, in_use)),
        ("source udp [fe80::1%3]:0", source("[fe80::1%3]:0", None)),
        ("source udp 10.0.0.7:9 errno 98", source("10.0.0.7:9", in_use)),
        ("", None),
        ("loaded 1", None),
        ("bound", None),
        ("bound sctp 127.0.0.1:80", None),
        ("bound tcp 127.0.0.1", None),
        ("bound tcp 127.0.0.1:80 asked", None),
        ("bound tcp 127.0.0.1:80 asked x", None),
        ("bound tcp 127.0.0.1:80 rule -1", None),
        ("bound tcp 127.0.0.1:80 rule 3 asked 1.2.3.4:5", None),
        ("bound tcp 127.0.0.1:80 errno 0", None),
        ("bound tcp 127.0.0.1:80 errno 98 shared", None),
        ("bound  tcp 127.0.0.1:80", None),
        ("source udp 10.0.0.7:9 rule 3", None),
        ("source udp 10.0.0.7:9 shared", None),
    ];
    for (text, expected) in cases {
        let read = LibraryReport::parse(text.as_bytes());
        assert_eq!(read, expected, "{text}");
    }
}

proptest! {
    #[test]
    fn no_message_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = LibraryReport::parse(&bytes);
    }

    #[test]
    fn no_sequence_of_keywords_makes_it_panic(words in proptest::collection::vec(
        prop_oneof!["loaded|bound|source|tcp|udp|asked|rule|shared|itself|errno", "[0-9.:%\\[\\]]{0,24}"],
        0..12,
    )) {
        let _ = LibraryReport::parse(words.join(" ").as_bytes());
    }
}

fn connected(reports: &ReportSocket) -> OwnedFd {
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
    let name = SocketAddrUnix::new_abstract_name(reports.name().as_bytes()).unwrap();
    rustix::net::connect(&socket, &name).unwrap();
    socket
}

fn send(socket: &OwnedFd, bytes: &[u8]) {
    rustix::net::send(socket, bytes, rustix::net::SendFlags::empty()).unwrap();
}

#[test]
fn reports_arrive_with_their_sender() {
    let mut socket = ReportSocket::open().unwrap();
    assert_eq!(socket.take(), []);
    let pid = i32::try_from(std::process::id()).unwrap();
    // A library closes the connection at once.
    send(&connected(&socket), b"loaded");
    send(&connected(&socket), b"nonsense");
    send(&connected(&socket), &[b'x'; 4096]);
    drop(connected(&socket));
    assert_eq!(socket.take(), [ReceivedReport { pid, report: LibraryReport::Loaded }]);
    assert_eq!(socket.take(), []);
}

#[test]
fn silent_connections_do_not_block_others() {
    let _turn = crate::serial::run_shared();
    let mut socket = ReportSocket::open().unwrap();
    let begin = Instant::now();
    let silent: Vec<_> = (0..MOST_WAITING + 20).map(|_| connected(&socket)).collect();
    let reference = begin.elapsed();
    let begin = Instant::now();
    assert_eq!(socket.take(), []);
    send(&connected(&socket), b"loaded");
    // With all places taken, each call accepts one connection: the 20 left over, then the last.
    let received: usize = (0..=20).map(|_| socket.take().len()).sum();
    assert_eq!(received, 1);
    let took = begin.elapsed();
    assert!(took < 1000 * reference, "took {took:?}, and opening the connections {reference:?}");
    assert!(socket.waiting.len() <= MOST_WAITING);

    // A late message is received, and makes the socket readable.
    send(silent.last().unwrap(), b"loaded");
    let mut events =
        [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }];
    let timeout = rustix::fs::Timespec { tv_sec: 5, tv_nsec: 0 };
    assert_eq!(epoll::wait(&socket, &mut events, Some(&timeout)).unwrap(), 1);
    assert_eq!(socket.take().len(), 1);
}
