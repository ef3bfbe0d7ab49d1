//! The result of a system call as the answer of a probe.

use std::io;

use sameport_policy::capability::question::ProbeAnswer;

/// Answers "can this process do it". Keeps apart, in the reason, a call that is not permitted here
/// and a kernel that does not have it.
pub(super) fn usable<T>(
    call: &str,
    result: io::Result<T>,
    detail: impl FnOnce(T) -> String,
) -> ProbeAnswer {
    match result {
        Ok(value) => ProbeAnswer::Yes(detail(value)),
        Err(error) => refused(call, &error)
            .unwrap_or_else(|| ProbeAnswer::Unknown(format!("{call}: {error}"))),
    }
}

/// Answers "does this kernel have it", about which a call that is not permitted proves nothing.
pub(super) fn present<T>(
    call: &str,
    result: io::Result<T>,
    detail: impl FnOnce(T) -> String,
) -> ProbeAnswer {
    match usable(call, result, detail) {
        ProbeAnswer::No(reason) if reason.starts_with(NOT_PERMITTED) => {
            ProbeAnswer::Unknown(reason)
        }
        answer => answer,
    }
}

/// How the reason begins where a call is not permitted.
pub(super) const NOT_PERMITTED: &str = "not permitted here";

/// The answer for the errors that have one meaning only.
fn refused(call: &str, error: &io::Error) -> Option<ProbeAnswer> {
    match error.raw_os_error()? {
        libc::ENOSYS | libc::EINVAL | libc::ENOPROTOOPT | libc::EOPNOTSUPP => {
            Some(ProbeAnswer::No(format!("this kernel does not have it: {call}: {error}")))
        }
        libc::EPERM | libc::EACCES => {
            Some(ProbeAnswer::No(format!("{NOT_PERMITTED}: {call}: {error}")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(errno: i32) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(errno))
    }

    #[test]
    fn a_refused_question_is_not_a_missing_feature() {
        let text = |()| String::new();
        let cases = [
            (libc::ENOSYS, "no", "no"),
            (libc::EINVAL, "no", "no"),
            (libc::EOPNOTSUPP, "no", "no"),
            (libc::EPERM, "no", "could not tell"),
            (libc::EACCES, "no", "could not tell"),
            (libc::EMFILE, "could not tell", "could not tell"),
        ];
        for (errno, use_it, have_it) in cases {
            let (usable, present) =
                (usable("call", failed(errno), text), present("call", failed(errno), text));
            assert_eq!((usable.to_string(), present.to_string()), (use_it.into(), have_it.into()));
            let permission = matches!(errno, libc::EPERM | libc::EACCES);
            for answer in [usable, present] {
                assert_eq!(answer.text().starts_with(NOT_PERMITTED), permission, "{answer:?}");
            }
        }
    }
}
