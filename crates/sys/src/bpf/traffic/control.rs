//! Changing and removing states.

use std::collections::BTreeSet;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;
use std::sync::atomic::Ordering::SeqCst;

use sameport_policy::traffic::plan::TrafficPlan;

use super::available::check_extended_tier;
use super::error::{TrafficError, TrafficResult};
use super::layout::{self, HELD_BACK, LANES, control, counter};
use super::object::{self, Choice};
use super::pins::{self, TrafficKey, TrafficLock};
use super::program::TrafficProgram;
use super::state::TrafficState;
use crate::bpf::pin_dir;
use crate::socket::worker_socket::WorkerSocket;

/// What holds for a port: the user's words, which are kept as they are, and the plan.
#[derive(Debug, Clone, Copy)]
pub struct TrafficOrder<'a> {
    /// Kept with the state, at most 65,535 bytes without a zero: [`TrafficState::record`].
    pub record: &'a str,
    /// The plan, whose sockets have cookies.
    pub plan: &'a TrafficPlan,
    /// The listeners of the plan, or those of them that could be duplicated.
    pub sockets: &'a [&'a WorkerSocket],
}

impl TrafficState {
    /// The state of a port.
    ///
    /// # Errors
    ///
    /// [`TrafficError::OtherLayout`], [`TrafficError::NotOurs`], [`TrafficError::Pin`].
    pub fn find(key: TrafficKey) -> TrafficResult<Option<Self>> {
        let path = key.path();
        pin_dir::require_trusted(path.parent().unwrap_or(Path::new("/")))?;
        match Self::open(key, path)? {
            None => match pins::other_layout(key)? {
                Some(path) => Err(TrafficError::OtherLayout(path)),
                None => Ok(None),
            },
            state => Ok(state),
        }
    }

    /// The ports that have a state of this version.
    ///
    /// # Errors
    ///
    /// [`TrafficError::Pin`].
    pub fn list() -> TrafficResult<Vec<TrafficKey>> {
        Ok(pins::keys()?)
    }

    /// Removes the states without a member, such as those of runs that were killed with their workers, if this
    /// process may. Reads one directory where there is none.
    pub fn remove_stale() {
        if check_extended_tier().is_ok()
            && memberless().is_ok_and(|states| !states.is_empty())
            && let Ok(_lock) = TrafficLock::take()
        {
            // On failure the next command tries again.
            let _ = remove_memberless(None);
        }
    }

    /// Changes with each member that comes or goes, and with each change of the plan or the record. What is read
    /// after it, and decided from, holds while it is the same.
    #[must_use]
    pub fn edition(&self) -> u32 {
        self.control.u32(control::VERSION).load(SeqCst)
    }

    /// Follows another plan, without another policy: a few edits of maps. Sockets that are not in the state
    /// are taken into it.
    ///
    /// # Errors
    ///
    /// See [`TrafficError`].
    pub fn apply(&self, plan: &TrafficPlan, sockets: &[&WorkerSocket]) -> TrafficResult<()> {
        let _lock = TrafficLock::take()?;
        self.apply_locked(plan, sockets)
    }

    /// The same, unless something has changed since this [`edition`](Self::edition): then it returns false and
    /// does nothing, and the plan has to be decided again. Otherwise a plan from rules that `steer` has replaced
    /// meanwhile would replace the new one.
    ///
    /// # Errors
    ///
    /// See [`TrafficError`].
    pub fn apply_if_same(
        &self,
        plan: &TrafficPlan,
        sockets: &[&WorkerSocket],
        since: u32,
    ) -> TrafficResult<bool> {
        let _lock = TrafficLock::take()?;
        if self.edition() != since {
            return Ok(false);
        }
        self.apply_locked(plan, sockets)?;
        Ok(true)
    }

    /// Keeps a socket that is about to listen from traffic until a plan admits it, also where newcomers are
    /// admitted at once: the group has members without a supervisor, or of another one.
    ///
    /// # Errors
    ///
    /// Errors of `bpf(BPF_MAP_UPDATE_ELEM)`.
    pub fn hold_back(&self, socket: &WorkerSocket) -> std::io::Result<()> {
        let key = socket.as_fd().as_raw_fd().to_ne_bytes();
        self.marks.update(&key, &layout::mark(0, 0, 0, HELD_BACK))
    }

    fn apply_locked(&self, plan: &TrafficPlan, sockets: &[&WorkerSocket]) -> TrafficResult<()> {
        let lanes = self.lanes();
        self.switch(plan, sockets, || ())?;
        if self.lanes() != lanes {
            // A group on another address.
            self.choose(plan, &self.directory, sockets, &[])?;
        }
        Ok(())
    }

    /// From one plan to another, with one switch: a connection that comes meanwhile goes to a member that one of
    /// both lets have it. What the new plan gives connections to is put into its places before the switch, where
    /// both plans can find it. The other sockets, of a number that can get connections until then, follow after
    /// it. `between` is called after each step.
    pub(super) fn switch(
        &self,
        plan: &TrafficPlan,
        sockets: &[&WorkerSocket],
        between: impl Fn(),
    ) -> TrafficResult<()> {
        let takes: BTreeSet<u64> = plan
            .members
            .iter()
            .filter(|member| member.takes())
            .flat_map(|member| member.sockets.iter().map(|socket| socket.inode))
            .collect();
        let (takers, others): (Vec<&WorkerSocket>, Vec<_>) =
            sockets.iter().copied().partition(|socket| takes.contains(&socket.inode()));
        let former = self.adopt(plan, &takers)?;
        between();
        self.follow(plan)?;
        between();
        self.vacate(&former);
        self.vacate(&self.adopt(plan, &others)?);
        between();
        Ok(())
    }

    /// Follows another order with the same policy: edits of maps, without another program. Returns false, and
    /// does nothing, if the state was removed meanwhile.
    ///
    /// # Errors
    ///
    /// [`TrafficError::Changed`] if the words of the user are no longer those that were read `before`. See
    /// [`TrafficError`].
    pub fn amend(&self, order: TrafficOrder<'_>, before: &str) -> TrafficResult<bool> {
        let _lock = TrafficLock::take()?;
        if std::fs::symlink_metadata(self.directory.join("record")).is_err() {
            return Ok(false);
        }
        if self.record()? != before {
            return Err(TrafficError::Changed);
        }
        self.apply_locked(order.plan, order.sockets)?;
        self.write_record(order.record)?;
        self.restart_counts();
        Ok(true)
    }

    /// Attaches the programs of the state again, to groups that another program steers now.
    ///
    /// # Errors
    ///
    /// See [`TrafficError`].
    pub fn attach_again(&self, plan: &TrafficPlan, sockets: &[&WorkerSocket]) -> TrafficResult<()> {
        let _lock = TrafficLock::take()?;
        self.choose(plan, &self.directory, sockets, &[])
    }

    /// Follows another order, with another policy, whose programs are these.
    pub(super) fn change(&self, order: TrafficOrder<'_>, choices: &[Choice]) -> TrafficResult<()> {
        self.switch(order.plan, order.sockets, || ())?;
        self.choose(order.plan, &self.directory, order.sockets, choices)?;
        self.write_record(order.record)?;
        self.restart_counts();
        Ok(())
    }

    /// Counts choices from now on: those before the change followed other rules, so their shares say nothing of
    /// these.
    fn restart_counts(&self) {
        for number in self.used() {
            self.long(number, counter::CHOSEN).store(0, SeqCst);
        }
    }

    /// Attaches the program of the policy to every group that one of these sockets is in. `choices`: programs of
    /// the first addresses for another policy; without them, those that are pinned still follow the policy.
    pub(super) fn choose(
        &self,
        plan: &TrafficPlan,
        directory: &Path,
        sockets: &[&WorkerSocket],
        choices: &[Choice],
    ) -> TrafficResult<()> {
        let queue = object::queue_offsets().ok();
        let numbers = self.numbers();
        for lane in 0..self.lanes().min(LANES) {
            let in_lane = |socket: &&&WorkerSocket| {
                let cookie = socket.cookie().ok();
                cookie
                    .and_then(|cookie| numbers.get(&cookie).map(|number| (cookie, *number)))
                    .is_some_and(|(cookie, number)| {
                        usize::try_from(number).is_ok_and(|it| self.cookie(it, lane) == cookie)
                    })
            };
            let Some(socket) = sockets.iter().find(in_lane) else { continue };
            let number = u32::try_from(lane).unwrap_or(0);
            let path = directory.join(format!("choose_{lane}"));
            if choices.is_empty()
                && let Some(choice) = Choice::pinned(&path)
            {
                choice.attach(socket)?;
                continue;
            }
            let loaded;
            let choice = match choices.get(lane) {
                Some(choice) => choice,
                None => {
                    loaded = Choice::load(TrafficProgram::of(plan), number, queue, directory)?;
                    &loaded
                }
            };
            choice.attach(socket)?;
            choice.pin(&path)?;
        }
        Ok(())
    }

    /// Removes the state. The groups of these sockets go by the kernel's hash again.
    ///
    /// # Errors
    ///
    /// See [`TrafficError`].
    pub fn remove(self, sockets: &[&WorkerSocket]) -> TrafficResult<()> {
        let lock = TrafficLock::take()?;
        for socket in sockets {
            let failed = |errno: rustix::io::Errno| {
                let call = "setsockopt(SO_DETACH_REUSEPORT_BPF)";
                TrafficError::Socket(call, socket.inode(), errno.into())
            };
            socket.stop_steering().map_err(failed)?;
        }
        pin_dir::remove(&self.directory)?;
        lock.sweep()?;
        Ok(())
    }
}

impl TrafficState {
    /// Removes what killed processes have left unfinished, of any port. The programs that count are attached as
    /// long as it is there.
    ///
    /// # Errors
    ///
    /// [`TrafficError::Pin`].
    pub fn sweep() -> TrafficResult<()> {
        Ok(TrafficLock::take()?.sweep()?)
    }

    /// Removes what is at the path of a state, of whatever version and by whomever it was made. The programs
    /// of groups stay attached.
    ///
    /// # Errors
    ///
    /// [`TrafficError::Pin`].
    pub fn discard(key: TrafficKey) -> TrafficResult<()> {
        let lock = TrafficLock::take()?;
        let other = pins::other_layout(key)?;
        for path in [Some(key.path()), other].into_iter().flatten() {
            if std::fs::symlink_metadata(&path).is_ok() {
                remove_path(&path)?;
            }
        }
        lock.sweep()?;
        Ok(())
    }
}

/// Removes the states of other ports whose last member has gone. Its group has gone with it, and the program
/// with the group.
pub(super) fn remove_memberless(kept: Option<TrafficKey>) -> TrafficResult<()> {
    for state in memberless()?.into_iter().filter(|state| Some(state.key) != kept) {
        pin_dir::remove(&state.directory)?;
    }
    Ok(())
}

fn memberless() -> TrafficResult<Vec<TrafficState>> {
    // What cannot be read is another command's to name.
    let states = pins::keys()?.into_iter().filter_map(|key| TrafficState::find(key).ok()?);
    Ok(states.filter(|state| state.used().next().is_none()).collect())
}

/// Removes a directory of pins, or a pin.
pub(super) fn remove_path(path: &Path) -> TrafficResult<()> {
    if std::fs::symlink_metadata(path).is_ok_and(|it| it.is_dir()) {
        return Ok(pin_dir::remove(path)?);
    }
    std::fs::remove_file(path).map_err(|error| pin_dir::failed("unlink", path)(error).into())
}
