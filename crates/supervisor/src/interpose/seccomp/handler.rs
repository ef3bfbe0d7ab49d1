//! Answers the calls of one worker: collects the facts, decides, and applies the decision.
//!
//! `bind_call` and `listen_call` have the two calls with a decision of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sameport_policy::bind::facts::RunRules;
use sameport_policy::bind::source;
use sameport_policy::bind::source::OutgoingSocket;
use sameport_policy::seccomp::calls::{AddrArgument, Architecture, WorkerCall};
use sameport_sys::Errno;
use sameport_sys::process::LastThread;
use sameport_sys::seccomp::{Notification, NotifyListener};
use sameport_sys::socket::{SocketAccess, WorkerSocket};
use tokio::sync::mpsc::Sender;

use super::answer_thread::Answer;
use super::call::{SocketCall, may_be_transparent, may_bind, read_address, read_call};
use super::own_sockets::OwnSockets;
use crate::bind_options::{BindOptions, OptionUsage};
use crate::event::{OutOfReach, Remark};
use crate::group_check::GroupCheck;
use crate::interpose::kept::KeptSockets;
use crate::pool::WorkerSockets;
use crate::report::Report;
use crate::traffic::listens::OrderedListens;

/// The answer to a worker's call.
#[derive(Debug)]
pub(super) enum CallReply {
    /// The call happens.
    Continue,
    /// The call does not happen, and returns this result.
    Result(Result<(), Errno>),
}

impl CallReply {
    fn send(self, listener: &NotifyListener, id: u64) -> Result<(), Errno> {
        match self {
            Self::Continue => listener.let_continue(id)?,
            Self::Result(result) => listener.answer(id, result)?,
        };
        Ok(())
    }
}

/// The answer to a call, and a report of it.
#[derive(Debug)]
pub(super) struct Handled {
    pub(super) reply: CallReply,
    pub(super) report: Option<Report>,
}

impl Handled {
    pub(super) const CONTINUE: Self = Self { reply: CallReply::Continue, report: None };

    pub(super) fn result(result: Result<(), Errno>) -> Self {
        Self { reply: CallReply::Result(result), report: None }
    }

    pub(super) fn error(errno: Errno) -> Self {
        Self::result(Err(errno))
    }
}

/// The calls of one worker and its children, on the thread that answers them.
#[derive(Debug)]
pub(super) struct WorkerCalls {
    handler: NotificationHandler,
    last_thread: LastThread,
}

impl WorkerCalls {
    pub(super) fn new(handler: NotificationHandler) -> Self {
        Self { handler, last_thread: LastThread::default() }
    }
}

impl Answer for WorkerCalls {
    fn answer(
        &mut self,
        listener: &NotifyListener,
        notification: &Notification,
    ) -> Result<Option<Report>, Errno> {
        self.handler.answer(listener, notification, &mut self.last_thread)
    }

    fn answer_unseen(
        &self,
        listener: &NotifyListener,
        notification: &Notification,
    ) -> Result<(), Errno> {
        self.handler.reply_unseen(notification).send(listener, notification.id)
    }
}

/// Answers the calls of one worker and its children.
#[derive(Debug, Clone)]
pub(super) struct NotificationHandler {
    pub(super) machine: Architecture,
    pub(super) options: BindOptions,
    pub(super) usage: OptionUsage,
    pub(super) group_check: GroupCheck,
    /// The owner of the group's sockets, if the group is private.
    pub(super) owner: Option<u32>,
    pub(super) reports: Sender<Report>,
    pub(super) kept: KeptSockets,
    pub(super) own_sockets: OwnSockets,
    pub(super) held: Option<WorkerSockets>,
    /// The groups of a run that holds no sockets, and the worker's ordinal.
    pub(super) listens: Option<(OrderedListens, u16)>,
    /// Whether a process of the worker has restricted itself (Landlock).
    pub(super) restricted: Arc<AtomicBool>,
}

impl NotificationHandler {
    /// Answers one notification. If anything fails on the way, the worker's call continues: the
    /// kernel then returns the true error.
    ///
    /// Returns a report for the supervisor.
    pub(super) fn answer(
        &self,
        listener: &NotifyListener,
        notification: &Notification,
        last: &mut LastThread,
    ) -> Result<Option<Report>, Errno> {
        let handled = match self.handle(listener, notification, last) {
            Ok(handled) => handled,
            Err(Errno::MFILE | Errno::NFILE) => {
                self.out_of_reach(notification, OutOfReach::DescriptorLimit)
            }
            // The worker's memory or descriptor is not what the call claims.
            Err(_) => Handled::CONTINUE,
        };
        handled.reply.send(listener, notification.id)?;
        Ok(handled.report)
    }

    /// A socket that cannot be reached is not shared. A bind that must not happen as the program
    /// asked for it is refused.
    fn out_of_reach(&self, notification: &Notification, why: OutOfReach) -> Handled {
        let reply = self.reply_unseen(notification);
        Handled { reply, report: Some(Report::OutOfReach(notification.tid, why)) }
    }

    fn reply_unseen(&self, notification: &Notification) -> CallReply {
        let Notification { arch, number, args, .. } = *notification;
        let not_as_asked = !self.options.rules.is_empty() || self.owner.is_some();
        let is_refused = match WorkerCall::read(self.machine, arch, number, args) {
            Some(WorkerCall::Bind(_)) => not_as_asked || self.options.transparent,
            Some(WorkerCall::Towards(_)) => self.options.source.is_some(),
            Some(WorkerCall::Socketcall { .. }) => not_as_asked || self.options.source.is_some(),
            Some(
                WorkerCall::Listen { .. } | WorkerCall::Shutdown { .. } | WorkerCall::RestrictSelf,
            )
            | None => false,
        };
        if is_refused { CallReply::Result(Err(Errno::ACCESS)) } else { CallReply::Continue }
    }

    fn handle(
        &self,
        listener: &NotifyListener,
        notification: &Notification,
        last: &mut LastThread,
    ) -> Result<Handled, Errno> {
        let Some(call) = read_call(self.machine, notification)? else {
            return Ok(Handled::CONTINUE);
        };
        if call == WorkerCall::RestrictSelf {
            self.restrict();
        }
        let tid = notification.tid;
        let Some(fd) = call.fd() else { return Ok(Handled::CONTINUE) };
        let asked = match call {
            WorkerCall::Bind(argument) => read_address(tid, argument),
            _ => None,
        };
        if asked.is_some_and(|asked| self.rules().leave_alone(asked)) {
            return Ok(Handled::CONTINUE);
        }
        let socket = match WorkerSocket::from_last_thread(last, tid, fd)? {
            SocketAccess::Socket(socket) => socket,
            SocketAccess::NotASocket | SocketAccess::Gone => return Ok(Handled::CONTINUE),
            SocketAccess::Forbidden => {
                return Ok(self.out_of_reach(notification, OutOfReach::PtraceDenied));
            }
            SocketAccess::OwnTable => {
                return Ok(self.out_of_reach(notification, OutOfReach::OwnDescriptorTable));
            }
        };
        let Some((protocol, is_v6)) = socket.protocol_and_family()? else {
            return Ok(Handled::CONTINUE);
        };
        let call_on =
            SocketCall { listener, notification: *notification, fd, socket, protocol, is_v6 };
        match (call, asked) {
            (WorkerCall::Bind(_), Some(asked)) => self.bind(call_on, asked),
            (WorkerCall::Listen { backlog, .. }, _) => self.listen(call_on, backlog),
            (WorkerCall::Shutdown { .. }, _) => Ok(self.shutdown(&call_on)),
            (WorkerCall::Towards(argument), _) => self.connect(&call_on, argument),
            (WorkerCall::Bind(_) | WorkerCall::Socketcall { .. } | WorkerCall::RestrictSelf, _) => {
                Ok(Handled::CONTINUE)
            }
        }
    }

    /// The worker gives up rights, and the kernel does not tell which: from now on the supervisor binds
    /// nothing for it. The children of the process, which inherit the restriction, are of the same worker.
    fn restrict(&self) {
        self.restricted.store(true, Ordering::Release);
        if let Some(held) = &self.held {
            held.restrict();
        }
    }

    /// Whether the worker itself could bind this port. Port 0 takes no port that another process waits
    /// for.
    pub(super) fn may_bind(&self, tid: i32, port: u16) -> bool {
        (port == 0 || !self.is_restricted()) && may_bind(tid, port)
    }

    /// Whether the supervisor must not bind for the worker.
    pub(super) fn is_restricted(&self) -> bool {
        self.restricted.load(Ordering::Acquire)
            || self.held.as_ref().is_some_and(WorkerSockets::is_restricted)
    }

    /// The run's rules, as decisions read them.
    pub(super) fn rules(&self) -> RunRules<'_> {
        RunRules {
            ports: &self.options.ports,
            rules: &self.options.rules,
            transparent: self.options.transparent,
            freebind: self.options.freebind,
            owner: self.owner,
            holds: self.held.is_some(),
        }
    }

    pub(super) fn remark(&self, remark: Remark) {
        drop(self.reports.try_send(Report::Remark(remark)));
    }

    /// A `shutdown` of a held socket does not happen: it would end the socket for the next worker.
    fn shutdown(&self, call: &SocketCall<'_>) -> Handled {
        let Some(held) = &self.held else { return Handled::CONTINUE };
        match call.is_waiting() && held.suppresses_shutdown(call.socket.inode()) {
            true => Handled::result(Ok(())),
            false => Handled::CONTINUE,
        }
    }

    /// Sets `IP_TRANSPARENT`, if the worker itself could.
    pub(super) fn make_transparent(
        &self,
        socket: &WorkerSocket,
        is_allowed: bool,
    ) -> Result<(), Errno> {
        self.usage.transparent();
        if is_allowed { socket.set_transparent() } else { Err(Errno::PERM) }
    }

    /// Gives a socket that is about to connect, or to send, the run's source address. The call
    /// itself is the worker's own; it fails only if the socket cannot get the source address.
    fn connect(&self, call: &SocketCall<'_>, argument: AddrArgument) -> Result<Handled, Errno> {
        let (tid, socket) = (call.tid(), &call.socket);
        let Some(source) = self.options.source else { return Ok(Handled::CONTINUE) };
        if !socket.is_in_own_netns(tid)? {
            return Ok(Handled::CONTINUE);
        }
        let (is_v6, is_bound) = (call.is_v6, socket.has_local_address()?);
        let outgoing = OutgoingSocket { is_v6, is_bound, to: read_address(tid, argument) };
        let Some(source) = source::decide(source, &outgoing) else { return Ok(Handled::CONTINUE) };
        if !call.is_waiting() {
            return Ok(Handled::CONTINUE);
        }
        self.usage.source();
        let transparent = match self.options.transparent {
            true => self.make_transparent(socket, may_be_transparent(tid)),
            false => Ok(()),
        };
        let bound = transparent.and_then(|()| match self.may_bind(tid, source.port()) {
            true => socket.bind_source(source),
            false => Err(Errno::ACCESS),
        });
        Ok(bound.map_or_else(Handled::error, |()| Handled::CONTINUE))
    }
}
