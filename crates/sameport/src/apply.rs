//! Options of sockets that the caller creates.

use std::net::SocketAddr;

use socket2::SockRef;

use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::listen::AsHandle;
use crate::open;
use crate::options::Options;
use crate::socket_facts::{Family, SocketFacts};
use crate::socket_job::{Role, SocketJob};
use crate::system::{Here, System};

impl Options {
    /// Sets these options on a TCP or UDP socket that will receive from any peer, before the caller
    /// binds it to `address` and, with its own backlog, listens.
    ///
    /// The socket gets what [`Options::listen`] or [`Options::bind_udp`] would set. A socket that
    /// cannot have the options, or no longer, is an error: of another family or type, or bound.
    ///
    /// On Linux, an exclusive listener restarts over connections in TIME-WAIT only if the caller sets
    /// `SO_REUSEADDR` after its own `listen`: [`Options::exclusive`].
    ///
    /// On Linux, bind a shared UDP socket on port 0 before this call, and pass the address that it
    /// got: with the option set, the kernel could choose the port of another program.
    ///
    /// ```
    /// use socket2::{Domain, Socket, Type};
    ///
    /// let address: std::net::SocketAddr = "127.0.0.1:0".parse()?;
    /// let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    /// # #[cfg(not(any(target_os = "illumos", target_os = "solaris")))]
    /// sameport::Options::shared().apply_to_listener(&socket, address)?;
    /// socket.bind(&address.into())?;
    /// socket.listen(128)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::WrongSocket`], [`ErrorKind::NotPermitted`], [`ErrorKind::AddressNotHere`],
    /// [`ErrorKind::Unsupported`], [`ErrorKind::BadAddress`], [`ErrorKind::Other`]. Options before the
    /// failed one stay set.
    #[doc(alias = "SO_REUSEPORT")]
    pub fn apply_to_listener(&self, socket: &impl AsHandle, address: SocketAddr) -> Result<()> {
        let socket = SockRef::from(socket);
        let facts = facts(&socket, address)?;
        let stream = checked(self, &facts, address, true)?;
        let role = if stream { Role::Listener } else { Role::Datagram };
        let job = open::job(self, role, address);
        if self.shared && Here::shares_after_bind(&job) {
            return Err(Error::new(ErrorKind::BadAddress, "apply", address).with_note(
                "bind a datagram socket to port 0 first, then give the address it got",
            ));
        }
        self.apply(&socket, &job)
    }

    /// Sets these options on a TCP or UDP socket that will connect, before the caller binds it to
    /// `local`, which listeners and other sockets can have too, and connects it.
    ///
    /// The socket gets what [`connect`](crate::connect()) would set. On port 0 it is not shared,
    /// because the system chooses a free port. It excludes IPv4 if `local` is IPv6, unless
    /// [`Options::v6only`] says otherwise.
    ///
    /// The difference to a listener: on FreeBSD, a client is not a member of the balanced group,
    /// where it would receive connections that it cannot accept.
    ///
    /// ```
    /// use socket2::{Domain, Socket, Type};
    ///
    /// # let far = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let far = far.local_addr()?;
    /// # #[cfg(not(any(target_os = "illumos", target_os = "solaris")))] {
    /// let near = sameport::listen("127.0.0.1:0")?;
    /// let local = near.local_addr()?;
    /// let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    /// sameport::Options::shared().apply_to_client(&socket, local)?;
    /// socket.bind(&local.into())?;
    /// socket.connect(&far.into())?;
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Options::apply_to_listener`]; [`ErrorKind::BadAddress`] also for
    /// [`Options::require_balanced`], which a client cannot have.
    #[doc(alias = "SO_REUSEPORT")]
    pub fn apply_to_client(&self, socket: &impl AsHandle, local: SocketAddr) -> Result<()> {
        let socket = SockRef::from(socket);
        let facts = facts(&socket, local)?;
        let tcp = checked(self, &facts, local, false)?;
        if self.balanced {
            return Err(Error::new(ErrorKind::BadAddress, "apply", local)
                .with_note("a client has nothing to balance"));
        }
        let v6only = local.is_ipv6() && self.v6only.unwrap_or(!open::is_mapped(local));
        let job = SocketJob { role: Role::Client, tcp, address: local, v6only };
        let shared = self.shared && local.port() != 0;
        Self { shared, ..self.clone() }.apply(&socket, &job)
    }

    fn apply(&self, socket: &SockRef<'_>, job: &SocketJob) -> Result<()> {
        open::check(self, job)?;
        open::set_options(self, socket, job)?;
        if self.nonblocking {
            socket
                .set_nonblocking(true)
                .map_err(|os| Error::os("set nonblocking", job.address, os))?;
        }
        Ok(())
    }
}

fn facts(socket: &SockRef<'_>, address: SocketAddr) -> Result<SocketFacts> {
    SocketFacts::of(socket).map_err(|os| Error::os("getsockopt(type)", address, os))
}

/// Whether the socket is a stream, if it can have the options.
fn checked(
    options: &Options,
    facts: &SocketFacts,
    address: SocketAddr,
    listens: bool,
) -> Result<bool> {
    check_socket(options, facts, address, listens)
        .map_err(|note| Error::new(ErrorKind::WrongSocket, "apply", address).with_note(note))
}

/// The reason why a socket cannot have the options, or whether it is a stream.
fn check_socket(
    options: &Options,
    facts: &SocketFacts,
    address: SocketAddr,
    listens: bool,
) -> std::result::Result<bool, String> {
    let stream = match (facts.family, facts.stream) {
        (Family::Unix, _) => return Err("a unix socket has no port".into()),
        (Family::Other, _) => return Err("the socket is neither for IPv4 nor for IPv6".into()),
        (Family::Ipv4, _) if address.is_ipv6() => {
            return Err("the socket is for IPv4, and the address for IPv6".into());
        }
        (Family::Ipv6, _) if address.is_ipv4() => {
            return Err("the socket is for IPv6, and the address for IPv4".into());
        }
        (_, None) => return Err("neither a stream nor a datagram socket".into()),
        (_, Some(stream)) => stream,
    };
    let Some(local) = facts.local else {
        return Ok(stream);
    };
    if !options.shared && facts.shared == Some(true) {
        return Err(format!(
            "the socket is bound to {local} and shared, so that others can have joined it: open an exclusive socket instead"
        ));
    }
    let late = "the options have an effect before bind only";
    if let Some(peer) = facts.peer {
        return Err(format!("the socket is connected to {peer} already: {late}"));
    }
    if facts.listening == Some(true) {
        return Err(format!("the socket listens on {local} already: {late}"));
    }
    // The one option that has an effect after `bind`, where it must be set after `bind`.
    let any_port = SocketAddr::new(address.ip(), 0);
    let job = SocketJob { role: Role::Datagram, tcp: false, address: any_port, v6only: false };
    if stream || !listens || !options.shared || !Here::shares_after_bind(&job) {
        return Err(format!("the socket is bound to {local} already: {late}"));
    }
    if facts.shared == Some(true) {
        return Err(format!("the socket is bound to {local} and shared already"));
    }
    if options.freebind {
        return Err(format!("the socket is bound to {local} already: freebind has no effect"));
    }
    if local != address {
        return Err(format!("the socket is bound to {local}"));
    }
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(family: Family, stream: Option<bool>) -> SocketFacts {
        let (listening, shared) = (Some(false), Some(false));
        SocketFacts { family, stream, local: None, peer: None, listening, shared }
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_new_socket_can_have_the_options_of_its_family() {
        let shared = Options::shared();
        for (family, address, expected) in [
            (Family::Ipv4, "127.0.0.1:80", None),
            (Family::Ipv6, "[::1]:80", None),
            (Family::Ipv4, "[::1]:80", Some("the socket is for IPv4, and the address for IPv6")),
            (
                Family::Ipv6,
                "127.0.0.1:80",
                Some("the socket is for IPv6, and the address for IPv4"),
            ),
            (Family::Unix, "127.0.0.1:80", Some("a unix socket has no port")),
            (Family::Other, "[::1]:80", Some("the socket is neither for IPv4 nor for IPv6")),
        ] {
            for (stream, listens) in [(true, true), (false, true), (true, false), (false, false)] {
                let facts = facts(family, Some(stream));
                let expected = expected.map_or(Ok(stream), |text| Err(text.to_owned()));
                assert_eq!(check_socket(&shared, &facts, at(address), listens), expected);
            }
        }
        let raw = check_socket(&shared, &facts(Family::Ipv4, None), at("127.0.0.1:0"), true);
        assert_eq!(raw, Err("neither a stream nor a datagram socket".into()));
    }

    #[test]
    fn a_bound_socket_can_have_none() {
        let late = "already: the options have an effect before bind only";
        let here = at("127.0.0.1:80");
        let bound = |stream| SocketFacts { local: Some(here), ..facts(Family::Ipv4, Some(stream)) };
        let member = |stream| SocketFacts { shared: Some(true), ..bound(stream) };
        let listening = |facts| SocketFacts { listening: Some(true), ..facts };
        let connected = SocketFacts { peer: Some(at("127.0.0.1:9")), ..bound(true) };
        let joined = "the socket is bound to 127.0.0.1:80 and shared, so that others can have joined it: open an exclusive socket instead";
        for (options, facts, expected) in [
            (Options::exclusive(), member(true), joined.to_owned()),
            (Options::exclusive(), member(false), joined.to_owned()),
            (Options::exclusive(), listening(member(true)), joined.to_owned()),
            (Options::exclusive(), bound(true), format!("the socket is bound to {here} {late}")),
            (Options::exclusive(), bound(false), format!("the socket is bound to {here} {late}")),
            (Options::shared(), bound(true), format!("the socket is bound to {here} {late}")),
            (
                Options::shared(),
                listening(bound(true)),
                format!("the socket listens on {here} {late}"),
            ),
            (
                Options::shared(),
                listening(member(true)),
                format!("the socket listens on {here} {late}"),
            ),
            (
                Options::shared(),
                connected,
                format!("the socket is connected to 127.0.0.1:9 {late}"),
            ),
        ] {
            for listens in [true, false] {
                let found = check_socket(&options, &facts, here, listens);
                assert_eq!(found, Err(expected.clone()), "{options:?} {facts:?} {listens}");
            }
        }
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn a_bound_datagram_socket_can_become_shared() {
        let here = at("127.0.0.1:80");
        let bound = SocketFacts { local: Some(here), ..facts(Family::Ipv4, Some(false)) };
        let shared = Options::shared();
        assert_eq!(check_socket(&shared, &bound, here, true), Ok(false));
        let error = |options: &Options, facts: &SocketFacts, address, listens| {
            check_socket(options, facts, address, listens).unwrap_err()
        };
        assert_eq!(
            error(&shared, &bound, at("127.0.0.1:81"), true),
            "the socket is bound to 127.0.0.1:80"
        );
        assert!(error(&shared, &bound, here, false).contains("before bind only"));
        let member = SocketFacts { shared: Some(true), ..bound.clone() };
        assert!(error(&shared, &member, here, true).ends_with("and shared already"));
        let freebind = Options::shared().freebind(true);
        assert!(error(&freebind, &bound, here, true).ends_with("freebind has no effect"));
    }
}
