//! The rows of a frame.

use super::*;

/// A group of this many members; member `pid` has `pid` modulo 100 open connections.
fn crowd(members: i32) -> TopFrame {
    let listeners: Vec<_> =
        (1..=members).map(|pid| tcp(pid.unsigned_abs().into(), "0.0.0.0:80", &[pid])).collect();
    let connections: Vec<_> = (1..=members)
        .flat_map(|pid| (0..pid % 100).map(move |nth| (pid, nth)))
        .zip(0..)
        .map(|((pid, _), cookie)| accepted(cookie, "127.0.0.1:80", pid))
        .collect();
    last_frame(&[look(0, &listeners, &connections)])
}

fn shown(rows: &[TopRow<'_>]) -> Vec<i32> {
    rows.iter()
        .filter_map(|row| match row {
            TopRow::Member(_, member) => Some(member.key.pid),
            _ => None,
        })
        .collect()
}

#[test]
fn a_large_group_is_folded_to_the_busiest_members() {
    let mut frame = crowd(500);
    frame.groups[0].members[0].state = TopState::Hung;
    let view = TopView { fold: Some(6), ..TopView::default() };
    let rows = view.rows(&frame);
    // In the order of names; the first needs attention.
    assert_eq!(shown(&rows), [1, 99, 199, 299, 399, 499]);
    let total: u32 = (1..=500).map(|pid| pid % 100).sum();
    assert!(matches!(rows[0], TopRow::Group(group) if group.open == Some(total)));
    assert!(matches!(rows[7], TopRow::More(_, 494, open) if open == total - 5 * 99 - 1));
    assert_eq!(rows.len(), 8);

    let unfolded = TopView { unfolded: [frame.groups[0].key].into(), ..view.clone() };
    assert_eq!(shown(&unfolded.rows(&frame)).len(), 500);
    let whole = TopView { fold: None, ..view };
    assert_eq!(shown(&whole.rows(&frame)).len(), 500);
    let exact = TopView { fold: Some(500), ..TopView::default() };
    assert_eq!(exact.rows(&frame).len(), 501);
}

#[test]
fn members_are_in_the_order_that_is_asked_for() {
    let mut frame = crowd(4);
    for (member, queue) in frame.groups[0].members.iter_mut().zip([5, 9, 0, 9]) {
        member.queue = queue;
        member.opened = (queue > 0).then_some(f64::from(queue) / 2.0);
    }
    let order = |order| shown(&TopView { order, ..TopView::default() }.rows(&frame));
    assert_eq!(order(TopOrder::Name), [1, 2, 3, 4]);
    assert_eq!(order(TopOrder::Open), [4, 3, 2, 1]);
    assert_eq!(order(TopOrder::Queue), [2, 4, 1, 3]);
    assert_eq!(order(TopOrder::Opened), [2, 4, 1, 3]);
    let mut around = TopOrder::Name;
    let names: Vec<_> = (0..4)
        .map(|_| {
            around = around.next();
            around.name()
        })
        .collect();
    assert_eq!(names, ["new", "open", "queue", "name"]);
}

#[test]
fn groups_of_one_member_are_shown_if_there_is_nothing_else() {
    let single = tcp(1, "0.0.0.0:22", &[1]);
    let pair = [tcp(2, "0.0.0.0:80", &[2]), tcp(3, "0.0.0.0:80", &[3])];
    let run = of_run(1, TopPhase::Ready, tcp(4, "0.0.0.0:90", &[4]));
    let ports = |listeners: &[TopListener], singles| {
        let frame = last_frame(&[look(0, listeners, &[])]);
        let view = TopView { singles, ..TopView::default() };
        view.groups(&frame).iter().map(|group| group.key.port).collect::<Vec<_>>()
    };
    assert_eq!(ports(std::slice::from_ref(&single), false), [22]);
    let all: Vec<_> = [single, run].into_iter().chain(pair).collect();
    assert_eq!(ports(&all, false), [80, 90]);
    assert_eq!(ports(&all, true), [22, 80, 90]);
    assert_eq!(ports(&[], false), [0; 0]);
}
