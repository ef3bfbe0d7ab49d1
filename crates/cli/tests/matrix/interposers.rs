//! Which programs each interposer handles: two copies of every program of the matrix, and of
//! programs that an interposer may miss. The result is the table in docs/interposers.md;
//! `SAMEPORT_WRITE_TABLE=1` writes it there.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::TcpStream;
use std::process::Command;
use std::sync::Mutex;

use crate::harness::{self, Process, User, start_run};
use crate::programs::{self, C_DYNAMIC, C_STATIC, WHO, installed, who};
use crate::two_copies::{Peer, Site, answering, command, ip_of};

const VIAS: [&str; 3] = ["seccomp", "preload", "cgroup"];

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/interposers.md");
const BEGIN: &str = "<!-- table: begin -->\n";
const END: &str = "<!-- table: end -->\n";

/// A row of the table.
#[derive(Clone, Copy)]
struct Row {
    peer: &'static Peer,
    user: User,
    /// Whether the copies run below a `run` that shares another port.
    below_another: bool,
}

/// Programs outside of the matrix.
const OTHERS: &[Row] = &[
    Row { peer: &DYNAMIC_MUSL, user: User::Current, below_another: false },
    Row { peer: &BY_ITS_OWN_CALL, user: User::Current, below_another: false },
    Row { peer: &STARTED_BY_A_SHELL, user: User::Current, below_another: false },
    Row { peer: &WITH_CAPABILITIES, user: User::Current, below_another: false },
    Row { peer: &WITH_CAPABILITIES_AS_ANOTHER, user: User::Nobody, below_another: false },
    Row { peer: &IN_A_RUN_OF_ITS_OWN, user: User::Current, below_another: false },
    Row { peer: &BELOW_ANOTHER, user: User::Current, below_another: true },
    Row { peer: &STATIC_BELOW_ANOTHER, user: User::Current, below_another: true },
];

const DYNAMIC_MUSL: Peer = Peer {
    what: "C, dynamic, musl",
    command: |site| who("musl-gcc", &[], "tcp", site, "once"),
    ..WHO
};

const BY_ITS_OWN_CALL: Peer = Peer {
    what: "C, dynamic, by `syscall(SYS_bind, …)`",
    command: |site| who("cc", &[], "tcp", site, "raw"),
    ..WHO
};

const STARTED_BY_A_SHELL: Peer = Peer {
    what: "C, static, executed by a shell script",
    command: |site| {
        let program = who("cc", &["-static"], "tcp", site, "once")?;
        let shell = ["/bin/sh", "-c", "exec \"$0\" \"$@\""].map(OsString::from);
        Ok(shell.into_iter().chain(program).collect())
    },
    ..WHO
};

const WITH_CAPABILITIES: Peer =
    Peer { what: "C, dynamic, with file capabilities", command: with_capabilities, ..WHO };

const WITH_CAPABILITIES_AS_ANOTHER: Peer = Peer {
    what: "C, dynamic, with file capabilities, not by root",
    command: with_capabilities,
    ..WHO
};

const IN_A_RUN_OF_ITS_OWN: Peer = Peer {
    what: "C, dynamic, in another `sameport run` inside",
    command: |site| {
        let program = (C_DYNAMIC.command)(site)?;
        let run = ["run", "--"].map(OsString::from);
        Ok([harness::sameport().into()].into_iter().chain(run).chain(program).collect())
    },
    ..WHO
};

const BELOW_ANOTHER: Peer =
    Peer { what: "C, dynamic, all below another `sameport run`", ..C_DYNAMIC };

const STATIC_BELOW_ANOTHER: Peer =
    Peer { what: "C, static, all below another `sameport run`", ..C_STATIC };

/// A copy of `who.c` with a file capability.
fn with_capabilities(site: &Site) -> Result<Vec<OsString>, String> {
    let setcap = installed("setcap")?;
    let mut command = who("cc", &[], "tcp", site, "once")?;
    let copy = site.dir.join("who-with-capabilities");
    let done = |mut command: Command| command.status().is_ok_and(|status| status.success());
    let mut copied = Command::new("cp");
    copied.arg(&command[0]).arg(&copy);
    let mut granted = Command::new(setcap);
    granted.arg("cap_net_bind_service=+ep").arg(&copy);
    if !(done(copied) && done(granted)) {
        return Err("setcap failed".to_owned());
    }
    command[0] = copy.into();
    Ok(command)
}

/// The result of two copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Both copies answer.
    Reached,
    /// `run` refused to start them.
    Refused,
    /// The kernel refused the port to the second copy.
    SlipsPast,
}

impl Outcome {
    fn cell(self) -> &'static str {
        match self {
            Self::Reached => "reached",
            Self::Refused => "refused before it starts",
            Self::SlipsPast => "**slips past**",
        }
    }
}

/// Starts two copies by this interposer. `Err`: why they cannot start here.
fn outcome(row: Row, via: &str) -> Result<Outcome, String> {
    let Row { peer, user, .. } = row;
    let port = harness::free_port();
    let first = start(row, via, &command(peer, user, port, 1)?);
    if let Err(what) = answering(peer, port, &[&first], 1) {
        let exited = first.wait();
        let context = format!("{} by {via}: {what}: {exited:?}", peer.what);
        assert_eq!((exited.code, exited.stdout.as_str()), (3, ""), "{context}");
        assert!(
            exited.stderr.starts_with("error: ") && exited.stderr.contains("\nhint: "),
            "{context}"
        );
        assert!(TcpStream::connect((ip_of(peer.asked[0]), port)).is_err(), "{context}");
        return Ok(Outcome::Refused);
    }
    let second = start(row, via, &command(peer, user, port, 2)?);
    let outcome = match answering(peer, port, &[&first, &second], 2) {
        Ok(()) => {
            second.terminate();
            Outcome::Reached
        }
        Err(what) => {
            let exited = second.terminate();
            let stderr = exited.stderr.to_lowercase();
            let context = format!("{} by {via}: {what}: {exited:?}", peer.what);
            assert!(stderr.contains("address already in use"), "{context}");
            assert!(![0, 3].contains(&exited.code), "{context}");
            Outcome::SlipsPast
        }
    };
    first.terminate();
    Ok(outcome)
}

fn start(row: Row, via: &str, command: &[OsString]) -> Process {
    // Each copy has its own command line.
    let options = ["--quiet", "--via", via, "--group", "copies"];
    if !row.below_another {
        return start_run(row.user, &options, command);
    }
    let inner = ["run"].into_iter().chain(options).chain(["--"]).map(OsString::from);
    let inner = [harness::sameport().into()].into_iter().chain(inner);
    let inner: Vec<OsString> = inner.chain(command.iter().cloned()).collect();
    start_run(row.user, &["--quiet", "--via", "seccomp", "--port", "1"], &inner)
}

/// Why this machine cannot produce the table.
fn obstacle() -> Option<String> {
    if !harness::is_root() {
        return Some("an interposer needs root".to_owned());
    }
    VIAS.iter().find_map(|via| {
        let exited = start_run(User::Current, &["--via", via], &["true"]).wait();
        (exited.code == 3).then_some(exited.stderr)
    })
}

/// The cells of every row, without those that cannot be measured here.
fn measured(rows: &[Row]) -> BTreeMap<(usize, usize), Outcome> {
    /// A program mostly waits for the start of its runtime.
    const AT_ONCE: usize = 4;
    let jobs = (0..rows.len()).flat_map(|row| (0..VIAS.len()).map(move |via| (row, via)));
    let jobs: Mutex<Vec<_>> = Mutex::new(jobs.rev().collect());
    let cells = Mutex::new(BTreeMap::new());
    let next = || jobs.lock().unwrap().pop();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((row, via)) = next() {
                    match outcome(rows[row], VIAS[via]) {
                        Ok(outcome) => drop(cells.lock().unwrap().insert((row, via), outcome)),
                        Err(stderr) => harness::skip("interposers", &stderr),
                    }
                }
            });
        }
    });
    cells.into_inner().unwrap()
}

/// The program of an existing row.
fn program_of(line: &str) -> Option<&str> {
    line.strip_prefix("| ")?.split(" | ").next()
}

#[test]
fn table_of_interposers_is_current() {
    if let Some(stderr) = obstacle() {
        return harness::skip("interposers", &stderr);
    }
    let of_matrix = programs::ALL.iter();
    let of_matrix = of_matrix.map(|peer| Row { peer, user: User::Current, below_another: false });
    let rows: Vec<Row> = of_matrix.chain(OTHERS.iter().copied()).collect();
    let document = std::fs::read_to_string(DOCUMENT).unwrap();
    let (before, rest) = document.split_once(BEGIN).expect(BEGIN);
    let (written, after) = rest.split_once(END).expect(END);

    let cells = measured(&rows);
    let mut table = String::from("| program | seccomp | preload | cgroup |\n|---|---|---|---|\n");
    for (number, row) in rows.iter().enumerate() {
        let found: Vec<_> = (0..VIAS.len()).filter_map(|via| cells.get(&(number, via))).collect();
        let line = match found[..] {
            [seccomp, preload, cgroup] => {
                let [seccomp, preload, cgroup] = [seccomp, preload, cgroup].map(|it| it.cell());
                format!("| {} | {seccomp} | {preload} | {cgroup} |", row.peer.what)
            }
            // Rows of programs that are not installed stay.
            _ => {
                let mut lines = written.lines();
                let line = lines.find(|line| program_of(line) == Some(row.peer.what));
                line.unwrap_or_else(|| panic!("no row for {}", row.peer.what)).to_owned()
            }
        };
        table += &line;
        table.push('\n');
    }
    if std::env::var_os("SAMEPORT_WRITE_TABLE").is_some() {
        std::fs::write(DOCUMENT, [before, BEGIN, &table, END, after].concat()).unwrap();
        return;
    }
    let differing = table.lines().filter(|line| !written.lines().any(|other| other == *line));
    let differing: Vec<&str> = differing.collect();
    assert!(
        written == table,
        "docs/interposers.md says otherwise, or has other rows, than {differing:#?}; \
         SAMEPORT_WRITE_TABLE=1 writes it anew"
    );
}
