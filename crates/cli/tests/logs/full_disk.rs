//! A file system that is full: workers go on, and what is lost is counted.

use crate::harness::named_run::RunSetup;
use crate::harness::{User, command_for, find_program, is_root, sameport, skip, spawn_process};

/// `$1`: sameport, `$2`: the name of the run. In a mount namespace of its own.
const SCRIPT: &str = r#"
mount -t tmpfs -o size=400k,mode=755 none /var/log || exit 90
head -c 200000 /dev/zero > /var/log/filler
"$1" run --name "$2" --detach --ready-timeout 20m -- sh -c '
  i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo line $i of a worker that writes on; done
  : > "$0"; exec sleep 1000' "$3" > /dev/null || exit 91
n=0; while [ ! -e "$3" ]; do n=$((n+1)); [ $n -lt 2000 ] || exit 92; sleep 0.05; done
"$1" logs "$2" | tail -n 1 | grep -q "line .* of a worker that writes on" || exit 93
rm /var/log/filler
n=0; while ! "$1" logs "$2" | grep -q " lines (.* bytes) are lost: "; do
  n=$((n+1)); [ $n -lt 400 ] || exit 94; sleep 0.05
done
"$1" logs "$2" | grep " are lost: "
"$1" logs "$2" --worker 1 | tail -n 1
"$1" stop "$2" --now
"#;

#[test]
fn a_full_disk_blocks_no_worker_and_the_lost_lines_are_counted() {
    let Some(_) = find_program("unshare").filter(|_| is_root()) else {
        return skip("logs-full-disk", "a file system of its own needs root and unshare(1)");
    };
    let setup = RunSetup::new(User::Current);
    let done = setup.dir.join("done");
    let program = sameport();
    let words = ["--mount", "--propagation", "private", "sh", "-c", SCRIPT, "sh"];
    let mut words: Vec<std::ffi::OsString> = words.into_iter().map(Into::into).collect();
    words.extend([program.as_os_str().to_owned(), (&setup.name).into(), done.into_os_string()]);
    let mut command = command_for(User::Current, "unshare", &words);
    command.env("XDG_RUNTIME_DIR", &setup.dir).env_remove("LOGS_DIRECTORY");
    let exited = spawn_process(command).wait();
    assert_eq!(exited.code, 0, "{exited:?}");
    let mut lines = exited.stdout.lines();
    let lost = lines.next().unwrap_or_default();
    assert!(lost.contains(&format!(" {} | ", setup.name)) && lost.contains("space"), "{exited:?}");
    // 20,000 lines, those that were lost, and those that were written, one after the other.
    let last =
        lines.next().and_then(|it| it.split("line ").nth(1)).and_then(|it| it.split(' ').next());
    let last: u64 = last.and_then(|it| it.parse().ok()).expect("a line of the worker");
    let count = lost.split(" | ").nth(1).and_then(|it| it.split(' ').next());
    let count: u64 = count.and_then(|it| it.parse().ok()).expect("a number");
    assert!(count > 1000 && last + count >= 20_000, "{last} {count}");
}
