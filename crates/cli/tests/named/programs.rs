//! The programs of real life: restarted, killed and upgraded.

use std::net::SocketAddr;

use crate::harness::named_run::{
    NamedRun, RunSetup, queue_reaches_next_worker, while_clients_served,
};
use crate::harness::{
    User, c_program, descendants, eventually, find_program, go_program, kill, script, skip,
};

/// A program, as it is started on a room's port.
type Made = fn(&RunSetup) -> Option<Vec<String>>;

fn words(words: &[&str]) -> Option<Vec<String>> {
    Some(words.iter().map(|&word| word.to_owned()).collect())
}

fn path(program: &str) -> Option<String> {
    find_program(program)?.into_os_string().into_string().ok()
}

fn built(program: std::path::PathBuf) -> String {
    program.into_os_string().into_string().unwrap()
}

fn http_server(_: &RunSetup) -> Option<Vec<String>> {
    // Its own `serve` answers with files; this one answers who it is, with the same listen(5).
    words(&[&path("python3")?, "-u", &built(script("named_http_server.py")), "{port}"])
}

fn asyncio(_: &RunSetup) -> Option<Vec<String>> {
    words(&[&path("python3")?, &built(script("serve.py")), "{port}"])
}

fn node(_: &RunSetup) -> Option<Vec<String>> {
    words(&[&path("node")?, &built(script("serve.js")), "{port}"])
}

fn go(_: &RunSetup) -> Option<Vec<String>> {
    find_program("go")?;
    words(&[&built(go_program("serve")), "tcp", ":{port}"])
}

fn threaded(_: &RunSetup) -> Option<Vec<String>> {
    words(&[&built(c_program("drains", &[])), "{port}"])
}

fn nginx(setup: &RunSetup) -> Option<Vec<String>> {
    nginx_with(setup, "")
}

fn nginx_reuseport(setup: &RunSetup) -> Option<Vec<String>> {
    nginx_with(setup, " reuseport")
}

/// A master and two workers.
fn nginx_with(setup: &RunSetup, reuseport: &str) -> Option<Vec<String>> {
    let folder = setup.folder.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {folder}/{name};\n"))
        .concat();
    let configuration = format!(
        "daemon off; worker_processes 2; error_log stderr; pid {folder}/pid;
         events {{}}
         http {{
             access_log off; {temporary}
             server {{ listen 127.0.0.1:{}{reuseport}; location / {{ return 200 \"$pid\\n\"; }} }}
         }}\n",
        setup.port,
    );
    let file = setup.folder.join("nginx.conf");
    std::fs::write(&file, configuration).unwrap();
    words(&[&path("nginx")?, "-e", "stderr", "-p", setup.folder.to_str()?, "-c", file.to_str()?])
}

/// Connections that come while no worker is alive are served by the next; a restart and an upgrade
/// refuse nobody.
#[track_caller]
fn lives(name: &str, made: Made, also: Option<fn(u16) -> SocketAddr>) {
    for user in User::all() {
        let setup = RunSetup::new(*user);
        let Some(command) = made(&setup) else { return skip(name, "it is not installed") };
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let gated = setup.gated_command(&command);
        let run = setup.run(&["--ready", "http:/"], &gated);
        let context = format!("{name}, {user:?}");
        let to = run.setup.address();
        queue_reaches_next_worker(&run, to, &context);
        let status = run.status();
        let addresses = status["addresses"].as_array().unwrap();
        let kept = |it: &serde_json::Value| it["held"] == true && it["members"].as_u64() > Some(0);
        assert!(!addresses.is_empty() && addresses.iter().all(kept), "{context}: {status}");
        if let Some(also) = also {
            queue_reaches_next_worker(&run, also(run.setup.port), &context);
        }
        let before = run.wait_for_ready(1);
        while_served_where_it_drains(&run, name, || run.verb("restart", &[]));
        let restarted = run.wait_for_ready(1);
        assert!(restarted.is_disjoint(&before), "{context}: {restarted:?}");
        let words: Vec<String> = ["--"].into_iter().map(str::to_owned).chain(gated).collect();
        let words: Vec<String> =
            words.iter().map(|word| word.replace("{port}", &run.setup.port.to_string())).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        while_served_where_it_drains(&run, name, || run.verb("upgrade", &words));
        assert!(run.wait_for_ready(1).is_disjoint(&restarted), "{context}");
        assert_eq!(run.status()["workers"][0]["restarts"], if also.is_some() { 2 } else { 1 });
        run.stop();
    }
}

/// Those that end at once on SIGTERM take with them what they have in hand, so only the others must
/// answer everybody.
fn while_served_where_it_drains<T>(run: &NamedRun, name: &str, this: impl FnOnce() -> T) -> T {
    match name {
        "threaded" => while_clients_served(run, run.setup.address(), this),
        _ => this(),
    }
}

fn v6(port: u16) -> SocketAddr {
    (std::net::Ipv6Addr::LOCALHOST, port).into()
}

#[test]
fn python_http_server() {
    lives("python-http-server", http_server, None);
}

#[test]
fn python_asyncio_on_two_sockets() {
    lives("python-asyncio", asyncio, Some(v6));
}

#[test]
fn node_dual_stack() {
    lives("node", node, Some(v6));
}

#[test]
fn go_static_and_its_probes() {
    lives("go", go, Some(v6));
}

#[test]
fn a_threaded_server() {
    lives("threaded", threaded, None);
}

#[test]
fn nginx_master_and_workers() {
    lives("nginx", nginx, None);
}

#[test]
fn nginx_that_binds_one_address_for_each_worker() {
    lives("nginx-reuseport", nginx_reuseport, None);
}

/// A kill -9 of its master leaves nginx's workers, which are ended, and replaced with it.
#[test]
fn orphans_are_ended() {
    for user in User::all() {
        let setup = RunSetup::new(*user);
        let Some(command) = nginx(&setup) else { return skip("nginx-orphans", "no nginx") };
        let run = setup.run(&["--ready", "http:/"], &command);
        let master = *run.wait_for_ready(1).first().unwrap();
        let workers = eventually(|| Some(descendants(master)).filter(|pids| pids.len() == 2));
        let workers = workers.expect("nginx's workers");
        kill(master, libc::SIGKILL);
        let gone = eventually(|| {
            let alive = |pid: &&i32| std::path::Path::new(&format!("/proc/{pid}")).exists();
            workers.iter().find(alive).is_none().then_some(())
        });
        assert!(gone.is_some(), "{user:?}: {}", run.supervisor.stderr());
        assert!(!run.wait_for_ready(1).contains(&master));
        let exited = run.stop();
        let told = format!("pid {}", workers[0]);
        assert!(exited.stderr.contains("ending what the command left behind: "), "{exited:?}");
        assert!(exited.stderr.contains(&told), "{exited:?}");
    }
}
