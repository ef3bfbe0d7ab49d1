//! The programs of a state, loaded before anything is locked.
//!
//! The verifier takes 50 to 500 ms, on a busy machine seconds. Whoever waits for the lock of the states, or for one
//! that the caller holds, waits for edits of maps only.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sameport_policy::traffic::plan::TrafficPlan;

use super::error::TrafficResult;
use super::layout::LANES;
use super::object::{self, Choice};
use super::pins::{self, TrafficKey, TrafficLock};
use super::program::TrafficProgram;
use super::state::TrafficState;
use crate::bpf::pin_dir::{self, failed};
use crate::cgroup::Cgroup;

/// Programs for a port, and its maps if it had no state. Nothing is steered by them yet. What was not used is removed
/// when it is dropped.
#[derive(Debug)]
pub struct PreparedTraffic {
    program: TrafficProgram,
    directory: PathBuf,
    /// The inode of the directory: a state that was made anew has other maps.
    identity: u64,
    /// The lock of a directory without a state's name: without it, other processes remove the directory.
    filling: Option<File>,
    choices: Vec<Choice>,
}

impl PreparedTraffic {
    /// Loads what a plan needs for groups on `addresses` addresses. Holds no lock meanwhile.
    ///
    /// # Errors
    ///
    /// See [`TrafficError`](super::TrafficError).
    pub fn load(key: TrafficKey, program: TrafficProgram, addresses: usize) -> TrafficResult<Self> {
        pin_dir::ensure_bpffs()?;
        // What cannot be read is replaced or named by the caller.
        if let Ok(Some(state)) = TrafficState::find(key) {
            let identity = identity(&state.directory).map_err(failed("stat", &state.directory))?;
            let (filling, lanes) = (None, addresses.max(state.lanes()));
            let mut prepared =
                Self { program, directory: key.path(), identity, filling, choices: Vec::new() };
            prepared.load_choices(lanes)?;
            return Ok(prepared);
        }
        let (directory, filling) = {
            let lock = TrafficLock::take()?;
            lock.sweep()?;
            pins::create_unfinished(&lock)?
        };
        let identity = identity(&directory).map_err(failed("stat", &directory));
        let mut prepared = Self {
            program,
            directory,
            identity: identity.unwrap_or_default(),
            filling: Some(filling),
            choices: Vec::new(),
        };
        object::count(&Cgroup::first()?, &prepared.directory, program.protocol)?;
        object::make_maps(program, &prepared.directory)?;
        prepared.load_choices(addresses)?;
        Ok(prepared)
    }

    /// What the programs are for.
    #[must_use]
    pub fn program(&self) -> TrafficProgram {
        self.program
    }

    fn load_choices(&mut self, lanes: usize) -> TrafficResult<()> {
        let queue = object::queue_offsets().ok();
        for lane in 0..lanes.clamp(1, LANES) {
            let number = u32::try_from(lane).unwrap_or(0);
            self.choices.push(Choice::load(self.program, number, queue, &self.directory)?);
        }
        Ok(())
    }

    /// The programs that choose for this plan over the maps of this state; `None`: the state was made meanwhile.
    pub(super) fn over(&self, state: &TrafficState, plan: &TrafficPlan) -> Option<&[Choice]> {
        let fits = self.filling.is_none()
            && self.program == TrafficProgram::of(plan)
            && identity(&state.directory).is_ok_and(|it| it == self.identity);
        fits.then_some(&self.choices)
    }

    /// The directory and the programs of a state that is made for this plan; `None`: it was not made for it.
    pub(super) fn anew(&self, plan: &TrafficPlan) -> Option<(&Path, &[Choice])> {
        let fits = self.filling.is_some() && self.program == TrafficProgram::of(plan);
        fits.then_some((&self.directory, &self.choices))
    }

    /// The directory has the name of a state. Gives the programs.
    pub(super) fn has_become_a_state(&mut self) -> Vec<Choice> {
        self.filling = None;
        std::mem::take(&mut self.choices)
    }
}

impl Drop for PreparedTraffic {
    fn drop(&mut self) {
        // Otherwise the next process that takes the lock removes it, once this one has ended.
        if self.filling.is_some()
            && let Ok(_lock) = TrafficLock::take()
        {
            let _ = pin_dir::remove(&self.directory);
        }
    }
}

fn identity(path: &Path) -> io::Result<u64> {
    fs::symlink_metadata(path).map(|found| found.ino())
}
