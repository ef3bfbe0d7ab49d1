//! A holder in one line. Names are as the processes chose them: a caller that prints them escapes control
//! characters.

use std::fmt::Write as _;

use super::container::ContainerName;
use super::model::{Holder, HolderClass, Keeper, Manager, RunWorker};
use crate::model::is_private_uid;

impl Holder {
    /// `node (pid 12, user ann), run web, worker 1`.
    #[must_use]
    pub fn description(&self) -> String {
        let mut line = self.subject();
        match &self.class {
            HolderClass::UnitProcess(unit) => {
                let _ = write!(line, ", {}{}", unit_prefix(unit.manager), unit.name);
            }
            HolderClass::ContainerProxy(name) | HolderClass::Container(name) => {
                let _ = write!(line, ", {}", name.description());
            }
            HolderClass::Run { of, supervisor, .. } => {
                if self.process.is_some() {
                    let _ = write!(line, ", {}", of.description());
                }
                if supervisor.is_none() {
                    line.push_str(", whose supervisor was killed");
                }
            }
            HolderClass::PlainRun { supervisor } => {
                let _ = write!(line, ", under sameport run (pid {supervisor})");
            }
            HolderClass::SupervisedChild { parent, .. } => {
                let _ = write!(line, ", child of {} (pid {})", parent.program, parent.pid);
            }
            HolderClass::Orphan => line.push_str(", whose parent has ended"),
            _ => {}
        }
        match (&self.class, &self.unit) {
            (HolderClass::UnitProcess(_), _) | (_, None) => {}
            (_, Some(of)) => {
                let _ = write!(line, ", {}{}", unit_prefix(of.unit.manager), of.unit.name);
            }
        }
        if self.process.is_some()
            && let Some(Keeper::Manager { pid, unit, .. }) = self.keepers.first()
        {
            let _ = write!(line, ", kept by systemd (pid {pid})");
            if let Some(unit) = unit {
                let _ = write!(line, " for {unit}");
            }
        }
        line
    }

    /// The process and the owner of its socket, or what is known instead.
    fn subject(&self) -> String {
        let user = self.owner();
        if let Some(process) = &self.process {
            let program = if process.program.is_empty() { "a program" } else { &process.program };
            let more = match self.others.len() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            return format!("{program} (pid {}{more}, {user})", process.pid);
        }
        let keeper = self.keepers.first().map_or(0, Keeper::pid);
        match &self.class {
            HolderClass::ServiceManager { manager, unit } => {
                let of = match manager {
                    Manager::System => String::new(),
                    Manager::User(_) => format!(", {user}"),
                };
                let unit = unit.as_deref().unwrap_or("a unit that is not known");
                format!("systemd (pid {keeper}{of}), for {unit}")
            }
            HolderClass::Run { of, .. } => {
                format!("the supervisor of {} (pid {keeper}, {user})", of.description())
            }
            HolderClass::TimeWait => "a closed connection (TIME_WAIT)".to_owned(),
            HolderClass::Kernel => format!("the kernel, for no process ({user})"),
            _ => format!("a program that cannot be seen from here ({user})"),
        }
    }

    /// `user ann`, `user 1000` or `a private group`.
    #[must_use]
    pub fn owner(&self) -> String {
        match (self.uid, &self.user) {
            (Some(uid), _) if is_private_uid(uid) => "a private group".to_owned(),
            (_, Some(name)) => format!("user {name}"),
            (Some(uid), None) => format!("user {uid}"),
            (None, None) => "no user".to_owned(),
        }
    }
}

impl RunWorker {
    /// `run web, worker 1`.
    #[must_use]
    pub fn description(&self) -> String {
        match self.worker {
            Some(worker) => format!("run {}, worker {worker}", self.name),
            None => format!("run {}", self.name),
        }
    }
}

impl ContainerName {
    /// `docker container web (4f5a…)`, or the known part of it.
    #[must_use]
    pub fn description(&self) -> String {
        let mut text = match self.engine {
            Some(engine) => format!("{} container", engine.name()),
            None => "container".to_owned(),
        };
        match (&self.name, &self.id) {
            (Some(name), Some(id)) => {
                let _ = write!(text, " {name} ({id})");
            }
            (Some(known), None) | (None, Some(known)) => {
                let _ = write!(text, " {known}");
            }
            (None, None) => {}
        }
        match self.target {
            Some((ip, port)) => {
                let _ = write!(text, " at {}", std::net::SocketAddr::new(ip, port));
            }
            None if self.handle().is_none() => text.push_str(" that is not known"),
            None => {}
        }
        text
    }
}

/// A unit of a user's manager is named as such.
fn unit_prefix(manager: Manager) -> &'static str {
    match manager {
        Manager::System => "",
        Manager::User(_) => "user unit ",
    }
}
