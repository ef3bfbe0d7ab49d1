//! The reports about the ends of runs: how long they stay, and how many.

use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use super::tests::{files, name};
use super::*;
use crate::serial::run_exclusive;

#[test]
fn the_report_about_an_end_stays_until_the_next_run() {
    let _turn = run_exclusive();
    let base = tempfile::tempdir().unwrap();
    let folder = base.path().join("sameport");
    let folders = [folder.clone()];
    assert_eq!(read_ended(&name("web"), &folders), None);
    let claim = NameClaim::take(&name("web"), &folders).unwrap();
    assert_eq!(claim.take_earlier(), EarlierRun::default());
    claim.write_ended(b"end").unwrap();
    drop(claim);
    assert_eq!(files(&folder), ["web.ended"]);
    assert_eq!(std::fs::metadata(folder.join("web.ended")).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(read_ended(&name("web"), &folders).as_deref(), Some(&b"end"[..]));
    assert_eq!(list_names(&folders), []);
    let claim = NameClaim::take(&name("web"), &folders).unwrap();
    let earlier = EarlierRun { record: None, ended: Some(b"end".to_vec()) };
    assert_eq!(claim.take_earlier(), earlier);
    drop(claim);
    assert!(!folder.exists());
}

/// Only the newest reports of a directory stay, and no other file is removed for them.
#[test]
fn reports_are_few() {
    let _turn = run_exclusive();
    let base = tempfile::tempdir().unwrap();
    let folder = base.path().join("sameport");
    let folders = [folder.clone()];
    let other = NameClaim::take(&name("other"), &folders).unwrap();
    for number in 0..40 {
        let claim = NameClaim::take(&name(&format!("run-{number:02}")), &folders).unwrap();
        claim.write_ended(b"end").unwrap();
        let at = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(number);
        let path = folder.join(format!("run-{number:02}.ended"));
        let report = std::fs::File::options().write(true).open(path).unwrap();
        report.set_modified(at).unwrap();
    }
    let left = files(&folder);
    assert_eq!(left.len(), 32 + 1, "{left:?}");
    assert_eq!((left[0].as_str(), left[1].as_str()), ("other.lock", "run-08.ended"));
    drop(other);
}
