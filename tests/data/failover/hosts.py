"""What the drill is made of: hosts and clients in namespaces, with wires to two switches."""

import collections
import glob
import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
REPOSITORY = os.path.abspath(os.path.join(HERE, "../../.."))
ADDRESS = "192.0.2.10"
# libfaketime, where it is installed or unpacked beside the build.
FAKETIME = [path for top in ("/", f"{REPOSITORY}/target/tools/") for path in
            glob.glob(f"{top}usr/lib/*/faketime/libfaketimeMT.so.1")]
NAMES = {"oslo": "192.0.2.1", "bergen": "192.0.2.2", "tromso": "192.0.2.3"}


def run(*words, **more):
    return subprocess.run(words, check=True, **more)


def until(what, seconds, holds):
    """Waits until something holds; says after how many seconds it did."""
    began = time.time()
    while not holds():
        if time.time() - began > seconds:
            raise Failed(f"not after {seconds} s: {what() if callable(what) else what}")
        time.sleep(0.05)
    return time.time() - began


VERBOSE = "VERBOSE" in os.environ


def note(text):
    if VERBOSE:
        print(f"    {time.strftime('%T')} {text}", file=sys.stderr, flush=True)


class Failed(Exception):
    pass


class Wire:
    """An end in a network namespace, on one of two switches."""

    def __init__(self, name):
        self.name, self.side = name, 0

    def plug(self, pid):
        own = os.readlink("/proc/self/ns/net")
        until("a network of its own", 10, lambda: os.readlink(f"/proc/{pid}/ns/net") != own)
        run("ip", "link", "add", f"v{self.name}", "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        self.move(self.side)
        run("ip", "link", "set", f"v{self.name}", "up")

    def move(self, side):
        self.side = side
        if os.path.exists(f"/sys/class/net/v{self.name}"):
            run("ip", "link", "set", f"v{self.name}", "master", f"switch{side}")


class Client(Wire):
    def __init__(self, work, at, name):
        super().__init__(name)
        self.log, self.address, self.process = f"{work}/{name}.log", f"192.0.2.{100 + at}", None

    def start(self):
        open(self.log, "w").close()
        # Always of one hardware address: a host that has known another one might answer that one for seconds.
        script = 'until ip link show eth0 >/dev/null 2>&1; do sleep 0.01; done; ip link set eth0 address "$2"; ' \
            'ip addr add "$1/24" dev eth0; ip link set eth0 up; shift 2; exec "$@"'
        mac = f"02:00:c0:00:02:{int(self.address.split('.')[-1]):02x}"
        words = ["unshare", "--net", "sh", "-c", script, "sh", self.address, mac, sys.executable, f"{HERE}/client.py", self.log]
        self.process = subprocess.Popen(words)
        self.plug(self.process.pid)

    def stop(self):
        self.process.terminate()
        self.process.wait()

    def lines(self):
        """What was tried since the client was started last."""
        with open(self.log) as log:
            return [json.loads(line) for line in log if line.endswith("\n")]


class Host(Wire):
    def __init__(self, work, name):
        super().__init__(name)
        self.dir, self.address, self.process, self.init = f"{work}/{name}", NAMES[name], None, None

    @property
    def tree(self):
        return f"{self.dir}/srv/uploads"

    def install(self, speil, key, names):
        upper = f"{self.dir}/upper"
        for part in ["work", "root", "srv/uploads", "srv/incoming"]:
            os.makedirs(f"{self.dir}/{part}")
        for part in ["etc/ssh", "etc/speil", "etc/keepalived/speil.d", "etc/haproxy", "usr/local/bin", "usr/bin", "root/.ssh"]:
            os.makedirs(f"{upper}/{part}")
        for part in ["", "usr", "usr/local", "etc", "etc/keepalived", "etc/keepalived/speil.d", "usr/local/bin", "usr/bin"]:
            os.chmod(f"{upper}/{part}", 0o755)
        os.chmod(f"{upper}/root", 0o700)
        os.chmod(f"{upper}/root/.ssh", 0o700)

        def write(path, text, mode=0o644):
            with open(f"{upper}/{path}", "w") as file:
                file.write(text)
            os.chmod(f"{upper}/{path}", mode)

        shutil.copy(speil, f"{upper}/usr/local/bin/speil")
        os.symlink("/usr/local/bin/speil", f"{upper}/usr/bin/speil")
        for name, path in [("uploads", "uploads.py"), ("systemctl", "systemctl.sh")]:
            shutil.copy(f"{HERE}/{path}", f"{upper}/usr/local/bin/{name}")
            os.chmod(f"{upper}/usr/local/bin/{name}", 0o755)
        # What the commands of the example start from.
        for part in ["contrib/keepalived", "contrib/mysql", "contrib/pacemaker", "examples/failover"]:
            shutil.copytree(f"{REPOSITORY}/{part}", f"{upper}/root/speil/{part}")
        shutil.copy(f"{REPOSITORY}/contrib/failover.conf", f"{upper}/root/speil/contrib/failover.conf")
        for part, line in [("speil.lua", ', {0} = "root@{0}"'), ("haproxy.cfg", "    server {0} {0}:8000\n")]:
            with open(f"{REPOSITORY}/examples/failover/{part}") as file:
                text = file.read()
            for name in set(NAMES) - set(names):
                text = text.replace(line.format(name), "")
            write(f"root/speil/examples/failover/{part}", text)
        # The service starts and stops with the role.
        for name, path in [("primary", "start"), ("standby", "stop")]:
            write(f"etc/keepalived/speil.d/{name}",
                  f"#!/bin/sh\nexec curl -sf -m 5 -X POST http://127.0.0.1:8000/{path}\n", 0o755)
        write("etc/hostname", f"{self.name}\n")
        write("etc/machine-id", hashlib.md5(self.name.encode()).hexdigest() + "\n")
        write("etc/hosts", "127.0.0.1 localhost\n" + "".join(f"{NAMES[name]} {name}\n" for name in names))
        with open("/etc/shadow") as shadow:
            lines = ["root:*:19000:0:99999:7:::\n" if line.startswith("root:") else line for line in shadow]
        write("etc/shadow", "".join(lines), 0o600)
        # The key of the host, and the one that root logs in with.
        for path in ["etc/ssh/drill_key", "root/.ssh/id_ed25519"]:
            shutil.copy(key, f"{upper}/{path}")
            os.chmod(f"{upper}/{path}", 0o600)
        shutil.copy(f"{key}.pub", f"{upper}/root/.ssh/id_ed25519.pub")
        shutil.copy(f"{key}.pub", f"{upper}/root/.ssh/authorized_keys")

    def clock(self, offset):
        """Sets the clock of every process of speil on this host, from its next start on: "-1h", or None for the true one."""
        program, real = f"{self.dir}/upper/usr/local/bin/speil", f"{self.dir}/upper/usr/local/bin/speil.real"
        if os.path.exists(real):
            os.rename(real, program)
        if offset:
            shutil.copy(FAKETIME[0], f"{self.dir}/upper/usr/local/bin/faketime.so")
            os.rename(program, real)
            # File times stay those of the kernel, as the library cannot set those that it gives.
            with open(program, "w") as file:
                file.write(f"#!/bin/bash\nexport LD_PRELOAD=/usr/local/bin/faketime.so FAKETIME={offset} NO_FAKE_STAT=1 "
                           "FAKETIME_DONT_FAKE_MONOTONIC=1\nexec -a speil /usr/local/bin/speil.real \"$@\"\n")
            os.chmod(program, 0o755)

    def boot(self):
        words = ["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--propagation", "private",
                 f"{HERE}/host.sh", self.dir, self.name, self.address, sys.executable]
        with open(f"{self.dir}/srv/log.boot", "a") as log:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        children = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        until("a first process", 10, lambda: open(children).read().split())
        self.init = int(open(children).read().split()[0])
        self.plug(self.init)
        until(f"{self.name} is booted", 20, lambda: self.try_("test -e /run/booted"))

    def power_cut(self):
        # The first process of a namespace takes all others with it at once.
        os.kill(self.init, signal.SIGKILL)
        self.process.wait()
        self.process = None
        # The kernel takes its time to clean the network up.
        subprocess.run(["ip", "link", "del", f"v{self.name}"], stderr=subprocess.DEVNULL)

    @property
    def up(self):
        return self.process is not None

    def words(self, command):
        return ["nsenter", "-t", str(self.init), "--net", "--mount", "--uts", "--pid", "chroot", f"{self.dir}/root",
                "/usr/bin/env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root",
                "LC_ALL=C.UTF-8", "sh", "-c", command]

    def do(self, command, seconds=60):
        done = subprocess.run(self.words(command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=seconds, stdin=subprocess.DEVNULL)
        return done.returncode, done.stdout

    def try_(self, command):
        return self.do(command)[0] == 0

    def role(self):
        """The words of .speil/role: role, generation, and so on."""
        try:
            with open(f"{self.tree}/.speil/role") as file:
                lines = [line.split(None, 1) + [""] for line in file if not line.startswith("#")]
        except FileNotFoundError:
            return {}
        return {words[0]: words[1].strip() for words in lines if words}

    def has_address(self):
        return ADDRESS in self.do("ip -4 -o addr show dev eth0")[1]

    def hashes(self, aside):
        """The versions in the tree, or in what is kept aside, by path."""
        found = collections.defaultdict(set)
        top = f"{self.tree}/.speil" if aside else self.tree
        for base, dirs, files in os.walk(top):
            if base == self.tree:
                dirs[:] = [name for name in dirs if name != ".speil"]
            for name in files:
                try:
                    if not stat.S_ISREG(os.lstat(f"{base}/{name}").st_mode):
                        continue
                    with open(f"{base}/{name}", "rb") as file:
                        found[os.path.relpath(f"{base}/{name}", top)].add(hashlib.sha256(file.read()).hexdigest())
                except OSError:
                    pass
        return found
