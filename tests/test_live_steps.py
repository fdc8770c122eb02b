#!/usr/bin/env python3
"""test_live_steps.py - gatecapd dies before each step that it takes in its state folder, one after another.

    test_live_steps.py BIN_DIR GATECAPD_ASAN [unittest arguments]

Two captures live through each death (crash_point.c): one is started with a SAS URL, recorded and uploaded,
one started and aborted. What a client was told holds, and nothing is left in the folder at the end.
Of every STRIDE-th step; the environment's GATECAP_STRIDE=1: of every one.
"""
import http.client
import json
import os
import time

from live import (Appliance, Live, Programs, base_config, main, primed, read_pcap, scope_path, until)
from test_live_restart import esp_frames

GONE = (OSError, http.client.HTTPException, json.JSONDecodeError)
SMALL = {"MaxPacketBufferSize": 100, "MaxFileSize": 2}
STRIDE = int(os.environ.get("GATECAP_STRIDE", "2"))


class Steps(Live):
    needs_storage = True

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        frames = esp_frames(1)
        cls.config = base_config(wan=("outer", cls.file("esp.pcap", primed(frames, 0)), {"loops": 0}))

    def ask(self, gw, method, path, body=None):
        """Again while gatecapd is away; gives the answer, and whether it was the first try."""
        deadline, first = time.monotonic() + 30, True
        while True:
            try:
                return gw.request(method, path, body, timeout=20), first
            except GONE:
                self.assertLess(time.monotonic(), deadline, "gatecapd is back")
                first = False
                time.sleep(0.02)

    def shown(self, gw, connection=None):
        answer, _ = self.ask(gw, "GET", scope_path(connection))
        return answer.json if answer.status == 200 else None

    def begin(self, gw, body, connection=None):
        """A start whose answer was lost may have been one; asked again it is refused then, or done."""
        def started():
            answer, first = self.ask(gw, "POST", "/captures", body)
            if answer.status == 503:  # the dataplane is not connected again yet
                return False
            self.assertTrue(answer.status == 201 or (not first and answer.status == 409), answer)
            return self.shown(gw, connection)
        return until(started, "started", every=0.02)

    def upload(self, gw):
        self.begin(gw, {"filter_data": SMALL, "sas_url": gw.secret(self.sas())})
        until(lambda: self.shown(gw)["counters"]["recorded"] > 20, "recorded", every=0.02)

        def ended():
            capture = self.shown(gw)
            if capture["state"] in ("Running", "UploadFailed"):
                self.ask(gw, "POST", scope_path(None) + "/stop", {})
            return capture if capture["state"] in ("Succeeded", "Failed") else None
        capture = until(ended, "uploaded", every=0.02)
        self.assertEqual((capture["state"], capture["error"]), ("Succeeded", None))
        return capture

    def abort(self, gw):
        self.begin(gw, {"filter_data": SMALL, "connection": "site-a"}, "site-a")

        def ended():
            self.ask(gw, "POST", scope_path("site-a") + "/abort")
            return (self.shown(gw, "site-a") or {"state": "Failed"})["state"] == "Failed"
        until(ended, "aborted", every=0.02)

    def one_round(self, step):
        """Gives whether it died, and the steps."""
        env = {"LD_PRELOAD": Programs.path("tests/crash_point.so")}
        gw = Appliance(self.config, env=env)
        lay_out = gw._lay_out

        def lay_out_and_set():
            lay_out()
            steps = gw.path("run/steps")
            env.update(GATECAP_TEST_STEPS=steps, GATECAP_TEST_STATE=gw.state_dir)
            with open(steps + ".crash", "w", encoding="utf-8") as out:
                out.write(str(step))
            os.chmod(steps + ".crash", 0o644)
        gw._lay_out = lay_out_and_set
        with gw:
            capture = self.upload(gw)
            self.abort(gw)
            gw.wait_no_data()
            died = not os.path.exists(gw.path("run/steps.crash"))
            with open(gw.path("run/steps"), encoding="utf-8") as text:
                steps = text.read().splitlines()
        data, _ = self.stored(capture)
        self.assertGreater(len(read_pcap(data)), 20)
        self.assertEqual(self.stored_report(capture)["in_file"], len(read_pcap(data)))
        return died, steps

    def test_death_before_each_step_keeps_what_was_told(self):
        step, died = 1, True
        while died:
            print(f"step {step}", flush=True)  # the last one printed is the one that failed
            died, steps = self.one_round(step)
            step += STRIDE
        print(f"{step // STRIDE} deaths of {len(steps)} steps")
        self.assertGreater(step, 20)
        self.check_order(steps)

    def check_order(self, steps):
        """Whatever is renamed was synced after its last write, and the folder is synced behind it."""
        n = 0
        for i, line in enumerate(steps):
            what, name = line.split(" ", 1)
            if what != "rename" or name.endswith(".tally"):
                continue
            new = os.path.splitext(name)[0] + ".new"
            before = [s for s in steps[:i] if s.endswith(new)]
            self.assertEqual(before[-2:], ["write " + new, "sync " + new], steps[:i + 1])
            self.assertEqual(steps[i + 1], "sync state", steps[:i + 2])
            n += 1
        self.assertGreater(n, 5)


if __name__ == "__main__":
    main(__doc__)
