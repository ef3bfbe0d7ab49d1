//! `sameport preload` writes the library file.

use std::fs;

use crate::harness::{User, command_for, sameport, spawn_process};

#[test]
fn library_is_written_without_overwriting() {
    let dir = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = command_for(User::Current, sameport(), arguments);
        command.current_dir(dir.path());
        spawn_process(command).wait()
    };
    let file = dir.path().join("libsameport_preload.so");
    let first = run(&["preload"]);
    assert_eq!((first.code, &*first.stdout, &*first.stderr), (0, "", ""));
    let library = fs::read(&file).unwrap();
    assert!(library.starts_with(b"\x7fELF"));

    fs::write(&file, "mine").unwrap();
    let again = run(&["preload"]);
    assert_eq!(again.code, 1);
    assert_eq!(
        again.stderr,
        "error: libsameport_preload.so exists\n\
         hint: --force replaces it, --out names another file\n"
    );
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    assert_eq!(run(&["preload", "--force"]).code, 0);
    assert_eq!(fs::read(&file).unwrap(), library);

    let nowhere = run(&["preload", "--out", "no/such/folder/x.so"]);
    assert_eq!(nowhere.code, 1);
    assert!(nowhere.stderr.starts_with("error: write no/such/folder/x.so: "), "{nowhere:?}");
    for bad in ["/", "..", ""] {
        let exited = run(&["preload", "--out", bad]);
        assert!([1, 2].contains(&exited.code), "{bad:?}: {exited:?}");
    }
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}
