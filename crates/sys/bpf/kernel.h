/* What these programs need of the kernel's interface, and nothing else: no kernel or libbpf headers
 * are needed to build them. Everything here is stable interface (include/uapi/linux/bpf.h), so the
 * objects load on every kernel without relocation.
 */
#ifndef SAMEPORT_KERNEL_H
#define SAMEPORT_KERNEL_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))

/* Fields of a map's definition, read by the loader from the type information. */
#define NUMBER(name, value) int (*name)[value]
#define TYPE(name, type) type *name

enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_SK_STORAGE = 24,
	BPF_MAP_TYPE_RINGBUF = 27,
};

enum { BPF_F_NO_PREALLOC = 1, BPF_SK_STORAGE_GET_F_CREATE = 1 };

enum { AF_UNSPEC = 0, AF_INET = 2, AF_INET6 = 10 };
enum { SOCK_STREAM = 1, SOCK_DGRAM = 2 };
enum { IPPROTO_TCP = 6, IPPROTO_UDP = 17, IPPROTO_UDPLITE = 136, IPPROTO_MPTCP = 262 };
enum { EAFNOSUPPORT = 97 };

#if defined(__TARGET_ARCH_mips) || defined(__TARGET_ARCH_sparc)
#error "SOL_SOCKET has another number there"
#endif
enum { SOL_SOCKET = 1, SO_REUSEADDR = 2, SO_REUSEPORT = 15 };

/* The objects are built for little-endian machines. */
#define htons(x) ((__u16)__builtin_bswap16(x))
#define ntohs(x) htons(x)
#define htonl(x) __builtin_bswap32(x)

struct bpf_sock {
	__u32 bound_dev_if;
	__u32 family;
	__u32 type;
	__u32 protocol;
	__u32 mark;
	__u32 priority;
	__u32 src_ip4;
	__u32 src_ip6[4];
	__u32 src_port; /* of the host's byte order */
	__u16 dst_port; /* of the network's byte order */
	__u32 dst_ip4;
	__u32 dst_ip6[4];
	__u32 state;
};

struct bpf_sock_addr {
	__u32 user_family;
	__u32 user_ip4;
	__u32 user_ip6[4];
	__u32 user_port; /* of the network's byte order */
	__u32 family;
	__u32 type;
	__u32 protocol;
	__u32 msg_src_ip4;
	__u32 msg_src_ip6[4];
	struct bpf_sock *sk __attribute__((aligned(8)));
};

struct sockaddr_in {
	__u16 sin_family;
	__u16 sin_port;
	__u32 sin_addr;
	__u8 sin_zero[8];
};

struct sockaddr_in6 {
	__u16 sin6_family;
	__u16 sin6_port;
	__u32 sin6_flowinfo;
	__u32 sin6_addr[4];
	__u32 sin6_scope_id;
};

static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static __u64 (*bpf_get_current_pid_tgid)(void) = (void *)14;
static long (*bpf_get_current_comm)(void *buf, __u32 size) = (void *)16;
static long (*bpf_setsockopt)(void *ctx, int level, int name, void *value, int size) = (void *)49;
static long (*bpf_getsockopt)(void *ctx, int level, int name, void *value, int size) = (void *)57;
static long (*bpf_bind)(void *ctx, void *address, int size) = (void *)64;
static void *(*bpf_sk_storage_get)(void *map, void *sk, void *value, __u64 flags) = (void *)107;
static __u64 (*bpf_get_netns_cookie)(void *ctx) = (void *)122;
static long (*bpf_ringbuf_output)(void *map, void *data, __u64 size, __u64 flags) = (void *)130;
static int (*bpf_set_retval)(int value) = (void *)187;

/* What a cgroup program of this kind returns. */
enum { REFUSE = 0, GO_ON = 1 };

/* The protocol whose ports this socket has, or 0. MPTCP and UDP-Lite are told by their sisters. */
INLINE __u8 protocol_of(__u32 type, __u32 protocol)
{
	if (type == SOCK_STREAM && (protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP))
		return IPPROTO_TCP;
	if (type == SOCK_DGRAM && (protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE))
		return IPPROTO_UDP;
	return 0;
}

/* ::ffff:0:0/96 */
INLINE int is_mapped(const __u32 ip[4])
{
	return ip[0] == 0 && ip[1] == 0 && ip[2] == htonl(0xffff);
}

INLINE void mapped(__u32 ip[4], __u32 ip4)
{
	ip[0] = 0;
	ip[1] = 0;
	ip[2] = htonl(0xffff);
	ip[3] = ip4;
}

#endif
