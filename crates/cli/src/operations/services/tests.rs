//! Files on disk: what is read, what is refused, and in which words.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use tempfile::TempDir;

use super::*;
use crate::error::Failure;

const WHOLE: &str = "\
# three services
[web]
command = [\"sh\", \"server.sh\"]   # found in PATH
workers = 2
env-file = [\"web.env\"]
env = { URL = \"http://${HOST_OF_API:-é}/\", LIST = \"${FIRST} $$\" }
expect = 8080
policy = { name = \"weights\", values = { 1 = 9 } }
canary = { share = \"10%\", env = { V = \"2\" } }
[api]
command = '''
exec ./api'''
map = { \"53/udp\" = \"127.0.0.1:5353\" }
ready-timeout = 500
[\"worker-1\"]
command = \"true\"
directory = \"sub\"
group = \"site\"
";

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in
        [("sameport.toml", WHOLE), ("web.env", "export FIRST='a b' # c\n"), ("sub/x", "")]
    {
        fs::create_dir_all(folder.path().join(name).parent().unwrap()).unwrap();
        write(&folder, name, text.as_bytes());
    }
    folder
}

fn write(folder: &TempDir, name: &str, content: &[u8]) {
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    // Whatever the umask is.
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
}

/// The messages of a file that is refused, with the path of the folder as DIR.
fn messages(folder: &TempDir, file: Option<&str>) -> Vec<String> {
    let error = read(file.map(Path::new), folder.path()).unwrap_err();
    let failure = Failure::from(error);
    assert_eq!(failure.kind.code(), 2);
    assert!(failure.hint.is_some(), "{failure:?}");
    let all = std::iter::once(&failure).chain(&failure.also);
    let shown = folder.path().display().to_string();
    all.map(|failure| failure.message.replace(&shown, "DIR")).collect()
}

#[test]
fn a_whole_file_is_read() {
    let folder = folder();
    let file = read(None, folder.path()).unwrap();
    assert_eq!(file.path, folder.path().join("sameport.toml"));
    let names: Vec<(&str, usize)> =
        file.services.iter().map(|service| (service.name.as_str(), service.line)).collect();
    assert_eq!(names, [("web", 2), ("api", 10), ("worker-1", 15)]);
    let web = &file.services[0];
    let value = |name: &str| web.environment.iter().find(|it| it.0 == name).map(|it| it.1.as_str());
    assert_eq!((value("LIST"), value("FIRST")), (Some("a b $"), Some("a b")));
    assert_eq!(file.services[2].directory, folder.path().join("sub"));
    assert_eq!(file.services[1].command, ["sh", "-c", "exec ./api"]);
    // A later change of the file does not reach what was read.
    write(&folder, "sameport.toml", b"[");
    assert_eq!(file.services.len(), 3);
    assert!(read(None, folder.path()).is_err());
}

#[test]
fn files_are_looked_for_in_an_order() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(messages(&folder, None), ["this directory has no sameport.toml and no Procfile"]);
    assert_eq!(messages(&folder, Some("x.toml")), ["x.toml: no such file or directory"]);
    write(&folder, "Procfile", b"web: true\n");
    write(&folder, ".env", b"A=1\n");
    let file = read(None, folder.path()).unwrap();
    assert_eq!(
        file.services[0].environment,
        [("A".into(), "1".into()), ("PORT".into(), "5000".into())]
    );
    write(&folder, ".env", b"A\n");
    assert_eq!(messages(&folder, None), [".env:1:1: \"A\" sets no variable"]);
    write(&folder, "sameport.toml", b"[api]\ncommand = \"true\"\n");
    assert_eq!(read(None, folder.path()).unwrap().services[0].name.as_str(), "api");
    write(&folder, "Procfile.dev", b"one: true\ntwo: true\n");
    fs::remove_file(folder.path().join(".env")).unwrap();
    assert_eq!(read(Some(Path::new("Procfile.dev")), folder.path()).unwrap().services.len(), 2);
}

#[test]
fn every_mistake_has_its_place() {
    let folder = folder();
    let text =
        "[web]\ncomand = \"x\"\nworkers = \"four\"\n\n[api]\ncommand = [\"no-such-program\"]\n";
    write(&folder, "sameport.toml", text.as_bytes());
    assert_eq!(
        messages(&folder, None),
        [
            "sameport.toml:1:2: web has no command",
            "sameport.toml:2:1: web has no key \"comand\"",
            "sameport.toml:3:11: workers must be a number from 1 to 1024 or \"auto\", not \"four\"",
        ]
    );
    let text = "[api]\ncommand = [\"no-such-program\"]\n[b]\ncommand = [\"./sub/x\"]\n[c]\n\
                command = [\"true\"]\ndirectory = \"none\"\n[d]\ncommand = [\"true\"]\ndirectory = \"web.env\"\n\
                [e]\ncommand = [\"true\"]\nenv = { PATH = \"/none\" }\n\
                [f]\ncommand = [\"true\"]\ncanary = { share = 5, command = [\"no-such\"] }\n";
    write(&folder, "deploy.toml", text.as_bytes());
    assert_eq!(
        messages(&folder, Some("deploy.toml")),
        [
            "deploy.toml:2:11: command: no-such-program is not found",
            "deploy.toml:4:11: command: ./sub/x cannot be executed",
            "deploy.toml:7:13: directory DIR/none: no such file or directory",
            "deploy.toml:10:13: directory DIR/web.env: it is no directory",
            "deploy.toml:12:11: command: true is not found",
            "deploy.toml:16:10: canary.command: no-such is not found",
        ]
    );
    write(&folder, "web.env", b"A='x\n");
    write(&folder, "sameport.toml", WHOLE.as_bytes());
    assert_eq!(
        messages(&folder, None),
        [
            "sameport.toml:6:44: LIST: FIRST is not set, in no env file and not by the caller",
            "web.env:1:3: the quote ' has no end",
        ]
    );
    fs::remove_file(folder.path().join("web.env")).unwrap();
    assert!(
        messages(&folder, None)[0]
            .starts_with("sameport.toml:5:13: env-file web.env: no such file")
    );
}

#[test]
fn what_is_no_text_file_is_refused_without_waiting() {
    let folder = folder();
    let made = Command::new("mkfifo").arg(folder.path().join("fifo")).status().unwrap();
    assert!(made.success());
    write(&folder, "latin1.toml", b"[web]\ncommand = \"\xe9\"\n");
    write(&folder, "bom.toml", "\u{feff}[web]\ncommand = \"true\"\n".as_bytes());
    write(&folder, "long.toml", &vec![b'#'; MOST_BYTES + 1]);
    write(&folder, "empty.toml", b"");
    for (file, expected) in [
        ("fifo", "fifo: it is a FIFO"),
        ("sub", "sub: it is a directory"),
        ("/dev/null", "/dev/null: it is a device"),
        ("long.toml", "long.toml: it is longer than 1048576 bytes"),
        ("latin1.toml", "latin1.toml:2:12: the byte 0xe9 is not UTF-8"),
        ("empty.toml", "empty.toml:1:1: the file has no service"),
    ] {
        assert_eq!(messages(&folder, Some(file)), [expected]);
    }
    assert!(read(Some(Path::new("bom.toml")), folder.path()).is_ok());
}

#[test]
fn a_file_that_others_write_chooses_no_commands() {
    let folder = folder();
    let path = folder.path().join("sameport.toml");
    fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    assert!(messages(&folder, None)[0].starts_with("sameport.toml: every user may write it"));
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    symlink("sameport.toml", folder.path().join("link.toml")).unwrap();
    assert!(read(Some(Path::new("link.toml")), folder.path()).is_ok());
    fs::set_permissions(folder.path().join("web.env"), Permissions::from_mode(0o646)).unwrap();
    assert!(messages(&folder, None)[0].contains("env-file web.env: every user may write it"));
    fs::set_permissions(folder.path().join("web.env"), Permissions::from_mode(0o644)).unwrap();
    if sameport_sys::effective_user() == 0 {
        std::os::unix::fs::lchown(folder.path().join("link.toml"), Some(1000), None).unwrap();
        assert!(messages(&folder, Some("link.toml"))[0].contains("it is a symbolic link of user"));
        std::os::unix::fs::chown(&path, Some(1000), None).unwrap();
        assert!(messages(&folder, None)[0].contains("it is of user"));
    }
}

/// Whatever is typed half or lost: an answer, no panic.
#[test]
fn every_part_of_a_file_has_an_answer() {
    let folder = folder();
    let variable = |name: &str| std::env::var(name).ok();
    let load = |_: &Path| Ok("FIRST=1\n".to_owned());
    let path = folder.path().join("sameport.toml");
    let context = FileContext { path: &path, variable: &variable, load: &load };
    let try_out = |text: &str| {
        let faults = read_toml(text, &context).err().unwrap_or_default();
        let lines = text.lines().count() + 1;
        assert!(
            faults.iter().all(|fault| (1..=lines).contains(&fault.at.line)),
            "{text}: {faults:?}"
        );
    };
    assert!(read_toml(WHOLE, &context).is_ok());
    for (at, _) in WHOLE.char_indices() {
        try_out(&WHOLE[..at]);
    }
    let lines: Vec<&str> = WHOLE.lines().collect();
    for left_out in 0..lines.len() {
        let rest: Vec<&str> = lines
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != left_out)
            .map(|(_, line)| *line)
            .collect();
        try_out(&rest.join("\n"));
    }
    for (at, c) in WHOLE.char_indices() {
        for other in ["", "\"", "=", "[", "{", "\0", "é"] {
            try_out(&format!("{}{other}{}", &WHOLE[..at], &WHOLE[at + c.len_utf8()..]));
        }
    }
}

/// The first example of the reference, on a machine that has its env file.
#[test]
fn the_example_of_the_documentation_is_read() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/sameport-toml.md");
    let page = fs::read_to_string(page).unwrap();
    let example = page.split("```toml\n").nth(1).and_then(|it| it.split("```").next()).unwrap();
    let load = |path: &Path| match path.ends_with("web/.env") {
        true => Ok("SECRET='x'\n".to_owned()),
        false => Err(("no such file".to_owned(), None)),
    };
    let path = Path::new("/srv/site/sameport.toml");
    let context = FileContext { path, variable: &|_| None, load: &load };
    let root = toml_tree::parse(example).unwrap();
    let file = sameport_policy::services::read::read(&root, &context).unwrap();
    let [web, api, dns] = file.services.as_slice() else { panic!("{file:?}") };
    assert_eq!(web.environment[0], ("API".into(), "http://127.0.0.1:9000/".into()));
    assert_eq!(api.environment, [("PORT".into(), "9000".into())]);
    assert_eq!(dns.option("map"), Some(&["53/udp=127.0.0.1:5353".to_owned()][..]));
}
