//! Attribution of descendant processes to instances of workers.

use std::collections::HashMap;

use super::tree::{descendants, group_of, parent};

/// The descendants of this process that belong to one instance of a worker, parents first: those
/// with `variable=value` in the environment that they were executed with. Where the variable is
/// missing or unreadable, the process group or else the parent decides.
///
/// Processes that start or end meanwhile may be missing, so repeat the call until it returns none.
#[must_use]
pub fn processes_with_env(variable: &str, value: &str, group: i32) -> Vec<i32> {
    instance_processes(variable, &[(value.to_owned(), group)]).pop().unwrap_or_default()
}

/// [`processes_with_env`] for several instances, each with its value and its process group, by one
/// pass over `/proc`.
#[must_use]
pub fn instance_processes(variable: &str, instances: &[(String, i32)]) -> Vec<Vec<i32>> {
    let own_pid = rustix::process::getpid().as_raw_nonzero().get();
    let mut found = vec![Vec::new(); instances.len()];
    let mut instance_of: HashMap<i32, usize> = HashMap::new();
    for pid in descendants(own_pid) {
        let instance = match env_value(pid, variable) {
            Some(found) => instances.iter().position(|(value, _)| value.as_bytes() == found),
            None => group_of(pid)
                .and_then(|group| {
                    instances.iter().position(|(_, instance_group)| *instance_group == group)
                })
                .or_else(|| instance_of.get(&parent(pid)?).copied()),
        };
        if let Some(instance) = instance {
            found[instance].push(pid);
            instance_of.insert(pid, instance);
        }
    }
    found
}

/// The descendants of this process without the variable in the environment that they were executed
/// with, or whose environment cannot be read.
#[must_use]
pub fn processes_without_env(variable: &str) -> Vec<i32> {
    let own_pid = rustix::process::getpid().as_raw_nonzero().get();
    let mut pids = descendants(own_pid);
    pids.retain(|pid| env_value(*pid, variable).is_none());
    pids
}

/// The value of a variable in the environment that a process was executed with
/// (`/proc/PID/environ`). `None` if the variable is missing or the file unreadable.
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
    fn environment_then_group_and_parent_attribute_a_process() {
        let _turn = crate::serial::run_shared();
        let own = sleep(|command| command.env(VARIABLE, "7"));
        let other = sleep(|command| command.env(VARIABLE, "8"));
        let longer = sleep(|command| command.env(VARIABLE, "77"));
        let cleared = sleep(Command::env_clear);
        let in_group = sleep(|command| command.process_group(pid(&cleared)));
        // In the group of the first instance, with the variable of the other.
        let other_in_group =
            sleep(|command| command.env(VARIABLE, "8").process_group(pid(&cleared)));
        let unrelated = sleep(|command| command);
        // A grandchild without the variable, in a process group of its own.
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
        let children = [own, cleared, in_group, parent, other, longer, other_in_group, unrelated];
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
