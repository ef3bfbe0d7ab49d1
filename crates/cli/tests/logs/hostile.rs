//! Workers that write much, without newlines, or after their end; many workers; file systems that take nothing.

use std::fmt::Write as _;

use crate::harness::named_run::RunSetup;
use crate::harness::{
    Exited, User, command_for, eventually, find_program, is_root, sameport, skip, spawn_process,
};
use crate::run_with_kept_output::{KeptRun, user};

#[test]
fn sixty_four_workers_have_their_lines() {
    let script = "i=0; while [ $i -lt 50 ]; do i=$((i+1)); echo $i; done; exec sleep 1000";
    let run = KeptRun::start(&["-n", "64"], script);
    let mark = format!(" {}.", run.setup.name);
    let mut counted = Vec::new();
    let all = eventually(|| {
        counted = vec![Vec::new(); 64];
        for line in run.logs(&[]).lines() {
            let Some((worker, text)) =
                line.split_once(&mark).and_then(|(_, rest)| rest.split_once(" | "))
            else {
                continue;
            };
            let worker: usize = worker.parse().unwrap();
            counted[worker - 1].push(text.parse::<u32>().unwrap());
        }
        let lines: usize = counted.iter().map(Vec::len).sum();
        (lines >= 64 * 50).then_some(())
    });
    assert!(all.is_some(), "{counted:?}");
    let expected: Vec<u32> = (1..=50).collect();
    assert!(counted.iter().all(|it| *it == expected), "{counted:?}");
    assert_eq!(run.log_writers().len(), 1);
}

/// The bytes that a worker wrote are its texts, one after the other.
#[test]
fn a_line_of_ten_megabytes_is_kept() {
    let script = "head -c 10000000 /dev/zero | tr '\\0' x; echo; echo after; exec sleep 1000";
    let run = KeptRun::start(&["--log-files", "100"], script);
    run.wait_for(".1 | after");
    let of_worker = run.logs(&["--worker", "1"]);
    let texts = of_worker.lines().filter_map(|line| line.split(' ').nth(3));
    let bytes: usize = texts.filter(|text| text.starts_with('x')).map(str::len).sum();
    assert_eq!(bytes, 10_000_000);
}

/// A worker that writes as fast as it can, without a newline: files stay within their number and size, and the
/// other verbs work.
#[test]
fn a_fast_writer_without_a_newline_fills_no_disk() {
    let script = "echo begun; exec tr '\\0' x </dev/zero";
    let run = KeptRun::start(&["--log-size", "1M", "--log-files", "3"], script);
    let rotated = eventually(|| {
        let names = std::fs::read_dir(run.directory()).unwrap().flatten();
        let mut numbers = names.filter_map(|entry| {
            entry.file_name().to_str()?.strip_prefix("log.")?.parse::<u32>().ok()
        });
        numbers.any(|number| number > 10).then_some(())
    });
    assert!(rotated.is_some(), "no rotation");
    // A file may be counted after its successor has come.
    let entries = std::fs::read_dir(run.directory()).unwrap().flatten();
    let sizes: Vec<u64> = entries.filter_map(|entry| Some(entry.metadata().ok()?.len())).collect();
    assert!(sizes.iter().sum::<u64>() < 5 * 1024 * 1024, "{sizes:?}");
    assert_eq!(run.logs(&["-n", "1"]).lines().count(), 1);
    assert_eq!(run.verb("stop", &["--now"]).code, 0);
}

/// Numbered lines of every start come once, across rotations and a replacement of the workers.
#[test]
fn a_follower_sees_every_line_once_across_an_upgrade() {
    let server = crate::harness::c_program("drains", &[]);
    let setup = RunSetup::new(user());
    let run = KeptRun { setup };
    let script = |version: &str| {
        format!(
            "i=0; while [ $i -lt 4000 ]; do i=$((i+1)); echo {version} $i; done; exec {} {}",
            server.display(),
            run.setup.port
        )
    };
    let options = ["--wait", "--log-size", "64K", "--log-files", "1000"];
    let started = spawn_process(run.start_command(&options, &script("one"))).wait();
    assert_eq!(started.code, 0, "{started:?}");
    let follower = run.follow(&["-n", "1000000"]);
    let upgraded = run.verb("upgrade", &["--", "sh", "-c", &script("two")]);
    assert_eq!(upgraded.code, 0, "{upgraded:?}");
    assert_eq!(run.verb("restart", &[]).code, 0);
    assert_eq!(run.verb("stop", &[]).code, 0);
    let followed = follower.wait();
    let mut found = String::new();
    for line in followed.stdout.lines() {
        let Some((_, text)) = line.split_once(".1 | ") else { continue };
        if text.starts_with("one ") || text.starts_with("two ") {
            writeln!(found, "{text}").unwrap();
        }
    }
    let mut expected = String::new();
    for version in ["one", "two", "two"] {
        for number in 1..=4000 {
            writeln!(expected, "{version} {number}").unwrap();
        }
    }
    assert!(found == expected, "{} of {} bytes", found.len(), expected.len());
}

/// Two users have a run of one name: each has its own lines, and root asks for those of either.
#[test]
fn runs_of_one_name_of_two_users_are_two() {
    if !is_root() {
        return skip("two users", "runs as two users need root");
    }
    let run = KeptRun::start(&[], "echo of a user; exec sleep 1000");
    run.wait_for("of a user");
    let directory = run.setup.dir.join("root");
    std::fs::create_dir(&directory).unwrap();
    let of_root = |words: &[&str]| -> Exited {
        let mut command = command_for(User::Current, sameport(), words);
        command.env("XDG_RUNTIME_DIR", &directory).env("LOGS_DIRECTORY", &directory);
        spawn_process(command).wait()
    };
    let name = run.setup.name.as_str();
    let words = ["run", "--name", name, "--detach", "--ready-timeout", "20m", "--"];
    let words: Vec<&str> =
        words.into_iter().chain(["sh", "-c", "echo of root; exec sleep 1000"]).collect();
    assert_eq!(of_root(&words).code, 0);
    let found = eventually(|| {
        let shown = of_root(&["logs", name]).stdout;
        shown.contains("of root").then_some(shown)
    });
    let stopped = of_root(&["stop", name, "--now"]);
    assert_eq!(stopped.code, 0, "{stopped:?}");
    assert!(!found.expect("lines of root").contains("of a user"));
    assert!(!run.logs(&[]).contains("of root"));
}

/// `$1`: sameport, `$2`: the name of the run, `$3`: a directory. In a mount namespace of its own.
const READ_ONLY: &str = r#"
mount -t tmpfs -o mode=755 none "$3" || exit 90
mount -o remount,ro "$3" || exit 91
LOGS_DIRECTORY="$3" "$1" run --name "$2" --detach -- sleep 1000; [ $? = 3 ] || exit 92
mount -o remount,rw "$3" || exit 93
export LOGS_DIRECTORY="$3"
"$1" run --name "$2" --detach --ready-timeout 20m -- sh -c '
  i=0; while :; do i=$((i+1)); echo line $i; : > "$0"; sleep 0.01; done' "$4" >/dev/null || exit 94
n=0; while [ ! -e "$4" ]; do n=$((n+1)); [ $n -lt 2000 ] || exit 95; sleep 0.05; done
"$1" stop "$2" --now
"#;

#[test]
fn a_read_only_file_system_is_refused_before_anything_starts() {
    let Some(_) = find_program("unshare").filter(|_| is_root()) else {
        return skip("read-only", "a file system of its own needs root and unshare(1)");
    };
    let setup = RunSetup::new(User::Current);
    let (files, done) = (setup.dir.join("files"), setup.dir.join("done"));
    std::fs::create_dir(&files).unwrap();
    let words = ["--mount", "--propagation", "private", "sh", "-c", READ_ONLY, "sh"];
    let mut words: Vec<std::ffi::OsString> = words.into_iter().map(Into::into).collect();
    words.extend([sameport().as_os_str().to_owned(), (&setup.name).into()]);
    words.extend([files.into_os_string(), done.into_os_string()]);
    let mut command = command_for(User::Current, "unshare", &words);
    command.env("XDG_RUNTIME_DIR", &setup.dir);
    let exited = spawn_process(command).wait();
    assert_eq!(exited.code, 0, "{exited:?}");
    assert!(exited.stderr.contains("the file system is read-only"), "{exited:?}");
}
