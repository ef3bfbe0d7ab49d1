//! Which programs and sockets an attachment applies to, from their next bind.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::SocketAddr;

use crate::fixture::{TestCgroup, binds_program};
use crate::harness::{
    self, Exited, Process, User, ask, c_program, compiled_by, eventually, find_program, free_port,
    go_program, in_test_dir, spawn_process, wait_until_answering,
};

/// Requests until `count` different responses have come.
fn distinct_responses(address: SocketAddr, count: usize) -> BTreeSet<Vec<u8>> {
    let mut responses = BTreeSet::new();
    eventually(|| {
        if let Ok(answer) = ask(address, b"GET / HTTP/1.0\r\n\r\n") {
            // The last line identifies the server; HTTP headers contain the time.
            let last = answer.trim_ascii_end().rsplit(|byte| *byte == b'\n').next();
            responses.extend(last.map(<[u8]>::to_vec));
        }
        (responses.len() >= count).then_some(())
    });
    responses
}

fn refused(exited: &Exited) -> bool {
    let stderr = exited.stderr.to_lowercase();
    exited.code != 0 && (stderr.contains("in use") || stderr.contains("98"))
}

/// A second copy is refused before the attach and shares after it.
fn two_copies_share(test: &str, user: User, command: impl Fn(u16, usize) -> Option<Vec<OsString>>) {
    let Some(cgroup) = TestCgroup::new(test) else { return };
    let start = |port, copy| -> Option<Process> {
        let words = command(port, copy)?;
        Some(spawn_process(cgroup.command(user, &words[0], &words[1..])))
    };
    let address = |port| SocketAddr::from(([127, 0, 0, 1], port));

    let port = free_port();
    let Some(first) = start(port, 1) else {
        return harness::skip(test, "the program is not here");
    };
    wait_until_answering(address(port));
    let second = start(port, 2).unwrap().wait();
    assert!(refused(&second), "{second:?}");
    drop(first);

    let cgroup = cgroup.attached(&[]);
    let start = |port, copy| {
        let words = command(port, copy).unwrap();
        spawn_process(cgroup.command(user, &words[0], &words[1..]))
    };
    let port = free_port();
    let first = start(port, 1);
    wait_until_answering(address(port));
    let second = start(port, 2);
    let answers = distinct_responses(address(port), 2);
    assert_eq!(answers.len(), 2, "{answers:?}\n{}\n{}", first.stderr(), second.stderr());
    drop((first, second));

    let exited = cgroup.detach();
    assert_eq!(exited.code, 0, "{exited:?}");
    let _first = spawn_process({
        let words = command(port, 1).unwrap();
        cgroup.command(user, &words[0], &words[1..])
    });
    wait_until_answering(address(port));
    let words = command(port, 2).unwrap();
    let second = spawn_process(cgroup.command(user, &words[0], &words[1..])).wait();
    assert!(refused(&second), "{second:?}");
}

fn who(program: std::path::PathBuf, port: u16) -> Option<Vec<OsString>> {
    let port = port.to_string();
    Some(
        [program.as_os_str(), "tcp".as_ref(), "127.0.0.1".as_ref(), port.as_ref()]
            .map(OsString::from)
            .to_vec(),
    )
}

#[test]
fn static_c_programs_of_two_users_share() {
    two_copies_share("cgroup-static-c", User::Current, |port, _| {
        who(c_program("who", &["-static"]), port)
    });
    two_copies_share("cgroup-static-c", User::Nobody, |port, _| {
        who(c_program("who", &["-static"]), port)
    });
}

#[test]
fn musl_programs_share() {
    if find_program("musl-gcc").is_none() {
        return harness::skip("cgroup-musl", "no musl-gcc");
    }
    two_copies_share("cgroup-musl", User::Current, |port, _| {
        who(compiled_by("musl-gcc", "who", &["-static"]), port)
    });
}

#[test]
fn static_go_programs_share() {
    if find_program("go").is_none() {
        return harness::skip("cgroup-go", "no go");
    }
    two_copies_share("cgroup-go", User::Current, |port, _| {
        Some(vec![go_program("cgroup_who").into(), format!("127.0.0.1:{port}").into()])
    });
}

#[test]
fn python_programs_share() {
    two_copies_share("cgroup-python", User::Current, |port, _| {
        // A server without SO_REUSEADDR and SO_REUSEPORT.
        let text = format!(
            "import os, socket\ns = socket.socket()\ns.bind(('127.0.0.1', {port}))\ns.listen()\n\
             while True:\n  c, _ = s.accept()\n  c.send(b'%d\\n' % os.getpid())\n  c.close()\n"
        );
        Some(vec![find_program("python3")?.into(), "-c".into(), text.into()])
    });
}

#[test]
fn nginx_shares() {
    two_copies_share("cgroup-nginx", User::Current, |port, copy| {
        let dir = in_test_dir(format!("nginx-{port}-{copy}"));
        std::fs::create_dir_all(&dir).unwrap();
        let text = format!(
            "daemon off; worker_processes 1; error_log stderr; pid {0}/pid;\n\
             events {{}}\nhttp {{ access_log off; client_body_temp_path {0}/a; proxy_temp_path {0}/b;\n\
             fastcgi_temp_path {0}/c; uwsgi_temp_path {0}/d; scgi_temp_path {0}/e;\n\
             server {{ listen 127.0.0.1:{port}; location / {{ return 200 \"copy {copy}\\n\"; }} }} }}",
            dir.display()
        );
        let file = dir.join("conf");
        std::fs::write(&file, text).unwrap();
        let nginx = find_program("nginx")?;
        Some(vec![nginx.into(), "-p".into(), dir.into(), "-c".into(), file.into()])
    });
}

#[test]
fn running_program_shares_its_next_bind() {
    let Some(cgroup) = TestCgroup::new("cgroup-running") else { return };
    let port = free_port().to_string();
    let words = ["late", "tcp", "127.0.0.1", &port, "listen"];
    let copies = [(); 2].map(|()| cgroup.start(binds_program(), &words));
    copies.iter().for_each(|copy| copy.wait_for_stdout("ready"));
    let cgroup = cgroup.attached(&[]);
    for copy in &copies {
        copy.signal(libc::SIGUSR1);
        copy.wait_for_stdout(&format!("given 127.0.0.1 {port} reuseaddr=0 reuseport=1"));
    }
    let address = format!("127.0.0.1:{port}").parse().unwrap();
    assert_eq!(distinct_responses(address, 2).len(), 2);
    drop(cgroup);
}

#[test]
fn socket_belongs_to_the_cgroup_of_its_creation() {
    let Some(cgroup) = TestCgroup::new("cgroup-birth") else { return };
    let Some(outside) = TestCgroup::create("cgroup-birth") else { return };
    let cgroup = cgroup.attached(&[]);
    for (words, shared) in [("early", 0), ("late", 1)] {
        let port = free_port().to_string();
        let program = outside.start(binds_program(), &[words, "tcp", "127.0.0.1", &port]);
        program.wait_for_stdout("ready");
        cgroup.move_into(program.pid());
        program.signal(libc::SIGUSR1);
        let exited = program.wait();
        let expected = format!("given 127.0.0.1 {port} reuseaddr=0 reuseport={shared}\n");
        assert!(exited.stdout.ends_with(&expected), "{words}: {exited:?}");
    }
}

#[test]
fn each_kind_of_bind_is_handled() {
    let Some(cgroup) = TestCgroup::new("cgroup-kinds") else { return };
    let Some(outside) = TestCgroup::create("cgroup-kinds") else { return };
    let cgroup = cgroup.attached(&[]);
    let cases = [
        ("tcp 127.0.0.1", "", "reuseaddr=0 reuseport=1"),
        ("tcp 127.0.0.1", " ra", "reuseaddr=1 reuseport=1"),
        ("tcp ::1", "", "reuseaddr=0 reuseport=1"),
        ("tcp ::", " v6only", "reuseaddr=0 reuseport=1"),
        ("udp 127.0.0.1", " ra", "reuseaddr=1 reuseport=1"),
        ("udp ::1", " ra", "reuseaddr=1 reuseport=1"),
        ("udplite 127.0.0.1", " ra", "reuseaddr=1 reuseport=1"),
        ("udp 127.0.0.1", " ra rp", "reuseaddr=1 reuseport=1"),
        ("udp 224.0.0.251", " ra", "reuseaddr=1 reuseport=0"),
        ("udp ff0e::fb", " ra", "reuseaddr=1 reuseport=0"),
        ("udp ::ffff:224.0.0.251", " ra", "reuseaddr=1 reuseport=0"),
        ("raw 127.0.0.1", "", "reuseport=0"),
        ("tcp 127.0.0.1", " ring", "reuseaddr=0 reuseport=1"),
    ];
    for (what, more, expected) in cases {
        let port = free_port();
        let result = cgroup.bind_result(&format!("bind {what} {port}{more}"));
        if result.starts_with("refused io_uring_setup")
            || result == "refused bind 22" && more == " ring"
        {
            harness::skip("cgroup-io-uring", "this kernel has no IORING_OP_BIND");
            continue;
        }
        if result == "refused socket 93" {
            harness::skip("cgroup-udplite", "this kernel has no such sockets");
            continue;
        }
        assert!(result.ends_with(expected), "{what}{more}: {result}");
        // Outside of the cgroup, the socket has only the options that the program set.
        if what.starts_with("tcp") && !more.contains("ring") {
            let result = outside.bind_result(&format!("bind {what} {port}{more}"));
            assert!(result.ends_with("reuseport=0"), "{what}{more}: {result}");
        }
    }
    let any = cgroup.bind_result("bind tcp 127.0.0.1 0");
    assert!(any.ends_with("reuseaddr=0 reuseport=0"), "{any}");
}

#[test]
fn mptcp_sockets_share() {
    let Some(cgroup) = TestCgroup::new("cgroup-mptcp") else { return };
    let cgroup = cgroup.attached(&[]);
    let port = free_port().to_string();
    // An MPTCP socket does not show the option, which its first subflow has.
    let words = ["bind", "mptcp", "127.0.0.1", &port, "listen"];
    let first = cgroup.start(binds_program(), &words);
    let result = eventually(|| first.stdout().lines().next().map(str::to_owned)).unwrap();
    if result.starts_with("refused socket") {
        return harness::skip("cgroup-mptcp", "this kernel has no such sockets");
    }
    assert!(result.starts_with(&format!("given 127.0.0.1 {port} ")), "{result}");
    let second = cgroup.start(binds_program(), &words);
    second.wait_for_stdout("given 127.0.0.1");
}

#[test]
fn only_named_ports_are_shared() {
    let Some(cgroup) = TestCgroup::new("cgroup-ports") else { return };
    let ports = [(); 3].map(|()| free_port().to_string());
    let cgroup = cgroup.attached(&["--port", &ports[0], "--port", &ports[1]]);
    for (port, shared) in ports.iter().zip([1, 1, 0]) {
        for kind in ["tcp", "udp"] {
            let result = cgroup.bind_result(&format!("bind {kind} 127.0.0.1 {port}"));
            assert!(result.ends_with(&format!("reuseport={shared}")), "{result}");
        }
    }
}

#[test]
fn applies_to_child_cgroups_only() {
    let Some(cgroup) = TestCgroup::new("cgroup-below") else { return };
    let Some(beside) = TestCgroup::create("cgroup-below") else { return };
    let below = cgroup.dir().join("below");
    std::fs::create_dir(&below).unwrap();
    let cgroup = cgroup.attached(&[]);
    let port = free_port();
    let words = ["bind", "tcp", "127.0.0.1", &port.to_string()].map(str::to_owned);
    let mut command = harness::command_for(User::Current, "/bin/sh", &["-c"]);
    command.arg("echo 0 > \"$0\"/cgroup.procs && exec \"$@\"").arg(&below);
    let exited = spawn_process({
        command.arg(binds_program()).args(&words);
        command
    })
    .wait();
    assert!(exited.stdout.ends_with("reuseport=1\n"), "{exited:?}");
    assert!(beside.bind_result(&words.join(" ")).ends_with("reuseport=0"));
    harness::eventually(|| std::fs::remove_dir(&below).ok()).unwrap();
    drop(cgroup);
}
