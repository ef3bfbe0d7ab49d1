//! What a socket leaves behind, and what can slip in: TIME_WAIT, open connections, the window
//! between `bind` and `listen`, queued connections of a member that closes.

use crate::kernel_rules::model::User::{Ann, Bob};
use crate::kernel_rules::model::{
    ANY, EADDRINUSE, LO, LO2, Port, RA, RP, Row, Step, TCP, accept, close, connect, listen, open,
    shutdown,
};

/// A client that binds nothing.
const CLIENT: Step = open('K', Ann, &[], LO).made().ok();
const MIGRATE: &str = "net/ipv4/tcp_migrate_req";

/// A connection in TIME_WAIT on the server's side, left by a listener with `$options`; then more.
macro_rules! after_time_wait {
    ($options:expr; $($then:expr),+ $(,)?) => {
        &[
            open('A', Ann, $options, LO).ok(),
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

/// A listener with `$options` is gone, a connection of it still open; then more.
macro_rules! after_gap {
    ($options:expr; $($then:expr),+ $(,)?) => {
        &[
            open('A', Ann, $options, LO).ok(),
            CLIENT,
            connect('K', 'A').ok(),
            accept('S', 'A'),
            close('A'),
            $($then),+
        ]
    };
}

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "time-wait-rp",
        shows: "TIME_WAIT of an RP listener: RP binds, RA alone or nothing does not",
        over: TCP,
        steps: after_time_wait![&[RP];
            open('B', Ann, &[], LO).fails(EADDRINUSE),
            open('B', Ann, &[RA], LO).fails(EADDRINUSE),
            open('B', Ann, &[RP], LO).ok(),
        ],
    },
    Row {
        name: "time-wait-ra-rp",
        shows: "TIME_WAIT of an RP listener: RA and RP bind",
        over: TCP,
        steps: after_time_wait![&[RP];
            open('B', Ann, &[], LO).fails(EADDRINUSE),
            open('B', Ann, &[RA, RP], LO).ok(),
        ],
    },
    Row {
        name: "time-wait-ra",
        shows: "TIME_WAIT of an RA listener: RA binds, RP alone does not",
        over: TCP,
        steps: after_time_wait![&[RA];
            open('B', Ann, &[RP], LO).fails(EADDRINUSE),
            open('B', Ann, &[RA], LO).ok(),
        ],
    },
    Row {
        name: "time-wait-rp-other-user",
        shows: "TIME_WAIT of an RP listener: another user's RP binds too",
        over: TCP,
        steps: after_time_wait![&[RP];
            open('B', Bob, &[], LO).fails(EADDRINUSE),
            open('B', Bob, &[RA], LO).fails(EADDRINUSE),
            open('B', Bob, &[RP], LO).ok(),
        ],
    },
    Row {
        name: "restart-gap-ra",
        shows: "RA listener closed, a connection still open: any other user's RA takes the port",
        over: TCP,
        steps: after_gap![&[RA]; open('B', Bob, &[RA], LO).ok()],
    },
    Row {
        name: "restart-gap-rp",
        shows: "RP listener closed, a connection still open: only its user's RP binds",
        over: TCP,
        steps: after_gap![&[RP];
            open('B', Bob, &[], LO).fails(EADDRINUSE),
            open('B', Bob, &[RA], LO).fails(EADDRINUSE),
            open('B', Bob, &[RP], LO).fails(EADDRINUSE),
            open('B', Bob, &[RA, RP], LO).fails(EADDRINUSE),
            open('B', Ann, &[RP], LO).ok(),
        ],
    },
    Row {
        name: "client-without-ra",
        shows: "a client bound to the port without RA: a server with RA",
        over: TCP,
        steps: &[
            open('T', Ann, &[], LO2).port(Port::Any).ok(),
            open('C', Ann, &[], LO).bound().ok(),
            connect('C', 'T').ok(),
            open('A', Ann, &[RA], LO).fails(EADDRINUSE),
        ],
    },
    Row {
        name: "client-with-ra",
        shows: "a client bound to the port with RA: a server with RP only no, with RA yes",
        over: TCP,
        steps: &[
            open('T', Ann, &[], LO2).port(Port::Any).ok(),
            open('C', Ann, &[RA], LO).bound().ok(),
            connect('C', 'T').ok(),
            open('A', Ann, &[RP], LO).fails(EADDRINUSE),
            open('A', Ann, &[RA], LO).ok(),
        ],
    },
    Row {
        name: "bound-window-ra",
        shows: "RA, bound but not listening: another user's RA listens first, listen fails",
        over: TCP,
        steps: &[
            open('A', Ann, &[RA], LO).bound().ok(),
            open('B', Bob, &[RA], LO).ok(),
            listen('A').fails(EADDRINUSE),
        ],
    },
    Row {
        name: "bound-window-ra-specific",
        shows: "RA, bound but not listening: also by a more specific address",
        over: TCP,
        steps: &[
            open('A', Ann, &[RA], ANY).bound().ok(),
            open('B', Bob, &[RA], LO).ok(),
            listen('A').fails(EADDRINUSE),
        ],
    },
    Row {
        name: "bound-window-ra-rp",
        shows: "RA and RP, bound but not listening: RP does not help where RA is set too",
        over: TCP,
        steps: &[
            open('A', Ann, &[RA, RP], LO).bound().ok(),
            open('B', Bob, &[RA], LO).ok(),
            listen('A').fails(EADDRINUSE),
        ],
    },
    Row {
        name: "bound-window-rp",
        shows: "RP only, bound but not listening: safe",
        over: TCP,
        steps: &[
            open('A', Ann, &[RP], LO).bound().ok(),
            open('B', Bob, &[RA], LO).fails(EADDRINUSE),
            open('B', Bob, &[RP], LO).fails(EADDRINUSE),
            open('B', Bob, &[RA, RP], LO).fails(EADDRINUSE),
            listen('A').ok(),
        ],
    },
    Row {
        name: "bound-window-default",
        shows: "no options, bound but not listening: safe",
        over: TCP,
        steps: &[
            open('A', Ann, &[], LO).bound().ok(),
            open('B', Bob, &[RA], LO).fails(EADDRINUSE),
            listen('A').ok(),
        ],
    },
    Row {
        name: "shutdown-listen-port-0",
        shows: "bound to port 0, shutdown, listen again: it moves to a new port",
        over: TCP,
        steps: &[
            open('A', Ann, &[], LO).port(Port::Any).ok(),
            Step::Moved('A', false),
            shutdown('A').ok(),
            listen('A').ok(),
            Step::Moved('A', true),
        ],
    },
    Row {
        name: "shutdown-listen-fixed",
        shows: "bound to a fixed port, shutdown, listen again: it stays",
        over: TCP,
        steps: &[
            open('A', Ann, &[], LO).ok(),
            shutdown('A').ok(),
            open('B', Ann, &[], LO).fails(EADDRINUSE),
            listen('A').ok(),
            Step::Moved('A', false),
        ],
    },
    Row {
        name: "close-with-queue-migrate-0",
        shows: "a member closes with connections queued, tcp_migrate_req 0: they are reset",
        over: TCP,
        steps: &[
            Step::Sysctl(MIGRATE, "0"),
            open('A', Ann, &[RP], LO).ok(),
            open('B', Ann, &[RP], LO).ok(),
            Step::Queue(40),
            close('A'),
            Step::SomeReset(true),
        ],
    },
    Row {
        name: "close-with-queue-migrate-1",
        shows: "a member closes with connections queued, tcp_migrate_req 1: none is lost",
        over: TCP,
        steps: &[
            Step::Sysctl(MIGRATE, "1"),
            open('A', Ann, &[RP], LO).ok(),
            open('B', Ann, &[RP], LO).ok(),
            Step::Queue(40),
            close('A'),
            Step::SomeReset(false),
        ],
    },
];
