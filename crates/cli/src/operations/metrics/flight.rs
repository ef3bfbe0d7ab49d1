//! One piece of work for all clients that ask for its result meanwhile.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// A result that is not older than this is given again: clients that ask all the time cost the supervisors
/// ten answers a second.
const FRESH: Duration = Duration::from_millis(100);

/// The work in progress, and its last result.
#[derive(Debug)]
pub(super) struct Flight<T> {
    state: Arc<Mutex<FlightState<T>>>,
}

#[derive(Debug)]
struct FlightState<T> {
    current: Option<watch::Receiver<Option<T>>>,
    last: Option<(Instant, T)>,
}

impl<T> Default for Flight<T> {
    fn default() -> Self {
        Self { state: Arc::new(Mutex::new(FlightState { current: None, last: None })) }
    }
}

impl<T: Clone + Send + Sync + 'static> Flight<T> {
    /// The result of the work, which is begun unless it is in progress or just over. `None` if it panicked.
    /// To be called within a tokio runtime.
    pub(super) async fn result(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let mut receiver = {
            let mut state = lock(&self.state);
            if let Some((at, result)) = &state.last
                && at.elapsed() < FRESH
            {
                return Some(result.clone());
            }
            match &state.current {
                Some(receiver) => receiver.clone(),
                None => {
                    let (sender, receiver) = watch::channel(None);
                    state.current = Some(receiver.clone());
                    self.begin(work, sender);
                    receiver
                }
            }
        };
        let result = receiver.wait_for(Option::is_some).await;
        result.ok().and_then(|result| result.clone())
    }

    fn begin(&self, work: impl FnOnce() -> T + Send + 'static, sender: watch::Sender<Option<T>>) {
        let landing = Landing(self.state.clone());
        tokio::task::spawn_blocking(move || {
            let result = work();
            lock(&landing.0).last = Some((Instant::now(), result.clone()));
            drop(landing);
            sender.send_replace(Some(result));
        });
    }
}

/// Ends the work in progress, also when it panics.
struct Landing<T>(Arc<Mutex<FlightState<T>>>);

impl<T> Drop for Landing<T> {
    fn drop(&mut self) {
        lock(&self.0).current = None;
    }
}

fn lock<T>(state: &Mutex<FlightState<T>>) -> MutexGuard<'_, FlightState<T>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn within<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work)
    }

    #[test]
    fn one_result_serves_all_who_wait() {
        let (flight, count) = (Flight::default(), Arc::new(AtomicUsize::new(0)));
        let (begin, may_begin) = std::sync::mpsc::channel::<()>();
        let may_begin = Mutex::new(may_begin);
        let own = count.clone();
        let slow = move || {
            let _ = lock_channel(&may_begin).recv();
            own.fetch_add(1, Ordering::SeqCst)
        };
        within(async {
            let first = flight.result(slow);
            let others = async {
                tokio::task::yield_now().await;
                let more = (0..50).map(|_| flight.result(|| 99));
                let more: Vec<_> = more.collect();
                drop(begin);
                for it in more {
                    assert_eq!(it.await, Some(0));
                }
            };
            assert_eq!(tokio::join!(first, others).0, Some(0));
        });
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    fn lock_channel<T>(channel: &Mutex<T>) -> MutexGuard<'_, T> {
        channel.lock().unwrap()
    }

    #[test]
    fn a_panic_ends_the_work_and_the_next_client_begins_it_again() {
        let flight = Flight::default();
        within(async {
            assert_eq!(flight.result(|| panic!("on purpose")).await, None::<u32>);
            assert_eq!(flight.result(|| 7).await, Some(7));
        });
    }
}
