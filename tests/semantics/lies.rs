//! Rows that are wrong on purpose, each in its last step: the runner must say that it differs there.

use sameport_policy::kernel_rules::model::User::Ann;
use sameport_policy::kernel_rules::model::{
    BOTH, EACCES, EADDRINUSE, LO, Port, RP, Row, Step, TCP, close, open, send,
};

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "refused-where-ok",
        shows: "a bind that succeeds, said to be refused",
        over: BOTH,
        steps: &[open('A', Ann, &[RP], LO).ok(), open('B', Ann, &[RP], LO).fails(EADDRINUSE)],
    },
    Row {
        name: "ok-where-refused",
        shows: "a bind that is refused, said to succeed",
        over: BOTH,
        steps: &[open('A', Ann, &[], LO).ok(), open('B', Ann, &[], LO).ok()],
    },
    Row {
        name: "another-error",
        shows: "a bind that is refused, with another error",
        over: BOTH,
        steps: &[open('A', Ann, &[], LO).ok(), open('B', Ann, &[], LO).fails(EACCES)],
    },
    Row {
        name: "all-where-shared",
        shows: "a share said to be everything",
        over: BOTH,
        steps: &[
            open('A', Ann, &[RP], LO).ok(),
            open('B', Ann, &[RP], LO).ok(),
            send(64, LO).all_to('B'),
        ],
    },
    Row {
        name: "shared-where-all",
        shows: "everything said to be shared",
        over: BOTH,
        steps: &[
            open('A', Ann, &[RP], LO).ok(),
            open('B', Ann, &[], LO).port(Port::Any).ok(),
            send(64, LO).each_of("AB"),
        ],
    },
    Row {
        name: "moved-where-stayed",
        shows: "a port that stays, said to move",
        over: BOTH,
        steps: &[open('A', Ann, &[], LO).ok(), Step::Moved('A', true)],
    },
    Row {
        name: "reset-where-none",
        shows: "a queue that stays whole, said to lose some",
        over: TCP,
        steps: &[
            open('A', Ann, &[RP], LO).ok(),
            open('B', Ann, &[], LO).port(Port::Any).ok(),
            Step::Queue(8),
            close('B'),
            Step::SomeReset(true),
        ],
    },
];
