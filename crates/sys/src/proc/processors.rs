//! The processors of the machine.

use std::fs;
use std::path::Path;

use sameport_policy::traffic::Processor;

const PROCESSORS: &str = "/sys/devices/system/cpu";

/// The processors that are online, each with its NUMA node; node 0 on a machine without NUMA. Empty if
/// `/sys` is not mounted. Source: `Documentation/ABI/testing/sysfs-devices-system-cpu`.
#[must_use]
pub fn processors() -> Vec<Processor> {
    let online = fs::read_to_string(format!("{PROCESSORS}/online")).unwrap_or_default();
    numbers(&online)
        .map(|number| Processor { number, node: node_of(number).unwrap_or(0) })
        .collect()
}

/// The directory of a processor has a link `nodeN`.
fn node_of(processor: u32) -> Option<u32> {
    let directory = format!("{PROCESSORS}/cpu{processor}");
    let mut entries = fs::read_dir(Path::new(&directory)).ok()?.flatten();
    entries.find_map(|entry| entry.file_name().to_str()?.strip_prefix("node")?.parse().ok())
}

/// The numbers of a list such as `0-3,8`.
fn numbers(list: &str) -> impl Iterator<Item = u32> {
    /// NR_CPUS is at most 8,192 in `arch/x86/Kconfig`.
    const MOST: u32 = 8192;
    let ranges = list.trim().split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse::<u32>().ok()?.min(MOST))
    });
    ranges.flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_ranges_and_numbers() {
        let read = |list| numbers(list).collect::<Vec<_>>();
        assert_eq!(read("0-3,8\n"), [0, 1, 2, 3, 8]);
        assert_eq!(read("5"), [5]);
        assert_eq!(read("\n"), [0; 0]);
        assert_eq!(read("3-1,x,2-"), [0; 0]);
    }

    #[test]
    fn this_machine_has_a_processor() {
        assert!(!processors().is_empty());
    }
}
