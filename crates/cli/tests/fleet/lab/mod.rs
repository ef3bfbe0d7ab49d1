//! Three machines and a load balancer: network and pid namespaces of this kernel, joined by veth pairs. The tests
//! and `cargo xtask bench fleet` include this directory, so it needs the standard library only.
//!
//! A machine is a pid namespace: when its first process is killed, the kernel kills all others at once.

mod balancer;
mod clients;
mod machine;
pub(crate) mod parts;
pub(crate) mod story;

pub(crate) use balancer::{Balancer, Variant};
pub(crate) use clients::{Clients, Counts};
pub(crate) use machine::{Machine, Namespace};
use parts::MACHINES;
pub(crate) use parts::Parts;

/// The machines and the load balancer.
pub(crate) struct Lab {
    // Before the namespaces that they are in.
    pub(crate) balancer: Balancer,
    pub(crate) machines: Vec<Machine>,
}

impl Lab {
    /// Starts everything, and waits until HAProxy says that each machine is up.
    pub(crate) fn start(parts: &Parts, variant: Variant) -> Result<Self, String> {
        let hub = Namespace::start(&parts.environment)?;
        let mut machines = Vec::new();
        for number in 1..=MACHINES {
            let machine = Machine::start(parts, number, &hub)?;
            machine.run_server(&parts.sameport)?;
            machines.push(machine);
        }
        let balancer = Balancer::start(parts, hub, variant)?;
        let lab = Self { balancer, machines };
        for machine in &lab.machines {
            lab.balancer.wait_for(machine.number, "UP")?;
        }
        Ok(lab)
    }
}
