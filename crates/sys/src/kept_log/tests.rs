//! Writing and reading files, rotations, and directories that are refused.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

use super::super::*;
use crate::DirRefusal;

use crate::private_dir::DirRefusal::System;
use rustix::io::Errno;

struct Folder {
    _base: tempfile::TempDir,
    path: PathBuf,
}

fn folder() -> Folder {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("sameport/web");
    Folder { _base: base, path }
}

impl Folder {
    fn follower(&self) -> LogFollower {
        let owner = crate::effective_user();
        LogFollower::of_directory(LogDirectory::open(&self.path, owner).unwrap())
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.path).unwrap();
        let mut names: Vec<String> =
            entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn read_all(follower: &mut LogFollower) -> String {
    let mut lines = Vec::new();
    while follower.read(&mut lines).unwrap() {}
    String::from_utf8(lines).unwrap()
}

#[test]
fn full_files_are_replaced_and_the_oldest_are_removed() {
    let folder = folder();
    let mut files = LogFiles::new(folder.path.clone(), 10, 3);
    for number in 0..9 {
        let line = format!("line {number}\n");
        assert_eq!(files.append(line.as_bytes()), (7, None));
    }
    assert_eq!(folder.names(), ["current", "lock", "log.3", "log.4"]);
    assert_eq!(
        read_all(&mut folder.follower()),
        (4..9).map(|it| format!("line {it}\n")).collect::<String>()
    );
    // Records are never divided; one that is longer than a file gets one.
    let long = format!("{}\nshort\n", "x".repeat(50));
    assert_eq!(files.append(long.as_bytes()).0, long.len());
    assert!(read_all(&mut folder.follower()).ends_with(&long));
}

#[test]
fn a_follower_loses_nothing_in_rotations_and_says_what_it_missed() {
    let folder = folder();
    let mut files = LogFiles::new(folder.path.clone(), 30, 4);
    files.append(b"0\n");
    let mut follower = folder.follower();
    let mut expected = String::new();
    let mut read = read_all(&mut follower);
    expected.push_str("0\n");
    for number in 1..200 {
        let line = format!("{number}\n");
        files.append(line.as_bytes());
        expected.push_str(&line);
        if number % 7 == 0 {
            read.push_str(&read_all(&mut follower));
        }
    }
    read.push_str(&read_all(&mut follower));
    assert_eq!(read, expected);
    assert!(!follower.take_missed());
    for number in 200..300 {
        files.append(format!("{number}\n").as_bytes());
    }
    assert!(read_all(&mut follower).ends_with("298\n299\n"));
    assert!(follower.take_missed());
    assert!(!follower.take_missed());
}

#[test]
fn the_last_lines_are_found_across_files() {
    let folder = folder();
    let mut files = LogFiles::new(folder.path.clone(), 20, 9);
    for number in 0..30 {
        files.append(format!("{number}\n").as_bytes());
    }
    let last = |most, even: bool| {
        let mut follower = folder.follower();
        let mut wanted =
            |line: &[u8]| Some(!even || (line[line.len() - 1] - b'0').is_multiple_of(2));
        let lines = follower.last(most, &mut wanted).unwrap();
        // The place is the end.
        assert_eq!(read_all(&mut follower), "");
        lines.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect::<Vec<_>>()
    };
    assert_eq!(last(3, false), ["27", "28", "29"]);
    assert_eq!(last(0, false), [""; 0]);
    assert_eq!(last(99, false).len(), 30);
    assert_eq!(last(12, true)[..2], ["6", "8"]);
    // The search ends where the caller says so, also in the middle of the files.
    let mut looked = 0;
    let mut wanted = |_: &[u8]| {
        looked += 1;
        (looked <= 15).then_some(looked > 13)
    };
    let lines = folder.follower().last(99, &mut wanted).unwrap();
    assert_eq!((lines, looked), (vec![b"15".to_vec(), b"16".to_vec()], 16));
}

#[test]
fn an_unfinished_line_is_read_when_it_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    std::fs::write(&path, "one\ntw").unwrap();
    let mut follower = LogFollower::of_file(path.clone());
    assert_eq!(follower.last(9, &mut |_| Some(true)).unwrap(), [b"one".to_vec()]);
    assert_eq!(read_all(&mut follower), "");
    std::fs::write(&path, "one\ntwo\nth").unwrap();
    assert_eq!(read_all(&mut follower), "two\n");
    // Another program replaces the file.
    std::fs::rename(&path, dir.path().join("log.1")).unwrap();
    std::fs::write(&path, "four\n").unwrap();
    assert_eq!(read_all(&mut follower), "th\nfour\n");
    // A user empties it.
    std::fs::write(&path, "5\n").unwrap();
    assert_eq!(read_all(&mut follower), "5\n");
}

#[test]
fn what_another_user_could_change_is_refused() {
    let base = tempfile::tempdir().unwrap();
    let ours = base.path().join("sameport");
    let path = ours.join("web");
    let create = || LogDirectory::create(&path).map(drop);
    let refused = |path: &std::path::Path, why: DirRefusal| {
        Err(LogDirectoryError { path: path.to_owned(), why })
    };
    let chmod = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    std::fs::write(&ours, "").unwrap();
    assert_eq!(create(), refused(&ours, System(Errno::NOTDIR)));
    std::fs::remove_file(&ours).unwrap();
    symlink("/tmp", &ours).unwrap();
    assert!(create().is_err());
    std::fs::remove_file(&ours).unwrap();
    std::fs::create_dir(&ours).unwrap();
    symlink(base.path(), &path).unwrap();
    assert!(create().is_err());
    std::fs::remove_file(&path).unwrap();
    assert_eq!(create(), Ok(()));
    chmod(&path, 0o777);
    assert_eq!(create(), refused(&path, DirRefusal::OthersCanWrite));
    chmod(&path, 0o755);
    assert_eq!(create(), Ok(()));
    // The file.
    let directory = LogDirectory::create(&path).unwrap();
    let current = path.join(CURRENT);
    symlink("/dev/null", &current).unwrap();
    assert_eq!(directory.try_write(&path), refused(&current, System(Errno::LOOP)));
    std::fs::remove_file(&current).unwrap();
    std::fs::write(&current, "").unwrap();
    std::fs::hard_link(&current, path.join("other")).unwrap();
    assert_eq!(directory.try_write(&path), refused(&current, System(Errno::MLINK)));
}

#[test]
fn a_removed_directory_is_created_again_and_a_removed_file_too() {
    let folder = folder();
    let mut files = LogFiles::new(folder.path.clone(), 1000, 3);
    files.append(b"one\n");
    std::fs::remove_file(folder.path.join(CURRENT)).unwrap();
    assert_eq!(files.append(b"two\n"), (4, None));
    assert_eq!(read_all(&mut folder.follower()), "two\n");
    std::fs::remove_dir_all(&folder.path).unwrap();
    let _ = files.append(b"three\n");
    assert_eq!(files.append(b"four\n"), (5, None));
    assert!(read_all(&mut folder.follower()).ends_with("four\n"));
}

#[test]
fn two_writers_share_the_files() {
    let folder = folder();
    let mut both = [1, 2].map(|_| LogFiles::new(folder.path.clone(), 50, 100));
    for number in 0..100 {
        let line = format!("{number}\n");
        assert_eq!(both[number % 2].append(line.as_bytes()), (line.len(), None));
    }
    let expected: String = (0..100).map(|number| format!("{number}\n")).collect();
    assert_eq!(read_all(&mut folder.follower()), expected);
}
