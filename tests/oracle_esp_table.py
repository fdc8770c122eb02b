"""oracle_esp_table.py - every algorithm of ESP in every mode and family, and ESP that is wrong.

Usage: oracle_esp_table.py GATECAP SOURCE_ROOT [PART...]

Parts: table (each algorithm x key length x ICV, tunnel and transport mode, IPv4 and IPv6 outside and
inside, in nothing, UDP and TCP, with and without extended sequence numbers: packets sealed by
esp_build.py, and what gatecap records beside what was sealed; prints the table), bad (truncated, false
lengths, false padding, wrong versions; what stands around ESP).  Default: both.

Random bytes come from a seed that is printed; give it as GATECAP_SEED to have the same again.
Exit: 0, or 1 when anything differs.
"""

import collections
import os
import random
import sys
import tempfile

import esp_build as build
import esp_model
import oracle
import oracle_esp
import oracle_replay as replay

fault = replay.fault

AUTH_KEYS = {None: 0, "HMAC_MD5_96": 16, "HMAC_SHA1_96": 20, "HMAC_SHA2_256_96": 32,
             "HMAC_SHA2_256_128": 32, "HMAC_SHA2_384_192": 48, "HMAC_SHA2_512_256": 64,
             "AES_XCBC_96": 16, "ANY_64": 0, "ANY_256": 0}
CIPHERS = [("NULL", 0), ("3DES_CBC", 24), ("AES_CBC", 16), ("AES_CBC", 24), ("AES_CBC", 32),
           ("AES_CTR", 20), ("AES_CTR", 28), ("AES_CTR", 36)]
AEADS = [("AES_%s_%d" % (name, icv), key + salt) for name, salt in (("GCM", 4), ("CCM", 3))
         for key in (16, 24, 32) for icv in (8, 12, 16)] + \
        [("AES_GMAC", 20), ("AES_GMAC", 28), ("AES_GMAC", 36), ("CHACHA20_POLY1305", 36)]
ALGORITHMS = [(enc, key, integ) for enc, key in CIPHERS for integ in AUTH_KEYS] + \
             [(enc, key, None) for enc, key in AEADS]
COLUMNS = [("tunnel", 4, 4), ("tunnel", 4, 6), ("tunnel", 6, 4), ("tunnel", 6, 6), ("transport", 4, 4),
           ("transport", 6, 6)]
CARRIERS = ("none", "udp", "tcp")


def make_sa(dice, algorithm, mode, family, esn, spi):
    enc, key, integ = algorithm
    src, dst = build.ADDRESSES[family]
    sa = esp_model.Sa({"spi": "%#x" % spi, "src": src, "dst": dst, "enc": enc, "integ": integ,
                       "enc_key": dice.randbytes(key).hex(),
                       "auth_key": dice.randbytes(AUTH_KEYS[integ]).hex(), "esn": esn, "mode": mode,
                       "esn_hi": dice.choice((0, 1, 7, 0xFFFFFFFE)) if esn else 0})
    sa.is_told = True
    return sa


def make_inner(dice, mode, outer, inner, turn):
    """(payload of ESP, next header, IP packet that has to come out)."""
    data = dice.randbytes(dice.choice((0, 1, 7, 64, 90, 150, 300)))
    protocol, upper = [(6, build.tcp(1000 + turn, 443, 1 << turn % 8, data)),
                       (17, build.udp(53, 2000 + turn, data)),
                       (58 if inner == 6 else 1, b"\x80\0\0\0" + data)][turn % 3]
    tfc = dice.randbytes(dice.choice((1, 30, 200))) if turn % 3 == 1 else b""
    if mode == "transport":
        return upper + tfc, protocol, build.ip(outer, *build.ADDRESSES[outer], protocol, upper)
    packet = build.ip(inner, *build.INSIDE[inner], protocol, upper)
    return packet + tfc, 4 if inner == 4 else 41, packet


class Cell:
    """What one cell of the table had, and how much of it was right."""

    def __init__(self):
        self.n, self.n_right = 0, 0


def make_table(dice):
    """(sas, frames, {outer frame: (cell, inner frame)})."""
    sas, frames, expected, turn = [], [], {}, 0
    for algorithm in ALGORITHMS:
        for column in COLUMNS:
            mode, outer, inner = column
            for how in CARRIERS:
                for esn in (False, True):
                    sa = make_sa(dice, algorithm, mode, outer, esn, 0x1000 + len(sas))
                    sas.append(sa)
                    for seq in range(1, 3):
                        turn += 1
                        body, protocol, packet = make_inner(dice, mode, outer, inner, turn)
                        n_pad = dice.choice((None, None, 1, 40, 200))
                        esp = build.seal(sa, seq, build.padded(sa, body, protocol, n_pad), dice)
                        frame = build.carried(sa, how, esp)
                        frames.append(oracle.Frame(10**18 + turn * 1000, frame, len(frame)))
                        expected[frame] = ((algorithm, column), build.ethernet(packet))
    return sas, frames, expected


def run_table(gatecap, folder, path, keys, frames, expected, *options):
    """What is recorded behind each outer frame, cell by cell."""
    run = replay.Run(gatecap, folder, path, {"Filters": [{}], "MaxPacketBufferSize": 65535}, "--esp-sa",
                     keys, *options)
    cells = collections.defaultdict(Cell)
    if run.code != 0:
        fault("%s: exit %d: %s", run.what, run.code, run.err[-300:])
        return cells
    _link, _snap, records, _left = oracle.read_classic(run.data)
    behind = {a.data: b for a, b in zip(records, records[1:] + [None])}
    for frame in frames:
        key, inner = expected[frame.data]
        got = behind.get(frame.data)
        cells[key].n += 1
        is_right = got is not None and (got.data, got.wire_len, got.time_ns) == (
            inner, len(inner), frame.time_ns)
        cells[key].n_right += is_right
        if not is_right and cells[key].n - cells[key].n_right == 1 and len(replay.faults) < 20:
            fault("%s %s: behind %s comes %s, should be %s", *key, frame.data.hex(),
                  got and got.data.hex(), inner.hex())
    n = len(frames)
    esp = {k: v for k, v in run.report.get("esp", {}).items() if v and k != "unchecked"}
    if esp != {"decrypted": n}:
        fault("%s: %s of %d packets", run.what, esp, n)
    replay.check_report(run, 2 * n, 2 * n)
    replay.counts["frames"] += len(records)
    return cells


def name_of(algorithm):
    enc, key, integ = algorithm
    salt = 3 if "CCM" in enc else 4 if enc[:7] in ("AES_CTR", "AES_GCM", "AES_GMA", "CHACHA2") else 0
    return "%s-%d%s" % (enc, 8 * (key - salt), " " + integ if integ else "")


def print_table(cells):
    print("packets right of packets sealed: in nothing, UDP and TCP, with and without extended "
          "sequence numbers")
    print("%-36s %s" % ("", " ".join("%-15s" % ("%s %s" % (m, o if m == "transport" else
                                                         "%d in %d" % (i, o))) for m, o, i in COLUMNS)))
    for algorithm in ALGORITHMS:
        row = [cells[algorithm, column] for column in COLUMNS]
        print("%-36s %s" % (name_of(algorithm), " ".join("%-15s" % (
            "ok %d" % c.n if c.n and c.n == c.n_right else "WRONG %d/%d" % (c.n_right, c.n))
            for c in row)))


def untold(sas):
    for sa in sas:
        sa.is_told = False
    return [sa.line() for sa in sas]


def part_table(gatecap, folder, dice):
    sas, frames, expected = make_table(dice)
    path = os.path.join(folder, "table.pcap")
    oracle.write_capture(path, oracle.LINK_ETHERNET, frames)
    told = esp_model.write_lines(os.path.join(folder, "told"), [sa.line() for sa in sas])
    cells = run_table(gatecap, folder, path, told, frames, expected, "--verify-icv")
    print_table(cells)
    bare = esp_model.write_lines(os.path.join(folder, "bare"), untold(sas))
    run_table(gatecap, folder, path, bare, frames, expected)  # the mode by the next header
    # The same with one bit of each ICV turned: whatever can be checked is refused.
    for sa in sas:
        sa.is_told = True
    spoiled = [oracle.Frame(f.time_ns, f.data[:-1] + bytes([f.data[-1] ^ 1]), f.wire_len) for f in frames]
    oracle.write_capture(path, oracle.LINK_ETHERNET, spoiled)
    checked = {sa.spi for sa in sas if sa.is_aead or sa.integ and not sa.integ.startswith("ANY")}
    some = [(f, o) for f, o in zip(spoiled, frames) if sa_of(sas, f).spi in checked]
    oracle.write_capture(path, oracle.LINK_ETHERNET, [f for f, _o in some])
    run = replay.Run(gatecap, folder, path, {"Filters": [{"TcpFlags": 255}]}, "--esp-sa", told,
                     "--verify-icv")
    if run.report.get("esp", {}).get("bad_icv") != len(some):
        fault("%s: %s, should be %d bad ICVs", run.what, run.report.get("esp"), len(some))
    replay.check_report(run, len(some), 0)


def sa_of(sas, frame):
    """SPIs are numbered from 0x1000 on."""
    packet = esp_model.Packet(frame)
    message = packet if packet.stream is None else packet.in_tcp()[0][0]
    return sas[int.from_bytes(message.esp[:4], "big") - 0x1000]


# Wrong packets, and what stands around right ones.

BAD_ALGORITHMS = [("AES_GCM_16", 20, None), ("AES_CBC", 32, "HMAC_SHA2_256_128"),
                  ("3DES_CBC", 24, "HMAC_SHA1_96"), ("NULL", 0, "HMAC_SHA2_512_256"),
                  ("CHACHA20_POLY1305", 36, None), ("AES_CTR", 20, "HMAC_MD5_96"),
                  ("AES_CCM_8", 19, None), ("AES_GMAC", 20, None)]


def tunnel_plain(sa, version, dice, change=None, protocol=None, n_pad=None, size=60):
    packet = bytearray(build.ip(version, *build.INSIDE[version], 6, build.tcp(
        1, 443, 2, dice.randbytes(size))))
    if change:
        change(packet)
    return build.padded(sa, bytes(packet), protocol or (4 if version == 4 else 41), n_pad)


def put(at, *values):
    def change(packet):
        packet[at:at + len(values)] = bytes(values)
    return change


def header_length(n):
    """An IPv4 header of n words, its checksum right."""
    def change(packet):
        packet[0], packet[10], packet[11] = 0x40 | n, 0, 0
        packet[10:12] = esp_model.checksum(bytes(packet[:max(4 * n, 20)])).to_bytes(2, "big")
    return change


def total(n):
    def change(packet):
        packet[2:4], packet[10:12] = n.to_bytes(2, "big"), b"\0\0"
        packet[10:12] = esp_model.checksum(bytes(packet[:20])).to_bytes(2, "big")
    return change


def wrong_insides(sa, dice):
    """(what, payload with trailer, name of the count)."""
    for version in (4, 6):
        yield "right", tunnel_plain(sa, version, dice), "decrypted"
        for other in range(16):
            if other != version:
                yield "inner version %d" % other, tunnel_plain(
                    sa, version, dice, put(0, other << 4 | 5)), "malformed"
        yield "the other next header", tunnel_plain(
            sa, version, dice, protocol=45 - (4 if version == 4 else 41)), "malformed"
        plain = bytearray(tunnel_plain(sa, version, dice, n_pad=20))
        plain[-3] ^= 0x40
        yield "padding", bytes(plain), "malformed"
    for size in range(60, 76, 4):  # where the trailer lies in its block must not matter
        plain = bytearray(tunnel_plain(sa, 4, dice, n_pad=20, size=size))
        plain[-8] ^= 0x40
        yield "padding further in", bytes(plain), "malformed"
    yield "checksum", tunnel_plain(sa, 4, dice, put(11, 0xAB)), "malformed"
    for n in range(5):
        yield "header of %d words" % n, tunnel_plain(sa, 4, dice, header_length(n)), "malformed"
    right = 20 + 20 + 60
    for n, name in ((right, "decrypted"), (right - 1, "decrypted"), (20, "decrypted"), (19, "malformed"),
                    (0, "malformed"), (right + 300, "malformed"), (65535, "malformed")):
        yield "inner total length %d" % n, tunnel_plain(sa, 4, dice, total(n)), name
    for n, name in ((80, "decrypted"), (79, "decrypted"), (0, "decrypted"), (400, "malformed"),
                    (65535, "malformed")):
        yield "inner payload length %d" % n, tunnel_plain(sa, 6, dice, put(4, n >> 8, n & 255)), name
    plain = tunnel_plain(sa, 4, dice)
    for n in (len(plain) - 1, 254, 255):
        yield "pad length %d of %d" % (n, len(plain)), plain[:-2] + bytes([n, 4]), "malformed"
    for protocol in (4, 41):
        yield "nothing inside", build.padded(sa, b"", protocol), "malformed"
    for size in (0, 1, 200):
        yield "dummy", build.padded(sa, dice.randbytes(size), 59), "dummy"


def wrong_transport(sa, dice):
    data = dice.randbytes(50)
    yield "TCP", build.padded(sa, build.tcp(1, 2, 2, data), 6), "decrypted"
    for offset in (0, 4, 8, 15):
        name = "decrypted" if 5 <= offset <= 17 and 4 * offset <= 70 else "malformed"
        yield "TCP offset %d" % offset, build.padded(sa, build.tcp(1, 2, 2, data, offset), 6), name
    yield "TCP of 19 bytes", build.padded(sa, build.tcp(1, 2, 2, b"")[:19], 6), "malformed"
    yield "UDP", build.padded(sa, build.udp(1, 2, data), 17), "decrypted"
    yield "UDP with TFC padding", build.padded(sa, build.udp(1, 2, data) + bytes(99), 17), "decrypted"
    for n in (7, 59, 65535):
        yield "UDP length %d" % n, build.padded(sa, build.udp(1, 2, data, n), 17), "malformed"
    for protocol in (143, 200, 252, 255, 0, 43, 44):
        yield "next header %d" % protocol, build.padded(sa, data, protocol), "malformed"
    for protocol in (1, 47, 50, 58, 89, 132, 253, 254):
        yield "next header %d" % protocol, build.padded(sa, data, protocol), "decrypted"
        yield "next header %d, empty" % protocol, build.padded(sa, b"", protocol), "decrypted"


class Bench:
    """Cases: frames, and the names of the counts that each must give."""

    def __init__(self, dice):
        self.dice, self.sas, self.frames, self.names, self.what = dice, [], [], [], []

    def sa(self, algorithm, mode="tunnel", family=4, esn=False):
        sa = make_sa(self.dice, algorithm, mode, family, esn, 0x1000 + len(self.sas))
        self.sas.append(sa)
        return sa

    def add(self, what, data, names, wire_len=None):
        """names: a list, or None where the model alone says it."""
        self.frames.append(oracle.Frame(10**18 + len(self.frames) * 1000, data, wire_len or len(data)))
        self.names.append(names)
        self.what.append(what)

    def check_model(self):
        packets = esp_model.packets_of(self.frames)
        outcomes = oracle_esp.read_all(self.sas, packets)
        for what, names, some in zip(self.what, self.names, outcomes):
            if names is not None and [o.name for o in some] != names:
                fault("the model says %s of '%s', should be %s", [o.name for o in some], what, names)
        return packets


def add_truncated(bench, algorithm):
    """The outer packet ends after each byte of ESP, by its own headers; then by the frame alone."""
    sa = bench.sa(algorithm)
    esp = build.seal(sa, 1, tunnel_plain(sa, 4, bench.dice, size=30), bench.dice)
    for n in range(len(esp)):
        name = "malformed" if n < 8 + sa.iv_bytes + 2 + sa.icv_bytes else None
        for how in ("none", "udp"):
            if how == "none" or n > 4:
                bench.add("%s cut to %d in %s" % (algorithm[0], n, how), build.carried(sa, how, esp[:n]),
                          name and [name])
        whole = build.carried(sa, "none", esp)
        bench.add("%s captured to %d" % (algorithm[0], n), whole[:len(whole) - len(esp) + n], None,
                  len(whole))


def segment(stream, sport=4500):
    return build.ethernet(build.ipv4(*build.ADDRESSES[4], 6, build.tcp(sport, 40000, 0x10, stream)))


def add_tcp(bench):
    """RFC 9329: messages in segments."""
    sa, dice = bench.sa(("AES_GCM_16", 20, None)), bench.dice
    messages = []
    for n in range(4):
        esp = build.seal(sa, n, tunnel_plain(sa, 4, dice, size=20 + n), dice)
        messages.append((len(esp) + 2).to_bytes(2, "big") + esp)
    ike = (2 + 4 + 28).to_bytes(2, "big") + bytes(4) + dice.randbytes(28)
    stranger = b"\0\x40" + dice.randbytes(0x3E)
    bench.add("two messages", segment(messages[0] + messages[1]), ["decrypted"] * 2)
    bench.add("four messages", segment(b"".join(messages)), ["decrypted"] * 4)
    bench.add("ESP, IKE, ESP", segment(messages[0] + ike + messages[1]), ["decrypted"] * 2)
    bench.add("a stranger between", segment(messages[0] + stranger + messages[1]),
              ["decrypted", "without_key", "decrypted"])
    bench.add("message and a half", segment(messages[0] + messages[1][:90]), ["decrypted"] * 2)
    bench.add("message and its length", segment(messages[0] + messages[1][:2]), ["decrypted"])
    bench.add("half a message", segment(messages[2][:80]), ["decrypted"])
    bench.add("18 bytes inside of a message", segment(messages[2][:36]), ["malformed"])
    bench.add("the other half", segment(messages[2][80:]), None)
    bench.add("noise", segment(b"\xfe\xdc" + dice.randbytes(50)), ["tcp_partial"])
    bench.add("only a length", segment(b"\0\x50"), ["tcp_partial"])
    bench.add("length and SPI", segment(messages[0][:6]), ["tcp_partial"])
    bench.add("length of 2", segment(b"\0\x02" + messages[0]), None)
    bench.add("length of 65535", segment(b"\xff\xff" + messages[0][2:]), None)


def add_surroundings(bench):
    """Options, extension headers, AH, tags, Ethernet padding, fragments."""
    dice, algorithm = bench.dice, ("AES_GCM_16", 20, None)
    tunnel = {f: bench.sa(algorithm, "tunnel", f) for f in (4, 6)}
    transport = {f: bench.sa(algorithm, "transport", f) for f in (4, 6)}
    hop, routing = (0, b"\0\0\x05\x02\0\0\0\0"), (43, b"\0\0\x04\0\0\0\0\0")
    destination, atomic = (60, b"\0\x01" + b"\x01\x0c" + bytes(12)), (44, b"\0\0\0\0\x12\x34\x56\x78")
    chains = [(hop,), (destination,), (hop, routing, destination), (atomic,), (hop, atomic)]
    ah = bytes([50, 4, 0, 0]) + dice.randbytes(20)
    for mode, sas in (("tunnel", tunnel), ("transport", transport)):
        def esp_of(sa, seq=1):
            if mode == "tunnel":
                return build.seal(sa, seq, tunnel_plain(sa, 6, dice), dice)
            return build.seal(sa, seq, build.padded(sa, build.tcp(5, 6, 18, dice.randbytes(80)), 6), dice)

        v4, v6 = build.ADDRESSES[4], build.ADDRESSES[6]
        for options in (b"\x94\4\0\0", b"\x44\x24\5\0" + bytes(32) + bytes(4)):
            bench.add("options, " + mode, build.ethernet(build.ipv4(
                *v4, 50, esp_of(sas[4]), options=options)), ["decrypted"])
        for chain in chains:
            bench.add("extensions, " + mode, build.ethernet(build.ipv6(*v6, 50, esp_of(sas[6]), chain)),
                      ["decrypted"])
            bench.add("extensions and UDP, " + mode, build.ethernet(build.ipv6(
                *v6, 17, build.udp(4500, 777, esp_of(sas[6])), chain)), ["decrypted"])
            bench.add("extensions and AH, " + mode, build.ethernet(build.ipv6(
                *v6, 51, ah + esp_of(sas[6]), chain)), ["decrypted"])
        bench.add("AH, " + mode, build.ethernet(build.ipv4(*v4, 51, ah + esp_of(sas[4]))), ["decrypted"])
        for tags in ([(0x8100, 5)], [(0x88A8, 6), (0x8100, 7)], [(0x8100, 1)] * 4):
            bench.add("%d tags, %s" % (len(tags), mode), build.ethernet(build.ipv4(
                *v4, 50, esp_of(sas[4])), tags), ["decrypted"])
        bench.add("bytes behind IP, " + mode, build.ethernet(build.ipv4(*v4, 50, esp_of(sas[4]))) +
                  dice.randbytes(17), ["decrypted"])
        bench.add("bytes behind UDP, " + mode, build.ethernet(build.ipv4(*v4, 17, build.udp(
            4500, 4500, esp_of(sas[4])) + dice.randbytes(9))), ["decrypted"])
        for cut in (64, 96, 104, 144):  # first fragments; the later one is none of a known first's
            bench.add("first fragment of %d, %s" % (cut, mode), build.ethernet(build.ipv4(
                *v4, 50, esp_of(sas[4])[:cut], fragment=0x2000, ident=cut)), [
                    "malformed" if mode == "transport" else "decrypted"])
            bench.add("later fragment, " + mode, build.ethernet(build.ipv4(
                *v4, 50, esp_of(sas[4])[cut:], fragment=cut // 8, ident=cut)), ["fragment"])
    sa = transport[6]
    bench.add("destination options inside", build.ethernet(build.ipv6(*build.ADDRESSES[6], 50, build.seal(
        sa, 9, build.padded(sa, b"\x06\0\x01\4\0\0\0\0" + build.tcp(7, 8, 16, b"x" * 30), 60), dice))),
              ["decrypted"])


BAD_DOCUMENTS = [{"Filters": [{}], "MaxPacketBufferSize": 65535}, {"Filters": [{"TcpFlags": 2}]},
                 {"Filters": [{"CaptureSingleDirectionTrafficOnly": True}], "MaxPacketBufferSize": 70},
                 {"Filters": [{"SourcePort": [5, 53]}], "MaxPacketBufferSize": 1500}, {}]


def part_bad(gatecap, folder, dice):
    bench = Bench(dice)
    for algorithm in BAD_ALGORITHMS:
        add_truncated(bench, algorithm)
        sa = bench.sa(algorithm)
        for what, plain, name in wrong_insides(sa, dice):
            for how in CARRIERS:
                bench.add("%s: %s in %s" % (algorithm[0], what, how), build.carried(
                    sa, how, build.seal(sa, 1, plain, dice)), [name])
        for family in (4, 6):
            sa = bench.sa(algorithm, "transport", family)
            for what, plain, name in wrong_transport(sa, dice):
                bench.add("%s transport: %s" % (algorithm[0], what), build.carried(
                    sa, "none", build.seal(sa, 1, plain, dice)), [name])
    add_tcp(bench)
    add_surroundings(bench)
    bench.check_model()
    path = os.path.join(folder, "bad.pcap")
    oracle.write_capture(path, oracle.LINK_ETHERNET, bench.frames)
    for is_told in (True, False):
        for sa in bench.sas:
            sa.is_told = is_told
        packets = bench.check_model()
        keys = esp_model.write_lines(os.path.join(folder, "keys"), [sa.line() for sa in bench.sas])
        for options in ((), ("--verify-icv",)):
            outcomes = oracle_esp.read_all(bench.sas, packets, bool(options))
            for document in BAD_DOCUMENTS:
                oracle_esp.check(gatecap, folder, path, packets, outcomes, document, "--esp-sa", keys,
                                 *options)
    print("%d packets, of which %d right ones" % (len(bench.frames), sum(
        1 for names in bench.names if names and "decrypted" in names)))


PARTS = {"table": part_table, "bad": part_bad}


def main():
    gatecap = os.path.abspath(sys.argv[1])
    seed = int(os.environ.get("GATECAP_SEED", random.SystemRandom().randrange(2**32)))
    print("seed %d" % seed)
    for part in sys.argv[3:] or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            PARTS[part](gatecap, folder, random.Random(seed))
        print("%s: done, so far %d runs, %d records compared" % (
            part, replay.counts["runs"], replay.counts["frames"]))
    print("%d differences" % len(replay.faults))
    return 1 if replay.faults or replay.counts["frames"] == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
