#!/usr/bin/python3
"""test_bench.py - gatecap-bench's jobs run and tell the truth about their packets; tools/bench judges and draws.

Usage: test_bench.py GATECAP_BENCH [unittest arguments]
Without huge pages, for a fraction of a second each; no figure of speed is looked at.
"""
import ipaddress
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

BENCH = os.path.abspath(sys.argv[1])
ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "tools" / "bench.d"))
import goals  # noqa: E402
import lines  # noqa: E402
import plot  # noqa: E402

EAL = ["--lcores", "0@0,1@1", "--no-huge", "-m", "192", "--no-pci", "--no-telemetry", "--log-level", "error"]
SECONDS = ["--seconds", "0.05"]
LIST_LENGTH = 1000


def run(*options, eal=()):
    return subprocess.run([BENCH, *EAL, *(eal or ["--no-shconf"]), "--", *options], capture_output=True, text=True,
                          timeout=100)


def five_tuple(frame):
    return frame[26:30], frame[30:34], frame[34:36], frame[36:38]


@unittest.skipIf(os.cpu_count() < 2, "worker and writer need a core each")
class Jobs(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def result(self, *options, unit="mpps", eal=()):
        done = run(*options, *SECONDS, "--name", "this \"one\"", "--dir", self.folder, "--file-mb", "1", eal=eal)
        self.assertEqual(done.returncode, 0, done.stderr)
        found = json.loads(done.stdout)
        cycles = "cycles_per_record" if unit == "mrps" else "cycles_per_packet"
        self.assertEqual(list(found), ["name", unit, cycles, "lost", "conditions"])
        self.assertEqual(found["name"], "this \"one\"")
        self.assertGreater(found[unit], 0)
        self.assertEqual(os.listdir(self.folder), [])
        return found

    def test_every_job_is_in_this_file(self):
        done = run("--kind", "none")
        self.assertEqual(done.returncode, 2)
        kinds = done.stderr.split("Kinds:\n")[1].split("Packets:\n")[0]
        names = {word.strip(",") for line in kinds.splitlines() for word in line[:19].split()}
        source = pathlib.Path(__file__).read_text()
        self.assertGreater(len(names), 10)
        self.assertEqual([name for name in names if f'"{name}"' not in source], [])

    def test_sources_and_an_idle_worker(self):
        for kind in (["floor"], ["inline"], ["inline-idle"], ["capture", "--captures", "0"]):
            with self.subTest(kind):
                found = self.result("--kind", *kind)
                self.assertEqual(found["conditions"]["captures"], 0)
                self.assertEqual(found["conditions"]["source"], "net_ring")

    def test_frames_bursts_and_flows_can_be_chosen(self):
        for options in (["--imix"], ["--frame-bytes", "1396"], ["--burst", "8"], ["--flows", "1"],
                        ["--frames", "64", "--flows", "1000000"], ["--lists", "1000", "--flows", "20000"]):
            with self.subTest(options):
                self.result("--kind", "floor", *options)

    def searched(self, *options):
        """A result whose rate was searched; None on a machine so busy that no rate holds for milliseconds."""
        done = run(*options, *SECONDS, "--dir", self.folder, "--file-mb", "1")
        if done.returncode != 0:
            self.assertIn("There is no rate at which nothing is lost", done.stderr)
            return None
        return json.loads(done.stdout)

    def test_a_searched_rate_is_one_without_loss(self):
        for options in ([], ["--captures", "5"]):
            found = self.searched("--kind", "capture", *options)
            if found is not None:
                self.assertEqual(found["lost"], 0)
                self.assertGreater(found["conditions"]["recorded"], 0)
                self.assertIn("without loss", found["conditions"]["loop"])

    def test_captures(self):
        for options, n_wanted in ((["--drop"], 1), (["--drop", "--captures", "5"], 5), ([], 1),
                                  (["--captures", "5"], 5)):
            with self.subTest(options):
                found = self.result("--kind", "capture", "--closed", *options)
                c = found["conditions"]
                self.assertGreater(c["recorded"], 0)
                self.assertEqual(c["recorded"] + found["lost"] * n_wanted, c["received"] * n_wanted)
                self.assertEqual(c["loop"], "closed")

    def test_what_is_in_esp_is_recorded_all_of_it_and_it_alone(self):
        for options in (["gcm", "--frame-bytes", "252"], ["cbc", "--frame-bytes", "1396"],
                        ["gcm", "--frame-bytes", "9014", "--frames", "256"],
                        ["gcm", "--frame-bytes", "1396", "--verify-icv"],
                        ["cbc", "--frame-bytes", "300", "--verify-icv", "--sas", "1000"]):
            with self.subTest(options):
                found = self.result("--kind", "capture", "--closed", "--drop", "--esp", *options)
                c = found["conditions"]
                self.assertGreater(c["recorded"], 0)
                # Received are the frames and what was decrypted of them.
                self.assertEqual(2 * (c["recorded"] + found["lost"]), c["received"])

    def test_one_rule_and_lists_want_half(self):
        for name in ("one-rule", "lists"):
            with self.subTest(name):
                found = self.result("--kind", "capture", "--filter", name, "--closed", "--drop")
                c = found["conditions"]
                # Exactly half of each round of all frames.
                self.assertLess(abs(c["received"] - 2 * (c["recorded"] + found["lost"])), 4096)

    def test_reject_records_nothing(self):
        found = self.result("--kind", "capture", "--filter", "reject")
        self.assertEqual((found["conditions"]["recorded"], found["lost"]), (0, 0))

    def test_overload_balances(self):
        c = self.result("--kind", "overload", "--peak-mpps", "30")["conditions"]
        self.assertIs(c["ledger_balances"], True)
        self.assertEqual(c["received"], c["recorded"] + c["lost_ring"] + c["lost_disk"])
        self.assertGreater(c["lost_port"], 0)

    def test_overload_finds_its_peak(self):
        found = self.searched("--kind", "overload")
        if found is not None:
            self.assertGreater(found["conditions"]["peak_mpps"], 0)
            self.assertIs(found["conditions"]["ledger_balances"], True)

    def test_writer_loses_nothing(self):
        for more in ([], ["--spread"]):
            found = self.result("--kind", "writer", "--captures", "5", *more, unit="mrps")
            self.assertEqual(found["lost"], 0)

    def test_merge_loses_nothing(self):
        for n in ("1", "8"):
            found = self.result("--kind", "merge", "--rings", n, unit="mrps")
            self.assertEqual((found["lost"], found["conditions"]["rings"]), (0, int(n)))

    def test_two_writers_lose_nothing(self):
        for more in ([], ["--spread"]):
            found = self.result("--kind", "merge", "--captures", "5", "--writers", "2", *more, unit="mrps")
            self.assertEqual((found["lost"], found["conditions"]["writers"]), (0, 2))

    def test_lookups_find_what_they_should(self):
        # The job fails when an engine finds other packets than those in the lists.
        for kind in ("match", "acl", "cbpf"):
            with self.subTest(kind):
                c = self.result("--kind", kind, "--lists", "8")["conditions"]
                self.assertEqual([step["list_length"] for step in c["steps"]], [1, 2, 4, 8])
                self.assertEqual(c["list_length"], 8)

    def test_a_build_that_takes_too_long_is_ended(self):
        c = self.result("--kind", "cbpf", "--lists", "1000", "--limit-seconds", "0.2")["conditions"]
        self.assertLess(c["list_length"], 1000)
        self.assertIn("time", c["stopped_by"])

    def test_sas_are_found_each_by_its_packet(self):
        # The job fails when a packet finds another SA than its own.
        for kind in ("sa-find", "sad"):
            with self.subTest(kind):
                c = self.result("--kind", kind)["conditions"]
                self.assertEqual([step["sas"] for step in c["steps"]], [1, 10000])
                for step in c["steps"]:
                    self.assertGreater(step["cycles_per_packet"], 0)
                    self.assertGreater(step["bytes"], 0)

    def test_memory(self):
        self.result("--kind", "memory", unit="gb_per_second")

    def test_device_and_dumpcaps_primary(self):
        with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="gc-") as folder:
            pcap = f"{folder}/f.pcap"
            self.assertEqual(run("--kind", "frames", "--dir", pcap).returncode, 0)
            vdev = ["--vdev", f"net_pcap0,rx_pcap={pcap},infinite_rx=1"]
            found = self.result("--kind", "capture", "--device", "--closed", eal=["--no-shconf", *vdev])
            self.assertEqual(found["conditions"]["source"], "net_pcap infinite_rx")
            self.primary(vdev)

    def primary(self, vdev):
        prefix = f"gatecap-test-{os.getpid()}"
        self.addCleanup(shutil.rmtree, f"/var/run/dpdk/{prefix}", ignore_errors=True)
        process = subprocess.Popen([BENCH, *EAL, "--file-prefix", prefix, *vdev, "--", "--kind", "primary"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.assertEqual(process.stdout.readline(), "ready\n")
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0, err)
        self.assertGreaterEqual(float(out), 0)

    def test_impossible_options_are_refused(self):
        for options in (["--frames", "100"], ["--flows", "0"], ["--burst", "65"], ["--lists", "1001"],
                        ["--rings", "3"], ["--captures", "6"], ["--filter", "none"], ["--seconds", "x"],
                        ["--frame-bytes", "59"], ["more"]):
            with self.subTest(options):
                self.assertEqual(run("--kind", "floor", *options).returncode, 2)


@unittest.skipIf(os.cpu_count() < 2, "the bench wants two cores")
class Frames(unittest.TestCase):
    def frames(self, *options):
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/frames.pcap"
            done = run("--kind", "frames", "--dir", path, *options)
            self.assertEqual(done.returncode, 0, done.stderr)
            data = pathlib.Path(path).read_bytes()
        at, frames = 24, []
        while at < len(data):
            length = int.from_bytes(data[at + 8:at + 12], "little")
            frames.append(data[at + 16:at + 16 + length])
            at += 16 + length
        return frames

    def test_flows_are_as_many_as_asked_for(self):
        for n_frames, flows in ((4096, 4096), (4096, 1), (4096, 1000), (65536, 65536), (1 << 20, 1000000)):
            frames = self.frames("--frames", str(n_frames), "--flows", str(flows))
            self.assertEqual(len(frames), n_frames)
            self.assertEqual(len({five_tuple(f) for f in frames}), flows)
            self.assertEqual(len({five_tuple(f)[:2] for f in frames}), flows)

    def test_list_mix_has_distinct_flows(self):
        frames = self.frames("--lists", str(LIST_LENGTH))
        self.assertEqual(len({five_tuple(f) for f in frames}), 4096)

    def test_half_of_the_list_mix_is_listed_and_one_rule_says_the_same(self):
        def subnets(base):
            return {n for i in range(LIST_LENGTH)
                    for n in [ipaddress.ip_network((int(ipaddress.ip_address(base)) + i * 4096, 21 + i % 8))]}
        sources, destinations = subnets("10.0.0.0"), subnets("10.128.0.0")
        ports = {2000 + 17 * i for i in range(LIST_LENGTH)}
        one_rule = ipaddress.ip_network("10.0.0.0/11")

        def is_in(address, nets):
            return any(ipaddress.ip_network((address, length), strict=False) in nets for length in range(21, 29))

        n_listed = n_swapped = 0
        for frame in self.frames("--lists", str(LIST_LENGTH)):
            src, dst, sport, dport = (int.from_bytes(part, "big") for part in five_tuple(frame))
            as_written = is_in(src, sources) and is_in(dst, destinations) and dport in ports
            swapped = is_in(dst, sources) and is_in(src, destinations) and sport in ports
            is_one_rule = any(ipaddress.ip_address(a) in one_rule for a in (src, dst))
            self.assertEqual(as_written or swapped, is_one_rule)
            n_listed += as_written or swapped
            n_swapped += swapped
        self.assertEqual(n_listed, 2048)
        self.assertTrue(900 < n_swapped < 1150, n_swapped)

    def test_esp_is_what_tshark_decrypts(self):
        key = bytes(range(20)).hex()
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "esp.pcap")
            done = run("--kind", "frames", "--esp", "gcm", "--frame-bytes", "1396", "--frames", "64", "--dir", path)
            self.assertEqual(done.returncode, 0, done.stderr)
            sa = f'"IPv4","*","198.18.0.0","0x10000000","AES-GCM with 16 octet ICV [RFC4106]","0x{key}","NULL",""'
            done = subprocess.run(["tshark", "-n", "-r", path, "-o", "esp.enable_encryption_decode:TRUE",
                                   "-o", f"uat:esp_sa:{sa}", "-T", "fields", "-e", "ip.src", "-e", "frame.len"],
                                  check=True, capture_output=True, text=True)
        lines = done.stdout.splitlines()
        self.assertEqual(len(lines), 64)
        for i, line in enumerate(lines):
            self.assertEqual(line, f"192.0.2.1,10.1.{i >> 8}.{i & 255}\t1394")  # padded to 4 bytes

    def test_imix_is_seven_four_one(self):
        lengths = [len(f) for f in self.frames("--imix", "--frames", "4096")[:12]]
        self.assertEqual(sorted(lengths), [60] * 7 + [570] * 4 + [1514])


def line(name, unit="mpps", rate=1.0, cycles=100.0, lost=0, **conditions):
    return {"name": name, unit: rate, "cycles_per_packet": cycles, "lost": lost,
            "conditions": {"source": "net_ring", "frames": "60 bytes (64 with FCS)", "working_set": 4096,
                           "runs": 3, "spread": [rate * 0.9, rate * 1.1], "spread_cycles": [90, 110], **conditions}}


class Report(unittest.TestCase):
    def met(self, *results):
        return {g["what"].split(",")[0]: g["met"] for g in goals.judge(list(results)) if g["met"] is not None}

    def test_a_goal_is_met_at_its_limit(self):
        self.assertEqual(self.met(line("reject_64", rate=80.0)), {"reject_64": True})
        self.assertEqual(self.met(line("reject_64", rate=79.9)), {"reject_64": False})
        self.assertEqual(self.met(line("idle_64", cycles=105.0), line("floor_64")), {"idle_64 / floor_64": True})
        self.assertEqual(self.met(line("idle_64", cycles=105.2), line("floor_64")), {"idle_64 / floor_64": False})

    def test_a_rate_with_losses_meets_no_goal(self):
        self.assertEqual(self.met(line("capture_64", rate=50.0, lost=1)), {"capture_64": False})

    def test_an_overload_whose_books_do_not_balance_meets_no_goal(self):
        for balances in (True, False):
            found = self.met(line("overload_3x", rate=9.0, peak_mpps=10, ledger_balances=balances))
            self.assertEqual(found, {"overload_3x / rate without loss": balances})

    def test_what_was_not_measured_has_no_figure(self):
        self.assertEqual({g["value"] for g in goals.judge([])}, {None})

    def test_net_is_over_the_floor_of_the_same_frames(self):
        net = goals.net_cycles([line("floor_64", cycles=20.0), line("capture_64", cycles=70.0),
                                line("capture_64_64k", cycles=90.0, working_set=65536),
                                line("capture_imix", cycles=90.0, frames="IMIX 7x60 4x570 1x1514")])
        self.assertEqual(net, {"capture_64": 50.0})

    def report(self):
        return {"machine": {"cpu": "a <very> fast one & more", "cores": 2, "kernel": "6.1", "date": "2026-01-01"},
                "quick": False, "note": "No NIC is under these figures.",
                "results": [line(name, "mrps" if name.startswith(("merge", "writer")) else "mpps", 7.0 * (i + 1),
                                 list_length=64) for i, name in enumerate(lines.LINES)
                            if name != "memory_bandwidth"]}

    def test_charts_are_svg_whose_texts_do_not_meet(self):
        with tempfile.TemporaryDirectory() as folder:
            paths = plot.draw(self.report(), pathlib.Path(folder))
            self.assertEqual(len(paths), 3)
            for path in paths:
                root = xml.etree.ElementTree.fromstring(path.read_text())
                texts = [e for e in root if e.tag.endswith("}text")]
                self.assertIn("No NIC", " ".join(e.text for e in texts))
                self.assert_apart(texts, float(root.get("width")))

    def assert_apart(self, texts, width):
        rows = {}
        for e in texts:
            size, x = float(e.get("font-size")), float(e.get("x"))
            length = len(e.text) * size * 0.55
            left = x - length if e.get("text-anchor") == "end" else x
            self.assertTrue(0 <= left and left + length <= width, e.text)
            rows.setdefault(float(e.get("y")), []).append((left, left + length, e.text))
        for row in rows.values():
            row.sort()
            for a, b in zip(row, row[1:]):
                self.assertLessEqual(a[1], b[0], (a, b))
        ys = sorted(rows)
        self.assertTrue(all(b - a >= 12 for a, b in zip(ys, ys[1:])))

    def test_tools_bench_draws_a_saved_run_and_refuses_unknown_lines(self):
        with tempfile.TemporaryDirectory() as folder:
            saved = pathlib.Path(folder) / "run.json"
            saved.write_text(json.dumps(self.report()))
            tool = [sys.executable, str(ROOT / "tools" / "bench")]
            done = subprocess.run([*tool, "--plot", str(saved), "--plot-dir", folder], capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(len(list(pathlib.Path(folder).glob("*.svg"))), 3)
            done = subprocess.run([*tool, "capture_65"], capture_output=True, text=True)
            self.assertEqual(done.returncode, 2)
            self.assertIn("no such line", done.stderr)


if __name__ == "__main__":
    del sys.argv[1]
    unittest.main()
