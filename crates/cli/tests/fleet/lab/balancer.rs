//! HAProxy in front of the machines.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use super::machine::{AGENT, Namespace, server};
use super::parts::{MACHINES, Parts, wait};

/// The port that clients use, on the loopback device of the load balancer.
pub(crate) const FRONT: u16 = 8000;

/// What differs between set-ups of HAProxy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Variant {
    /// Whether its check is an HTTP request, and not only a connection.
    pub(crate) http_check: bool,
    /// Whether it keeps connections to servers open for later requests.
    pub(crate) keeps_alive: bool,
}

/// HAProxy, in namespaces of its own.
pub(crate) struct Balancer {
    child: Child,
    pub(crate) namespace: Namespace,
    socket: PathBuf,
    log: PathBuf,
}

impl Balancer {
    pub(super) fn start(
        parts: &Parts,
        namespace: Namespace,
        variant: Variant,
    ) -> Result<Self, String> {
        let io = |error: std::io::Error| error.to_string();
        let [socket, file, log] =
            ["admin.sock", "haproxy.cfg", "haproxy.log"].map(|it| parts.directory.join(it));
        let text = configuration(variant).replace("SOCKET", &socket.to_string_lossy());
        std::fs::write(&file, text).map_err(io)?;
        let output = std::fs::File::create(&log).map_err(io)?;
        let mut command = namespace.command(&parts.haproxy);
        command.arg("-db").arg("-f").arg(&file);
        command.stdin(Stdio::null()).stdout(output.try_clone().map_err(io)?).stderr(output);
        let child = command.spawn().map_err(io)?;
        let balancer = Self { child, namespace, socket, log };
        wait("HAProxy answers", || balancer.command("show info"))?;
        Ok(balancer)
    }

    /// The answer to a command of HAProxy's command line interface.
    pub(crate) fn command(&self, text: &str) -> Result<String, String> {
        let ask = || -> std::io::Result<String> {
            let mut stream = UnixStream::connect(&self.socket)?;
            stream.write_all(format!("{text}\n").as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        ask().map_err(|error| format!("{}: {error}", self.socket.display()))
    }

    /// A column of a row of `show stat`.
    pub(crate) fn figure(&self, row: &str, column: &str) -> Result<String, String> {
        let table = self.command("show stat")?;
        let mut lines = table.lines();
        let names = lines.next().unwrap_or_default().trim_start_matches("# ");
        let at = names.split(',').position(|name| name == column).ok_or("no such column")?;
        lines
            .map(|line| line.split(',').collect::<Vec<_>>())
            .find(|cells| cells.first() == Some(&"web") && cells.get(1) == Some(&row))
            .and_then(|cells| cells.get(at).map(|cell| (*cell).to_owned()))
            .ok_or_else(|| format!("no {row}, {column} in {table}"))
    }

    /// Waits until the state of a machine begins with this text.
    pub(crate) fn wait_for(&self, machine: u8, state: &str) -> Result<(), String> {
        let row = format!("m{machine}");
        wait(&format!("{row} is {state}"), || {
            let status = self.figure(&row, "status")?;
            match status.starts_with(state) {
                true => Ok(()),
                false => Err(format!("{status}; {}", self.figure(&row, "last_agt")?)),
            }
        })
    }

    /// Waits until this is the last word of a machine's agent.
    pub(crate) fn wait_for_agent(&self, machine: u8, said: &str) -> Result<(), String> {
        let row = format!("m{machine}");
        wait(&format!("the agent of {row} says {said:?}"), || {
            let found = self.figure(&row, "last_agt")?;
            (found == said).then_some(()).ok_or(found)
        })
    }

    /// Waits until the weight of a machine is this.
    pub(crate) fn wait_for_weight(&self, machine: u8, weight: &str) -> Result<(), String> {
        let row = format!("m{machine}");
        wait(&format!("the weight of {row} is {weight}"), || {
            let found = self.figure(&row, "weight")?;
            (found == weight).then_some(()).ok_or(found)
        })
    }

    /// The state of each machine, and what HAProxy wrote.
    pub(crate) fn log(&self) -> String {
        let table = self.command("show stat").unwrap_or_default();
        format!("{table}{}", std::fs::read_to_string(&self.log).unwrap_or_default())
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.namespace.kill();
        let _ = self.child.wait();
    }
}

/// The configuration of docs/guides/haproxy.md, with shorter intervals.
fn configuration(variant: Variant) -> String {
    let mut text = "\
global
    stats socket SOCKET mode 600 level admin
    maxconn 2000
defaults
    mode http
    timeout client 60s
    timeout queue 60s
    timeout connect 1s
    timeout server 3s
    timeout check 1s
    retries 6
    option redispatch 1
    retry-on conn-failure empty-response response-timeout
"
    .to_owned();
    text.push_str(&format!("frontend clients\n    bind 127.0.0.1:{FRONT}\n"));
    text.push_str("    http-request disable-l7-retry if METH_POST\n    default_backend web\n");
    text.push_str("backend web\n    balance roundrobin\n");
    if !variant.keeps_alive {
        text.push_str("    option http-server-close\n");
    }
    if variant.http_check {
        text.push_str("    option httpchk GET /healthz\n");
    }
    text.push_str("    default-server weight 100 check inter 250ms fall 2 rise 1 agent-check");
    text.push_str(&format!(" agent-port {AGENT} agent-inter 250ms\n"));
    for number in 1..=MACHINES {
        text.push_str(&format!("    server m{number} {}\n", server(number)));
    }
    text
}
