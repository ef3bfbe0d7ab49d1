//! Options that permit a bind to an address that no interface has.

use rustix::io::Errno;

use super::WorkerSocket;
use super::worker_socket::set_flag;

impl WorkerSocket {
    /// Sets `IP_TRANSPARENT` or `IPV6_TRANSPARENT` (`ip(7)`, Linux 2.6.24 and 2.6.37), which permits
    /// addresses that are not local. This process needs CAP_NET_ADMIN or CAP_NET_RAW.
    ///
    /// # Errors
    ///
    /// EPERM: the capability is missing.
    pub fn set_transparent(&self) -> Result<(), Errno> {
        self.set_of_family(libc::IP_TRANSPARENT, libc::IPV6_TRANSPARENT)
    }

    /// Sets `IP_FREEBIND` or `IPV6_FREEBIND` (`ip(7)`, Linux 2.4 and 4.15), which permits a bind to an
    /// address that no interface has yet. Needs no privilege.
    ///
    /// # Errors
    ///
    /// ENOPROTOOPT: an IPv6 socket before Linux 4.15.
    pub fn set_freebind(&self) -> Result<(), Errno> {
        self.set_of_family(libc::IP_FREEBIND, libc::IPV6_FREEBIND)
    }

    fn set_of_family(&self, v4: libc::c_int, v6: libc::c_int) -> Result<(), Errno> {
        let (level, name) =
            if self.is_v6()? { (libc::IPPROTO_IPV6, v6) } else { (libc::IPPROTO_IP, v4) };
        set_flag(self, level, name)
    }
}
