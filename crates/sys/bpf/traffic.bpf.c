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
#include "traffic_take.h"

/* A SYN is the only segment for which a choice opens a connection. */
INLINE int opens_connection(struct sk_reuseport_md *md)
{
	const __u8 *header = md->data;

	if (md->ip_protocol != IPPROTO_TCP)
		return 1;
	return header + 14 <= (const __u8 *)md->data_end && (header[13] & 0x12) == 0x02;
}

/* Forgets what 32 members were chosen for. */
__attribute__((noinline)) __u32 sameport_sweep_chunk(__u32 first, __u32 even, __u32 odd)
{
	struct counters *counters = the_counters();

	if (!counters)
		return 0;
	for (__u32 i = 0; i < 32; i++) {
		__u32 member = BOUNDED(first + i);
		struct pending *pending = &counters->pending[member];
		int of_even = even ? pending->of[0] : 0, of_odd = odd ? pending->of[1] : 0;

		if (!(of_even | of_odd))
			continue;
		__sync_fetch_and_add(&pending->of[0], -of_even);
		__sync_fetch_and_add(&pending->of[1], -of_odd);
		__sync_fetch_and_add(&counters->brief[member].load, -(of_even + of_odd));
	}
	return 0;
}

/* Forgets what members were chosen for two epochs ago and has not come: of even epochs, of odd ones, or
 * both. Of all members, as one that is held back does not keep it either. */
__attribute__((noinline)) __u32 sameport_sweep(__u32 even, __u32 odd)
{
	for (__u32 first = 0; first < MEMBERS; first += 32)
		sameport_sweep_chunk(first, even, odd);
	return 0;
}

/* The first choice of an epoch, each half a second, sweeps: a few microseconds. */
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
	__u32 key, index, active;
	__u64 now;

	if (!control || (!md->migrating_sk && is_probe(md, control)))
		return PASS;
	now = time_of(control);
	c.random = random_of(md, now);
	active = control->active;
	if (is_udp && sameport_follow(md, active, seconds_at(now)))
		return PASS;
	key = (active & 1) * 2;
	if (control->canary && below(mix(~c.random), 10000) < control->canary)
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
		sameport_remember(md, member_at(&c, index), seconds_at(now));
	if (md->migrating_sk)
		count_migration(&c, index, md->migrating_sk);
	else if (opens_connection(md))
		count_choice(&c, member_at(&c, index));
	return PASS;
}

/* bpf_probe_read_kernel requires a GPL-compatible license. */
char _license[] SEC("license") = "Dual MIT/GPL";
