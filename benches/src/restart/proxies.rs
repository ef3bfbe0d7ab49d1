//! haproxy or nginx in front of workers with a port each, reloaded as their manuals say when a worker is
//! replaced.

use std::collections::VecDeque;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::fleet::{BenchWorker, Fleet};
use super::servers::{Program, children};
use crate::error::BenchError;
use crate::harness::{BenchProcess, PATIENCE, free_address, listeners, start};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProxyKind {
    Haproxy,
    Nginx,
}

impl ProxyKind {
    fn command(self, proxy: &Path, file: &Path) -> Vec<std::ffi::OsString> {
        let mut command = vec![proxy.into()];
        match self {
            // A master and its worker.
            Self::Haproxy => command.extend(["-W".into(), "-q".into(), "-f".into()]),
            Self::Nginx => command.extend(["-e".into(), "stderr".into(), "-c".into()]),
        }
        command.push(file.into());
        command
    }

    fn reloads_on(self) -> Signal {
        if self == Self::Haproxy { Signal::USR2 } else { Signal::HUP }
    }

    fn configuration(
        self,
        folder: &Path,
        address: SocketAddr,
        workers: impl Iterator<Item = SocketAddr>,
    ) -> String {
        let folder = folder.display();
        let port = address.port();
        if self == Self::Haproxy {
            let servers: String =
                workers.map(|it| format!("    server port{} {it}\n", it.port())).collect();
            return format!(
                "global\n    stats socket {folder}/haproxy-{port}.sock level admin expose-fd \
                 listeners\n    hard-stop-after 10s\ndefaults\n    mode http\n    \
                 option redispatch\n    timeout connect 5s\n    timeout client 10s\n    \
                 timeout server 10s\nlisten bench\n    bind {address}\n    \
                 balance roundrobin\n{servers}"
            );
        }
        // Kills are more frequent than the `fail_timeout` of ten seconds, so that nginx would soon have no
        // live server.
        let servers: String =
            workers.map(|it| format!("        server {it} max_fails=0;\n")).collect();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|what| format!("    {what}_temp_path {folder}/{what};\n"))
            .concat();
        format!(
            "daemon off;\nuser root;\nerror_log stderr crit;\npid {folder}/proxy-{port}.pid;\n\
             worker_processes 2;\nevents {{ worker_connections 4096; }}\nhttp {{\n{temporary}    \
             access_log off;\n    upstream workers {{\n{servers}    }}\n    server {{\n        \
             listen {address};\n        location / {{ proxy_pass http://workers; }}\n    }}\n}}\n"
        )
    }
}

/// Workers behind a proxy.
pub(crate) struct Proxied<'a> {
    kind: ProxyKind,
    program: &'a Program,
    address: SocketAddr,
    file: PathBuf,
    workers: VecDeque<(SocketAddr, BenchWorker)>,
    master: BenchProcess,
}

/// Above the ports of connections.
fn next_port() -> SocketAddr {
    const FIRST: u16 = 61_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let port = FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % (u16::MAX - FIRST);
    ([127, 0, 0, 1], port).into()
}

impl<'a> Proxied<'a> {
    pub(crate) fn start(
        kind: ProxyKind,
        proxy: &Path,
        program: &'a Program,
        copies: u16,
    ) -> Result<Self, BenchError> {
        let address = free_address()?;
        let mut workers = VecDeque::new();
        for _ in 0..copies {
            let worker = started(program, next_port())?;
            workers.push_back(worker.ok_or("a worker ended before it was ready")?);
        }
        let file = program.folder.join(format!("proxy-{}.conf", address.port()));
        write(kind, program, address, &file, &workers)?;
        let mut master = start(&kind.command(proxy, &file))?;
        master.wait_for("listener of the proxy", PATIENCE, |_| {
            (listeners(address) > 0).then_some(())
        })?;
        Ok(Self { kind, program, address, file, workers, master })
    }

    /// Returns when the old processes of the proxy have ended.
    fn reload(&mut self) -> Result<(), BenchError> {
        write(self.kind, self.program, self.address, &self.file, &self.workers)?;
        let old = children(self.master.pid());
        self.master.signal(self.kind.reloads_on());
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let now = children(self.master.pid());
            if !now.is_empty() && old.iter().all(|pid| !now.contains(pid)) {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Err("the proxy's old processes did not end".to_owned())
    }
}

type Backend = (SocketAddr, BenchWorker);

fn started(program: &Program, address: SocketAddr) -> Result<Option<Backend>, BenchError> {
    Ok(BenchWorker::start(program, address, false)?.map(|worker| (address, worker)))
}

fn write(
    kind: ProxyKind,
    program: &Program,
    address: SocketAddr,
    file: &Path,
    workers: &VecDeque<Backend>,
) -> Result<(), BenchError> {
    let of = workers.iter().map(|(address, _)| *address);
    let text = kind.configuration(&program.folder, address, of);
    fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
}

impl Fleet for Proxied<'_> {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn is_direct(&self) -> bool {
        false
    }

    fn restart(&mut self) -> Result<(), BenchError> {
        for _ in 0..self.workers.len() {
            let Some(new) = started(self.program, next_port())? else { return Ok(()) };
            self.workers.push_back(new);
            let old = self.workers.pop_front();
            self.reload()?;
            old.map_or(Ok(()), |(_, old)| old.stop(self.program))?;
        }
        Ok(())
    }

    fn kill(&mut self) -> Result<(), BenchError> {
        let Some((address, worker)) = self.workers.pop_front() else { return Ok(()) };
        worker.kill()?;
        // On the same port, so that the proxy needs no reload.
        let new = started(self.program, address)?;
        self.workers.push_back(new.ok_or("a worker ended before it was ready")?);
        Ok(())
    }
}

impl Drop for Proxied<'_> {
    fn drop(&mut self) {
        self.master.signal(Signal::TERM);
    }
}
