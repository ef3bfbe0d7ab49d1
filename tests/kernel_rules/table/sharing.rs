//! Two sockets on the same address: which options and owners can share it.

use crate::dsl::*;
use crate::model::Proto::{Mptcp, Tcp, Udp, UdpLite};
use crate::model::*;

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "default-default",
        rule: "no options on either socket: refused",
        protocols: BOTH,
        steps: &[
            open('A', UID_1000, &[], LO).ok(),
            open('B', UID_1000, &[], LO).fails(EADDRINUSE),
            send(8, LO).all_to('A'),
        ],
    },
    Row {
        name: "rp-first-only",
        rule: "RP only on the first: refused",
        protocols: BOTH,
        steps: &[
            open('A', UID_1000, &[RP], LO).ok(),
            open('B', UID_1000, &[], LO).fails(EADDRINUSE),
        ],
    },
    Row {
        name: "rp-second-only",
        rule: "RP only on the second: refused",
        protocols: BOTH,
        steps: &[
            open('A', UID_1000, &[], LO).ok(),
            open('B', UID_1000, &[RP], LO).fails(EADDRINUSE),
        ],
    },
    Row {
        name: "rp-rp",
        rule: "RP on both, one user: traffic is hashed over both",
        protocols: BOTH,
        steps: &[
            open('A', UID_1000, &[RP], LO).ok(),
            open('B', UID_1000, &[RP], LO).ok(),
            send(64, LO).each_of("AB"),
        ],
    },
    Row {
        name: "rp-rp-other-user",
        rule: "RP on both, another user: refused",
        protocols: BOTH,
        steps: &[
            open('A', UID_1000, &[RP], LO).ok(),
            open('B', UID_1001, &[RP], LO).fails(EADDRINUSE),
            send(8, LO).all_to('A'),
        ],
    },
    Row {
        name: "rp-rp-root-joins-user",
        rule: "RP on both: root cannot join a user's group",
        protocols: BOTH,
        steps: &[open('A', UID_1000, &[RP], LO).ok(), open('B', ROOT, &[RP], LO).fails(EADDRINUSE)],
    },
    Row {
        name: "rp-rp-user-joins-root",
        rule: "RP on both: a user cannot join root's group",
        protocols: BOTH,
        steps: &[open('A', ROOT, &[RP], LO).ok(), open('B', UID_1000, &[RP], LO).fails(EADDRINUSE)],
    },
    Row {
        name: "ra-ra",
        rule: "RA on both, the first listens: refused",
        protocols: TCP,
        steps: &[
            open('A', UID_1000, &[RA], LO).ok(),
            open('B', UID_1000, &[RA], LO).fails(EADDRINUSE),
        ],
    },
    Row {
        name: "ra-ra",
        rule: "RA on both: the newest receives everything",
        protocols: UDP,
        steps: &[
            open('A', UID_1000, &[RA], LO).ok(),
            open('B', UID_1000, &[RA], LO).ok(),
            send(60, LO).all_to('B'),
        ],
    },
    Row {
        name: "ra-ra-other-user",
        rule: "RA on both, another user, the first listens: refused",
        protocols: TCP,
        steps: &[
            open('A', UID_1000, &[RA], LO).ok(),
            open('B', UID_1001, &[RA], LO).fails(EADDRINUSE),
        ],
    },
    Row {
        name: "ra-ra-other-user",
        rule: "RA on both, another user: the newest receives everything",
        protocols: UDP,
        steps: &[
            open('A', UID_1000, &[RA], LO).ok(),
            open('B', UID_1001, &[RA], LO).ok(),
            send(60, LO).all_to('B'),
        ],
    },
    Row {
        name: "ra-rp-both",
        rule: "RA and RP on both, one user: traffic is hashed over both",
        protocols: BOTH,
        steps: &[
            open('A', UID_1000, &[RA, RP], LO).ok(),
            open('B', UID_1000, &[RA, RP], LO).ok(),
            send(64, LO).each_of("AB"),
        ],
    },
    Row {
        name: "ra-rp-both-other-user",
        rule: "RA and RP on both, another user, the first listens: refused",
        protocols: TCP,
        steps: &[
            open('A', UID_1000, &[RA, RP], LO).ok(),
            open('B', UID_1001, &[RA, RP], LO).fails(EADDRINUSE),
        ],
    },
    Row {
        name: "ra-rp-both-other-user",
        rule: "RA cancels the protection of RP: another user's newer socket receives everything",
        protocols: UDP,
        steps: &[
            open('A', UID_1000, &[RA, RP], LO).ok(),
            open('B', UID_1001, &[RA, RP], LO).ok(),
            send(60, LO).all_to('B'),
        ],
    },
    Row {
        name: "ra-rp-both-user-over-root",
        rule: "RA cancels the protection of RP: a user receives root's datagrams",
        protocols: UDP,
        steps: &[
            open('A', ROOT, &[RA, RP], LO).ok(),
            open('B', UID_1000, &[RA, RP], LO).ok(),
            send(60, LO).all_to('B'),
        ],
    },
    Row {
        name: "ra-rp-both-root-over-user",
        rule: "RA cancels the protection of RP: root receives a user's datagrams",
        protocols: UDP,
        steps: &[
            open('A', UID_1000, &[RA, RP], LO).ok(),
            open('B', ROOT, &[RA, RP], LO).ok(),
            send(60, LO).all_to('B'),
        ],
    },
    Row {
        name: "ra-then-rp",
        rule: "RA on the first, RP on the second: refused",
        protocols: BOTH,
        steps: &[
            open('A', UID_1000, &[RA], LO).ok(),
            open('B', UID_1000, &[RP], LO).fails(EADDRINUSE),
        ],
    },
    Row {
        name: "rp-then-ra",
        rule: "RP on the first, RA on the second: refused",
        protocols: BOTH,
        steps: &[
            open('A', UID_1000, &[RP], LO).ok(),
            open('B', UID_1000, &[RA], LO).fails(EADDRINUSE),
        ],
    },
    Row {
        name: "shares-tcps-ports",
        rule: "MPTCP and TCP have the same ports",
        protocols: &[Mptcp],
        steps: &[
            open('A', UID_1000, &[], LO).ok(),
            open('B', UID_1000, &[], LO).proto(Tcp).fails(EADDRINUSE),
        ],
    },
    Row {
        name: "ports-of-its-own",
        rule: "UDP-Lite and UDP have separate ports",
        protocols: &[UdpLite],
        steps: &[open('A', UID_1000, &[], LO).ok(), open('B', UID_1001, &[], LO).proto(Udp).ok()],
    },
];
