"""Stands between the agent and HAProxy's admin socket, for measurements that count what the agent writes.

Standard library only. Imported by the scripts beside it.
"""

import contextlib
import os
import select
import socket
import threading
import time


class Relay:
    """Takes the place of HAProxy's admin socket, passes everything on, and writes down what changes something."""

    READS = {"show", "get", "prompt", "help", "wait", "quit"}

    def __init__(self, running):
        self.path, self.real = running.dir / "admin.sock", running.dir / "haproxy.sock"
        self.writes = []
        self.last_write = time.monotonic()

    def __enter__(self):
        # A socket answers under its new name; HAProxy does not look at the old one again until it is reloaded.
        os.rename(self.path, self.real)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.close()

    def _accept(self):
        while True:
            try:
                agent, _ = self.listener.accept()
            except OSError:
                return
            haproxy = socket.socket(socket.AF_UNIX)
            try:
                haproxy.connect(str(self.real))
            except OSError:
                agent.close()
                continue
            threading.Thread(target=self._pass_on, args=(agent, haproxy, Commands(self)), daemon=True).start()
            threading.Thread(target=self._pass_on, args=(haproxy, agent, None), daemon=True).start()

    @staticmethod
    def _pass_on(source, sink, commands):
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 16):
                if commands:
                    commands.feed(piece)
                sink.sendall(piece)
            if commands and not is_gone(source):
                # The agent has said all that it wants to say, and still listens.
                sink.shutdown(socket.SHUT_WR)
                return
        # HAProxy hung up, or the agent is dead: what streams to it must end too.
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def saw(self, line):
        """A command; several may stand on a line."""
        for command in line.split(";"):
            words = command.split()
            if words and words[0] not in self.READS:
                self.last_write = time.monotonic()
                self.writes.append((self.last_write, command.strip()[:200]))


def is_gone(end):
    """Whether nobody holds the other end any more; else it is closed in one direction alone."""
    poll = select.poll()
    poll.register(end, select.POLLHUP)
    return any(events & select.POLLHUP for _, events in poll.poll(0))


class Commands:
    """The lines of one connection; what follows `<<` up to an empty line belongs to the command before it."""

    def __init__(self, relay):
        self.relay = relay
        self.rest = b""
        self.is_payload = False

    def feed(self, piece):
        *lines, self.rest = (self.rest + piece).split(b"\n")
        for line in lines:
            text = line.decode(errors="replace").strip()
            if self.is_payload:
                self.is_payload = bool(text)
                continue
            self.is_payload = text.endswith("<<")
            self.relay.saw(text)
