//! Messages that are reports and messages that are not; connections that keep silent.

use std::time::Instant;

use proptest::prelude::*;

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
    fn nor_one_of_its_own_words(words in proptest::collection::vec(
        prop_oneof!["loaded|bound|source|tcp|udp|asked|rule|shared|itself|errno", "[0-9.:%\\[\\]]{0,24}"],
        0..12,
    )) {
        let _ = LibraryReport::parse(words.join(" ").as_bytes());
    }
}

fn connected(inbox: &ReportSocket) -> OwnedFd {
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
    let name = SocketAddrUnix::new_abstract_name(inbox.name().as_bytes()).unwrap();
    rustix::net::connect(&socket, &name).unwrap();
    socket
}

fn send(socket: &OwnedFd, bytes: &[u8]) {
    rustix::net::send(socket, bytes, rustix::net::SendFlags::empty()).unwrap();
}

#[test]
fn reports_arrive_with_their_sender() {
    let mut inbox = ReportSocket::open().unwrap();
    assert_eq!(inbox.take(), []);
    let pid = i32::try_from(std::process::id()).unwrap();
    // Closed before it is taken, as a library does.
    send(&connected(&inbox), b"loaded");
    send(&connected(&inbox), b"nonsense");
    send(&connected(&inbox), &[b'x'; 4096]);
    drop(connected(&inbox));
    assert_eq!(inbox.take(), [ReceivedReport { pid, report: LibraryReport::Loaded }]);
    assert_eq!(inbox.take(), []);
}

#[test]
fn a_connection_that_keeps_silent_holds_nobody_up() {
    let _turn = crate::serial::run_shared();
    let mut inbox = ReportSocket::open().unwrap();
    let begin = Instant::now();
    let silent: Vec<_> = (0..MOST_WAITING + 20).map(|_| connected(&inbox)).collect();
    let reference = begin.elapsed();
    let begin = Instant::now();
    assert_eq!(inbox.take(), []);
    send(&connected(&inbox), b"loaded");
    // A full inbox accepts one connection a call: the 20 that the first call left, then the last.
    let received: usize = (0..=20).map(|_| inbox.take().len()).sum();
    assert_eq!(received, 1);
    let took = begin.elapsed();
    assert!(took < 1000 * reference, "took {took:?}, and opening the connections {reference:?}");
    assert!(inbox.waiting.len() <= MOST_WAITING);

    // The one that speaks at last is heard, and wakes who waits for it.
    send(silent.last().unwrap(), b"loaded");
    let mut events =
        [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }];
    let timeout = rustix::fs::Timespec { tv_sec: 5, tv_nsec: 0 };
    assert_eq!(epoll::wait(&inbox, &mut events, Some(&timeout)).unwrap(), 1);
    assert_eq!(inbox.take().len(), 1);
}
