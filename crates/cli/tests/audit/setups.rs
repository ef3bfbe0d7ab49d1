//! Real servers, as they are really run. Each listens on [`PORT`]; nothing where it is not installed.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use crate::clean::Room;
use crate::network::{NOBODY, has_python};
use crate::stage::{eventually, find_program, go_program, kill, sameport, script};

/// Where everybody listens; names for those who need text.
const PORT: u16 = 8443;

type Setup = fn(&mut Room) -> Option<()>;

pub(crate) const SETUPS: &[(&str, Setup)] = &[
    ("nginx", |room| nginx(room, "", 1).map(drop)),
    ("nginx-reuseport", |room| nginx(room, " reuseport", 3).map(drop)),
    ("nginx-reloaded", nginx_reloaded),
    ("haproxy", |room| haproxy(room).map(drop)),
    ("haproxy-reloaded", haproxy_reloaded),
    ("unbound", unbound),
    ("named", named),
    ("dnsmasq", dnsmasq),
    ("avahi", avahi),
    ("gunicorn", |room| gunicorn(room, &[])),
    ("gunicorn-reuse-port", |room| gunicorn(room, &["--reuse-port"])),
    ("node-cluster", |room| node(room, "rr")),
    ("node-cluster-shared", |room| node(room, "none")),
    ("python-forks", |room| python(room, FORKS, 1)),
    ("python-spawns", |room| python(room, SPAWNS, 3)),
    ("redis", redis),
    ("memcached", memcached),
    ("lighttpd", lighttpd),
    ("sshd", sshd),
    ("php", php),
    ("ruby-prefork", ruby),
    ("go-twice", go),
    ("started-twice", started_twice),
    ("passed-by-a-service-manager", service_manager),
    ("sameport-run", |room| run(room, &["-n", "4"])),
    ("sameport-run-named", |room| run(room, &["--name", "web", "-n", "4"])),
    ("sameport-run-restarting", restarting),
    ("sameport-run-private", |room| run(room, &["--private", "-n", "4"])),
    ("mdns-of-two-users", mdns),
    ("dhcp-clients", dhcp),
    ("resolvers-of-two-users", resolvers),
    ("one-port-each-protocol", protocols),
];

fn path(program: &str) -> Option<String> {
    find_program(program)?.into_os_string().into_string().ok()
}

fn nginx(room: &mut Room, reuseport: &str, sockets: usize) -> Option<i32> {
    let program = path("nginx")?;
    let folder = room.folder.display().to_string();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {folder}/{name};\n"))
        .concat();
    let text = format!(
        "daemon off; worker_processes 3; error_log stderr; pid {folder}/pid;\n events {{}}\n\
         http {{ access_log off; {temporary} server {{ listen {PORT}{reuseport}; }} }}\n"
    );
    let file = room.file("nginx.conf", &text);
    let pid = room.start(&[&program, "-e", "stderr", "-p", &folder, "-c", &file]);
    room.until(PORT, sockets);
    Some(pid)
}

/// New workers, and an old one that stays for its connection.
fn nginx_reloaded(room: &mut Room) -> Option<()> {
    let pid = nginx(room, " reuseport", 3)?;
    if has_python() {
        room.actor(NOBODY, "client", &["tcp", "connect=127.0.0.1:8443"]);
    }
    renewed(pid, libc::SIGHUP);
    Some(())
}

/// Sends this, and waits for a process that was not there.
#[track_caller]
fn renewed(pid: i32, signal: i32) {
    let before = crate::stage::descendants(pid);
    kill(pid, signal);
    let is_new = |pid: &i32| !before.contains(pid);
    let came = eventually(|| crate::stage::descendants(pid).iter().any(is_new).then_some(()));
    came.expect("no second generation");
}

fn haproxy(room: &mut Room) -> Option<i32> {
    let program = path("haproxy")?;
    let text = format!(
        "global\n nbthread 2\n hard-stop-after 60s\ndefaults\n mode tcp\n timeout client 60s\n \
         timeout server 60s\n timeout connect 5s\nfrontend f\n bind :{PORT}\n default_backend b\n\
         backend b\n server s 127.0.0.1:9000\n"
    );
    let file = room.file("haproxy.cfg", &text);
    let pid = room.start(&[&program, "-W", "-db", "-f", &file]);
    room.until(PORT, 1);
    Some(pid)
}

/// The old worker stays for its connection.
fn haproxy_reloaded(room: &mut Room) -> Option<()> {
    if !has_python() {
        return None;
    }
    room.actor(NOBODY, "backend", &["tcp", "bind=127.0.0.1:9000", "listen=8"]);
    let pid = haproxy(room)?;
    room.actor(NOBODY, "client", &["tcp", "connect=127.0.0.1:8443"]);
    renewed(pid, libc::SIGUSR2);
    room.until(PORT, 1);
    Some(())
}

fn unbound(room: &mut Room) -> Option<()> {
    let program = path("unbound")?;
    let text = format!(
        "server:\n interface: 127.0.0.1\n interface: ::1\n port: {PORT}\n num-threads: 4\n \
         so-reuseport: yes\n chroot: \"\"\n username: \"nobody\"\n directory: \"{folder}\"\n \
         pidfile: \"{folder}/pid\"\n use-syslog: no\n do-daemonize: no\n module-config: iterator\n\
         remote-control:\n control-enable: no\n",
        folder = room.folder.display(),
    );
    let file = room.file("unbound.conf", &text);
    room.start(&[&program, "-d", "-c", &file]);
    room.until(PORT, 8);
    Some(())
}

fn named(room: &mut Room) -> Option<()> {
    let program = path("named")?;
    let text = format!(
        "options {{ directory \"{folder}\"; pid-file \"{folder}/pid\"; listen-on port {PORT} {{ any; }};\n\
         listen-on-v6 port {PORT} {{ any; }}; session-keyfile \"{folder}/key\";\n\
         managed-keys-directory \"{folder}\"; dnssec-validation no; }};\ncontrols {{ }};\n",
        folder = room.folder.display(),
    );
    let file = room.file("named.conf", &text);
    room.start(&[&program, "-f", "-n", "2", "-u", "nobody", "-c", &file]);
    room.until(PORT, 6);
    Some(())
}

fn dnsmasq(room: &mut Room) -> Option<()> {
    let (program, port) = (path("dnsmasq")?, format!("--port={PORT}"));
    let words = ["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--bind-dynamic"];
    room.start(&[&[program.as_str(), &port, "--pid-file=", "--user=nobody"], &words[..]].concat());
    room.until(PORT, 2);
    Some(())
}

/// Two mDNS programs of two users have 5353 to themselves, together.
fn avahi(room: &mut Room) -> Option<()> {
    let program = path("avahi-daemon").filter(|_| has_python())?;
    let text = "[server]\nuse-iff-running=no\nenable-dbus=no\nallow-point-to-point=yes\n\
                [publish]\n[reflector]\n[rlimits]\n";
    let file = room.file("avahi.conf", text);
    room.actor(60_001, "browser", &["udp", "ra", "rp", "bind=0.0.0.0:5353"]);
    room.start(&[&program, "--no-drop-root", "--no-rlimits", "--no-chroot", "-f", &file]);
    room.until(5353, 2);
    Some(())
}

fn gunicorn(room: &mut Room, options: &[&str]) -> Option<()> {
    let program = path("gunicorn")?;
    room.file("app.py", "def app(environ, start):\n    start('200 OK', [])\n    return [b'']\n");
    let (folder, at) = (room.folder.to_str()?.to_owned(), format!("0.0.0.0:{PORT}"));
    let words = [&program, "--chdir", &folder, "-w", "3", "-b", &at, "app:app"];
    let pid = room.start(&[&words[..], options].concat());
    room.until(PORT, 1);
    eventually(|| (crate::stage::descendants(pid).len() == 3).then_some(())).expect("no workers");
    Some(())
}

fn node(room: &mut Room, scheduling: &str) -> Option<()> {
    let (program, server) = (path("node")?, script("serve.js"));
    room.start(&[&program, server.to_str()?, &PORT.to_string(), "3", scheduling]);
    room.until(PORT, 1);
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

fn python(room: &mut Room, text: &str, sockets: usize) -> Option<()> {
    let (program, file) = (path("python3")?, room.file("server.py", text));
    room.start(&[&program, &file, &PORT.to_string()]);
    room.until(PORT, sockets);
    Some(())
}

fn redis(room: &mut Room) -> Option<()> {
    let (program, port) = (path("redis-server")?, PORT.to_string());
    let folder = room.folder.to_str()?.to_owned();
    room.start_as(NOBODY, &[&program, "--port", &port, "--dir", &folder, "--save", ""]);
    room.until(PORT, 2);
    Some(())
}

fn memcached(room: &mut Room) -> Option<()> {
    let (program, port) = (path("memcached")?, PORT.to_string());
    room.start(&[&program, "-u", "nobody", "-t", "4", "-p", &port, "-U", &port, "-l", "0.0.0.0"]);
    room.until(PORT, 2);
    Some(())
}

fn lighttpd(room: &mut Room) -> Option<()> {
    let program = path("lighttpd")?;
    let text = format!(
        "server.document-root = \"{}\"\nserver.port = {PORT}\nserver.max-worker = 3\n\
         server.username = \"nobody\"\n",
        room.folder.display()
    );
    let file = room.file("lighttpd.conf", &text);
    room.start(&[&program, "-D", "-f", &file]);
    room.until(PORT, 1);
    Some(())
}

/// With a client that it has forked for.
fn sshd(room: &mut Room) -> Option<()> {
    let (program, keygen) = (path("sshd")?, path("ssh-keygen")?);
    let (key, folder) = (room.folder.join("key"), room.folder.clone());
    let mut make = std::process::Command::new(keygen);
    make.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key);
    assert!(make.status().unwrap().success());
    if !Path::new("/run/sshd").exists() {
        // Where it puts those who have not said who they are.
        std::fs::create_dir("/run/sshd").ok()?;
    }
    let pid = folder.join("pid");
    let text = format!("Port {PORT}\nHostKey {}\nPidFile {}\n", key.display(), pid.display());
    let file = room.file("sshd_config", &text);
    room.start(&[&program, "-D", "-e", "-f", &file]);
    room.until(PORT, 2);
    if has_python() {
        room.actor(NOBODY, "client", &["tcp", "connect=127.0.0.1:8443"]);
    }
    Some(())
}

fn php(room: &mut Room) -> Option<()> {
    let (env, program) = (path("env")?, path("php")?);
    let (at, folder) = (format!("0.0.0.0:{PORT}"), room.folder.to_str()?.to_owned());
    room.start(&[&env, "PHP_CLI_SERVER_WORKERS=3", &program, "-S", &at, "-t", &folder]);
    room.until(PORT, 1);
    Some(())
}

fn ruby(room: &mut Room) -> Option<()> {
    let program = path("ruby")?;
    let text = "require 'socket'\nserver = TCPServer.new(ARGV[0].to_i)\n\
                3.times { fork { loop { server.accept.close } } }\nsleep 600\n";
    let file = room.file("server.rb", text);
    room.start(&[&program, &file, &PORT.to_string()]);
    room.until(PORT, 1);
    Some(())
}

/// One program, started twice by hand.
fn go(room: &mut Room) -> Option<()> {
    find_program("go").filter(|_| has_python())?;
    let program = go_program("serve").to_str()?.to_owned();
    let run = sameport().to_str()?.to_owned();
    for _ in 0..2 {
        room.start(&[&run, "run", "--", &program, "tcp", &format!(":{PORT}")]);
    }
    room.until(PORT, 2);
    Some(())
}

/// One script, from two shells.
fn started_twice(room: &mut Room) -> Option<()> {
    let (shell, program) = (path("sh")?, path("python3")?);
    let file = room.file("server.py", &SPAWNS.replace("range(3)", "range(1)"));
    for _ in 0..2 {
        let line = format!("{program} {file} {PORT}; true");
        room.start(&[&shell, "-c", &line]);
    }
    room.until(PORT, 2);
    Some(())
}

/// Process 1 of a system that hands out sockets: it keeps what the service has.
fn service_manager(room: &mut Room) -> Option<()> {
    let program = path("python3")?;
    let text = "import os, socket, sys\nit = socket.socket()\nit.bind(('', int(sys.argv[1])))\n\
                it.listen()\nos.set_inheritable(it.fileno(), True)\n\
                if os.fork() == 0:\n    os.setuid(60001)\n    \
                os.execvp('sleep', ['sleep', '600'])\nimport time\ntime.sleep(600)\n";
    let file = room.file("manager.py", text);
    room.start(&[&program, &file, &PORT.to_string()]);
    room.until(PORT, 1);
    Some(())
}

/// A folder that no other user can write to: no other one is taken for the files of a named run.
fn runtime(room: &Room) -> String {
    let folder = room.folder.join("runtime");
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    assert!(made.is_ok(), "{}: {made:?}", folder.display());
    format!("XDG_RUNTIME_DIR={}", folder.display())
}

fn run(room: &mut Room, options: &[&str]) -> Option<()> {
    let (program, server) = (path("python3")?, script("serve.py"));
    let (port, binary) = (PORT.to_string(), sameport().to_str()?.to_owned());
    let (env, runtime) = (path("env")?, runtime(room));
    let command = ["--", &program, server.to_str()?, &port];
    let words = [&[env.as_str(), &runtime, &binary, "run"], options, &command].concat();
    room.start(&words);
    room.until(PORT, 4);
    Some(())
}

/// In the middle of it: some workers are old, some new, and there may be a gate.
fn restarting(room: &mut Room) -> Option<()> {
    run(room, &["--name", "web", "-n", "4"])?;
    let (env, runtime) = (path("env")?, runtime(room));
    room.start(&[&env, &runtime, sameport().to_str()?, "restart", "web"]);
    Some(())
}

fn mdns(room: &mut Room) -> Option<()> {
    has_python().then_some(())?;
    for (uid, name) in [(60_001, "browser"), (60_002, "player"), (0, "responder")] {
        room.actor(uid, name, &["udp", "ra", "bind=0.0.0.0:5353"]);
        room.actor(uid, name, &["udp6", "ra", "v6only", "bind=[::]:5353"]);
    }
    Some(())
}

fn dhcp(room: &mut Room) -> Option<()> {
    has_python().then_some(())?;
    room.actor(0, "client", &["udp", "ra", "bind=0.0.0.0:68"]);
    room.actor(0, "other-client", &["udp", "ra", "device=lo", "bind=0.0.0.0:68"]);
    Some(())
}

/// As systemd-resolved beside a name server.
fn resolvers(room: &mut Room) -> Option<()> {
    has_python().then_some(())?;
    for kind in ["tcp", "udp"] {
        let listen: &[&str] = if kind == "tcp" { &["listen=8"] } else { &[] };
        room.actor(60_001, "stub", &[&[kind, "bind=127.0.0.53:8443"], listen].concat());
        room.actor(60_002, "server", &[&[kind, "bind=127.0.0.1:8443"], listen].concat());
    }
    Some(())
}

fn protocols(room: &mut Room) -> Option<()> {
    has_python().then_some(())?;
    room.actor(60_001, "web", &["tcp", "bind=0.0.0.0:8443", "listen=8"]);
    room.actor(60_002, "game", &["udp", "bind=0.0.0.0:8443"]);
    room.actor(60_002, "other", &["tcp", "bind=0.0.0.0:8444", "listen=8"]);
    Some(())
}
