#!/bin/bash
# Two hosts for the commands of the documents: `primary` and `standby`, each a copy-on-write view of this
# one in a mount namespace of its own, with a real sshd between them. Nothing outside WORK is written.
#   unshare -m --propagation private world.sh SPEIL REPOSITORY WORK SCRIPT [prepared]
# SCRIPT runs on the primary, line by line as a person would type it; `prepared` starts where "Getting
# started" ends: a daemon mirrors /srv/uploads to standby.
set -eu
speil=$1 repository=$2 work=$3 script=$4 prepared=${5-}
daemon=
trap '[ -z "$daemon" ] || kill "$daemon" 2>/dev/null || true' EXIT

mount -t tmpfs none "$work"
for host in primary standby; do
    mkdir "$work/$host" "$work/$host.upper" "$work/$host.work"
    mount -t overlay overlay \
        -o "lowerdir=/,upperdir=$work/$host.upper,workdir=$work/$host.work" "$work/$host"
    root=$work/$host
    for dir in proc dev sys; do mount --rbind "/$dir" "$root/$dir"; done
    for dir in tmp run; do mount -t tmpfs -o mode=1777 none "$root/$dir"; done
    rm -rf "$root/srv" "$root/etc/speil" "$root/etc/lsyncd" "$root/root/.ssh" "$root/root/.cache" \
        "$root/usr/bin/speil" "$root/usr/local/bin/speil" "$root/usr/local/bin/lsyncd"
    mkdir -p "$root/srv" "$root/root/.ssh" "$root/run/sshd"
    chmod 755 "$root/run/sshd" "$root/run"
    chmod 700 "$root/root/.ssh"
done
primary=$work/primary standby=$work/standby

# The standby: a root who may log in with a key, and no speil.
ssh-keygen -q -t ed25519 -N '' -f "$standby/run/hostkey"
touch "$standby/root/.ssh/authorized_keys"
sed -i 's/^root:[^:]*:/root:*:/' "$standby/etc/shadow"
for _ in 1 2 3 4 5 6 7 8 9 10; do
    port=$((20000 + RANDOM % 12000))
    chroot "$standby" /usr/sbin/sshd -D -e -f /dev/null -p "$port" -h /run/hostkey \
        -o ListenAddress=127.0.0.1 -o LogLevel=ERROR -o UsePAM=no -o StrictModes=no -o PermitRootLogin=prohibit-password \
        -o Subsystem="sftp internal-sftp" 2>"$work/sshd.log" &
    daemon=$!
    for _ in $(seq 200); do
        if (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then break 2; fi
        kill -0 "$daemon" 2>/dev/null || break
        sleep 0.05
    done
done

# The primary: speil, what the documents' other programs do here, and the files of the repository.
mkdir -p "$primary/srv/uploads/img" "$primary/root/speil" "$primary/run/speil" "$primary/run/systemd/system" "$primary/etc/lsyncd"
cp -r "$repository/contrib" "$repository/examples" "$repository/Makefile" "$primary/root/speil/"
echo hello >"$primary/srv/uploads/hello.txt"
echo picture >"$primary/srv/uploads/img/2026"
cat >"$primary/etc/lsyncd/lsyncd.conf.lua" <<'END'
sync {
  default.rsyncssh, source = "/srv/uploads", host = "root@standby", targetdir = "/srv/copy", delay = 1,
}
END
install -m 755 "$speil" "$primary/usr/local/bin/speil"
ssh-keygen -q -t ed25519 -N '' -f "$primary/root/.ssh/id_ed25519"
cat >"$primary/root/.ssh/config" <<END
Host standby
    HostName 127.0.0.1
    Port $port
    StrictHostKeyChecking accept-new
END
shim() { cat >"$primary/usr/local/bin/$1"; chmod 755 "$primary/usr/local/bin/$1"; }
shim ssh-copy-id <<END
#!/bin/bash
key=/root/.ssh/id_ed25519
[ "\$1" != -i ] || key=\$2
ssh -i /run/test-key standby "cat >>.ssh/authorized_keys" <"\$key.pub"
END
ssh-keygen -q -t ed25519 -N '' -f "$primary/run/test-key"
# The second key is what root has logged in with before, for rsync and lsyncd.
cat "$primary/run/test-key.pub" "$primary/root/.ssh/id_ed25519.pub" >"$standby/root/.ssh/authorized_keys"
shim make <<END
#!/bin/bash
grep -q "^\$1:" /root/speil/Makefile
END
shim cargo <<'END'
#!/bin/bash
[ "$1" = install ]
END
shim dpkg <<'END'
#!/bin/bash
[ "$1" = -i ]
END
shim systemctl <<'END'
#!/bin/bash
# Runs speil.service as systemd does, with the words of the unit.
unit=/etc/systemd/system/speil.service
for word; do case $word in -*|speil|speil.service) ;; *) verb=$word ;; esac; done
start() {
    [ ! -e /run/unit.pid ] || return 0
    mkdir -p /run/speil
    [ -e "$unit" ] || unit=/root/speil/contrib/speil.service
    words=$(sed -n 's/^ExecStart=//p' "$unit")
    setsid $words >>/run/unit.log 2>&1 </dev/null &
    echo $! >/run/unit.pid
    for _ in $(seq 600); do speil status >/dev/null 2>&1 && return; sleep 0.05; done
    cat /run/unit.log >&2; return 1
}
stop() {
    [ -e /run/unit.pid ] || return 0
    kill "$(cat /run/unit.pid)"
    while kill -0 "$(cat /run/unit.pid)" 2>/dev/null; do sleep 0.05; done
    rm /run/unit.pid
}
case $verb in
    daemon-reload) ;;
    cat) cat "$unit" ;;
    is-active) [ -e /run/unit.pid ] ;;
    enable|start) start ;;
    restart) stop && start ;;
    reload) kill -HUP "$(cat /run/unit.pid)" ;;
    stop|disable) stop ;;
    *) echo "systemctl $verb: not here" >&2; exit 1 ;;
esac
END
shim until_live <<'END'
#!/bin/bash
# Runs a command that does not end by itself until it says that it is live (lsyncd's engine: that the first
# copy is done), then ends it.
ready=': live$|finished'
"$@" >/run/foreground 2>&1 &
for _ in $(seq 600); do
    if grep -qE "$ready" /run/foreground; then kill -INT $!; wait $! || true; exit 0; fi
    if ! kill -0 $! 2>/dev/null; then break; fi
    sleep 0.1
done
kill $! 2>/dev/null; cat /run/foreground >&2; exit 1
END
shim until_it_listens <<'END'
#!/bin/bash
# Runs a command that listens at the address of its last argument, until somebody answers there.
port=${!#}
port=${port##*:}
"$@" >/run/foreground 2>&1 &
for _ in $(seq 600); do
    if (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then kill $!; wait $! || true; exit 0; fi
    kill -0 $! 2>/dev/null || break
    sleep 0.1
done
kill $! 2>/dev/null; cat /run/foreground >&2; exit 1
END

shim on_standby <<'END'
#!/bin/bash
# Runs standard input on the standby, where speil is installed from now on.
tar -C /usr/local/bin -c speil until_it_listens | ssh -i /run/test-key standby tar -C /usr/local/bin -x
ssh -i /run/test-key standby PATH=/usr/local/bin:/usr/bin:/bin bash -eux
END
if [ -n "$prepared" ]; then
    chroot "$primary" /bin/bash -eu <<'END'
mkdir -p /etc/speil
ssh-keygen -q -t ed25519 -N '' -f /etc/speil/id_ed25519
ssh-copy-id -i /etc/speil/id_ed25519
ssh-copy-id root@standby
cat >/etc/speil/speil.lua <<'LUA'
sync {
  default.mirror,
  source = "/srv/uploads/",
  target = "root@standby:/srv/uploads/",
  trash = { keep = "7d", max = "10G" },
  ssh = { identityFile = "/etc/speil/id_ed25519" },
}
LUA
systemctl start speil
speil wait --timeout 60s
END
fi

export HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8
cp "$script" "$primary/run/script"
code=0
chroot "$primary" /bin/bash -eu -o pipefail -x -c 'cd /root/speil && . /run/script' || code=$?
[ "$code" = 0 ] || { [ ! -s "$primary/run/unit.log" ] || cat "$primary/run/unit.log"; cat "$work/sshd.log"; } >&2
chroot "$primary" systemctl stop speil || true
exit $code
