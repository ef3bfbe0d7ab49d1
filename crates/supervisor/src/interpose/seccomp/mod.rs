//! The seccomp interposer: workers under a filter, answered by a thread beside the supervisor.

pub(crate) mod caller;
pub(crate) mod handler;
pub(crate) mod pending;

use std::sync::Arc;
use std::thread::JoinHandle;

use sameport_policy::seccomp::calls::Machine;
use sameport_policy::seccomp::filter;
use sameport_policy::seccomp::filter::Stops;
use sameport_sys::process;
use sameport_sys::process::Setting;
use sameport_sys::seccomp::{Installation, Listener, Readiness};
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::sync::mpsc::{self, Sender, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinSet;

use crate::group_check::Joining;
use crate::monitor::News;
use crate::named::Holding;
use crate::{Error, Plan, Used, Wishes};
use handler::Answering;
use pending::Bound;

/// What is put on each worker, and who answers it.
#[derive(Debug)]
pub(crate) struct Seccomp {
    installation: Installation,
    machine: Machine,
    wishes: Wishes,
    used: Used,
    joining: Joining,
    owner: Option<u32>,
    bound: Bound,
    answering: Option<ToAnswer>,
}

/// The way to the thread that answers.
#[derive(Debug)]
struct ToAnswer {
    handle: Handle,
    news: Sender<News>,
    workers: UnboundedSender<(AsyncFd<Listener>, Answering)>,
    stop: Arc<Notify>,
    thread: JoinHandle<()>,
}

impl Seccomp {
    pub(crate) fn new(plan: &Plan, used: Used) -> Result<Self, Error> {
        let keeps_privileges = process::may_filter_with_privileges();
        if !keeps_privileges && !plan.give_up_privileges {
            refuse_loss(plan)?;
        }
        process::try_reaching_ourselves()
            .map_err(|(call, errno)| Error::CannotReach(call, errno))?;
        let machine = Machine::named(std::env::consts::ARCH).ok_or(Error::UnknownMachine)?;
        let stops = Stops {
            io_uring: plan.io_uring,
            connections: plan.wishes.source.is_some(),
            shutdowns: plan.named.as_ref().is_some_and(|named| named.hold),
        };
        let program = filter::program(machine, stops);
        Ok(Self {
            installation: Installation::new(&program, !keeps_privileges),
            machine,
            wishes: plan.wishes.clone(),
            used,
            joining: Joining::new(plan),
            owner: plan.owner(),
            bound: Bound::default(),
            answering: None,
        })
    }

    pub(crate) fn bound(&self) -> Bound {
        self.bound.clone()
    }

    pub(crate) fn setting(&self) -> Setting<'_> {
        Setting {
            filter: Some(&self.installation),
            // It is for us that we have it.
            keep_chown: self.owner.is_some(),
            ..Setting::default()
        }
    }

    /// Starts the thread that answers workers. A call that is not taken yet can be interrupted by a
    /// signal (EINTR, unless SA_RESTART), so it must not wait for our other work. It ends when no
    /// worker is left after [`Self::no_more`].
    pub(crate) fn attend(&mut self, news: &Sender<News>) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let (workers, new) = mpsc::unbounded_channel();
        let handle = runtime.handle().clone();
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let answering = move || {
            runtime.block_on(async {
                // Nobody is stopped between taking a call and answering it: nothing waits there.
                tokio::select! {
                    () = attend_all(new) => {}
                    () = stopped.notified() => {}
                }
            });
        };
        let thread = std::thread::Builder::new().name("answering".into()).spawn(answering)?;
        self.answering = Some(ToAnswer { handle, news: news.clone(), workers, stop, thread });
        Ok(())
    }

    /// Ends the thread. Calls that have not been taken wait for whoever takes them.
    pub(crate) fn stop(&mut self) {
        if let Some(ToAnswer { workers, stop, thread, .. }) = self.answering.take() {
            stop.notify_one();
            drop(workers);
            // It has nothing to say, and a panic in it is not ours.
            let _ = thread.join();
        }
    }

    /// Answers one more worker.
    pub(crate) fn answer(
        &self,
        listener: Listener,
        holding: Option<Holding>,
    ) -> std::io::Result<()> {
        let Some(ToAnswer { handle, news, workers, .. }) = &self.answering else { return Ok(()) };
        let answering = Answering {
            machine: self.machine,
            wishes: self.wishes.clone(),
            used: self.used.clone(),
            joining: self.joining.clone(),
            owner: self.owner,
            news: news.clone(),
            bound: self.bound.clone(),
            holding,
        };
        let context = handle.enter();
        let listener = listener.watched()?;
        drop(context);
        // The thread ends after us.
        drop(workers.send((listener, answering)));
        Ok(())
    }

    /// There will be no other worker.
    pub(crate) fn no_more(&mut self) {
        self.answering = None;
    }
}

/// Answers workers as they come, until none is left and no other can come.
async fn attend_all(mut new: UnboundedReceiver<(AsyncFd<Listener>, Answering)>) {
    let mut attending = JoinSet::new();
    loop {
        tokio::select! {
            worker = new.recv() => match worker {
                Some((listener, answering)) => drop(attending.spawn(attend(listener, answering))),
                None => break,
            },
            // What ended one listener's task is no reason to leave the others' unanswered.
            Some(_) = attending.join_next(), if !attending.is_empty() => {}
        }
    }
    while attending.join_next().await.is_some() {}
}

/// A program that would silently lack its privileges is not started.
fn refuse_loss(plan: &Plan) -> Result<(), Error> {
    match plan.locate().and_then(|path| Some((process::gains_privilege(&path)?, path))) {
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
