#!/usr/bin/env python3
"""test_costs.py - the cost table: its arithmetic, and, with the program of a build that counts, its stages.

Run: test_costs.py [GATECAP_COSTS]   (two cores; no huge pages)
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tools" / "costs.d"))
import tables  # noqa: E402

PROGRAM = sys.argv.pop(1) if len(sys.argv) > 1 and os.path.exists(sys.argv[1]) else None
RATES = {"16 KiB": 64, "256 KiB": 32, "4 MiB": 16, "128 MiB": 8}
MACHINE = {"gb_per_second": {"read": RATES, "write": {size: rate / 2 for size, rate in RATES.items()},
                              "stream": {size: rate / 2 for size, rate in RATES.items()}},
           "latency_ns": dict.fromkeys(RATES, 1.0), "ghz": 2}
RUN = {"worker": {"rx": 10, "inner": 20, "record": 15, "books": 2, "return": 3},
       "writer": {"store": 50, "write": 30, "commit": 1}, "merging": {"merge": 20, "commit": 0.1}}
REJECT = {"worker": {"rx": 10, "inner": 20, "record": 0, "books": 2, "return": 8}, "writer": {}, "merging": {}}
FOUND = {"machine": MACHINE, "64/64/1000": RUN, "1400/64/1000": RUN, "imix/64/1000": RUN, "reject/64/1000": REJECT}
PLENTY = tables.Assumed(memory=1000, disk=3, file_mb=100)


class Arithmetic(unittest.TestCase):
    def test_the_wire_offers_what_is_known_of_it(self):
        self.assertAlmostEqual(tables.offered_mpps(100, [60]), 148.8, 1)
        self.assertAlmostEqual(tables.offered_mpps(400, [1514]), 32.5, 1)

    def test_a_floor_is_lines_at_their_rate_without_the_first_cache(self):
        lines = {("read", "L1"): 100, ("read", "memory"): 1, ("write", "memory"): 2, ("read", "L3"): 0.5}
        self.assertAlmostEqual(tables.floor_of(lines, MACHINE), 2 * 64 * (1 / 8 + 2 / 4 + 0.5 / 16))

    def test_a_record_is_as_long_as_the_ring_has_it(self):
        self.assertEqual(tables.record_bytes(60), 88)
        self.assertEqual(tables.record_bytes(1514), 144)
        self.assertEqual(tables.stored_bytes(1514), 136)

    def test_storing_is_what_is_more_than_merging(self):
        costs = tables.costs_of(FOUND, "64/64/1000")
        self.assertEqual((costs["merge"], costs["store"]), (20, 30))
        self.assertEqual(tables.writer_cycles(costs), 20 + 30 + 30 + 1)
        self.assertEqual(tables.worker_cycles(costs), 50)

    def test_a_median_is_taken_of_each_figure(self):
        runs = [{"a": {"b": 1}, "c": 9}, {"a": {"b": 5}, "c": 1}, {"a": {"b": 2}, "c": 2}]
        self.assertEqual(tables.median(runs), {"a": {"b": 2}, "c": 2})

    def test_a_spread_is_of_worker_and_writer_as_a_whole(self):
        slow = {**RUN, "writer": {**RUN["writer"], "store": 80}}
        self.assertEqual(tables.spread([RUN, slow]), {"worker": [50, 50], "writer": [81, 111]})
        self.assertEqual(tables.spread([MACHINE]), {})


class Prediction(unittest.TestCase):
    def test_workers_add_up_and_the_writer_is_one(self):
        mpps = tables.limits(FOUND, "64", 100, 1, PLENTY)
        self.assertEqual((mpps["8 workers"], mpps["32 workers"]), (8 * 2000 / 50, 32 * 2000 / 50))
        self.assertAlmostEqual(mpps["writer"], 2000 / 81)
        self.assertEqual(tables.ends_first(mpps, 8, 148.8), "writer (25)")

    def test_who_records_little_pays_for_what_is_rejected(self):
        mpps = tables.limits(FOUND, "64", 400, 0.1, PLENTY)
        self.assertAlmostEqual(mpps["8 workers"], 8 * 2000 / (0.1 * 50 + 0.9 * 40))
        self.assertAlmostEqual(mpps["writer"], 10 * 2000 / 81)

    def test_short_memory_ends_first(self):
        mpps = tables.limits(FOUND, "64", 100, 1, PLENTY._replace(memory=4))
        self.assertAlmostEqual(mpps["memory"], 4000 / (3 * 88 + 76))
        self.assertEqual(tables.ends_first(mpps, 16, 148.8), "memory (12)")

    def test_a_disk_ends_first_only_if_a_sync_brings_more_than_it_takes(self):
        self.assertEqual(tables.limits(FOUND, "64", 100, 1, PLENTY)["disk"], float("inf"))
        mpps = tables.limits(FOUND, "64", 100, 1, PLENTY._replace(disk=0.05))
        self.assertAlmostEqual(mpps["disk"], 50 / 76)

    def test_a_slow_link_ends_before_everything(self):
        mpps = tables.limits(FOUND, "1400", 100, 1, PLENTY)
        self.assertEqual(tables.ends_first(mpps, 8, 8.8), "none")


@unittest.skipIf(PROGRAM is None, "there is no program of a build with -Dcosts=true")
@unittest.skipIf(os.cpu_count() < 2, "worker and writer need a core each")
class Program(unittest.TestCase):
    def run_program(self, *options):
        with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="gatecap-costs-") as folder:
            done = subprocess.run([PROGRAM, "--no-huge", "-m", "256", "--lcores", "0@0,1@1", "--no-pci",
                                   "--no-telemetry", "--no-shconf", "--log-level",
                                   "error", "--", "--dir", folder,
                                   "--seconds", "0.2", *options], capture_output=True, text=True, check=False)
            self.assertEqual(os.listdir(folder), [])
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout.splitlines()[-1])

    def test_each_stage_of_inner_packets_has_its_cycles(self):
        found = self.run_program()
        self.assertEqual(set(found["worker"]), {"rx", "inner", "record", "books", "return"})
        self.assertEqual(set(found["writer"]), {"store", "write", "commit"})
        self.assertGreater(found["merging"]["merge"], 0)
        self.assertTrue(all(cycles > 0 for cycles in found["worker"].values()))
        self.assertGreater(found["records"], 0)

    def test_each_stage_of_outer_packets_has_its_cycles(self):
        found = self.run_program("--outer", "--burst", "8")
        self.assertEqual(set(found["worker"]), {"rx", "classify", "match", "record", "books", "return"})

    def test_what_is_rejected_reaches_no_writer(self):
        found = self.run_program("--reject", "--flows", "100000")
        self.assertEqual((found["records"], found["writer"]), (0, {}))
        self.assertGreater(found["packets"], 0)

    def test_caches_are_faster_than_memory(self):
        found = self.run_program("--machine")
        for kind, rates in found["gb_per_second"].items():
            if kind != "stream":  # which goes to memory in any case
                self.assertGreater(rates["16 KiB"], rates["128 MiB"])
        self.assertLess(found["latency_ns"]["16 KiB"], found["latency_ns"]["128 MiB"])


if __name__ == "__main__":
    unittest.main()
