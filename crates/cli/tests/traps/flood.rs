//! Many binds at once: each is right, and the supervisor stays as small as it was.

use std::time::{Duration, Instant};

use super::stage::{
    PATIENCE, Started, User, descendants, eventually, kill, sameport, start_command, start_run,
};
use super::{command, lines, spring};

/// Descriptors, and kilobytes of memory, of a process.
fn size(pid: i32) -> (usize, usize) {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    (descriptors, resident.trim().trim_end_matches(" kB").parse().unwrap())
}

/// The size, once what is being followed has been followed to its end.
fn settled_size(pid: i32) -> (usize, usize) {
    let until = Instant::now() + PATIENCE;
    let mut last = size(pid);
    loop {
        std::thread::sleep(Duration::from_millis(700));
        let now = size(pid);
        if now.0 == last.0 || Instant::now() > until {
            return now;
        }
        last = now;
    }
}

fn go_on(run: &Started) {
    for pid in descendants(run.pid()) {
        kill(pid, libc::SIGUSR1);
    }
}

#[test]
fn a_hundred_thousand_binds_from_64_threads_leave_nothing_behind() {
    for (user, binds) in User::all().iter().zip(["100000", "20000"]) {
        let run =
            start_run(*user, &["-q"], &command("trap_threads", &["flood", "PORT", "64", binds]));
        run.wait_for_stdout("warm 0 -\n");
        let before = settled_size(run.pid());
        go_on(&run);
        // Some 10 µs each; CI runs everything at once on two cores.
        let until = Instant::now() + 3 * PATIENCE;
        while !run.stdout().contains("full") && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50));
        }
        run.wait_for_stdout("full 0 -\n");
        let after = settled_size(run.pid());
        go_on(&run);
        let ended = run.ended();
        assert_eq!(lines(&ended)[2..], ["flood 0 yes", "after 0 yes"], "{user:?}: {ended:?}");
        assert_eq!(after.0, before.0, "descriptors, {user:?}");
        assert!(after.1 <= before.1 + 1024, "kB of memory, {user:?}: {before:?} {after:?}");
    }
}

/// Every refusal is worth a look at the whole machine; the looks must not pile up.
#[test]
fn refusals_do_not_pile_up() {
    for user in User::all() {
        let said = spring(
            *user,
            "trap_crowd",
            &["refused", "4000", "PORT"],
            &["refused 0 yes", "after 0 yes"],
        );
        assert!(said.contains("no interface of this machine has that address"), "{said}");
    }
}

/// Where `ulimit -Hn` leaves no descriptor to reach a socket by, the bind goes on all the same, and
/// the user is told. How many the supervisor has for itself is not for a test to know.
#[test]
fn too_few_descriptors_are_told_of() {
    for user in User::all() {
        let told = (8..40).any(|limit| {
            let crowd = command("trap_crowd", &["refused", "5", "PORT"]);
            let limit = format!("--nofile={limit}:{limit}");
            let mut arguments = vec![limit, sameport().to_str().unwrap().into()];
            arguments.extend(["run", "--"].map(String::from));
            arguments.extend(crowd);
            let ended = start_command(*user, "prlimit", &arguments).ended();
            let warnings = ended.stderr.matches("warning: sameport has no descriptor left").count();
            assert!(warnings <= 1, "{user:?}: {ended:?}");
            let is_told = warnings == 1;
            assert!(!is_told || lines(&ended)[0] == "refused 0 no", "{user:?}: {ended:?}");
            is_told
        });
        assert!(told, "{user:?}");
    }
}

#[test]
fn the_most_workers_start_where_the_soft_limit_of_descriptors_is_low() {
    let sameport = sameport().to_str().unwrap();
    let run = [sameport, "run", "-q", "-n", "1024", "--", "sh", "-c", "ulimit -Sn"];
    for user in User::all() {
        let arguments = [&["--nofile=64:4096"], &run[..]].concat();
        let ended = start_command(*user, "prlimit", &arguments).ended();
        assert_eq!(ended.code, 0, "{user:?}: {ended:?}");
        assert_eq!(ended.stdout, "64\n".repeat(1024), "{user:?}");
    }
}

/// Wherever the descriptors run out: what was started before is ended again.
#[test]
fn a_run_that_cannot_be_kept_up_leaves_no_worker() {
    let run = [sameport().to_str().unwrap(), "run", "-q", "-n", "3", "--", "sh", "-c"];
    let (mut failed, mut served) = (0, 0);
    for limit in 6..30 {
        let limit = format!("--nofile={limit}:{limit}");
        let script = ["echo $$; exec sleep 300"];
        let arguments = [&[limit.as_str()], &run[..], &script].concat();
        let mut started = start_command(User::Ourselves, "prlimit", &arguments);
        let decided = eventually(|| {
            (!started.is_running() || started.stdout().lines().count() == 3).then_some(())
        });
        assert!(decided.is_some(), "{limit}: {}", started.stderr());
        // Workers may have spoken before the supervisor found that it cannot go on.
        std::thread::sleep(Duration::from_millis(100));
        let serves = started.is_running();
        let ended = if serves { started.terminate() } else { started.ended() };
        let code = if serves { 128 + libc::SIGTERM } else { 1 };
        assert_eq!(ended.code, code, "{limit}: {ended:?}");
        for pid in lines(&ended) {
            assert!(!std::fs::exists(format!("/proc/{pid}")).unwrap(), "{limit}: {pid} lives on");
        }
        *(if serves { &mut served } else { &mut failed }) += 1;
    }
    assert!(failed > 0 && served > 0, "{failed} failed, {served} served");
}
