//! Servers of others: which process is a member, and what a reload under a policy loses.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::fixture::{PORT, TrafficFixture, counts};
use crate::harness::{self, Process, eventually, in_test_dir};

/// A directory with this file, and the path of the file.
fn file(directory: &str, name: &str, text: &str) -> (PathBuf, String) {
    let directory = in_test_dir(directory);
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join(name);
    std::fs::write(&file, text.replace("{dir}", directory.to_str().unwrap())).unwrap();
    (directory, file.into_os_string().into_string().unwrap())
}

/// The pids of the members that `steer PORT` names, when there are this many sockets and members.
#[track_caller]
fn members(fixture: &TrafficFixture, count: usize, others: &[i32]) -> Vec<i32> {
    let mut port = serde_json::Value::Null;
    let found = eventually(|| {
        let exited = fixture.sameport(&format!("steer {PORT} --json"));
        let mut all: serde_json::Value = serde_json::from_str(&exited.stdout).ok()?;
        port = all["ports"][0].take();
        let rows = port["members"].as_array()?;
        let pids: Vec<i32> =
            rows.iter().filter_map(|row| row["pid"].as_i64()?.try_into().ok()).collect();
        let is_new = pids.len() == count && !pids.iter().any(|pid| others.contains(pid));
        is_new.then_some(pids)
    });
    found.unwrap_or_else(|| panic!("not {count} members besides {others:?}: {port}"))
}

/// Clients that request this often while a test goes on.
fn clients(fixture: &TrafficFixture, times: u32) -> Process {
    let clients = fixture.traffic(&["http", PORT, &times.to_string(), "127.0.0.1"]);
    clients.wait_for_stdout("ready");
    clients
}

/// The answers of each process.
#[track_caller]
fn answers(clients: Process) -> BTreeMap<i32, u32> {
    let exited = clients.wait();
    assert_eq!((exited.code, &*exited.stderr), (0, ""), "{exited:?}");
    counts(&exited.stdout)
}

#[test]
fn a_reload_of_nginx_keeps_weights_and_loses_nothing() {
    let Some(fixture) = TrafficFixture::new("steer-nginx") else { return };
    if harness::find_program("nginx").is_none() {
        return harness::skip("steer-nginx", "needs nginx");
    }
    const CONFIG: &str = "\
        daemon off; worker_processes 2; error_log stderr; pid {dir}/pid; events {}\n\
        http { access_log off; client_body_temp_path {dir}/b; proxy_temp_path {dir}/p;\n\
        fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;\n\
        server { listen 8080 reuseport; listen [::]:8080 reuseport;\n\
        location / { return 200 $pid; } } }\n";
    let (directory, config) = file("steer-nginx", "nginx.conf", CONFIG);
    let words = ["-e", "stderr", "-p", directory.to_str().unwrap(), "-c", &config];
    let master = fixture.start("nginx", &words);
    // The master and both workers have every listener open. One worker waits for each.
    let workers = members(&fixture, 2, &[master.pid()]);
    let [one, other] = workers[..] else { panic!("two workers") };
    fixture.ok(&format!("steer {PORT} weights {one}=1 {other}=0"));
    let before = clients(&fixture, 50);
    assert_eq!(answers(before), [(one, 50)].into());

    let during = clients(&fixture, 1500);
    master.signal(libc::SIGHUP);
    let reloaded = members(&fixture, 2, &[master.pid(), one, other]);
    let served = answers(during);
    assert!(!served.contains_key(&0) && !served.contains_key(&reloaded[1]), "{served:?}");
    // The socket that had the weight has it, whichever process serves it.
    let after = clients(&fixture, 50);
    assert_eq!(answers(after), [(reloaded[0], 50)].into());
    assert_eq!(fixture.member(reloaded[0])["share_wanted"], 1.0);
    // A value by the new pid replaces the one by the old.
    fixture.ok(&format!("steer {PORT} {}=1 {}=1", reloaded[0], reloaded[1]));
    let values = fixture.port()["rules"]["values"].as_array().unwrap().len();
    assert_eq!((values, fixture.member(reloaded[1])["share_wanted"].as_f64()), (2, Some(0.5)));

    // A worker that joins gets connections, the socket of one that leaves hands its queue over.
    for count in [3, 2] {
        let line = format!("worker_processes {count};");
        let text = CONFIG.replace("worker_processes 2;", &line);
        file("steer-nginx", "nginx.conf", &text);
        let present = members(&fixture, if count == 3 { 2 } else { 3 }, &[]);
        let during = clients(&fixture, 1000);
        master.signal(libc::SIGHUP);
        members(&fixture, count, &present);
        let served = answers(during);
        assert!(!served.contains_key(&0), "{count} workers: {served:?}");
    }
    fixture.ok(&format!("steer {PORT} off"));
}

#[test]
fn instances_of_gunicorn_are_members_whatever_their_workers() {
    let Some(fixture) = TrafficFixture::new("steer-gunicorn") else { return };
    if harness::find_program("gunicorn").is_none() {
        return harness::skip("steer-gunicorn", "needs gunicorn");
    }
    const APP: &str = "import os\ndef app(environ, start):\n    pid = b'%d' % os.getpid()\n    \
        start('200 OK', [('Content-Length', str(len(pid)))])\n    return [pid]\n";
    let (directory, _) = file("steer-gunicorn", "app.py", APP);
    let instance = |workers: &str| {
        let words = ["--reuse-port", "-b", "127.0.0.1:8080", "-w", workers, "--chdir"];
        let words = [&words[..], &[directory.to_str().unwrap(), "app:app"]].concat();
        fixture.start("gunicorn", &words)
    };
    let two = instance("2");
    members(&fixture, 1, &[]);
    // Its workers have one socket: there is no choice among them.
    let error = format!("{PORT}/tcp: the group has one member");
    fixture.fails(&format!("steer {PORT} two-choices"), 1, &error, "a second program");
    let one = instance("1");
    let found = members(&fixture, 2, &[]);
    assert!(found.contains(&two.pid()) && found.contains(&one.pid()), "{found:?}");
    fixture.ok(&format!("steer {PORT} round-robin"));
    let clients = clients(&fixture, 100);
    let served = answers(clients);
    let of_one: Vec<i32> = harness::descendants(one.pid());
    let to_one: u32 = of_one.iter().filter_map(|pid| served.get(pid)).sum();
    assert_eq!((to_one, served.contains_key(&0)), (50, false), "{served:?}, {of_one:?}");
}

#[test]
fn a_haproxy_that_takes_over_loses_nothing() {
    let Some(fixture) = TrafficFixture::new("steer-haproxy") else { return };
    if harness::find_program("haproxy").is_none() {
        return harness::skip("steer-haproxy", "needs haproxy");
    }
    const CONFIG: &str = "\
        global\n nbthread 2\ndefaults\n mode http\n timeout client 30s\n timeout server 30s\n\
        timeout connect 5s\n\
        frontend f\n bind 127.0.0.1:8080 shards by-thread\n \
        http-request return status 200 content-type text/plain lf-string %pid\n";
    let (_, config) = file("steer-haproxy", "haproxy.cfg", CONFIG);
    let first = fixture.start("haproxy", &["-db", "-f", &config]);
    // A socket of each thread.
    assert_eq!(members(&fixture, 2, &[]), [first.pid(); 2]);
    fixture.ok(&format!("steer {PORT} round-robin"));
    let during = clients(&fixture, 1500);
    let old = first.pid().to_string();
    let second = fixture.start("haproxy", &["-db", "-f", &config, "-sf", &old]);
    assert_eq!(members(&fixture, 2, &[first.pid()]), [second.pid(); 2]);
    let served = answers(during);
    assert!(!served.contains_key(&0), "{served:?}");
    let rows = fixture.port()["members"].as_array().unwrap().clone();
    assert!(rows.iter().all(|row| row["state"] == "serving"), "{rows:?}");
    let after = clients(&fixture, 50);
    assert_eq!(answers(after), [(second.pid(), 50)].into());
}
