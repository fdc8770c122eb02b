"""A control process that means harm, against gatecap-dataplane.  Root, /usr/bin/python3.

usage: test_hostile_control.py GATECAP_DATAPLANE [unittest arguments]
After each attack the same is asked: the process is alive, every worker's heart beats and was never silent,
a good control process is served, packets are recorded, and no descriptor has been left open.
"""
import fcntl
import os
import random
import signal
import socket
import struct
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import dp_control as dp  # noqa: E402
from dp_control import Control, wait_for  # noqa: E402
from test_dataplane import RING_FULL, SEED, Dataplane, random_frames  # noqa: E402

WORKERS = 2
RING_BYTES = 1 << 20
SET_BYTES_MAX = 64 << 20
PUNCH_HOLE, KEEP_SIZE = 2, 1
MADV_REMOVE = 9
SERVED_S = 5  # generous for a loaded machine; what it guards against lasts for ever
U64 = 2**64


# ---- sets ----

def record(fmt, *values):
    return struct.pack("=" + fmt, *values)


def subnet(address, prefix_len):
    return record("16sBB2x", address, prefix_len, 6 if len(address) == 16 else 4)


def any_address():
    return record("16sBB2x", b"", 0, 0)


def full_set(generation, *, captures=None, filters=(), n_connections=0, peers=(), remotes=(), endpoints=(),
             subnets=b"", n_subnets=0, ports=()):
    """A set with whatever is given; the header's counts agree with it."""
    if captures is None:
        captures = [record("7I", 0, 1, dp.GATEWAY_WIDE, 11, 65535, 0, len(filters))]
    body = b"".join([*captures, *filters, record("I", 0) * n_connections, *peers, *remotes, *endpoints])
    body += subnets + record(f"{len(ports)}H", *ports)
    size = (56 + len(body) + 7) & ~7
    head = struct.pack("=IIQ9I4x", dp.SET_MAGIC, 1, generation, size, len(captures), len(filters),
                       n_connections, len(peers), len(remotes), len(endpoints), n_subnets, len(ports))
    return (head + body).ljust(size, b"\0")


def filter_record(src=(0, 0), dst=(0, 0), src_port=(0, 0), dst_port=(0, 0)):
    return record("8I8IIBBxx", *src, *dst, *src_port, *dst_port, *[0] * 8, 1, 0, 0)


def peer(connection, address, ports):
    return record("I", connection) + address + record("2I", *ports)


def one_of_everything(generation):
    v4, v6 = bytes([192, 0, 2, 0]), bytes.fromhex("20010db8") + bytes(12)
    return full_set(
        generation, filters=[filter_record((0, 2), (2, 1), (0, 2), (2, 1)), filter_record()],
        captures=[record("7I", 0, 1, dp.GATEWAY_WIDE, 11, 65535, 0, 2), record("7I", 3, 0, 0, 3, 1, 1, 1)],
        n_connections=2, peers=[peer(0, subnet(v4, 32), (3, 2)), peer(1, any_address(), (0, 0))],
        remotes=[record("I", 1) + subnet(v6, 48)], endpoints=[any_address() + record("HBB", 443, 6, 1)],
        subnets=subnet(v4, 24) + subnet(v6, 32) + subnet(v4, 25), n_subnets=3, ports=[80, 443, 53, 4500, 500])


def many_subnets(rng, n, long_every=1):
    """n subnets; of `long_every` one is a host, the others are ::/0."""
    one = bytearray(20 * n)
    for i in range(0, 16):
        one[i::20 * long_every] = rng.randbytes(len(range(i, 20 * n, 20 * long_every)))
    one[16::20 * long_every] = b"\x80" * len(range(16, 20 * n, 20 * long_every))
    one[17::20] = b"\6" * n
    return bytes(one)


# ---- descriptors ----

def lingering_socket():
    """A TCP socket whose last close() waits an hour for a peer that does not read; and the peer."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3600))
    one.setblocking(False)
    try:
        while True:
            one.send(bytes(65536))
    except BlockingIOError:
        return one, other


class Hostile(Dataplane):
    def setUp(self):
        super().setUp()
        self.rng = random.Random(SEED)
        self.start_pcap(random_frames(200), "--workers", str(WORKERS), "--ring-bytes", str(RING_BYTES),
                        options=f"queues={WORKERS},pace=fast,loops=0,start=boot,")
        self.generation = 0
        self.n_fds = self.count_fds()
        self.is_over = threading.Event()

    def count_fds(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def rss_bytes(self):
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * 4096

    def assert_unharmed(self):
        """A good control process is served, at once, and all is as it was."""
        self.assertIsNone(self.process.poll(), self.log_text())
        begin = time.monotonic()
        c = Control(self.path)
        try:
            c.hello()
            beats = [c.heartbeat(i) for i in range(WORKERS)]
            self.generation = max(self.generation, c.generation) + 1
            c.set(self.generation, ((0, 65535),))
            self.assertLess(time.monotonic() - begin, SERVED_S)
            for i in range(WORKERS):
                wait_for(lambda i=i: c.heartbeat(i) > beats[i], f"worker {i}'s heartbeat")
                head = c.head(i)
                wait_for(lambda i=i: c.write_tail(c.head(i), i) or c.head(i) > head, "records")
        finally:
            c.close()
        wait_for(lambda: self.count_fds() == self.n_fds, f"{self.n_fds} descriptors, not {self.count_fds()}")
        self.assertNotIn("has been silent", self.log_text())

    def in_background(self, work, *arguments):
        def loop():
            while not self.is_over.is_set():
                work(*arguments)
        thread = threading.Thread(target=loop)
        thread.start()

        def end():
            self.is_over.set()
            thread.join()
        self.addCleanup(end)
        return end

    # ---- messages ----

    def any_descriptor(self):
        kinds = [lambda: dp.memfd(dp.filter_set(self.generation + 1)), lambda: dp.memfd(b"x" * 100, 0),
                 lambda: os.open("/", os.O_RDONLY), lambda: os.open("/dev/zero", os.O_RDONLY),
                 lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).detach(),
                 lambda: os.eventfd(1), lambda: dp.memfd(dp.sa_set(self.generation + 1, [dp.sa(1, bytes(4), 0)])), lambda: dp.memfd(self.rng.randbytes(self.rng.randrange(300)))]
        return self.rng.choice(kinds)()

    def any_message(self):
        rng = self.rng
        kind = rng.randrange(11)
        if rng.random() < 0.15:
            return rng.randbytes(rng.randrange(1, 400))
        head = dp.header(kind, magic=dp.DP_MAGIC if rng.random() < 0.95 else rng.randrange(2**32),
                         version=dp.DP_VERSION if rng.random() < 0.95 else rng.randrange(2**16))
        size = {dp.HELLO: 0, dp.SET: 16, dp.SAS: 16}.get(kind, rng.randrange(300))
        if rng.random() < 0.2:
            size = rng.randrange(300)
        values = [rng.choice((0, 1, U64 - 1, 2**63, 100, 4096, SET_BYTES_MAX, rng.randrange(U64)))
                  for _ in range(2)]
        return head + (struct.pack("=QQ", *values) + rng.randbytes(300))[:size]

    def test_random_messages_with_random_descriptors(self):
        c = None
        for _ in range(1500):
            if c is None:
                c = Control(self.path)
                c.socket.settimeout(0.0005)
                if self.rng.random() < 0.6:
                    c.send(dp.header(dp.HELLO))
            fds = [self.any_descriptor() for _ in range(self.rng.choice((0, 0, 0, 1, 1, 1, 2, 4, 5, 9)))]
            try:
                c.send(self.any_message(), fds)
                _, _, got = c.receive()
                for fd in got:
                    os.close(fd)
            except TimeoutError:
                pass
            except OSError:
                c.close()
                c = None
            for fd in fds:
                os.close(fd)
            if c is not None and self.rng.random() < 0.1:
                c.close()
                c = None
        if c is not None:
            c.close()
        self.assert_unharmed()
        self.stop()

    def test_floods_of_messages_whose_answers_nobody_reads(self):
        messages = (dp.header(dp.HELLO), dp.header(dp.SET) + struct.pack("=QQ", 0, 8), b"x")

        def flood(message):
            c = Control(self.path)
            try:
                for _ in range(5000):
                    fds = [dp.memfd(b"12345678")] if message[6:8] == dp.header(dp.SET)[6:8] else []
                    try:
                        c.send(message, fds)
                    finally:
                        for fd in fds:
                            os.close(fd)
            except OSError:
                pass
            finally:
                c.close()

        ends = [self.in_background(flood, message) for message in messages]
        observer = None
        begin = time.monotonic()
        while time.monotonic() < begin + 2 or observer is None:  # let in between them, then left alone
            if observer is None:
                try:
                    observer = self.connect().hello()
                except (AssertionError, OSError):  # BUSY: one of them was first
                    self.assertLess(time.monotonic() - begin, dp.DEADLINE_S)
                    continue
            beats = [observer.heartbeat(i) for i in range(WORKERS)]
            wait_for(lambda: all(observer.heartbeat(i) > beats[i] for i in range(WORKERS)), "heartbeats")
        for end in ends:
            end()
        observer.set(observer.generation + 1)
        observer.close()
        self.assert_unharmed()
        self.stop()

    def test_it_ends_when_asked_to_also_in_a_flood(self):
        def flood():
            try:
                c = Control(self.path)
                for _ in range(1000):
                    c.send(dp.header(dp.HELLO))
                c.close()
            except OSError:
                pass
        ends = [self.in_background(flood) for _ in range(2)]
        time.sleep(0.2)
        self.stop()
        for end in ends:
            end()

    def test_connections_that_end_at_every_moment(self):
        data = dp.filter_set(1)
        hello, set_ = dp.header(dp.HELLO), dp.header(dp.SET) + struct.pack("=QQ", 0, len(data))
        for messages in ([], [hello], [hello, set_], [set_], [hello, hello, set_, set_]):
            for how in (socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR, None):
                c = Control(self.path)
                for message in messages:
                    fds = [dp.memfd(data)] if message is set_ else []
                    try:
                        c.send(message, fds)
                    except OSError:
                        pass
                    for fd in fds:
                        os.close(fd)
                try:
                    if how is not None:
                        c.socket.shutdown(how)
                except OSError:
                    pass
                if self.rng.random() < 0.5:  # the other half: while it still answers
                    time.sleep(0.002)
                c.close()
        self.assert_unharmed()
        self.stop()

    def test_silent_peers_keep_nobody_out(self):
        peers = []

        def more(n):
            for _ in range(n):
                peers.append(self.connect())
        more(8)
        self.assert_good_one_is_let_in()
        more(8)
        self.assert_good_one_is_let_in()
        good = self.connect().hello()
        more(100)  # nor do they drive out who is there
        good.set(self.generation + 1)
        good.set(self.generation + 2)
        for c in [*peers, good]:
            c.close()
        self.assert_unharmed()
        self.stop()

    def assert_good_one_is_let_in(self):
        c = Control(self.path)
        c.socket.settimeout(SERVED_S)
        c.hello()
        self.generation += 1
        c.set(self.generation)
        c.close()

    # ---- descriptors ----

    def test_sets_in_every_wrong_kind_of_descriptor(self):
        data = one_of_everything(1)
        all_seals = dp.SEAL_WRITE | dp.SEAL_SHRINK | dp.SEAL_GROW

        def shrunken():
            fd = dp.memfd(data, 0)
            self.addCleanup(os.close, os.dup(fd))
            os.ftruncate(fd, 8)
            return fd

        def pipe():
            out, into = os.pipe()
            os.write(into, data)
            os.close(into)
            return out

        kinds = {
            "unsealed": lambda: dp.memfd(data, 0), "shrunken": shrunken, "a pipe": pipe,
            "sealed but against writing": lambda: dp.memfd(data, dp.SEAL_SHRINK | dp.SEAL_GROW),
            "sealed but against shrinking": lambda: dp.memfd(data, dp.SEAL_WRITE | dp.SEAL_GROW),
            "sealed but against growing": lambda: dp.memfd(data, dp.SEAL_WRITE | dp.SEAL_SHRINK),
            "shorter than it says": lambda: dp.memfd(data[:-8], all_seals),
            "longer than it says": lambda: dp.memfd(data + bytes(8), all_seals),
            "a folder": lambda: os.open("/", os.O_RDONLY),
            "a socket": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).detach(),
            "an event": lambda: os.eventfd(0), "a device": lambda: os.open("/dev/zero", os.O_RDONLY),
            "a file of /proc": lambda: os.open("/proc/self/mem", os.O_RDONLY),
            "a path": lambda: os.open("/", os.O_PATH),
            "the dataplane's own rings": lambda: os.dup(c.shared_fd),
            "the dataplane's own tails": lambda: os.dup(c.tails_fd),
        }
        c = self.connect().hello()
        for _ in range(20):
            for name, make in kinds.items():
                text = c.refused(1, len(data), make())
                self.assertTrue(text.endswith("."), (name, text))
        for size in (0, 1, len(data) + 1, SET_BYTES_MAX + 1, 2**63, U64 - 1):
            c.refused(1, size, dp.memfd(data))
        c.close()
        self.assert_unharmed()
        self.stop()

    def test_descriptors_whose_closing_takes_an_hour(self):
        """More than one way in: of a message that is right, of one that is not, of one cut by the kernel,
        and of one that is never read."""
        set_ = dp.header(dp.SET) + struct.pack("=QQ", 1, 8)
        for n_fds, says_hello in ((1, True), (3, True), (1, False), (9, True), (9, False)):
            pairs = [lingering_socket() for _ in range(n_fds)]
            self.addCleanup(lambda pairs=pairs: [other.close() for _, other in pairs])
            c = Control(self.path)
            if says_hello:
                c.hello()
            os.kill(self.process.pid, signal.SIGSTOP)  # so that the last reference is not ours
            try:
                for _ in range(2):
                    c.send(set_, [one.fileno() for one, _ in pairs])
                for one, _ in pairs:
                    one.close()
                c.close()
            finally:
                os.kill(self.process.pid, signal.SIGCONT)
            self.assert_unharmed()
        self.stop()

    # ---- memory ----

    def test_shared_memory_is_written_by_nobody_else(self):
        c = self.connect().hello()
        before = c.shared[:4096]
        attempts = {
            "write": lambda: os.pwrite(c.shared_fd, b"x", 0),
            "shrink": lambda: os.ftruncate(c.shared_fd, 4096),
            "grow": lambda: os.ftruncate(c.shared_fd, c.shared_bytes + 4096),
            "shrink tails": lambda: os.ftruncate(c.tails_fd, 0),
            "grow tails": lambda: os.ftruncate(c.tails_fd, c.tails_bytes + 4096),
            "map": lambda: dp.mmap.mmap(c.shared_fd, 4096),
            "another seal": lambda: fcntl.fcntl(c.shared_fd, dp.F_ADD_SEALS, dp.SEAL_WRITE),
            "a hole": lambda: self.punch(c.shared_fd, 0, c.shared_bytes),
            "map after opening again": lambda: dp.mmap.mmap(
                os.open(f"/proc/self/fd/{c.shared_fd}", os.O_RDWR), 4096),
            "remove": lambda: self.libc_madvise(c),
        }
        for name, attempt in attempts.items():
            with self.assertRaises(OSError, msg=name):
                attempt()
        self.assertEqual(c.shared[:4096], before)
        c.close()
        self.assert_unharmed()
        self.stop()

    @staticmethod
    def punch(fd, offset, size):
        if LIBC.fallocate(fd, PUNCH_HOLE | KEEP_SIZE, ctypes.c_long(offset), ctypes.c_long(size)) != 0:
            raise OSError(ctypes.get_errno(), "fallocate")

    @staticmethod
    def libc_madvise(c):
        c.shared.madvise(MADV_REMOVE)

    def test_tails_that_lie_all_the_time(self):
        c = self.connect().hello()
        c.set(1, ((0, 65535),))
        rng = random.Random(SEED + 1)

        def lie():
            for worker in range(WORKERS):
                head = c.head(worker)
                c.write_tail(rng.choice((rng.randrange(U64), head, head + 8, head - 8, head - RING_BYTES,
                                         head - RING_BYTES - 8, head + RING_BYTES, 0, U64 - 1)), worker)
            if rng.random() < 0.01:
                self.punch(c.tails_fd, 0, c.tails_bytes)

        end = self.in_background(lie)
        seen = [c.head(i) for i in range(WORKERS)]
        for _ in range(20):
            received = [c.received(i) for i in range(WORKERS)]
            beats = [c.heartbeat(i) for i in range(WORKERS)]
            time.sleep(0.1)
            for i in range(WORKERS):
                wait_for(lambda i=i: c.received(i) > received[i], "packets")
                wait_for(lambda i=i: c.heartbeat(i) > beats[i], "a heartbeat")
        end()
        self.assertTrue(all(c.head(i) > seen[i] for i in range(WORKERS)), "some lies are believed")
        self.assertTrue(all(c.verdicts(i)[RING_FULL] for i in range(WORKERS)), "and most are not")
        c.close()
        self.assert_unharmed()
        self.stop()

    # ---- sets ----

    def test_a_set_with_any_byte_changed(self):
        c = self.connect().hello()
        n_applied = n_refused = 0
        for i in range(len(one_of_everything(0))):
            for change in (lambda b: 0, lambda b: 0xFF, lambda b: b ^ 1, lambda b: b ^ 0x80):
                data = bytearray(one_of_everything(c.generation + 1))
                data[i] = change(data[i])
                kind, _ = c.send_set(c.generation + 1, len(data), dp.memfd(bytes(data)))
                self.assertIn(kind, (dp.APPLIED, dp.REFUSED))
                if kind == dp.APPLIED:
                    c.generation += 1
                    n_applied += 1
                else:
                    n_refused += 1
        self.assertTrue(n_applied and n_refused, (n_applied, n_refused))
        c.close()
        self.assert_unharmed()
        self.stop()

    def refuse_large(self, data, n_bytes_max):
        c = self.connect().hello()
        before = self.rss_bytes()
        peak = [0]
        end = self.in_background(lambda: (peak.append(max(peak.pop(), self.rss_bytes())),
                                          time.sleep(0.005)))
        beats = [c.heartbeat(i) for i in range(WORKERS)]
        c.socket.settimeout(60)
        text = c.refused(self.generation + 1, len(data), dp.memfd(data))
        end()
        self.is_over.clear()
        self.assertIn("shorter", text)
        self.assertLess(peak[0] - before, n_bytes_max)
        self.assertTrue(all(c.heartbeat(i) > beats[i] for i in range(WORKERS)))
        c.close()
        self.assert_unharmed()

    def test_sets_that_would_take_all_memory_or_all_time_are_refused(self):
        n = (SET_BYTES_MAX - 4096) // 20
        every = filter_record((0, n), (0, n))
        hosts = many_subnets(self.rng, n)
        self.refuse_large(full_set(self.generation + 1, filters=[every] * 3, subnets=hosts, n_subnets=n),
                          2 << 30)
        # Few hosts, and the whole network over them, again and again.
        n = 500_000
        layers = many_subnets(self.rng, n, 10)
        self.refuse_large(full_set(self.generation + 1, filters=[filter_record((0, n))], subnets=layers,
                                   n_subnets=n), 1 << 30)
        self.stop()

    def test_peers_that_would_hold_a_worker_up_are_refused(self):
        v4 = subnet(bytes([10, 0, 0, 1]), 32)
        captures = [record("7I", 0, 1, 0, 11, 65535, 0, 0)]
        ports = list(range(1, 66))
        good = [peer(0, v4, (0, 64))]
        c = self.connect().hello()

        def set_of(peers):
            return full_set(c.generation + 1, captures=captures, n_connections=1, peers=peers, ports=ports)
        for peers in (good * 8193, [peer(0, v4, (0, 65))]):
            data = set_of(peers)
            c.refused(c.generation + 1, len(data), dp.memfd(data))
        data = set_of(good * 8192)
        kind, _ = c.send_set(c.generation + 1, len(data), dp.memfd(data))
        self.assertEqual(kind, dp.APPLIED)
        for i in range(WORKERS):
            beat = c.heartbeat(i)
            wait_for(lambda i=i, b=beat: c.heartbeat(i) > b + 2, "heartbeats")
        c.close()
        self.assert_unharmed()
        self.stop()


if __name__ == "__main__":
    import ctypes

    if os.geteuid() != 0:
        print("SKIP: needs root")
        sys.exit(77)
    LIBC = ctypes.CDLL(None, use_errno=True)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    print(f"SEED={SEED}", flush=True)
    unittest.main(verbosity=2)
