//! The set of guards, on this machine.

use std::path::Path;

use sameport_policy::addr::Protocol;
use sameport_policy::guard::{AllowRule, CgroupStep, FileId, Guard, MAX_CGROUP_NAME};

use super::{binder, inode, layout};

#[test]
fn what_the_programs_write_is_read() {
    let mut bytes = [0; 80];
    bytes[..8].copy_from_slice(&3_u64.to_le_bytes());
    bytes[8..16].copy_from_slice(&1_500_000_000_u64.to_le_bytes());
    bytes[42..44].copy_from_slice(&[255, 255]);
    bytes[44..48].copy_from_slice(&[127, 0, 0, 1]);
    bytes[48..52].copy_from_slice(&77_u32.to_le_bytes());
    bytes[56..58].copy_from_slice(&8443_u16.to_le_bytes());
    (bytes[58], bytes[59]) = (6, 1);
    bytes[64..67].copy_from_slice(b"api");
    let written = layout::written(&bytes);
    assert_eq!((written.number, written.time.as_millis(), written.pid), (3, 1500, 77));
    assert_eq!((written.ip.to_string().as_str(), written.port), ("127.0.0.1", 8443));
    assert_eq!((written.protocol, written.report_only), (Protocol::Tcp, true));
    assert_eq!(written.program, "api");
}

#[test]
fn a_name_that_is_too_long_matches_none_that_is_read() {
    // The programs read at most 155 bytes and a zero.
    let name =
        |length: usize| layout::name(&CgroupStep { from: 1, name: "x".repeat(length), to: 2 });
    assert_eq!(name(MAX_CGROUP_NAME)[4 + MAX_CGROUP_NAME], 0);
    assert_ne!(name(200)[159], 0);
}

#[test]
fn only_what_is_asked_for_is_looked_at() {
    let guard = |allow| Guard {
        netns_cookie: 1,
        port: 80,
        protocol: Protocol::Udp,
        report_only: true,
        allow,
    };
    let file = FileId { device: 1, inode: 2, generation: Some(3) };
    assert_eq!(layout::value(&guard(vec![AllowRule::User(7)]), 5), [5, 0, 0, 0, 1, 0, 0, 0]);
    let both = vec![AllowRule::Cgroup("/a".into()), AllowRule::Executable(Some(file))];
    assert_eq!(layout::value(&guard(both), 5), [5, 0, 0, 0, 1, 1, 1, 0]);
    assert_eq!(
        layout::value(&guard(vec![AllowRule::Executable(None)]), 0),
        [0, 0, 0, 0, 1, 0, 0, 0]
    );
    assert_eq!(layout::allowed(0, &AllowRule::Executable(None), 0), None);
}

#[test]
fn this_process_is_known_by_its_user_and_its_file() {
    let us = binder(i32::try_from(std::process::id()).unwrap()).unwrap();
    assert_eq!(us.uid, rustix::process::getuid().as_raw());
    let own = inode(&std::env::current_exe().unwrap()).unwrap();
    assert_eq!(us.executable, Some(own));
    assert!(inode(Path::new("/no such file")).is_err());
}
