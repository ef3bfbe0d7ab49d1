//! Living with others: a second attach, programs of somebody else at the same cgroup, a thousand
//! rules.

use std::fs;
use std::path::PathBuf;

use crate::fixture::{TestCgroup, bpftool, programs_at};
use crate::harness::{self, User, free_port, start};

/// A program of somebody else, pinned; gone with the value.
struct Foreign(PathBuf);

impl Foreign {
    /// `None` without bpftool.
    fn load(test: &str) -> Option<Self> {
        let object = concat!(env!("CARGO_MANIFEST_DIR"), "/../../bpf/source.bpf.o");
        let folder = PathBuf::from(format!("/sys/fs/bpf/{test}-{}", std::process::id()));
        // bpftool mounts the file system if it must.
        if bpftool(&["prog", "loadall", object, folder.to_str().unwrap()]).is_none() {
            harness::skip(test, "bpftool is not here");
            return None;
        }
        Some(Self(folder))
    }

    fn attach(&self, cgroup: &TestCgroup, how: &[&str]) -> u64 {
        let program = self.0.join("note4");
        let (folder, program) = (cgroup.folder().to_str().unwrap(), program.to_str().unwrap());
        let words = ["cgroup", "attach", folder, "bind4", "pinned", program];
        bpftool(&words.into_iter().chain(how.iter().copied()).collect::<Vec<_>>()).unwrap();
        bpftool(&["prog", "show", "pinned", program]).unwrap()["id"].as_u64().unwrap()
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_second_attach_says_so_and_changes_nothing() {
    let Some(cgroup) = TestCgroup::new("cgroup-twice") else { return };
    let port = free_port();
    let cgroup = cgroup.attached(&["--port", &port.to_string()]);
    let before = programs_at(cgroup.folder());
    let exited = cgroup.attach(&[]);
    assert_eq!(exited.code, 1, "{exited:?}");
    let expected = format!("error: sameport is attached to {} already\nhint: ", cgroup.path());
    assert!(exited.stderr.starts_with(&expected), "{exited:?}");
    assert_eq!(programs_at(cgroup.folder()), before);
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
    let folder = cgroup.folder().to_str().unwrap();
    let exited = start(User::Current, &["attach", "--cgroup", folder]).wait();
    assert_eq!(exited.code, 0, "{exited:?}");
    assert!(exited.stderr.contains(&format!("attached to {}, ", cgroup.path())), "{exited:?}");
    let exited = start(User::Current, &["detach", "--cgroup", folder]).wait();
    assert_eq!(exited.code, 0, "{exited:?}");
}

#[test]
fn a_unit_is_found_wherever_its_slice_is() {
    let Some(cgroup) = TestCgroup::new("cgroup-unit") else { return };
    // Cgroups below the test's, laid out as systemd does for a user's services.
    let unit = format!("sameport-test-{}.service", free_port());
    let folder = cgroup.folder().join("user.slice/app.slice").join(&unit);
    fs::create_dir_all(&folder).unwrap();
    let attach = || start(User::Current, &["attach", "--unit", &unit]).wait();
    let exited = attach();
    assert_eq!(exited.code, 2, "nobody is in it: {exited:?}");
    assert!(
        exited.stderr.starts_with(&format!("error: unit {unit} is not running\n")),
        "{exited:?}"
    );

    let mut sleeper = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    fs::write(folder.join("cgroup.procs"), sleeper.id().to_string()).unwrap();
    let exited = attach();
    assert_eq!(exited.code, 0, "{exited:?}");
    let name = unit.strip_suffix(".service").unwrap();
    let exited = start(User::Current, &["detach", "--unit", name]).wait();
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    assert_eq!(exited.code, 0, "{exited:?}");
    for folder in folder.ancestors().take(3) {
        harness::eventually(|| fs::remove_dir(folder).ok()).unwrap();
    }
}

#[test]
fn programs_of_others_stay() {
    let Some(cgroup) = TestCgroup::new("cgroup-foreign") else { return };
    let Some(foreign) = Foreign::load("cgroup-foreign") else { return };
    let id = foreign.attach(&cgroup, &["multi"]);
    assert_eq!(programs_at(cgroup.folder()).unwrap(), [id]);
    let cgroup = cgroup.attached(&[]);
    let with_ours = programs_at(cgroup.folder()).unwrap();
    assert!(with_ours.contains(&id) && with_ours.len() == 3, "{with_ours:?}");
    let port = free_port();
    assert!(cgroup.bind_result(&format!("bind tcp 127.0.0.1 {port}")).ends_with("reuseport=1"));
    assert_eq!(cgroup.detach().code, 0);
    assert_eq!(programs_at(cgroup.folder()).unwrap(), [id]);
    // And one that comes after us.
    let cgroup = cgroup.attached(&[]);
    assert_eq!(programs_at(cgroup.folder()).unwrap().len(), 3);
    assert_eq!(start(User::Current, &["detach", "--cgroup", &cgroup.path()]).wait().code, 0);
    assert_eq!(programs_at(cgroup.folder()).unwrap(), [id]);
}

#[test]
fn who_wants_to_be_alone_is_left_alone() {
    let Some(cgroup) = TestCgroup::new("cgroup-exclusive") else { return };
    let Some(foreign) = Foreign::load("cgroup-exclusive") else { return };
    let id = foreign.attach(&cgroup, &[]);
    let exited = cgroup.attach(&[]);
    assert_eq!(exited.code, 1, "{exited:?}");
    let expected = format!(
        "error: another program is attached exclusively to {} or above it\n",
        cgroup.path()
    );
    assert!(exited.stderr.starts_with(&expected), "{exited:?}");
    assert_eq!(programs_at(cgroup.folder()).unwrap(), [id]);
    assert_eq!(cgroup.detach().code, 1);
}

#[test]
fn a_thousand_rules_are_followed() {
    let Some(cgroup) = TestCgroup::new("cgroup-thousand") else { return };
    let to = free_port();
    let words: Vec<String> = (1..=1000)
        .flat_map(|port| ["--map".to_owned(), format!("{port}=127.0.0.{}:{to}", 1 + port % 200)])
        .collect();
    let cgroup = cgroup.attached(&words.iter().map(String::as_str).collect::<Vec<_>>());
    for port in [1, 500, 1000] {
        let said = cgroup.bind_result(&format!("bind tcp 127.0.0.1 {port}"));
        assert!(said.starts_with(&format!("given 127.0.0.{} {to} ", 1 + port % 200)), "{said}");
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
