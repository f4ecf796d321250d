#!/usr/bin/env python3
"""Two nodes of a Pacemaker cluster with `contrib/pacemaker/speil`, uploads through the address that it moves.

    pacemaker.py SPEIL PACKAGES [SCENARIO...]    as root; ROUNDS, WORK, KEEP and VERBOSE as in drill.py

PACKAGES is a directory with Debian's packages of corosync, pacemaker, pcs and what they need: they are unpacked below the
hosts' disks, not installed. corosync and pacemakerd run without systemd. The resources are made by the commands of
`contrib/pacemaker/README.md`.
"""

import glob
import os
import subprocess
import sys

# No traces beside the sources.
sys.dont_write_bytecode = True

import drill  # noqa: E402
from drill import World, pause  # noqa: E402
from hosts import NAMES, REPOSITORY, Failed, Host, run, until  # noqa: E402

PAIR = ("oslo", "bergen")
NODES = "".join(f"  node {{\n    ring0_addr: {NAMES[name]}\n    name: {name}\n    nodeid: {at + 1}\n  }}\n"
                for at, name in enumerate(PAIR))
COROSYNC = f"""totem {{
  version: 2
  cluster_name: drill
  transport: knet
  crypto_cipher: none
  crypto_hash: none
}}
nodelist {{
{NODES}}}
quorum {{
  provider: corosync_votequorum
  two_node: 1
  wait_for_all: 0
}}
logging {{
  to_stderr: yes
  to_syslog: no
}}
"""
# The service that writes, as init knows it.
SERVICE = """#!/bin/sh
case $1 in
start | stop) exec curl -sf -m 5 -X POST http://127.0.0.1:8000/$1 ;;
status) [ -e /run/serving ] || exit 3 ;;
esac
"""


class Node(Host):
    def install(self, speil, key, names):
        super().install(speil, key, names)
        upper = f"{self.dir}/upper"
        for path, mode, text in [
            ("etc/corosync/corosync.conf", 0o644, COROSYNC),
            ("etc/init.d/uploads", 0o755, SERVICE),
            ("etc/systemd/system/corosync.service", 0o644, "[Service]\nExecStart=/usr/sbin/corosync -f\n"),
            ("etc/systemd/system/pacemaker.service", 0o644, "[Service]\nExecStart=/usr/sbin/pacemakerd\n"),
        ]:
            os.makedirs(os.path.dirname(f"{upper}/{path}"), exist_ok=True)
            with open(f"{upper}/{path}", "w") as file:
                file.write(text)
            os.chmod(f"{upper}/{path}", mode)
        for name, line in [("passwd", "hacluster:x:189:189::/var/lib/pacemaker:/bin/false\n"), ("group", "haclient:x:189:\n")]:
            with open(f"/etc/{name}") as have, open(f"{upper}/etc/{name}", "w") as file:
                file.write(have.read() + line)
        for part in ["lib/pacemaker/cib", "lib/pacemaker/pengine", "lib/pacemaker/cores", "lib/pacemaker/blackbox",
                     "log/pacemaker", "lib/corosync", "log/corosync"]:
            os.makedirs(f"{upper}/var/{part}")
            os.chown(f"{upper}/var/{part}", 189, 189)
        os.chown(f"{upper}/var/lib/pacemaker", 189, 189)
        for part in ["", "/lib", "/log"]:
            os.chmod(f"{upper}/var{part}", 0o755)
        os.makedirs(f"{upper}/usr/lib/ocf/resource.d/speil")
        run("install", "-m", "755", f"{REPOSITORY}/contrib/pacemaker/speil", f"{upper}/usr/lib/ocf/resource.d/speil/speil")


class Cluster(World):
    def set_up(self):
        for host in self.hosts:
            host.boot()
        with open(f"{REPOSITORY}/examples/failover/README.md") as page:
            commands = page.read().split("```sh\n")[1].split("```")[0].replace(" tromso", "").splitlines()
        # All but what starts keepalived.
        for command in commands[:-1]:
            if self.type(self.hosts[0], f"cd /root/speil && {command}") != 0:
                raise Failed(command)
        for host in self.hosts:
            self.type(host, "rm -f /etc/enabled/keepalived; systemctl enable --now corosync")
        for host in self.hosts:
            until("corosync runs", 30, lambda: host.try_("corosync-quorumtool -s"))
            self.type(host, "systemctl enable --now pacemaker")
        until("both nodes are online", 90, lambda: "Online: [ bergen oslo ]" in self.hosts[0].do("crm_mon -1")[1])
        self.type(self.hosts[0], "crm_attribute -n stonith-enabled -v false")
        with open(f"{REPOSITORY}/contrib/pacemaker/README.md") as page:
            typed = page.read().split("```text\n")[1].split("```")[0].splitlines()
        for command in typed:
            if self.type(self.hosts[0], command) != 0:
                raise Failed(command)
        self.type(self.hosts[0], "pcs resource create service lsb:uploads op monitor interval=2s && "
                  "pcs constraint colocation add service with address INFINITY && pcs constraint order address then service")
        self.settle()
        return len(commands) - 1 + len(typed)

    def told(self):
        up = [host for host in self.hosts if host.up]
        return super().told() + "\n" + (up[0].do("crm_mon -1 -A -f")[1] if up else "")


def move(round):
    pause(2)
    round.happens("a planned switch: the node is put on standby")
    round.world.type(round.old, "crm_standby -v on")
    round.taken_over()
    pause(2)
    round.world.type(round.old, "crm_standby -D")


def lost_node(round):
    pause(2)
    round.happens("the power fails on the promoted node")
    round.old.power_cut()
    round.taken_over()
    pause(3)
    round.old.boot()


SCENARIOS = {
    "Pacemaker: a node on standby": move,
    "Pacemaker: power cut of the promoted node": lost_node,
    "Pacemaker: network cut, both nodes promoted": drill.split_brain,
}


def layer(packages, into):
    """Unpacks packages into one directory that can lie below a merged /usr."""
    for name in ["lib", "bin", "sbin"]:
        os.makedirs(f"{into}/usr/{name}")
        os.symlink(f"usr/{name}", f"{into}/{name}")
    for package in glob.glob(f"{packages}/*.deb"):
        unpack = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE)
        run("tar", "-x", "--keep-directory-symlink", "-C", into, stdin=unpack.stdout)
        unpack.wait()


def main(speil, words):
    work = os.environ["DRILL_WORK"]
    os.environ["LAYER"] = f"{work}/layer"
    layer(words[0], os.environ["LAYER"])
    return drill.play(Cluster(work, speil, PAIR, Node), drill.chosen(SCENARIOS, words[1:]))


if __name__ == "__main__":
    drill.start(__file__, [(main, SCENARIOS)])
