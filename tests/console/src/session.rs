//! Shells in namespaces of their own, which run the commands of a page: the network, the processes, the
//! home directory and the user database of the machine do not take part.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What a session starts with.
#[derive(Debug, Clone)]
pub struct Setup<'a> {
    /// A directory for the files of the session, below a directory that every user can enter. It must
    /// not be below `/home`, which is hidden.
    pub dir: &'a Path,
    /// Programs that are in PATH first.
    pub programs: &'a [(&'a str, &'a Path)],
    /// Variables in addition to PATH, HOME and XDG_RUNTIME_DIR.
    pub env: &'a [(&'a str, OsString)],
    /// Whether the tests run as root. Then the user of the session has uid 1000, else it is the user of
    /// the tests in a user namespace.
    pub is_root: bool,
}

/// Two shells, of the user `ann` with the home directory `/home/ann`, and of root, if the tests run as
/// root. Dropping the session kills all of its processes.
#[derive(Debug)]
pub struct Session {
    namespaces: Child,
    dir: PathBuf,
    user: File,
    root: Option<File>,
    count: usize,
}

/// A command that was given to a shell.
#[derive(Debug, Clone)]
pub struct Call {
    output: PathBuf,
    code: PathBuf,
}

/// The limit of the start, which takes less than a second.
const LONGEST_START: Duration = Duration::from_secs(300);

/// `$1`: the directory, `$2`: `root` or `user`. PID 1 of its namespace.
const SCRIPT: &str = r#"
set -e
ip link set lo up
mount -t tmpfs -o mode=755 none /home
mkdir /home/ann
mount --bind "$1/home" /home/ann
# The output of root's runs.
mount -t tmpfs -o mode=755 none /var/log
# The numbers of processes on a machine that has run for a while.
echo 4120 2>/dev/null >/proc/sys/kernel/ns_last_pid || :
cd /home/ann
if [ "$2" = root ]; then
    while umount /sys/fs/bpf 2>/dev/null; do :; done
    mount -t bpf -o mode=700 bpf /sys/fs/bpf 2>/dev/null || :
    mkdir "$1/etc"
    mount -t tmpfs -o mode=755 none "$1/etc"
    cp -a /etc/group /etc/ld.so.cache /etc/alternatives "$1/etc"
    cp "$1/passwd" "$1/etc/passwd"
    mount --bind "$1/etc" /etc
    setpriv --reuid 1000 --regid 1000 --clear-groups --inh-caps=-all \
        bash --norc --noprofile <>"$1/user" >/dev/null 2>&1 &
    USER=root HOME=/root XDG_RUNTIME_DIR=$1/root-run bash --norc --noprofile <>"$1/root" >/dev/null 2>&1 &
else
    mount --bind "$1/passwd" /etc/passwd
    setpriv --ambient-caps=-all --inh-caps=-all --bounding-set=-all \
        bash --norc --noprofile <>"$1/user" >/dev/null 2>&1 &
fi
echo >"$1/ready"
# The first process reaps orphans.
wait
"#;

impl Session {
    /// Starts the shells. The inner error says why this machine cannot run them: programs or the right
    /// to make namespaces are missing.
    ///
    /// # Errors
    ///
    /// Of the files in the directory.
    pub fn open(setup: &Setup<'_>) -> io::Result<Result<Self, String>> {
        let Setup { dir, programs, env, is_root } = setup;
        let [bin, home, run] = ["bin", "home", "run"].map(|name| dir.join(name));
        for new in [&bin, &home, &run, &dir.join("root-run")] {
            fs::create_dir_all(new)?;
        }
        for (name, path) in *programs {
            if !bin.join(name).exists() {
                std::os::unix::fs::symlink(path, bin.join(name))?;
            }
        }
        // A new directory belongs to the user of the tests.
        let (uid, group) = match *is_root {
            true => (1000, 1000),
            false => (fs::metadata(&home)?.uid(), fs::metadata(&home)?.gid()),
        };
        if *is_root {
            for ours in [&home, &run] {
                std::os::unix::fs::chown(ours, Some(uid), Some(group))?;
            }
        }
        for private in [&run, &dir.join("root-run")] {
            fs::set_permissions(private, fs::Permissions::from_mode(0o700))?;
        }
        let passwd =
            format!("root:x:0:0::/root:/bin/sh\nann:x:{uid}:{group}::/home/ann:/bin/bash\n");
        fs::write(dir.join("passwd"), passwd)?;
        let pipes = [dir.join("user"), dir.join("root")];
        let made = Command::new("mkfifo").args(&pipes).status()?;
        if !made.success() {
            return Err(io::Error::other("mkfifo failed"));
        }

        let mut command = Command::new("unshare");
        if !is_root {
            command.args(["--map-current-user", "--keep-caps"]);
        }
        command
            .args([
                "--mount",
                "--net",
                "--pid",
                "--cgroup",
                "--fork",
                "--kill-child",
                "--mount-proc",
            ])
            .args(["sh", "-c", SCRIPT, "sh"])
            .arg(dir)
            .arg(if *is_root { "root" } else { "user" })
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin:/usr/sbin:/sbin", bin.display()))
            .env("HOME", "/home/ann")
            .env("USER", "ann")
            .env("LOGNAME", "ann")
            .env("LANG", "C.UTF-8")
            .env("XDG_RUNTIME_DIR", &run)
            .envs(env.iter().map(|(name, value)| (name, value)))
            // Ctrl-C in a terminal does not reach the shells before the test has ended.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(dir.join("errors"))?);
        let mut namespaces = match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Err("no unshare".to_owned()));
            }
            spawned => spawned?,
        };
        let begun = Instant::now();
        while !dir.join("ready").exists() {
            if begun.elapsed() > LONGEST_START {
                // They end with unshare.
                namespaces.kill()?;
                namespaces.wait()?;
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the shells do not start"));
            }
            if namespaces.try_wait()?.is_some() {
                let errors = fs::read_to_string(dir.join("errors"))?;
                return Ok(Err(errors.trim_end().replace('\n', "; ")));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // Both ends, so that neither side waits for the other.
        let pipe = |path: &Path| File::options().read(true).write(true).open(path);
        let [user, root] = [pipe(&pipes[0])?, pipe(&pipes[1])?];
        let root = is_root.then_some(root);
        Ok(Ok(Self { namespaces, dir: dir.to_path_buf(), user, root, count: 0 }))
    }

    /// Whether the session has a shell of root.
    #[must_use]
    pub fn has_root(&self) -> bool {
        self.root.is_some()
    }

    /// Gives a command to a shell, which runs it when the one before has ended.
    ///
    /// # Errors
    ///
    /// Of the pipe, and without a shell of root.
    pub fn call(&mut self, command: &str, as_root: bool) -> io::Result<Call> {
        self.count += 1;
        let file = |ending: &str| self.dir.join(format!("{}.{ending}", self.count));
        let call = Call { output: file("output"), code: file("code") };
        // Files that the user of the session writes, in a directory of the tests.
        for path in [&call.output, &call.code] {
            File::create(path)?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
        }
        let (output, code) = (call.output.display(), call.code.display());
        let text = format!("{{\n{command}\n}} >>'{output}' 2>&1 </dev/null\necho $? >'{code}'\n");
        let shell = match (as_root, &mut self.root) {
            (false, _) => &mut self.user,
            (true, Some(root)) => root,
            (true, None) => return Err(io::Error::other("no shell of root")),
        };
        shell.write_all(text.as_bytes())?;
        Ok(call)
    }
}

impl Call {
    /// The whole lines of the output until now.
    ///
    /// # Errors
    ///
    /// Of the file.
    pub fn output(&self) -> io::Result<Vec<String>> {
        let bytes = fs::read(&self.output)?;
        let text = String::from_utf8_lossy(&bytes);
        Ok(text.lines().map(|line| line.trim_end().to_owned()).collect())
    }

    /// The exit code, when the shell has run the command.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        fs::read_to_string(&self.code).ok()?.strip_suffix('\n')?.parse().ok()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // unshare passes the kill on to the first process of the namespace, and with that one all end.
        let _ = self.namespaces.kill();
        let _ = self.namespaces.wait();
    }
}
