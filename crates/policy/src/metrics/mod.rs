//! The metrics of `sameport metrics`: what exists, what a set of samples is, and the numbers of addresses.

mod addresses;
mod catalog;
mod drops;
mod samples;
#[cfg(test)]
mod tests;

pub use addresses::{AddressFacts, AddressFilter, AddressNumbers, AddressReport, addresses};
pub use catalog::*;
pub use drops::DropTotals;
pub use samples::{Histogram, MetricSet, MetricValue};
