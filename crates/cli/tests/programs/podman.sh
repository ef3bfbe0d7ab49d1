#!/bin/sh
# Podman with its containers in namespaces of their own; nothing of them is left afterwards.
#
#   podman.sh start
#
# Prints "pid PID" (of the first process of the namespaces, as seen from outside), and runs until stdin is at its
# end. Commands enter the namespaces by nsenter(1). The network is that of the caller.
set -eu

start() {
    exec 3<&0
    unshare --mount --pid --fork --kill-child=KILL sh "$0" inside <&3
}

inside() {
    # /proc still belongs to the pid namespace outside.
    read -r pid _ </proc/self/stat
    mount --make-rprivate /
    mount -t proc proc /proc
    # crun refuses a machine with cgroups of both versions.
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    for dir in /run /var/lib/containers /var/tmp; do
        mkdir -p $dir
        mount -t tmpfs -o mode=755 tmpfs $dir
    done
    mount -t tmpfs -o mode=755 tmpfs /etc/containers
    echo '{"default":[{"type":"insecureAcceptAnything"}]}' >/etc/containers/policy.json
    echo "pid $pid"
    cat >/dev/null
}

"$@"
