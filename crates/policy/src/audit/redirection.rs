//! Programs that choose a socket before the kernel looks for one.

use super::fix::Fix;
use super::{AuditFacts, Finding, FindingKind, Severity};

pub(super) fn findings(facts: &AuditFacts) -> Vec<Finding> {
    facts
        .redirections
        .iter()
        .map(|redirection| Finding {
            kind: FindingKind::Redirected,
            severity: Severity::Warning,
            port: None,
            intruder: None,
            owner: None,
            bpf_program: Some(redirection.program),
            fix: Fix::ShowBpfProgram(redirection.program),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::audit::{AuditFacts, Redirection, audit};

    #[test]
    fn each_is_told() {
        let redirections = vec![Redirection { program: 7 }, Redirection { program: 9 }];
        let found = audit(&AuditFacts { redirections, ..AuditFacts::default() });
        let programs: Vec<_> = found.iter().map(|finding| finding.bpf_program).collect();
        assert_eq!(programs, [Some(7), Some(9)]);
    }
}
