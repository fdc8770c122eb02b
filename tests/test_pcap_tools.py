#!/usr/bin/env python3
"""test_pcap_tools.py - the PCAPs that a power loss leaves are opened by every tool alike.

    test_pcap_tools.py TEST_POWER_LOSS

test_power_loss writes what it recovers from the images of a crash, each shape once, as NUMBER-RECORDS.pcap.
capinfos and tcpdump read all of them, tshark, which takes longer to start than to read, a sample.
A tool that is missing is said and its test skipped.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

TSHARK_FILES = 30
FILES_MIN = 40
BASE_NS, STEP_NS = 1000000, 10


class Tools(unittest.TestCase):
    program = None

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="gatecap-test-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        done = subprocess.run([cls.program], env={**os.environ, "GATECAP_IMAGES": cls.folder}, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=600)
        print(done.stdout)
        if done.returncode != 0:
            raise AssertionError(f"test_power_loss ended with {done.returncode}")
        cls.counts = {os.path.join(cls.folder, name): int(name.split("-")[1].split(".")[0])
                      for name in sorted(os.listdir(cls.folder))}
        print(f"{len(cls.counts)} PCAPs of {min(cls.counts.values())} to {max(cls.counts.values())} records")

    def run_tool(self, *command):
        """What it prints; there is nothing to complain about."""
        if shutil.which(command[0]) is None:
            self.skipTest(f"{command[0]} is not installed")
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout, done.stderr

    def test_there_are_many_shapes(self):
        self.assertGreater(len(self.counts), FILES_MIN)
        self.assertGreater(len(set(self.counts.values())), 10)

    def test_capinfos_counts_all_records_in_strict_order(self):
        # -c records, -o order; one line a file, without heads, between tabs
        out, err = self.run_tool("capinfos", "-T", "-r", "-B", "-c", "-o", *self.counts)
        self.assertEqual(err, "")
        lines = [line.split("\t") for line in out.splitlines()]
        self.assertEqual({name: n for name, n, _ in lines}, {p: str(n) for p, n in self.counts.items()})
        self.assertEqual({order for name, n, order in lines if n != "0"}, {"True"})

    def test_tcpdump_reads_all_records_in_order(self):
        for path, n in self.counts.items():
            out, err = self.run_tool("tcpdump", "-nn", "-q", "-tt", "--nano", "-r", path)
            self.assertRegex(err, r"^reading from file \S+, link-type EN10MB \(Ethernet\), snapshot length 1500\n$")
            times = [line.split()[0] for line in out.splitlines() if re.match(r"\d+\.\d{9} ", line)]
            self.assert_times(times, n)

    def test_tshark_reads_all_records_in_order(self):
        paths = list(self.counts)
        step = max(1, len(paths) // TSHARK_FILES)
        for path in paths[::step]:
            out, err = self.run_tool("tshark", "-n", "-r", path, "-T", "fields", "-e", "frame.time_epoch")
            # Said as root by some versions, and nothing else.
            self.assertEqual(re.sub(r"^Running as user .*\n", "", err), "")
            self.assert_times(out.splitlines(), self.counts[path])

    def assert_times(self, times, n):
        """As many as there are records, in order, none twice, and each is one that was recorded."""
        ns = [int(seconds) * 10**9 + int(rest) for seconds, rest in (t.split(".") for t in times)]
        self.assertEqual(len(ns), n)
        self.assertEqual(ns, sorted(set(ns)))
        self.assertTrue(all(t >= BASE_NS and (t - BASE_NS) % STEP_NS == 0 for t in ns))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    Tools.program = sys.argv.pop(1)
    unittest.main(verbosity=2)
