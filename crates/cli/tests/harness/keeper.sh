# Waits until the test executable ends, also by SIGKILL or Ctrl-C, then ends the processes that it
# left running and removes its directory, cgroups and network namespace.
#
# Input: the directory, the pid of the test executable, the mount point of cgroup v2 or an empty
# line. A fourth line, at a normal exit, asks for the list of the processes that are left.
trap '' HUP INT TERM PIPE
read -r dir
read -r owner
read -r cgroups
if read -r _; then normal=yes; else normal=; fi

# Fields of /proc/PID/stat: state, session, terminal. False for a process that has exited.
stat() {
    read -r line 2>/dev/null <"/proc/$1/stat" || return 1
    set -- ${line##*) }
    state=$1 session=$4 terminal=$5
    [ "$state" != Z ] && [ "$state" != X ]
}

# A program can overwrite its environment. So its arguments, directories and open files count too,
# unless it belongs to another terminal, such as a shell of someone who looks at the directory.
left() {
    {
        grep -lsF -e "TEST_SAMEPORT_DIR=$dir" /proc/[0-9]*/environ
        grep -lsF -e "$dir/" /proc/[0-9]*/cmdline | sed 's/$/ weak/'
        find /proc/[0-9]*/cwd /proc/[0-9]*/exe /proc/[0-9]*/fd -lname "$dir*" 2>/dev/null |
            sed 's/$/ weak/'
    } | sed -n 's|^/proc/\([0-9]*\)/[^ ]*|\1|p' | sort -u | while read -r pid weak; do
        [ "$pid" != "$owner" ] && [ "$pid" != $$ ] && stat "$pid" || continue
        [ -z "$weak" ] || [ "$terminal" = 0 ] || [ "$session" = "$own_session" ] || continue
        echo "$pid"
    done | sort -u
}

stat $$
own_session=$session

# Processes that were killed a moment ago are not left.
tries=0
pids=$(left)
while [ -n "$pids" ] && [ "$normal" ] && [ $tries -lt 20 ]; do
    sleep 0.1
    tries=$((tries + 1))
    pids=$(left)
done
for pid in $pids; do
    [ -z "$normal" ] || echo "$pid $(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline")"
done
# A master starts a new process when one is killed.
tries=0
while [ -n "$pids" ] && [ $tries -lt 100 ]; do
    kill -KILL $pids 2>/dev/null
    sleep 0.01
    tries=$((tries + 1))
    pids=$(left)
done

# A cgroup can be removed when its processes are gone, and those below it are.
if [ "$cgroups" ]; then
    for cgroup in "$cgroups"/*sameport-*-"$owner"-* "$cgroups"/sameport-test-"$owner".service; do
        [ ! -d "$cgroup" ] || find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null
    done
fi
[ ! -e "/run/netns/sameport-test-$owner" ] || ip netns del "sameport-test-$owner"
rm -rf --one-file-system -- "$dir"
