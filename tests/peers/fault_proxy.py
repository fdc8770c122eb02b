"""fault_proxy.py - a loopback proxy before a blob storage that fails on request.

    with FaultProxy(storage.port, {1: {"kind": "status", "status": 503}}) as proxy:
        ...
        proxy.requests     # what came: method, target, headers, time

Requests are counted from 1; one that has no fault is passed on. Kinds:
  status       answer with "status" and optionally "code", "message", "headers", "date"; the storage
               never sees the request. {QUERY} and {SIG} in the message become the request's own
               query and its decoded signature.
  reset        read half of the body, then a TCP reset
  stall        read the body, never answer
  hold         as stall, and set `proxy.held`
  lost         let the storage do it, then a reset instead of the answer
  truncated    let the storage do it, answer its status with a body that is cut
  flood        answer with a body that does not end
It also takes absolute targets, so it can stand as an HTTP proxy.
"""
import http.client
import http.server
import json
import socket
import struct
import sys
import threading
import time
from email.utils import formatdate
from urllib.parse import parse_qsl, urlsplit

NOT_PASSED_ON = ("connection", "proxy-connection", "keep-alive")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except OSError:  # the client went away
            self.close_connection = True

    def do_PUT(self):
        owner = self.server.owner
        fault = owner.note(self)
        length = int(self.headers.get("Content-Length", 0))
        kind = fault["kind"] if fault else "pass"
        if kind == "reset":
            self.rfile.read(length // 2)
            self.reset()
            return
        body = self.rfile.read(length)
        getattr(self, "answer_" + kind)(fault, body)

    do_GET = do_HEAD = do_POST = do_PUT

    def target(self):
        parts = urlsplit(self.path)
        return parts.path + ("?" + parts.query if parts.query else "")

    def forward(self, body):
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.owner.target_port)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in NOT_PASSED_ON}
        upstream.request(self.command, self.target(), body=body, headers=headers)
        answer = upstream.getresponse()
        content = answer.read()
        upstream.close()
        return answer.status, answer.getheaders(), content

    def send(self, status, headers, content):
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in NOT_PASSED_ON + ("content-length", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def reset(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()
        self.wfile.close()
        self.connection.close()
        self.close_connection = True

    def answer_pass(self, _fault, body):
        self.send(*self.forward(body))

    def answer_status(self, fault, _body):
        headers = dict(fault.get("headers", {}))
        headers["Date"] = fault.get("date", formatdate(usegmt=True))
        content = b""
        if "code" in fault:
            query = urlsplit(self.path).query
            message = fault.get("message", "").replace("{QUERY}", query)
            message = message.replace("{SIG}", dict(parse_qsl(query)).get("sig", ""))
            headers["x-ms-error-code"] = fault["code"]
            content = (f'\ufeff<?xml version="1.0" encoding="utf-8"?><Error><Code>{fault["code"]}'
                       f"</Code><Message>{message}\nRequestId:0f1e2d3c-0000\n"
                       "Time:2026-01-01T00:00:00.0000000Z</Message></Error>").encode()
        self.send(fault["status"], headers.items(), content)

    def answer_stall(self, _fault, _body):
        self.connection.settimeout(60)
        self.connection.recv(1)  # until the client gives up
        self.close_connection = True

    def answer_hold(self, fault, body):
        self.server.owner.held.set()
        self.answer_stall(fault, body)

    def answer_lost(self, _fault, body):
        self.forward(body)
        self.reset()

    def answer_truncated(self, _fault, body):
        status, _, _ = self.forward(body)
        self.send_response_only(status)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"x" * 10)
        self.close_connection = True

    def answer_flood(self, _fault, _body):
        self.send_response_only(201)
        self.send_header("Content-Length", str(1 << 40))
        self.end_headers()
        while True:
            self.wfile.write(b"x" * 65536)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_):
        pass  # resets are what this server is for


class FaultProxy:
    def __init__(self, target_port, faults=None, every=None):
        """faults: {number: fault}; every: the fault of all other requests."""
        self.target_port = target_port
        self.faults = faults or {}
        self.every = every
        self.requests = []
        self.held = threading.Event()
        self.lock = threading.Lock()

    def note(self, handler):
        with self.lock:
            self.requests.append({"method": handler.command, "target": handler.path,
                                  "headers": {k.lower(): v for k, v in handler.headers.items()},
                                  "time": time.monotonic()})
            return self.faults.get(len(self.requests), self.every)

    def __enter__(self):
        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.owner = self
        self.port = self.server.server_address[1]
        self.endpoint = f"http://127.0.0.1:{self.port}/devstoreaccount1"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit('fault_proxy.py TARGET_PORT [\'{"2": {"kind": "reset"}}\']')
    SCRIPT = json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
    with FaultProxy(int(sys.argv[1]), {int(n): f for n, f in SCRIPT.items()}) as running:
        print(running.endpoint, flush=True)
        sys.stdin.read()
