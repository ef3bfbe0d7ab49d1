//! The texts of units.

use std::path::Path;

use super::*;

fn web() -> ServiceUnit {
    ServiceUnit {
        name: "web".parse().unwrap(),
        scope: UnitScope::System,
        executable: "/usr/bin/sameport".into(),
        options: ["-n", "4"].map(OsString::from).into(),
        command: ["/usr/bin/node", "server.js"].map(OsString::from).into(),
        user: None,
        directory: "/srv/web".into(),
        environment: Vec::new(),
        environment_files: Vec::new(),
        ending: Duration::from_secs(60),
        low_port: false,
    }
}

fn line<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

#[test]
fn a_unit_has_the_lines_of_the_template() {
    let (text, template) = (web().text().unwrap(), template());
    for key in
        ["Type", "KillMode", "Restart", "FileDescriptorStoreMax", "TimeoutStopSec", "WantedBy"]
    {
        assert_eq!(line(&text, key), line(&template, key), "{key}");
    }
    let start = "/usr/bin/sameport run --name web -n 4 -- /usr/bin/node server.js";
    assert_eq!(line(&text, "ExecStart"), [start]);
    assert_eq!(line(&text, "WorkingDirectory"), ["/srv/web"]);
    assert_eq!(line(&text, "RuntimeDirectory"), ["sameport-web"]);
    assert!(is_ours(text.as_bytes(), &web().name));
    assert!(is_ours(web().hardened_text().as_bytes(), &web().name));
    assert!(!is_ours(text.as_bytes(), &"we".parse().unwrap()));
    assert!(!is_ours(template.as_bytes(), &web().name));
}

#[test]
fn a_unit_of_a_user_needs_nothing_of_the_system() {
    let text = ServiceUnit { scope: UnitScope::User, ..web() }.text().unwrap();
    assert_eq!(line(&text, "WantedBy"), ["default.target"]);
    assert_eq!(line(&text, "After"), [""; 0]);
    assert_eq!(line(&text, "RuntimeDirectory"), [""; 0]);
    assert!(text.contains("`systemctl --user edit web`"));
}

#[test]
fn settings_of_the_unit_replace_options() {
    let unit = ServiceUnit {
        user: Some("ann:www".parse().unwrap()),
        environment: vec![("A".into(), "b c".into()), ("a.b".into(), "1".into())],
        environment_files: vec!["/etc/web.env".into()],
        directory: "/srv/a ".into(),
        ending: Duration::from_secs(400),
        low_port: true,
        ..web()
    };
    let text = unit.text().unwrap();
    assert_eq!(line(&text, "User"), ["ann"]);
    assert_eq!(line(&text, "Group"), ["www"]);
    assert_eq!(line(&text, "AmbientCapabilities"), ["CAP_NET_BIND_SERVICE"]);
    assert_eq!(line(&text, "Environment"), ["\"A=b c\""]);
    assert_eq!(line(&text, "EnvironmentFile"), ["/etc/web.env"]);
    assert_eq!(line(&text, "TimeoutStopSec"), ["430"]);
    // systemd would cut the blank at the end, and refuse the name of the variable.
    assert_eq!(line(&text, "WorkingDirectory"), [""; 0]);
    assert!(
        line(&text, "ExecStart")[0].contains(" --directory \"/srv/a \" --env a.b=1 -- "),
        "{text}"
    );
}

#[test]
fn what_systemd_cannot_read_is_refused() {
    let path = |path: &str| UnitError::Path(path.into());
    let unit = ServiceUnit { executable: "/a\nb".into(), ..web() };
    assert_eq!(unit.text(), Err(path("/a\nb")));
    let unit = ServiceUnit { environment_files: vec!["/a ".into()], ..web() };
    assert_eq!(unit.text(), Err(path("/a ")));
    let unit = ServiceUnit { command: vec!["/x".into(), "x".repeat(LONGEST_LINE).into()], ..web() };
    assert!(matches!(unit.text(), Err(UnitError::TooLong(_))));
}

#[test]
fn directories_that_a_hardened_service_does_not_see() {
    for (path, expected) in [
        ("/home/ann/web", Some("/home")),
        ("/tmp/x", Some("/tmp")),
        ("/homes/x", None),
        ("/srv/home", None),
    ] {
        assert_eq!(hidden_by_hardening(Path::new(path)), expected, "{path}");
    }
}

#[cfg(unix)]
#[test]
fn bytes_that_systemctl_cannot_show_are_refused() {
    use std::os::unix::ffi::OsStringExt as _;
    let word = OsString::from_vec(b"a\xff".to_vec());
    let unit = ServiceUnit { command: vec!["/x".into(), word.clone()], ..web() };
    assert_eq!(unit.text(), Err(UnitError::NotText(word.clone())));
    // A variable that settings cannot express is an argument.
    let unit = ServiceUnit { environment: vec![("A".into(), word)], ..web() };
    assert!(matches!(unit.text(), Err(UnitError::NotText(_))));
}

#[test]
fn another_user_is_seen() {
    let of =
        |user: &str| ServiceUnit { user: Some(user.parse().unwrap()), ..web() }.text().unwrap();
    let (root, ann, bob) = (web().text().unwrap(), of("ann"), of("bob"));
    for (old, new, expected) in [
        (vec![&*root], vec![&*root], false),
        (vec![&root], vec![&ann], true),
        (vec![&ann], vec![&bob], true),
        (vec![&ann], vec![&ann], false),
        (vec![&ann], vec![HARDENED, &ann], true),
        (vec![HARDENED, &ann], vec![&ann, HARDENED], false),
    ] {
        assert_eq!(changes_user(old, new), expected);
    }
}
