"""Keys in gatecap-dataplane: how they come, and that they go.  Root, /usr/bin/python3.

usage: test_dataplane_keys.py GATECAP_DATAPLANE [unittest arguments]
"""
import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import dp_control as dp  # noqa: E402
from dp_control import wait_for  # noqa: E402
from test_dataplane import SEED, Dataplane, random_frames  # noqa: E402


class Keys(Dataplane):
    """Sets of SAs."""

    KEYS = [b"OldKeyOldKeyOldKey%02d" % i for i in range(5)]  # 16 of them and a salt

    def sas(self, tag=b"Old"):
        return [dp.sa(100 + i, bytes([192, 0, 2, i]), i, enc_key=key.replace(b"Old", tag))
                for i, key in enumerate(self.KEYS)]

    def is_in_memory(self, secret):
        """Of the dataplane, in any mapping that can be read."""
        with open(f"/proc/{self.process.pid}/maps", encoding="ascii") as maps, \
                open(f"/proc/{self.process.pid}/mem", "rb", 0) as mem:
            for line in maps:
                start, end = (int(word, 16) for word in line.split()[0].split("-"))
                if line.split()[1][0] != "r" or line.rstrip().endswith(("[vvar]", "[vsyscall]", "[vvar_vclock]")):
                    continue
                for at in range(start, end, 1 << 24):
                    try:
                        data = os.pread(mem.fileno(), min(end - at, (1 << 24) + 64), at)
                    except OSError:  # reserved, and not there
                        continue
                    if secret in data:
                        return True
        return False

    def test_every_worker_uses_the_sas_and_they_outlive_their_sender(self):
        self.start_pcap(random_frames(3), "--workers", "2", "--ring-bytes", str(1 << 20))
        c = self.connect().hello()
        self.assertEqual((c.generation, c.sa_generation), (0, 0))
        c.set(5)
        c.set_sas(3, self.sas())
        self.assertEqual([c.sa_generation_in_use(i) for i in range(2)], [3, 3])
        c.set(6)  # the one has nothing to do with the other
        c.set_sas(4)
        c.close()
        wait_for(lambda: "has gone" in self.log_text(), "the end of the control process")
        c = self.connect().hello()
        self.assertEqual((c.generation, c.sa_generation), (6, 4))
        self.assertNotIn("cannot be locked", self.log_text())  # behind the system-call filter, too
        self.stop()

    def test_keys_are_in_memory_while_they_are_in_use_and_no_longer(self):
        self.start_pcap(random_frames(3), "--ring-bytes", str(1 << 20))
        c = self.connect().hello()
        self.assertFalse(self.is_in_memory(self.KEYS[0][:16]))
        c.set_sas(1, self.sas())
        self.assertTrue(self.is_in_memory(self.KEYS[0][:16]))
        c.set_sas(2, self.sas(b"New"))
        self.assertFalse(self.is_in_memory(b"OldKey"))
        data = dp.sa_set(3, [*self.sas(b"Bad"), dp.sa(1, bytes(4), 0)])  # slot 0 twice
        self.assertIn("slot", c.refused(3, len(data), dp.memfd(data), kind=dp.SAS))
        self.assertFalse(self.is_in_memory(b"BadKey"))
        self.assertTrue(self.is_in_memory(b"NewKey"))
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            locked_kb = int(next(line for line in status if line.startswith("VmLck")).split()[1])
        self.assertGreater(locked_kb, 0)
        self.assertNotIn("Key", self.log_text().replace("Keys", ""))
        self.stop()

    def test_ten_thousand_sas_replace_ten_thousand(self):
        self.start_pcap(random_frames(3), "--ring-bytes", str(1 << 20))
        c = self.connect().hello()
        for generation in (1, 2):
            c.set_sas(generation, [dp.sa(7 * i, i.to_bytes(4, "big"), i) for i in range(dp.SA_MAX)])
        self.check_alive(c)
        self.assertNotIn("silent", self.log_text())
        self.stop()


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("SKIP: needs root")
        sys.exit(77)
    print(f"SEED={SEED}", flush=True)
    unittest.main(verbosity=2)
