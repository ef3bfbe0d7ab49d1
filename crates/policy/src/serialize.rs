//! `Serialize` with the field names of `--json`, which do not change. Null means unknown.

use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;

use serde::ser::{SerializeSeq as _, SerializeStruct as _};
use serde::{Serialize, Serializer};

use crate::audit::{FindingKind, Party, Severity};
use crate::holder::{ContainerName, Holder, HolderClass, Keeper, Manager, Unit};
use crate::model::unit::{Container, Engine};
use crate::model::{GroupPosition, Process, SocketOptions, SocketState};
use crate::predict::{
    Conflict, Missing, ReuseFlag, TrafficEffect, TrafficOutcome, Uncertainty, UnknownFact,
};

/// A value that JSON has as a word.
macro_rules! as_word {
    ($($type:ty => $word:ident;)+) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.$word())
            }
        }
    )+};
}

as_word! {
    SocketState => name;
    Engine => name;
    FindingKind => id;
    Severity => name;
    TrafficOutcome => name;
    ReuseFlag => name;
}

/// A value that JSON has as an object: each field with its value.
macro_rules! as_object {
    ($serializer:ident, $name:literal: $($field:literal => $value:expr,)+) => {{
        let mut fields = $serializer.serialize_struct($name, [$($field),+].len())?;
        $(fields.serialize_field($field, &$value)?;)+
        fields.end()
    }};
}

impl Serialize for SocketOptions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        as_object! { serializer, "SocketOptions":
            "reuse_port" => self.reuse_port,
            "reuse_address" => self.reuse_address,
            "transparent" => self.transparent,
            "freebind" => self.freebind,
            "filter" => self.filter,
        }
    }
}

impl Serialize for GroupPosition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        as_object! { serializer, "GroupPosition":
            "index" => self.index,
            "of" => self.of,
            "steered" => self.steered,
        }
    }
}

impl Serialize for Container<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        as_object! { serializer, "Container":
            "engine" => self.engine,
            "id" => self.id,
        }
    }
}

impl Serialize for Process {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let details = self.details.as_ref();
        as_object! { serializer, "Process":
            "pid" => self.pid,
            "program" => name(self),
            "uid" => details.and_then(|it| it.uid),
            "parent" => details.and_then(|it| it.parent),
            "command" => details.map(|it| &it.command).filter(|it| !it.is_empty()),
            "executable" => details.and_then(|it| it.executable.as_deref()).map(lossy),
            "directory" => details.and_then(|it| it.directory.as_deref()).map(lossy),
            "cgroup" => details.and_then(|it| it.cgroup.as_ref()),
            // Seconds since 1970.
            "started" => details.and_then(|it| it.started).map(|it| it.as_secs()),
        }
    }
}

/// `class` decides which of the other fields have a value.
impl Serialize for Holder {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (run, worker) = match &self.class {
            HolderClass::Run { of, .. } => (Some(of.name.as_str()), of.worker),
            _ => (None, None),
        };
        let starter = match &self.class {
            HolderClass::SupervisedChild { parent, .. } => Some(parent),
            _ => None,
        };
        let unit = match (&self.unit, &self.class) {
            (Some(of), _) => Some(of.unit.clone()),
            (None, HolderClass::ServiceManager { manager, unit: Some(name) }) => {
                Some(Unit { manager: *manager, name: name.clone() })
            }
            _ => None,
        };
        let servers: Vec<i32> = self.servers().map(|process| process.pid).collect();
        as_object! { serializer, "Holder":
            "class" => self.class.name(),
            "description" => self.description(),
            // The processes that serve the socket.
            "pids" => servers,
            "run" => run,
            "worker" => worker,
            "unit" => unit.as_ref().map(|unit| &unit.name),
            // The user whose service manager has the unit; null for the system's.
            "unit_of" => unit.as_ref().and_then(|unit| match unit.manager {
                Manager::System => None,
                Manager::User(uid) => Some(uid),
            }),
            "container" => self.container(),
            "parent" => starter.map(|parent| parent.pid),
            "parent_program" => starter.map(|parent| &parent.program),
            "kept_by" => self.keepers,
            "peer" => self.peer,
            "peer_closed" => self.peer_closed,
        }
    }
}

/// A process that keeps the socket open and does not serve it.
impl Serialize for Keeper {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (unit, run) = match self {
            Self::Manager { unit, .. } => (unit.as_deref(), None),
            Self::Supervisor { name, .. } => (None, Some(name.as_str())),
        };
        as_object! { serializer, "Keeper":
            "pid" => self.pid(),
            "unit" => unit,
            "run" => run,
        }
    }
}

impl Serialize for ContainerName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        as_object! { serializer, "ContainerName":
            "engine" => self.engine,
            "id" => self.id,
            "name" => self.name,
        }
    }
}

impl Serialize for Party {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let process = self.process.as_ref();
        let details = process.and_then(|it| it.details.as_ref());
        as_object! { serializer, "Party":
            "proto" => self.address.protocol,
            "address" => self.address.socket,
            "v6only" => self.address.v6only,
            "device" => self.address.device,
            "state" => self.state,
            "inode" => self.inode,
            "uid" => self.uid,
            "user" => self.user,
            "pid" => process.map(|it| it.pid),
            "program" => process.map(|it| &it.program),
            "process_uid" => details.and_then(|it| it.uid),
            "command" => details.map(|it| &it.command),
            "executable" => details.and_then(|it| it.executable.as_deref()).map(lossy),
            "unit" => self.service.unit,
            "container" => self.service.container,
            "run" => self.run.as_ref().map(|run| run.name.as_str()),
            "worker" => self.run.as_ref().and_then(|run| run.worker),
            // Seconds since 1970, to the millisecond.
            "started" => details.and_then(|it| it.started).map(seconds),
        }
    }
}

/// `reuse_lacks` is null if reuse is impossible.
impl Serialize for Conflict {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        as_object! { serializer, "Conflict":
            "share_lacks" => self.share_lacks,
            "reuse_lacks" => self.reuse_lacks,
        }
    }
}

/// The list of missing conditions.
impl Serialize for Missing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let all = [("ours", self.ours), ("theirs", self.theirs), ("same-user", self.same_user)];
        serializer.collect_seq(all.into_iter().filter(|(_, lacks)| *lacks).map(|(word, _)| word))
    }
}

/// The list of favourable facts. One of them suffices.
impl Serialize for Uncertainty {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (flags, more): (&[ReuseFlag], &[&str]) = match &self.unknown {
            UnknownFact::AnySet(flags) => (flags, &[]),
            UnknownFact::V6onlyOrAnySet(flags) => (flags, &["v6only"]),
            UnknownFact::LookupOrder => (&[], &["first"]),
        };
        let mut list = serializer.serialize_seq(Some(flags.len() + more.len()))?;
        for flag in flags {
            list.serialize_element(flag)?;
        }
        for word in more {
            list.serialize_element(word)?;
        }
        list.end()
    }
}

impl Serialize for TrafficEffect {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        as_object! { serializer, "TrafficEffect":
            "on" => format_args!("{}", self.address),
            "outcome" => self.outcome,
        }
    }
}

fn name(process: &Process) -> Option<&str> {
    Some(&*process.program).filter(|name| !name.is_empty())
}

fn lossy(path: &Path) -> Cow<'_, str> {
    path.to_string_lossy()
}

fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}
