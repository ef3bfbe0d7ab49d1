//! Agents, and what they answer.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use crate::harness::named_run::{NamedRun, RunSetup};
use crate::harness::{Process, SOCKET_TIMEOUT, User, eventually, free_port, spawn_process};

/// A running agent.
pub(crate) struct Agent {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
}

impl Agent {
    /// Starts an agent for these runs, in the runtime directory of this run.
    pub(crate) fn start(setup: &RunSetup, names: &[&str]) -> Self {
        let address: SocketAddr = ([127, 0, 0, 1], free_port()).into();
        let at = address.to_string();
        let words: Vec<&str> =
            ["agent", "--listen", &at].into_iter().chain(names.iter().copied()).collect();
        let process = spawn_process(setup.command(&words));
        process.wait_for_stdout("listening on ");
        Self { process, address }
    }

    /// The whole answer to a client that sends `text` first.
    pub(crate) fn ask(&self, text: &str) -> String {
        let mut stream = TcpStream::connect_timeout(&self.address, SOCKET_TIMEOUT).unwrap();
        stream.set_read_timeout(Some(SOCKET_TIMEOUT)).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Asks until this is the answer.
    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str, answer: &str) {
        let mut last = String::new();
        let found = eventually(|| {
            last = self.ask(text);
            (last == answer).then_some(())
        });
        assert!(found.is_some(), "{answer:?}, not {last:?}\n{}", self.process.stderr());
    }
}

/// A run of a server that answers with its pid, and that files in the directory of the run control.
pub(crate) fn run(options: &[&str]) -> NamedRun {
    RunSetup::new(User::Current).controlled_run(options)
}
