//! Runs one row: does its steps in order and puts what the kernel answered beside what it must
//! answer. Stops at the first difference, because the steps after it mean nothing any more.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{SockAddr, Socket};

use crate::kernel;
use crate::namespaces;
use crate::room::{Rights, Room};
use crate::sockets::{Member, describe_call, describe_open, port_of};
use crate::traffic;
use crate::words::{Answer, LO, Port, Proto, RP, Row, Step, User, open};

/// One step, as told to a person.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) step: String,
    pub(crate) expected: String,
    pub(crate) seen: String,
    pub(crate) agrees: bool,
}

/// How a row ended.
#[derive(Debug)]
pub(crate) enum Verdict {
    Agrees(Vec<Line>),
    /// The last line is the one that differs.
    Differs(Vec<Line>),
    Skipped(String),
    /// The row could not be run to its end.
    Broken(String),
}

/// Why a step gave no answer to compare.
#[derive(Debug)]
pub(crate) enum Stop {
    Skip(String),
    Broken(String),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EMFILE) => Self::Skip("needs more descriptors: ulimit -Hn".to_owned()),
            _ => Self::Broken(kernel::error_name(&error)),
        }
    }
}

/// A row on its way.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    pub(crate) room: &'a Room,
    pub(crate) proto: Proto,
    pub(crate) members: Vec<Member>,
    /// Client connections that wait to be accepted.
    pub(crate) queue: Vec<Socket>,
}

/// Runs the row in a thread of its own, whose network and user are its own too.
pub(crate) fn run(rights: &Rights, row: &Row, proto: Proto) -> Verdict {
    if let Some(why) = rights.refuse(row) {
        return Verdict::Skipped(why);
    }
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| match Room::enter(rights, row) {
            Ok(room) => steps(&room, row, proto),
            Err(Stop::Skip(why)) => Verdict::Skipped(why),
            Err(Stop::Broken(why)) => Verdict::Broken(format!("no room for the row: {why}")),
        });
        thread.join().unwrap_or_else(|_| Verdict::Broken("panicked".to_owned()))
    })
}

fn steps(room: &Room, row: &Row, proto: Proto) -> Verdict {
    let mut run = Run { room, proto, members: Vec::new(), queue: Vec::new() };
    let mut lines = Vec::new();
    for step in row.steps {
        match run.step(step) {
            Ok(line) => {
                let agrees = line.agrees;
                lines.push(line);
                if !agrees {
                    return Verdict::Differs(lines);
                }
            }
            Err(Stop::Skip(why)) => return Verdict::Skipped(why),
            Err(Stop::Broken(why)) => return Verdict::Broken(format!("{step:?}: {why}")),
        }
    }
    Verdict::Agrees(lines)
}

impl Run<'_> {
    fn step(&mut self, step: &Step) -> Result<Line, Stop> {
        match *step {
            Step::Open(open, answer) => {
                let seen = self.open(&open)?;
                Ok(compare(describe_open(&open), answer, &seen))
            }
            Step::Call(call, answer) => {
                let seen = self.call(call);
                Ok(compare(describe_call(&call), answer, &seen))
            }
            Step::Accept { name, from } => {
                self.accept(name, from)?;
                Ok(done(format!("{from} accepts {name}")))
            }
            Step::Close(name) => {
                self.close(name)?;
                Ok(done(format!("{name} closes")))
            }
            Step::Many(count) => {
                let one = open('*', User::Ann, &[RP], LO);
                let mut seen = Ok(());
                for _ in 0..count {
                    seen = self.open(&one)?;
                    if seen.is_err() {
                        break;
                    }
                }
                Ok(compare(format!("{count} members"), Answer::Ok, &seen))
            }
            Step::Moved(who, expected) => {
                let member = self.member(who)?;
                let moved = port_of(&member.socket)? != member.first_port;
                let word = |moved| if moved { "another port" } else { "the same port" }.to_owned();
                Ok(Line {
                    step: format!("{who} has"),
                    expected: word(expected),
                    seen: word(moved),
                    agrees: moved == expected,
                })
            }
            Step::Send(send, share) => traffic::send(self, send, share),
            Step::Queue(count) => traffic::queue(self, count),
            Step::SomeReset(expected) => traffic::resets(self, expected),
            Step::NewNetwork => {
                kernel::new_network()?;
                Ok(done("a new network".to_owned()))
            }
            Step::Pin(nth) => {
                self.room.pin(nth)?;
                Ok(done(format!("on processor {}", self.room.cpu(nth))))
            }
            Step::Sysctl(name, value) => match std::fs::write(format!("/proc/sys/{name}"), value) {
                Ok(()) => Ok(done(format!("{name} = {value}"))),
                Err(error) => {
                    Err(Stop::Skip(format!("needs {name}: {}", kernel::error_name(&error))))
                }
            },
            Step::FromUserNamespace { user, own_network, port, answer } => {
                let seen = namespaces::ask(user, own_network, self.room.port(port))?;
                let network = if own_network { "own network" } else { "same network" };
                Ok(compare(format!("{user:?} in a user namespace, {network}"), answer, &seen))
            }
        }
    }
}

/// The address of the row's port on `ip`.
pub(crate) fn target(run: &Run<'_>, ip: &str) -> Result<(IpAddr, SockAddr), Stop> {
    let ip: IpAddr = ip.parse().map_err(|_| Stop::Broken(ip.to_owned()))?;
    Ok((ip, SocketAddr::new(ip, run.room.port(Port::TheOne)).into()))
}

fn compare(step: String, expected: Answer, seen: &io::Result<()>) -> Line {
    let agrees = match (expected, seen) {
        (Answer::Ok, Ok(())) => true,
        (Answer::Fails(errno), Err(error)) => error.raw_os_error() == Some(errno.raw()),
        _ => false,
    };
    let expected = match expected {
        Answer::Ok => "ok".to_owned(),
        Answer::Fails(errno) => kernel::error_name(&io::Error::from_raw_os_error(errno.raw())),
    };
    let seen = seen.as_ref().map_or_else(kernel::error_name, |()| "ok".to_owned());
    Line { step, expected, seen, agrees }
}

/// A step of the row's own that has no answer to compare.
pub(crate) fn done(step: String) -> Line {
    Line { step, expected: "ok".to_owned(), seen: "ok".to_owned(), agrees: true }
}
