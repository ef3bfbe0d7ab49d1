//! The builder for shared and exclusive sockets.

use crate::steering::Steering;

/// Options of a TCP listener or UDP socket: shared or exclusive, and further socket options.
///
/// An option that the system lacks is an error of kind
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported), never ignored.
///
/// ```
/// use sameport::Options;
///
/// let first = Options::shared().backlog(64).listen("127.0.0.1:0")?;
/// let second = Options::shared().nonblocking(true).listen(first.local_addr().unwrap())?;
/// # drop(second);
/// # Ok::<(), sameport::Error>(())
/// ```
///
/// A getter has the prefix `get_` where its option has the plain name, as in
/// [`std::process::Command`]:
///
/// ```
/// let options = sameport::Options::shared().backlog(64).nonblocking(true).device("lo");
/// assert!(options.is_shared() && options.is_nonblocking());
/// assert_eq!((options.get_backlog(), options.get_device()), (64, Some("lo")));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Options {
    pub(crate) shared: bool,
    pub(crate) balanced: bool,
    pub(crate) backlog: i32,
    pub(crate) v6only: Option<bool>,
    pub(crate) nonblocking: bool,
    pub(crate) device: Option<String>,
    pub(crate) transparent: bool,
    pub(crate) freebind: bool,
    pub(crate) steering: Option<Steering>,
}

impl Options {
    /// A socket whose address other shared sockets can have too, before and after.
    ///
    /// The users that can join: [`Support::join_policy`](crate::Support::join_policy).
    ///
    /// ```
    /// assert!(sameport::Options::shared().is_shared());
    /// ```
    #[doc(alias = "SO_REUSEPORT")]
    #[doc(alias = "SO_REUSEPORT_LB")]
    #[doc(alias = "SO_REUSEADDR")]
    pub fn shared() -> Self {
        Self::new(true)
    }

    /// A socket whose address no other socket can have, before or after.
    ///
    /// | system | mechanism |
    /// |---|---|
    /// | Linux | no `SO_REUSEPORT`; TCP listens at once, and gets `SO_REUSEADDR` after `listen`, where it admits no socket |
    /// | Windows | `SO_EXCLUSIVEADDRUSE` |
    /// | illumos, Solaris | `SO_EXCLBIND`; TCP also gets `SO_REUSEADDR`, which then admits no socket |
    /// | BSDs, macOS | neither option, and `listen` at once; root or the same user can bind a more specific address than an exclusive wildcard address |
    ///
    /// On Linux, the socket excludes every user, root included, from its address and from all
    /// overlapping ones: the wildcard address and the addresses below it, IPv4 below `[::]`, a
    /// device. It does not exclude sockets of other addresses (`[::1]` and `127.0.0.1`), sockets
    /// bound while the port is free, or a process that holds a descriptor of this socket and sets
    /// `SO_REUSEPORT` on it. Beside TCP on `0.0.0.0`, `[::]` with [`Options::v6only`], or an address on a
    /// device, the kernel admits an address that does not overlap, and then, with `SO_REUSEPORT`, one
    /// that does, of any user; nothing is free beside a bare port, or beside both wildcard addresses
    /// of [`Options::listen_all`]. `docs/security.md` lists each case with its test.
    ///
    /// # Restarts
    ///
    /// On Linux, an exclusive listener binds at once while connections of an exclusive predecessor
    /// are in TIME-WAIT, and while its own user still has open ones. Connections of a listener
    /// without `SO_REUSEADDR`, such as a shared one, refuse it for up to 60 s.
    ///
    /// While TIME-WAIT remains and no listener has the port, a socket of any user with
    /// `SO_REUSEADDR` can be bound to it. If it listens, opening fails with
    /// [`ErrorKind::InUse`](crate::ErrorKind::InUse) or
    /// [`ErrorKind::InUseByAnotherUser`](crate::ErrorKind::InUseByAnotherUser). If it does not, it
    /// receives nothing from this listener, but can connect from the address, and so take the
    /// connection of a client whose address and port it guesses. Since Linux 6.8 opening fails then
    /// too, after `listen`; connections of these milliseconds are reset. Earlier kernels do not list
    /// such a socket to unprivileged users, and a sandbox can refuse the list (`sock_diag`): the
    /// listener then opens beside it.
    ///
    /// On illumos, a listener also restarts at once, by its source, which no test covers. On the
    /// BSDs and macOS, connections in TIME-WAIT refuse an exclusive listener.
    ///
    /// ```
    /// use sameport::Options;
    ///
    /// let held = Options::exclusive().listen("127.0.0.1:0")?;
    /// assert!(Options::shared().listen(held.local_addr()?).is_err());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[doc(alias = "SO_EXCLUSIVEADDRUSE")]
    #[doc(alias = "SO_EXCLBIND")]
    pub fn exclusive() -> Self {
        Self::new(false)
    }

    fn new(shared: bool) -> Self {
        Self {
            shared,
            balanced: false,
            backlog: 4096,
            v6only: None,
            nonblocking: false,
            device: None,
            transparent: false,
            freebind: false,
            steering: None,
        }
    }

    /// The number of connections that can wait for `accept`, 4096 by default. TCP only.
    ///
    /// Systems silently reduce it: Linux to `net.core.somaxconn`, 4096 by default since Linux 5.4.
    ///
    /// ```
    /// let listener = sameport::Options::shared().backlog(16).listen("127.0.0.1:0")?;
    /// # Ok::<(), sameport::Error>(())
    /// ```
    #[doc(alias = "SOMAXCONN")]
    pub fn backlog(mut self, connections: u32) -> Self {
        self.backlog = connections.try_into().unwrap_or(i32::MAX);
        self
    }

    /// Whether an IPv6 socket excludes IPv4 (`IPV6_V6ONLY`, ipv6(7)).
    ///
    /// By default, a wildcard address includes both families on every system, and other addresses
    /// have the system's default. With `true`, a bare port means `[::]`. On an IPv4 address, the
    /// option is an error of kind [`ErrorKind::BadAddress`](crate::ErrorKind::BadAddress).
    ///
    /// ```
    /// use sameport::Options;
    ///
    /// // Both on one port: without the option the first one includes IPv4.
    /// # if std::net::TcpListener::bind("[::1]:0").is_ok() {
    /// let v6 = Options::exclusive().v6only(true).listen("[::]:0")?;
    /// let port = v6.local_addr()?.port();
    /// let v4 = Options::exclusive().listen(("0.0.0.0", port));
    /// # drop(v4);
    /// # }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[doc(alias = "IPV6_V6ONLY")]
    pub fn v6only(mut self, only: bool) -> Self {
        self.v6only = Some(only);
        self
    }

    /// Whether calls on the socket return at once (`O_NONBLOCK`, `FIONBIO`).
    ///
    /// ```
    /// let listener = sameport::Options::shared().nonblocking(true).listen("127.0.0.1:0")?;
    /// let error = listener.accept().unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    /// # Ok::<(), sameport::Error>(())
    /// ```
    #[doc(alias = "O_NONBLOCK")]
    #[doc(alias = "FIONBIO")]
    pub fn nonblocking(mut self, nonblocking: bool) -> Self {
        self.nonblocking = nonblocking;
        self
    }

    /// Restricts the socket to the traffic of one network interface, by its name.
    ///
    /// `SO_BINDTODEVICE` on Linux (unprivileged since Linux 5.7), `IP_BOUND_IF` on macOS, illumos
    /// and Solaris. Unsupported on other systems.
    ///
    /// ```
    /// # #[cfg(target_os = "linux")] {
    /// let loopback = sameport::Options::shared().device("lo").listen("127.0.0.1:0")?;
    /// # }
    /// # Ok::<(), sameport::Error>(())
    /// ```
    #[doc(alias = "SO_BINDTODEVICE")]
    #[doc(alias = "IP_BOUND_IF")]
    pub fn device(mut self, name: impl Into<String>) -> Self {
        self.device = Some(name.into());
        self
    }

    /// Admits addresses of other machines, for transparent proxies.
    ///
    /// `IP_TRANSPARENT` on Linux (needs CAP_NET_ADMIN or CAP_NET_RAW), `IP_BINDANY` and `IPV6_BINDANY` on FreeBSD
    /// and NetBSD, `SO_BINDANY` on OpenBSD (all need root). Unsupported on other systems.
    ///
    /// ```
    /// // An address of another machine; needs a privilege.
    /// match sameport::Options::shared().transparent(true).listen("192.0.2.1:0") {
    ///     Ok(listener) => println!("{listener:?}"),
    ///     Err(error) => println!("{error}"),
    /// }
    /// # Ok::<(), sameport::Error>(())
    /// ```
    #[doc(alias = "IP_TRANSPARENT")]
    #[doc(alias = "IP_BINDANY")]
    #[doc(alias = "SO_BINDANY")]
    pub fn transparent(mut self, transparent: bool) -> Self {
        self.transparent = transparent;
        self
    }

    /// Admits addresses that this machine does not have yet.
    ///
    /// `IP_FREEBIND` on Linux (unprivileged), `IP_BINDANY` on FreeBSD and `SO_BINDANY` on OpenBSD
    /// (both need root). Unsupported on other systems.
    ///
    /// ```
    /// // An address that this machine gets later.
    /// # #[cfg(target_os = "linux")]
    /// let listener = sameport::Options::shared().freebind(true).listen("192.0.2.1:0")?;
    /// # Ok::<(), sameport::Error>(())
    /// ```
    #[doc(alias = "IP_FREEBIND")]
    pub fn freebind(mut self, freebind: bool) -> Self {
        self.freebind = freebind;
        self
    }

    /// How the members of a set are selected: [`Options::listen_n`](crate::Options::listen_n). By
    /// default by hash; for [`Options::per_core`](crate::Options::per_core) by processor, where
    /// possible. Without effect on single sockets.
    ///
    /// ```
    /// use sameport::{Options, Steering};
    ///
    /// # #[cfg(target_os = "linux")] {
    /// let members = Options::shared().steering(Steering::Program).per_core("127.0.0.1:0")?;
    /// assert_eq!((members.steering(), members.cpu(0).is_some()), (Steering::Program, true));
    /// # }
    /// # Ok::<(), sameport::Error>(())
    /// ```
    pub fn steering(mut self, steering: Steering) -> Self {
        self.steering = Some(steering);
        self
    }

    /// Requires that the system balances the traffic of this socket's address.
    ///
    /// Otherwise opening fails with [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported).
    ///
    /// ```
    /// use sameport::{ErrorKind, Options};
    ///
    /// match Options::shared().require_balanced(true).listen("127.0.0.1:0") {
    ///     Ok(_) => println!("the system spreads connections"),
    ///     Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported),
    /// }
    /// ```
    #[doc(alias = "SO_REUSEPORT_LB")]
    pub fn require_balanced(mut self, required: bool) -> Self {
        self.balanced = required;
        self
    }

    /// Whether the socket is shared: [`Options::shared`]. Otherwise exclusive.
    ///
    /// ```
    /// assert!(!sameport::Options::exclusive().is_shared());
    /// ```
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.shared
    }

    /// The value of [`Options::backlog`].
    ///
    /// ```
    /// assert_eq!(sameport::Options::shared().backlog(64).get_backlog(), 64);
    /// ```
    #[must_use]
    pub fn get_backlog(&self) -> u32 {
        self.backlog.unsigned_abs()
    }

    /// The value of [`Options::v6only`]; `None` if it is not set.
    ///
    /// ```
    /// assert_eq!(sameport::Options::shared().v6only(true).get_v6only(), Some(true));
    /// ```
    #[must_use]
    pub fn get_v6only(&self) -> Option<bool> {
        self.v6only
    }

    /// The value of [`Options::steering`]; `None` if it is not set.
    ///
    /// ```
    /// use sameport::{Options, Steering};
    ///
    /// let options = Options::shared().steering(Steering::OneQueue);
    /// assert_eq!(options.get_steering(), Some(Steering::OneQueue));
    /// ```
    #[must_use]
    pub fn get_steering(&self) -> Option<Steering> {
        self.steering
    }

    /// The value of [`Options::nonblocking`].
    ///
    /// ```
    /// assert!(!sameport::Options::shared().is_nonblocking());
    /// ```
    #[must_use]
    pub fn is_nonblocking(&self) -> bool {
        self.nonblocking
    }

    /// The value of [`Options::device`]; `None` if it is not set.
    ///
    /// ```
    /// assert_eq!(sameport::Options::shared().device("lo").get_device(), Some("lo"));
    /// ```
    #[must_use]
    pub fn get_device(&self) -> Option<&str> {
        self.device.as_deref()
    }

    /// The value of [`Options::transparent`].
    ///
    /// ```
    /// assert!(sameport::Options::shared().transparent(true).is_transparent());
    /// ```
    #[must_use]
    pub fn is_transparent(&self) -> bool {
        self.transparent
    }

    /// The value of [`Options::freebind`].
    ///
    /// ```
    /// assert!(sameport::Options::shared().freebind(true).is_freebind());
    /// ```
    #[must_use]
    pub fn is_freebind(&self) -> bool {
        self.freebind
    }

    /// The value of [`Options::require_balanced`].
    ///
    /// ```
    /// assert!(sameport::Options::shared().require_balanced(true).requires_balanced());
    /// ```
    #[must_use]
    pub fn requires_balanced(&self) -> bool {
        self.balanced
    }
}
