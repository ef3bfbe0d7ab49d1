//! The units of named runs: the one that `install-service` writes, and the template of the packages. Both
//! are made of the same lines.
//!
//! Source: `systemd.unit(5)`, `systemd.service(5)`, `systemd.exec(5)`.

mod hardened;
mod quoting;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::launch::UserSpec;
use crate::model::name::RunName;
use crate::services::model::OF_THE_SUPERVISOR;

pub use hardened::{HARDENED, HARDENED_FILE, hidden_by_hardening};

/// The beginning of the first line of a file of `install-service`. Without it a file belongs to someone else.
const MARKER: &str = "# Written by `sameport install-service ";

/// The longest line that a manager reads, in bytes (LONG_LINE_MAX of systemd).
const LONGEST_LINE: usize = 1 << 20;

/// The time between the end of the drains and the moment at which the manager kills the service.
const MARGIN: Duration = Duration::from_secs(30);

/// Whose service manager has a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitScope {
    /// The manager of the system, pid 1.
    System,
    /// The manager of a user.
    User,
}

/// The service of one named run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceUnit {
    /// The name of the run; the unit is `NAME.service`.
    pub name: RunName,
    /// Whose unit it is.
    pub scope: UnitScope,
    /// The path of sameport.
    pub executable: PathBuf,
    /// The options of `run` except `--name` and those below.
    pub options: Vec<OsString>,
    /// The program with its absolute path, and its arguments.
    pub command: Vec<OsString>,
    /// `--user`.
    pub user: Option<UserSpec>,
    /// The directory that the command starts in, an absolute path.
    pub directory: PathBuf,
    /// `--env`, in this order.
    pub environment: Vec<(OsString, OsString)>,
    /// Files with variables, absolute paths.
    pub environment_files: Vec<PathBuf>,
    /// The longest drain (`--drain-timeout`) and the time after it (`--grace`).
    pub ending: Duration,
    /// Whether the supervisor itself opens a port below 1024.
    pub low_port: bool,
}

/// Why a unit cannot be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitError {
    /// systemd cannot read this path of a program or of a file with variables.
    Path(PathBuf),
    /// The command line has this number of bytes.
    TooLong(usize),
    /// This option or argument is no UTF-8. systemd executes it, but D-Bus cannot transport it: every
    /// `systemctl show` and `status` of the unit would fail.
    NotText(OsString),
}

/// Lines between `Type=` and the end of `[Service]` that differ between units.
struct Lines {
    head: String,
    description: String,
    scope: UnitScope,
    launch: String,
    start: String,
    reload: String,
    stop_limit: u64,
    runtime: String,
}

impl ServiceUnit {
    /// The text of the unit. What its settings cannot express stays an option of `run`.
    ///
    /// # Errors
    ///
    /// See [`UnitError`].
    pub fn text(&self) -> Result<String, UnitError> {
        let Self { name, scope, .. } = self;
        let path = |path: &PathBuf| UnitError::Path(path.clone());
        let executable =
            quoting::program(&self.executable).ok_or_else(|| path(&self.executable))?;
        let mut launch = self.identity();
        let mut words: Vec<OsString> = Vec::new();
        match quoting::directory(&self.directory) {
            Some(value) => launch += &format!("WorkingDirectory={value}\n"),
            None => words.extend(["--directory".into(), self.directory.clone().into()]),
        }
        for (name, value) in &self.environment {
            // The supervisor has the variables of the unit, too.
            let is_of_workers = OF_THE_SUPERVISOR.iter().any(|it| name == it);
            match quoting::variable(name, value).filter(|_| !is_of_workers) {
                Some(value) => launch += &format!("Environment={value}\n"),
                None => {
                    let assignment = [name, value].map(OsString::as_os_str);
                    words.extend(["--env".into(), assignment.join("=".as_ref())]);
                }
            }
        }
        for file in &self.environment_files {
            let value = quoting::environment_file(file).ok_or_else(|| path(file))?;
            launch += &format!("EnvironmentFile={value}\n");
        }
        let mut start = format!("{executable} run --name {name}");
        for word in self.options.iter().chain(&words) {
            start += &format!(" {}", quoting::argument(word));
        }
        let all = || self.options.iter().chain(&words).chain(&self.command);
        if let Some(word) = all().find(|word| word.to_str().is_none()) {
            return Err(UnitError::NotText(word.clone()));
        }
        start += " --";
        for word in &self.command {
            start += &format!(" {}", quoting::argument(word));
        }
        if start.len() + "ExecStart=\n".len() >= LONGEST_LINE {
            return Err(UnitError::TooLong(start.len()));
        }
        let removes = format!("`sameport install-service {name} --remove` removes it");
        Ok(unit(&Lines {
            head: format!(
                "{MARKER}{name}`; {removes}.\n# Lines of your own belong into a drop-in: `systemctl {}edit \
                 {name}`.\n",
                scope.option()
            ),
            description: format!("sameport run {name}"),
            scope: *scope,
            launch,
            start,
            reload: format!("{executable} restart {name}"),
            stop_limit: (self.ending + MARGIN).as_secs(),
            runtime: match scope {
                UnitScope::User => String::new(),
                UnitScope::System => runtime_directory(name.as_str()),
            },
        }))
    }

    /// The user of the supervisor and its workers.
    fn identity(&self) -> String {
        let Some(UserSpec { user, group }) = &self.user else { return String::new() };
        let mut lines = format!("User={user}\n");
        if let Some(group) = group {
            lines += &format!("Group={group}\n");
        }
        if self.low_port {
            lines += "# For a port below 1024.\nAmbientCapabilities=CAP_NET_BIND_SERVICE\n";
        }
        lines
    }

    /// The name of the unit.
    #[must_use]
    pub fn file(&self) -> String {
        unit_file(&self.name)
    }

    /// The text of the drop-in with the hardening.
    #[must_use]
    pub fn hardened_text(&self) -> String {
        let name = &self.name;
        format!(
            "{MARKER}{name} --hardened`; `sameport install-service {name} --remove` removes it.\n{HARDENED}"
        )
    }
}

impl UnitScope {
    /// The option of `systemctl`, with a blank.
    #[must_use]
    pub fn option(self) -> &'static str {
        match self {
            Self::System => "",
            Self::User => "--user ",
        }
    }
}

/// The name of the unit of a run.
#[must_use]
pub fn unit_file(name: &RunName) -> String {
    format!("{name}.service")
}

/// Whether a file of this text was written by `install-service` for this run.
#[must_use]
pub fn is_ours(text: &[u8], name: &RunName) -> bool {
    let rest = text.strip_prefix(MARKER.as_bytes());
    let rest = rest.and_then(|rest| rest.strip_prefix(name.as_str().as_bytes()));
    rest.is_some_and(|rest| rest.starts_with(b"`") || rest.starts_with(b" "))
}

/// Whether a service with the new texts, of its unit and drop-in, has another user than one with the old texts. The
/// kernel does not let it share the sockets that the manager keeps, so a restart would fail.
#[must_use]
pub fn changes_user<'a>(
    old: impl IntoIterator<Item = &'a str>,
    new: impl IntoIterator<Item = &'a str>,
) -> bool {
    let users = |text: &'a str| {
        let is_user =
            |line: &&str| ["User=", "DynamicUser="].iter().any(|key| line.starts_with(key));
        text.lines().filter(is_user)
    };
    let sorted = |texts: Vec<&'a str>| {
        let mut lines: Vec<&str> = texts.into_iter().flat_map(users).collect();
        lines.sort_unstable();
        lines
    };
    sorted(old.into_iter().collect()) != sorted(new.into_iter().collect())
}

/// The text of `packaging/systemd/sameport@.service`.
#[must_use]
pub fn template() -> String {
    unit(&Lines {
        head: "# A named run as a service. `systemctl start sameport@web` runs the command in \
               /etc/sameport/web.conf:\n#\n#     SAMEPORT_OPTIONS=-n 4 --ready http:/healthz\n#     \
               SAMEPORT_COMMAND=/usr/bin/node /srv/web/server.js\n#\n# See docs/systemd.md. Set User=, \
               hardening and the like with `systemctl edit sameport@web`. `sameport install-service`\n# \
               writes such a unit for one command, with arguments of any kind.\n"
            .to_owned(),
        description: "sameport run %i".to_owned(),
        scope: UnitScope::System,
        launch: "EnvironmentFile=/etc/sameport/%i.conf\n".to_owned(),
        start: "/usr/bin/sameport run --name %i $SAMEPORT_OPTIONS -- $SAMEPORT_COMMAND".to_owned(),
        reload: "/usr/bin/sameport restart %i".to_owned(),
        stop_limit: 90,
        runtime: runtime_directory("%i") + "Environment=XDG_RUNTIME_DIR=%t/sameport-%i\n",
    })
}

fn runtime_directory(name: &str) -> String {
    format!(
        "# The directory of the control socket.\nRuntimeDirectory=sameport-{name}\n\
         RuntimeDirectoryMode=0700\nRuntimeDirectoryPreserve=restart\n"
    )
}

fn unit(lines: &Lines) -> String {
    let Lines { head, description, scope, launch, start, reload, stop_limit, runtime } = lines;
    // The manager of a user has neither of these targets.
    let (after, wanted_by) = match scope {
        UnitScope::System => ("After=network.target\n", "multi-user.target"),
        UnitScope::User => ("", "default.target"),
    };
    format!(
        "{head}\n\
         [Unit]\nDescription={description}\n{after}\n\
         [Service]\n\
         # The supervisor sends READY=1 when every worker is ready.\nType=notify\n\
         {launch}ExecStart={start}\n\
         # Replaces one worker after the other.\nExecReload={reload}\n\
         # SIGTERM to the supervisor only, which drains and ends its workers.\nKillMode=mixed\n\
         # More than --drain-timeout and --grace.\nTimeoutStopSec={stop_limit}\n\
         Restart=on-failure\n\
         # One socket per worker and address, and one more for each worker that is being replaced.\n\
         FileDescriptorStoreMax=1024\n{runtime}\n\
         [Install]\nWantedBy={wanted_by}\n"
    )
}

#[cfg(test)]
mod tests;
