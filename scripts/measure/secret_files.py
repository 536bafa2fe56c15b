"""What the operator writes, rightly and wrongly, and what then is asked. Imported by `secrets`; does nothing by itself."""

import hashlib

from secret_places import LEVELS

PATHS = ["/", "/metrics", "/v1/status", "/v1/plan", "/v1/history", "/v1/events", "/v1/usage", "/v1/config", "/health", "/v1/keys"]
COMMANDS = [
    ("status",), ("events",), ("events", "--since", "1h"), ("explain", "chat/one"), ("explain", "chat/two"), ("explain", "other/three"), ("history",),
    ("plan",), ("render",), ("check",), ("usage",), ("usage", "--by", "client,model,server,plan"), ("client", "list"), ("key", "list"),
    ("key", "test"), ("probe", "--last"), ("probe",),
]
# How the provider ends an answer.
ANSWERS = ["401", "403", "402", "400", "429", "500", "503", "200", "model", "redirect", "broken head", "no http", "error event", "html"]
# What holds a key where a place of one belongs: what stands there, and what is put in its stead.
MISTAKES = {
    "a key for its place": ('["env:HAPILOT_M_A"', '["{}"'),
    "a key without quotes": ('["env:HAPILOT_M_A"', "[{}"),
    "a quote that never ends": ('["env:HAPILOT_M_A",', '["{},'),
    "a text for a list": ('keys = ["env:HAPILOT_M_A"', 'keys = "{}" #'),
    "an unknown name": ("weight = 100 # one", 'key = "{}"'),
    "an unknown section": ("[backend.chat.server.one]", '[keys]\nmine = "{}"\n[backend.chat.server.one]'),
    "a line twice": ("weight = 100 # one", 'weight = 100\nweight = "{}"'),
    "a text for a number": ("weight = 100 # one", 'weight = "{}"'),
    "a key as a variable": ('"env:HAPILOT_M_A"', '"env:{}"'),
    "a key as a file": ('"env:HAPILOT_M_A"', '"file:{}"'),
    "a key as a credential": ('"env:HAPILOT_M_A"', '"credential:{}"'),
    "an assignment": ('"env:HAPILOT_M_A"', '"HAPILOT_M_A={}"'),
    "a key for its digest": ('key_sha256 = "', 'key_sha256 = "{}" # '),
    "a key in the URL's user": ('url = "http://127.0.0.1', 'url = "http://me:{}@127.0.0.1'),
    "a key in the URL's query": ('/v1" # one', '/v1?key={}" # one'),
    "a password": ('password = "file:', 'password = "{}", user = "x" }} # '),
    "a provider's header, and a mistake": ("[provider.mine]", '[provider.mine]\nheaders = {{ Authorization = "Bearer {}", "bad name" = "x" }}'),
    "a comment beside a mistake": ("weight = 100 # one", "weight = -1 # {}"),
    "beside a mistake of another key": ('"env:HAPILOT_M_A"', '"env:HAPILOT_M_NONE", "{}"'),
    "a second key in a price": ("[[price]]", '[[price]]\nkey = "{}"'),
}
MISTAKES_BESIDE = ["the clients' file", "Bearer in a key's file", "an assignment in a key's file", "two lines in a key's file"]


def operators_file(node, maxconn=1000):
    """The operator's file: two servers with keys from everywhere, clients of two kinds, and whatever shows something."""
    at = {name: f"127.0.0.1:{port}" for name, port in node.ports.items()}
    sockets = ", ".join(f'"stats socket {node.dir}/run/{level}.sock level {level} mode 600"' for level in LEVELS[:2])
    digest = hashlib.sha256(node.keys["client of hapilot.toml"].encode()).hexdigest()
    return f"""clients = "{node.own}/clients.toml"
[node]
name = "measured"
state = "{node.dir}/state"
[haproxy]
config = "{node.dir}/haproxy/haproxy.cfg"
admin_socket = "{node.dir}/run/admin.sock"
master_socket = "{node.dir}/run/master.sock"
binary = "{node.rig.haproxy}"
user = ""
group = ""
log = "{node.sink.address}"
maxconn = {maxconn}
threads = 2
stats = {{ bind = "{at['stats']}", user = "ops", password = "file:{node.own}/stats" }}
raw = [{sockets}]
[api]
socket = "{node.dir}/run/hapilot.sock"
listen = "{at['api']}"
[limit.address]
requests = "100000/1m"
[frontend.api]
bind = ["{at['front']}"]
backend = "chat"
routes = [{{ model = ["claude-*"], backend = "other" }}]
[frontend.tls]
bind = ["{at['tls']}"]
certificates = ["{node.own}/tls.pem"]
redirect_http = "{at['redirect']}"
backend = "chat"
[[price]]
model = "*"
input = 1
output = 2
[plan.wide]
requests = "10000/1s"
tokens = "100000000/1m"
budget = {{ usd = 1000 }}
[plan.narrow]
requests = "2/1h"
[client.fixed]
plan = "wide"
key_sha256 = "{digest}"
[backend.chat]
retries = 2
retry_streams = "errors"
[backend.chat.check]
interval = "1s"
chat = {{ model = "gpt-4o-mini", every = "10s", max_tokens = 16 }}
[backend.chat.server.one]
url = "{node.providers[0].url}" # one
keys = ["env:HAPILOT_M_A", "file:{node.own}/a2"]
weight = 100 # one
[backend.chat.server.two]
url = "{node.providers[1].url}"
keys = ["file:{node.own}/b", "env:HAPILOT_M_B"]
[provider.mine]
like = "openai"
[backend.other]
provider = "mine"
[backend.other.server.three]
url = "{node.providers[0].url}"
keys = ["file:{node.own}/a2"]
"""
