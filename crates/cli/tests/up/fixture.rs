//! A directory with a file of services, and the verbs in it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::harness::named_run::{only_run, responder};
use crate::harness::{
    Exited, Process, User, chown_to, command_for, eventually, find_program, free_port, in_test_dir,
    sameport, skip, spawn_process,
};

/// Answers with its pid, the arguments after the port, and the variable MODE. `bad` ends at once.
const SERVER: &str = r#"
import http.server, os, signal, sys, threading
if sys.argv[2:] == ["bad"]:
    sys.exit("cannot serve: bad")
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"
    def do_GET(self):
        words = [str(os.getpid()), os.getcwd(), os.environ.get("MODE", "unset"), VERSION] + sys.argv[2:]
        text = (" ".join(words) + "\n").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 128
server = Server(("127.0.0.1", int(sys.argv[1])), Handler)
print("serving version", VERSION, flush=True)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()
server.server_close()
"#;

/// A project: `sameport.toml`, `server.py`, and directories for the files of runs.
pub(crate) struct Project {
    pub(crate) user: User,
    pub(crate) dir: PathBuf,
    pub(crate) port: u16,
    /// The name of the first service.
    pub(crate) name: String,
}

impl Project {
    /// `None`: a program is missing.
    pub(crate) fn new(user: User, test: &str) -> Option<Self> {
        if find_program("python3").is_none() {
            skip(test, "no python3");
            return None;
        }
        let port = free_port();
        let dir = in_test_dir(format!("project-{port}"));
        for dir in [dir.clone(), dir.join("run"), dir.join("state"), dir.join("app")] {
            std::fs::create_dir(&dir).unwrap();
            chown_to(&dir, user);
        }
        let project = Self { user, dir, port, name: format!("web{port}") };
        project.release("1");
        Some(project)
    }

    /// Writes a version of the server, as an editor does.
    pub(crate) fn release(&self, version: &str) {
        let text = format!("VERSION = {version:?}\n{SERVER}");
        self.save("app/server.py", &text);
    }

    /// Writes a file under another name, and renames it.
    pub(crate) fn save(&self, name: &str, text: &str) {
        let (new, file) = (self.dir.join("unfinished"), self.dir.join(name));
        std::fs::write(&new, text).unwrap();
        chown_to(&new, self.user);
        std::fs::rename(new, file).unwrap();
    }

    /// Writes `sameport.toml`: NAME and PORT stand for those of the project, SERVER for its command.
    pub(crate) fn write(&self, text: &str) {
        let port = self.port.to_string();
        let command =
            format!(r#"command = ["python3", "{}/app/server.py", "PORT""#, self.dir.display());
        let text = text.replace("SERVER", &command).replace("NAME", &self.name);
        self.save("sameport.toml", &text.replace("PORT", &port));
    }

    pub(crate) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// The name of another service of the project.
    pub(crate) fn other(&self, prefix: &str) -> String {
        format!("{prefix}{}", self.port)
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = command_for(self.user, sameport(), words);
        command
            .env("XDG_RUNTIME_DIR", self.dir.join("run"))
            .env("LOGS_DIRECTORY", self.dir.join("state"))
            .current_dir(&self.dir);
        command
    }

    pub(crate) fn start(&self, words: &[&str]) -> Process {
        spawn_process(self.command(words))
    }

    pub(crate) fn sameport(&self, words: &[&str]) -> Exited {
        self.start(words).wait()
    }

    /// `up` with these arguments, which must make everything as it is written.
    #[track_caller]
    pub(crate) fn up(&self, words: &[&str]) -> Exited {
        let words: Vec<&str> = ["up"].into_iter().chain(words.iter().copied()).collect();
        let exited = self.sameport(&words);
        assert_eq!(exited.code, 0, "{words:?} {exited:?}");
        exited
    }

    /// `up` after which a service has this line.
    #[track_caller]
    pub(crate) fn up_says(&self, line: &str) {
        let exited = self.up(&[]);
        let line = line.replace("NAME", &self.name);
        assert!(exited.stdout.lines().any(|it| it == line), "{line:?} {exited:?}");
    }

    /// Stops everything, which must leave no run.
    #[track_caller]
    pub(crate) fn down(self) {
        let exited = self.sameport(&["down"]);
        assert_eq!(exited.code, 0, "{exited:?}");
        assert_eq!(self.runs(), Vec::<String>::new());
    }

    /// The names of the runs of the project, which end in its port. Root sees runs of the machine too.
    #[track_caller]
    pub(crate) fn runs(&self) -> Vec<String> {
        let all = self.sameport(&["status", "--json"]);
        let all: Value = serde_json::from_str(&all.stdout).unwrap();
        let names = all["runs"].as_array().unwrap().iter().filter_map(|run| run["name"].as_str());
        let port = self.port.to_string();
        names.filter(|name| name.ends_with(&port)).map(str::to_owned).collect()
    }

    #[track_caller]
    pub(crate) fn status(&self, name: &str) -> Value {
        let exited = self.sameport(&["status", name, "--json"]);
        assert_eq!(exited.code, 0, "{exited:?}");
        only_run(&exited.stdout)
    }

    /// The pids of the workers that serve, and of the supervisor.
    #[track_caller]
    pub(crate) fn pids(&self, name: &str) -> (Vec<i64>, i64) {
        let status = self.status(name);
        let workers = status["workers"].as_array().unwrap().iter();
        let ready = workers.filter(|worker| worker["state"] == "ready");
        (ready.map(|it| it["pid"].as_i64().unwrap()).collect(), status["pid"].as_i64().unwrap())
    }

    /// The words of an answer of the first service.
    #[track_caller]
    pub(crate) fn answer(&self) -> String {
        responder(self.address()).unwrap()
    }

    /// Waits until an answer has this text.
    #[track_caller]
    pub(crate) fn wait_for_answer(&self, text: &str) {
        let mut last = String::new();
        let seen = eventually(|| {
            last = responder(self.address()).unwrap_or_default();
            last.contains(text).then_some(())
        });
        assert!(seen.is_some(), "{text}: {last}");
    }
}
