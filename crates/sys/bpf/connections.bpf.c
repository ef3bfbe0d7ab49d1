// SPDX-License-Identifier: MIT OR GPL-2.0
/* BPF iterator over every TCP socket of a network namespace. Writes a record for each connection: who
 * sent data last, this machine or the peer. sock_diag reports the times of both in jiffies (4 or 10 ms),
 * so it does not tell the order of a request and a quick answer.
 *
 * The kernel keeps the sequence number of the last segment that updated the send window (snd_wl1;
 * net/ipv4/tcp_input.c, tcp_update_wl). If it equals rcv_nxt, that segment had no data and came after all
 * data of the peer: it acknowledges data that was sent after the peer's last. If this machine has
 * unacknowledged data, the peer's last data does not acknowledge it, and was sent before.
 *
 * Iterator type tcp (Linux 5.9). The layout of kernel structs differs between builds: see
 * sockets.bpf.c.
 */
#include "kernel.h"

/* Weak: the compiler assumes that the address of any other symbol is not 0. */
#define MEMBER(symbol, path) extern const char symbol[] __asm__(path) __attribute__((weak))

MEMBER(sk_state, "sock_common:skc_state");
MEMBER(sk_cookie, "sock_common:skc_cookie");
MEMBER(received, "tcp_sock:rcv_nxt");
MEMBER(window_update, "tcp_sock:snd_wl1");
MEMBER(acknowledged, "tcp_sock:snd_una");
MEMBER(transmitted, "tcp_sock:snd_nxt");
MEMBER(written, "tcp_sock:write_seq");

enum { TCP_ESTABLISHED = 1 };

/* UNSENT: some data is not transmitted yet. */
enum { RECEIVED_LAST = 0, SENT_LAST = 1, UNSENT = 2 };

struct seq_file;
struct sock_common;

struct bpf_iter_meta {
	struct seq_file *seq;
	__u64 session_id;
	__u64 seq_num;
};

struct bpf_iter__tcp {
	struct bpf_iter_meta *meta __attribute__((aligned(8)));
	struct sock_common *sk_common __attribute__((aligned(8)));
	__u32 uid __attribute__((aligned(8)));
};

/* Read by crates/sys/src/bpf/socket_iter/last_data.rs. */
struct record {
	__u64 cookie;
	__u64 order;
};

static long (*bpf_probe_read_kernel)(void *to, __u32 size, const void *from) = (void *)113;
static long (*bpf_seq_write)(struct seq_file *to, const void *data, __u32 size) = (void *)127;

#define READ(type, of, member)                                                    \
	({                                                                        \
		type read = 0;                                                    \
		bpf_probe_read_kernel(&read, sizeof(read),                        \
				      (const void *)(of) + ((__u64)(member) >> 3)); \
		read;                                                             \
	})

SEC("iter/tcp")
int connections(struct bpf_iter__tcp *ctx)
{
	struct sock_common *sk = ctx->sk_common;
	struct record record = {};
	__u32 una, nxt;

	/* Other states have shorter structs. */
	if (!sk || READ(__u8, sk, sk_state) != TCP_ESTABLISHED)
		return 0;
	record.cookie = READ(__u64, sk, sk_cookie);
	if (!record.cookie)
		return 0;
	una = READ(__u32, sk, acknowledged);
	nxt = READ(__u32, sk, transmitted);
	if (READ(__u32, sk, written) != nxt)
		record.order = UNSENT;
	else if (una != nxt || READ(__u32, sk, window_update) == READ(__u32, sk, received))
		record.order = SENT_LAST;
	bpf_seq_write(ctx->meta->seq, &record, sizeof(record));
	return 0;
}

/* bpf_probe_read_kernel and bpf_seq_write require a GPL-compatible license. */
char _license[] SEC("license") = "Dual MIT/GPL";
