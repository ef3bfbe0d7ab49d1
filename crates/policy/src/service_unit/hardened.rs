//! The drop-in of `install-service --hardened`, and `packaging/systemd/sameport-hardened.conf`.

use std::path::Path;

/// The name of the file in the drop-in directory of the unit.
pub const HARDENED_FILE: &str = "50-sameport-hardened.conf";

/// The text. Every line works with the seccomp interposer and kept sockets.
pub const HARDENED: &str = "\
# Hardening for sameport@.service, every line of which works with the seccomp interposer and kept sockets.
# Install it as /etc/systemd/system/sameport@.service.d/hardened.conf, or below sameport@NAME.service.d for
# one service. A program that needs more loosens a line in a drop-in of its own. See docs/systemd.md.

[Service]
DynamicUser=yes
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectProc=invisible
ProcSubset=pid
ProtectClock=yes
ProtectHostname=yes
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RemoveIPC=yes
UMask=0077
SystemCallArchitectures=native
# AF_UNIX: the control socket and notifications. AF_NETLINK: the lists of sockets.
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
# The calls of the seccomp interposer that @system-service of systemd 252 lacks. This line is the last one.
SystemCallFilter=pidfd_getfd seccomp
SystemCallErrorNumber=EPERM
# The event loop of the supervisor reports; one that is blocked is ended and started again.
WatchdogSec=30
";

/// Directories that a hardened service does not see: `ProtectHome=`, `PrivateTmp=`.
const HIDDEN: [&str; 5] = ["/home", "/root", "/run/user", "/tmp", "/var/tmp"];

/// The directory above this path that a hardened service does not see.
#[must_use]
pub fn hidden_by_hardening(path: &Path) -> Option<&'static str> {
    HIDDEN.into_iter().find(|hidden| path.starts_with(hidden))
}
