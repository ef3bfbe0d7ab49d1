//! Rows whose last step is wrong on purpose: the runner must report a difference there.

use crate::dsl::*;
use crate::model::*;

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "refused-instead-of-ok",
        rule: "a bind that succeeds",
        protocols: BOTH,
        steps: &[
            open('A', UID_1000, &[RP], LO).ok(),
            open('B', UID_1000, &[RP], LO).fails(EADDRINUSE),
        ],
    },
    Row {
        name: "ok-instead-of-refused",
        rule: "a bind that fails",
        protocols: BOTH,
        steps: &[open('A', UID_1000, &[], LO).ok(), open('B', UID_1000, &[], LO).ok()],
    },
    Row {
        name: "another-error",
        rule: "a bind that fails with another error",
        protocols: BOTH,
        steps: &[open('A', UID_1000, &[], LO).ok(), open('B', UID_1000, &[], LO).fails(EACCES)],
    },
    Row {
        name: "all-instead-of-shared",
        rule: "traffic that two sockets share",
        protocols: BOTH,
        steps: &[
            open('A', UID_1000, &[RP], LO).ok(),
            open('B', UID_1000, &[RP], LO).ok(),
            send(64, LO).all_to('B'),
        ],
    },
    Row {
        name: "shared-instead-of-all",
        rule: "traffic that one socket receives",
        protocols: BOTH,
        steps: &[
            open('A', UID_1000, &[RP], LO).ok(),
            open('B', UID_1000, &[], LO).port(Port::Any).ok(),
            send(64, LO).each_of("AB"),
        ],
    },
    Row {
        name: "changed-instead-of-same-port",
        rule: "a port that does not change",
        protocols: BOTH,
        steps: &[open('A', UID_1000, &[], LO).ok(), Step::PortChanged('A', true)],
    },
    Row {
        name: "reset-instead-of-accepted",
        rule: "a queue without resets",
        protocols: TCP,
        steps: &[
            open('A', UID_1000, &[RP], LO).ok(),
            open('B', UID_1000, &[], LO).port(Port::Any).ok(),
            Step::QueueConnections(8),
            close('B'),
            Step::QueueReset(true),
        ],
    },
];
