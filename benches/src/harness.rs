//! Starts and ends the measured programs.
//!
//! Every subject reads its stdin, a pipe of this process. The pipe closes when its handle is
//! dropped, and also when this process is killed; the subject then ends.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::BenchError;
use crate::report::progress;

/// The limit of every wait.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Replaces this process by the same program in new network and process namespaces. Returns only on
/// failure, with the reason.
pub(crate) fn reexec_in_namespaces() -> BenchError {
    let this = match std::env::current_exe() {
        Ok(this) => this,
        Err(error) => return format!("/proc/self/exe: {error}"),
    };
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    // The shell stays, because the first process of a pid namespace ignores Ctrl-C.
    let script = "ip link set lo up && mount -t tmpfs none /run && \"$0\" \"$@\"; exit $?";
    command
        .env("XDG_RUNTIME_DIR", "/run")
        .args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script])
        .arg(this)
        .args(std::env::args_os().skip(1))
        .arg("--alone");
    format!("unshare: {}", command.exec())
}

/// Changes a setting of this network namespace.
pub(crate) fn set(sysctl: &str, value: &str) -> Result<(), BenchError> {
    let file = Path::new("/proc/sys").join(sysctl);
    fs::write(&file, value).map_err(|error| format!("{}: {error}", file.display()))
}

/// Builds `sameport` in release, into the target folder of this program, and returns its path.
pub(crate) fn build_sameport() -> Result<PathBuf, BenchError> {
    progress("building sameport-cli in release");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(&cargo);
    command.args(["build", "--release", "--quiet", "--package", "sameport-cli"]);
    if let Some(target) = release_folder()?.parent() {
        command.arg("--target-dir").arg(target);
    }
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let status = command.stdout(Stdio::null()).stdin(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(release_folder()?.join("sameport")),
        Ok(status) => Err(format!("cargo build --release: {status}")),
        Err(error) => Err(format!("{}: {error}", cargo.display())),
    }
}

/// The release folder beside the folder of this executable.
fn release_folder() -> Result<PathBuf, BenchError> {
    let here = this_program()?;
    let target = here.parent().and_then(Path::parent);
    target.map(|target| target.join("release")).ok_or_else(|| format!("{}: where?", here.display()))
}

fn this_program() -> Result<PathBuf, BenchError> {
    std::env::current_exe().map_err(|error| format!("/proc/self/exe: {error}"))
}

/// The command line of a hidden subject of this program.
pub(crate) fn subject(arguments: &[&str]) -> Result<Vec<OsString>, BenchError> {
    let mut command = vec![this_program()?.into_os_string(), "subject".into()];
    command.extend(arguments.iter().map(OsString::from));
    Ok(command)
}

/// The command under `sameport run OPTIONS --`.
pub(crate) fn under_run(sameport: &Path, options: &[&str], command: &[OsString]) -> Vec<OsString> {
    let mut all = vec![sameport.as_os_str().to_owned(), "run".into()];
    all.extend(options.iter().map(OsString::from));
    all.push("--".into());
    all.extend(command.iter().cloned());
    all
}

/// The interposers that work here. Prints the reason for each that does not.
pub(crate) fn interposers(sameport: &Path) -> Result<Vec<&'static str>, BenchError> {
    let mut found = Vec::new();
    for via in ["seccomp", "preload", "cgroup"] {
        let tried = Command::new(sameport).args(["run", "--via", via, "--", "true"]).output();
        let tried = tried.map_err(|error| format!("{}: {error}", sameport.display()))?;
        if tried.status.success() {
            found.push(via);
        } else {
            let why = String::from_utf8_lossy(&tried.stderr);
            let why = why.lines().next().unwrap_or("it did not say why");
            progress(&format!("measured without {via}: {why}"));
        }
    }
    if found.is_empty() { Err("no interposer works here".to_owned()) } else { Ok(found) }
}

/// A started program and its output. Ended when dropped.
pub(crate) struct BenchProcess {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Lines,
    stderr: Lines,
}

/// The last lines of output.
type Lines = Arc<Mutex<Vec<String>>>;

/// Starts a command that ends when its stdin is closed.
pub(crate) fn start(command: &[OsString]) -> Result<BenchProcess, BenchError> {
    start_as(None, command)
}

/// Starts a command as another user.
pub(crate) fn start_as(uid: Option<u32>, command: &[OsString]) -> Result<BenchProcess, BenchError> {
    let (program, arguments) = command.split_first().ok_or("no command")?;
    let mut starting = Command::new(program);
    starting.args(arguments);
    starting.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(uid) = uid {
        starting.uid(uid).gid(uid);
    }
    let mut child = starting.spawn().map_err(|error| format!("{}: {error}", program.display()))?;
    let stdin = child.stdin.take();
    let stdout = keep_last_lines(child.stdout.take());
    let stderr = keep_last_lines(child.stderr.take());
    Ok(BenchProcess { child, stdin, stdout, stderr })
}

fn keep_last_lines(from: Option<impl std::io::Read + Send + 'static>) -> Lines {
    const MOST: usize = 50;
    let lines = Lines::default();
    let Some(from) = from else { return lines };
    let into = Arc::clone(&lines);
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let Ok(mut lines) = into.lock() else { return };
            if lines.len() == MOST {
                lines.remove(0);
            }
            lines.push(line);
        }
    });
    lines
}

fn text(of: &Lines) -> Vec<String> {
    of.lock().map(|lines| lines.clone()).unwrap_or_default()
}

impl BenchProcess {
    /// The started process: the supervisor under `run`.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `seen` finds its value in the output.
    pub(crate) fn wait_for<T>(
        &mut self,
        what: &str,
        patience: Duration,
        mut seen: impl FnMut(&[String]) -> Option<T>,
    ) -> Result<T, BenchError> {
        let until = Instant::now() + patience;
        loop {
            if let Some(found) = seen(&text(&self.stdout)) {
                return Ok(found);
            }
            let ended = self.child.try_wait().ok().flatten();
            if ended.is_some() || Instant::now() > until {
                // The last lines may not have been read yet.
                thread::sleep(Duration::from_millis(100));
                if let Some(found) = seen(&text(&self.stdout)) {
                    return Ok(found);
                }
                let how = ended.map_or("no end".to_owned(), |status| status.to_string());
                let stderr = text(&self.stderr).join("\n");
                return Err(format!("no {what} from pid {} ({how})\n{stderr}", self.pid()));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl BenchProcess {
    /// Sends a signal, unless the process has ended.
    pub(crate) fn signal(&mut self, signal: Signal) {
        if let Ok(None) = self.child.try_wait() {
            // The child has not been reaped, so its pid is not reused.
            let _ = kill_process(Pid::from_child(&self.child), signal);
        }
    }

    /// The errors of a process that has ended.
    pub(crate) fn said_at_its_end(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        // The last lines may not have been read yet.
        thread::sleep(Duration::from_millis(100));
        Some(format!("{status}: {}", text(&self.stderr).join("\n")))
    }

    /// Waits for the end of the process.
    pub(crate) fn ended(&mut self, patience: Duration) -> Result<ExitStatus, BenchError> {
        let until = Instant::now() + patience;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Ok(status);
            }
            if Instant::now() >= until {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        let stderr = text(&self.stderr).join("\n");
        Err(format!("pid {} did not end in {patience:?}\n{stderr}", self.pid()))
    }
}

impl Drop for BenchProcess {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        // Workers end by their stdin.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A loopback address with a free port.
pub(crate) fn free_address() -> Result<SocketAddr, BenchError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map_err(|error| format!("no free port on 127.0.0.1: {error}"))
}

/// Number of sockets that listen on this IPv4 address.
pub(crate) fn listeners(address: SocketAddr) -> usize {
    let SocketAddr::V4(v4) = address else { return 0 };
    let wanted = format!("{:08X}:{:04X}", u32::from_ne_bytes(v4.ip().octets()), v4.port());
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let columns = table.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    // Column 1 is the local address, column 3 the state, 0A for a listener.
    columns.filter(|row| row.get(1) == Some(&wanted.as_str()) && row.get(3) == Some(&"0A")).count()
}

/// The path of a program in PATH.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|it| it.join(name)).find(|file| file.is_file())
}

/// A folder for files that servers write, beside the builds.
pub(crate) fn folder() -> Result<PathBuf, BenchError> {
    let folder = release_folder()?.with_file_name("bench");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}
