//! TIME_WAIT, connections of a closed listener, the window between `bind` and `listen`, the accept
//! queue of a member that closes.

use crate::dsl::*;
use crate::model::*;

/// A client without an explicit bind.
const CLIENT: Step = open('K', UID_1000, &[], LO).unbound().ok();
const MIGRATE: &str = "net/ipv4/tcp_migrate_req";

/// The steps of a closed listener with `$options` whose connection is in TIME_WAIT, then more steps.
macro_rules! after_time_wait {
    ($options:expr; $($then:expr),+ $(,)?) => {
        &[
            open('A', UID_1000, $options, LO).ok(),
            CLIENT,
            connect('K', 'A').ok(),
            accept('S', 'A'),
            close('S'),
            close('K'),
            close('A'),
            $($then),+
        ]
    };
}

/// The steps of a closed listener with `$options` whose connection is open, then more steps.
macro_rules! after_close {
    ($options:expr; $($then:expr),+ $(,)?) => {
        &[
            open('A', UID_1000, $options, LO).ok(),
            CLIENT,
            connect('K', 'A').ok(),
            accept('S', 'A'),
            close('A'),
            $($then),+
        ]
    };
}

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "time-wait-rp",
        rule: "TIME_WAIT of an RP listener: RP binds; RA alone or no option does not",
        protocols: TCP,
        steps: after_time_wait![&[RP];
            open('B', UID_1000, &[], LO).fails(EADDRINUSE),
            open('B', UID_1000, &[RA], LO).fails(EADDRINUSE),
            open('B', UID_1000, &[RP], LO).ok(),
        ],
    },
    Row {
        name: "time-wait-ra-rp",
        rule: "TIME_WAIT of an RP listener: RA with RP binds",
        protocols: TCP,
        steps: after_time_wait![&[RP];
            open('B', UID_1000, &[], LO).fails(EADDRINUSE),
            open('B', UID_1000, &[RA, RP], LO).ok(),
        ],
    },
    Row {
        name: "time-wait-ra",
        rule: "TIME_WAIT of an RA listener: RA binds, RP alone does not",
        protocols: TCP,
        steps: after_time_wait![&[RA];
            open('B', UID_1000, &[RP], LO).fails(EADDRINUSE),
            open('B', UID_1000, &[RA], LO).ok(),
        ],
    },
    Row {
        name: "time-wait-ra-after-listen",
        rule: "RA set after listen: its connections inherit it, so RA binds over their TIME_WAIT",
        protocols: TCP,
        steps: &[
            open('A', UID_1000, &[], LO).ok(),
            set('A', RA).ok(),
            CLIENT,
            connect('K', 'A').ok(),
            accept('S', 'A'),
            close('S'),
            close('K'),
            close('A'),
            open('B', UID_1000, &[], LO).fails(EADDRINUSE),
            open('B', UID_1000, &[RP], LO).fails(EADDRINUSE),
            open('B', UID_1000, &[RA], LO).ok(),
        ],
    },
    Row {
        name: "time-wait-rp-other-user",
        rule: "TIME_WAIT of an RP listener: another user's RP binds too",
        protocols: TCP,
        steps: after_time_wait![&[RP];
            open('B', UID_1001, &[], LO).fails(EADDRINUSE),
            open('B', UID_1001, &[RA], LO).fails(EADDRINUSE),
            open('B', UID_1001, &[RP], LO).ok(),
        ],
    },
    Row {
        name: "restart-gap-ra",
        rule: "RA listener closed, a connection open: another user's RA binds",
        protocols: TCP,
        steps: after_close![&[RA]; open('B', UID_1001, &[RA], LO).ok()],
    },
    Row {
        name: "restart-gap-rp",
        rule: "RP listener closed, a connection open: only the same user's RP binds",
        protocols: TCP,
        steps: after_close![&[RP];
            open('B', UID_1001, &[], LO).fails(EADDRINUSE),
            open('B', UID_1001, &[RA], LO).fails(EADDRINUSE),
            open('B', UID_1001, &[RP], LO).fails(EADDRINUSE),
            open('B', UID_1001, &[RA, RP], LO).fails(EADDRINUSE),
            open('B', UID_1000, &[RP], LO).ok(),
        ],
    },
    Row {
        name: "client-without-ra",
        rule: "a client bound to the port without RA conflicts with a server with RA",
        protocols: TCP,
        steps: &[
            open('T', UID_1000, &[], LO2).port(Port::Any).ok(),
            open('C', UID_1000, &[], LO).not_listening().ok(),
            connect('C', 'T').ok(),
            open('A', UID_1000, &[RA], LO).fails(EADDRINUSE),
        ],
    },
    Row {
        name: "client-with-ra",
        rule: "a client bound to the port with RA: a server with RA binds, with RP only does not",
        protocols: TCP,
        steps: &[
            open('T', UID_1000, &[], LO2).port(Port::Any).ok(),
            open('C', UID_1000, &[RA], LO).not_listening().ok(),
            connect('C', 'T').ok(),
            open('A', UID_1000, &[RP], LO).fails(EADDRINUSE),
            open('A', UID_1000, &[RA], LO).ok(),
        ],
    },
    Row {
        name: "bound-window-ra",
        rule: "RA, bound but not listening: another user's RA listens first, listen fails",
        protocols: TCP,
        steps: &[
            open('A', UID_1000, &[RA], LO).not_listening().ok(),
            open('B', UID_1001, &[RA], LO).ok(),
            listen('A').fails(EADDRINUSE),
        ],
    },
    Row {
        name: "bound-window-ra-listens-first",
        rule: "RA, both bound: the first that listens refuses the other, which stays bound",
        protocols: TCP,
        steps: &[
            open('B', UID_1001, &[RA, RP], LO).not_listening().ok(),
            open('A', UID_1000, &[RA], ANY).not_listening().ok(),
            listen('A').ok(),
            listen('B').fails(EADDRINUSE),
            set('B', Opt::Ra(false)).ok(),
            listen('B').fails(EADDRINUSE),
            send(4, LO).all_to('A'),
        ],
    },
    Row {
        name: "beside-listener-ra",
        rule: "RA set after listen: no other socket binds, whatever its options and user",
        protocols: TCP,
        steps: &[
            open('A', UID_1000, &[], ANY).ok(),
            set('A', RA).ok(),
            open('B', UID_1000, &[RA], ANY).fails(EADDRINUSE),
            open('B', UID_1000, &[RA, RP], ANY).fails(EADDRINUSE),
            open('B', UID_1001, &[RA], LO).not_listening().fails(EADDRINUSE),
            open('B', UID_1001, &[RA, RP], LO).not_listening().fails(EADDRINUSE),
            open('B', ROOT, &[RA, RP], LO).not_listening().fails(EADDRINUSE),
            open('B', UID_1001, &[RA, DEV_LO], LO).not_listening().fails(EADDRINUSE),
            open('B', UID_1001, &[RA, DUAL], ANY6).not_listening().fails(EADDRINUSE),
            open('B', UID_1001, &[RA], MAPPED).not_listening().fails(EADDRINUSE),
        ],
    },
    Row {
        name: "bound-window-ra-specific",
        rule: "RA, bound but not listening: another user's more specific address listens first too",
        protocols: TCP,
        steps: &[
            open('A', UID_1000, &[RA], ANY).not_listening().ok(),
            open('B', UID_1001, &[RA], LO).ok(),
            listen('A').fails(EADDRINUSE),
        ],
    },
    Row {
        name: "bound-window-ra-rp",
        rule: "RA and RP, bound but not listening: another user's RA listens first despite RP",
        protocols: TCP,
        steps: &[
            open('A', UID_1000, &[RA, RP], LO).not_listening().ok(),
            open('B', UID_1001, &[RA], LO).ok(),
            listen('A').fails(EADDRINUSE),
        ],
    },
    Row {
        name: "bound-window-rp",
        rule: "RP only, bound but not listening: another user is refused",
        protocols: TCP,
        steps: &[
            open('A', UID_1000, &[RP], LO).not_listening().ok(),
            open('B', UID_1001, &[RA], LO).fails(EADDRINUSE),
            open('B', UID_1001, &[RP], LO).fails(EADDRINUSE),
            open('B', UID_1001, &[RA, RP], LO).fails(EADDRINUSE),
            listen('A').ok(),
        ],
    },
    Row {
        name: "bound-window-default",
        rule: "no options, bound but not listening: another user is refused",
        protocols: TCP,
        steps: &[
            open('A', UID_1000, &[], LO).not_listening().ok(),
            open('B', UID_1001, &[RA], LO).fails(EADDRINUSE),
            listen('A').ok(),
        ],
    },
    Row {
        name: "shutdown-listen-port-0",
        rule: "bound to port 0, shutdown, listen again: the socket gets a new port",
        protocols: TCP,
        steps: &[
            open('A', UID_1000, &[], LO).port(Port::Any).ok(),
            Step::PortChanged('A', false),
            shutdown('A').ok(),
            listen('A').ok(),
            Step::PortChanged('A', true),
        ],
    },
    Row {
        name: "shutdown-listen-fixed",
        rule: "bound to a fixed port, shutdown, listen again: the socket keeps its port",
        protocols: TCP,
        steps: &[
            open('A', UID_1000, &[], LO).ok(),
            shutdown('A').ok(),
            open('B', UID_1000, &[], LO).fails(EADDRINUSE),
            listen('A').ok(),
            Step::PortChanged('A', false),
        ],
    },
    Row {
        name: "close-with-queue-migrate-0",
        rule: "a member closes with connections queued, tcp_migrate_req 0: they are reset",
        protocols: TCP,
        steps: &[
            Step::Sysctl(MIGRATE, "0"),
            open('A', UID_1000, &[RP], LO).ok(),
            open('B', UID_1000, &[RP], LO).ok(),
            Step::QueueConnections(40),
            close('A'),
            Step::QueueReset(true),
        ],
    },
    Row {
        name: "close-with-queue-migrate-1",
        rule: "a member closes with connections queued, tcp_migrate_req 1: another member accepts them",
        protocols: TCP,
        steps: &[
            Step::Sysctl(MIGRATE, "1"),
            open('A', UID_1000, &[RP], LO).ok(),
            open('B', UID_1000, &[RP], LO).ok(),
            Step::QueueConnections(40),
            close('A'),
            Step::QueueReset(false),
        ],
    },
];
