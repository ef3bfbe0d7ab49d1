//! The JSON of the model: the fields that programs read.

use std::time::Duration;

use sameport_policy::model::{
    Address, GroupPosition, Member, Process, ProcessDetails, Protocol, Socket, SocketOptions,
};
use sameport_policy::predict::{
    Conflict, Missing, ReuseFlag, TrafficEffect, TrafficOutcome, Uncertainty, UnknownFact,
};
use serde_json::{json, to_value};

fn address() -> Address {
    Address::new(Protocol::Tcp, "[::1]:80".parse().unwrap())
}

#[test]
fn a_member_has_all_fields_and_null_for_the_unknown() {
    let unknown = Member::new(Socket::new(address(), 7, 1000));
    assert_eq!(
        to_value(&unknown).unwrap(),
        json!({
            "pids": [], "program": null, "user": null, "uid": 1000, "private": false, "inode": 7,
            "shared": null, "queue": 0, "backlog": 0, "state": "waiting", "cookie": null,
            "drops": null, "transparent": null, "freebind": null, "options": null,
            "position": null, "cgroup": null, "unit": null, "container": null, "processes": [],
        })
    );
    let details = ProcessDetails {
        uid: Some(33),
        parent: Some(1),
        command: vec!["nginx".to_owned()],
        executable: Some("/usr/sbin/nginx".into()),
        cgroup: Some("/system.slice/nginx.service".to_owned()),
        started: Some(Duration::from_millis(1_500)),
    };
    let id = "0123456789abcdef".repeat(4);
    let known = Member {
        processes: vec![Process { details: Some(details), ..Process::new(4121, "nginx") }],
        options: Some(SocketOptions { freebind: true, ..SocketOptions::default() }),
        position: Some(GroupPosition { index: 1, of: 2, steered: true }),
        cgroup: Some(format!("/system.slice/docker-{id}.scope")),
        ..unknown
    };
    let json = to_value(&known).unwrap();
    assert_eq!(json["pids"], json!([4121]));
    assert_eq!((&json["transparent"], &json["freebind"]), (&json!(false), &json!(true)));
    assert_eq!(json["position"], json!({ "index": 1, "of": 2, "steered": true }));
    assert_eq!(json["container"], json!({ "engine": "docker", "id": id }));
    assert_eq!(
        json["processes"],
        json!([{
            "pid": 4121, "program": "nginx", "uid": 33, "parent": 1, "command": ["nginx"],
            "executable": "/usr/sbin/nginx", "cgroup": "/system.slice/nginx.service", "started": 1,
        }])
    );
}

#[test]
fn an_address_is_four_fields() {
    let on_lo = Address { device: Some("lo".to_owned()), ..address() };
    assert_eq!(
        to_value(&on_lo).unwrap(),
        json!({ "proto": "tcp", "address": "[::1]:80", "v6only": false, "device": "lo" })
    );
}

#[test]
fn a_prediction_is_lists_of_words() {
    let share_lacks = Missing { ours: true, theirs: false, same_user: true };
    assert_eq!(
        to_value(Conflict { index: 0, share_lacks, reuse_lacks: None }).unwrap(),
        json!({ "share_lacks": ["ours", "same-user"], "reuse_lacks": null })
    );
    let unknown = UnknownFact::V6onlyOrAnySet(vec![ReuseFlag::ReuseAddress]);
    assert_eq!(
        to_value(Uncertainty { index: 0, unknown }).unwrap(),
        json!(["reuse_address", "v6only"])
    );
    let effect = TrafficEffect { index: 0, address: address(), outcome: TrafficOutcome::Taken };
    assert_eq!(to_value(&effect).unwrap(), json!({ "on": "[::1]:80", "outcome": "taken" }));
}
