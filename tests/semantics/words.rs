//! The words a row of the table is written in: who opens which socket, what is done to it, and
//! what the kernel must answer. Values only; nothing here touches the system.

/// The socket type a row is run with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proto {
    Tcp,
    Udp,
    Mptcp,
    UdpLite,
}

impl Proto {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Mptcp => "mptcp",
            Self::UdpLite => "udplite",
        }
    }

    pub(crate) const fn listens(self) -> bool {
        matches!(self, Self::Tcp | Self::Mptcp)
    }
}

pub(crate) const TCP: &[Proto] = &[Proto::Tcp];
pub(crate) const UDP: &[Proto] = &[Proto::Udp];
pub(crate) const BOTH: &[Proto] = &[Proto::Tcp, Proto::Udp];

/// Whose sockets they are. Without root only `Ann` exists: the user who runs the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum User {
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
pub(crate) enum Opt {
    Ra(bool),
    Rp(bool),
    V6only(bool),
    Device(&'static str),
    Freebind,
    Transparent,
    Repair,
    /// SO_INCOMING_CPU: the nth processor this process may run on.
    IncomingCpu(usize),
    /// A classic BPF program on the group that always answers with this index.
    Steer(u32),
}

impl Opt {
    /// As the table's readers say it.
    pub(crate) fn words(self) -> String {
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

pub(crate) const RA: Opt = Opt::Ra(true);
pub(crate) const RP: Opt = Opt::Rp(true);
pub(crate) const NO_RA: Opt = Opt::Ra(false);
pub(crate) const NO_RP: Opt = Opt::Rp(false);
pub(crate) const DUAL: Opt = Opt::V6only(false);
pub(crate) const V6ONLY: Opt = Opt::V6only(true);
pub(crate) const DEV_LO: Opt = Opt::Device("lo");
/// The second device, which the row's network namespace gets when a row names it.
pub(crate) const DEV_OTHER: Opt = Opt::Device(OTHER_DEVICE);
pub(crate) const OTHER_DEVICE: &str = "other";

pub(crate) const LO: &str = "127.0.0.1";
pub(crate) const LO2: &str = "127.0.0.2";
pub(crate) const ANY: &str = "0.0.0.0";
pub(crate) const LO6: &str = "::1";
pub(crate) const ANY6: &str = "::";
pub(crate) const MAPPED: &str = "::ffff:127.0.0.1";

/// Which port a socket binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    /// The one port that the row is about.
    TheOne,
    /// Port 0: the kernel picks.
    Any,
    /// A port below 1024.
    Low,
}

/// What a call must answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Ok,
    Fails(Errno),
}

/// The errors that the table names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Errno {
    AddrInUse,
    Acces,
    Perm,
}

pub(crate) const EADDRINUSE: Errno = Errno::AddrInUse;
pub(crate) const EACCES: Errno = Errno::Acces;
pub(crate) const EPERM: Errno = Errno::Perm;

/// How far `open` takes a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// `socket` and the options.
    Made,
    /// … and `bind`.
    Bound,
    /// … and, where the protocol has it, `listen`.
    Serving,
}

/// A socket: its name in the row, its user, its options, its address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open {
    pub(crate) name: char,
    pub(crate) user: User,
    pub(crate) options: &'static [Opt],
    pub(crate) ip: &'static str,
    pub(crate) port: Port,
    pub(crate) stage: Stage,
    /// None: the protocol that the row is run with.
    pub(crate) proto: Option<Proto>,
}

/// One call on a socket that is open already.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    Set(Opt),
    Bind,
    Listen,
    Shutdown,
    Chown(User),
    /// Connects to the local address of the socket so named.
    Connect(char),
}

/// A call, by whom (None: the socket's user).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) who: char,
    pub(crate) act: Act,
    pub(crate) by: Option<User>,
}

/// Connections or datagrams to the row's port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Send {
    pub(crate) count: usize,
    pub(crate) ip: &'static str,
    /// None: each from a new client socket.
    pub(crate) from: Option<char>,
}

/// Who must have received what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    /// Every one.
    All(char),
    /// Each of these some, nobody else any.
    Each(&'static str),
}

/// One step of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Open(Open, Answer),
    Call(Call, Answer),
    /// The connection `name` from the queue of the listener `from`.
    Accept {
        name: char,
        from: char,
    },
    Close(char),
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
    Sysctl(&'static str, &'static str),
    /// A process of this user, root in a user namespace of its own, opens a shared socket on
    /// 127.0.0.1.
    FromUserNamespace {
        user: User,
        own_network: bool,
        port: Port,
        answer: Answer,
    },
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// Its name on the command line, after the protocol and a slash.
    pub(crate) name: &'static str,
    /// What it shows, in the table's words.
    pub(crate) shows: &'static str,
    pub(crate) over: &'static [Proto],
    pub(crate) steps: &'static [Step],
}

pub(crate) const fn open(
    name: char,
    user: User,
    options: &'static [Opt],
    ip: &'static str,
) -> Open {
    Open { name, user, options, ip, port: Port::TheOne, stage: Stage::Serving, proto: None }
}

impl Open {
    pub(crate) const fn port(mut self, port: Port) -> Self {
        self.port = port;
        self
    }
    pub(crate) const fn made(mut self) -> Self {
        self.stage = Stage::Made;
        self
    }
    pub(crate) const fn bound(mut self) -> Self {
        self.stage = Stage::Bound;
        self
    }
    pub(crate) const fn over(mut self, proto: Proto) -> Self {
        self.proto = Some(proto);
        self
    }
    pub(crate) const fn ok(self) -> Step {
        Step::Open(self, Answer::Ok)
    }
    pub(crate) const fn fails(self, errno: Errno) -> Step {
        Step::Open(self, Answer::Fails(errno))
    }
}

const fn call(who: char, act: Act) -> Call {
    Call { who, act, by: None }
}
pub(crate) const fn set(who: char, option: Opt) -> Call {
    call(who, Act::Set(option))
}
pub(crate) const fn bind(who: char) -> Call {
    call(who, Act::Bind)
}
pub(crate) const fn listen(who: char) -> Call {
    call(who, Act::Listen)
}
pub(crate) const fn shutdown(who: char) -> Call {
    call(who, Act::Shutdown)
}
pub(crate) const fn close(who: char) -> Step {
    Step::Close(who)
}
pub(crate) const fn chown(who: char, user: User) -> Call {
    call(who, Act::Chown(user)).by(User::Root)
}
pub(crate) const fn connect(who: char, to: char) -> Call {
    call(who, Act::Connect(to))
}
pub(crate) const fn accept(name: char, from: char) -> Step {
    Step::Accept { name, from }
}

impl Call {
    pub(crate) const fn by(mut self, user: User) -> Self {
        self.by = Some(user);
        self
    }
    pub(crate) const fn ok(self) -> Step {
        Step::Call(self, Answer::Ok)
    }
    pub(crate) const fn fails(self, errno: Errno) -> Step {
        Step::Call(self, Answer::Fails(errno))
    }
}

pub(crate) const fn send(count: usize, ip: &'static str) -> Send {
    Send { count, ip, from: None }
}

impl Send {
    pub(crate) const fn from(mut self, client: char) -> Self {
        self.from = Some(client);
        self
    }
    pub(crate) const fn all_to(self, name: char) -> Step {
        Step::Send(self, Share::All(name))
    }
    pub(crate) const fn each_of(self, names: &'static str) -> Step {
        Step::Send(self, Share::Each(names))
    }
}
