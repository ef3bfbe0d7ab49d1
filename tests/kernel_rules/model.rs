//! The types of a row: which sockets it opens, what it does to them, what the kernel must answer.
//!
//! Values only; nothing here touches the system.

/// The socket type that a row runs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proto {
    Tcp,
    Udp,
    Mptcp,
    UdpLite,
}

impl Proto {
    /// The first part of a test's name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Mptcp => "mptcp",
            Self::UdpLite => "udplite",
        }
    }

    /// Whether a server of this protocol calls listen(2).
    pub(crate) const fn listens(self) -> bool {
        matches!(self, Self::Tcp | Self::Mptcp)
    }
}

pub(crate) const TCP: &[Proto] = &[Proto::Tcp];
pub(crate) const UDP: &[Proto] = &[Proto::Udp];
pub(crate) const BOTH: &[Proto] = &[Proto::Tcp, Proto::Udp];

/// A user id.
pub(crate) type Uid = u32;

pub(crate) const ROOT: Uid = 0;
/// The first ordinary user. Without root it stands for the user that runs the test. Root becomes this
/// user to run the table as another user.
pub(crate) const UID_1000: Uid = 1000;
pub(crate) const UID_1001: Uid = 1001;
/// A uid without an account. Sockets get it by fchown(2) only.
pub(crate) const RESERVED: Uid = 60_777;

/// A socket option and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opt {
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
    /// `SO_INCOMING_CPU`: the nth processor in the affinity mask of the process.
    IncomingCpu(usize),
    /// `SO_ATTACH_REUSEPORT_CBPF`: a program that always returns this index.
    Steer(u32),
}

/// The port that a socket binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    /// The port of the row.
    Row,
    /// Port 0: the kernel picks one.
    Any,
    /// A port below 1024.
    Low,
}

/// A release of the kernel: the first two numbers of `uname -r`. Releases are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kernel(pub(crate) u32, pub(crate) u32);

impl Kernel {
    /// `6.1.0-57-cloud-amd64`, `6.12-rc3` and `6.18` have a release. None: the text has none.
    pub(crate) fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        let mut number = || numbers.next()?.parse().ok();
        Some(Self(number()?, number()?))
    }
}

/// The required result of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Ok,
    Fails(Errno),
    /// Success before this release, the error since.
    FailsSince(Kernel, Errno),
}

impl Answer {
    /// `ok`, or the name of the error on this kernel.
    pub(crate) fn name(self, kernel: Kernel) -> &'static str {
        let errno = match self {
            Self::Ok => None,
            Self::Fails(errno) => Some(errno),
            Self::FailsSince(since, errno) => (kernel >= since).then_some(errno),
        };
        match errno {
            None => "ok",
            Some(Errno::AddrInUse) => "EADDRINUSE",
            Some(Errno::Acces) => "EACCES",
            Some(Errno::Perm) => "EPERM",
        }
    }
}

/// The errors that rows expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Errno {
    AddrInUse,
    Acces,
    Perm,
}

pub(crate) const EADDRINUSE: Errno = Errno::AddrInUse;
pub(crate) const EACCES: Errno = Errno::Acces;
pub(crate) const EPERM: Errno = Errno::Perm;

/// The last call of `open`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastCall {
    /// setsockopt(2)
    Setsockopt,
    /// bind(2)
    Bind,
    /// listen(2) where the protocol has it, bind(2) elsewhere.
    Listen,
}

/// A socket to open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open {
    /// Its name in the row.
    pub(crate) name: char,
    pub(crate) uid: Uid,
    /// In the order in which they are set.
    pub(crate) options: &'static [Opt],
    pub(crate) ip: &'static str,
    pub(crate) port: Port,
    pub(crate) last_call: LastCall,
    /// None: the protocol of the row.
    pub(crate) proto: Option<Proto>,
}

/// An operation on an open socket.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operation {
    Set(Opt),
    /// bind(2) to the address that the socket was opened with.
    Bind,
    Listen,
    /// bind(2), and listen(2) where the protocol has it.
    Serve,
    /// shutdown(2) of both directions.
    Shutdown,
    Chown(Uid),
    /// connect(2) to the local address of this socket.
    Connect(char),
}

/// A call on a socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    /// The name of the socket.
    pub(crate) socket: char,
    pub(crate) operation: Operation,
    /// The effective uid of the caller; None: the uid of the socket.
    pub(crate) by: Option<Uid>,
}

/// Connections or datagrams to the port of the row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Send {
    pub(crate) count: usize,
    pub(crate) ip: &'static str,
    /// None: a new client socket for each.
    pub(crate) from: Option<char>,
}

/// Which sockets must receive the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    /// This one receives everything.
    All(char),
    /// Each of these receives some, no other socket any.
    Each(&'static str),
}

/// One step of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Open(Open, Answer),
    Call(Call, Answer),
    /// A listener accepts a connection.
    Accept {
        /// The name that the connection gets.
        name: char,
        /// The listener.
        from: char,
    },
    Close(char),
    Send(Send, Share),
    /// Opens this many further members of the first user on 127.0.0.1.
    OpenMembers(usize),
    /// Opens this many connections to 127.0.0.1 and leaves them in the accept queue.
    QueueConnections(usize),
    /// Whether some, but not all, of the queued connections were reset. The sockets still open must
    /// accept all others.
    QueueReset(bool),
    /// Whether the socket has another port than when it was opened.
    PortChanged(char, bool),
    /// Moves into a new network namespace, in which the following steps run.
    NewNetns,
    /// Runs the following steps on the nth processor in the affinity mask of the process.
    PinToCpu(usize),
    /// Writes a sysctl of the network namespace: its path below /proc/sys, its value.
    Sysctl(&'static str, &'static str),
    /// A process in a new user namespace opens a listener with RP on 127.0.0.1.
    FromUserNamespace {
        /// The uid outside, which is root inside.
        uid: Uid,
        /// Whether the process has a network namespace of its own, too.
        new_netns: bool,
        port: Port,
        answer: Answer,
    },
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// The test's name after the protocol and a slash.
    pub(crate) name: &'static str,
    /// The rule of the kernel that the row shows.
    pub(crate) rule: &'static str,
    /// The protocols that the row runs with.
    pub(crate) protocols: &'static [Proto],
    pub(crate) steps: &'static [Step],
}

pub(crate) const RA: Opt = Opt::Ra(true);
pub(crate) const RP: Opt = Opt::Rp(true);
pub(crate) const NO_RA: Opt = Opt::Ra(false);
pub(crate) const NO_RP: Opt = Opt::Rp(false);
pub(crate) const DUAL: Opt = Opt::V6only(false);
pub(crate) const V6ONLY: Opt = Opt::V6only(true);
pub(crate) const DEV_LO: Opt = Opt::Device("lo");
/// The second device. The network namespace of a row has it if the row names it.
pub(crate) const DEV_OTHER: Opt = Opt::Device(OTHER_DEVICE);
pub(crate) const OTHER_DEVICE: &str = "other";

pub(crate) const LO: &str = "127.0.0.1";
pub(crate) const LO2: &str = "127.0.0.2";
pub(crate) const ANY: &str = "0.0.0.0";
pub(crate) const LO6: &str = "::1";
pub(crate) const ANY6: &str = "::";
/// The IPv4-mapped IPv6 address of 127.0.0.1.
pub(crate) const MAPPED: &str = "::ffff:127.0.0.1";
