//! Answering a worker's call: look at the socket, decide, act on it, and let the worker's own call go
//! on. Only where its address is to be another one is the bind made here, in the worker's place.

use std::net::SocketAddr;

use sameport_policy::bind::map;
use sameport_policy::bind::map::Mapping;
use sameport_policy::bind::private as group;
use sameport_policy::bind::source;
use sameport_policy::bind::source::OutgoingSocket;
use sameport_policy::bind::verdict;
use sameport_policy::bind::verdict::{BindAttempt, NotShared, ShareDecision};
use sameport_policy::model::{Address, Protocol};
use sameport_policy::refusal::Refusal;
use sameport_policy::seccomp::calls::{AddrArgument, Architecture, WorkerCall};
use sameport_sys::Errno;
use sameport_sys::seccomp::{Notification, NotifyListener};
use sameport_sys::socket::{SocketAccess, WorkerSocket};
use tokio::sync::mpsc::Sender;

use super::caller::{may_be_transparent, may_bind, read_address, read_call, seems_low};
use super::pending::KeptSockets;
use crate::bind_options::{BindOptions, OptionUsage};
use crate::conflict::RefusedCaller;
use crate::error::PrivateSocketError;
use crate::event::{OutOfReach, Remark, RunEvent};
use crate::group_check::GroupCheck;
use crate::pool::{BindResult, PendingBind, WorkerSockets};
use crate::private_group;
use crate::report::{AnsweredCall, CallKind, Report};

/// What the worker is told.
enum CallReply {
    /// Its own call happens.
    GoOn,
    /// The call has been made in its place, with this result.
    Made(Result<(), Errno>),
}

/// Answers the workers of a run.
#[derive(Debug, Clone)]
pub(crate) struct NotificationHandler {
    pub machine: Architecture,
    pub wishes: BindOptions,
    pub used: OptionUsage,
    pub joining: GroupCheck,
    /// Who owns the group's sockets, if it is private.
    pub owner: Option<u32>,
    pub news: Sender<Report>,
    pub bound: KeptSockets,
    pub holding: Option<WorkerSockets>,
}

impl NotificationHandler {
    /// Answers one notification. Whatever fails on the way, the worker's call goes on: the kernel
    /// then tells the worker the truth about it.
    pub(crate) fn answer(
        &self,
        listener: &NotifyListener,
        notification: &Notification,
    ) -> Result<(), Errno> {
        let (reply, news) = match self.prepare(listener, notification) {
            Ok(prepared) => prepared,
            Err(Errno::MFILE | Errno::NFILE) => {
                self.out_of_reach(notification, OutOfReach::DescriptorLimit)
            }
            // The worker's memory or descriptor is not what the call claims.
            Err(_) => (CallReply::GoOn, None),
        };
        match reply {
            CallReply::GoOn => listener.let_continue(notification.id)?,
            CallReply::Made(result) => listener.answer(notification.id, result)?,
        };
        // A full channel loses a report, never an answer; and then nobody follows the socket.
        if let Some(news) = news
            && let Err(lost) = self.news.try_send(news)
            && let Report::CallAnswered(asked) = lost.into_inner()
        {
            self.bound.lose(asked.inode);
        }
        Ok(())
    }

    /// What cannot be reached is not shared; but an address that must not be had as it was asked for
    /// is refused rather than bound.
    fn out_of_reach(
        &self,
        notification: &Notification,
        why: OutOfReach,
    ) -> (CallReply, Option<Report>) {
        let Notification { tid, arch, number, args, .. } = *notification;
        let not_as_asked = !self.wishes.rules.is_empty() || self.owner.is_some();
        let closed = match WorkerCall::read(self.machine, arch, number, args) {
            Some(WorkerCall::Bind(_)) => not_as_asked || self.wishes.transparent,
            Some(WorkerCall::Towards(_)) => self.wishes.source.is_some(),
            Some(WorkerCall::Socketcall { .. }) => not_as_asked || self.wishes.source.is_some(),
            Some(WorkerCall::Listen { .. } | WorkerCall::Shutdown { .. }) | None => false,
        };
        let reply = if closed { CallReply::Made(Err(Errno::ACCESS)) } else { CallReply::GoOn };
        (reply, Some(Report::OutOfReach(tid, why)))
    }

    fn prepare(
        &self,
        listener: &NotifyListener,
        notification: &Notification,
    ) -> Result<(CallReply, Option<Report>), Errno> {
        let nothing = (CallReply::GoOn, None);
        let Notification { id, tid, number, .. } = *notification;
        let Some(call) = read_call(self.machine, notification)? else { return Ok(nothing) };
        let (WorkerCall::Bind(AddrArgument { fd, .. })
        | WorkerCall::Listen { fd, .. }
        | WorkerCall::Shutdown { fd }
        | WorkerCall::Towards(AddrArgument { fd, .. })) = call
        else {
            return Ok(nothing);
        };
        let out_of_reach = |why| Ok(self.out_of_reach(notification, why));
        let mut socket = match WorkerSocket::from_thread(tid, fd)? {
            SocketAccess::Socket(socket) => socket,
            SocketAccess::NotASocket | SocketAccess::Gone => return Ok(nothing),
            SocketAccess::Forbidden => return out_of_reach(OutOfReach::PtraceDenied),
            SocketAccess::OwnTable => return out_of_reach(OutOfReach::OwnDescriptorTable),
        };
        let Some(protocol) = socket.protocol()? else { return Ok(nothing) };
        let address = match call {
            WorkerCall::Bind(named) | WorkerCall::Towards(named) => read_address(tid, named),
            _ => socket.bound_address(protocol)?.map(|address| address.socket),
        };
        let attempt = BindAttempt {
            protocol: Some(protocol),
            address,
            reuse_port: socket.reuse_port()?,
            reuse_address: socket.reuse_address()?,
            same_network: socket.is_in_own_netns(tid)?,
        };
        // All of the above was read through a thread id. If the caller still waits, it was this
        // caller's all the time, and not that of a thread which got the same id since.
        if !listener.is_waiting(id) {
            return Ok(nothing);
        }
        let follow = |step, socket: &WorkerSocket, address: SocketAddr| {
            let caller = RefusedCaller {
                uid: socket.owner(),
                shared: socket.reuse_port()?,
                needs_privilege: seems_low(address.port()) && !may_bind(tid, address.port()),
            };
            let (inode, address) = (socket.inode(), socket.address_at(protocol, address)?);
            Ok(Some(Report::CallAnswered(AnsweredCall {
                tid,
                fd,
                inode,
                number,
                kind: step,
                protocol,
                address,
                caller,
            })))
        };
        let caller = PendingBind { listener, id, tid, fd };
        match (call, address) {
            (WorkerCall::Shutdown { .. }, _) => {
                let withstands =
                    |holding: &WorkerSockets| holding.withstands_shutdown(socket.inode());
                let reply = match self.holding.as_ref().is_some_and(withstands) {
                    true => CallReply::Made(Ok(())),
                    false => CallReply::GoOn,
                };
                Ok((reply, None))
            }
            (WorkerCall::Towards(_), to) => Ok((self.depart(tid, &socket, to, &attempt)?, None)),
            (WorkerCall::Bind(_), Some(asked)) => {
                match self.bind(caller, &mut socket, asked, &attempt)? {
                    Some((reply, Some(address))) => {
                        let news = follow(CallKind::Bind, &socket, address)?;
                        let inode = socket.inode();
                        if self.bound.keep(socket) {
                            return Ok((reply, news));
                        }
                        self.bound.lose(inode);
                        Ok((reply, None))
                    }
                    Some((reply, None)) => Ok((reply, None)),
                    None => Ok(nothing),
                }
            }
            // A socket that reaches `listen` unshared was left alone at its bind, or got its port
            // only here: it stays as it is.
            (WorkerCall::Listen { backlog, .. }, Some(address))
                if self.holding.as_ref().is_some_and(|it| it.is_common(socket.inode())) =>
            {
                let address = socket.address_at(protocol, address)?;
                let listen = |it: &WorkerSockets| it.listen(socket, &address, backlog);
                Ok((
                    self.holding.as_ref().map_or(CallReply::GoOn, |it| CallReply::Made(listen(it))),
                    None,
                ))
            }
            (WorkerCall::Listen { backlog, .. }, Some(address))
                if verdict::decide(&attempt, &self.wishes.ports)
                    == ShareDecision::SharedByItself =>
            {
                if !socket.is_listening()? && self.must_not_join(&socket, protocol, address)? {
                    self.bound.release(socket.inode());
                    return Ok((CallReply::Made(Err(Errno::ADDRINUSE)), None));
                }
                // From here on it takes connections, and must end when the worker closes it.
                self.bound.release(socket.inode());
                let news = follow(CallKind::Listen, &socket, address)?;
                let address = socket.address_at(protocol, address)?;
                let reply = self.listen(socket, &address, backlog)?;
                Ok((reply, news))
            }
            // The kernel binds it, to a port that it picks.
            (WorkerCall::Listen { .. }, None) if attempt.same_network => {
                let any = SocketAddr::from(([0, 0, 0, 0], 0));
                let verdict = ShareDecision::LeaveAlone(NotShared::AnyPort);
                let refusal = self.make_private(&mut socket, verdict, Some(protocol), any);
                Ok((refusal.unwrap_or(CallReply::GoOn), None))
            }
            _ => Ok(nothing),
        }
    }

    fn say(&self, remark: Remark) {
        drop(self.news.try_send(Report::Remark(remark)));
    }

    /// Whether the address is another's, with whom this run is not to share; that is told.
    fn must_not_join(
        &self,
        socket: &WorkerSocket,
        protocol: Protocol,
        address: SocketAddr,
    ) -> Result<bool, Errno> {
        let address = socket.address_at(protocol, address)?;
        let Some(stranger) = self.joining.stranger(socket, &address) else { return Ok(false) };
        let refusal = Refusal::NotOurs(stranger);
        drop(self.news.try_send(Report::Refused(RunEvent::Refused { address, refusal })));
        Ok(true)
    }

    /// What becomes of a bind, and at which address if that is worth following; `None` if it is none
    /// of our business.
    fn bind(
        &self,
        caller: PendingBind<'_>,
        socket: &mut WorkerSocket,
        asked: SocketAddr,
        attempt: &BindAttempt,
    ) -> Result<Option<(CallReply, Option<SocketAddr>)>, Errno> {
        let tid = caller.tid;
        let moved = match attempt.protocol.filter(|_| attempt.same_network) {
            Some(protocol) => {
                let v6only = socket.is_v6only()?;
                map::decide(
                    &self.wishes.rules,
                    &map::MapRequest { protocol, address: asked, v6only },
                )
            }
            None => None,
        };
        let target = match moved {
            None => asked,
            Some((rule, Mapping::To(target))) => {
                self.used.rule(rule);
                if let Some(remark) = Remark::one_family(asked, target) {
                    self.say(remark);
                }
                target
            }
            Some((rule, Mapping::OtherFamily)) => {
                self.used.rule(rule);
                self.say(Remark::OtherFamily { asked, rule: self.wishes.rules[rule] });
                return Ok(Some((CallReply::Made(Err(Errno::AFNOSUPPORT)), None)));
            }
        };
        let attempt = BindAttempt { address: Some(target), ..attempt.clone() };
        let verdict = verdict::decide(&attempt, &self.wishes.ports);
        let is_unshared = matches!(verdict, ShareDecision::LeaveAlone(_));
        if let Some(refusal) = self.make_private(socket, verdict, attempt.protocol, target) {
            return Ok(Some((refusal, None)));
        }
        if let Some(holding) = self.holding.as_ref().filter(|_| target.port() == 0) {
            holding.leave_alone(socket.inode());
        }
        if is_unshared && moved.is_none() && !(self.wishes.transparent && attempt.same_network) {
            return Ok(None);
        }
        if let Some(protocol) = attempt.protocol.filter(|_| !is_unshared)
            && self.must_not_join(socket, protocol, target)?
        {
            return Ok(Some((CallReply::Made(Err(Errno::ADDRINUSE)), None)));
        }
        if let ShareDecision::Share { clear_reuse_address } = verdict {
            socket.share(clear_reuse_address)?;
        }
        if let Err(errno) = self.make_transparent(tid, socket) {
            return Ok(Some((CallReply::Made(Err(errno)), None)));
        }
        if let Some(holding) = &self.holding
            && !is_unshared
            && let Some(protocol) = attempt.protocol
        {
            let address = socket.address_at(protocol, target)?;
            let may_bind = may_bind(tid, target.port());
            match holding.bind(caller, socket, &address, may_bind)? {
                None => {}
                Some(BindResult::Replaced) => {
                    return Ok(Some((CallReply::Made(Ok(())), None)));
                }
                Some(BindResult::Made(made)) => {
                    return Ok(Some((CallReply::Made(made), Some(target))));
                }
            }
        }
        if is_unshared && moved.is_none() {
            // Not followed: as long as we hold it, an unshared socket that its worker has closed keeps
            // the address, and the worker's next bind would be refused.
            return Ok(Some((CallReply::GoOn, None)));
        }
        let reply = match moved {
            None => CallReply::GoOn,
            Some(_) if !may_bind(tid, target.port()) => CallReply::Made(Err(Errno::ACCESS)),
            Some(_) => CallReply::Made(socket.bind(target)),
        };
        Ok(Some((reply, Some(target))))
    }

    /// A socket that cannot be made the private group's is not bound.
    fn make_private(
        &self,
        socket: &mut WorkerSocket,
        verdict: ShareDecision,
        protocol: Option<Protocol>,
        asked: SocketAddr,
    ) -> Option<CallReply> {
        let owner = self.owner.filter(|_| group::takes(verdict))?;
        let address = socket.address_at(protocol?, asked).map_err(PrivateSocketError::from);
        let why = address.and_then(|address| private_group::take(socket, owner, &address)).err()?;
        self.say(Remark::NotPrivate { asked, why });
        Some(CallReply::Made(Err(Errno::ACCESS)))
    }

    /// A `listen` of a socket that is held, or a private group's, is made here.
    fn listen(
        &self,
        socket: WorkerSocket,
        address: &Address,
        backlog: i32,
    ) -> Result<CallReply, Errno> {
        let private = self.owner.filter(|owner| *owner == socket.owner());
        let private = private.map(|_| socket.duplicate()).transpose()?;
        let holding = self.holding.as_ref().filter(|holding| holding.holds(socket.inode()));
        let listens = match (holding, &private) {
            (Some(holding), _) => holding.listen(socket, address, backlog),
            (None, Some(socket)) => socket.listen(backlog),
            (None, None) => return Ok(CallReply::GoOn),
        };
        if let (Ok(()), Some(socket)) = (listens, private) {
            // For its connections, of which none is there yet.
            socket.set_reuse_address(true)?;
        }
        Ok(CallReply::Made(listens))
    }

    /// If the user wants it, and the worker itself could do it.
    fn make_transparent(&self, tid: i32, socket: &WorkerSocket) -> Result<(), Errno> {
        if !self.wishes.transparent {
            return Ok(());
        }
        self.used.transparent();
        if may_be_transparent(tid) { socket.set_transparent() } else { Err(Errno::PERM) }
    }

    /// Gives a socket that is about to connect, or to send, the source that the user wants.
    fn depart(
        &self,
        tid: i32,
        socket: &WorkerSocket,
        to: Option<SocketAddr>,
        attempt: &BindAttempt,
    ) -> Result<CallReply, Errno> {
        let Some(from) = self.wishes.source.filter(|_| attempt.same_network) else {
            return Ok(CallReply::GoOn);
        };
        let outgoing =
            OutgoingSocket { is_v6: socket.is_v6()?, is_bound: socket.has_local_address()?, to };
        let Some(from) = source::decide(from, &outgoing) else { return Ok(CallReply::GoOn) };
        self.used.source();
        // The call itself is the worker's own; only a source that cannot be had ends it.
        let bound = match self.make_transparent(tid, socket) {
            Ok(()) if may_bind(tid, from.port()) => socket.bind_source(from),
            Ok(()) => Err(Errno::ACCESS),
            Err(errno) => Err(errno),
        };
        Ok(bound.map_or_else(|errno| CallReply::Made(Err(errno)), |()| CallReply::GoOn))
    }
}
