//! Runs a row: does its steps in order, compares each answer of the kernel with the expected one, and
//! stops at the first difference, because it invalidates the steps after it.

mod environment;
mod sockets;
mod traffic;
mod user_namespace;

use std::io;

use socket2::Socket;

use crate::dsl::open;
use crate::model::{Answer, LO, Proto, RP, Row, Step, UID_1000};
use crate::netns::{self, error_name};
use crate::report::{StepReport, Verdict};

use environment::Environment;
pub(crate) use environment::{Rights, checks, has_several_users};
use sockets::{Member, port_of};
pub(crate) use traffic::checks as traffic_checks;

/// Why a step gave no answer to compare.
#[derive(Debug)]
enum Stop {
    Skip(String),
    Error(String),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EMFILE) => Self::Skip("needs more descriptors: ulimit -Hn".to_owned()),
            _ => Self::Error(error_name(&error)),
        }
    }
}

/// The state of a row that runs.
#[derive(Debug)]
struct Run<'a> {
    environment: &'a Environment,
    proto: Proto,
    members: Vec<Member>,
    /// Client connections in accept queues.
    queued: Vec<Socket>,
}

/// Runs the row with this protocol in a new thread, which has its own network namespace and effective
/// user. Commonly takes milliseconds.
pub(crate) fn run(rights: &Rights, row: &Row, proto: Proto) -> Verdict {
    if let Some(reason) = rights.skip_reason(row) {
        return Verdict::Skipped(reason);
    }
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| match Environment::enter(rights, row) {
            Ok(environment) => run_steps(&environment, row, proto),
            Err(Stop::Skip(reason)) => Verdict::Skipped(reason),
            Err(Stop::Error(error)) => Verdict::Error(format!("enter the environment: {error}")),
        });
        thread.join().unwrap_or_else(|_| Verdict::Error("panicked".to_owned()))
    })
}

fn run_steps(environment: &Environment, row: &Row, proto: Proto) -> Verdict {
    let mut run = Run { environment, proto, members: Vec::new(), queued: Vec::new() };
    let mut reports = Vec::new();
    for step in row.steps {
        match run.step(step) {
            Ok(report) => {
                let agrees = report.agrees;
                reports.push(report);
                if !agrees {
                    return Verdict::Differs(reports);
                }
            }
            Err(Stop::Skip(reason)) => return Verdict::Skipped(reason),
            Err(Stop::Error(error)) => return Verdict::Error(format!("{step:?}: {error}")),
        }
    }
    Verdict::Agrees(reports)
}

impl Run<'_> {
    fn step(&mut self, step: &Step) -> Result<StepReport, Stop> {
        match *step {
            Step::Open(open, expected) => {
                let answer = self.open(&open)?;
                Ok(self.compare(open.to_string(), expected, &answer))
            }
            Step::Call(call, expected) => {
                let answer = self.call(call);
                Ok(self.compare(call.to_string(), expected, &answer))
            }
            Step::Accept { name, from } => {
                self.accept(name, from)?;
                Ok(StepReport::done(format!("{from} accepts {name}")))
            }
            Step::Close(name) => {
                self.close(name)?;
                Ok(StepReport::done(format!("{name} closes")))
            }
            Step::OpenMembers(count) => {
                let member = open('*', UID_1000, &[RP], LO);
                let mut answer = Ok(());
                for _ in 0..count {
                    answer = self.open(&member)?;
                    if answer.is_err() {
                        break;
                    }
                }
                Ok(self.compare(format!("{count} members"), Answer::Ok, &answer))
            }
            Step::PortChanged(name, expected) => {
                let member = self.member(name)?;
                let changed = port_of(&member.socket)? != member.first_port;
                Ok(StepReport::port_changed(name, expected, changed))
            }
            Step::Send(send, share) => traffic::send(self, send, share),
            Step::QueueConnections(count) => traffic::queue(self, count),
            Step::QueueReset(expected) => traffic::count_resets(self, expected),
            Step::NewNetns => {
                netns::new_netns()?;
                Ok(StepReport::done("new network namespace".to_owned()))
            }
            Step::PinToCpu(nth) => {
                self.environment.pin(nth)?;
                Ok(StepReport::done(format!("on processor {}", self.environment.cpu(nth))))
            }
            Step::Sysctl(name, value) => match std::fs::write(format!("/proc/sys/{name}"), value) {
                Ok(()) => Ok(StepReport::done(format!("{name} = {value}"))),
                Err(error) => Err(Stop::Skip(format!("needs {name}: {}", error_name(&error)))),
            },
            Step::FromUserNamespace { uid, new_netns, port, answer: expected } => {
                let answer = user_namespace::listen(uid, new_netns, self.environment.port(port))?;
                let netns = if new_netns { "new" } else { "same" };
                let step = format!("uid {uid} in a user namespace, {netns} network namespace");
                Ok(self.compare(step, expected, &answer))
            }
        }
    }

    /// The answer of the kernel beside the one that the row requires on this release.
    fn compare(&self, step: String, expected: Answer, answer: &io::Result<()>) -> StepReport {
        let actual = answer.as_ref().map_or_else(error_name, |()| "ok".to_owned());
        StepReport::answer(step, expected.name(self.environment.kernel()), &actual)
    }
}
