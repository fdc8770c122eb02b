"""oracle_esp.py - what `gatecap replay --esp-sa` makes of encrypted captures, beside what others say.

Usage: oracle_esp.py GATECAP SOURCE_ROOT [PART...]

Parts: truth (the model of esp_model.py beside the plaintext that comes with the captures and beside
what tshark decrypts: gatecap is not asked), captures (each capture with keys: no filter, each dimension
of a filter, each TCP flag, each direction, snap lengths), keys (none, wrong, wildcards, unsupported),
icv (verify_icv), cuts (captures with a snap length), fraction (how many packets a
wrong key lets pass).  Default: all.  tests/oracle_esp_table.py has the
algorithms that no capture has, and bad input.

Compared are the frames of the PCAP: bytes up to the snap length, original length, time, order; and of
the report the esp counts, the classes, the ledger.

Exit: 0, or 1 when anything differs.  77 (skipped) when tshark is missing.
"""

import collections
import concurrent.futures
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile

import esp_model
import oracle
import oracle_replay as replay

fault = replay.fault

# What tshark must not be asked of, and why: the model is right by the plaintext beside the file.
NO_TSHARK = ("CHACHA20_POLY1305",)

SNAPS = (120, 96, 1500, 65535)
ESP_COUNTS = {"decrypted", "without_key", "unsupported", "bad_icv", "malformed", "fragment", "dummy",
              "tcp_partial", "unchecked"}


def read_all(sas, packets, *verify):
    """For each packet the outcomes of what is in it."""
    return [esp_model.read(sas, p, *verify) if p.bits == esp_model.ESP else [] for p in packets]


class Source:
    """A capture with keys: its SAs, its packets in order of time, what is known to be inside."""

    def __init__(self, path):
        self.path, self.name = path, os.path.basename(path).rsplit(".", 1)[0]
        self.base = path.rsplit(".", 1)[0]
        self.sas, self.document = esp_model.load_sas(self.base + ".sa.json")
        for sa in self.sas[1::2]:
            sa.is_told = True
        link, frames = oracle.read_capture(path)
        self.frames = [oracle.to_ethernet(link, f) for f in frames]
        self.packets = esp_model.packets_of(self.frames)
        self.outcomes = self.read_with(self.sas)

    def read_with(self, sas, *verify):
        return read_all(sas, self.packets, *verify)

    def beside(self, kind):
        """Raw IP packets of NAME.kind.pcap, or None."""
        path = "%s.%s.pcap" % (self.base, kind)
        if not os.path.exists(path):
            return None
        link, frames = oracle.read_capture(path)
        return [f for f in frames if link == oracle.LINK_RAW]

    def lines(self, **other):
        return [sa.line(**other) for sa in self.sas]


def sources(root):
    """The captures with keys; each once, though tests/data holds copies."""
    seen, out = set(), []
    for folder in reversed(list(oracle.folders(root))):
        for path in oracle.capture_files(folder):
            name = os.path.basename(path)
            if name not in seen and os.path.exists(path.rsplit(".", 1)[0] + ".sa.json"):
                seen.add(name)
                out.append(path)
    if all(path.startswith(os.path.join(root, "tests")) for path in out):
        print("LEFT OUT: the captures with keys that are not in this tree (25 of 31); here are %s" %
              ", ".join(map(os.path.basename, out)))
    return [Source(path) for path in out]


# Is the model right?

def is_same_ip(a, b, is_transport):
    """pydec's transport headers have no DF bit and no extension headers."""
    if not is_transport or a[0] >> 4 == 6:
        return a == b
    return a[:6] + a[8:10] + a[12:] == b[:6] + b[8:10] + b[12:]


def check_inner_file(source):
    """Every packet that the model reads is in NAME.inner.pcap (python3-cryptography) or NAME.tap.pcap
    of ss-* (the TUN device's), at that time; and the other way round."""
    kind = "inner" if os.path.exists(source.base + ".inner.pcap") else "tap"
    known = source.beside(kind)
    if known is None or source.document.get("packets"):
        return 0
    left = collections.Counter(f.data for f in known)
    n_parts = 0
    for p, outcomes in zip(source.packets, source.outcomes):
        outcome = outcomes[0] if outcomes else None
        if outcome is None or outcome.inner is None:
            continue
        inner = outcome.inner
        is_part = len(inner.data) < inner.length or not p.is_whole
        found = inner.data if left[inner.data] > 0 else next(
            (d for d in left if left[d] > 0 and (d.startswith(inner.data) if is_part else is_same_ip(
                inner.data, d, inner.sa.mode == "transport"))), None)
        if found is None:
            fault("%s: the model reads %s, which is not in .%s.pcap", source.name,
                  inner.data[:40].hex(), kind)
            return 0
        left[found] -= 1
        n_parts += is_part
    rest = sum(left.values())
    n_unread = sum(1 for o in source.outcomes if o and o[0].name == "malformed")
    if rest > n_unread:
        fault("%s: %d packets of .%s.pcap are not in what the model reads", source.name, rest, kind)
    return len(known) - rest


def check_plain_file(source):
    """scapy's own: the packet before ESP, by the frame's number."""
    plain, n = source.beside("plain"), 0
    if plain is None:
        return 0
    by_frame = {id(p.frame): o for p, o in zip(source.packets, source.outcomes)}
    rows = source.document["packets"]
    for row in rows:
        first, last = row.get("frames", (row.get("i"),) * 2)
        index = row.get("plain_index", row.get("i"))
        outcomes = [by_frame[id(f)] for f in source.frames[first:last + 1]]
        inners = [o.inner for some in outcomes for o in some if o.inner]
        if index is None or not inners:
            if index is not None or inners:
                fault("%s frame %d: the model reads %d packets: %s", source.name, first + 1,
                      len(inners), row)
            continue
        want, got = plain[index].data, inners[0]
        is_part = last > first
        if len(inners) != 1 or got.length != len(want) or \
                got.data != (want[:len(got.data)] if is_part else want):
            fault("%s frame %d: the model reads %d of %s, should be %d of %s", source.name, first + 1,
                  got.length, got.data.hex(), len(want), want.hex())
        n += 1
        five, inner = got.tuple, row["inner"]
        if inner and five[6] is None and (
                five[2] != inner["proto"] or five[3:6] != (inner["sport"], inner["dport"],
                                                           inner["tcp_flags"])):
            fault("%s frame %d: five-tuple %s, should be %s", source.name, first + 1, five, inner)
    return n


def tshark_contents(source):
    """What tshark finds in each frame: {number: (next header, contents)}."""
    args = ["tshark", "-n", "-r", source.path, *oracle.OPTIONS, "-o",
            "esp.enable_encryption_decode:TRUE"]
    for sa in source.sas:
        if sa.enc not in NO_TSHARK:
            args += ["-o", "uat:esp_sa:" + esp_model.Sa(sa.row()).line()]
    args += ["-Y", "esp", "-T", "fields", "-E", "occurrence=f", "-e", "frame.number",
             "-e", "esp.protocol", "-e", "esp.contained_data"]
    run = subprocess.run(args, capture_output=True, text=True, check=False)
    rows = [line.split("\t") for line in run.stdout.splitlines()]
    return {int(r[0]): (int(r[1], 0), bytes.fromhex(r[2])) for r in rows if len(r) > 2 and r[1] and r[2]}


def check_tshark(source):
    """Whole packets: tshark's contents, from the first byte."""
    contents, n = tshark_contents(source), 0
    numbers = {id(f): i for i, f in enumerate(source.frames, 1)}
    for p, outcomes in zip(source.packets, source.outcomes):
        number = numbers[id(p.frame)]
        outcome = outcomes[0] if outcomes else None
        if outcome is None or not p.is_whole or outcome.inner is None or number not in contents:
            continue
        protocol, data = contents[number]
        got = outcome.inner.data
        if protocol not in (4, 41):
            got = got[-len(data):] if data else b""
        if data[:len(got)] != got:
            fault("%s frame %d: the model reads %s, tshark %s", source.name, number, got.hex(),
                  data.hex())
        n += 1
    return n


def check_tuples(all_sources, folder):
    """Addresses, protocol, ports and flags of every inner packet, as tshark has them."""
    inners = [o.inner for s in all_sources for some in s.outcomes for o in some if o.inner]
    inners = [i for i in inners if len(i.data) == i.length]
    path = os.path.join(folder, "inner.pcap")
    oracle.write_capture(path, oracle.LINK_RAW, [oracle.Frame(0, i.data, i.length) for i in inners])
    rows = oracle.table(path, [])
    flags = oracle.select(path, "tcp.flags & 0xff")
    n = 0
    for number, (inner, row) in enumerate(zip(inners, rows), 1):
        src, dst, protocol, sport, dport, bits, fragment = inner.tuple
        is_v4 = src.version == 4
        here = row["ip.src" if is_v4 else "ipv6.src"], row["ip.dst" if is_v4 else "ipv6.dst"]
        transport = {6: "tcp", 17: "udp"}.get(protocol)
        if here != (str(src), str(dst)) or is_v4 and int(row["ip.proto"]) != protocol:
            fault("inner %d: %s, tshark says %s", number, inner.tuple, row)
        elif transport and sport is not None and \
                (row[transport + ".srcport"], row[transport + ".dstport"]) != (str(sport), str(dport)):
            fault("inner %d: %s, tshark says %s", number, inner.tuple, row)
        elif protocol == 6 and fragment is None and bool(bits) != (number in flags):
            fault("inner %d: %s, tshark says %s", number, inner.tuple, row)
        n += 1
    return n


def part_truth(_gatecap, root, folder):
    everything = sources(root)
    n_tshark = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        n_tshark = sum(pool.map(check_tshark, everything))
    n_plain = sum(check_plain_file(s) for s in everything)
    n_inner = sum(check_inner_file(s) for s in everything)
    n_tuples = check_tuples(everything, folder)
    for s in everything:
        tally = collections.Counter(o.name for some in s.outcomes for o in some)
        print("  %-34s %s" % (s.name, ", ".join("%d %s" % (n, k) for k, n in sorted(tally.items()))))
    print("the model agrees with plaintext of %d packets by their sender, of %d by another decryptor, "
          "with tshark about %d packets, and about %d five-tuples" % (n_plain, n_inner, n_tshark,
                                                                      n_tuples))
    replay.counts["frames"] += n_plain + n_inner + n_tshark


# What gatecap makes of them.

def is_of(run, want, n_received):
    """The esp counts and the class of inner packets in a report."""
    got = run.report.get("esp", None if want.filters else dict.fromkeys(ESP_COUNTS, 0))
    if not isinstance(got, dict) or set(got) != ESP_COUNTS:
        fault("%s: esp in the report is %s", run.what, got)
        return
    if {k: n for k, n in got.items() if n} != want.esp:
        fault("%s: esp counts %s, should be %s", run.what, {k: n for k, n in got.items() if n}, want.esp)
    if run.report["classes"]["inner"] != want.n_inner:
        fault("%s: %s inner packets, should be %d", run.what, run.report["classes"]["inner"],
              want.n_inner)
    replay.check_report(run, n_received, len(want.records))


def describe(frame, snap):
    return "%d ns %d of %d bytes %s" % (frame.time_ns, len(frame.data[:snap]), frame.wire_len,
                                        frame.data[:min(snap, 64)].hex())


def compare(run, want, snap):
    """The frames of the PCAP; the first that differs is named in full."""
    if len(run.data) < 24:
        fault("%s: no PCAP: %s", run.what, run.err[-300:])
        return
    _link, header_snap, got, left = oracle.read_classic(run.data)
    if header_snap != snap or left:
        fault("%s: header says snap %d, %d bytes too many", run.what, header_snap, left)
    for i in range(max(len(got), len(want))):
        g = describe(got[i], 65535) if i < len(got) else "missing"
        w = describe(oracle.Frame(want[i].time_ns // 1000 * 1000, want[i].data[:snap],
                                  want[i].wire_len), snap) if i < len(want) else "nothing"
        same = i < len(got) and i < len(want) and got[i].data == want[i].data[:snap] and \
            got[i].wire_len == want[i].wire_len and got[i].time_ns == want[i].time_ns // 1000 * 1000
        if not same:
            fault("%s: %d records, should be %d; record %d is %s, should be %s", run.what, len(got),
                  len(want), i, g, w)
            return
    replay.counts["frames"] += len(got)


def check(gatecap, folder, path, packets, outcomes, filter_data, *options):
    """One replay beside the model.  Gives what the model keeps."""
    want = esp_model.Capture(filter_data)
    for p, some in zip(packets, outcomes):
        want.take(p, some)
    own = tempfile.mkdtemp(dir=folder)
    run = replay.Run(gatecap, own, path, filter_data, *options)
    if run.code != 0:
        fault("%s: exit %d, %s", run.what, run.code, run.err[-300:])
    else:
        compare(run, want.records, filter_data.get("MaxPacketBufferSize", 120))
        is_of(run, want, len(packets) + want.n_inner)
    shutil.rmtree(own)
    return want


def rows_of(outcomes):
    """Inner packets as replay.present() wants them."""
    rows = []
    for inner in (o.inner for some in outcomes for o in some if o.inner):
        src, dst, protocol, sport, dport, _flags, _fragment = inner.tuple
        is_v4 = src.version == 4
        rows.append({"ip.src": str(src) if is_v4 else "", "ip.dst": str(dst) if is_v4 else "",
                     "ipv6.src": "" if is_v4 else str(src), "ipv6.dst": "" if is_v4 else str(dst),
                     "tcp.srcport": "" if sport is None else str(sport), "udp.srcport": "",
                     "tcp.dstport": "" if dport is None else str(dport), "udp.dstport": "",
                     "ip.proto": str(protocol)})
    return rows


def documents_of(outcomes, offset, every):
    """filterData over every dimension in both directions, snap lengths in turn."""
    filters = list(replay.dimension_filters(rows_of(outcomes)))
    documents = [{}, {"TracingFlags": 1}, {"TracingFlags": 2}]
    documents += [{"Filters": [{}], "MaxPacketBufferSize": snap} for snap in SNAPS]
    documents += [{"Filters": [{"CaptureSingleDirectionTrafficOnly": True}]}]
    documents += [{"Filters": [{}], "TracingFlags": flags} for flags in (1, 2, 3, 8, 9, 15)]
    for i, f in enumerate(filters[offset % every::every]):
        for single in (True, False):
            documents.append({"Filters": [dict(f, CaptureSingleDirectionTrafficOnly=single)],
                              "MaxPacketBufferSize": SNAPS[(i + single) % len(SNAPS)]})
    return documents


def check_all(gatecap, folder, jobs):
    """Each job: (path, packets, outcomes, filter_data, options...)."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda job: check(gatecap, folder, *job), jobs))


def part_captures(gatecap, root, folder):
    """Every capture with keys.  scapy's have the same traffic with other keys: they share the filters."""
    for offset, source in enumerate(sources(root)):
        keys = esp_model.write_lines(os.path.join(folder, source.name), source.lines())
        every = 4 if source.name.startswith("scapy") and "special" not in source.name else 1
        documents = documents_of(source.outcomes, offset, every)
        done = check_all(gatecap, folder, [(source.path, source.packets, source.outcomes, d, "--esp-sa",
                                            keys) for d in documents])
        n_some = sum(1 for d, want in zip(documents, done) if d.get("Filters") and want.n_inner and
                     len(want.records))
        if n_some < len(documents) // 4:
            fault("%s: only %d of %d filters keep anything: the test proves little", source.name, n_some,
                  len(documents))


def chosen(root, *names):
    return [s for s in sources(root) if s.name in names or not names]


def flipped(sa, bit):
    """The SA with one bit of its encryption key turned (of 3DES: not a parity bit)."""
    row, key = sa.row(), bytearray(sa.enc_key)
    if key:
        key[bit // 8 % len(key)] ^= 2 << bit % 7
    row["enc_key"] = key.hex()
    other = esp_model.Sa(row)
    other.is_told = sa.is_told
    return other


KEY_DOCUMENTS = [{"Filters": [{}]}, {"Filters": [{"TcpFlags": 255}]},
                 {"Filters": [{"CaptureSingleDirectionTrafficOnly": True}]}, {}]


def part_keys(gatecap, root, folder):
    """No keys, wrong keys, keys by wildcards, an algorithm that is none of ours."""
    everything, jobs = sources(root), []
    for i, source in enumerate(everything):
        other = everything[i - 1]
        base = os.path.join(folder, source.name)

        def add(sas, lines, name):
            path = esp_model.write_lines("%s.%s" % (base, name), lines)
            outcomes = source.read_with(sas)
            jobs.extend((source.path, source.packets, outcomes, d, "--esp-sa", path)
                        for d in KEY_DOCUMENTS)

        add([], ["# no keys"], "none")
        half = source.sas[:len(source.sas) // 2]  # of a capture with a rekey: the old ones
        add(half, [sa.line() for sa in half], "half")
        unknown = [esp_model.Sa(dict(sa.row(), enc="CAST5_CBC", enc_key="00" * 16)) for sa in half]
        add(unknown + source.sas, [sa.line() for sa in unknown + source.sas], "unsupported")
        add(other.sas, other.lines(), "others")
        wrong = [flipped(sa, 3 * j + 1) for j, sa in enumerate(source.sas)]
        add(wrong, [sa.line() for sa in wrong], "flipped")
        spis = [sa.spi for sa in source.sas]
        if len(set(spis)) == len(spis) <= 32:
            add(source.sas, source.lines(src="*"), "any_source")
            add(source.sas, source.lines(src="*", dst="*"), "any_address")
        jobs.extend((source.path, source.packets, source.read_with([]), d) for d in KEY_DOCUMENTS[:2])
    check_all(gatecap, folder, jobs)


def part_icv(gatecap, root, folder):
    """verify_icv: the ICV of every whole packet; scapy spoiled three in each of its captures, and where
    nobody says that an SA has extended sequence numbers all of its are bad."""
    jobs, n_bad = [], 0
    for source in sources(root):
        for sa in source.sas:
            sa.is_told |= sa.spi % 4 > 0
        outcomes = source.read_with(source.sas, True)
        n_bad += sum(1 for some in outcomes for o in some if o.name == "bad_icv")
        keys = esp_model.write_lines(os.path.join(folder, source.name), source.lines())
        jobs.extend((source.path, source.packets, outcomes, d, "--esp-sa", keys, "--verify-icv")
                    for d in KEY_DOCUMENTS)
    check_all(gatecap, folder, jobs)
    print("%d packets have a bad ICV" % n_bad)


def part_cuts(gatecap, root, folder):
    """Captures that were made with a snap length: editcap -s."""
    jobs = []
    for source in chosen(root, "k-manual-v4", "k-manual-v6-vlan", "scapy-gcm128", "scapy-cbc256-sha256",
                         "scapy-3des-sha1", "scapy-chacha", "scapy-special", "k-ike1-gcm128-native",
                         "k-ike2-gcm256-natt"):
        keys = esp_model.write_lines(os.path.join(folder, source.name), source.lines())
        for snap in (42, 50, 60, 74, 90, 96, 110, 130, 150, 200, 700):
            path = os.path.join(folder, "%s-%d.pcap" % (source.name, snap))
            subprocess.run(["editcap", "-F", "nsecpcap", "-s", str(snap), source.path, path], check=True,
                           capture_output=True)
            _link, frames = oracle.read_capture(path)
            packets = esp_model.packets_of(frames)
            for verify in (False, True):
                outcomes = read_all(source.sas, packets, verify)
                rows = {"Filters": [{"TcpFlags": 2}], "MaxPacketBufferSize": 65535}
                for d in KEY_DOCUMENTS[:1] + [rows] if verify else KEY_DOCUMENTS[:3] + [rows]:
                    jobs.append((path, packets, outcomes, d, "--esp-sa", keys) +
                                (("--verify-icv",) if verify else ()))
    check_all(gatecap, folder, jobs)


TRIALS = 100000
# Cipher, key bytes, ICV, what the keys say of the mode, is the end of the packet there, and how many packets
# of a million may pass.  Where the mode is not said, a transport header says less of itself than an IP header.
TRIAL_KEYS = [("AES_CBC", 32, "HMAC_SHA2_256_128", None, True, 1000),
              ("AES_CBC", 16, None, "tunnel", True, 100),
              ("3DES_CBC", 24, "HMAC_SHA1_96", None, True, 1000),
              ("AES_GCM_16", 20, None, None, True, 1000),
              ("AES_GCM_16", 20, None, "transport", True, 4000),
              ("CHACHA20_POLY1305", 36, None, "tunnel", True, 100),
              ("AES_CBC", 16, None, None, False, 300), ("AES_GCM_16", 20, None, None, False, 300)]


def random_packets(dice, sa, n, is_cut):
    """ESP packets of random bytes: what a wrong key makes of any packet is random as well."""
    head = bytes.fromhex("020000000002020000000001" "0800" "45000000" "00000000" "4032" "0000" "c0000201"
                         "c0000202")
    frames = []
    for i in range(n):
        size = 8 + sa.iv_bytes + sa.icv_bytes + 16 * dice.randrange(4, 9)
        esp = sa.spi.to_bytes(4, "big") + i.to_bytes(4, "big") + dice.randbytes(size - 8)
        data = bytearray(head + esp)
        data[16:18] = (20 + size).to_bytes(2, "big")
        wire_len = len(data)
        if is_cut:
            del data[14 + 20 + 8 + sa.iv_bytes + 48:]
        frames.append(oracle.Frame(10**18 + i * 1000, bytes(data), wire_len))
    return frames


def part_fraction(gatecap, root, folder):
    """Of wrong keys: how many packets pass the check of what they decrypt to."""
    seed = int(os.environ.get("GATECAP_SEED", random.SystemRandom().randrange(2**32)))
    print("seed %d" % seed)
    dice = random.Random(seed)
    path, document = os.path.join(folder, "random.pcap"), {"Filters": [{}]}
    for enc, key_bytes, integ, mode, is_whole, most in TRIAL_KEYS:
        n_auth = {"HMAC_SHA1_96": 20, "HMAC_SHA2_256_128": 32}.get(integ, 0)
        sa = esp_model.Sa({"spi": "0x00000101", "src": "192.0.2.1", "dst": "192.0.2.2", "enc": enc,
                           "integ": integ, "enc_key": dice.randbytes(key_bytes).hex(),
                           "auth_key": dice.randbytes(n_auth).hex(), "mode": mode})
        sa.is_told = True
        frames = random_packets(dice, sa, TRIALS, not is_whole)
        oracle.write_capture(path, oracle.LINK_ETHERNET, frames)
        packets = esp_model.packets_of(frames)
        keys = esp_model.write_lines(os.path.join(folder, "keys"), [sa.line()])
        want = check(gatecap, folder, path, packets, read_all([sa], packets), document, "--esp-sa", keys)
        n = TRIALS - want.esp["malformed"]
        print("  %-18s %-9s %-5s: of %d packets read with a wrong key %d pass, %s" % (
            enc, mode or "any mode", "whole" if is_whole else "cut", TRIALS, n,
            {k: n for k, n in want.esp.items() if k != "malformed"}))
        if n * 10**6 > most * TRIALS:
            fault("%s, %s: %d of %d packets pass, more than %d of a million", enc, mode, n, TRIALS, most)


PARTS = {"truth": part_truth, "captures": part_captures, "keys": part_keys, "icv": part_icv,
         "cuts": part_cuts, "fraction": part_fraction}


def main():
    gatecap, root = (os.path.abspath(a) for a in sys.argv[1:3])
    if shutil.which("tshark") is None:
        print("LEFT OUT: everything; tshark is not installed.")
        return 77
    for part in sys.argv[3:] or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            PARTS[part](gatecap, root, folder)
        print("%s: done, so far %d runs, %d records compared" % (
            part, replay.counts["runs"], replay.counts["frames"]))
    print("%d differences without a reason" % len(replay.faults))
    return 1 if replay.faults or replay.counts["frames"] == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
