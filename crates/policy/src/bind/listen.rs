//! The decision about one `listen` of a worker: facts in, steps out.

use crate::bind::facts::{BindFacts, MissingFact};
use crate::bind::plan::{Decision, NewOwner};
use crate::bind::share::ShareDecision;
use crate::bind::verdict;
use crate::membership::NotAMember;

/// One `listen`.
#[derive(Debug, Clone)]
pub struct ListenFacts<'a> {
    /// The socket, with the address that it is bound to.
    pub socket: BindFacts<'a>,
    /// Whether the socket belongs to the run's private group.
    pub is_private: bool,
    /// Whether the run holds this socket.
    pub held: HeldBy,
}

/// Whether a run holds a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldBy {
    /// The run holds no sockets, or not this one.
    No,
    /// The socket is held for one worker.
    Own,
    /// All workers share the socket.
    Shared,
}

/// The decision about a `listen`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenPlan {
    /// The worker's own call continues, and nothing else happens.
    Continue,
    /// EADDRINUSE: the address belongs to another group.
    Refuse(Box<NotAMember>),
    /// EADDRINUSE: an earlier socket of the same execution listens there.
    KeptOut,
    /// EACCES: a socket on a device cannot be kept private.
    PrivateOnDevice,
    /// The kernel binds the socket to a port of its choice: give it to the private group first.
    MakePrivate(NewOwner),
    /// The socket listens.
    Listen(ListenSteps),
}

/// How a socket listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenSteps {
    /// The caller.
    pub by: ListenCaller,
    /// Set `SO_REUSEADDR` once the socket listens. Connections of a private group have the option,
    /// and at this moment the socket has none.
    pub reuse_address: bool,
    /// Follow the call until its outcome is known.
    pub follow: bool,
}

/// The caller of `listen`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenCaller {
    /// The worker: its own call continues.
    Worker,
    /// The supervisor, in the worker's place.
    Supervisor,
    /// The supervisor, through the held sockets.
    HeldSockets,
}

/// Decides.
///
/// A socket that reaches `listen` unshared was left alone at its bind, or gets its port only here:
/// it stays as it is.
#[must_use]
pub fn decide(facts: &ListenFacts<'_>) -> Decision<ListenPlan> {
    let ListenFacts { socket, is_private, held } = facts;
    let Some(address) = socket.attempt.address else {
        return Decision::Plan(on_any_port(socket));
    };
    let listen = |by, reuse_address, follow| {
        Decision::Plan(ListenPlan::Listen(ListenSteps { by, reuse_address, follow }))
    };
    if *held == HeldBy::Shared {
        return listen(ListenCaller::HeldSockets, false, false);
    }
    if verdict::decide(&socket.attempt, socket.run.ports) != ShareDecision::SharedByItself {
        return Decision::Plan(ListenPlan::Continue);
    }
    match socket.kept_out {
        None => return Decision::Lookup(MissingFact::KeptOut(address)),
        Some(true) => return Decision::Plan(ListenPlan::KeptOut),
        Some(false) => {}
    }
    let Some(members) = &socket.members else {
        return Decision::Lookup(MissingFact::Members(address));
    };
    if let Some(stranger) = &members.stranger {
        return Decision::Plan(ListenPlan::Refuse(stranger.clone()));
    }
    let by = match (held, is_private) {
        (HeldBy::Own, _) => ListenCaller::HeldSockets,
        (_, true) => ListenCaller::Supervisor,
        (_, false) => ListenCaller::Worker,
    };
    listen(by, *is_private, true)
}

fn on_any_port(socket: &BindFacts<'_>) -> ListenPlan {
    match socket.run.owner.filter(|_| socket.attempt.same_network) {
        None => ListenPlan::Continue,
        Some(_) if socket.on_device => ListenPlan::PrivateOnDevice,
        Some(uid) => ListenPlan::MakePrivate(NewOwner { uid, reuse_address: false }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bind::facts::{Outsiders, PortMembers, RunRules};
    use crate::bind::share::BindAttempt;
    use crate::model::Protocol;

    const RUN: RunRules<'static> = RunRules::PLAIN;
    const PRIVATE: RunRules<'static> = RunRules { owner: Some(7), ..RUN };

    fn socket(run: RunRules<'static>) -> BindFacts<'static> {
        let attempt = BindAttempt {
            protocol: Some(Protocol::Tcp),
            address: Some("127.0.0.1:80".parse().unwrap()),
            reuse_port: true,
            reuse_address: false,
            same_network: true,
        };
        let members = Some(PortMembers::default());
        let kept_out = Some(false);
        BindFacts { run, attempt, v6only: false, on_device: false, rights: None, members, kept_out }
    }

    fn listens(by: ListenCaller, reuse_address: bool, follow: bool) -> ListenPlan {
        ListenPlan::Listen(ListenSteps { by, reuse_address, follow })
    }

    #[test]
    fn facts_to_plan() {
        use HeldBy::{No, Own, Shared};
        use ListenCaller::{HeldSockets, Supervisor, Worker};
        let plain = socket(RUN);
        let private = socket(PRIVATE);
        let with = |socket: &BindFacts<'static>, change: &dyn Fn(&mut BindFacts<'static>)| {
            let mut socket = socket.clone();
            change(&mut socket);
            socket
        };
        let unshared = with(&plain, &|it| it.attempt.reuse_port = false);
        let unbound = |socket| with(socket, &|it| it.attempt.address = None);
        let on_device = with(&unbound(&private), &|it| it.on_device = true);
        let elsewhere = with(&unbound(&private), &|it| it.attempt.same_network = false);
        let taken = with(&plain, &|it| {
            it.members = Some(PortMembers {
                stranger: Some(Box::new(NotAMember::Unseen)),
                group_listens: true,
                outsiders: Outsiders::None,
            });
        });
        let kept_out = with(&plain, &|it| it.kept_out = Some(true));
        let owner = NewOwner { uid: 7, reuse_address: false };
        let cases = [
            (&plain, false, No, listens(Worker, false, true)),
            (&plain, false, Own, listens(HeldSockets, false, true)),
            (&plain, false, Shared, listens(HeldSockets, false, false)),
            (&private, true, No, listens(Supervisor, true, true)),
            (&private, true, Own, listens(HeldSockets, true, true)),
            (&private, false, No, listens(Worker, false, true)),
            (&unshared, false, No, ListenPlan::Continue),
            (&unshared, false, Shared, listens(HeldSockets, false, false)),
            (&taken, false, No, ListenPlan::Refuse(Box::new(NotAMember::Unseen))),
            (&taken, false, Shared, listens(HeldSockets, false, false)),
            (&kept_out, false, Own, ListenPlan::KeptOut),
            (&kept_out, false, Shared, listens(HeldSockets, false, false)),
            (&unbound(&plain), false, No, ListenPlan::Continue),
            (&unbound(&private), false, No, ListenPlan::MakePrivate(owner)),
            (&elsewhere, false, No, ListenPlan::Continue),
            (&on_device, false, No, ListenPlan::PrivateOnDevice),
        ];
        for (socket, is_private, held, expected) in cases {
            let facts = ListenFacts { socket: socket.clone(), is_private, held };
            assert_eq!(decide(&facts), Decision::Plan(expected), "{facts:?}");
        }
    }

    #[test]
    fn only_a_shared_socket_needs_the_members() {
        let unknown = |reuse_port| {
            let mut socket = socket(RUN);
            (socket.members, socket.attempt.reuse_port) = (None, reuse_port);
            decide(&ListenFacts { socket, is_private: false, held: HeldBy::No })
        };
        let asked = MissingFact::Members("127.0.0.1:80".parse().unwrap());
        assert_eq!(unknown(true), Decision::Lookup(asked));
        assert_eq!(unknown(false), Decision::Plan(ListenPlan::Continue));
    }
}
