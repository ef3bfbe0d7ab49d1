//! A set that exceeds the limit of open files leaves nothing open. Alone in its executable, because the
//! limit belongs to the process. Linux only.
#![cfg(any(target_os = "linux", target_os = "android"))]

use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sameport::{ErrorKind, Options};

/// `EMFILE` on every architecture.
const TOO_MANY_OPEN_FILES: i32 = 24;

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn too_many_open_files() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum }).unwrap();
    let before = open_files();
    for options in [Options::shared(), Options::exclusive()] {
        let results = [
            options.listen_n("127.0.0.1:22004", 200).map(drop),
            options.bind_udp_n("127.0.0.1:22004", 200).map(drop),
        ];
        for error in results.map(Result::unwrap_err) {
            assert_eq!(error.kind(), ErrorKind::Other, "{error}");
            let os = error.os_error().and_then(std::io::Error::raw_os_error);
            assert_eq!(os, Some(TOO_MANY_OPEN_FILES), "{error}");
        }
        assert_eq!(open_files(), before);
        // The address is free.
        sameport::listen_exclusive("127.0.0.1:22004").unwrap();
    }
    assert_eq!(sameport::listen_n("127.0.0.1:0", 20).unwrap().len(), 20);
    draining_pauses();
    a_conversion_is_a_departure();
}

/// Opens files until no descriptor is left.
fn hoard() -> Vec<std::fs::File> {
    std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect()
}

/// A drain without a free descriptor does not occupy a processor.
fn draining_pauses() {
    let mut members = sameport::listen_n("127.0.0.1:0", 2).unwrap();
    let mut drain = members.remove(0).unwrap().drain(Duration::ZERO);
    let hoard = hoard();
    let started = Instant::now();
    for _ in 0..5 {
        let error = drain.next().unwrap().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(TOO_MANY_OPEN_FILES), "{error}");
    }
    assert!(started.elapsed() >= Duration::from_millis(50));
    drop(hoard);
    assert!(drain.all(|accepted| accepted.is_ok()));
}

/// A member that cannot be converted has left its set.
fn a_conversion_is_a_departure() {
    let mut members = sameport::listen_n("127.0.0.1:0", 3).unwrap();
    let first = members.remove(0).unwrap();
    let hoard = hoard();
    let error = first.try_map(Ok).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(TOO_MANY_OPEN_FILES), "{error}");
    drop(hoard);
    members.get(0).unwrap().withdraw().unwrap();
}
