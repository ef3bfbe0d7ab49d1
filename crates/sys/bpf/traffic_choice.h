/* What a choice is made of: its constants, its maps, and what is read of a member. */
#ifndef SAMEPORT_TRAFFIC_CHOICE_H
#define SAMEPORT_TRAFFIC_CHOICE_H

#include "traffic.h"

enum policy {
	RANDOM,
	STICKY,
	ROUND_ROBIN,
	STANDBY,
	LEAST_CONNECTIONS,
	TWO_CHOICES,
	CPU,
	NUMA,
};

const volatile __u32 policy = TWO_CHOICES;
const volatile __u32 lane = 0;
/* 1: a group of UDP, whose flows are kept. */
const volatile __u32 is_udp = 0;
/* 1: the process may read the kernel's memory (CAP_PERFMON), so the queue of a listener is looked at. */
const volatile __u32 reads_queue = 0;
/* Offsets in bytes, from the kernel's BTF. */
const volatile __u32 at_selected = 0; /* sk_reuseport_kern.selected_sk */
const volatile __u32 at_queued = 0;   /* sock.sk_ack_backlog */
const volatile __u32 at_limit = 0;    /* sock.sk_max_ack_backlog */

struct sk_reuseport_md {
	void *data __attribute__((aligned(8))); /* from the TCP header on */
	void *data_end __attribute__((aligned(8)));
	__u32 len;
	__u32 eth_protocol;
	__u32 ip_protocol;
	__u32 bind_inany;
	__u32 hash;
	struct bpf_sock *sk __attribute__((aligned(8)));
	struct bpf_sock *migrating_sk __attribute__((aligned(8)));
};

enum { DROP = 0, PASS = 1 };
enum { NONE = 0xffffffff };
enum { HDR_START_NET = 1 };
enum { ETH_P_IP = 0x0800 };
enum { TCP_ESTABLISHED = 1, TCP_CLOSE_WAIT = 8 };

struct choice {
	struct sk_reuseport_md *md;
	struct table *table;
	struct counters *counters;
	struct control *control;
	__u64 now;
	__u64 random;
	__u32 tick;
	__u32 count;
	__u32 key; /* of the table */
};

/* Finds the maps of a choice. */
INLINE int open_table(struct choice *c, __u32 key)
{
	c->key = key;
	c->control = the_control();
	c->counters = the_counters();
	c->table = bpf_map_lookup_elem(&tables, &key);
	if (!c->control || !c->counters || !c->table)
		return 0;
	c->count = c->table->count;
	return c->count <= MEMBERS;
}

INLINE __u32 member_at(const struct choice *c, __u32 index)
{
	__u32 member = c->table->members[BOUNDED(index)];

	return BOUNDED(member);
}

/* The time, which changes once a jiffy. The kernel's verifier makes a load of bpf_jiffies64; a call, as of
 * the clock, can take a fifth of a choice: where a return is guarded against speculation (SRSO) 35 to 40 ns.
 * Two processors can leave the time of one with the jiffy of the other, which is one jiffy off. */
INLINE __u64 time_of(struct control *control)
{
	__u64 jiffies = bpf_jiffies64();

	if (control->jiffies != jiffies) {
		control->now = bpf_ktime_get_coarse_ns();
		control->jiffies = jiffies;
	}
	return control->now;
}

/* A random number. The kernel has hashed the addresses and ports of the connection with a secret; with the
 * time the same addresses draw another number a jiffy later. A call of the kernel's generator is saved. */
INLINE __u64 random_of(struct sk_reuseport_md *md, __u64 now)
{
	return mix((__u64)md->hash << 32 ^ now);
}

/* The next number: a linear congruential generator, of which the high bits are used. */
INLINE __u64 next(__u64 random)
{
	return random * 0x5851f42d4c957f2dull + 0x14057b7ef767814full;
}

/* The high half of a random number, below this number. */
INLINE __u32 below(__u64 random, __u32 end)
{
	return (random >> 32) * end >> 32;
}

/* Load and `until` are read at once. */
INLINE __u64 brief_at(const struct choice *c, __u32 index)
{
	return *(const volatile __u64 *)&c->counters->brief[member_at(c, index)];
}

/* Connections that are open, and those that are on their way. Two processors that take the same one back
 * can make it negative for a while. */
INLINE __u64 load_of(__u64 brief)
{
	int load = brief;

	return (__u32)(load & ~(load >> 31));
}

INLINE int is_left_out(__u64 brief, __u32 tick)
{
	return brief >> 32 > tick;
}

/* The client's address, without its port. */
INLINE __u64 client_of(struct sk_reuseport_md *md)
{
	__u64 ip[2] = {};

	if (md->eth_protocol == htons(ETH_P_IP))
		bpf_skb_load_bytes_relative(md, 12, ip, 4, HDR_START_NET);
	else
		bpf_skb_load_bytes_relative(md, 8, ip, 16, HDR_START_NET);
	return mix(mix(ip[0] + 0x9e3779b97f4a7c15ull) ^ ip[1]);
}

#endif
