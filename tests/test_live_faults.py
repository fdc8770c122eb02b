#!/usr/bin/env python3
"""test_live_faults.py - signals, killed processes, clients that go away or talk nonsense.

    test_live_faults.py BIN_DIR GATECAPD_ASAN [unittest arguments]

Where memory faults are looked for gatecapd is the sanitizer build.  Long use: soak.py.
"""
import calendar
import contextlib
import hashlib
import http.client
import json
import os
import signal
import socket
import time

from live import (API, Appliance, Live, Programs, Refused, UnixConnection, assert_opens_clean,
                  base_config, content, data_frames, main, primed, read_pcap, until)
from fault_proxy import FaultProxy

OUTER = "k-ike1-gcm128-native.pcap"
HELD = {"kind": "hold"}


class Faults(Live):
    """One played file: loops 0 = for ever, at its own pace times 16."""

    def config(self, loops=1, **port):
        frames = [f._replace(time_ns=f.time_ns // 16) for f in data_frames(OUTER)]
        path = self.file("outer.pcap", primed(frames, 0))
        return base_config(wan=("outer", path, {"loops": loops, **port}))

    def full(self):
        """Traffic that fills two megabytes at once and is then over."""
        return self.config(loops=400, pace="fast")

    FULL = {"MaxFileSize": 2, "MaxPacketBufferSize": 1500}


class Signals(Faults):
    def test_the_end_is_soon_and_keeps_what_runs(self):
        with Appliance(self.config()) as gw:
            ids = {name: gw.start(name)["id"] for name in (None, "site-a", "spare-1")}
            gw.wait_played()
            snapshots = {name: gw.snapshot(name) for name in ids}
            began = time.monotonic()
            self.assertEqual(gw.end(), 0)
            self.assertLess(time.monotonic() - began, 10)
            self.assertFalse(os.path.exists(gw.socket))
            for ending in ("capture", "data", "index"):
                self.assertEqual(gw.files("." + ending),
                                 sorted(f"{i}.{ending}" for i in ids.values()))
            for name in gw.files():
                mode = os.stat(os.path.join(gw.state_dir, name)).st_mode
                self.assertEqual(mode & 0o777, 0o600, name)
            gw.launch()
            for name, capture_id in ids.items():
                self.assertEqual(gw.show(name)["id"], capture_id)
                had = content(read_pcap(snapshots[name]))
                self.assertFalse(had - content(read_pcap(gw.snapshot(name))), "all that it had")

    def test_a_changed_list_of_connections_is_taken_at_a_signal(self):
        config = self.config(loops=0)
        peer = config["connections"][0]["peer"]
        with Appliance({**config, "connections": [{**config["connections"][0],
                                                   "peer": {"addresses": ["192.0.2.99"]}}]}) as gw:
            gw.start()
            gw.start("site-a")
            gw.wait_recorded(50)
            self.assertEqual(gw.show("site-a")["counters"]["recorded"], 0, "another peer")
            changed = {**gw.config, "connections": [
                {"name": "new", "type": "IPsec", "peer": {"addresses": ["192.0.2.1"]}},
                {**config["connections"][0], "peer": peer}]}
            gw.write_config(changed)
            gw.supervisor.send_signal(signal.SIGHUP)
            until(lambda: len(gw.get("/status").json["gateway"]["connections"]) == 2, "it is read")
            gw.wait_recorded(50, "site-a")
            gw.start("new")
            data, capture = gw.download("site-a")
            self.assertEqual(capture["counters"]["in_file"], len(read_pcap(data)))
            self.assert_books_balance(gw.report("site-a"))

    def test_a_wrong_configuration_is_refused_and_the_old_one_stays(self):
        with Appliance(self.config(loops=0)) as gw:
            gw.start("site-a")
            before = gw.get("/status").json["gateway"]
            for text, words in (("{", "The configuration in force stays"),
                                (json.dumps({**gw.config, "connections": []}),
                                 "Connection site-a has a running capture"),
                                (json.dumps({**gw.config, "ports": 5}), "/ports")):
                gw.write_config(text)
                gw.supervisor.send_signal(signal.SIGHUP)
                until(lambda w=words: w in gw.log(), f"the log says: {words}")
                self.assertEqual(gw.get("/status").json["gateway"], before)
            recorded = gw.show("site-a")["counters"]["recorded"]
            gw.wait_recorded(recorded + 50, "site-a")

    def test_what_needs_a_restart_keeps_its_old_value(self):
        with Appliance(self.config()) as gw:
            capture = gw.start()
            changed = json.loads(json.dumps(gw.config))
            changed["control"].update(state_dir="/elsewhere", socket=gw.path("other.sock"))
            changed["connections"] = changed["connections"][:1]
            changed["ports"] = [{"name": "other", "source": "af_packet:lo", "role": "outer"}]
            gw.write_config(changed)
            gw.supervisor.send_signal(signal.SIGHUP)
            until(lambda: len(gw.get("/status").json["gateway"]["connections"]) == 1, "it is read")
            gw.wait_played()
            self.assertEqual([p["name"] for p in gw.report()["ports"]], ["wan"])
            self.assertEqual(gw.end(), 0)
            self.assertIn(capture["id"] + ".capture", gw.files())
            self.assertNotIn("/elsewhere", gw.log())


class Killed(Faults):
    def test_a_killed_dataplane_is_started_again_and_the_capture_goes_on_with_a_gap(self):
        with Appliance(self.config(loops=0)) as gw:
            gw.start(filter_data={"MaxFileSize": 2})
            gw.start("site-a")
            before = gw.wait_recorded(100)["counters"]["recorded"]
            old, control = gw.kill("gatecap-dataplane"), gw.pid_of("gatecapd")
            until(lambda: gw.pid_of("gatecap-dataplane") not in (0, old), "a new dataplane")
            after = gw.wait_recorded(before + 200)
            gw.wait_recorded(100, "site-a")
            self.assertEqual(after["state"], "Running")
            self.assertEqual(gw.pid_of("gatecapd"), control, "gatecapd did not notice")
            for name in (None, "site-a"):
                data, _ = gw.download(name)
                report = gw.report(name)
                self.assertFalse(report["exact"])
                self.assertEqual([(g["cause"], g["count"]) for g in report["gaps"]],
                                 [("dataplane_down", None)])
                self.assertLess(report["gaps"][0]["from"], report["gaps"][0]["to"])
                self.assert_books_balance(report)
                self.assertEqual(report["in_file"], len(read_pcap(data)))
                path = self.file("gap.pcap")
                with open(path, "wb") as out:
                    out.write(data)
                assert_opens_clean(self, path)

    def test_without_a_dataplane_a_start_is_refused_and_a_stop_works(self):
        with Appliance(self.config(loops=0)) as gw:
            gw.start()
            gw.wait_recorded(20)
            os.rename(gw.path("bin/gatecap-dataplane"), gw.path("bin/away"))
            gw.kill("gatecap-dataplane")
            until(lambda: not gw.get("/status").json["dataplane"]["connected"], "it is gone")
            answer = gw.post("/captures", {"connection": "site-a"})
            self.assert_refused(503, "DataplaneUnavailable", "gatecap-dataplane is not connected",
                                answer=answer)
            self.assertGreaterEqual(len(read_pcap(gw.snapshot())), 20)
            data, _ = gw.download()
            self.assertGreaterEqual(len(read_pcap(data)), 20)
            report = gw.report()
            self.assertEqual((report["exact"], len(report["gaps"])), (False, 1))
            self.assert_books_balance(report)
            os.rename(gw.path("bin/away"), gw.path("bin/gatecap-dataplane"))
            gw.wait_ready()
            gw.start("site-a")
            gw.wait_recorded(20, "site-a")


class Clients(Faults):
    """Against the sanitizer build: clients that leave, that are slow, that meet each other."""

    needs_storage = True

    def appliance(self, config=None):
        return self.enterContext(Appliance(config or self.full(), asan=True))

    def send(self, gw, method, path, body=None):
        """Send a request and do not wait for its answer."""
        connection = UnixConnection(gw.socket)
        self.addCleanup(connection.close)
        connection.request(method, API + path if not path.startswith(API) else path,
                           None if body is None else json.dumps(body))
        return connection

    def test_clients_that_go_away_change_nothing_for_the_others(self):
        gw = self.appliance(self.config(loops=0))
        pid = gw.pid_of("gatecapd")
        with FaultProxy(self.storage.port, every=HELD) as proxy:
            url = gw.secret(self.through(proxy))
            for _ in range(10):
                for path in ("/captures/gateway/snapshot", "/captures", "/stats"):
                    self.send(gw, "GET", path).close()
                self.send(gw, "POST", "/captures", {}).close()
                self.send(gw, "POST", "/captures/gateway/abort").close()
            def is_running():
                """An abort of a client that is gone may still come: then it is started again."""
                with contextlib.suppress(Refused):
                    gw.start()
                return all(gw.get("/captures/gateway").json.get("state") == "Running" for _ in range(20))

            until(is_running, "the gateway's capture runs")
            for path, body in (("/check-sas", {"sas_url": url}),
                               ("/captures", {"connection": "site-a", "sas_url": url}),
                               ("/captures/gateway/stop", {"sas_url": url})):
                proxy.held.clear()
                connection = self.send(gw, "POST", path, body)
                self.assertTrue(proxy.held.wait(30), "the storage is asked")
                connection.close()
                gw.get("/status")
            busy = gw.post("/captures/gateway/abort")
            self.assert_refused(409, "AnotherOperationInProgress", answer=busy)
        # The storage is gone: what waited for it ends, and the capture goes on.
        until(lambda: gw.post("/captures/gateway/abort").status == 200, "the gateway is free", 120)
        self.assertEqual(gw.pid_of("gatecapd"), pid, "it did not fall")
        self.assertEqual(gw.end(), 0)

    def streaming(self, gw, path):
        """A reader that has taken the head of a long answer and no more."""
        connection = self.send(gw, "GET", path)
        response = connection.getresponse()
        self.addCleanup(response.close)
        self.assertEqual(response.status, 200)
        length = int(response.headers["Content-Length"])
        self.assertGreater(length, 1_900_000)
        return response, response.read(1000), length

    def ready_to_stream(self):
        gw = self.appliance()
        gw.start(filter_data=self.FULL)
        gw.wait_played()
        return gw

    def test_a_second_stop_does_not_mix_into_a_download(self):
        gw = self.ready_to_stream()
        gw.stop(download=True)
        gw.wait_state(None, "Uploading")
        want = gw.snapshot()
        response, head, _ = self.streaming(gw, "/captures/gateway/pcap")
        for body in ({"download": True}, {"sas_url": gw.secret(self.sas())}):
            answer = gw.post("/captures/gateway/stop", body)
            self.assert_refused(409, "AnotherOperationInProgress", "being downloaded", answer=answer)
        self.assertEqual(gw.get("/captures/gateway/pcap").status, 409, "one reader at a time")
        self.assertEqual(gw.post("/captures/gateway/finish", {"md5": "0" * 32}).status, 409)
        self.assertTrue(head + response.read() == want, "the same bytes")
        md5 = hashlib.md5(want).hexdigest()
        wrong = gw.post("/captures/gateway/finish", {"md5": md5[:-1] + "x"})
        self.assert_refused(409, "Md5Mismatch", md5, "the data is kept", answer=wrong)
        done = gw.ask("POST", "/captures/gateway/finish", {"md5": md5.upper()}, 200)
        self.assertEqual((done["state"], done["md5"]), ("Succeeded", md5))

    def test_an_abort_cuts_a_download_off(self):
        gw = self.ready_to_stream()
        gw.stop(download=True)
        gw.wait_state(None, "Uploading")
        response, _, _ = self.streaming(gw, "/captures/gateway/pcap")
        abort = self.send(gw, "POST", "/captures/gateway/abort")
        until(lambda: gw.post("/captures/gateway/abort").status == 409, "the abort is under way")
        with self.assertRaises((http.client.IncompleteRead, ConnectionError)):
            response.read()
        answer = json.loads(abort.getresponse().read())
        self.assertEqual(answer["state"], "Failed")
        gw.wait_no_data()
        gw.start()

    def test_a_download_that_is_cut_off_keeps_the_data(self):
        gw = self.ready_to_stream()
        want = gw.snapshot()
        gw.stop(download=True)
        gw.wait_state(None, "Uploading")
        response, _, _ = self.streaming(gw, "/captures/gateway/pcap")
        response.close()
        kept = gw.wait_state(None, "UploadFailed")
        self.assertIn("cut off", kept["error"])
        self.assert_refused(409, "PacketCaptureAlreadyRunning", "abort",
                            answer=gw.post("/captures", {}))
        self.assertTrue(gw.snapshot() == want, "a snapshot of what is kept")
        path = self.file("again.pcap")
        gw.cli("stop", "--output", path, "--force")
        with open(path, "rb") as data:
            self.assertTrue(data.read() == want)
        self.assertEqual(gw.show()["state"], "Succeeded")

    def test_a_snapshot_of_kept_data_outlives_the_data(self):
        gw = self.ready_to_stream()
        want = gw.snapshot()
        gw.stop(download=True)
        gw.wait_state(None, "Uploading")
        response, head, length = self.streaming(gw, "/captures/gateway/snapshot")
        gw.abort()
        gw.start("site-a", filter_data={"MaxFileSize": 1})  # takes the descriptors that were free
        rest = response.read()
        self.assertEqual(len(head + rest), length)
        self.assertTrue(head + rest == want, "the same bytes")

    def test_the_end_comes_whatever_the_clients_do(self):
        gw = self.ready_to_stream()
        with FaultProxy(self.storage.port, every=HELD) as proxy:
            open_ones = [self.streaming(gw, "/captures/gateway/snapshot"),
                         self.send(gw, "POST", "/check-sas", {"sas_url": self.through(proxy)}),
                         self.send(gw, "POST", "/captures", {"connection": "site-a",
                                                             "sas_url": self.through(proxy)}),
                         self.send(gw, "POST", "/captures/gateway/stop",
                                   {"sas_url": self.through(proxy)})]
            until(lambda: len(proxy.requests) >= 3, "all three wait for the storage")
            self.assertEqual(gw.end(), 0)
            self.assertEqual(len(open_ones), 4)
        self.assertEqual([name.rpartition(".")[2] for name in gw.files()],
                         ["capture", "data", "index"], "the capture is safe")


class Nonsense(Faults):
    """Bodies and paths that mean nothing, against the sanitizer build."""

    POSTS = ("/captures", "/captures/gateway/stop", "/captures/gateway/finish", "/check-filter",
             "/check-sas", "/captures/connections/site-a/stop")
    GETS = ("/status", "/stats", "/captures", "/captures/gateway", "/captures/gateway/report")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.gw = cls.enterClassContext(Appliance(cls.config(cls, loops=0), asan=True))

    def test_bodies_that_are_wrong_are_400_on_every_route(self):
        self.gw.start()
        bodies = (b"{", b"[]", b"5", b'"x"', b"null", b"\xff\xfe", b'{"a":1}{"b":2}', b"{'a':1}",
                  b'{"sas_url":1,"md5":[],"filter_data":5,"connection":{},"download":"yes"}',
                  b'{"sas_url":"x","sas_url":"y"}', b'{"connection":"\\u0000"}',
                  b'{"x":' + b"[" * 100000, b"\0" * 1000)
        for path in self.POSTS:
            for body in bodies:
                with self.subTest(path=path, body=body[:40]):
                    answer = self.gw.post(path, body)
                    self.assertEqual(answer.status, 400, answer)
                    self.assertRegex(answer.message, r"\.$")
            self.assertTrue(self.send_huge(path).startswith(b"HTTP/1.1 413 "))
        self.assertEqual(self.gw.show()["state"], "Running", "nothing of that stopped it")
        self.gw.abort()

    def send_huge(self, path):
        """More than is taken: the answer comes before all is sent, and then nobody listens."""
        head = f"POST {API}{path} HTTP/1.1\r\nHost: x\r\nContent-Length: {3 << 20}\r\n\r\n"
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(60)
            client.connect(self.gw.socket)
            with contextlib.suppress(OSError):
                client.sendall(head.encode() + b" " * (3 << 20))
            return client.recv(100)

    def test_members_of_the_wrong_type_are_named(self):
        for path, body, target in (
                ("/captures", {"connection": 5}, "/connection"),
                ("/captures", {"sas_url": ["x"]}, "/sas_url"),
                ("/captures/gateway/stop", {"download": 1}, "/download"),
                ("/captures/gateway/stop", {"download": True, "sas_url": "x"}, "/download"),
                ("/captures/gateway/finish", {}, "/md5"),
                ("/check-sas", {}, "/sas_url")):
            error = self.assert_refused(400, "InvalidRequestContent", answer=self.gw.post(path, body))
            self.assertEqual(error["target"], target)

    def test_unknown_routes_and_methods_are_told(self):
        for path in ("/", "/capture", "/captures/gateway/", "/captures/gateway/stop/x",
                     "/captures/connections", "/captures/connections/", "/captures/connections/a/b/c"):
            answer = self.gw.get(path)
            self.assertIn(answer.status, (400, 404), (path, answer))
        for path in self.POSTS[1:]:
            answer = self.gw.get(path)
            self.assertEqual((answer.status, answer.code), (405, "HttpMethodNotSupported"))
            self.assertEqual(answer.headers["allow"], "POST")
        for path in self.GETS:
            for method in ("PUT", "DELETE", "PATCH"):
                self.assertEqual(self.gw.request(method, path).status, 405, (method, path))

    def test_noise_on_the_socket_is_survived(self):
        pid = self.gw.pid_of("gatecapd")
        for noise in (b"\0" * 4096, b"GET\r\n\r\n", b"POST /gatecap/v1/captures HTTP/1.1\r\n"
                      b"Content-Length: 99999999999999999999\r\n\r\n", b"\x16\x03\x01" * 50,
                      b"GET /gatecap/v1/status HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 9000,
                      b"POST /gatecap/v1/check-filter HTTP/1.1\r\nContent-Length: 10\r\n\r\n{"):
            with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
                client.connect(self.gw.socket)
                client.sendall(noise)
        self.gw.get("/status")
        self.assertEqual(self.gw.pid_of("gatecapd"), pid)


class Names(Faults):
    def test_a_peer_is_found_by_its_name_whatever_becomes_of_other_names(self):
        here, there = bytes([127, 0, 0, 1]), bytes([10, 0, 9, 2])
        frames = [f._replace(time_ns=f.time_ns // 16, data=f.data[:26] + f.data[26:34].replace(
            there, here) + f.data[34:]) for f in data_frames(OUTER)]
        config = base_config(wan=("outer", self.file("named.pcap", primed(frames, 0)), {"loops": 0}))
        config["connections"] = [
            {"name": "lost", "type": "IPsec", "peer": {"names": ["no-such-host.invalid"]}},
            {"name": "here", "type": "IPsec", "peer": {"names": ["localhost"]}}]
        with Appliance(config) as gw:
            gw.start("lost")
            gw.start("here")
            gw.wait_recorded(50, "here")
            self.assertEqual(gw.show("lost")["counters"]["recorded"], 0)
            self.assertIn("1 peer names could not be resolved", gw.log())


class Time(Faults):
    """The wall clock is moved under gatecapd (wall_clock.c)."""

    needs_storage = True

    def set(self, gw, seconds):
        with open(self.clock, "w", encoding="utf-8") as out:
            out.write(str(seconds))
        os.chmod(self.clock, 0o644)
        if gw:
            until(lambda: abs(self.now(gw) - time.time() - seconds) < 60, "the clock is set")

    def never_fetched(self, gw):
        gw.stop(download=True)
        gw.wait_state(None, "Uploading")

    def failed(self, gw):
        denied = {n: {"kind": "status", "status": 403, "code": "X"} for n in range(2, 9)}
        with FaultProxy(self.storage.port, denied) as proxy:
            self.assertEqual(gw.stop_to(self.through(proxy))["state"], "UploadFailed")

    def test_kept_data_outlives_a_clock_set_back_and_not_its_days(self):
        self.clock = self.file("clock")
        env = {"LD_PRELOAD": Programs.path("tests/wall_clock.so"), "GATECAP_TEST_CLOCK": self.clock}
        for keep in (self.failed, self.never_fetched):
            self.set(None, 0)
            with self.subTest(keep.__name__), Appliance(self.config(), env=env) as gw:
                gw.start()
                gw.wait_played()
                want = gw.snapshot()
                keep(gw)
                for seconds in (-3600, 6 * 86400):
                    self.set(gw, seconds)
                    self.assertTrue(gw.snapshot() == want, f"{seconds} s")
                self.set(gw, 7 * 86400 + 60)
                until(lambda: gw.get("/captures/gateway").status == 404, "it is deleted")
                self.assertIn("is deleted: it was not fetched for 7 days", gw.log())
                self.assertEqual(os.listdir(gw.state_dir), [])

    def now(self, gw):
        text = gw.get("/stats").json["time"]
        return calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S"))


if __name__ == "__main__":
    main(__doc__)
