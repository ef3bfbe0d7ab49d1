//! The thread that answers workers.

use sameport_linux::seccomp::{Listener, Readiness};
use sameport_rules::bind::Ports;
use sameport_rules::calls::Machine;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::asking::{self, Answer};
use super::supervisor::News;

/// Answers the workers on a thread of its own, until none is left. A call that is not taken yet can
/// be interrupted by a signal (EINTR, unless SA_RESTART), so it must not wait for our other work.
pub(super) fn answer_beside(
    listeners: Vec<Listener>,
    machine: Machine,
    ports: &Ports,
    news: &mpsc::Sender<News>,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let context = runtime.enter();
    let attending = listeners
        .into_iter()
        .map(|listener| {
            let listener = listener.watched()?;
            Ok(tokio::spawn(attend(listener, machine, ports.clone(), news.clone())))
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

/// Answers one worker's calls until no process with its filter is left.
async fn attend(
    listener: AsyncFd<Listener>,
    machine: Machine,
    ports: Ports,
    news: mpsc::Sender<News>,
) -> std::io::Result<()> {
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
                match asking::answer(listener, &notification, machine, &ports)? {
                    Answer::Done => {}
                    // A full channel loses a report, never an answer.
                    answer => drop(news.try_send(News::Answered(answer))),
                }
                taken = taken.wrapping_add(1);
                if taken.is_multiple_of(TURN) {
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}
