#!/usr/bin/env python3
"""test_live_restart.py - captures that outlive gatecapd, the dataplane, the supervisor and a reboot.

    test_live_restart.py BIN_DIR GATECAPD_ASAN [unittest arguments]

The traffic is numbered ESP packets that are played once at their own pace; what is recorded has each of
them once if nothing but gatecapd died. The sanitizer build, but where time counts.
"""
import contextlib
import hashlib
import http.client
import json
import mmap
import os
import pwd
import shutil
import signal
import socket
import struct
import subprocess

import dp_control as dp
from live import (API, ARP, Appliance, Frame, Live, UnixConnection, assert_opens_clean, base_config,
                  content, main, primed, read_pcap, scope_path, until)
from fault_proxy import FaultProxy

HELD = {"kind": "hold"}
PER_SECOND = 4000
DONE_AT = 80 + 176  # in the dataplane's memory: its first port has played its file (docs/formats.md)
WHOLE = {"MaxPacketBufferSize": 1500, "MaxFileSize": 20}


def esp_frames(seconds, per_second=PER_SECOND):
    """ESP from site-a's peer (10.0.9.2), numbered in SPI and sequence; every other one is a stranger's."""
    frames = []
    for n in range(int(seconds * per_second)):
        source = bytes([10, 0, 9, 2]) if n % 2 else bytes([198, 18, 0, 1])
        body = struct.pack("!II", 0x1000, n) + bytes([n % 251]) * (40 + n % 300)
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), n & 0xffff, 0, 64, 50, 0, source,
                           bytes([203, 0, 113, 2]))
        data = bytes.fromhex("0200000000020200000000010800") + head + body
        frames.append(Frame(n * 10**9 // per_second, data, len(data)))
    return frames


class Restart(Live):
    seconds = 1

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.frames = esp_frames(cls.seconds)
        cls.config = base_config(wan=("outer", cls.file("esp.pcap", primed(cls.frames, 0.3))))

    def appliance(self, **more):
        return self.enterContext(Appliance(self.config, asan=True, **more))

    def kill_gatecapd(self, gw, how=signal.SIGKILL):
        old = gw.kill("gatecapd", how)
        until(lambda: gw.pid_of("gatecapd") not in (0, old), "a new gatecapd")
        gw.wait_ready()

    def kill_all(self, gw):
        """As a power cut does; the kernel's memory of the files stays."""
        gw.supervisor.send_signal(signal.SIGSTOP)
        children = gw.pids()[1:]
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        gw.supervisor.kill()
        gw.supervisor.wait()
        until(lambda: not any(is_alive(pid) for pid in children), "all are dead")

    def reboot(self, gw):
        """What is in the runtime folder does not outlive it."""
        shutil.rmtree(gw.path("run"))
        os.mkdir(gw.path("run"))
        shutil.chown(gw.path("run"), "gatecap", "gatecap")
        gw.launch()

    def synced(self, gw, capture_id):
        """Does a sync cover records, and how many commits were there since? docs/formats.md "Index"."""
        with open(os.path.join(gw.state_dir, capture_id + ".index"), "rb") as data:
            index = data.read()
        size = (len(index) - 4096) // 4
        slots = [index[4096 + n * size:4096 + (n + 1) * size] for n in range(4)]
        number = [struct.unpack_from("Q", slot, 8)[0] for slot in slots]
        newest = slots[2 + (number[3] > number[2])]
        return struct.unpack_from("I", newest, 840 + 24)[0] > 0 and max(number[:2]) - max(number[2:])

    def wait_synced(self, gw, capture_id, behind=0):
        """At most so many commits behind; what is not synced is not believed after a reboot."""
        def is_synced():
            commits = self.synced(gw, capture_id)
            return commits is not False and commits <= behind
        until(is_synced, "the store is synced")

    def saved(self, gw, capture_id, ending=".capture"):
        with open(os.path.join(gw.state_dir, capture_id + ending), encoding="utf-8") as text:
            return json.load(text)

    def wanted(self, connection=None):
        return content(f for n, f in enumerate(self.frames) if connection is None or n % 2)

    def assert_whole(self, data, report, connection=None):
        """Nothing lost, nothing twice, nothing invented."""
        frames = [f for f in read_pcap(data) if f.data != ARP.data]
        self.assertEqual(content(frames), self.wanted(connection))
        self.assertTrue(all(a.time_ns <= b.time_ns for a, b in zip(frames, frames[1:])), "in order")
        self.assertEqual((report["exact"], report["gaps"]), (True, []))
        self.assert_books_balance(report)
        self.assertEqual(report["in_file"], len(frames))

    def assert_cut(self, data, report, *causes, played=1):
        """With gaps, and what is there is right."""
        frames = read_pcap(data)
        wanted = self.wanted(report.get("connection"))
        self.assertGreater(len(frames), 0)
        for frame, n in content(frames).items():
            self.assertLessEqual(n, played * wanted[frame], "of what was sent")
        self.assertTrue(all(a.time_ns <= b.time_ns for a, b in zip(frames, frames[1:])), "in order")
        self.assertFalse(report["exact"])
        self.assertEqual([g["cause"] for g in report["gaps"]], list(causes))
        for gap in report["gaps"]:
            self.assertLess(gap["from"], gap["to"])
        self.assert_books_balance(report)
        self.assertEqual(report["in_file"], len(frames))


class Control(Restart):
    """gatecapd ends, the dataplane stays: nothing is lost."""

    def start(self, gw, *scopes):
        return {name: gw.start(name, filter_data=WHOLE)["id"] for name in scopes}

    def assert_all_whole(self, gw, ids):
        gw.wait_played()
        for name, capture_id in ids.items():
            self.assertEqual(gw.show(name)["id"], capture_id)
            data, _ = gw.download(name)
            self.assert_whole(data, gw.report(name), name)
        gw.wait_no_data()

    def test_killed_while_captures_run(self):
        gw = self.appliance()
        ids = self.start(gw, None, "site-a")
        other = gw.start("spare-1")
        for recorded in (500, 2500):
            gw.wait_recorded(recorded)
            self.kill_gatecapd(gw)
            for name in (None, "site-a", "spare-1"):
                self.assertEqual(gw.show(name)["state"], "Running")
        self.assertEqual(gw.abort("spare-1")["id"], other["id"])
        self.assert_all_whole(gw, ids)

    def test_ended_and_started_again_as_by_an_upgrade(self):
        gw = self.appliance()
        ids = self.start(gw, None, "site-a")
        for recorded in (500, 2500):
            gw.wait_recorded(recorded)
            self.kill_gatecapd(gw, signal.SIGTERM)
        self.assert_all_whole(gw, ids)

    def test_killed_while_a_capture_starts(self):
        gw = self.appliance()
        with standing_still(gw):
            client = UnixConnection(gw.socket)
            self.addCleanup(client.close)
            client.request("POST", API + "/captures", json.dumps({"filter_data": WHOLE}))
            name = until(lambda: gw.files(".capture"), "it is written down")[0]
            self.assertEqual(self.saved(gw, name[:-8])["state"], "Starting")
            gw.kill("gatecapd")
        gw.wait_ready()
        self.assertEqual(gw.wait_state(None, "Running")["id"], name[:-8])
        self.assert_all_whole(gw, {None: name[:-8]})

    def test_killed_while_a_capture_stops(self):
        gw = self.appliance()
        for scope, body in ((None, {"download": True}), ("site-a", None)):
            gw.start(scope, filter_data=WHOLE)
        gw.wait_played()
        with standing_still(gw):
            gw.stop(download=True)
            client = UnixConnection(gw.socket)
            self.addCleanup(client.close)
            client.request("POST", scope_path("site-a") + "/abort")
            until(lambda: gw.show("site-a")["state"] == "Stopping", "the abort is under way")
            gw.kill("gatecapd")
        gw.wait_ready()
        gw.wait_state(None, "Uploading")
        data, _ = gw.fetch()
        self.assert_whole(data, gw.report())
        self.assertRegex(gw.wait_state("site-a", "Failed")["error"], "Aborted on request")
        gw.wait_no_data()

    def test_a_stop_waits_until_the_rings_of_before_are_emptied(self):
        gw = self.appliance()
        ids = self.start(gw, None, "site-a")
        gw.wait_recorded(500)
        os.rename(gw.path("bin/gatecapd"), gw.path("bin/away"))
        gw.kill("gatecapd")
        with another_control(gw.config["dataplane"]["socket"]) as shared:
            until(lambda: struct.unpack_from("Q", shared, DONE_AT)[0], "the rest is in the rings")
            os.rename(gw.path("bin/away"), gw.path("bin/gatecapd"))
            until(lambda: is_serving(gw), "the next gatecapd serves")
            until(lambda: "serves another gatecapd" in gw.log(), "it is turned away")
            for name in ids:
                self.assertEqual(gw.stop(name, download=True)["state"], "Stopping")
            for _ in range(20):
                for name in ids:
                    self.assertEqual(gw.show(name)["state"], "Stopping")
        for name in ids:
            gw.wait_state(name, "Uploading")
            data, _ = gw.fetch(name)
            self.assert_whole(data, gw.report(name), name)

    def test_what_is_over_is_shown_until_the_next_start(self):
        gw = self.appliance()
        self.start(gw, None)
        gw.wait_recorded(100)
        gw.start("site-a")
        done, failed = gw.download()[1], gw.abort("site-a")
        self.kill_gatecapd(gw)
        self.assertEqual([gw.show(), gw.show("site-a")], [done, failed])
        self.assertEqual(gw.report()["in_file"], done["counters"]["in_file"])
        self.assertEqual(len(gw.files(".capture")), 2)
        new = gw.start()
        self.assertNotEqual(new["id"], done["id"])
        self.assertEqual(gw.files(".capture"), [failed["id"] + ".capture", new["id"] + ".capture"])

    def test_a_download_is_fetched_from_the_next_gatecapd(self):
        gw = self.appliance()
        self.start(gw, None)
        gw.wait_played()
        gw.stop(download=True)
        gw.wait_state(None, "Uploading")
        self.kill_gatecapd(gw)
        data = gw.get(scope_path(None) + "/pcap").data
        until(lambda: gw.show()["md5"], "it knows that all was taken")
        self.kill_gatecapd(gw)
        done = gw.ask("POST", scope_path(None) + "/finish", {"md5": hashlib.md5(data).hexdigest()}, 200)
        self.assertEqual(done["state"], "Succeeded")
        self.assert_whole(data, gw.report())
        gw.wait_no_data()

    def test_a_connection_that_is_gone_leaves_its_capture_recovered(self):
        gw = self.appliance()
        self.start(gw, None, "site-a")
        gw.wait_recorded(500)
        gw.write_config({**gw.config, "connections": gw.config["connections"][1:]})
        self.kill_gatecapd(gw)
        capture = gw.show("site-a")
        self.assertEqual(capture["state"], "Recovered")
        self.assertIn("Connection site-a is missing from the configuration", " ".join(capture["notes"]))
        self.assertEqual(gw.show()["state"], "Running")
        data, _ = gw.download("site-a")
        self.assert_cut(data, gw.report("site-a"), "control_down")


class Uploads(Restart):
    needs_storage = True

    def url(self):
        return self.sas("captures", "--permissions", "rcw")

    def held_upload(self, gw, proxy):
        """Everything is recorded and the first block hangs; gives what the blob has to be."""
        gw.start(filter_data=WHOLE)
        gw.wait_played()
        want = gw.snapshot()
        gw.stop(sas_url=gw.secret(self.url().replace(self.storage.endpoint, proxy.endpoint)))
        self.assertTrue(proxy.held.wait(60))
        return want, gw.wait_state(None, "Uploading")["id"]

    def assert_sas_is_private(self, gw, capture_id):
        stat = os.stat(os.path.join(gw.state_dir, capture_id + ".sas"))
        self.assertEqual((stat.st_mode & 0o777, stat.st_uid), (0o600, pwd.getpwnam("gatecap").pw_uid))
        for name in gw.files(".capture", ".tally"):
            with open(os.path.join(gw.state_dir, name), encoding="utf-8") as text:
                gw.assert_secret_in_no(text.read(), name)

    def test_an_upload_that_was_cut_off_begins_again_by_itself(self):
        for how in (signal.SIGKILL, signal.SIGTERM):
            with self.subTest(how.name):
                gw = self.appliance()
                hold = {n: HELD for n in range(2, 9)}
                with FaultProxy(self.storage.port, hold) as proxy:
                    want, capture_id = self.held_upload(gw, proxy)
                    self.assert_sas_is_private(gw, capture_id)
                    proxy.faults = {}
                    self.kill_gatecapd(gw, how)
                    capture = gw.wait_state(None, "Succeeded", "UploadFailed")
                self.assertEqual((capture["state"], capture["id"]), ("Succeeded", capture_id))
                self.assertEqual(self.fetch_blob(capture, self.url()), want)
                self.assert_whole(want, gw.report())
                gw.wait_no_data()
                gw.assert_unseen()

    def test_a_url_of_the_start_is_kept_for_the_stop_and_goes_with_an_abort(self):
        gw = self.appliance()
        ids = [gw.start(name, WHOLE, gw.secret(self.url()))["id"] for name in (None, "site-a")]
        gw.wait_played()
        for capture_id in ids:
            self.assert_sas_is_private(gw, capture_id)
        self.kill_gatecapd(gw)
        gw.abort("site-a")
        self.assertEqual(gw.files(".sas"), [ids[0] + ".sas"])
        gw.stop()
        capture = gw.wait_state(None, "Succeeded", "UploadFailed")
        self.assertEqual(capture["state"], "Succeeded")
        self.assert_whole(self.fetch_blob(capture, self.url()), gw.report())
        self.assertEqual(self.stored_report(capture), gw.report())
        gw.wait_no_data()

    def test_an_upload_goes_on_after_a_reboot(self):
        gw = self.appliance()
        with FaultProxy(self.storage.port, {n: HELD for n in range(2, 9)}) as proxy:
            want, capture_id = self.held_upload(gw, proxy)
            self.wait_synced(gw, capture_id)
            self.kill_all(gw)
            proxy.faults = {}
            self.reboot(gw)
            capture = gw.wait_state(None, "Succeeded", "UploadFailed")
        self.assertEqual(capture["state"], "Succeeded")
        self.assertEqual(self.fetch_blob(capture, self.url()), want)
        gw.wait_no_data()


class Gaps(Restart):
    """What nobody can know is a gap, and all else is right."""

    def running(self, gw):
        for name in (None, "site-a"):
            gw.start(name, filter_data=WHOLE)
        gw.wait_recorded(1500)
        gw.wait_recorded(500, "site-a")

    def assert_goes_on_with_a_gap(self, gw, played=2):
        gw.wait_ready()
        gw.wait_played()
        for name in (None, "site-a"):
            self.assertEqual(gw.show(name)["state"], "Running")
            data, _ = gw.download(name)
            self.assert_cut(data, gw.report(name), "dataplane_down", played=played)
        path = self.file("gap.pcap")
        with open(path, "wb") as out:
            out.write(data)
        assert_opens_clean(self, path)
        gw.wait_no_data()

    def test_dataplane_and_gatecapd_killed_at_once(self):
        gw = self.appliance()
        self.running(gw)
        pids = [gw.pid_of(name) for name in ("gatecapd", "gatecap-dataplane")]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        until(lambda: not set(pids) & set(gw.pids()), "both are gone")
        self.assert_goes_on_with_a_gap(gw)

    def test_a_dataplane_that_is_another_one_when_gatecapd_comes_back(self):
        gw = self.appliance()
        self.running(gw)
        old = gw.kill("gatecapd"), gw.kill("gatecap-dataplane")
        new = until(lambda: next(iter(serving(gw) - set(old)), 0), "the next gatecapd", every=0.001)
        os.kill(new, signal.SIGSTOP)  # before it looks for the dataplane
        until(lambda: gw.pid_of("gatecap-dataplane") not in (0, *old), "the next dataplane")
        until(lambda: is_listening(gw.path("dp.sock")), "it listens")
        os.kill(new, signal.SIGCONT)
        self.assert_goes_on_with_a_gap(gw)

    def test_the_supervisor_killed_and_started_again(self):
        gw = self.appliance()
        self.running(gw)
        children = gw.pids()[1:]
        gw.supervisor.kill()
        gw.supervisor.wait()
        until(lambda: not any(is_alive(pid) for pid in children), "its children end, too")
        gw.launch()
        self.assert_goes_on_with_a_gap(gw)

    def test_all_ended_and_started_again(self):
        gw = self.appliance()
        self.running(gw)
        self.assertEqual(gw.end(), 0)
        gw.launch()
        self.assert_goes_on_with_a_gap(gw)

    def test_without_a_dataplane_a_capture_of_before_can_be_stopped(self):
        gw = self.appliance()
        other = gw.start("spare-1")["id"]  # matches nothing, so that its store knows nothing
        self.running(gw)
        counted = until(lambda: self.written_tally(gw, other), "what was counted is written down")
        os.rename(gw.path("bin/gatecap-dataplane"), gw.path("bin/away"))
        old = gw.pid_of("gatecapd")
        for pid in (old, gw.pid_of("gatecap-dataplane")):
            os.kill(pid, signal.SIGKILL)
        until(lambda: gw.pid_of("gatecapd") not in (0, old) and is_serving(gw), "the next one serves")
        ledger = gw.show("spare-1")["counters"]
        self.assertGreaterEqual(ledger["received"], counted)
        self.assertEqual(ledger["received"], ledger["not_matched"])
        gw.stop(download=True)
        gw.wait_state(None, "Uploading")
        data, _ = gw.fetch()
        self.assert_cut(data, gw.report(), "dataplane_down")
        os.rename(gw.path("bin/away"), gw.path("bin/gatecap-dataplane"))
        gw.wait_ready()
        gw.wait_played()
        data, _ = gw.download("site-a")
        self.assert_cut(data, gw.report("site-a"), "dataplane_down", played=2)

    def written_tally(self, gw, capture_id):
        with contextlib.suppress(FileNotFoundError):
            return int(self.saved(gw, capture_id, ".tally")["ports"][0]["last"][0])
        return 0

    def test_a_reboot_leaves_captures_recovered(self):
        for end in (self.kill_all, Appliance.end):
            with self.subTest(end.__name__):
                gw = self.appliance()
                self.running(gw)
                for name in (None, "site-a"):
                    self.wait_synced(gw, gw.show(name)["id"], 10**9)
                end(gw)
                recorded = {file[:-8]: int(self.saved(gw, file[:-8])["ports"][0]["base"][1])
                            for file in gw.files(".capture")}
                self.reboot(gw)
                for name in (None, "site-a"):
                    capture = gw.show(name)
                    if end == Appliance.end:  # planned: all that was recorded is there
                        self.assertEqual(capture["counters"]["in_file"], recorded[capture["id"]])
                    self.assertEqual(capture["state"], "Recovered")
                    self.assertGreater(capture["stopped"], capture["started"])
                    self.assertIn("was started anew", " ".join(capture["notes"]))
                    self.assert_refused(409, "PacketCaptureAlreadyRunning", "Recovered",
                                        answer=gw.post("/captures", {"connection": name}
                                                       if name else {}))
                self.kill_gatecapd(gw)
                path = self.file("recovered.pcap")
                gw.cli("stop", "--output", path, "--force")
                with open(path, "rb") as data, open(path + ".json", encoding="utf-8") as report:
                    self.assert_cut(data.read(), json.load(report), "reboot")
                assert_opens_clean(self, path)
                data, _ = gw.download("site-a")
                self.assert_cut(data, gw.report("site-a"), "reboot")
                gw.wait_no_data()


class Folder(Restart):
    def test_a_state_that_cannot_be_written_is_told_once_and_the_capture_goes_on(self):
        gw = self.appliance()
        gw.start(filter_data=WHOLE)
        gw.wait_recorded(100)
        self.addCleanup(os.chmod, gw.state_dir, 0o700)
        os.chmod(gw.state_dir, 0o500)
        told = "its state cannot be written to"
        until(lambda: told in gw.log(), "it is told")
        self.assert_refused(507, "InsufficientStorage", "state folder",
                            answer=gw.post("/captures", {"connection": "site-a"}))
        gw.wait_played()
        gw.stop(download=True)
        gw.wait_state(None, "Uploading")
        self.assertEqual(gw.log().count(told), 1)
        os.chmod(gw.state_dir, 0o700)
        until(lambda: "its state is on disk again" in gw.log(), "it is told")
        self.kill_gatecapd(gw)
        data, _ = gw.fetch()
        self.assert_whole(data, gw.report())
        gw.wait_no_data()

    def test_a_stop_whose_end_could_not_be_written_is_no_gap_after_a_crash(self):
        port = {**self.config["ports"][0], "loops": 0}
        gw = self.enterContext(Appliance({**self.config, "ports": [port]}, asan=True))
        capture_id = gw.start(filter_data=WHOLE)["id"]
        gw.start("site-a")
        gw.wait_recorded(500)
        self.addCleanup(os.chmod, gw.state_dir, 0o700)
        with standing_still(gw):
            gw.stop(download=True)
            os.chmod(gw.state_dir, 0o500)
        gw.wait_state(None, "Uploading")
        recorded = gw.show("site-a")["counters"]["recorded"]
        gw.wait_recorded(recorded + 500, "site-a")  # the rings are emptied past the store's last commit
        self.assertEqual(self.saved(gw, capture_id)["state"], "Stopping")
        old = gw.kill("gatecapd")
        os.chmod(gw.state_dir, 0o700)
        until(lambda: gw.pid_of("gatecapd") not in (0, old), "a new gatecapd")
        gw.wait_ready()
        gw.wait_state(None, "Uploading")
        data, _ = gw.fetch()
        report = gw.report()
        self.assertEqual((report["exact"], report["gaps"]), (True, []))
        self.assert_books_balance(report)
        self.assertEqual(report["in_file"], len(read_pcap(data)))

    def test_a_second_gatecapd_is_refused_and_touches_nothing(self):
        gw = self.appliance()
        gw.start(filter_data=WHOLE)
        done = subprocess.run([gw.path("bin/gatecapd"), "--config", gw.config_path], text=True,
                              capture_output=True, timeout=30, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"{gw.state_dir} is in use by another gatecapd", done.stderr)
        gw.wait_played()
        data, _ = gw.download()
        self.assert_whole(data, gw.report())


class Damaged(Restart):
    def test_files_that_are_damaged_are_told_and_left_alone(self):
        gw = self.appliance()
        ids = {name: gw.start(name, filter_data=WHOLE)["id"]
               for name in (None, "site-a", "spare-1", "spare-2", "spare-3")}
        gw.wait_played()
        self.kill_all(gw)
        path = {name: os.path.join(gw.state_dir, i) for name, i in ids.items()}
        self.flip(path["site-a"] + ".capture", 300)
        for at in range(0, os.path.getsize(path["spare-1"] + ".index"), 64):
            self.flip(path["spare-1"] + ".index", at)
        os.truncate(path["spare-2"] + ".capture", 100)
        os.unlink(path["spare-3"] + ".data")
        before = self.all_bytes(gw, ids)
        odd = self.odd_files(gw, path[None] + ".capture")
        gw.launch()
        states = {c["id"]: c["state"] for c in gw.get("/captures").json["captures"]}
        self.assertEqual(states, {ids[None]: "Running"})
        for name in ("site-a", "spare-1", "spare-2", "spare-3"):
            self.assertRegex(gw.log(), f"{ids[name]}.*(left alone|No such file)")
            gw.start(name)
        for name in odd:
            self.assertRegex(gw.log(), f"{name}.*left alone")
        self.assertEqual(self.all_bytes(gw, ids), before)
        data, _ = gw.download()
        self.assert_cut(data, gw.report(), "dataplane_down", played=2)

    def flip(self, path, at):
        with open(path, "r+b") as out:
            out.seek(at)
            byte = out.read(1)
            out.seek(at)
            out.write(bytes([byte[0] ^ 0x40]))

    def all_bytes(self, gw, ids):
        found = {}
        for name in gw.files(".capture", ".index"):
            path = os.path.join(gw.state_dir, name)
            if any(name.startswith(ids[n]) for n in ("site-a", "spare-1", "spare-2")):
                with open(path, "rb") as data:
                    found[name] = data.read()
        return found

    def odd_files(self, gw, good):
        """Names of ours that are something else."""
        names = [f"2020-01-0{n}T00.00.00.000Z-1.capture" for n in range(1, 8)]
        paths = [os.path.join(gw.state_dir, name) for name in names]
        os.mkdir(paths[0])
        os.mkfifo(paths[1])
        os.symlink(good, paths[2])
        shutil.copyfile(good, paths[3])  # of another id
        with open(paths[4], "wb") as out:
            out.truncate(100 << 20)
        with open(paths[5], "w", encoding="utf-8") as out:
            out.write("My notes\n")
        with open(paths[6], "wb") as out:
            out.write(os.urandom(4096))
        with open(os.path.join(gw.state_dir, "notes.capture"), "w", encoding="utf-8") as out:
            out.write("not ours by its name\n")
        return names

    def test_what_a_cut_start_has_left_is_removed_and_what_is_not_ours_stays(self):
        gw = self.appliance()
        capture_id = gw.start()["id"]
        self.kill_all(gw)
        path = os.path.join(gw.state_dir, capture_id)
        other = os.path.join(gw.state_dir, "2020-01-01T00.00.00.000Z-1")
        os.unlink(path + ".capture")
        for ending in (".sas", ".new", ".tally", ".index"):
            with open(other + ending, "wb") as out:
                out.write(b"x" * 100)
            shutil.chown(other + ending, "gatecap", "gatecap")
        with open(os.path.join(gw.state_dir, "notes.index"), "wb") as out:
            out.write(b"x")
        gw.launch()
        self.assertEqual(gw.get("/captures").json["captures"], [])
        self.assertEqual(sorted(os.listdir(gw.state_dir)),
                         [os.path.basename(other) + ".index", "notes.index"])


@contextlib.contextmanager
def standing_still(gw):
    """The dataplane answers nothing: a capture stays in its state for as long."""
    pid = gw.pid_of("gatecap-dataplane")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def serving(gw):
    """Pids of gatecapd that are not there to print the dataplane's arguments."""
    found = set()
    for pid in gw.pids()[1:]:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as command:
            words = command.read().split(b"\0")
            if words[0].endswith(b"/gatecapd") and b"--print-dataplane-args" not in words:
                found.add(pid)
    return found


def is_listening(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer, contextlib.suppress(OSError):
        peer.connect(path)
        return True
    return False


def is_serving(gw):
    with contextlib.suppress(OSError, http.client.HTTPException):
        return gw.get("/status").status == 200
    return False


@contextlib.contextmanager
def another_control(path):
    """Be the dataplane's control, so that no other is; gives the dataplane's memory."""
    def hello():
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        peer.connect(path)
        peer.send(struct.pack("IHH", dp.DP_MAGIC, dp.DP_VERSION, 1))
        _, fds, _, _ = socket.recv_fds(peer, 1024, 2)
        if not fds:
            peer.close()  # BUSY: it has not noticed yet that the one before is dead
        return (peer, fds) if fds else None
    peer, fds = until(hello, "the dataplane takes us")
    with peer, mmap.mmap(fds[0], 4096, prot=mmap.PROT_READ) as shared:
        for fd in fds:
            os.close(fd)
        yield shared


def is_alive(pid):
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    return False


if __name__ == "__main__":
    main(__doc__)
