#!/bin/sh
# systemd as pid 1 of its own namespaces: a machine inside this one, which needs no image.
#
#   systemd_machine.sh start DIR CGROUP yes|no     yes: with a cgroup namespace
#
# DIR has: units/ (the units of the machine), files/ (copied over the root directory), enabled (units
# for `systemctl enable`), binds (lines "SOURCE TARGET", mounted from outside), passwd (lines for
# /etc/passwd).
#
# The machine sees the root file system through an overlay whose upper layer is a tmpfs, and has its
# own /run, /tmp, /dev, network, processes and cgroups. Writable global settings are hidden.
# Prints "pid PID" (of systemd, as seen from outside), and runs until stdin is at its end. It then kills
# systemd, and with it every process of the machine, and removes its cgroups. If this script is killed,
# the kernel kills systemd (PR_SET_PDEATHSIG); the cgroups are removed by the next start. If systemd is
# killed while DIR/reboot exists, the machine starts again, in the same cgroup.
set -eu

start() {
    dir=$1 cgroup=$2 namespace=$3
    # Cgroups of killed scripts. The name ends with the pid of the script.
    for old in "${cgroup%-*-*}"-*; do
        owner=${old##*-}
        [ -d "$old" ] && [ ! -d "/proc/$owner" ] || continue
        remove "$old" || true
    done
    own=$(cgroup_path)
    cgroup=$cgroup-$$
    mkdir "$cgroup"
    echo "cgroup $cgroup"
    flags="--mount --pid --net --ipc --uts"
    [ "$namespace" = no ] || flags="$flags --cgroup"
    # A background job has no stdin of its own.
    exec 3<&0
    { read -r _ <&3 || true; : >"$dir/end"; kill -KILL "$(cat "$dir/running")"; } >/dev/null 2>&1 &
    reader=$!
    while
        run_once
        [ -e "$dir/reboot" ] && [ ! -e "$dir/end" ]
    do
        rm "$dir/reboot"
    done
    kill $reader 2>/dev/null || true
    remove "$cgroup"
}

# Starts the machine, and waits for its end.
run_once() {
    # A cgroup namespace has the cgroup of its creator as its root.
    echo $$ >"$cgroup/cgroup.procs"
    # shellcheck disable=SC2086
    setpriv --pdeathsig KILL unshare $flags --fork --kill-child=KILL sh "$0" inside "$dir" </dev/null &
    machine=$!
    # A cgroup with processes of its own cannot distribute controllers.
    echo $$ >"$own/cgroup.procs"
    echo $machine >"$dir/running"
    [ ! -e "$dir/end" ] || kill -KILL $machine
    wait $machine || true
    remove_below "$cgroup"
}

# The cgroup of this process, as a path of the file system.
cgroup_path() {
    mount=$(sed -n 's/^[^ ]* \([^ ]*\) cgroup2 .*/\1/p' /proc/self/mounts | head -n 1)
    echo "$mount$(sed -n 's/^0:://p' /proc/self/cgroup)"
}

# Kills every process of a cgroup and removes it with all cgroups below.
remove() {
    remove_below "$1" && rmdir "$1"
}

# A killed process leaves its cgroup when the kernel has freed it.
remove_below() {
    tries=0
    until [ "$(find "$1" -type d | wc -l)" -le 1 ] && [ -z "$(cat "$1/cgroup.procs")" ]; do
        [ $tries -lt 1000 ] || return 1
        tries=$((tries + 1))
        echo 1 >"$1/cgroup.kill" 2>/dev/null || true
        find "$1" -mindepth 1 -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.02
    done
}

inside() {
    dir=$1
    # /proc still belongs to the pid namespace outside.
    read -r pid _ </proc/self/stat
    mount --make-rprivate /
    layers=/mnt
    mount -t tmpfs -o mode=755 tmpfs $layers
    root=$layers/root
    mkdir $layers/upper $layers/work $root
    mount -t overlay -o lowerdir=/,upperdir=$layers/upper,workdir=$layers/work overlay $root

    mount -t proc proc $root/proc
    # systemd raises fs.file-max and fs.nr_open, which are global. Settings of the network are not.
    mount --bind $root/proc/sys $root/proc/sys
    mount --bind $root/proc/sys/net $root/proc/sys/net
    mount -o remount,bind,ro $root/proc/sys
    # Each start is another boot.
    cat /proc/sys/kernel/random/uuid >$layers/boot_id
    mount --bind $layers/boot_id $root/proc/sys/kernel/random/boot_id
    [ ! -e $root/proc/sysrq-trigger ] || mount --bind /dev/null $root/proc/sysrq-trigger
    mount -t sysfs -o ro sysfs $root/sys
    mount -t tmpfs -o mode=755 tmpfs $root/sys/fs/cgroup
    mount -t cgroup2 cgroup2 $root/sys/fs/cgroup
    [ ! -d $root/sys/fs/bpf ] || mount -t bpf -o mode=700 bpf $root/sys/fs/bpf
    mount -t tmpfs -o mode=755 tmpfs $root/run
    mount -t tmpfs -o mode=1777 tmpfs $root/tmp
    mount -t tmpfs -o mode=755 tmpfs $root/dev
    for device in null zero full random urandom tty; do
        : >$root/dev/$device
        mount --bind /dev/$device $root/dev/$device
    done
    mkdir $root/dev/shm $root/dev/pts
    mount -t tmpfs -o mode=1777 tmpfs $root/dev/shm
    mount -t devpts -o newinstance,ptmxmode=666 devpts $root/dev/pts
    ln -s pts/ptmx $root/dev/ptmx
    ln -s /proc/self/fd $root/dev/fd

    # Only targets and the journal from the distribution: its other services would act on this machine.
    vendor=$root/usr/lib/systemd/system
    kept=$layers/kept
    mkdir $kept $kept/sockets.target.wants $kept/sysinit.target.wants
    cp $vendor/*.target $kept
    cp $vendor/systemd-journald.service $vendor/systemd-journald.socket \
        $vendor/systemd-journald-dev-log.socket $kept
    for unit in systemd-journald.socket systemd-journald-dev-log.socket; do
        ln -s ../$unit $kept/sockets.target.wants/$unit
    done
    ln -s ../systemd-journald.service $kept/sysinit.target.wants/systemd-journald.service
    mount --bind $kept $vendor
    user=$layers/user
    mkdir $user
    cp $root/usr/lib/systemd/user/*.target $root/usr/lib/systemd/user/systemd-exit.service $user
    mount --bind $user $root/usr/lib/systemd/user
    # Generators make units of /etc/init.d and /etc/fstab.
    mkdir $layers/empty
    for other in usr/lib/systemd/system-generators usr/lib/systemd/user-generators etc/systemd/user; do
        [ ! -d $root/$other ] || mount --bind $layers/empty $root/$other
    done
    mkdir -p $root/etc/systemd/system $layers/etc
    mount --bind $layers/etc $root/etc/systemd/system
    cp -r "$dir/units/." $root/etc/systemd/system

    cat "$dir/passwd" >>$root/etc/passwd
    cp -r "$dir/files/." $root
    while IFS=: read -r _ _ uid gid _ home _; do
        chown -R "$uid:$gid" "$root$home"
    done <"$dir/passwd"
    while read -r unit; do
        systemctl --root=$root --quiet enable "$unit"
    done <"$dir/enabled"
    while read -r source target; do
        if [ -d "$source" ]; then
            mkdir -p "$root$target"
        else
            mkdir -p "$root${target%/*}"
            [ -e "$root$target" ] || : >"$root$target"
        fi
        mount --bind "$source" "$root$target"
    done <"$dir/binds"

    cd $root
    mkdir -p mnt/outside
    pivot_root . mnt/outside
    umount -l /mnt/outside
    echo "pid $pid"
    exec env -i container=other PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        /lib/systemd/systemd --unit=multi-user.target --log-target=journal-or-kmsg >/dev/null 2>&1
}

"$@"
