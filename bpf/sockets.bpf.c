// SPDX-License-Identifier: MIT OR GPL-2.0
/* Every descriptor of every process that is a socket which waits for others, or is bound: whose it
 * is, which socket, and what no list of the kernel's tells of it. One record each; the sockets
 * themselves are told by sock_diag.
 *
 * A BPF iterator (task_file, Linux 5.8; bpf_sock_from_file, 5.11). It walks the processes of the pid
 * namespace of the one who opens it, and of each process every table of descriptors once.
 *
 * The kernel's structs differ from build to build. What is read of them is named by external symbols,
 * `struct:path.to.member`; the loader puts in how many bits in that member lies, from the kernel's own
 * BTF. So the object needs no header of the kernel and no relocation but these.
 */
#include "kernel.h"

/* Weak: only of such a symbol the compiler believes that it may be 0. */
#define MEMBER(symbol, path) extern const char symbol[] __asm__(path) __attribute__((weak))

MEMBER(task_leader, "task_struct:group_leader");
MEMBER(task_comm, "task_struct:comm");
MEMBER(task_pid, "task_struct:thread_pid");
MEMBER(pid_level, "pid:level");
MEMBER(pid_numbers, "pid:numbers");
MEMBER(upid_size, "upid");
MEMBER(upid_number, "upid:nr");
MEMBER(file_inode, "file:f_inode");
MEMBER(inode_number, "inode:i_ino");
MEMBER(socket_state, "socket:state");
MEMBER(socket_sk, "socket:sk");
MEMBER(sk_family, "sock_common:skc_family");
MEMBER(sk_state, "sock_common:skc_state");
MEMBER(sk_port, "sock_common:skc_num");
MEMBER(sk_net, "sock_common:skc_net.net");
MEMBER(net_number, "net:ns.inum");
MEMBER(sk_reuse, "sock_common:skc_reuse");
MEMBER(sk_reuse_port, "sock_common:skc_reuseport");
MEMBER(sk_filter, "sock:sk_filter");
MEMBER(sk_group, "sock:sk_reuseport_cb");
MEMBER(group_length, "sock_reuseport:num_socks");
MEMBER(group_program, "sock_reuseport:prog");
MEMBER(group_members, "sock_reuseport:socks");
/* What is looked for: a network namespace, by its number; states, a bit each; a port, 0 for all. */
MEMBER(wanted_network, "=network");
MEMBER(wanted_states, "=states");
MEMBER(wanted_port, "=port");
/* 1: without what has once been connected. */
MEMBER(wanted_quickly, "=quickly");

enum { SS_CONNECTED = 3 };

enum { REUSE_PORT = 1, REUSE_ADDRESS = 2, FILTER = 4, STEERED = 8, GROUPED = 16 };

/* Of a larger group, members are counted but not numbered. */
enum { CHUNK = 32, LARGEST = 512, UNNUMBERED = 0xffffffff };

struct seq_file;
struct task_struct;
struct file;
struct socket;

struct bpf_iter_meta {
	struct seq_file *seq;
	__u64 session_id;
	__u64 seq_num;
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta __attribute__((aligned(8)));
	struct task_struct *task __attribute__((aligned(8)));
	__u32 fd __attribute__((aligned(8)));
	struct file *file __attribute__((aligned(8)));
};

/* As crates/sys/src/bpf/socket_iter/record.rs reads it. */
struct record {
	__u64 inode;
	__u32 pid;
	__u32 descriptor;
	__u32 flags;
	__u32 index;
	__u32 members;
	__u8 comm[16];
	__u32 unused;
};

static void *(*bpf_get_current_task)(void) = (void *)35;
static long (*bpf_probe_read_kernel)(void *to, __u32 size, const void *from) = (void *)113;
static long (*bpf_seq_write)(struct seq_file *to, const void *data, __u32 size) = (void *)127;
static struct socket *(*bpf_sock_from_file)(struct file *file) = (void *)162;

/* The verifier knows the value of every symbol, and folds what is made of it. */
#define BITS(member) ((__u64)(member))

#define AT(of, member) ((const void *)(of) + (BITS(member) >> 3))

#define READ(type, of, member)                                                    \
	({                                                                        \
		type read = 0;                                                    \
		bpf_probe_read_kernel(&read, sizeof(read), AT(of, member));       \
		read;                                                             \
	})

/* So many bits of a bit field that does not cross a byte. */
#define READ_BITS(of, member, many)                                               \
	((READ(__u8, of, member) >> (BITS(member) & 7)) & ((1 << (many)) - 1))

/* The number of a process in the namespace of the one who reads. */
INLINE __u32 number_of(const void *leader)
{
	const void *pid = READ(const void *, leader, task_pid);
	const void *own = READ(const void *, bpf_get_current_task(), task_pid);
	__u32 level = READ(__u32, own, pid_level);
	__u32 number = 0;

	if (!pid || !own || READ(__u32, pid, pid_level) < level)
		return 0;
	bpf_probe_read_kernel(&number, sizeof(number),
			      AT(pid, pid_numbers) + level * (BITS(upid_size) >> 3) +
				      (BITS(upid_number) >> 3));
	return number;
}

/* Which of the members it is, by their order in the group. */
INLINE __u32 index_in(const void *group, __u32 members, const void *sk)
{
	const void *chunk[CHUNK];

	for (__u32 done = 0; done < LARGEST && done < members; done += CHUNK) {
		/* The kernel makes room for 128 members, and for twice as many when it is full. */
		if (bpf_probe_read_kernel(chunk, sizeof(chunk),
					  AT(group, group_members) + done * sizeof(void *)))
			return UNNUMBERED;
		for (__u32 i = 0; i < CHUNK; i++)
			if (chunk[i] == sk)
				return done + i;
	}
	return UNNUMBERED;
}

SEC("iter/task_file")
int sockets(struct bpf_iter__task_file *ctx)
{
	struct file *file = ctx->file;
	struct task_struct *task = ctx->task;
	struct record record = {};
	struct socket *socket;
	const void *sk, *leader, *group;
	__u16 family, port;
	__u8 state;

	if (!file || !task)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	/* Most are connected. Not to look at what is behind them halves the time of the whole walk. */
	if (BITS(wanted_quickly) && READ(__u32, socket, socket_state) == SS_CONNECTED)
		return 0;
	sk = READ(const void *, socket, socket_sk);
	if (!sk)
		return 0;
	state = READ(__u8, sk, sk_state);
	if (state > 31 || !(BITS(wanted_states) >> state & 1))
		return 0;
	family = READ(__u16, sk, sk_family);
	if (family != AF_INET && family != AF_INET6)
		return 0;
	port = READ(__u16, sk, sk_port);
	if (!port || (BITS(wanted_port) && port != BITS(wanted_port)))
		return 0;
	if (READ(__u32, READ(const void *, sk, sk_net), net_number) != (__u32)BITS(wanted_network))
		return 0;

	leader = READ(const void *, task, task_leader);
	record.pid = number_of(leader);
	if (!record.pid)
		return 0;
	record.descriptor = ctx->fd;
	record.inode = READ(__u64, READ(const void *, file, file_inode), inode_number);
	bpf_probe_read_kernel(record.comm, sizeof(record.comm), AT(leader, task_comm));
	if (READ_BITS(sk, sk_reuse_port, 1))
		record.flags |= REUSE_PORT;
	if (READ_BITS(sk, sk_reuse, 4))
		record.flags |= REUSE_ADDRESS;
	if (READ(const void *, sk, sk_filter))
		record.flags |= FILTER;
	group = READ(const void *, sk, sk_group);
	if (group) {
		record.flags |= GROUPED;
		if (READ(const void *, group, group_program))
			record.flags |= STEERED;
		record.members = READ(__u16, group, group_length);
		record.index = index_in(group, record.members, sk);
	}
	bpf_seq_write(ctx->meta->seq, &record, sizeof(record));
	return 0;
}

/* bpf_probe_read_kernel and bpf_seq_write are for GPL-compatible programs. */
char _license[] SEC("license") = "Dual MIT/GPL";
