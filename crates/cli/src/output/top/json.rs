//! A frame of `top` as JSON. Version 1: fields may be added, none changes its meaning. Null means unknown.

use sameport_policy::top::{TopGroup, TopMember, TopView};
use serde::Serialize;

use crate::operations::top::TopSample;
use crate::output::json::{line, object};

/// One line. Rates are connections a second.
pub(crate) fn frame(sample: &TopSample, view: &TopView) -> String {
    let groups: Vec<_> = view.groups(&sample.frame).into_iter().map(group_view).collect();
    line(&object! {
        version: 1,
        interval: sample.frame.since.map(|since| rounded(since.as_secs_f64())),
        // Of every port of the network namespace.
        new_per_second: sample.frame.passive_rate.map(rounded),
        groups: groups,
        complete: sample.frame.complete,
        notes: &sample.notes,
    })
}

fn group_view(group: &TopGroup) -> impl Serialize + '_ {
    let addresses: Vec<String> = group.addresses.iter().map(ToString::to_string).collect();
    let members: Vec<_> = group.members.iter().map(member_view).collect();
    object! {
        proto: group.key.protocol,
        port: group.key.port,
        addresses: addresses,
        policy: &group.policy,
        tier: group.tier,
        not_in_force: &group.not_in_force,
        new_per_second: group.opened.map(rounded),
        open: group.open,
        members: members,
    }
}

/// `exact`: whether the kernel counts new connections. `other_processes`: how many more have the sockets open.
fn member_view(member: &TopMember) -> impl Serialize + '_ {
    object! {
        run: &member.run,
        worker: member.worker,
        user: &member.user,
        pid: member.process.as_ref().map(|process| process.pid),
        program: member.process.as_ref().map(|process| &process.program),
        other_processes: member.others,
        new_per_second: member.opened.map(rounded),
        exact: member.exact,
        chosen: member.chosen(),
        open: member.open,
        queue: member.queue,
        backlog: member.backlog,
        drops: member.drops,
        restarts: member.restarts,
        weight: member.weight,
        state: member.state.name(),
    }
}

fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}
