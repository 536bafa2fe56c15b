"""A provider that repeats the key that it was sent wherever it can. Imported by `secrets`; does nothing by itself."""

import http.server
import json
import threading
import urllib.parse

import rig


class Provider(http.server.ThreadingHTTPServer):
    """Listens at once. A client's header X-Do says how a completion ends, `probes` how a list of models does."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answers)
        self.probes = "ok"
        # What arrived: (path with its query, headers).
        self.asked = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, *_):
        pass


class Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def key(self):
        return (self.headers.get("authorization") or "").removeprefix("Bearer ") or self.headers.get("x-api-key") or "none"

    def do_GET(self):
        self.server.asked.append((self.path, self.headers.items()))
        self.answer(self.server.probes if self.path.endswith("/models") else "ok", False)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.server.asked.append((self.path, self.headers.items()))
        self.answer(self.headers.get("x-do") or "ok", b'"stream":true' in body)

    def answer(self, what, is_stream):
        key = self.key()
        told = {"error": {"message": f"Incorrect API key provided: {key}", "type": key, "code": key, "param": key}}
        echoes = {"X-Echo": key, "WWW-Authenticate": f'Bearer realm="{key}"', "x-request-id": key, "Server": key}
        if what in ("401", "403", "402", "429", "400", "500", "503"):
            if what == "429":
                echoes["Retry-After"] = key
            self.whole(int(what), told, echoes)
        elif what == "200":
            self.whole(200, told, echoes)
        elif what == "model":
            self.whole(200, {"object": "list", "data": [{"id": key}], "model": key, "usage": {"prompt_tokens": key}}, echoes)
        elif what == "redirect":
            self.whole(302, told, {"Location": f"http://127.0.0.1:9/{urllib.parse.quote(key)}?key={urllib.parse.quote(key)}"})
        elif what == "broken head":
            self.wfile.write(f"HTTP/1.1 200 OK\r\nBad Name\x01 {key}: {key}\r\n\r\n".encode())
            self.close_connection = True
        elif what == "no http":
            self.wfile.write(f"KEY {key} IS NO ANSWER\r\n\r\n".encode())
            self.close_connection = True
        elif what == "error event":
            self.stream([told])
        elif what == "slow stream":
            self.stream([{"choices": [{"index": 0, "delta": {"content": "word"}}]}] * 40, 0.1)
        elif what == "html":
            self.send_response(200)
            text = f"<html>{key}".encode()
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)
        elif is_stream:
            self.stream([{"choices": [{"index": 0, "delta": {"content": "word"}}]}] * 5)
        elif self.path.endswith("/models"):
            self.whole(200, {"object": "list", "data": [{"id": "gpt-4o"}, {"id": "gpt-4o-mini"}]})
        else:
            usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
            self.whole(200, {"choices": [{"message": {"content": "Hello."}}], "usage": usage})

    def whole(self, status, body, headers=()):
        text = json.dumps(body).encode()
        self.send_response_only(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def stream(self, events, pause=0):
        self.send_response_only(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        for event in events:
            self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
            self.wfile.flush()
            rig.time.sleep(pause)
        self.wfile.write(b"data: [DONE]\n\n")
