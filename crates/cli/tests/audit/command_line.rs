//! The text of `audit`, wrong command lines, and findings without access.

use std::path::Path;

use crate::harness::{User, is_root, sameport, script, skip, start, start_command};
use crate::network::{NOBODY, Network, actual_uid, has_python};

#[test]
fn wrong_command_lines_fail_fast() {
    let lines: [&[&str]; 7] = [
        &["0"],
        &["65536"],
        &["http"],
        &["-1"],
        &["80", "81"],
        &["--json", "--watch"],
        &["--everything"],
    ];
    let printed = start(User::Current, &["audit", "http"]).wait().stderr;
    assert!(printed.contains("\"http\" has no port: write HOST:PORT"), "{printed}");
    for line in lines {
        let exited = start(User::Current, &[&["audit"], line].concat()).wait();
        assert_eq!((exited.code, exited.stdout.as_str()), (2, ""), "{line:?}: {exited:?}");
        assert!(exited.stderr.starts_with("error: "), "{line:?}: {exited:?}");
        assert_eq!(exited.stderr.matches("\nhint: ").count(), 1, "{line:?}: {exited:?}");
    }
}

/// Two lines: the finding, and a command.
#[test]
fn finding_is_a_sentence_and_a_command() {
    if !has_python() {
        return skip("audit-text", "no python3");
    }
    let Some(network) = Network::new() else {
        return skip("audit-text", "no network namespace can be made");
    };
    let binary = sameport().to_str().unwrap();
    let audit_in = |directory: &Path, words: &[&str]| {
        let words = [&[binary, "audit"], words].concat();
        let output = network.command(NOBODY, &words).current_dir(directory).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let dir = script("audit_actor.py").parent().unwrap().display().to_string();
    let audit = |words: &[&str]| audit_in(Path::new(&dir), words);
    let steps = ["tcp", "rp", "bind=0.0.0.0:8443", "listen=8"];
    let api = network.actor(NOBODY, "api", &steps);
    let (code, stdout, stderr) = audit(&["8443"]);
    assert_eq!((code, stdout.as_str()), (0, ""), "{stderr}");
    assert!(stderr.starts_with("nothing was found on port 8443\n"), "{stderr}");

    let x = network.actor(NOBODY, "x", &steps);
    let (code, stdout, stderr) = audit(&[]);
    let [first, second] = stdout.lines().collect::<Vec<_>>()[..] else { panic!("{stdout}") };
    let parts = [
        format!("8443/tcp  warning  pid {} (python3, user ", x.pid()),
        format!(", {dir}/x.py, started "),
        format!(" ago) shares 0.0.0.0:8443 with pid {} (python3, user ", api.pid()),
        format!(", {dir}/api.py, started "),
        " ago): same user, different program".to_owned(),
    ];
    assert!(first.starts_with(&parts[0]) && first.ends_with(&parts[4]), "{stdout}");
    assert!(parts.iter().all(|part| first.contains(part)), "{stdout}");
    // The suggested command never makes root execute text of another user.
    let uid = actual_uid(NOBODY);
    assert!(second.starts_with("          fix      as root: kill "), "{stdout}");
    let user = format!(" && setpriv --reuid={uid} --regid=$(id -g {uid}) --init-groups ");
    assert!(second.contains(&user), "{stdout}");
    assert!(second.contains(" sameport run --private -- /usr/bin/python3 "), "{stdout}");
    // Relative words need the directory of the program.
    let (_, stdout, _) = audit_in(Path::new("/"), &[]);
    let private = format!(" sameport run --private --directory {dir} -- /usr/bin/python3 ");
    assert!(stdout.contains(&private), "{stdout}");
    assert!(!stderr.contains("nothing was found"), "{stderr}");
    assert_eq!(code, 1);
    assert_eq!(audit(&["9"]).0, 0, "another port");
}

/// Missing access is reported, not an empty list.
#[test]
fn missing_access_is_reported() {
    if !has_python() {
        return skip("audit-blind", "no python3");
    }
    let blind = script("audit_blind.py");
    let blind = ["/usr/bin/python3", blind.to_str().unwrap(), sameport().to_str().unwrap()];
    for options in [&["audit"][..], &["audit", "--json"], &["audit", "--watch"]] {
        let words = [&blind[..], options].concat();
        let exited = start_command(User::Current, words[0], &words[1..]).wait();
        assert_eq!((exited.code, exited.stdout.as_str()), (3, ""), "{exited:?}");
        assert!(exited.stderr.starts_with("error: could not look: "), "{exited:?}");
    }
}

/// `hidepid` leaves the sockets and their users visible.
#[test]
fn hidden_processes_are_reported() {
    let test = "audit-hidepid";
    if !is_root() || !has_python() {
        return skip(test, "needs root and python3");
    }
    let Some(network) = Network::new() else {
        return skip(test, "no network namespace can be made");
    };
    let _ann = network.actor(60_001, "api", &["udp", "ra", "bind=0.0.0.0:8443"]);
    let _bob = network.actor(60_002, "x", &["udp", "ra", "bind=0.0.0.0:8443"]);
    let line = format!(
        "mount -t proc -o hidepid=2 proc /proc && echo hidden && \
         exec setpriv --reuid 65534 --regid 65534 --clear-groups {} audit",
        sameport().display()
    );
    let output = network.command(0, &["unshare", "-m", "sh", "-c", &line]).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let Some(found) = stdout.strip_prefix("hidden\n") else {
        return skip(test, &format!("/proc cannot be mounted: {stderr}"));
    };
    assert_eq!(output.status.code(), Some(1), "{stdout}{stderr}");
    assert!(found.starts_with("8443/udp  danger   a program of user 6000"), "{stdout}");
    assert!(stderr.contains("not seen: the processes of 2 sockets of other users"), "{stderr}");
}
