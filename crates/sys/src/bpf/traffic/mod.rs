//! Traffic: which member of a port gets the next connection, chosen in the kernel by eBPF.
//!
//! The state of a port is a directory of pinned maps ([`TrafficKey::path`]), which no process has to keep. An
//! `sk_reuseport` program, attached to each group of the port, chooses by the maps (`bpf/traffic.bpf.c`).
//! Programs at the root cgroup count connections, adopt sockets that begin to listen, and take out those
//! that are closed (`bpf/traffic_count.bpf.c`). `object` loads both, `prepared` before a lock is taken, `install`
//! makes a state of them, `pins` names and locks the directories, `state` changes the maps, `table` turns a plan into
//! what a choice reads, `names` lets connection ids name sockets, `control` changes a state for a command, `snapshot`
//! reads the counts.
//!
//! Needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON in the initial user namespace, cgroup v2, a BPF file system
//! and Linux 5.15 (`bpf_get_netns_cookie` for sockops). With BTF and without lockdown a choice also looks at
//! the accept queue of the member, and leaves out one that is full, or from which nothing is accepted. Sources:
//! net/core/sock_reuseport.c, net/core/filter.c (`sk_select_reuseport`), net/core/sock_map.c.

mod available;
mod control;
mod error;
mod existing;
mod in_force;
mod install;
mod layout;
mod lock_wait;
mod mapping;
mod names;
mod object;
mod pins;
mod prepared;
mod probes;
mod program;
mod snapshot;
mod state;
mod table;
#[cfg(test)]
mod tests;
mod timing;
#[cfg(test)]
mod udp_tests;

pub use available::{check_extended_tier, queues_are_read};
pub use control::TrafficOrder;
pub use error::TrafficError;
pub use in_force::{ExtendedProgram, GroupProgram, OtherProgram, SteeredGroup};
pub use pins::TrafficKey;
pub use prepared::PreparedTraffic;
pub use program::TrafficProgram;
pub use snapshot::{MemberCounts, TrafficCounts};
pub use state::TrafficState;
pub use timing::{ChoiceTimes, ProgramTimer};
