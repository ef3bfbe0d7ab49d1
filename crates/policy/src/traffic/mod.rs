//! Selection of the member that receives a new connection.

pub mod steering;
