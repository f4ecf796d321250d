"""The service that writes: takes PUT into /srv/uploads, and says which host has it, once it is on the disk.

What a write replaces is written down before, outside of the tree: that version need not be found afterwards.

Where /etc/uploads-rows is, an upload is a row of the database as well: first the file, then `speil wait`, then the row,
whose commit waits for a replica. X-Alone says 1 if one of both went on without the other host.
"""

import hashlib
import http.server
import json
import os
import select
import socket
import subprocess
import threading

TREE, ASIDE, JOURNAL, SERVING = "/srv/uploads", "/srv/incoming", "/srv/journal", "/run/serving"
lock = threading.Lock()
host = socket.gethostname()


class Rows:
    """A session with the database, through the client that comes with it."""

    def __init__(self):
        self.client = None

    def insert(self, path, sha):
        """Returns whether a replica has the row; an error where it is not committed."""
        if self.client is None or self.client.poll() is not None:
            words = ["mariadb", "--batch", "--skip-column-names", "--unbuffered", "--user=app", "uploads"]
            self.client = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        ask = f"INSERT IGNORE INTO files (sha, path) VALUES ('{sha}', '{path}'); SHOW STATUS LIKE 'Rpl_semi_sync_master_status';\n"
        answer = b""
        try:
            self.client.stdin.write(ask.encode())
            self.client.stdin.flush()
            if select.select([self.client.stdout], [], [], 4)[0]:
                answer = self.client.stdout.readline()
        except OSError:
            pass
        if b"semi_sync" not in answer:
            self.client.kill()
            self.client.wait()
            raise OSError(answer)
        return b"ON" in answer


rows = Rows() if os.path.exists("/etc/uploads-rows") else None


class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, code, **headers):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True

    def do_POST(self):
        """What systemctl does: starts the service, or stops it once nothing is written any more."""
        with lock:
            if self.path == "/start":
                open(SERVING, "w").close()
            elif os.path.exists(SERVING):
                os.unlink(SERVING)
        self.answer(200)

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        new = hashlib.sha256(body).hexdigest()
        with lock:
            if not os.path.exists(SERVING):
                return self.answer(503)
            path = TREE + self.path
            try:
                with open(path, "rb") as file:
                    old = hashlib.sha256(file.read()).hexdigest()
            except FileNotFoundError:
                old = None
            temporary = ASIDE + self.path
            with open(temporary, "wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            with open(JOURNAL, "a") as journal:
                journal.write(json.dumps({"path": self.path, "new": new, "old": old}) + "\n")
            os.rename(temporary, path)
        more = {}
        if rows:
            there = subprocess.run(["speil", "wait", "--timeout", "1s"], capture_output=True).returncode == 0
            with lock:
                if not os.path.exists(SERVING):
                    return self.answer(503)
                try:
                    more["X_Alone"] = "0" if rows.insert(self.path, new) and there else "1"
                except OSError:
                    return self.answer(500)
        self.answer(201, X_Sha=new, X_Host=host, **more)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 64
    daemon_threads = True


Server(("0.0.0.0", 8000), Handler).serve_forever()
