//! Constructors and builder methods of steps, so that a row reads like a sentence.

use super::model::{
    Answer, Call, Errno, Kernel, LastCall, Open, Operation, Opt, Port, Proto, Send, Share, Step,
    Uid,
};

/// A server socket on the port of the row.
pub(crate) const fn open(name: char, uid: Uid, options: &'static [Opt], ip: &'static str) -> Open {
    Open { name, uid, options, ip, port: Port::Row, last_call: LastCall::Listen, proto: None }
}

impl Open {
    pub(crate) const fn port(mut self, port: Port) -> Self {
        self.port = port;
        self
    }

    pub(crate) const fn unbound(mut self) -> Self {
        self.last_call = LastCall::Setsockopt;
        self
    }

    pub(crate) const fn not_listening(mut self) -> Self {
        self.last_call = LastCall::Bind;
        self
    }

    /// With another protocol than the row's.
    pub(crate) const fn proto(mut self, proto: Proto) -> Self {
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

const fn call(socket: char, operation: Operation) -> Call {
    Call { socket, operation, by: None }
}

pub(crate) const fn set(socket: char, option: Opt) -> Call {
    call(socket, Operation::Set(option))
}

pub(crate) const fn bind(socket: char) -> Call {
    call(socket, Operation::Bind)
}

pub(crate) const fn listen(socket: char) -> Call {
    call(socket, Operation::Listen)
}

pub(crate) const fn serve(socket: char) -> Call {
    call(socket, Operation::Serve)
}

pub(crate) const fn shutdown(socket: char) -> Call {
    call(socket, Operation::Shutdown)
}

/// Root changes the owner of the socket.
pub(crate) const fn chown(socket: char, uid: Uid) -> Call {
    call(socket, Operation::Chown(uid)).by(super::model::ROOT)
}

/// Connects to the local address of the socket `to`.
pub(crate) const fn connect(socket: char, to: char) -> Call {
    call(socket, Operation::Connect(to))
}

/// The listener `from` accepts a connection, which gets the name `name`.
pub(crate) const fn accept(name: char, from: char) -> Step {
    Step::Accept { name, from }
}

pub(crate) const fn close(socket: char) -> Step {
    Step::Close(socket)
}

impl Call {
    pub(crate) const fn by(mut self, uid: Uid) -> Self {
        self.by = Some(uid);
        self
    }

    /// Succeeds on releases before `since`, fails on `since` and later ones.
    pub(crate) const fn fails_since(self, since: Kernel, errno: Errno) -> Step {
        Step::Call(self, Answer::FailsSince(since, errno))
    }

    pub(crate) const fn ok(self) -> Step {
        Step::Call(self, Answer::Ok)
    }

    pub(crate) const fn fails(self, errno: Errno) -> Step {
        Step::Call(self, Answer::Fails(errno))
    }
}

/// Sends `count` connections or datagrams to `ip`.
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

    /// Each of `names` receives some, no other socket any.
    pub(crate) const fn each_of(self, names: &'static str) -> Step {
        Step::Send(self, Share::Each(names))
    }
}
