#!/usr/bin/env python3
"""Three hosts, an address that moves, and uploads through it all the time, while the hosts die in every way.

    drill.py SPEIL [SCENARIO...]        as root; ROUNDS=N; WORK=DIR for the disks, in memory if it is below /dev/shm

Each host is a set of namespaces with an sshd, a daemon of speil, keepalived, HAProxy and a service that takes uploads,
configured by the files of `contrib/keepalived/` and `examples/failover/` as they are. Everything that the service has
acknowledged is looked for afterwards by its hash, in the trees and in what is kept aside. Ends with 1 if anything is
lost, or the hosts do not agree again.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

# No traces beside the sources.
sys.dont_write_bytecode = True

from hosts import FAKETIME, NAMES, REPOSITORY, Client, Failed, Host, note, run, until  # noqa: E402


class Moved(Exception):
    """The address has moved before anything happened: the machine is too slow for keepalived's clocks."""


class World:
    def __init__(self, work, speil, names=tuple(NAMES), kind=Host):
        self.work, self.typed, self.handed = work, [], {}
        key = f"{work}/key"
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
        for side in (0, 1):
            run("ip", "link", "add", f"switch{side}", "type", "bridge", "mcast_snooping", "0", "forward_delay", "0")
            run("ip", "link", "set", f"switch{side}", "up")
        run("ip", "link", "add", "trunk0", "type", "veth", "peer", "name", "trunk1")
        for side in (0, 1):
            run("ip", "link", "set", f"trunk{side}", "master", f"switch{side}")
            run("ip", "link", "set", f"trunk{side}", "up")
        self.hosts = [kind(work, name) for name in names]
        self.clients = [Client(work, at, name) for at, name in enumerate(["near", "far"])]
        for host in self.hosts:
            host.install(speil, key, names)

    def type(self, host, command):
        code, said = host.do(command)
        self.typed.append(f"{host.name}$ {command}")
        note(f"{host.name}$ {command}  [{code}]" + "".join(f"\n      {line}" for line in said.splitlines()))
        return code

    def set_up(self):
        for host in self.hosts:
            host.boot()
        count = self.type_page("examples/failover/README.md")
        self.settle()
        code, said = self.hosts[0].do("keepalived -t")
        if code != 0 or said.strip():
            raise Failed(f"keepalived -t: {said}")
        return count

    def type_page(self, name, host=None):
        """Types the first commands of a page, as somebody would who reads it, on a host."""
        host = host or self.hosts[0]
        with open(f"{REPOSITORY}/{name}") as page:
            commands = page.read().split("```sh\n")[1].split("```")[0]
        for name in set(NAMES) - {host.name for host in self.hosts}:
            commands = commands.replace(f" {name}", "")
        for command in commands.splitlines():
            if host is not self.hosts[0]:
                command = " ".join({"root@" + host.name: "root@" + self.hosts[0].name}.get(word, word) for word in command.split(" "))
            if self.type(host, f"cd /root/speil && {command}") != 0:
                raise Failed(command)
        return len(commands.splitlines())

    def primary(self):
        leading = [host for host in self.hosts if host.up and host.role().get("role") == "primary"]
        return leading[0] if len(leading) == 1 else None

    def agrees(self):
        """Whether one leads and the others hold what it holds, and the address is there."""
        primary = self.primary()
        if primary is None:
            return False
        for host in self.hosts:
            role = host.role()
            if host is not primary and (role.get("role") != "standby" or "adopting" in role):
                return False
            if role.get("generation") != primary.role().get("generation"):
                return False
        return [host for host in self.hosts if host.has_address()] == [primary]

    def agree(self, seconds=90):
        until(lambda: "the hosts agree" + self.told(), seconds, self.agrees)

    def settle(self, seconds=90):
        """Waits until the trees are equal as well; nothing is written meanwhile."""
        def equal():
            if not self.agrees():
                return False
            wanted = self.primary().hashes(False)
            return all(host.hashes(False) == wanted for host in self.hosts)

        until(lambda: "the hosts agree and the trees are equal" + self.told(), seconds, equal)

    def told(self):
        def health(host):
            return host.do("speil health --root /srv/uploads 2>&1")[1].strip() if host.up else "off"

        return "".join(f"\n  {host.name}: {host.role()}\n    {health(host)}" for host in self.hosts)

    def side(self, host):
        """Puts a host, and the client that is far, on the second switch; everything else on the first one."""
        for wire in self.hosts + self.clients:
            wire.move(0)
        for wire in (host, self.clients[1]):
            wire.move(1)

    def cut(self, is_cut):
        run("ip", "link", "set", "trunk0", "down" if is_cut else "up")


class Round:
    """What one scenario does, and when."""

    def __init__(self, world):
        self.world = world
        self.old = world.primary()
        self.standbys = [host for host in world.hosts if host is not self.old]
        self.event, self.was, self.through = None, None, None

    def happens(self, what, still=True):
        """The moment from which on times are measured; the primary is still the one of the beginning."""
        note(what)
        if still and self.world.primary() is not self.old:
            raise Moved
        self.was = self.old.name if still else None
        self.event = time.time()

    def unseen(self):
        """Uploads that no other host sees: the primary's daemon stands still."""
        self.old.do("pkill -STOP -f '^speil run '")
        pause(1.5)

    def taken_over(self, by=None, seconds=60):
        """Waits until uploads are accepted by another host than before; returns that host."""
        since = self.event
        names = {host.name: host for host in self.world.hosts}

        def accepted():
            for line in reversed(self.world.clients[0].lines()):
                if line["ended"] < since:
                    return False
                if line["status"] == 201 and (by is None and line["host"] != self.old.name or by and line["host"] == by.name):
                    self.through = names[line["host"]]
                    return True
            return False

        until(lambda: "uploads are accepted by another host" + self.world.told(), seconds, accepted)
        return self.through


def pause(seconds):
    """Uploads go on for so long."""
    time.sleep(seconds)


def power_cut(round):
    round.unseen()
    round.happens("the power fails on the primary")
    round.old.power_cut()
    round.taken_over()
    pause(3)
    round.old.boot()


def switch(round, new):
    """One command on the host that shall lead. A host hands over once a minute."""
    handed = round.world.handed
    pause(max(0, handed.get(round.old.name, 0) + 61 - time.time()))
    handed[round.old.name] = time.time()
    round.happens("a planned switch")
    if round.world.type(new, f"/etc/keepalived/speil-switch {round.old.name} uploads /srv/uploads") != 0:
        raise Failed("the switch is refused")
    round.taken_over(by=new)
    round.old = new


def switch_and_back(round):
    first = round.old
    pause(2)
    for new in (round.standbys[0], first):
        switch(round, new)
        pause(2)
        round.world.agree()


def stepped_down(round):
    """As before there was a hand-over: keepalived is stopped on the primary, and any standby takes over."""
    world = round.world
    pause(2)
    round.happens("keepalived is stopped on the primary")
    world.type(round.old, "speil wait --timeout 60s && systemctl stop keepalived")
    round.taken_over()
    pause(2)
    world.type(round.old, "systemctl start keepalived")
    world.agree()


def split_brain(round):
    world = round.world
    world.side(round.old)
    pause(2)
    round.happens("the network is cut")
    world.cut(True)
    round.taken_over()
    pause(6)
    note("the network is mended")
    world.cut(False)


def keepalived_dies(round):
    pause(1)
    round.happens("keepalived dies on the primary")
    round.old.do("pkill -KILL -x keepalived")
    round.taken_over()
    pause(6)
    round.world.type(round.old, "systemctl start keepalived")


def reboot(round):
    pause(1)
    round.happens("the primary is rebooted")
    round.old.do("systemctl stop keepalived haproxy; systemctl stop speil speil-health")
    round.old.power_cut()
    round.taken_over()
    pause(1)
    round.old.boot()


def refuses_alone(round, host, seconds):
    """A host that has booted alone takes no uploads."""
    since = time.time()
    host.boot()
    pause(seconds)
    taken = [line for line in round.world.clients[0].lines() if line["status"] == 201 and line["began"] > since]
    if taken:
        raise Failed(f"{host.name} has booted alone and took {len(taken)} uploads")
    code, said = host.do("speil health --root /srv/uploads")
    if code != 30:
        raise Failed(f"{host.name} has booted alone, and health ends with {code}: {said}")
    note(said.strip())


def old_primary_alone(round):
    round.unseen()
    round.old.power_cut()
    round.event = time.time()
    new = round.taken_over()
    pause(3)
    for host in round.standbys:
        host.power_cut()
    refuses_alone(round, round.old, 12)
    round.happens("the others boot", still=False)
    for host in round.standbys:
        host.boot()
    round.old = [host for host in round.standbys if host is not new][0]
    round.taken_over(by=new)


def stale_standby_alone(round):
    stale, other = round.standbys
    stale.power_cut()
    pause(3)
    for host in (other, round.old):
        host.power_cut()
    refuses_alone(round, stale, 12)
    round.happens("the others boot", still=False)
    for host in (round.old, other):
        host.boot()
    # Whichever it is.
    round.old = round.world.clients[1]
    round.taken_over()


def all_at_once(round):
    round.unseen()
    for host in round.world.hosts:
        host.power_cut()
    pause(1)
    round.happens("all boot", still=False)
    for host in round.world.hosts:
        host.boot()
    # Whichever it is.
    round.old = round.world.clients[1]
    round.taken_over()


def clocks(round):
    """One standby is an hour behind, the other one an hour ahead: no two hosts' clocks are compared."""
    for host, offset in zip(round.standbys, ("-1h", "+1h")):
        host.power_cut()
        host.clock(offset)
        host.boot()
    round.world.agree()
    for host in round.standbys:
        note(host.do("date -R; speil health --root /srv/uploads; tail -1 /srv/log.speil")[1].strip())
    power_cut(round)
    round.world.agree()
    # A host that dies while it is being logged in to is given up after a minute only.
    pause(5)
    note("the clocks are set right")
    for host in round.standbys:
        host.power_cut()
        host.clock(None)
        host.boot()


def never_leads(round):
    """The third host has mayLead = false and no key to the others: it follows, and is never chosen."""
    world, third = round.world, round.world.hosts[2]
    if round.old is third:
        third.do("systemctl stop keepalived")
        round.event = time.time()
        round.old = round.taken_over()
        third.do("systemctl start keepalived")
        world.agree()
    may, may_not = 'tromso = "root@tromso"', 'tromso = { "root@tromso", mayLead = false }'
    for host in world.hosts:
        host.do(f"sed -i 's/{may}/{may_not}/' /etc/speil/speil.lua && speil reload")
    third.do("mv /etc/speil/id_ed25519 /root && systemctl restart speil")
    pause(3)
    world.agree()
    round.happens("the power fails on the primary")
    round.old.power_cut()
    new = round.taken_over()
    if new is third:
        raise Failed("a host leads that may not")
    pause(3)
    note("and on the other one that may lead")
    new.power_cut()
    since = time.time()
    pause(8)
    if [line for line in world.clients[0].lines() if line["status"] == 201 and line["began"] > since]:
        raise Failed("a host takes uploads that may not lead")
    code, said = third.do("speil promote --force --root /srv/uploads")
    note(said.strip())
    if code != 3 or "`speil promote uploads` on" not in said:
        raise Failed(f"a host that may not lead is promoted, or is not told where to type it: {code}")
    for host in (new, round.old):
        host.boot()
    round.taken_over(by=new)
    world.agree()
    third.do("mv /root/id_ed25519 /etc/speil")
    for host in world.hosts:
        host.do(f"sed -i 's/{may_not}/{may}/' /etc/speil/speil.lua && systemctl restart speil")


SCENARIOS = {
    "power cut of the primary, with writes that nobody saw": power_cut,
    "reboot of the primary": reboot,
    "planned switch, and back": switch_and_back,
    "keepalived is stopped on the primary": stepped_down,
    "network cut, writes on both sides": split_brain,
    "keepalived alone dies": keepalived_dies,
    "power cut; the old primary boots alone": old_primary_alone,
    "power cuts; a stale standby boots alone": stale_standby_alone,
    "power cut of all three": all_at_once,
    "power cuts; the third host has mayLead = false": never_leads,
}
if FAKETIME:
    SCENARIOS["power cut of the primary; the others' clocks are an hour off"] = clocks


def both_at_once(round):
    """The power of the site fails, and both boot: whoever is younger leads, as soon as it has heard of the other one."""
    all_at_once(round)


def one_of_two_boots(round):
    """The power of the site fails, and one host does not come back: what its disk has, nobody else can know."""
    world, alone = round.world, round.standbys[0]
    round.unseen()
    for host in world.hosts:
        host.power_cut()
    pause(1)
    refuses_alone(round, alone, 12)
    round.happens("one command", still=False)
    world.type(alone, "speil promote --force --root /srv/uploads")
    round.taken_over(by=alone)
    pause(3)
    note("the other host boots")
    round.old.boot()


TWO = {
    "two hosts: power cut of the primary": power_cut,
    "two hosts: power cut of both": both_at_once,
    "two hosts: power cut of both; the standby boots alone": one_of_two_boots,
}


def one_round(world, scenario, title, count):
    """Runs a scenario once; returns the figures of its line."""
    for host in world.hosts:
        if not host.up:
            host.boot()
    world.settle()
    note(f"== {title}; primary is {world.primary().name}")
    world.typed.clear()
    round = Round(world)
    for client in world.clients:
        client.start()
    try:
        for client in world.clients:
            until("uploads are accepted", 30, lambda: sum(line["status"] == 201 for line in client.lines()) > 20)
        scenario(round)
        pause(2)
        world.agree()
    finally:
        # Both sides of a cut end it.
        for client in world.clients:
            client.stop()
    world.settle()
    figures = count(world)
    figures["typed"] = list(world.typed)
    figures.update(times(world, round))
    return figures


def times(world, round):
    """Seconds until the address has moved, and until uploads were accepted again."""
    lines = sorted(world.clients[0].lines(), key=lambda line: line["ended"])
    after = [line for line in lines if line["began"] > round.event]
    moved = [line["ended"] - round.event for line in after if line["via"] not in (None, round.was)]
    acks = [round.event] + [line["ended"] for line in lines if line["status"] == 201 and line["ended"] > round.event]
    # The longest pause after the event.
    pauses = [b - a for a, b in zip(acks, acks[1:])]
    return {"moved": min(moved, default=None), "accepted": max(pauses, default=None)}


def replaced(world):
    """Versions that a later upload has replaced."""
    found = set()
    for host in world.hosts:
        with open(f"{host.dir}/srv/journal") as journal:
            found.update(json.loads(line)["old"] for line in journal)
    return found


def count(world):
    """Looks for everything that was acknowledged."""
    acknowledged = {}
    for client in world.clients:
        for line in client.lines():
            if line["status"] == 201:
                acknowledged[line["sha"]] = line
            elif line["status"] == -1:
                raise Failed(f"another version was acknowledged: {line}")
    in_tree = set().union(*world.primary().hashes(False).values())
    aside = set().union(*(shas for host in world.hosts for shas in host.hashes(True).values()))
    old = replaced(world)
    lost = [line for sha, line in acknowledged.items() if sha not in in_tree | aside | old]
    for line in lost[:5]:
        print(f"LOST {line}", file=sys.stderr)
    kept = [sha for sha in acknowledged if sha not in in_tree | old and sha in aside]
    return {"acknowledged": len(acknowledged), "lost": len(lost), "aside": len(kept)}


COLUMNS = {"acknowledged": "acknowledged", "lost": "lost", "aside": "set aside"}


def main(speil, wanted):
    return play(World(os.environ["DRILL_WORK"], speil), chosen(SCENARIOS, wanted))


def main_of_two(speil, wanted):
    return play(World(os.environ["DRILL_WORK"], speil, ("oslo", "bergen")), chosen(TWO, wanted))


def play(world, scenarios, count=count, columns=COLUMNS, bad=("lost",)):
    """Plays scenarios and prints their table; returns the exit code."""
    for host in world.hosts:
        open(f"{host.dir}/srv/journal", "w").close()
    commands = world.set_up()
    print(f"set up by the {commands} commands of the documents", file=sys.stderr, flush=True)
    rows, failed = [], False
    for title, scenario in scenarios.items():
        done, why = rounds_of(world, scenario, title, count)
        if why:
            failed = True
            print(f"FAILED {title}: {why}{world.told()}", file=sys.stderr, flush=True)
        if done:
            rows.append(line_of(title, done, columns))
            print(rows[-1], file=sys.stderr, flush=True)
        if failed:
            break
        failed = any(figures[key] for figures in done for key in bad)
    titles = ["scenario", "rounds", *columns.values(), "address moved after", "uploads accepted after", "typed"]
    print(f"| {' | '.join(titles)} |\n{'|---' * len(titles)}|")
    print("\n".join(rows))
    if failed and "KEEP" in os.environ:
        print(f"kept: {world.work}", file=sys.stderr)
    return 1 if failed else 0


def rounds_of(world, scenario, title, count):
    """The figures of each round, and what has failed."""
    done, again = [], 0
    while len(done) < int(os.environ.get("ROUNDS", "1")):
        try:
            done.append(one_round(world, scenario, title, count))
            note(str(done[-1]))
        except Moved:
            again += 1
            note("the address has moved before anything happened")
            if again == 5:
                return done, "the machine is too slow"
        except Failed as error:
            return done, str(error)
    return done, None


def line_of(title, done, columns):
    def span(key):
        values = [figures[key] for figures in done if figures[key] is not None]
        if not values:
            return "never"
        low, high = f"{min(values):.1f}", f"{max(values):.1f}"
        return f"{low} s" if low == high else f"{low} to {high} s"

    total = " | ".join(str(sum(figures[key] for figures in done)) for key in columns)
    typed = max(len(figures["typed"]) for figures in done)
    return f"| {title} | {len(done)} | {total} | {span('moved')} | {span('accepted')} | {typed} |"


def chosen(scenarios, wanted):
    return {title: scenario for title, scenario in scenarios.items()
            if not wanted or any(word in scenario.__name__ for word in wanted)}


def start(program, parts):
    """Runs each part in namespaces of its own that has one of the scenarios that are asked for; parts: (function, scenarios)."""
    words = sys.argv[2:]
    if "DRILL_WORK" in os.environ:
        # What ends on this host's behalf is a child of the first process.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        run("ip", "link", "set", "lo", "up")
        # Of this network namespace.
        run("mount", "-t", "sysfs", "none", "/sys")
        sys.exit(parts[int(os.environ["DRILL_PART"])][0](sys.argv[1], words))
    asked = [bool(chosen(scenarios, words)) for _, scenarios in parts]
    for at in range(len(parts)):
        # Where nothing is asked for, the first hosts are set up alone.
        if not asked[at] and (at or any(asked)):
            continue
        work = os.path.join(os.environ.get("WORK", "/dev/shm"), f"speil-failover-{os.getpid()}-{at}")
        os.makedirs(work)
        again = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private",
                 sys.executable, os.path.abspath(program), os.path.abspath(sys.argv[1]), *words]
        code = subprocess.run(again, env={**os.environ, "DRILL_WORK": work, "DRILL_PART": str(at)}).returncode
        if not (code and "KEEP" in os.environ):
            shutil.rmtree(work, ignore_errors=True)
        if code:
            sys.exit(code)


if __name__ == "__main__":
    start(__file__, [(main, SCENARIOS), (main_of_two, TWO)])
