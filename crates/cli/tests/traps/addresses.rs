//! Wrong addresses, lengths, descriptors and sockets: the result is the kernel's.

use super::harness::User;
use super::harness::traps::addresses;
use super::run_trap;

#[test]
fn wrong_calls_return_the_kernels_error() {
    // The call names a shared port, so the option is set before the kernel refuses the address.
    let expected = addresses("v6-on-v4 EAFNOSUPPORT yes");
    for user in User::all() {
        run_trap(*user, "trap_address", &["PORT"], &expected);
    }
}

#[test]
fn other_families_are_untouched() {
    for user in User::all() {
        let privileged = match user {
            User::Current if super::harness::is_root() => ["packet 0 no", "raw 0 no"],
            // socket(2) already fails.
            _ => ["packet EPERM -", "raw EPERM -"],
        };
        let expected = [
            "unix 0 no",
            "unix-in-own-directory 0 -",
            "unix-datagram 0 no",
            "unix-abstract 0 no",
            "inet-on-unix EINVAL no",
            "netlink 0 no",
            privileged[0],
            privileged[1],
            "tcp 0 yes",
            "udp 0 yes",
            "mptcp 0 yes",
            "after 0 yes",
        ];
        run_trap(*user, "trap_families", &["PORT"], &expected);
    }
}

#[test]
fn closed_descriptors_are_handled() {
    let expected = ["close_range 0 yes", "closefrom 0 yes", "close-each 0 yes", "after 0 yes"];
    for user in User::all() {
        run_trap(*user, "trap_restricted", &["closed", "PORT"], &expected);
    }
}

#[test]
fn everything_a_program_starts_is_shared() {
    let expected = [
        "fork 0 yes",
        "vfork 0 yes",
        "vfork-exec 0 yes",
        "posix_spawn 0 yes",
        "clone 0 yes",
        "grandchild-in-own-session 0 yes",
        "before-exec 0 yes",
        "after 0 yes",
    ];
    for user in User::all() {
        run_trap(*user, "trap_children", &["PORT"], &expected);
    }
}
