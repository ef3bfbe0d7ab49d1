//! Connections of readiness checks, which go to the member that is asked.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::SeqCst;

use super::error::TrafficError;
use super::layout::{MEMBERS, control};
use super::pins;
use super::state::TrafficState;

impl TrafficState {
    /// Sends connections from these source ports to the sockets with these cookies, and from no others: for
    /// readiness checks, which ask one member.
    ///
    /// # Errors
    ///
    /// [`TrafficError::Pin`].
    pub fn set_probes(&self, probes: &[(u16, u64)]) -> Result<(), TrafficError> {
        let numbers = self.numbers();
        let wanted: BTreeMap<u16, u32> = probes
            .iter()
            .filter_map(|(port, cookie)| Some((*port, *numbers.get(cookie)?)))
            .collect();
        let old = self.probes.keys(MEMBERS).map_err(self.call("bpf(BPF_MAP_GET_NEXT_KEY)"))?;
        for (port, number) in &wanted {
            self.probes
                .update(&port.to_ne_bytes(), &number.to_ne_bytes())
                .map_err(self.call("bpf(BPF_MAP_UPDATE_ELEM)"))?;
        }
        let count = u32::try_from(wanted.len()).unwrap_or(u32::MAX);
        self.control.u32(control::PROBES).store(count, SeqCst);
        for key in old {
            let port = key.as_slice().try_into().map(u16::from_ne_bytes).unwrap_or_default();
            if !wanted.contains_key(&port) {
                match self.probes.delete(&key) {
                    Err(error) if !pins::is_missing(&error) => {
                        return Err(self.call("bpf(BPF_MAP_DELETE_ELEM)")(error));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}
