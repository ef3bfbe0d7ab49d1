//! Who may have a port at all: privilege, ports that the kernel does not give away by itself.

use crate::kernel_rules::model::User::{Ann, Root};
use crate::kernel_rules::model::{
    BOTH, EACCES, EADDRINUSE, LO, Port, RP, Row, Step, TCP, listen, open,
};

const FIRST: &str = "net/ipv4/ip_unprivileged_port_start";
const RESERVED: &str = "net/ipv4/ip_local_reserved_ports";
/// From which the kernel picks: where there is one port, it has no choice.
const RANGE: &str = "net/ipv4/ip_local_port_range";

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "unprivileged-port-start",
        shows: "a port below ip_unprivileged_port_start is for privileged users only",
        over: BOTH,
        steps: &[
            Step::Sysctl(FIRST, "7071"),
            open('A', Ann, &[], LO).fails(EACCES),
            open('A', Root, &[RP], LO).ok(),
            open('B', Ann, &[RP], LO).fails(EACCES),
        ],
    },
    Row {
        name: "listen-without-bind",
        shows: "listen without bind takes a port of the range that the kernel picks from",
        over: TCP,
        steps: &[
            Step::Sysctl(RANGE, "7070 7070"),
            open('A', Ann, &[], LO).made().ok(),
            listen('A').ok(),
            open('B', Ann, &[], LO).fails(EADDRINUSE),
        ],
    },
    Row {
        name: "reserved-port-not-picked",
        shows: "a port in ip_local_reserved_ports is never picked, by listen neither",
        over: TCP,
        steps: &[
            Step::Sysctl(RANGE, "7070 7070"),
            Step::Sysctl(RESERVED, "7070"),
            open('A', Ann, &[], LO).port(Port::Any).fails(EADDRINUSE),
            open('B', Ann, &[], LO).made().ok(),
            listen('B').fails(EADDRINUSE),
        ],
    },
    Row {
        name: "reserved-port-asked-for",
        shows: "a port in ip_local_reserved_ports is anybody's who asks for it",
        over: BOTH,
        steps: &[Step::Sysctl(RESERVED, "7070"), open('A', Ann, &[], LO).ok()],
    },
];
