//! Whose socket it is: the user at `socket`, what `fchown` changes, user namespaces, privilege.

use crate::semantics::words::User::{self, Ann, Bob, Reserved, Root};
use crate::semantics::words::{
    ANY, Answer, BOTH, EACCES, EADDRINUSE, EPERM, LO, Opt, Port, RA, RP, Row, Step, TCP, UDP, bind,
    chown, listen, open, send,
};

/// `user`, root in a user namespace of its own, wants the row's port in the same network.
const fn from_userns(user: User, answer: Answer) -> Step {
    Step::FromUserNamespace { user, own_network: false, port: Port::TheOne, answer }
}

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "creator-not-binder",
        shows: "the socket's user is the creator's, not the binder's",
        over: TCP,
        steps: &[
            open('A', Root, &[RP], LO).made().ok(),
            bind('A').by(Ann).ok(),
            listen('A').by(Ann).ok(),
            open('B', Ann, &[RP], LO).fails(EADDRINUSE),
            open('B', Root, &[RP], LO).ok(),
            send(64, LO).each_of("AB"),
        ],
    },
    Row {
        name: "creator-not-binder",
        shows: "the socket's user is the creator's, not the binder's",
        over: UDP,
        steps: &[
            open('A', Root, &[RP], LO).made().ok(),
            bind('A').by(Ann).ok(),
            open('B', Ann, &[RP], LO).fails(EADDRINUSE),
            open('B', Root, &[RP], LO).ok(),
            send(64, LO).each_of("AB"),
        ],
    },
    Row {
        name: "reserved-uid",
        shows: "fchown before bind: nobody joins but sockets with the same owner, root included",
        over: TCP,
        steps: &[
            open('A', Root, &[RP], ANY).made().ok(),
            chown('A', Reserved).ok(),
            bind('A').ok(),
            listen('A').ok(),
            open('B', Root, &[RP], ANY).fails(EADDRINUSE),
            open('B', Root, &[RA, RP], ANY).fails(EADDRINUSE),
            open('B', Ann, &[RP], ANY).fails(EADDRINUSE),
            open('B', Ann, &[RA], ANY).fails(EADDRINUSE),
            open('B', Ann, &[RP], LO).fails(EADDRINUSE),
            open('C', Root, &[RP], ANY).made().ok(),
            chown('C', Reserved).ok(),
            bind('C').ok(),
            listen('C').ok(),
            send(64, LO).each_of("AC"),
        ],
    },
    Row {
        name: "reserved-uid",
        shows: "fchown before bind: nobody joins but sockets with the same owner, root included",
        over: UDP,
        steps: &[
            open('A', Root, &[RP], ANY).made().ok(),
            chown('A', Reserved).ok(),
            bind('A').ok(),
            open('B', Root, &[RP], ANY).fails(EADDRINUSE),
            open('B', Root, &[RA, RP], ANY).fails(EADDRINUSE),
            open('B', Ann, &[RP], ANY).fails(EADDRINUSE),
            open('B', Ann, &[RA], ANY).fails(EADDRINUSE),
            open('B', Ann, &[RP], LO).fails(EADDRINUSE),
            open('C', Root, &[RP], ANY).made().ok(),
            chown('C', Reserved).ok(),
            bind('C').ok(),
            send(64, LO).each_of("AC"),
        ],
    },
    Row {
        name: "fchown-after-bind-old-owner",
        shows: "fchown after bind is too late: the old owner still binds, and takes everything",
        over: TCP,
        steps: &[
            open('A', Root, &[RP], LO).ok(),
            chown('A', Ann).ok(),
            open('B', Root, &[RP], LO).ok(),
            send(60, LO).all_to('B'),
            open('C', Ann, &[RP], LO).fails(EADDRINUSE),
        ],
    },
    Row {
        name: "fchown-after-bind-new-owner",
        shows: "fchown after bind: where the new owner joins first, the old one is kept out",
        over: TCP,
        steps: &[
            open('A', Root, &[RP], LO).ok(),
            chown('A', Ann).ok(),
            open('B', Ann, &[RP], LO).ok(),
            send(64, LO).each_of("AB"),
            open('C', Root, &[RP], LO).fails(EADDRINUSE),
        ],
    },
    Row {
        name: "fchown-after-bind",
        shows: "fchown after bind counts at once: the new owner joins, the old one does not",
        over: UDP,
        steps: &[
            open('A', Root, &[RP], LO).ok(),
            chown('A', Ann).ok(),
            open('B', Root, &[RP], LO).fails(EADDRINUSE),
            open('B', Ann, &[RP], LO).ok(),
            send(64, LO).each_of("AB"),
        ],
    },
    Row {
        name: "fchown-needs-privilege",
        shows: "a user cannot give a socket away",
        over: BOTH,
        steps: &[open('A', Bob, &[RP], LO).made().ok(), chown('A', Reserved).by(Bob).fails(EPERM)],
    },
    Row {
        name: "user-namespace",
        shows: "root in a user namespace is still its user outside",
        over: TCP,
        steps: &[
            open('A', Ann, &[RP], LO).ok(),
            from_userns(Ann, Answer::Ok),
            from_userns(Bob, Answer::Fails(EADDRINUSE)),
            from_userns(Root, Answer::Fails(EADDRINUSE)),
        ],
    },
    Row {
        name: "user-namespace-of-root",
        shows: "root mapped to root joins root's group, a user's root does not",
        over: TCP,
        steps: &[
            open('A', Root, &[RP], LO).ok(),
            from_userns(Root, Answer::Ok),
            from_userns(Ann, Answer::Fails(EADDRINUSE)),
        ],
    },
    Row {
        name: "user-namespace-low-port",
        shows: "root in a user namespace has no right to low ports of a network it does not own",
        over: TCP,
        steps: &[
            open('A', Root, &[], LO).port(Port::Low).ok(),
            open('B', Ann, &[], LO).port(Port::Low).fails(EACCES),
            Step::FromUserNamespace {
                user: Ann,
                own_network: false,
                port: Port::Low,
                answer: Answer::Fails(EACCES),
            },
        ],
    },
    Row {
        name: "user-and-network-namespace",
        shows: "with a network namespace of its own: other ports, low ones allowed",
        over: TCP,
        steps: &[
            open('A', Ann, &[], LO).ok(),
            Step::FromUserNamespace {
                user: Bob,
                own_network: true,
                port: Port::TheOne,
                answer: Answer::Ok,
            },
            Step::FromUserNamespace {
                user: Bob,
                own_network: true,
                port: Port::Low,
                answer: Answer::Ok,
            },
        ],
    },
    Row {
        name: "tcp-repair",
        shows: "TCP_REPAIR skips the check for who may set it (CAP_NET_ADMIN)",
        over: TCP,
        steps: &[
            open('A', Ann, &[], LO).ok(),
            open('B', Bob, &[Opt::Repair], LO).fails(EPERM),
            open('C', Root, &[], LO).fails(EADDRINUSE),
            open('D', Root, &[Opt::Repair], LO).bound().ok(),
        ],
    },
];
