#!/usr/bin/python3
"""test_http.py - control/http.c under a client that means harm.

Usage: test_http.py HTTP_DEMO [unittest arguments]
Each test talks raw bytes over the unix socket and then asks the server, on a new connection,
whether it still answers: that is the property under test everywhere.  Waits end as soon as the
condition holds; their limit is only there so that a failure ends.
"""
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

DEMO = sys.argv[1]
WAIT_S = 20
MIB = 1 << 20


def stream_bytes(n):
    return bytes(((i * 2654435761) & 0xFFFFFFFF) >> 24 for i in range(n))


class Answer:
    def __init__(self, head, body):
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split(" ")[1])
        self.headers = {k.lower(): v for k, v in (x.split(": ", 1) for x in lines[1:] if x)}
        self.body = body

    def json(self):
        return json.loads(self.body)


class Client:
    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX if isinstance(path, str) else socket.AF_INET)
        self.sock.settimeout(WAIT_S)
        self.sock.connect(path)
        self.rest = b""

    def send(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode())
        return self

    def read(self, with_body=True):
        while b"\r\n\r\n" not in self.rest:
            more = self.sock.recv(65536)
            if not more:
                raise EOFError(self.rest)
            self.rest += more
        head, self.rest = self.rest.split(b"\r\n\r\n", 1)
        answer = Answer(head, b"")
        if answer.status == 100:
            return answer
        want = int(answer.headers["content-length"]) if with_body else 0
        parts, have = [self.rest], len(self.rest)
        while have < want:
            more = self.sock.recv(MIB)
            if not more:
                raise EOFError(b"".join(parts))
            parts.append(more)
            have += len(more)
        body = b"".join(parts)
        answer.body, self.rest = body[:want], body[want:]
        return answer

    def ends(self):
        """True if the server closes; what it sends before does not matter."""
        try:
            while self.sock.recv(65536):
                pass
            return True
        except ConnectionResetError:
            return True
        except socket.timeout:
            return False

    def close(self):
        self.sock.close()


class Server:
    def __init__(self, connections=0, request_ms=0, reply_ms=0, group="", path=None, tcp=False):
        self.folder = tempfile.mkdtemp(prefix="gatecap-http-")
        self.path = path or os.path.join(self.folder, "s")
        self.port_file = os.path.join(self.folder, "port")
        args = [DEMO, self.path, str(connections), str(request_ms), str(reply_ms), group]
        self.proc = subprocess.Popen(args + ([self.port_file] if tcp else []),
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE, text=True)
        self.is_ready = self.proc.stdout.readline() == "ready\n"

    def client(self):
        return Client(self.path)

    def stats(self):
        c = self.client()
        answer = c.send("GET /stats HTTP/1.1\r\nConnection: close\r\n\r\n").read().json()
        c.close()
        return answer

    def stop(self):
        if self.proc.poll() is None:
            self.proc.send_signal(signal.SIGTERM)
        _, err = self.proc.communicate(timeout=WAIT_S)
        for name in os.listdir(self.folder):
            os.unlink(os.path.join(self.folder, name))
        os.rmdir(self.folder)
        return self.proc.returncode, err


class HttpCase(unittest.TestCase):
    settings = {}

    def setUp(self):
        self.server = Server(**self.settings)
        self.assertTrue(self.server.is_ready)

    def tearDown(self):
        self.assertEqual(self.server.stats()["connections"], 1, "a connection was leaked")
        code, err = self.server.stop()
        self.assertEqual((code, err), (0, ""))

    def ask(self, data, **kw):
        c = self.server.client()
        try:
            return c.send(data).read(**kw)
        finally:
            c.close()

    def until(self, condition):
        end = time.monotonic() + WAIT_S
        while not condition():
            self.assertLess(time.monotonic(), end, "the condition never came true")
            time.sleep(0.01)


class Requests(HttpCase):
    def test_get_gives_name_and_query_decoded_and_not(self):
        a = self.ask("GET /hello/a%20b%C3%A9?x=%31 HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertEqual((a.status, a.json()), (200, {"name": "a b\u00e9", "query": "x=%31"}))
        self.assertEqual(a.headers["content-type"], "application/json")

    def test_post_gives_the_body_back(self):
        body = '{"a":[1,{"b":"\\u00e9"}]}'
        a = self.ask(f"POST /echo HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n{body}")
        self.assertEqual((a.status, a.json()), (201, json.loads(body)))

    def test_chunked_body_is_read(self):
        a = self.ask("POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
                     "4\r\n{\"a\"\r\n3\r\n:1}\r\n0\r\n\r\n")
        self.assertEqual((a.status, a.json()), (201, {"a": 1}))

    def test_empty_body_is_an_empty_object(self):
        a = self.ask("POST /echo HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual((a.status, a.json()), (201, {}))
        a = self.ask("POST /echo HTTP/1.1\r\nContent-Length: 3\r\n\r\n \r\n")
        self.assertEqual((a.status, a.json()), (201, {}))

    def test_reply_without_body_has_its_header(self):
        a = self.ask("POST /empty HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual((a.status, a.body, a.headers["retry-after"]), (202, b"", "1"))

    def test_bodies_that_are_not_one_json_object_are_refused(self):
        for body in (b"[]", b"1", b"{", b'{"a":1,"a":2}', b"{}x", b'{"a":"\xff"}', b'{"a":01}',
                     b'{"a":"\\u0000"}', b"{}\x00", b'{"a":' * 40 + b"1" + b"}" * 40, b"\x00"):
            a = self.ask(b"POST /echo HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            self.assertEqual((a.status, a.json()["error"]["code"]),
                             (400, "InvalidRequestContent"), body)
            self.assertTrue(a.json()["error"]["details"], body)

    def test_wrong_method_names_the_right_ones(self):
        a = self.ask("DELETE /hello/x HTTP/1.1\r\n\r\n")
        self.assertEqual((a.status, a.headers["allow"]), (405, "GET, PUT"))
        self.assertEqual(a.json()["error"]["code"], "HttpMethodNotSupported")

    def test_every_known_method_gets_405_where_it_is_not_taken(self):
        for method in ("PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "GET"):
            a = self.ask(f"{method} /echo HTTP/1.1\r\n\r\n")
            self.assertEqual((a.status, a.headers["allow"]), (405, "POST"), method)
        a = self.ask("HEAD /echo HTTP/1.1\r\n\r\n", with_body=False)
        self.assertEqual(a.status, 405)

    def test_unknown_methods_get_501_as_json(self):
        for method in ("FOO", "get", "GETT", "M" * 300, "\x01\x02", "PROPFIND"):
            a = self.ask(f"{method} /echo HTTP/1.1\r\n\r\n")
            self.assertEqual((a.status, a.json()["error"]["code"]),
                             (501, "HttpMethodNotSupported"), method)

    def test_connect_is_answered(self):
        a = self.ask("CONNECT host:80 HTTP/1.1\r\n\r\n")
        self.assertIn(a.status, (400, 404, 405))

    def test_unknown_paths_get_404(self):
        for path in ("/", "/hello", "/hello/", "/hello/a/b", "/echo/", "//echo", "/stream/1/y"):
            a = self.ask(f"GET {path} HTTP/1.1\r\n\r\n")
            self.assertIn(a.status, (400, 404), path)
            self.assertIn("error", a.json())

    def test_bad_percent_encoding_is_refused(self):
        for name in ("%", "%1", "%zz", "%00", "a%2Fb", "a%2fb", "%ff", "%c0%80", "%ed%a0%80",
                     "%f5%80%80%80", "%0a", "%7f", "..", "%2e%2e", ".", "x" * 256, "%C3"):
            a = self.ask(f"GET /hello/{name} HTTP/1.1\r\n\r\n")
            self.assertEqual((a.status, a.json()["error"]["code"]),
                             (400, "InvalidRequestContent"), name)

    def test_encoded_literals_match_their_route(self):
        a = self.ask("GET /h%65llo/x HTTP/1.1\r\n\r\n")
        self.assertEqual(a.status, 200)

    def test_handler_without_a_reply_gets_500(self):
        self.assertEqual(self.ask("GET /nothing HTTP/1.1\r\n\r\n").status, 500)

    def test_versions(self):
        self.assertEqual(self.ask("GET /hello/x HTTP/1.0\r\n\r\n").status, 200)
        for version in ("HTTP/2.0", "HTTP/9.9", "HTTP/x", "FTP/1.1", "HTTP/1.1x", "HTTP/-7.3",
                        "HTTP/0.9"):
            a = self.ask(f"GET /hello/x {version}\r\n\r\n")
            self.assertIn(a.status, (400, 505), version)
            self.assertIn("error", a.json())

    def test_http_1_0_without_keep_alive_is_closed(self):
        c = self.server.client().send("GET /hello/x HTTP/1.0\r\n\r\n")
        self.assertEqual(c.read().status, 200)
        self.assertTrue(c.ends())
        c.close()

    def test_garbage_is_refused_as_json(self):
        for data in ("\r\n\r\n", "\x00" * 40 + "\r\n\r\n", "GET\r\n\r\n", "GET  HTTP/1.1\r\n\r\n",
                     "GET /hello/x HTTP/1.1\r\nno colon\r\n\r\n",
                     "GET /hello/x HTTP/1.1\r\n folded first\r\n\r\n",
                     "POST /echo HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
                     "POST /echo HTTP/1.1\r\nContent-Length: 1x\r\n\r\n",
                     "POST /echo HTTP/1.1\r\nContent-Length:\r\n\r\n"):
            a = self.ask(data)
            self.assertEqual((a.status, a.json()["error"]["code"]),
                             (400, "InvalidRequestContent"), data)

    def test_pipelined_requests_are_answered_in_order(self):
        c = self.server.client()
        c.send("".join(f"GET /hello/{i} HTTP/1.1\r\n\r\n" for i in range(200)))
        for i in range(200):
            self.assertEqual(c.read().json()["name"], str(i))
        c.close()

    def test_pipelined_behind_a_slow_one_waits_its_turn(self):
        c = self.server.client()
        c.send("GET /wait/50 HTTP/1.1\r\n\r\nGET /hello/next HTTP/1.1\r\n\r\n")
        self.assertEqual(c.read().json(), "waited")
        self.assertEqual(c.read().json()["name"], "next")
        c.close()

    def test_too_many_bytes_behind_a_slow_request_end_it(self):
        c = self.server.client().send("GET /wait/600000 HTTP/1.1\r\n\r\n")
        sent = 0
        with self.assertRaises((BrokenPipeError, ConnectionResetError)):
            while sent < 64 * MIB:
                sent += c.sock.send(b"x" * 65536)
        self.assertLess(sent, 8 * MIB)
        self.until(lambda: self.server.stats()["gone"] == 1)
        c.close()

    def test_request_in_single_bytes_is_read(self):
        c = self.server.client()
        for byte in b'POST /echo HTTP/1.1\r\nContent-Length: 7\r\n\r\n{"a":1}':
            c.send(bytes([byte]))
        self.assertEqual(c.read().json(), {"a": 1})
        c.close()

    def test_expect_continue_is_answered_and_refused_when_too_large(self):
        c = self.server.client()
        c.send("POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        self.assertEqual(c.read().status, 100)
        self.assertEqual(c.send("{}").read().status, 201)
        c.close()
        a = self.ask("POST /echo HTTP/1.1\r\nExpect: 100-continue\r\n"
                     "Content-Length: 99999999\r\n\r\n")
        self.assertEqual((a.status, "error" in a.json()), (413, True))


class Limits(HttpCase):
    def test_headers_up_to_the_limit_pass_and_above_are_413(self):
        a = self.ask("GET /hello/x HTTP/1.1\r\nX: " + "y" * 16000 + "\r\n\r\n")
        self.assertEqual(a.status, 200)
        for head in ("X: " + "y" * 20000, "\r\n".join(f"X{i}: y" for i in range(5000))):
            c = self.server.client()
            try:
                c.send("GET /hello/x HTTP/1.1\r\n" + head + "\r\n\r\n")
                self.assertIn(c.read().status, (400, 413))
            except (BrokenPipeError, ConnectionResetError):
                pass  # closed while we still sent: refused too
            c.close()

    def test_endless_first_line_is_cut(self):
        c = self.server.client()
        with self.assertRaises((BrokenPipeError, ConnectionResetError)):
            for _ in range(1000):
                c.send(b"G" * 65536)
        c.close()

    def test_body_at_the_limit_passes_and_above_is_413(self):
        text = '{"a":"' + "x" * (2 * MIB - 8) + '"}'
        a = self.ask(f"POST /echo HTTP/1.1\r\nContent-Length: {len(text)}\r\n\r\n{text}")
        self.assertEqual((a.status, len(a.body)), (201, 2 * MIB))
        for length in (2 * MIB + 1, 1 << 40, (1 << 63) - 1):
            a = self.ask(f"POST /echo HTTP/1.1\r\nContent-Length: {length}\r\n\r\n")
            self.assertEqual((a.status, a.json()["error"]["code"]),
                             (413, "InvalidRequestContent"), length)

    def test_chunked_body_above_the_limit_is_refused(self):
        for size in ("200001", "7fffffffffffffff", "ffffffffffffffff", "-5", "zz"):
            a = self.ask("POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + size
                         + "\r\n")
            self.assertEqual(a.status, 413, size)


class Streams(HttpCase):
    def test_stream_is_whole_with_its_length(self):
        for n in (0, 1, 262143, 262144, 262145, 1000000):
            a = self.ask(f"GET /stream/{n} HTTP/1.1\r\n\r\n")
            self.assertEqual(a.headers["content-length"], str(n))
            self.assertNotIn("transfer-encoding", a.headers)
            self.assertTrue(a.body == stream_bytes(n), n)
        self.assertEqual(self.server.stats()["streams_ok"], 6)

    def test_connection_goes_on_after_a_stream(self):
        c = self.server.client()
        c.send("GET /stream/300000 HTTP/1.1\r\n\r\nGET /hello/after HTTP/1.1\r\n\r\n")
        self.assertEqual(len(c.read().body), 300000)
        self.assertEqual(c.read().json()["name"], "after")
        c.close()

    def test_slow_reader_costs_one_chunk_only(self):
        c = self.server.client().send("GET /stream/500000000 HTTP/1.1\r\n\r\n")
        self.until(lambda: self.server.stats()["bytes_read"] > 0)
        self.assertLess(self.server.stats()["bytes_read"], 4 * MIB)
        c.close()
        self.until(lambda: self.server.stats()["streams_cut"] == 1)

    def test_source_that_fails_cuts_the_connection_short(self):
        c = self.server.client().send("GET /broken/2000000 HTTP/1.1\r\n\r\n")
        with self.assertRaises(EOFError) as raised:
            c.read()
        self.assertLess(len(raised.exception.args[0]), 2000000)
        self.assertEqual(self.server.stats()["streams_cut"], 1)
        c.close()

    def test_source_that_fails_at_once_is_survived(self):
        self.server.client().send("GET /broken/9000000 HTTP/1.1\r\n\r\n").close()
        self.until(lambda: self.server.stats()["streams_cut"] == 1)


class Disconnects(HttpCase):
    def test_handler_is_told_when_its_client_goes(self):
        for i in range(20):
            self.server.client().send("GET /wait/600000 HTTP/1.1\r\n\r\n").close()
        self.until(lambda: self.server.stats()["gone"] == 20)

    def test_half_requests_leave_nothing(self):
        request = b'POST /echo HTTP/1.1\r\nContent-Length: 7\r\nX: y\r\n\r\n{"a":1}'
        for n in range(len(request)):
            self.server.client().send(request[:n]).close()
        self.until(lambda: self.server.stats()["connections"] == 1)

    def test_client_that_goes_before_its_answer_is_survived(self):
        for _ in range(50):
            self.server.client().send("GET /stream/1000000 HTTP/1.1\r\n\r\n").close()
            self.server.client().send("GET /hello/x HTTP/1.1\r\n\r\n" * 50).close()
        self.until(lambda: self.server.stats()["connections"] == 1)
        s = self.server.stats()
        self.assertEqual(s["streams_ok"] + s["streams_cut"], 50)

    def test_random_bytes_never_stop_the_server(self):
        seed = random.randrange(1 << 32)
        print(f"seed {seed}", file=sys.stderr)
        rng = random.Random(seed)
        pieces = [b"GET ", b"POST ", b"/echo", b"/hello/%", b" HTTP/1.1", b"\r\n", b"\r\n\r\n",
                  b"Content-Length: ", b"Transfer-Encoding: chunked", b"Expect: 100-continue",
                  b"Connection: close", b"7", b"\x00", b"\xff\xfe", b":", b" ", b"{}", b"%2e",
                  b"CONNECT ", b"HEAD ", b"http://h/echo", b"0\r\n\r\n", b"Host: "]
        for _ in range(400):
            c = self.server.client()
            try:
                c.send(b"".join(rng.choice(pieces) for _ in range(rng.randrange(1, 30))))
                c.sock.settimeout(0.002)
                c.sock.recv(100)
            except (socket.timeout, ConnectionError):
                pass
            c.close()
        self.until(lambda: self.server.stats()["connections"] == 1)


class ManyConnections(HttpCase):
    def test_hundred_connections_are_all_answered(self):
        clients = [self.server.client() for _ in range(100)]
        for i, c in enumerate(clients):
            c.send(f"GET /hello/{i} HTTP/1.1\r\n\r\n")
        for i, c in enumerate(clients):
            self.assertEqual(c.read().json()["name"], str(i))
            c.close()
        self.until(lambda: self.server.stats()["connections"] == 1)


class FullTable(HttpCase):
    settings = {"connections": 8, "request_ms": 600000, "reply_ms": 600000}

    def test_hundred_connections_share_eight_places(self):
        for first in range(0, 100, 25):
            clients = [self.server.client() for _ in range(25)]
            for i, c in enumerate(clients):
                c.send(f"GET /hello/{first + i} HTTP/1.1\r\nConnection: close\r\n\r\n")
            for i, c in enumerate(clients):
                self.assertEqual(c.read().json()["name"], str(first + i))
                c.close()

    def test_idle_connections_make_room_for_one_that_asks(self):
        idle = [self.server.client().send("GET /hel") for _ in range(30)]
        self.assertEqual(self.ask("GET /hello/x HTTP/1.1\r\n\r\n").status, 200)
        for c in idle:
            c.close()
        self.until(lambda: self.server.stats()["connections"] == 1)

    def test_those_at_work_are_never_closed_for_others(self):
        busy = [self.server.client().send("GET /wait/2500 HTTP/1.1\r\n\r\n") for _ in range(7)]
        others = [self.server.client() for _ in range(6)]
        for c in busy:
            self.assertEqual(c.read().json(), "waited")
        for c in busy + others:
            c.close()
        self.until(lambda: self.server.stats()["connections"] == 1)


class Deadlines(HttpCase):
    settings = {"connections": 16, "request_ms": 300, "reply_ms": 300}

    def test_client_that_drips_bytes_is_closed(self):
        c = self.server.client()
        with self.assertRaises((BrokenPipeError, ConnectionResetError)):
            c.send("GET /hello/x HTTP/1.1\r\n")
            for i in range(WAIT_S * 20):
                time.sleep(0.05)
                c.send(f"X{i}: y\r\n")
        c.close()

    def test_client_that_drips_a_body_is_closed(self):
        c = self.server.client().send("POST /echo HTTP/1.1\r\nContent-Length: 100000\r\n\r\n")
        with self.assertRaises((BrokenPipeError, ConnectionResetError)):
            for _ in range(WAIT_S * 20):
                time.sleep(0.05)
                c.send(" ")
        c.close()

    def test_chunk_line_without_end_is_bounded_and_closed(self):
        c = self.server.client()
        c.send("POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        sent = 0
        with self.assertRaises((BrokenPipeError, ConnectionResetError)):
            while sent < 64 * MIB:
                sent += c.sock.send(b"1" * 65536)
        self.assertLess(sent, 8 * MIB)
        c.close()

    def test_idle_connection_is_closed(self):
        c = self.server.client()
        self.assertTrue(c.ends())
        c.close()

    def test_idle_connection_after_an_answer_is_closed(self):
        c = self.server.client().send("GET /hello/x HTTP/1.1\r\n\r\n")
        self.assertEqual(c.read().status, 200)
        self.assertTrue(c.ends())
        c.close()

    def test_handler_may_take_longer_than_the_deadline(self):
        self.assertEqual(self.ask("GET /wait/900 HTTP/1.1\r\n\r\n").json(), "waited")

    def test_reader_that_takes_nothing_is_closed(self):
        c = self.server.client().send("GET /stream/500000000 HTTP/1.1\r\n\r\n")
        self.until(lambda: self.server.stats()["streams_cut"] == 1)
        c.close()

    def test_reader_that_goes_on_taking_is_not(self):
        c = self.server.client().send("GET /stream/3000000 HTTP/1.1\r\n\r\n")
        n = 0
        while n < 3000000:
            n += len(c.sock.recv(100000))
            time.sleep(0.03)
        self.until(lambda: self.server.stats()["streams_ok"] == 1)
        c.close()


class OtherListeners(HttpCase):
    settings = {"tcp": True}

    def test_connection_whose_bufferevent_fails_is_closed_and_never_served(self):
        with open(self.server.port_file) as f:
            address = ("127.0.0.1", int(f.read()))
        for _ in range(10):
            c = Client(address)
            try:
                self.assertEqual(c.send("GET /hello/x HTTP/1.1\r\n\r\n").sock.recv(100), b"")
            except ConnectionError:
                pass
            c.close()
            c = Client(address)
            self.assertEqual(c.send("GET /hello/x HTTP/1.1\r\n\r\n").read().status, 200)
            c.close()
        self.until(lambda: self.server.stats()["connections"] == 1)

    def test_streams_and_disconnects_over_tcp(self):
        with open(self.server.port_file) as f:
            address = ("127.0.0.1", int(f.read()))
        Client(address).close()
        c = Client(address).send("GET /stream/1000000 HTTP/1.1\r\n\r\n")
        self.assertTrue(c.read().body == stream_bytes(1000000))
        c.close()
        Client(address).close()
        Client(address).send("GET /wait/600000 HTTP/1.1\r\n\r\n").close()
        self.until(lambda: self.server.stats()["gone"] == 1)


class SocketFile(unittest.TestCase):
    def test_mode_lets_the_group_in_and_nobody_else(self):
        old = os.umask(0)
        try:
            s = Server()
        finally:
            os.umask(old)
        self.assertEqual(os.stat(s.path).st_mode & 0o7777, 0o660)
        path = s.path
        self.assertEqual(s.stop(), (0, ""))
        self.assertFalse(os.path.exists(path))

    def test_stale_file_is_taken_over(self):
        s = Server()
        s.proc.kill()
        s.proc.wait()
        self.assertTrue(os.path.exists(s.path))
        other = Server(path=s.path)
        self.assertTrue(other.is_ready)
        self.assertEqual(other.stop(), (0, ""))
        s.stop()

    def test_live_daemon_keeps_its_file(self):
        s = Server()
        other = Server(path=s.path)
        self.assertFalse(other.is_ready)
        code, err = other.stop()
        self.assertEqual(code, 1)
        self.assertIn("Another daemon answers", err)
        self.assertEqual(s.stats()["connections"], 1)
        s.stop()

    def test_what_is_not_a_socket_is_left_alone(self):
        with tempfile.NamedTemporaryFile() as f:
            s = Server(path=f.name)
            self.assertFalse(s.is_ready)
            self.assertIn("is not a socket", s.stop()[1])
            self.assertTrue(os.path.exists(f.name))

    def test_unknown_group_and_bad_paths_are_sentences(self):
        s = Server(group="no-such-group-here")
        self.assertFalse(s.is_ready)
        self.assertFalse(os.path.exists(s.path))
        self.assertIn("groupadd", s.stop()[1])
        s = Server(path="/nonexistent-folder/s")
        self.assertFalse(s.is_ready)
        self.assertIn("check that its folder is there", s.stop()[1])
        s = Server(path="x" * 200)
        self.assertFalse(s.is_ready)
        self.assertIn("1 to 107 bytes", s.stop()[1])

    def test_own_group_is_given(self):
        import grp
        s = Server(group=grp.getgrgid(os.getgid()).gr_name)
        self.assertTrue(s.is_ready)
        self.assertEqual(os.stat(s.path).st_gid, os.getgid())
        s.stop()


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0]] + sys.argv[2:])
