#!/usr/bin/env python3
"""kill_matrix.py - processes killed at random moments, again and again, while captures live.

    kill_matrix.py BIN_DIR GATECAPD_ASAN [ROUNDS]

Each round starts a capture of the gateway, kills one of KINDS when the capture is in one of STATES, waits
until all is back, and takes the capture to its end; a capture on site-a lives through all rounds. The
traffic is numbered ESP packets, played round and round: what is recorded has consecutive numbers, with a
break only where a dataplane died, and a gap in the report wherever there is a break. What a client was
told holds. GATECAP_SEED repeats the order and the moments (not the threads').
"""
import collections
import contextlib
import hashlib
import http.client
import json
import os
import random
import signal
import struct
import sys
import threading
import time

import live
from live import (API, Appliance, Live, UnixConnection, base_config, read_pcap, scope_path,
                  until)
from test_live_restart import esp_frames, is_alive

KINDS = ("gatecapd", "dataplane", "supervisor", "gatecapd+dataplane")
STATES = ("Starting", "Running", "Stopping", "Uploading")
SECONDS = 2
WHOLE = {"MaxPacketBufferSize": 100, "MaxFileSize": 20}
AT_SEQUENCE = 14 + 20 + 4
EDGE = 32  # records: 8 ms of traffic


class Asked(threading.Thread):
    """A request whose answer may never come."""

    def __init__(self, gw, method, path, body):
        super().__init__(daemon=True)
        self.arguments = gw, method, path, body
        self.status = None
        self.start()

    def run(self):
        gw, method, path, body = self.arguments
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = UnixConnection(gw.socket, 30)
            connection.request(method, path, json.dumps(body))
            self.status = connection.getresponse().status
            connection.close()

    def answer(self):
        self.join(30)
        return self.status


class Matrix(Live):
    needs_storage = True
    rounds = 100

    def setUp(self):
        self.seed = int(os.environ.get("GATECAP_SEED", random.SystemRandom().randrange(1 << 32)))
        print(f"GATECAP_SEED={self.seed}", flush=True)
        self.dice = random.Random(self.seed)
        self.frames = esp_frames(SECONDS)
        config = base_config(wan=("outer", self.file("esp.pcap", self.frames), {"loops": 0, "queues": 2}))
        config["dataplane"]["workers"] = 2
        config["control"] = {"writers": 2}  # one for each of the two captures
        config["upload"]["block_bytes"] = 65536
        self.gw = self.enterContext(Appliance(config, asan=True))
        self.url = self.gw.secret(self.sas("captures", "--permissions", "rcw"))
        self.dataplanes = 0  # that have died

    def plan(self):
        """Blocks of four rounds with each kind once, so that the supervisor's patience begins anew."""
        for block in range((self.rounds + 3) // 4):
            kinds = [(kind, STATES[(i + block) % 4]) for i, kind in enumerate(KINDS)]
            self.dice.shuffle(kinds)
            yield from kinds

    # -- killing --

    def kill(self, kind):
        gw = self.gw
        if kind == "supervisor":
            children = gw.pids()[1:]
            gw.supervisor.kill()
            gw.supervisor.wait()
            until(lambda: not any(is_alive(pid) for pid in children), "its children end, too")
            self.dataplanes += 1
            gw.launch(ready=False)
            return
        names = {"gatecapd": ("gatecapd",), "dataplane": ("gatecap-dataplane",),
                 "gatecapd+dataplane": ("gatecapd", "gatecap-dataplane")}[kind]
        old = {name: gw.pid_of(name) for name in names}
        self.assertTrue(all(old.values()), old)
        for pid in old.values():
            os.kill(pid, signal.SIGKILL)
        self.dataplanes += "gatecap-dataplane" in names
        for name, pid in old.items():
            until(lambda n=name, p=pid: gw.pid_of(n) not in (0, p), f"a new {name}")

    def nap(self, most_ms):
        time.sleep(self.dice.random() * most_ms / 1000)

    # -- checking --

    def breaks(self, data, step):
        """Where numbers are missing. Two workers take a new filter set one after the other, so that the
        first and last few are one worker's alone; what is missing close together is one break.
        """
        numbers = [struct.unpack_from("!I", f.data, AT_SEQUENCE)[0] for f in read_pcap(data)]
        at = [i for i, (a, b) in enumerate(zip(numbers, numbers[1:]))
              if (b - a) % len(self.frames) != step and EDGE <= i < len(numbers) - EDGE]
        return sum(i == 0 or at[i] - at[i - 1] > EDGE for i in range(len(at)))

    def check(self, data, report, deaths, step=1):
        frames = read_pcap(data)
        self.assertTrue(all(a.time_ns <= b.time_ns for a, b in zip(frames, frames[1:])), "in order")
        self.assert_books_balance(report)
        self.assertEqual(report["in_file"], len(frames))
        self.assertEqual(report["exact"], not report["gaps"])
        broken = self.breaks(data, step)
        self.assertLessEqual(broken, deaths)
        if broken:
            self.assertGreater(len(report["gaps"]), 0, "a break is told")
        for gap in report["gaps"]:
            self.assertLessEqual(gap["from"], gap["to"])
            self.assertEqual(gap["cause"], "dataplane_down")
        self.assertEqual(sum(report["lost"].values()), 0, report["lost"])
        if not deaths:
            self.assertTrue(report["exact"])
            self.assertEqual(report["in_file"] + report["overwritten"] + report["not_matched"],
                             report["received"])
        if step == 1:
            self.assertEqual(report["not_matched"], 0)

    # -- a round --

    def begin(self, state):
        """Take a capture into the state; gives what was asked last."""
        gw = self.gw
        asked = Asked(gw, "POST", API + "/captures", {"filter_data": WHOLE})
        if state == "Starting":
            self.nap(8)
            return asked
        self.assertEqual(asked.answer(), 201)
        gw.wait_recorded(50)
        if state == "Running":
            self.nap(300)
            return asked
        self.nap(50)
        body = {"download": True} if state == "Stopping" else {"sas_url": self.url}
        asked = Asked(gw, "POST", scope_path(None) + "/stop", body)
        if state == "Uploading":
            self.assertEqual(asked.answer(), 202)
            self.nap(40)
        else:
            self.nap(15)
        return asked

    def written(self, before):
        """What the state folder said of the capture when the kill had come, or soon after."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            name = [n for n in self.gw.files(".capture") if not n.startswith((self.survivor, before))][-1]
            with open(os.path.join(self.gw.state_dir, name), encoding="utf-8") as text:
                return json.load(text)["state"]
        return "nothing"

    def shown(self):
        answer = self.gw.get(scope_path(None))
        return answer.json if answer.status == 200 else None

    def finish(self, state, asked, before):
        """What was told holds; take the capture to its end. Gives its data and how it ended."""
        gw, capture = self.gw, self.shown()
        if state == "Starting" and (capture is None or capture["id"] == before):
            self.assertNotEqual(asked.answer(), 201, "a start that was told is there")
            return None, "never was"
        self.assertIsNotNone(capture)
        self.assertNotEqual(capture["id"], before)
        if state == "Stopping" and asked.answer() == 202:
            self.assertIn(capture["state"], ("Stopping", "Uploading"))
        if state == "Uploading":
            capture = gw.wait_state(None, "Succeeded", "UploadFailed", "Failed")
            self.assertEqual((capture["state"], capture["error"]), ("Succeeded", None))
            data = self.fetch_blob(capture, self.url)
            self.assertEqual(hashlib.md5(data).hexdigest(), capture["md5"])
            return data, "uploaded"
        if state == "Starting":
            gw.wait_state(None, "Running")
        if capture["state"] in ("Starting", "Running"):
            gw.wait_recorded(capture["counters"]["recorded"] + 50)
            gw.stop(download=True)
        gw.wait_state(None, "Uploading")
        return gw.fetch()[0], "downloaded"

    def one_round(self, kind, state):
        before, died = (self.shown() or {}).get("id", "none"), self.dataplanes
        asked = self.begin(state)
        self.kill(kind)
        self.met[f"{state}: {self.written(before)}"] += 1
        self.gw.wait_ready()
        data, how = self.finish(state, asked, before)
        if data is not None:
            self.check(data, self.gw.report(), self.dataplanes - died)
        survivor = self.gw.show("site-a")
        self.assertEqual((survivor["id"], survivor["state"]), (self.survivor, "Running"))
        return how

    def test_kills(self):
        gw, ends = self.gw, collections.Counter()
        self.met = collections.Counter()
        self.survivor = gw.start("site-a", filter_data=WHOLE)["id"]
        began = time.monotonic()
        for n, (kind, state) in zip(range(self.rounds), self.plan()):
            with self.subTest(round=n, kind=kind, state=state, seed=self.seed):
                try:
                    ends[f"{state}: {self.one_round(kind, state)}"] += 1
                except BaseException:
                    print(f"--- round {n}, {kind} in {state}:\n{gw.log()[-4000:]}", file=sys.stderr)
                    raise
            if sum(ends.values()) <= n:
                return  # what follows would prove nothing
        data, _ = gw.download("site-a")
        report = gw.report("site-a")
        self.check(data, report, self.dataplanes, step=2)
        gw.wait_no_data()
        print(f"{self.rounds} rounds in {time.monotonic() - began:.0f} s, {self.dataplanes} dataplanes "
              f"died, {len(report['gaps'])} gaps\nwritten when the kill came: {dict(self.met)}\n"
              f"ends: {dict(ends)}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 3:
        Matrix.rounds = int(sys.argv.pop(3))
    live.main(__doc__)
