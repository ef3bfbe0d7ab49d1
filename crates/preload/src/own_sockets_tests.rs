//! Tests of the table.

use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};

use super::*;
use crate::machine::own_pid;

const NONE: ReuseOptions = ReuseOptions { reuse_port: false, reuse_address: false };

fn own(fd: RawFd, protocol: Protocol, address: &str) -> OwnSocket {
    let address: std::net::SocketAddr = address.parse().unwrap();
    OwnSocket {
        pid: own_pid(),
        fd,
        inode: socket_inode(fd).unwrap(),
        protocol,
        ip: address.ip(),
        port: address.port(),
        v6only: false,
        device: 0,
        options: NONE,
    }
}

fn table() -> OwnSockets {
    let table = OwnSockets::new();
    table.open();
    table
}

#[test]
fn a_socket_is_read_as_written() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let options = ReuseOptions { reuse_port: true, reuse_address: true };
    let first = own(socket.as_raw_fd(), Protocol::Udp, "[2001:db8::1]:65535");
    let other = own(socket.as_raw_fd(), Protocol::Tcp, "255.1.2.3:1");
    for it in
        [OwnSocket { v6only: true, device: 7, options, ..first }, OwnSocket { pid: 1, ..other }]
    {
        let table = table();
        assert!(table.find(it.inode).is_none());
        let added = table.add(&it, None).unwrap();
        assert_eq!(table.bound(it.inode), Some(it));
        table.failed(added);
        assert!(table.bound(it.inode).is_none());
        let (before, options, is_bound) = table.find(it.inode).unwrap();
        assert_eq!((options, is_bound), (it.options, false));
        // The next attempt has the same slot, and a late answer to the first one changes nothing.
        assert_eq!(table.add(&it, Some(before)).unwrap().index, added.index);
        table.failed(added);
        assert_eq!(table.bound(it.inode), Some(it));
    }
}

#[test]
fn open_sockets_keep_others_out() {
    let first = TcpListener::bind("127.0.0.1:0").unwrap();
    let (new, new_udp) =
        (TcpListener::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    // Whether IPv6 only, and the device, of the first and the new socket.
    let cases = [
        ("127.0.0.1:80", "127.0.0.1:80", (false, 0), (false, 0), true),
        ("127.0.0.1:80", "127.0.0.1:81", (false, 0), (false, 0), false),
        ("127.0.0.1:80", "127.0.0.2:80", (false, 0), (false, 0), false),
        ("0.0.0.0:80", "127.0.0.1:80", (false, 0), (false, 0), true),
        ("127.0.0.1:80", "[::]:80", (false, 0), (false, 0), true),
        ("127.0.0.1:80", "[::]:80", (false, 0), (true, 0), false),
        ("[::]:80", "[::1]:80", (true, 0), (false, 0), true),
        ("127.0.0.1:80", "127.0.0.1:80", (false, 1), (false, 2), false),
        ("127.0.0.1:80", "127.0.0.1:80", (false, 1), (false, 0), true),
    ];
    for (at, new_at, (v6only, device), (new_v6only, new_device), expected) in cases {
        let table = table();
        let earlier = OwnSocket { v6only, device, ..own(first.as_raw_fd(), Protocol::Tcp, at) };
        let new = OwnSocket {
            v6only: new_v6only,
            device: new_device,
            ..own(new.as_raw_fd(), Protocol::Tcp, new_at)
        };
        table.add(&earlier, None).unwrap();
        table.add(&new, None).unwrap();
        assert_eq!(table.keep_out(&new, OwnStep::Bind), expected, "{earlier:?} {new:?}");
        let udp = own(new_udp.as_raw_fd(), Protocol::Udp, at);
        assert!(!table.keep_out(&udp, OwnStep::Bind), "{earlier:?}");
    }
}

#[test]
fn closed_sockets_make_room() {
    let sockets: Vec<_> = (0..=SLOTS).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let all: Vec<_> =
        sockets.iter().map(|it| own(it.as_raw_fd(), Protocol::Udp, "127.0.0.1:53")).collect();
    let table = table();
    for it in &all[..SLOTS] {
        assert!(table.add(it, None).is_some());
    }
    assert_eq!(table.add(&all[SLOTS], None), None);
    drop(sockets);
    assert!(table.add(&all[SLOTS], None).is_some());
}

#[test]
fn without_a_table_nothing_is_kept_out() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let own = own(socket.as_raw_fd(), Protocol::Udp, "127.0.0.1:53");
    let none = OwnSockets::new();
    assert_eq!(none.add(&own, None), None);
    assert!(none.find(own.inode).is_none() && !none.keep_out(&own, OwnStep::Bind));
}
