//! The hints of wrong command lines: the line that was meant.

use std::process::{Command, Stdio};

/// The hint of a wrong command line.
fn hint_of(args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sameport"));
    let path = "/usr/local/bin:/usr/bin:/bin";
    let output = command.args(args).env_clear().env("PATH", path).stdin(Stdio::null());
    let output = output.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
    let stderr = String::from_utf8(output.stderr).unwrap();
    let hint = stderr.lines().find_map(|line| line.strip_prefix("hint: "));
    hint.unwrap_or_else(|| panic!("{args:?}: {stderr}")).to_owned()
}

#[test]
fn unknown_verbs_are_suggested_by_meaning() {
    for (args, begin) in [
        (&["htop"][..], "`sameport top` shows"),
        (&["list"], "`sameport ls` lists"),
        (&["kill", "web"], "`sameport stop web` ends"),
        (&["reload", "web"], "`sameport restart web` replaces"),
        (&["staus"], "`sameport status NAME` shows"),
        (&["help", "htop"], "`sameport top` shows"),
        (&["cat", "a b"], "start a program by `sameport run -- cat 'a b'`"),
        (&["/bin/cat"], "start a program by `sameport run -- /bin/cat`"),
        (&["/no/such/file"], "`sameport --help` lists the verbs"),
    ] {
        let hint = hint_of(args);
        assert!(hint.starts_with(begin), "{args:?}: {hint}");
    }
}

#[test]
fn wrong_arguments_show_the_usage_of_their_verb() {
    let named = "a named run has this option: sameport run --name NAME";
    for (args, expected) in [
        (
            &["restart"][..],
            "usage: sameport restart [OPTIONS] <NAME>; `sameport restart --help` shows examples",
        ),
        (
            &["scale", "web", "0"],
            "usage: sameport scale [OPTIONS] <NAME> <N>; `sameport scale --help` shows examples",
        ),
        (
            &["run", "-n", "2"],
            "usage: sameport run [OPTIONS] -- <COMMAND>...; `sameport run --help` shows examples",
        ),
        (&["--frob"], "usage: sameport <COMMAND>; `sameport --help` shows examples"),
        (
            &["run", "--name", "nginx", "nginx", "-g", "daemon off;"],
            "the command comes after `--`: sameport run --name nginx -- nginx -g 'daemon off;'",
        ),
        (
            &["upgrade", "web", "node", "v2.js"],
            "the command comes after `--`: sameport upgrade web -- node v2.js",
        ),
        (
            &["run", "-n", "2", "8080", "--", "node", "app.js"],
            "the port is an option: sameport run -n 2 --port 8080 -- node app.js",
        ),
        (
            &["run", "53/udp", "unbound", "-d"],
            "the port is an option: sameport run --port 53/udp -- unbound -d",
        ),
        (
            &["run", "4", "--", "./server"],
            "the number of copies is an option: sameport run -n 4 -- ./server",
        ),
        (&["run", "80", "true"], "the port is an option: sameport run --port 80 -- true"),
        (&["run", "--surge", "2", "--", "true"], &format!("only {named} --surge 2 -- true")),
        (&["why", "http://[::1]:80/x"], "an address is no URL: sameport why '[::1]:80'"),
        (&["dial", "https://localhost"], "an address is no URL: sameport dial localhost:443"),
        (&["steer", "random", "8080"], "the port comes first: sameport steer 8080 random"),
        (&["steer", "web=9", "8080/udp"], "the port comes first: sameport steer 8080/udp web=9"),
        (&["drain", "web.1", "8080"], "the port comes first: sameport drain 8080 web.1"),
        (&["restart", "web", "--surg", "2"], "a similar argument exists: '--surge'"),
    ] {
        assert_eq!(hint_of(args), expected, "{args:?}");
    }
}
