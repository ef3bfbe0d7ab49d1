//! A day of a fleet: a deployment on each machine, an upgrade of sameport on each, the end of a machine.

use super::{Clients, Counts, Lab, Machine, Parts, Variant};

/// How a day goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Day {
    pub(crate) variant: Variant,
    /// The machines that are changed, one after the other.
    pub(crate) changed: usize,
    /// The number of requests at least.
    pub(crate) requests: u64,
    /// The pause of a client after each request, in microseconds.
    pub(crate) pause: u32,
}

/// How long a machine announces that it leaves: more than two checks.
const ANNOUNCED: &str = "1s";

/// Runs the deployments of a day under the load of clients. Returns what became of their requests. `progress` gets each step,
/// and the requests until then.
///
/// # Errors
///
/// The first step that failed, with the output of everything. A lost request is no error.
pub(crate) fn run_day(
    parts: &Parts,
    day: Day,
    progress: &mut dyn FnMut(&str, &Counts),
) -> Result<Counts, String> {
    let mut lab = Lab::start(parts, day.variant)?;
    let clients = Clients::start(parts, &lab.balancer, day.pause)?;
    let done = steps(&mut lab, parts, &clients, day, progress);
    let counts = clients.end();
    done.and(counts).map_err(|error| {
        let machines: String = lab.machines.iter().map(Machine::log).collect();
        format!("{error}\n{machines}{}", lab.balancer.log())
    })
}

fn steps(
    lab: &mut Lab,
    parts: &Parts,
    clients: &Clients,
    day: Day,
    progress: &mut dyn FnMut(&str, &Counts),
) -> Result<(), String> {
    let Parts { sameport, newer, .. } = parts;
    let new = newer.to_string_lossy();
    let share = day.requests / 16;
    for machine in lab.machines.iter().take(day.changed) {
        machine.upgrade(sameport)?;
        clients.wait_for(share)?;
    }
    progress("servers upgraded", &clients.counts());
    for machine in lab.machines.iter().take(day.changed) {
        machine.leave(sameport, ANNOUNCED)?;
        lab.balancer.wait_for(machine.number, "DOWN")?;
        machine.run_server(sameport)?;
        lab.balancer.wait_for(machine.number, "UP")?;
        clients.wait_for(share)?;
    }
    progress("machines left, and came back", &clients.counts());
    for machine in lab.machines.iter().take(day.changed) {
        machine.sameport(sameport, &["reexec", "web", &new])?;
        clients.wait_for(share)?;
    }
    progress("sameport upgraded by reexec", &clients.counts());
    for machine in lab.machines.iter().take(day.changed) {
        machine.leave(newer, ANNOUNCED)?;
        machine.run_server(newer)?;
        lab.balancer.wait_for(machine.number, "UP")?;
        clients.wait_for(share)?;
    }
    progress("sameport upgraded by a new start", &clients.counts());
    if let Some(machine) = lab.machines.last_mut() {
        machine.die()?;
        clients.wait_for(share)?;
        lab.balancer.wait_for(machine.number, "DOWN")?;
    }
    clients.wait_for(share)?;
    progress("a machine died", &clients.counts());
    clients.wait_for(day.requests.saturating_sub(clients.answered()))
}
