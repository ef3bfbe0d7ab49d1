//! The oldest kernels: one place, which `doctor`, messages and a test of the documentation read.

/// The oldest kernel of `run --via seccomp`: `SECCOMP_IOCTL_NOTIF_ADDFD`. `pidfd_getfd` needs 5.6.
pub const SECCOMP: &str = "5.9";
/// The oldest kernel on which a signal does not interrupt a bind: `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`.
pub const UNINTERRUPTED: &str = "5.19";
/// The oldest kernel of `run --via cgroup`, `attach` and `guard`, which is the oldest whose programs `doctor` tries:
/// `bpf_set_retval`. `SO_NETNS_COOKIE` needs 5.14.
pub const CGROUP: &str = "5.18";
/// The oldest kernel on which `ls` reads the options of another process's socket: `pidfd_getfd`.
pub const SOCKET_OPTIONS: &str = "5.6";
