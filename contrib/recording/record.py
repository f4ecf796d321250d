#!/usr/bin/env python3
"""Types commands, records what they print and when, and writes that as an animated SVG.

Every line is from a real run; pauses over a second are shortened. `make recording` runs it between two hosts
and writes docs/recording.svg.
"""

import html
import os
import pty
import re
import select
import sys
import textwrap
import time

# What is typed, and what must have been printed before the next command is.
SCENES = [
    ("speil mirror /srv/uploads/ root@standby:/srv/uploads/ &", ": live"),
    ("echo invoice >/srv/uploads/invoice.txt; speil wait; ssh standby cat /srv/uploads/invoice.txt", "invoice"),
    ("mv /srv/uploads/img /srv/uploads/photos; speil wait; ssh standby ls /srv/uploads", "photos"),
    ("rm -rf /srv/uploads/*    # oops", "would leave the tree empty"),
    ("ssh standby ls /srv/uploads", "photos"),
    ("speil status", "held"),
    ("cp -a /srv/backup/. /srv/uploads/; speil discard; speil wait; speil status", "last pass"),
]
COLUMNS = 104
LINE, LEFT, TOP = 19, 16, 46
LONGEST_PAUSE = 1.0
TYPING = 0.025


def record():
    """Returns (moment, text, whether it was typed) of each line."""
    child, terminal = pty.fork()
    if child == 0:
        os.environ["PS1"] = ""
        os.environ["TERM"] = "dumb"
        os.execvp("bash", ["bash", "--norc", "--noprofile", "--noediting"])
    os.write(terminal, b"stty -echo; set +m; PS1=; echo ready\n")
    lines, began = [], time.monotonic()

    def read(until):
        pending, found, deadline = b"", False, time.monotonic() + 60
        while time.monotonic() < deadline:
            ready, _, _ = select.select([terminal], [], [], 0.7)
            if not ready:
                if found:
                    return
                continue
            pending += os.read(terminal, 4096)
            *whole, pending = pending.split(b"\n")
            for line in whole:
                text = line.decode(errors="replace").replace("\r", "")
                lines.append((time.monotonic() - began, text, False))
                found = found or until in text
        sys.exit("\n".join(text for _, text, _ in lines) + f"\nnever printed: {until}")

    read("ready")
    lines.clear()
    for command, until in SCENES:
        lines.append((time.monotonic() - began, command, True))
        os.write(terminal, command.encode() + b"\n")
        read(until)
    os.write(terminal, b"kill %1; exit\n")
    os.close(terminal)
    return [line for line in lines if not re.match(r"\[\d+\]", line[1])]


def drawing(lines):
    """Returns the SVG of what was recorded."""
    rows, moment, last = [], 0.6, 0.0
    wrapped = []
    for at, text, typed in lines:
        moment += min(max(at - last, 0.02), LONGEST_PAUSE)
        last = at
        if typed:
            moment += 0.5
        pieces = textwrap.wrap(text, COLUMNS - 2, drop_whitespace=False) or [""]
        for piece in pieces:
            wrapped.append((moment, piece, typed))
            if typed:
                moment += TYPING * len(piece)
    height = TOP + LINE * (len(wrapped) + 1)
    width = LEFT * 2 + round(COLUMNS * 8.43)
    for number, (at, text, typed) in enumerate(wrapped):
        y = TOP + LINE * (number + 1)
        kind = "typed" if typed else ("held" if "held" in text else "said")
        prefix = '<tspan class="prompt">$ </tspan>' if typed else ""
        rows.append(f'<text x="{LEFT}" y="{y}" class="{kind}" style="animation-delay:{at:.2f}s" '
                    f'xml:space="preserve">{prefix}{html.escape(text)}</text>')
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-labelledby="title">
<title id="title">A terminal: files arrive on the standby at once; after a wrong rm the deletes are held</title>
<style>
text {{ font: 14px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #d7dedb; animation: appear .01s both; }}
.typed {{ fill: #ffffff; font-weight: 600; }} .prompt {{ fill: #7fd6a8; }} .held {{ fill: #f2c46d; }}
@keyframes appear {{ from {{ opacity: 0; }} to {{ opacity: 1; }} }}
@media (prefers-reduced-motion: reduce) {{ text {{ animation: none; }} }}
</style>
<rect width="{width}" height="{height}" rx="10" fill="#161b19"/>
<circle cx="20" cy="20" r="6" fill="#4a544f"/><circle cx="40" cy="20" r="6" fill="#4a544f"/><circle cx="60" cy="20" r="6" fill="#4a544f"/>
{chr(10).join(rows)}
</svg>
"""


if __name__ == "__main__":
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        file.write(drawing(record()))
