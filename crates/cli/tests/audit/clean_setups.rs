//! Real servers in their usual setups. Each listens on [`PORT`]; `None` if it is not installed.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use crate::false_alarms::CleanSetup;
use crate::harness::{eventually, find_program, go_program, kill, sameport, script};
use crate::network::{NOBODY, has_python};

/// The port of every server, as a number and as text.
const PORT: u16 = 8443;

type Start = fn(&mut CleanSetup) -> Option<()>;

pub(crate) const SETUPS: &[(&str, Start)] = &[
    ("nginx", |setup| nginx(setup, "", 1).map(drop)),
    ("nginx-reuseport", |setup| nginx(setup, " reuseport", 3).map(drop)),
    ("nginx-reloaded", nginx_reloaded),
    ("haproxy", |setup| haproxy(setup).map(drop)),
    ("haproxy-reloaded", haproxy_reloaded),
    ("unbound", unbound),
    ("named", named),
    ("dnsmasq", dnsmasq),
    ("avahi", avahi),
    ("gunicorn", |setup| gunicorn(setup, &[])),
    ("gunicorn-reuse-port", |setup| gunicorn(setup, &["--reuse-port"])),
    ("node-cluster", |setup| node(setup, "rr")),
    ("node-cluster-shared", |setup| node(setup, "none")),
    ("python-forks", |setup| python(setup, FORKS, 1)),
    ("python-spawns", |setup| python(setup, SPAWNS, 3)),
    ("redis", redis),
    ("memcached", memcached),
    ("lighttpd", lighttpd),
    ("sshd", sshd),
    ("php", php),
    ("ruby-prefork", ruby),
    ("go-twice", go),
    ("started-twice", started_twice),
    ("passed-by-a-service-manager", service_manager),
    ("sameport-run", |setup| run(setup, &["-n", "4"])),
    ("sameport-run-named", |setup| run(setup, &["--name", "web", "-n", "4"])),
    ("sameport-run-restarting", restarting),
    ("sameport-run-private", |setup| run(setup, &["--private", "-n", "4"])),
    ("mdns-of-two-users", mdns),
    ("dhcp-clients", dhcp),
    ("resolvers-of-two-users", resolvers),
    ("one-port-each-protocol", protocols),
];

fn path(program: &str) -> Option<String> {
    find_program(program)?.into_os_string().into_string().ok()
}

fn nginx(setup: &mut CleanSetup, reuseport: &str, sockets: usize) -> Option<i32> {
    let program = path("nginx")?;
    let dir = setup.dir.display().to_string();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {dir}/{name};\n"))
        .concat();
    let text = format!(
        "daemon off; worker_processes 3; error_log stderr; pid {dir}/pid;\n events {{}}\n\
         http {{ access_log off; {temporary} server {{ listen {PORT}{reuseport}; }} }}\n"
    );
    let file = setup.file("nginx.conf", &text);
    let pid = setup.start(&[&program, "-e", "stderr", "-p", &dir, "-c", &file]);
    setup.wait_for_sockets(PORT, sockets);
    Some(pid)
}

/// After a reload: new workers, and an old one that still serves its connection.
fn nginx_reloaded(setup: &mut CleanSetup) -> Option<()> {
    let pid = nginx(setup, " reuseport", 3)?;
    if has_python() {
        setup.actor(NOBODY, "client", &["tcp", "connect=127.0.0.1:8443"]);
    }
    signal_and_wait_for_new_process(pid, libc::SIGHUP);
    Some(())
}

/// Sends a signal, and waits for a new process.
#[track_caller]
fn signal_and_wait_for_new_process(pid: i32, signal: i32) {
    let before = crate::harness::descendants(pid);
    kill(pid, signal);
    let is_new = |pid: &i32| !before.contains(pid);
    let started = eventually(|| crate::harness::descendants(pid).iter().any(is_new).then_some(()));
    started.expect("no second generation");
}

fn haproxy(setup: &mut CleanSetup) -> Option<i32> {
    let program = path("haproxy")?;
    let text = format!(
        "global\n nbthread 2\n hard-stop-after 60s\ndefaults\n mode tcp\n timeout client 60s\n \
         timeout server 60s\n timeout connect 5s\nfrontend f\n bind :{PORT}\n default_backend b\n\
         backend b\n server s 127.0.0.1:9000\n"
    );
    let file = setup.file("haproxy.cfg", &text);
    let pid = setup.start(&[&program, "-W", "-db", "-f", &file]);
    setup.wait_for_sockets(PORT, 1);
    Some(pid)
}

/// The old worker still serves its connection.
fn haproxy_reloaded(setup: &mut CleanSetup) -> Option<()> {
    if !has_python() {
        return None;
    }
    setup.actor(NOBODY, "backend", &["tcp", "bind=127.0.0.1:9000", "listen=8"]);
    let pid = haproxy(setup)?;
    setup.actor(NOBODY, "client", &["tcp", "connect=127.0.0.1:8443"]);
    signal_and_wait_for_new_process(pid, libc::SIGUSR2);
    setup.wait_for_sockets(PORT, 1);
    Some(())
}

fn unbound(setup: &mut CleanSetup) -> Option<()> {
    let program = path("unbound")?;
    let text = format!(
        "server:\n interface: 127.0.0.1\n interface: ::1\n port: {PORT}\n num-threads: 4\n \
         so-reuseport: yes\n chroot: \"\"\n username: \"nobody\"\n directory: \"{dir}\"\n \
         pidfile: \"{dir}/pid\"\n use-syslog: no\n do-daemonize: no\n module-config: iterator\n\
         remote-control:\n control-enable: no\n",
        dir = setup.dir.display(),
    );
    let file = setup.file("unbound.conf", &text);
    setup.start(&[&program, "-d", "-c", &file]);
    setup.wait_for_sockets(PORT, 8);
    Some(())
}

fn named(setup: &mut CleanSetup) -> Option<()> {
    let program = path("named")?;
    let text = format!(
        "options {{ directory \"{dir}\"; pid-file \"{dir}/pid\"; listen-on port {PORT} {{ any; }};\n\
         listen-on-v6 port {PORT} {{ any; }}; session-keyfile \"{dir}/key\";\n\
         managed-keys-directory \"{dir}\"; dnssec-validation no; }};\ncontrols {{ }};\n",
        dir = setup.dir.display(),
    );
    let file = setup.file("named.conf", &text);
    setup.start(&[&program, "-f", "-n", "2", "-u", "nobody", "-c", &file]);
    setup.wait_for_sockets(PORT, 6);
    Some(())
}

fn dnsmasq(setup: &mut CleanSetup) -> Option<()> {
    let (program, port) = (path("dnsmasq")?, format!("--port={PORT}"));
    let words = ["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--bind-dynamic"];
    setup.start(&[&[program.as_str(), &port, "--pid-file=", "--user=nobody"], &words[..]].concat());
    setup.wait_for_sockets(PORT, 2);
    Some(())
}

/// Two mDNS programs of two users share 5353.
fn avahi(setup: &mut CleanSetup) -> Option<()> {
    let program = path("avahi-daemon").filter(|_| has_python())?;
    let text = "[server]\nuse-iff-running=no\nenable-dbus=no\nallow-point-to-point=yes\n\
                [publish]\n[reflector]\n[rlimits]\n";
    let file = setup.file("avahi.conf", text);
    setup.actor(60_001, "browser", &["udp", "ra", "rp", "bind=0.0.0.0:5353"]);
    setup.start(&[&program, "--no-drop-root", "--no-rlimits", "--no-chroot", "-f", &file]);
    setup.wait_for_sockets(5353, 2);
    Some(())
}

fn gunicorn(setup: &mut CleanSetup, options: &[&str]) -> Option<()> {
    let program = path("gunicorn")?;
    setup.file("app.py", "def app(environ, start):\n    start('200 OK', [])\n    return [b'']\n");
    let (dir, at) = (setup.dir.to_str()?.to_owned(), format!("0.0.0.0:{PORT}"));
    let words = [&program, "--chdir", &dir, "-w", "3", "-b", &at, "app:app"];
    let pid = setup.start(&[&words[..], options].concat());
    setup.wait_for_sockets(PORT, 1);
    eventually(|| (crate::harness::descendants(pid).len() == 3).then_some(())).expect("no workers");
    Some(())
}

fn node(setup: &mut CleanSetup, scheduling: &str) -> Option<()> {
    let (program, server) = (path("node")?, script("serve.js"));
    setup.start(&[&program, server.to_str()?, &PORT.to_string(), "3", scheduling]);
    setup.wait_for_sockets(PORT, 1);
    Some(())
}

const FORKS: &str = "\
import http.server, os, socketserver, sys
class Server(socketserver.ForkingMixIn, http.server.HTTPServer): pass
server = Server(('', int(sys.argv[1])), http.server.BaseHTTPRequestHandler)
for _ in range(2):
    if os.fork() == 0: break
server.serve_forever()
";

const SPAWNS: &str = "\
import multiprocessing, socket, sys, time
def serve(port):
    with socket.socket() as it:
        it.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        it.bind(('', port)); it.listen()
        time.sleep(600)
if __name__ == '__main__':
    multiprocessing.set_start_method('spawn')
    for _ in range(3): multiprocessing.Process(target=serve, args=(int(sys.argv[1]),)).start()
    time.sleep(600)
";

fn python(setup: &mut CleanSetup, text: &str, sockets: usize) -> Option<()> {
    let (program, file) = (path("python3")?, setup.file("server.py", text));
    setup.start(&[&program, &file, &PORT.to_string()]);
    setup.wait_for_sockets(PORT, sockets);
    Some(())
}

fn redis(setup: &mut CleanSetup) -> Option<()> {
    let (program, port) = (path("redis-server")?, PORT.to_string());
    let dir = setup.dir.to_str()?.to_owned();
    setup.start_as(NOBODY, &[&program, "--port", &port, "--dir", &dir, "--save", ""]);
    setup.wait_for_sockets(PORT, 2);
    Some(())
}

fn memcached(setup: &mut CleanSetup) -> Option<()> {
    let (program, port) = (path("memcached")?, PORT.to_string());
    setup.start(&[&program, "-u", "nobody", "-t", "4", "-p", &port, "-U", &port, "-l", "0.0.0.0"]);
    setup.wait_for_sockets(PORT, 2);
    Some(())
}

fn lighttpd(setup: &mut CleanSetup) -> Option<()> {
    let program = path("lighttpd")?;
    let text = format!(
        "server.document-root = \"{}\"\nserver.port = {PORT}\nserver.max-worker = 3\n\
         server.username = \"nobody\"\n",
        setup.dir.display()
    );
    let file = setup.file("lighttpd.conf", &text);
    setup.start(&[&program, "-D", "-f", &file]);
    setup.wait_for_sockets(PORT, 1);
    Some(())
}

/// With a connected client, for which it has forked.
fn sshd(setup: &mut CleanSetup) -> Option<()> {
    let (program, keygen) = (path("sshd")?, path("ssh-keygen")?);
    let (key, dir) = (setup.dir.join("key"), setup.dir.clone());
    let mut make = std::process::Command::new(keygen);
    make.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key);
    assert!(make.status().unwrap().success());
    if !Path::new("/run/sshd").exists() {
        // The directory for the chroot before the login.
        std::fs::create_dir("/run/sshd").ok()?;
    }
    let pid = dir.join("pid");
    let text = format!("Port {PORT}\nHostKey {}\nPidFile {}\n", key.display(), pid.display());
    let file = setup.file("sshd_config", &text);
    setup.start(&[&program, "-D", "-e", "-f", &file]);
    setup.wait_for_sockets(PORT, 2);
    if has_python() {
        setup.actor(NOBODY, "client", &["tcp", "connect=127.0.0.1:8443"]);
    }
    Some(())
}

fn php(setup: &mut CleanSetup) -> Option<()> {
    let (env, program) = (path("env")?, path("php")?);
    let (at, dir) = (format!("0.0.0.0:{PORT}"), setup.dir.to_str()?.to_owned());
    setup.start(&[&env, "PHP_CLI_SERVER_WORKERS=3", &program, "-S", &at, "-t", &dir]);
    setup.wait_for_sockets(PORT, 1);
    Some(())
}

fn ruby(setup: &mut CleanSetup) -> Option<()> {
    let program = path("ruby")?;
    let text = "require 'socket'\nserver = TCPServer.new(ARGV[0].to_i)\n\
                3.times { fork { loop { server.accept.close } } }\nsleep 600\n";
    let file = setup.file("server.rb", text);
    setup.start(&[&program, &file, &PORT.to_string()]);
    setup.wait_for_sockets(PORT, 1);
    Some(())
}

/// One program, started twice.
fn go(setup: &mut CleanSetup) -> Option<()> {
    find_program("go").filter(|_| has_python())?;
    let program = go_program("serve").to_str()?.to_owned();
    let run = sameport().to_str()?.to_owned();
    for _ in 0..2 {
        setup.start(&[&run, "run", "--", &program, "tcp", &format!(":{PORT}")]);
    }
    setup.wait_for_sockets(PORT, 2);
    Some(())
}

/// One script, started from two shells.
fn started_twice(setup: &mut CleanSetup) -> Option<()> {
    let (shell, program) = (path("sh")?, path("python3")?);
    let file = setup.file("server.py", &SPAWNS.replace("range(3)", "range(1)"));
    for _ in 0..2 {
        let line = format!("{program} {file} {PORT}; true");
        setup.start(&[&shell, "-c", &line]);
    }
    setup.wait_for_sockets(PORT, 2);
    Some(())
}

/// A PID 1 that passes sockets keeps the socket of the service.
fn service_manager(setup: &mut CleanSetup) -> Option<()> {
    let program = path("python3")?;
    let text = "import os, socket, sys\nit = socket.socket()\nit.bind(('', int(sys.argv[1])))\n\
                it.listen()\nos.set_inheritable(it.fileno(), True)\n\
                if os.fork() == 0:\n    os.setuid(60001)\n    \
                os.execvp('sleep', ['sleep', '600'])\nimport time\ntime.sleep(600)\n";
    let file = setup.file("manager.py", text);
    setup.start(&[&program, &file, &PORT.to_string()]);
    setup.wait_for_sockets(PORT, 1);
    Some(())
}

/// A directory that no other user can write to, as for the files of a named run.
fn runtime(setup: &CleanSetup) -> String {
    let dir = setup.dir.join("runtime");
    let created = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
    assert!(created.is_ok(), "{}: {created:?}", dir.display());
    format!("XDG_RUNTIME_DIR={}", dir.display())
}

fn run(setup: &mut CleanSetup, options: &[&str]) -> Option<()> {
    let (program, server) = (path("python3")?, script("serve.py"));
    let (port, binary) = (PORT.to_string(), sameport().to_str()?.to_owned());
    let (env, runtime) = (path("env")?, runtime(setup));
    let command = ["--", &program, server.to_str()?, &port];
    let words = [&[env.as_str(), &runtime, &binary, "run"], options, &command].concat();
    setup.start(&words);
    setup.wait_for_sockets(PORT, 4);
    Some(())
}

/// During a restart: some workers are old, some new, and there can be a gate socket.
fn restarting(setup: &mut CleanSetup) -> Option<()> {
    run(setup, &["--name", "web", "-n", "4"])?;
    let (env, runtime) = (path("env")?, runtime(setup));
    setup.start(&[&env, &runtime, sameport().to_str()?, "restart", "web"]);
    Some(())
}

fn mdns(setup: &mut CleanSetup) -> Option<()> {
    has_python().then_some(())?;
    for (uid, name) in [(60_001, "browser"), (60_002, "player"), (0, "responder")] {
        setup.actor(uid, name, &["udp", "ra", "bind=0.0.0.0:5353"]);
        setup.actor(uid, name, &["udp6", "ra", "v6only", "bind=[::]:5353"]);
    }
    Some(())
}

fn dhcp(setup: &mut CleanSetup) -> Option<()> {
    has_python().then_some(())?;
    setup.actor(0, "client", &["udp", "ra", "bind=0.0.0.0:68"]);
    setup.actor(0, "other-client", &["udp", "ra", "device=lo", "bind=0.0.0.0:68"]);
    Some(())
}

/// As systemd-resolved next to a name server.
fn resolvers(setup: &mut CleanSetup) -> Option<()> {
    has_python().then_some(())?;
    for kind in ["tcp", "udp"] {
        let listen: &[&str] = if kind == "tcp" { &["listen=8"] } else { &[] };
        setup.actor(60_001, "stub", &[&[kind, "bind=127.0.0.53:8443"], listen].concat());
        setup.actor(60_002, "server", &[&[kind, "bind=127.0.0.1:8443"], listen].concat());
    }
    Some(())
}

fn protocols(setup: &mut CleanSetup) -> Option<()> {
    has_python().then_some(())?;
    setup.actor(60_001, "web", &["tcp", "bind=0.0.0.0:8443", "listen=8"]);
    setup.actor(60_002, "game", &["udp", "bind=0.0.0.0:8443"]);
    setup.actor(60_002, "other", &["tcp", "bind=0.0.0.0:8444", "listen=8"]);
    Some(())
}
