/* Selects the wanted member, if it accepts connections, or another. */
#ifndef SAMEPORT_TRAFFIC_TAKE_H
#define SAMEPORT_TRAFFIC_TAKE_H

#include "traffic_policy.h"

/* What is judged hung accepts nothing for this time while its queue is not empty. */
#define HUNG_AFTER (200 * 1000 * 1000ull)
/* For how many ticks a member that is hung, full or closed is left out before it is looked at again. */
enum { HUNG_LEFT_OUT = 3, OTHERS_LEFT_OUT = 1 };

/* How often a member is drawn before the first that can take the connection is looked for. */
enum { DRAWS = 3, FURTHER = 3 };

INLINE __u32 any_able(struct choice *c)
{
	c->random = next(c->random);
	return sameport_able(c->key, c->tick, below(c->random, c->count));
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

/* A part of the time in which the queue of a member is looked at once, of 34 ms. */
enum { LOOK_SHIFT = 25 };

enum { ABLE = 0, HUNG = 1, FULL = 2 };

/* Whether the selected member takes connections out of its queue. `established` grows after the queue
 * does, so a number that is accepted can be too small by those in between, and never too large. */
INLINE __u32 judge(struct choice *c, struct counter *counter)
{
	const void *sk = selected(c->md);
	__u32 queued = read_field(sk, at_queued), limit = read_field(sk, at_limit);
	__u32 accepted = counter->established - queued;

	counter->limit = limit;
	counter->looked = c->now >> LOOK_SHIFT;

	if (!queued) {
		if (counter->waiting)
			counter->waiting = 0;
		return ABLE;
	}
	if (queued > limit)
		return FULL;
	if (!counter->waiting || (int)(accepted - counter->accepted) > 0) {
		counter->waiting = c->now;
		counter->accepted = accepted;
		return ABLE;
	}
	return c->now - counter->waiting > HUNG_AFTER ? HUNG : ABLE;
}

/* A look costs three calls. A queue that is not looked at has no more connections than the member has open:
 * with fewer than its limit it is not full. What is hung is so for longer than a part of the time. */
INLINE int is_worth_a_look(struct choice *c, const struct counter *counter, __u64 brief)
{
	if ((int)brief <= 0 && !counter->waiting)
		return 0;
	return counter->looked != (__u32)(c->now >> LOOK_SHIFT) || (__u32)brief >= counter->limit ||
	       brief >> 32;
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
	if (reads_queue && is_worth_a_look(c, counter, brief))
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
	__u64 seed = policy == STICKY ? client_of(c->md) : c->random;
	__u32 unable = NONE;

	if (!c->count)
		return NONE;
#pragma clang loop unroll(disable)
	for (int i = 0; i < DRAWS + FURTHER; i++) {
		__u32 index;
		__u64 brief;
		int result;

		/* The first attempt, which is almost always the last, without a call. */
		if (!i)
			index = wanted(c, 0, seed);
		else if (i < DRAWS)
			index = sameport_wanted(c->key, c->tick, i, policy == STICKY ? seed : seed + mix(i));
		else
			index = any_able(c);
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
		unable = below(next(c->random), c->count);
	return select(c, unable) ? unable : NONE;
}

#endif
