//! Settings of the machine that restrict even root: Yama's `ptrace_scope` and the kernel's lockdown.

/// Whether Yama lets a supervisor duplicate the descriptors of its workers (`pidfd_getfd(2)`) and read their
/// memory. `scope`: `kernel.yama.ptrace_scope`, `None` without Yama; `capable`: CAP_SYS_PTRACE.
///
/// Source: `yama_ptrace_access_check` in `security/yama/yama_lsm.c`.
#[must_use]
pub fn may_trace_workers(scope: Option<u8>, capable: bool) -> bool {
    match scope {
        // At 1 a process may trace its descendants.
        None | Some(0 | 1) => true,
        Some(2) => capable,
        Some(_) => false,
    }
}

/// The kernel's lockdown: `kernel_lockdown(7)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lockdown {
    /// Off.
    None,
    /// No user may change the kernel.
    Integrity,
    /// Nor read its memory: eBPF programs that call `bpf_probe_read_kernel` are refused, with EPERM or EINVAL.
    Confidentiality,
}

impl Lockdown {
    /// Reads `/sys/kernel/security/lockdown`: `none [integrity] confidentiality`.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let (_, rest) = text.split_once('[')?;
        match rest.split_once(']')?.0 {
            "none" => Some(Self::None),
            "integrity" => Some(Self::Integrity),
            "confidentiality" => Some(Self::Confidentiality),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yama_decides_by_scope_and_capability() {
        for (scope, without, with) in [
            (None, true, true),
            (Some(0), true, true),
            (Some(1), true, true),
            (Some(2), false, true),
            (Some(3), false, false),
            (Some(4), false, false),
        ] {
            let found = (may_trace_workers(scope, false), may_trace_workers(scope, true));
            assert_eq!(found, (without, with), "{scope:?}");
        }
    }

    #[test]
    fn the_bracketed_word_is_the_lockdown() {
        for (text, expected) in [
            ("[none] integrity confidentiality\n", Some(Lockdown::None)),
            ("none [integrity] confidentiality\n", Some(Lockdown::Integrity)),
            ("none integrity [confidentiality]\n", Some(Lockdown::Confidentiality)),
            ("none integrity confidentiality", None),
            ("[other]", None),
            ("", None),
        ] {
            assert_eq!(Lockdown::read(text), expected, "{text}");
        }
    }
}
