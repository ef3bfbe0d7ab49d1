/* The state of one port: what the program that chooses (traffic.bpf.c), the programs that count
 * (traffic_count.bpf.c) and crates/sys/src/bpf/traffic share. A test compares each size and offset with
 * those of crates/sys/src/bpf/traffic/layout.rs. A change of any of it needs a new LAYOUT there.
 *
 * Who writes what:
 *   control, tables      the controller (a process with the lock of the directory); the counting programs,
 *                        which append a member that comes and strike one that goes;
 *   members, counters    the programs and the controller, which has mapped them, with atomic operations;
 *   listeners            the programs and the controller.
 * Nothing here is needed for more than a choice: a reader that sees half of a change chooses a member that
 * is closed, for which the kernel answers ENOENT, and chooses again.
 */
#ifndef SAMEPORT_TRAFFIC_H
#define SAMEPORT_TRAFFIC_H

#include "kernel.h"

enum {
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_SOCKMAP = 15,
};

enum { BPF_F_CLONE = 1 << 9, BPF_F_MMAPABLE = 1 << 10, PIN_BY_NAME = 1 };

/* A lane is one reuseport group of the kernel: one address of one family. The sockets of a worker in
 * several lanes are one member. */
enum { MEMBERS = 1024, LANES = 4, NO_MEMBER = 0xffffffff };

struct bpf_spin_lock {
	__u32 val;
};

struct lane {
	__u32 family; /* 0: not used */
	__u32 device;
	__u32 ip[4]; /* of the network's byte order; IPv4 in the first */
};

struct control {
	__u64 netns; /* cookie */
	__u16 port;
	__u16 lanes;
	__u32 active;     /* 0 or 1: the pair of tables that is read */
	__u32 version;    /* changes with every member that comes or goes by itself */
	__u32 admit;      /* 1: a newcomer is chosen from at once */
	__u32 weight;     /* of a newcomer */
	__u32 inverse;
	__u32 rank;
	__u32 first;      /* where the search for a free number begins */
	__u32 canary;     /* share of the canary's members, per 10,000 */
	__u32 probes;     /* how many source ports go to a fixed member */
	__u64 missed;     /* choices that the kernel's hash made, because no member could */
	__u64 turn[2];    /* round-robin: the virtual time, of the ordinary members and the canary's */
	__u32 round[2];   /* round-robin of equal weights: how many turns were taken */
	__u32 swept;      /* the epoch in which what was pending too long was last forgotten */
	__u32 unused;
	__u64 jiffies;    /* when `now` was read */
	__u64 now;        /* CLOCK_MONOTONIC_COARSE */
	struct lane lane[LANES];
};

/* Four: two pairs, of which one is active; in a pair the ordinary members and the canary's. What a walk over
 * the members reads is together, by index: a cache line has 8 to 32 members of it. */
struct table {
	__u32 count;
	__u32 uniform;  /* the weight of each, or 0 if they differ */
	__u32 greatest; /* no weight is greater */
	__u32 unused;
	__u16 at[MEMBERS];       /* by member: one more than its index; 0: it has none */
	__u16 members[MEMBERS];
	__u32 weights[MEMBERS];
	__u32 inverses[MEMBERS];  /* 2^28 / weight */
	__u32 ranks[MEMBERS];     /* standby: the lowest that can take it is chosen from */
	__u32 places[MEMBERS];    /* cpu, numa: the processor or node whose connections it gets; -1: none */
	__u64 identities[MEMBERS]; /* sticky: a number that stays with the member, mixed */
	/* Held to append and to strike, not to choose. Last: without CAP_PERFMON the verifier accepts no
	 * variable offset that could be its own. */
	struct bpf_spin_lock lock;
	__u32 unused_too;
};

struct member {
	__u64 cookies[LANES]; /* of the listeners */
	__u64 owner;          /* the process that a member is put together by */
	__u32 generation;     /* counts the members that have had this number */
	__u32 sockets;        /* how many listeners; 0: the number is free. CLAIMED: it is about to have one */
	__u32 adopted;        /* not 0: put in by a program, and not by a plan; HELD_BACK: not to be chosen yet */
	__u32 unused;
};

enum { CLAIMED = 1 << 16 };

struct members {
	struct member of[MEMBERS];
};

/* What a choice compares, in one word. `load` is `open` and both numbers that are pending, always: each of
 * the three changes together with it. */
struct brief {
	int load;
	__u32 until; /* the tick until which it is left out, for what `hung` says */
};

/* Chosen and not established, of the epochs with even and odd numbers. */
struct pending {
	int of[2];
};

struct counter {
	__u32 generation;
	__u32 open;       /* connections in ESTABLISHED or CLOSE-WAIT */
	__u32 accepted;   /* established less queued, at `waiting` */
	__u32 hung;       /* 1: the queue is not empty and nothing is accepted; 2: the queue is full */
	__u64 chosen;
	__u64 established;
	__u64 waiting;    /* since when the queue is not empty and nothing is accepted; 0: it is */
	__u32 looked;     /* when the queue was last looked at: a LOOK_SHIFT-th part of the time */
	__u32 limit;      /* of the queue, as it was then */
	__u64 unused[2];
};

struct counters {
	struct brief brief[MEMBERS];
	struct pending pending[MEMBERS];
	__u64 passes[MEMBERS]; /* round-robin: the virtual time of the next turn */
	struct counter of[MEMBERS];
};

/* Kept with a listener, from which each of its connections gets a copy. */
struct mark {
	__u32 member;
	__u32 generation;
	__u32 lane;
	__u32 flags;
};

/* HELD_BACK: of a socket that does not listen yet. Its supervisor admits it when the worker is ready. */
enum { COUNTED = 1, COUNTED_UNTIL_CLOSE = 2, HELD_BACK = 4 };

/* The member that a queued connection has moved to. */
struct moved {
	__u32 member;
	__u32 generation;
};

/* The member whose socket has a cookie with this low half, for connection ids of QUIC. */
struct named {
	__u32 member;
	__u32 generation;
};

#define MAP(name, kind, entries, k, v, flags)                \
	struct {                                             \
		NUMBER(type, kind);                          \
		NUMBER(max_entries, entries);                \
		NUMBER(map_flags, flags);                    \
		NUMBER(pinning, PIN_BY_NAME);                \
		TYPE(key, k);                                \
		TYPE(value, v);                              \
	} name SEC(".maps")

MAP(control, BPF_MAP_TYPE_ARRAY, 1, __u32, struct control, BPF_F_MMAPABLE);
MAP(tables, BPF_MAP_TYPE_ARRAY, 4, __u32, struct table, 0);
MAP(members, BPF_MAP_TYPE_ARRAY, 1, __u32, struct members, BPF_F_MMAPABLE);
MAP(counters, BPF_MAP_TYPE_ARRAY, 1, __u32, struct counters, BPF_F_MMAPABLE);
/* lane * MEMBERS + member. A socket that is closed leaves by itself. */
MAP(listeners, BPF_MAP_TYPE_SOCKMAP, LANES *MEMBERS, __u32, __u64, 0);
/* By the process, the member that had the last socket of it. */
MAP(owners, BPF_MAP_TYPE_LRU_HASH, MEMBERS, __u64, __u32, 0);
/* UDP. The controller writes it; a socket that is closed leaves. */
MAP(names, BPF_MAP_TYPE_HASH, LANES *MEMBERS, __u32, struct named, BPF_F_NO_PREALLOC);
/* By the source port of a readiness probe. */
MAP(probes, BPF_MAP_TYPE_HASH, MEMBERS, __u16, __u32, 0);
/* By the cookie of the connection. */
MAP(moved, BPF_MAP_TYPE_HASH, 1 << 18, __u64, struct moved, BPF_F_NO_PREALLOC);

static long (*bpf_map_update_elem)(void *map, const void *key, const void *value,
				   __u64 flags) = (void *)2;
static long (*bpf_map_delete_elem)(void *map, const void *key) = (void *)3;
static __u32 (*bpf_get_smp_processor_id)(void) = (void *)8;
static __u32 (*bpf_get_numa_node_id)(void) = (void *)42;
static __u64 (*bpf_get_socket_cookie)(void *ctx) = (void *)46;
static long (*bpf_sk_select_reuseport)(void *ctx, void *map, void *key, __u64 flags) = (void *)82;
static long (*bpf_skb_load_bytes)(const void *ctx, __u32 from, void *to, __u32 size) = (void *)26;
static long (*bpf_skb_load_bytes_relative)(const void *ctx, __u32 from, void *to, __u32 size,
					   __u32 of) = (void *)68;
static long (*bpf_sock_ops_cb_flags_set)(void *ctx, int flags) = (void *)59;
static long (*bpf_sock_map_update)(void *ctx, void *map, void *key, __u64 flags) = (void *)53;
static void (*bpf_spin_lock)(struct bpf_spin_lock *) = (void *)93;
static void (*bpf_spin_unlock)(struct bpf_spin_lock *) = (void *)94;
static long (*bpf_probe_read_kernel)(void *to, __u32 size, const void *from) = (void *)113;
static __u64 (*bpf_jiffies64)(void) = (void *)118;
static __u64 (*bpf_ktime_get_coarse_ns)(void) = (void *)160;

INLINE struct control *the_control(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&control, &zero);
}

INLINE struct counters *the_counters(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&counters, &zero);
}

/* The finalizer of splitmix64, of which two rounds suffice to tell members apart. */
INLINE __u64 mix(__u64 x)
{
	x *= 0xbf58476d1ce4e5b9ull;
	x ^= x >> 31;
	x *= 0x94d049bb133111ebull;
	return x ^ x >> 32;
}

/* The verifier needs the bound, and the compiler must not see that it is not needed. */
#define BOUNDED(index)                                  \
	({                                              \
		__u32 bounded = (index);                \
		asm volatile("" : "+r"(bounded));       \
		bounded & (MEMBERS - 1);                \
	})

/* A chosen connection that is not established within one to two epochs, of 0.54 s, is forgotten. */
enum { EPOCH_SHIFT = 29 };

INLINE __u32 epoch_at(__u64 now)
{
	return now >> EPOCH_SHIFT;
}

/* 67 ms: the number lasts for nine years. */
INLINE __u32 tick_at(__u64 now)
{
	return now >> 26;
}

#endif
