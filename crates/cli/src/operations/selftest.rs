//! Runs the table of the kernel's own rules on the kernel at hand.

use sameport_policy::kernel_rules::model::{Proto, Row};
use sameport_policy::kernel_rules::{TABLE, Verdict, name};
use sameport_sys::kernel_rules;
use sameport_sys::kernel_rules::Rights;

/// A row, with one of its protocols.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chosen {
    row: &'static Row,
    proto: Proto,
}

impl Chosen {
    pub(crate) fn name(&self) -> String {
        name(self.row, self.proto)
    }

    /// What it shows, in the table's words.
    pub(crate) fn shows(&self) -> &'static str {
        self.row.shows
    }
}

/// How many rows ended how.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) agree: usize,
    pub(crate) differ: usize,
    pub(crate) skipped: usize,
    pub(crate) broken: usize,
}

impl Counts {
    pub(crate) fn all(&self) -> usize {
        self.agree + self.differ + self.skipped + self.broken
    }

    /// Whether not one row could be run to its end.
    pub(crate) fn nothing_ran(&self) -> bool {
        self.agree + self.differ == 0
    }
}

/// The rows whose name has one of these parts; with none, all.
pub(crate) fn choose(parts: &[String]) -> Vec<Chosen> {
    let rows = TABLE.iter().copied().flatten();
    rows.flat_map(|row| row.over.iter().map(move |&proto| Chosen { row, proto }))
        .filter(|chosen| {
            parts.is_empty() || parts.iter().any(|part| chosen.name().contains(part.as_str()))
        })
        .collect()
}

/// Runs them one after the other. To be called by the only thread, which afterwards is in a network of
/// its own, where that was possible.
pub(crate) fn run(chosen: &[Chosen], tell: &mut dyn FnMut(&Chosen, &Verdict)) -> Counts {
    let rights = Rights::probe();
    let mut counts = Counts::default();
    for one in chosen {
        let verdict = kernel_rules::run(&rights, one.row, one.proto);
        match &verdict {
            Verdict::Agrees(_) => counts.agree += 1,
            Verdict::Differs(_) => counts.differ += 1,
            Verdict::Skipped(_) => counts.skipped += 1,
            Verdict::Broken(_) => counts.broken += 1,
        }
        tell(one, &verdict);
    }
    counts
}

/// The kernel's release, such as `6.18.2`.
pub(crate) fn kernel() -> String {
    sameport_sys::kernel_release()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_names_choose_rows() {
        let of = |parts: &[&str]| {
            let parts: Vec<_> = parts.iter().map(|part| (*part).to_owned()).collect();
            choose(&parts).len()
        };
        assert!(of(&[]) > 100 && of(&["tcp/"]) < of(&[]) && of(&["no such row"]) == 0);
        assert_eq!(of(&["udp/rp-rp-root-joins-user"]), 1);
        assert_eq!(of(&["udp/rp-rp-root-joins-user", "tcp/rp-rp-root-joins-user"]), 2);
    }

    #[test]
    fn no_two_rows_have_one_name() {
        let mut names: Vec<_> = choose(&[]).iter().map(Chosen::name).collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
