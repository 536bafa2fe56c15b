"""The places in which keys are looked for. Imported by `secrets`; does nothing by itself."""

import contextlib
import os
import pathlib
import re
import socket
import stat
import threading
import time

LEVELS = ("user", "operator", "admin")
# A file of somebody else may be large; ours are not.
MOST_BYTES = 64 << 20


class Sink:
    """Where HAProxy's log goes."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"
        self.lines = []
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self):
        with contextlib.suppress(OSError):
            while line := self.socket.recv(1 << 16):
                self.lines.append(line)

    def close(self):
        self.socket.close()


class Watch(threading.Thread):
    """Looks at the arguments of every process, at the environment of HAProxy's and at files that come and go, all the time."""

    def __init__(self, seen, directory, rules):
        super().__init__(daemon=True)
        self.seen, self.directory, self.rules = seen, directory, rules
        self.ending = threading.Event()
        # Each process once: neither changes while it runs what it runs.
        self.known = set()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        self.join()

    def run(self):
        while not self.ending.wait(0.005):
            self.look()
            self.look_at_files()

    def look_at_files(self):
        for path, told in files_changed([self.directory], 0, lambda path: False):
            what = (path.name if path.name.startswith(".") else path, told.st_ino, told.st_mtime_ns)
            if what in self.known or told.st_size > MOST_BYTES:
                continue
            self.known.add(what)
            rules = self.rules(path, told)
            with contextlib.suppress(OSError):
                if rules != "skip":
                    data = path.read_bytes()
                    # Names that chance makes are one.
                    inside = re.sub(r"(hapilot-)\w{6}$", r"\1*", str(path.relative_to(self.directory)))
                    where = f"{inside} (mode {stat.S_IMODE(told.st_mode):04o})"
                    self.seen.look("files that come and go", data, where, rules)

    def look(self):
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            with contextlib.suppress(OSError):
                place = pathlib.Path("/proc") / entry
                arguments = (place / "cmdline").read_bytes()
                if (entry, arguments) in self.known:
                    continue
                self.known.add((entry, arguments))
                self.seen.look("arguments of processes", arguments, (place / "comm").read_text().strip())
                if b"haproxy" in arguments.split(b"\0")[0]:
                    self.seen.look("HAProxy's environment", (place / "environ").read_bytes(), arguments.replace(b"\0", b" ").decode()[:60])


def files_changed(roots, began, leave_out):
    """Files that changed since, but for some."""
    for root in roots:
        for directory, _, names in os.walk(root):
            for name in names:
                path = pathlib.Path(directory) / name
                with contextlib.suppress(OSError):
                    told = path.lstat()
                    if stat.S_ISREG(told.st_mode) and max(told.st_mtime, told.st_ctime) >= began and not leave_out(path):
                        yield path, told


def ask(path, command, patience=3):
    """What a HAProxy socket answers."""
    found = b""
    with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
        client.settimeout(patience)
        client.connect(str(path))
        client.sendall(command.encode() + b"\n")
        while piece := client.recv(1 << 16):
            found += piece
            if len(found) > MOST_BYTES:
                break
    return found


def shown(path, keys_of_maps):
    """(command, answer) of everything that a socket shows: each command of its help, and what those list."""
    help_ = ask(path, "help").decode(errors="replace")
    commands = sorted({match.strip() for match in re.findall(r"^\s+(show [a-z-]+(?: [a-z-]+)*)", help_, re.M)})
    # Some have more to show with a word.
    more = ["show sess all", "show errors -1", "show stat json", "show info json", "show schema json", "show pools detailed", "show profiling all"]
    # And some that the help may leave out.
    more += ["show map", "show acl", "show table", "show env", "show sess", "show errors", "show fd", "show cli sockets", "show startup-logs", "show dev"]
    for command in sorted({*commands, *more}):
        # With -w it would go on for ever; without, it lists the rings.
        yield command, ask(path, command)
    maps = re.findall(rb"^(-?\d+) \(([^)]*)\)", ask(path, "show map"), re.M)
    for number, name in maps or [(str(number).encode(), b"?") for number in range(-1, 40)]:
        yield f"show map of {name.decode()}", ask(path, f"show map #{number.decode()}")
        for entry in keys_of_maps:
            yield f"get map of {name.decode()}", ask(path, f"get map #{number.decode()} {entry}")
    tables = re.findall(rb"^# table: (\S+),", ask(path, "show table"), re.M)
    for name in tables:
        yield f"show table {name.decode()}", ask(path, f"show table {name.decode()}")
    for ring in ("hapilot-live", "buf0", "startup-logs"):
        yield f"show ring {ring}", ask(path, f"show events {ring}")


def talk(port, payload, seconds=10, tls=None):
    """What comes back for bytes over TCP."""
    found = b""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=seconds) as plain:
        client = tls.wrap_socket(plain, server_hostname="localhost") if tls else plain
        client.settimeout(seconds)
        client.sendall(payload)
        while piece := client.recv(1 << 16):
            found += piece
    return found


def request(path, headers=(), body=None, method=None):
    """The bytes of a request that wants no other one."""
    lines = [f"{method or ('POST' if body is not None else 'GET')} {path} HTTP/1.1", "Host: gateway.example", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in dict(headers).items()]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body.encode())}"]
    return ("\r\n".join(lines) + "\r\n\r\n" + (body or "")).encode()
