//! Durations relative to a reference, because absolute durations differ between machines.

use std::time::Instant;

/// Other processes disturb some pairs, but not all.
const PAIRS: usize = 20;

/// Runs pairs of reference and subject. True if the subject of one pair took at most `factor` times
/// as long as the reference. A subject that always waits is never within the factor.
pub(crate) fn is_within_factor(
    mut reference: impl FnMut(),
    factor: u32,
    mut subject: impl FnMut(),
) -> bool {
    (0..PAIRS).any(|_| {
        let begin = Instant::now();
        reference();
        let most = begin.elapsed() * factor;
        let begin = Instant::now();
        subject();
        begin.elapsed() <= most
    })
}
