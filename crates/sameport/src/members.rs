//! Sets: several listeners or UDP sockets of one address, one for each thread.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;

use socket2::SockRef;

use crate::error::Result;
use crate::group::{Group, Handle};
use crate::listen::AsHandle;
use crate::steering::Steering;

/// Several sockets of one address, the members, one for each thread.
///
/// [`Options::listen_n`](crate::Options::listen_n) and
/// [`Options::per_core`](crate::Options::per_core) open TCP listeners,
/// [`Options::bind_udp_n`](crate::Options::bind_udp_n) and
/// [`Options::bind_udp_per_core`](crate::Options::bind_udp_per_core) UDP sockets.
///
/// ```
/// use std::io::Write;
///
/// let members = sameport::Options::exclusive().listen_n("127.0.0.1:0", 2)?;
/// let address = members.local_addr();
/// for member in members {
///     std::thread::spawn(move || {
///         for stream in member.incoming() {
///             let _ = stream.and_then(|mut stream| stream.write_all(b"hello"));
///         }
///     });
/// }
/// std::net::TcpStream::connect(address)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Members<S> {
    pub(crate) members: Vec<Member<S>>,
    pub(crate) local_addr: SocketAddr,
    pub(crate) steering: Steering,
    pub(crate) others: Option<usize>,
}

impl<S> Members<S> {
    /// The number of members.
    ///
    /// ```
    /// let members = sameport::Options::exclusive().listen_n("127.0.0.1:0", 2)?;
    /// assert_eq!(members.len(), 2);
    /// # Ok::<(), sameport::Error>(())
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether all members have been removed.
    ///
    /// ```
    /// let mut members = sameport::Options::exclusive().listen_n("127.0.0.1:0", 1)?;
    /// drop(members.remove(0));
    /// assert!(members.is_empty());
    /// # Ok::<(), sameport::Error>(())
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The address that all members have.
    ///
    /// ```
    /// let members = sameport::Options::exclusive().listen_n("127.0.0.1:0", 2)?;
    /// assert_eq!(members.get(1).unwrap().local_addr()?, members.local_addr());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The way in which the system selects a member, as it was when the set was opened.
    ///
    /// ```
    /// let one = sameport::Options::exclusive().listen_n("127.0.0.1:0", 2)?;
    /// assert_eq!(one.steering(), sameport::Steering::OneQueue);
    /// # Ok::<(), sameport::Error>(())
    /// ```
    #[must_use]
    pub fn steering(&self) -> Steering {
        self.steering
    }

    /// The number of other sockets that had the address when the set was opened, of this process or
    /// another one: they receive a share of the traffic. Sockets of the address on another network
    /// device count too.
    ///
    /// `None` if the system does not report it: on all systems but Linux, for
    /// [`Steering::OneQueue`], and on Linux without `/proc/net`.
    ///
    /// ```
    /// let members = sameport::Options::exclusive().listen_n("127.0.0.1:0", 2)?;
    /// assert_ne!(members.others(), Some(1));
    /// # Ok::<(), sameport::Error>(())
    /// ```
    #[must_use]
    pub fn others(&self) -> Option<usize> {
        self.others
    }

    /// The processor of a member: [`Member::cpu`].
    ///
    /// ```
    /// let members = sameport::Options::exclusive().listen_n("127.0.0.1:0", 2)?;
    /// assert_eq!(members.cpu(0), None);
    /// # Ok::<(), sameport::Error>(())
    /// ```
    #[must_use]
    pub fn cpu(&self, index: usize) -> Option<usize> {
        self.members.get(index)?.cpu
    }

    /// A member, without taking it from the set.
    ///
    /// ```
    /// let members = sameport::Options::exclusive().listen_n("127.0.0.1:0", 2)?;
    /// assert!(members.get(1).is_some() && members.get(2).is_none());
    /// # Ok::<(), sameport::Error>(())
    /// ```
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&Member<S>> {
        self.members.get(index)
    }

    /// The members, without taking them from the set.
    ///
    /// ```
    /// let members = sameport::Options::exclusive().listen_n("127.0.0.1:0", 2)?;
    /// for member in members.iter() {
    ///     println!("{}", member.local_addr()?);
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn iter(&self) -> std::slice::Iter<'_, Member<S>> {
        self.members.iter()
    }

    /// Takes a member from the set; later members move up by one index. `None` beyond the last index.
    ///
    /// The member still receives connections, until it is withdrawn or dropped.
    ///
    /// ```
    /// let mut members = sameport::Options::exclusive().listen_n("127.0.0.1:0", 3)?;
    /// let taken = members.remove(1);
    /// assert_eq!((members.len(), taken.is_some()), (2, true));
    /// assert!(members.remove(2).is_none());
    /// # Ok::<(), sameport::Error>(())
    /// ```
    pub fn remove(&mut self, index: usize) -> Option<Member<S>> {
        (index < self.members.len()).then(|| self.members.remove(index))
    }
}

impl<S> fmt::Debug for Members<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Members")
            .field("members", &self.members)
            .field("local_addr", &self.local_addr)
            .field("steering", &self.steering)
            .field("others", &self.others)
            .finish()
    }
}

impl<S> IntoIterator for Members<S> {
    type Item = Member<S>;
    type IntoIter = std::vec::IntoIter<Member<S>>;

    fn into_iter(self) -> Self::IntoIter {
        self.members.into_iter()
    }
}

impl<'a, S> IntoIterator for &'a Members<S> {
    type Item = &'a Member<S>;
    type IntoIter = std::slice::Iter<'a, Member<S>>;

    fn into_iter(self) -> Self::IntoIter {
        self.members.iter()
    }
}

/// A listener or UDP socket of a set. Dereferences to the socket.
///
/// When a member is dropped, its socket closes, and the set steers by the new positions. A clone of the
/// socket (`try_clone`, a child process) keeps the socket in the group: steering by
/// [`Steering::Program`] is then wrong for its processor.
pub struct Member<S> {
    /// `None` only while the member is taken apart.
    socket: Option<Arc<S>>,
    group: Arc<Group>,
    number: usize,
    cpu: Option<usize>,
}

impl<S: AsHandle + Send + Sync + 'static> Member<S> {
    pub(crate) fn new(socket: S, group: Arc<Group>, number: usize, cpu: Option<usize>) -> Self {
        let socket = Arc::new(socket);
        let handle: Arc<dyn Handle> = socket.clone();
        group.lock().register(number, Some(Arc::downgrade(&handle)));
        Self { socket: Some(socket), group, number, cpu }
    }

    /// Converts the socket, for example into a type of an asynchronous runtime; the set keeps the
    /// member. The feature `tokio` has `into_tokio` for this.
    ///
    /// ```
    /// let set = sameport::Options::exclusive().listen_n("127.0.0.1:0", 1)?;
    /// for member in set {
    ///     let member = member.try_map(|listener| {
    ///         listener.set_nonblocking(true)?;
    ///         Ok(listener)
    ///     })?;
    ///     assert!(member.accept().is_err());
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The error of the conversion, or of `dup`. The member has then left the set.
    pub fn try_map<T: AsHandle + Send + Sync + 'static>(
        mut self,
        convert: impl FnOnce(S) -> io::Result<T>,
    ) -> io::Result<Member<T>> {
        // Keeps the member's position until the conversion is known to succeed.
        let handle: Arc<dyn Handle> = Arc::new(SockRef::from(&*self).try_clone()?);
        let kept = Arc::downgrade(&handle);
        let mut place =
            Place { handle: Some(handle), group: self.group.clone(), number: self.number };
        let socket = self.take()?;
        self.group.lock().register(self.number, Some(kept));
        let socket = convert(socket)?;
        let member = Member::new(socket, self.group.clone(), self.number, self.cpu);
        place.handle = None;
        Ok(member)
    }

    /// The socket alone. The set no longer knows when the socket leaves the group, so it ends
    /// [`Steering::Program`], and [`Member::withdraw`] of the other members fails.
    ///
    /// ```
    /// let mut set = sameport::Options::exclusive().listen_n("127.0.0.1:0", 1)?;
    /// let listener = set.remove(0).map(sameport::Member::into_inner).transpose()?;
    /// assert_eq!(listener.map(|l| l.local_addr()).transpose()?, Some(set.local_addr()));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// None at present.
    pub fn into_inner(mut self) -> io::Result<S> {
        let socket = self.take()?;
        self.group.lock().release(self.number, &SockRef::from(&socket));
        Ok(socket)
    }

    /// Steers new connections away from this member, which stays open: it accepts what waits in its
    /// queue, and then closing it loses nothing. See [`Member::drain`] for both in one step.
    ///
    /// Handshakes in progress still complete on this member, so accept for at least a round-trip
    /// time. On loopback, handshakes complete at once. For UDP, datagrams of the other senders keep
    /// their members only with [`Steering::IncomingCpu`] and [`Steering::Program`].
    ///
    /// Attaches a classic BPF program to the group (`SO_ATTACH_REUSEPORT_CBPF`), which selects the other
    /// members. It is removed when the member is dropped (Linux 5.3; before, a program that selects by
    /// the kernel's hash replaces it).
    ///
    /// ```
    /// # #[cfg(target_os = "linux")] {
    /// let members = sameport::listen_n("127.0.0.1:0", 2)?;
    /// // New connections go to the other member.
    /// members.get(0).unwrap().withdraw()?;
    /// # }
    /// # Ok::<(), sameport::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::SharedByOthers`] if a socket outside the set has the address: a program would select
    /// for it too. [`ErrorKind::Unsupported`] for the last member, for [`Steering::OneQueue`], on
    /// all systems but Linux, and if `/proc/net` cannot be read, for example for lack of file
    /// descriptors. [`ErrorKind::Other`] otherwise.
    ///
    /// [`ErrorKind::SharedByOthers`]: crate::ErrorKind::SharedByOthers
    /// [`ErrorKind::Unsupported`]: crate::ErrorKind::Unsupported
    /// [`ErrorKind::Other`]: crate::ErrorKind::Other
    #[doc(alias = "SO_ATTACH_REUSEPORT_CBPF")]
    pub fn withdraw(&self) -> Result<()> {
        self.group.lock().withdraw(self.number)
    }

    /// Takes the socket out without closing it. The group keeps the position.
    fn take(&mut self) -> io::Result<S> {
        let mut state = self.group.lock();
        state.register(self.number, None);
        let socket = self.socket.take().and_then(Arc::into_inner);
        drop(state);
        // References of the group exist under its lock only.
        socket.ok_or_else(|| io::Error::other("the socket of the member is in use"))
    }
}

impl<S> Member<S> {
    /// The number of the processor whose connections this member gets, with steering by processor, or
    /// to which its thread can be pinned; `None` for sets without processors.
    ///
    /// ```
    /// let members = sameport::Options::exclusive().listen_n("127.0.0.1:0", 2)?;
    /// assert_eq!(members.get(0).unwrap().cpu(), None);
    /// # Ok::<(), sameport::Error>(())
    /// ```
    #[must_use]
    pub fn cpu(&self) -> Option<usize> {
        self.cpu
    }

    /// Whether the set still steers away from this member: not after the other members have left.
    pub(crate) fn is_withdrawn(&self) -> bool {
        self.group.lock().is_withdrawn(self.number)
    }

    /// Gives the connections of this member's processor to other sockets with `SO_INCOMING_CPU`.
    pub(crate) fn renounce_cpu(&self) {
        self.group.lock().renounce_cpu(self.number);
    }
}

/// The position of a member during a conversion. The member leaves its set if that fails or panics.
struct Place {
    handle: Option<Arc<dyn Handle>>,
    group: Arc<Group>,
    number: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            self.group.lock().leave(self.number, || drop(handle));
        }
    }
}

impl<S> Deref for Member<S> {
    type Target = S;

    fn deref(&self) -> &S {
        match &self.socket {
            Some(socket) => socket,
            None => unreachable!("a member without a socket is not reachable"),
        }
    }
}

impl<S> Drop for Member<S> {
    fn drop(&mut self) {
        if let Some(socket) = self.socket.take() {
            // Closed under the lock, so that the set sees departures in the kernel's order.
            self.group.lock().leave(self.number, || drop(socket));
        }
    }
}

impl<S> fmt::Debug for Member<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("number", &self.number).field("cpu", &self.cpu).finish()
    }
}
