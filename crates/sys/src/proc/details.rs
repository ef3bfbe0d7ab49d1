//! Process details from `/proc`.
//!
//! Every user can read user, parent, arguments, cgroup and start time, unless `/proc` is mounted with
//! `hidepid`. The executable and the working directory need permission to ptrace the process. Source:
//! proc_pid_status(5), proc_pid_stat(5), proc_pid_cmdline(5), proc_pid_exe(5), proc_pid_cwd(5), cgroups(7).

use std::time::Duration;

use rustix::time::ClockId;
use sameport_policy::model::ProcessDetails;

/// Limit of a command line in bytes. A process can overwrite its own with any amount.
const LONGEST: usize = 128 * 1024;

/// Converts the kernel's ticks since boot to time since 1970.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BootClock {
    /// Time of boot since 1970, by the current setting of the clock.
    boot: Duration,
    ticks_a_second: u64,
}

impl BootClock {
    pub(crate) fn read() -> Self {
        let now =
            |clock| Duration::try_from(rustix::time::clock_gettime(clock)).unwrap_or_default();
        Self {
            boot: now(ClockId::Realtime).saturating_sub(now(ClockId::Boottime)),
            ticks_a_second: rustix::param::clock_ticks_per_second().max(1),
        }
    }

    fn since_1970(self, ticks: u64) -> Duration {
        let (seconds, rest) = (ticks / self.ticks_a_second, ticks % self.ticks_a_second);
        self.boot
            + Duration::from_secs(seconds)
            + Duration::from_millis(rest * 1000 / self.ticks_a_second)
    }
}

/// The start times of processes, by the clock of the moment when this value was made: each look at a process
/// gives the same time.
#[derive(Debug, Clone, Copy)]
pub struct StartTimes(BootClock);

impl StartTimes {
    /// Reads the clocks.
    #[must_use]
    pub fn new() -> Self {
        Self(BootClock::read())
    }

    /// The start of a process, as time since 1970; `None`: no such process. Source: field 22 of proc_pid_stat(5).
    #[must_use]
    pub fn of(self, pid: i32) -> Option<Duration> {
        let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        started(&String::from_utf8_lossy(&stat)).map(|ticks| self.0.since_1970(ticks))
    }
}

impl Default for StartTimes {
    fn default() -> Self {
        Self::new()
    }
}

/// The readable details of a process.
pub(crate) fn read_details(pid: i32, clock: BootClock) -> ProcessDetails {
    let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let text = |file: &str| String::from_utf8_lossy(&read(file)).into_owned();
    let (status, stat) = (text("status"), text("stat"));
    ProcessDetails {
        uid: field(&status, "Uid:", 1).and_then(|uid| uid.parse().ok()),
        parent: field(&status, "PPid:", 0).and_then(|pid| pid.parse().ok()),
        command: words(&read("cmdline")),
        executable: std::fs::read_link(format!("/proc/{pid}/exe")).ok(),
        directory: std::fs::read_link(format!("/proc/{pid}/cwd")).ok(),
        cgroup: cgroup(&text("cgroup")),
        started: started(&stat).map(|ticks| clock.since_1970(ticks)),
    }
}

/// The word at this index of the line that begins with `name`.
pub(crate) fn field<'a>(status: &'a str, name: &str, place: usize) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_ascii_whitespace().nth(place)
}

fn words(line: &[u8]) -> Vec<String> {
    let line = &line[..line.len().min(LONGEST)];
    let line = line.strip_suffix(b"\0").unwrap_or(line);
    if line.is_empty() {
        return Vec::new();
    }
    line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// The line of version 2 has hierarchy 0 and no controllers.
pub(crate) fn cgroup(lines: &str) -> Option<String> {
    lines.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

/// Field 22, in ticks since boot. The name, field 2, is in parentheses and can contain any character.
fn started(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn what_the_files_say() {
        let status = "Name:\tUid:\nUmask:\t0022\nPPid:\t41\nUid:\t1000\t1001\t1000\t1000\n";
        assert_eq!(field(status, "Uid:", 1), Some("1001"));
        assert_eq!(field(status, "PPid:", 0), Some("41"));
        assert_eq!(field("", "PPid:", 0), None);
        let stat = "7 (a) b)) S 1 7 7 0 -1 4194560 1 0 0 0 3 4 5 6 20 0 1 0 8899 1 2";
        assert_eq!(started(stat), Some(8899));
        assert_eq!(started("7 (a"), None);
        assert_eq!(cgroup("1:name=systemd:/a\n0::/b:c\n").as_deref(), Some("/b:c"));
        assert_eq!(cgroup("1:name=systemd:/a\n"), None);
        assert_eq!(words(b"a\0b c\0\0"), ["a", "b c", ""]);
        // The process has overwritten its arguments with a title.
        assert_eq!(words(b"nginx: master"), ["nginx: master"]);
        assert_eq!(words(b""), [""; 0]);
        assert_eq!(words(&[b'x'; LONGEST + 1])[0].len(), LONGEST);
    }

    #[test]
    fn a_child_is_seen_whole() {
        let _turn = crate::serial::run_shared();
        let before = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let mut child = std::process::Command::new("sh")
            .args(["-c", "echo; read x", ""])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // It has been executed once it says something.
        std::io::Read::read_exact(&mut child.stdout.take().unwrap(), &mut [0]).unwrap();
        let seen = read_details(child.id().cast_signed(), BootClock::read());
        child.kill().unwrap();
        child.wait().unwrap();

        assert_eq!(seen.uid, Some(crate::effective_user()));
        assert_eq!(seen.parent, Some(std::process::id().cast_signed()));
        assert_eq!(seen.command, ["sh", "-c", "echo; read x", ""]);
        let executable = seen.executable.unwrap();
        assert!(executable.is_absolute() && executable.exists(), "{executable:?}");
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        assert_eq!(seen.cgroup, cgroup(&own));
        // The kernel counts in 10 ms, and the clock may be set during the test.
        let off = seen.started.unwrap().abs_diff(before);
        assert!(off < Duration::from_secs(60), "{off:?}");

        let gone = read_details(child.id().cast_signed(), BootClock::read());
        assert_eq!(gone, ProcessDetails::default());
    }
}
