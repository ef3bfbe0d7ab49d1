//! Making states.

use std::collections::BTreeSet;

use sameport_policy::model::Protocol;

use super::control::{TrafficOrder, remove_memberless, remove_path};
use super::error::{TrafficError, TrafficResult};
use super::pins::{self, TrafficKey, TrafficLock};
use super::prepared::PreparedTraffic;
use super::program::TrafficProgram;
use super::state::TrafficState;
use crate::bpf::pin_dir;

impl TrafficState {
    /// Makes a state, or gives a present one another policy, and has the kernel follow it. What is at the
    /// path and not of this version is removed with `replace`, else it is an error. The programs of the
    /// groups are replaced: the caller has to ask `GroupPosition::steered` before.
    ///
    /// # Errors
    ///
    /// See [`TrafficError`]. The state is complete or absent, also if the process is killed.
    pub fn install(key: TrafficKey, order: TrafficOrder<'_>, replace: bool) -> TrafficResult<Self> {
        Self::install_checked(key, order, replace, None, |_| Ok(()))
    }

    /// The same with programs that were loaded before: as long as the port has the same state, or none, as then,
    /// and the policy is that one, none is loaded.
    ///
    /// # Errors
    ///
    /// Those of [`install`](Self::install).
    pub fn install_prepared(
        key: TrafficKey,
        order: TrafficOrder<'_>,
        prepared: Option<PreparedTraffic>,
    ) -> TrafficResult<Self> {
        Self::install_checked(key, order, false, prepared, |_| Ok(()))
    }

    /// The same, unless the words of the user are no longer those that were read `before`; `None`: there was no
    /// state. Two commands at once each decide from what the other has done.
    ///
    /// # Errors
    ///
    /// [`TrafficError::Changed`], and those of [`install`](Self::install).
    pub fn install_over(
        key: TrafficKey,
        order: TrafficOrder<'_>,
        replace: bool,
        before: Option<&str>,
    ) -> TrafficResult<Self> {
        Self::install_checked(key, order, replace, None, |found| {
            let now = found.map(Self::record).transpose()?;
            if now.as_deref() == before { Ok(()) } else { Err(TrafficError::Changed) }
        })
    }

    fn install_checked(
        key: TrafficKey,
        order: TrafficOrder<'_>,
        replace: bool,
        mut prepared: Option<PreparedTraffic>,
        check: impl Fn(Option<&Self>) -> TrafficResult<()>,
    ) -> TrafficResult<Self> {
        /// How often programs are loaded for a state that another process has made or removed meanwhile.
        const ATTEMPTS: u32 = 10;
        for _ in 0..ATTEMPTS {
            let loaded = match prepared.take() {
                Some(prepared) => prepared,
                None => {
                    let addresses = order.sockets.iter().map(|it| it.local_address().ok());
                    let addresses = addresses.collect::<BTreeSet<_>>().len();
                    PreparedTraffic::load(key, TrafficProgram::of(order.plan), addresses)?
                }
            };
            if let Some(state) = Self::install_locked(key, order, replace, loaded, &check)? {
                return Ok(state);
            }
        }
        Err(TrafficError::Changed)
    }

    /// `None`: the programs do not fit, as the port got a state since they were loaded, or lost it.
    fn install_locked(
        key: TrafficKey,
        order: TrafficOrder<'_>,
        replace: bool,
        mut prepared: PreparedTraffic,
        check: impl Fn(Option<&Self>) -> TrafficResult<()>,
    ) -> TrafficResult<Option<Self>> {
        let lock = TrafficLock::take()?;
        lock.sweep()?;
        remove_memberless(Some(key))?;
        let found = match Self::find(key) {
            Err(TrafficError::OtherLayout(path) | TrafficError::NotOurs(path)) if replace => {
                remove_path(&path)?;
                None
            }
            found => found?,
        };
        check(found.as_ref())?;
        let state = match found {
            Some(state) => match prepared.over(&state, order.plan) {
                Some(choices) => state.change(order, choices).map(|()| Some(state)),
                None => Ok(None),
            },
            None => fill(key, order, &mut prepared),
        };
        // Its end takes the lock.
        drop(lock);
        state
    }
}

/// Fills a directory and gives it its name, and only then changes the groups. `None`: what is prepared is not for a
/// new state, or not for this plan.
fn fill(
    key: TrafficKey,
    order: TrafficOrder<'_>,
    prepared: &mut PreparedTraffic,
) -> TrafficResult<Option<TrafficState>> {
    let Some((unfinished, _)) = prepared.anew(order.plan) else { return Ok(None) };
    let state = TrafficState::open(key, unfinished.to_owned())?.ok_or(TrafficError::NoMember)?;
    state.begin();
    state.write_record(order.record)?;
    state.adopt(order.plan, order.sockets)?;
    if state.lanes() == 0 {
        return Err(TrafficError::NoMember);
    }
    state.follow(order.plan)?;
    pins::finish(unfinished, key)?;
    let choices = prepared.has_become_a_state();
    let state = state.moved_to(key.path());
    // Without the count the policies of counts favour members with old connections.
    if key.protocol == Protocol::Tcp {
        let _ = state.count_existing();
    }
    if let Err(error) = state.choose(order.plan, &key.path(), order.sockets, &choices) {
        // As if nothing had been.
        for socket in order.sockets {
            let _ = socket.stop_steering();
        }
        let _ = pin_dir::remove(&key.path());
        return Err(error);
    }
    Ok(Some(state))
}
