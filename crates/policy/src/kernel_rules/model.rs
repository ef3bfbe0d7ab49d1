//! The words a row of the table is written in: who opens which socket, what is done to it, and
//! what the kernel must answer. Values only; nothing here touches the system.

pub use super::dsl::*;

/// The socket type a row is run with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proto {
    /// Stream sockets of TCP.
    Tcp,
    /// Datagram sockets of UDP.
    Udp,
    /// Stream sockets of MPTCP.
    Mptcp,
    /// Datagram sockets of UDP-Lite.
    UdpLite,
}

impl Proto {
    /// As a row's name begins.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Mptcp => "mptcp",
            Self::UdpLite => "udplite",
        }
    }

    /// Whether its sockets listen.
    #[must_use]
    pub const fn listens(self) -> bool {
        matches!(self, Self::Tcp | Self::Mptcp)
    }
}

/// For rows about TCP alone.
pub const TCP: &[Proto] = &[Proto::Tcp];
/// For rows about UDP alone.
pub const UDP: &[Proto] = &[Proto::Udp];
/// For rows that hold for both.
pub const BOTH: &[Proto] = &[Proto::Tcp, Proto::Udp];

/// Whose sockets they are. Without root only `Ann` exists: the user who runs the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// uid 1000
    Ann,
    /// uid 1001
    Bob,
    /// uid 0
    Root,
    /// A uid that nobody logs in as; sockets get it by `fchown` only.
    Reserved,
}

/// A socket option, and the value it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opt {
    /// `SO_REUSEADDR`
    Ra(bool),
    /// `SO_REUSEPORT`
    Rp(bool),
    /// `IPV6_V6ONLY`
    V6only(bool),
    /// `SO_BINDTODEVICE`
    Device(&'static str),
    /// `IP_FREEBIND`
    Freebind,
    /// `IP_TRANSPARENT`
    Transparent,
    /// `TCP_REPAIR`
    Repair,
    /// `SO_INCOMING_CPU`: the nth processor this process may run on.
    IncomingCpu(usize),
    /// A classic BPF program on the group that always answers with this index.
    Steer(u32),
}

impl Opt {
    /// As the table's readers say it.
    #[must_use]
    pub fn words(self) -> String {
        match self {
            Self::Ra(true) => "RA".to_owned(),
            Self::Ra(false) => "no RA".to_owned(),
            Self::Rp(true) => "RP".to_owned(),
            Self::Rp(false) => "no RP".to_owned(),
            Self::V6only(true) => "v6only".to_owned(),
            Self::V6only(false) => "dual-stack".to_owned(),
            Self::Device(name) => format!("device {name}"),
            Self::Freebind => "freebind".to_owned(),
            Self::Transparent => "transparent".to_owned(),
            Self::Repair => "TCP_REPAIR".to_owned(),
            Self::IncomingCpu(nth) => format!("incoming cpu {nth}"),
            Self::Steer(index) => format!("steering to index {index}"),
        }
    }
}

/// Which port a socket binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// The one port that the row is about.
    TheOne,
    /// Port 0: the kernel picks.
    Any,
    /// A port below 1024.
    Low,
}

/// What a call must answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It succeeds.
    Ok,
    /// It fails with this.
    Fails(Errno),
}

impl Answer {
    /// As the kernel's answer is written: `ok`, or the error's name.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Fails(errno) => errno.name(),
        }
    }
}

/// The errors that the table names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errno {
    /// EADDRINUSE
    AddrInUse,
    /// EACCES
    Acces,
    /// EPERM
    Perm,
}

impl Errno {
    /// As the manual pages write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AddrInUse => "EADDRINUSE",
            Self::Acces => "EACCES",
            Self::Perm => "EPERM",
        }
    }
}

/// How far `open` takes a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// `socket` and the options.
    Made,
    /// … and `bind`.
    Bound,
    /// … and, where the protocol has it, `listen`.
    Serving,
}

/// A socket to be opened.
#[derive(Clone, Copy, Debug)]
pub struct Open {
    /// Its name in the row.
    pub name: char,
    /// Whose it is.
    pub user: User,
    /// Its options, in the order in which they are set.
    pub options: &'static [Opt],
    /// Its address.
    pub ip: &'static str,
    /// Its port.
    pub port: Port,
    /// How far it is taken.
    pub stage: Stage,
    /// None: the protocol that the row is run with.
    pub proto: Option<Proto>,
}

/// What is done to a socket that is open already.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// An option is set.
    Set(Opt),
    /// `bind` to the address that it was opened with.
    Bind,
    /// `listen`
    Listen,
    /// `shutdown`, both directions.
    Shutdown,
    /// `fchown` to this user.
    Chown(User),
    /// Connects to the local address of the socket so named.
    Connect(char),
}

/// A call on a socket.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The socket's name in the row.
    pub who: char,
    /// The call.
    pub act: Act,
    /// Who makes it; None: the socket's user.
    pub by: Option<User>,
}

/// Connections or datagrams to the row's port.
#[derive(Clone, Copy, Debug)]
pub struct Send {
    /// How many.
    pub count: usize,
    /// To which address.
    pub ip: &'static str,
    /// None: each from a new client socket.
    pub from: Option<char>,
}

/// Who must have received what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Every one.
    All(char),
    /// Each of these some, nobody else any.
    Each(&'static str),
}

/// One step of a row.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// A socket is opened, and the kernel answers so.
    Open(Open, Answer),
    /// A call is made, and the kernel answers so.
    Call(Call, Answer),
    /// A connection is taken from a queue.
    Accept {
        /// What the connection is called.
        name: char,
        /// The listener.
        from: char,
    },
    /// The socket is closed.
    Close(char),
    /// Traffic is sent, and divided so.
    Send(Send, Share),
    /// So many more members of Ann's on 127.0.0.1.
    Many(usize),
    /// So many connections to 127.0.0.1 that nobody accepts yet.
    Queue(usize),
    /// Of the queued connections: whether some, but not all, were reset. Those that were not must
    /// be accepted by one of the sockets still open.
    SomeReset(bool),
    /// Whether the socket has another port than when it was opened.
    Moved(char, bool),
    /// A new network namespace for the sockets opened from here on.
    NewNetwork,
    /// Runs what follows on the nth processor this process may use.
    Pin(usize),
    /// Writes a kernel setting of the network namespace: its name, its value.
    Sysctl(&'static str, &'static str),
    /// A process opens a shared socket on 127.0.0.1.
    FromUserNamespace {
        /// Its user, root in a user namespace of its own.
        user: User,
        /// Whether it has a network namespace of its own, too.
        own_network: bool,
        /// The port that it wants.
        port: Port,
        /// What the kernel answers.
        answer: Answer,
    },
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name on the command line, after the protocol and a slash.
    pub name: &'static str,
    /// What it shows, in the table's words.
    pub shows: &'static str,
    /// The protocols that it is run with.
    pub over: &'static [Proto],
    /// What happens, in order.
    pub steps: &'static [Step],
}

/// `RA` is `SO_REUSEADDR`.
pub const RA: Opt = Opt::Ra(true);
/// `RP` is `SO_REUSEPORT`.
pub const RP: Opt = Opt::Rp(true);
/// `SO_REUSEADDR` cleared.
pub const NO_RA: Opt = Opt::Ra(false);
/// `SO_REUSEPORT` cleared.
pub const NO_RP: Opt = Opt::Rp(false);
/// Takes IPv4 too.
pub const DUAL: Opt = Opt::V6only(false);
/// Refuses IPv4.
pub const V6ONLY: Opt = Opt::V6only(true);
/// On the loopback device.
pub const DEV_LO: Opt = Opt::Device("lo");
/// On the second device, which the row's network namespace gets when a row names it.
pub const DEV_OTHER: Opt = Opt::Device(OTHER_DEVICE);
/// Its name.
pub const OTHER_DEVICE: &str = "other";

/// The loopback address.
pub const LO: &str = "127.0.0.1";
/// Another loopback address.
pub const LO2: &str = "127.0.0.2";
/// The IPv4 wildcard.
pub const ANY: &str = "0.0.0.0";
/// The IPv6 loopback address.
pub const LO6: &str = "::1";
/// The IPv6 wildcard.
pub const ANY6: &str = "::";
/// The loopback address in IPv6 clothes.
pub const MAPPED: &str = "::ffff:127.0.0.1";

/// See [`Errno::AddrInUse`].
pub const EADDRINUSE: Errno = Errno::AddrInUse;
/// See [`Errno::Acces`].
pub const EACCES: Errno = Errno::Acces;
/// See [`Errno::Perm`].
pub const EPERM: Errno = Errno::Perm;
