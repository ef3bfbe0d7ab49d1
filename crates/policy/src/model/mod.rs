//! Values that describe sockets, groups, units and names.

pub mod group;
pub mod name;
pub mod netns;
pub mod socket;
pub mod unit;
