//! Advice for a service that cannot be installed or removed.

use std::io;
use std::path::Path;

use sameport_policy::service_unit::{UnitError, UnitScope};
use sameport_supervisor::control::protocol::FaultKind;

use super::{ExitKind, Failure, user_failure};
use crate::operations::install_service::Error;
use crate::output::shell::os_command;
use crate::output::text::quotable;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::NoSystemd => Self::unsupported("systemd does not run here: /run/systemd/system does not exist")
                .hint("--dry-run prints the unit for another machine; `sameport run --name` needs no manager"),
            Error::NeedsRoot(name) => Self::unsupported(format!(
                "{name}.service of the system belongs to root"
            ))
            .hint("run it as root, or leave --manager out for a service of your own manager"),
            Error::OfSystem(option) => {
                Self::usage(format!("{option} is for a service of the system"))
                    .hint("leave it out: a service of your own manager runs as you; or run it as root")
            }
            Error::NoUser(spec, error) => user_failure(&spec, &error),
            Error::Directory(path, error) => Self::usage(format!("{}: {error}", quoted(&path)))
                .hint("name a directory that exists: --directory DIR"),
            Error::Program(program, fault) => program_failure(&os_command([program]), fault),
            Error::Executable(error) => {
                Self::failed(format!("the path of sameport itself: {error}"))
                    .hint("start sameport from a file that exists: it may have been replaced meanwhile")
            }
            Error::Unit(error) => unit_failure(&error),
            Error::Hidden(path, hidden) => Self::usage(format!(
                "--hardened hides {hidden} from the service, and so {}",
                quoted(&path)
            ))
            .hint("install it elsewhere, for example below /usr/local or /srv, or leave --hardened out"),
            Error::NoHome => Self::usage("HOME is not set, and so there is no directory of your units")
                .hint("set HOME, or XDG_CONFIG_HOME"),
            Error::NotOurs(path) => {
                Self::failed(format!("{} was not written by install-service", quoted(&path)))
                    .hint("choose another name for the run; `systemctl cat NAME` shows the unit")
            }
            Error::NotInstalled(path) => {
                Self::failed(format!("there is no {}", quoted(&path)))
                    .hint("`grep -l 'sameport install-service' /etc/systemd/system/*.service` lists the services")
            }
            Error::InUse { unit, state } => Self::failed(format!("{unit} is {state}"))
                .hint("--now stops and disables it first"),
            Error::File(call, path, error) => file_failure(call, &path, &error),
            Error::Systemctl { words, unit, scope, why } => {
                let (journal, of) = match scope {
                    UnitScope::System => ("journalctl", "--unit"),
                    UnitScope::User => ("journalctl", "--user-unit"),
                };
                Self::failed(format!("systemctl {words}: {why}"))
                    .hint(format!("{journal} {of} {unit} -n 20"))
            }
        }
    }
}

fn quoted(path: &Path) -> String {
    quotable(&path.to_string_lossy())
}

fn program_failure(program: &str, fault: FaultKind) -> Failure {
    let failure = match fault {
        FaultKind::NotFound => {
            Failure::new(ExitKind::NotFound, format!("{program}: command not found"))
        }
        _ => Failure::new(ExitKind::NotExecutable, format!("{program}: cannot be executed")),
    };
    failure.hint("nothing was written; after `--` comes the program, then its arguments")
}

fn unit_failure(error: &UnitError) -> Failure {
    match error {
        UnitError::Path(path) => Failure::usage(format!(
            "systemd cannot read the path {}",
            quoted(path)
        ))
        .hint(
            "use a path of valid UTF-8 without control characters, and without blanks at its end",
        ),
        UnitError::NotText(word) => Failure::usage(format!(
            "{} is no UTF-8, and `systemctl status` could not show the service",
            os_command([word])
        ))
        .hint("put the command into a script"),
        UnitError::TooLong(bytes) => Failure::usage(format!(
            "the command has {bytes} bytes, and a line of a unit at most 1 MiB"
        ))
        .hint("put the command into a script"),
    }
}

fn file_failure(call: &str, path: &Path, error: &io::Error) -> Failure {
    let failure = Failure::failed(format!("{call} {}: {error}", quoted(path)));
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => failure.hint(
            "/etc is read-only here: --dry-run prints the unit for the image of this machine",
        ),
        _ => failure.hint("nothing was changed; --dry-run prints the unit"),
    }
}
