//! eBPF programs that select a socket before the kernel's lookup (`BPF_PROG_TYPE_SK_LOOKUP`).

use super::facts::AuditFacts;
use super::finding::{Finding, FindingKind, Fix, Severity};

pub(super) fn findings(facts: &AuditFacts) -> Vec<Finding> {
    let finding = |program| Finding {
        kind: FindingKind::Redirected,
        severity: Severity::Warning,
        port: None,
        intruder: None,
        owner: None,
        bpf_program: Some(program),
        fix: Fix::ShowBpfProgram(program),
    };
    facts.redirections.iter().map(|redirection| finding(redirection.program)).collect()
}

#[cfg(test)]
mod tests {
    use crate::audit::{AuditFacts, Redirection, audit};

    #[test]
    fn each_program_is_a_finding() {
        let redirections = vec![Redirection { program: 7 }, Redirection { program: 9 }];
        let found = audit(&AuditFacts { redirections, ..AuditFacts::default() });
        let programs: Vec<_> = found.iter().map(|finding| finding.bpf_program).collect();
        assert_eq!(programs, [Some(7), Some(9)]);
    }
}
