"""What the measurements share: mocks, a private HAProxy and an agent in a directory that goes away with them.

Standard library only. Imported by the scripts beside it; does nothing by itself.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = ROOT / "target" / "release" / "hapilot"
# As many as a file may have.
MOST_SERVERS = 10_000
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """The measurement cannot go on; the text says why."""


def arguments(description):
    """The options that every measurement has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--haproxy", default="haproxy", metavar="BINARY", help="the HAProxy to measure with")
    parser.add_argument(
        "--servers", type=numbers, default=[], metavar="N,N", help=f"numbers of servers to measure, up to {MOST_SERVERS} each"
    )
    return parser


def choose_haproxies(parser):
    """The option of measurements that are made with several HAProxies, one after the other."""
    parser.add_argument(
        "--haproxy",
        default=os.environ.get("HAPILOT_TEST_HAPROXY", "haproxy"),
        metavar="BINARIES",
        help="the HAProxies to measure with, separated by colons (default: HAPILOT_TEST_HAPROXY, or haproxy)",
    )


def numbers(text):
    """`100,1000` as a list, within the limits of the measurements."""
    found = [int(word) for word in text.split(",")]
    if not all(1 <= number <= MOST_SERVERS for number in found):
        raise argparse.ArgumentTypeError(f"a number of servers lies between 1 and {MOST_SERVERS}")
    return found


def main(measure):
    """Runs a measurement; SIGTERM and SIGINT end it as a failure does, with everything torn down."""

    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

    def stop(number, _frame):
        # A second one must not interrupt the tearing down.
        for other in signals:
            signal.signal(other, signal.SIG_IGN)
        raise Failed(f"ended by {signal.Signals(number).name}")

    for number in signals:
        signal.signal(number, stop)
    try:
        measure()
    except Failed as failed:
        sys.exit(f"error: {failed}")


def hapilot():
    """The optimised binary, built where it is missing."""
    if not BINARY.exists():
        print("building target/release/hapilot", file=sys.stderr)
        build = ["cargo", "build", "--locked", "--release", "--bin", "hapilot"]
        if subprocess.run(build, cwd=ROOT, check=False).returncode != 0 or not BINARY.exists():
            raise Failed("target/release/hapilot cannot be built")
    return str(BINARY)


def haproxy_version(binary):
    """`3.0.11`, as the binary says itself."""
    try:
        text = subprocess.run([binary, "-v"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise Failed(f"{binary} does not answer to -v: {error}") from error
    return re.search(r"version (\d+\.\d+\.\d+)", text).group(1)


def headline(binary):
    """The command that made the table, for the record, without the places of this machine."""
    words = [pathlib.Path(sys.argv[0]).name if os.path.isabs(sys.argv[0]) else sys.argv[0], *sys.argv[1:]]
    shown = ["HAPROXY" if os.path.isabs(word) and word == binary else word for word in words]
    return f"# {' '.join(shown)}\n# HAProxy {haproxy_version(binary)}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}"


class Rig:
    """Mocks, HAProxy and agent; everything ends when the `with` block does."""

    def __init__(self, haproxy, mocks, mock_options=()):
        self.haproxy = haproxy
        self.wanted_mocks = mocks
        self.mock_options = mock_options
        self.processes = []
        self.mocks = []
        self.controls = {}
        self.agent = None
        self.master = None

    def __enter__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="hapilot-measure-"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        try:
            self.mocks = [self.mock(number) for number in range(self.wanted_mocks)]
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        until = time.monotonic() + 3
        for process in reversed(self.processes):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, until - time.monotonic()))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def start(self, name, command, environment=None):
        """Starts a process in a group of its own, its output in `NAME.log`."""
        own = {key: value for key, value in os.environ.items() if not key.startswith("HAPILOT_")}
        with open(self.dir / f"{name}.log", "wb") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=own | {"NO_COLOR": "1"} | (environment or {}),
            )
        self.processes.append(process)
        return process

    def log(self, name):
        """What a process said so far."""
        return (self.dir / f"{name}.log").read_text(errors="replace")

    def wait(self, what, seconds, look, pause=0.02):
        """Polls until `look` gives something; fails when a process has ended or time is up."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            found = look()
            if found:
                return found
            for process in self.processes:
                if process.poll() is not None:
                    said = "\n".join(path.read_text(errors="replace")[-2000:] for path in self.dir.glob("*.log"))
                    raise Failed(f"{process.args[0]} ended while waiting for {what}\n{said}")
            time.sleep(pause)
        raise Failed(f"waited {seconds} s in vain for {what}\n{self.log('agent')[-2000:] if self.agent else ''}")

    def stop(self, process, number=signal.SIGTERM, seconds=20):
        """Ends one process and waits until it is gone."""
        process.send_signal(number)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise Failed(f"{process.args[0]} does not end within {seconds} s") from error
        self.processes.remove(process)

    def mock(self, number, options=()):
        """A mock on an address and ports of its own: its URL."""
        name = f"mock{number}"
        host = f"127.0.0.{number + 2}"
        command = [hapilot(), "mock", "--listen", f"{host}:0", "--control", f"{host}:0", "--name", name]
        self.start(name, [*command, *self.mock_options, *options])
        pattern = r"answers on (\S+)[\s\S]* (\S+)/fault\n"
        url, control = self.wait("a mock", 20, lambda: re.search(pattern, self.log(name))).groups()
        self.controls[url] = Control(control)
        return url

    def head(self, of_haproxy="", backend="b0"):
        """What every file begins with: this node, its HAProxy, one frontend."""
        return f"""[node]
name = "measured"
state = "{self.dir}/state"

[haproxy]
config = "{self.dir}/haproxy.cfg"
admin_socket = "{self.dir}/admin.sock"
master_socket = "{self.dir}/master.sock"
binary = "{self.haproxy}"
user = ""
group = ""
log = ""
maxconn = 1000
threads = 2
{of_haproxy}
[api]
socket = "{self.dir}/hapilot.sock"

[frontend.api]
bind = ["127.0.0.1:{self.port}"]
backend = "{backend}"
"""

    def toml(self, servers, interval, weight_of=lambda number: 100, of_haproxy="", of_backend="", of_server=""):
        """A file with that many servers, in backends with one server for each mock; more lines for three sections."""
        lines = [self.head(of_haproxy)]
        for number in range(servers):
            backend, member = divmod(number, len(self.mocks))
            if member == 0:
                lines.append(
                    f'[backend.b{backend}]\nbalance = "roundrobin"\n{of_backend}'
                    f'[backend.b{backend}.check]\ninterval = "{interval}"\nramp = "0s"\n'
                )
            lines.append(
                f'[backend.b{backend}.server.s{member}]\nurl = "{self.mocks[member]}"\n'
                f"weight = {weight_of(number)}\n{of_server}"
            )
        return "\n".join(lines)

    def write_toml(self, text):
        """Replaces the operator's file as an editor does."""
        new = self.dir / "hapilot.toml.new"
        new.write_text(text)
        os.replace(new, self.dir / "hapilot.toml")

    def serve(self, servers, interval, patience=60):
        """Starts the agent and HAProxy; returns the seconds until every server is healthy."""
        return self.serve_text(self.toml(servers, interval), patience)

    def serve_text(self, text, patience):
        """The same with this file."""
        self.write_toml(text)
        began = time.monotonic()
        self.start_agent()
        self.wait("the agent's haproxy.cfg", 60, lambda: (self.dir / "haproxy.cfg").exists())
        self.start_haproxy()
        self.wait("every server to be healthy", patience, self._all_healthy, 0.25)
        return time.monotonic() - began

    def start_agent(self):
        """Starts the agent on the operator's file; its log begins anew."""
        self.agent = self.start("agent", [hapilot(), "-c", f"{self.dir}/hapilot.toml", "run"])

    def start_haproxy(self):
        """Starts master and worker on the `haproxy.cfg` that is there."""
        command = [self.haproxy, "-W", "-S", f"{self.dir}/master.sock", "-f", f"{self.dir}/haproxy.cfg"]
        self.master = self.start("haproxy", command)

    def _all_healthy(self):
        status = self.status()
        if status is None or not status["config"]["is_serving"] or status["haproxy"] is None:
            return False
        servers = [server for backend in status["backends"] for server in backend["servers"]]
        # HAProxy has been seen and has what it should.
        return all(
            server["health"] == "healthy" and server["runtime_weight"] == server["weight"] for server in servers
        )

    def status(self):
        """The agent's picture; `None` while it is not there yet."""
        command = [hapilot(), "-c", f"{self.dir}/hapilot.toml", "status", "--json"]
        with contextlib.suppress(ValueError, subprocess.TimeoutExpired):
            answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
            return json.loads(answer.stdout)
        return None

    def admin(self):
        """An interactive session on the admin socket."""
        return Admin(self.dir / "admin.sock")

    def reload(self):
        """Asks the master for a reload and waits until it has answered; 2.6 answers before it is done."""
        with socket.socket(socket.AF_UNIX) as master:
            master.settimeout(60)
            master.connect(str(self.dir / "master.sock"))
            master.sendall(b"reload\n")
            master.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError):
                while master.recv(65536):
                    pass

    def worker(self):
        """The process that serves."""
        with self.admin() as admin:
            return int(re.search(r"^Pid: (\d+)", admin.ask("show info"), re.M).group(1))

    def workers(self):
        """How many workers there are, with those that only finish their streams."""
        pid = self.master.pid
        return len(pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split())

    def mock_processes(self):
        """The mocks' process ids."""
        return [process.pid for process in self.processes if "mock" in process.args]


class Control:
    """A mock's control port: faults on and off, and what it was asked."""

    def __init__(self, url):
        self.url = url

    def befall(self, *faults):
        """Replaces the faults that are set; none: healthy again."""
        self._ask("PUT", "fault", json.dumps(faults).encode())

    def journal(self):
        """Connections, requests by method, path and status, and the last one of each path."""
        return self._ask("GET", "requests")

    def _ask(self, method, what, body=None):
        request = urllib.request.Request(f"{self.url}/{what}", body, method=method)
        try:
            # No proxy of the environment comes between.
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
                return json.load(answer)
        except OSError as error:
            raise Failed(f"a mock's control port does not answer: {error}") from error


class Admin:
    """HAProxy's admin socket, prompt switched on: one command, one reply."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(str(path))
        self.ask("prompt")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def ask(self, command):
        """The reply, without its blank line."""
        self.socket.sendall(command.encode() + b"\n")
        reply = b""
        while not reply.endswith(b"\n> "):
            piece = self.socket.recv(1 << 16)
            if not piece:
                raise Failed(f"HAProxy hung up on {command!r}")
            reply += piece
        return reply[:-3].decode().strip()


def resident_mb(pid):
    """(VmRSS, VmHWM) in MB of 1,000,000 bytes."""
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return tuple(int(re.search(rf"^{key}:\s+(\d+)", text, re.M).group(1)) * 1024 / 1e6 for key in ("VmRSS", "VmHWM"))


def processor_seconds(pid):
    """User and system time that a process has used."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def table(header, rows):
    """Columns, the first to the left, the others to the right."""
    cells = [header, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    for row in cells:
        first, *rest = (cell.rjust(width) for cell, width in zip(row, widths))
        print("  ".join([row[0].ljust(widths[0]), *rest]).rstrip())
