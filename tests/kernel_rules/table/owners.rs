//! The owner of a socket: creator, fchown(2), user namespaces, capabilities.

use crate::dsl::*;
use crate::model::*;

/// A process of `uid` in a new user namespace, same network namespace, binds the port of the row.
const fn from_userns(uid: Uid, answer: Answer) -> Step {
    Step::FromUserNamespace { uid, new_netns: false, port: Port::Row, answer }
}

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "creator-not-binder",
        rule: "the owner of a socket is its creator, not the caller of bind",
        protocols: BOTH,
        steps: &[
            open('A', ROOT, &[RP], LO).unbound().ok(),
            serve('A').by(UID_1000).ok(),
            open('B', UID_1000, &[RP], LO).fails(EADDRINUSE),
            open('B', ROOT, &[RP], LO).ok(),
            send(64, LO).each_of("AB"),
        ],
    },
    Row {
        name: "reserved-uid",
        rule: "fchown before bind: only sockets with the same owner join; root is refused too",
        protocols: BOTH,
        steps: &[
            open('A', ROOT, &[RP], ANY).unbound().ok(),
            chown('A', RESERVED).ok(),
            serve('A').ok(),
            open('B', ROOT, &[RP], ANY).fails(EADDRINUSE),
            open('B', ROOT, &[RA, RP], ANY).fails(EADDRINUSE),
            open('B', UID_1000, &[RP], ANY).fails(EADDRINUSE),
            open('B', UID_1000, &[RA], ANY).fails(EADDRINUSE),
            open('B', UID_1000, &[RP], LO).fails(EADDRINUSE),
            open('C', ROOT, &[RP], ANY).unbound().ok(),
            chown('C', RESERVED).ok(),
            serve('C').ok(),
            send(64, LO).each_of("AC"),
        ],
    },
    Row {
        name: "reserved-uid-connections",
        rule: "a connection belongs to the user that accepted it: it refuses a new member of the reserved \
               owner if the newest listener of the port has another address. Before 6.8 the first listener \
               of a port with RP admits every later one of its owner without a look at connections",
        protocols: TCP,
        steps: &[
            open('A', ROOT, &[RP], LO).unbound().ok(),
            chown('A', RESERVED).ok(),
            serve('A').ok(),
            open('D', ROOT, &[RP], LO6).unbound().ok(),
            chown('D', RESERVED).ok(),
            serve('D').ok(),
            open('K', UID_1000, &[], LO).unbound().ok(),
            connect('K', 'A').ok(),
            accept('S', 'A'),
            open('B', ROOT, &[RP], LO).unbound().ok(),
            chown('B', RESERVED).ok(),
            bind('B').fails_since(Kernel(6, 8), EADDRINUSE),
        ],
    },
    Row {
        name: "reserved-uid-connections-ra",
        rule: "RA set after listen and on a new member: connections do not refuse the reserved owner",
        protocols: TCP,
        steps: &[
            open('A', ROOT, &[RP], LO).unbound().ok(),
            chown('A', RESERVED).ok(),
            serve('A').ok(),
            set('A', RA).ok(),
            open('D', ROOT, &[RP], LO6).unbound().ok(),
            chown('D', RESERVED).ok(),
            serve('D').ok(),
            set('D', RA).ok(),
            open('K', UID_1000, &[], LO).unbound().ok(),
            connect('K', 'A').ok(),
            accept('S', 'A'),
            open('B', ROOT, &[RA, RP], LO).unbound().ok(),
            chown('B', RESERVED).ok(),
            bind('B').ok(),
            open('C', ROOT, &[RA, RP], LO).fails(EADDRINUSE),
            open('C', UID_1001, &[RA], LO).fails(EADDRINUSE),
            listen('B').ok(),
            open('C', ROOT, &[RA, RP], LO).fails(EADDRINUSE),
            send(64, LO).each_of("AB"),
        ],
    },
    Row {
        name: "reserved-uid-ra-after-bind",
        rule: "a member of a reserved owner that sets RA after bind lets every user join",
        protocols: UDP,
        steps: &[
            open('A', ROOT, &[RP], LO).unbound().ok(),
            chown('A', RESERVED).ok(),
            serve('A').ok(),
            open('B', UID_1001, &[RA], LO).fails(EADDRINUSE),
            set('A', RA).by(ROOT).ok(),
            open('B', UID_1001, &[RA], LO).ok(),
            send(60, LO).all_to('B'),
        ],
    },
    Row {
        name: "fchown-after-bind-old-owner",
        rule: "fchown after bind does not move the group: the old owner binds and receives everything",
        protocols: TCP,
        steps: &[
            open('A', ROOT, &[RP], LO).ok(),
            chown('A', UID_1000).ok(),
            open('B', ROOT, &[RP], LO).ok(),
            send(60, LO).all_to('B'),
            open('C', UID_1000, &[RP], LO).fails(EADDRINUSE),
        ],
    },
    Row {
        name: "fchown-after-bind-new-owner",
        rule: "fchown after bind: the old owner is refused if the new owner joins first",
        protocols: TCP,
        steps: &[
            open('A', ROOT, &[RP], LO).ok(),
            chown('A', UID_1000).ok(),
            open('B', UID_1000, &[RP], LO).ok(),
            send(64, LO).each_of("AB"),
            open('C', ROOT, &[RP], LO).fails(EADDRINUSE),
        ],
    },
    Row {
        name: "fchown-after-bind",
        rule: "fchown after bind takes effect at once: the new owner joins, the old one is refused",
        protocols: UDP,
        steps: &[
            open('A', ROOT, &[RP], LO).ok(),
            chown('A', UID_1000).ok(),
            open('B', ROOT, &[RP], LO).fails(EADDRINUSE),
            open('B', UID_1000, &[RP], LO).ok(),
            send(64, LO).each_of("AB"),
        ],
    },
    Row {
        name: "fchown-needs-privilege",
        rule: "fchown of a socket needs CAP_CHOWN",
        protocols: BOTH,
        steps: &[
            open('A', UID_1001, &[RP], LO).unbound().ok(),
            chown('A', RESERVED).by(UID_1001).fails(EPERM),
        ],
    },
    Row {
        name: "user-namespace",
        rule: "root in a user namespace counts as its uid outside",
        protocols: TCP,
        steps: &[
            open('A', UID_1000, &[RP], LO).ok(),
            from_userns(UID_1000, Answer::Ok),
            from_userns(UID_1001, Answer::Fails(EADDRINUSE)),
            from_userns(ROOT, Answer::Fails(EADDRINUSE)),
        ],
    },
    Row {
        name: "user-namespace-of-root",
        rule: "root mapped to root joins root's group, root mapped to another uid does not",
        protocols: TCP,
        steps: &[
            open('A', ROOT, &[RP], LO).ok(),
            from_userns(ROOT, Answer::Ok),
            from_userns(UID_1000, Answer::Fails(EADDRINUSE)),
        ],
    },
    Row {
        name: "user-namespace-low-port",
        rule: "root in a user namespace cannot bind low ports of a network namespace it does not own",
        protocols: TCP,
        steps: &[
            open('A', ROOT, &[], LO).port(Port::Low).ok(),
            open('B', UID_1000, &[], LO).port(Port::Low).fails(EACCES),
            Step::FromUserNamespace {
                uid: UID_1000,
                new_netns: false,
                port: Port::Low,
                answer: Answer::Fails(EACCES),
            },
        ],
    },
    Row {
        name: "user-and-network-namespace",
        rule: "root in a user namespace can bind low ports of its own network namespace",
        protocols: TCP,
        steps: &[
            open('A', UID_1000, &[], LO).ok(),
            Step::FromUserNamespace {
                uid: UID_1001,
                new_netns: true,
                port: Port::Row,
                answer: Answer::Ok,
            },
            Step::FromUserNamespace {
                uid: UID_1001,
                new_netns: true,
                port: Port::Low,
                answer: Answer::Ok,
            },
        ],
    },
    Row {
        name: "tcp-repair",
        rule: "TCP_REPAIR, which needs CAP_NET_ADMIN, skips the conflict check",
        protocols: TCP,
        steps: &[
            open('A', UID_1000, &[], LO).ok(),
            open('B', UID_1001, &[Opt::Repair], LO).fails(EPERM),
            open('C', ROOT, &[], LO).fails(EADDRINUSE),
            open('D', ROOT, &[Opt::Repair], LO).not_listening().ok(),
        ],
    },
];
