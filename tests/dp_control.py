"""The control side of dp.sock in Python: what gatecapd does, and what a hostile one might.

Used by test_dataplane.py.  Layouts: dataplane/dp_proto.h, shared.h, record.h, filters/filter_set.h.
"""
import array
import fcntl
import mmap
import os
import socket
import struct
import time

DP_MAGIC, DP_VERSION = 0x67637064, 2
HELLO, WELCOME, BUSY, SET, APPLIED, REFUSED, SAS, SAS_APPLIED, SAS_REFUSED = range(1, 10)
SET_MAGIC, GATEWAY_WIDE = 0x67637331, 0x7FFFFFFF
SHARED_MAGIC, SHARED_VERSION = 0x6761746563617031, 4
SA_SET_MAGIC, SA_MAX, SA_HEADER_BYTES, SA_BYTES = 0x67637361, 16384, 32, 264
AES_CBC, AES_GCM, HMAC_SHA256_128 = 2, 5, 5  # enum esp_cipher, enum esp_auth
SA_NEW = 1
F_ADD_SEALS, F_GET_SEALS = 1033, 1034
SEAL_SEAL, SEAL_SHRINK, SEAL_GROW, SEAL_WRITE, SEAL_FUTURE_WRITE = 1, 2, 4, 8, 16
PORTS_MAX, CLASS_COUNT, VERDICT_COUNT, CAPTURES_MAX, ESP_COUNTS = 16, 5, 7, 5, 9
HEADER_FORMAT, PORT_FORMAT, RECORD_FORMAT = "=QIIIIQQQQQQq", "=80s80sIIQQ", "=QIHHBBBBI"
DEADLINE_S = 20


def header(kind, magic=DP_MAGIC, version=DP_VERSION):
    return struct.pack("=IHH", magic, version, kind)


def filter_set(generation, captures=((0, 120),), is_new=True):
    """All classes, gateway-wide, no filter, for each (slot, snap)."""
    body = b"".join(struct.pack("=7I", slot, is_new, GATEWAY_WIDE, 11, snap, 0, 0)
                    for slot, snap in captures)
    size = (56 + len(body) + 7) & ~7
    head = struct.pack("=IIQ9I4x", SET_MAGIC, 1, generation, size, len(captures), *[0] * 7)
    return (head + body).ljust(size, b"\0")


def sa_address(address=None, mask=None):
    """struct sa_address; None: any."""
    if address is None:
        return bytes(36)
    return struct.pack("=16s16sB3x", address, mask or b"\xff" * len(address), 6 if len(address) == 16 else 4)


def sa(spi, dst, slot, *, spi_mask=0xFFFFFFFF, src=None, flags=SA_NEW, cipher=AES_GCM, auth=0, icv_bytes=16,
       enc_key=b"k" * 20, auth_key=b"", connection=0, kind=0, mode=0, esn_high=0):
    """struct sa_record.  src, dst: addresses, None or what sa_address() gives."""
    src, dst = (a if a is not None and len(a) == 36 else sa_address(a) for a in (src, dst))
    return struct.pack("=II36s36sIII8B36s128s", spi, spi_mask, src, dst, slot, connection, esn_high, kind, mode,
                       cipher, auth, icv_bytes, len(enc_key), len(auth_key), flags, enc_key, auth_key)


def sa_set(generation, sas=(), flags=0):
    body = b"".join(sas)
    return struct.pack("=IIQIIII", SA_SET_MAGIC, 1, generation, SA_HEADER_BYTES + len(body), len(sas), flags,
                       0) + body


def memfd(data, seals=SEAL_WRITE | SEAL_SHRINK | SEAL_GROW):
    fd = os.memfd_create("set", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, data)
    if seals:
        fcntl.fcntl(fd, F_ADD_SEALS, seals)
    return fd


def wait_for(condition, what):
    """Poll with a deadline; returns the first true value."""
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError(f"{what} did not come within {DEADLINE_S} s")


class Record:
    def __init__(self, data, offset):
        (self.time_ns, self.wire_len, self.caplen, self.generation, self.captures, self.port,
         self.flags, self.class_, _) = struct.unpack_from(RECORD_FORMAT, data, offset)
        self.frame = bytes(data[offset + 24:offset + 24 + self.caplen])
        self.bytes = (24 + self.caplen + 7) & ~7


class Control:
    """One connection, and the memory it was given."""

    def __init__(self, path):
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(DEADLINE_S)
        self.socket.connect(path)
        self.shared = self.tails = None
        self.tail = {}

    def close(self):
        self.socket.close()

    def send(self, message, fds=()):
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.socket.sendmsg([message], ancillary)

    def receive(self):
        """(type, body, descriptors); type 0: closed."""
        try:
            data, ancillary, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(16))
        except ConnectionResetError:
            return 0, b"", []
        fds = []
        for level, kind, payload in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds = list(array.array("i", payload[:len(payload) // 4 * 4]))
        if not data:
            return 0, b"", fds
        magic, version, kind = struct.unpack_from("=IHH", data)
        assert (magic, version) == (DP_MAGIC, DP_VERSION)
        return kind, data[8:], fds

    def hello(self):
        self.send(header(HELLO))
        kind, body, fds = self.receive()
        assert kind == WELCOME, kind
        (self.boot_id, self.shared_bytes, self.tails_bytes, self.generation,
         self.sa_generation) = struct.unpack("=5Q", body)
        self.shared_fd, self.tails_fd = fds
        self.shared = mmap.mmap(self.shared_fd, self.shared_bytes, mmap.MAP_SHARED, mmap.PROT_READ)
        self.tails = mmap.mmap(self.tails_fd, self.tails_bytes)
        (self.magic, self.version, self.n_workers, self.n_ports, _, boot_id, self.total_bytes,
         self.workers_offset, self.worker_bytes, self.rings_offset, self.ring_bytes,
         self.wall_offset_ns) = struct.unpack_from(HEADER_FORMAT, self.shared)
        assert boot_id == self.boot_id
        return self

    def set(self, generation, captures=((0, 120),), is_new=True):
        """Returns the time from which the set is in force."""
        data = filter_set(generation, captures, is_new)
        kind, body = self.send_set(generation, len(data), memfd(data))
        assert kind == APPLIED, body[8:].split(b"\0")[0]
        got, time_ns = struct.unpack("=QQ", body)
        assert got == generation
        return time_ns

    def set_sas(self, generation, sas=(), flags=0):
        data = sa_set(generation, sas, flags)
        kind, body = self.send_set(generation, len(data), memfd(data), kind=SAS)
        assert kind == SAS_APPLIED, body[8:].split(b"\0")[0]
        assert struct.unpack("=QQ", body)[0] == generation
        self.sa_generation = generation

    def send_set(self, generation, size, *fds, kind=SET):
        self.send(header(kind) + struct.pack("=QQ", generation, size), fds)
        for fd in fds:
            os.close(fd)
        kind, body, _ = self.receive()
        return kind, body

    def refused(self, generation, size, *fds, kind=SET):
        """The sentence of a set that must be refused."""
        answer, body = self.send_set(generation, size, *fds, kind=kind)
        assert answer == {SET: REFUSED, SAS: SAS_REFUSED}[kind], answer
        return body[8:].split(b"\0")[0].decode()

    # ---- shared memory ----

    def port(self, index):
        values = struct.unpack_from(PORT_FORMAT, self.shared, 80 + index * struct.calcsize(PORT_FORMAT))
        keys = ("name", "source", "role", "n_queues", "lost_nic", "done")
        return {k: v.split(b"\0")[0].decode() if isinstance(v, bytes) else v
                for k, v in zip(keys, values)}

    def u64(self, worker, offset):
        return struct.unpack_from("=Q", self.shared,
                                  self.workers_offset + worker * self.worker_bytes + offset)[0]

    def head(self, worker=0):
        return self.u64(worker, 0)

    def watermark(self, worker=0):
        return self.u64(worker, 8)

    def heartbeat(self, worker=0):
        return self.u64(worker, 136)

    def received(self, worker=0, port=0):
        return self.u64(worker, 144 + 8 * port)

    def verdicts(self, worker=0):
        return [self.u64(worker, 144 + 8 * PORTS_MAX * (1 + CLASS_COUNT) + 8 * i)
                for i in range(VERDICT_COUNT)]

    def sa_generation_in_use(self, worker=0):
        return self.u64(worker, self.sas_offset())

    def sa_counters(self, slot, worker=0):
        """(packets, time of the last one)"""
        at = self.sas_offset() + 8 + 16 * slot
        return self.u64(worker, at), self.u64(worker, at + 8)

    @staticmethod
    def sas_offset():
        words = PORTS_MAX * (1 + CLASS_COUNT) + VERDICT_COUNT + 1 + CAPTURES_MAX * (6 * PORTS_MAX + CLASS_COUNT
                                                                                  + ESP_COUNTS)
        return 144 + 8 * words

    def write_tail(self, value, worker=0):
        struct.pack_into("=Q", self.tails, worker * 128, value & (2**64 - 1))

    def take(self, worker=0):
        """All records that are there, and the room given back."""
        head, tail = self.head(worker), self.tail.get(worker, 0)
        base = self.rings_offset + worker * self.ring_bytes
        assert head - tail <= self.ring_bytes
        ring = self.shared[base:base + self.ring_bytes]
        ring += ring
        records = []
        while tail < head:
            record = Record(ring, tail % self.ring_bytes)
            records.append(record)
            tail += record.bytes
        assert tail == head
        self.tail[worker] = tail
        self.write_tail(tail, worker)
        return records

    def take_until(self, n, worker=0):
        records = []

        def enough():
            records.extend(self.take(worker))
            return len(records) >= n

        wait_for(enough, f"record {n}")
        return records
