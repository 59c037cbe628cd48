#!/bin/busybox sh
# The first process of a Linux guest (sip_test_env/linux_guest.py): loads the modules that the file $GUEST_MODULES names,
# then obeys commands from the terminal $GUEST_LINE until that is closed.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/run TERM=dumb LC_ALL=C.UTF-8
box=/bin/busybox
$box mount -t proc proc /proc
$box mount -t sysfs sys /sys
$box mount -t tmpfs tmpfs /run # all else is the host's root, read only
$box mount -t tmpfs tmpfs /var/tmp
echo /bin/true >/proc/sys/kernel/modprobe # the kernel asks for modules by names of the host's
for module in $($box cat "$GUEST_MODULES"); do
    $box insmod "$module" || echo "cannot load $module"
done
$box ip link set lo up
exec 3<>"$GUEST_LINE" # kept open: user-mode Linux closes the channel with its last user
$box stty raw -echo <&3
echo ready >&3
# Not interactive (standard error is no terminal): no prompt, no echo. Not busybox, which would prefer its own `ip`.
/bin/sh <&3 >&3 2>/dev/null
$box poweroff -f
