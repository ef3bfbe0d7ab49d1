//! Listeners that accept nothing.

use super::*;

/// The queues of three listeners and the cookies that wait on their port, at second 0 and at a later one; which
/// listeners are hung.
type StallCase<'a> = (&'a str, u64, ([u32; 3], &'a [u64]), ([u32; 3], &'a [u64]), [bool; 3]);

#[test]
fn a_listener_whose_queue_stays_is_hung() {
    let cases: [StallCase<'_>; 10] = [
        ("empty", 1, ([0, 0, 0], &[]), ([0, 0, 0], &[]), [false; 3]),
        ("stays", 1, ([2, 0, 0], &[1, 2]), ([2, 0, 0], &[1, 2]), [true, false, false]),
        ("grows", 1, ([2, 0, 0], &[1, 2]), ([3, 0, 0], &[1, 2, 3]), [true, false, false]),
        ("not long", 0, ([2, 0, 0], &[1, 2]), ([2, 0, 0], &[1, 2]), [false; 3]),
        ("shrinks", 1, ([2, 0, 0], &[1, 2]), ([1, 0, 0], &[2]), [false; 3]),
        (
            "accepts, and is as full as before",
            1,
            ([2, 0, 0], &[1, 2]),
            ([2, 0, 0], &[2, 3]),
            [false; 3],
        ),
        (
            "one of two accepts",
            1,
            ([2, 1, 0], &[1, 2, 3]),
            ([2, 0, 0], &[1, 2]),
            [true, false, false],
        ),
        ("two are hung", 1, ([1, 1, 0], &[1, 2]), ([1, 1, 0], &[1, 2]), [true, true, false]),
        // One of the two accepted, and it is not known which.
        ("one is busy", 1, ([1, 1, 0], &[1, 2]), ([1, 1, 0], &[1, 3]), [false; 3]),
        ("newly filled", 1, ([0, 0, 0], &[]), ([2, 0, 0], &[1, 2]), [false; 3]),
    ];
    for (case, seconds, then, now, expected) in cases {
        let at = |seconds, (queues, cookies): ([u32; 3], &[u64])| {
            let listeners: Vec<_> = [1_i32, 2, 3]
                .into_iter()
                .zip(queues)
                .map(|(pid, queue)| {
                    queued(queue, tcp(pid.unsigned_abs().into(), "0.0.0.0:80", &[pid]))
                })
                .collect();
            let waits: Vec<_> = cookies.iter().map(|it| waiting(*it, "127.0.0.1:80")).collect();
            look(seconds, &listeners, &waits)
        };
        let frame = last_frame(&[at(0, then), at(seconds, now)]);
        let hung: Vec<_> =
            only_group(&frame).members.iter().map(|it| it.state == TopState::Hung).collect();
        assert_eq!(hung, expected, "{case}");
        assert!(only_group(&frame).members.iter().all(|it| it.open == Some(0)), "{case}");
    }
}

#[test]
fn a_stall_is_seen_with_short_intervals_too() {
    let at = |tenths: u64| TopLook {
        at: Duration::from_millis(tenths * 100),
        ..look(0, &[queued(1, tcp(1, "0.0.0.0:80", &[4]))], &[waiting(1, "127.0.0.1:80")])
    };
    let mut history = TopHistory::default();
    let states: Vec<_> =
        (0..15).map(|tenths| history.add(&at(tenths)).groups[0].members[0].state).collect();
    let first = states.iter().position(|state| *state == TopState::Hung);
    assert_eq!(first, Some(10));
    assert!(states[10..].iter().all(|state| *state == TopState::Hung));
}
