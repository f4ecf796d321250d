#!/usr/bin/env python3
"""How long nothing is accepted in a planned switch, with the hosts of drill.py.

    pause.py SPEIL        as root; ROUNDS=N switches, 10 if it is not set

Prints for each switch the seconds from the last upload that the old primary has accepted to the first one that the new
primary has, and their median. Ends with 1 if anything is lost.
"""

import os
import statistics
import sys

sys.dont_write_bytecode = True

from drill import Round, World, count, pause, start, switch  # noqa: E402
from hosts import note, until  # noqa: E402


def main(speil, _):
    world = World(os.environ["DRILL_WORK"], speil)
    for host in world.hosts:
        open(f"{host.dir}/srv/journal", "w").close()
    world.set_up()
    pauses, totals = [], {}
    while len(pauses) < int(os.environ.get("ROUNDS", "10")):
        world.settle()
        round = Round(world)
        old = round.old
        new = world.hosts[(world.hosts.index(old) + 1) % len(world.hosts)]
        for client in world.clients:
            client.start()
        try:
            for client in world.clients:
                until("uploads are accepted", 30, lambda: sum(line["status"] == 201 for line in client.lines()) > 20)
            switch(round, new)
            pause(1.5)
        finally:
            for client in world.clients:
                client.stop()
        world.settle()
        taken = [line for client in world.clients for line in client.lines() if line["status"] == 201]
        before = max(line["ended"] for line in taken if line["host"] == old.name)
        after = min(line["ended"] for line in taken if line["host"] == new.name)
        for key, value in count(world).items():
            totals[key] = totals.get(key, 0) + value
        pauses.append(after - before)
        print(f"{old.name} to {new.name}: {pauses[-1]:.2f} s", flush=True)
        note(str(totals))
    print(f"{len(pauses)} switches: median {statistics.median(pauses):.2f} s, {min(pauses):.2f} to {max(pauses):.2f} s; "
          f"{totals['acknowledged']} acknowledged, {totals['lost']} lost, {totals['aside']} set aside")
    return 1 if totals["lost"] else 0


if __name__ == "__main__":
    start(__file__, [(main, {})])
