//! The facts about each system.

use sameport::{DualStack, Exclusive, JoinPolicy, Sharing, Support};

/// The row of the running system in the table of the crate's documentation.
#[test]
fn support_is_the_row_of_this_system() {
    let Support { sharing, join_policy, exclusive, dual_stack, .. } = sameport::support();
    let row = (join_policy, exclusive, dual_stack);
    let one_of: &[Sharing] = if cfg!(any(target_os = "linux", target_os = "android")) {
        assert_eq!(row, (JoinPolicy::SameUser, Exclusive::PlainBind, DualStack::OneSocket));
        &[Sharing::Balanced]
    } else if cfg!(windows) {
        assert_eq!(row, (JoinPolicy::AnyUser, Exclusive::ExclusiveAddrUse, DualStack::OneSocket));
        &[Sharing::OpenToOtherUsers]
    } else if cfg!(any(target_os = "illumos", target_os = "solaris")) {
        assert_eq!(row, (JoinPolicy::NoUser, Exclusive::ExclBind, DualStack::OneSocket));
        &[Sharing::Unsupported]
    } else if cfg!(any(target_vendor = "apple", target_os = "netbsd")) {
        let exclusive = Exclusive::PlainBindExceptSpecific;
        let policy = if cfg!(target_os = "netbsd") {
            JoinPolicy::AnyUserOnWildcardOrIpv6
        } else {
            JoinPolicy::AnyUserOnWildcard
        };
        assert_eq!(row, (policy, exclusive, DualStack::OneSocket));
        &[Sharing::NotBalanced]
    } else if cfg!(any(target_os = "freebsd", target_os = "dragonfly", target_os = "openbsd")) {
        let dual_stack = if cfg!(target_os = "freebsd") {
            DualStack::OneSocketNotBalanced
        } else {
            DualStack::TwoSockets
        };
        let exclusive = Exclusive::PlainBindExceptSpecific;
        assert_eq!(row, (JoinPolicy::SameUserOrRoot, exclusive, dual_stack));
        // By the version of FreeBSD, and by a sysctl of DragonFly.
        if cfg!(target_os = "openbsd") {
            &[Sharing::NotBalanced]
        } else {
            &[Sharing::Balanced, Sharing::NotBalanced]
        }
    } else {
        assert_eq!(row, (JoinPolicy::NoUser, Exclusive::PlainBind, DualStack::TwoSockets));
        &[Sharing::Unsupported]
    };
    assert!(one_of.contains(&sharing), "{sharing:?}");
}
