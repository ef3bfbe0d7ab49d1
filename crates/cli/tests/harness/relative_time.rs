//! Speed beside a reference, because no absolute time holds on every machine.

use std::time::Instant;

/// Other processes can take the processor during any one pair, but not during all of them.
const PAIRS: usize = 20;

/// Runs the reference and the subject in turn. True if the subject of one pair took at most
/// `factor` times as long as its reference, so that a subject which always waits is never quick.
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
