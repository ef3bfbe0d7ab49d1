//! Living with others: a second attach, programs of somebody else at the same cgroup, a thousand
//! rules.

use std::fs;
use std::path::PathBuf;

use crate::room::{Room, bpftool, programs_at};
use crate::stage::{self, User, free_port, start};

/// A program of somebody else, pinned; gone with the value.
struct Foreign(PathBuf);

impl Foreign {
    /// `None` without bpftool.
    fn load(test: &str) -> Option<Self> {
        let object = concat!(env!("CARGO_MANIFEST_DIR"), "/../../bpf/source.bpf.o");
        let folder = PathBuf::from(format!("/sys/fs/bpf/{test}-{}", std::process::id()));
        // bpftool mounts the file system if it must.
        if bpftool(&["prog", "loadall", object, folder.to_str().unwrap()]).is_none() {
            stage::skip(test, "bpftool is not here");
            return None;
        }
        Some(Self(folder))
    }

    fn attach(&self, room: &Room, how: &[&str]) -> u64 {
        let program = self.0.join("note4");
        let (folder, program) = (room.folder.to_str().unwrap(), program.to_str().unwrap());
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
    let Some(room) = Room::new("cgroup-twice") else { return };
    let port = free_port();
    let room = room.attached(&["--port", &port.to_string()]);
    let before = programs_at(&room.folder);
    let ended = room.attach(&[]);
    assert_eq!(ended.code, 1, "{ended:?}");
    let expected = format!("error: sameport is attached to {} already\nhint: ", room.path());
    assert!(ended.stderr.starts_with(&expected), "{ended:?}");
    assert_eq!(programs_at(&room.folder), before);
    assert!(room.binds(&format!("bind tcp 127.0.0.1 {}", free_port())).ends_with("reuseport=0"));
    assert!(room.binds(&format!("bind tcp 127.0.0.1 {port}")).ends_with("reuseport=1"));

    let ended = room.detach();
    assert_eq!((ended.code, ended.stdout.as_str()), (0, ""), "{ended:?}");
    assert_eq!(ended.stderr, format!("detached from {}\n", room.path()));
    let ended = room.detach();
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.stderr.starts_with("error: sameport is not attached to "), "{ended:?}");
    assert!(room.binds(&format!("bind tcp 127.0.0.1 {port}")).ends_with("reuseport=0"));
}

#[test]
fn a_cgroup_can_be_named_by_its_directory() {
    let Some(room) = Room::new("cgroup-directory") else { return };
    let folder = room.folder.to_str().unwrap();
    let ended = start(User::Ourselves, &["attach", "--cgroup", folder]).ended();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains(&format!("attached to {}, ", room.path())), "{ended:?}");
    let ended = start(User::Ourselves, &["detach", "--cgroup", folder]).ended();
    assert_eq!(ended.code, 0, "{ended:?}");
}

#[test]
fn a_unit_is_found_wherever_its_slice_is() {
    let Some(room) = Room::new("cgroup-unit") else { return };
    // Cgroups below the test's, laid out as systemd does for a user's services.
    let unit = format!("sameport-test-{}.service", free_port());
    let folder = room.folder.join("user.slice/app.slice").join(&unit);
    fs::create_dir_all(&folder).unwrap();
    let attach = || start(User::Ourselves, &["attach", "--unit", &unit]).ended();
    let ended = attach();
    assert_eq!(ended.code, 2, "nobody is in it: {ended:?}");
    assert!(ended.stderr.starts_with(&format!("error: unit {unit} is not running\n")), "{ended:?}");

    let mut sleeper = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    fs::write(folder.join("cgroup.procs"), sleeper.id().to_string()).unwrap();
    let ended = attach();
    assert_eq!(ended.code, 0, "{ended:?}");
    let name = unit.strip_suffix(".service").unwrap();
    let ended = start(User::Ourselves, &["detach", "--unit", name]).ended();
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    assert_eq!(ended.code, 0, "{ended:?}");
    for folder in folder.ancestors().take(3) {
        stage::eventually(|| fs::remove_dir(folder).ok()).unwrap();
    }
}

#[test]
fn programs_of_others_stay() {
    let Some(room) = Room::new("cgroup-foreign") else { return };
    let Some(foreign) = Foreign::load("cgroup-foreign") else { return };
    let id = foreign.attach(&room, &["multi"]);
    assert_eq!(programs_at(&room.folder).unwrap(), [id]);
    let room = room.attached(&[]);
    let with_ours = programs_at(&room.folder).unwrap();
    assert!(with_ours.contains(&id) && with_ours.len() == 3, "{with_ours:?}");
    let port = free_port();
    assert!(room.binds(&format!("bind tcp 127.0.0.1 {port}")).ends_with("reuseport=1"));
    assert_eq!(room.detach().code, 0);
    assert_eq!(programs_at(&room.folder).unwrap(), [id]);
    // And one that comes after us.
    let room = room.attached(&[]);
    assert_eq!(programs_at(&room.folder).unwrap().len(), 3);
    assert_eq!(start(User::Ourselves, &["detach", "--cgroup", &room.path()]).ended().code, 0);
    assert_eq!(programs_at(&room.folder).unwrap(), [id]);
}

#[test]
fn who_wants_to_be_alone_is_left_alone() {
    let Some(room) = Room::new("cgroup-exclusive") else { return };
    let Some(foreign) = Foreign::load("cgroup-exclusive") else { return };
    let id = foreign.attach(&room, &[]);
    let ended = room.attach(&[]);
    assert_eq!(ended.code, 1, "{ended:?}");
    let expected =
        format!("error: another program is attached exclusively to {} or above it\n", room.path());
    assert!(ended.stderr.starts_with(&expected), "{ended:?}");
    assert_eq!(programs_at(&room.folder).unwrap(), [id]);
    assert_eq!(room.detach().code, 1);
}

#[test]
fn a_thousand_rules_are_followed() {
    let Some(room) = Room::new("cgroup-thousand") else { return };
    let to = free_port();
    let words: Vec<String> = (1..=1000)
        .flat_map(|port| ["--map".to_owned(), format!("{port}=127.0.0.{}:{to}", 1 + port % 200)])
        .collect();
    let room = room.attached(&words.iter().map(String::as_str).collect::<Vec<_>>());
    for port in [1, 500, 1000] {
        let said = room.binds(&format!("bind tcp 127.0.0.1 {port}"));
        assert!(said.starts_with(&format!("given 127.0.0.{} {to} ", 1 + port % 200)), "{said}");
    }
    let ended = start(User::Ourselves, &["attach", "--list", "--json"]).ended();
    let list: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let attachments = list["attachments"].as_array().unwrap();
    let ours = attachments.iter().find(|one| one["cgroup"] == room.path()).unwrap();
    let maps = ours["maps"].as_array().unwrap();
    assert_eq!(maps.len(), 1000);
    assert_eq!(
        (&maps[999]["map"], &maps[999]["matched"]),
        (&words[1999].clone().into(), &1.into())
    );
}
