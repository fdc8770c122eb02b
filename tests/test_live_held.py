#!/usr/bin/env python3
"""test_live_held.py - OpenVPN segments that the dataplane holds, in the books of captures that want them.

    test_live_held.py BIN_DIR GATECAPD_ASAN [unittest arguments]

A client comes to the port that OpenVPN shares with HTTPS every two seconds: every other one says nothing
more, the rest speak OpenVPN a little later. So for half the time one segment is held, and who misses one
sees the next. What has to stay as it is while it is looked at is looked at in a dataplane that is stopped.
"""
import contextlib
import json
import os
import signal
import struct
import time

from live import Appliance, Frame, Live, base_config, main, primed, read_pcap, until
from test_live_paused import time_ns

CLIENTS = 60
EVERY_NS = 2 * 10**9
ANSWER_NS = 5 * 10**8  # from SYN to payload
CLIENT, GATEWAY = bytes([203, 0, 113, 1]), bytes([203, 0, 113, 2])
SYN, PUSH_ACK = 2, 0x18
RESET = bytes([0, 14, 7 << 3]) + bytes(range(1, 14))  # a client's first packet, as it stands in TCP
OVPN = {"TracingFlags": 8}


def segment(at_ns, port, flags, payload=b""):
    tcp = struct.pack("!HHIIBBHHH", port, 443, 1, 0, 5 << 4, flags, 1024, 0, 0) + payload
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 0, 0, 64, 6, 0, CLIENT, GATEWAY)
    data = bytes.fromhex("0200000000010200000000020800") + ip + tcp
    return Frame(at_ns, data, len(data))


def clients():
    frames = []
    for n in range(CLIENTS):
        frames.append(segment(n * EVERY_NS, 40000 + n, SYN))
        if n % 2:
            frames.append(segment(n * EVERY_NS + ANSWER_NS, 40000 + n, PUSH_ACK, RESET))
    return frames


class Held(Live):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.config = base_config(wan=("outer", cls.file("clients.pcap", primed(clients(), 0.5))))

    def appliance(self):
        return self.enterContext(Appliance(self.config, asan=True))

    def counters(self, gw):
        """Of each capture, read in one go."""
        return {c["connection"]: c["counters"] for c in gw.get("/captures").json["captures"]}

    def balanced(self, books):
        self.assertEqual(books["received"], books["not_matched"] + sum(books["lost"].values()) +
                         books["in_flight"] + books["in_file"] + books["overwritten"])
        return books

    @contextlib.contextmanager
    def stopped_while_it_holds(self, gw):
        """The dataplane stands still with one segment held; gives the gateway's books. Kill it there."""
        def stopped():
            if self.counters(gw)[None]["in_flight"] == 0:
                return None
            os.kill(pid, signal.SIGSTOP)
            until(lambda: self.state_of(pid) == "T", "the dataplane stands still")
            books = self.counters(gw)[None]
            if books["in_flight"] == 1 and books["not_matched"] > 1:
                return books
            os.kill(pid, signal.SIGCONT)  # that one was just let go
            return None
        pid = gw.pid_of("gatecap-dataplane")
        books = until(stopped, "a segment is held")
        try:
            yield self.balanced(books)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def state_of(self, pid):
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            return stat.read().rpartition(")")[2].split()[0]

    def assert_lost_with_its_dataplane(self, report, seen_ns):
        """No class was found for it, so it is not in `received`; and the gap begins before it."""
        self.assert_books_balance(report)
        self.assertEqual(sum(report["classes"].values()), report["received"])
        self.assertFalse(report["exact"])
        self.assertEqual([g["cause"] for g in report["gaps"]], ["dataplane_down"])
        self.assertLessEqual(time_ns(report["gaps"][0]["from"]), seen_ns)

    def test_a_held_segment_is_in_flight_for_those_that_want_it_until_it_is_decided(self):
        gw = self.appliance()
        gw.start(filter_data=OVPN)
        gw.start("users", filter_data=OVPN)
        gw.start("site-a", filter_data=OVPN)  # the client is none of its peers
        def is_held():
            books = self.counters(gw)
            return books if books[None]["in_flight"] == books["users"]["in_flight"] == 1 else None
        books = until(is_held, "a segment is held")
        for name in (None, "users"):
            self.balanced(books[name])
            self.assertEqual(books[name]["not_matched"],
                             books[name]["received"] - books[name]["in_file"] - 1)
        self.assertEqual(books["site-a"]["in_flight"], 0)
        self.assertEqual(books["site-a"]["not_matched"], books["site-a"]["received"])
        # Of those that say nothing more, and of those that speak OpenVPN.
        for key in ("not_matched", "in_file"):
            before = books["users"][key]
            until(lambda: (lambda b: b[key] > before and b["in_flight"] == 0)(
                self.counters(gw)["users"]), f"a held segment is counted as {key}")
        for name in (None, "users", "site-a"):
            data, _ = gw.download(name)
            report = gw.report(name)
            self.assert_books_balance(report)
            self.assertTrue(report["exact"])
            self.assertEqual(len(read_pcap(data)), report["in_file"])
            self.assertEqual(sum(report["classes"].values()), report["received"])
            if name != "site-a":
                self.assertEqual(report["in_file"], report["classes"]["ovpn"])

    def test_what_a_killed_dataplane_held_is_not_in_the_books(self):
        gw = self.appliance()
        gw.start(filter_data=OVPN)
        with self.stopped_while_it_holds(gw) as books:
            seen_ns = time.time_ns()
        until(lambda: self.counters(gw)[None]["received"] > books["received"], "it goes on")
        gw.download()
        self.assert_lost_with_its_dataplane(gw.report(), seen_ns)

    def test_what_was_held_at_a_stop_that_the_dataplane_did_not_survive_is_a_gap(self):
        gw = self.appliance()
        gw.start(filter_data=OVPN)
        with self.stopped_while_it_holds(gw) as books:
            seen_ns = time.time_ns()
            gw.stop(download=True)
            self.assertEqual(gw.show()["state"], "Stopping")
        gw.wait_state(None, "Uploading")
        gw.fetch()
        self.assert_lost_with_its_dataplane(gw.report(), seen_ns)
        self.assertEqual(gw.report()["received"], books["received"] - 1)
        self.assertEqual(gw.report()["not_matched"], books["not_matched"])

    def test_what_was_held_when_gatecapd_ended_and_the_dataplane_died_is_not_in_the_books(self):
        gw = self.appliance()
        capture_id = gw.start(filter_data=OVPN)["id"]
        with self.stopped_while_it_holds(gw) as books:
            seen_ns = time.time_ns()
            old = gw.kill("gatecapd", signal.SIGTERM)  # it writes down what it knows
            until(lambda: gw.pid_of("gatecapd") not in (0, old), "the next gatecapd")
            with open(os.path.join(gw.state_dir, capture_id + ".capture"), encoding="utf-8") as text:
                written = json.load(text)["ports"][0]["last"]
            self.assertEqual(int(written[0]), books["received"] - 1)
        gw.wait_ready()
        gw.download()
        self.assert_lost_with_its_dataplane(gw.report(), seen_ns)


if __name__ == "__main__":
    main(__doc__)
