//! Tables of binds and of arguments.

use super::*;

fn inode(number: u64) -> FileId {
    FileId { device: 8 << 20 | 1, inode: number, generation: Some(7) }
}

fn binder(uid: u32, cgroup: &str, executable: FileId) -> Binder {
    Binder { uid, cgroup: Some(cgroup.to_owned()), executable: Some(executable) }
}

#[test]
fn one_matching_rule_is_enough() {
    let unit = "/system.slice/api.service";
    let guard = Guard {
        netns_cookie: 1,
        port: 8443,
        protocol: Protocol::Tcp,
        report_only: false,
        allow: vec![
            AllowRule::User(33),
            AllowRule::Cgroup(unit.to_owned()),
            AllowRule::Executable(Some(inode(77))),
            AllowRule::Executable(None),
        ],
    };
    let deep = format!("{unit}{}", "/x".repeat(MAX_CGROUP_DEPTH - 2));
    let too_deep = format!("{deep}/x");
    let stranger = inode(1);
    let cases = [
        (binder(0, "/", stranger), false),
        (binder(33, "/", stranger), true),
        (binder(0, unit, stranger), true),
        (binder(0, "/system.slice/api.service/worker", stranger), true),
        (binder(0, &deep, stranger), true),
        (binder(0, &too_deep, stranger), false),
        (binder(0, "/system.slice/api.service2", stranger), false),
        (binder(0, "/system.slice", stranger), false),
        (binder(0, "/user.slice/system.slice/api.service", stranger), false),
        (binder(0, "/", inode(77)), true),
        (binder(0, "/", FileId { generation: Some(8), ..inode(77) }), false),
        (binder(0, "/", FileId { device: 9, ..inode(77) }), false),
        (Binder { uid: 0, cgroup: None, executable: None }, false),
    ];
    for (binder, allowed) in cases {
        let guards = [guard.clone()];
        let verdict = if allowed { GuardVerdict::Allowed } else { GuardVerdict::Refused };
        assert_eq!(decide(&guards, 1, 8443, Protocol::Tcp, &binder), verdict, "{binder:?}");
        let guards = [Guard { report_only: true, ..guard.clone() }];
        let verdict = if allowed { GuardVerdict::Allowed } else { GuardVerdict::Reported };
        assert_eq!(decide(&guards, 1, 8443, Protocol::Tcp, &binder), verdict, "{binder:?}");
        for (network, port, protocol) in
            [(2, 8443, Protocol::Tcp), (1, 8444, Protocol::Tcp), (1, 8443, Protocol::Udp)]
        {
            assert_eq!(decide(&guards, network, port, protocol, &binder), GuardVerdict::Unguarded);
        }
    }
}

#[test]
fn a_rule_without_a_generation_matches_any() {
    let any = FileId { generation: None, ..inode(5) };
    assert!(any.matches(&inode(5)) && any.matches(&any));
    assert!(!inode(5).matches(&any), "the generation differs");
}

#[test]
fn paths_share_nodes() {
    let paths = ["/a/b", "/a", "/b", "/a/b/c", "/a/b"];
    let (steps, ends) = cgroup_steps(paths.into_iter());
    let edges: Vec<_> = steps.iter().map(|s| (s.from, s.name.as_str(), s.to)).collect();
    assert_eq!(edges, [(0, "a", 1), (1, "b", 2), (0, "b", 3), (2, "c", 4)]);
    assert_eq!(ends, [2, 1, 3, 4, 2]);
}

#[test]
fn ports_are_parsed_strictly() {
    let read = |text: &str| parse_guarded(text).map(|spec| GuardPort::from(&spec));
    assert_eq!(read("8443"), Ok(GuardPort { number: 8443, protocol: None }));
    assert_eq!(read("53/udp"), Ok(GuardPort { number: 53, protocol: Some(Protocol::Udp) }));
    assert_eq!(read("53/tcp").unwrap().to_string(), "53/tcp");
    assert_eq!(read("127.0.0.1:53/tcp").unwrap().to_string(), "53/tcp");
    assert_eq!(read("*:53").unwrap().to_string(), "53");
    for wrong in ["", "0", "all", "*", "0/tcp", "65536", "80/sctp", "80/", "/tcp", "+80"] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
    assert_eq!(read("0"), Err("a guard is for one port: give its number, 1 to 65535".to_owned()));
}

#[test]
fn allow_arguments_are_parsed_strictly() {
    let read = |text: &str| text.parse::<AllowSpec>();
    assert_eq!(read("uid=www"), Ok(AllowSpec::User("www".into())));
    assert_eq!(read("unit=api"), Ok(AllowSpec::Unit("api".into())));
    assert_eq!(read("exe=/usr/bin/a=b"), Ok(AllowSpec::Executable("/usr/bin/a=b".into())));
    assert_eq!(read("cgroup=//my/app/"), Ok(AllowSpec::Cgroup("/my/app".into())));
    let long = format!("cgroup=/{}", "x".repeat(MAX_CGROUP_NAME + 1));
    let deep = format!("cgroup={}", "/x".repeat(MAX_CGROUP_DEPTH + 1));
    for wrong in
        ["", "uid", "uid=", "user=x", "exe=bin/x", "cgroup=/", "cgroup=x", "cgroup=/a/../b"]
            .into_iter()
            .chain([long.as_str(), deep.as_str()])
    {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}
