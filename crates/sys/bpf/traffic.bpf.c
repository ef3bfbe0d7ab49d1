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

/* A random number, and the next one from it: a linear congruential generator, of which the high bits are
 * used. The kernel's generator takes as long as ten of these. */
INLINE __u64 random_salt(void)
{
	return bpf_get_prandom_u32() * 0x9e3779b97f4a7c15ull;
}

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

#define WORST 0xffffffffffffffffull

/* Each member draws a number from the salt and its own identity, exponentially distributed with its
 * weight, and the least is chosen: a member by the weights. With a salt from the client's address (weighted
 * rendezvous hashing) a client moves only if its member leaves, or to a member that comes. */
INLINE __u64 distance(const struct choice *c, __u32 index, __u64 client)
{
	__u64 lot = mix(client ^ c->table->identities[BOUNDED(index)]);

	if (c->table->uniform)
		return lot;
	return sameport_log((lot >> 32) | 1) * c->table->inverses[BOUNDED(index)];
}

/* Stride scheduling: each member has a turn after a time that is inverse to its weight; the one whose turn
 * comes first is chosen. Numbers wrap, so differences are compared. A member that was away continues at
 * the present time. */
INLINE __u64 until_turn(const struct choice *c, __u32 index)
{
	__u64 left = c->counters->passes[member_at(c, index)] - c->control->turn[c->key & 1];

	/* As an unsigned number: what is behind its turn comes first. */
	return left ^ 1ull << 63;
}

/* For the lowest class first: where members are equal, one of them at random. */
INLINE __u64 class_score(const struct choice *c, __u32 index, __u64 random)
{
	__u64 class = c->table->ranks[BOUNDED(index)], place;

	/* Without a branch, of which the verifier would follow both ways. */
	if (policy == CPU || policy == NUMA) {
		place = c->table->places[BOUNDED(index)];
		place ^= policy == CPU ? bpf_get_smp_processor_id() : (__u32)bpf_get_numa_node_id();
		asm volatile("" : "+r"(place));
		class += (place | -place) >> 63;
	}
	return class << 48 | random >> 16;
}

/* One connection more, divided by the weight. */
INLINE __u64 weighted_load(const struct choice *c, __u32 index, __u64 brief)
{
	return (load_of(brief) + 1) * c->table->inverses[BOUNDED(index)];
}

INLINE __u64 score_of(const struct choice *c, __u32 index, __u64 brief, __u64 random)
{
	switch (policy) {
	case ROUND_ROBIN:
		return until_turn(c, index);
	case LEAST_CONNECTIONS:
		/* Of equals one at random. */
		if (c->table->uniform)
			return load_of(brief) << 32 | random >> 32;
		return (weighted_load(c, index, brief) << 8) + (random >> 56);
	default:
		return class_score(c, index, random);
	}
}

INLINE int is_by_distance(void)
{
	return policy == STICKY || policy == RANDOM || policy == TWO_CHOICES;
}

INLINE __u64 score_at(const struct choice *c, __u32 index, __u32 tick, __u64 salt)
{
	__u64 brief;

	if (is_by_distance())
		return tick && is_left_out(brief_at(c, index), tick) ? WORST :
								       distance(c, index, salt);
	brief = brief_at(c, index);
	return is_left_out(brief, tick) ? WORST : score_of(c, index, brief, mix(salt + index));
}

enum { CHUNK = 32 };

/* The best of 32 members, or NONE. With tick 0, as for the first attempt for a sticky client, nobody is left
 * out: then nothing but the identities is read. A global function gets numbers only and looks the maps up
 * again; the verifier follows it once, and does not follow what it returns. It follows each round of a loop,
 * so the walk is split in two. */
__attribute__((noinline)) __u32 sameport_best_of_chunk(__u32 key, __u32 tick, __u64 salt, __u32 first)
{
	struct choice c = {};
	__u64 best_score = WORST;
	__u32 best = NONE;

	if (!open_table(&c, key))
		return NONE;
	for (__u32 i = 0; i < CHUNK && first + i < c.count; i++) {
		__u64 score = score_at(&c, first + i, tick, salt);

		if (score < best_score) {
			best = first + i;
			best_score = score;
		}
	}
	return best;
}

/* The best member, or NONE. */
__attribute__((noinline)) __u32 sameport_best(__u32 key, __u32 tick, __u64 salt)
{
	struct choice c = {};
	__u64 best_score = WORST;
	__u32 best = NONE;

	if (!open_table(&c, key))
		return NONE;
	if (c.count <= CHUNK)
		return sameport_best_of_chunk(key, tick, salt, 0);
	for (__u32 first = 0; first < MEMBERS && first < c.count; first += CHUNK) {
		__u32 index = sameport_best_of_chunk(key, tick, salt, first);
		__u64 score = index == NONE ? WORST : score_at(&c, index, tick, salt);

		if (score < best_score) {
			best = index;
			best_score = score;
		}
	}
	return best;
}

/* The first member of 32, from this one on, that is not left out. */
__attribute__((noinline)) __u32 sameport_able_of_chunk(__u32 key, __u32 tick, __u32 first)
{
	struct choice c = {};

	if (!open_table(&c, key))
		return NONE;
	for (__u32 i = 0; i < CHUNK && first + i < c.count; i++)
		if (!is_left_out(brief_at(&c, first + i), tick))
			return first + i;
	return NONE;
}

/* The first member, from this one on, that is not left out. */
__attribute__((noinline)) __u32 sameport_able(__u32 key, __u32 tick, __u32 from)
{
	for (__u32 passed = 0; passed <= MEMBERS; passed += CHUNK) {
		__u32 found = sameport_able_of_chunk(key, tick, (from + passed) & (MEMBERS - 1));

		if (found != NONE)
			return found;
	}
	return NONE;
}

/* Takes the turn of the member; 0 if another processor did at the same time. */
INLINE int take_turn(struct choice *c, __u32 index)
{
	__u64 *next = &c->counters->passes[member_at(c, index)];
	__u64 now = c->control->turn[c->key & 1], seen = *next;
	__u64 pass = (long long)(seen - now) < 0 ? now : seen;
	__u64 stride = c->table->inverses[BOUNDED(index)];

	if (__sync_val_compare_and_swap(next, seen, pass + stride) != seen)
		return 0;
	c->control->turn[c->key & 1] = pass;
	return 1;
}

INLINE __u32 next_in_turn(struct choice *c)
{
	__u32 index;

	if (c->table->uniform)
		return __sync_fetch_and_add(&c->control->round[c->key & 1], 1) % c->count;
	index = sameport_best(c->key, c->tick, 0);
	return index == NONE || take_turn(c, index) ? index : NONE;
}

/* How often a member is drawn, and taken with the probability of its weight, before all are compared. */
enum { LOTS = 6 };

/* Draws by the weights. A tick other than 0: among those that are not left out. */
__attribute__((noinline)) __u32 sameport_draw(__u32 key, __u32 tick, __u64 random)
{
	struct choice c = {};

	if (!open_table(&c, key))
		return NONE;
	for (int i = 0; !tick && i < LOTS; i++) {
		__u32 index = below(random, c.count);

		random = next(random);
		if (below(random, c.table->greatest) < c.table->weights[BOUNDED(index)])
			return index;
		random = next(random);
	}
	return sameport_best(key, tick, random);
}

/* Attempts that follow the first are among those that are not left out. */
INLINE __u32 draw(struct choice *c, __u32 left_out, __u64 random)
{
	return c->table->uniform ? below(random, c->count) : sameport_draw(c->key, left_out, random);
}

INLINE __u32 better_of_two(struct choice *c, __u32 left_out)
{
	__u64 random = random_salt(), of_a, of_b;
	__u32 a = draw(c, left_out, random), b;

	if (c->table->uniform) {
		/* Another one */
		random = next(random);
		b = a + 1 + below(random, c->count - 1);
		b -= b >= c->count ? c->count : 0;
	} else {
		b = draw(c, left_out, random_salt());
	}
	if (a == NONE || b == NONE)
		return a;
	of_a = brief_at(c, a);
	of_b = brief_at(c, b);
	if (is_left_out(of_a, c->tick))
		return b;
	if (is_left_out(of_b, c->tick))
		return a;
	if (c->table->uniform)
		return load_of(of_b) < load_of(of_a) ? b : a;
	return weighted_load(c, b, of_b) < weighted_load(c, a, of_a) ? b : a;
}

/* The index of the member that the policy wants, or NONE. The client matters to sticky only. */
__attribute__((noinline)) __u32 sameport_wanted(__u32 key, __u32 tick, __u32 attempt, __u64 client)
{
	__u32 left_out = attempt ? tick : 0;
	struct choice c = {};

	if (policy == STICKY)
		return sameport_best(key, left_out, client);
	if (policy != RANDOM && policy != TWO_CHOICES && policy != ROUND_ROBIN)
		return sameport_best(key, tick, random_salt());
	if (!open_table(&c, key) || !c.count)
		return NONE;
	c.tick = tick;
	if (policy == RANDOM)
		return draw(&c, left_out, random_salt());
	if (policy == TWO_CHOICES)
		return better_of_two(&c, left_out);
	/* The one after a member that is left out does not get the turns of both. */
	if (attempt && c.table->uniform)
		return sameport_able(key, tick, below(random_salt(), c.count));
	return next_in_turn(&c);
}

INLINE __u32 any_able(struct choice *c)
{
	return sameport_able(c->key, c->tick, below(random_salt(), c->count));
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
	__u32 key = lane * MEMBERS + member_at(c, index);

	return !bpf_sk_select_reuseport(c->md, &listeners, &key, 0);
}

enum { GONE, UNABLE, TAKEN };

INLINE void leave_out(struct choice *c, __u32 member, __u32 state)
{
	c->counters->of[BOUNDED(member)].hung = state;
	c->counters->brief[BOUNDED(member)].until =
		c->tick + (state == HUNG ? HUNG_LEFT_OUT : OTHERS_LEFT_OUT);
}

/* Selects this member. One that is UNABLE stays selected until another is. */
INLINE int take(struct choice *c, __u32 index, __u64 brief)
{
	__u32 member = member_at(c, index), state = ABLE;
	struct counter *counter = &c->counters->of[member];

	if (!select(c, index)) {
		leave_out(c, member, ABLE);
		return GONE;
	}
	/* What is in its queue is a part of its load. */
	if (reads_queue && ((int)brief > 0 || counter->waiting))
		state = judge(c, counter);
	if (state != ABLE) {
		leave_out(c, member, state);
		return UNABLE;
	}
	if (brief >> 32) {
		counter->hung = ABLE;
		c->counters->brief[member].until = 0;
	}
	return TAKEN;
}

/* Selects a member by the policy, or one that can take the connection, or any; its index, or NONE. */
INLINE __u32 choose_in(struct choice *c)
{
	__u64 client = policy == STICKY ? client_of(c->md) : 0;
	__u32 unable = NONE;

	if (!c->count)
		return NONE;
#pragma clang loop unroll(disable)
	for (int i = 0; i < DRAWS + FURTHER; i++) {
		__u32 index = i < DRAWS ? sameport_wanted(c->key, c->tick, i, client) : any_able(c);
		__u64 brief;
		int result;

		if (index == NONE)
			continue;
		brief = brief_at(c, index);
		if (is_left_out(brief, c->tick))
			continue;
		result = take(c, index, brief);
		if (result == TAKEN)
			return index;
		if (result == UNABLE)
			unable = index;
	}
	if (unable == NONE)
		unable = below(random_salt(), c->count);
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

/* Forgets what members were chosen for two epochs ago and has not come: of even epochs, of odd ones, or
 * both. Of all members, as one that is held back does not keep it either. */
__attribute__((noinline)) __u32 sameport_sweep(__u32 even, __u32 odd)
{
	struct counters *counters = the_counters();

	if (!counters)
		return 0;
	for (__u32 i = 0; i < MEMBERS; i++) {
		struct pending *pending = &counters->pending[i];
		int of_even = even ? pending->of[0] : 0, of_odd = odd ? pending->of[1] : 0;

		if (!(of_even | of_odd))
			continue;
		__sync_fetch_and_add(&pending->of[0], -of_even);
		__sync_fetch_and_add(&pending->of[1], -of_odd);
		__sync_fetch_and_add(&counters->brief[i].load, -(of_even + of_odd));
	}
	return 0;
}

/* The first choice of an epoch, each half a second, sweeps: about a microsecond. */
INLINE void forget(struct choice *c)
{
	__u32 epoch = epoch_at(c->now), before = c->control->swept, both;

	if (before == epoch ||
	    __sync_val_compare_and_swap(&c->control->swept, before, epoch) != before)
		return;
	both = epoch - before != 1;
	sameport_sweep(both || !(epoch & 1), both || epoch & 1);
}

INLINE void count_choice(struct choice *c, __u32 member)
{
	__sync_fetch_and_add(&c->counters->of[BOUNDED(member)].chosen, 1);
	__sync_fetch_and_add(&c->counters->pending[BOUNDED(member)].of[epoch_at(c->now) & 1], 1);
	__sync_fetch_and_add(&c->counters->brief[BOUNDED(member)].load, 1);
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
	__u32 member = member_at(c, index);
	struct counter *counter = &c->counters->of[member];
	struct moved to = { .member = member, .generation = counter->generation };
	__u64 cookie = bpf_get_socket_cookie(connection);

	if (connection->state != TCP_ESTABLISHED && connection->state != TCP_CLOSE_WAIT)
		return;
	if (bpf_map_update_elem(&moved, &cookie, &to, 0))
		return;
	__sync_fetch_and_add(&counter->open, 1);
	__sync_fetch_and_add(&c->counters->brief[member].load, 1);
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
	if (!open_table(&c, key))
		return PASS;
	/* A class without a member leaves its share to the other. */
	if (!c.count && !open_table(&c, key ^ 1))
		return PASS;
	c.now = now;
	c.tick = tick_at(now);
	forget(&c);
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
		count_choice(&c, member_at(&c, index));
	return PASS;
}

/* bpf_probe_read_kernel requires a GPL-compatible license. */
char _license[] SEC("license") = "Dual MIT/GPL";
