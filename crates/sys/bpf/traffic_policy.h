/* The policies: which member is wanted. */
#ifndef SAMEPORT_TRAFFIC_POLICY_H
#define SAMEPORT_TRAFFIC_POLICY_H

#include "traffic_choice.h"

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

/* Both are mixed already. */
INLINE __u64 lot_between(__u64 client, __u64 identity)
{
	return (client ^ identity) * 0x94d049bb133111ebull;
}

/* Each member draws a number from the salt and its own identity, exponentially distributed with its
 * weight, and the least is chosen: a member by the weights. With a salt from the client's address (weighted
 * rendezvous hashing) a client moves only if its member leaves, or to a member that comes. */
INLINE __u64 distance(const struct choice *c, __u32 index, __u64 client)
{
	__u64 lot = lot_between(client, c->table->identities[BOUNDED(index)]);

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

/* A number of this member: whether it is greater than that of another depends on the salt alone. */
INLINE __u64 lot_of(__u64 salt, __u32 index)
{
	return (salt ^ index) * 0x5851f42d4c957f2dull;
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
	return is_left_out(brief, tick) ? WORST : score_of(c, index, brief, lot_of(salt, index));
}

enum { CHUNK = 64, FEW = 8 };

/* The two walks that a new connection usually makes, each as short as it can be: 64 members in 150 ns. They
 * find what score_at and a comparison would. */

/* For equal weights the one with the fewest connections. */
INLINE __u32 least_of(const struct choice *c, __u32 tick, __u64 salt, __u32 first, __u32 most)
{
	const __u16 *members = c->table->members + first;
	const struct counters *counters = c->counters;
	__u64 best_score = WORST;
	__u32 best = NONE, count = c->count;

	for (__u32 i = 0; i < most; i++) {
		__u64 brief, score;

		if (first + i >= count)
			break;
		brief = *(const volatile __u64 *)&counters->brief[members[i] & (MEMBERS - 1)];
		/* Neither a time until which it is left out nor a negative load: almost always. */
		if (brief >> 31) {
			if (is_left_out(brief, tick))
				continue;
			brief = load_of(brief);
		}
		score = brief << 32 | lot_of(salt, first + i) >> 32;
		if (score < best_score) {
			best = first + i;
			best_score = score;
		}
	}
	return best;
}

/* For equal weights the one that is nearest to the client. */
INLINE __u32 nearest_of(const struct choice *c, __u64 client, __u32 first, __u32 most)
{
	const __u64 *identities = c->table->identities + first;
	__u64 best_score = WORST;
	__u32 best = NONE, count = c->count;

	for (__u32 i = 0; i < most; i++) {
		__u64 score;

		if (first + i >= count)
			break;
		score = lot_between(client, identities[i]);
		if (score < best_score) {
			best = first + i;
			best_score = score;
		}
	}
	return best;
}

/* The best of 64 members, or NONE. With tick 0, as for the first attempt for a sticky client, nobody is left
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
	/* A multiple of its size, which the verifier has to see. */
	first &= MEMBERS - CHUNK;
	if (policy == LEAST_CONNECTIONS && c.table->uniform)
		return least_of(&c, tick, salt, first, CHUNK);
	if (is_by_distance() && c.table->uniform && !tick)
		return nearest_of(&c, salt, first, CHUNK);
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

/* The same number, of which the verifier knows nothing: it would follow all that comes after a walk for each
 * member. */
INLINE __u32 forgotten(__u32 index, __u32 unknown)
{
	index ^= unknown;
	asm volatile("" : "+r"(index));
	return index ^ unknown;
}

/* A few members are compared without a call. */
INLINE __u32 best(struct choice *c, __u32 tick, __u64 salt)
{
	if (c->count <= FEW && c->table->uniform) {
		if (policy == LEAST_CONNECTIONS)
			return forgotten(least_of(c, tick, salt, 0, FEW), salt);
		if (policy == STICKY && !tick)
			return forgotten(nearest_of(c, salt, 0, FEW), salt);
	}
	return c->count <= CHUNK ? sameport_best_of_chunk(c->key, tick, salt, 0) :
				   sameport_best(c->key, tick, salt);
}

/* The first member of 64, from this one on, that is not left out. */
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
	index = best(c, c->tick, 0);
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

INLINE __u32 better_of_two(struct choice *c, __u32 left_out, __u64 random)
{
	__u32 a = draw(c, left_out, random), b;
	__u64 of_a, of_b;

	random = next(random);
	if (c->table->uniform) {
		/* Another one */
		b = a + 1 + below(random, c->count - 1);
		b -= b >= c->count ? c->count : 0;
	} else {
		b = draw(c, left_out, mix(random));
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

/* The index of the member that the policy wants, or NONE. The seed is the client for sticky, else random. */
INLINE __u32 wanted(struct choice *c, __u32 attempt, __u64 seed)
{
	__u32 left_out = attempt ? c->tick : 0;

	if (policy == STICKY)
		return best(c, left_out, seed);
	if (policy == RANDOM)
		return draw(c, left_out, seed);
	if (policy == TWO_CHOICES)
		return better_of_two(c, left_out, seed);
	if (policy != ROUND_ROBIN)
		return best(c, c->tick, seed);
	/* The one after a member that is left out does not get the turns of both. */
	if (attempt && c->table->uniform)
		return sameport_able(c->key, c->tick, below(seed, c->count));
	return next_in_turn(c);
}

/* The same, for the attempts after the first. */
__attribute__((noinline)) __u32 sameport_wanted(__u32 key, __u32 tick, __u32 attempt, __u64 seed)
{
	struct choice c = {};

	if (!open_table(&c, key) || !c.count)
		return NONE;
	c.tick = tick;
	return wanted(&c, attempt, seed);
}

#endif
