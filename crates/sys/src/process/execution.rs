//! Executions: a program and everything that it forked without `exec`.

use super::memory::read_memory;
use super::tree::after_name;

/// One execution of a program (`execve(2)`). A forked process has the execution of its parent; every
/// `exec` begins another.
///
/// The address of the stack and that of the arguments are inherited by `fork`, and random at each `exec`.
/// Without address randomization (`personality(2)`) they can be the same for two executions of one command,
/// so that the 16 random bytes that the kernel gives to each program (AT_RANDOM, `getauxval(3)`) are
/// compared too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Execution {
    start_stack: u64,
    arg_start: u64,
    random: Option<[u8; 16]>,
}

/// The execution of the thread `tid`, from `/proc/TID/stat` (fields 28 and 48, Linux 3.3 and 3.5) and
/// `/proc/TID/auxv`.
///
/// `None`: this process may not ptrace the thread (`proc_pid_stat(5)`: the fields are 0), or it has ended.
#[must_use]
pub fn execution(tid: i32) -> Option<Execution> {
    // The file of the thread is cheaper to read than that of a process with many threads.
    let fields = after_name(&format!("/proc/{tid}/task/{tid}/stat"))?;
    let mut fields = fields.split_ascii_whitespace().map(|field| field.parse().unwrap_or(0));
    let (start_stack, arg_start) = (fields.nth(25)?, fields.nth(19)?);
    let execution = Execution { start_stack, arg_start, random: random(tid) };
    (start_stack != 0 && arg_start != 0).then_some(execution)
}

/// The bytes at AT_RANDOM. The program can have overwritten them.
fn random(tid: i32) -> Option<[u8; 16]> {
    const AT_RANDOM: u64 = 25;
    let auxv = std::fs::read(format!("/proc/{tid}/auxv")).ok()?;
    let words = auxv.chunks_exact(size_of::<usize>());
    let words: Vec<u64> =
        words.filter_map(|word| Some(usize::from_ne_bytes(word.try_into().ok()?) as u64)).collect();
    let entry = words.chunks_exact(2).find(|entry| entry.first() == Some(&AT_RANDOM))?;
    let mut bytes = [0; 16];
    read_memory(tid, *entry.get(1)?, &mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn each_exec_begins_another_execution() {
        let own = execution(std::process::id().cast_signed()).unwrap();
        assert!(own.random.is_some());
        let sleep = || {
            let mut command = Command::new("sleep");
            command.arg("60").stdin(Stdio::null()).spawn().unwrap()
        };
        let mut children = [sleep(), sleep()];
        let executions = children.each_ref().map(|child| execution(child.id().cast_signed()));
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert!(executions[0].is_some() && executions[0] != executions[1]);
        assert!(!executions.contains(&Some(own)));
        assert_eq!(execution(own_thread()), Some(own), "a thread of this process");
        assert_eq!(execution(i32::MAX), None);
    }

    fn own_thread() -> i32 {
        rustix::thread::gettid().as_raw_nonzero().get()
    }
}
