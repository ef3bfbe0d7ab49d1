//! How a holder lets others share its address.

use super::model::{Holder, HolderClass, Keeper, Supervision, Unit};
use crate::model::Process;

/// The change that sets `SO_REUSEPORT` on the holder's socket. A socket that has it needs none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sharing {
    /// Restart the process under `sameport run`.
    UnderRun {
        /// The process.
        process: Process,
        /// Its command; `None` if it is unknown or overwritten by a title.
        command: Option<Vec<String>>,
    },
    /// Let the program that starts the process start it under `sameport run`.
    ByParent {
        /// The process.
        process: Process,
        /// The program.
        parent: Process,
        /// The command of the process, if known.
        command: Option<Vec<String>>,
    },
    /// `sameport attach` to the unit, and a restart of the unit. Root.
    AttachUnit(Unit),
    /// `ReusePort=yes` in the socket unit (systemd.socket(5)), and a restart of the unit. The service that has
    /// the socket must be stopped before: the manager does not start a socket whose service is active.
    SocketUnit {
        /// The socket unit.
        socket: Unit,
        /// The service, if it runs.
        service: Option<String>,
    },
}

impl Sharing {
    /// The change for this holder. `None`: it cannot be started again with the option, or it shares by
    /// itself, as the sockets of a run do.
    #[must_use]
    pub fn of(holder: &Holder) -> Option<Self> {
        let process = holder.process.as_ref();
        match &holder.class {
            _ if holder.connection.is_some() => None,
            HolderClass::ServiceManager { manager, unit: Some(name) }
                if name.ends_with(".socket") =>
            {
                let socket = Unit { manager: *manager, name: name.clone() };
                Some(Self::SocketUnit { socket, service: None })
            }
            // The manager bound the socket, and passes it on at the next start.
            HolderClass::UnitProcess(unit) if !holder.keepers.is_empty() => {
                let Some(Keeper::Manager { manager, unit: Some(name), .. }) =
                    holder.keepers.first()
                else {
                    return None;
                };
                let socket = Unit { manager: *manager, name: name.clone() };
                let service = Some(unit.name.clone());
                name.ends_with(".socket").then_some(Self::SocketUnit { socket, service })
            }
            HolderClass::UnitProcess(unit) => match &holder.unit {
                Some(of) if of.facts.is_some() => Some(Self::AttachUnit(unit.clone())),
                _ => under_run(process?),
            },
            HolderClass::SupervisedChild { by: Supervision::Possible, .. }
            | HolderClass::Orphan
            | HolderClass::Program => under_run(process?),
            HolderClass::SupervisedChild { by: Supervision::Master, parent, .. } => {
                under_run(parent)
            }
            HolderClass::SupervisedChild { parent, .. } => Some(Self::ByParent {
                process: process?.clone(),
                parent: parent.clone(),
                command: command(process?),
            }),
            _ => None,
        }
    }
}

fn under_run(process: &Process) -> Option<Sharing> {
    let is_init = process.pid == 1;
    (!is_init).then(|| Sharing::UnderRun { process: process.clone(), command: command(process) })
}

/// The command line, unless the process has replaced it by a title, such as `nginx: master process
/// /usr/sbin/nginx`: then it is one word with spaces, or it does not begin with the program.
#[must_use]
pub fn command(process: &Process) -> Option<Vec<String>> {
    let details = process.details.as_ref()?;
    let words = &details.command;
    let first = words.first().filter(|word| !word.is_empty())?;
    let is_title = first.contains(": ") || (words.len() == 1 && first.contains(' '));
    (!is_title).then(|| words.clone())
}
