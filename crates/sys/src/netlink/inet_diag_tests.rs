//! The reader against what a kernel sent, against cut and altered copies of it, and against noise.

use std::net::{IpAddr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

fn frame(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(u32::try_from(HEADER + payload.len()).unwrap().to_ne_bytes());
    frame.extend(kind.to_ne_bytes());
    frame.extend(flags.to_ne_bytes());
    frame.extend(sequence.to_ne_bytes());
    frame.extend(0_u32.to_ne_bytes());
    frame.extend(payload);
    frame.resize(frame.len().next_multiple_of(4), 0);
    frame
}

/// A listener as Linux 6.18 tells it: `[::]:8080` with `IPV6_V6ONLY`, on interface 2, two of five
/// waiting, uid 1000, inode 4242; one attribute before the wanted one.
fn listener() -> Vec<u8> {
    let mut entry = vec![0; ENTRY];
    entry[0] = 10;
    entry[1] = 10;
    entry[4..6].copy_from_slice(&8080_u16.to_be_bytes());
    entry[40..44].copy_from_slice(&2_u32.to_ne_bytes());
    entry[44..48].copy_from_slice(&7_u32.to_ne_bytes());
    entry[48..52].copy_from_slice(&1_u32.to_ne_bytes());
    entry[52..56].copy_from_slice(&9_u32.to_ne_bytes());
    entry[56..60].copy_from_slice(&2_u32.to_ne_bytes());
    entry[60..64].copy_from_slice(&5_u32.to_ne_bytes());
    entry[64..68].copy_from_slice(&1000_u32.to_ne_bytes());
    entry[68..72].copy_from_slice(&4242_u32.to_ne_bytes());
    for (kind, value) in [(8_u16, 0_u8), (INET_DIAG_SKV6ONLY, 1)] {
        entry.extend(5_u16.to_ne_bytes());
        entry.extend(kind.to_ne_bytes());
        entry.extend([value, 0, 0, 0]);
    }
    entry.extend(12_u16.to_ne_bytes());
    entry.extend(INET_DIAG_CGROUP_ID.to_ne_bytes());
    entry.extend((1_u64 << 32 | 77).to_ne_bytes());
    entry.extend(40_u16.to_ne_bytes());
    entry.extend(INET_DIAG_SKMEMINFO.to_ne_bytes());
    for count in [0, 131_072, 0, 16_384, 0, 0, 0, 0, 3_u32] {
        entry.extend(count.to_ne_bytes());
    }
    // recverr is_icsk FREEBIND hdrincl mc_loop transparent mc_all nodefrag, the lowest bit first.
    let bits = 0b0101_0110_u8;
    let bits = if cfg!(target_endian = "little") { bits } else { bits.reverse_bits() };
    entry.extend(6_u16.to_ne_bytes());
    entry.extend(INET_DIAG_SOCKOPT.to_ne_bytes());
    entry.extend([bits, 0, 0, 0]);
    entry
}

fn answer() -> Vec<u8> {
    let mut bytes = frame(SOCK_DIAG_BY_FAMILY, 2, 1, &listener());
    bytes.extend(frame(NLMSG_DONE, 2, 1, &0_i32.to_ne_bytes()));
    bytes
}

#[test]
fn reads_every_field_of_a_listener() {
    let frames: Vec<_> = frames(&answer()).map(Result::unwrap).collect();
    let FrameBody::Socket(DiagSocket { id, .. }) = frames[0].body else { panic!() };
    assert_eq!((id.family, &id.id[..2]), (10, &8080_u16.to_be_bytes()[..]));
    let expected = DiagSocket {
        id,
        state: 10,
        ip: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        port: 8080,
        peer_ip: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        peer_port: 0,
        interface: 2,
        cookie: 1 << 32 | 7,
        expires: 9,
        receive_queue: 2,
        send_queue: 5,
        uid: 1000,
        inode: 4242,
        v6only: true,
        cgroup: Some(1 << 32 | 77),
        drops: Some(3),
        transparent: Some(false),
        freebind: Some(true),
        traffic: None,
    };
    assert_eq!(frames.len(), 2);
    assert_eq!(frames[0].body, FrameBody::Socket(expected));
    assert_eq!(frames[1].body, FrameBody::Done(0));
    assert!(frames.iter().all(|frame| frame.sequence == 1 && !frame.interrupted));
}

#[test]
fn reads_ends_refusals_and_interruptions() {
    let refusal = |errno: i32| (-errno).to_ne_bytes();
    let cases = [
        (frame(NLMSG_DONE, 0, 1, &[]), FrameBody::Done(0)),
        (frame(NLMSG_DONE, 0, 1, &refusal(4)), FrameBody::Done(4)),
        (frame(NLMSG_ERROR, 0, 1, &refusal(2)), FrameBody::Refused(2)),
        (frame(NLMSG_ERROR, 0, 1, &refusal(0)), FrameBody::Refused(0)),
        (frame(NLMSG_ERROR, 0, 1, &i32::MIN.to_ne_bytes()), FrameBody::Refused(i32::MAX)),
        (frame(NLMSG_OVERRUN, 0, 1, &[]), FrameBody::Overrun),
        (frame(NLMSG_NOOP, 0, 1, &[1, 2, 3]), FrameBody::Nothing),
        (frame(999, 0, 1, &[]), FrameBody::Nothing),
    ];
    for (bytes, body) in cases {
        let read: Vec<_> = frames(&bytes).collect();
        assert_eq!(read, [Ok(NetlinkFrame { sequence: 1, interrupted: false, body })]);
    }
    let interrupted = frame(NLMSG_DONE, NLM_F_DUMP_INTR, 1, &[]);
    assert!(frames(&interrupted).next().unwrap().unwrap().interrupted);
}

#[test]
fn refuses_what_is_no_frame() {
    let mut short = listener();
    short.truncate(ENTRY - 1);
    let mut stranger = listener();
    stranger[0] = 1;
    let too_long = [&200_u32.to_ne_bytes()[..], &[0; 60]].concat();
    let cases = [
        vec![0],
        vec![0; HEADER],
        vec![0xff; HEADER],
        too_long,
        frame(SOCK_DIAG_BY_FAMILY, 0, 1, &short),
        frame(SOCK_DIAG_BY_FAMILY, 0, 1, &stranger),
        frame(NLMSG_ERROR, 0, 1, &[1]),
    ];
    for bytes in cases {
        assert_eq!(frames(&bytes).collect::<Vec<_>>(), [Err(MalformedReply)], "{bytes:?}");
    }
}

#[test]
fn what_a_kernel_does_not_send_is_unknown() {
    let first = |payload: &[u8]| {
        let bytes = frame(SOCK_DIAG_BY_FAMILY, 0, 1, payload);
        match frames(&bytes).next().unwrap().unwrap().body {
            FrameBody::Socket(entry) => entry,
            other => panic!("{other:?}"),
        }
    };
    let bare = first(&listener()[..ENTRY]);
    assert_eq!((bare.cgroup, bare.drops), (None, None));
    assert_eq!((bare.transparent, bare.freebind), (None, None));

    // An array without the drops, an option without a value, and a length that runs past the end.
    let attribute = |kind: u16, length: usize, value: &[u8]| {
        let mut payload = listener()[..ENTRY].to_vec();
        payload.extend(u16::try_from(length).unwrap().to_ne_bytes());
        payload.extend(kind.to_ne_bytes());
        payload.extend(value);
        first(&payload)
    };
    assert_eq!(attribute(INET_DIAG_SKMEMINFO, 36, &[1; 32]).drops, None);
    assert_eq!(attribute(INET_DIAG_SKMEMINFO, 39, &[1; 35]).drops, None);
    assert_eq!(attribute(INET_DIAG_SKMEMINFO, 400, &[1; 36]).drops, None);
    assert_eq!(attribute(INET_DIAG_SKMEMINFO, 40, &[1; 36]).drops, Some(0x0101_0101));
    assert_eq!(attribute(INET_DIAG_SOCKOPT, 4, &[]).freebind, None);
    assert_eq!(attribute(INET_DIAG_CGROUP_ID, 11, &[1; 8]).cgroup, None);
}

#[test]
fn every_cut_of_an_answer_is_noticed() {
    let whole = answer();
    let first = frame(SOCK_DIAG_BY_FAMILY, 2, 1, &listener()).len();
    for end in 1..whole.len() {
        let read: Vec<_> = frames(&whole[..end]).collect();
        let complete = end == first;
        assert_eq!(read.last().unwrap().is_ok(), complete, "cut after {end} bytes");
    }
}

proptest! {
    #[test]
    fn noise_ends_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(frames(&bytes).count() <= bytes.len() / HEADER + 1);
    }

    #[test]
    fn altered_answers_end_without_a_panic(
        changes in proptest::collection::vec((0..512_usize, any::<u8>()), 1..8)
    ) {
        let mut bytes = answer();
        for (at, value) in changes {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        prop_assert!(frames(&bytes).count() <= bytes.len() / HEADER + 1);
    }
}
