//! The model of `sameport top`: from successive looks at sockets, connections and runs to frames with rates,
//! states and totals, and from a frame to the rows that a screen shows.

mod connections;
mod facts;
mod frame;
mod history;
mod member_key;
mod rows;
mod stall;
#[cfg(test)]
mod tests;
mod weights;

pub(crate) use connections::{specificity, takes};
pub use facts::{TopConnection, TopListener, TopLook, TopPhase, TopTraffic, TopWorker};
pub use frame::{TopFrame, TopGroup, TopMember, TopState};
pub use history::TopHistory;
pub use member_key::{GroupKey, MemberKey};
pub use rows::{TopOrder, TopRow, TopView};
pub use weights::{selector, stepped_values};
