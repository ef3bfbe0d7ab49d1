//! Runs the table of the kernel's own rules (`sameport_policy::kernel_rules`) on the kernel at hand.
//!
//! A row's steps are done in order, and what the kernel answered is put beside what it must answer.
//! That stops at the first difference, because the steps after it mean nothing any more. `room` knows the
//! users and the network, `sockets` and `traffic` do the steps, `namespaces` is the second process that
//! user namespaces need, `kernel` has the system calls.

mod kernel;
mod namespaces;
mod netns;
mod sockets;
mod traffic;

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{SockAddr, Socket};

use sameport_policy::kernel_rules::model::{Answer, LO, Port, Proto, RP, Row, Step, User, open};
use sameport_policy::kernel_rules::{Line, Verdict};

pub use netns::Rights;
use netns::Room;
use sockets::{Member, port_of};

/// Why a step gave no answer to compare.
#[derive(Debug)]
enum Stop {
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
struct Run<'a> {
    room: &'a Room,
    proto: Proto,
    members: Vec<Member>,
    /// Client connections that wait to be accepted.
    queue: Vec<Socket>,
}

/// Runs the row with this protocol, in a thread of its own, whose network and user are its own too.
/// Nothing leaves the machine; at most a few seconds, commonly milliseconds.
#[must_use]
pub fn run(rights: &Rights, row: &Row, proto: Proto) -> Verdict {
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
                Ok(compare(open.words(), answer, &seen))
            }
            Step::Call(call, answer) => {
                let seen = self.call(call);
                Ok(compare(call.words(), answer, &seen))
            }
            Step::Accept { name, from } => {
                self.accept(name, from)?;
                Ok(Line::done(format!("{from} accepts {name}")))
            }
            Step::Close(name) => {
                self.close(name)?;
                Ok(Line::done(format!("{name} closes")))
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
                Ok(Line::moved(who, expected, moved))
            }
            Step::Send(send, share) => traffic::send(self, send, share),
            Step::Queue(count) => traffic::queue(self, count),
            Step::SomeReset(expected) => traffic::resets(self, expected),
            Step::NewNetwork => {
                kernel::new_network()?;
                Ok(Line::done("a new network".to_owned()))
            }
            Step::Pin(nth) => {
                self.room.pin(nth)?;
                Ok(Line::done(format!("on processor {}", self.room.cpu(nth))))
            }
            Step::Sysctl(name, value) => match std::fs::write(format!("/proc/sys/{name}"), value) {
                Ok(()) => Ok(Line::done(format!("{name} = {value}"))),
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
fn target(run: &Run<'_>, ip: &str) -> Result<(IpAddr, SockAddr), Stop> {
    let ip: IpAddr = ip.parse().map_err(|_| Stop::Broken(ip.to_owned()))?;
    Ok((ip, SocketAddr::new(ip, run.room.port(Port::TheOne)).into()))
}

fn compare(step: String, expected: Answer, seen: &io::Result<()>) -> Line {
    let seen = seen.as_ref().map_or_else(kernel::error_name, |()| "ok".to_owned());
    Line::answered(step, expected, &seen)
}
