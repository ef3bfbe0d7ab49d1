//! One attempt of a probe, and its time limits.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::time::timeout;

/// Pause between two attempts.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

/// Time limit of one attempt.
const ATTEMPT: Duration = Duration::from_secs(5);

/// An attempt without a result for this long is reported.
const PATIENCE: Duration = Duration::from_millis(500);

/// One attempt. If it takes long, `note` reports `pending`, which is the result if it does not end.
pub(super) async fn attempt(
    work: impl Future<Output = Result<(), String>>,
    pending: &str,
    note: impl Future<Output = ()>,
) -> Result<(), String> {
    let mut work = pin!(work);
    if let Ok(result) = timeout(PATIENCE, &mut work).await {
        return result;
    }
    note.await;
    timeout(ATTEMPT, work).await.unwrap_or_else(|_| Err(pending.to_owned()))
}
