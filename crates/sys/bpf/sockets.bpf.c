// SPDX-License-Identifier: MIT OR GPL-2.0
/* BPF iterator over every file descriptor of every process. Writes a record for each descriptor of a
 * socket in a requested state: the process, the inode, and the facts that sock_diag does not report.
 * sock_diag lists the sockets themselves.
 *
 * Iterator type task_file (Linux 5.8) with bpf_sock_from_file (5.11). It visits the processes of the
 * pid namespace in which it was created, and each descriptor table of a process once.
 *
 * The layout of kernel structs differs between builds. Each member that is read has an external symbol
 * `struct:path.to.member`; the loader sets it to the offset of that member in bits, from the kernel's
 * BTF. So the object needs no kernel header and no other relocation.
 */
#include "kernel.h"

/* Weak: the compiler assumes that the address of any other symbol is not 0. */
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
MEMBER(program_aux, "bpf_prog:aux");
MEMBER(program_id, "bpf_prog_aux:id");
MEMBER(group_members, "sock_reuseport:socks");
/* The query: inode number of a network namespace; states, a bit each; a port, 0 for all. */
MEMBER(wanted_network, "=network");
MEMBER(wanted_states, "=states");
MEMBER(wanted_port, "=port");
/* 1: skip sockets that have been connected. */
MEMBER(wanted_quickly, "=quickly");
/* Members of a group that are searched for the socket. The verifier walks over each round of the search,
 * so a small number shortens loading. */
MEMBER(wanted_search, "=search");

enum { SS_CONNECTED = 3 };

enum { REUSE_PORT = 1, REUSE_ADDRESS = 2, FILTER = 4, STEERED = 8, GROUPED = 16 };

/* UNNUMBERED: the socket is not among the first `=search` members of its group. */
enum { CHUNK = 32, UNNUMBERED = 0xffffffff };

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

/* Read by crates/sys/src/bpf/socket_iter/record.rs. */
struct record {
	__u64 inode;
	__u32 pid;
	__u32 descriptor;
	__u32 flags;
	__u32 index;
	__u32 members;
	__u8 comm[16];
	__u32 program; /* the number of the program of its group; 0 of a classic one */
};

static void *(*bpf_get_current_task)(void) = (void *)35;
static long (*bpf_probe_read_kernel)(void *to, __u32 size, const void *from) = (void *)113;
static long (*bpf_seq_write)(struct seq_file *to, const void *data, __u32 size) = (void *)127;
static struct socket *(*bpf_sock_from_file)(struct file *file) = (void *)162;

/* The loader puts in constants, so the verifier removes branches that they rule out. */
#define BITS(member) ((__u64)(member))

#define AT(of, member) ((const void *)(of) + (BITS(member) >> 3))

#define READ(type, of, member)                                                    \
	({                                                                        \
		type read = 0;                                                    \
		bpf_probe_read_kernel(&read, sizeof(read), AT(of, member));       \
		read;                                                             \
	})

/* Reads `count` bits of a bit field that does not cross a byte boundary. */
#define READ_BITS(of, member, count)                                              \
	((READ(__u8, of, member) >> (BITS(member) & 7)) & ((1 << (count)) - 1))

/* The pid of a process in the pid namespace of the reader; 0 if it has none there. */
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

/* The index of the socket in its group. */
INLINE __u32 index_in(const void *group, __u32 members, const void *sk)
{
	const void *chunk[CHUNK];

	for (__u32 done = 0; done < BITS(wanted_search) && done < members; done += CHUNK) {
		/* The kernel allocates space for 128 members and doubles it, so a chunk is never past
		 * the end. */
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
	const void *sk, *leader, *group, *program;
	__u16 family, port;
	__u8 state;

	if (!file || !task)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	/* Most sockets are connected. Skipping them without reading the sock halves the time. */
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
		program = READ(const void *, group, group_program);
		if (program) {
			record.flags |= STEERED;
			record.program = READ(__u32, READ(const void *, program, program_aux), program_id);
		}
		record.members = READ(__u16, group, group_length);
		record.index = index_in(group, record.members, sk);
	}
	bpf_seq_write(ctx->meta->seq, &record, sizeof(record));
	return 0;
}

/* bpf_probe_read_kernel and bpf_seq_write require a GPL-compatible license. */
char _license[] SEC("license") = "Dual MIT/GPL";
