//! Programs of other languages: two copies of each share a port by LD_PRELOAD.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use crate::harness::{
    Process, TIMEOUT, User, ask, compiled_by, eventually, find_program, free_port, in_test_dir,
    script, skip,
};
use crate::preloaded;

/// Starts two copies on one port and waits until both have answered with their pids.
fn two_share(user: User, ip: &str, command: impl Fn(u16) -> Vec<String>) -> [Process; 2] {
    let port = free_port();
    let address: SocketAddr = (ip.parse::<std::net::IpAddr>().unwrap(), port).into();
    let variables = [("SAMEPORT_SHARE", "1")];
    let copies = [1, 2].map(|_| preloaded(user, &variables, &command(port)));
    for copy in &copies {
        let pid = copy.pid().to_string();
        let answered = eventually(|| {
            let answer = ask(address, b"GET / HTTP/1.0\r\n\r\n").ok()?;
            // Whole lines, because one pid can be the end of another.
            (String::from_utf8_lossy(&answer).lines().last() == Some(&*pid)).then_some(())
        });
        assert!(
            answered.is_some(),
            "{user:?}: {pid} did not answer within {TIMEOUT:?}\n{}\n{}",
            copies[0].stderr(),
            copies[1].stderr()
        );
    }
    copies
}

fn text(path: PathBuf) -> String {
    path.into_os_string().into_string().unwrap()
}

/// Two copies of a script of the tests under its interpreter.
fn by_interpreter(name: &str, file: &str, ips: &[&str]) {
    let Some(program) = find_program(name) else {
        return skip(&format!("preload-{name}"), &format!("no {name}"));
    };
    for user in User::all() {
        for ip in ips {
            two_share(*user, ip, |port| {
                vec![text(program.clone()), text(script(file)), port.to_string()]
            });
        }
    }
}

#[test]
fn python() {
    by_interpreter("python3", "serve.py", &["127.0.0.1", "::1"]);
}

#[test]
fn node() {
    by_interpreter("node", "serve.js", &["127.0.0.1", "::1"]);
}

#[test]
fn perl() {
    by_interpreter("perl", "preload_serve.pl", &["127.0.0.1"]);
}

#[test]
fn ruby() {
    by_interpreter("ruby", "preload_serve.rb", &["127.0.0.1"]);
}

#[test]
fn php() {
    by_interpreter("php", "preload_serve.php", &["127.0.0.1"]);
}

#[test]
fn erlang() {
    by_interpreter("escript", "preload_serve.escript", &["127.0.0.1", "::1"]);
}

#[test]
fn java() {
    let (Some(javac), Some(java)) = (find_program("javac"), find_program("java")) else {
        return skip("preload-java", "no javac");
    };
    let dir = in_test_dir("java");
    let output =
        Command::new(javac).arg("-d").arg(&dir).arg(script("PreloadServe.java")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    for ip in ["127.0.0.1", "::1"] {
        two_share(User::Current, ip, |port| {
            let (java, dir) = (text(java.clone()), text(dir.clone()));
            let port = port.to_string();
            [&*java, "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", &dir, "PreloadServe", &port]
                .map(str::to_owned)
                .to_vec()
        });
    }
}

#[test]
fn musl() {
    if find_program("musl-gcc").is_none() {
        return skip("preload-musl", "no musl-gcc");
    }
    let who = text(compiled_by("musl-gcc", "who", &[]));
    by_both_families(|ip, port| vec![who.clone(), "tcp".into(), ip, port]);
}

/// Binds before `main`, in the constructor of a static object.
#[test]
fn c_plus_plus() {
    if find_program("g++").is_none() {
        return skip("preload-g++", "g++ is not installed");
    }
    let serve = text(compiled_by("g++", "preload_serve", &[]));
    by_both_families(|ip, port| vec![serve.clone(), ip, port]);
}

/// A program that takes its address as an argument.
fn by_both_families(command: impl Fn(String, String) -> Vec<String>) {
    for user in User::all() {
        for ip in ["127.0.0.1", "::1"] {
            two_share(*user, ip, |port| command(ip.to_owned(), port.to_string()));
        }
    }
}
