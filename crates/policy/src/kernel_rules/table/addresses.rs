//! Addresses that overlap without being the same: wildcard, dual-stack, mapped, device, sibling.

use crate::kernel_rules::model::User::{Ann, Bob};
use crate::kernel_rules::model::{
    ANY, ANY6, BOTH, DEV_LO, DEV_OTHER, DUAL, EADDRINUSE, EPERM, LO, LO2, LO6, MAPPED, Opt, RA, RP,
    Row, Step, TCP, UDP, V6ONLY, accept, close, connect, open, send,
};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "wildcard-specific-rp",
        shows: "RP wildcard, then RP specific: the specific one has its address to itself",
        over: BOTH,
        steps: &[
            open('A', Ann, &[RP], ANY).ok(),
            open('B', Ann, &[RP], LO).ok(),
            send(60, LO).all_to('B'),
            send(60, LO2).all_to('A'),
        ],
    },
    Row {
        name: "wildcard-specific-rp-other-user",
        shows: "RP wildcard, then another user's RP specific",
        over: BOTH,
        steps: &[open('A', Ann, &[RP], ANY).ok(), open('B', Bob, &[RP], LO).fails(EADDRINUSE)],
    },
    Row {
        name: "wildcard-specific-ra-rp-other-user",
        shows: "RA and RP on both: another user's specific one takes the address",
        over: UDP,
        steps: &[
            open('A', Ann, &[RA, RP], ANY).ok(),
            open('B', Bob, &[RA, RP], LO).ok(),
            send(60, LO).all_to('B'),
        ],
    },
    Row {
        name: "wildcard-specific-ra-rp-other-user",
        shows: "RA and RP on both, the first listens",
        over: TCP,
        steps: &[
            open('A', Ann, &[RA, RP], ANY).ok(),
            open('B', Bob, &[RA, RP], LO).fails(EADDRINUSE),
        ],
    },
    Row {
        name: "wildcard-specific-default",
        shows: "no options: wildcard, then specific",
        over: BOTH,
        steps: &[open('A', Ann, &[], ANY).ok(), open('B', Ann, &[], LO).fails(EADDRINUSE)],
    },
    Row {
        name: "specific-wildcard-default",
        shows: "no options: specific, then wildcard",
        over: BOTH,
        steps: &[open('A', Ann, &[], LO).ok(), open('B', Ann, &[], ANY).fails(EADDRINUSE)],
    },
    Row {
        name: "dual-v4-default",
        shows: "no options: [::] dual-stack, then 0.0.0.0",
        over: BOTH,
        steps: &[open('A', Ann, &[DUAL], ANY6).ok(), open('B', Ann, &[], ANY).fails(EADDRINUSE)],
    },
    Row {
        name: "v4-dual-default",
        shows: "no options: 0.0.0.0, then [::] dual-stack",
        over: BOTH,
        steps: &[open('A', Ann, &[], ANY).ok(), open('B', Ann, &[DUAL], ANY6).fails(EADDRINUSE)],
    },
    Row {
        name: "dual-v4-rp",
        shows: "RP: [::] dual-stack, then 0.0.0.0, which takes all of IPv4",
        over: BOTH,
        steps: &[
            open('A', Ann, &[RP, DUAL], ANY6).ok(),
            open('B', Ann, &[RP], ANY).ok(),
            send(60, LO).all_to('B'),
            send(60, LO6).all_to('A'),
        ],
    },
    Row {
        name: "v4-dual-rp",
        shows: "RP: 0.0.0.0, then [::] dual-stack; IPv4 stays with the first",
        over: BOTH,
        steps: &[
            open('A', Ann, &[RP], ANY).ok(),
            open('B', Ann, &[RP, DUAL], ANY6).ok(),
            send(60, LO).all_to('A'),
            send(60, LO6).all_to('B'),
        ],
    },
    Row {
        name: "dual-v4-rp-other-user",
        shows: "RP: [::] dual-stack, then another user's 0.0.0.0",
        over: BOTH,
        steps: &[
            open('A', Ann, &[RP, DUAL], ANY6).ok(),
            open('B', Bob, &[RP], ANY).fails(EADDRINUSE),
        ],
    },
    Row {
        name: "dual-v4-ra-rp-other-user",
        shows: "RA and RP: [::] dual-stack loses 127.0.0.1 to another user",
        over: UDP,
        steps: &[
            open('A', Ann, &[RA, RP, DUAL], ANY6).ok(),
            open('B', Bob, &[RA, RP], LO).ok(),
            send(60, LO).all_to('B'),
        ],
    },
    Row {
        name: "v6only-v4",
        shows: "[::] v6-only, then another user's 0.0.0.0: separate, no options",
        over: BOTH,
        steps: &[
            open('A', Ann, &[V6ONLY], ANY6).ok(),
            open('B', Bob, &[], ANY).ok(),
            send(8, LO).all_to('B'),
            send(8, LO6).all_to('A'),
        ],
    },
    Row {
        name: "v4-v6only",
        shows: "0.0.0.0, then [::] v6-only: separate, no options",
        over: BOTH,
        steps: &[
            open('A', Ann, &[], ANY).ok(),
            open('B', Ann, &[V6ONLY], ANY6).ok(),
            send(8, LO).all_to('A'),
            send(8, LO6).all_to('B'),
        ],
    },
    Row {
        name: "mapped-under-dual-rp",
        shows: "RP: ::ffff:127.0.0.1 takes 127.0.0.1 from [::] dual-stack",
        over: BOTH,
        steps: &[
            open('A', Ann, &[RP, DUAL], ANY6).ok(),
            open('B', Ann, &[RP, DUAL], MAPPED).ok(),
            send(60, LO).all_to('B'),
            send(60, LO6).all_to('A'),
        ],
    },
    Row {
        name: "siblings",
        shows: "127.0.0.1 is held; another user takes [::1] and 127.0.0.2 without options",
        over: BOTH,
        steps: &[
            open('A', Ann, &[], LO).ok(),
            open('B', Bob, &[], LO6).ok(),
            open('C', Bob, &[], LO2).ok(),
            send(8, LO).all_to('A'),
            send(8, LO6).all_to('B'),
            send(8, LO2).all_to('C'),
        ],
    },
    Row {
        name: "device-default",
        shows: "no options: no device, then device lo",
        over: BOTH,
        steps: &[open('A', Ann, &[], ANY).ok(), open('B', Ann, &[DEV_LO], ANY).fails(EADDRINUSE)],
    },
    Row {
        name: "device-lo-other",
        shows: "device lo and another device are disjoint, whatever the user",
        over: BOTH,
        steps: &[
            open('A', Ann, &[DEV_LO], ANY).ok(),
            open('B', Bob, &[DEV_OTHER], ANY).ok(),
            send(8, LO).all_to('A'),
        ],
    },
    Row {
        name: "device-rp",
        shows: "RP: the device-bound wildcard takes everything on its device",
        over: BOTH,
        steps: &[
            open('A', Ann, &[RP], ANY).ok(),
            open('B', Ann, &[RP, DEV_LO], ANY).ok(),
            send(60, LO).all_to('B'),
        ],
    },
    Row {
        name: "device-under-specific-rp",
        shows: "RP: a specific address loses nothing to a device-bound wildcard",
        over: BOTH,
        steps: &[
            open('A', Ann, &[RP], LO).ok(),
            open('B', Ann, &[RP, DEV_LO], ANY).ok(),
            send(60, LO).all_to('A'),
            send(60, LO2).all_to('B'),
        ],
    },
    Row {
        name: "device-rp-other-user",
        shows: "RP: another user's device-bound wildcard",
        over: BOTH,
        steps: &[
            open('A', Ann, &[RP], ANY).ok(),
            open('B', Bob, &[RP, DEV_LO], ANY).fails(EADDRINUSE),
        ],
    },
    Row {
        name: "device-rp-older",
        shows: "RP: the device-bound wildcard loses to a newer one without a device",
        over: BOTH,
        steps: &[
            open('A', Ann, &[RP, DEV_LO], ANY).ok(),
            open('B', Ann, &[RP], ANY).ok(),
            send(60, LO).all_to('B'),
        ],
    },
    Row {
        name: "device-rp-v6",
        shows: "RP: of IPv6 wildcards the older one keeps everything, the device-bound one gets nothing",
        over: BOTH,
        steps: &[
            open('A', Ann, &[RP, DUAL], ANY6).ok(),
            open('B', Ann, &[RP, DUAL, DEV_LO], ANY6).ok(),
            send(60, LO6).all_to('A'),
        ],
    },
    Row {
        name: "beside-then-above",
        shows: "[::] v6-only without options: another user binds beside it, then above it, and takes it",
        over: TCP,
        steps: &[
            open('A', Ann, &[V6ONLY], ANY6).ok(),
            open('C', Bob, &[RP, DUAL, DEV_LO], ANY6).fails(EADDRINUSE),
            open('B', Bob, &[RP], ANY).ok(),
            open('C', Bob, &[RP, DUAL, DEV_LO], ANY6).ok(),
            send(60, LO6).all_to('C'),
        ],
    },
    Row {
        name: "beside-then-above-device",
        shows: "a device-bound socket without options: another user binds another device, then none",
        over: BOTH,
        steps: &[
            open('A', Ann, &[DEV_LO], ANY).ok(),
            open('C', Bob, &[RP], LO).fails(EADDRINUSE),
            open('B', Bob, &[RP, DEV_OTHER], ANY).ok(),
            open('C', Bob, &[RP], LO).ok(),
            send(60, LO).all_to('C'),
        ],
    },
    Row {
        name: "beside-then-above",
        shows: "[::] v6-only without options: another user binds beside it, then above it, and takes it",
        over: UDP,
        steps: &[
            open('A', Ann, &[V6ONLY], ANY6).ok(),
            open('C', Bob, &[RP, DUAL, DEV_LO], ANY6).fails(EADDRINUSE),
            open('B', Bob, &[RP], ANY).ok(),
            open('C', Bob, &[RP, DUAL, DEV_LO], ANY6).ok(),
            send(60, LO6).all_to('C'),
        ],
    },
    Row {
        name: "beside-then-above-v4",
        shows: "0.0.0.0 without options: another user binds beside it, and is refused above it",
        over: UDP,
        steps: &[
            open('A', Ann, &[], ANY).ok(),
            open('B', Bob, &[RP, V6ONLY], ANY6).ok(),
            open('C', Bob, &[RP, DUAL, DEV_LO], ANY6).fails(EADDRINUSE),
        ],
    },
    Row {
        name: "beside-then-above-v4",
        shows: "0.0.0.0 without options: another user binds beside it, then above it, and gets nothing",
        over: TCP,
        steps: &[
            open('A', Ann, &[], ANY).ok(),
            open('B', Bob, &[RP, V6ONLY], ANY6).ok(),
            open('C', Bob, &[RP, DUAL, DEV_LO], ANY6).ok(),
            send(60, LO).all_to('A'),
        ],
    },
    Row {
        name: "nothing-beside-dual",
        shows: "[::] dual-stack without options and device: there is no room beside it",
        over: BOTH,
        steps: &[
            open('A', Ann, &[DUAL], ANY6).ok(),
            open('B', Bob, &[RP], ANY).fails(EADDRINUSE),
            open('B', Bob, &[RP, V6ONLY], ANY6).fails(EADDRINUSE),
            open('B', Bob, &[RP], LO).fails(EADDRINUSE),
            open('B', Bob, &[RP], LO6).fails(EADDRINUSE),
            open('B', Bob, &[RP, DEV_OTHER], ANY).fails(EADDRINUSE),
            open('B', Bob, &[RP, DUAL, DEV_OTHER], ANY6).fails(EADDRINUSE),
        ],
    },
    Row {
        name: "newest-shares",
        shows: "a wildcard over one that shares and one that does not: the newest of the two decides",
        over: UDP,
        steps: &[
            open('A', Ann, &[], LO).ok(),
            open('B', Ann, &[RP], LO2).ok(),
            open('C', Ann, &[RP], ANY).ok(),
        ],
    },
    Row {
        name: "newest-does-not-share",
        shows: "a wildcard over one that shares and one that does not: the newest of the two decides",
        over: UDP,
        steps: &[
            open('B', Ann, &[RP], LO2).ok(),
            open('A', Ann, &[], LO).ok(),
            open('C', Ann, &[RP], ANY).fails(EADDRINUSE),
        ],
    },
    Row {
        name: "v6-connection-of-dual",
        shows: "an IPv6 connection that a dual-stack listener took is in the way of 0.0.0.0",
        over: TCP,
        steps: &[
            open('A', Ann, &[DUAL], ANY6).ok(),
            open('K', Ann, &[], LO6).made().ok(),
            connect('K', 'A').ok(),
            accept('S', 'A'),
            close('A'),
            open('B', Ann, &[], LO).ok(),
            close('B'),
            open('C', Ann, &[], ANY).fails(EADDRINUSE),
            close('S'),
        ],
    },
    Row {
        name: "unprivileged-options",
        shows: "without privilege: SO_BINDTODEVICE yes, IP_FREEBIND yes, IP_TRANSPARENT EPERM",
        over: TCP,
        steps: &[
            open('A', Bob, &[DEV_LO], LO).ok(),
            open('B', Bob, &[Opt::Freebind], "192.0.2.1").ok(),
            open('C', Bob, &[Opt::Transparent], LO).made().fails(EPERM),
        ],
    },
    Row {
        name: "network-namespaces",
        shows: "every network namespace has ports of its own",
        over: BOTH,
        steps: &[
            open('A', Ann, &[], LO).ok(),
            Step::NewNetwork,
            open('B', Ann, &[], LO).ok(),
            send(8, LO).all_to('B'),
        ],
    },
];
