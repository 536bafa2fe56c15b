"""Two nodes, a switch and a client in network namespaces, for the measurements of the virtual address.

Standard library only; needs root, iproute2 and keepalived. Imported by `vip`; does nothing by itself. Namespaces,
processes and directory go away with the `with` block.
"""

import contextlib
import ctypes
import os
import pathlib
import re
import selectors
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

from rig import Failed

NETWORK = "198.51.100"
VIP = f"{NETWORK}.200"
PORT = 8080
CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


def run(*words, check=True):
    """Runs a command of the system; its output."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=20)
    if check and done.returncode != 0:
        raise Failed(f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class Node:
    """A namespace with one interface on the switch."""

    def __init__(self, cluster, name, last):
        self.cluster, self.name = cluster, name
        self.space = f"{cluster.prefix}-{name}"
        self.ip = f"{NETWORK}.{last}"
        self.dir = cluster.dir / name
        self.dir.mkdir()
        run("ip", "netns", "add", self.space)
        run("ip", "link", "add", "eth0", "netns", self.space, "type", "veth", "peer", "name", f"p{name}", "netns", cluster.switch)
        run("ip", "-n", cluster.switch, "link", "set", f"p{name}", "master", "br0", "up")
        for command in (["link", "set", "lo", "up"], ["link", "set", "eth0", "up"], ["addr", "add", f"{self.ip}/24", "dev", "eth0"]):
            run("ip", "-n", self.space, *command)
        run("ip", "netns", "exec", self.space, "sysctl", "-qw", "net.ipv4.ip_nonlocal_bind=1")

    def inside(self):
        """Runs what follows on this node: its network, and its own directory where every node has one."""
        return ["ip", "netns", "exec", self.space, "sh", "-c", f'mount --bind {self.dir} {self.cluster.node_dir} && exec "$@"', "sh"]

    def start(self, name, command, environment=None):
        """Starts a process of this node in a group of its own, its output in `NAME.log`."""
        with open(self.dir / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                [*self.inside(), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=os.environ | {"NO_COLOR": "1", "TMPDIR": str(self.dir)} | (environment or {}),
            )
        self.cluster.processes.append(process)
        return process

    def start_keepalived(self, conf=None):
        """Keepalived with files of its own, so that two fit on one machine."""
        if conf is not None:
            (self.dir / "keepalived.conf").write_text(conf)
        own = self.cluster.node_dir
        options = [f"-{flag}{own}/{name}.pid" for flag, name in (("p", "keepalived"), ("r", "vrrp"), ("c", "checkers"), ("b", "bfd"))]
        return self.start("keepalived", ["keepalived", "-n", "-l", "-D", "-G", "-P", "-f", f"{own}/keepalived.conf", *options])

    def start_haproxy(self, binary, text):
        """HAProxy on this text."""
        (self.dir / "haproxy.cfg").write_text(text)
        return self.start("haproxy", [binary, "-W", "-S", f"{self.dir}/master.sock", "-f", f"{self.dir}/haproxy.cfg"])

    def run(self, *words):
        """Runs a command on this node; its output."""
        return run(*self.inside(), *words)

    def hapilot(self, *words, check=True):
        """The command line of this node."""
        file = f"{self.cluster.dir}/hapilot.toml"
        return run(*self.inside(), str(self.cluster.hapilot), "-c", file, "--node", self.name, *words, check=check)

    def owns_vip(self):
        """Whether its interface bears the address."""
        return f" {VIP}/" in run("ip", "-n", self.space, "-o", "addr", "show", "dev", "eth0")

    def unplug(self):
        """The node is gone for everybody else."""
        run("ip", "-n", self.cluster.switch, "link", "set", f"p{self.name}", "down")

    def plug(self):
        """And back."""
        run("ip", "-n", self.cluster.switch, "link", "set", f"p{self.name}", "up")


class Cluster:
    """Nodes `a` and `b`, client `c`."""

    def __init__(self, binary=None):
        self.binary = binary

    def __enter__(self):
        if os.geteuid() != 0:
            raise Failed("network namespaces need root")
        self.prefix = f"hv{os.getpid()}"
        self.switch = f"{self.prefix}-sw"
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="hapilot-vip-"))
        self.processes = []
        # Keepalived runs no script of a path that others may write to.
        own = pathlib.Path(f"/run/{self.prefix}")
        self.hapilot, self.node_dir = own / "hapilot", own / "node"
        try:
            self.node_dir.mkdir(parents=True, mode=0o755)
            if self.binary:
                shutil.copy(self.binary, self.hapilot)
            run("ip", "netns", "add", self.switch)
            run("ip", "-n", self.switch, "link", "add", "br0", "type", "bridge", "forward_delay", "0")
            run("ip", "-n", self.switch, "link", "set", "br0", "up")
            self.a, self.b, self.c = (Node(self, name, last) for name, last in (("a", 11), ("b", 12), ("c", 100)))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGCONT)
                os.killpg(process.pid, signal.SIGKILL)
        for name in ("a", "b", "c", "sw"):
            space = f"{self.prefix}-{name}"
            for pid in run("ip", "netns", "pids", space, check=False).split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            run("ip", "netns", "del", space, check=False)
        for process in self.processes:
            process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)
        shutil.rmtree(self.hapilot.parent, ignore_errors=True)

    def wait(self, what, seconds, look):
        """Polls until `look` is true."""
        until = time.monotonic() + seconds
        while not look():
            if time.monotonic() > until:
                logs = "\n".join(f"--- {path}\n{path.read_text(errors='replace')[-1500:]}" for path in self.dir.glob("*/*.log"))
                raise Failed(f"waited {seconds} s in vain for {what}\n{logs}")
            time.sleep(0.005)


class Client(threading.Thread):
    """Opens a connection every 5 ms through the VIP, asks once, and notes what became of it."""

    PACE = 0.005
    PATIENCE = 1.0

    def __init__(self, space):
        super().__init__(daemon=True)
        self.space = space
        self.ending = threading.Event()
        self.answers = []  # (begun, ended, who; None where it failed)

    def run(self):
        # A thread can have a network namespace of its own: no second process to talk to.
        with open(pathlib.Path("/var/run/netns", self.space)) as space:  # or an absolute path
            if LIBC.setns(space.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        selector = selectors.DefaultSelector()
        due = time.monotonic()
        while not self.ending.is_set():
            now = time.monotonic()
            if now >= due:
                self.begin(selector, now)
                due = max(due + self.PACE, now)
            for key, _ in selector.select(max(0.0, min(due - time.monotonic(), self.PACE))):
                self.go_on(selector, key)
            self.give_up(selector)
        for key in list(selector.get_map().values()):
            key.fileobj.close()

    def begin(self, selector, now):
        """One request."""
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex((VIP, PORT))
        selector.register(sock, selectors.EVENT_WRITE, now)

    def go_on(self, selector, key):
        """A connection has something to say."""
        sock, begun = key.fileobj, key.data
        try:
            if key.events == selectors.EVENT_WRITE:
                sock.send(b"GET /who HTTP/1.1\r\nHost: vip\r\nConnection: close\r\n\r\n")
                selector.modify(sock, selectors.EVENT_READ, begun)
                return
            answer = sock.recv(4096)
        except OSError:
            answer = b""
        found = re.search(rb"(?im)^x-node: (\S+)", answer)
        self.end(selector, sock, begun, found.group(1).decode() if found and b" 200 " in answer else None)

    def give_up(self, selector):
        """On those that take too long."""
        now = time.monotonic()
        for key in [key for key in selector.get_map().values() if now - key.data > self.PATIENCE]:
            self.end(selector, key.fileobj, key.data, None)

    def end(self, selector, sock, begun, who):
        """Notes one answer."""
        selector.unregister(sock)
        sock.close()
        self.answers.append((begun, time.monotonic(), who))

    def outage_ms(self, since):
        """The longest gap between two begins that were answered, less the pace; and how many were lost."""
        good = sorted(begun for begun, _, who in self.answers if who and begun >= since - 0.2)
        good.append(max(begun for begun, *_ in self.answers))
        lost = sum(1 for begun, _, who in self.answers if not who and begun >= since - 0.2)
        gaps = [later - earlier for earlier, later in zip(good, good[1:])]
        return max(0.0, (max(gaps, default=float("inf")) - self.PACE) * 1000), lost
