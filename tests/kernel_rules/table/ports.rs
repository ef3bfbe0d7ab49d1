//! Privileged, ephemeral and reserved ports.

use crate::dsl::*;
use crate::model::*;

const UNPRIVILEGED_START: &str = "net/ipv4/ip_unprivileged_port_start";
const RESERVED_PORTS: &str = "net/ipv4/ip_local_reserved_ports";
/// The ephemeral ports. A range of one port makes the kernel's choice predictable.
const EPHEMERAL_RANGE: &str = "net/ipv4/ip_local_port_range";

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "unprivileged-port-start",
        rule: "a port below ip_unprivileged_port_start needs CAP_NET_BIND_SERVICE",
        protocols: BOTH,
        steps: &[
            Step::Sysctl(UNPRIVILEGED_START, "7071"),
            open('A', UID_1000, &[], LO).fails(EACCES),
            open('A', ROOT, &[RP], LO).ok(),
            open('B', UID_1000, &[RP], LO).fails(EACCES),
        ],
    },
    Row {
        name: "listen-without-bind",
        rule: "listen without bind binds an ephemeral port",
        protocols: TCP,
        steps: &[
            Step::Sysctl(EPHEMERAL_RANGE, "7070 7070"),
            open('A', UID_1000, &[], LO).unbound().ok(),
            listen('A').ok(),
            open('B', UID_1000, &[], LO).fails(EADDRINUSE),
        ],
    },
    Row {
        name: "reserved-port-not-picked",
        rule: "the kernel never picks a port of ip_local_reserved_ports, neither in bind nor in listen",
        protocols: TCP,
        steps: &[
            Step::Sysctl(EPHEMERAL_RANGE, "7070 7070"),
            Step::Sysctl(RESERVED_PORTS, "7070"),
            open('A', UID_1000, &[], LO).port(Port::Any).fails(EADDRINUSE),
            open('B', UID_1000, &[], LO).unbound().ok(),
            listen('B').fails(EADDRINUSE),
        ],
    },
    Row {
        name: "reserved-port-asked-for",
        rule: "every user can bind a port of ip_local_reserved_ports explicitly",
        protocols: BOTH,
        steps: &[Step::Sysctl(RESERVED_PORTS, "7070"), open('A', UID_1000, &[], LO).ok()],
    },
];
