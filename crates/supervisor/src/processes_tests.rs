//! Children of this process as the workers and orphans of a run.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::time::Instant;

use super::*;

fn sleep(change: impl FnOnce(&mut Command) -> &mut Command) -> Child {
    let mut command = Command::new("/bin/sleep");
    change(command.arg("60").env_remove(START).process_group(0)).spawn().unwrap()
}

fn pid(child: &Child) -> i32 {
    child.id().cast_signed()
}

/// Waits for a process below this one that executes `/bin/sleep`.
fn sleeper_below(parent: i32) -> i32 {
    let begun = Instant::now();
    loop {
        let is_asleep = |pid: &i32| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.starts_with(b"/bin/sleep"))
        };
        if let Some(pid) = process::descendants(parent).into_iter().find(is_asleep) {
            return pid;
        }
        assert!(begun.elapsed() < Duration::from_secs(300), "no grandchild");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn parent_group_and_environment_attribute_a_process() {
    let first = sleep(Command::env_clear);
    let in_group = sleep(|command| command.process_group(pid(&first)));
    let with_variable = sleep(|command| command.env(START, "7"));
    let of_other = sleep(|command| command.env(START, "77"));
    let unrelated = sleep(|command| command);
    // A grandchild without the variable, in a session of its own.
    let mut shell = Command::new("sh");
    shell.args(["-c", "setsid env -i /bin/sleep 61 & wait"]).env(START, "7").process_group(0);
    let shell = shell.spawn().unwrap();
    let grandchild = sleeper_below(pid(&shell));

    let table = ProcessTable::default();
    table.started(7, pid(&first));
    // This thread is not the main thread, so its children are listed apart.
    let children = process::children(std::process::id().cast_signed());
    let of_seven = || table.of_below(&children, 7, &HashSet::new());
    let one: HashSet<i32> = of_seven().into_iter().collect();
    let snapshot = table.snapshot_below(&children);
    let all: HashSet<i32> = snapshot.of(7).iter().copied().collect();
    let is_unattributed = snapshot.unattributed().contains(&pid(&unrelated));
    let is_others = snapshot.of(77) == [pid(&of_other)];
    // The number of a reaped first process says nothing any more.
    table.reaped(pid(&first));
    table.ended(7);
    let after = of_seven();

    process::signal(grandchild, 9).unwrap();
    let mine = [&first, &in_group, &with_variable, &shell].map(pid);
    let expected: HashSet<i32> = mine.into_iter().chain([grandchild]).collect();
    let is_gone = !after.contains(&pid(&first)) && after.contains(&pid(&with_variable));
    for mut child in [first, in_group, with_variable, of_other, unrelated, shell] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_eq!(one, expected);
    assert_eq!(all, expected);
    assert!(is_unattributed && is_others && is_gone);
}
