"""Uploads through the address all the time, three at once, until it is told to end: client.py LOG

Each try is a line of the log, whatever came of it.
"""

import hashlib
import http.client
import json
import os
import random
import signal
import sys
import threading
import time

ADDRESS = "192.0.2.10"


def client(log):
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    lock = threading.Lock()
    out = open(log, "a", buffering=1)

    def upload(worker):
        chance = random.Random(os.urandom(8))
        count = 0
        while not stop.is_set():
            # Every fourth one replaces an earlier one.
            number = chance.randrange(40) if chance.random() < 0.25 else 40 + count
            path = f"/{os.getpid()}-{worker}-{number}"
            count += 1
            body = os.urandom(chance.randrange(100, 20000))
            sha = hashlib.sha256(body).hexdigest()
            began, status, host, via, alone = time.time(), 0, None, None, None
            try:
                # Sooner than TCP itself would try again, after a second.
                link = http.client.HTTPConnection(ADDRESS, 80, timeout=0.25)
                link.connect()
                link.sock.settimeout(3)
                link.request("PUT", path, body)
                answer = link.getresponse()
                status, host, via = answer.status, answer.getheader("X-Host"), answer.getheader("X-Via")
                alone = answer.getheader("X-Alone")
                if answer.getheader("X-Sha") not in (None, sha):
                    status = -1
                link.close()
            except (OSError, http.client.HTTPException):
                pass
            line = dict(began=began, ended=time.time(), path=path, sha=sha, status=status, host=host, via=via, alone=alone)
            with lock:
                out.write(json.dumps(line) + "\n")
            time.sleep(0.05)

    workers = [threading.Thread(target=upload, args=(worker,)) for worker in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


client(sys.argv[1])
