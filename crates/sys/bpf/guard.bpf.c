/* Who may bind a port: asked at every bind of the machine, answered for guarded ports only.
 *
 * The same decision as crates/policy: `guard::decide`. It sits at the first cgroup, so that every
 * process is below it, and acts in the network namespaces that guards were set in. `bind4` and `bind6`
 * answer before anything is taken; `post_bind4` and `post_bind6` know the port that the kernel has
 * picked, or that a program of others has put in place of the one asked for.
 *
 * Who binds is read from the kernel's own structures, whose layout the loader finds in the running
 * kernel's type information.
 *
 * Built by `cargo xtask bpf`; the object beside this file is what gets loaded.
 */
#include "kernel.h"

/* Every structure here has its other side in crates/sys/src/bpf/guard/layout.rs. */
struct settings {
	__u64 mark;  /* of the guards that the maps were filled from */
	__u64 since;
};

struct port {
	__u64 netns;
	__u16 port;
	__u8 protocol;
	__u8 unused[5];
};

struct guard {
	__u32 number;
	__u8 report_only;
	__u8 executables; /* whether some executable is allowed */
	__u8 cgroups;
	__u8 unused;
};

enum { USER = 1, CGROUP = 2, EXECUTABLE = 3 };
#define ANY 0xffffffffffffffffull

struct allowed {
	__u32 guard;
	__u32 kind;
	__u64 first;  /* uid; number of the path; device */
	__u64 second; /* inode */
};

/* The paths of cgroups, name by name: what is reached from a path (0: the first cgroup) by a name. */
enum { NAME = 156, DEPTH = 16 };
struct name {
	__u32 from;
	char name[NAME];
};

struct event {
	__u64 number; /* from 1; 0: nothing was written here */
	__u64 time;   /* since the machine was started, in nanoseconds */
	__u64 netns;
	__u64 cgroup;
	__u32 ip[4];
	__u32 pid;
	__u32 uid;
	__u16 port;
	__u8 protocol;
	__u8 report_only;
	__u32 unused;
	char program[16];
};

enum { EVENTS = 1024, LIBBPF_PIN_BY_NAME = 1 };

struct {
	NUMBER(type, BPF_MAP_TYPE_ARRAY);
	NUMBER(max_entries, 1);
	TYPE(key, __u32);
	TYPE(value, struct settings);
} settings SEC(".maps");

struct {
	NUMBER(type, BPF_MAP_TYPE_HASH);
	NUMBER(max_entries, 1);
	TYPE(key, struct port);
	TYPE(value, struct guard);
} guards SEC(".maps");

/* The value: of an executable, its inode's generation, or ANY. */
struct {
	NUMBER(type, BPF_MAP_TYPE_HASH);
	NUMBER(max_entries, 1);
	TYPE(key, struct allowed);
	TYPE(value, __u64);
} allow SEC(".maps");

struct {
	NUMBER(type, BPF_MAP_TYPE_HASH);
	NUMBER(max_entries, 1);
	TYPE(key, struct name);
	TYPE(value, __u32);
} names SEC(".maps");

/* Who was refused: the last of them, and how many there have been. These two go from one set of
 * programs to the next, also to that of another version: with another layout they need other names. */
struct {
	NUMBER(type, BPF_MAP_TYPE_ARRAY);
	NUMBER(max_entries, EVENTS);
	TYPE(key, __u32);
	TYPE(value, struct event);
	NUMBER(pinning, LIBBPF_PIN_BY_NAME);
} refused SEC(".maps");

struct {
	NUMBER(type, BPF_MAP_TYPE_ARRAY);
	NUMBER(max_entries, 1);
	TYPE(key, __u32);
	TYPE(value, __u64);
	NUMBER(pinning, LIBBPF_PIN_BY_NAME);
} count SEC(".maps");

static __u64 (*bpf_get_current_uid_gid)(void) = (void *)15;
static void *(*bpf_get_current_task)(void) = (void *)35;
static __u64 (*bpf_get_current_cgroup_id)(void) = (void *)80;
static long (*bpf_probe_read_kernel)(void *to, __u32 size, const void *from) = (void *)113;
static long (*bpf_probe_read_kernel_str)(void *to, __u32 size, const void *from) = (void *)115;
static __u64 (*bpf_ktime_get_boot_ns)(void) = (void *)125;

/* What is read of the kernel's own structures. */
#define OF_THE_KERNEL __attribute__((preserve_access_index))

struct kernfs_node {
	const char *name;
} OF_THE_KERNEL;

struct cgroup;

struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
} OF_THE_KERNEL;

struct cgroup {
	struct cgroup_subsys_state self;
	int level;
	struct kernfs_node *kn;
} OF_THE_KERNEL;

struct css_set {
	struct cgroup *dfl_cgrp;
} OF_THE_KERNEL;

struct super_block {
	__u32 s_dev;
} OF_THE_KERNEL;

struct inode {
	struct super_block *i_sb;
	unsigned long i_ino;
	__u32 i_generation;
} OF_THE_KERNEL;

struct file {
	struct inode *f_inode;
} OF_THE_KERNEL;

struct mm_struct {
	struct file *exe_file;
} OF_THE_KERNEL;

struct task_struct {
	struct mm_struct *mm;
	struct css_set *cgroups;
} OF_THE_KERNEL;

/* Whether it could be read. */
#define READ(to, from, field) \
	(!bpf_probe_read_kernel(&(to), sizeof(to), __builtin_preserve_access_index(&(from)->field)))

INLINE int executable(__u32 guard, struct task_struct *task)
{
	struct allowed key = { .guard = guard, .kind = EXECUTABLE };
	struct mm_struct *mm;
	struct file *file;
	struct inode *inode;
	struct super_block *super;
	unsigned long ino;
	__u32 device, generation;
	__u64 *wanted;

	/* The kernel's own threads have none. */
	if (!READ(mm, task, mm) || !mm || !READ(file, mm, exe_file) || !file)
		return 0;
	if (!READ(inode, file, f_inode) || !READ(super, inode, i_sb) || !READ(ino, inode, i_ino))
		return 0;
	if (!READ(device, super, s_dev) || !READ(generation, inode, i_generation))
		return 0;
	key.first = device;
	key.second = ino;
	wanted = bpf_map_lookup_elem(&allow, &key);
	return wanted && (*wanted == ANY || *wanted == generation);
}

INLINE int cgroup(__u32 guard, struct task_struct *task)
{
	struct allowed key = { .guard = guard, .kind = CGROUP };
	struct cgroup_subsys_state *above;
	struct cgroup *at, *up[DEPTH];
	struct css_set *set;
	struct kernfs_node *node;
	struct name name;
	const char *text;
	__u32 *path, steps = 0;
	int level;

	if (!READ(set, task, cgroups) || !READ(at, set, dfl_cgrp) || !READ(level, at, level))
		return 0;
	/* Deeper than any rule, and than we look. */
	if (level < 1 || level > DEPTH)
		return 0;
	__builtin_memset(up, 0, sizeof up);
	name.from = 0;
#pragma clang loop unroll(disable)
	for (int i = 0; i < DEPTH; i++) {
		up[i] = at;
		steps = i;
		if (i + 1 >= level)
			break;
		if (!READ(above, at, self.parent) || !above || !READ(at, above, cgroup))
			return 0;
	}
#pragma clang loop unroll(disable)
	for (int i = 0; i < DEPTH; i++) {
		if (steps >= DEPTH)
			return 0;
		__builtin_memset(name.name, 0, sizeof name.name);
		if (!READ(node, up[steps], kn) || !READ(text, node, name))
			return 0;
		if (bpf_probe_read_kernel_str(name.name, sizeof name.name, text) < 0)
			return 0;
		path = bpf_map_lookup_elem(&names, &name);
		if (!path)
			return 0;
		name.from = *path;
		key.first = *path;
		if (bpf_map_lookup_elem(&allow, &key))
			return 1;
		if (steps == 0)
			return 0;
		steps--;
	}
	return 0;
}

INLINE int may_bind(const struct guard *guard)
{
	struct task_struct *task = bpf_get_current_task();
	struct allowed user = { .guard = guard->number, .kind = USER };

	user.first = (__u32)bpf_get_current_uid_gid();
	if (bpf_map_lookup_elem(&allow, &user))
		return 1;
	if (guard->executables && executable(guard->number, task))
		return 1;
	return guard->cgroups && cgroup(guard->number, task);
}

INLINE void note(const struct port *port, const __u32 ip[4], __u8 report_only)
{
	__u32 zero = 0, place;
	__u64 *counted = bpf_map_lookup_elem(&count, &zero), number;
	struct event *event;

	if (!counted)
		return;
	number = __sync_fetch_and_add(counted, 1);
	place = number % EVENTS;
	event = bpf_map_lookup_elem(&refused, &place);
	if (!event)
		return;
	event->number = 0;
	event->time = bpf_ktime_get_boot_ns();
	event->netns = port->netns;
	event->cgroup = bpf_get_current_cgroup_id();
	event->ip[0] = ip[0];
	event->ip[1] = ip[1];
	event->ip[2] = ip[2];
	event->ip[3] = ip[3];
	event->pid = bpf_get_current_pid_tgid() >> 32;
	event->uid = bpf_get_current_uid_gid();
	event->port = port->port;
	event->protocol = port->protocol;
	event->report_only = report_only;
	bpf_get_current_comm(event->program, sizeof event->program);
	event->number = number + 1;
}

INLINE int judge(__u64 netns, __u8 protocol, __u16 number, const __u32 ip[4], int told)
{
	struct port port = { .netns = netns, .port = number, .protocol = protocol };
	struct guard *guard = bpf_map_lookup_elem(&guards, &port);

	if (!guard || may_bind(guard))
		return GO_ON;
	/* What is only reported passes both hooks, and is told once. */
	if (guard->report_only) {
		if (told)
			note(&port, ip, 1);
		return GO_ON;
	}
	note(&port, ip, 0);
	return REFUSE;
}

INLINE int before(struct bpf_sock_addr *ctx, const __u32 ip[4])
{
	__u8 protocol = protocol_of(ctx->type, ctx->protocol);

	/* Which port it will be for 0, the hook after it knows. */
	if (!protocol || !ctx->user_port)
		return GO_ON;
	return judge(bpf_get_netns_cookie(ctx), protocol, ntohs(ctx->user_port), ip, 0);
}

INLINE int after(struct bpf_sock *ctx, const __u32 ip[4])
{
	__u8 protocol = protocol_of(ctx->type, ctx->protocol);

	if (!protocol)
		return GO_ON;
	return judge(bpf_get_netns_cookie(ctx), protocol, ctx->src_port, ip, 1);
}

SEC("cgroup/bind4") int bind4(struct bpf_sock_addr *ctx)
{
	__u32 ip[4];

	mapped(ip, ctx->user_ip4);
	return before(ctx, ip);
}

SEC("cgroup/bind6") int bind6(struct bpf_sock_addr *ctx)
{
	__u32 ip[4] = { ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3] };

	return before(ctx, ip);
}

SEC("cgroup/post_bind4") int post_bind4(struct bpf_sock *ctx)
{
	__u32 ip[4];

	mapped(ip, ctx->src_ip4);
	return after(ctx, ip);
}

SEC("cgroup/post_bind6") int post_bind6(struct bpf_sock *ctx)
{
	__u32 ip[4] = { ctx->src_ip6[0], ctx->src_ip6[1], ctx->src_ip6[2], ctx->src_ip6[3] };

	return after(ctx, ip);
}

char _license[] SEC("license") = "Dual MIT/GPL";
