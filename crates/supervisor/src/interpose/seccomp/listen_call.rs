//! `listen`: a socket that is held, or a private group's, listens by a call of the supervisor.

use std::net::SocketAddr;

use sameport_policy::bind::distinct::OwnStep;
use sameport_policy::bind::facts::{MissingFact, PortMembers};
use sameport_policy::bind::listen;
use sameport_policy::bind::listen::{HeldBy, ListenCaller, ListenFacts, ListenPlan, ListenSteps};
use sameport_policy::bind::plan::Decision;
use sameport_policy::model::Address;
use sameport_policy::refusal::Refusal;
use sameport_sys::Errno;

use super::call::SocketCall;
use super::handler::{CallReply, Handled, NotificationHandler};
use crate::error::PrivateSocketError;
use crate::event::RunEvent;
use crate::group_check::MemberQuestions;
use crate::pool::BlockedCall;
use crate::private_group;
use crate::report::{CallKind, Report};

/// The address of a socket that the kernel will bind.
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

impl NotificationHandler {
    pub(super) fn listen(&self, call: SocketCall<'_>, backlog: i32) -> Result<Handled, Errno> {
        let options = call.address_options()?;
        let bound = call.socket.local_address()?.filter(|address| address.port() != 0);
        let address = call.address_at(&options, bound.unwrap_or(ANY));
        self.restore_sharing(&call, &address)?;
        let owner = call.socket.owner();
        let mut facts = ListenFacts {
            socket: self.facts(&call, &options, bound)?,
            is_private: self.owner == Some(owner),
            held: self.held_by(call.socket.inode(), &address),
        };
        let plan = loop {
            match listen::decide(&facts) {
                Decision::Plan(plan) => break plan,
                // The address is known: only the sockets there are missing.
                Decision::Lookup(MissingFact::KeptOut(_)) => {
                    facts.socket.kept_out = Some(self.is_kept_out(&call, &address)?);
                }
                Decision::Lookup(_) => {
                    facts.socket.members = Some(self.members_at_listen(&call, &address)?);
                }
            }
        };
        if !call.is_waiting() {
            return Ok(Handled::CONTINUE);
        }
        let is_shared = facts.socket.attempt.reuse_port;
        self.apply_listen(call, address, backlog, is_shared, plan)
    }

    fn held_by(&self, inode: u64, address: &Address) -> HeldBy {
        match &self.held {
            Some(held) if held.is_shared(inode) => HeldBy::Shared,
            Some(held) if held.holds(inode, address) => HeldBy::Own,
            _ => HeldBy::No,
        }
    }

    /// Sets SO_REUSEPORT again on a socket that was shared at its bind: without it, neither the other workers
    /// nor the next one could listen on the address.
    fn restore_sharing(&self, call: &SocketCall<'_>, address: &Address) -> Result<(), Errno> {
        let was_shared =
            self.own_sockets.options_at_bind(call.socket.inode(), address.port()).is_some();
        match was_shared && !call.socket.reuse_port()? {
            true => call.socket.share(false),
            false => Ok(()),
        }
    }

    /// Whether an earlier socket of the same execution listens on the address.
    fn is_kept_out(&self, call: &SocketCall<'_>, address: &Address) -> Result<bool, Errno> {
        let (inode, port) = (call.socket.inode(), address.port());
        let Some(own) = self.own_sockets.options_at_bind(inode, port) else { return Ok(false) };
        if call.socket.is_listening()? {
            return Ok(false);
        }
        Ok(self.own_sockets.keep_out(call, address, own, OwnStep::Listen))
    }

    /// A socket that listens already has joined.
    fn members_at_listen(
        &self,
        call: &SocketCall<'_>,
        address: &Address,
    ) -> Result<PortMembers, Errno> {
        let socket = &call.socket;
        if socket.is_listening()? {
            return Ok(PortMembers::default());
        }
        // A wider listener was found at the bind.
        let questions = MemberQuestions { narrower: false, outsiders: false };
        Ok(self.group_check.members(socket.inode(), socket.owner(), address, questions))
    }

    fn apply_listen(
        &self,
        mut call: SocketCall<'_>,
        address: Address,
        backlog: i32,
        is_shared: bool,
        plan: ListenPlan,
    ) -> Result<Handled, Errno> {
        match plan {
            ListenPlan::Continue => Ok(Handled::CONTINUE),
            ListenPlan::PrivateOnDevice => Ok(self.not_private(ANY, PrivateSocketError::OnDevice)),
            ListenPlan::MakePrivate(owner) => {
                let taken = private_group::take_over(&mut call.socket, owner);
                Ok(taken.map_or_else(
                    |errno| self.not_private(ANY, PrivateSocketError::Refused(errno)),
                    |()| Handled::CONTINUE,
                ))
            }
            ListenPlan::KeptOut => Ok(Handled::error(Errno::ADDRINUSE)),
            ListenPlan::Refuse(stranger) => {
                self.kept.release(call.socket.inode());
                let refusal = Refusal::OutsideGroup(*stranger);
                let report = Some(Report::Refused(RunEvent::Refused {
                    address,
                    refusal: Box::new(refusal),
                }));
                Ok(Handled { report, ..Handled::error(Errno::ADDRINUSE) })
            }
            ListenPlan::Listen(steps) => {
                let report = steps.follow.then(|| {
                    // From here on the socket takes connections: it must end when the worker closes
                    // it.
                    self.kept.release(call.socket.inode());
                    let answered = call.answered(CallKind::Listen, address.clone(), is_shared);
                    Report::CallAnswered(answered)
                });
                let reply = self.make_listen(call, &address, backlog, steps)?;
                Ok(Handled { reply, report })
            }
        }
    }

    fn make_listen(
        &self,
        call: SocketCall<'_>,
        address: &Address,
        backlog: i32,
        steps: ListenSteps,
    ) -> Result<CallReply, Errno> {
        let SocketCall { listener, notification, fd, socket, .. } = call;
        let blocked = BlockedCall { listener, id: notification.id, tid: notification.tid, fd };
        let afterwards = steps.reuse_address.then(|| socket.duplicate()).transpose()?;
        let result = match (steps.by, &self.held) {
            (ListenCaller::HeldSockets, Some(held)) => {
                held.listen(blocked, socket, address, backlog)
            }
            (ListenCaller::Supervisor | ListenCaller::Worker, _)
                if let Some((listens, ordinal)) = &self.listens
                    && listens.steers(address.protocol) =>
            {
                listens.join(&socket, address, *ordinal, || socket.listen(backlog))
            }
            (ListenCaller::Supervisor, _) => socket.listen(backlog),
            (ListenCaller::Worker | ListenCaller::HeldSockets, _) => {
                return Ok(CallReply::Continue);
            }
        };
        if let (Ok(()), Some(socket)) = (result, afterwards) {
            socket.set_reuse_address(true)?;
        }
        Ok(CallReply::Result(result))
    }
}
