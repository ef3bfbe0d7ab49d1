//! Options of sockets that the caller creates, and the sockets that cannot have them, on every system.

#[path = "portable/expected.rs"]
mod expected;

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

use expected::Join;
use sameport::{ErrorKind, Options};
use socket2::{Domain, Socket, Type};

const V4: &str = "127.0.0.1:0";
const V6: &str = "[::1]:0";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn socket(domain: Domain, r#type: Type) -> Socket {
    Socket::new(domain, r#type, None).unwrap()
}

fn bound(socket: &Socket) -> SocketAddr {
    socket.local_addr().unwrap().as_socket().unwrap()
}

/// Some systems have no shared sockets.
fn shares() -> bool {
    sameport::support().sharing != sameport::Sharing::Unsupported
}

/// The note of a refusal, without the call and the address.
fn refusal(result: sameport::Result<()>, address: SocketAddr) -> String {
    let error = result.unwrap_err();
    assert_eq!((error.kind(), error.call()), (ErrorKind::WrongSocket, "apply"), "{error}");
    let text = error.to_string();
    text.strip_prefix(&format!("apply {address}: ")).expect("call and address").to_owned()
}

#[test]
fn a_new_socket_listens_and_connects_with_the_options() {
    for (domain, ip) in [(Domain::IPV4, V4), (Domain::IPV6, V6)] {
        let listener = socket(domain, Type::STREAM);
        Options::exclusive().apply_to_listener(&listener, at(ip)).unwrap();
        listener.bind(&at(ip).into()).unwrap();
        listener.listen(16).unwrap();
        let to = bound(&listener);

        let client = socket(domain, Type::STREAM);
        // On port 0 a client is not shared, also where the system shares none.
        Options::shared().apply_to_client(&client, at(ip)).unwrap();
        client.bind(&at(ip).into()).unwrap();
        client.connect(&to.into()).unwrap();
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(peer.as_socket().unwrap(), bound(&client));
    }
}

#[test]
fn a_client_from_the_address_of_a_listener() {
    if !shares() {
        return;
    }
    let near = sameport::listen(V4).unwrap();
    let local = near.local_addr().unwrap();
    let far = TcpListener::bind(V4).unwrap();
    let client = socket(Domain::IPV4, Type::STREAM);
    Options::shared().apply_to_client(&client, local).unwrap();
    let bound = client.bind(&local.into());
    if expected::expected().tcp == Join::RefusedByWine {
        bound.unwrap_err();
    } else {
        bound.unwrap();
        client.connect(&far.local_addr().unwrap().into()).unwrap();
        assert_eq!(far.accept().unwrap().1, local);
    }

    let balanced = Options::shared().require_balanced(true);
    let error = balanced.apply_to_client(&socket(Domain::IPV4, Type::STREAM), local).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadAddress);
    assert_eq!(error.to_string(), format!("apply {local}: a client has nothing to balance"));
}

#[test]
fn an_address_of_another_family() {
    for r#type in [Type::STREAM, Type::DGRAM] {
        for (domain, address, expected) in [
            (Domain::IPV4, V6, "the socket is for IPv4, and the address for IPv6"),
            (Domain::IPV6, V4, "the socket is for IPv6, and the address for IPv4"),
        ] {
            let new = socket(domain, r#type);
            let address = at(address);
            let options = Options::exclusive();
            assert_eq!(refusal(options.apply_to_listener(&new, address), address), expected);
            assert_eq!(refusal(options.apply_to_client(&new, address), address), expected);
        }
    }
}

#[cfg(unix)]
#[test]
fn a_unix_socket() {
    for r#type in [Type::STREAM, Type::DGRAM] {
        let new = socket(Domain::UNIX, r#type);
        let expected = "a unix socket has no port";
        assert_eq!(refusal(Options::shared().apply_to_listener(&new, at(V4)), at(V4)), expected);
        assert_eq!(refusal(Options::exclusive().apply_to_client(&new, at(V4)), at(V4)), expected);
    }
    let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let text = refusal(Options::shared().apply_to_listener(&one, at(V4)), at(V4));
    assert_eq!(text, "a unix socket has no port");
}

#[cfg(unix)]
#[test]
fn no_socket() {
    let file = std::fs::File::open("/dev/null").unwrap();
    let error = Options::shared().apply_to_listener(&file, at(V4)).unwrap_err();
    assert_eq!((error.kind(), error.call()), (ErrorKind::Other, "getsockopt(type)"), "{error}");
    assert_eq!(error.raw_os_error(), Some(libc_enotsock()));
}

/// `ENOTSOCK`, without a dependency on libc.
#[cfg(unix)]
fn libc_enotsock() -> i32 {
    match () {
        () if cfg!(any(target_os = "linux", target_os = "android")) => 88,
        () if cfg!(any(target_os = "illumos", target_os = "solaris")) => 95,
        () => 38,
    }
}

#[test]
fn a_bound_socket() {
    let late = "already: the options have an effect before bind only";
    let tcp = socket(Domain::IPV4, Type::STREAM);
    tcp.bind(&at(V4).into()).unwrap();
    let here = bound(&tcp);
    for options in [Options::exclusive(), Options::shared()] {
        let expected = format!("the socket is bound to {here} {late}");
        assert_eq!(refusal(options.apply_to_listener(&tcp, here), here), expected);
        assert_eq!(refusal(options.apply_to_client(&tcp, here), here), expected);
    }
    let udp = UdpSocket::bind(V4).unwrap();
    let here = udp.local_addr().unwrap();
    let expected = format!("the socket is bound to {here} {late}");
    assert_eq!(refusal(Options::exclusive().apply_to_listener(&udp, here), here), expected);
    assert_eq!(refusal(Options::shared().apply_to_client(&udp, here), here), expected);

    let listener = TcpListener::bind(V4).unwrap();
    let here = listener.local_addr().unwrap();
    let text = refusal(Options::shared().apply_to_listener(&listener, here), here);
    assert_eq!(text, format!("the socket listens on {here} {late}"));

    let stream = TcpStream::connect(here).unwrap();
    let near = stream.local_addr().unwrap();
    let text = refusal(Options::shared().apply_to_client(&stream, near), near);
    assert_eq!(text, format!("the socket is connected to {here} {late}"));
}

/// Without the refusal, a third socket joins an address that the caller takes for exclusive.
#[test]
fn an_exclusive_option_on_a_member() {
    if !shares() {
        return;
    }
    let expected = |here| {
        format!(
            "the socket is bound to {here} and shared, so that others can have joined it: \
             open an exclusive socket instead"
        )
    };
    let member = sameport::listen(V4).unwrap();
    let here = member.local_addr().unwrap();
    let tcp = expected::expected().tcp;
    let _other = tcp.next(sameport::listen(here));
    let text = refusal(Options::exclusive().apply_to_listener(&member, here), here);
    assert_eq!(text, expected(here));
    // The refusal changed nothing.
    let _third = tcp.next(sameport::listen(here));

    let member = sameport::bind_udp(V4).unwrap();
    let here = member.local_addr().unwrap();
    let text = refusal(Options::exclusive().apply_to_listener(&member, here), here);
    assert_eq!(text, expected(here));
}
