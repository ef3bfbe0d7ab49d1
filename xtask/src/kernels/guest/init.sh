#!/bin/busybox sh
# The first process of the guest: loads the drivers of the disk and starts systemd from it.
bb=/bin/busybox
$bb mkdir -p /dev /proc /root
$bb mount -t devtmpfs dev /dev
$bb mount -t proc proc /proc
for module in $($bb cat /modules/order); do
    case $module in
        *.xz) $bb xzcat "/modules/$module" >/module.ko ;;
        *) $bb cp "/modules/$module" /module.ko ;;
    esac
    $bb insmod /module.ko || echo "insmod $module failed"
done
tries=0
while [ ! -b /dev/vda ] && [ $tries -lt 600 ]; do
    $bb sleep 1
    tries=$((tries + 1))
done
$bb mount -t ext4 /dev/vda /root || exec $bb poweroff -f
$bb umount /proc
exec $bb switch_root /root /lib/systemd/systemd
