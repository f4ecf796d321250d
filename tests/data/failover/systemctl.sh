#!/bin/bash
# Starts and stops services as systemd does, where there is none: systemctl VERB [--now] UNIT...
verb=$1 now="" units=()
shift
for word; do
    case $word in --now) now=1 ;; -*) ;; *) units+=("${word%.service}") ;; esac
done

words() {
    case $1 in
    speil) echo speil run --control /run/speil/control /etc/speil/speil.lua ;;
    haproxy) echo haproxy -db -f /etc/haproxy/haproxy.cfg ;;
    keepalived) echo keepalived -n -l -D ;;
    *) sed -n 's/^ExecStart=//p' "/etc/systemd/system/$1.service" ;;
    esac
}
runs() { [ -e "/run/unit.$1" ] && kill -0 "$(cat "/run/unit.$1")" 2>/dev/null; }
start() {
    ! runs "$1" || return 0
    echo "--- $(date +%T.%N) start" >>"/srv/log.$1"
    # shellcheck disable=SC2046
    setsid $(words "$1") >>"/srv/log.$1" 2>&1 </dev/null 9>&- &
    echo $! >"/run/unit.$1"
}
stop() {
    runs "$1" || return 0
    kill "$(cat "/run/unit.$1")"
    for _ in $(seq 200); do runs "$1" || return 0; sleep 0.05; done
    kill -KILL "$(cat "/run/unit.$1")"
}

[ "$verb" != boot ] || for unit in /etc/enabled/*; do [ ! -e "$unit" ] || units+=("${unit##*/}"); done
for unit in "${units[@]}"; do
    case $verb in
    enable) mkdir -p /etc/enabled && touch "/etc/enabled/$unit" && { [ -z "$now" ] || start "$unit"; } ;;
    start | boot) start "$unit" ;;
    stop) stop "$unit" ;;
    restart) stop "$unit"; start "$unit" ;;
    *) echo "systemctl $verb: not here" >&2; exit 1 ;;
    esac || exit
done
