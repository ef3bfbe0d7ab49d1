//! Exclusive names, unsuitable directories, files of killed supervisors.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::time::Duration;

use rustix::io::Errno;

use super::*;
use crate::DirRefusal;
use crate::serial::run_exclusive;

const TIMEOUT: Duration = Duration::from_secs(200);

pub(super) fn name(text: &str) -> RunName {
    text.parse().unwrap()
}

pub(super) fn files(folder: &Path) -> Vec<String> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .map(|all| all.map(|it| it.unwrap().file_name().into_string().unwrap()).collect())
        .unwrap_or_default();
    files.sort();
    files
}

fn refused(folder: &Path) -> DirRefusal {
    match NameClaim::take(&name("web"), &[folder.to_owned()]).unwrap_err() {
        ClaimError::Dir(error) => error.tried[0].1,
        other => panic!("{other}"),
    }
}

fn connected(text: &str, folder: &Path) -> Option<SupervisorState> {
    connect_supervisor(&name(text), &[folder.to_owned()], TIMEOUT)
}

#[test]
fn a_service_has_its_own_runtime_directory() {
    let of = |xdg: Option<&str>, list: Option<&str>| {
        let found = runtime_dir(xdg.map(Into::into), list.map(OsStr::new));
        found.map(|found| found.into_string().unwrap())
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(of(Some("/run/user/7"), Some("/run/web")), some("/run/user/7"));
    assert_eq!((of(None, None), of(None, Some(""))), (None, None));
    let is_root = rustix::process::geteuid().is_root();
    let expected = if is_root { None } else { some("/run/web") };
    assert_eq!(of(None, Some("/run/web:/run/web-2")), expected);
    assert_eq!(of(Some(""), Some("/run/web")), expected);
}

#[test]
fn the_directories_of_every_environment_are_listed() {
    let _turn = run_exclusive();
    let user = rustix::process::geteuid();
    let fallbacks = ["/run/user/USER/sameport", "/tmp/sameport-USER", "/dev/shm/sameport-USER"]
        .map(|it| it.replace("USER", &user.to_string()));
    let machine = user.is_root().then_some("/run/sameport".to_owned());
    let fallbacks: Vec<PathBuf> = machine.into_iter().chain(fallbacks).map(PathBuf::from).collect();
    assert_eq!(folders(None), fallbacks);
    assert_eq!(folders(Some(Path::new("run"))), fallbacks, "not absolute");
    let own = format!("/run/user/{user}");
    assert_eq!(folders(Some(Path::new(&own))).len(), fallbacks.len());
    let [first, rest @ ..] = &folders(Some(Path::new("/x")))[..] else { panic!() };
    assert_eq!((first.as_path(), rest), (Path::new("/x/sameport"), &fallbacks[..]));
}

#[test]
fn a_name_is_claimed_once_and_its_files_are_removed() {
    let _turn = run_exclusive();
    let base = tempfile::tempdir().unwrap();
    let folder = base.path().join("sameport");
    let folders = [folder.clone()];
    assert!(connected("web", &folder).is_none());
    let claim = NameClaim::take(&name("web"), &folders).unwrap();
    let own_pid = std::process::id().cast_signed();
    let again = NameClaim::take(&name("web"), &folders).unwrap_err();
    assert_eq!(again, ClaimError::InUse(Some(own_pid)));
    let other = NameClaim::take(&name("web.sock"), &folders).unwrap();
    assert_eq!((claim.folder(), claim.name()), (folder.as_path(), &name("web")));
    assert_eq!(std::fs::metadata(&folder).unwrap().mode() & 0o7777, 0o700);

    let listener = claim.listen().unwrap();
    assert_eq!(std::fs::metadata(folder.join("web.sock")).unwrap().mode() & 0o7777, 0o600);
    claim.write_record(b"{}").unwrap();
    assert_eq!(std::fs::metadata(folder.join("web.json")).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(list_names(&folders), [name("web")]);
    match connected("web", &folder) {
        Some(SupervisorState::Alive { pid, .. }) => assert_eq!(pid, own_pid),
        other => panic!("{other:?}"),
    }
    assert_eq!(files(&folder), ["web.json", "web.lock", "web.sock", "web.sock.lock"]);
    drop((claim, listener));
    assert_eq!(files(&folder), ["web.sock.lock"]);
    drop(other);
    assert!(!folder.exists());
    drop(NameClaim::take(&name("web"), &folders).unwrap());
}

/// The sun_path of an address has 108 bytes.
#[test]
fn paths_may_be_long() {
    let _turn = run_exclusive();
    let base = tempfile::tempdir().unwrap();
    let folder = base.path().join("x".repeat(200));
    std::fs::create_dir(&folder).unwrap();
    let folder = folder.join("sameport");
    let text = "n".repeat(64);
    let claim = NameClaim::take(&name(&text), std::slice::from_ref(&folder)).unwrap();
    let _listener = claim.listen().unwrap();
    assert!(matches!(connected(&text, &folder), Some(SupervisorState::Alive { .. })));
}

#[test]
fn files_of_a_killed_supervisor_are_found_and_replaced() {
    let _turn = run_exclusive();
    let base = tempfile::tempdir().unwrap();
    let folder = base.path().join("sameport");
    let folders = [folder.clone()];
    let claim = NameClaim::take(&name("web"), &folders).unwrap();
    let listener = claim.listen().unwrap();
    claim.write_record(b"before").unwrap();
    // After SIGKILL the kernel closes the descriptors, and the files stay.
    let saved: Vec<_> = ["web.json", "web.lock"]
        .map(|file| (folder.join(file), std::fs::read(folder.join(file)).unwrap()))
        .into();
    std::fs::rename(folder.join("web.sock"), base.path().join("sock")).unwrap();
    drop((claim, listener));
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
    saved.iter().for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap());
    std::fs::rename(base.path().join("sock"), folder.join("web.sock")).unwrap();
    std::fs::write(folder.join(".web.sock"), b"").unwrap();
    std::fs::write(folder.join(".web.json"), b"half").unwrap();

    match connected("web", &folder) {
        Some(SupervisorState::Gone(record)) => assert_eq!(record.as_deref(), Some(&b"before"[..])),
        other => panic!("{other:?}"),
    }
    assert_eq!(list_names(&folders), [name("web")]);
    let claim = NameClaim::take(&name("web"), &folders).unwrap();
    let _listener = claim.listen().unwrap();
    assert!(matches!(connected("web", &folder), Some(SupervisorState::Alive { .. })));
    claim.write_record(b"after").unwrap();
    assert_eq!(std::fs::read(folder.join("web.json")).unwrap(), b"after");
    drop(claim);
    assert!(!folder.exists());
}

#[test]
fn a_supervisor_is_found_in_every_directory() {
    let _turn = run_exclusive();
    let base = tempfile::tempdir().unwrap();
    let folders = ["first", "second"].map(|name| base.path().join(name));
    let second = NameClaim::take(&name("web"), &folders[1..]).unwrap();
    let _listener = second.listen().unwrap();
    let own_pid = Some(std::process::id().cast_signed());
    assert_eq!(NameClaim::take(&name("web"), &folders).unwrap_err(), ClaimError::InUse(own_pid));
    // A dead supervisor in an earlier directory does not hide it.
    std::fs::create_dir(&folders[0]).unwrap();
    std::fs::write(folders[0].join("web.json"), b"dead").unwrap();
    assert!(matches!(
        connect_supervisor(&name("web"), &folders, TIMEOUT),
        Some(SupervisorState::Alive { .. })
    ));
    assert!(matches!(connected("web", &folders[0]), Some(SupervisorState::Gone(Some(_)))));
}

#[test]
fn directories_that_other_users_can_change_are_refused() {
    let _turn = run_exclusive();
    let base = tempfile::tempdir().unwrap();
    let folder = base.path().join("sameport");
    let mode = |mode| {
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    std::fs::create_dir(&folder).unwrap();
    mode(0o770);
    assert_eq!(refused(&folder), DirRefusal::OthersCanWrite);
    std::fs::write(folder.join("web.json"), b"{}").unwrap();
    assert!(
        connected("web", &folder).is_none() && list_names(std::slice::from_ref(&folder)).is_empty()
    );
    // The mode that the preload library sets on the same directory.
    mode(0o711);
    drop(NameClaim::take(&name("web"), std::slice::from_ref(&folder)).unwrap());

    let target = base.path().join("target");
    std::fs::create_dir(&target).unwrap();
    symlink(&target, &folder).unwrap();
    assert!(matches!(refused(&folder), DirRefusal::System(Errno::NOTDIR | Errno::LOOP)));
    assert!(files(&target).is_empty());
    std::fs::remove_file(&folder).unwrap();
    assert_eq!(refused(&base.path().join("no/such")), DirRefusal::System(Errno::NOENT));
    if rustix::process::geteuid().is_root() {
        std::fs::create_dir(&folder).unwrap();
        std::os::unix::fs::chown(&folder, Some(65534), None).unwrap();
        assert_eq!(refused(&folder), DirRefusal::OtherUser(65534));
        assert!(connected("web", &folder).is_none());
    }
}

/// Symbolic links with the names of the files are not followed.
#[test]
fn symbolic_links_are_not_followed() {
    let _turn = run_exclusive();
    let base = tempfile::tempdir().unwrap();
    let folder = base.path().join("sameport");
    std::fs::create_dir(&folder).unwrap();
    let target = base.path().join("target");
    std::fs::write(&target, b"precious").unwrap();
    for file in [".web.json", ".web.sock", "web.json", "web.sock"] {
        symlink(&target, folder.join(file)).unwrap();
    }
    let claim = NameClaim::take(&name("web"), std::slice::from_ref(&folder)).unwrap();
    let _listener = claim.listen().unwrap();
    claim.write_record(b"{}").unwrap();
    drop(claim);
    symlink(&target, folder.join("web.lock")).unwrap_or_else(|_| {
        std::fs::create_dir(&folder).unwrap();
        symlink(&target, folder.join("web.lock")).unwrap();
    });
    assert_eq!(refused(&folder), DirRefusal::System(Errno::LOOP));
    assert_eq!(std::fs::read(&target).unwrap(), b"precious");
}

/// Of supervisors that start and exit concurrently, one has the name at a time, and each gets it.
#[test]
fn concurrent_claims() {
    let _turn = run_exclusive();
    use std::sync::atomic::AtomicU32;
    use std::sync::atomic::Ordering::SeqCst;
    let base = tempfile::tempdir().unwrap();
    let folders = [base.path().join("sameport")];
    let holders = AtomicU32::new(0);
    let take = || match NameClaim::take(&name("web"), &folders) {
        Ok(claim) => {
            assert_eq!(holders.fetch_add(1, SeqCst), 0);
            let listener = claim.listen().unwrap();
            claim.write_record(b"{}").unwrap();
            holders.fetch_sub(1, SeqCst);
            drop((listener, claim));
            true
        }
        Err(ClaimError::InUse(_)) => {
            std::thread::yield_now();
            false
        }
        Err(error) => panic!("{error}"),
    };
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!((0..100_000).filter(|_| take()).take(20).count(), 20));
        }
    });
    assert!(!folders[0].exists());
}

/// `keep_on_exec` clears FD_CLOEXEC of the claim's descriptors only.
#[test]
fn a_claim_goes_through_an_exec() {
    let _turn = run_exclusive();
    let base = tempfile::tempdir().unwrap();
    let folders = [base.path().join("sameport")];
    let claim = NameClaim::take(&name("web"), &folders).unwrap();
    let listener = claim.listen().unwrap();
    let open = |fd: i32| rustix::io::fcntl_getfd(unsafe_borrow(fd)).map(|flags| flags.is_empty());
    let inherited = claim.keep_on_exec().unwrap();
    assert_eq!((open(inherited.lock), open(inherited.folder)), (Ok(true), Ok(true)));
    claim.close_on_exec().unwrap();
    assert_eq!((open(inherited.lock), open(inherited.folder)), (Ok(false), Ok(false)));
    // With FD_CLOEXEC, the descriptors are not taken for inherited ones.
    assert_eq!(NameClaim::from_inherited(name("web"), inherited).unwrap_err(), Errno::BADF);

    // An exec drops nothing, and leaves only the numbers.
    let inherited = claim.keep_on_exec().unwrap();
    std::mem::forget(claim);
    let own_pid = Some(std::process::id().cast_signed());
    assert_eq!(NameClaim::take(&name("web"), &folders).unwrap_err(), ClaimError::InUse(own_pid));
    let claim = NameClaim::from_inherited(name("web"), inherited).unwrap();
    claim.write_record(b"again").unwrap();
    let Some(SupervisorState::Alive { mut stream, .. }) = connected("web", &folders[0]) else {
        panic!()
    };
    // The first connection came from the failed claim.
    drop(listener.accept().unwrap());
    listener.accept().unwrap().0.write_all(b"hello").unwrap();
    let mut received = [0; 5];
    stream.read_exact(&mut received).unwrap();
    assert_eq!(&received, b"hello");
    drop(claim);
    assert!(!folders[0].exists());
}

#[expect(unsafe_code, reason = "the number of a descriptor that this test keeps open")]
fn unsafe_borrow(fd: i32) -> std::os::fd::BorrowedFd<'static> {
    // SAFETY: the caller only queries flags, while the owner of the descriptor lives.
    unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) }
}

#[test]
fn a_record_that_cannot_be_written_leaves_the_old_one() {
    let _turn = run_exclusive();
    let base = tempfile::tempdir().unwrap();
    let folder = base.path().join("sameport");
    let claim = NameClaim::take(&name("web"), std::slice::from_ref(&folder)).unwrap();
    claim.write_record(b"old").unwrap();
    std::fs::create_dir(folder.join(".web.json")).unwrap();
    assert_eq!(claim.write_record(b"new").unwrap_err(), Errno::EXIST);
    assert_eq!(std::fs::read(folder.join("web.json")).unwrap(), b"old");
    std::fs::remove_dir(folder.join(".web.json")).unwrap();
    claim.write_record(b"new").unwrap();
    assert_eq!(std::fs::read(folder.join("web.json")).unwrap(), b"new");
}

/// Needs root, for a small file system in a new mount namespace.
#[test]
fn a_full_disk_keeps_the_name_and_the_socket() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let base = tempfile::tempdir().unwrap();
    let test = "run_files::tests::on_a_full_disk";
    let output = std::process::Command::new("unshare")
        .args(["-m", "sh", "-c"])
        .arg("mount -t tmpfs -o size=64k,mode=700 tmpfs \"$BASE\" && exec \"$@\"")
        .arg("sh")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env("BASE", base.path())
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && stdout.contains(" 1 passed"), "{output:?}");
}

#[test]
#[ignore = "`a_full_disk_keeps_the_name_and_the_socket` starts it on a small disk"]
fn on_a_full_disk() {
    let base = PathBuf::from(std::env::var_os("BASE").unwrap());
    let folder = base.join("sameport");
    let claim = NameClaim::take(&name("web"), std::slice::from_ref(&folder)).unwrap();
    claim.write_record(b"old").unwrap();
    std::fs::write(base.join("filler"), vec![0; 1 << 20]).unwrap_err();
    assert_eq!(claim.write_record(&[b'x'; 4096]).unwrap_err(), Errno::NOSPC);
    assert_eq!(files(&folder), ["web.json", "web.lock"]);
    assert_eq!(std::fs::read(folder.join("web.json")).unwrap(), b"old");
    let _listener = claim.listen().unwrap();
    assert!(matches!(connected("web", &folder), Some(SupervisorState::Alive { .. })));
    let other = NameClaim::take(&name("other"), std::slice::from_ref(&folder)).unwrap();
    let again = NameClaim::take(&name("other"), std::slice::from_ref(&folder)).unwrap_err();
    assert_eq!(again, ClaimError::InUse(None), "the pid could not be written");
    drop((claim, other));
    assert!(!folder.exists());
}

/// The directory of a session ends with the session.
#[test]
fn a_directory_of_a_session_is_the_last() {
    let order = |uid: u32, folders: &[&str]| {
        let folders = folders.iter().map(PathBuf::from).collect();
        let ordered = in_lasting_order(folders, uid);
        ordered.iter().map(|it| it.display().to_string()).collect::<Vec<_>>().join(" ")
    };
    let usual = ["/run/user/7/sameport", "/tmp/sameport-7"];
    assert_eq!(order(7, &usual), "/tmp/sameport-7 /run/user/7/sameport");
    assert_eq!(order(8, &usual), "/run/user/7/sameport /tmp/sameport-7");
    let root = ["/run/user/0/sameport", "/run/sameport", "/tmp/sameport-0"];
    assert_eq!(order(0, &root), "/run/sameport /tmp/sameport-0 /run/user/0/sameport");
    assert_eq!(order(0, &["/srv/run", "/run/user/01"]), "/srv/run /run/user/01");
}
