#!/usr/bin/env python3
"""Two hosts with PostgreSQL under Patroni and `contrib/patroni/speil-patroni`; uploads go where PostgreSQL leads.

    patroni.py SPEIL PACKAGES [SCENARIO...]      as root; ROUNDS, WORK, KEEP and VERBOSE as in drill.py

PACKAGES is a directory with Debian's packages of patroni, etcd-server, sudo, PostgreSQL where it is not installed, and what
they need: they are unpacked below the hosts' disks, not installed. The third host has etcd, HAProxy and the address.
"""

import os
import sys

# No traces beside the sources.
sys.dont_write_bytecode = True

import drill  # noqa: E402
from drill import World, pause  # noqa: E402
from hosts import ADDRESS, NAMES, REPOSITORY, Failed, Host, run, until  # noqa: E402
from pacemaker import layer  # noqa: E402

CONFIG = """scope: uploads
name: {name}
restapi: {{listen: "{address}:8008", connect_address: "{address}:8008"}}
etcd3: {{host: "{etcd}:2379"}}
bootstrap:
  dcs: {{ttl: 20, loop_wait: 2, retry_timeout: 5, postgresql: {{use_pg_rewind: true}}}}
  initdb: [encoding: UTF8, data-checksums]
  pg_hba: ["local all all trust", "host all all 192.0.2.0/24 trust", "host replication all 192.0.2.0/24 trust"]
postgresql:
  listen: "{address}:5432"
  connect_address: "{address}:5432"
  data_dir: /srv/postgres
  pgpass: /tmp/pgpass
  bin_dir: /usr/lib/postgresql/15/bin
  authentication:
    superuser: {{username: postgres, password: secret}}
    replication: {{username: replicator, password: secret}}
    rewind: {{username: postgres, password: secret}}
  parameters: {{unix_socket_directories: /tmp}}
{callbacks}"""
UNIT = "[Service]\nExecStart=setpriv --reuid=postgres --regid=postgres --init-groups env HOME=/tmp LC_ALL=C patroni /etc/patroni.yml\n"


class Member(Host):
    def install(self, speil, key, names):
        super().install(speil, key, names)
        upper = f"{self.dir}/upper"
        os.makedirs(f"{upper}/etc/systemd/system", exist_ok=True)
        os.makedirs(f"{upper}/etc/sudoers.d", exist_ok=True)
        os.makedirs(f"{upper}/usr/local/sbin", exist_ok=True)
        # What the head of the file says.
        with open(f"{REPOSITORY}/contrib/patroni/speil-patroni") as file:
            head = [line[2:].rstrip() for line in file if line.startswith("# ") or line == "#\n"]
        callbacks = [line for line in head if line.startswith(("  callbacks:", "    on_", "  pre_promote:"))]
        sudoers = next(line.strip() for line in head if "NOPASSWD" in line)
        values = dict(name=self.name, address=self.address, etcd=NAMES["tromso"], callbacks="\n".join(callbacks) + "\n")
        for path, mode, text in [
            ("etc/patroni.yml", 0o644, CONFIG.format(**values)),
            ("etc/sudoers.d/speil-patroni", 0o440, sudoers + "\n"),
            ("etc/systemd/system/patroni.service", 0o644, UNIT),
            ("etc/systemd/system/etcd.service", 0o644, "[Service]\nExecStart=/usr/bin/etcd --data-dir /srv/etcd --listen-client-urls "
             f"http://{self.address}:2379 --advertise-client-urls http://{self.address}:2379 --enable-v2=true\n"),
        ]:
            with open(f"{upper}/{path}", "w") as file:
                file.write(text)
            os.chmod(f"{upper}/{path}", mode)
        for part in ["", "/sbin"]:
            os.chmod(f"{upper}/usr/local{part}", 0o755)
        for program in ["patroni/speil-patroni", "keepalived/speil-notify"]:
            run("install", "-m", "755", "-t", f"{upper}/usr/local/sbin", f"{REPOSITORY}/contrib/{program}")
        os.makedirs(f"{self.dir}/srv/postgres", mode=0o700)
        run("chown", "postgres:", f"{self.dir}/srv/postgres")
        os.chmod(f"{self.dir}/srv", 0o755)

    def leads(self):
        """Whether PostgreSQL here takes writes."""
        code, said = self.do("psql -h /tmp -U postgres -Atc 'SELECT pg_is_in_recovery()'")
        return code == 0 and said.strip() == "f"


class Cluster(World):
    def set_up(self):
        for host in self.hosts:
            host.boot()
        with open(f"{REPOSITORY}/examples/failover/README.md") as page:
            commands = page.read().split("```sh\n")[1].split("```")[0].splitlines()
        # All but what starts keepalived.
        for command in commands[:-1]:
            if self.type(self.hosts[0], f"cd /root/speil && {command}") != 0:
                raise Failed(command)
        oslo, bergen, tromso = self.hosts
        for host in self.hosts:
            self.type(host, "rm -f /etc/enabled/keepalived")
        self.type(tromso, f"ip addr add {ADDRESS}/24 dev eth0 && systemctl enable --now etcd")
        until("etcd answers", 30, lambda: tromso.try_(f"curl -sf http://{tromso.address}:2379/health"))
        self.type(oslo, "speil wait --timeout 60s; systemctl enable --now patroni")
        until(lambda: "PostgreSQL leads" + self.told(), 60, oslo.leads)
        self.type(bergen, "systemctl enable --now patroni")
        self.settle()
        return len(commands) - 1

    def agrees(self):
        pair = [host for host in self.hosts[:2]]
        primary = self.primary()
        if primary not in pair or any(host.role().get("generation") != primary.role().get("generation") for host in self.hosts):
            return False
        return all(host.leads() == (host is primary) for host in pair) and all(
            host is primary or (host.role().get("role") == "standby" and "adopting" not in host.role()) for host in self.hosts)

    def told(self):
        return super().told() + "".join(f"\n{host.name}: {host.do('tail -12 /srv/log.patroni 2>/dev/null')[1]}" for host in self.hosts if host.up)


def lost_host(round):
    pause(2)
    round.happens("the power fails on the leader")
    round.old.power_cut()
    round.taken_over(seconds=90)
    pause(3)
    round.old.boot()


def switch(round):
    pause(2)
    round.happens("a planned switch")
    new = [host for host in round.world.hosts[:2] if host is not round.old][0]
    round.world.type(round.old, f"patronictl -c /etc/patroni.yml switchover --leader {round.old.name} --candidate {new.name} --force"
                     f" || patronictl -c /etc/patroni.yml switchover --master {round.old.name} --candidate {new.name} --force")
    round.taken_over(by=new)


def refused(round):
    """The tree that would lead is no tree that may: PostgreSQL does not lead there either."""
    other = [host for host in round.world.hosts[:2] if host is not round.old][0]
    other.do("systemctl stop speil; rm /srv/uploads/.speil/confirmed")
    round.happens("the leader dies, and the other host's tree would be refused")
    code, said = other.do("speil promote -n --root /srv/uploads")
    if code != 3:
        raise Failed(f"not refused: {code} {said}")
    round.old.power_cut()
    pause(40)
    if other.leads() or other.role()["role"] != "standby":
        raise Failed("PostgreSQL leads, and its tree would be refused")
    if not other.try_("grep -q 'pre_promote script .* exited with 3' /srv/log.patroni"):
        raise Failed("nobody has asked before")
    round.old.boot()
    round.taken_over(by=round.old, seconds=90)
    other.do("systemctl start speil")


SCENARIOS = {
    "Patroni: power cut of the leader": lost_host,
    "Patroni: planned switch": switch,
    "Patroni: the other tree may not lead": refused,
}


def main(speil, words):
    work = os.environ["DRILL_WORK"]
    os.environ["LAYER"] = f"{work}/layer"
    layer(words[0], os.environ["LAYER"])
    return drill.play(Cluster(work, speil, tuple(NAMES), Member), drill.chosen(SCENARIOS, words[1:]))


if __name__ == "__main__":
    drill.start(__file__, [(main, SCENARIOS)])
