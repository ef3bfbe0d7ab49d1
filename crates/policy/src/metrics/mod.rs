//! The metrics of `sameport metrics`: what exists, what a set of samples is, and the numbers of addresses.

mod addresses;
mod catalog;
mod readiness;
mod samples;
#[cfg(test)]
mod tests;
mod totals;

pub use addresses::{AddressFacts, AddressFilter, AddressNumbers, AddressReport, addresses};
pub use catalog::*;
pub use readiness::{ReadinessQuery, RunReadiness, readiness};
pub use samples::{Histogram, MetricSet, MetricValue};
pub use totals::CounterTotals;
