// SPDX-License-Identifier: MIT OR GPL-2.0
/* Chooses the member of a reuseport group that gets a new connection, by one policy. The loader sets the
 * policy and the lane as constants, so that the verifier removes the other policies: a choice runs some
 * hundred instructions.
 *
 * A choice is made in __inet_lookup_listener for each SYN, under RCU and without a lock. It is made for
 * other segments to which no connection belongs too (an ACK with a SYN cookie, strays), which are not
 * counted. As sk_reuseport/migrate (Linux 5.14) the program also finds a new member for a connection in
 * the queue of a listener that is closed.
 */
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

/* What is judged hung accepts nothing for this time while its queue is not empty. */
#define HUNG_AFTER (200 * 1000 * 1000ull)
/* For how many ticks a member that is hung, full or closed is left out before it is looked at again. */
enum { HUNG_LEFT_OUT = 3, OTHERS_LEFT_OUT = 1 };

/* How often a member is drawn before the first that can take the connection is looked for. */
enum { DRAWS = 3, FURTHER = 3 };

struct choice {
	struct sk_reuseport_md *md;
	struct table *table;
	struct counters *counters;
	struct control *control;
	__u64 now;
	__u32 tick;
	__u32 count;
	__u32 key; /* of the table */
};

/* Finds the maps of a choice. */
INLINE int open_table(struct choice *c, __u32 key, __u64 now)
{
	c->key = key;
	c->now = now;
	c->tick = tick_at(now);
	c->control = the_control();
	c->counters = the_counters();
	c->table = bpf_map_lookup_elem(&tables, &key);
	if (!c->control || !c->counters || !c->table)
		return 0;
	c->count = c->table->count;
	return c->count <= MEMBERS;
}

INLINE struct counter *counter_of(struct choice *c, __u32 index)
{
	__u32 member = c->table->entries[BOUNDED(index)].member;

	return &c->counters->of[BOUNDED(member)];
}

INLINE __u32 draw(struct choice *c)
{
	return (__u64)bpf_get_prandom_u32() * c->count >> 32;
}

INLINE __u64 random_salt(void)
{
	return (__u64)bpf_get_prandom_u32() << 32 | bpf_get_prandom_u32();
}

/* Connections that are open, and those that are on their way. */
INLINE __u64 load_of(const struct counter *counter, __u32 epoch)
{
	int load = counter->open;
	__u32 age = epoch - counter->epoch;

	if (age <= 1)
		load += counter->pending[counter->epoch & 1];
	if (age == 0)
		load += counter->pending[~counter->epoch & 1];
	return load > 0 ? load : 0;
}

INLINE int is_left_out(const struct choice *c, const struct counter *counter)
{
	return counter->until > c->tick;
}

/* The finalizer of splitmix64, of which two rounds suffice to tell members apart. */
INLINE __u64 mix(__u64 x)
{
	x *= 0xbf58476d1ce4e5b9ull;
	x ^= x >> 31;
	x *= 0x94d049bb133111ebull;
	return x ^ x >> 32;
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

/* -log2(x / 2^32) in 1/65,536, for x from 1. Between powers of two a cubic with the right slopes at both is
 * used: log2(1 + f) = f + f(1 - f)(0.4427 - 0.164f), which is wrong by 0.0014 at most. */
__attribute__((noinline)) __u64 sameport_log(__u32 x)
{
	__u64 zeros = 0, rest;

	for (int step = 16; step; step /= 2)
		if (x < 1u << (32 - step)) {
			x <<= step;
			zeros += step;
		}
	rest = (x << 1) >> 16; /* the part behind the leading one */
	rest += (rest * (65536 - rest) >> 16) * (29013 - (rest * 10748 >> 16)) >> 16;
	return ((zeros + 1) << 16) - rest;
}

/* --- policies that compare all members: the lowest score is chosen --- */

enum { CHUNK = 32 };
#define WORST 0xffffffffffffffffull

/* Each member draws a number from the salt and its own identity, exponentially distributed with its
 * weight, and the least is chosen: a member by the weights. With a salt from the client's address (weighted
 * rendezvous hashing) a client moves only if its member leaves, or to a member that comes. */
INLINE __u64 distance(struct choice *c, const struct entry *entry, __u64 client)
{
	__u64 lot = mix(client ^ entry->identity);

	if (c->table->uniform)
		return lot;
	return sameport_log((lot >> 32) | 1) * entry->inverse;
}

/* Stride scheduling: each member has a turn after a time that is inverse to its weight; the one whose turn
 * comes first is chosen. Numbers wrap, so differences are compared. A member that was away continues at
 * the present time. */
INLINE __u64 until_turn(struct choice *c, const struct counter *counter)
{
	__u64 left = counter->pass - c->control->turn[c->key & 1];

	/* As an unsigned number: what is behind its turn comes first. */
	return left ^ 1ull << 63;
}

/* For the lowest class first: where members are equal, one of them at random. */
INLINE __u64 class_score(const struct entry *entry, __u64 salt)
{
	__u64 class = entry->rank, place = entry->place;

	/* Without a branch, of which the verifier would follow both ways. */
	if (policy == CPU || policy == NUMA) {
		place ^= policy == CPU ? bpf_get_smp_processor_id() : (__u32)bpf_get_numa_node_id();
		asm volatile("" : "+r"(place));
		class += (place | -place) >> 63;
	}
	return class << 48 | mix(salt ^ entry->identity) >> 16;
}

INLINE __u64 score_of(struct choice *c, __u32 index, __u64 salt)
{
	const struct entry *entry = &c->table->entries[BOUNDED(index)];
	const struct counter *counter = counter_of(c, index);

	if (is_left_out(c, counter))
		return WORST;
	switch (policy) {
	case ROUND_ROBIN:
		return until_turn(c, counter);
	case LEAST_CONNECTIONS:
		/* One connection more, divided by the weight. Of equals one at random. */
		return ((load_of(counter, epoch_at(c->now)) + 1) * entry->inverse << 8) +
		       ((__u32)mix(salt ^ entry->identity) >> 24);
	case STANDBY:
	case CPU:
	case NUMA:
		return class_score(entry, salt);
	default:
		return distance(c, entry, salt);
	}
}

/* The verifier follows each round of a loop, and each call of an inline function; a global function it
 * follows once. So the walk over the members is split in two, of 32 rounds each. Global functions get
 * numbers only, and look the maps up again. Both return an index, or NONE. */
__attribute__((noinline)) __u32 sameport_best_of_chunk(__u32 key, __u64 now, __u64 salt, __u32 first)
{
	struct choice c = {};
	__u64 best_score = WORST;
	__u32 best = NONE;

	if (!open_table(&c, key, now))
		return NONE;
	for (__u32 i = 0; i < CHUNK && first + i < c.count; i++) {
		__u64 score = score_of(&c, first + i, salt);

		if (score < best_score) {
			best = c.table->entries[BOUNDED(first + i)].index;
			best_score = score;
		}
	}
	return best;
}

/* Takes the turn of the member; 0 if another processor did at the same time. */
INLINE int take_turn(struct choice *c, __u32 index)
{
	struct counter *counter = counter_of(c, index);
	__u64 now = c->control->turn[c->key & 1], seen = counter->pass;
	__u64 pass = (long long)(seen - now) < 0 ? now : seen;
	__u64 stride = c->table->entries[BOUNDED(index)].inverse;

	if (__sync_val_compare_and_swap(&counter->pass, seen, pass + stride) != seen)
		return 0;
	c->control->turn[c->key & 1] = pass;
	return 1;
}

__attribute__((noinline)) __u32 sameport_best(__u32 key, __u64 now, __u64 salt)
{
	struct choice c = {};
	__u64 best_score = WORST;
	__u32 best = NONE;

	if (!open_table(&c, key, now))
		return NONE;
	for (__u32 first = 0; first < MEMBERS && first < c.count; first += CHUNK) {
		__u32 index = sameport_best_of_chunk(key, now, salt, first);
		__u64 score;

		if (c.count <= CHUNK) {
			best = index;
			break;
		}
		score = index == NONE ? WORST : score_of(&c, index, salt);
		if (score < best_score) {
			best = c.table->entries[BOUNDED(index)].index;
			best_score = score;
		}
	}
	if (policy == ROUND_ROBIN && best != NONE && !take_turn(&c, best))
		return NONE;
	return best;
}

/* The first member of 32, from this one on, that is not left out. */
__attribute__((noinline)) __u32 sameport_first_able(__u32 key, __u64 now, __u32 first)
{
	struct choice c = {};

	if (!open_table(&c, key, now))
		return NONE;
	for (__u32 i = 0; i < CHUNK && first + i < c.count; i++)
		if (!is_left_out(&c, counter_of(&c, first + i)))
			return first + i;
	return NONE;
}

/* The first member, from a random one on, that is not left out. */
__attribute__((noinline)) __u32 sameport_any_able(__u32 key, __u64 now)
{
	struct choice c = {};
	__u32 from, found;

	if (!open_table(&c, key, now) || !c.count)
		return NONE;
	from = (__u64)bpf_get_prandom_u32() * c.count >> 32;
	for (__u32 passed = 0; passed <= MEMBERS; passed += CHUNK) {
		found = sameport_first_able(key, now, (from + passed) & (MEMBERS - 1));
		if (found != NONE)
			return found;
	}
	return NONE;
}

INLINE __u32 draw_by_weight(struct choice *c)
{
	return c->table->uniform ? draw(c) : sameport_best(c->key, c->now, random_salt());
}

/* A global function, which the verifier follows once and not for each draw. */
__attribute__((noinline)) __u32 sameport_better_of_two(__u32 key, __u64 now)
{
	struct choice opened = {}, *c = &opened;
	__u32 epoch = epoch_at(now);
	struct counter *of_a, *of_b;
	__u32 a, b;

	if (!open_table(c, key, now) || !c->count)
		return NONE;
	a = draw_by_weight(c);
	if (a == NONE)
		return NONE;
	if (c->table->uniform && c->count > 1) {
		/* Another one */
		b = a + 1 + ((__u64)bpf_get_prandom_u32() * (c->count - 1) >> 32);
		b -= b >= c->count ? c->count : 0;
	} else {
		b = draw_by_weight(c);
	}
	if (b == NONE)
		return a;
	of_a = counter_of(c, a);
	of_b = counter_of(c, b);
	if (is_left_out(c, of_a))
		return b;
	if (is_left_out(c, of_b))
		return a;
	/* One connection more, divided by the weight. */
	return (load_of(of_b, epoch) + 1) * c->table->entries[BOUNDED(b)].inverse <
			       (load_of(of_a, epoch) + 1) * c->table->entries[BOUNDED(a)].inverse ?
		       b : a;
}

INLINE __u32 by_policy(struct choice *c, __u64 salt)
{
	if (policy == RANDOM)
		return draw_by_weight(c);
	if (policy == TWO_CHOICES)
		return sameport_better_of_two(c->key, c->now);
	return sameport_best(c->key, c->now, salt);
}

/* The socket that bpf_sk_select_reuseport has just chosen. The context of the program is a struct
 * sk_reuseport_kern. */
INLINE const void *selected(struct sk_reuseport_md *md)
{
	const void *sk = 0;

	bpf_probe_read_kernel(&sk, sizeof sk, (const void *)md + at_selected);
	return sk;
}

INLINE __u32 read_field(const void *sk, __u32 at)
{
	__u32 value = 0;

	bpf_probe_read_kernel(&value, sizeof value, sk + at);
	return value;
}

enum { ABLE = 0, HUNG = 1, FULL = 2 };

/* Whether the selected member takes connections out of its queue. `established` grows after the queue
 * does, so a number that is accepted can be too small by those in between, and never too large. */
INLINE __u32 judge(struct choice *c, struct counter *counter)
{
	const void *sk = selected(c->md);
	__u32 queued = read_field(sk, at_queued);
	__u32 accepted = counter->established - queued;

	if (!queued) {
		if (counter->waiting)
			counter->waiting = 0;
		return ABLE;
	}
	if (queued > read_field(sk, at_limit))
		return FULL;
	if (!counter->waiting || (int)(accepted - counter->accepted) > 0) {
		counter->waiting = c->now;
		counter->accepted = accepted;
		return ABLE;
	}
	return c->now - counter->waiting > HUNG_AFTER ? HUNG : ABLE;
}

INLINE int select(struct choice *c, __u32 index)
{
	__u32 key = lane * MEMBERS + c->table->entries[BOUNDED(index)].member;

	return !bpf_sk_select_reuseport(c->md, &listeners, &key, 0);
}

enum { GONE, UNABLE, TAKEN };

INLINE void leave_out(struct choice *c, struct counter *counter, __u32 state)
{
	counter->hung = state;
	counter->until = c->tick + (state == HUNG ? HUNG_LEFT_OUT : OTHERS_LEFT_OUT);
}

/* Selects this member. One that is UNABLE stays selected until another is. */
INLINE int take(struct choice *c, __u32 index)
{
	struct counter *counter = counter_of(c, index);
	__u32 state = ABLE;

	if (!select(c, index)) {
		leave_out(c, counter, ABLE);
		return GONE;
	}
	if (reads_queue)
		state = judge(c, counter);
	if (state != ABLE) {
		leave_out(c, counter, state);
		return UNABLE;
	}
	if (counter->until) {
		counter->hung = ABLE;
		counter->until = 0;
	}
	return TAKEN;
}

/* Selects a member by the policy, or one that can take the connection, or any; its index, or NONE. */
INLINE __u32 choose_in(struct choice *c)
{
	__u64 salt = 0;
	__u32 unable = NONE;

	if (!c->count)
		return NONE;
	if (policy == STICKY)
		salt = client_of(c->md);
	else if (policy != RANDOM && policy != TWO_CHOICES && policy != ROUND_ROBIN)
		salt = random_salt();
	for (int i = 0; i < DRAWS + FURTHER; i++) {
		__u32 index = i < DRAWS ? by_policy(c, salt) : sameport_any_able(c->key, c->now);
		int result;

		if (index == NONE || is_left_out(c, counter_of(c, index)))
			continue;
		result = take(c, index);
		if (result == TAKEN)
			return index;
		if (result == UNABLE)
			unable = index;
	}
	if (unable == NONE)
		unable = draw(c);
	return select(c, unable) ? unable : NONE;
}

/* A SYN is the only segment for which a choice opens a connection. */
INLINE int opens_connection(struct sk_reuseport_md *md)
{
	const __u8 *header = md->data;

	if (md->ip_protocol != IPPROTO_TCP)
		return 1;
	return header + 14 <= (const __u8 *)md->data_end && (header[13] & 0x12) == 0x02;
}

INLINE void count_choice(struct choice *c, struct counter *counter)
{
	__u32 epoch = epoch_at(c->now);

	__sync_fetch_and_add(&counter->chosen, 1);
	if (counter->epoch != epoch) {
		if (epoch - counter->epoch != 1)
			counter->pending[~epoch & 1] = 0;
		counter->pending[epoch & 1] = 0;
		counter->epoch = epoch;
	}
	__sync_fetch_and_add(&counter->pending[epoch & 1], 1);
}

/* The connection of a readiness probe goes to the member that is asked. */
INLINE int is_probe(struct sk_reuseport_md *md, struct control *control)
{
	const __u8 *header = md->data;
	__u32 *member, key;
	__u16 port;

	if (!control->probes || header + 2 > (const __u8 *)md->data_end)
		return 0;
	port = header[0] << 8 | header[1];
	member = bpf_map_lookup_elem(&probes, &port);
	if (!member)
		return 0;
	key = lane * MEMBERS + *member;
	return !bpf_sk_select_reuseport(md, &listeners, &key, 0);
}

/* A connection that waits in the queue of a listener that closes has been counted for it. */
INLINE void count_migration(struct choice *c, __u32 index, struct bpf_sock *connection)
{
	__u32 member = c->table->entries[BOUNDED(index)].member;
	struct counter *counter = &c->counters->of[BOUNDED(member)];
	struct moved to = { .member = member, .generation = counter->generation };
	__u64 cookie = bpf_get_socket_cookie(connection);

	if (connection->state != TCP_ESTABLISHED && connection->state != TCP_CLOSE_WAIT)
		return;
	if (!bpf_map_update_elem(&moved, &cookie, &to, 0))
		__sync_fetch_and_add(&counter->open, 1);
}

#include "traffic_udp.h"

SEC("sk_reuseport/migrate") int choose(struct sk_reuseport_md *md)
{
	struct control *control = the_control();
	struct choice c = { .md = md };
	__u64 now = bpf_ktime_get_coarse_ns();
	struct datagram datagram;
	__u32 key, index;

	if (!control || (!md->migrating_sk && is_probe(md, control)))
		return PASS;
	datagram.now = now;
	datagram.active = control->active;
	if (is_udp && is_of_flow(md, &datagram))
		return PASS;
	key = (datagram.active & 1) * 2;
	if (control->canary && bpf_get_prandom_u32() % 10000 < control->canary)
		key += 1;
	if (!open_table(&c, key, now))
		return PASS;
	/* A class without a member leaves its share to the other. */
	if (!c.count && !open_table(&c, key ^ 1, now))
		return PASS;
	index = choose_in(&c);
	if (index == NONE) {
		__sync_fetch_and_add(&control->missed, 1);
		return PASS;
	}
	if (is_udp)
		remember(&c, &datagram, index);
	if (md->migrating_sk)
		count_migration(&c, index, md->migrating_sk);
	else if (opens_connection(md))
		count_choice(&c, counter_of(&c, index));
	return PASS;
}

/* bpf_probe_read_kernel requires a GPL-compatible license. */
char _license[] SEC("license") = "Dual MIT/GPL";
