//! Inside a group: steering by a member, the order of members, size, processors, connected members.

use crate::kernel_rules::model::Opt::{IncomingCpu, Steer};
use crate::kernel_rules::model::User::{Ann, Bob};
use crate::kernel_rules::model::{
    BOTH, EADDRINUSE, LO, Port, RP, Row, Step, TCP, UDP, close, connect, open, send, set,
};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "joiner-steers",
        shows: "a joiner's classic BPF, without privilege, steers everything to itself",
        over: BOTH,
        steps: &[
            open('A', Ann, &[RP], LO).ok(),
            open('B', Ann, &[RP], LO).ok(),
            send(64, LO).each_of("AB"),
            set('B', Steer(1)).ok(),
            send(60, LO).all_to('B'),
        ],
    },
    Row {
        name: "unprivileged-joiner-steers",
        shows: "the same as a user who is certainly not privileged",
        over: BOTH,
        steps: &[
            open('A', Bob, &[RP], LO).ok(),
            open('B', Bob, &[RP], LO).ok(),
            set('B', Steer(1)).by(Bob).ok(),
            send(60, LO).all_to('B'),
        ],
    },
    Row {
        name: "order",
        shows: "index = order of joining; closing one moves the last into its place; \
                an index out of range means the hash",
        over: BOTH,
        steps: &[
            open('A', Ann, &[RP], LO).ok(),
            open('B', Ann, &[RP], LO).ok(),
            open('C', Ann, &[RP], LO).ok(),
            open('D', Ann, &[RP], LO).ok(),
            set('A', Steer(0)).ok(),
            send(8, LO).all_to('A'),
            set('A', Steer(1)).ok(),
            send(8, LO).all_to('B'),
            set('A', Steer(2)).ok(),
            send(8, LO).all_to('C'),
            set('A', Steer(3)).ok(),
            send(8, LO).all_to('D'),
            close('B'),
            set('A', Steer(1)).ok(),
            send(8, LO).all_to('D'),
            set('A', Steer(2)).ok(),
            send(8, LO).all_to('C'),
            set('A', Steer(3)).ok(),
            send(120, LO).each_of("ACD"),
            open('E', Ann, &[RP], LO).ok(),
            send(8, LO).all_to('E'),
        ],
    },
    Row {
        name: "order-first-closes",
        shows: "closing the first moves the last to index 0",
        over: BOTH,
        steps: &[
            open('A', Ann, &[RP], LO).ok(),
            open('B', Ann, &[RP], LO).ok(),
            open('C', Ann, &[RP], LO).ok(),
            close('A'),
            set('B', Steer(0)).ok(),
            send(8, LO).all_to('C'),
            set('B', Steer(1)).ok(),
            send(8, LO).all_to('B'),
        ],
    },
    Row {
        name: "size-1200",
        shows: "1200 members, and one more that is really in the group",
        over: BOTH,
        steps: &[
            Step::Many(1200),
            open('A', Ann, &[RP], LO).ok(),
            set('A', Steer(1200)).ok(),
            send(60, LO).all_to('A'),
        ],
    },
    Row {
        name: "incoming-cpu",
        shows: "SO_INCOMING_CPU: everything to the member of the processor it arrives on",
        over: TCP,
        steps: &[
            open('A', Ann, &[RP, IncomingCpu(0)], LO).ok(),
            open('B', Ann, &[RP, IncomingCpu(1)], LO).ok(),
            Step::Pin(1),
            send(60, LO).all_to('B'),
            Step::Pin(0),
            send(60, LO).all_to('A'),
        ],
    },
    Row {
        name: "connected-member",
        shows: "a connected member gets its peer's datagrams; those of others go to the other one",
        over: UDP,
        steps: &[
            open('C', Ann, &[], LO).port(Port::Any).ok(),
            open('A', Ann, &[RP], LO).ok(),
            open('B', Ann, &[RP], LO).ok(),
            connect('A', 'C').ok(),
            send(40, LO).from('C').all_to('A'),
            send(40, LO).all_to('B'),
        ],
    },
    Row {
        name: "refused-joiner",
        shows: "a refused joiner leaves the group as it was",
        over: BOTH,
        steps: &[
            open('A', Ann, &[RP], LO).ok(),
            open('B', Ann, &[RP], LO).ok(),
            open('C', Ann, &[], LO).fails(EADDRINUSE),
            send(64, LO).each_of("AB"),
        ],
    },
];
