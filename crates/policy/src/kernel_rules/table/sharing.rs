//! Two sockets on one and the same address: which options, and whose they may be.

use crate::kernel_rules::model::Proto::{Mptcp, Tcp, Udp, UdpLite};
use crate::kernel_rules::model::User::{Ann, Bob, Root};
use crate::kernel_rules::model::{BOTH, EADDRINUSE, LO, RA, RP, Row, TCP, UDP, open, send};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "default-default",
        shows: "no options on either side",
        over: BOTH,
        steps: &[
            open('A', Ann, &[], LO).ok(),
            open('B', Ann, &[], LO).fails(EADDRINUSE),
            send(8, LO).all_to('A'),
        ],
    },
    Row {
        name: "rp-first-only",
        shows: "RP only on the first",
        over: BOTH,
        steps: &[open('A', Ann, &[RP], LO).ok(), open('B', Ann, &[], LO).fails(EADDRINUSE)],
    },
    Row {
        name: "rp-second-only",
        shows: "RP only on the second",
        over: BOTH,
        steps: &[open('A', Ann, &[], LO).ok(), open('B', Ann, &[RP], LO).fails(EADDRINUSE)],
    },
    Row {
        name: "rp-rp",
        shows: "RP on both, one user: hashed over both",
        over: BOTH,
        steps: &[
            open('A', Ann, &[RP], LO).ok(),
            open('B', Ann, &[RP], LO).ok(),
            send(64, LO).each_of("AB"),
        ],
    },
    Row {
        name: "rp-rp-other-user",
        shows: "RP on both, another user",
        over: BOTH,
        steps: &[
            open('A', Ann, &[RP], LO).ok(),
            open('B', Bob, &[RP], LO).fails(EADDRINUSE),
            send(8, LO).all_to('A'),
        ],
    },
    Row {
        name: "rp-rp-root-joins-user",
        shows: "RP on both: root is not exempt",
        over: BOTH,
        steps: &[open('A', Ann, &[RP], LO).ok(), open('B', Root, &[RP], LO).fails(EADDRINUSE)],
    },
    Row {
        name: "rp-rp-user-joins-root",
        shows: "RP on both, the first is root's",
        over: BOTH,
        steps: &[open('A', Root, &[RP], LO).ok(), open('B', Ann, &[RP], LO).fails(EADDRINUSE)],
    },
    Row {
        name: "ra-ra",
        shows: "RA on both, the first listens",
        over: TCP,
        steps: &[open('A', Ann, &[RA], LO).ok(), open('B', Ann, &[RA], LO).fails(EADDRINUSE)],
    },
    Row {
        name: "ra-ra",
        shows: "RA on both: the newest takes everything",
        over: UDP,
        steps: &[
            open('A', Ann, &[RA], LO).ok(),
            open('B', Ann, &[RA], LO).ok(),
            send(60, LO).all_to('B'),
        ],
    },
    Row {
        name: "ra-ra-other-user",
        shows: "RA on both, another user, the first listens",
        over: TCP,
        steps: &[open('A', Ann, &[RA], LO).ok(), open('B', Bob, &[RA], LO).fails(EADDRINUSE)],
    },
    Row {
        name: "ra-ra-other-user",
        shows: "RA on both, any user: the newest takes everything",
        over: UDP,
        steps: &[
            open('A', Ann, &[RA], LO).ok(),
            open('B', Bob, &[RA], LO).ok(),
            send(60, LO).all_to('B'),
        ],
    },
    Row {
        name: "ra-rp-both",
        shows: "RA and RP on both, one user: RP decides, hashed over both",
        over: BOTH,
        steps: &[
            open('A', Ann, &[RA, RP], LO).ok(),
            open('B', Ann, &[RA, RP], LO).ok(),
            send(64, LO).each_of("AB"),
        ],
    },
    Row {
        name: "ra-rp-both-other-user",
        shows: "RA and RP on both, another user, the first listens",
        over: TCP,
        steps: &[
            open('A', Ann, &[RA, RP], LO).ok(),
            open('B', Bob, &[RA, RP], LO).fails(EADDRINUSE),
        ],
    },
    Row {
        name: "ra-rp-both-other-user",
        shows: "RA cancels the protection of RP: another user's newest takes everything",
        over: UDP,
        steps: &[
            open('A', Ann, &[RA, RP], LO).ok(),
            open('B', Bob, &[RA, RP], LO).ok(),
            send(60, LO).all_to('B'),
        ],
    },
    Row {
        name: "ra-rp-both-user-over-root",
        shows: "RA cancels the protection of RP: root's datagrams too",
        over: UDP,
        steps: &[
            open('A', Root, &[RA, RP], LO).ok(),
            open('B', Ann, &[RA, RP], LO).ok(),
            send(60, LO).all_to('B'),
        ],
    },
    Row {
        name: "ra-rp-both-root-over-user",
        shows: "RA cancels the protection of RP: root over a user",
        over: UDP,
        steps: &[
            open('A', Ann, &[RA, RP], LO).ok(),
            open('B', Root, &[RA, RP], LO).ok(),
            send(60, LO).all_to('B'),
        ],
    },
    Row {
        name: "ra-then-rp",
        shows: "RA on the first, RP on the second",
        over: BOTH,
        steps: &[open('A', Ann, &[RA], LO).ok(), open('B', Ann, &[RP], LO).fails(EADDRINUSE)],
    },
    Row {
        name: "rp-then-ra",
        shows: "RP on the first, RA on the second",
        over: BOTH,
        steps: &[open('A', Ann, &[RP], LO).ok(), open('B', Ann, &[RA], LO).fails(EADDRINUSE)],
    },
    Row {
        name: "shares-tcps-ports",
        shows: "MPTCP has TCP's ports",
        over: &[Mptcp],
        steps: &[open('A', Ann, &[], LO).ok(), open('B', Ann, &[], LO).over(Tcp).fails(EADDRINUSE)],
    },
    Row {
        name: "ports-of-its-own",
        shows: "UDP-Lite and UDP do not see each other",
        over: &[UdpLite],
        steps: &[open('A', Ann, &[], LO).ok(), open('B', Bob, &[], LO).over(Udp).ok()],
    },
];
