//! Coexistence: a second attach, programs of others at the same cgroup, a thousand rules.

use std::fs;
use std::path::PathBuf;

use crate::fixture::{TestCgroup, bpftool, programs_at};
use crate::harness::{self, User, free_port, start};

/// A pinned program that is not sameport's, removed on drop.
struct ForeignProgram(PathBuf);

impl ForeignProgram {
    /// `None` without bpftool.
    fn load(test: &str) -> Option<Self> {
        let object = concat!(env!("CARGO_MANIFEST_DIR"), "/../sys/bpf/source.bpf.o");
        let dir = PathBuf::from(format!("/sys/fs/bpf/{test}-{}", std::process::id()));
        // bpftool mounts the BPF file system if necessary.
        if bpftool(&["prog", "loadall", object, dir.to_str().unwrap()]).is_none() {
            harness::skip(test, "no bpftool");
            return None;
        }
        Some(Self(dir))
    }

    fn attach(&self, cgroup: &TestCgroup, how: &[&str]) -> u64 {
        let program = self.0.join("note4");
        let (dir, program) = (cgroup.dir().to_str().unwrap(), program.to_str().unwrap());
        let words = ["cgroup", "attach", dir, "bind4", "pinned", program];
        bpftool(&words.into_iter().chain(how.iter().copied()).collect::<Vec<_>>()).unwrap();
        bpftool(&["prog", "show", "pinned", program]).unwrap()["id"].as_u64().unwrap()
    }
}

impl Drop for ForeignProgram {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn second_attach_fails_and_changes_nothing() {
    let Some(cgroup) = TestCgroup::new("cgroup-twice") else { return };
    let port = free_port();
    let cgroup = cgroup.attached(&["--port", &port.to_string()]);
    let before = programs_at(cgroup.dir());
    let exited = cgroup.attach(&[]);
    assert_eq!(exited.code, 1, "{exited:?}");
    let expected = format!("error: sameport is attached to {} already\nhint: ", cgroup.path());
    assert!(exited.stderr.starts_with(&expected), "{exited:?}");
    assert_eq!(programs_at(cgroup.dir()), before);
    assert!(
        cgroup.bind_result(&format!("bind tcp 127.0.0.1 {}", free_port())).ends_with("reuseport=0")
    );
    assert!(cgroup.bind_result(&format!("bind tcp 127.0.0.1 {port}")).ends_with("reuseport=1"));

    let exited = cgroup.detach();
    assert_eq!((exited.code, exited.stdout.as_str()), (0, ""), "{exited:?}");
    assert_eq!(exited.stderr, format!("detached from {}\n", cgroup.path()));
    let exited = cgroup.detach();
    assert_eq!(exited.code, 1, "{exited:?}");
    assert!(exited.stderr.starts_with("error: sameport is not attached to "), "{exited:?}");
    assert!(cgroup.bind_result(&format!("bind tcp 127.0.0.1 {port}")).ends_with("reuseport=0"));
}

#[test]
fn a_cgroup_can_be_named_by_its_directory() {
    let Some(cgroup) = TestCgroup::new("cgroup-directory") else { return };
    let dir = cgroup.dir().to_str().unwrap();
    let exited = start(User::Current, &["attach", "--cgroup", dir]).wait();
    assert_eq!(exited.code, 0, "{exited:?}");
    assert!(exited.stderr.contains(&format!("attached to {}, ", cgroup.path())), "{exited:?}");
    let exited = start(User::Current, &["detach", "--cgroup", dir]).wait();
    assert_eq!(exited.code, 0, "{exited:?}");
}

#[test]
fn unit_is_found_in_any_slice() {
    let Some(cgroup) = TestCgroup::new("cgroup-unit") else { return };
    // Cgroups below the test's, in the layout of a user's services.
    let unit = format!("sameport-test-{}.service", free_port());
    let dir = cgroup.dir().join("user.slice/app.slice").join(&unit);
    fs::create_dir_all(&dir).unwrap();
    let attach = || start(User::Current, &["attach", "--unit", &unit]).wait();
    let exited = attach();
    assert_eq!(exited.code, 2, "nobody is in it: {exited:?}");
    assert!(
        exited.stderr.starts_with(&format!("error: unit {unit} is not running\n")),
        "{exited:?}"
    );

    let mut sleeper = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    fs::write(dir.join("cgroup.procs"), sleeper.id().to_string()).unwrap();
    let exited = attach();
    assert_eq!(exited.code, 0, "{exited:?}");
    if !std::path::Path::new("/run/systemd/system").is_dir() {
        let hint = "hint: the attachment ends when the unit stops: systemd does not run here\n";
        assert!(exited.stderr.ends_with(hint), "{exited:?}");
    }
    let name = unit.strip_suffix(".service").unwrap();
    let exited = start(User::Current, &["detach", "--unit", name]).wait();
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    assert_eq!(exited.code, 0, "{exited:?}");
    for dir in dir.ancestors().take(3) {
        harness::eventually(|| fs::remove_dir(dir).ok()).unwrap();
    }
}

#[test]
fn programs_of_others_stay_attached() {
    let Some(cgroup) = TestCgroup::new("cgroup-foreign") else { return };
    let Some(foreign) = ForeignProgram::load("cgroup-foreign") else { return };
    let id = foreign.attach(&cgroup, &["multi"]);
    assert_eq!(programs_at(cgroup.dir()).unwrap(), [id]);
    let cgroup = cgroup.attached(&[]);
    let with_ours = programs_at(cgroup.dir()).unwrap();
    assert!(with_ours.contains(&id) && with_ours.len() == 3, "{with_ours:?}");
    let port = free_port();
    assert!(cgroup.bind_result(&format!("bind tcp 127.0.0.1 {port}")).ends_with("reuseport=1"));
    assert_eq!(cgroup.detach().code, 0);
    assert_eq!(programs_at(cgroup.dir()).unwrap(), [id]);
    // A program of others attached after ours.
    let cgroup = cgroup.attached(&[]);
    assert_eq!(programs_at(cgroup.dir()).unwrap().len(), 3);
    assert_eq!(start(User::Current, &["detach", "--cgroup", &cgroup.path()]).wait().code, 0);
    assert_eq!(programs_at(cgroup.dir()).unwrap(), [id]);
}

#[test]
fn exclusive_program_refuses_attach() {
    let Some(cgroup) = TestCgroup::new("cgroup-exclusive") else { return };
    let Some(foreign) = ForeignProgram::load("cgroup-exclusive") else { return };
    let id = foreign.attach(&cgroup, &[]);
    let exited = cgroup.attach(&[]);
    assert_eq!(exited.code, 1, "{exited:?}");
    let expected = format!(
        "error: another program is attached exclusively to {} or above it\n",
        cgroup.path()
    );
    assert!(exited.stderr.starts_with(&expected), "{exited:?}");
    assert_eq!(programs_at(cgroup.dir()).unwrap(), [id]);
    assert_eq!(cgroup.detach().code, 1);
}

#[test]
fn a_thousand_rules_apply() {
    let Some(cgroup) = TestCgroup::new("cgroup-thousand") else { return };
    let to = free_port();
    let words: Vec<String> = (1..=1000)
        .flat_map(|port| ["--map".to_owned(), format!("{port}=127.0.0.{}:{to}", 1 + port % 200)])
        .collect();
    let cgroup = cgroup.attached(&words.iter().map(String::as_str).collect::<Vec<_>>());
    for port in [1, 500, 1000] {
        let result = cgroup.bind_result(&format!("bind tcp 127.0.0.1 {port}"));
        assert!(result.starts_with(&format!("given 127.0.0.{} {to} ", 1 + port % 200)), "{result}");
    }
    let exited = start(User::Current, &["attach", "--list", "--json"]).wait();
    let list: serde_json::Value = serde_json::from_str(&exited.stdout).unwrap();
    let attachments = list["attachments"].as_array().unwrap();
    let ours = attachments.iter().find(|one| one["cgroup"] == cgroup.path()).unwrap();
    let maps = ours["maps"].as_array().unwrap();
    assert_eq!(maps.len(), 1000);
    assert_eq!(
        (&maps[999]["map"], &maps[999]["matched"]),
        (&words[1999].clone().into(), &1.into())
    );
}
