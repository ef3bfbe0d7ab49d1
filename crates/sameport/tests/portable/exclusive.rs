//! Exclusive sockets.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use sameport::{ErrorKind, Options, Result};

use crate::expected::{expected, has_ipv6};
use crate::traffic::{PATIENCE, at, count_accepted};

/// The error of a socket on an address that another one has: in use, or sharing is unsupported.
fn is_refused<T: std::fmt::Debug>(options: &Options, result: Result<T>) {
    let error = result.unwrap_err();
    let shared = *options == Options::shared();
    if shared && expected().udp == crate::expected::Join::Unsupported {
        return assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
    assert_eq!((error.kind(), error.call()), (ErrorKind::InUse, "bind"), "{error}");
}

#[test]
fn exclusive_and_shared_refuse_each_other() {
    let mut addresses = vec!["127.0.0.1:0", "0.0.0.0:0"];
    if has_ipv6() {
        addresses.push("[::1]:0");
    }
    let pairs = [
        (Options::shared(), Options::exclusive()),
        (Options::exclusive(), Options::shared()),
        (Options::exclusive(), Options::exclusive()),
    ];
    for address in addresses {
        for (one, other) in &pairs {
            // Without sharing, there is no first shared socket.
            let (Ok(listener), Ok(socket)) = (one.listen(address), one.bind_udp(address)) else {
                assert_eq!(expected().udp, crate::expected::Join::Unsupported);
                continue;
            };
            is_refused(other, other.listen(at(&listener)));
            is_refused(other, other.bind_udp(socket.local_addr().unwrap()));
            // The refused attempts changed nothing.
            let to = SocketAddr::from((Ipv4Addr::LOCALHOST, at(&listener).port()));
            if at(&listener).is_ipv4() {
                assert_eq!(count_accepted(&[listener], to, 2), [2]);
            }
        }
    }
}

#[test]
fn an_exclusive_wildcard_and_its_addresses() {
    let wildcard = sameport::listen_exclusive("0.0.0.0:0").unwrap();
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, at(&wildcard).port()));
    is_refused(&Options::exclusive(), Options::exclusive().listen(to));
    let shared = Options::shared().listen(to);
    if expected().specific_over_exclusive {
        shared.unwrap();
    } else {
        is_refused(&Options::shared(), shared);
    }
    assert_eq!(count_accepted(&[wildcard], to, 2), [2]);
}

#[test]
fn an_exclusive_port_of_both_families_refuses_both() {
    let held = Options::exclusive().listen_all(0).unwrap();
    let port = at(&held[0]).port();
    let wildcards = if has_ipv6() { &["0.0.0.0", "[::]"][..] } else { &["0.0.0.0"] };
    for ip in wildcards {
        let options = Options::exclusive();
        let options = if *ip == "[::]" { options.v6only(true) } else { options };
        let error = options.listen(format!("{ip}:{port}")).unwrap_err();
        assert_eq!((error.kind(), error.call()), (ErrorKind::InUse, "bind"), "{ip}: {error}");
    }
}

#[test]
fn v6only_leaves_ipv4_to_others() {
    let error = Options::exclusive().v6only(true).listen("127.0.0.1:0").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadAddress);
    assert!(error.to_string().contains("v6only is for IPv6 addresses"), "{error}");
    if !has_ipv6() {
        return;
    }
    // The port that is free in IPv6 can be in use in IPv4: then another one.
    let (six, four) = (0..16)
        .find_map(|_| {
            let six = Options::exclusive().v6only(true).listen(0).unwrap();
            let four = sameport::listen_exclusive((Ipv4Addr::UNSPECIFIED, at(&six).port())).ok()?;
            Some((six, four))
        })
        .expect("the same port in both families");
    assert!(socket2::SockRef::from(&six).only_v6().unwrap());
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, at(&six).port()));
    assert_eq!(count_accepted(&[six, four], to, 4), [0, 4]);
}

#[test]
fn an_exclusive_address_is_free_after_close() {
    for _ in 0..4 {
        let listener = sameport::listen_exclusive("127.0.0.1:0").unwrap();
        let to = at(&listener);
        drop(listener);
        assert!(TcpStream::connect_timeout(&to, PATIENCE).is_err());
        // Another process can have taken the port meanwhile.
        if let Ok(again) = sameport::listen_exclusive(to) {
            assert_eq!(count_accepted(&[again], to, 1), [1]);
            return;
        }
    }
    panic!("no address was free after close");
}
