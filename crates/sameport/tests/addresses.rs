//! Every type that is an address, on every system.
//!
//! Exclusive sockets, because illumos shares none.

use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener, ToSocketAddrs,
};

use sameport::{ErrorKind, ToAddress};

const V4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const V6: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 0);

fn text(address: impl ToAddress) -> String {
    match address.to_endpoint() {
        Ok(endpoint) => endpoint.to_string(),
        Err(error) => {
            assert_eq!((error.kind(), error.call()), (ErrorKind::BadAddress, "address"), "{error}");
            format!("error: {error}")
        }
    }
}

/// Accepted by std and by this crate, with the same meaning.
fn as_std(address: impl ToAddress + ToSocketAddrs) -> String {
    let std: Vec<String> =
        address.to_socket_addrs().unwrap().map(|address| address.to_string()).collect();
    assert_eq!(text(&address), std.join(", "));
    std.join(", ")
}

#[test]
fn all_types_of_std_are_addresses() {
    let string = String::from("127.0.0.1");
    let scoped = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 80, 0, 3);
    let list = [SocketAddr::from(([127, 0, 0, 1], 1)), SocketAddr::from(([127, 0, 0, 2], 2))];
    for (found, expected) in [
        (as_std("127.0.0.1:80"), "127.0.0.1:80"),
        (as_std("[::1]:80"), "[::1]:80"),
        (as_std("[fe80::1%2]:80"), "[fe80::1%2]:80"),
        (as_std(String::from("127.0.0.1:80")), "127.0.0.1:80"),
        (as_std(("127.0.0.1", 80)), "127.0.0.1:80"),
        (as_std(("::1", 80)), "[::1]:80"),
        (as_std((string.as_str(), 80)), "127.0.0.1:80"),
        (as_std((string.clone(), 80)), "127.0.0.1:80"),
        (as_std((Ipv4Addr::LOCALHOST, 80)), "127.0.0.1:80"),
        (as_std((Ipv6Addr::LOCALHOST, 80)), "[::1]:80"),
        (as_std((IpAddr::V4(Ipv4Addr::LOCALHOST), 80)), "127.0.0.1:80"),
        (as_std(V4), "127.0.0.1:0"),
        (as_std(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80)), "127.0.0.1:80"),
        (as_std(scoped), "[::1%3]:80"),
        (as_std(&list[..]), "127.0.0.1:1, 127.0.0.2:2"),
    ] {
        assert_eq!(found, expected);
    }
    // A function that is generic over both traits.
    fn generic<A: ToSocketAddrs + ToAddress>(address: A) -> TcpListener {
        sameport::listen_exclusive(address).unwrap()
    }
    assert_eq!(generic(("127.0.0.1", 0)).local_addr().unwrap().ip(), V4.ip());
}

#[test]
fn further_types_and_texts() {
    for (found, expected) in [
        (text(80), ":80"),
        (text(("*", 80)), ":80"),
        (text("*:80"), ":80"),
        (text(([127, 0, 0, 1], 80)), "127.0.0.1:80"),
        (text(([0, 0, 0, 0, 0, 0, 0, 1], 80)), "[::1]:80"),
        (text([80, 81]), ":80, :81"),
        (text(vec!["localhost:80", "*:81"]), "localhost:80, :81"),
        (text([[80, 81], [82, 83]]), ":80, :81, :82, :83"),
        (text(("localhost", 80)), "localhost:80"),
        (text(("localhost", 80).to_endpoint().unwrap()), "localhost:80"),
        (text("[fe80::1%eth0]:80"), "[fe80::1%eth0]:80"),
        (text(("fe80::1%eth0", 80)), "[fe80::1%eth0]:80"),
    ] {
        assert_eq!(found, expected);
        // `Display` writes a text that is an address again, for one address.
        if !found.contains(',') {
            assert_eq!(text(&found), found);
        }
    }
}

#[test]
fn what_is_no_address() {
    for (found, expected) in [
        (text(""), "the address is empty: write a port, such as 8080"),
        (
            text("::1:80"),
            "\"::1:80\" is not clear: write an IPv6 address in brackets, such as [::1]:8080",
        ),
        (text(("", 80)), "the host is empty: write * for every address"),
        (text(("a\0b", 80)), "the host has a control character"),
        (text(("a".repeat(254), 80)), "the host is too long: at most 253 bytes"),
        (text(("[::1]", 80)), "the host of a pair has no brackets: write (\"::1\", 8080)"),
        (text(&[V4][..0]), "the list of addresses is empty"),
        (text(["80", "x"]), "\"x\" has no port: write HOST:PORT, such as localhost:8080"),
        (
            text("[fe80::1%]:80"),
            "\"[fe80::1%]:80\" is not an IPv6 address with a scope and a port: write [fe80::1%2]:8080",
        ),
        (
            text("[fe80::1%2]:"),
            "\"[fe80::1%2]:\" is not an IPv6 address with a scope and a port: write [fe80::1%2]:8080",
        ),
    ] {
        assert_eq!(found, format!("error: {expected}"));
    }
    let error = sameport::listen(("name.invalid", 80)).unwrap_err();
    assert_eq!((error.kind(), error.call()), (ErrorKind::BadAddress, "resolve"));
    assert_eq!(error.to_string(), "resolve name.invalid:80: the name does not resolve");
}

#[test]
fn the_first_possible_address_of_several() {
    let held = sameport::listen_exclusive(V4).unwrap();
    let taken = held.local_addr().unwrap();
    let listener = sameport::listen_exclusive([taken, V4]).unwrap();
    assert_ne!(listener.local_addr().unwrap(), taken);
    // The error is that of the last one, as in std.
    let error =
        sameport::listen_exclusive([SocketAddr::from(([192, 0, 2, 1], 0)), taken]).unwrap_err();
    assert_eq!((error.kind(), error.address()), (ErrorKind::InUse, taken.to_string().as_str()));
    // The conversion keeps the number, so that code which compares it works as with std.
    let of_std = TcpListener::bind(taken).unwrap_err();
    assert_eq!(error.raw_os_error(), of_std.raw_os_error());
    let converted = std::io::Error::from(error);
    assert_eq!(converted.raw_os_error(), of_std.raw_os_error());
    assert_eq!(converted.kind(), std::io::ErrorKind::AddrInUse);
    if cfg!(any(target_os = "linux", target_os = "android")) {
        assert_eq!(converted.raw_os_error(), Some(98));
    }
}

#[test]
fn all_of_several_addresses() {
    let exclusive = sameport::Options::exclusive();
    // Port 0 of a list is one port.
    let all = exclusive.listen_all([V4, V6]).unwrap();
    let at: Vec<SocketAddr> = all.iter().map(|socket| socket.local_addr().unwrap()).collect();
    assert_eq!((at[0].ip(), at[1].ip()), (V4.ip(), V6.ip()));
    assert!(at[0].port() != 0 && at[0].port() == at[1].port(), "{at:?}");
    // Each has its own port, if it names one.
    let held = sameport::listen_exclusive(V4).unwrap();
    let taken = held.local_addr().unwrap();
    drop(held);
    let all = exclusive.bind_udp_all([taken, V4]).unwrap();
    assert_eq!(all[0].local_addr().unwrap(), taken);
    assert_ne!(all[1].local_addr().unwrap().port(), 0);
    drop(all);
    // All or none.
    let held = sameport::listen_exclusive(V6).unwrap();
    let error = exclusive.listen_all([taken, held.local_addr().unwrap()]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse, "{error}");
    sameport::listen_exclusive(taken).unwrap();
    // Both wildcard addresses of one port.
    let all = exclusive.listen_all(["[::]:0", "0.0.0.0:0"]).unwrap();
    let port = all[0].local_addr().unwrap().port();
    assert_eq!((all.len(), all[1].local_addr().unwrap().port()), (2, port));
}

#[test]
fn overlapping_addresses() {
    let lists = [["127.0.0.1:0", "0.0.0.0:0"], ["*:0", "127.0.0.1:0"], ["0.0.0.0:0", "[::]:0"]];
    for (list, overlap) in lists.into_iter().zip([true, true, false]) {
        let exclusive = sameport::Options::exclusive().listen_all(list);
        assert_eq!(exclusive.is_err(), overlap, "{list:?}");
        if let Err(error) = exclusive {
            assert_eq!((error.kind(), error.call()), (ErrorKind::BadAddress, "open"), "{error}");
            assert!(error.to_string().ends_with(", which exclusive sockets cannot"), "{error}");
        }
    }
    if sameport::support().dual_stack != sameport::DualStack::OneSocket
        || sameport::support().sharing != sameport::Sharing::Balanced
    {
        return;
    }
    for list in lists {
        let all = sameport::listen_all(list).unwrap();
        let port = |at: usize| all[at].local_addr().unwrap().port();
        assert_eq!((all.len(), port(0)), (2, port(1)), "{list:?}");
    }
}

#[test]
fn connections_in_every_combination_of_families() {
    let error = |from: &str, to: SocketAddr| {
        let error = sameport::connect(from, to).unwrap_err();
        assert_eq!((error.kind(), error.call()), (ErrorKind::BadAddress, "connect"), "{error}");
        assert!(error.to_string().contains("no address of the same family"), "{error}");
        sameport::connect_udp(from, to).unwrap_err();
    };
    for (ip, from, fits) in [
        (V4, "127.0.0.1:0", true),
        (V4, "0.0.0.0:0", true),
        (V4, "[::]:0", true),
        (V4, "*:0", true),
        (V4, "[::1]:0", false),
        (V6, "[::1]:0", true),
        (V6, "[::]:0", true),
        (V6, "*:0", true),
        (V6, "127.0.0.1:0", false),
        (V6, "0.0.0.0:0", false),
    ] {
        let far = TcpListener::bind(ip).unwrap();
        let to = far.local_addr().unwrap();
        if !fits {
            error(from, to);
            continue;
        }
        let stream = sameport::connect(from, to).unwrap();
        assert_eq!(far.accept().unwrap().1, stream.local_addr().unwrap(), "{from} {to}");
        assert_eq!(stream.peer_addr().unwrap(), to, "{from}");
        let far = std::net::UdpSocket::bind(ip).unwrap();
        let to = far.local_addr().unwrap();
        assert_eq!(sameport::connect_udp(from, to).unwrap().peer_addr().unwrap(), to, "{from}");
    }
}
