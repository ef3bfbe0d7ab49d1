/* What becomes of a bind in a cgroup: moved by a rule, made shareable, or left alone.
 *
 * The same decisions as crates/policy: `map::decide` by lookups in the order of `keys::lookups`, then
 * `bind::decide` for the address that comes of it. IP addresses are 16 bytes, IPv4 ones mapped.
 *
 * Built by `cargo xtask bpf`; the object beside this file is what gets loaded.
 */
#include "kernel.h"

/* Every structure here has its other side in crates/policy/src/bind/keys.rs (key, target) or in
 * crates/sys/src/bpf/cgroup_bind/layout.rs. */
struct settings {
	__u64 netns; /* cookie of the only network namespace to act in; 0: every one */
	__u64 since; /* for who reads the pins */
	__u32 every_port;
	__u32 rules; /* how many there are */
};

struct place {
	char path[4096];
};

struct key {
	__u32 ip[4];
	__u16 port;
	__u8 has_ip;
	__u8 protocol; /* 0: either */
};

struct target {
	__u32 ip[4];
	__u16 port;  /* 0: as asked */
	__u8 family; /* 0: as asked, 4, 6 */
	__u8 any;    /* the rule is for a port of any address */
	__u32 rule;
};

/* The beginning of struct sock_common (include/net/sock.h), the same in every kernel since 3.9. */
struct sock_head {
	__u8 addresses[16];
	__u16 family;
	__u8 state;
	__u8 flags; /* skc_reuse: 4 bits, skc_reuseport, skc_ipv6only */
};
enum { IPV6ONLY = 0x20 };

/* Needs a GPL-compatible license. */
static long (*bpf_probe_read_kernel)(void *to, __u32 size, const void *from) = (void *)113;

enum { SHARED = 1, MOVED = 2, OTHER_FAMILY = 4 };
#define NO_RULE 0xffffffffu

struct event {
	__u32 pid;
	__u32 rule;
	__u8 protocol;
	__u8 done;
	__u16 family; /* 4 or 6: the socket's */
	__u16 asked_port;
	__u16 given_port;
	__u32 asked_ip[4];
	__u32 given_ip[4];
	char program[16];
};

struct {
	NUMBER(type, BPF_MAP_TYPE_ARRAY);
	NUMBER(max_entries, 1);
	TYPE(key, __u32);
	TYPE(value, struct settings);
} settings SEC(".maps");

/* The ports to share, when not every one is; the value is the protocol, 1 for both. */
struct {
	NUMBER(type, BPF_MAP_TYPE_HASH);
	NUMBER(max_entries, 1);
	NUMBER(map_flags, BPF_F_NO_PREALLOC);
	TYPE(key, __u16);
	TYPE(value, __u8);
} ports SEC(".maps");

struct {
	NUMBER(type, BPF_MAP_TYPE_HASH);
	NUMBER(max_entries, 1);
	NUMBER(map_flags, BPF_F_NO_PREALLOC);
	TYPE(key, struct key);
	TYPE(value, struct target);
} rules SEC(".maps");

/* Binds shared; after that, how often each rule was the one. */
struct {
	NUMBER(type, BPF_MAP_TYPE_ARRAY);
	NUMBER(max_entries, 1);
	TYPE(key, __u32);
	TYPE(value, __u64);
} counts SEC(".maps");

/* The path of the cgroup, for who reads the pins. */
struct {
	NUMBER(type, BPF_MAP_TYPE_ARRAY);
	NUMBER(max_entries, 1);
	TYPE(key, __u32);
	TYPE(value, struct place);
} place SEC(".maps");

struct {
	NUMBER(type, BPF_MAP_TYPE_RINGBUF);
	NUMBER(max_entries, 65536);
} events SEC(".maps");

INLINE void count(__u32 place)
{
	__u64 *number = bpf_map_lookup_elem(&counts, &place);

	if (number)
		__sync_fetch_and_add(number, 1);
}

INLINE struct target *look_up(struct key *key, __u8 protocol)
{
	struct target *found;

	key->protocol = protocol;
	found = bpf_map_lookup_elem(&rules, key);
	if (found)
		return found;
	key->protocol = 0;
	return bpf_map_lookup_elem(&rules, key);
}

/* The most specific rule for this bind: address and port, address, port; each for the protocol
 * first. */
INLINE struct target *rule_for(const __u32 ip[4], __u16 port, __u8 protocol)
{
	struct key key = { { ip[0], ip[1], ip[2], ip[3] }, port, 1, 0 };
	struct target *found = look_up(&key, protocol);

	if (found)
		return found;
	key.port = 0;
	found = look_up(&key, protocol);
	/* Port 0 asks for any free port; only a rule for the address may touch it. */
	if (found || port == 0)
		return found;
	key = (struct key){ { 0, 0, 0, 0 }, port, 0, 0 };
	return look_up(&key, protocol);
}

INLINE int is_multicast(const __u32 ip[4])
{
	if (is_mapped(ip)) /* or broadcast: each socket gets a copy as well */
		return (ip[3] & htonl(0xf0000000)) == htonl(0xe0000000) || ip[3] == 0xffffffff;
	return (ip[0] & htonl(0xff000000)) == htonl(0xff000000);
}

INLINE int share(struct bpf_sock_addr *ctx, struct settings *set, const __u32 ip[4], __u16 port,
		 __u8 protocol)
{
	__u8 *only = 0;
	int value = 0;

	if (port == 0 || is_multicast(ip))
		return 0;
	if (!set->every_port) {
		only = bpf_map_lookup_elem(&ports, &port);
		if (!only || (*only != 1 && *only != protocol))
			return 0;
	}
	/* Shared by its own choice; nothing is changed on it. */
	if (bpf_getsockopt(ctx, SOL_SOCKET, SO_REUSEPORT, &value, sizeof value) || value)
		return 0;
	value = 1;
	if (bpf_setsockopt(ctx, SOL_SOCKET, SO_REUSEPORT, &value, sizeof value))
		return 0;
	/* The program's SO_REUSEADDR stays, on UDP too: whose sockets have the address cannot be seen here,
	 * and beside another user's that have the option, the kernel refuses one without it. */
	count(0);
	return 1;
}

/* map::counterpart: the loopback or the wildcard of the other family. */
INLINE int counterpart(__u32 ip[4], const struct target *to)
{
	if (!to->any)
		return 0;
	if (to->family == 4) {
		if ((to->ip[3] & htonl(0xff000000)) != htonl(0x7f000000) && to->ip[3])
			return 0;
		ip[0] = ip[1] = ip[2] = 0;
		ip[3] = to->ip[3] ? htonl(1) : 0;
		return 1;
	}
	if (to->ip[0] || to->ip[1] || to->ip[2] || (to->ip[3] && to->ip[3] != htonl(1)))
		return 0;
	mapped(ip, to->ip[3] ? htonl(0x7f000001) : 0);
	return 1;
}

/* The IP address of a rule for this socket; 0: it has none of the socket's family. */
INLINE int rule_ip(__u32 ip[4], const struct target *to, const __u32 asked[4], __u16 family,
		   int v6only)
{
	int takes_v4 = is_mapped(asked) || !(asked[0] | asked[1] | asked[2] | asked[3]);

	if (to->family == 6 && family == 4)
		return counterpart(ip, to);
	if (to->family == 4 && family == 6) {
		if ((v6only || !takes_v4) && counterpart(ip, to))
			return 1;
		if (v6only)
			return 0;
	}
	if (to->family)
		__builtin_memcpy(ip, to->ip, sizeof to->ip);
	return 1;
}

INLINE int bound(struct bpf_sock_addr *ctx, const __u32 asked[4], __u16 family, int v6only)
{
	__u32 zero = 0, ip[4] = { asked[0], asked[1], asked[2], asked[3] };
	struct settings *set = bpf_map_lookup_elem(&settings, &zero);
	__u8 protocol = protocol_of(ctx->type, ctx->protocol), done = 0;
	__u16 asked_port = ntohs(ctx->user_port), port = asked_port;
	struct target *to = 0;
	struct event event = {};

	if (!set || !protocol)
		return GO_ON;
	if (set->netns && set->netns != bpf_get_netns_cookie(ctx))
		return GO_ON;

	if (set->rules)
		to = rule_for(asked, asked_port, protocol);
	if (to) {
		count(1 + to->rule);
		if (!rule_ip(ip, to, asked, family, v6only)) {
			done = OTHER_FAMILY;
		} else {
			done = MOVED;
			if (to->port)
				port = to->port;
		}
	}
	if (done == MOVED) {
		ctx->user_port = htons(port);
		if (to && to->family && family == 4) {
			ctx->user_ip4 = ip[3];
		} else if (to && to->family) {
			/* An IPv6-only socket that is given an IPv4 address is refused by the kernel (EINVAL): where
			 * bind6 cannot tell. */
			ctx->user_ip6[0] = ip[0];
			ctx->user_ip6[1] = ip[1];
			ctx->user_ip6[2] = ip[2];
			ctx->user_ip6[3] = ip[3];
		}
	}
	if (done != OTHER_FAMILY && share(ctx, set, ip, port, protocol))
		done |= SHARED;
	if (!done)
		return GO_ON;

	event.pid = bpf_get_current_pid_tgid() >> 32;
	event.rule = to ? to->rule : NO_RULE;
	event.protocol = protocol;
	event.done = done;
	event.family = family;
	event.asked_port = asked_port;
	event.given_port = port;
	__builtin_memcpy(event.asked_ip, asked, sizeof event.asked_ip);
	__builtin_memcpy(event.given_ip, ip, sizeof event.given_ip);
	bpf_get_current_comm(event.program, sizeof event.program);
	bpf_ringbuf_output(&events, &event, sizeof event, 0);

	if (done == OTHER_FAMILY) {
		bpf_set_retval(-EAFNOSUPPORT);
		return REFUSE;
	}
	return GO_ON;
}

SEC("cgroup/bind4") int bind4(struct bpf_sock_addr *ctx)
{
	__u32 ip[4];

	/* The kernel takes AF_UNSPEC for AF_INET here, if the address is 0.0.0.0. */
	if (ctx->user_family != AF_INET && (ctx->user_family != AF_UNSPEC || ctx->user_ip4))
		return GO_ON;
	mapped(ip, ctx->user_ip4);
	return bound(ctx, ip, 4, 0);
}

INLINE int on_v6(struct bpf_sock_addr *ctx, int v6only)
{
	__u32 ip[4];

	if (ctx->user_family != AF_INET6)
		return GO_ON;
	ip[0] = ctx->user_ip6[0];
	ip[1] = ctx->user_ip6[1];
	ip[2] = ctx->user_ip6[2];
	ip[3] = ctx->user_ip6[3];
	return bound(ctx, ip, 6, v6only);
}

SEC("cgroup/bind6") int bind6(struct bpf_sock_addr *ctx)
{
	return on_v6(ctx, 0);
}

/* In the place of bind6, where the kernel permits reading its memory (CAP_PERFMON, no
 * lockdown=confidentiality): no other way tells whether the socket refuses IPv4. */
SEC("cgroup/bind6") int bind6_v6only(struct bpf_sock_addr *ctx)
{
	struct sock_head head = {};

	bpf_probe_read_kernel(&head, sizeof head, ctx->sk);
	return on_v6(ctx, head.family == AF_INET6 && (head.flags & IPV6ONLY));
}

char _license[] SEC("license") = "Dual MIT/GPL";
