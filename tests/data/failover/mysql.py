#!/usr/bin/env python3
"""Two hosts with a MariaDB beside the uploads: a row and a file for each upload, while the hosts die.

    mysql.py SPEIL [SCENARIO...]        as root, with mariadbd; ROUNDS, WORK, KEEP and VERBOSE as in drill.py

The hosts are those of drill.py; `contrib/mysql/` is set up by the commands of its README. Afterwards each upload that both
hosts had when it was acknowledged has its row in the database of whoever leads, and each row its file. Ends with 1 if not.
"""

import os
import shutil
import subprocess
import sys
import time

# No traces beside the sources.
sys.dont_write_bytecode = True

import drill  # noqa: E402
from drill import World, pause  # noqa: E402
from hosts import Failed, Host, note, run, until  # noqa: E402

SERVER = """[mysqld]
user = root
datadir = /srv/mysql
socket = /run/mysqld.sock
server_id = {number}
log_bin = log
log_slave_updates = ON
gtid_strict_mode = ON
sync_binlog = 1
innodb_flush_log_at_trx_commit = 1
read_only = ON
slave_net_timeout = 5
rpl_semi_sync_master_enabled = ON
rpl_semi_sync_slave_enabled = ON
rpl_semi_sync_master_wait_point = AFTER_SYNC
rpl_semi_sync_master_timeout = 1000
init_rpl_role = SLAVE
# What the machine of the drill needs.
skip_name_resolve = ON
innodb_buffer_pool_size = 32M
innodb_flush_method = fsync
"""
AGAIN = "/etc/keepalived/speil-notify /srv/uploads INSTANCE uploads MASTER 0"
TABLE = "CREATE DATABASE uploads; CREATE TABLE uploads.files (sha CHAR(64) PRIMARY KEY, path VARCHAR(200)); " \
    "CREATE USER app@localhost; GRANT ALL ON uploads.* TO app@localhost"


class Server(Host):
    """A host with a database."""

    def install(self, speil, key, names):
        super().install(speil, key, names)
        upper = f"{self.dir}/upper"
        os.makedirs(f"{upper}/etc/systemd/system", exist_ok=True)
        shutil.copytree(f"{os.path.dirname(self.dir)}/empty", f"{self.dir}/srv/mysql")
        for path, text in [
            ("etc/drill.cnf", SERVER.format(number=1 + list(names).index(self.name))),
            ("etc/systemd/system/mariadb.service", "[Service]\nExecStart=/usr/sbin/mariadbd --defaults-file=/etc/drill.cnf\n"),
            ("root/.my.cnf", "[client]\nsocket = /run/mysqld.sock\n"),
            ("etc/uploads-rows", ""),
        ]:
            with open(f"{upper}/{path}", "w") as file:
                file.write(text)

    def ask(self, question):
        code, said = self.do(f"mariadb --batch --skip-column-names -e \"{question}\"")
        if code != 0:
            raise Failed(f"{self.name}: {question}: {said}")
        return said.split()

    def follows(self):
        code, said = self.do("/etc/keepalived/speil-mysql check /srv/uploads && mariadb -e 'SHOW SLAVE STATUS\\G'")
        return code == 0 and "IO_Running: Yes" in said and "SQL_Running: Yes" in said


class Pair(World):
    def __init__(self, work, speil):
        run("mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={work}/empty", "--skip-test-db",
            "--auth-root-authentication-method=socket", stdout=subprocess.DEVNULL)
        super().__init__(work, speil, ("oslo", "bergen"), Server)
        self.databases = False

    def set_up(self):
        count = super().set_up()
        for host in self.hosts:
            if self.type(host, "systemctl enable --now mariadb") != 0:
                raise Failed("no database")
            until("the database answers", 30, lambda: host.try_("mariadb -e 'SELECT 1'"))
        count += self.type_page("contrib/mysql/README.md", self.primary())
        self.databases = True
        until(lambda: "the databases agree" + self.told(), 60, self.agrees)
        self.primary().ask(TABLE)
        self.settle()
        code, said = self.hosts[0].do("keepalived -t")
        if code != 0 or said.strip():
            raise Failed(f"keepalived -t: {said}")
        return count

    def agrees(self):
        if not super().agrees():
            return False
        for host in self.hosts if self.databases else []:
            writes = host.do("mariadb --batch --skip-column-names -e 'SELECT @@read_only'")[1].strip() == "0"
            if writes != (host is self.primary()) or (not writes and not host.follows()):
                return False
        return True

    def settle(self, seconds=90):
        super().settle(seconds)
        until(lambda: "the databases are equal" + self.told(), seconds, lambda: not self.databases or self.equal())

    def equal(self):
        return len({tuple(host.ask("SELECT @@gtid_binlog_pos")) for host in self.hosts}) == 1

    def told(self):
        def one(host):
            return host.do("/etc/keepalived/speil-mysql status /srv/uploads")[1].strip() if host.up else "off"

        return super().told() + "".join(f"\n  {host.name}: {one(host)}" for host in self.hosts)


def power_cut(round):
    pause(2)
    round.happens("the power fails on the primary")
    round.old.power_cut()
    round.taken_over()
    pause(4)
    round.old.boot()


def keepalived_dies(round):
    """The new primary closes the old one's database; cron would do so too, for the old tree hears of the new one."""
    pause(2)
    round.happens("keepalived dies on the primary")
    round.old.do("pkill -KILL -x keepalived")
    round.taken_over()
    pause(3)
    round.old.do("/etc/keepalived/speil-mysql check /srv/uploads")
    if round.old.ask("SELECT @@read_only") != ["1"]:
        raise Failed("a database takes writes, and its tree is superseded")
    round.world.type(round.old, "systemctl start keepalived")


def database_dies(round):
    pause(2)
    round.happens("the database of the primary dies")
    round.old.do("pkill -KILL -x mariadbd")
    round.taken_over()
    pause(3)
    round.world.type(round.old, "systemctl start mariadb")


def behind(round):
    """The replica has received what it cannot apply yet: a lock holds it up for longer than it waits, then not."""
    replica = round.standbys[0]
    replica.do("sed -i 's/^wait=.*/wait=4/' /etc/keepalived/speil-mysql.conf")
    words = replica.words("mariadb -e 'LOCK TABLES uploads.files READ; SELECT SLEEP(20)'")
    lock = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    pause(2)
    round.happens("the power fails on the primary, and the replica is behind")
    round.old.power_cut()
    until("it is refused, with how far it is", 30,
          lambda: "received and not applied" in open(f"{replica.dir}/srv/log.keepalived").read()
          or "a promotion was refused" in replica.do("/etc/keepalived/speil-mysql check /srv/uploads")[1])
    note(replica.do("/etc/keepalived/speil-mysql check /srv/uploads")[1].strip())
    if replica.role().get("role") != "standby":
        raise Failed("the tree is promoted, and its database is not")
    lock.wait()
    round.taken_over()
    replica.do("sed -i 's/^wait=.*/wait=30/' /etc/keepalived/speil-mysql.conf")
    round.old.boot()


def killed(round):
    """What promotes is killed again and again, in whichever step it is, and run by hand."""
    new = round.standbys[0]
    pause(1)
    round.happens("the power fails on the primary; the promotion is killed again and again")
    round.old.power_cut()
    until("it has the address", 30, new.has_address)
    end, times = time.time() + 4, 0
    while time.time() < end:
        pause(0.2)
        # keepalived tells nobody twice.
        subprocess.Popen(new.words(AGAIN), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        pause(0.15 + times % 10 * 0.15)
        times += new.try_("pkill -KILL -f '^/bin/sh /etc/keepalived/speil'")
    note(f"killed {times} times")
    round.world.type(new, AGAIN)
    round.taken_over()
    pause(2)
    round.old.boot()


def split_brain(round):
    """Both lead and both write; the rows of one are kept in a dump, and its database is filled anew."""
    world, old = round.world, round.old
    world.side(old)
    pause(2)
    round.happens("the network is cut")
    world.cut(True)
    new = round.taken_over()
    pause(5)
    note("the network is mended")
    world.cut(False)
    # Whichever it is.
    leading = until_one(world)
    loser = [host for host in world.hosts if host is not leading][0]
    until("the database says that it went another way", 60,
          lambda: "filled anew" in loser.do("/etc/keepalived/speil-mysql check /srv/uploads")[1] and leading is new)
    for command in open(f"{drill.REPOSITORY}/contrib/mysql/README.md").read().split("```sh\n")[2].split("```")[0].splitlines():
        world.type(loser, command.replace("/var/backups/before.sql", "/srv/before.sql").replace("root@oslo", f"root@{leading.name}"))


def until_one(world):
    until("one leads" + world.told(), 60, lambda: world.primary() and [h for h in world.hosts if h.has_address()] == [world.primary()])
    return world.primary()


SCENARIOS = {
    "power cut of the primary": power_cut,
    "planned switch, and back": drill.switch_and_back,
    "the database of the primary dies": database_dies,
    "keepalived alone dies": keepalived_dies,
    "power cut; the replica is behind": behind,
    "power cut; the promotion is killed": killed,
    "network cut, writes on both sides": split_brain,
}


def count(world):
    """Rows and files of everything that was acknowledged."""
    figures = drill.count(world)
    rows = set(world.primary().ask("SELECT sha FROM uploads.files"))
    for host in world.hosts:
        if set(host.ask("SELECT sha FROM uploads.files")) != rows:
            raise Failed("the databases differ")
    kept = ""
    for host in world.hosts:
        if os.path.exists(f"{host.dir}/srv/before.sql"):
            kept += open(f"{host.dir}/srv/before.sql").read()
            os.unlink(f"{host.dir}/srv/before.sql")
    acknowledged = [line for client in world.clients for line in client.lines() if line["status"] == 201]
    figures["alone"] = sum(line["alone"] == "1" for line in acknowledged)
    lacking = [line for line in acknowledged if line["sha"] not in rows]
    figures["rows aside"] = sum(line["sha"] in kept for line in lacking)
    figures["rows lost"] = len(lacking) - figures["rows aside"]
    files = set().union(*world.primary().hashes(False).values())
    aside = set().union(*(shas for host in world.hosts for shas in host.hashes(True).values()))
    replaced = drill.replaced(world)
    figures["rows without a file"] = len(rows - files - replaced - aside)
    tried = {line["sha"] for client in world.clients for line in client.lines()}
    figures["files without a row"] = len(files & tried - rows)
    for line in [line for line in lacking if line["sha"] not in kept][:5]:
        print(f"NO ROW {line}", file=sys.stderr)
    return figures


def main(speil, wanted):
    work = os.environ["DRILL_WORK"]
    return drill.play(Pair(work, speil), drill.chosen(SCENARIOS, wanted), count, COLUMNS, BAD)


COLUMNS = {"acknowledged": "acknowledged", "alone": "by one host alone", "lost": "files lost", "rows lost": "rows lost",
           "aside": "files set aside", "rows aside": "rows set aside", "rows without a file": "rows without a file",
           "files without a row": "files without a row"}
BAD = ["lost", "rows lost", "rows without a file"]

if __name__ == "__main__":
    drill.start(__file__, [(main, SCENARIOS)])
