//! The JSON of the model: the fields that programs read.

use std::time::Duration;

use sameport_policy::model::unit::container;
use sameport_policy::model::{Address, GroupPosition, Process, ProcessDetails, Protocol};
use sameport_policy::predict::{
    Conflict, Missing, ReuseFlag, TrafficEffect, TrafficOutcome, Uncertainty, UnknownFact,
};
use serde_json::{json, to_value};

fn address() -> Address {
    Address::new(Protocol::Tcp, "[::1]:80".parse().unwrap())
}

#[test]
fn a_process_has_all_fields_and_null_for_the_unknown() {
    let details = ProcessDetails {
        uid: Some(33),
        parent: Some(1),
        command: vec!["nginx".to_owned()],
        executable: Some("/usr/sbin/nginx".into()),
        directory: Some("/srv".into()),
        cgroup: Some("/system.slice/nginx.service".to_owned()),
        started: Some(Duration::from_millis(1_500)),
    };
    assert_eq!(
        to_value(Process { details: Some(details), ..Process::new(4121, "nginx") }).unwrap(),
        json!({
            "pid": 4121, "program": "nginx", "uid": 33, "parent": 1, "command": ["nginx"],
            "executable": "/usr/sbin/nginx", "directory": "/srv", "cgroup": "/system.slice/nginx.service", "started": 1,
        })
    );
    assert_eq!(
        to_value(Process::new(7, "")).unwrap(),
        json!({
            "pid": 7, "program": null, "uid": null, "parent": null, "command": null,
            "executable": null, "directory": null, "cgroup": null, "started": null,
        })
    );
}

#[test]
fn the_position_and_the_container_are_objects() {
    let position = GroupPosition { index: 1, of: 2, steered: true };
    assert_eq!(to_value(position).unwrap(), json!({ "index": 1, "of": 2, "steered": true }));
    let id = "0123456789abcdef".repeat(4);
    let cgroup = format!("/system.slice/docker-{id}.scope");
    let container = container(&cgroup).unwrap();
    assert_eq!(to_value(container).unwrap(), json!({ "engine": "docker", "id": id }));
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
