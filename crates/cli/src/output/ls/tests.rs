//! The listing as people and programs read it.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use sameport_policy::holder::HolderFacts;
use sameport_policy::model::{
    Address, Group, GroupPosition, ProcessDetails, Socket, SocketOptions,
};
use serde_json::{Value, json};

use super::*;
use crate::output::ls::json as listing_json;

fn member(address: &Address, pids: &[i32], shared: Option<bool>) -> Member {
    let socket = Socket { backlog: 5, ..Socket::new(address.clone(), 123, 1000) };
    let processes = pids.iter().map(|pid| Process::new(*pid, "python3")).collect();
    Member { processes, user: Some("ann".into()), shared, ..Member::new(socket) }
}

fn group(protocol: Protocol, socket: SocketAddr, members: &[(&[i32], Option<bool>)]) -> Group {
    let address = Address::new(protocol, socket);
    let members = members.iter().map(|(pids, shared)| member(&address, pids, *shared)).collect();
    Group { address, members }
}

fn listing(groups: Vec<Group>) -> Listing {
    Listing {
        groups,
        complete: true,
        bound: true,
        iterated: false,
        nameless: None,
        connected: false,
        attached: None,
        facts: HolderFacts::default(),
        at: Duration::ZERO,
    }
}

fn in_json(listing: &Listing) -> String {
    let mut written = Vec::new();
    listing_json::write(listing, &mut written).unwrap();
    String::from_utf8(written).unwrap()
}

/// The table for a terminal with 100 columns.
fn text(listing: &Listing) -> String {
    super::text(listing, Some(100))
}

#[test]
fn a_group_is_read_as_one_block() {
    let groups = vec![group(
        Protocol::Tcp,
        ([0, 0, 0, 0], 8080).into(),
        &[(&[4121], Some(true)), (&[4130], Some(true))],
    )];
    let expected = "\
PROTO  ADDRESS       PID   PROGRAM  USER  SHARED  QUEUE
tcp    0.0.0.0:8080  4121  python3  ann   yes     0/5
                     4130  python3  ann   yes     0/5
";
    assert_eq!(text(&listing(groups)), expected);
}

#[test]
fn what_is_unknown_is_said_to_be() {
    let mut dual = group(Protocol::Udp, (Ipv6Addr::UNSPECIFIED, 53).into(), &[(&[], None)]);
    dual.members[0].user = None;
    let expected = "\
PROTO  ADDRESS  PID  PROGRAM  USER  SHARED   QUEUE
udp    *:53     -    -        1000  unknown  0
";
    assert_eq!(text(&listing(vec![dual])), expected);
}

#[test]
fn many_processes_are_counted_and_different_programs_named() {
    let mut crowd = group(
        Protocol::Tcp,
        ([127, 0, 0, 1], 80).into(),
        &[(&[1, 2, 3, 4, 5, 6], Some(false)), (&[7, 8, 9, 10], None)],
    );
    crowd.members[0].processes[2].program = "helper".into();
    crowd.members[1].processes[0].program = String::new();
    // Nothing is left out of a pipe.
    let piped = super::text(&listing(vec![crowd.clone()]), None);
    assert!(piped.contains(" 1,2,3,4,5,6  python3,helper  ann "), "{piped}");
    let told = text(&listing(vec![crowd]));
    assert!(told.contains(" 1,2,3,4,+2  python3,helper  ann   no "), "{told}");
    assert!(told.contains(" 7,8,9,10    python3         ann   unknown "), "{told}");
}

#[test]
fn who_is_reached_by_attach_has_a_column_where_anybody_is() {
    let groups = || {
        let pair: &[(&[i32], _)] = &[(&[1], Some(true)), (&[2], Some(true))];
        let mut group = group(Protocol::Tcp, ([127, 0, 0, 1], 80).into(), pair);
        group.members[0].socket.cgroup = Some(77);
        group.members[1].socket.cgroup = Some(1);
        vec![group]
    };
    let with = |attached| Listing { attached: Some(attached), ..listing(groups()) };
    let told = |listing: &Listing| {
        let told: Value = serde_json::from_str(&in_json(listing)).unwrap();
        let members = told["groups"][0]["members"].as_array().unwrap();
        Value::from_iter(members.iter().map(|member| member["attached"].clone()))
    };

    let here = with([(77, vec!["/my".into(), "/my/app".into()])].into());
    let expected = "\
PROTO  ADDRESS       PID  PROGRAM  USER  SHARED  QUEUE  ATTACHED
tcp    127.0.0.1:80  1    python3  ann   yes     0/5    /my,/my/app
                     2    python3  ann   yes     0/5    -
";
    assert_eq!(text(&here), expected);
    assert_eq!(told(&here), json!([["/my", "/my/app"], []]));

    let elsewhere = with([(78, vec!["/my".into()])].into());
    assert_eq!(text(&elsewhere), text(&listing(groups())), "nobody here is in it");
    assert_eq!(told(&elsewhere), json!([[], []]));
    assert_eq!(told(&with([].into())), json!([[], []]));

    let mut unknown = here;
    unknown.groups[0].members[0].socket.cgroup = None;
    assert_eq!(told(&unknown), json!([null, []]));
    assert_eq!(told(&listing(groups())), json!([null, null]));
}

#[test]
fn nobody_is_no_text() {
    assert_eq!(text(&listing(Vec::new())), "");
}

#[test]
fn json_keeps_its_shape() {
    let groups = vec![
        group(Protocol::Tcp, ([127, 0, 0, 1], 8080).into(), &[(&[4121], Some(true))]),
        group(Protocol::Udp, (Ipv6Addr::UNSPECIFIED, 53).into(), &[(&[], None)]),
    ];
    let expected = concat!(
        r#"{"version":1,"groups":["#,
        r#"{"proto":"tcp","address":"127.0.0.1:8080","v6only":false,"device":null,"members":["#,
        r#"{"pids":[4121],"program":"python3","user":"ann","uid":1000,"private":false,"inode":123,"#,
        r#""shared":true,"queue":0,"backlog":5,"attached":null,"state":"waiting","cookie":null,"#,
        r#""drops":null,"transparent":null,"freebind":null,"options":null,"position":null,"#,
        r#""cgroup":null,"unit":null,"container":null,"processes":[{"pid":4121,"#,
        r#""program":"python3","uid":null,"parent":null,"command":null,"executable":null,"directory":null,"#,
        r#""cgroup":null,"started":null}],"holder":null}]},"#,
        r#"{"proto":"udp","address":"[::]:53","v6only":false,"device":null,"members":["#,
        r#"{"pids":[],"program":null,"user":"ann","uid":1000,"private":false,"inode":123,"#,
        r#""shared":null,"queue":0,"backlog":null,"attached":null,"state":"waiting","#,
        r#""cookie":null,"drops":null,"transparent":null,"freebind":null,"options":null,"#,
        r#""position":null,"cgroup":null,"unit":null,"container":null,"processes":[],"holder":null}]}],"#,
        r#""complete":true,"bound_complete":true,"iterated":false}"#,
        "\n"
    );
    assert_eq!(in_json(&listing(groups)), expected);
}

/// Everything that can be known, of one socket in a group of two.
fn known() -> Group {
    let pair: &[(&[i32], _)] = &[(&[7, 8], Some(true)), (&[9], Some(true))];
    let mut group = group(Protocol::Tcp, ([127, 0, 0, 1], 80).into(), pair);
    let member = &mut group.members[0];
    member.socket = Socket {
        cookie: 77,
        drops: Some(3),
        cgroup: Some(5),
        transparent: Some(false),
        freebind: Some(false),
        ..member.socket.clone()
    };
    member.cgroup = Some("/system.slice/api.service".into());
    member.options =
        Some(SocketOptions { reuse_port: true, filter: true, ..SocketOptions::default() });
    member.position = Some(GroupPosition { index: 1, of: 2, steered: true });
    member.processes[0].details = Some(ProcessDetails {
        uid: Some(1000),
        parent: Some(1),
        command: vec!["python3".into(), "a b.py".into()],
        executable: Some("/usr/bin/python3".into()),
        directory: Some("/srv".into()),
        cgroup: Some("/system.slice/api.service".into()),
        started: Some(Duration::from_millis(1500)),
    });
    group
}

#[test]
fn everything_known_is_in_json() {
    let told = in_json(&listing(vec![known()]));
    let told: Value = serde_json::from_str(&told).unwrap();
    let member = &told["groups"][0]["members"][0];
    assert_eq!((&member["cookie"], &member["drops"]), (&json!(77), &json!(3)));
    assert_eq!(member["options"]["filter"], true);
    assert_eq!(member["options"]["reuse_address"], false);
    assert_eq!(member["position"], json!({"index": 1, "of": 2, "steered": true}));
    assert_eq!(member["unit"], "api.service");
    assert_eq!(member["container"], Value::Null);
    let expected = json!({
        "pid": 7, "program": "python3", "uid": 1000, "parent": 1,
        "command": ["python3", "a b.py"], "executable": "/usr/bin/python3", "directory": "/srv",
        "cgroup": "/system.slice/api.service", "started": 1,
    });
    assert_eq!(member["processes"][0], expected);
    assert_eq!(member["processes"][1]["command"], Value::Null);
}

#[test]
fn what_has_something_to_say_has_a_column() {
    let expected = "\
PROTO  ADDRESS       PID  PROGRAM  USER  SHARED  QUEUE  DROPS    UNIT
tcp    127.0.0.1:80  7,8  python3  ann   yes     0/5    3        api.service
                     9    python3  ann   yes     0/5    unknown  unknown
";
    assert_eq!(text(&listing(vec![known()])), expected);
    let mut two = known();
    two.members[0].socket.drops = Some(0);
    two.members[0].cgroup = Some(format!("/docker/{}", "0123456789abcdef".repeat(4)));
    two.members[1].cgroup = Some("/".into());
    two.members[1].socket.state = SocketState::Bound;
    let expected = "\
PROTO  ADDRESS       PID  PROGRAM  USER  SHARED  QUEUE  STATE    UNIT
tcp    127.0.0.1:80  7,8  python3  ann   yes     0/5    waiting  docker:0123456789ab
                     9    python3  ann   yes     -      bound    -
";
    assert_eq!(text(&listing(vec![two])), expected);
}

#[test]
fn wide_tells_all_of_it() {
    let expected = concat!(
        "PROTO  ADDRESS       STATE    PID  PROGRAM  USER  SHARED  OPTIONS  GROUP            QUEUE  ",
        "DROPS    UNIT         DIRECTORY  COMMAND\n",
        "tcp    127.0.0.1:80  waiting  7,8  python3  ann   yes     filter   2 of 2, steered  0/5    ",
        "3        api.service  /srv       python3 a b.py (+1)\n",
        "                     waiting  9    python3  ann   yes     unknown  unknown          0/5    ",
        "unknown  unknown      unknown    unknown\n",
    );
    assert_eq!(wide(&listing(vec![known()])), expected);
    let mut member = known().members.remove(0);
    member.options = None;
    member.socket.freebind = Some(true);
    assert_eq!(options(&member), "freebind,unknown");
    member.options = Some(SocketOptions::default());
    assert_eq!(options(&member), "-");
    assert_eq!(wide(&listing(vec![])), "");
}

#[test]
fn long_names_fit_a_hundred_columns() {
    let crowd: &[(&[i32], _)] = &[(&[4_000_001], None)];
    let mut group = group(Protocol::Tcp, ([255, 255, 255, 255], 65535).into(), crowd);
    let member = &mut group.members[0];
    member.user = Some("a-user-with-a-long-name".into());
    member.processes[0].program = "a-long-program1".into();
    member.socket.drops = Some(1_000_000);
    member.cgroup = Some("/system.slice/a-service-with-a-very-long-name@1.service".into());
    let listing = listing(vec![group]);
    let told = text(&listing);
    assert!(told.lines().all(|line| line.chars().count() <= 100), "{told}");
    assert!(told.contains("a-service-w…") && told.contains("255.255.255.255:65535"), "{told}");
    assert!(wide(&listing).contains("a-service-with-a-very-long-name@1.service"));
}
