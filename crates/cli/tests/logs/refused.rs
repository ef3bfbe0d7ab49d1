//! Directories in which no output is kept: nothing is started.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use crate::harness::named_run::RunSetup;
use crate::harness::{chown_to, spawn_process};
use crate::run_with_kept_output::{KeptRun, user};

#[track_caller]
fn refused(prepare: impl Fn(&Path), why: &str, hint: &str) {
    let run = KeptRun { setup: RunSetup::new(user()) };
    let ours = run.setup.dir.join("sameport");
    std::fs::create_dir(&ours).unwrap();
    chown_to(&ours, user());
    prepare(&run.directory());
    let exited = spawn_process(run.start_command(&[], "touch started; exec sleep 1000")).wait();
    assert_eq!(exited.code, 3, "{exited:?}");
    assert!(exited.stderr.contains(why) && exited.stderr.contains(hint), "{exited:?}");
    assert!(exited.stderr.contains("output cannot be kept in"), "{exited:?}");
    assert_eq!(run.verb("status", &[]).code, 1);
    assert_eq!(run.log_writers(), [0; 0]);
}

#[test]
fn a_link_a_file_and_a_directory_of_all_are_refused() {
    refused(|path| symlink("/tmp", path).unwrap(), "(os error", "ls -ld");
    refused(|path| std::fs::write(path, "").unwrap(), "Not a directory", "ls -ld");
    let open_to_all = |path: &Path| {
        std::fs::create_dir(path).unwrap();
        chown_to(path, user());
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    };
    refused(open_to_all, "others can write to it", "chmod go-w");
}

#[test]
fn a_directory_of_another_user_is_refused() {
    if !crate::harness::is_root() {
        return crate::harness::skip("logs-foreign-directory", "root makes directories of others");
    }
    refused(|path| std::fs::create_dir(path).unwrap(), "belongs to user 0", "mv ");
}
