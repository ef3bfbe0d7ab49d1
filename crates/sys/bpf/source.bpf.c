/* The source address of what a cgroup sends out: sockets that their program has not bound itself get
 * it before `connect`, and datagrams of such sockets when they are sent.
 *
 * Built by `cargo xtask bpf`; the object beside this file is what gets loaded.
 */
#include "kernel.h"

/* Its other side is in crates/sys/src/bpf/cgroup_bind/layout.rs. */
struct source {
	__u64 netns; /* cookie of the only network namespace to act in; 0: every one */
	__u32 ip[4]; /* IPv4 mapped */
	__u16 port;  /* 0: any */
	__u16 family; /* 4 or 6 */
	__u32 unused;
};

struct {
	NUMBER(type, BPF_MAP_TYPE_ARRAY);
	NUMBER(max_entries, 1);
	TYPE(key, __u32);
	TYPE(value, struct source);
} source SEC(".maps");

enum { GIVEN, REFUSED };

/* How often a connection or datagram was given the address, and how often it could not be. */
struct {
	NUMBER(type, BPF_MAP_TYPE_ARRAY);
	NUMBER(max_entries, 2);
	TYPE(key, __u32);
	TYPE(value, __u64);
} given SEC(".maps");

/* Sockets that their program has bound. A datagram socket that it has not bound has a port all the
 * same by the time that it sends, so the port cannot tell. */
struct {
	NUMBER(type, BPF_MAP_TYPE_SK_STORAGE);
	NUMBER(map_flags, BPF_F_NO_PREALLOC);
	TYPE(key, int);
	TYPE(value, __u8);
} bound SEC(".maps");

INLINE struct source *ours(struct bpf_sock_addr *ctx, __u16 family)
{
	__u32 zero = 0;
	struct source *from = bpf_map_lookup_elem(&source, &zero);

	if (!from || from->family != family || !protocol_of(ctx->type, ctx->protocol))
		return 0;
	if (from->netns && from->netns != bpf_get_netns_cookie(ctx))
		return 0;
	return from;
}

INLINE void count(__u32 what)
{
	__u64 *number = bpf_map_lookup_elem(&given, &what);

	if (number)
		__sync_fetch_and_add(number, 1);
}

/* Elsewhere than asked is worse than not at all: what refuses the address refuses the call. */
INLINE int outcome(long error)
{
	if (error) {
		count(REFUSED);
		bpf_set_retval(error);
		return REFUSE;
	}
	count(GIVEN);
	return GO_ON;
}

/* A fixed port can be the source of several connections, each to another place. With SO_REUSEADDR as
 * well, another user's datagram socket could come between. */
INLINE void share(struct bpf_sock_addr *ctx, struct source *from)
{
	int on = 1, off = 0;

	if (!from->port)
		return;
	if (protocol_of(ctx->type, ctx->protocol) == IPPROTO_UDP)
		bpf_setsockopt(ctx, SOL_SOCKET, SO_REUSEADDR, &off, sizeof off);
	bpf_setsockopt(ctx, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
}

INLINE int bind_v6(struct bpf_sock_addr *ctx, struct source *from)
{
	struct sockaddr_in6 address = { .sin6_family = AF_INET6, .sin6_port = htons(from->port) };

	__builtin_memcpy(address.sin6_addr, from->ip, sizeof address.sin6_addr);
	share(ctx, from);
	return outcome(bpf_bind(ctx, &address, sizeof address));
}

SEC("cgroup/connect4") int connect4(struct bpf_sock_addr *ctx)
{
	struct source *from = ours(ctx, 4);
	struct sockaddr_in address = { .sin_family = AF_INET };
	struct bpf_sock *sk = ctx->sk;

	/* An AF_UNSPEC address takes a connection back. */
	if (!from || !sk || sk->src_port || sk->src_ip4 || ctx->user_family != AF_INET)
		return GO_ON;
	address.sin_port = htons(from->port);
	address.sin_addr = from->ip[3];
	share(ctx, from);
	return outcome(bpf_bind(ctx, &address, sizeof address));
}

SEC("cgroup/connect6") int connect6(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	__u32 to[4] = { ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3] };
	struct source *from = ours(ctx, is_mapped(to) ? 4 : 6);

	if (!from || !sk || sk->src_port || ctx->user_family != AF_INET6)
		return GO_ON;
	if (sk->src_ip6[0] || sk->src_ip6[1] || sk->src_ip6[2] || sk->src_ip6[3])
		return GO_ON;
	return bind_v6(ctx, from);
}

INLINE int is_bound(struct bpf_sock_addr *ctx)
{
	return !ctx->sk || bpf_sk_storage_get(&bound, ctx->sk, 0, 0);
}

SEC("cgroup/sendmsg4") int sendmsg4(struct bpf_sock_addr *ctx)
{
	struct source *from = ours(ctx, 4);

	/* A source that is there already was chosen by the program (IP_PKTINFO). */
	if (!from || ctx->msg_src_ip4 || is_bound(ctx))
		return GO_ON;
	ctx->msg_src_ip4 = from->ip[3];
	count(GIVEN);
	return GO_ON;
}

SEC("cgroup/sendmsg6") int sendmsg6(struct bpf_sock_addr *ctx)
{
	struct source *from = ours(ctx, 6);

	if (!from || is_bound(ctx))
		return GO_ON;
	if (ctx->msg_src_ip6[0] || ctx->msg_src_ip6[1] || ctx->msg_src_ip6[2] || ctx->msg_src_ip6[3])
		return GO_ON;
	ctx->msg_src_ip6[0] = from->ip[0];
	ctx->msg_src_ip6[1] = from->ip[1];
	ctx->msg_src_ip6[2] = from->ip[2];
	ctx->msg_src_ip6[3] = from->ip[3];
	count(GIVEN);
	return GO_ON;
}

INLINE int note_bound(struct bpf_sock_addr *ctx)
{
	if (ctx->sk)
		bpf_sk_storage_get(&bound, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	return GO_ON;
}

SEC("cgroup/bind4") int note4(struct bpf_sock_addr *ctx)
{
	return note_bound(ctx);
}

SEC("cgroup/bind6") int note6(struct bpf_sock_addr *ctx)
{
	return note_bound(ctx);
}

char _license[] SEC("license") = "Dual MIT/GPL";
