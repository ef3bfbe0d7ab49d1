//! Environments of other processes.

/// The value of a variable in the environment that a process was executed with
/// (`/proc/PID/environ`, `proc_pid_environ(5)`). `None` if the variable is missing or the file
/// unreadable.
///
/// The kernel reads the memory of the process, which blocks if the process has replaced its
/// environment by a mapped file of a file system that does not respond.
#[must_use]
pub fn env_value(pid: i32, variable: &str) -> Option<Vec<u8>> {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let value = environment
        .split(|byte| *byte == 0)
        .find_map(|entry| entry.strip_prefix(variable.as_bytes())?.strip_prefix(b"="))?;
    Some(value.to_vec())
}
