#!/usr/bin/env python3
"""test_live_paused.py - gatecapd stands still (SIGSTOP) for five seconds, and the dataplane goes on.

    test_live_paused.py BIN_DIR GATECAPD_ASAN [unittest arguments]

What was sent is known to the packet: each has a number, and all records are of one size, so a full ring
refuses one stretch of them and no more. While gatecapd stands still the dataplane's memory says how far
things are: nothing here is proved by sleeping.
"""
import calendar
import contextlib
import ipaddress
import mmap
import os
import signal
import struct
import time

import dp_control as dp
from live import (Appliance, Frame, Live, UnixConnection, assert_opens_clean, base_config, main,
                  read_pcap, scope_path, until)

PAUSE_SECONDS = 5
SECONDS = 13  # of traffic
RATE = 8000   # packets a second on each port
RING_BYTES = 1 << 20
SNAP = 60
RING_RECORDS = RING_BYTES // (24 + 64)  # a record's header, and its frame in steps of 8
FILTER = {"Filters": [{}], "MaxPacketBufferSize": SNAP}
NUMBER_AT = 14 + 20 + 4  # behind the SPI, or in the inner packet's payload
PEER, GATEWAY = "10.0.9.2", "203.0.113.2"
FLOWS = 8  # pairs of addresses: they spread over the queues


def frame(number, source, destination, protocol):
    """Ethernet, IPv4, four bytes, the number; 100 bytes in all."""
    payload = struct.pack("!II", 0x1000, number).ljust(66, b"\x55")
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), number & 0xffff, 0, 64, protocol, 0,
                         ipaddress.ip_address(source).packed, ipaddress.ip_address(destination).packed)
    return bytes.fromhex("0200000000010200000000020800") + header + payload


def outer_frames(seconds=SECONDS):
    """ESP of the peer and of others: of connection site-a every FLOWS-th."""
    peers = [PEER] + [f"10.0.8.{i}" for i in range(1, FLOWS)]
    return [Frame(i * 10**9 // RATE, frame(i, peers[i % FLOWS], GATEWAY, 50), 100)
            for i in range(seconds * RATE)]


def inner_frames(seconds=SECONDS):
    """Plain packets; of site-a's remote subnet every FLOWS-th."""
    hosts = ["10.1.0.9"] + [f"10.7.0.{i}" for i in range(1, FLOWS)]
    return [Frame(i * 10**9 // RATE, frame(i, hosts[i % FLOWS], "10.9.0.1", 17), 100)
            for i in range(seconds * RATE)]


def number_of(record):
    return struct.unpack_from("!I", record.data, NUMBER_AT)[0]


def time_ns(text):
    """Of "2026-11-24T05:00:00.123456789Z"."""
    return calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")) * 10**9 + int(text[20:29])


def holes(numbers, step=1, end=None):
    """Stretches that are missing from a sequence that should go up in steps: [(first, how many)]."""
    found, expected = [], numbers[0] % step
    for number in numbers + ([end] if end is not None else []):
        if number > expected:
            found.append((expected, (number - expected) // step))
        assert number >= expected, "a number twice, or out of order"
        expected = number + step
    return found


class Memory:
    """What the dataplane shows: its shared memory, found by its name among the process's files."""

    def __init__(self, pid):
        folder = f"/proc/{pid}/fd"
        path = next(os.path.join(folder, fd) for fd in os.listdir(folder)
                    if "gatecap-shared" in os.readlink(os.path.join(folder, fd)))
        fd = os.open(path, os.O_RDONLY)
        try:
            self.bytes = mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ)
        finally:
            os.close(fd)
        header = struct.unpack_from(dp.HEADER_FORMAT, self.bytes)
        self.n_workers, self.workers_offset, self.worker_bytes = header[2], header[7], header[8]

    def each(self, offset):
        """A counter of each worker's block; offsets: docs/formats.md."""
        return [struct.unpack_from("=Q", self.bytes, self.workers_offset + i * self.worker_bytes +
                                   offset)[0] for i in range(self.n_workers)]

    def ring_full(self):
        return self.each(912 + 8)

    def generation(self):
        return min(self.each(128))


class Paused(Live):
    """What both kinds of test have in common."""

    def config(self, n_workers=1, **ports):
        config = base_config(**ports)
        config["dataplane"].update(workers=n_workers, ring_bytes=RING_BYTES)
        config["captures"] = {"timestamps": "nano"}
        return config

    @contextlib.contextmanager
    def appliance(self, config):
        """An appliance whose processes are the same in the end, and of which nobody was missed."""
        with Appliance(config) as gw:
            pids = gw.pids()
            gw.memory = Memory(gw.pid_of("gatecap-dataplane"))
            yield gw
            self.assertEqual(gw.pids(), pids, "a process was started anew")
            for words in ("has gone", "is gone", "silent", "none of the protocol"):
                self.assertNotIn(words, gw.log())

    @contextlib.contextmanager
    def standing_still(self, gw):
        """gatecapd is stopped, and goes on at the end."""
        pid = gw.pid_of("gatecapd")
        os.kill(pid, signal.SIGSTOP)
        try:
            until(lambda: self.state_of(pid) == "T", "gatecapd stands still")
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def state_of(self, pid):
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            return stat.read().rpartition(")")[2].split()[0]

    def pause(self, gw):
        """Five seconds, and until every ring has refused something; gives begin and end, wall clock."""
        with self.standing_still(gw):
            begin = time.time_ns()
            refused = gw.memory.ring_full()
            until(lambda: time.time_ns() - begin >= PAUSE_SECONDS * 10**9 and
                  all(a > b for a, b in zip(gw.memory.ring_full(), refused)), "the rings are full")
            return begin, time.time_ns()

    def played(self, gw, scope=None):
        """Wait for the end of the files, stop, and give what was recorded and the report."""
        gw.wait_played()
        data, _ = gw.download(scope)
        path = self.file("out.pcap")
        with open(path, "wb") as out:
            out.write(data)
        assert_opens_clean(self, path)
        return read_pcap(data), gw.report(scope)

    def assert_exact(self, report, n_sent):
        self.assert_books_balance(report)
        self.assertEqual((report["exact"], report["gaps"]), (True, []))
        self.assertEqual(sum(report["classes"].values()), report["received"])
        self.assertEqual((report["received"], report["not_matched"]), (n_sent, 0))
        for cause in ("nic", "disk"):
            self.assertEqual(report["lost"][cause], 0)

    def assert_in_order(self, frames):
        self.assertTrue(all(a.time_ns <= b.time_ns for a, b in zip(frames, frames[1:])))


class One(Paused):
    """One worker, one port, one capture: the hole is known to the nanosecond."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.path = cls.file("outer.pcap", outer_frames())

    def one_port(self):
        return self.config(wan=("outer", self.path))

    def assert_one_hole(self, frames, report, begin, end):
        """Of one port and one worker: what is missing is one stretch, and its times are said."""
        numbers = [number_of(f) for f in frames]
        (first, n_lost), = holes(numbers, end=report["received"])
        self.assertEqual(report["lost"]["ring_full"], n_lost)
        self.assertEqual(len(frames), report["received"] - n_lost)
        start = frames[0].time_ns  # of packet 0
        for number, f in zip(numbers, frames):
            self.assertEqual(f.time_ns - start, number * 10**9 // RATE)
        self.assertEqual(time_ns(report["lost_first_time"]) - start, first * 10**9 // RATE)
        self.assertEqual(time_ns(report["lost_last_time"]) - start,
                         (first + n_lost - 1) * 10**9 // RATE)
        # Not before the ring was full, and no longer than gatecapd needs to wake up.
        n_kept = sum(1 for f in frames if begin <= f.time_ns < time_ns(report["lost_first_time"]))
        self.assertGreater(n_kept, RING_RECORDS * 3 // 4)
        self.assertLessEqual(n_kept, RING_RECORDS)
        self.assertLess(time_ns(report["lost_last_time"]), end + 10**9)

    def test_a_pause_loses_what_the_ring_cannot_hold_and_says_when(self):
        with self.appliance(self.one_port()) as gw:
            gw.start(filter_data=FILTER)
            gw.wait_recorded(RATE)
            begin, end = self.pause(gw)
            frames, report = self.played(gw)
        self.assert_exact(report, SECONDS * RATE)
        self.assert_in_order(frames)
        self.assert_one_hole(frames, report, begin, end)

    def test_a_pause_shorter_than_the_ring_loses_nothing(self):
        config = self.one_port()
        config["dataplane"]["ring_bytes"] = 8 * RING_BYTES
        with self.appliance(config) as gw:
            gw.start(filter_data=FILTER)
            gw.wait_recorded(RATE)
            with self.standing_still(gw):
                begin = time.monotonic()
                until(lambda: time.monotonic() - begin >= PAUSE_SECONDS, "the pause is over")
            frames, report = self.played(gw)
        self.assert_exact(report, SECONDS * RATE)
        self.assertEqual((report["lost"]["ring_full"], report["lost_first_time"]), (0, None))
        self.assertEqual([number_of(f) for f in frames], list(range(SECONDS * RATE)))

    def test_a_stop_sent_while_rings_are_full_ends_with_exact_books(self):
        with self.appliance(self.one_port()) as gw:
            gw.start(filter_data=FILTER)
            gw.wait_recorded(RATE)
            connection = UnixConnection(gw.socket)
            with self.standing_still(gw):
                until(lambda: min(gw.memory.ring_full()) > RATE, "the ring is full")
                connection.request("POST", scope_path(None) + "/stop", '{"download":true}')
            self.assertEqual(connection.getresponse().status, 202)
            connection.close()
            gw.wait_state(None, "Uploading")
            data, _ = gw.fetch()
            report = gw.report()
        numbers = [number_of(f) for f in read_pcap(data)]
        self.assert_exact(report, report["in_file"] + report["lost"]["ring_full"])
        missing = holes(numbers, end=report["received"])
        self.assertLessEqual(len(missing), 1)
        self.assertEqual(sum(n for _, n in missing), report["lost"]["ring_full"])
        self.assertLess(report["received"], SECONDS * RATE, "it ended before the file did")

    def test_a_pause_in_the_middle_of_a_stop_changes_nothing(self):
        with self.appliance(self.one_port()) as gw:
            gw.start(filter_data=FILTER)
            gw.wait_recorded(RATE)
            connection, generation = UnixConnection(gw.socket), gw.memory.generation()
            connection.request("POST", scope_path(None) + "/stop", '{"download":true}')
            # The set without the capture is in force, and whether gatecapd has heard is open.
            until(lambda: gw.memory.generation() > generation, "the end is in force", every=0)
            with self.standing_still(gw):
                begin = time.monotonic()
                self.assertGreater(gw.memory.generation(), generation)
                until(lambda: time.monotonic() - begin >= PAUSE_SECONDS, "the pause is over")
                self.assertEqual(gw.memory.ring_full(), [0], "nobody wants anything any more")
            self.assertEqual(connection.getresponse().status, 202)
            connection.close()
            gw.wait_state(None, "Uploading")
            data, _ = gw.fetch()
            report = gw.report()
        self.assert_exact(report, report["in_file"])
        self.assertEqual([number_of(f) for f in read_pcap(data)], list(range(report["received"])))

    def test_a_snapshot_that_is_being_read_survives_a_pause(self):
        with self.appliance(self.one_port()) as gw:
            gw.start(filter_data=FILTER)
            gw.wait_recorded(3 * RATE)
            connection = UnixConnection(gw.socket)
            connection.request("GET", scope_path(None) + "/snapshot")
            response = connection.getresponse()
            length, head = int(response.headers["Content-Length"]), response.read(1000)
            self.assertGreater(length, 3 * RATE * SNAP, "more than a socket holds")
            begin, end = self.pause(gw)
            data = head + response.read()
            connection.close()
            self.assertEqual(len(data), length)
            self.assertEqual([number_of(f) for f in read_pcap(data)],
                             list(range((length - 24) // (16 + SNAP))))
            frames, report = self.played(gw)
        self.assert_exact(report, SECONDS * RATE)
        self.assert_one_hole(frames, report, begin, end)


class Several(Paused):
    """Two workers, an outer and an inner port with two queues each, three captures."""

    SCOPES = {None: FILTER, "site-a": FILTER, "spare-1": FILTER}

    def two_ports(self):
        paths = [self.file("outer2.pcap", outer_frames()), self.file("inner2.pcap", inner_frames())]
        return self.config(2, wan=("outer", paths[0], {"queues": 2}),
                           lan=("inner", paths[1], {"queues": 2}))

    def test_every_port_of_every_capture_balances_after_a_pause(self):
        with self.appliance(self.two_ports()) as gw:
            for scope in ("spare-1", "site-a", None):
                gw.start(scope, filter_data=self.SCOPES[scope])
            gw.wait_recorded(RATE)
            self.pause(gw)
            results = {scope: self.played(gw, scope) for scope in self.SCOPES}
        for scope, (frames, report) in results.items():
            with self.subTest(scope=scope):
                self.check(scope, frames, report)
        self.assertEqual(results["spare-1"][1]["received"], 2 * SECONDS * RATE, "it saw the first")

    def check(self, scope, frames, report):
        self.assert_books_balance(report)
        self.assertEqual((report["exact"], report["gaps"]), (True, []))
        self.assertEqual(sum(report["classes"].values()), report["received"])
        self.assert_in_order(frames)
        by_port = {"wan": [f for f in frames if f.data[23] == 50],
                   "lan": [f for f in frames if f.data[23] == 17]}
        for port in report["ports"]:
            self.check_port(scope, by_port[port["name"]], port)
        if scope == "spare-1":
            self.assertEqual((report["in_file"], report["lost_first_time"]), (0, None))
        else:
            self.assertGreater(report["lost"]["ring_full"], RATE // FLOWS)
            self.assertLess(report["lost_first_time"], report["lost_last_time"])

    def check_port(self, scope, frames, port):
        """Each flow lies in one ring: it has one hole, and the holes are what the port has lost."""
        n_lost, flows = 0, {}
        for f in frames:
            flows.setdefault(number_of(f) % FLOWS, []).append(number_of(f))
        self.assertEqual(set(flows), {None: set(range(FLOWS)), "site-a": {0}, "spare-1": set()}[scope])
        n_missed = SECONDS * RATE - port["received"]  # sent before the capture was in force
        self.assertTrue(0 <= n_missed < RATE, n_missed)
        n_first = 0
        for flow, numbers in flows.items():
            missing = holes(numbers, FLOWS, SECONDS * RATE + flow)
            if missing and missing[0][0] == flow and n_missed > 0:
                n_first += missing.pop(0)[1]
            self.assertEqual(len(missing), 1, (flow, missing))
            n_lost += missing[0][1]
        self.assertEqual(port["lost"]["ring_full"], n_lost)
        if scope is None:
            self.assertEqual(n_first, n_missed)
            self.assertEqual(port["not_matched"], 0)


if __name__ == "__main__":
    main(__doc__)
