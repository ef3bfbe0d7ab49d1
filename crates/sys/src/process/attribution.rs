//! Whose a process is, among workers that have come and gone.

use std::collections::HashMap;

use super::tree::{descendants, group_of, parent};

/// The processes below us that belong to one start of a worker, parents first: they have
/// `variable=value` in the environment that they were executed with. Where that cannot be read, or
/// has been cleared or written over, those in this process group, and children of the former.
///
/// Processes that come or go meanwhile may be missed: look again until there is none.
#[must_use]
pub fn processes_with_env(variable: &str, value: &str, group: i32) -> Vec<i32> {
    instance_processes(variable, &[(value.to_owned(), group)]).pop().unwrap_or_default()
}

/// The same for several starts, each by its value and its process group, with one look.
#[must_use]
pub fn instance_processes(variable: &str, starts: &[(String, i32)]) -> Vec<Vec<i32>> {
    let ourselves = rustix::process::getpid().as_raw_nonzero().get();
    let mut found = vec![Vec::new(); starts.len()];
    let mut whose: HashMap<i32, usize> = HashMap::new();
    for pid in descendants(ourselves) {
        let place = match env_value(pid, variable) {
            Some(theirs) => starts.iter().position(|(value, _)| value.as_bytes() == theirs),
            None => group_of(pid)
                .and_then(|group| starts.iter().position(|(_, theirs)| *theirs == group))
                .or_else(|| whose.get(&parent(pid)?).copied()),
        };
        if let Some(place) = place {
            found[place].push(pid);
            whose.insert(pid, place);
        }
    }
    found
}

/// The processes below us that have no such variable in the environment that they were executed
/// with, or whose environment cannot be read: a daemon that has cleared it, or written over it.
#[must_use]
pub fn processes_without_env(variable: &str) -> Vec<i32> {
    let ourselves = rustix::process::getpid().as_raw_nonzero().get();
    let mut pids = descendants(ourselves);
    pids.retain(|pid| env_value(*pid, variable).is_none());
    pids
}

/// The value of a variable in the environment that a process was executed with, if it has it and may be
/// looked at.
#[must_use]
pub fn env_value(pid: i32, variable: &str) -> Option<Vec<u8>> {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let value = environment
        .split(|byte| *byte == 0)
        .find_map(|entry| entry.strip_prefix(variable.as_bytes())?.strip_prefix(b"="))?;
    Some(value.to_vec())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::os::unix::process::CommandExt as _;
    use std::process::{Child, Command};
    use std::time::{Duration, Instant};

    use super::*;

    const VARIABLE: &str = "SAMEPORT_ATTRIBUTION_TEST";

    fn sleep(change: impl FnOnce(&mut Command) -> &mut Command) -> Child {
        let mut command = Command::new("/bin/sleep");
        change(command.arg("60").env_remove(VARIABLE).process_group(0)).spawn().unwrap()
    }

    fn pid(child: &Child) -> i32 {
        child.id().cast_signed()
    }

    #[test]
    fn processes_are_told_by_their_environment_then_by_group_and_parent() {
        let _turn = crate::serial::run_shared();
        let own = sleep(|command| command.env(VARIABLE, "7"));
        let other = sleep(|command| command.env(VARIABLE, "8"));
        let longer = sleep(|command| command.env(VARIABLE, "77"));
        let cleared = sleep(Command::env_clear);
        let in_group = sleep(|command| command.process_group(pid(&cleared)));
        // Another start's, though in this one's group.
        let claimed = sleep(|command| command.env(VARIABLE, "8").process_group(pid(&cleared)));
        let stranger = sleep(|command| command);
        // A child that has cleared its environment and left the group.
        let mut parent = Command::new("sh");
        parent.args(["-c", "setsid env -i /bin/sleep 61 & wait"]).env(VARIABLE, "7");
        let parent = parent.process_group(0).spawn().unwrap();
        let begun = Instant::now();
        let grandchild = loop {
            let below = descendants(pid(&parent));
            let is_asleep = |pid: &i32| {
                std::fs::read(format!("/proc/{pid}/cmdline"))
                    .is_ok_and(|line| line.starts_with(b"/bin/sleep"))
            };
            if let Some(pid) = below.into_iter().find(is_asleep) {
                break pid;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "no grandchild");
            std::thread::sleep(Duration::from_millis(1));
        };

        let found: HashSet<_> =
            processes_with_env(VARIABLE, "7", pid(&cleared)).into_iter().collect();
        let children = [own, cleared, in_group, parent, other, longer, claimed, stranger];
        let expected: Vec<_> = children.iter().map(|child| found.contains(&pid(child))).collect();
        let is_grandchild_found = found.contains(&grandchild);
        crate::process::signal(grandchild, 9).unwrap();
        for mut child in children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_eq!(expected, [true, true, true, true, false, false, false, false]);
        assert!(is_grandchild_found);
    }
}
