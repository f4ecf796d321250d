#!/bin/bash
# Boots one host of the drill: host.sh DIR NAME ADDRESS PYTHON, in namespaces of its own. DIR keeps its disk. LAYER names
# what its disk has more than this machine's.
set -eu
dir=$1 name=$2 address=$3 python=$4
root=$dir/root
mount -t overlay overlay -o "lowerdir=${LAYER:+$LAYER:}/,upperdir=$dir/upper,workdir=$dir/work" "$root"
mount -t proc none "$root/proc"
for tree in dev sys; do mount --rbind "/$tree" "$root/$tree"; done
mount -t tmpfs -o mode=1777 none "$root/dev/shm"
mount -t tmpfs -o mode=755 none "$root/run"
mount -t tmpfs -o mode=1777 none "$root/tmp"
mount --bind "$dir/srv" "$root/srv"
# Each run is a boot of its own.
cat /proc/sys/kernel/random/uuid >"$dir/boot_id"
mount --bind "$dir/boot_id" "$root/proc/sys/kernel/random/boot_id"
hostname "$name"
until ip link show eth0 >/dev/null 2>&1; do sleep 0.01; done
ip link set lo up
ip addr add "$address/24" dev eth0
ip link set eth0 up
cat >"$root/run/start" <<'START'
mkdir -p /run/sshd /run/speil
chmod 700 /run/speil
log() { exec >>"/srv/log.$1" 2>&1; echo "--- $(date +%T.%N) boot"; }
(log sshd; exec /usr/sbin/sshd -D -e -f /dev/null -h /etc/ssh/drill_key -o UsePAM=no -o StrictModes=no \
    -o PermitRootLogin=prohibit-password -o LogLevel=ERROR) &
(log uploads; exec "$PYTHON" /usr/local/bin/uploads) &
systemctl boot
: >/run/booted
while :; do sleep 1000 & wait; done
START
export PYTHON=$python PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8
exec chroot "$root" /bin/bash /run/start
