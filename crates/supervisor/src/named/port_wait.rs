//! Workers that wait for an address which another program holds.

use std::time::Duration;

use sameport_policy::lifecycle::HeldPort;

use super::NamedRun;
use crate::held_ports::{HeldAddress, INTERVAL, MOST, other_holder};
use crate::monitor::Monitor;

impl NamedRun<'_> {
    /// When to call [`Self::check_ports`] next.
    pub(super) fn next_port_check(&self) -> Option<Duration> {
        let waits = !self.lifecycle.awaited_ports().is_empty();
        waits.then_some(self.schedule.ports.next_check)
    }

    /// Reports to the lifecycle the refusals of binds that another program causes.
    pub(super) fn take_refusals(&mut self, monitor: &mut Monitor<'_>) {
        let now = monitor.now();
        for (address, refusal) in monitor.take_refusals() {
            self.control.counters.refused += 1;
            let Some((holder, inode)) = other_holder(&refusal) else { continue };
            let port = HeldPort { address: address.to_string(), holder };
            let ports = &mut self.schedule.ports;
            if ports.held.len() < MOST {
                ports.held.insert(port.address.clone(), HeldAddress { address, inode });
            }
            let actions = self.lifecycle.port_held(&port, now);
            self.execute(actions, now);
        }
    }

    /// Starts the workers whose address is free.
    pub(super) fn check_ports(&mut self, monitor: &mut Monitor<'_>) {
        let now = monitor.now();
        if now < self.schedule.ports.next_check {
            return;
        }
        let awaited = self.lifecycle.awaited_ports();
        self.schedule.ports.next_check = now + INTERVAL;
        for name in &awaited {
            let held = self.schedule.ports.held.get(name);
            if held.is_some_and(|held| held.is_held(&self.pool)) {
                continue;
            }
            if let Some(held) = self.schedule.ports.held.remove(name) {
                // The next refusal has another reason.
                monitor.forget_refusal(&held.address);
            }
            let actions = self.lifecycle.port_free(name, now);
            self.execute(actions, now);
        }
    }
}
