//! The listing as people and programs read it.

use std::net::{Ipv6Addr, SocketAddr};

use sameport_rules::sockets::{Address, Socket, v4, v6};

use super::*;

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
    Listing { groups, complete: true, nameless: None, attached: None }
}

#[test]
fn a_group_is_read_as_one_block() {
    let groups = vec![group(
        Protocol::Tcp,
        v4([0, 0, 0, 0], 8080),
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
    let mut dual = group(Protocol::Udp, v6(Ipv6Addr::UNSPECIFIED, 53), &[(&[], None)]);
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
        v4([127, 0, 0, 1], 80),
        &[(&[1, 2, 3, 4, 5, 6], Some(false)), (&[7, 8, 9, 10], None)],
    );
    crowd.members[0].processes[2].program = "helper".into();
    crowd.members[1].processes[0].program = String::new();
    let told = text(&listing(vec![crowd]));
    assert!(told.contains(" 1,2,3,4,+2  python3,helper  ann   no "), "{told}");
    assert!(told.contains(" 7,8,9,10    python3         ann   unknown "), "{told}");
}

#[test]
fn who_is_reached_by_attach_has_a_column_where_anybody_is() {
    let groups = || {
        let pair: &[(&[i32], _)] = &[(&[1], Some(true)), (&[2], Some(true))];
        let mut group = group(Protocol::Tcp, v4([127, 0, 0, 1], 80), pair);
        group.members[0].socket.cgroup = Some(77);
        group.members[1].socket.cgroup = Some(1);
        vec![group]
    };
    let with = |attached| Listing { attached: Some(attached), ..listing(groups()) };
    let attached = |member: &ToldMember<'_>| member.attached.clone();
    let told = |listing: &Listing| {
        let told = ToldGroup::new(&listing.groups[0], listing);
        (attached(&told.members[0]), attached(&told.members[1]))
    };

    let here = with([(77, vec!["/my".into(), "/my/app".into()])].into());
    let expected = "\
PROTO  ADDRESS       PID  PROGRAM  USER  SHARED  QUEUE  ATTACHED
tcp    127.0.0.1:80  1    python3  ann   yes     0/5    /my,/my/app
                     2    python3  ann   yes     0/5    -
";
    assert_eq!(text(&here), expected);
    assert_eq!(told(&here), (Some(vec!["/my".into(), "/my/app".into()]), Some(vec![])));

    let elsewhere = with([(78, vec!["/my".into()])].into());
    assert_eq!(text(&elsewhere), text(&listing(groups())), "nobody here is in it");
    assert_eq!(told(&elsewhere), (Some(vec![]), Some(vec![])));
    assert_eq!(told(&with([].into())), (Some(vec![]), Some(vec![])));

    let mut unknown = here;
    unknown.groups[0].members[0].socket.cgroup = None;
    assert_eq!(told(&unknown), (None, Some(vec![])));
    assert_eq!(told(&listing(groups())), (None, None));
}

#[test]
fn nobody_is_no_text() {
    assert_eq!(text(&listing(Vec::new())), "");
}

#[test]
fn json_keeps_its_shape() {
    let groups = vec![
        group(Protocol::Tcp, v4([127, 0, 0, 1], 8080), &[(&[4121], Some(true))]),
        group(Protocol::Udp, v6(Ipv6Addr::UNSPECIFIED, 53), &[(&[], None)]),
    ];
    let expected = concat!(
        r#"{"version":1,"groups":["#,
        r#"{"proto":"tcp","address":"127.0.0.1:8080","v6only":false,"device":null,"members":["#,
        r#"{"pids":[4121],"program":"python3","user":"ann","uid":1000,"inode":123,"#,
        r#""shared":true,"queue":0,"backlog":5,"attached":null}]},"#,
        r#"{"proto":"udp","address":"[::]:53","v6only":false,"device":null,"members":["#,
        r#"{"pids":[],"program":null,"user":"ann","uid":1000,"inode":123,"#,
        r#""shared":null,"queue":0,"backlog":null,"attached":null}]}],"complete":true}"#,
        "\n"
    );
    assert_eq!(json(&listing(groups)), expected);
}
