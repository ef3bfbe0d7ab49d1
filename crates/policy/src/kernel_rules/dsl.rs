//! How steps are written, so that a row reads like a sentence.

use super::model::{
    Act, Answer, Call, Errno, Open, Opt, Port, Proto, Send, Share, Stage, Step, User,
};

/// A socket on the row's port: its name, its user, its options, its address.
#[must_use]
pub const fn open(name: char, user: User, options: &'static [Opt], ip: &'static str) -> Open {
    Open { name, user, options, ip, port: Port::TheOne, stage: Stage::Serving, proto: None }
}

impl Open {
    /// … on another port.
    #[must_use]
    pub const fn port(mut self, port: Port) -> Self {
        self.port = port;
        self
    }

    /// … that is not bound yet.
    #[must_use]
    pub const fn made(mut self) -> Self {
        self.stage = Stage::Made;
        self
    }

    /// … that is bound and does not listen yet.
    #[must_use]
    pub const fn bound(mut self) -> Self {
        self.stage = Stage::Bound;
        self
    }

    /// … of another protocol than the row's.
    #[must_use]
    pub const fn over(mut self, proto: Proto) -> Self {
        self.proto = Some(proto);
        self
    }

    /// … can be opened.
    #[must_use]
    pub const fn ok(self) -> Step {
        Step::Open(self, Answer::Ok)
    }

    /// … cannot be opened.
    #[must_use]
    pub const fn fails(self, errno: Errno) -> Step {
        Step::Open(self, Answer::Fails(errno))
    }
}

const fn call(who: char, act: Act) -> Call {
    Call { who, act, by: None }
}

/// It gets an option.
#[must_use]
pub const fn set(who: char, option: Opt) -> Call {
    call(who, Act::Set(option))
}

/// It is bound.
#[must_use]
pub const fn bind(who: char) -> Call {
    call(who, Act::Bind)
}

/// It listens.
#[must_use]
pub const fn listen(who: char) -> Call {
    call(who, Act::Listen)
}

/// It is shut down.
#[must_use]
pub const fn shutdown(who: char) -> Call {
    call(who, Act::Shutdown)
}

/// It is closed.
#[must_use]
pub const fn close(who: char) -> Step {
    Step::Close(who)
}

/// Root gives it to this user.
#[must_use]
pub const fn chown(who: char, user: User) -> Call {
    call(who, Act::Chown(user)).by(User::Root)
}

/// It connects to where the other is.
#[must_use]
pub const fn connect(who: char, to: char) -> Call {
    call(who, Act::Connect(to))
}

/// A listener accepts a connection, which gets this name.
#[must_use]
pub const fn accept(name: char, from: char) -> Step {
    Step::Accept { name, from }
}

impl Call {
    /// … by this user.
    #[must_use]
    pub const fn by(mut self, user: User) -> Self {
        self.by = Some(user);
        self
    }

    /// … which succeeds.
    #[must_use]
    pub const fn ok(self) -> Step {
        Step::Call(self, Answer::Ok)
    }

    /// … which fails.
    #[must_use]
    pub const fn fails(self, errno: Errno) -> Step {
        Step::Call(self, Answer::Fails(errno))
    }
}

/// So many connections or datagrams are sent to this address.
#[must_use]
pub const fn send(count: usize, ip: &'static str) -> Send {
    Send { count, ip, from: None }
}

impl Send {
    /// … from this socket.
    #[must_use]
    pub const fn from(mut self, client: char) -> Self {
        self.from = Some(client);
        self
    }

    /// … and all reach this one.
    #[must_use]
    pub const fn all_to(self, name: char) -> Step {
        Step::Send(self, Share::All(name))
    }

    /// … and each of these gets some, nobody else any.
    #[must_use]
    pub const fn each_of(self, names: &'static str) -> Step {
        Step::Send(self, Share::Each(names))
    }
}
