#!/usr/bin/env python3
"""test_live_disk.py - disks that are full, refuse, or are taken away while captures run.

    test_live_disk.py BIN_DIR GATECAPD_ASAN [unittest arguments]

The traffic is numbered ESP packets without end. A small tmpfs is a real full disk; failing_disk.c, which is
preloaded into gatecapd, is one that refuses what was reserved on it.
"""
import errno
import os
import shutil
import signal
import struct
import subprocess

from live import Appliance, Live, Programs, base_config, main, primed, read_pcap, until
from test_live_restart import esp_frames

SMALL = {"MaxPacketBufferSize": 200, "MaxFileSize": 2}
AT_SEQUENCE = 14 + 20 + 4
SECONDS, PER_SECOND = 4, 4000


class Disk(Live):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        frames = esp_frames(SECONDS, PER_SECOND)
        cls.config = base_config(wan=("outer", cls.file("esp.pcap", primed(frames, 0)), {"loops": 0}))

    def numbers(self, data):
        frames = read_pcap(data)
        return [struct.unpack_from("!I", f.data, AT_SEQUENCE)[0] for f in frames if f.wire_len > 60]

    def breaks(self, data):
        """How often the numbers do not go on by one: of the stream's own end, none."""
        numbers, total = self.numbers(data), SECONDS * PER_SECOND
        return sum(1 for a, b in zip(numbers, numbers[1:]) if (a + 1) % total != b % total)

    def finish(self, gw, connection=None):
        data, _ = gw.download(connection)
        report = gw.report(connection)
        self.assert_books_balance(report)
        self.assertEqual((report["exact"], report["gaps"]), (True, []))
        return data, report


class Refusing(Disk):
    def refuse(self, number):
        with open(self.switch, "w", encoding="utf-8") as out:
            out.write(str(number))
        os.chmod(self.switch, 0o644)

    def works(self):
        if os.path.exists(self.switch):
            os.unlink(self.switch)

    def test_what_the_disk_refuses_is_told_counted_and_over_when_it_works_again(self):
        self.switch = self.file("disk")
        env = {"LD_PRELOAD": Programs.path("tests/failing_disk.so"), "GATECAP_TEST_DISK": self.switch}
        with Appliance(self.config, env=env) as gw:
            gw.start(filter_data=SMALL)
            gw.wait_recorded(200)
            lost = 0
            for number in (errno.ENOSPC, errno.EIO, 0):
                with self.subTest(number):
                    times = gw.log().count("The disk refuses"), gw.log().count("works again")
                    self.refuse(number)
                    until(lambda: gw.show()["counters"]["lost"]["disk"] > lost + 100, "records are lost")
                    until(lambda: gw.log().count("The disk refuses") == times[0] + 1, "it is told")
                    self.works()
                    until(lambda: gw.log().count("works again") == times[1] + 1, "and its end")
                    lost = gw.show()["counters"]["lost"]["disk"]
                    gw.wait_recorded(gw.show()["counters"]["recorded"] + 1000)
                    self.assertEqual(gw.show()["counters"]["lost"]["disk"], lost, "no more")
                    self.assertEqual(gw.show()["state"], "Running")
            data, report = self.finish(gw)
            self.assertEqual(report["lost"], {"nic": 0, "ring_full": 0, "disk": lost})
            self.assertLess(report["lost_first_time"], report["lost_last_time"])
            self.assertLessEqual(self.breaks(data), 3)

    def test_gatecapd_killed_while_the_disk_refuses_goes_on_with_what_was_committed(self):
        self.switch = self.file("disk")
        env = {"LD_PRELOAD": Programs.path("tests/failing_disk.so"), "GATECAP_TEST_DISK": self.switch}
        with Appliance(self.config, env=env) as gw:
            gw.start(filter_data=SMALL)
            gw.wait_recorded(200)
            self.refuse(errno.EIO)
            until(lambda: gw.show()["counters"]["lost"]["disk"] > 100, "records are lost")
            gw.kill("gatecapd", signal.SIGKILL)
            self.works()
            until(lambda: gw.pid_of("gatecapd"), "a new gatecapd")
            gw.wait_ready()
            before = gw.show()["counters"]["recorded"]
            gw.wait_recorded(before + 500)
            data, _ = gw.download()
            report = gw.report()
            self.assert_books_balance(report)
            # What was counted as lost went with the process: unknown, and said so.
            self.assertFalse(report["exact"])
            self.assertEqual([g["cause"] for g in report["gaps"]], ["control_down"])
            self.assertLessEqual(self.breaks(data), 1)


class Full(Disk):
    """The state folder on a tmpfs of its own."""

    megabytes = 24

    def appliance(self):
        folder = self.file(self.id().rsplit(".", 1)[1])
        os.mkdir(folder)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={self.megabytes}M,mode=0711", "gatecap-test",
                        folder], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", folder], check=True)
        self.folder = folder
        gw = Appliance(self.config)
        lay_out = gw._lay_out

        def lay_out_there():
            lay_out()
            gw.state_dir = os.path.join(folder, "state")
            gw.config["control"]["state_dir"] = gw.state_dir
            gw.write_config(gw.config)
        gw._lay_out = lay_out_there
        return self.enterContext(gw)

    def fill(self):
        """To the last page."""
        with open(os.path.join(self.folder, "foreign"), "wb", buffering=0) as out:
            try:
                while out.write(bytes(1 << 16)):
                    pass
            except OSError as full:
                self.assertEqual(full.errno, errno.ENOSPC)
        self.assertLess(os.statvfs(self.folder).f_bavail, 16)

    def test_a_capture_that_does_not_fit_is_refused_before_it_starts(self):
        gw = self.appliance()
        answer = gw.post("/captures", {"filter_data": {"MaxFileSize": 100}})
        self.assert_refused(507, "InsufficientStorage", "MB free", "needs 1", answer=answer)
        self.assertEqual([n for n in os.listdir(gw.state_dir) if n.endswith((".data", ".index"))], [])
        gw.start(filter_data=SMALL)
        gw.wait_recorded(100)
        self.finish(gw)

    def test_a_disk_that_fills_up_costs_a_running_capture_nothing(self):
        gw = self.appliance()
        gw.start(filter_data=SMALL)
        gw.wait_recorded(100)
        self.fill()
        recorded = gw.show()["counters"]["recorded"]
        gw.wait_recorded(recorded + 3000)
        self.assert_refused(507, "InsufficientStorage", "free some space",
                            answer=gw.get("/captures/gateway/snapshot"))
        self.assert_refused(507, "InsufficientStorage", "MB",
                            answer=gw.post("/captures", {"connection": "site-a", "filter_data": SMALL}))
        self.assertEqual(gw.show()["state"], "Running")
        os.unlink(os.path.join(self.folder, "foreign"))
        self.assertGreater(len(read_pcap(gw.snapshot())), 100)
        data, report = self.finish(gw)
        self.assertEqual(sum(report["lost"].values()), 0)
        self.assertEqual(self.breaks(data), 0)

    def test_a_folder_that_is_taken_away_costs_a_running_capture_nothing(self):
        gw = self.appliance()
        gw.start(filter_data=SMALL)
        gw.wait_recorded(100)
        shutil.rmtree(gw.state_dir)
        gw.wait_recorded(gw.show()["counters"]["recorded"] + 1000)
        self.assert_refused(507, "InsufficientStorage", "state folder",
                            answer=gw.post("/captures", {"connection": "site-a", "filter_data": SMALL}))
        data, _ = self.finish(gw)
        self.assertEqual(self.breaks(data), 0)
        self.assertFalse(os.path.exists(gw.state_dir))


if __name__ == "__main__":
    main(__doc__)
