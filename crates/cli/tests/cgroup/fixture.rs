//! The cgroup of a test. Dropping it detaches, kills its processes and removes it.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{RwLock, RwLockReadGuard};

use crate::harness::{
    self, Cgroup, Exited, Process, User, c_program, command_for, spawn_process, start,
};

/// Tests that count all BPF objects of the machine hold this lock for writing.
pub(crate) static MACHINE: RwLock<()> = RwLock::new(());

pub(crate) struct TestCgroup {
    cgroup: Cgroup,
    machine_lock: Option<RwLockReadGuard<'static, ()>>,
}

impl TestCgroup {
    /// Skips the test without root or without cgroup v2.
    pub(crate) fn new(test: &str) -> Option<Self> {
        let machine_lock = MACHINE.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut cgroup = Self::create(test)?;
        cgroup.machine_lock = Some(machine_lock);
        Some(cgroup)
    }

    /// For a test that holds [`MACHINE`] or another cgroup.
    pub(crate) fn create(test: &str) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !harness::is_root() {
            harness::skip(test, "needs root");
            return None;
        }
        if harness::cgroup2_mount().is_none() {
            harness::skip(test, "cgroup v2 is not mounted");
            return None;
        }
        // A process with the same pid in another pid namespace can have taken the name.
        let cgroup = (0..1000).find_map(|_| {
            let next = NEXT.fetch_add(1, Ordering::Relaxed);
            Cgroup::create(&format!("sameport-test-{}-{next}", std::process::id()))
        });
        Some(Self { cgroup: cgroup.expect("a free name for a cgroup"), machine_lock: None })
    }

    pub(crate) fn dir(&self) -> &Path {
        self.cgroup.path()
    }

    /// The path in `/proc/PID/cgroup`.
    pub(crate) fn path(&self) -> String {
        format!("/{}", self.dir().file_name().unwrap().to_str().unwrap())
    }

    /// The inode number.
    pub(crate) fn id(&self) -> u64 {
        fs::metadata(self.dir()).unwrap().ino()
    }

    /// `sameport attach --cgroup PATH ARGUMENTS`.
    pub(crate) fn attach(&self, arguments: &[&str]) -> Exited {
        let path = self.path();
        let words = ["attach", "--cgroup", &path].into_iter().chain(arguments.iter().copied());
        start(User::Current, &words.collect::<Vec<_>>()).wait()
    }

    /// Attaches, which must succeed.
    #[track_caller]
    pub(crate) fn attached(self, arguments: &[&str]) -> Self {
        let exited = self.attach(arguments);
        assert_eq!(exited.code, 0, "{exited:?}");
        assert_eq!(exited.stdout, "");
        self
    }

    pub(crate) fn detach(&self) -> Exited {
        start(User::Current, &["detach", "--cgroup", &self.path()]).wait()
    }

    /// A command that starts in the cgroup.
    pub(crate) fn command<P: AsRef<OsStr>, S: AsRef<OsStr>>(
        &self,
        user: User,
        program: P,
        arguments: &[S],
    ) -> Command {
        let enter = "echo 0 > \"$0\"/cgroup.procs && exec \"$@\"";
        let mut words = vec![OsString::from("-c"), enter.into(), self.dir().into()];
        if user == User::Nobody {
            let become_another = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
            words.extend(become_another.map(OsString::from));
        }
        words.push(program.as_ref().to_owned());
        words.extend(arguments.iter().map(|word| word.as_ref().to_owned()));
        command_for(User::Current, "/bin/sh", &words)
    }

    pub(crate) fn start<P: AsRef<OsStr>, S: AsRef<OsStr>>(
        &self,
        program: P,
        arguments: &[S],
    ) -> Process {
        spawn_process(self.command(User::Current, program, arguments))
    }

    /// The output of `cgroup_binds WORDS`, run in the cgroup.
    #[track_caller]
    pub(crate) fn bind_result(&self, words: &str) -> String {
        let words: Vec<&str> = words.split(' ').collect();
        let exited = self.start(binds_program(), &words).wait();
        assert_eq!(exited.code, 0, "{words:?}: {exited:?}");
        exited.stdout.trim_end().to_owned()
    }

    /// Moves a process into the cgroup.
    pub(crate) fn move_into(&self, pid: i32) {
        self.cgroup.move_into(pid);
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        let _ = self.detach();
    }
}

pub(crate) fn binds_program() -> PathBuf {
    c_program("cgroup_binds", &["-static"])
}

/// The output of `bpftool -j WORDS`; `None` if it is not installed. bpftool fails if an object
/// vanishes while it lists, so it runs again.
pub(crate) fn bpftool(words: &[&str]) -> Option<serde_json::Value> {
    let program = harness::find_program("bpftool")?;
    let mut last = String::new();
    let answer = harness::eventually(|| {
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

/// The ids of the programs attached to a cgroup.
pub(crate) fn programs_at(dir: &Path) -> Option<Vec<u64>> {
    let shown = bpftool(&["cgroup", "show", dir.to_str().unwrap()])?;
    let shown = shown.as_array().cloned().unwrap_or_default();
    Some(shown.iter().filter_map(|program| program["id"].as_u64()).collect())
}

/// The kind and the id of each BPF object.
pub(crate) type Objects = BTreeSet<(&'static str, u64)>;

/// The links, programs and maps of this machine, except those attached to cgroups other than
/// `ours`, and those of systemd, which attaches programs to its units without a link.
pub(crate) fn objects(ours: &[u64]) -> Option<Objects> {
    let list = |kind| {
        let list = bpftool(&[kind, "list"])?;
        Some(list.as_array().cloned().unwrap_or_default())
    };
    let (links, programs, maps) = (list("link")?, list("prog")?, list("map")?);
    let number = |object: &serde_json::Value, key: &str| object[key].as_u64();
    let programs_of_others: BTreeSet<_> = links
        .iter()
        .filter(|link| number(link, "cgroup_id").is_some_and(|cgroup| !ours.contains(&cgroup)))
        .filter_map(|link| number(link, "prog_id"))
        .collect();
    let is_of_others = |program: &&serde_json::Value| {
        number(program, "id").is_some_and(|id| programs_of_others.contains(&id))
            || program["name"].as_str().is_some_and(|name| name.starts_with("sd_"))
    };
    let mut objects_of_others = Objects::new();
    for program in programs.iter().filter(is_of_others) {
        let ids = program["map_ids"].as_array().into_iter().flatten();
        objects_of_others.extend(ids.filter_map(|id| Some(("map", id.as_u64()?))));
        objects_of_others.extend(number(program, "id").map(|id| ("prog", id)));
    }
    for link in &links {
        if number(link, "prog_id").is_some_and(|id| programs_of_others.contains(&id)) {
            objects_of_others.extend(number(link, "id").map(|id| ("link", id)));
        }
    }
    let all = [("link", links), ("prog", programs), ("map", maps)];
    let all = all.iter().flat_map(|(kind, list)| {
        list.iter().filter_map(|object| Some((*kind, object["id"].as_u64()?)))
    });
    Some(all.filter(|object| !objects_of_others.contains(object)).collect())
}
