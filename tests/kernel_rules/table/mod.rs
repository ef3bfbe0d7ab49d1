//! The rows, one file a subject. Data only.

mod addresses;
mod changes;
mod groups;
mod lifetimes;
mod owners;
mod ports;
mod sharing;

use super::model::Row;

/// Every row, in the order in which the rows run.
pub(crate) const TABLE: &[&[Row]] = &[
    sharing::ROWS,
    addresses::ROWS,
    changes::ROWS,
    owners::ROWS,
    lifetimes::ROWS,
    groups::ROWS,
    ports::ROWS,
];
