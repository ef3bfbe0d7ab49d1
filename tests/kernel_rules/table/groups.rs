//! Inside a group: steering, the order of members, size, processors, connected members.

use crate::dsl::*;
use crate::model::Opt::{IncomingCpu, Steer};
use crate::model::*;

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "joiner-steers",
        rule: "a new member's classic BPF program, without capabilities, steers everything to that member",
        protocols: BOTH,
        steps: &[
            open('A', UID_1000, &[RP], LO).ok(),
            open('B', UID_1000, &[RP], LO).ok(),
            send(64, LO).each_of("AB"),
            set('B', Steer(1)).ok(),
            send(60, LO).all_to('B'),
        ],
    },
    Row {
        name: "unprivileged-joiner-steers",
        rule: "the same as a user without capabilities",
        protocols: BOTH,
        steps: &[
            open('A', UID_1001, &[RP], LO).ok(),
            open('B', UID_1001, &[RP], LO).ok(),
            set('B', Steer(1)).by(UID_1001).ok(),
            send(60, LO).all_to('B'),
        ],
    },
    Row {
        name: "order",
        rule: "the index is the order of joining; a close moves the last member into the gap; \
               an index out of range selects by hash",
        protocols: BOTH,
        steps: &[
            open('A', UID_1000, &[RP], LO).ok(),
            open('B', UID_1000, &[RP], LO).ok(),
            open('C', UID_1000, &[RP], LO).ok(),
            open('D', UID_1000, &[RP], LO).ok(),
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
            open('E', UID_1000, &[RP], LO).ok(),
            send(8, LO).all_to('E'),
        ],
    },
    Row {
        name: "order-first-closes",
        rule: "closing the first moves the last to index 0",
        protocols: BOTH,
        steps: &[
            open('A', UID_1000, &[RP], LO).ok(),
            open('B', UID_1000, &[RP], LO).ok(),
            open('C', UID_1000, &[RP], LO).ok(),
            close('A'),
            set('B', Steer(0)).ok(),
            send(8, LO).all_to('C'),
            set('B', Steer(1)).ok(),
            send(8, LO).all_to('B'),
        ],
    },
    Row {
        name: "size-1200",
        rule: "a group of 1200 members takes one more",
        protocols: BOTH,
        steps: &[
            Step::OpenMembers(1200),
            open('A', UID_1000, &[RP], LO).ok(),
            set('A', Steer(1200)).ok(),
            send(60, LO).all_to('A'),
        ],
    },
    Row {
        name: "incoming-cpu",
        rule: "SO_INCOMING_CPU selects the member of the processor on which the packet arrives",
        protocols: TCP,
        steps: &[
            open('A', UID_1000, &[RP, IncomingCpu(0)], LO).ok(),
            open('B', UID_1000, &[RP, IncomingCpu(1)], LO).ok(),
            Step::PinToCpu(1),
            send(60, LO).all_to('B'),
            Step::PinToCpu(0),
            send(60, LO).all_to('A'),
        ],
    },
    Row {
        name: "connected-member",
        rule: "a connected member receives its peer's datagrams only",
        protocols: UDP,
        steps: &[
            open('C', UID_1000, &[], LO).port(Port::Any).ok(),
            open('A', UID_1000, &[RP], LO).ok(),
            open('B', UID_1000, &[RP], LO).ok(),
            connect('A', 'C').ok(),
            send(40, LO).from('C').all_to('A'),
            send(40, LO).all_to('B'),
        ],
    },
    Row {
        name: "refused-joiner",
        rule: "a refused bind leaves the group unchanged",
        protocols: BOTH,
        steps: &[
            open('A', UID_1000, &[RP], LO).ok(),
            open('B', UID_1000, &[RP], LO).ok(),
            open('C', UID_1000, &[], LO).fails(EADDRINUSE),
            send(64, LO).each_of("AB"),
        ],
    },
];
