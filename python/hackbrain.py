"""Durable checkpoints and progress for a program that HackBrain runs in a container.

    import hackbrain

    snapshot = hackbrain.restore()                  # first of all
    state, step = decode(snapshot.state) if snapshot else (fresh(), 0)
    while step < STEPS:
        if hackbrain.due(step):                     # now?
            hackbrain.save(encode(state), step)     # durable when it returns
        state, step = work(state), step + 1

One file without dependencies. It speaks version 1 of the protocol that docs/container-protocol.md
describes, over the socket that HACKBRAIN_SOCKET names. A host that dies is waited for: the call that
was under way is made again once there is a host, and nothing is done twice. Where there is no
HACKBRAIN_SOCKET the program runs as it is: nothing is restored, nothing is due, nothing is saved.
"""

import json
import math
import os
import socket
import struct
import sys
import threading
import time
from collections import namedtuple

__version__ = "0.1.0"
__all__ = [
    "PROTOCOL", "Snapshot", "artifact", "available", "due", "metric", "note", "report", "restore",
    "save",
]

PROTOCOL = 1
"""Version of the protocol that this file speaks."""

Snapshot = namedtuple("Snapshot", ["sequence", "step", "state"])
"""A checkpoint as it is given back: its number from 1, its step, its bytes."""

_HEAD = struct.Struct("<IQ")
_PAUSE_MIN, _PAUSE_MAX = 0.05, 1.0


class _Host:
    """The connection, and what has to be said again when it is lost."""

    def __init__(self, path):
        self.path = path
        self.lock = threading.RLock()
        self.socket = None
        self.process = None
        self.sequence = 0
        self.step = 0
        self.done = 0
        self.total = None
        self.metrics = {}
        self.notes = []

    def call(self, request, payload=b""):
        """Asks, and asks again after a lost connection; returns the answer and its payload."""
        with self.lock:
            while True:
                try:
                    self._connect()
                    return self._exchange(request, payload)
                except (OSError, EOFError):
                    self._close()

    def _connect(self):
        if self.socket is not None and self.process == os.getpid():
            return
        # A child that was forked off has a connection of its own.
        self._close()
        pause = _PAUSE_MIN
        while True:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.connect(self.path)
                break
            except OSError:
                connection.close()
                time.sleep(pause)
                pause = min(2 * pause, _PAUSE_MAX)
        self.socket, again = connection, self.process is not None
        self.process = os.getpid()
        self._exchange({"op": "hello", "protocol": PROTOCOL})
        if again:
            self._exchange({
                "op": "progress", "done": self.done, "total": self.total,
                "metrics": self.metrics, "notes": self.notes,
            })

    def _close(self):
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def _exchange(self, request, payload=b""):
        text = json.dumps(request, separators=(",", ":")).encode()
        self.socket.sendall(_HEAD.pack(len(text), len(payload)) + text)
        if payload:
            self.socket.sendall(payload)
        text_length, payload_length = _HEAD.unpack(self._receive(_HEAD.size))
        answer = json.loads(bytes(self._receive(text_length)))
        return answer, bytes(self._receive(payload_length))

    def _receive(self, length):
        received = bytearray(length)
        view, filled = memoryview(received), 0
        while filled < length:
            count = self.socket.recv_into(view[filled:])
            if count == 0:
                raise EOFError
            filled += count
        return received


_path = os.environ.get("HACKBRAIN_SOCKET")
_host = _Host(_path) if _path else None


def available():
    """Whether there is a host."""
    return _host is not None


def restore():
    """The newest checkpoint of this job, or None. Call it once, before anything is printed or written.

    With it everything is put back to where it stood: what was printed, /job, /out and progress.
    """
    if _host is None:
        return None
    answer, state = _host.call({"op": "restore"})
    if not answer["found"]:
        return None
    with _host.lock:
        _host.sequence, _host.step = answer["sequence"], answer["step"]
    return Snapshot(answer["sequence"], answer["step"], state)


def due(step):
    """Whether a checkpoint is wanted now. Cheap; the step must never fall."""
    if _host is None:
        return False
    with _host.lock:
        _host.step = step
        return _host.call({"op": "due", "step": step})[0]["due"]


def save(state, step=None):
    """Makes the present condition durable and returns the checkpoint's number.

    With the bytes `state` the host keeps what was printed and the contents of /job and /out. The step
    is the one that `due` was asked about, unless it is given. Nothing of this program may print or
    write files meanwhile.
    """
    if _host is None:
        return 0
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    with _host.lock:
        step = _host.step if step is None else step
        request = {"op": "save", "step": step, "sequence": _host.sequence + 1}
        answer, _ = _host.call(request, bytes(state))
        _host.sequence, _host.step = answer["sequence"], step
        _host.notes = []
        return _host.sequence


def report(done, total=None):
    """Says how much is done, and of how much if that is known."""
    if _host is None:
        return
    with _host.lock:
        _host.done, _host.total = done, total
        _host.call({"op": "report", "done": done, "total": total})


def metric(name, value):
    """Says the present value of a named quantity; the newest counts. What is no number is left out."""
    if _host is None or not math.isfinite(value):
        return
    with _host.lock:
        _host.metrics[name] = float(value)
        _host.call({"op": "metric", "name": name, "value": float(value)})


def note(text):
    """Puts a short remark into the job's trace, at most 4 KiB."""
    if _host is None:
        return
    with _host.lock:
        _host.call({"op": "note", "text": text})
        _host.notes.append(text)


def artifact(name, data):
    """Writes the bytes `data` to /out/NAME, whole or not at all, and returns the path."""
    path = os.path.join(os.environ.get("HACKBRAIN_OUT", "/out"), name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = path + ".part"
    with open(temporary, "wb") as file:
        file.write(data)
    os.replace(temporary, path)
    return path
