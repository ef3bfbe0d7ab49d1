// SPDX-License-Identifier: MIT OR GPL-2.0
/* Follows the listeners and connections of one port. Attached to the root cgroup, so that the sockets of
 * every process are seen: a socket that begins to listen is put into the maps (adopted), one that is
 * closed is taken out, and the connections of each member that are open are counted.
 *
 * sockops sees the state of a connection change, in whatever context that happens. cgroup/sock_release
 * sees a process close its last descriptor: of listeners, and of connections that were there before the
 * programs were, whose changes of state are not reported.
 */
#include "traffic.h"

/* 1: the kernel tells sockops programs which process it is (Linux 6.10). */
const volatile __u32 knows_process = 0;

enum {
	PASSIVE_ESTABLISHED_CB = 5,
	STATE_CB = 10,
	LISTEN_CB = 11,
};

enum { STATE_CB_FLAG = 4 };

enum {
	TCP_ESTABLISHED = 1,
	TCP_CLOSE_WAIT = 8,
	TCP_LISTEN = 10,
};

struct bpf_sock_ops {
	__u32 op;
	__u32 args[4];
	__u32 family;
	__u32 remote_ip4;
	__u32 local_ip4;
	__u32 remote_ip6[4];
	__u32 local_ip6[4];
	__u32 remote_port;
	__u32 local_port; /* of the host's byte order */
	__u32 is_fullsock;
	__u32 snd_cwnd;
	__u32 srtt_us;
	__u32 bpf_sock_ops_cb_flags;
	__u32 state;
	__u32 unused[19];
	__u64 bytes[2];
	struct bpf_sock *sk __attribute__((aligned(8)));
};

struct {
	NUMBER(type, BPF_MAP_TYPE_SK_STORAGE);
	NUMBER(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	NUMBER(pinning, PIN_BY_NAME);
	TYPE(key, int);
	TYPE(value, struct mark);
} marks SEC(".maps");

/* What the user asked for, as the controller writes it. No program reads it. */
struct record {
	__u8 bytes[1 << 16];
};

MAP(record, BPF_MAP_TYPE_ARRAY, 1, __u32, struct record, 0);

INLINE struct members *the_members(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&members, &zero);
}

INLINE int is_open(__u32 state)
{
	return state == TCP_ESTABLISHED || state == TCP_CLOSE_WAIT;
}

/* The counters, if the member that this mark is of is still there; else 0. */
INLINE struct counters *counters_of(__u32 member, __u32 generation)
{
	struct counters *counters = the_counters();

	return counters && counters->of[BOUNDED(member)].generation == generation ? counters : 0;
}

/* What was chosen in this epoch or the one before is on its way no longer. 0: it was forgotten. */
INLINE int arrived(struct pending *pending)
{
	if (pending->of[0] > 0)
		__sync_fetch_and_add(&pending->of[0], -1);
	else if (pending->of[1] > 0)
		__sync_fetch_and_add(&pending->of[1], -1);
	else
		return 0;
	return 1;
}

INLINE void count(struct mark *mark)
{
	struct counters *counters = counters_of(mark->member, mark->generation);
	__u32 member = BOUNDED(mark->member);

	if (!counters || mark->flags & COUNTED)
		return;
	mark->flags |= COUNTED;
	__sync_fetch_and_add(&counters->of[member].open, 1);
	__sync_fetch_and_add(&counters->of[member].established, 1);
	if (!arrived(&counters->pending[member]))
		__sync_fetch_and_add(&counters->brief[member].load, 1);
}

INLINE void take_back(struct mark *mark, __u64 cookie)
{
	struct moved *to = bpf_map_lookup_elem(&moved, &cookie);
	struct counters *counters;
	__u32 member = mark->member;

	if (to) {
		member = to->member;
		counters = counters_of(member, to->generation);
	} else if (mark->flags & COUNTED) {
		counters = counters_of(member, mark->generation);
	} else {
		return;
	}
	member = BOUNDED(member);
	mark->flags &= ~COUNTED;
	if (counters) {
		__sync_fetch_and_add(&counters->of[member].open, -1);
		__sync_fetch_and_add(&counters->brief[member].load, -1);
	}
	if (to)
		bpf_map_delete_elem(&moved, &cookie);
}

/* --- listeners that come --- */

/* The lane of an address, or LANES. */
INLINE __u32 lane_of(struct control *control, struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	__u32 family = ctx->family, ip4 = ctx->local_ip4, device = sk->bound_dev_if;
	__u32 ip[4] = { ctx->local_ip6[0], ctx->local_ip6[1], ctx->local_ip6[2], ctx->local_ip6[3] };

	for (__u32 i = 0; i < LANES; i++) {
		struct lane *lane = &control->lane[i];

		if (!lane->family || lane->family != family || lane->device != device)
			continue;
		if (family == AF_INET ? lane->ip[0] == ip4 :
		    lane->ip[0] == ip[0] && lane->ip[1] == ip[1] && lane->ip[2] == ip[2] &&
			    lane->ip[3] == ip[3])
			return i;
	}
	return LANES;
}

/* Claims one of 32 numbers from this one on; NO_MEMBER if all are used. */
__attribute__((noinline)) __u32 sameport_claim(__u32 first)
{
	struct members *members = the_members();

	if (!members)
		return NO_MEMBER;
	for (__u32 i = 0; i < 32; i++) {
		__u32 number = BOUNDED(first + i);

		if (!__sync_val_compare_and_swap(&members->of[number].sockets, 0, CLAIMED))
			return number;
	}
	return NO_MEMBER;
}

/* Claims a number, if any is free. A function of its own has registers for all that it needs: what is
 * spilled to the stack the verifier does not follow without CAP_PERFMON. */
__attribute__((noinline)) __u32 sameport_claim_any(__u32 first)
{
	for (__u32 i = 0; i < MEMBERS; i += 32) {
		__u32 number = sameport_claim(first + i);

		if (number != NO_MEMBER)
			return number;
	}
	return NO_MEMBER;
}

/* Begins a new life of a number that is claimed: nothing of its predecessor counts. */
INLINE void begin(struct member *member, struct counters *counters, __u32 number, __u64 owner, int held)
{
	struct counter *counter = &counters->of[BOUNDED(number)];

	member->generation = counter->generation + 1;
	member->owner = owner;
	member->adopted = held ? HELD_BACK : 1;
	for (__u32 i = 0; i < LANES; i++)
		member->cookies[i] = 0;
	counter->generation = member->generation;
	counter->open = 0;
	counter->hung = 0;
	counter->chosen = 0;
	counter->established = 0;
	counter->waiting = 0;
	counters->pending[BOUNDED(number)].of[0] = 0;
	counters->pending[BOUNDED(number)].of[1] = 0;
	counters->brief[BOUNDED(number)].load = 0;
	counters->brief[BOUNDED(number)].until = 0;
	counters->passes[BOUNDED(number)] = 0;
}

/* A new member; its number, or NO_MEMBER if there are 1,024. */
INLINE __u32 new_member(struct control *control, struct members *members, __u64 owner, int held)
{
	struct counters *counters = the_counters();
	__u32 number;

	if (!counters)
		return NO_MEMBER;
	number = sameport_claim_any(control->first);
	if (number == NO_MEMBER)
		return NO_MEMBER;
	/* A number that has just become free is better left alone for a while. */
	control->first = number + 1;
	begin(&members->of[BOUNDED(number)], counters, number, owner, held);
	return number;
}

/* The member that has other sockets of this process and none in this lane; else NO_MEMBER. */
INLINE __u32 member_of(struct members *members, __u64 owner, __u32 lane)
{
	__u32 *number = owner ? bpf_map_lookup_elem(&owners, &owner) : 0;
	struct member *member;
	__u32 sockets;

	if (!number)
		return NO_MEMBER;
	member = &members->of[BOUNDED(*number)];
	sockets = member->sockets;
	if (member->owner != owner || !sockets || sockets >= LANES || member->cookies[lane & 3])
		return NO_MEMBER;
	if (__sync_val_compare_and_swap(&member->sockets, sockets, sockets + 1) != sockets)
		return NO_MEMBER;
	return *number;
}

/* Appends a newcomer to the ordinary members that are chosen from. A plan that is made meanwhile sees
 * that the version has changed, and is made again. */
INLINE void admit(struct control *control, __u32 number, __u64 identity)
{
	__u32 key = (control->active & 1) * 2, weight = control->weight, count;
	struct table *table = bpf_map_lookup_elem(&tables, &key);

	if (!table)
		return;
	bpf_spin_lock(&table->lock);
	count = table->count;
	if (count < MEMBERS && !table->at[BOUNDED(number)]) {
		table->members[BOUNDED(count)] = number;
		table->weights[BOUNDED(count)] = weight;
		table->inverses[BOUNDED(count)] = control->inverse;
		table->ranks[BOUNDED(count)] = control->rank;
		table->places[BOUNDED(count)] = 0xffffffff;
		table->identities[BOUNDED(count)] = mix(identity);
		if (!count || table->greatest < weight)
			table->greatest = weight;
		table->uniform = !count || table->uniform == weight ? weight : 0;
		table->at[BOUNDED(number)] = count + 1;
		table->count = count + 1;
	}
	bpf_spin_unlock(&table->lock);
}

/* Puts a socket that begins to listen into the maps. */
INLINE void adopt(struct bpf_sock_ops *ctx, struct control *control, struct bpf_sock *sk)
{
	struct members *members = the_members();
	__u64 owner = knows_process ? bpf_get_current_pid_tgid() >> 32 : 0;
	__u64 cookie = bpf_get_socket_cookie(ctx);
	__u32 lane = lane_of(control, ctx, sk), number, key;
	struct mark mark = {}, *kept = bpf_sk_storage_get(&marks, sk, 0, 0);
	int is_new = 0, held = kept && kept->flags & HELD_BACK;
	struct member *member;

	if (lane >= LANES || !members || !cookie)
		return;
	/* With a member that can be chosen it could be chosen too. */
	number = held ? NO_MEMBER : member_of(members, owner, lane);
	if (number == NO_MEMBER) {
		number = new_member(control, members, owner, held);
		is_new = 1;
	}
	if (number == NO_MEMBER)
		return;
	member = &members->of[BOUNDED(number)];
	mark.member = number;
	mark.generation = member->generation;
	mark.lane = lane;
	kept = bpf_sk_storage_get(&marks, sk, &mark, BPF_SK_STORAGE_GET_F_CREATE);
	if (kept)
		*kept = mark;
	member->cookies[lane & 3] = cookie;
	if (is_new)
		member->sockets = 1;
	if (owner)
		bpf_map_update_elem(&owners, &owner, &number, 0);
	key = lane * MEMBERS + number;
	bpf_sock_map_update(ctx, &listeners, &key, 0);
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | STATE_CB_FLAG);
	__sync_fetch_and_add(&control->version, 1);
	if (is_new && control->admit && !held)
		admit(control, number, cookie);
}

/* --- listeners that go --- */

/* Takes a member out of a table; the last entry takes its place. A choice that is made meanwhile finds the
 * last one twice, or the one that goes: both are harmless. */
INLINE void strike(__u32 key, __u32 number)
{
	struct table *table = bpf_map_lookup_elem(&tables, &key);
	__u32 at, last;

	if (!table)
		return;
	bpf_spin_lock(&table->lock);
	at = table->at[BOUNDED(number)];
	last = table->count;
	if (at && last && at <= last) {
		__u32 to = BOUNDED(at - 1), from = BOUNDED(last - 1), moved = table->members[from];

		table->members[to] = moved;
		table->weights[to] = table->weights[from];
		table->inverses[to] = table->inverses[from];
		table->ranks[to] = table->ranks[from];
		table->places[to] = table->places[from];
		table->identities[to] = table->identities[from];
		table->at[BOUNDED(moved)] = at;
		table->at[BOUNDED(number)] = 0;
		table->count = last - 1;
	}
	bpf_spin_unlock(&table->lock);
}

/* A listener is closed. The process hears of it twice: the first clears the cookie. */
INLINE void leave(struct mark *mark, __u64 cookie)
{
	struct control *control = the_control();
	struct members *members = the_members();
	__u32 number = mark->member, lane = mark->lane & 3, name = cookie;
	struct member *member;

	if (!control || !members)
		return;
	member = &members->of[BOUNDED(number)];
	if (member->generation != mark->generation ||
	    __sync_val_compare_and_swap(&member->cookies[lane], cookie, 0) != cookie)
		return;
	bpf_map_delete_elem(&names, &name);
	__sync_fetch_and_add(&control->version, 1);
	if (member->sockets > 1) {
		__sync_fetch_and_add(&member->sockets, -1);
		return;
	}
	strike(0, number);
	strike(1, number);
	strike(2, number);
	strike(3, number);
	member->sockets = 0;
}

SEC("sockops") int connections(struct bpf_sock_ops *ctx)
{
	struct control *control;
	struct bpf_sock *sk;
	struct mark *mark;
	__u32 op = ctx->op;

	if (op != PASSIVE_ESTABLISHED_CB && op != STATE_CB && op != LISTEN_CB)
		return 1;
	control = the_control();
	if (!control || ctx->local_port != control->port)
		return 1;
	sk = ctx->sk;
	if (!sk)
		return 1;
	if (op == LISTEN_CB) {
		if (bpf_get_netns_cookie(ctx) == control->netns)
			adopt(ctx, control, sk);
		return 1;
	}
	mark = bpf_sk_storage_get(&marks, sk, 0, 0);
	if (!mark)
		return 1;
	if (op == PASSIVE_ESTABLISHED_CB) {
		bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | STATE_CB_FLAG);
		/* Usually the state changes after this call. */
		if (is_open(ctx->state))
			count(mark);
		return 1;
	}
	if (ctx->args[0] == TCP_LISTEN)
		leave(mark, bpf_get_socket_cookie(ctx));
	else if (is_open(ctx->args[1]))
		count(mark);
	else if (is_open(ctx->args[0]))
		take_back(mark, bpf_get_socket_cookie(ctx));
	return 1;
}

SEC("cgroup/sock_release") int released(struct bpf_sock *sk)
{
	struct mark *mark = bpf_sk_storage_get(&marks, sk, 0, 0);

	if (!mark)
		return 1;
	/* Of UDP only the members have a mark. */
	if (sk->state == TCP_LISTEN || sk->protocol == IPPROTO_UDP)
		leave(mark, bpf_get_socket_cookie(sk));
	else if (mark->flags & COUNTED_UNTIL_CLOSE)
		take_back(mark, bpf_get_socket_cookie(sk));
	return 1;
}

char _license[] SEC("license") = "Dual MIT/GPL";
