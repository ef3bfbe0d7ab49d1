//! A holder in one line. Names are as the processes chose them: a caller that prints them escapes control
//! characters.

use std::fmt::Write as _;

use super::container::ContainerName;
use super::model::{Holder, HolderClass, Keeper, Manager, RunWorker, Unit};
use crate::model::is_private_uid;

impl Holder {
    /// `node (pid 12, user ann), run web, worker 1`.
    #[must_use]
    pub fn description(&self) -> String {
        let mut line = self.subject();
        let label = self.label();
        let unit = match (&self.class, &self.unit) {
            (HolderClass::UnitProcess(_), _) | (_, None) => None,
            (_, Some(of)) => Some(unit_label(&of.unit)),
        };
        for part in label.into_iter().chain(unit).chain(self.kept_label()) {
            line.push_str(", ");
            line.push_str(&part);
        }
        line
    }

    /// What the program and the owner of the socket do not tell: `run web, worker 1`, `web.service`, `docker
    /// container web`; `None` for a plain program.
    #[must_use]
    pub fn label(&self) -> Option<String> {
        match &self.class {
            HolderClass::UnitProcess(unit) => Some(unit_label(unit)),
            HolderClass::ServiceManager { unit: Some(unit), .. } if self.process.is_none() => {
                Some(format!("for {unit}"))
            }
            HolderClass::ServiceManager { .. } => Some("for a unit that is not known".to_owned()),
            HolderClass::ContainerProxy(name) | HolderClass::Container(name) => {
                Some(name.description())
            }
            HolderClass::Run { of, supervisor: None, .. } => {
                Some(format!("{}, whose supervisor was killed", of.description()))
            }
            HolderClass::Run { of, .. } => match self.process {
                Some(_) => Some(of.description()),
                None => Some(format!("the supervisor of {}", of.description())),
            },
            HolderClass::PlainRun { supervisor } => {
                Some(format!("under sameport run (pid {supervisor})"))
            }
            HolderClass::SupervisedChild { parent, .. } => {
                Some(format!("child of {} (pid {})", parent.program, parent.pid))
            }
            HolderClass::Orphan => Some("whose parent has ended".to_owned()),
            HolderClass::Program
            | HolderClass::TimeWait
            | HolderClass::Kernel
            | HolderClass::Unseen => None,
        }
    }

    /// `kept by systemd (pid 1) for api.socket`: a service manager beside the process that serves the socket.
    #[must_use]
    pub fn kept_label(&self) -> Option<String> {
        let Some(Keeper::Manager { pid, unit, .. }) = self.keepers.first() else { return None };
        self.process.as_ref()?;
        Some(match unit {
            Some(unit) => format!("kept by systemd (pid {pid}) for {unit}"),
            None => format!("kept by systemd (pid {pid})"),
        })
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
            HolderClass::ServiceManager { manager: Manager::System, .. } => {
                format!("systemd (pid {keeper})")
            }
            HolderClass::ServiceManager { .. } => format!("systemd (pid {keeper}, {user})"),
            HolderClass::Run { .. } => format!("sameport (pid {keeper}, {user})"),
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
        if self.handle().is_none() && self.target.is_none() {
            return format!("an unknown {text}");
        }
        match (&self.name, &self.id) {
            (Some(name), Some(id)) => {
                let _ = write!(text, " {name} ({id})");
            }
            (Some(known), None) | (None, Some(known)) => {
                let _ = write!(text, " {known}");
            }
            (None, None) => {}
        }
        if let Some((ip, port)) = self.target {
            let _ = write!(text, " at {}", std::net::SocketAddr::new(ip, port));
        }
        text
    }
}

/// A unit of a user's manager is named as such.
fn unit_label(unit: &Unit) -> String {
    match unit.manager {
        Manager::System => unit.name.clone(),
        Manager::User(_) => format!("user unit {}", unit.name),
    }
}
