"""The agent, HAProxy, Keepalived and mocks on both nodes of a cluster (see `cluster`), which hear each other.

Standard library only. Imported by the scripts beside it; does nothing by itself.
"""

import json
import time

import cluster
import rig

TOML = """[node]
state = "{dir}/state"
peers = {{ a = "{a}", b = "{b}" }}
heartbeat = {{ key = "file:{shared}/heartbeat.key" }}
[haproxy]
binary = "{haproxy}"
config = "{dir}/haproxy.cfg"
admin_socket = "{dir}/admin.sock"
master_socket = "{dir}/master.sock"
user = ""
group = ""
maxconn = 1000
log = ""
[api]
socket = "{dir}/hapilot.sock"
[keepalived]
config = "{dir}/keepalived.conf"
directory = "{dir}/vrrp"
pid_file = "{dir}/keepalived.pid"
backstop = "{backstop}"
[vip.public]
addresses = ["{vip}/24"]
interface = "eth0"
router_id = 51
priority = {{ a = 150, b = 100 }}
[frontend.api]
bind = ["*:{port}"]
backend = "chat"
raw = ["http-request return status 200 hdr X-Node %[env(NODE)] content-type text/plain string ok if {{ path /who }}"]
"""

CHAT = """[backend.chat]
[backend.chat.check]
interval = "1s"
[backend.chat.server.one]
url = "http://127.0.0.1:9001/v1"
"""


class Hapilot:
    """The agent beside both, nothing told but the file."""

    name = "hapilot"

    def __init__(self, haproxy, binary=None, top="", sections=CHAT, mocks=(9001,)):
        self.haproxy, self.binary = haproxy, binary or rig.hapilot()
        # What stands in the file before and behind the nodes, and the ports of each node's own mocks.
        self.top, self.sections, self.mocks = top, sections, mocks

    @staticmethod
    def wait_until_quiet(space):
        """Until the nodes hear each other and one of them owns it, the other being fit."""

        def is_quiet():
            parts = [part for node in (space.a, space.b) for vip in vips(node).get("vips", []) for part in vip["nodes"]]
            return sorted(part["state"] or "" for part in parts) == ["BACKUP", "BACKUP", "MASTER", "MASTER"]

        space.wait("a quiet cluster", 20, is_quiet)
        time.sleep(0.5)

    def start(self, space, node, peer, priority):
        """All four processes of one node."""
        (space.dir / "heartbeat.key").write_text("a key for one measurement\n")
        (space.dir / "heartbeat.key").chmod(0o600)
        text = TOML.format(
            dir=space.node_dir, shared=space.dir, a=space.a.ip, b=space.b.ip, haproxy=self.haproxy,
            vip=cluster.VIP, port=cluster.PORT, backstop=space.hapilot,
        )
        file = space.dir / "hapilot.toml"
        file.write_text(self.top + text + self.sections)
        for port in self.mocks:
            self.start_mock(space, node, port)
        self.start_agent(space, node)
        space.wait(f"haproxy.cfg on {node.name}", 20, (node.dir / "keepalived.conf").exists)
        self.start_haproxy(space, node)
        space.wait(f"HAProxy on {node.name}", 5, (node.dir / "admin.sock").exists)
        node.keepalived = node.start_keepalived()

    def start_haproxy(self, space, node):
        """HAProxy alone."""
        own = space.node_dir
        command = [self.haproxy, "-W", "-S", f"{own}/master.sock", "-f", f"{own}/haproxy.cfg"]
        node.master = node.start("haproxy", command, {"NODE": node.name})

    @staticmethod
    def start_mock(space, node, port):
        """A server of this node's own, by its port in `node.mocks`."""
        node.mocks = getattr(node, "mocks", {})
        places = ["--listen", f"127.0.0.1:{port}", "--control", f"127.0.0.1:{port + 1000}"]
        node.mocks[port] = node.start(f"mock{port}", [space.hapilot, "mock", *places])

    @staticmethod
    def start_agent(space, node):
        """The agent alone."""
        node.agent = node.start("agent", [space.hapilot, "-c", space.dir / "hapilot.toml", "--node", node.name, "run"])


def vips(node):
    """`vip status` of a node."""
    return json.loads(node.hapilot("--json", "vip", "status", check=False) or "{}")
