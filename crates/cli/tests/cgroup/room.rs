//! A cgroup for a test, gone at its end with all that was started in it.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{RwLock, RwLockReadGuard};

use crate::stage::{self, Ended, Started, User, c_program, command_for, start, start_built};

/// Tests that count every program of the machine take it for themselves.
pub(crate) static MACHINE: RwLock<()> = RwLock::new(());

pub(crate) struct Room {
    pub(crate) folder: PathBuf,
    turn: Option<RwLockReadGuard<'static, ()>>,
}

impl Room {
    /// `None` where the test cannot be made: without root, or without cgroup v2.
    pub(crate) fn new(test: &str) -> Option<Self> {
        let turn = MACHINE.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut room = Self::alone(test)?;
        room.turn = Some(turn);
        Some(room)
    }

    /// For who holds [`MACHINE`], or a room, already.
    pub(crate) fn alone(test: &str) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !stage::is_root() {
            stage::skip(test, "needs root");
            return None;
        }
        let Some(top) = top() else {
            stage::skip(test, "cgroup v2 is not mounted");
            return None;
        };
        // One of this name may be another pid namespace's, where somebody has our number.
        for _ in 0..1000 {
            let next = NEXT.fetch_add(1, Ordering::Relaxed);
            let folder = top.join(format!("sameport-test-{}-{next}", std::process::id()));
            match fs::create_dir(&folder) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                made => {
                    made.unwrap();
                    return Some(Self { folder, turn: None });
                }
            }
        }
        panic!("no name for a cgroup is free");
    }

    /// Its path as `/proc/PID/cgroup` has it.
    pub(crate) fn path(&self) -> String {
        format!("/{}", self.folder.file_name().unwrap().to_str().unwrap())
    }

    /// Its number.
    pub(crate) fn id(&self) -> u64 {
        fs::metadata(&self.folder).unwrap().ino()
    }

    /// `sameport attach --cgroup ROOM ARGUMENTS`.
    pub(crate) fn attach(&self, arguments: &[&str]) -> Ended {
        let path = self.path();
        let words = ["attach", "--cgroup", &path].into_iter().chain(arguments.iter().copied());
        start(User::Ourselves, &words.collect::<Vec<_>>()).ended()
    }

    /// The same, and it must be done.
    #[track_caller]
    pub(crate) fn attached(self, arguments: &[&str]) -> Self {
        let ended = self.attach(arguments);
        assert_eq!(ended.code, 0, "{ended:?}");
        assert_eq!(ended.stdout, "");
        self
    }

    pub(crate) fn detach(&self) -> Ended {
        start(User::Ourselves, &["detach", "--cgroup", &self.path()]).ended()
    }

    /// The command, in the cgroup from its start.
    pub(crate) fn command<P: AsRef<OsStr>, S: AsRef<OsStr>>(
        &self,
        user: User,
        program: P,
        arguments: &[S],
    ) -> Command {
        let enter = "echo 0 > \"$0\"/cgroup.procs && exec \"$@\"";
        let mut words = vec![OsString::from("-c"), enter.into(), self.folder.clone().into()];
        if user == User::Another {
            let become_another = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
            words.extend(become_another.map(OsString::from));
        }
        words.push(program.as_ref().to_owned());
        words.extend(arguments.iter().map(|word| word.as_ref().to_owned()));
        command_for(User::Ourselves, "/bin/sh", &words)
    }

    pub(crate) fn start<P: AsRef<OsStr>, S: AsRef<OsStr>>(
        &self,
        program: P,
        arguments: &[S],
    ) -> Started {
        start_built(self.command(User::Ourselves, program, arguments))
    }

    /// `cgroup_binds WORDS` in the cgroup: the line that it says.
    #[track_caller]
    pub(crate) fn binds(&self, words: &str) -> String {
        let words: Vec<&str> = words.split(' ').collect();
        let ended = self.start(binds_program(), &words).ended();
        assert_eq!(ended.code, 0, "{words:?}: {ended:?}");
        ended.stdout.trim_end().to_owned()
    }

    /// Takes a process in that runs elsewhere.
    pub(crate) fn take_in(&self, pid: i32) {
        take_into(&self.folder, pid);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = self.detach();
        let procs = fs::read_to_string(self.folder.join("cgroup.procs")).unwrap_or_default();
        for pid in procs.lines().filter_map(|line| line.parse().ok()) {
            stage::kill(pid, libc::SIGKILL);
        }
        stage::eventually(|| {
            let gone = fs::remove_dir(&self.folder).is_ok() || !self.folder.exists();
            gone.then_some(())
        });
    }
}

/// Puts a process into a cgroup.
pub(crate) fn take_into(folder: &Path, pid: i32) {
    fs::write(folder.join("cgroup.procs"), pid.to_string()).unwrap();
}

pub(crate) fn binds_program() -> PathBuf {
    c_program("cgroup_binds", &["-static"])
}

/// Where cgroup v2 is mounted, found in another way than the product does.
pub(crate) fn top() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"))?;
    Some(Path::new(mount.split(' ').nth(1)?).to_owned())
}

/// The output of `bpftool -j WORDS`; `None` where it is not installed. It fails where an object ends
/// while it is listed, so it is asked again.
pub(crate) fn bpftool(words: &[&str]) -> Option<serde_json::Value> {
    let program = stage::find_program("bpftool")?;
    let mut last = String::new();
    let answer = stage::eventually(|| {
        let output = Command::new(&program).arg("-j").args(words).output().unwrap();
        last = String::from_utf8(output.stdout).unwrap();
        output.status.success().then(|| last.trim().to_owned())
    });
    let text = answer.unwrap_or_else(|| panic!("bpftool {words:?}: {last}"));
    Some(if text.is_empty() {
        serde_json::Value::Null
    } else {
        serde_json::from_str(&text).unwrap()
    })
}

/// The ids of programs at a cgroup.
pub(crate) fn programs_at(folder: &Path) -> Option<Vec<u64>> {
    let shown = bpftool(&["cgroup", "show", folder.to_str().unwrap()])?;
    let shown = shown.as_array().cloned().unwrap_or_default();
    Some(shown.iter().filter_map(|program| program["id"].as_u64()).collect())
}

/// Kinds and ids.
pub(crate) type Objects = BTreeSet<(&'static str, u64)>;

/// The links, programs and maps of this machine, but for those that are in use at cgroups that are
/// not ours.
pub(crate) fn objects(ours: &[u64]) -> Option<Objects> {
    let list = |kind| {
        let list = bpftool(&[kind, "list"])?;
        Some(list.as_array().cloned().unwrap_or_default())
    };
    let (links, programs, maps) = (list("link")?, list("prog")?, list("map")?);
    let number = |object: &serde_json::Value, key: &str| object[key].as_u64();
    let foreign: BTreeSet<_> = links
        .iter()
        .filter(|link| number(link, "cgroup_id").is_some_and(|cgroup| !ours.contains(&cgroup)))
        .filter_map(|link| number(link, "prog_id"))
        .collect();
    let is_foreign = |program: &&serde_json::Value| {
        number(program, "id").is_some_and(|id| foreign.contains(&id))
    };
    let mut of_others = Objects::new();
    for program in programs.iter().filter(is_foreign) {
        let ids = program["map_ids"].as_array().into_iter().flatten();
        of_others.extend(ids.filter_map(|id| Some(("map", id.as_u64()?))));
        of_others.extend(number(program, "id").map(|id| ("prog", id)));
    }
    for link in &links {
        if number(link, "prog_id").is_some_and(|id| foreign.contains(&id)) {
            of_others.extend(number(link, "id").map(|id| ("link", id)));
        }
    }
    let all = [("link", links), ("prog", programs), ("map", maps)];
    let all = all.iter().flat_map(|(kind, list)| {
        list.iter().filter_map(|object| Some((*kind, object["id"].as_u64()?)))
    });
    Some(all.filter(|object| !of_others.contains(object)).collect())
}
