//! The restarted servers. Each drains on its stop signal, and none knows sameport.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::error::BenchError;
use crate::harness::find_program;
use crate::rates::nginx_server;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum BenchServer {
    /// The threaded server of the tests, in C
    Threads,
    /// Python's http.server with threads
    Python,
    Node,
    /// nginx, a master and one process below it
    Nginx,
}

impl BenchServer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Threads => "threads",
            Self::Python => "python",
            Self::Node => "node",
            Self::Nginx => "nginx",
        }
    }

    /// Whether it records accepted connections.
    pub(crate) fn remembers(self) -> bool {
        matches!(self, Self::Threads | Self::Python)
    }

    pub(crate) fn stops_on(self) -> Signal {
        if self == Self::Nginx { Signal::QUIT } else { Signal::TERM }
    }
}

/// A server on this machine, and its files.
pub(crate) struct Program {
    pub(crate) server: BenchServer,
    path: PathBuf,
    pub(crate) folder: PathBuf,
}

const PYTHON: &str = include_str!("drains.py");
const NODE: &str = include_str!("drains.js");

impl Program {
    /// The reason if the server is missing.
    pub(crate) fn find(server: BenchServer, folder: &Path) -> Result<Self, BenchError> {
        let from_path = |name| find_program(name).ok_or_else(|| format!("{name} is not here"));
        let path = match server {
            BenchServer::Threads => compiled(folder)?,
            BenchServer::Python => from_path("python3")?,
            BenchServer::Node => from_path("node")?,
            BenchServer::Nginx => from_path("nginx")?,
        };
        Ok(Self { server, path, folder: folder.to_owned() })
    }

    /// Whether it can set `SO_REUSEPORT` itself.
    pub(crate) fn shares(&self) -> bool {
        // Node has `reusePort` since 22.12; the other servers have no option.
        self.server != BenchServer::Node
            || Command::new(&self.path)
                .args(["-p", "const [a, b] = process.versions.node.split('.'); a > 22 || (a == 22 && b >= 12)"])
                .output()
                .is_ok_and(|output| output.stdout.starts_with(b"true"))
    }

    /// The command of one worker. It first runs the shell script of [`Self::before`].
    pub(crate) fn command(
        &self,
        address: SocketAddr,
        shared: bool,
    ) -> Result<Vec<OsString>, BenchError> {
        let port = address.port().to_string();
        // nginx removes its pid file when it ends, so each has its own.
        let pid_file = match self.server {
            BenchServer::Nginx => format!(" -g \"pid {}/$$.pid;\"", self.folder.display()),
            BenchServer::Threads | BenchServer::Python | BenchServer::Node => String::new(),
        };
        let script = format!(". \"$0\"; exec \"$@\"{pid_file}");
        let mut command: Vec<OsString> = vec!["sh".into(), "-c".into(), script.into()];
        command.extend([self.before().into(), self.path.clone().into()]);
        match self.server {
            BenchServer::Threads => command.push(port.into()),
            BenchServer::Python => command.extend(["-c".into(), PYTHON.into(), port.into()]),
            BenchServer::Node => command.extend(["-e".into(), NODE.into(), port.into()]),
            BenchServer::Nginx => {
                let folder = &self.folder;
                let file = folder.join(format!("{port}-{shared}.conf"));
                let head = "user root;\nworker_processes 1;\n";
                fs::write(&file, head.to_owned() + &nginx_server(folder, address, shared))
                    .map_err(|error| format!("{}: {error}", file.display()))?;
                command.extend(["-e".into(), "stderr".into(), "-c".into(), file.into()]);
                return Ok(command);
            }
        }
        command.extend(shared.then(|| "shared".into()));
        Ok(command)
    }

    /// A shell script that every worker runs before it starts.
    pub(crate) fn before(&self) -> PathBuf {
        self.folder.join("before.sh")
    }

    /// The folder with the records of accepted connections.
    pub(crate) fn accepted(&self) -> PathBuf {
        self.folder.join("accepted")
    }

    /// Whether the worker with this pid and this output is ready.
    pub(crate) fn is_ready(&self, lines: &[String], pid: u32) -> bool {
        match self.server {
            // nginx listens before it forks. (Reading `/proc/net/tcp` takes a second under load.)
            BenchServer::Nginx => children(pid).iter().any(|child| {
                let name = fs::read_to_string(format!("/proc/{child}/comm"));
                name.is_ok_and(|name| name == "nginx\n")
            }),
            _ => lines.iter().any(|line| line == "ready"),
        }
    }
}

/// The children of a process.
pub(crate) fn children(of: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// The compiled server of the tests.
fn compiled(folder: &Path) -> Result<PathBuf, BenchError> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/cli/tests/programs/drains.c");
    let program = folder.join("drains");
    let output = Command::new("cc")
        .args(["-std=gnu11", "-O2", "-pthread", "-o"])
        .arg(&program)
        .arg(source)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cc: {error}"))?;
    if output.status.success() {
        Ok(program)
    } else {
        Err(format!("cc {source}: {}", String::from_utf8_lossy(&output.stderr)))
    }
}
