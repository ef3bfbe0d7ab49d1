//! The seccomp interposer: workers under a filter, answered by a thread beside the supervisor.

use sameport_linux::seccomp::{Installation, Listener, Readiness};
use sameport_linux::worker::{self, Setting};
use sameport_rules::calls::Machine;
use sameport_rules::filter::{self, Stops};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::Sender;

use super::asking::Answering;
use super::outcome::Bound;
use super::supervisor::News;
use super::{Error, Plan, Used, Wishes};

/// What is put on each worker, and who answers it.
#[derive(Debug)]
pub(super) struct Seccomp {
    installation: Installation,
    machine: Machine,
    wishes: Wishes,
    used: Used,
    bound: Bound,
}

impl Seccomp {
    pub(super) fn new(plan: &Plan, used: Used) -> Result<Self, Error> {
        let keeps_privileges = worker::may_filter_with_privileges();
        if !keeps_privileges && !plan.give_up_privileges {
            refuse_loss(plan)?;
        }
        worker::try_reaching_ourselves()
            .map_err(|(call, errno)| Error::CannotReach(call, errno))?;
        let machine = Machine::named(std::env::consts::ARCH).ok_or(Error::UnknownMachine)?;
        let stops = Stops { io_uring: plan.io_uring, connections: plan.wishes.source.is_some() };
        let program = filter::program(machine, stops);
        Ok(Self {
            installation: Installation::new(&program, !keeps_privileges),
            machine,
            wishes: plan.wishes.clone(),
            used,
            bound: Bound::default(),
        })
    }

    pub(super) fn bound(&self) -> Bound {
        self.bound.clone()
    }

    pub(super) fn setting(&self) -> Setting<'_> {
        Setting { filter: Some(&self.installation), ..Setting::default() }
    }

    /// Answers the workers on a thread of its own, until none is left. A call that is not taken yet
    /// can be interrupted by a signal (EINTR, unless SA_RESTART), so it must not wait for our other
    /// work.
    pub(super) fn attend(
        &self,
        listeners: Vec<Listener>,
        news: &Sender<News>,
    ) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let context = runtime.enter();
        let attending = listeners
            .into_iter()
            .map(|listener| {
                let answering = Answering {
                    machine: self.machine,
                    wishes: self.wishes.clone(),
                    used: self.used.clone(),
                    news: news.clone(),
                    bound: self.bound.clone(),
                };
                Ok(tokio::spawn(attend(listener.watched()?, answering)))
            })
            .collect::<std::io::Result<Vec<_>>>()?;
        drop(context);
        let answering = move || {
            runtime.block_on(async {
                for listener in attending {
                    // What ended one listener's task is no reason to leave the others' unanswered.
                    drop(listener.await);
                }
            });
        };
        std::thread::Builder::new().name("answering".into()).spawn(answering).map(drop)
    }
}

/// A program that would silently lack its privileges is not started.
fn refuse_loss(plan: &Plan) -> Result<(), Error> {
    match plan.locate().and_then(|path| Some((worker::gains_privilege(&path)?, path))) {
        Some((gain, path)) => Err(Error::LosesPrivilege(path, gain)),
        None => Ok(()),
    }
}

/// Answers one worker's calls until no process with its filter is left.
async fn attend(listener: AsyncFd<Listener>, answering: Answering) -> std::io::Result<()> {
    /// How many calls in a row, before other workers have their turn.
    const TURN: u8 = 16;
    let mut taken = 0u8;
    loop {
        let mut ready = listener.readable().await?;
        let listener = ready.get_inner();
        match listener.readiness()? {
            Readiness::Nothing => ready.clear_ready(),
            Readiness::Over => return Ok(()),
            Readiness::Notification => {
                let Some(notification) = listener.receive()? else { continue };
                answering.answer(listener, &notification)?;
                taken = taken.wrapping_add(1);
                if taken.is_multiple_of(TURN) {
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}
