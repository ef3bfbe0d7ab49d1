//! Frames and the results of actions, as they come, with a descriptor that wakes the reader.

use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use super::actions::TopAction;
use super::{TopRequest, TopSample, TopSource};
use crate::operations::list::Error;

/// A look takes at most this part of the time: the pause after it is at least four times as long.
const PAUSES: u32 = 4;

/// News for the screen.
pub(crate) enum TopNews {
    /// A frame, or why there is none.
    Sample(Result<TopSample, Error>),
    /// The result of an action.
    Done(String),
}

/// Makes frames in a thread, and carries out actions in threads.
pub(crate) struct TopFeed {
    news: Receiver<TopNews>,
    sender: NewsSender,
    wake: PipeReader,
    /// Asks for a look before its time.
    soon: Sender<()>,
    looks: JoinHandle<()>,
}

/// Sends news, and wakes the reader.
#[derive(Clone)]
struct NewsSender {
    news: Sender<TopNews>,
    wake: Arc<Mutex<PipeWriter>>,
}

impl NewsSender {
    /// Whether the screen still reads the looks.
    fn send(&self, news: TopNews) -> bool {
        let is_read = self.news.send(news).is_ok();
        let mut wake = self.wake.lock().unwrap_or_else(PoisonError::into_inner);
        // The reader reads a byte for each piece of news, so the pipe never fills.
        is_read && wake.write_all(&[0]).is_ok()
    }
}

impl TopFeed {
    /// Starts the looks.
    ///
    /// # Errors
    ///
    /// EMFILE, ENFILE: too many open descriptors. EAGAIN: no more threads.
    pub(crate) fn start(request: TopRequest) -> io::Result<Self> {
        let (wake, writer) = io::pipe()?;
        let (sender, news) = channel();
        let (soon, asked) = channel::<()>();
        let sender = NewsSender { news: sender, wake: Arc::new(Mutex::new(writer)) };
        let own = sender.clone();
        let looks = move || {
            let interval = request.interval;
            let mut source = TopSource::new(request);
            loop {
                let begun = Instant::now();
                if !own.send(TopNews::Sample(source.sample())) {
                    return;
                }
                let cost = begun.elapsed();
                let pause = interval.saturating_sub(cost).max(cost * PAUSES);
                match asked.recv_timeout(pause) {
                    Ok(()) => source.ask_runs(),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        };
        let looks = std::thread::Builder::new().name("looks".into()).spawn(looks)?;
        Ok(Self { news, sender, wake, soon, looks })
    }

    /// The next news, without waiting.
    pub(crate) fn next(&mut self) -> Option<TopNews> {
        let news = self.news.try_recv().ok()?;
        let _ = self.wake.read(&mut [0]);
        Some(news)
    }

    /// Whether the thread of the looks has ended, which only a panic does.
    pub(crate) fn is_over(&self) -> bool {
        self.looks.is_finished()
    }

    /// Carries out an action in a thread. Its result is news.
    pub(crate) fn carry_out(&self, action: TopAction) {
        let sender = self.sender.clone();
        let soon = self.soon.clone();
        let act = move || {
            sender.send(TopNews::Done(action.carry_out()));
            let _ = soon.send(());
        };
        if let Err(error) = std::thread::Builder::new().name("action".into()).spawn(act) {
            self.sender.send(TopNews::Done(format!("no thread can be started: {error}")));
        }
    }
}

impl AsFd for TopFeed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

/// One frame with rates: two looks, an interval apart.
///
/// # Errors
///
/// When the sockets cannot be listed.
pub(crate) fn once(request: TopRequest) -> Result<TopSample, Error> {
    let interval = request.interval;
    let mut source = TopSource::new(request);
    source.wait_for_runs();
    source.sample()?;
    std::thread::sleep(interval);
    source.sample()
}
