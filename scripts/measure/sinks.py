"""Mocks of all five sinks of alerts: they keep what they took, and are down, busy, broken, slow or well as they are told.

Standard library only. Imported by the scripts beside it; does nothing by itself.
"""

import contextlib
import datetime
import email
import email.header
import hmac
import http.server
import json
import pathlib
import re
import socketserver
import threading
import time

from cluster import CLONE_NEWNET, LIBC

SECRET = "a secret for one measurement"
# What a sink that is busy asks for.
RETRY_AFTER_S = 15


class Told:
    """One notification, or one alert of it, as a sink took it."""

    def __init__(self, ident, matter, event, node="-"):
        self.ident, self.matter, self.event, self.node = ident, matter, event, node
        self.at = time.monotonic()


class Sink:
    """A sink on the loopback, or within a namespace. It is down (nobody listens) until it is told otherwise."""

    def __init__(self, kind, address="127.0.0.1", space=None):
        self.kind, self.space = kind, space
        self.mode, self.delay_s = "well", 0
        self.lock = threading.Lock()
        self.taken, self.refused, self.in_hand = [], 0, 0
        # Tries that came sooner than they were asked to, by an agent that lives still.
        self.too_soon, self.not_before, self.wrong = 0, 0, []
        if space:
            opened = threading.Thread(target=self.open, args=(address,))
            opened.start()
            opened.join()
        else:
            self.open(address)

    def open(self, address):
        if self.space:
            # Of this thread alone; sockets stay where they were made.
            with open(pathlib.Path("/var/run/netns", self.space)) as space:
                LIBC.setns(space.fileno(), CLONE_NEWNET)
        handler = Mail if self.kind == "email" else Web
        self.server = Server((address, 0), handler, bind_and_activate=False)
        self.server.sink = self
        # A port that is bound and not listened on refuses connections.
        self.server.server_bind()
        self.address = f"{address}:{self.server.socket.getsockname()[1]}"

    def listen(self):
        """It is up from now on."""
        self.server.server_activate()
        threading.Thread(target=self.server.serve_forever, args=(0.1,), daemon=True).start()

    def agent_died(self):
        """The next one knows nothing of what was asked for."""
        self.not_before = 0

    def answer(self, told):
        """How it answers to these: `well`, `busy` or `broken`. It has taken them by then, whatever becomes of its answer."""
        with self.lock:
            now = time.monotonic()
            self.too_soon += now < self.not_before - 0.5
            self.not_before = 0
            if self.mode != "well":
                self.refused += 1
                self.not_before = now + RETRY_AFTER_S if self.mode == "busy" and self.kind != "email" else 0
                return self.mode
            self.taken += told
            self.in_hand += 1
        time.sleep(self.delay_s)
        with self.lock:
            self.in_hand -= 1
        return "well"

    def section(self, name, secrets):
        """Its section of the file; secrets go into a directory."""
        def secret(text):
            path = secrets / f"{name}.secret"
            path.write_text(text)
            path.chmod(0o600)
            return f"file:{path}"

        url = f"http://{self.address}"
        of = {
            "slack": lambda: f'slack = {{ webhook = "{secret(url + "/services/T0/B0/x")}" }}',
            "pagerduty": lambda: f'pagerduty = {{ routing_key = "{secret("0123456789abcdef0123456789abcdef")}", url = "{url}" }}',
            "webhook": lambda: f'webhook = {{ url = "{url}/hook", secret = "{secret(SECRET)}" }}',
            "alertmanager": lambda: f'alertmanager = {{ url = "{url}" }}',
            "email": lambda: f'email = {{ smtp = "smtp://{self.address}", from = "lb@example.com", to = ["ops@example.com"] }}',
        }
        return f"[alert.{name}]\n{of[self.kind]()}\n"


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def handle_error(self, *_):
        pass


def matter_of(headline):
    """`two/page` of a line for people: those of one backend alone, as the scripts here have them."""
    event = "resolve" if headline.startswith("OVER") else "trigger"
    event = "repeat" if "(still)" in headline else "update" if "(news)" in headline else event
    text = headline.split(": ", 1)[-1]
    backend = re.search(r"backend (\w+)|(\w+)/\w+", text)
    name = next(filter(None, backend.groups())) if backend else text
    return f"{name}/{'page' if re.search(r'cannot serve|serves? again', text) else 'warning'}", event


def matter_of_key(key):
    """The same of `hapilot/NODES/page/all/two`."""
    urgency, _, scope = key.split("/", 4)[2:]
    return f"{scope}/{urgency}"


def of_slack(_headers, body, _wrong):
    text = body["text"]
    matter, event = matter_of(text.splitlines()[0])
    return [Told(text, matter, event, text.rsplit("told by ", 1)[-1].split(" ")[0])]


def of_pagerduty(_headers, body, _wrong):
    if "event_action" not in body:
        return []
    payload, event = body["payload"], body["event_action"]
    return [Told((body["dedup_key"], event, payload["timestamp"]), matter_of_key(body["dedup_key"]), event, payload["source"])]


def of_webhook(headers, body, wrong):
    raw, stamp = headers["raw"], headers["x-hapilot-timestamp"]
    expected = "sha256=" + hmac.new(SECRET.encode(), stamp.encode() + b"." + raw, "sha256").hexdigest()
    if not hmac.compare_digest(expected, headers["x-hapilot-signature"]) or headers["idempotency-key"] != body["id"]:
        wrong.append(f"a signature or key of {body['id']}")
    return [Told(body["id"], matter_of_key(body["key"]), body["event"], body["node"])]


def of_alertmanager(_headers, body, _wrong):
    # What lasts is told each minute: only its begin and its end are counted.
    now = datetime.datetime.now(datetime.timezone.utc)
    found = []
    for alert in body:
        labels, ends = alert["labels"], datetime.datetime.fromisoformat(alert["endsAt"].replace("Z", "+00:00"))
        matter = f"{labels['scope']}/{labels['severity']}"
        is_over = ends <= now + datetime.timedelta(seconds=1)
        found.append(Told((labels["key"], alert["startsAt"], is_over), matter, "resolve" if is_over else "trigger"))
    return found


READ = {"slack": of_slack, "pagerduty": of_pagerduty, "webhook": of_webhook, "alertmanager": of_alertmanager}
PATHS = {
    "slack": ["/services/T0/B0/x"],
    # Alerts, and revisions that serve.
    "pagerduty": ["/v2/enqueue", "/v2/change/enqueue"],
    "webhook": ["/hook"],
    "alertmanager": ["/api/v2/alerts"],
}
ANSWERS = {"slack": (200, b"ok"), "pagerduty": (202, b'{"status":"success"}'), "webhook": (200, b"taken"), "alertmanager": (200, b"")}


class Web(http.server.BaseHTTPRequestHandler):
    """All but mail."""

    def log_message(self, *_):
        pass

    def do_POST(self):
        sink = self.server.sink
        raw = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()} | {"raw": raw}
        if self.path not in PATHS[sink.kind]:
            sink.wrong.append(f"the path {self.path}")
        told = READ[sink.kind](headers, json.loads(raw), sink.wrong)
        how = sink.answer(told)
        status, body = {"busy": (429, b"slow down"), "broken": (500, b"no"), "well": ANSWERS[sink.kind]}[how]
        with contextlib.suppress(OSError):
            self.send_response(status)
            if how == "busy":
                self.send_header("retry-after", str(RETRY_AFTER_S))
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)


class Mail(socketserver.StreamRequestHandler):
    """SMTP, as much of it as a mail needs."""

    def say(self, line):
        self.wfile.write(line.encode() + b"\r\n")

    def handle(self):
        with contextlib.suppress(OSError):
            self.talk()

    def talk(self):
        sink = self.server.sink
        self.say("220 mock ESMTP")
        while line := self.rfile.readline(4096):
            word = line[:4].upper().strip()
            if word == b"QUIT":
                return self.say("221 bye")
            if word != b"DATA":
                self.say("250 ok")
                continue
            self.say("354 go on")
            mail = b""
            while (line := self.rfile.readline(1 << 16)) and line != b".\r\n":
                mail += line
            if not line:
                return
            message = email.message_from_bytes(mail)
            matter, event = matter_of(str(email.header.make_header(email.header.decode_header(message["Subject"]))))
            text = message.get_payload(decode=True).decode()
            told = Told(message["Message-ID"], matter, event, text.rsplit("told by ", 1)[-1].split(" ")[0])
            told.thread = message["References"]
            self.say({"busy": "450 slow down", "broken": "451 no", "well": "250 taken"}[sink.answer([told])])
