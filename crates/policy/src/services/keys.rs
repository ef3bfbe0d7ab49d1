//! The keys of a service: one row for each, from which the reader, the reference and the JSON schema are made.
//!
//! A test in `crates/cli` compares the rows with the options of `run`: an option without a row, and without a reason
//! in [`WITHOUT_KEY`], is an error.

use super::value_kind::ValueKind;

/// A key of a service.
#[derive(Debug, Clone, Copy)]
pub struct ServiceKey {
    /// The key.
    pub name: &'static str,
    /// What it is set to.
    pub kind: KeyKind,
    /// What holds without it, as it would be written, or in words.
    pub default: &'static str,
    /// A value as it is written in a file.
    pub example: &'static str,
    /// What it does: a sentence or more, without the full stop at the end.
    pub help: &'static str,
}

/// What a key is set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// A command: an array of the program and its arguments, or a string for `sh -c`.
    Command,
    /// A number of workers, or `"auto"`.
    Workers,
    /// A directory, relative to that of the file.
    Directory,
    /// A table of variables.
    Variables,
    /// Env files, relative to the directory of the file.
    EnvFiles,
    /// A policy, or a table with a policy and values.
    Policy,
    /// A table: the canary.
    Canary,
    /// `true` is the option of this name.
    Switch,
    /// `false` is the option `no-NAME`.
    Negated,
    /// One value of the option of this name.
    One(ValueKind),
    /// One value, or an array of them.
    Many(ValueKind),
    /// One `FROM=TO`, an array of them, or a table FROM = TO.
    Pairs(ValueKind),
}

impl ServiceKey {
    /// The option of `run` without dashes, if the key is one.
    #[must_use]
    pub fn option(&self) -> Option<&'static str> {
        match self.kind {
            KeyKind::Command | KeyKind::EnvFiles | KeyKind::Canary => None,
            KeyKind::Negated => Some(match self.name {
                "hold" => "no-hold",
                name => name,
            }),
            KeyKind::Workers => Some("n"),
            KeyKind::Directory
            | KeyKind::Variables
            | KeyKind::Policy
            | KeyKind::Switch
            | KeyKind::One(_)
            | KeyKind::Many(_)
            | KeyKind::Pairs(_) => Some(self.name),
        }
    }
}

/// The key of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static ServiceKey> {
    KEYS.iter().find(|key| key.name == name)
}

/// Options of `run` that no key has, and why.
pub const WITHOUT_KEY: &[(&str, &str)] = &[
    ("detach", "`up` starts every service in the background"),
    ("name", "the name of the table"),
    ("prefix", "`sameport up --watch` shows the output of all services"),
    ("origin", "`up` names the file"),
    ("wait", "`up` waits: its options --no-wait and --timeout"),
];

const fn key(
    name: &'static str,
    kind: KeyKind,
    default: &'static str,
    example: &'static str,
    help: &'static str,
) -> ServiceKey {
    ServiceKey { name, kind, default, example, help }
}

/// The keys, in the order of the reference. A default in words begins with a parenthesis.
pub const KEYS: &[ServiceKey] = &[
    key(
        "command",
        KeyKind::Command,
        "(required)",
        r#"["node", "server.js"]"#,
        "The program and its arguments. A string is run by `sh -c`, which expands variables and patterns; an array is not \
         changed",
    ),
    key(
        "workers",
        KeyKind::Workers,
        "1",
        "4",
        "Number of workers, 1 to 1024, or `\"auto\"`: one for each processor",
    ),
    key(
        "directory",
        KeyKind::Directory,
        "(the directory of the file)",
        r#""web/current""#,
        "The directory of the workers, relative to that of the file; each start follows its symbolic links anew",
    ),
    key(
        "env",
        KeyKind::Variables,
        "{}",
        r#"{ NODE_ENV = "production", URL = "http://${HOST:-localhost}/" }"#,
        "Variables of the workers, in addition to those of `sameport up`. `${NAME}` is the value of another variable",
    ),
    key(
        "env-file",
        KeyKind::EnvFiles,
        "(none)",
        r#"[".env", "secrets.env"]"#,
        "Files with more variables, relative to the directory of the file; the later file counts, and `env` before all files",
    ),
    key(
        "user",
        KeyKind::One(ValueKind::User),
        "(the user of `sameport up`)",
        r#""www-data""#,
        "The user of the workers, and its group after a colon; needs root",
    ),
    key(
        "listen",
        KeyKind::Many(ValueKind::Listen),
        "(none)",
        r#"["127.0.0.1:8080", "[::1]:8080"]"#,
        "Addresses that the supervisor listens on and passes to every worker, as systemd does (LISTEN_FDS)",
    ),
    key(
        "expect",
        KeyKind::Many(ValueKind::Expect),
        "(the addresses of the last run, or those that it opens within 200 ms)",
        "8080",
        "Ports, or addresses, on which a worker must listen before it is ready",
    ),
    key(
        "port",
        KeyKind::Many(ValueKind::Port),
        "(every fixed port)",
        r#"[8080, "8443/udp"]"#,
        "Ports that the workers share; others are left alone",
    ),
    key(
        "map",
        KeyKind::Pairs(ValueKind::MapRule),
        "(none)",
        r#"{ 80 = "127.0.0.1:8080" }"#,
        "Addresses that the workers bind in place of those that they ask for: a table, or texts `FROM=TO`",
    ),
    key(
        "each",
        KeyKind::Many(ValueKind::Port),
        "(none)",
        "9229",
        "Ports of which each worker gets its own: the second worker binds the port + 1, and so on",
    ),
    key(
        "group",
        KeyKind::One(ValueKind::Name),
        "(the service alone)",
        r#""site""#,
        "The group of runs and services that share ports with this one",
    ),
    key(
        "join",
        KeyKind::Switch,
        "false",
        "true",
        "Share with every socket on the port, also of programs that are no service",
    ),
    key(
        "private",
        KeyKind::Switch,
        "false",
        "true",
        "Let the kernel refuse every socket outside the group; needs root or CAP_CHOWN",
    ),
    key(
        "ready",
        KeyKind::One(ValueKind::Ready),
        "(a worker that listens is ready)",
        r#""http:/healthz""#,
        "The check before a worker gets connections: `tcp` (accepts a connection), `http:/PATH` or `http://HOST[:PORT]/PATH` \
         (answers 2xx or 3xx), `notify` (sends READY=1), `exec:COMMAND` (exits with 0)",
    ),
    key(
        "ready-timeout",
        KeyKind::One(ValueKind::Duration),
        "30s",
        r#""1m""#,
        "Time limit for a worker to become ready",
    ),
    key(
        "surge",
        KeyKind::One(ValueKind::Number(0, 1024)),
        "1",
        "2",
        "Number of workers that a restart replaces at once; 0: one, and the old one ends first",
    ),
    key(
        "max-restarts",
        KeyKind::One(ValueKind::Number(0, u32::MAX as u64)),
        "(no limit)",
        "10",
        "Number of restarts after consecutive crashes, before a worker is given up",
    ),
    key(
        "drain",
        KeyKind::One(ValueKind::Word(&["none", "busy", "all"])),
        "busy",
        r#""all""#,
        "What a worker finishes before it gets the stop signal: `none`, `busy` (requests in progress), `all` (every connection)",
    ),
    key(
        "drain-timeout",
        KeyKind::One(ValueKind::Duration),
        "30s",
        r#""5m""#,
        "Time limit of the drain",
    ),
    key(
        "stop-signal",
        KeyKind::One(ValueKind::Signal),
        "SIGTERM",
        r#""QUIT""#,
        "The signal that tells a worker to end",
    ),
    key(
        "grace",
        KeyKind::One(ValueKind::Duration),
        "30s",
        r#""10s""#,
        "Time between the stop signal and SIGKILL",
    ),
    key(
        "queue",
        KeyKind::One(ValueKind::Word(&["own", "shared"])),
        "own",
        r#""shared""#,
        "`own`: each worker has its own queue of connections; `shared`: all accept from one",
    ),
    key(
        "hold",
        KeyKind::Negated,
        "true",
        "false",
        "Keep listening sockets open when their worker ends",
    ),
    key(
        "policy",
        KeyKind::Policy,
        "(a worker that is ready, by the kernel's hash)",
        r#"{ name = "weights", values = { 1 = 9, 2 = 1 } }"#,
        "Which worker gets the next connection: a policy, or a table with its `name` and the `values` (weights, or ranks with \
         `standby`) of workers by their numbers",
    ),
    key(
        "connection-id",
        KeyKind::Switch,
        "false",
        "true",
        "Keep a QUIC connection at the worker whose socket its connection id names",
    ),
    key(
        "canary",
        KeyKind::Canary,
        "(none)",
        r#"{ share = "10%", env = { VERSION = "2" }, after = "10m" }"#,
        "Workers beside those of the service that get a `share` of new connections; `command`, `directory` and `env` are what \
         differs, and after the time `after` they replace the others",
    ),
    key(
        "log",
        KeyKind::One(ValueKind::Path),
        "(kept for `sameport logs`)",
        r#""log/web.log""#,
        "A file to which the output of the workers is appended, relative to the directory of the file",
    ),
    key(
        "log-size",
        KeyKind::One(ValueKind::Size),
        "10M",
        r#""100M""#,
        "Size of a file with the output of the workers, 64K to 1024G, after which the next one begins",
    ),
    key(
        "log-files",
        KeyKind::One(ValueKind::Number(1, 1000)),
        "5",
        "20",
        "Number of these files that are kept",
    ),
    key(
        "source",
        KeyKind::One(ValueKind::Source),
        "(none)",
        r#""127.0.0.9""#,
        "The address, and the port if given, from which the connections of the workers come",
    ),
    key(
        "transparent",
        KeyKind::Switch,
        "false",
        "true",
        "Allow binds to addresses that are not this machine's (IP_TRANSPARENT); needs CAP_NET_ADMIN",
    ),
    key(
        "freebind",
        KeyKind::Switch,
        "false",
        "true",
        "Allow binds to addresses that no interface has yet (IP_FREEBIND)",
    ),
    key(
        "via",
        KeyKind::One(ValueKind::Word(&["auto", "seccomp", "preload", "cgroup"])),
        "auto",
        r#""preload""#,
        "The interposer that changes the binds of the workers",
    ),
    key(
        "children",
        KeyKind::One(ValueKind::Word(&["inherit", "strip"])),
        "(inherit)",
        r#""strip""#,
        "With `via = \"preload\"`: whether programs that a worker executes load the library too",
    ),
    key(
        "quiet",
        KeyKind::Switch,
        "false",
        "true",
        "Do not report members of the group or refused addresses",
    ),
    key(
        "allow-io-uring",
        KeyKind::Switch,
        "false",
        "true",
        "Allow io_uring, whose binds sameport does not see",
    ),
    key(
        "no-new-privs",
        KeyKind::Switch,
        "false",
        "true",
        "Start a set-user-ID program even though, without root, it does not get what its file grants",
    ),
];

/// The keys of `canary`.
pub const CANARY_KEYS: [&str; 5] = ["share", "command", "directory", "env", "after"];

/// The keys of a `policy` that is a table.
pub const POLICY_KEYS: [&str; 2] = ["name", "values"];
