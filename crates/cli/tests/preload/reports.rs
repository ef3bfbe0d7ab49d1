//! The reports of the library to a supervisor.

use sameport_policy::addr::Protocol;
use sameport_sys::preload::{LibraryReport, ReceivedReport, ReportSocket, SharedBy};

use crate::harness::{
    Patience, TIMEOUT, User, c_program, compiled_by, find_program, free_port, skip, start_run,
};
use crate::preloaded;

/// All reports of a program.
fn reports(variables: &[(&str, &str)], command: &[&str]) -> (i32, Vec<ReceivedReport>) {
    let mut inbox = ReportSocket::open().unwrap();
    let name = inbox.name().to_owned();
    let variables: Vec<_> =
        variables.iter().copied().chain([("SAMEPORT_REPORT", &*name)]).collect();
    let program = preloaded(User::Current, &variables, command);
    let pid = program.pid();
    let exited = program.wait();
    assert_eq!((exited.code, &*exited.stderr), (0, ""), "{exited:?}");
    let mut all = Vec::new();
    let patience = Patience::new(TIMEOUT);
    loop {
        let some = inbox.take();
        if some.is_empty() || patience.is_over() {
            return (pid, all);
        }
        all.extend(some);
    }
}

fn bound(
    ip: &str,
    port: u16,
    asked: Option<String>,
    rule: Option<usize>,
    errno: Option<i32>,
) -> LibraryReport {
    LibraryReport::Bound {
        protocol: Protocol::Tcp,
        address: (ip.parse::<std::net::IpAddr>().unwrap(), port).into(),
        asked: asked.map(|asked| asked.parse().unwrap()),
        rule,
        sharing: SharedBy::Library,
        errno: errno.map(sameport_sys::Errno::from_raw_os_error),
    }
}

#[test]
fn loading_and_binding_are_reported_by_their_process() {
    let calls = c_program("preload_calls", &[]);
    let musl = find_program("musl-gcc")
        .map(|_| compiled_by("musl-gcc", "preload_calls", &["-Dstrerrorname_np=strerror"]));
    if musl.is_none() {
        skip("preload-musl", "no musl-gcc");
    }
    for program in [Some(calls), musl].into_iter().flatten() {
        let program = program.to_str().unwrap();
        let (old, new) = (free_port(), free_port());
        let map = format!("1=2,{old}=127.0.0.2:{new}");
        let variables = [("SAMEPORT_SHARE", "1"), ("SAMEPORT_MAP", &*map)];
        let command = [program, "bind", "tcp", "0.0.0.0", &old.to_string()];
        let (pid, all) = reports(&variables, &command);
        let moved = bound("127.0.0.2", new, Some(format!("0.0.0.0:{old}")), Some(1), None);
        let expected = [LibraryReport::Loaded, moved].map(|report| ReceivedReport { pid, report });
        assert_eq!(all, expected, "{program}");

        let command = [program, "bind", "tcp", "192.0.2.9", &new.to_string()];
        let (pid, all) = reports(&[("SAMEPORT_SHARE", "1")], &command);
        let refused = bound("192.0.2.9", new, None, None, Some(99));
        assert_eq!(
            all,
            [LibraryReport::Loaded, refused].map(|report| ReceivedReport { pid, report })
        );

        // Requests that the library refuses before the system call.
        let map = format!("{new}=[2001:db8::1]");
        let command = [program, "bind", "tcp", "127.0.0.1", &new.to_string()];
        let (pid, all) = reports(&[("SAMEPORT_MAP", &*map)], &command);
        let other_family = LibraryReport::Bound {
            protocol: Protocol::Tcp,
            address: format!("127.0.0.1:{new}").parse().unwrap(),
            asked: None,
            rule: Some(0),
            sharing: SharedBy::NotShared,
            errno: Some(sameport_sys::Errno::AFNOSUPPORT),
        };
        assert_eq!(
            all,
            [LibraryReport::Loaded, other_family].map(|report| ReceivedReport { pid, report })
        );
    }
}

#[test]
fn sources_are_reported() {
    let calls = c_program("preload_calls", &[]);
    let receiver = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = receiver.local_addr().unwrap().port().to_string();
    let variables = [("SAMEPORT_SOURCE", "127.0.0.9")];
    let command = [calls.to_str().unwrap(), "send", "twice", "127.0.0.1", &port];
    let (pid, all) = reports(&variables, &command);
    let address = "127.0.0.9:0".parse().unwrap();
    let source = LibraryReport::Source { protocol: Protocol::Udp, address, errno: None };
    assert_eq!(all, [LibraryReport::Loaded, source].map(|report| ReceivedReport { pid, report }));
}

/// A burst of reports loses none, although no report is read before the last one.
#[test]
fn no_report_of_many_threads_is_lost() {
    let calls = c_program("preload_calls", &[]);
    let port = free_port();
    let command = [calls.to_str().unwrap(), "threads", "128", &port.to_string()];
    let (_, all) = reports(&[("SAMEPORT_SHARE", "1")], &command);
    // Each thread has its own address.
    let is_reported = |n: &u8| {
        let expected = bound(&format!("127.1.2.{n}"), port, None, None, None);
        all.iter().any(|it| it.report == expected)
    };
    assert_eq!(((1..=128).filter(is_reported).count(), all.len()), (128, 129));
}

/// The same under `run`, which looks for the conflict of each refusal. Twice the number of binds, a
/// report each, stays below the listen backlog (net.core.somaxconn).
#[test]
fn every_refusal_of_a_burst_is_reported() {
    const COUNT: usize = 1500;
    let crowd = c_program("trap_many_addresses", &["-DBY_LIBC"]);
    let port = free_port().to_string();
    let command = [crowd.to_str().unwrap(), "refused", &COUNT.to_string(), &port];
    for user in User::all() {
        let exited = start_run(*user, &["--via", "preload"], &command).wait();
        assert_eq!(exited.code, 0, "{user:?}: {exited:?}");
        let count_of =
            |what: &str| exited.stderr.lines().filter(|line| line.contains(what)).count();
        let dropped: usize = exited
            .stderr
            .lines()
            .filter_map(|line| line.strip_suffix(" more lines came faster than they were read"))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap())
            .sum();
        assert!(count_of(" hint: ") > 0, "{exited:?}");
        assert_eq!(count_of(" error: ") + count_of(" hint: ") + dropped, 2 * COUNT, "{user:?}");
    }
}

#[test]
fn every_executed_program_is_reported() {
    let (pid, all) =
        reports(&[("SAMEPORT_SHARE", "1")], &["sh", "-c", "true; /bin/true; exec env true"]);
    assert!(all.iter().all(|it| it.report == LibraryReport::Loaded), "{all:?}");
    // The shell, a child, and env and true, which replace the shell.
    assert_eq!(all.len(), 4, "{all:?}");
    assert_eq!(all.iter().filter(|it| it.pid == pid).count(), 3, "{all:?}");
}
