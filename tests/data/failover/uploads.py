"""The service that writes: takes PUT into /srv/uploads, and says which host has it, once it is on the disk.

What a write replaces is written down before, outside of the tree: that version need not be found afterwards.
"""

import hashlib
import http.server
import json
import os
import socket
import threading

TREE, ASIDE, JOURNAL, SERVING = "/srv/uploads", "/srv/incoming", "/srv/journal", "/run/serving"
lock = threading.Lock()
host = socket.gethostname()


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
        self.answer(201, X_Sha=new, X_Host=host)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 64
    daemon_threads = True


Server(("0.0.0.0", 8000), Handler).serve_forever()
