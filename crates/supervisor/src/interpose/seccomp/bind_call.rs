//! `bind`: the worker's own call continues wherever it can. Only where the run moves its address, or
//! a held socket takes its place, the supervisor acts for the worker.

use std::net::SocketAddr;

use sameport_policy::bind::distinct::OwnStep;
use sameport_policy::bind::facts::{BindFacts, BindRights, MissingFact};
use sameport_policy::bind::plan;
use sameport_policy::bind::plan::{
    BindAction, BindCaller, BindPlan, BindRefusal, BindSteps, Decision,
};
use sameport_policy::bind::share::BindAttempt;
use sameport_policy::model::{Address, Protocol};
use sameport_policy::refusal::Refusal;
use sameport_sys::Errno;

use super::call::{AddressOptions, SocketCall, may_be_transparent};
use super::handler::{CallReply, Handled, NotificationHandler};
use crate::error::PrivateSocketError;
use crate::event::{Remark, RunEvent};
use crate::group_check::MemberQuestions;
use crate::pool::BindResult;
use crate::private_group;
use crate::report::{CallKind, Report};
use crate::traffic::listens::OrderedListens;

impl NotificationHandler {
    pub(super) fn bind(&self, call: SocketCall<'_>, asked: SocketAddr) -> Result<Handled, Errno> {
        let options = call.address_options()?;
        let mut facts = self.facts(&call, &options, Some(asked))?;
        let plan = loop {
            match plan::decide(&facts, asked) {
                Decision::Plan(plan) => break plan,
                Decision::Lookup(missing) => self.look_up(&call, &options, missing, &mut facts),
            }
        };
        let is_shared = facts.attempt.reuse_port;
        if !call.is_waiting() {
            return Ok(Handled::CONTINUE);
        }
        if let BindPlan { target, action: BindAction::Bind(steps), .. } = &plan
            && steps.follow
        {
            let address = call.address_at(&options, *target);
            self.own_sockets.add(&call, &address, facts.attempt.reuse_options());
        }
        self.apply(call, &options, asked, plan, is_shared)
    }

    /// The facts that the socket itself tells.
    pub(super) fn facts(
        &self,
        call: &SocketCall<'_>,
        options: &AddressOptions,
        address: Option<SocketAddr>,
    ) -> Result<BindFacts<'_>, Errno> {
        let attempt = BindAttempt {
            protocol: Some(call.protocol),
            address,
            reuse_port: call.socket.reuse_port()?,
            reuse_address: call.socket.reuse_address()?,
            same_network: call.socket.is_in_own_netns(call.tid())?,
        };
        let AddressOptions { v6only, device } = options;
        let (v6only, on_device) = (*v6only, device.is_some());
        Ok(BindFacts {
            run: self.rules(),
            attempt,
            v6only,
            on_device,
            rights: None,
            members: None,
            kept_out: None,
        })
    }

    fn look_up(
        &self,
        call: &SocketCall<'_>,
        options: &AddressOptions,
        missing: MissingFact,
        facts: &mut BindFacts<'_>,
    ) {
        match missing {
            MissingFact::Rights(port) => {
                let tid = call.tid();
                facts.rights = Some(BindRights {
                    may_bind: self.may_bind(tid, port),
                    may_be_transparent: self.options.transparent && may_be_transparent(tid),
                });
            }
            MissingFact::KeptOut(at) => {
                let address = call.address_at(options, at);
                let (own, new) = (&self.own_sockets, facts.attempt.reuse_options());
                facts.kept_out = Some(own.keep_out(call, &address, new, OwnStep::Bind));
            }
            MissingFact::Members(at) => {
                // A private group's socket gets its owner before it is bound.
                let owner = self.owner.unwrap_or(call.socket.owner());
                let address = call.address_at(options, at);
                let inode = call.socket.inode();
                let BindAttempt { protocol, reuse_port, reuse_address, .. } = facts.attempt;
                let is_datagram = protocol == Some(Protocol::Udp);
                let questions = MemberQuestions {
                    // Without sameport, the kernel permits these two.
                    narrower: !(reuse_port || is_datagram && reuse_address),
                    outsiders: is_datagram && reuse_address,
                };
                facts.members = Some(self.group_check.members(inode, owner, &address, questions));
            }
        }
    }

    fn apply(
        &self,
        mut call: SocketCall<'_>,
        options: &AddressOptions,
        asked: SocketAddr,
        plan: BindPlan,
        is_shared: bool,
    ) -> Result<Handled, Errno> {
        let BindPlan { rule, target, action } = plan;
        if let Some(rule) = rule {
            self.usage.rule(rule);
        }
        let steps = match action {
            BindAction::Refuse(refusal) => {
                return Ok(self.refuse(&call, options, asked, rule, (target, refusal)));
            }
            BindAction::Bind(steps) => steps,
        };
        let moved_by = rule.and_then(|rule| self.options.rules.get(rule).copied());
        if let Some(remark) = moved_by.and_then(|rule| Remark::moved(rule, asked, target)) {
            self.remark(remark);
        }
        if let Some(refused) = self.prepare(&mut call, steps, target)? {
            return Ok(refused);
        }
        let address = call.address_at(options, target);
        let held = match (&self.held, steps.held) {
            (Some(held), Some(may_bind)) if !self.is_restricted() => {
                held.bind(call.blocked(), &call.socket, &address, may_bind)?
            }
            _ => None,
        };
        let reply = match (held, steps.by) {
            (Some(BindResult::Replaced), _) => return Ok(Handled::result(Ok(()))),
            (Some(BindResult::Made(result)), _) => CallReply::Result(result),
            (None, BindCaller::Worker | BindCaller::Supervisor)
                if let Some((listens, ordinal)) = self.orders_datagrams(&call, &address) =>
            {
                let bind = || call.socket.bind(target);
                CallReply::Result(listens.join(&call.socket, &address, ordinal, bind))
            }
            (None, BindCaller::Worker) => CallReply::Continue,
            (None, BindCaller::Supervisor) => CallReply::Result(call.socket.bind(target)),
            (None, BindCaller::Denied) => CallReply::Result(Err(Errno::ACCESS)),
        };
        if !steps.follow {
            return Ok(Handled { reply, report: None });
        }
        let is_shared = is_shared || steps.share.is_some();
        let answered = call.answered(CallKind::Bind, address, is_shared);
        let inode = call.socket.inode();
        if self.kept.keep(call.socket) {
            return Ok(Handled { reply, report: Some(Report::CallAnswered(answered)) });
        }
        self.kept.lose(inode);
        Ok(Handled { reply, report: None })
    }

    /// The groups that a datagram socket joins by this bind, if the run steers them and the worker may have
    /// the port. A port that the kernel chooses is a client's.
    fn orders_datagrams(
        &self,
        call: &SocketCall<'_>,
        address: &Address,
    ) -> Option<(&OrderedListens, u16)> {
        let (listens, ordinal) = self.listens.as_ref()?;
        let is_joined = address.protocol == Protocol::Udp
            && address.port() != 0
            && listens.steers(Protocol::Udp)
            && self.may_bind(call.tid(), address.port());
        is_joined.then_some((listens, *ordinal))
    }

    /// Sets the socket's owner and options. `Some`: the bind fails.
    fn prepare(
        &self,
        call: &mut SocketCall<'_>,
        steps: BindSteps,
        target: SocketAddr,
    ) -> Result<Option<Handled>, Errno> {
        if let Some(owner) = steps.owner
            && let Err(errno) = private_group::take_over(&mut call.socket, owner)
        {
            return Ok(Some(self.not_private(target, PrivateSocketError::Refused(errno))));
        }
        if let Some(held) = self.held.as_ref().filter(|_| steps.not_held) {
            held.ignore(call.socket.inode());
        }
        if let Some(share) = steps.share {
            call.socket.share(share.clear_reuse_address)?;
        }
        let transparent = match steps.transparent {
            Some(is_allowed) => self.make_transparent(&call.socket, is_allowed),
            None => Ok(()),
        };
        let freebind = match steps.freebind {
            true => {
                self.usage.freebind();
                call.socket.set_freebind()
            }
            false => Ok(()),
        };
        Ok(transparent.and(freebind).err().map(Handled::error))
    }

    fn refuse(
        &self,
        call: &SocketCall<'_>,
        options: &AddressOptions,
        asked: SocketAddr,
        rule: Option<usize>,
        (target, refusal): (SocketAddr, BindRefusal),
    ) -> Handled {
        match refusal {
            BindRefusal::OtherFamily => {
                if let Some(rule) = rule.and_then(|rule| self.options.rules.get(rule)) {
                    self.remark(Remark::OtherFamily { asked, rule: *rule });
                }
                Handled::error(Errno::AFNOSUPPORT)
            }
            BindRefusal::PrivateOnDevice => self.not_private(target, PrivateSocketError::OnDevice),
            BindRefusal::InUse(stranger) => {
                let (address, refusal) =
                    (call.address_at(options, target), Refusal::OutsideGroup(*stranger));
                let report = Some(Report::Refused(RunEvent::Refused {
                    address,
                    refusal: Box::new(refusal),
                }));
                Handled { report, ..Handled::error(Errno::ADDRINUSE) }
            }
        }
    }

    /// A socket that cannot be made the private group's is not bound.
    pub(super) fn not_private(&self, asked: SocketAddr, why: PrivateSocketError) -> Handled {
        self.remark(Remark::NotPrivate { asked, why });
        Handled::error(Errno::ACCESS)
    }
}
