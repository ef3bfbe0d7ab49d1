//! Suitable and unsuitable directories; files of dead runs.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use super::*;

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .map(|all| all.map(|it| it.unwrap().file_name().into_string().unwrap()).collect())
        .unwrap_or_default();
    names.sort();
    names
}

fn refused(folder: &Path) -> DirRefusal {
    let error = install(b"bytes", &[folder.to_owned()]).unwrap_err();
    assert_eq!(error.tried.len(), 1);
    assert!(error.to_string().starts_with(&format!("{}: ", folder.display())), "{error}");
    error.tried[0].1
}

#[test]
fn the_file_and_its_directory_are_removed_on_drop() {
    let room = tempfile::tempdir().unwrap();
    let folder = room.path().join("sameport");
    let placed = install(b"bytes", std::slice::from_ref(&folder)).unwrap();
    assert!(placed.exists() && placed.path().starts_with(&folder));
    assert_eq!(std::fs::read(placed.path()).unwrap(), b"bytes");
    assert_eq!(std::fs::metadata(placed.path()).unwrap().mode() & 0o7777, 0o755);
    assert_eq!(std::fs::metadata(&folder).unwrap().mode() & 0o7777, 0o711);
    let second = install(b"other", std::slice::from_ref(&folder)).unwrap();
    assert_eq!(names(&folder).len(), 2);
    drop(placed);
    assert_eq!(std::fs::read(second.path()).unwrap(), b"other");
    drop(second);
    assert!(!folder.exists());
}

#[test]
fn a_removed_file_is_noticed() {
    let room = tempfile::tempdir().unwrap();
    let placed = install(b"bytes", &[room.path().join("sameport")]).unwrap();
    std::fs::remove_file(placed.path()).unwrap();
    assert!(!placed.exists());
}

#[test]
fn files_of_dead_runs_are_removed() {
    let room = tempfile::tempdir().unwrap();
    let folder = room.path().join("sameport");
    let living = install(b"living", std::slice::from_ref(&folder)).unwrap();
    std::fs::write(folder.join(format!("{LIBRARY_PREFIX}-1-0.so")), b"dead").unwrap();
    std::fs::write(folder.join("notes.txt"), b"a stranger's").unwrap();
    symlink("/nowhere", folder.join(format!("{LIBRARY_PREFIX}-2-0.so"))).unwrap();
    let next = install(b"next", std::slice::from_ref(&folder)).unwrap();
    assert!(living.exists() && next.exists());
    assert!(!folder.join(format!("{LIBRARY_PREFIX}-1-0.so")).exists());
    assert_eq!(names(&folder).len(), 4, "{:?}", names(&folder));
}

#[test]
fn directories_that_other_users_can_change_are_refused() {
    let room = tempfile::tempdir().unwrap();
    let folder = room.path().join("sameport");
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    std::fs::create_dir(&folder).unwrap();
    mode(&folder, 0o777);
    assert_eq!(refused(&folder), DirRefusal::OthersCanWrite);
    mode(&folder, 0o755);
    mode(room.path(), 0o777);
    assert_eq!(refused(&folder), DirRefusal::OthersCanWrite);
    mode(room.path(), 0o1777);
    drop(install(b"bytes", std::slice::from_ref(&folder)).unwrap());

    let target = room.path().join("target");
    std::fs::create_dir(&target).unwrap();
    symlink(&target, &folder).unwrap();
    assert!(matches!(refused(&folder), DirRefusal::System(Errno::NOTDIR | Errno::LOOP)));
    assert!(names(&target).is_empty());
    assert_eq!(refused(&room.path().join("no/such")), DirRefusal::System(Errno::NOENT));
    if rustix::process::geteuid().is_root() {
        std::fs::remove_file(&folder).unwrap();
        std::fs::create_dir(&folder).unwrap();
        std::os::unix::fs::chown(&folder, Some(65534), None).unwrap();
        assert_eq!(refused(&folder), DirRefusal::OtherUser(65534));
    }
}

#[test]
fn the_next_directory_is_used_if_one_is_unsuitable() {
    let room = tempfile::tempdir().unwrap();
    let folder = room.path().join("sameport");
    let placed = install(b"bytes", &["/nowhere/at/all".into(), folder.clone()]).unwrap();
    assert_eq!(placed.path().parent(), Some(&*folder));
}

#[test]
fn directories_after_the_used_one_are_cleaned() {
    let room = tempfile::tempdir().unwrap();
    let folders = ["first", "used", "empty", "absent"].map(|name| room.path().join(name));
    for folder in &folders[1..3] {
        std::fs::create_dir(folder).unwrap();
        std::fs::write(folder.join(format!("{LIBRARY_PREFIX}-1-0.so")), b"dead").unwrap();
    }
    let living = install(b"living", &folders[1..2]).unwrap();
    let placed = install(b"bytes", &folders).unwrap();
    assert!(placed.path().starts_with(&folders[0]) && living.exists());
    assert_eq!(names(room.path()), ["first", "used"]);
    assert_eq!(names(&folders[1]).len(), 1);
}

/// Concurrent runs do not remove files of each other.
#[test]
fn concurrent_runs() {
    let room = tempfile::tempdir().unwrap();
    let folder = room.path().join("sameport");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let placed = install(b"bytes", std::slice::from_ref(&folder)).unwrap();
                    assert!(placed.exists());
                    assert_eq!(std::fs::read(placed.path()).unwrap(), b"bytes");
                }
            });
        }
    });
    assert!(!folder.exists());
}
