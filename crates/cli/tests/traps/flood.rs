//! Many concurrent binds: each result is right, and the footprint of the supervisor stays.

use super::harness::{
    Process, User, descendants, eventually, kill, sameport, settled_footprint, skip, start_command,
    start_run,
};
use super::{command, lines, run_trap};

fn continue_trap(run: &Process) {
    for pid in descendants(run.pid()) {
        kill(pid, libc::SIGUSR1);
    }
}

#[test]
fn hundred_thousand_binds_leave_no_footprint() {
    for (user, binds) in User::all().iter().zip(["100000", "20000"]) {
        let run =
            start_run(*user, &["-q"], &command("trap_threads", &["flood", "PORT", "64", binds]));
        run.wait_for_stdout("warm 0 -\n");
        let before = settled_footprint(&run, None);
        continue_trap(&run);
        run.wait_for_stdout("full 0 -\n");
        let after = settled_footprint(&run, Some(before));
        continue_trap(&run);
        let exited = run.wait();
        assert_eq!(lines(&exited)[2..], ["flood 0 yes", "after 0 yes"], "{user:?}: {exited:?}");
        assert_eq!(after.descriptors, before.descriptors, "{user:?}");
        assert!(after.kib <= before.kib + 1024, "{user:?}: {before:?} {after:?}");
    }
}

/// Every refusal causes an inspection of the machine. Inspections must not pile up, and every
/// refusal is reported or counted.
#[test]
fn refusals_are_reported_or_counted() {
    const COUNT: usize = 4000;
    let crowd = ["refused", &COUNT.to_string(), "PORT"];
    for user in User::all() {
        let stderr =
            run_trap(*user, "trap_many_addresses", &crowd, &["refused 0 yes", "after 0 yes"]);
        let reported = stderr.matches("no interface of this machine has that address").count();
        let counted = |words: &str| -> usize {
            let counts = stderr.lines().filter(|line| line.contains(words));
            counts.map(|line| line.split(' ').nth(2).unwrap().parse::<usize>().unwrap()).sum()
        };
        let dropped = counted(" more lines came faster ");
        let unfollowed = counted(" binds and listens came faster ");
        assert!(reported > 0, "{user:?}: {stderr}");
        let all = reported + dropped + unfollowed;
        assert!(
            all >= COUNT,
            "{user:?}: {reported} told, {dropped} dropped, {unfollowed} unfollowed"
        );
    }
}

/// If `ulimit -Hn` leaves no descriptor for the socket, the bind continues unshared with a warning.
/// The test does not depend on how many descriptors the supervisor itself needs.
#[test]
fn too_few_descriptors_are_reported() {
    for user in User::all() {
        // The supervisor does not start below 66.
        let reported = (66..140).any(|limit| {
            let crowd = command("trap_many_addresses", &["refused", "200", "PORT"]);
            let limit = format!("--nofile={limit}:{limit}");
            let mut arguments = vec![limit, sameport().to_str().unwrap().into()];
            arguments.extend(["run", "--"].map(String::from));
            arguments.extend(crowd);
            let exited = start_command(*user, "prlimit", &arguments).wait();
            let warnings =
                exited.stderr.matches("warning: sameport has no descriptor left").count();
            assert!(warnings <= 1, "{user:?}: {exited:?}");
            let is_told = warnings == 1;
            assert!(!is_told || lines(&exited)[0] == "refused 0 no", "{user:?}: {exited:?}");
            is_told
        });
        assert!(reported, "{user:?}");
    }
}

#[test]
fn most_workers_start_despite_a_low_soft_limit() {
    let sameport = sameport().to_str().unwrap();
    let run = [sameport, "run", "-q", "-n", "1024", "--", "sh", "-c", "ulimit -Sn"];
    if start_command(User::Current, "prlimit", &["--nofile=64:4096", "true"]).wait().code != 0 {
        return skip("the-most-workers", "`ulimit -Hn` is below 4096");
    }
    for user in User::all() {
        let arguments = [&["--nofile=64:4096"], &run[..]].concat();
        let exited = start_command(*user, "prlimit", &arguments).wait();
        assert_eq!(exited.code, 0, "{user:?}: {exited:?}");
        assert_eq!(exited.stdout, "64\n".repeat(1024), "{user:?}");
    }
}

/// A run whose workers need more descriptors than the limit allows starts none of them.
#[test]
fn failed_run_leaves_no_worker() {
    let run = [sameport().to_str().unwrap(), "run", "-q", "-n", "3", "--", "sh", "-c"];
    for (limit, starts) in [(12, false), (30, false), (69, false), (70, true), (71, true)] {
        let limit = format!("--nofile={limit}:{limit}");
        let script = ["echo $$; exec sleep 300"];
        let arguments = [&[limit.as_str()], &run[..], &script].concat();
        let mut started = start_command(User::Current, "prlimit", &arguments);
        let decided = eventually(|| {
            (!started.is_running() || started.stdout().lines().count() == 3).then_some(())
        });
        assert!(decided.is_some(), "{limit}: {}", started.stderr());
        let exited = if started.is_running() { started.terminate() } else { started.wait() };
        let expected = if starts { (128 + libc::SIGTERM, 3) } else { (3, 0) };
        assert_eq!((exited.code, lines(&exited).len()), expected, "{limit}: {exited:?}");
        for pid in lines(&exited) {
            assert!(!std::fs::exists(format!("/proc/{pid}")).unwrap(), "{limit}: {pid} lives on");
        }
    }
}
