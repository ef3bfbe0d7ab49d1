//! Output of the trap programs: a line a case, `CASE RESULT SHARED`.

use super::{Exited, User};

/// Both processes exit with 0. The output of `shared` is `expected`; that of `bare` is the same
/// with every socket unshared.
#[track_caller]
pub(crate) fn differ_in_sharing_only(
    user: User,
    bare: &Exited,
    shared: &Exited,
    expected: &[&str],
) {
    let unshared: Vec<String> = expected.iter().map(|line| line.replace(" yes", " no")).collect();
    for (how, exited, expected) in [
        ("bare", bare, unshared.iter().map(String::as_str).collect()),
        ("shared", shared, expected.to_vec()),
    ] {
        assert_eq!(
            exited.stdout.lines().collect::<Vec<_>>(),
            expected,
            "{how}, {user:?}: {exited:?}"
        );
        assert_eq!(exited.code, 0, "{how}, {user:?}: {exited:?}");
    }
}

/// The output of `trap_address`, except for the one case that differs between interposers.
pub(crate) fn addresses(v6_on_v4: &str) -> Vec<&str> {
    vec![
        "good 0 yes",
        "null EFAULT no",
        "unmapped EFAULT no",
        "kernel-address EFAULT no",
        "non-canonical EFAULT no",
        "protected EFAULT no",
        "page-end 0 yes",
        "across-page-end EFAULT no",
        "null-and-length-0 EINVAL no",
        "length-0 EINVAL no",
        "length-1 EINVAL no",
        "length-15 EINVAL no",
        "length-17 0 yes",
        "length-128 0 yes",
        "length-129 EINVAL no",
        "length-minus-1 EINVAL no",
        "length-int-min EINVAL no",
        "length-int-max EINVAL no",
        "length-above-32-bits 0 yes",
        "unspec-loopback EAFNOSUPPORT no",
        "unspec-any 0 yes",
        "unix-on-tcp EAFNOSUPPORT no",
        "family-65535 EAFNOSUPPORT no",
        v6_on_v4,
        "not-local EADDRNOTAVAIL yes",
        "port-0 0 no",
        "v6-without-scope 0 yes",
        "v6-too-short EINVAL no",
        "no-socket ENOTSOCK -",
        "path-only EBADF -",
        "closed EBADF -",
        "minus-1 EBADF -",
        "int-min EBADF -",
        "int-max EBADF -",
        "descriptor-above-32-bits 0 yes",
        "twice EINVAL yes",
        "after 0 yes",
    ]
}
