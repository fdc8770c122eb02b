#!/usr/bin/env python3
"""soak.py - five scopes start, stop, upload, snapshot and abort at random while processes are killed.

    soak.py BIN_DIR SANITIZED_GATECAPD SECONDS

One client a scope, all at once, against Azurite. In the first part of the time gatecapd, the dataplane
and the supervisor are killed, stopped and told to reload at random moments; the second part is quiet,
and in it memory, descriptors and threads must stay flat. Each report that is seen balances, and is exact
unless the dataplane died in that capture's life. GATECAP_SEED repeats the choices.
"""
import contextlib
import hashlib
import http.client
import json
import os
import random
import re
import signal
import sys
import threading
import time
import unittest

from live import (Appliance, Live, Programs, UnixConnection, base_config, blob, blob_name, data_frames,
                  primed, read_pcap, scope_path, until)

SCOPES = [None, "site-a", "users", "spare-1", "spare-2"]
OUTER = ["k-ike1-gcm128-native.pcap", "ovpn-udp1194-plain.pcap"]
INNER = ["k-ike1-gcm128-native.inner.pcap"]
ROUGH_PART = 0.6  # of the time
KEPT_CONNECTIONS = 8  # to the storage, for the next upload
GONE = (OSError, http.client.HTTPException, json.JSONDecodeError)
ENDED = ("Succeeded", "Failed")


class Stopped(Exception):
    """Another client has found a fault: no more."""


class Chaos:
    """Kills and signals; remembers until when a dataplane was dying."""

    KINDS = ["gatecapd", "gatecapd", "dataplane", "both", "supervisor", "hup", "pause"]

    def __init__(self, gw, rng):
        self.gw, self.rng = gw, rng
        self.last_death = 0
        self.counts = {}

    def strike(self):
        kind = self.rng.choice(self.KINDS)
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if kind in ("dataplane", "both", "supervisor"):
            self.last_death = float("inf")  # until it is over
        getattr(self, kind)()
        self.gw.wait_ready()
        if self.last_death == float("inf"):
            self.last_death = time.monotonic()

    def gatecapd(self):
        self.gw.kill("gatecapd")

    def dataplane(self):
        self.gw.kill("gatecap-dataplane")

    def both(self):
        self.gw.kill("gatecap-dataplane")
        self.gw.kill("gatecapd")

    def supervisor(self):
        children = self.gw.pids()[1:]
        self.gw.supervisor.kill()
        self.gw.supervisor.wait()
        until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in children),
              "the killed supervisor's children end")
        self.gw.launch()

    def hup(self):
        os.kill(until(lambda: self.gw.pid_of("gatecapd"), "gatecapd runs"), signal.SIGHUP)

    def pause(self):
        pid = self.gw.kill("gatecapd", signal.SIGSTOP)
        time.sleep(self.rng.uniform(0.1, 1.0))
        os.kill(pid, signal.SIGCONT)

    def died_since(self, start):
        return self.last_death >= start


class Client(threading.Thread):
    """What one user does with one scope until it is told to end."""

    def __init__(self, test, gw, chaos, scope, seed):
        super().__init__(name=str(scope), daemon=True)
        self.test, self.gw, self.chaos, self.scope = test, gw, chaos, scope
        self.rng = random.Random(seed)
        self.fault = None
        self.n_captures = self.n_reports = 0

    def run(self):
        try:
            while not self.test.is_over.is_set():
                self.one_capture()
            self.let_go()
        except Stopped:
            pass
        except BaseException as fault:  # told by the main thread
            self.fault = fault
            self.test.is_over.set()

    def ask(self, method, path, body=None):
        """One request, again while gatecapd is being restarted; gives the answer, and whether it was
        the first try."""
        deadline = time.monotonic() + 60
        first = True
        while True:
            try:
                return self.gw.request(method, path, body, timeout=30), first
            except GONE:
                if time.monotonic() > deadline:
                    raise
                first = False
                time.sleep(0.05)

    def capture(self):
        answer, _ = self.ask("GET", scope_path(self.scope))
        return answer.json if answer.status == 200 else None

    def wait(self, *states):
        def settled():
            capture = self.capture()
            return capture if capture is not None and capture["state"] in states else None
        return until(settled, f"{self.scope}: {' or '.join(states)}", every=0.05)

    def random_filter(self):
        return self.rng.choice([
            {}, {"MaxFileSize": 1, "MaxPacketBufferSize": 1500}, {"Filters": [{}]},
            {"MaxFileSize": 1, "Filters": [{"Protocol": [1, 6]}]},
            {"TracingFlags": 3, "MaxPacketBufferSize": 64},
            {"Filters": [{"SourceSubnets": ["10.1.0.0/16"], "TcpFlags": 2}]}])

    def one_capture(self):
        body = {"filter_data": {"MaxFileSize": 2, **self.random_filter()}, **self.named()}
        if self.rng.random() < 0.3:
            body["sas_url"] = self.test.good
        self.born = time.monotonic()
        answer, first = self.ask("POST", "/captures", body)
        if answer.status == 503:  # no dataplane, no slot: a moment later
            time.sleep(0.1)
            return
        # A start whose answer was lost may have been one.
        assert answer.status == 201 or (not first and answer.status == 409), answer
        self.n_captures += 1
        for _ in range(self.rng.randrange(4)):
            time.sleep(self.rng.uniform(0, 0.3))
            self.look()
        self.end()

    def look(self):
        what = self.rng.choice(["snapshot", "report", "show", "bad stop", "nonsense", "leave"])
        if what == "nonsense":
            self.nonsense()
        elif what == "leave":
            self.leave()
        elif what == "bad stop":
            answer, _ = self.ask("POST", scope_path(self.scope) + "/stop", {"sas_url": self.test.bad})
            assert answer.status != 202, answer
        elif what == "snapshot":
            answer, _ = self.ask("GET", scope_path(self.scope) + "/snapshot")
            if answer.status == 200:
                self.check_frames(answer.data)
        elif what == "report":
            answer, _ = self.ask("GET", scope_path(self.scope) + "/report")
            if answer.status == 200:
                self.check_report(answer.json, final=False)
        else:
            c = self.wait("Running")["counters"]
            self.test.assertEqual(c["received"], c["not_matched"] + sum(c["lost"].values()) +
                                  c["in_flight"] + c["in_file"] + c["overwritten"], c)

    def nonsense(self):
        """What cannot be: refused, and changes nothing."""
        method, path, body, wanted = self.rng.choice([
            ("POST", "/captures", {"connection": "nowhere"}, 404),
            ("POST", "/captures", {"filter_data": {"TracingFlags": 0}, **self.named()}, 400),
            ("POST", scope_path("nowhere") + "/stop", {"download": True}, 404),
            ("POST", scope_path(self.scope) + "/finish", {"md5": "0"}, 409)])
        answer, _ = self.ask(method, path, body)
        assert answer.status in (wanted, 409, 503), (path, answer)

    def leave(self):
        """Ask for something long, and go."""
        with contextlib.suppress(*GONE):
            connection = UnixConnection(self.gw.socket)
            connection.request("GET", scope_path(self.scope) + "/snapshot")
            connection.close()

    def named(self):
        return {} if self.scope is None else {"connection": self.scope}

    def end(self):
        way = self.rng.choice(["upload", "upload", "download", "abort"])
        path = scope_path(self.scope)
        if way == "abort":
            until(lambda: self.ask("POST", path + "/abort")[0].status in (200, 404, 409) and
                  (self.capture() or {"state": "Failed"})["state"] in ENDED, "aborted", every=0.05)
        elif way == "upload":
            self.upload(path)
        else:
            self.download(path)

    def upload(self, path):
        def ended():
            capture = self.capture()
            if capture["state"] in ("Running", "UploadFailed"):
                self.ask("POST", path + "/stop", {"sas_url": self.test.good})
            return capture if capture["state"] in ENDED else None
        capture = until(ended, f"{self.scope} is uploaded", every=0.05)
        self.test.assertEqual(capture["state"], "Succeeded", capture)
        if self.rng.random() < 0.2:
            self.test.check_stored(self, capture)

    def download(self, path):
        def ended():
            capture = self.capture()
            if capture["state"] in ENDED:
                return capture
            if capture["state"] in ("Running", "UploadFailed"):
                self.ask("POST", path + "/stop", {"download": True})
            elif capture["state"] == "Uploading":
                report, _ = self.ask("GET", path + "/report")
                data, _ = self.ask("GET", path + "/pcap")
                if data.status == 200 and report.status == 200:
                    self.check_report(report.json)
                    self.test.assertEqual(self.check_frames(data.data), report.json["in_file"])
                    self.ask("POST", path + "/finish", {"md5": hashlib.md5(data.data).hexdigest()})
            return None
        self.test.assertEqual(until(ended, f"{self.scope} is downloaded", every=0.05)["state"],
                              "Succeeded")

    def let_go(self):
        """Nothing is left for the quiet look at the end."""
        capture = self.capture()
        if capture is not None and capture["state"] not in ENDED:
            self.ask("POST", scope_path(self.scope) + "/abort")

    def check_frames(self, pcap):
        frames = read_pcap(pcap)
        times = [f.time_ns for f in frames]
        self.test.assertEqual(times, sorted(times), "in order of time")
        return len(frames)

    def check_report(self, report, final=True):
        self.n_reports += 1
        self.test.assert_books_balance(report, final)
        if not self.chaos.died_since(self.born):
            self.test.assertEqual((report["exact"], report["gaps"]), (True, []), report)


class Usage:
    """What a process holds."""

    def __init__(self, gw):
        self.kb, self.n_files, self.n_threads = {}, {}, {}
        for name in ("gatecapd", "gatecap-dataplane"):
            pid = gw.pid_of(name)
            with open(f"/proc/{pid}/status", encoding="utf-8") as status:
                text = status.read()
            self.kb[name] = int(re.search(r"VmRSS:\s+(\d+)", text).group(1))
            self.n_threads[name] = int(re.search(r"Threads:\s+(\d+)", text).group(1))
            self.n_files[name] = len(os.listdir(f"/proc/{pid}/fd"))

    def __str__(self):
        return ", ".join(f"{name}: {self.kb[name]} kB, {self.n_files[name]} descriptors, "
                         f"{self.n_threads[name]} threads" for name in self.kb)


class Soak(Live):
    needs_storage = True
    seconds = 60

    def config(self):
        def played(name, files):
            frames = [f._replace(time_ns=f.time_ns // 8) for f in data_frames(*files)]
            return self.file(name, primed(frames, 0))
        config = base_config(wan=("outer", played("outer.pcap", OUTER), {"loops": 0}),
                             lan=("inner", played("inner.pcap", INNER), {"loops": 0}))
        config["dataplane"]["workers"] = 2
        return config

    def check_stored(self, client, capture):
        name = blob_name(capture, self.storage.endpoint)
        copy = self.file(f"copy-{client.scope}")
        blob(self.storage.endpoint, "download", name, copy)
        with open(copy, "rb") as data:
            pcap = data.read()
        self.assertEqual(hashlib.md5(pcap).hexdigest(), capture["md5"])
        blob(self.storage.endpoint, "download", name.removesuffix(".pcap") + ".json", copy)
        with open(copy, encoding="utf-8") as text:
            report = json.load(text)
        client.check_report(report)
        self.assertEqual(client.check_frames(pcap), report["in_file"])

    def wait_over(self, seconds):
        if self.is_over.wait(seconds):
            self.tell()

    def tell(self):
        for client in self.clients:
            if client.fault is not None:
                raise AssertionError(f"seed {self.seed}, scope {client.scope}") from client.fault

    def rough(self, chaos, until_time):
        while time.monotonic() < until_time:
            self.wait_over(chaos.rng.uniform(1, 4))
            chaos.strike()

    def quiet(self, gw, until_time):
        """Memory is allowed what an allocator keeps; descriptors and threads are looked at when nothing
        runs any more."""
        self.wait_over((until_time - time.monotonic()) / 3)
        before = Usage(gw)
        self.wait_over(max(0, until_time - time.monotonic()))
        after = Usage(gw)
        print(f"in the middle: {before}\nat the end:    {after}")
        for name, kb in before.kb.items():
            self.assertLess(after.kb[name], kb * 1.1 + 8192, f"kB of {name}")

    def test_five_scopes_at_random(self):
        self.seed = int(os.environ.get("GATECAP_SEED", random.SystemRandom().randrange(1 << 32)))
        print(f"GATECAP_SEED={self.seed}")
        rng = random.Random(self.seed)
        self.is_over = threading.Event()
        start = time.monotonic()
        with Appliance(self.config(), asan=True) as gw:
            idle = Usage(gw)
            self.good, self.bad = gw.secret(self.sas()), gw.secret(self.sas("missing-container"))
            chaos = Chaos(gw, rng)
            self.clients = [Client(self, gw, chaos, scope, rng.random()) for scope in SCOPES]
            for client in self.clients:
                client.start()
            self.rough(chaos, start + self.seconds * ROUGH_PART)
            self.quiet(gw, start + self.seconds)
            self.is_over.set()
            for client in self.clients:
                client.join(120)
            self.tell()
            self.check_end(gw, idle)
            self.assertEqual(gw.end(), 0)
        print(f"{sum(c.n_captures for c in self.clients)} captures, "
              f"{sum(c.n_reports for c in self.clients)} reports, {chaos.counts}")

    def check_end(self, gw, idle):
        def is_idle():
            now = Usage(gw)
            return all(now.n_files[n] <= idle.n_files[n] + KEPT_CONNECTIONS and
                       now.n_threads[n] <= idle.n_threads[n] for n in idle.kb)
        with contextlib.suppress(AssertionError):
            until(is_idle, "idle again", seconds=20)
        now = Usage(gw)
        self.assertTrue(is_idle(), f"at the start {idle}; now {now}")
        left = [n for n in os.listdir(gw.state_dir) if n.endswith((".data", ".index", ".sas"))]
        self.assertEqual(left, [], "no data is left behind")


def main():
    if len(sys.argv) != 4 or not os.path.isdir(sys.argv[1]):
        sys.exit(__doc__)
    if os.geteuid() != 0:
        print("Not run: root is needed.", file=sys.stderr)
        sys.exit(77)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    Programs.bin_dir, Programs.gatecapd_asan = map(os.path.abspath, sys.argv[1:3])
    Soak.seconds = int(sys.argv[3])
    unittest.main(argv=sys.argv[:1], verbosity=2)


if __name__ == "__main__":
    main()
