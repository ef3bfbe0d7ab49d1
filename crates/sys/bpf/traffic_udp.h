/* UDP has no connections, so the kernel asks for a member at every datagram. What keeps the datagrams of
 * one client together is here: a table of flows, and the names of sockets that QUIC servers put into their
 * connection ids. The policy chooses for the first datagram of a flow only. See docs/udp.md.
 */
#ifndef SAMEPORT_TRAFFIC_UDP_H
#define SAMEPORT_TRAFFIC_UDP_H

enum {
	/* 52 bytes, and 68 of the kernel's: 7.5 MiB for a port of UDP. A flow that is new takes the place of
	 * one that was quiet for long. The loader makes one entry for TCP. */
	FLOWS = 65536,
	/* RFC 4787, section 4.3: a mapping of UDP is kept for two minutes at least. */
	FLOW_SECONDS = 120,
	/* A client repeats its first packets until it has an answer, and one ClientHello can need several.
	 * Meanwhile they follow the first one, also to a member that begins to drain in between. */
	FLOW_BEGINS_SECONDS = 10,
};

/* The local port is that of the whole table. */
struct flow_key {
	__u32 addresses[8]; /* of the client, then the local one; IPv4: the first two */
	__u16 port;         /* of the client */
	__u16 ethernet;     /* ETH_P_* */
};

struct flow {
	__u32 member;
	__u32 generation;
	__u32 began; /* seconds since the machine was started */
	__u32 seen;
};

MAP(flows, BPF_MAP_TYPE_LRU_HASH, FLOWS, struct flow_key, struct flow, 0);

/* 1: connection ids name sockets. */
const volatile __u32 reads_ids = 0;

/* Both addresses are together in either header: 12 and 8 bytes from its start, 8 and 32 bytes long. */
INLINE int read_flow_key(struct sk_reuseport_md *md, struct flow_key *key)
{
	long failed;

	__builtin_memset(key, 0, sizeof(*key));
	key->ethernet = md->eth_protocol;
	if (key->ethernet == htons(ETH_P_IP))
		failed = bpf_skb_load_bytes_relative(md, 12, key->addresses, 8, HDR_START_NET);
	else
		failed = bpf_skb_load_bytes_relative(md, 8, key->addresses, 32, HDR_START_NET);
	return !failed && !bpf_skb_load_bytes(md, 0, &key->port, sizeof(key->port));
}

/* The first bytes of a QUIC packet (RFC 8999, section 5). */
struct quic {
	__u8 first;
	__u8 rest[10];
};

enum { UDP_HEADER = 8, LONG_HEADER = 0x80 };
/* Where they are in `rest`. */
enum { SHORT_ID = 0, VERSION = 0, LONG_ID_LENGTH = 4, LONG_ID = 5 };
/* A connection id: an octet whose first three bits are the format, where 7 means that no server is named;
 * the four octets that name the socket; anything. This is the plaintext format of QUIC-LB
 * (draft-ietf-quic-load-balancers), for any number of the configuration. */
enum { NAME_AT = 1, NAME_SIZE = 4, NO_NAME = 7 };
/* The version, and the types of the packets that can be the first: RFC 9000, section 17.2, RFC 9369,
 * section 3.2. */
enum { QUIC_1 = 1, INITIAL_1 = 0, EARLY_1 = 1 };
#define QUIC_2 0x6b3343cf
enum { INITIAL_2 = 1, EARLY_2 = 2 };

INLINE __u32 number_at(const __u8 *at)
{
	return (__u32)at[0] << 24 | (__u32)at[1] << 16 | (__u32)at[2] << 8 | at[3];
}

/* The connection id, or null if it names no socket. The id that a client makes up for its first packet is
 * random, and names a member of n by chance once in 2^32 / n. */
INLINE const __u8 *naming_id(const struct quic *quic)
{
	const __u8 *id = quic->rest + SHORT_ID;

	if (quic->first & LONG_HEADER) {
		if (quic->rest[LONG_ID_LENGTH] < NAME_AT + NAME_SIZE)
			return 0;
		id = quic->rest + LONG_ID;
	}
	return id[0] >> 5 == NO_NAME ? 0 : id;
}

INLINE int opens_quic(const struct quic *quic)
{
	__u8 type = quic->first >> 4 & 3;

	if (!(quic->first & LONG_HEADER))
		return 0;
	switch (number_at(quic->rest + VERSION)) {
	case QUIC_1:
		return type == INITIAL_1 || type == EARLY_1;
	case QUIC_2:
		return type == INITIAL_2 || type == EARLY_2;
	}
	return 0;
}

/* Selects this member's socket of the lane, unless another member has its number by now. */
INLINE int follow(struct sk_reuseport_md *md, __u32 member, __u32 generation)
{
	struct counters *counters = the_counters();
	__u32 key = lane * MEMBERS + BOUNDED(member);

	return counters && counters->of[BOUNDED(member)].generation == generation &&
	       !bpf_sk_select_reuseport(md, &listeners, &key, 0);
}

/* Selects the socket that the connection id names. */
INLINE int follow_id(struct sk_reuseport_md *md, const struct quic *quic)
{
	const __u8 *id = naming_id(quic);
	struct named *named;
	__u32 name;

	if (!id)
		return 0;
	name = number_at(id + NAME_AT);
	named = bpf_map_lookup_elem(&names, &name);
	return named && follow(md, named->member, named->generation);
}

/* Whether this member gets what is new. */
INLINE int takes_new(__u32 active, __u32 member)
{
	__u32 ordinary = (active & 1) * 2, canary = ordinary + 1;
	struct table *table = bpf_map_lookup_elem(&tables, &ordinary);

	if (table && table->at[BOUNDED(member)])
		return 1;
	table = bpf_map_lookup_elem(&tables, &canary);
	return table && table->at[BOUNDED(member)];
}

INLINE __u32 seconds_at(__u64 now)
{
	return now / 1000000000ull;
}

/* Selects the member that the flow has. A new connection of QUIC in an old flow, as from a client with one
 * socket for all, does not go to a member that gets nothing new. */
INLINE int follow_flow(struct sk_reuseport_md *md, struct flow_key *key, __u32 active, __u32 now, int opens)
{
	struct flow *flow = bpf_map_lookup_elem(&flows, key);

	if (!flow || now - flow->seen > FLOW_SECONDS)
		return 0;
	if (opens && now - flow->began > FLOW_BEGINS_SECONDS && !takes_new(active, flow->member))
		return 0;
	if (!follow(md, flow->member, flow->generation))
		return 0;
	/* Not at every datagram: the line would go from processor to processor. */
	if (flow->seen != now)
		flow->seen = now;
	return 1;
}

/* Selects the member that a datagram belongs to. 0: the policy chooses, and sameport_remember follows. Both
 * are global functions, so that TCP, which does not call them, has the stack. */
__attribute__((noinline)) int sameport_follow(struct sk_reuseport_md *md, __u32 active, __u32 now)
{
	struct flow_key key;
	struct quic quic;
	int opens = 0;

	if (reads_ids && !bpf_skb_load_bytes(md, UDP_HEADER, &quic, sizeof(quic))) {
		if (follow_id(md, &quic))
			return 1;
		opens = opens_quic(&quic);
	}
	return read_flow_key(md, &key) && follow_flow(md, &key, active, now, opens);
}

__attribute__((noinline)) int sameport_remember(struct sk_reuseport_md *md, __u32 member, __u32 now)
{
	struct flow flow = { .member = member, .began = now, .seen = now };
	struct counters *counters = the_counters();
	struct flow_key key;

	if (!counters || !read_flow_key(md, &key))
		return 0;
	flow.generation = counters->of[BOUNDED(member)].generation;
	/* If the table has no room at all, the next datagram is chosen for again. */
	return !bpf_map_update_elem(&flows, &key, &flow, 0);
}

#endif
