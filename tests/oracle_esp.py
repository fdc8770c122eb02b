"""oracle_esp.py - what `gatecap replay --esp-sa` makes of encrypted captures, beside what others say.

Usage: oracle_esp.py GATECAP SOURCE_ROOT [PART...]

Parts: truth (the model of esp_model.py beside the plaintext that comes with the captures and beside
what tshark decrypts: gatecap is not asked), captures (each capture with keys: no filter, each dimension
of a filter, each TCP flag, each direction, snap lengths), keys (none, wrong, wildcards, unsupported),
icv (verify_icv), cuts (captures with a snap length).  Default: all.  tests/oracle_esp_table.py has the
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


class Source:
    """A capture with keys: its SAs, its packets in order of time, what is known to be inside."""

    def __init__(self, path):
        self.path, self.name = path, os.path.basename(path).rsplit(".", 1)[0]
        self.base = path.rsplit(".", 1)[0]
        self.sas, self.document = esp_model.load_sas(self.base + ".sa.json")
        link, frames = oracle.read_capture(path)
        self.frames = [oracle.to_ethernet(link, f) for f in frames]
        self.packets = esp_model.packets_of(self.frames)
        self.outcomes = [esp_model.read(self.sas, p) if p.bits == esp_model.ESP else None
                         for p in self.packets]

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
    for p, outcome in zip(source.packets, source.outcomes):
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
    n_unread = sum(1 for o in source.outcomes if o and o.name == "malformed")
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
        inners = [o.inner for o in outcomes if o and o.inner]
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
            args += ["-o", "uat:esp_sa:" + sa.line()]
    args += ["-Y", "esp", "-T", "fields", "-E", "occurrence=f", "-e", "frame.number",
             "-e", "esp.protocol", "-e", "esp.contained_data"]
    run = subprocess.run(args, capture_output=True, text=True, check=False)
    rows = [line.split("\t") for line in run.stdout.splitlines()]
    return {int(r[0]): (int(r[1], 0), bytes.fromhex(r[2])) for r in rows if len(r) > 2 and r[1] and r[2]}


def check_tshark(source):
    """Whole packets: tshark's contents, from the first byte."""
    contents, n = tshark_contents(source), 0
    numbers = {id(f): i for i, f in enumerate(source.frames, 1)}
    for p, outcome in zip(source.packets, source.outcomes):
        number = numbers[id(p.frame)]
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
    inners = [o.inner for s in all_sources for o in s.outcomes if o and o.inner]
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
        tally = collections.Counter(o.name for o in s.outcomes if o)
        print("  %-34s %s" % (s.name, ", ".join("%d %s" % (n, k) for k, n in sorted(tally.items()))))
    print("the model agrees with plaintext of %d packets by their sender, of %d by another decryptor, "
          "with tshark about %d packets, and about %d five-tuples" % (n_plain, n_inner, n_tshark,
                                                                      n_tuples))
    replay.counts["frames"] += n_plain + n_inner + n_tshark


PARTS = {"truth": part_truth}


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
