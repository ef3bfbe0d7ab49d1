//! The seccomp interposer: workers under a filter, answered by a thread beside the supervisor.

pub(crate) mod caller;
pub(crate) mod handler;
pub(crate) mod pending;

use std::sync::Arc;
use std::thread::JoinHandle;

use sameport_policy::seccomp::calls::Architecture;
use sameport_policy::seccomp::filter;
use sameport_policy::seccomp::filter::FilterOptions;
use sameport_sys::process;
use sameport_sys::process::SpawnOptions;
use sameport_sys::seccomp::{FilterInstall, ListenerState, NotifyListener};
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::sync::mpsc::{self, Sender, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinSet;

use crate::bind_options::{BindOptions, OptionUsage};
use crate::error::RunError;
use crate::group_check::GroupCheck;
use crate::plan::RunPlan;
use crate::pool::WorkerSockets;
use crate::report::Report;
use handler::NotificationHandler;
use pending::KeptSockets;

/// What is put on each worker, and who answers it.
#[derive(Debug)]
pub(crate) struct SeccompInterposer {
    installation: FilterInstall,
    machine: Architecture,
    wishes: BindOptions,
    used: OptionUsage,
    joining: GroupCheck,
    owner: Option<u32>,
    bound: KeptSockets,
    answering: Option<HandlerThread>,
}

/// The way to the thread that answers.
#[derive(Debug)]
struct HandlerThread {
    handle: Handle,
    news: Sender<Report>,
    workers: UnboundedSender<(AsyncFd<NotifyListener>, NotificationHandler)>,
    stop: Arc<Notify>,
    thread: JoinHandle<()>,
}

impl SeccompInterposer {
    pub(crate) fn new(plan: &RunPlan, used: OptionUsage) -> Result<Self, RunError> {
        let keeps_privileges = process::has_cap_sys_admin();
        if !keeps_privileges && !plan.give_up_privileges {
            refuse_loss(plan)?;
        }
        sameport_sys::socket::check_worker_access()
            .map_err(|(call, errno)| RunError::WorkerAccess(call, errno))?;
        let machine =
            Architecture::named(std::env::consts::ARCH).ok_or(RunError::UnknownArchitecture)?;
        let stops = FilterOptions {
            io_uring: plan.io_uring,
            connections: plan.bind_options.source.is_some(),
            shutdowns: plan.named.as_ref().is_some_and(|named| named.hold),
        };
        let program = filter::program(machine, stops);
        Ok(Self {
            installation: FilterInstall::new(&program, !keeps_privileges),
            machine,
            wishes: plan.bind_options.clone(),
            used,
            joining: GroupCheck::new(plan),
            owner: plan.owner(),
            bound: KeptSockets::default(),
            answering: None,
        })
    }

    pub(crate) fn bound(&self) -> KeptSockets {
        self.bound.clone()
    }

    pub(crate) fn setting(&self) -> SpawnOptions<'_> {
        SpawnOptions {
            filter: Some(&self.installation),
            // It is for us that we have it.
            drop_chown: self.owner.is_some(),
            ..SpawnOptions::default()
        }
    }

    /// Starts the thread that answers workers. A call that is not taken yet can be interrupted by a
    /// signal (EINTR, unless SA_RESTART), so it must not wait for our other work. It ends when no
    /// worker is left after [`Self::no_more`].
    pub(crate) fn attend(&mut self, news: &Sender<Report>) -> std::io::Result<()> {
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
        self.answering = Some(HandlerThread { handle, news: news.clone(), workers, stop, thread });
        Ok(())
    }

    /// Ends the thread. Calls that have not been taken wait for whoever takes them.
    pub(crate) fn stop(&mut self) {
        if let Some(HandlerThread { workers, stop, thread, .. }) = self.answering.take() {
            stop.notify_one();
            drop(workers);
            // It has nothing to say, and a panic in it is not ours.
            let _ = thread.join();
        }
    }

    /// Answers one more worker.
    pub(crate) fn answer(
        &self,
        listener: NotifyListener,
        holding: Option<WorkerSockets>,
    ) -> std::io::Result<()> {
        let Some(HandlerThread { handle, news, workers, .. }) = &self.answering else {
            return Ok(());
        };
        let answering = NotificationHandler {
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
        let listener = listener.into_async()?;
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
async fn attend_all(mut new: UnboundedReceiver<(AsyncFd<NotifyListener>, NotificationHandler)>) {
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
fn refuse_loss(plan: &RunPlan) -> Result<(), RunError> {
    match plan.locate().and_then(|path| Some((process::file_capability(&path)?, path))) {
        Some((gain, path)) => Err(RunError::LosesPrivilege(path, gain)),
        None => Ok(()),
    }
}

/// Answers one worker's calls until no process with its filter is left.
async fn attend(
    listener: AsyncFd<NotifyListener>,
    answering: NotificationHandler,
) -> std::io::Result<()> {
    /// How many calls in a row, before other workers have their turn.
    const TURN: u8 = 16;
    let mut taken = 0u8;
    loop {
        let mut ready = listener.readable().await?;
        let listener = ready.get_inner();
        match listener.readiness()? {
            ListenerState::Idle => ready.clear_ready(),
            ListenerState::Closed => return Ok(()),
            ListenerState::Notification => {
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
