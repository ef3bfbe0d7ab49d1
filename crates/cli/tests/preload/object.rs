//! The symbols of the shared object.

use std::process::Command;

use crate::harness::{find_program, skip};
use crate::library;

/// All exported symbols.
const GIVEN: &[&str] = &["bind", "connect", "listen", "sendto"];

/// All symbols that it may import: in glibc and in musl, or weak.
const WANTED: &[(&str, bool)] = &[
    ("__errno_location", true),
    ("bcmp", false),
    ("dlsym", true),
    ("environ", true),
    ("getauxval", true),
    ("gnu_get_libc_version", true),
    ("memcmp", false),
    ("memcpy", false),
    ("memmove", false),
    ("memset", false),
    ("strlen", false),
];

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let Some(program) = find_program(program) else {
        skip("preload-object", &format!("no {program}"));
        return None;
    };
    let output = Command::new(program).args(arguments).arg(library()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn exports_and_imports_are_as_listed() {
    let Some(defined) = output("nm", &["-D", "--defined-only", "--format=posix"]) else { return };
    let mut names: Vec<_> = defined.lines().filter_map(|line| line.split(' ').next()).collect();
    names.sort_unstable();
    assert_eq!(names, GIVEN);

    let undefined = output("nm", &["-D", "--undefined-only", "--format=posix"]).unwrap();
    assert!(undefined.contains("dlsym w"), "{undefined}");
    for line in undefined.lines() {
        let mut words = line.split(' ');
        let (name, kind) = (words.next().unwrap(), words.next().unwrap());
        let is_weak = kind == "w" || kind == "v";
        let is_listed = WANTED.iter().any(|(it, weak)| *it == name && (is_weak || !weak));
        assert!(is_listed, "{line}: not on the list, or not weak as it must be");
    }
}

#[test]
fn needs_no_library_and_binds_eagerly() {
    let Some(dynamic) = output("readelf", &["-dW"]) else { return };
    assert!(!dynamic.contains("NEEDED") && !dynamic.contains("TEXTREL"), "{dynamic}");
    assert!(dynamic.contains("BIND_NOW") && dynamic.contains("INIT_ARRAY"), "{dynamic}");
    // A symbol version would tie the library to one libc.
    let versions = output("readelf", &["-VW"]).unwrap();
    assert!(versions.contains("No version information found"), "{versions}");
    let segments = output("readelf", &["-lW"]).unwrap();
    assert!(!segments.contains("RWE") && !segments.contains("TLS"), "{segments}");
}
