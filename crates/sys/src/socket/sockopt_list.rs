//! The options that are copied from a new socket to the held one that replaces it.

use super::raw_option::SockOpt;

/// An option and the method that copies it.
#[derive(Debug)]
pub(super) struct CopiedOption {
    pub(super) name: SockOpt,
    /// The name in C.
    pub(super) text: &'static str,
    pub(super) method: CopyMethod,
}

/// The method that copies an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CopyMethod {
    /// Sets the four bytes that were read.
    Number,
    /// Sets the bytes that were read, of any length.
    Bytes,
    /// For `struct linger`: the kernel stores the time only while `l_onoff` is set.
    Timed,
    /// For a number that the kernel doubles when it is set. `force` is the option that ignores the
    /// limit.
    Doubled { force: libc::c_int },
    /// For a number that reads as this default when it was never set, and is set to 0 for that.
    ZeroFor(i32),
}

macro_rules! copied_options {
    ($($level:ident: $($option:ident $(($method:expr))?)*;)*) => {
        // The libc crate lacks the newest options.
        #[allow(unused_imports, reason = "constants of `newest` hide those of libc")]
        mod named {
            pub(super) use libc::*;
            pub(super) use super::newest::*;
        }

        /// The order matters: IP_TOS changes SO_PRIORITY, and SO_RCVLOWAT changes SO_RCVBUF.
        pub(super) const COPIED_OPTIONS: &[CopiedOption] = &[$($(CopiedOption {
            name: SockOpt { level: named::$level, number: named::$option },
            text: stringify!($option),
            method: copied_options!(@method $($method)?),
        },)*)*];
    };
    (@method) => { CopyMethod::Number };
    (@method $method:expr) => { $method };
}

/// From include/uapi/linux. The numbers are the same on every supported architecture.
mod newest {
    pub(super) const IP_RECVERR_RFC4884: i32 = 26;
    pub(super) const IPV6_RECVERR_RFC4884: i32 = 31;
    pub(super) const TCP_TX_DELAY: i32 = 37;
    pub(super) const TCP_RTO_MAX_MS: i32 = 44;
    pub(super) const TCP_RTO_MIN_US: i32 = 45;
    pub(super) const TCP_DELACK_MAX_US: i32 = 46;
}

copied_options! {
    IPPROTO_IP: IP_TOS IP_TTL IP_RECVOPTS IP_RETOPTS IP_PKTINFO
        IP_MTU_DISCOVER IP_RECVERR IP_RECVTTL IP_RECVTOS IP_FREEBIND IP_TRANSPARENT
        IP_RECVORIGDSTADDR IP_MINTTL IP_CHECKSUM IP_RECVFRAGSIZE IP_RECVERR_RFC4884
        IP_MULTICAST_IF IP_MULTICAST_TTL IP_MULTICAST_LOOP IP_MULTICAST_ALL IP_UNICAST_IF;
    IPPROTO_IPV6: IPV6_TCLASS IPV6_UNICAST_HOPS IPV6_MULTICAST_IF IPV6_MULTICAST_HOPS
        IPV6_MULTICAST_LOOP IPV6_MULTICAST_ALL IPV6_UNICAST_IF IPV6_MTU_DISCOVER IPV6_RECVERR
        IPV6_RECVERR_RFC4884 IPV6_RECVPKTINFO IPV6_RECVHOPLIMIT IPV6_RECVHOPOPTS IPV6_RECVRTHDR
        IPV6_RECVDSTOPTS IPV6_RECVPATHMTU IPV6_RECVTCLASS IPV6_RECVORIGDSTADDR IPV6_RECVFRAGSIZE
        IPV6_HOPOPTS(CopyMethod::Bytes) IPV6_RTHDRDSTOPTS(CopyMethod::Bytes) IPV6_RTHDR(CopyMethod::Bytes)
        IPV6_DSTOPTS(CopyMethod::Bytes) IPV6_DONTFRAG IPV6_AUTOFLOWLABEL IPV6_ADDR_PREFERENCES
        IPV6_MINHOPCOUNT IPV6_TRANSPARENT IPV6_FREEBIND;
    SOL_SOCKET: SO_KEEPALIVE SO_BROADCAST SO_DONTROUTE SO_OOBINLINE SO_NO_CHECK SO_PRIORITY SO_MARK
        SO_RCVMARK SO_LINGER(CopyMethod::Timed) SO_RCVTIMEO(CopyMethod::Bytes) SO_SNDTIMEO(CopyMethod::Bytes) SO_RCVLOWAT
        SO_RCVBUF(CopyMethod::Doubled { force: libc::SO_RCVBUFFORCE })
        SO_SNDBUF(CopyMethod::Doubled { force: libc::SO_SNDBUFFORCE })
        SO_BUF_LOCK SO_INCOMING_CPU SO_TIMESTAMP SO_TIMESTAMPNS SO_TIMESTAMPING(CopyMethod::Bytes)
        SO_RXQ_OVFL SO_PEEK_OFF SO_SELECT_ERR_QUEUE SO_ZEROCOPY SO_BUSY_POLL SO_PREFER_BUSY_POLL
        SO_BUSY_POLL_BUDGET SO_MAX_PACING_RATE(CopyMethod::Bytes);
    IPPROTO_TCP: TCP_NODELAY TCP_CORK TCP_MAXSEG(CopyMethod::ZeroFor(536)) TCP_KEEPIDLE TCP_KEEPINTVL
        TCP_KEEPCNT TCP_SYNCNT TCP_LINGER2 TCP_DEFER_ACCEPT TCP_WINDOW_CLAMP
        TCP_CONGESTION(CopyMethod::Bytes) TCP_THIN_LINEAR_TIMEOUTS TCP_USER_TIMEOUT TCP_FASTOPEN
        TCP_FASTOPEN_NO_COOKIE TCP_NOTSENT_LOWAT TCP_SAVE_SYN TCP_INQ TCP_TX_DELAY TCP_RTO_MAX_MS
        TCP_RTO_MIN_US TCP_DELACK_MAX_US;
    IPPROTO_UDP: UDP_CORK UDP_ENCAP UDP_NO_CHECK6_TX UDP_NO_CHECK6_RX UDP_SEGMENT UDP_GRO;
}
