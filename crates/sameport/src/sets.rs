//! Opening sets of listeners and UDP sockets.

use std::net::{TcpListener, UdpSocket};
use std::num::NonZeroUsize;
use std::sync::Arc;

use socket2::{SockRef, Socket};

use crate::endpoint::{Endpoint, ToAddress};
use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::group::{Group, State, not_alone};
use crate::listen::AsHandle;
use crate::members::{Member, Members};
use crate::open;
use crate::options::Options;
use crate::socket_job::{Role, SocketJob};
use crate::steering::Steering;
use crate::support::{DualStack, Sharing};
use crate::system::{Here, System};

/// Opens a set of `n` shared TCP listeners: [`Options::shared`], [`Options::listen_n`].
///
/// ```
/// # if sameport::support().sharing == sameport::Sharing::Unsupported { return Ok(()) }
/// let members = sameport::listen_n("127.0.0.1:0", 4)?;
/// assert_eq!(members.len(), 4);
/// # Ok::<(), sameport::Error>(())
/// ```
///
/// # Errors
///
/// As [`Options::listen_n`].
pub fn listen_n(address: impl ToAddress, n: usize) -> Result<Members<TcpListener>> {
    Options::shared().listen_n(address, n)
}

/// Opens a shared TCP listener for each processor: [`Options::shared`], [`Options::per_core`].
///
/// ```
/// # if sameport::support().sharing == sameport::Sharing::Unsupported { return Ok(()) }
/// for member in sameport::per_core("127.0.0.1:0")? {
///     std::thread::spawn(move || {
///         // Pin this thread to member.cpu(), then accept.
///     });
/// }
/// # Ok::<(), sameport::Error>(())
/// ```
///
/// # Errors
///
/// As [`Options::listen_n`].
pub fn per_core(address: impl ToAddress) -> Result<Members<TcpListener>> {
    Options::shared().per_core(address)
}

/// Opens a set of `n` shared UDP sockets: [`Options::shared`], [`Options::bind_udp_n`].
///
/// ```
/// # if sameport::support().sharing == sameport::Sharing::Unsupported { return Ok(()) }
/// let members = sameport::bind_udp_n("127.0.0.1:0", 4)?;
/// assert_eq!(members.len(), 4);
/// # Ok::<(), sameport::Error>(())
/// ```
///
/// # Errors
///
/// As [`Options::listen_n`].
pub fn bind_udp_n(address: impl ToAddress, n: usize) -> Result<Members<UdpSocket>> {
    Options::shared().bind_udp_n(address, n)
}

/// Opens a shared UDP socket for each processor: [`Options::shared`], [`Options::bind_udp_per_core`].
///
/// ```
/// # if sameport::support().sharing == sameport::Sharing::Unsupported { return Ok(()) }
/// let members = sameport::bind_udp_per_core("127.0.0.1:0")?;
/// assert!(!members.is_empty());
/// # Ok::<(), sameport::Error>(())
/// ```
///
/// # Errors
///
/// As [`Options::listen_n`].
pub fn bind_udp_per_core(address: impl ToAddress) -> Result<Members<UdpSocket>> {
    Options::shared().bind_udp_per_core(address)
}

/// The size of a set and its processors.
struct Plan {
    members: usize,
    /// The processors to steer by, or to pin threads to; empty without.
    processors: Vec<usize>,
    /// Whether each member has a processor.
    per_core: bool,
}

impl Options {
    /// Opens a set of `n` TCP listeners of one address, for `n` threads.
    ///
    /// The address is that of [`Options::listen`]: on port 0, all members have the port that the
    /// system chose for the first one. All sockets are bound before the first one listens.
    ///
    /// | options, system | members | selection |
    /// |---|---|---|
    /// | shared; Linux, FreeBSD 12 and later, DragonFly | a socket each | [`Steering::Hash`], or as [`Options::steering`] says |
    /// | shared; FreeBSD, one socket for IPv4 and IPv6 | clones of one socket | [`Steering::OneQueue`] |
    /// | shared; macOS, NetBSD, OpenBSD, Windows, FreeBSD 11 | clones of one socket | [`Steering::OneQueue`] |
    /// | shared; illumos, Solaris, others | an error | |
    /// | exclusive; every system | clones of one socket | [`Steering::OneQueue`] |
    ///
    /// Clones accept from one queue: a thread that is busy delays no connection, and no two members
    /// contend for a port where the system would give everything to one of them. Several sockets
    /// have a queue each: connections that wait in a member wait for its thread.
    /// [`Options::require_balanced`] is an error where the system does not balance.
    ///
    /// ```
    /// use sameport::{Options, Steering};
    ///
    /// let members = Options::exclusive().listen_n("127.0.0.1:0", 4)?;
    /// assert_eq!((members.len(), members.steering()), (4, Steering::OneQueue));
    /// # #[cfg(target_os = "linux")] {
    /// let members = Options::shared().listen_n("127.0.0.1:0", 4)?;
    /// assert_eq!(members.steering(), Steering::Hash);
    /// # }
    /// # Ok::<(), sameport::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Options::listen`]; none of the sockets stays open. [`ErrorKind::BadAddress`] for `n` = 0,
    /// and for a steering that contradicts the options. [`ErrorKind::Unsupported`] for more members
    /// than a group can have (Linux: 32,768; FreeBSD: 256) and for a steering that the system lacks.
    /// [`ErrorKind::SharedByOthers`] for [`Steering::Program`] beside other sockets.
    /// [`ErrorKind::Other`] for too many open files (EMFILE).
    pub fn listen_n(&self, address: impl ToAddress, n: usize) -> Result<Members<TcpListener>> {
        self.set(Role::Listener, &address.to_endpoint()?, &self.plan(n))
    }

    /// Opens a set of `n` UDP sockets of one address, as [`Options::listen_n`].
    ///
    /// With [`Steering::Hash`], the datagrams of one sender go to one member, until a member joins or
    /// leaves. With [`Steering::OneQueue`], they go to any.
    ///
    /// ```
    /// let members = sameport::Options::exclusive().bind_udp_n("127.0.0.1:0", 2)?;
    /// assert_eq!(members.len(), 2);
    /// # Ok::<(), sameport::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Options::listen_n`].
    pub fn bind_udp_n(&self, address: impl ToAddress, n: usize) -> Result<Members<UdpSocket>> {
        self.set(Role::Datagram, &address.to_endpoint()?, &self.plan(n))
    }

    /// Opens a TCP listener for each processor, for one thread each: [`Options::listen_n`].
    ///
    /// On Linux, the processors are those on which the calling thread may run (sched_getaffinity(2)), in
    /// ascending order; their numbers need not be contiguous. [`Member::cpu`] has the number, so
    /// that the member's thread can be pinned to it. If the limit of the control group grants fewer
    /// processors ([`std::thread::available_parallelism`]), the set has as many members as it
    /// grants, and they have no processor. Other systems: as many members as
    /// [`std::thread::available_parallelism`], without processors.
    ///
    /// Unless [`Options::steering`] says otherwise, a connection goes to the member of the processor
    /// that handles its first packet: by [`Steering::IncomingCpu`] (Linux 6.2 and later), by
    /// [`Steering::Program`] (Linux 4.6, UDP 4.5) if no other socket has the address, or by
    /// [`Steering::Hash`]. [`Members::steering`] says which. With a network device, that is the
    /// processor of the receive queue (RSS, RPS: networking/scaling.rst); a device with one queue
    /// brings all connections to one member. On loopback, it is the processor of the client.
    ///
    /// ```
    /// let members = sameport::Options::exclusive().per_core("127.0.0.1:0")?;
    /// println!("{} members, {}", members.len(), members.steering());
    /// # Ok::<(), sameport::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Options::listen_n`].
    ///
    /// [`Member::cpu`]: crate::Member::cpu
    pub fn per_core(&self, address: impl ToAddress) -> Result<Members<TcpListener>> {
        self.set(Role::Listener, &address.to_endpoint()?, &self.plan_per_core())
    }

    /// Opens a UDP socket for each processor, for one thread each, as [`Options::per_core`].
    ///
    /// The datagrams of one sender go to one member as long as the same processor handles them.
    ///
    /// ```
    /// let members = sameport::Options::exclusive().bind_udp_per_core("127.0.0.1:0")?;
    /// assert!(!members.is_empty());
    /// # Ok::<(), sameport::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Options::listen_n`].
    pub fn bind_udp_per_core(&self, address: impl ToAddress) -> Result<Members<UdpSocket>> {
        self.set(Role::Datagram, &address.to_endpoint()?, &self.plan_per_core())
    }

    /// The plan of a set of `n` members: with processors only to steer by.
    fn plan(&self, n: usize) -> Plan {
        let steered = self.steering.is_some_and(Steering::is_by_processor);
        let processors = if steered { Here::processors() } else { Vec::new() };
        Plan { members: n, processors, per_core: false }
    }

    /// The plan of a set with a member for each processor.
    fn plan_per_core(&self) -> Plan {
        let granted = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let mut processors = Here::processors();
        let members = if processors.is_empty() { granted } else { granted.min(processors.len()) };
        // Under a limit, threads move between all processors.
        if members < processors.len() && !self.steering.is_some_and(Steering::is_by_processor) {
            processors.clear();
        }
        Plan { members, processors, per_core: true }
    }

    fn set<S>(&self, role: Role, endpoint: &Endpoint, plan: &Plan) -> Result<Members<S>>
    where
        S: From<Socket> + AsHandle + Send + Sync + 'static,
    {
        self.check_set(endpoint, plan)?;
        let first = open::bind_first(self, role, &endpoint.resolve()?)?;
        let address = open::local_addr(&first, endpoint)?;
        let v6only = self.v6only.filter(|_| address.is_ipv6());
        let options = Self { v6only, ..self.clone() };
        let job = open::job(&options, role, address);
        let one_queue = self.one_queue(&job);
        if one_queue {
            self.check_one_queue(&job)?;
        } else if self.steering == Some(Steering::Program) {
            check_alone(&job, &first)?;
        }
        let mut sockets = vec![first];
        while !one_queue && sockets.len() < plan.members {
            sockets.push(open::bound(&options, &job)?);
        }
        for socket in &sockets {
            open::start(&options, socket, &job)?;
        }
        while sockets.len() < plan.members {
            let clone = sockets[0].try_clone().map_err(|os| Error::os("dup", address, os))?;
            sockets.push(clone);
        }
        let mut state = self.state(&job, one_queue, plan, &sockets);
        let others = if one_queue { None } else { state.others() };
        self.steer(&mut state, others, plan, &sockets)?;
        let (steering, group) = (state.steering, Arc::new(Group::new(state)));
        let member = |(number, socket): (usize, Socket)| {
            let cpu = plan.processors.get(number).copied();
            Member::new(socket.into(), group.clone(), number, cpu)
        };
        let members = sockets.into_iter().enumerate().map(member).collect();
        Ok(Members { members, local_addr: address, steering, others })
    }

    fn state(&self, job: &SocketJob, one_queue: bool, plan: &Plan, sockets: &[Socket]) -> State {
        let steering = if one_queue { Steering::OneQueue } else { Steering::Hash };
        let inode = |socket| Here::inode(&SockRef::from(socket));
        let owner = |(at, processor): (usize, &usize)| (*processor, at % sockets.len());
        State::new(
            *job,
            steering,
            sockets.iter().map(inode).collect(),
            plan.processors.iter().enumerate().map(owner).collect(),
        )
    }

    /// Steers a new set as the options say, or, per core, as well as the system and the other sockets
    /// on the address permit.
    fn steer(
        &self,
        state: &mut State,
        others: Option<usize>,
        plan: &Plan,
        sockets: &[Socket],
    ) -> Result<()> {
        let address = state.job.address;
        let is_automatic = self.steering.is_none() && plan.per_core;
        if state.steering == Steering::OneQueue || plan.processors.is_empty() {
            return Ok(());
        }
        let by_cpu = is_automatic && Here::selects_by_incoming_cpu();
        if by_cpu || self.steering == Some(Steering::IncomingCpu) {
            for (socket, processor) in sockets.iter().zip(&plan.processors) {
                Here::set_incoming_cpu(&SockRef::from(socket), Some(*processor))
                    .map_err(|os| Error::os("setsockopt(SO_INCOMING_CPU)", address, os))?;
            }
            state.steering = Steering::IncomingCpu;
        } else if self.steering == Some(Steering::Program) || (is_automatic && others == Some(0)) {
            if others != Some(0) {
                return Err(not_alone("steer", others, address));
            }
            state.steering = Steering::Program;
            match state.attach_first(&SockRef::from(&sockets[0])) {
                Ok(()) => {}
                // A single UDP socket on port 0 is in no group, and gets everything.
                Err(_) if is_automatic || sockets.len() == 1 => state.steering = Steering::Hash,
                Err(os) => return Err(Error::os("setsockopt(program)", address, os)),
            }
        }
        Ok(())
    }

    /// Whether one socket serves all members.
    fn one_queue(&self, job: &SocketJob) -> bool {
        let support = Here::support();
        self.steering == Some(Steering::OneQueue)
            || !self.shared
            || support.sharing != Sharing::Balanced
            || (job.is_dual_stack() && support.dual_stack == DualStack::OneSocketNotBalanced)
    }

    /// Rejects a plan before any socket is opened.
    fn check_set(&self, endpoint: &Endpoint, plan: &Plan) -> Result<()> {
        let reject = |kind, note: String| Err(Error::new(kind, "open", endpoint).with_note(note));
        let steered = self.steering.is_some_and(Steering::is_by_processor);
        if plan.members == 0 {
            return reject(ErrorKind::BadAddress, "a set has at least one member".into());
        }
        if self.balanced && self.steering == Some(Steering::OneQueue) {
            let note = "one queue is not balanced over sockets";
            return reject(ErrorKind::BadAddress, note.into());
        }
        if !self.shared && self.steering.is_some_and(|steering| steering != Steering::OneQueue) {
            let note = "an exclusive address has one socket, and one queue";
            return reject(ErrorKind::BadAddress, note.into());
        }
        let old = self.steering == Some(Steering::IncomingCpu) && !Here::selects_by_incoming_cpu();
        if steered && (Here::processors().is_empty() || old) {
            let note = "this system does not select a member by the processor in this way";
            return reject(ErrorKind::Unsupported, note.into());
        }
        if steered && plan.members > plan.processors.len() && !plan.per_core {
            let note = format!(
                "{} members and {} processors: a member without a processor receives nothing",
                plan.members,
                plan.processors.len(),
            );
            return reject(ErrorKind::BadAddress, note);
        }
        match Here::MAX_MEMBERS {
            Some(most) if self.shared && plan.members > most => {
                reject(ErrorKind::Unsupported, format!("a group has at most {most} members"))
            }
            _ => Ok(()),
        }
    }

    fn check_one_queue(&self, job: &SocketJob) -> Result<()> {
        let steered = self.steering.is_some_and(|steering| steering != Steering::OneQueue);
        if self.shared && steered {
            return Err(Error::new(ErrorKind::Unsupported, "open", job.address)
                .with_note("sharing is not balanced for this address on this system"));
        }
        Ok(())
    }
}

/// Rejects [`Steering::Program`] beside other sockets before a listener could receive a connection.
fn check_alone(job: &SocketJob, first: &Socket) -> Result<()> {
    // A bound listener is in no group yet.
    let own = if job.tcp { None } else { Here::inode(&SockRef::from(first)) };
    match Here::others(job, &own.into_iter().collect()) {
        Some(0) => Ok(()),
        others => Err(not_alone("steer", others, job.address)),
    }
}
