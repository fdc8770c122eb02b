"""gatecap-dataplane from outside: the socket, the rings, each kind of port.  Root, /usr/bin/python3.

usage: test_dataplane.py GATECAP_DATAPLANE [unittest arguments]
Everything it makes has this process's pid in its name and is removed at the end, whatever happens.
"""
import fcntl
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import dp_control as dp  # noqa: E402
from dp_control import Control, wait_for  # noqa: E402

PROGRAM = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 else ""
RECORDED, RING_FULL = 0, 1
CLASS_ESP = 1
LOOP_CAPS = 1 << 12 | 1 << 13 | 1 << 14 | 1 << 39  # NET_ADMIN, NET_RAW, IPC_LOCK, BPF
SEED = int(os.environ.get("SEED", random.SystemRandom().randrange(2**32)))


def esp_frame(rng, src, dst, n, fragment=0, ident=None):
    """An Ethernet frame with ESP between two hosts of 192.0.2.0/24, n bytes behind the IP header."""
    payload = rng.randbytes(n)
    ident = rng.randrange(65536) if ident is None else ident
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + n, ident, fragment, 64, 50, 0,
                     bytes([192, 0, 2, src]), bytes([192, 0, 2, dst]))
    total = sum(struct.unpack("!10H", ip))
    total = (total & 0xFFFF) + (total >> 16)
    ip = ip[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + ip[12:]
    return bytes.fromhex("020000000002" "020000000001" "0800") + ip + payload


def esp_fragments(rng, src, dst):
    """Three frames: one IPv4 packet in fragments of 1480 bytes, the last shorter."""
    ident = rng.randrange(65536)
    return [esp_frame(rng, src, dst, 1480, 0x2000, ident),
            esp_frame(rng, src, dst, 1480, 0x2000 | 1480 // 8, ident),
            esp_frame(rng, src, dst, 8 * rng.randrange(5, 100), 2960 // 8, ident)]


def esp6_frame(rng, src, dst, n):
    """The same over IPv6, between hosts of 2001:db8::/32."""
    hosts = [bytes.fromhex("20010db8") + bytes(11) + bytes([host]) for host in (src, dst)]
    return (bytes.fromhex("020000000002" "020000000001" "86dd" "60000000")
            + struct.pack("!HBB", n, 50, 64) + b"".join(hosts) + rng.randbytes(n))


def tagged(frame, *tags):
    """The frame with VLAN tags, outermost first: (TPID, TCI)."""
    return frame[:12] + b"".join(struct.pack("!HH", *tag) for tag in tags) + frame[12:]


def write_pcap(path, frames):
    """(time_ns, frame, wire_len) in a nanosecond pcap file."""
    with open(path, "wb") as f:
        f.write(struct.pack("=IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1))
        for time_ns, frame, wire_len in frames:
            f.write(struct.pack("=IIII", time_ns // 10**9, time_ns % 10**9, len(frame), wire_len))
            f.write(frame)


def random_frames(n, gap_ns=100_000):
    rng = random.Random(SEED)
    frames, time_ns = [], 1_700_000_000 * 10**9 + 123
    for _ in range(n):
        frame = esp_frame(rng, rng.randrange(1, 9), rng.randrange(11, 19), rng.randrange(40, 1400))
        if rng.random() < 0.5:  # the other direction
            frame = frame[:26] + frame[30:34] + frame[26:30] + frame[34:]
        frames.append((time_ns, frame, len(frame) + (rng.randrange(500) if rng.random() < 0.1 else 0)))
        time_ns += rng.randrange(1, 2 * gap_ns)
    return frames


class Dataplane(unittest.TestCase):
    PREFIX = []

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix=f"gatecap-test-{os.getpid()}-")
        self.addCleanup(shutil.rmtree, self.folder)
        os.chmod(self.folder, 0o755)
        self.path = os.path.join(self.folder, "dp.sock")
        self.process = None
        self.addCleanup(self.kill)

    def start(self, *arguments):
        self.log = open(os.path.join(self.folder, "log"), "ab+")
        self.addCleanup(self.log.close)
        n_before = self.log_text().count("control at")
        self.process = subprocess.Popen(
            [*self.PREFIX, PROGRAM, "--socket", self.path, "--idle", "sleep", *arguments],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        wait_for(lambda: self.log_text().count("control at") > n_before
                 or self.process.poll() is not None, "the start")
        self.assertIsNone(self.process.poll(), self.log_text())

    def start_pcap(self, frames, *arguments, options=""):
        file = os.path.join(self.folder, "in,put.pcap")  # a comma: source= takes the rest
        write_pcap(file, frames)
        self.start(*arguments, "--port", f"name=wan,{options}source=pcap:{file}")

    def log_text(self):
        self.log.seek(0)
        return self.log.read().decode()

    def kill(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
        if self.process is not None:
            self.process.wait()

    def stop(self):
        self.process.terminate()
        self.assertEqual(self.process.wait(dp.DEADLINE_S), 0, self.log_text())
        self.assertFalse(os.path.exists(self.path))

    def connect(self):
        control = Control(self.path)
        self.addCleanup(control.close)
        return control

    def check_alive(self, control=None):
        self.assertIsNone(self.process.poll(), self.log_text())
        control = control or self.connect().hello()
        beat = control.heartbeat()
        wait_for(lambda: control.heartbeat() > beat, "a heartbeat")
        return control


class Protocol(Dataplane):
    def test_welcome_brings_sealed_memory_that_control_cannot_write(self):
        self.start_pcap(random_frames(3), "--workers", "2", "--ring-bytes", str(1 << 20))
        c = self.connect().hello()
        self.assertEqual((c.magic, c.version, c.n_workers, c.n_ports), (dp.SHARED_MAGIC, dp.SHARED_VERSION, 2, 1))
        self.assertEqual((c.generation, c.total_bytes), (0, c.shared_bytes))
        self.assertEqual(os.fstat(c.shared_fd).st_size, c.shared_bytes)
        self.assertEqual(fcntl.fcntl(c.shared_fd, dp.F_GET_SEALS),
                         dp.SEAL_SEAL | dp.SEAL_SHRINK | dp.SEAL_GROW | dp.SEAL_FUTURE_WRITE)
        self.assertEqual(fcntl.fcntl(c.tails_fd, dp.F_GET_SEALS),
                         dp.SEAL_SEAL | dp.SEAL_SHRINK | dp.SEAL_GROW)
        with self.assertRaises(PermissionError):
            dp.mmap.mmap(c.shared_fd, 4096)
        with self.assertRaises(PermissionError):
            os.pwrite(c.shared_fd, b"x", 0)
        port = c.port(0)
        self.assertEqual((port["name"], port["role"], port["n_queues"], port["done"]), ("wan", 0, 1, 0))
        self.stop()

    def test_wrong_messages_close_the_connection_and_nothing_else(self):
        self.start_pcap(random_frames(3))
        data = dp.filter_set(1)
        messages = [
            (dp.header(dp.HELLO, version=1), 0), (dp.header(dp.HELLO, version=3), 0), (dp.header(dp.HELLO, magic=1), 0),
            (dp.header(dp.HELLO) + b"x", 0), (dp.header(dp.HELLO)[:7], 0), (b"x", 0),
            (dp.header(dp.HELLO), 1), (dp.header(99), 0), (dp.header(dp.WELCOME), 0),
            (dp.header(dp.SET) + struct.pack("=QQ", 1, len(data)), 1),  # before HELLO
            (b"\0" * 5000, 0), (dp.header(dp.HELLO), 9),
        ]
        for message, n_fds in messages:
            c = self.connect()
            fds = [dp.memfd(data) for _ in range(n_fds)]
            c.send(message, fds)
            self.assertEqual(c.receive()[0], 0, (message[:32], n_fds))
            for fd in fds:
                os.close(fd)
        for n_fds in (0, 2):  # a SET brings exactly one descriptor
            c = self.connect().hello()
            kind, _ = c.send_set(1, len(data), *[dp.memfd(data) for _ in range(n_fds)])
            self.assertEqual(kind, 0)
        n_open = len(os.listdir(f"/proc/{self.process.pid}/fd"))
        c = self.check_alive()
        self.assertLessEqual(n_open, len(os.listdir(f"/proc/{self.process.pid}/fd")))
        c.set(1)
        self.stop()

    def test_sets_that_do_not_hold_are_refused_with_a_sentence(self):
        self.start_pcap(random_frames(3))
        c = self.connect().hello()
        data = dp.filter_set(1)
        pipe_out, pipe_in = os.pipe()
        self.addCleanup(os.close, pipe_in)
        cases = {
            "unsealed": (1, len(data), dp.memfd(data, 0)),
            "not sealed against writing": (1, len(data), dp.memfd(data, dp.SEAL_SHRINK | dp.SEAL_GROW)),
            "a pipe": (1, len(data), pipe_out),
            "short": (1, len(data), dp.memfd(data[:-8])),
            "long": (1, len(data), dp.memfd(data + b"\0" * 8)),
            "empty": (1, 0, dp.memfd(b"")),
            "too large": (1, (64 << 20) + 8, dp.memfd(b"")),
            "garbage": (1, 4096, dp.memfd(random.Random(SEED).randbytes(4096))),
            "other generation": (2, len(data), dp.memfd(data)),
            "generation 0": (0, len(data), dp.memfd(dp.filter_set(0))),
        }
        for name, case in cases.items():
            text = c.refused(*case)
            self.assertTrue(text.endswith("."), (name, text))
        for _ in range(200):  # any byte of a set may lie
            broken = bytearray(data)
            broken[random.randrange(len(data))] ^= 1 << random.randrange(8)
            if broken[8:16] == data[8:16]:
                kind, _ = c.send_set(c.generation + 1, len(broken), dp.memfd(bytes(broken)))
                self.assertIn(kind, (dp.APPLIED, dp.REFUSED))
                if kind == dp.APPLIED:
                    break
        c.set(10)
        self.assertIn("10", c.refused(10, len(data), dp.memfd(dp.filter_set(10))))
        c.set(11)
        self.assertEqual(self.connect_after(c).hello().generation, 11)
        self.stop()

    def connect_after(self, control):
        control.close()
        wait_for(lambda: "has gone" in self.log_text(), "the end of the control process")
        return self.connect()

    def test_other_users_are_turned_away_by_their_uid(self):
        self.start_pcap(random_frames(3), "--control-uid", "65533")
        self.assertEqual((os.stat(self.path).st_uid, os.stat(self.path).st_mode & 0o777), (65533, 0o600))
        os.chmod(self.path, 0o777)  # so that only SO_PEERCRED is left to say no
        for uid, wanted in ((65534, 0), (65533, dp.WELCOME)):
            pid = os.fork()
            if pid == 0:
                os.setuid(uid)
                c = Control(self.path)
                try:
                    c.send(dp.header(dp.HELLO))
                    kind = c.receive()[0]
                except OSError:
                    kind = 0
                os._exit(kind)
            self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), wanted)
        self.check_alive()
        self.stop()

    def test_second_control_is_told_who_is_first(self):
        self.start_pcap(random_frames(3))
        first = self.connect().hello()
        second = self.connect()
        second.send(dp.header(dp.HELLO))
        kind, body, fds = second.receive()
        self.assertEqual((kind, struct.unpack("=II", body)[0], fds), (dp.BUSY, os.getpid(), []))
        self.assertEqual(second.receive()[0], 0)
        first.set(1)
        self.check_alive(first)
        self.stop()

    def test_killed_control_changes_nothing_and_the_next_goes_on(self):
        frames = random_frames(50)
        self.start_pcap(frames, options="pace=fast,")
        pid = os.fork()
        if pid == 0:
            c = Control(self.path).hello()
            c.set(7, ((0, 65535),))
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(pid, 0)
        wait_for(lambda: "has gone" in self.log_text(), "the end of the control process")
        c = self.connect().hello()
        self.assertEqual(c.generation, 7)
        records = c.take_until(len(frames))
        self.assertEqual([r.frame for r in records], [f for _, f, _ in frames])
        c.set(8)
        self.check_alive(c)
        self.stop()

    def test_command_line_faults_exit_2_with_a_sentence(self):
        for arguments in ([], ["--port", "name=x,source=nothing"], ["--frobnicate"]):
            run = subprocess.run([PROGRAM, *arguments], capture_output=True, timeout=dp.DEADLINE_S)
            self.assertEqual((run.returncode, run.stdout), (2, b""))
            self.assertTrue(run.stderr.rstrip().endswith((b".", b"--help.")), run.stderr)
        run = subprocess.run([PROGRAM, "--socket", self.path, "--port", "name=x,source=pcap:/none"],
                             capture_output=True, timeout=dp.DEADLINE_S)
        self.assertEqual(run.returncode, 1)
        self.assertIn(b"/none", run.stderr)

    def test_socket_in_use_is_not_taken_over_and_a_left_over_is(self):
        self.start_pcap(random_frames(3))
        run = subprocess.run([PROGRAM, "--socket", self.path, "--port",
                              f"name=x,source=pcap:{self.folder}/in,put.pcap"],
                             capture_output=True, timeout=dp.DEADLINE_S)
        self.assertEqual(run.returncode, 1)
        self.assertIn(b"another process serves it", run.stderr)
        self.check_alive()
        self.kill()
        self.assertTrue(os.path.exists(self.path))
        self.start_pcap(random_frames(3))
        self.check_alive()
        self.stop()


class Recording(Dataplane):
    def check_records(self, records, frames, applied_ns, snap=65535):
        self.assertEqual(len(records), len(frames))
        for record, (_, frame, wire_len) in zip(records, frames):
            self.assertEqual(record.frame, frame[:snap])
            self.assertEqual((record.wire_len, record.class_, record.captures, record.flags),
                             (wire_len, CLASS_ESP, 1, 0))
            self.assertGreaterEqual(record.time_ns, applied_ns)

    def test_paced_records_are_the_file_to_the_nanosecond(self):
        frames = random_frames(300)
        self.start_pcap(frames)
        c = self.connect().hello()
        self.assertEqual(c.received(), 0)  # it waits for the first capture
        applied_ns = c.set(1, ((0, 65535),))
        records = c.take_until(len(frames))
        self.check_records(records, frames, applied_ns)
        self.assertEqual([r.time_ns - records[0].time_ns for r in records],
                         [t - frames[0][0] for t, _, _ in frames])
        wait_for(lambda: c.port(0)["done"], "the end of the file")
        self.assertEqual(c.take(), [])
        self.assertEqual((c.received(), c.verdicts()[RECORDED]), (len(frames), len(frames)))
        mark = c.watermark()
        self.assertGreaterEqual(mark, records[-1].time_ns)
        wait_for(lambda: c.watermark() > mark, "a later watermark")
        self.stop()
        self.assertEqual(c.watermark(), 2**64 - 1)

    def test_fast_loops_play_all_frames_each_time_with_times_that_rise(self):
        frames = random_frames(100)
        self.start_pcap(frames, options="pace=fast,loops=3,")
        c = self.connect().hello()
        applied_ns = c.set(1, ((0, 120),))
        records = c.take_until(3 * len(frames))
        self.check_records(records, 3 * frames, applied_ns, 120)
        times = [r.time_ns for r in records]
        self.assertEqual(times, sorted(set(times)))
        wait_for(lambda: c.port(0)["done"], "the end of the file")
        self.stop()

    def test_start_at_boot_does_not_wait_for_a_capture(self):
        frames = random_frames(20)
        self.start_pcap(frames, options="pace=fast,start=boot,")
        c = self.connect().hello()
        wait_for(lambda: c.port(0)["done"], "the end of the file")
        self.assertEqual((c.received(), c.head()), (len(frames), 0))
        self.stop()

    def test_two_workers_share_a_file_by_flow(self):
        frames = random_frames(400, gap_ns=1000)
        self.start_pcap(frames, "--workers", "2", options="queues=2,")
        c = self.connect().hello()
        c.set(1, ((0, 65535),))
        wait_for(lambda: c.port(0)["done"], "the end of the file")
        both = [c.take(0), c.take(1)]
        self.assertTrue(both[0] and both[1])
        flows = [{frozenset((r.frame[26:30], r.frame[30:34])) for r in records} for records in both]
        self.assertEqual(flows[0] & flows[1], set())
        merged = sorted(both[0] + both[1], key=lambda r: r.time_ns)
        self.assertEqual([r.frame for r in merged], [f for _, f, _ in frames])
        self.stop()

    def test_full_ring_counts_what_it_drops_and_recovers(self):
        frames = random_frames(2000)
        self.start_pcap(frames, "--ring-bytes", str(1 << 20), options="pace=fast,")
        c = self.connect().hello()
        c.set(1, ((0, 65535),))
        wait_for(lambda: c.port(0)["done"], "the end of the file")
        records = c.take()
        left = iter(f for _, f, _ in frames)  # a short one may fit where a long one did not
        self.assertTrue(all(r.frame in left for r in records))
        verdicts = c.verdicts()
        self.assertEqual((verdicts[RECORDED], verdicts[RECORDED] + verdicts[RING_FULL]),
                         (len(records), len(frames)))
        self.assertGreater(verdicts[RING_FULL], 0)
        self.stop()

    def test_lying_tails_never_crash_or_stall_a_worker(self):
        rng = random.Random(SEED)
        self.start_pcap(random_frames(500), "--ring-bytes", str(1 << 20), options="pace=fast,loops=0,")
        c = self.connect().hello()
        c.set(1, ((0, 65535),))
        for lie in [2**64 - 1, 2**63, 1 << 40, 0, 1, *(rng.randrange(2**64) for _ in range(50))]:
            before = c.received()
            c.write_tail(lie)
            wait_for(lambda: c.received() > before, "more packets")
        c.write_tail(c.head())
        before = c.verdicts()[RECORDED]
        wait_for(lambda: c.write_tail(c.head()) or c.verdicts()[RECORDED] > before, "records again")
        self.check_alive(c)
        c.set(2)
        self.stop()

    def test_every_thread_has_given_up_what_it_does_not_need(self):
        self.start_pcap(random_frames(3), "--workers", "2")
        self.check_alive()
        for task in os.listdir(f"/proc/{self.process.pid}/task"):
            with open(f"/proc/{self.process.pid}/task/{task}/status", encoding="ascii") as f:
                status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
            self.assertEqual((status["NoNewPrivs"], status["Seccomp"]), ("1", "2"), status["Name"])
            self.assertEqual(int(status["CapEff"], 16) & ~LOOP_CAPS, 0, status["Name"])
        self.stop()


class Kernel(Dataplane):
    """Ports on kernel interfaces: a veth pair in a namespace of this test's own."""

    @classmethod
    def setUpClass(cls):
        cls.ns = f"gatecap{os.getpid()}"
        cls.a, cls.b = f"gca{os.getpid()}", f"gcb{os.getpid()}"  # one queue
        cls.a2, cls.b2 = f"gcc{os.getpid()}", f"gcd{os.getpid()}"  # two
        cls.PREFIX = ["ip", "netns", "exec", cls.ns]
        subprocess.run(["ip", "netns", "add", cls.ns], check=True)
        try:
            cls.ip("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1",
                   "net.ipv6.conf.default.disable_ipv6=1")
            for a, b, n in ((cls.a, cls.b, "1"), (cls.a2, cls.b2, "2")):
                queues = ("numrxqueues", n, "numtxqueues", n)
                cls.ip("ip", "link", "add", a, *queues, "type", "veth", "peer", "name", b, *queues)
                cls.ip("ip", "link", "set", a, "up")
                cls.ip("ip", "link", "set", b, "up")
        except BaseException:
            cls.tearDownClass()
            raise

    @classmethod
    def tearDownClass(cls):
        subprocess.run(["ip", "netns", "del", cls.ns], check=True)

    @classmethod
    def ip(cls, *command):
        return subprocess.run(["ip", "netns", "exec", cls.ns, *command], check=True,
                              capture_output=True, timeout=dp.DEADLINE_S).stdout.decode()

    def in_namespace(self, work):
        """What work() gives, called by a thread that moves into the namespace."""
        results, failure = [], []

        def enter():
            try:
                fd = os.open(f"/run/netns/{self.ns}", os.O_RDONLY)
                if LIBC.setns(fd, 0x40000000) != 0:
                    raise OSError("setns")
                os.close(fd)
                results.append(work())
            except OSError as e:
                failure.append(e)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        self.assertEqual(failure, [])
        return results[0]

    def send(self, frames, interface=None):
        """From the other end of the pair."""
        def work():
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as s:
                s.bind((interface or self.b, 0))
                for _, frame, _ in frames:
                    s.send(frame)

        self.in_namespace(work)

    def xdp_program(self):
        return "prog/xdp" in self.ip("ip", "-d", "link", "show", "dev", self.a)

    def check_capture(self, frames, n_workers=1, interface=None):
        c = self.connect().hello()
        applied_ns = c.set(1, ((0, 65535),))
        self.send(frames, interface)
        records = []

        def enough():
            for worker in range(n_workers):
                records.extend(c.take(worker))
            return len(records) >= len(frames)

        wait_for(enough, f"{len(frames)} records")
        self.assertEqual(sorted(r.frame for r in records), sorted(f for _, f, _ in frames))
        self.assertTrue(all(r.wire_len == len(r.frame) and r.time_ns >= applied_ns for r in records))
        self.assertEqual(c.port(0)["lost_nic"], 0)
        if n_workers == 1:
            times = [r.time_ns for r in records]
            self.assertEqual((times, [r.frame for r in records]),
                             (sorted(set(times)), [f for _, f, _ in frames]))
        return c

    def test_af_packet_sees_every_frame_in_order(self):
        self.start("--port", f"name=wan,source=af_packet:{self.a}")
        c = self.check_capture(random_frames(500))
        self.check_alive(c)
        self.stop()

    def test_af_packet_sees_what_the_gateway_sends_too(self):
        self.start("--port", f"name=wan,source=af_packet:{self.a}")
        self.check_capture(random_frames(50), interface=self.a)
        self.stop()

    def test_af_packet_with_two_queues_keeps_flows_together(self):
        self.start("--workers", "2", "--port", f"name=wan,queues=2,source=af_packet:{self.a}")
        self.check_capture(random_frames(500), 2)
        self.stop()

    def test_af_packet_counts_what_the_kernel_dropped(self):
        self.start("--port", f"name=wan,source=af_packet:{self.a}")
        c = self.connect().hello()
        c.set(1, ((0, 65535),))
        frames = random_frames(25000)  # more than the 16 MiB of the kernel's ring
        os.kill(self.process.pid, signal.SIGSTOP)
        try:
            self.send(frames)
        finally:
            os.kill(self.process.pid, signal.SIGCONT)
        records = []

        def settled():
            records.extend(c.take())
            return len(records) + c.port(0)["lost_nic"] >= len(frames)

        wait_for(settled, "the balance")
        self.assertEqual(len(records) + c.port(0)["lost_nic"], len(frames))
        self.assertGreater(c.port(0)["lost_nic"], 0)
        self.stop()

    def capture_frames(self, frames, *arguments, interface=None, source=None, n_queues=1):
        """Both ends of check_capture() for frames without times."""
        self.start(*arguments, "--workers", str(n_queues), "--port",
                   f"name=wan,queues={n_queues},source={source or 'af_packet:' + self.a}")
        c = self.check_capture([(0, f, len(f)) for f in frames], n_queues, interface)
        self.check_alive(c)
        self.stop()

    def test_af_packet_sees_fragments_as_fragments(self):
        rng = random.Random(SEED)
        for n_queues in (1, 2):
            self.capture_frames([f for i in range(30) for f in esp_fragments(rng, i, 99)],
                                n_queues=n_queues)

    def test_af_packet_records_vlan_tags_as_sent(self):
        rng = random.Random(SEED)
        frames = [tagged(esp_frame(rng, 1, 2, 100), *tags) for tags in (
            [(0x8100, 7)], [(0x8100, 0)], [(0x8100, 0xEFFF)], [(0x88A8, 1), (0x8100, 2)],
            [(0x8100, 1), (0x8100, 2)], [(0x9100, 3), (0x8100, 4)],
            [(0x88A8, 1), (0x88A8, 2), (0x8100, 3), (0x8100, 4)], [])]
        self.capture_frames(frames)
        self.capture_frames(frames, interface=self.a)

    def test_af_packet_keeps_the_length_of_long_frames(self):
        rng = random.Random(SEED)
        sizes = (9014, 60000, 65535, 1500, 65549)
        frames = [esp_frame(rng, 1, 2, size - 34) for size in sizes]
        for interface in (self.a, self.b):
            self.ip("ip", "link", "set", interface, "mtu", "65535")
            self.addCleanup(self.ip, "ip", "link", "set", interface, "mtu", "1500")
        self.start("--port", f"name=wan,source=af_packet:{self.a}")
        c = self.connect().hello()
        c.set(1, ((0, 65535),))
        self.send([(0, frame, 0) for frame in frames + [tagged(frames[0], (0x8100, 7))]])
        records = c.take_until(len(frames) + 1)
        self.assertEqual([r.wire_len for r in records], [*sizes, 9018])
        self.assertEqual([r.frame for r in records[:-1]], [frame[:65535] for frame in frames])
        self.assertEqual(records[-1].frame, tagged(frames[0], (0x8100, 7)))
        self.assertEqual(c.port(0)["lost_nic"], 0)
        self.stop()

    def check_pairs_stay_together(self, c, n_frames):
        """Records of two workers: the address pairs of one are not those of the other."""
        both = [[], []]

        def enough():
            for worker in (0, 1):
                both[worker].extend(c.take(worker))
            return len(both[0]) + len(both[1]) >= n_frames

        wait_for(enough, f"{n_frames} records")
        self.assertEqual(len(both[0]) + len(both[1]), n_frames)
        pairs = []
        for records in both:
            pairs.append(set())
            for frame in (r.frame for r in records):
                at = 14
                while frame[at - 2:at] in (b"\x81\0", b"\x88\xa8"):
                    at += 4
                v6 = frame[at - 2:at] == b"\x86\xdd"
                a, n = (at + 8, 16) if v6 else (at + 12, 4)
                pairs[-1].add(frozenset((frame[a:a + n], frame[a + n:a + 2 * n])))
        self.assertTrue(pairs[0] and pairs[1])
        self.assertEqual(pairs[0] & pairs[1], set())

    def test_af_packet_keeps_both_directions_and_all_fragments_in_one_queue(self):
        rng = random.Random(SEED)
        to, fro = [], []  # received and sent by the gateway
        for host in range(1, 40):
            for frames, src, dst in ((to, host, 200), (fro, 200, host)):
                frames += esp_fragments(rng, src, dst)
                frames.append(esp_frame(rng, src, dst, 100))
                frames.append(tagged(esp_frame(rng, src, dst, 100), (0x8100, 5)))
                frames.append(tagged(esp_frame(rng, src, dst, 100), (0x88A8, 5), (0x8100, 6)))
                frames.append(esp6_frame(rng, src, dst, 100))
                frames.append(tagged(esp6_frame(rng, src, dst, 100), (0x8100, 5)))
        self.start("--workers", "2", "--port", f"name=wan,queues=2,source=af_packet:{self.a}")
        c = self.connect().hello()
        c.set(1, ((0, 65535),))
        self.send([(0, frame, 0) for frame in to])
        self.send([(0, frame, 0) for frame in fro], self.a)
        self.check_pairs_stay_together(c, len(to) + len(fro))
        self.stop()

    def test_af_packet_gives_every_frame_to_one_worker_whatever_it_is(self):
        rng = random.Random(SEED)
        junk = [bytes.fromhex("020000000002" "020000000001") + head + rng.randbytes(n)
                for head in (b"\x08\0", b"\x86\xdd", b"\x08\x06", b"\0\x10", b"\x81\0\0\1\x08\0")
                for n in (*range(2, 40, 3), 60)]  # a tag with less behind is dropped by the kernel
        self.start("--workers", "2", "--port", f"name=wan,queues=2,source=af_packet:{self.a}")
        c = self.connect().hello()
        self.send([(0, frame, 0) for frame in junk])
        self.send([(0, frame, 0) for frame in junk], self.a)
        wait_for(lambda: c.received(0) + c.received(1) >= 2 * len(junk), "all of them")
        end = c.watermark(0)
        wait_for(lambda: c.watermark(0) > end + 20_000_000, "what may come twice")
        self.assertEqual(c.received(0) + c.received(1), 2 * len(junk))
        self.stop()

    def test_af_packet_waits_for_an_interface_that_is_down(self):
        def set_up():
            self.ip("ip", "link", "set", self.a, "up")
            wait_for(lambda: "state UP" in self.ip("ip", "link", "show", "dev", self.b), "the link")

        for n_queues in (1, 2):
            self.ip("ip", "link", "set", self.a, "down")
            self.addCleanup(set_up)
            self.start("--workers", str(n_queues), "--port",
                       f"name=wan,queues={n_queues},source=af_packet:{self.a}")
            self.assertIn(f"{self.a} is down; its frames are captured as soon as it is up.",
                          self.log_text())
            self.assertNotIn("went down", self.log_text())
            set_up()
            c = self.check_capture(random_frames(50), n_queues)
            self.ip("ip", "link", "set", self.a, "down")
            wait_for(lambda: f"{self.a} went down" in self.log_text(), "the warning")
            set_up()
            before = c.received(0) + (c.received(1) if n_queues == 2 else 0)
            self.send(random_frames(50))
            wait_for(lambda: c.received(0) + (c.received(1) if n_queues == 2 else 0) == before + 50,
                     "frames again")
            self.stop()
            self.log.truncate(0)

    def test_af_packet_without_permission_is_a_sentence_and_exit_1(self):
        run = subprocess.run([*self.PREFIX, "setpriv", "--bounding-set", "-net_raw", PROGRAM, "--socket",
                              self.path, "--port", f"name=wan,source=af_packet:{self.a}"],
                             capture_output=True, timeout=dp.DEADLINE_S)
        self.assertEqual(run.returncode, 1, run.stderr)
        self.assertIn(b"CAP_NET_RAW", run.stderr)

    def test_af_packet_gives_ip_packets_of_a_tunnel_an_ethernet_header(self):
        name = f"gct{os.getpid()}"

        def open_tun():
            fd = os.open("/dev/net/tun", os.O_RDWR)
            fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x1001))  # TUN, NO_PI
            return fd

        def send_out(packets):
            with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as s:
                for packet in packets:
                    s.sendto(packet, (name, 0x0800 if packet[0] >> 4 == 4 else 0x86DD))

        rng = random.Random(SEED)
        tun = self.in_namespace(open_tun)
        self.addCleanup(os.close, tun)
        self.ip("ip", "link", "set", name, "up")
        received = [f(rng, host, 200, 100)[14:] for host in range(40) for f in (esp_frame, esp6_frame)]
        sent = [f(rng, 200, host, 100)[14:] for host in range(40) for f in (esp_frame, esp6_frame)]
        self.start("--workers", "2", "--port", f"name=lan,queues=2,source=af_packet:{name}")
        c = self.connect().hello()
        c.set(1, ((0, 65535),))
        for packet in received:
            os.write(tun, packet)
        self.in_namespace(lambda: send_out(sent))
        records = [[], []]
        wait_for(lambda: [records[w].extend(c.take(w)) for w in (0, 1)]
                 and len(records[0] + records[1]) >= 160, "160 records")
        types = {4: b"\x08\0", 6: b"\x86\xdd"}
        self.assertEqual(sorted(r.frame for r in records[0] + records[1]),
                         sorted(bytes(12) + types[p[0] >> 4] + p for p in received + sent))
        pairs = [{frozenset((f[26:30], f[30:34]) if f[14] >> 4 == 4 else (f[22:38], f[38:54]))
                  for f in (r.frame for r in part)} for part in records]
        self.assertTrue(pairs[0] and pairs[1])
        self.assertEqual(pairs[0] & pairs[1], set())
        self.stop()

    def test_af_packet_driver_of_dpdk_is_still_there_as_an_eal_device(self):
        self.capture_frames([f for _, f, _ in random_frames(50)],
                            source=f"net_af_packet0,iface={self.a}")

    def test_af_xdp_sees_every_frame_and_leaves_no_program(self):
        self.start("--port", f"name=wan,source=af_xdp:{self.a}")
        self.assertTrue(self.xdp_program())
        self.check_capture(random_frames(500))
        self.stop()
        self.assertFalse(self.xdp_program())

    def test_af_xdp_warns_of_queues_that_nobody_polls(self):
        self.start("--port", f"name=wan,source=af_xdp:{self.a2}")
        self.assertIn("has 2 queues and 1 are polled", self.log_text())
        self.stop()

    def test_af_xdp_removes_what_a_killed_run_left(self):
        self.start("--port", f"name=wan,source=af_xdp:{self.a}")
        self.kill()
        self.assertTrue(self.xdp_program())
        self.start("--port", f"name=wan,source=af_xdp:{self.a}")
        self.assertIn("of a run that was killed is removed", self.log_text())
        self.check_capture(random_frames(100))
        self.stop()
        self.assertFalse(self.xdp_program())

    def test_missing_interface_is_a_sentence_and_exit_1(self):
        for kind in ("af_packet", "af_xdp"):
            run = subprocess.run([*self.PREFIX, PROGRAM, "--socket", self.path, "--port",
                                  f"name=wan,source={kind}:nosuch0"], capture_output=True,
                                 timeout=dp.DEADLINE_S)
            self.assertEqual(run.returncode, 1, run.stderr)
            self.assertIn(b"nosuch0", run.stderr)

    def test_interface_is_promiscuous_only_while_the_port_is_open(self):
        def promiscuity():
            words = self.ip("ip", "-d", "link", "show", "dev", self.a).split()
            return int(words[words.index("promiscuity") + 1])

        self.start("--port", f"name=wan,source=af_packet:{self.a}")
        self.assertEqual(promiscuity(), 1)
        self.kill()
        self.assertEqual(promiscuity(), 0)


if __name__ == "__main__":
    import ctypes

    if os.geteuid() != 0:
        print("SKIP: needs root")
        sys.exit(77)
    LIBC = ctypes.CDLL(None)
    print(f"SEED={SEED}", flush=True)
    unittest.main(verbosity=2)
