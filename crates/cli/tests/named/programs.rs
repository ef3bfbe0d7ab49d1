//! Real programs: restarted, killed and upgraded.

use std::net::SocketAddr;

use crate::harness::named_run::{
    NamedRun, RunSetup, queue_reaches_next_worker, while_clients_served,
};
use crate::harness::{
    User, c_program, descendants, eventually, find_program, go_program, kill, script, skip,
};

/// The command line of a program on the port of a run.
type CommandLine = fn(&RunSetup) -> Option<Vec<String>>;

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
    // asyncio's own server answers with its pid, with the same listen(5).
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
    let dir = setup.dir.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {dir}/{name};\n"))
        .concat();
    let configuration = format!(
        "daemon off; worker_processes 2; error_log stderr; pid {dir}/pid;
         events {{}}
         http {{
             access_log off; {temporary}
             server {{ listen 127.0.0.1:{}{reuseport}; location / {{ return 200 \"$pid\\n\"; }} }}
         }}\n",
        setup.port,
    );
    let file = setup.dir.join("nginx.conf");
    std::fs::write(&file, configuration).unwrap();
    words(&[&path("nginx")?, "-e", "stderr", "-p", setup.dir.to_str()?, "-c", file.to_str()?])
}

/// The next worker serves connections that arrive while no worker is alive. A restart and an
/// upgrade refuse none.
#[track_caller]
fn survives_restarts(
    name: &str,
    command_line: CommandLine,
    second_address: Option<fn(u16) -> SocketAddr>,
) {
    for user in User::all() {
        let setup = RunSetup::new(*user);
        let Some(command) = command_line(&setup) else { return skip(name, "it is not installed") };
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
        if let Some(second_address) = second_address {
            queue_reaches_next_worker(&run, second_address(run.setup.port), &context);
        }
        let before = run.wait_for_ready(1);
        while_clients_served_if_it_drains(&run, name, || run.verb("restart", &[]));
        let restarted = run.wait_for_ready(1);
        assert!(restarted.is_disjoint(&before), "{context}: {restarted:?}");
        let words: Vec<String> = ["--"].into_iter().map(str::to_owned).chain(gated).collect();
        let words: Vec<String> =
            words.iter().map(|word| word.replace("{port}", &run.setup.port.to_string())).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        while_clients_served_if_it_drains(&run, name, || run.verb("upgrade", &words));
        assert!(run.wait_for_ready(1).is_disjoint(&restarted), "{context}");
        assert_eq!(
            run.status()["workers"][0]["restarts"],
            if second_address.is_some() { 2 } else { 1 }
        );
        run.stop();
    }
}

/// Programs that exit at once on SIGTERM drop their open connections, so only the others must
/// answer every request.
fn while_clients_served_if_it_drains<T>(
    run: &NamedRun,
    name: &str,
    action: impl FnOnce() -> T,
) -> T {
    match name {
        "threaded" => while_clients_served(run, run.setup.address(), action),
        _ => action(),
    }
}

fn v6(port: u16) -> SocketAddr {
    (std::net::Ipv6Addr::LOCALHOST, port).into()
}

#[test]
fn python_http_server() {
    survives_restarts("python-http-server", http_server, None);
}

#[test]
fn python_asyncio_on_two_sockets() {
    survives_restarts("python-asyncio", asyncio, Some(v6));
}

#[test]
fn node_dual_stack() {
    survives_restarts("node", node, Some(v6));
}

#[test]
fn go_static_and_its_probes() {
    survives_restarts("go", go, Some(v6));
}

#[test]
fn a_threaded_server() {
    survives_restarts("threaded", threaded, None);
}

#[test]
fn nginx_master_and_workers() {
    survives_restarts("nginx", nginx, None);
}

#[test]
fn nginx_that_binds_one_address_for_each_worker() {
    survives_restarts("nginx-reuseport", nginx_reuseport, None);
}

/// After SIGKILL of the nginx master, its workers are stopped and replaced.
#[test]
fn orphans_are_stopped() {
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
        let message = format!("pid {}", workers[0]);
        assert!(exited.stderr.contains("ending what the command left behind: "), "{exited:?}");
        assert!(exited.stderr.contains(&message), "{exited:?}");
    }
}
