//! Different addresses on one port: wildcard, dual-stack, IPv4-mapped, device, disjoint.

use crate::dsl::*;
use crate::model::*;

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "wildcard-specific-rp",
        rule: "RP wildcard, then RP specific: the specific one receives all traffic to its address",
        protocols: BOTH,
        steps: &[
            open('A', UID_1000, &[RP], ANY).ok(),
            open('B', UID_1000, &[RP], LO).ok(),
            send(60, LO).all_to('B'),
            send(60, LO2).all_to('A'),
        ],
    },
    Row {
        name: "wildcard-specific-rp-other-user",
        rule: "RP wildcard, then another user's RP specific: refused",
        protocols: BOTH,
        steps: &[
            open('A', UID_1000, &[RP], ANY).ok(),
            open('B', UID_1001, &[RP], LO).fails(EADDRINUSE),
        ],
    },
    Row {
        name: "wildcard-specific-ra-rp-other-user",
        rule: "RA and RP on both: another user's specific address receives its traffic",
        protocols: UDP,
        steps: &[
            open('A', UID_1000, &[RA, RP], ANY).ok(),
            open('B', UID_1001, &[RA, RP], LO).ok(),
            send(60, LO).all_to('B'),
        ],
    },
    Row {
        name: "wildcard-specific-ra-rp-other-user",
        rule: "RA and RP on both, the first listens: refused",
        protocols: TCP,
        steps: &[
            open('A', UID_1000, &[RA, RP], ANY).ok(),
            open('B', UID_1001, &[RA, RP], LO).fails(EADDRINUSE),
        ],
    },
    Row {
        name: "wildcard-specific-default",
        rule: "no options: wildcard, then specific: refused",
        protocols: BOTH,
        steps: &[
            open('A', UID_1000, &[], ANY).ok(),
            open('B', UID_1000, &[], LO).fails(EADDRINUSE),
        ],
    },
    Row {
        name: "specific-wildcard-default",
        rule: "no options: specific, then wildcard: refused",
        protocols: BOTH,
        steps: &[
            open('A', UID_1000, &[], LO).ok(),
            open('B', UID_1000, &[], ANY).fails(EADDRINUSE),
        ],
    },
    Row {
        name: "dual-v4-default",
        rule: "no options: [::] dual-stack, then 0.0.0.0: refused",
        protocols: BOTH,
        steps: &[
            open('A', UID_1000, &[DUAL], ANY6).ok(),
            open('B', UID_1000, &[], ANY).fails(EADDRINUSE),
        ],
    },
    Row {
        name: "v4-dual-default",
        rule: "no options: 0.0.0.0, then [::] dual-stack: refused",
        protocols: BOTH,
        steps: &[
            open('A', UID_1000, &[], ANY).ok(),
            open('B', UID_1000, &[DUAL], ANY6).fails(EADDRINUSE),
        ],
    },
    Row {
        name: "dual-v4-rp",
        rule: "RP: [::] dual-stack, then 0.0.0.0, which receives all IPv4 traffic",
        protocols: BOTH,
        steps: &[
            open('A', UID_1000, &[RP, DUAL], ANY6).ok(),
            open('B', UID_1000, &[RP], ANY).ok(),
            send(60, LO).all_to('B'),
            send(60, LO6).all_to('A'),
        ],
    },
    Row {
        name: "v4-dual-rp",
        rule: "RP: 0.0.0.0, then [::] dual-stack: IPv4 traffic stays with the first",
        protocols: BOTH,
        steps: &[
            open('A', UID_1000, &[RP], ANY).ok(),
            open('B', UID_1000, &[RP, DUAL], ANY6).ok(),
            send(60, LO).all_to('A'),
            send(60, LO6).all_to('B'),
        ],
    },
    Row {
        name: "dual-v4-rp-other-user",
        rule: "RP: [::] dual-stack, then another user's 0.0.0.0: refused",
        protocols: BOTH,
        steps: &[
            open('A', UID_1000, &[RP, DUAL], ANY6).ok(),
            open('B', UID_1001, &[RP], ANY).fails(EADDRINUSE),
        ],
    },
    Row {
        name: "dual-v4-ra-rp-other-user",
        rule: "RA and RP: [::] dual-stack loses 127.0.0.1 to another user",
        protocols: UDP,
        steps: &[
            open('A', UID_1000, &[RA, RP, DUAL], ANY6).ok(),
            open('B', UID_1001, &[RA, RP], LO).ok(),
            send(60, LO).all_to('B'),
        ],
    },
    Row {
        name: "v6only-v4",
        rule: "no options: [::] v6-only and another user's 0.0.0.0 are disjoint",
        protocols: BOTH,
        steps: &[
            open('A', UID_1000, &[V6ONLY], ANY6).ok(),
            open('B', UID_1001, &[], ANY).ok(),
            send(8, LO).all_to('B'),
            send(8, LO6).all_to('A'),
        ],
    },
    Row {
        name: "v4-v6only",
        rule: "no options: 0.0.0.0 and [::] v6-only are disjoint",
        protocols: BOTH,
        steps: &[
            open('A', UID_1000, &[], ANY).ok(),
            open('B', UID_1000, &[V6ONLY], ANY6).ok(),
            send(8, LO).all_to('A'),
            send(8, LO6).all_to('B'),
        ],
    },
    Row {
        name: "mapped-under-dual-rp",
        rule: "RP: ::ffff:127.0.0.1 receives the traffic of 127.0.0.1 before [::] dual-stack",
        protocols: BOTH,
        steps: &[
            open('A', UID_1000, &[RP, DUAL], ANY6).ok(),
            open('B', UID_1000, &[RP, DUAL], MAPPED).ok(),
            send(60, LO).all_to('B'),
            send(60, LO6).all_to('A'),
        ],
    },
    Row {
        name: "siblings",
        rule: "no options: 127.0.0.1 leaves [::1] and 127.0.0.2 to another user",
        protocols: BOTH,
        steps: &[
            open('A', UID_1000, &[], LO).ok(),
            open('B', UID_1001, &[], LO6).ok(),
            open('C', UID_1001, &[], LO2).ok(),
            send(8, LO).all_to('A'),
            send(8, LO6).all_to('B'),
            send(8, LO2).all_to('C'),
        ],
    },
    Row {
        name: "device-default",
        rule: "no options: no device conflicts with device lo",
        protocols: BOTH,
        steps: &[
            open('A', UID_1000, &[], ANY).ok(),
            open('B', UID_1000, &[DEV_LO], ANY).fails(EADDRINUSE),
        ],
    },
    Row {
        name: "device-lo-other",
        rule: "device lo and another device are disjoint for every user",
        protocols: BOTH,
        steps: &[
            open('A', UID_1000, &[DEV_LO], ANY).ok(),
            open('B', UID_1001, &[DEV_OTHER], ANY).ok(),
            send(8, LO).all_to('A'),
        ],
    },
    Row {
        name: "device-rp",
        rule: "RP: the device-bound wildcard receives all traffic of its device",
        protocols: BOTH,
        steps: &[
            open('A', UID_1000, &[RP], ANY).ok(),
            open('B', UID_1000, &[RP, DEV_LO], ANY).ok(),
            send(60, LO).all_to('B'),
        ],
    },
    Row {
        name: "device-under-specific-rp",
        rule: "RP: a specific address comes before a device-bound wildcard",
        protocols: BOTH,
        steps: &[
            open('A', UID_1000, &[RP], LO).ok(),
            open('B', UID_1000, &[RP, DEV_LO], ANY).ok(),
            send(60, LO).all_to('A'),
            send(60, LO2).all_to('B'),
        ],
    },
    Row {
        name: "device-rp-other-user",
        rule: "RP: another user's device-bound wildcard is refused",
        protocols: BOTH,
        steps: &[
            open('A', UID_1000, &[RP], ANY).ok(),
            open('B', UID_1001, &[RP, DEV_LO], ANY).fails(EADDRINUSE),
        ],
    },
    Row {
        name: "device-rp-older",
        rule: "RP: a newer wildcard without a device comes before the device-bound one",
        protocols: BOTH,
        steps: &[
            open('A', UID_1000, &[RP, DEV_LO], ANY).ok(),
            open('B', UID_1000, &[RP], ANY).ok(),
            send(60, LO).all_to('B'),
        ],
    },
    Row {
        name: "device-rp-v6",
        rule: "RP: the older IPv6 wildcard comes before the device-bound one",
        protocols: BOTH,
        steps: &[
            open('A', UID_1000, &[RP, DUAL], ANY6).ok(),
            open('B', UID_1000, &[RP, DUAL, DEV_LO], ANY6).ok(),
            send(60, LO6).all_to('A'),
        ],
    },
    Row {
        name: "beside-then-above",
        rule: "[::] v6-only without options: another user binds 0.0.0.0, then an overlapping address, and receives all traffic",
        protocols: BOTH,
        steps: &[
            open('A', UID_1000, &[V6ONLY], ANY6).ok(),
            open('C', UID_1001, &[RP, DUAL, DEV_LO], ANY6).fails(EADDRINUSE),
            open('B', UID_1001, &[RP], ANY).ok(),
            open('C', UID_1001, &[RP, DUAL, DEV_LO], ANY6).ok(),
            send(60, LO6).all_to('C'),
        ],
    },
    Row {
        name: "beside-then-above-device",
        rule: "a device-bound socket without options: another user binds another device, then no device",
        protocols: BOTH,
        steps: &[
            open('A', UID_1000, &[DEV_LO], ANY).ok(),
            open('C', UID_1001, &[RP], LO).fails(EADDRINUSE),
            open('B', UID_1001, &[RP, DEV_OTHER], ANY).ok(),
            open('C', UID_1001, &[RP], LO).ok(),
            send(60, LO).all_to('C'),
        ],
    },
    Row {
        name: "beside-then-above-v4",
        rule: "0.0.0.0 without options: another user binds [::] v6-only, then is refused on an overlapping address",
        protocols: UDP,
        steps: &[
            open('A', UID_1000, &[], ANY).ok(),
            open('B', UID_1001, &[RP, V6ONLY], ANY6).ok(),
            open('C', UID_1001, &[RP, DUAL, DEV_LO], ANY6).fails(EADDRINUSE),
        ],
    },
    Row {
        name: "beside-then-above-v4",
        rule: "0.0.0.0 without options: another user binds [::] v6-only, then an overlapping address, and receives nothing",
        protocols: TCP,
        steps: &[
            open('A', UID_1000, &[], ANY).ok(),
            open('B', UID_1001, &[RP, V6ONLY], ANY6).ok(),
            open('C', UID_1001, &[RP, DUAL, DEV_LO], ANY6).ok(),
            send(60, LO).all_to('A'),
        ],
    },
    Row {
        name: "beside-then-above-v4-cpu",
        rule: "as before, and the overlapping socket prefers the processor of the traffic: it receives all",
        protocols: TCP,
        steps: &[
            Step::PinToCpu(0),
            open('A', UID_1000, &[], ANY).ok(),
            open('B', UID_1001, &[RP, V6ONLY], ANY6).ok(),
            open('C', UID_1001, &[RP, DUAL, DEV_LO, Opt::IncomingCpu(0)], ANY6).ok(),
            send(60, LO).all_to('C'),
            open('D', UID_1001, &[RP, DEV_LO, Opt::IncomingCpu(0)], LO).fails(EADDRINUSE),
        ],
    },
    Row {
        name: "beside-then-above-rp-cpu",
        rule: "0.0.0.0 and v6-only [::] with RP: such a socket of another user receives nothing",
        protocols: TCP,
        steps: &[
            Step::PinToCpu(0),
            open('A', UID_1000, &[RP], ANY).ok(),
            open('B', UID_1001, &[RP, V6ONLY], ANY6).ok(),
            open('C', UID_1001, &[RP, DUAL, DEV_LO, Opt::IncomingCpu(0)], ANY6).ok(),
            send(60, LO).all_to('A'),
        ],
    },
    Row {
        name: "nothing-beside-dual",
        rule: "[::] dual-stack without options and device overlaps every address of the port",
        protocols: BOTH,
        steps: &[
            open('A', UID_1000, &[DUAL], ANY6).ok(),
            open('B', UID_1001, &[RP], ANY).fails(EADDRINUSE),
            open('B', UID_1001, &[RP, V6ONLY], ANY6).fails(EADDRINUSE),
            open('B', UID_1001, &[RP], LO).fails(EADDRINUSE),
            open('B', UID_1001, &[RP], LO6).fails(EADDRINUSE),
            open('B', UID_1001, &[RP, DEV_OTHER], ANY).fails(EADDRINUSE),
            open('B', UID_1001, &[RP, DUAL, DEV_OTHER], ANY6).fails(EADDRINUSE),
        ],
    },
    Row {
        name: "newest-shares",
        rule: "a wildcard over a socket with RP and one without: the newer of the two decides",
        protocols: UDP,
        steps: &[
            open('A', UID_1000, &[], LO).ok(),
            open('B', UID_1000, &[RP], LO2).ok(),
            open('C', UID_1000, &[RP], ANY).ok(),
        ],
    },
    Row {
        name: "newest-does-not-share",
        rule: "a wildcard over a socket with RP and one without: the newer of the two decides",
        protocols: UDP,
        steps: &[
            open('B', UID_1000, &[RP], LO2).ok(),
            open('A', UID_1000, &[], LO).ok(),
            open('C', UID_1000, &[RP], ANY).fails(EADDRINUSE),
        ],
    },
    Row {
        name: "v6-connection-of-dual",
        rule: "an IPv6 connection that a dual-stack listener accepted conflicts with 0.0.0.0",
        protocols: TCP,
        steps: &[
            open('A', UID_1000, &[DUAL], ANY6).ok(),
            open('K', UID_1000, &[], LO6).unbound().ok(),
            connect('K', 'A').ok(),
            accept('S', 'A'),
            close('A'),
            open('B', UID_1000, &[], LO).ok(),
            close('B'),
            open('C', UID_1000, &[], ANY).fails(EADDRINUSE),
            close('S'),
        ],
    },
    Row {
        name: "unprivileged-options",
        rule: "without capabilities: SO_BINDTODEVICE and IP_FREEBIND succeed, IP_TRANSPARENT fails",
        protocols: TCP,
        steps: &[
            open('A', UID_1001, &[DEV_LO], LO).ok(),
            open('B', UID_1001, &[Opt::Freebind], "192.0.2.1").ok(),
            open('C', UID_1001, &[Opt::Transparent], LO).unbound().fails(EPERM),
        ],
    },
    Row {
        name: "network-namespaces",
        rule: "each network namespace has its own ports",
        protocols: BOTH,
        steps: &[
            open('A', UID_1000, &[], LO).ok(),
            Step::NewNetns,
            open('B', UID_1000, &[], LO).ok(),
            send(8, LO).all_to('B'),
        ],
    },
];
