//! haproxy or nginx in front of members with a port each, as a proxy of TCP connections.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::error::BenchError;
use crate::harness::{BenchProcess, PATIENCE, find_program, listeners, start};

/// Folder for the files of proxies and servers, in memory.
pub(crate) const FOLDER: &str = "/run/sameport-bench";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrontKind {
    Haproxy,
    Nginx,
}

/// The stream module of Debian's package `libnginx-mod-stream`.
const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

impl FrontKind {
    fn name(self) -> &'static str {
        match self {
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
        }
    }

    /// The program; the error says what is missing.
    pub(crate) fn find(self) -> Result<PathBuf, BenchError> {
        let name = self.name();
        let program = find_program(name).ok_or(format!("{name} is not here"))?;
        if self == Self::Nginx && !Path::new(STREAM_MODULE).exists() {
            return Err("nginx has no stream module: apt-get install libnginx-mod-stream".into());
        }
        Ok(program)
    }

    /// The policy is the proxy's own word for it; empty: its default, round-robin.
    fn configuration(
        self,
        address: SocketAddr,
        servers: &[SocketAddr],
        policy: &str,
        weights: &[u32],
    ) -> String {
        let weight = |at: usize| weights.get(at).copied().unwrap_or(1);
        if self == Self::Haproxy {
            let servers: String = (servers.iter().enumerate())
                .map(|(at, it)| {
                    format!(
                        "    server member{at} {it} check inter 200ms fall 1 weight {}\n",
                        weight(at)
                    )
                })
                .collect();
            return format!(
                "global\n    maxconn 8192\ndefaults\n    mode tcp\n    option redispatch\n    \
                 timeout connect 5s\n    timeout client 60s\n    timeout server 60s\n\
                 listen bench\n    bind {address} backlog 4096\n    balance {policy}\n    \
                 hash-type consistent\n{servers}"
            );
        }
        let policy = if policy == "roundrobin" { String::new() } else { format!("{policy};") };
        let servers: String = (servers.iter().enumerate())
            // nginx refuses the weight 0.
            .filter(|(at, _)| weight(*at) > 0)
            .map(|(at, it)| format!("        server {it} max_fails=0 weight={};\n", weight(at)))
            .collect();
        format!(
            "load_module {STREAM_MODULE};\ndaemon off;\nuser root;\nerror_log stderr crit;\n\
             pid {FOLDER}/front-{port}.pid;\nworker_processes 2;\n\
             events {{ worker_connections 8192; }}\nstream {{\n    upstream members {{\n        \
             {policy}\n        zone members 256k;\n{servers}    }}\n    server {{\n        \
             listen {address} backlog=4096;\n        proxy_pass members;\n        \
             proxy_connect_timeout 5s;\n    }}\n}}\n",
            port = address.port()
        )
    }
}

/// A running proxy. Ended when dropped.
pub(crate) struct Front(BenchProcess);

impl Front {
    pub(crate) fn start(
        kind: FrontKind,
        address: SocketAddr,
        servers: &[SocketAddr],
        policy: &str,
        weights: &[u32],
    ) -> Result<Self, BenchError> {
        let program = kind.find()?;
        let file = Path::new(FOLDER).join(format!("front-{}.conf", address.port()));
        fs::write(&file, kind.configuration(address, servers, policy, weights))
            .map_err(|error| format!("{}: {error}", file.display()))?;
        let mut command: Vec<OsString> = vec![program.into()];
        match kind {
            FrontKind::Haproxy => command.extend(["-W".into(), "-q".into(), "-f".into()]),
            FrontKind::Nginx => command.extend(["-e".into(), "stderr".into(), "-c".into()]),
        }
        command.push(file.into());
        let mut master = start(&command)?;
        master.wait_for("listener of the proxy", PATIENCE, |_| {
            (listeners(address) > 0).then_some(())
        })?;
        Ok(Self(master))
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.0.signal(Signal::TERM);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_written_and_nginx_gets_no_server_of_weight_0() {
        let servers = [1, 2, 3].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        let text = FrontKind::Haproxy.configuration(address, &servers, "roundrobin", &[90, 10, 0]);
        assert!(text.contains("member2 127.0.0.1:3 check inter 200ms fall 1 weight 0\n"), "{text}");
        let text = FrontKind::Nginx.configuration(address, &servers, "roundrobin", &[90, 10, 0]);
        assert!(text.contains("127.0.0.1:2 max_fails=0 weight=10;"), "{text}");
        assert!(!text.contains("127.0.0.1:3"), "{text}");
    }
}
