//! `install-service`: the files of a service of systemd, written and removed.

mod doubts;

use std::env;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sameport_policy::launch::{UserSpec, working_directory};
use sameport_policy::model::name::RunName;
use sameport_policy::service_unit as units;
use sameport_policy::service_unit::{ServiceUnit, UnitError, UnitScope};
use sameport_supervisor::control::command::find_executable;
use sameport_supervisor::control::protocol::FaultKind;
use sameport_supervisor::{UserError, WorkerUser};
use sameport_sys::systemd::is_booted;
use sameport_sys::systemd::unit_files::{self, UnitFile};
use sameport_sys::users::effective_uid;

pub(crate) use doubts::Doubt;

/// A run, as the parts of a unit.
pub(crate) struct ServiceRequest {
    pub(crate) name: RunName,
    pub(crate) scope: UnitScope,
    /// Whether the files are only shown.
    pub(crate) dry_run: bool,
    pub(crate) hardened: bool,
    pub(crate) env_files: Vec<PathBuf>,
    /// The options of `run` as they were typed, except those below.
    pub(crate) options: Vec<OsString>,
    pub(crate) user: Option<UserSpec>,
    pub(crate) directory: Option<PathBuf>,
    pub(crate) environment: Vec<(OsString, OsString)>,
    pub(crate) command: Vec<OsString>,
    /// The longest end of a worker.
    pub(crate) ending: Duration,
    /// Whether the supervisor itself opens a port below 1024.
    pub(crate) low_port: bool,
}

/// A file of the service and what is there.
#[derive(Debug)]
pub(crate) struct PlannedFile {
    pub(crate) path: PathBuf,
    /// The new text; `None`: the file is removed.
    pub(crate) text: Option<String>,
    /// The old text.
    pub(crate) old: Option<String>,
}

/// The files of a service.
#[derive(Debug)]
pub(crate) struct ServicePlan {
    pub(crate) name: RunName,
    pub(crate) scope: UnitScope,
    pub(crate) files: Vec<PlannedFile>,
    /// What a user should know before the files are written.
    pub(crate) doubts: Vec<Doubt>,
    /// Whether the service runs already.
    pub(crate) is_active: bool,
    /// Whether it runs as another user than before.
    pub(crate) changes_user: bool,
}

impl PlannedFile {
    /// Whether the file differs from what is there.
    pub(crate) fn changes(&self) -> bool {
        self.text != self.old
    }
}

impl ServicePlan {
    /// Whether a file differs from what is there.
    pub(crate) fn changes(&self) -> bool {
        self.files.iter().any(PlannedFile::changes)
    }
}

/// The files of a service that are removed.
#[derive(Debug)]
pub(crate) struct Removal {
    pub(crate) name: RunName,
    pub(crate) scope: UnitScope,
    pub(crate) files: Vec<PathBuf>,
    /// Whether the service is stopped and disabled first.
    pub(crate) stops: bool,
}

#[derive(Debug)]
pub(crate) enum Error {
    /// systemd does not run here.
    NoSystemd,
    /// The manager of the system belongs to root.
    NeedsRoot(RunName),
    /// `--user` or a drop-in for the system, in a unit of a user.
    OfSystem(&'static str),
    NoUser(UserSpec, UserError),
    /// No absolute path.
    Directory(PathBuf, io::Error),
    Program(OsString, FaultKind),
    /// The path of sameport itself.
    Executable(io::Error),
    Unit(UnitError),
    /// The hardening hides a path of the service.
    Hidden(PathBuf, &'static str),
    /// No home directory.
    NoHome,
    /// Something else wrote the unit.
    NotOurs(PathBuf),
    /// There is no unit of that name that `install-service` wrote.
    NotInstalled(PathBuf),
    /// The service runs, or a boot starts it.
    InUse {
        unit: String,
        state: String,
    },
    File(&'static str, PathBuf, io::Error),
    /// `systemctl` failed, which has said why.
    Systemctl {
        words: String,
        unit: String,
        scope: UnitScope,
        why: String,
    },
}

/// What `install-service` would write.
pub(crate) fn plan(run: ServiceRequest) -> Result<ServicePlan, Error> {
    let (name, scope) = (run.name.clone(), run.scope);
    check_machine(&name, scope, run.dry_run)?;
    check_user(&run)?;
    let here = env::current_dir().map_err(|error| Error::Directory(".".into(), error))?;
    let directory = working_directory(Some(&here), run.directory.as_deref()).unwrap_or(here);
    if let Err(error) = std::fs::read_dir(&directory)
        && error.kind() != io::ErrorKind::PermissionDenied
    {
        return Err(Error::Directory(directory, error));
    }
    let search_path = run.environment.iter().rev().find(|(name, _)| name == "PATH");
    let search_path = search_path.map(|(_, value)| value.clone()).or_else(|| env::var_os("PATH"));
    let (program, arguments) = run
        .command
        .split_first()
        .map_or((OsString::new(), &[][..]), |(first, rest)| (first.clone(), rest));
    let found = find_executable(&program, search_path.as_deref(), Some(&directory))
        .map_err(|fault| Error::Program(program.clone(), fault))?;
    let executable =
        env::current_exe().and_then(std::fs::canonicalize).map_err(Error::Executable)?;
    let files = run.env_files.iter().map(|file| {
        std::path::absolute(file).map_err(|error| Error::Directory(file.clone(), error))
    });
    let unit = ServiceUnit {
        name: name.clone(),
        scope,
        executable: executable.clone(),
        options: run.options,
        command: [&[found.clone().into_os_string()], arguments].concat(),
        user: run.user.clone(),
        directory: directory.clone(),
        environment: run.environment,
        environment_files: files.collect::<Result<_, _>>()?,
        ending: run.ending,
        low_port: run.low_port,
    };
    let text = unit.text().map_err(Error::Unit)?;
    if run.hardened {
        let paths = [&executable, &found, &directory];
        if let Some((path, hidden)) =
            paths.into_iter().find_map(|path| Some((path, units::hidden_by_hardening(path)?)))
        {
            return Err(Error::Hidden(path.clone(), hidden));
        }
    }
    let hardened = run.hardened.then(|| unit.hardened_text());
    let files = planned_files(&name, scope, text, hardened)?;
    let doubts = doubts::doubts(&unit, &program, &found);
    let is_active = is_booted() && unit_files::state(scope, &unit.file()).0 == "active";
    let old = files.iter().filter_map(|file| file.old.as_deref());
    let new = files.iter().filter_map(|file| file.text.as_deref());
    let changes_user = is_active && units::changes_user(old, new);
    Ok(ServicePlan { name, scope, files, doubts, is_active, changes_user })
}

/// The manager of the system for root, and otherwise that of this user.
pub(crate) fn own_scope() -> UnitScope {
    if effective_uid() == 0 { UnitScope::System } else { UnitScope::User }
}

/// Whether a manager would read the files, and this user may write them.
fn check_machine(name: &RunName, scope: UnitScope, dry_run: bool) -> Result<(), Error> {
    if dry_run {
        return Ok(());
    }
    if !is_booted() {
        return Err(Error::NoSystemd);
    }
    if scope == UnitScope::System && effective_uid() != 0 {
        return Err(Error::NeedsRoot(name.clone()));
    }
    Ok(())
}

fn check_user(run: &ServiceRequest) -> Result<(), Error> {
    if run.scope == UnitScope::User {
        if run.user.is_some() {
            return Err(Error::OfSystem("--user"));
        }
        if run.hardened {
            return Err(Error::OfSystem("--hardened"));
        }
    }
    match run.user.as_ref().map(|user| (user, WorkerUser::find(user))) {
        // Only a dry run comes so far without root.
        None | Some((_, Ok(_) | Err(UserError::NotPermitted))) => Ok(()),
        Some((user, Err(error))) => Err(Error::NoUser(user.clone(), error)),
    }
}

/// The directory of units that `install-service` writes to.
fn directory(scope: UnitScope) -> Result<PathBuf, Error> {
    if scope == UnitScope::System {
        return Ok(unit_files::SYSTEM_UNITS.into());
    }
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")));
    config.map(|config| config.join("systemd/user")).ok_or(Error::NoHome)
}

/// The paths of the unit and its drop-in.
fn paths(name: &RunName, scope: UnitScope) -> Result<[PathBuf; 2], Error> {
    let unit = directory(scope)?.join(units::unit_file(name));
    let mut drop_ins = unit.clone().into_os_string();
    drop_ins.push(".d");
    Ok([unit, PathBuf::from(drop_ins).join(units::HARDENED_FILE)])
}

fn planned_files(
    name: &RunName,
    scope: UnitScope,
    unit: String,
    hardened: Option<String>,
) -> Result<Vec<PlannedFile>, Error> {
    if let Some(path) = unit_files::elsewhere(scope, &units::unit_file(name)) {
        return Err(Error::NotOurs(path));
    }
    let [unit_path, drop_in_path] = paths(name, scope)?;
    // The drop-in first: a unit without it would be less than what was asked for.
    let wanted = [(drop_in_path, hardened), (unit_path, Some(unit))];
    let mut files = Vec::new();
    for (path, text) in wanted {
        let old = match own_text(&path, name)? {
            Ok(old) => old,
            // The drop-in of someone else that happens to have this name is none of ours.
            Err(()) if text.is_none() => continue,
            Err(()) => return Err(Error::NotOurs(path)),
        };
        if text.is_some() || old.is_some() {
            files.push(PlannedFile { path, text, old });
        }
    }
    Ok(files)
}

/// The text of a file that `install-service` wrote for this run; `None`: there is no file. `Err`: something else
/// is there.
fn own_text(path: &Path, name: &RunName) -> Result<Result<Option<String>, ()>, Error> {
    let found = unit_files::read(path);
    Ok(match found.map_err(|error| Error::File("read", path.to_owned(), error))? {
        UnitFile::Absent => Ok(None),
        UnitFile::Text(text) if units::is_ours(&text, name) => {
            Ok(Some(String::from_utf8_lossy(&text).into_owned()))
        }
        UnitFile::Text(_) | UnitFile::Other => Err(()),
    })
}

/// Writes the files that differ. If one cannot be written, the earlier ones become what they were.
pub(crate) fn write(plan: &ServicePlan) -> Result<(), Error> {
    let mut done: Vec<&PlannedFile> = Vec::new();
    for file in plan.files.iter().filter(|file| file.changes()) {
        if let Err(error) = put(&file.path, file.text.as_deref()) {
            for file in done {
                // The error that is reported is the first one.
                let _ = put(&file.path, file.old.as_deref());
            }
            return Err(Error::File("write", file.path.clone(), error));
        }
        done.push(file);
    }
    Ok(())
}

fn put(path: &Path, text: Option<&str>) -> io::Result<()> {
    match text {
        Some(text) => unit_files::write(path, text),
        None => unit_files::remove(path),
    }
}

/// Makes the manager read the files, and starts the service, now and at each boot.
pub(crate) fn start(plan: &ServicePlan) -> Result<(), Error> {
    let unit = units::unit_file(&plan.name);
    let mut steps = vec![vec!["daemon-reload"], vec!["enable", &unit]];
    if plan.changes_user {
        // Otherwise the manager would pass on sockets that the new user cannot share.
        steps.push(vec!["stop", &unit]);
    }
    // A restart of a service that runs keeps its sockets.
    let is_restart = plan.is_active && plan.changes() && !plan.changes_user;
    steps.push(vec![if is_restart { "restart" } else { "start" }, &unit]);
    steps.iter().try_for_each(|words| systemctl(plan.scope, words, &unit))
}

fn systemctl(scope: UnitScope, words: &[&str], unit: &str) -> Result<(), Error> {
    let failed = |why: String| {
        let words = format!("{}{}", scope.option(), words.join(" "));
        Error::Systemctl { words, unit: unit.to_owned(), scope, why }
    };
    match unit_files::systemctl(scope, words) {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failed(status.to_string())),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// The files that `install-service` wrote for a run.
pub(crate) fn removal(name: &RunName, scope: UnitScope, now: bool) -> Result<Removal, Error> {
    if scope == UnitScope::System && effective_uid() != 0 {
        return Err(Error::NeedsRoot(name.clone()));
    }
    let [unit_path, drop_in] = paths(name, scope)?;
    match own_text(&unit_path, name)? {
        Ok(Some(_)) => {}
        Ok(None) => return Err(Error::NotInstalled(unit_path)),
        Err(()) => return Err(Error::NotOurs(unit_path)),
    }
    let mut files = vec![unit_path];
    if matches!(own_text(&drop_in, name)?, Ok(Some(_))) {
        files.push(drop_in);
    }
    let unit = units::unit_file(name);
    let (active, enabled) =
        if is_booted() { unit_files::state(scope, &unit) } else { Default::default() };
    let runs = ["active", "activating", "reloading", "deactivating"].contains(&active.as_str());
    let starts = enabled.starts_with("enabled");
    if !now && (runs || starts) {
        let state = if runs { active } else { enabled };
        return Err(Error::InUse { unit, state });
    }
    Ok(Removal { name: name.clone(), scope, files, stops: now && (runs || starts) })
}

/// Removes the files.
pub(crate) fn remove(removal: &Removal) -> Result<(), Error> {
    let unit = units::unit_file(&removal.name);
    if removal.stops {
        systemctl(removal.scope, &["disable", "--now", &unit], &unit)?;
    }
    for path in &removal.files {
        unit_files::remove(path).map_err(|error| Error::File("remove", path.clone(), error))?;
    }
    if is_booted() {
        systemctl(removal.scope, &["daemon-reload"], &unit)?;
    }
    Ok(())
}
