//! The file can be read back, invalid files are refused, and a boot keeps the first network namespace.

use super::*;

fn here() -> GuardOrigin {
    GuardOrigin { network: 7, first: true, boot: "b-1".into(), now: 1_800_000_000 }
}

fn entry(port: u16, protocol: Protocol) -> GuardEntry {
    let allow = vec![
        AllowEntry::User { name: "www".into(), uid: 33 },
        AllowEntry::Unit { unit: "api.service".into(), cgroup: "/system.slice/api.service".into() },
        AllowEntry::Executable {
            path: "/usr/bin/api".into(),
            file: Some(FileEntry { device: 1, inode: 2, generation: None }),
        },
    ];
    GuardEntry::new(&here(), port, protocol, false, allow)
}

#[test]
fn a_written_record_can_be_read() {
    let mut record = GuardRecord::new(&here());
    assert_eq!(record.put(entry(80, Protocol::Udp)), None);
    assert_eq!(record.put(entry(80, Protocol::Tcp)), None);
    assert_eq!(record.put(entry(80, Protocol::Tcp)), Some(entry(80, Protocol::Tcp)));
    record.set_reserved(7, &[80].into());
    let text = record.text();
    assert_eq!(GuardRecord::read(&text, &here()), Ok(record.clone()));
    assert_eq!(GuardRecord::read("", &here()), Ok(GuardRecord::new(&here())));
    assert_eq!((record.ports(7), record.ports(8)), ([80].into(), [].into()));
    assert_eq!(record.reserved(7), [80].into());
    assert!(
        record.take(7, 80, Protocol::Udp).is_some() && record.take(8, 80, Protocol::Tcp).is_none()
    );
    assert_ne!(mark(&record.text()), mark(&text));
}

#[test]
fn an_invalid_record_is_refused_with_the_reason() {
    let mut record = GuardRecord::new(&here());
    record.put(entry(80, Protocol::Tcp));
    let good = record.text();
    for (from, to, why) in [
        ("\"version\": 1", "\"version\": 2", "version 2 is not known here"),
        ("report_only", "report-only", "unknown field `report-only`"),
        ("\"port\": 80", "\"port\": 0", "guard 1: a guard is for one port"),
        ("\"port\": 80", "\"port\": 70000", "70000"),
        ("/system.slice/api", "system.slice/api", "guard 1: the path of a cgroup begins with /"),
        ("/system.slice/api", "//system.slice/api", "guard 1: write /system.slice/api.service"),
        ("{", "", "trailing"),
    ] {
        let bad = good.replacen(from, to, 1);
        let error = GuardRecord::read(&bad, &here()).unwrap_err();
        assert!(from == "{" || error.contains(why), "{bad}: {error}");
    }
    for cut in 1..good.trim_end().len() {
        assert!(GuardRecord::read(&good[..cut], &here()).is_err(), "{cut} bytes");
    }
    record.guards.push(entry(80, Protocol::Tcp));
    let error = GuardRecord::read(&record.text(), &here()).unwrap_err();
    assert_eq!(error, "guard 2: an earlier one is for the same port");
}

#[test]
fn after_a_boot_only_the_first_network_remains() {
    let mut record = GuardRecord::new(&here());
    record.put(entry(80, Protocol::Tcp));
    record.put(GuardEntry { network: 9, first: false, ..entry(81, Protocol::Tcp) });
    record.set_reserved(7, &[80].into());
    assert_eq!(record.clone().brought_to(&here()), Some(record.clone()));

    let later = GuardOrigin { network: 1, boot: "b-2".into(), ..here() };
    let then = record.clone().brought_to(&later).unwrap();
    assert_eq!(then.guards, [GuardEntry { network: 1, ..entry(80, Protocol::Tcp) }]);
    assert_eq!((then.boot.as_str(), then.reserved.len()), ("b-2", 0));
    let elsewhere = GuardOrigin { first: false, ..later };
    assert_eq!(record.clone().brought_to(&elsewhere), None);
    record.guards.retain(|entry| !entry.first);
    assert_eq!(record.brought_to(&elsewhere).unwrap().guards, []);
}
