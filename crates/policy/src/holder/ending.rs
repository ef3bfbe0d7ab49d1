//! How the sockets of holders are closed, and by whom.

use std::collections::BTreeSet;

use super::classify::manager_of_cgroup;
use super::container::ContainerName;
use super::model::{Holder, HolderClass, Keeper, Manager, Supervision, Task, Unit, UnitOfHolder};
use crate::model::name::RunName;
use crate::model::unit::Engine;
use crate::model::{Process, Protocol};

/// A way to close a socket.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// `systemctl stop` or `systemctl --user stop`.
    StopUnits(Manager, Vec<String>),
    /// `systemctl clean --what=fdstore`: the manager keeps the socket of a service that has ended (systemd
    /// 254, `FileDescriptorStorePreserve=`).
    ClearStore(Unit),
    /// A manager's socket whose unit is not known: `systemctl list-sockets` has it.
    FindSocketUnit(Manager),
    /// `sameport stop`.
    StopRun(RunName),
    /// `sameport stop --user`, by root: a run of this user, whose supervisor answers.
    StopRunOf(RunName, u32),
    /// The engine's `stop`.
    StopContainer(ContainerName),
    /// Of docker: the container that publishes this port.
    StopPublished(u16, Protocol),
    /// A container that only its engine knows.
    FindContainer(ContainerName),
    /// The tool of a process manager: program and arguments.
    StopTask(Vec<String>),
    /// A process manager without a known tool: it would start the process again.
    StopIn(Process),
    /// SIGTERM to these processes, parents first.
    Kill(Vec<i32>),
    /// SIGTERM to these processes, and to the parent if it starts them again.
    KillOrParent(Vec<i32>, Process),
    /// A process 1 that is no service manager: the container ends with it.
    EndProcess1(Process),
    /// Only root can see the process.
    AskRoot,
    /// Not even root can see it here: it is in another pid namespace, or in the kernel.
    Elsewhere,
    /// The kernel closes it.
    Wait,
}

/// The user who may follow the advice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rights {
    /// The user who asks.
    Caller,
    /// This user, and root in the name of this user.
    User(u32),
    /// Root.
    Root,
}

/// Advice, and the user who may follow it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndingStep {
    /// The way.
    pub ending: Ending,
    /// The user.
    pub rights: Rights,
}

/// The steps that close the sockets of all these holders. `caller` is the user who would follow them.
#[must_use]
pub fn endings<'a>(holders: impl IntoIterator<Item = &'a Holder>, caller: u32) -> Vec<EndingStep> {
    let mut steps = Steps { caller, ..Steps::default() };
    for holder in holders {
        steps.add(holder);
    }
    steps.finish()
}

#[derive(Default)]
struct Steps {
    caller: u32,
    units: BTreeSet<Unit>,
    killed: Vec<(i32, Option<u32>)>,
    /// In the order of the holders, each once.
    others: Vec<EndingStep>,
}

impl Steps {
    fn add(&mut self, holder: &Holder) {
        if self.stop_unit(holder) {
            return;
        }
        match &holder.class {
            HolderClass::ServiceManager { manager, unit } => match unit {
                Some(name) if name.ends_with(".service") => {
                    let unit = Unit { manager: *manager, name: name.clone() };
                    self.push(Ending::ClearStore(unit), self.manager_rights(*manager));
                }
                Some(name) => {
                    self.units.insert(Unit { manager: *manager, name: name.clone() });
                }
                None => {
                    self.push(Ending::FindSocketUnit(*manager), self.manager_rights(*manager));
                }
            },
            HolderClass::ContainerProxy(name) | HolderClass::Container(name) => {
                self.stop_container(name, holder);
            }
            // Without a supervisor, only the user of the run can end its workers.
            HolderClass::Run { of, uid: Some(uid), supervisor: Some(_) }
                if self.caller == 0 && *uid != 0 =>
            {
                self.push(Ending::StopRunOf(of.name.clone(), *uid), Rights::Caller);
            }
            HolderClass::Run { of, uid, .. } => {
                let rights = uid.map_or(Rights::Caller, |uid| self.user(uid));
                self.push(Ending::StopRun(of.name.clone()), rights);
            }
            HolderClass::PlainRun { supervisor } => {
                let uid = holder.process.as_ref().and_then(user);
                self.kill([(*supervisor, uid)]);
            }
            HolderClass::SupervisedChild { parent, by, task } => {
                self.stop_child(holder, parent, *by, task.as_ref());
            }
            HolderClass::Orphan | HolderClass::Program | HolderClass::UnitProcess(_) => {
                self.kill_servers(holder);
            }
            HolderClass::Unseen if self.caller == 0 => {
                self.push(Ending::Elsewhere, Rights::Caller);
            }
            HolderClass::Unseen => self.push(Ending::AskRoot, Rights::Caller),
            HolderClass::TimeWait => {}
            HolderClass::Kernel => self.push(Ending::Wait, Rights::Caller),
        }
    }

    /// Stops the unit of the holder, with the sockets that would start it again. `false` without a unit
    /// whose manager can stop it.
    fn stop_unit(&mut self, holder: &Holder) -> bool {
        let is_in_unit = matches!(
            holder.class,
            HolderClass::UnitProcess(_) | HolderClass::Run { .. } | HolderClass::PlainRun { .. }
        );
        let Some(UnitOfHolder { unit, facts }) = holder.unit.as_ref().filter(|_| is_in_unit) else {
            return false;
        };
        let Some(facts) = facts else {
            // A manager of another user answers that user and root.
            let is_of_other =
                matches!(unit.manager, Manager::User(uid) if ![0, uid].contains(&self.caller));
            self.units.extend(is_of_other.then(|| unit.clone()));
            return is_of_other;
        };
        let sibling = |name: &String| Unit { manager: unit.manager, name: name.clone() };
        self.units.extend(facts.triggered_by.iter().map(sibling));
        self.units.insert(unit.clone());
        for keeper in &holder.keepers {
            if let Keeper::Manager { manager, unit: Some(name), .. } = keeper {
                self.units.insert(Unit { manager: *manager, name: name.clone() });
            }
        }
        true
    }

    fn stop_container(&mut self, name: &ContainerName, holder: &Holder) {
        // A rootless engine belongs to the user whose process forwards the port, and to the user in whose
        // service manager the container runs. A process in a container can have any user id.
        let uid = match holder.class {
            HolderClass::ContainerProxy(_) => holder.process.as_ref().and_then(user).or(holder.uid),
            _ => holder.process.as_ref().and_then(user_of_engine),
        };
        let rights = self.user(uid.unwrap_or(0));
        let ending = match (name.engine, name.published) {
            (Some(Engine::Docker | Engine::Podman), _) if name.handle().is_some() => {
                Ending::StopContainer(name.clone())
            }
            (Some(Engine::Docker), Some((port, protocol))) => Ending::StopPublished(port, protocol),
            _ => Ending::FindContainer(name.clone()),
        };
        self.push(ending, rights);
    }

    fn stop_child(
        &mut self,
        holder: &Holder,
        parent: &Process,
        by: Supervision,
        task: Option<&Task>,
    ) {
        let uid = user(parent);
        let pids = || holder.servers().map(|process| process.pid).collect();
        match (by, task) {
            (_, Some(task)) => {
                let rights = uid.map_or(Rights::Root, |uid| self.user(uid));
                self.push(Ending::StopTask(task.stop()), rights);
            }
            (Supervision::ProcessManager, None) => {
                let rights = uid.map_or(Rights::Root, |uid| self.user(uid));
                self.push(Ending::StopIn(parent.clone()), rights);
            }
            (Supervision::Master | Supervision::Loop, None) => {
                self.kill([(parent.pid, uid)]);
                self.kill_servers(holder);
            }
            (Supervision::Possible, None) => {
                let rights = self.kill_rights(holder.servers().map(user));
                self.push(Ending::KillOrParent(pids(), parent.clone()), rights);
            }
        }
    }

    fn kill_servers(&mut self, holder: &Holder) {
        match &holder.process {
            Some(process) if process.pid == 1 => {
                self.push(Ending::EndProcess1(process.clone()), Rights::Root);
            }
            _ => self.kill(holder.servers().map(|it| (it.pid, user(it)))),
        }
    }

    fn kill(&mut self, pids: impl IntoIterator<Item = (i32, Option<u32>)>) {
        for (pid, uid) in pids {
            if pid > 1 && !self.killed.iter().any(|(known, _)| *known == pid) {
                self.killed.push((pid, uid));
            }
        }
    }

    /// A process signals processes of its own user; root all (kill(2)).
    fn kill_rights(&self, uids: impl IntoIterator<Item = Option<u32>>) -> Rights {
        let may = uids.into_iter().all(|uid| uid == Some(self.caller));
        if self.caller == 0 || may { Rights::Caller } else { Rights::Root }
    }

    fn manager_rights(&self, manager: Manager) -> Rights {
        match manager {
            Manager::System if self.caller == 0 => Rights::Caller,
            Manager::System => Rights::Root,
            // Root becomes the user: the manager serves its own user.
            Manager::User(_) if self.caller == 0 => Rights::Caller,
            Manager::User(uid) => self.user(uid),
        }
    }

    fn user(&self, uid: u32) -> Rights {
        if uid == self.caller { Rights::Caller } else { Rights::User(uid) }
    }

    fn push(&mut self, ending: Ending, rights: Rights) {
        let rights = if rights == Rights::User(0) { Rights::Root } else { rights };
        let step = EndingStep { ending, rights };
        if !self.others.contains(&step) {
            self.others.push(step);
        }
    }

    fn finish(mut self) -> Vec<EndingStep> {
        // The end of a service clears its store, too. Only FileDescriptorStorePreserve=yes keeps it, and then
        // this advice is given once the service has ended.
        let stopped = std::mem::take(&mut self.others).into_iter();
        let kept = stopped.filter(
            |step| !matches!(&step.ending, Ending::ClearStore(unit) if self.units.contains(unit)),
        );
        self.others = kept.collect();
        let managers: BTreeSet<Manager> = self.units.iter().map(|unit| unit.manager).collect();
        for manager in managers {
            let of_it = self.units.iter().filter(|unit| unit.manager == manager);
            let names = of_it.map(|unit| unit.name.clone()).collect();
            self.push(Ending::StopUnits(manager, names), self.manager_rights(manager));
        }
        if !self.killed.is_empty() {
            let rights = self.kill_rights(self.killed.iter().map(|(_, uid)| *uid));
            let pids = self.killed.iter().map(|(pid, _)| *pid).collect();
            self.push(Ending::Kill(pids), rights);
        }
        // The last word is a remark.
        self.others.sort_by_key(|step| matches!(step.ending, Ending::KillOrParent(..)));
        self.others
    }
}

/// The user whose service manager has the container of this process. `None`: the system's manager.
fn user_of_engine(process: &Process) -> Option<u32> {
    match manager_of_cgroup(process.details.as_ref()?.cgroup.as_deref()?) {
        Manager::User(uid) => Some(uid),
        Manager::System => None,
    }
}

/// The user of a process.
fn user(process: &Process) -> Option<u32> {
    process.details.as_ref()?.uid
}
